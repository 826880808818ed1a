"""Splits a block or a batch over several devices, and restricts a process to CPUs."""

import functools
from collections.abc import Sequence
from typing import Any, final

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cryojax_seg.core.operator import LocalOperator
from cryojax_seg.core.types import Array
from cryojax_seg.runtime.processes import several


@functools.partial(jax.jit, static_argnums=2)
def _logits(operator: LocalOperator, block: Array, sharding: NamedSharding) -> Array:
    # The constraint keeps the answer where the block is, so that no device needs all of it.
    return jax.lax.with_sharding_constraint(operator(block), sharding)


@final
class Sharded:
    """Splits each block of `core.apply_tiles` over devices.

    The operator runs as one program over the whole block: devices exchange the voxels that a
    convolution needs from neighbours, so the result is that of one device.

    Args:
        operator: any segmenter or restorer.
        devices: JAX devices; by default all of this process.

    >>> import jax.numpy as jnp
    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> Sharded(GlobalThreshold(0.5))(np.ones((3, 2, 2), np.float32)).shape
    (3, 2, 2, 1)
    """

    def __init__(self, operator: LocalOperator, devices: Sequence[Any] | None = None):
        devices = list(devices or jax.local_devices())
        mesh = jax.make_mesh((len(devices),), ("z",), axis_types=(AxisType.Auto,), devices=devices)
        self._split = NamedSharding(mesh, PartitionSpec("z"))
        self._multiple = len(devices) * operator.stride
        self._operator = jax.device_put(operator, NamedSharding(mesh, PartitionSpec()))

    def __call__(self, block: np.ndarray) -> Array:
        """Return the logits ``(z, y, x, class)`` of a block ``(z, y, x)``."""
        missing = -len(block) % self._multiple
        # What is appended is farther from the answer than the halo, so its values do not matter.
        whole = np.pad(block, ((0, missing), (0, 0), (0, 0)))
        logits = _logits(self._operator, jax.device_put(whole, self._split), self._split)
        return logits[: len(block)]


def leave_accelerators() -> None:
    """Restrict this process to CPUs, so that others have the GPUs.

    Call it before JAX uses a device.

    >>> leave_accelerators()
    >>> jax.default_backend()
    'cpu'
    """
    jax.config.update("jax_platforms", "cpu")


def data_mesh(batch: int) -> jax.sharding.Mesh | None:
    """Return a mesh over the most devices, equally many of each process, that divide the batch.

    Args:
        batch: number of patches per step.

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
    """Return the tree with a copy of every array on each device of the mesh.

    Args:
        tree: pytree of arrays; every process must hold the same (see `processes.check_same`).
        mesh: the mesh; None for the default device.

    >>> replicated({"a": np.ones(2)}, None)["a"].shape
    (2,)
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
