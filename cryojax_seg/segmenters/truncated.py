"""Reduces the halo of a network to the distance from which inputs noticeably matter."""

from collections.abc import Callable

import jax
import numpy as np

from cryojax_seg.core import Segmenter, measured_box
from cryojax_seg.core.blocks import Readable, random_starts, read
from cryojax_seg.core.operator import require_local
from cryojax_seg.core.types import Array, Logits, Volume


class Truncated(Segmenter):
    """Gives a segmenter a smaller halo than its receptive field requires.

    Most of the receptive field of a deep U-Net hardly affects its output. A smaller halo saves
    time on large tomograms, but tiles no longer equal the whole exactly; see `fit_halo` for the
    difference.

    Args:
        segmenter: any segmenter.
        halo: voxels, less than the halo of the segmenter.

    Raises:
        ValueError: for a negative halo.

    >>> from cryojax_seg.segmenters import LinearVote
    >>> Truncated(LinearVote(radius=3), 1).halo
    1
    """

    def __init__(self, segmenter: Segmenter, halo: int):
        if halo < 0:
            raise ValueError(f"halo must be 0 voxels or more, got {halo}")
        self.segmenter = segmenter
        self.halo = int(halo)
        self.stride, self.classes = segmenter.stride, segmenter.classes

    def __call__(self, volume: Volume) -> Logits:
        return self.segmenter(volume)


@jax.jit
def _logits(segmenter: Segmenter, block: Volume) -> Logits:
    return segmenter(block)


def fit_halo(
    segmenter: Segmenter,
    volume: Readable | Array,
    tolerance: float = 0.1,
    *,
    core: int = 32,
    count: int = 4,
    seed: int = 0,
    run: Callable[[np.ndarray], Logits] | None = None,
) -> tuple[Segmenter, float]:
    """Return the segmenter with the smallest halo that preserves its logits on this volume.

    Logits of probe blocks are compared with those of the exact halo; the smallest halo is found by
    bisection in steps of the stride.

    Args:
        segmenter: any local segmenter.
        volume: ``(z, y, x)``, normalized, structure bright.
        tolerance: largest difference of a logit. 0.1 is at most 0.025 of a probability.
        core: edge of the part of a block that is compared, voxels; rounded up to the stride.
        count: number of blocks.
        seed: seed of their positions.
        run: function that computes the logits of a block in place of the segmenter.

    Returns:
        a `Truncated` segmenter, or the given one if no smaller halo suffices, and the largest
        difference found.

    Raises:
        ValueError: for a tolerance that is not positive.

    >>> from flax import nnx
    >>> from cryojax_seg.segmenters import UNet
    >>> net = UNet(2, 1, norm="none", rngs=nnx.Rngs(0))
    >>> noise = np.random.default_rng(0).normal(size=(24, 24, 24)).astype(np.float32)
    >>> fitted, difference = fit_halo(net, noise, 0.05, core=8, count=2)
    >>> net.halo, fitted.halo < net.halo, difference < 0.05
    (9, True, True)
    """
    if not tolerance > 0:
        raise ValueError(f"tolerance must be a difference of logits above 0, got {tolerance}")
    require_local(segmenter)
    stride = segmenter.stride
    widest = -(-segmenter.halo // stride)  # in strides
    core = -(-core // stride) * stride
    origins = random_starts(measured_box(volume), [core] * 3, count, seed, stride=stride)

    def logits(strides: int) -> np.ndarray:
        pad = strides * stride
        inner = (slice(pad, pad + core),) * 3
        ends = [([a - pad for a in o], [a + core + pad for a in o]) for o in origins]
        return np.stack([np.asarray(compute(read(volume, *end)))[inner] for end in ends])

    compute = run or (lambda block: _logits(segmenter, block))
    exact = logits(widest)
    enough, differences = widest, {widest: 0.0}
    least = 0
    while least < enough:
        middle = (least + enough) // 2
        difference = float(np.abs(logits(middle) - exact).max())
        if difference <= tolerance:
            enough, differences[middle] = middle, difference
        else:
            least = middle + 1
    halo = enough * stride
    fitted = segmenter if halo >= segmenter.halo else Truncated(segmenter, halo)
    return fitted, differences[enough]
