"""Lets several processes work together, joined by `jax.distributed`.

All processes run the same steps in the same order on the same data. Only the primary process reads
and writes files: `on_primary` runs a function there and returns its value, or its error, in all.
"""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cryojax_seg.errors import Mendable, ParameterError, ProcessError

# A process that fails alone waits for the others at its end this long, and then takes them along.
_PATIENCE = 30


def join(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Make this process one of several that work together, before JAX uses a device.

    Under Slurm and Open MPI the arguments are known; elsewhere all three are needed.

    Args:
        coordinator: address and port of the first process, ``"node1:29400"``.
        processes: the number of processes.
        process: the index of this process, from 0.

    Raises:
        ParameterError: for one of them without the others, or if they are neither given nor known.
        ValueError: if the index is not below the number.
        RuntimeError: if JAX is in use already, or the other processes do not join.

    >>> try:
    ...     join(processes=2)
    ... except ParameterError as error:
    ...     print(error.parameters)
    ('coordinator', 'processes', 'process')
    """
    where = (coordinator, processes, process)
    if None in where and where != (None, None, None):
        raise ParameterError(
            "coordinator, processes and process belong together",
            *("coordinator", "processes", "process"),
        )
    # JAX would take SIGTERM for itself; here the training loop asks for it (see `interrupts`).
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator, processes, process, shutdown_timeout_seconds=_PATIENCE
        )
    except ValueError as error:
        if coordinator is not None:
            raise
        raise ParameterError(
            "cannot join other processes: neither Slurm nor Open MPI started this one, so the "
            "address of the first (coordinator), their number (processes) and the index of this "
            "one (process) must be given",
            "coordinator",
            "processes",
            "process",
        ) from error
    # Connections are made by the first exchange, and on CPUs all must come to it within 30 s.
    int(largest(0))


def several() -> bool:
    """Return whether this process works together with others."""
    return jax.process_count() > 1


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Print nothing in a block, as only the primary process speaks.

    >>> with silence():
    ...     print("not shown")
    """
    with open(os.devnull, "w") as nowhere:
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            yield


def is_primary() -> bool:
    """Return whether this is the process that writes files.

    >>> is_primary()  # a single process always is
    True
    """
    return jax.process_index() == 0


@functools.cache
def _maximum() -> tuple[NamedSharding, Callable[[jax.Array], jax.Array]]:
    """Return the sharding of rows, one of each process, and their compiled maximum."""
    devices = {d.process_index: d for d in reversed(jax.devices())}
    chosen = [devices[i] for i in range(jax.process_count())]
    mesh = jax.make_mesh((len(chosen),), ("process",), axis_types=(AxisType.Auto,), devices=chosen)
    maximum = jax.jit(
        lambda rows: jnp.max(rows, axis=0), out_shardings=NamedSharding(mesh, PartitionSpec())
    )
    return NamedSharding(mesh, PartitionSpec("process")), maximum


def _largest(row: np.ndarray) -> jax.Array:
    sharding, maximum = _maximum()
    return maximum(jax.make_array_from_process_local_data(sharding, row[None]))


def largest(number: int) -> jax.Array:
    """Return the largest of the numbers of all processes, as an int32 array, without waiting.

    All processes must call this at the same point.

    >>> int(largest(7))
    7
    """
    return _largest(np.asarray(number, np.int32))


def _bytes_from_primary(content: bytes) -> bytes:
    """Return the bytes of the first process; those of the others are ignored."""
    length = int(largest(len(content) if is_primary() else 0))
    # Rounded up, as every length is a program of its own.
    row = np.zeros(1 << max(length - 1, 0).bit_length(), np.uint8)
    if is_primary():
        row[:length] = np.frombuffer(content, np.uint8)
    return np.asarray(_largest(row))[:length].tobytes()


def on_primary(work: Callable[[], Any]) -> Any:
    """Run a function in the primary process while the others wait, and return its value in all.

    All processes must call this at the same point.

    Args:
        work: a function that returns plain values, as JSON has them.

    Raises:
        Exception: the error of `work`, in the first process; a ProcessError with the same message
        in the others, so that all end together.

    >>> on_primary(lambda: 2 + 2)
    4
    """
    if not several():
        return work()
    failure, answer = None, {}
    if is_primary():
        try:
            answer = {"value": work()}
        except Exception as error:
            parameters = error.parameters if isinstance(error, Mendable) else ()
            failure, answer = error, {"error": str(error), "parameters": parameters}
    answer = json.loads(_bytes_from_primary(json.dumps(answer).encode()))
    if failure is not None:
        raise failure
    if "error" in answer:
        raise ProcessError(f"the first process failed: {answer['error']}", *answer["parameters"])
    return answer["value"]


def arrays_from_primary(tree: Any) -> Any:
    """Return the arrays of the primary process in all, bit for bit, as NumPy arrays.

    Args:
        tree: pytree of arrays; only its structure, shapes and dtypes matter in other processes.
    """

    def one(array):
        array = np.asarray(array)
        # As bytes: JAX's own broadcast is a sum, in which -0 becomes 0.
        content = _bytes_from_primary(array.tobytes() if is_primary() else b"")
        return np.frombuffer(content, array.dtype).reshape(array.shape)

    return jax.tree.map(one, tree) if several() else tree


def check_same(*things: Any) -> None:
    """Raise a ProcessError in every process unless all pass equal arguments.

    Without this check, differences would cause no error, but a mixture of two trainings, or
    processes that wait for each other forever.

    Args:
        things: pytrees of arrays, and plain values.
    """
    if not several():
        return
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(things, is_leaf=lambda leaf: leaf is None):
        if isinstance(leaf, np.ndarray | jax.Array):
            digest.update(f"{leaf.dtype.str} {leaf.shape}".encode())
            digest.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data)
        else:
            digest.update(repr(leaf).encode())
    mine = digest.digest()
    differs = mine != _bytes_from_primary(mine)
    if odd := int(largest(jax.process_index() if differs else 0)):
        raise ProcessError(
            f"process {odd} was given other tomograms, options or initial parameters than process "
            "0; all must be given the same"
        )
