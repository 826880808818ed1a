"""Segments by thresholds that follow the local mean and contrast."""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from cryojax_seg.core.moments import local_moments
from cryojax_seg.core.parameters import (
    Numbers,
    bands,
    exponential,
    learnable,
    learnable_log,
    per_threshold,
    window_radii,
)
from cryojax_seg.core.segmenter import Segmenter
from cryojax_seg.core.types import Logits, Scalar, Volume


class LocalThreshold(Segmenter):
    """Applies a threshold computed from the mean m and standard deviation s of Gaussian windows.

    - ``niblack``: ``T = offset + m + gain s`` (Niblack 1986, whose k is the gain).
    - ``sauvola``: ``T = offset + m (1 + gain (s / dynamic_range - 1))`` (Sauvola & Pietikainen
      2000). It assumes intensities that are positive, so it does not suit z-scored data.

    Several windows give the mean of their thresholds, weighted with ``softmax(mixing)``. K classes
    have K - 1 offsets and gains, and are the bands between the thresholds (see
    `parameters.bands`).

    Args:
        scales: standard deviations of the windows in voxels.
        offset: added to the threshold; one number, or K - 1 for K classes.
        gain: number of local standard deviations above the mean; as many values as offsets.
        softness: intensity over which the probability turns from 1/2 to 0.73; positive.
        classes: names of the classes, background first if there are several.
        form: "niblack" or "sauvola".
        dynamic_range: standard deviation that counts as full contrast in the Sauvola form.
        mixing: one number per window, equal by default.
        radii: radii in voxels at which the windows are truncated; 4 initial scales by default.

    Raises:
        ValueError: for an unknown form, values that must be positive and are not, or counts that
            do not fit.

    >>> LocalThreshold(scales=(2.0,), gain=1.0).halo
    8
    """

    scales = exponential("scales")
    softness = exponential("softness")

    def __init__(
        self,
        scales: Sequence[float | int] = (8.0,),
        offset: Numbers = 0.0,
        gain: Numbers = 1.0,
        softness: ArrayLike = 1.0,
        classes: Sequence[str] = ("foreground",),
        form: Literal["niblack", "sauvola"] = "niblack",
        dynamic_range: ArrayLike = 1.0,
        mixing: Numbers | None = None,
        radii: Sequence[int] | None = None,
    ):
        if form not in ("niblack", "sauvola"):
            raise ValueError(f'form is "niblack" or "sauvola", not {form!r}')
        self.radii = window_radii("scales", scales, radii)
        self.halo, self.stride = max(self.radii), 1
        self.classes = tuple(classes)
        self.form = form
        self.log_scales = learnable_log("scales", scales)
        self.offset = learnable(per_threshold("offset", offset, classes))
        self.gain = learnable(per_threshold("gain", gain, classes))
        self.log_softness = learnable_log("softness", softness)
        # Parameters that do not affect the output are not learnable.
        single = len(self.radii) == 1
        self.mixing = (
            None if single else learnable([0.0] * len(scales) if mixing is None else mixing)
        )
        self.log_dynamic_range = (
            learnable_log("dynamic_range", dynamic_range) if form == "sauvola" else None
        )

    @property
    def dynamic_range(self) -> Scalar | float:
        return 1.0 if self.log_dynamic_range is None else jnp.exp(self.log_dynamic_range[...])

    def __call__(self, volume: Volume) -> Logits:
        gain = self.gain[...].reshape(1, 1, 1, -1)
        offset = self.offset[...].reshape(1, 1, 1, -1)
        weights = [1.0] if self.mixing is None else jax.nn.softmax(self.mixing[...])
        threshold = offset
        for i, radius in enumerate(self.radii):
            mean, deviation = local_moments(volume, self.scales[i], radius)
            mean, deviation = mean[..., None], deviation[..., None]
            if self.form == "niblack":
                local = mean + gain * deviation
            else:
                local = mean * (1 + gain * (deviation / self.dynamic_range - 1))
            threshold = threshold + weights[i] * local
        return bands(volume, threshold, self.softness, self.classes)
