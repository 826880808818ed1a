"""Segments by a linear vote: each neighbour adds its intensity times a learned weight."""

from collections.abc import Sequence

import numpy as np
from jax.typing import ArrayLike

from cryojax_seg.core.convolution import conv3d
from cryojax_seg.core.parameters import Numbers, exponential, learnable, learnable_log, reserve
from cryojax_seg.core.segmenter import Segmenter
from cryojax_seg.core.types import Logits, Volume


class LinearVote(Segmenter):
    """Applies one learned kernel per class and a threshold: logistic regression on neighbourhoods.

    ``logit_c = (sum_delta kernel_c(delta) I(r + delta) - threshold_c) / softness``. The kernel
    starts as a normalized Gaussian window for one class, so the method starts as a threshold of
    the smoothed volume, and at radius 0 it is the `GlobalThreshold`. For several classes it is
    that window times ``c / (K - 1)``: the later the class, the brighter. From radius 2 on it is
    computed through the FFT on CPUs (`core.large_kernels`).

    Args:
        radius: neighbours up to this many voxels away along each axis vote.
        threshold: one number, or one per class.
        softness: intensity over which the probability turns from 1/2 to 0.73; positive.
        classes: names of the classes, background first if there are several.

    Raises:
        ValueError: for a negative radius, a softness that is not positive, no classes, or a
            number of thresholds that does not fit the classes.

    >>> import jax.numpy as jnp
    >>> LinearVote(radius=0, threshold=1.5)(jnp.array([[[1.0, 2.0]]]))[0, 0, :, 0].tolist()
    [-0.5, 0.5]
    """

    softness = exponential("softness")

    def __init__(
        self,
        radius: int = 3,
        threshold: Numbers = 0.0,
        softness: ArrayLike = 1.0,
        classes: Sequence[str] = ("foreground",),
    ):
        if radius < 0:
            raise ValueError(f"radius must be 0 or more voxels, not {radius}")
        if len(classes) == 0 or np.size(threshold) not in (1, len(classes)):
            raise ValueError(f"threshold {threshold} does not fit the classes {tuple(classes)}")
        self.radius = radius
        self.halo, self.stride, self.classes = radius, 1, tuple(classes)
        count = len(classes)
        reserve((2 * radius + 1,) * 3 + (count,))
        brightness = np.arange(count) / (count - 1) if count > 1 else np.ones(1)
        offset = np.arange(-radius, radius + 1) / max(radius / 2, 1)
        taps = np.exp(-0.5 * offset**2)
        window = np.einsum("i,j,k->ijk", taps, taps, taps) / taps.sum() ** 3
        self.kernel = learnable(np.multiply.outer(window, brightness[None, :]))
        self.threshold = learnable(np.broadcast_to(np.ravel(threshold), (count,)))
        self.log_softness = learnable_log("softness", softness)

    def __call__(self, volume: Volume) -> Logits:
        votes = conv3d(volume[..., None], self.kernel[...])
        return (votes - self.threshold[...].reshape(1, 1, 1, -1)) / self.softness
