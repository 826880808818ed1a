"""Works on many tomograms, one after another or on the workers of a cluster."""

import contextlib
import dataclasses
import functools
import logging
import os
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from cryojax_seg.errors import Mendable, ParameterError
from cryojax_seg.io.files import BusyError, PathLike

log = logging.getLogger(__name__)
Item = TypeVar("Item")

RETRIES = 2  # of what may go well another time
PAUSE = 10.0  # seconds before that: as long as a worker that is being ended holds its files
_POLL = 1.0  # seconds between two looks at which workers there are


@dataclasses.dataclass(frozen=True)
class Finished:
    """Reports one finished item.

    Attributes:
        name: the name of the item.
        number: the number of items finished so far, including this one.
        count: the number of all items.
        value: the value that the work returned; None if it failed.
        error: the reason of the failure; None without one.

    >>> _ = each("ab", str.upper, finished=lambda one: print(one.number, one.count, one.value))
    1 2 A
    2 2 B
    """

    name: str
    number: int
    count: int
    value: Any = None
    error: Exception | None = None


class SomeFailedError(ValueError):
    """Reports that some items failed while the others are done.

    Attributes:
        failures: the items that failed, in the order of their failure.
        count: the number of all items.
        values: the value of the work for each item, in their order; None for those that failed.
    """

    def __init__(self, failures: Sequence[Finished], count: int, values: Sequence[Any] = ()):
        reasons = "; ".join(named(one.name, str(one.error)) for one in failures)
        super().__init__(f"{len(failures)} of {count} failed, the rest is done: {reasons}")
        self.failures = tuple(failures)
        self.count = count
        self.values = list(values)


def named(name: str, reason: str) -> str:
    """Return a reason that begins with the name of what failed, once.

    >>> named("a.mrc", "a.mrc: is empty"), named("a.mrc", "the disk is full")
    ('a.mrc: is empty', 'a.mrc: the disk is full')
    """
    return reason if reason.startswith(f"{name}:") else f"{name}: {reason}"


def each(
    items: Sequence[Item],
    work: Callable[..., Any],
    *,
    name: Callable[[Item], str] = str,
    workers: int = 0,
    slurm: PathLike | None = None,
    prepare: Callable[[], Any] | None = None,
    finished: Callable[[Finished], None] | None = None,
) -> list[Any]:
    """Work on every item; one that fails does not stop the others.

    An item fails by a ValueError or an OSError. On workers any other exception is a failure as
    well, and an item whose worker dies, or that fails by anything but a ValueError, is tried again
    twice. What the work logs there is logged by this process when the item is finished.

    Args:
        items: the items to work on. For workers they are pickled, as `work` and `prepare` are.
        work: called as ``work(item)``, or as ``work(prepared, item)``. It may be called again for
            an item that is done, if its worker dies before it can say so.
        name: returns the name of an item, for messages.
        workers: number of worker processes, at most one for each item; 0 for this process alone.
            They are processes of this machine, which share its cores and have one GPU each if
            there are any, or jobs of SLURM. They need the extra `cluster`.
        slurm: YAML file that describes the jobs that the workers are, see `workers.slurm_options`.
        prepare: returns a value that the work needs, such as a model; called once in each process.
        finished: called with each item that is finished.

    Returns:
        the value of the work for each item, in the order of the items.

    Raises:
        SomeFailedError: if any failed; the error itself if there is one item and no workers.
        ParameterError: if the workers cannot be started, or Dask is not installed.

    >>> each([1, 2], lambda item: item + 1)
    [2, 3]
    >>> each("ab", lambda prepared, item: prepared + item, prepare=lambda: "model ")
    ['model a', 'model b']
    """
    if slurm is not None and not workers:
        raise ParameterError("slurm needs workers, the number of jobs", "workers")
    tell = finished or (lambda one: None)
    alone = len(items) == 1 and not workers
    failures: list[Finished] = []
    values: list[Any] = [None] * len(items)
    if not items:
        return values
    if workers:
        count = min(workers, len(items))
        outcomes = _on_workers(items, work, name, prepare, count, slurm)
    else:
        outcomes = _here(items, work, prepare)
    for number, (index, value, error) in enumerate(outcomes, 1):
        if error is not None and alone:
            raise error
        one = Finished(name(items[index]), number, len(items), value, error)
        values[index] = value
        if error is not None:
            failures.append(one)
        tell(one)
    if failures:
        raise SomeFailedError(failures, len(items), values)
    return values


_Outcomes = Iterator[tuple[int, Any, Exception | None]]  # index of the item, value, error


def _here(items: Sequence[Any], work: Any, prepare: Any) -> _Outcomes:
    """Work on one item after another in this process."""
    call = work if prepare is None else functools.partial(work, prepare())
    for index, item in enumerate(items):
        try:
            value = call(item)
        except (ValueError, OSError) as error:
            yield index, None, error
        else:
            yield index, value, None


def _on_workers(
    items: Sequence[Any], work: Any, name: Any, prepare: Any, count: int, slurm: Any
) -> _Outcomes:
    """Work on several items at the same time, and retry those whose failure may be temporary."""
    from cryojax_seg.inference import workers

    waiting = [_Try(index) for index in range(len(items))]
    running: dict[Any, _Try] = {}
    with workers.connected(count, slurm) as (client, settle):
        attempt = functools.partial(_attempt, settle, prepare, work)
        while waiting or running:
            client.cluster.scale(count)  # what ended, as a job that ran out of time, starts again
            # An item waits here until a worker is free, so that one that dies loses no other.
            free = max(0, len(client.nthreads()) - len(running))
            for one in [t for t in waiting if t.earliest <= time.monotonic()][:free]:
                waiting.remove(one)
                running[client.submit(attempt, items[one.index], pure=False)] = one
            for future in _finished(running):
                one, outcome = running.pop(future), _outcome(future)
                future.release()  # else it would be computed again if its worker died later
                for level, said in outcome.said:
                    log.log(level, said)
                if outcome.error and outcome.passing and one.number <= RETRIES:
                    reason = named(name(items[one.index]), str(outcome.error))
                    log.info(f"{reason}; it will be tried again")
                    again = time.monotonic() + PAUSE
                    waiting.append(_Try(one.index, one.number + 1, again))
                    continue
                yield one.index, outcome.value, outcome.error


@dataclasses.dataclass(eq=False)
class _Try:
    """Describes an attempt by the index of the item, its number, and its earliest time."""

    index: int
    number: int = 1
    earliest: float = 0.0


@dataclasses.dataclass(frozen=True)
class _Outcome:
    """Holds the value and log of an attempt, or its error, and whether that may be temporary."""

    value: Any = None
    said: Sequence[tuple[int, Any]] = ()
    error: Exception | None = None
    passing: bool = False


class _Recorder(logging.Handler):
    """Keeps the level and the text of log records, or a problem that names its parameters."""

    def __init__(self):
        super().__init__(logging.INFO)
        self.said: list[tuple[int, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        kept = record.msg if isinstance(record.msg, Mendable) else record.getMessage()
        self.said.append((record.levelno, kept))

    def warn(self, message: Warning | str, *_: Any, **__: Any) -> None:
        """Keep a warning of Python."""
        kept = message if isinstance(message, Mendable) else str(message)
        self.said.append((logging.WARNING, kept))


@contextlib.contextmanager
def _recorded() -> Iterator[list[tuple[int, Any]]]:
    """Keep log records and Python's warnings, for the process that started the worker."""
    logger, recorder = logging.getLogger("cryojax_seg"), _Recorder()
    with warnings.catch_warnings():
        cache = "Error (reading|writing) persistent compilation cache"
        warnings.filterwarnings("ignore", cache)  # then it is compiled again
        warnings.showwarning = recorder.warn
        logger.addHandler(recorder)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        try:
            yield recorder.said
        finally:
            logger.removeHandler(recorder)


def _attempt(settle: Any, prepare: Any, work: Any, item: Any) -> _Outcome:
    """Work on one item, in a worker."""
    from distributed import get_worker

    worker: Any = get_worker()
    with _recorded() as said:
        try:
            if not hasattr(worker, "prepared"):
                settle(worker.name)
                worker.prepared = None if prepare is None else prepare()
            value = work(item) if prepare is None else work(worker.prepared, item)
        except Exception as error:
            expected = isinstance(error, (ValueError, OSError))
            if not expected or os.environ.get("CRYOJAX_SEG_TRACEBACK"):
                said.append((logging.INFO, traceback.format_exc()))
            reason = str(error) if expected else f"{type(error).__name__}: {error}"
            parameters = error.parameters if isinstance(error, Mendable) else ()
            # A ValueError says what is wrong with the input, for good.
            passing = not isinstance(error, ValueError) or isinstance(error, BusyError)
            return _Outcome(None, said, ParameterError(reason, *parameters), passing)
    return _Outcome(value, said)


def _outcome(future: Any) -> _Outcome:
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker:
        reason = "its worker died, perhaps for lack of memory"
    except Exception as error:  # it did not get there, or not back
        reason = f"{type(error).__name__}: {error}"
    return _Outcome(error=RuntimeError(reason), passing=True)


def _finished(running: Mapping[Any, Any]) -> list[Any]:
    """Return the tasks that finish within a moment."""
    from distributed import wait

    if not running:
        time.sleep(_POLL / 10)
        return []
    with contextlib.suppress(TimeoutError):
        wait(list(running), timeout=_POLL, return_when="FIRST_COMPLETED")
    return [future for future in running if future.done()]
