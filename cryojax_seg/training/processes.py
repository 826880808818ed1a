"""Training on many devices, in one process or in several that are joined by `jax.distributed`.

All processes run the same steps in the same order on the same data. Each step divides its patches
among the devices of all; the state is the same everywhere. Files are the business of the first
process alone: `from_first` lets it do something and gives the answer, or the error, to all.
"""

import functools
import hashlib
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cryojax_seg.errors import Mendable, ParameterError
from cryojax_seg.training.config import TrainingError

# A process that fails alone waits for the others at its end this long, and then takes them along.
_PATIENCE = 30


def join(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Makes this process one of several that train together. Before JAX touches a device.

    Slurm and Open MPI say what the arguments are; elsewhere all three are needed.

    Args:
        coordinator: address and port of the first process, ``"node1:29400"``.
        processes: how many there are.
        process: index of this one, from 0.

    Raises:
        ParameterError: if nothing says what the arguments are.
        ValueError: if the index is not below the number.
        RuntimeError: if JAX is in use already, or the others do not come.
    """
    # JAX would take SIGTERM for itself; here the training loop asks for it (see `signals`).
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
    """Whether this process trains together with others."""
    return jax.process_count() > 1


def is_first() -> bool:
    """Whether this is the process that writes files."""
    return jax.process_index() == 0


def data_mesh(batch: int) -> jax.sharding.Mesh | None:
    """A mesh over as many devices, equally many of every process, as divide the batch.

    Args:
        batch: patches of a step.

    Returns:
        the mesh, with the axis "data"; None for a single device.

    Raises:
        ValueError: if the processes cannot have equal shares of the batch.

    >>> data_mesh(1) is None
    True
    """
    count = jax.process_count()
    if batch % count:
        raise ValueError(
            f"a batch of {batch} patches cannot be divided evenly over {count} processes; "
            f"make it a multiple of {count}"
        )
    devices = [[d for d in jax.devices() if d.process_index == i] for i in range(count)]
    share, most = batch // count, min(map(len, devices))
    each = max(n for n in range(1, most + 1) if share % n == 0)
    if count * each == 1:
        return None
    chosen = [d for of_one in devices for d in of_one[:each]]
    return jax.make_mesh((len(chosen),), ("data",), axis_types=(AxisType.Auto,), devices=chosen)


def replicated(tree: Any, mesh: jax.sharding.Mesh | None) -> Any:
    """The tree with a copy of every array on each device of the mesh.

    Args:
        tree: of arrays; every process must hold the same (see `check_same`).
        mesh: None for the default device.
    """
    if mesh is None:
        return jax.device_put(tree)
    sharding = NamedSharding(mesh, PartitionSpec())
    if not several():
        return jax.device_put(tree, sharding)

    def place(array):  # device_put would first compare the arrays of all processes
        array = np.asarray(array)
        return jax.make_array_from_process_local_data(sharding, array, array.shape)

    return jax.tree.map(place, tree)


@functools.cache
def _maximum() -> tuple[NamedSharding, Callable[[jax.Array], jax.Array]]:
    """How rows, one of each process, are laid out, and the maximum over them."""
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
    """The largest of the numbers that the processes give, as an int32 that is not waited for.

    All processes must call this at the same point.

    >>> int(largest(7))
    7
    """
    return _largest(np.asarray(number, np.int32))


def _bytes_from_first(content: bytes) -> bytes:
    """The bytes that the first process gives; those of the others do not matter."""
    length = int(largest(len(content) if is_first() else 0))
    # Rounded up, as every length is a program of its own.
    row = np.zeros(1 << max(length - 1, 0).bit_length(), np.uint8)
    if is_first():
        row[:length] = np.frombuffer(content, np.uint8)
    return np.asarray(_largest(row))[:length].tobytes()


def from_first(work: Callable[[], Any]) -> Any:
    """Lets the first process do something, while the others wait, and gives all its answer.

    All processes must call this at the same point.

    Args:
        work: gives plain values, as JSON has them.

    Raises:
        Exception: what `work` raised, in the first process; a TrainingError with the same message
            in the others, so that all end together.

    >>> from_first(lambda: 2 + 2)
    4
    """
    if not several():
        return work()
    failure, answer = None, {}
    if is_first():
        try:
            answer = {"value": work()}
        except Exception as error:
            parameters = error.parameters if isinstance(error, Mendable) else ()
            failure, answer = error, {"error": str(error), "parameters": parameters}
    answer = json.loads(_bytes_from_first(json.dumps(answer).encode()))
    if failure is not None:
        raise failure
    if "error" in answer:
        raise TrainingError(f"the first process failed: {answer['error']}", *answer["parameters"])
    return answer["value"]


def arrays_from_first(tree: Any) -> Any:
    """The arrays of the first process, bit for bit, as NumPy arrays in all.

    Args:
        tree: in the others its structure, shapes and dtypes count.
    """

    def one(array):
        array = np.asarray(array)
        # As bytes: JAX's own broadcast is a sum, in which -0 becomes 0.
        content = _bytes_from_first(array.tobytes() if is_first() else b"")
        return np.frombuffer(content, array.dtype).reshape(array.shape)

    return jax.tree.map(one, tree) if several() else tree


def check_same(*things: Any) -> None:
    """Raises a TrainingError in every process unless all have been given the same.

    What differs would give no error but a mean of two trainings, or processes that wait for each
    other for ever.

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
    differs = mine != _bytes_from_first(mine)
    if odd := int(largest(jax.process_index() if differs else 0)):
        raise TrainingError(
            f"process {odd} was given other tomograms, options or initial parameters than process "
            "0; all must be given the same"
        )
