"""Starts workers of Dask, as processes of this machine or as jobs of SLURM."""

import contextlib
import functools
import importlib.metadata
import logging
import os
import queue
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cryojax_seg.errors import ParameterError
from cryojax_seg.io.files import PathLike
from cryojax_seg.io.plain import read_options
from cryojax_seg.text import shown

log = logging.getLogger(__name__)
Thing = TypeVar("Thing")

_INSTALL = 'workers are an extra: pip install "cryojax-seg[cluster]"'

# What may be said about a job, of all that `dask_jobqueue.SLURMCluster` takes. Each job is one
# worker that does one thing at a time, so processes and threads are not up to the user.
SLURM = {
    "account": str,
    "cores": int,
    "death_timeout": (int, str),
    "interface": str,
    "job_directives_skip": list,
    "job_extra_directives": list,
    "job_name": str,
    "job_script_prologue": list,
    "local_directory": str,
    "log_directory": str,
    "memory": str,
    "protocol": str,
    "python": str,
    "queue": str,
    "scheduler_options": dict,
    "security": bool,
    "shared_temp_directory": str,
    "shebang": str,
    "walltime": str,
    "worker_extra_args": list,
}
_NAMES = {str: "text in quotes", int: "a whole number", list: "a list", dict: "a mapping"}


@contextlib.contextmanager
def connected(count: int, slurm: PathLike | None) -> Iterator[tuple[Any, Callable[[Any], None]]]:
    """Yield a client of a cluster that ends with it, and a function that each worker calls first.

    Raises:
        ParameterError: if the workers cannot be started, or Dask is not installed.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ParameterError(f"{error}; {_INSTALL}", "workers") from error
    if slurm is None:
        settle = functools.partial(_settle, count, _devices(count))
        start = functools.partial(_local, count)
    else:
        settle = _anywhere
        start = functools.partial(_slurm, Path(slurm), count)
    with start() as cluster, Client(cluster) as client:
        try:
            yield client, settle
        except KeyboardInterrupt:
            log.info("ending the workers")  # which takes some seconds
            raise


def _local(count: int) -> Any:
    from distributed import LocalCluster

    log.info(f"{count} workers on this machine")
    return LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        processes=True,
        memory_limit=0,  # would count mapped files; the tiles are made to fit
        dashboard_address="127.0.0.1:0",  # any port, as others may have the usual one
        scheduler_kwargs={"allowed_failures": 0},  # then it is tried again here
        silence_logs=logging.CRITICAL,
    )


def _slurm(path: Path, count: int) -> Any:
    options = slurm_options(path)
    if shutil.which("sbatch") is None:
        raise ParameterError(
            "there is no sbatch here; submit jobs from a machine that has it", "slurm"
        )
    try:
        from dask_jobqueue.slurm import SLURMCluster, SLURMJob
        from distributed import Status
    except ImportError as error:
        raise ParameterError(f"{error}; {_INSTALL}", "slurm") from error
    submitted: queue.Queue[Exception | None] = queue.Queue()

    class Job(SLURMJob):
        """Reports whether a job was submitted, which Dask only logs."""

        async def start(self) -> None:
            try:
                await super().start()
            except Exception as error:
                self.status = Status.running  # as Dask asks for; nothing is cancelled at the end
                submitted.put(error)
            else:
                submitted.put(None)

        async def close(self) -> None:
            await super().close()
            self.status = Status.closed

    class Jobs(SLURMCluster):
        job_cls = Job

    # The last of the same arguments holds. Without a limit Dask does not count mapped files.
    single = ["--nthreads", "1", "--memory-limit", "0"]
    options["worker_extra_args"] = [*options.get("worker_extra_args", []), *single]
    scheduler = {"dashboard": False, "dashboard_address": ":0", "allowed_failures": 0}
    options["scheduler_options"] = scheduler | options.get("scheduler_options", {})
    cluster = Jobs(processes=1, silence_logs="critical", **options)
    try:
        cluster.scale(jobs=count)
        for _ in range(count):
            if (refusal := submitted.get()) is not None:
                raise ParameterError(f"{path}: {refusal}", "slurm") from refusal
    except BaseException:
        cluster.close()
        raise
    log.info(f"{count} jobs submitted to SLURM")
    return cluster


def slurm_options(path: Path) -> dict[str, Any]:
    """Read the options of SLURM jobs from a YAML file, for `dask_jobqueue.SLURMCluster`.

    Raises:
        ValueError: naming the file and the key.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "slurm.yaml"
    >>> _ = path.write_text('queue: gpu\\ncores: 8\\nmemory: 32GB\\nwalltime: "04:00:00"')
    >>> slurm_options(path)
    {'queue': 'gpu', 'cores': 8, 'memory': '32GB', 'walltime': '04:00:00'}
    """
    options = read_options(path, SLURM)
    for key, value in options.items():
        kinds = SLURM[key] if isinstance(SLURM[key], tuple) else (SLURM[key],)
        if type(value) not in kinds:  # YAML takes 12:00:00 for a number, and a bool is no int
            wanted = " or ".join(_NAMES.get(kind, "true or false") for kind in kinds)
            raise ValueError(f"{path}: {key} must be {wanted}, got {shown(value)}")
    for key in ("cores", "memory"):
        if key not in options:
            raise ValueError(f"{path}: says nothing about {key}, which every job needs")
    if not re.fullmatch(r"[0-9.]+ *[kMGT]i?B", options["memory"]):
        raise ValueError(f"{path}: memory must be such as 32GB, got '{options['memory']}'")
    return options


def _anywhere(name: Any) -> None:
    """Accept any worker, each of which has its job for itself."""


def _settle(count: int, devices: Sequence[str], name: int) -> None:
    """Restrict this process to its GPU and its share of the cores, before JAX counts them."""
    if devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[name]
    if sys.platform == "linux":
        cores = share(sorted(os.sched_getaffinity(0)), name, count)
        for thread in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError):  # it may just have ended
                os.sched_setaffinity(int(thread), cores)


def share(things: Sequence[Thing], number: int, count: int) -> Sequence[Thing]:
    """Return the contiguous part of one of several workers, with at least one thing.

    >>> [share(range(8), i, 3) for i in range(3)], share("ab", 2, 3)
    ([range(0, 2), range(2, 5), range(5, 8)], 'a')
    """
    if count > len(things):
        return things[number % len(things) :][:1]
    return things[number * len(things) // count : (number + 1) * len(things) // count]


def _devices(count: int) -> list[str]:
    """Return a GPU for each worker, as CUDA names them; empty if JAX will not use any."""
    plugins = {entry.name for entry in importlib.metadata.entry_points(group="jax_plugins")}
    platforms = os.environ.get("JAX_PLATFORMS", "cuda")
    if not any("cuda" in name for name in plugins) or platforms == "cpu":
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        visible = ",".join(str(number) for number in range(_installed()))
    devices = [name.strip() for name in visible.split(",") if name.strip()]
    if 0 < len(devices) < count:
        raise ParameterError(
            f"{count} workers take a GPU each, and there are {len(devices)}; take as many, or set "
            "JAX_PLATFORMS=cpu",
            "workers",
        )
    return devices


def _installed() -> int:
    """GPUs of this machine; asking JAX would start it."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
