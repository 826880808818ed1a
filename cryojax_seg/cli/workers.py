"""Workers of Dask: processes that share this machine, or jobs of SLURM."""

import contextlib
import functools
import importlib.metadata
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cryojax_seg.cli import arguments, console
from cryojax_seg.text import shown

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
def connected(count: int, slurm: Path | None) -> Iterator[tuple[Any, Callable[[Any], None]]]:
    """A client of a cluster that ends with it, and what a worker does first, given its name."""
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError(f"{error}; {_INSTALL}") from error
    if slurm is None:
        settle = functools.partial(_settle, count, _devices(count))
        start = functools.partial(_local, count)
    else:
        settle = _anywhere
        start = functools.partial(_slurm, slurm, count)
    with start() as cluster, Client(cluster) as client:
        try:
            yield client, settle
        except KeyboardInterrupt:
            console.say("ending the workers")  # which takes some seconds
            raise


def _local(count: int) -> Any:
    from distributed import LocalCluster

    console.say(f"{count} workers on this machine")
    return LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        processes=True,
        memory_limit=0,  # would count mapped files; the tiles are made to fit
        dashboard_address=None,  # pyright: ignore
        scheduler_kwargs={"allowed_failures": 0},  # then it is tried again here
        silence_logs=logging.CRITICAL,
    )


def _slurm(path: Path, count: int) -> Any:
    options = slurm_options(path)
    if shutil.which("sbatch") is None:
        raise ValueError("--slurm: there is no sbatch here; run this where jobs are submitted")
    try:
        from dask_jobqueue.slurm import SLURMCluster
        from distributed import Status
    except ImportError as error:
        raise ValueError(f"{error}; {_INSTALL}") from error
    # The last of the same arguments holds. Without a limit Dask does not count mapped files.
    single = ["--nthreads", "1", "--memory-limit", "0"]
    options["worker_extra_args"] = [*options.get("worker_extra_args", []), *single]
    scheduler = {"dashboard": False, "dashboard_address": ":0", "allowed_failures": 0}
    options["scheduler_options"] = scheduler | options.get("scheduler_options", {})
    cluster = SLURMCluster(processes=1, silence_logs="critical", **options)
    for _ in range(count):
        cluster.worker_spec.update(cluster.new_worker_spec())
    try:
        cluster.sync(cluster._correct_state)  # as scale() does, which hides that sbatch refuses
    except RuntimeError as error:
        for job in cluster.workers.values():
            job.status = Status.failed  # Dask leaves that out, and then does not close
        cluster.close()
        raise ValueError(f"{path}: {error}") from error
    console.say(f"{count} jobs submitted to SLURM")
    return cluster


def slurm_options(path: Path) -> dict[str, Any]:
    """What a YAML file says about the jobs of SLURM, for `dask_jobqueue.SLURMCluster`.

    Raises:
        ValueError: naming the file and the key.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "slurm.yaml"
    >>> _ = path.write_text('queue: gpu\\ncores: 8\\nmemory: 32GB\\nwalltime: "04:00:00"')
    >>> slurm_options(path)
    {'queue': 'gpu', 'cores': 8, 'memory': '32GB', 'walltime': '04:00:00'}
    """
    options = arguments.read_yaml(path, SLURM)
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
    """A worker that has its job for itself."""


def _settle(count: int, devices: Sequence[str], name: int) -> None:
    """Leaves this process its GPU and its share of the cores, before JAX counts them."""
    if devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[name]
    if sys.platform == "linux":
        cores = share(sorted(os.sched_getaffinity(0)), name, count)
        for thread in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError):  # it may just have ended
                os.sched_setaffinity(int(thread), cores)


def share(things: Sequence[Thing], number: int, count: int) -> Sequence[Thing]:
    """The part of one of so many, neighbours, at least one thing.

    >>> [share(range(8), i, 3) for i in range(3)], share("ab", 2, 3)
    ([range(0, 2), range(2, 5), range(5, 8)], 'a')
    """
    if count > len(things):
        return things[number % len(things) :][:1]
    return things[number * len(things) // count : (number + 1) * len(things) // count]


def _devices(count: int) -> list[str]:
    """A GPU for each worker, as CUDA names them; empty if JAX will not use any."""
    plugins = {entry.name for entry in importlib.metadata.entry_points(group="jax_plugins")}
    platforms = os.environ.get("JAX_PLATFORMS", "cuda")
    if not any("cuda" in name for name in plugins) or platforms == "cpu":
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        visible = ",".join(str(number) for number in range(_installed()))
    devices = [name.strip() for name in visible.split(",") if name.strip()]
    if 0 < len(devices) < count:
        raise ValueError(
            f"--workers {count}: each takes a GPU, and there are {len(devices)}; take as many, or "
            "set JAX_PLATFORMS=cpu"
        )
    return devices


def _installed() -> int:
    """GPUs of this machine; asking JAX would start it."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
