"""Runs networks in bfloat16, which at least doubles their speed on hardware with bfloat16 units."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from cryojax_seg.core import Chain, LocalOperator, Segmenter, labels
from cryojax_seg.core.blocks import Readable, random_starts, read
from cryojax_seg.core.intensity import measured_box
from cryojax_seg.core.loss import Objective
from cryojax_seg.core.types import Array, Logits, Volume
from cryojax_seg.segmenters.convnet import ConvNet
from cryojax_seg.segmenters.tomoseg import Tomoseg
from cryojax_seg.segmenters.unet import UNet

NETWORKS = (UNet, ConvNet, Tomoseg)


class Bfloat16(Segmenter):
    """Computes the products of a network in bfloat16.

    Parameters stay float32, and so do biases, statistics, logits and gradients of
    parameters: what is summed over many voxels is summed in float32. Logits differ by about a
    hundredth of their size; `disagreement` measures what that does to labels.

    Args:
        segmenter: `UNet`, `ConvNet` or `Tomoseg`; see `in_bfloat16` for one within others.

    Raises:
        ValueError: for a segmenter that is not a network; filters subtract large numbers and need
            float32.

    >>> net = Bfloat16(ConvNet(1, 2, rngs=nnx.Rngs(0)))
    >>> net(jnp.zeros((4, 4, 4))).dtype
    dtype('float32')
    """

    def __init__(self, segmenter: LocalOperator):
        if not isinstance(segmenter, NETWORKS):
            raise ValueError(
                f"bfloat16 is for networks; {type(segmenter).__name__} is not one and needs float32"
            )
        self.segmenter = segmenter
        self.halo, self.stride = segmenter.halo, segmenter.stride
        self.classes = segmenter.classes

    def default_loss(self) -> Objective:
        """Return the default loss of the network."""
        return self.segmenter.default_loss()

    def __call__(self, volume: Volume) -> Logits:
        return self.segmenter(volume.astype(jnp.bfloat16)).astype(jnp.float32)

    def logits_at_scales(self, volume: Volume) -> tuple[Array, ...]:
        """Return the logits of the network at each scale."""
        found = self.segmenter.logits_at_scales(volume.astype(jnp.bfloat16))
        return tuple(logits.astype(jnp.float32) for logits in found)


def in_bfloat16(operator: LocalOperator) -> Segmenter:
    """Return the segmenter with its network in bfloat16 and everything else in float32.

    Raises:
        ValueError: if the segmenter neither is nor wraps a network.

    >>> from cryojax_seg.segmenters import Tempered
    >>> type(in_bfloat16(Tempered(ConvNet(1, 2, rngs=nnx.Rngs(0)), 2.0)).segmenter).__name__
    'Bfloat16'
    """
    if isinstance(operator, Bfloat16):
        return operator
    if isinstance(operator, Chain):
        return Chain([*operator.restorers, in_bfloat16(operator.segmenter)])
    if "segmenter" not in vars(operator):
        return Bfloat16(operator)
    copy: Any = nnx.clone(operator)
    copy.segmenter = in_bfloat16(copy.segmenter)
    return copy


def disagreement(
    one: Callable[[Volume], Logits],
    other: Callable[[Volume], Logits],
    volume: Readable | Array,
    stride: int = 1,
    *,
    edge: int = 64,
    count: int = 4,
    seed: int = 0,
) -> float:
    """Return the share of voxels that two segmenters label differently, on random blocks.

    Args:
        one, other: segmenters, or functions that compute the logits of a block.
        volume: ``(z, y, x)``, normalized, structure bright.
        stride: of the segmenters.
        edge: of the blocks, voxels; shortened to the volume, rounded down to the stride.
        count: how many blocks.
        seed: of their positions.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> v = np.linspace(0, 1, 1000, dtype=np.float32).reshape(10, 10, 10)
    >>> round(disagreement(GlobalThreshold(0.5), GlobalThreshold(0.6), v, edge=10, count=1), 2)
    0.1
    """
    box = measured_box(volume)
    edges = [max(min(edge, s.stop - s.start) // stride, 1) * stride for s in box]
    shares = []
    for start in random_starts(box, edges, count, seed):
        block = read(volume, start, [a + e for a, e in zip(start, edges, strict=True)])
        first, second = (labels(np.asarray(run(block))) for run in (one, other))
        shares.append(float((first != second).mean()))
    return float(np.mean(shares))
