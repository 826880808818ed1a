"""Many tomograms on several workers: who gets which, and what became of it."""

import contextlib
import dataclasses
import functools
import io
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cryojax_seg.cli import console, many, workers

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")

RETRIES = 2  # of what may go well another time
PAUSE = 10.0  # seconds before that: as long as a worker that is being ended holds its files
_POLL = 1.0  # seconds between two looks at which workers there are


def each(
    items: Sequence[Item],
    prepare: Callable[[], Prepared],
    work: Callable[[Prepared, Item], None],
    name: Callable[[Item], str],
    count: int,
    slurm: Path | None = None,
) -> None:
    """Works on the items on several workers; what fails is listed at the end, as by `many.each`.

    An item whose worker dies, or that fails by anything but a ValueError, is tried again. All that
    the work prints is printed by this process, when the item is finished.

    Args:
        items: what can be pickled.
        prepare: makes what the work needs, once in each worker. Can be pickled, as `work`.
        work: called as ``work(prepare(), item)``. It may be called again for an item that is done,
            if its worker dies before it can say so.
        name: of an item.
        count: of the workers, at most.
        slurm: YAML file of the jobs that they are; None for processes of this machine, which share
            its cores and have one GPU each if there are any.

    Raises:
        ValueError: if any failed, if the jobs cannot be started, or if Dask is not installed.

    >>> each([2.5], float, print, str, count=1)
    [1/1] 0.0 2.5
    """
    if not items:
        return
    waiting: list[_Try] = [_Try(item) for item in items]
    running: dict[Any, _Try] = {}
    failures: list[str] = []
    done, count = 0, min(count, len(items))
    with workers.connected(count, slurm) as (client, settle):
        attempt = functools.partial(_attempt, settle, prepare, work)
        while waiting or running:
            client.cluster.scale(count)  # what ended, as a job that ran out of time, starts again
            # An item waits here until a worker is free, so that one that dies loses no other.
            free = max(0, len(client.nthreads()) - len(running))
            for one in [t for t in waiting if t.earliest <= time.monotonic()][:free]:
                waiting.remove(one)
                running[client.submit(attempt, one.item, pure=False)] = one
            for future in _finished(running):
                one, outcome = running.pop(future), _outcome(future)
                future.release()  # else it would be computed again if its worker died later
                label = name(one.item)
                if outcome.said:
                    console.say(outcome.said)
                if outcome.error and outcome.passing and one.number <= RETRIES:
                    console.say(f"{many.failure(label, outcome.error)}; it will be tried again")
                    waiting.append(_Try(one.item, one.number + 1, time.monotonic() + PAUSE))
                    continue
                done += 1
                if outcome.error is None:
                    print(f"[{done}/{len(items)}] {outcome.printed}", flush=True)
                else:
                    failures.append(many.failure(label, outcome.error))
                    console.error(f"[{done}/{len(items)}] {failures[-1]}")
    many.conclude(failures, len(items))


@dataclasses.dataclass(eq=False)
class _Try:
    """An item, how often it was tried when this is over, and when it may be tried."""

    item: Any
    number: int = 1
    earliest: float = 0.0


@dataclasses.dataclass(frozen=True)
class _Outcome:
    """What was printed on both streams; what went wrong, and whether that may pass."""

    printed: str = ""
    said: str = ""
    error: str | None = None
    passing: bool = False


def _attempt(settle, prepare, work, item) -> _Outcome:
    """Works on one item, in a worker."""
    from distributed import get_worker

    worker: Any = get_worker()
    printed, said = io.StringIO(), io.StringIO()
    reason, passing = None, False
    with (
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(said),
        console.warnings_as_lines(),
    ):
        try:
            if not hasattr(worker, "prepared"):
                settle(worker.name)
                worker.prepared = prepare()
            work(worker.prepared, item)
        except Exception as error:
            expected = isinstance(error, (ValueError, OSError))
            if not expected or os.environ.get("CRYOJAX_SEG_TRACEBACK"):
                traceback.print_exc()
            reason = console.message(error) if expected else f"{type(error).__name__}: {error}"
            passing = _may_pass(error)
    return _Outcome(printed.getvalue().rstrip(), said.getvalue().rstrip(), reason, passing)


def _may_pass(error: Exception) -> bool:
    """Whether it may go well another time; a ValueError says what is wrong with the input."""
    from cryojax_seg.io import BusyError

    return not isinstance(error, ValueError) or isinstance(error, BusyError)


def _outcome(future) -> _Outcome:
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker:
        return _Outcome(error="its worker died, perhaps for lack of memory", passing=True)
    except Exception as error:  # it did not get there, or not back
        return _Outcome(error=f"{type(error).__name__}: {error}", passing=True)


def _finished(running: Mapping[Any, Any]) -> list[Any]:
    """Those that are, within a moment."""
    from distributed import wait

    if not running:
        time.sleep(_POLL / 10)
        return []
    with contextlib.suppress(TimeoutError):
        wait(list(running), timeout=_POLL, return_when="FIRST_COMPLETED")
    return [future for future in running if future.done()]
