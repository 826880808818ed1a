"""One block on several devices: split along z, XLA exchanges what lies at the borders."""

import functools
from collections.abc import Sequence
from typing import Any, final

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cryojax_seg.core.operator import LocalOperator
from cryojax_seg.core.types import Array


@functools.partial(jax.jit, static_argnums=2)
def _logits(operator: LocalOperator, block: Array, sharding: NamedSharding) -> Array:
    # The constraint keeps the answer where the block is, so that no device needs all of it.
    return jax.lax.with_sharding_constraint(operator(block), sharding)


@final
class Sharded:
    """A program for `core.apply_tiles` that splits each block over devices.

    The operator runs as one program over the whole block: what a convolution needs of its
    neighbours comes from them, so the answer is that of one device.

    Args:
        operator: any segmenter or restorer.
        devices: of JAX; by default all of this process.

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
        """Logits ``(z, y, x, class)`` of a block ``(z, y, x)``."""
        missing = -len(block) % self._multiple
        # What is appended is farther from the answer than the halo, so its values do not matter.
        whole = np.pad(block, ((0, missing), (0, 0), (0, 0)))
        logits = _logits(self._operator, jax.device_put(whole, self._split), self._split)
        return logits[: len(block)]
