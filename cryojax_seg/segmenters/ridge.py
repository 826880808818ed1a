"""Segments sheets, tubes and blobs by multi-scale measures of the eigenvalues of the Hessian.

The curvatures ``c1 >= c2 >= c3`` of bright structure are minus the eigenvalues of the Hessian of
the smoothed volume times the square of the scale. A sheet has one large curvature, a tube two, a
blob three. The measures are the generalised vesselness of Antiga (Insight Journal 2007), which for
tubes is the filter of Frangi et al. (1998). All of it is local: the contrast that counts as strong
is a learnable parameter and not the maximum over the volume.
"""

import abc
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Float

from cryojax_seg.core.neighbourhood import gaussian_taps
from cryojax_seg.core.parameters import (
    exponential,
    learnable,
    learnable_log,
    one_class,
    window_radii,
)
from cryojax_seg.core.segmenter import Segmenter
from cryojax_seg.core.types import Array, Logits, Scalar, Volume

_TINY = 1e-8  # a squared curvature far below any contrast; bounds the gradient of the ratios
_ORDERS = ((2, 0, 0), (0, 2, 0), (0, 0, 2), (1, 1, 0), (1, 0, 1), (0, 1, 1))  # zz ... yx
Values = Float[Array, "*n"]
Components = tuple[Volume, Volume, Volume, Volume, Volume, Volume]


def hessian(volume: Volume, scale: float | Scalar, radius: int) -> Components:
    """Return the scale-normalized Hessian, ``scale^2`` times zz, yy, xx, zy, zx, yx.

    Args:
        volume: ``(z, y, x)``.
        scale: standard deviation of the Gaussian in voxels.
        radius: the Gaussian is cut off beyond this many voxels.

    >>> x = jnp.broadcast_to(jnp.arange(17.0), (17, 17, 17))
    >>> xx = jax.jit(lambda v: hessian(v, 1.5, 6)[2])(jnp.square(x))
    >>> round(float(xx[8, 8, 8]) / 1.5**2, 4)
    2.0
    """
    taps = jnp.stack([gaussian_taps(scale, radius, order, volume.dtype) for order in range(3)])
    z, y, x = (np.asarray(orders) for orders in zip(*_ORDERS, strict=True))
    fields = _correlate(jnp.stack([volume] * 3), taps, 1)  # orders 0, 1, 2 along z
    fields = _correlate(fields[z], taps[y], 2)
    zz, yy, xx, zy, zx, yx = scale**2 * _correlate(fields, taps[x], 3)
    return zz, yy, xx, zy, zx, yx


def _correlate(
    fields: Float[Array, "field z y x"], taps: Float[Array, "field tap"], axis: int
) -> Float[Array, "field z y x"]:
    # Every field with its own taps, all at once: the graph is small and one pass over memory.
    radius, length = taps.shape[1] // 2, fields.shape[axis]
    padded = jnp.pad(fields, [(radius, radius) if a == axis else (0, 0) for a in range(4)])
    total = jnp.zeros_like(fields)
    for i in range(2 * radius + 1):
        shifted = jax.lax.slice_in_dim(padded, i, i + length, axis=axis)
        total = total + taps[:, i, None, None, None] * shifted
    return total


def symmetric_eigenvalues(
    zz: Values, yy: Values, xx: Values, zy: Values, zx: Values, yx: Values
) -> tuple[Values, Values, Values]:
    """Return the ascending eigenvalues of symmetric 3x3 matrices in closed form (Smith 1961).

    With ``q = tr(A)/3``, ``p = |A - qI|_F / sqrt(6)`` and ``phi = arccos(det((A - qI)/p) / 2) / 3``
    they are ``q + 2p cos(phi + 2 pi k / 3)``. The gradient is finite everywhere: a pair of equal
    eigenvalues shares the derivative of their mean, and so do three.

    >>> zero, one = jnp.zeros(1), jnp.ones(1)
    >>> [round(float(e[0]), 5) for e in symmetric_eigenvalues(zero, zero, one, zero, zero, zero)]
    [0.0, 0.0, 1.0]
    """
    q = (zz + yy + xx) / 3
    zz, yy, xx = zz - q, yy - q, xx - q
    off = zy * zy + zx * zx + yx * yx
    p2 = (zz * zz + yy * yy + xx * xx + 2 * off) / 6
    spread = p2 > 1e-30
    p = jnp.sqrt(jnp.where(spread, p2, 1.0))
    zz, yy, xx, zy, zx, yx = (a / p for a in (zz, yy, xx, zy, zx, yx))
    determinant = zz * (yy * xx - yx * yx) - zy * (zy * xx - yx * zx) + zx * (zy * yx - yy * zx)
    r = 0.5 * determinant
    # |r| = 1 is a pair of equal eigenvalues, where dr = 0 and arccos has no derivative.
    distinct = spread & (jnp.abs(r) < 1 - 4 * jnp.finfo(r.dtype).eps)
    limit = jnp.where(r < 0, np.pi / 3, 0.0).astype(r.dtype)
    phi = jnp.where(distinct, jnp.arccos(jnp.where(distinct, r, 0.0)) / 3, limit)
    p = jnp.where(spread, p, 0.0)
    cosine, sine = p * jnp.cos(phi), np.sqrt(3.0) * (p * jnp.sin(phi))
    return q - cosine - sine, q - cosine + sine, q + 2 * cosine


def curvatures(
    volume: Volume, scale: float | Scalar, radius: int, function: Callable[..., Values]
) -> Values:
    """Apply ``function(c1, c2, c3)`` to the descending principal curvatures of bright structure.

    Plane by plane, which bounds the memory and keeps the compiler from repeating the eigenvalues'
    gradient for every tap of the windows (fifteen times faster on a CPU).
    """

    def plane(components):
        low, middle, high = symmetric_eigenvalues(*components)
        return function(-low, -middle, -high)

    return jax.lax.map(plane, hessian(volume, scale, radius))


def _below(square: Values, width: Scalar) -> Values:
    """Return 1 where a squared quantity is far below the squared width, 0 where far above."""
    return jnp.exp(-square / (2 * jnp.square(width)))


def _gated(gate: Values, *values: Values) -> tuple[Values, ...]:
    # Curvatures that are safe to divide by: 1 where the gate will discard the result anyway.
    return tuple(jnp.where(gate > 0, v, 1.0) for v in values)


class _RidgeFilter(Segmenter):
    """Abstract base of filters ``logit = (largest measure over scales - threshold) / softness``."""

    scales = exponential("scales")
    gamma = exponential("gamma")
    softness = exponential("softness")
    threshold: nnx.Param
    radii: tuple[int, ...]

    @abc.abstractmethod
    def measure(self, c1: Values, c2: Values, c3: Values) -> Values:
        """Return a measure between 0 and 1 of the descending curvatures at one scale."""

    def _configure(self, scales, gamma, threshold, softness, classes, radii):
        self.radii = window_radii("scales", scales, radii)
        self.halo, self.stride = max(self.radii), 1
        self.classes = one_class(type(self).__name__, classes)
        self.log_scales = learnable_log("scales", scales)
        self.log_gamma = learnable_log("gamma", gamma)
        self.threshold = learnable(threshold)
        self.log_softness = learnable_log("softness", softness)

    def __call__(self, volume: Volume) -> Logits:
        gamma = self.gamma

        def contrasted(c1, c2, c3):
            strength = jnp.square(c1) + jnp.square(c2) + jnp.square(c3)
            return self.measure(c1, c2, c3) * (1 - _below(strength, gamma))

        scales = zip(self.scales, self.radii, strict=True)
        responses = [curvatures(volume, scale, radius, contrasted) for scale, radius in scales]
        response = functools.reduce(jnp.maximum, responses)
        return ((response - self.threshold[...]) / self.softness)[..., None]


class SheetFilter(_RidgeFilter):
    """Finds membranes, where one curvature is strong.

    The measure is ``exp(-R^2/2 beta^2)`` with ``R = max(|c2|, |c3|) / c1``, times ``1 - exp(-S^2 /
    2 gamma^2)`` with ``S^2 = c1^2 + c2^2 + c3^2``, the largest over the scales, behind a threshold.
    0 where ``c1 < 0``.

    Args:
        scales: standard deviations of the smoothing in voxels: about half the thickness.
        beta: tolerated ratio of the other curvatures to the strong one; positive.
        gamma: curvature that counts as contrast, in intensity units (of z-scored data); positive.
        threshold: response at which the probability is 1/2, between 0 and 1.
        softness: response over which the probability turns from 1/2 to 0.73; positive.
        classes: the name of the class.
        radii: radii in voxels at which the windows are truncated; 4 initial scales by default.

    Raises:
        ValueError: for values that must be positive and are not, or several classes.

    >>> wall = jnp.zeros((9, 9, 9)).at[4].set(3.0)
    >>> bool(jax.jit(SheetFilter(scales=(1.0,)))(wall)[4, 4, 4, 0] > 0)
    True
    """

    beta = exponential("beta")

    def __init__(
        self,
        scales: Sequence[float | int] = (1.5, 3.0),
        beta: ArrayLike = 0.5,
        gamma: ArrayLike = 0.25,
        threshold: ArrayLike = 0.3,
        softness: ArrayLike = 0.1,
        classes: Sequence[str] = ("foreground",),
        radii: Sequence[int] | None = None,
    ):
        self._configure(scales, gamma, threshold, softness, classes, radii)
        self.log_beta = learnable_log("beta", beta)

    def measure(self, c1: Values, c2: Values, c3: Values) -> Values:
        (d1,) = _gated(c1, c1)
        other = jnp.maximum(jnp.square(c2), jnp.square(c3))
        return jnp.where(c1 > 0, _below(other / (jnp.square(d1) + _TINY), self.beta), 0.0)


class TubeFilter(_RidgeFilter):
    """Finds filaments, where two curvatures are strong (Frangi et al. 1998, equations 10 to 13).

    The measure is ``(1 - exp(-A^2/2 alpha^2)) exp(-B^2/2 beta^2)`` with ``A = c2 / c1``,
    ``B = |c3| / sqrt(c1 c2)``, times the contrast term of `SheetFilter`. 0 where ``c2 < 0``.
    Frangi's measure jumps to 0 where ``|c3| > c2``; this one decreases smoothly.

    Args:
        scales: standard deviations of the smoothing in voxels: about the radius of the filament.
        alpha: ratio of the two strong curvatures that tells a tube from a sheet; positive.
        beta: tolerated ratio of the third curvature to the strong ones; positive.
        gamma, threshold, softness, classes, radii: as in `SheetFilter`.

    Raises:
        ValueError: for values that must be positive and are not, or several classes.

    >>> TubeFilter(scales=(1.5,)).halo
    6
    """

    alpha = exponential("alpha")
    beta = exponential("beta")

    def __init__(
        self,
        scales: Sequence[float | int] = (1.5, 3.0),
        alpha: ArrayLike = 0.5,
        beta: ArrayLike = 0.5,
        gamma: ArrayLike = 0.25,
        threshold: ArrayLike = 0.3,
        softness: ArrayLike = 0.1,
        classes: Sequence[str] = ("foreground",),
        radii: Sequence[int] | None = None,
    ):
        self._configure(scales, gamma, threshold, softness, classes, radii)
        self.log_alpha = learnable_log("alpha", alpha)
        self.log_beta = learnable_log("beta", beta)

    def measure(self, c1: Values, c2: Values, c3: Values) -> Values:
        d1, d2 = _gated(c2, c1, c2)
        flat = _below(jnp.square(d2) / (jnp.square(d1) + _TINY), self.alpha)
        long = _below(jnp.square(c3) / (d1 * d2 + _TINY), self.beta)
        return jnp.where(c2 > 0, (1 - flat) * long, 0.0)


class BlobFilter(_RidgeFilter):
    """Finds compact particles, where all three curvatures are strong.

    The measure is ``1 - exp(-A^2/2 alpha^2)`` with ``A = c3 / sqrt(c1 c2)``, times the contrast
    term of `SheetFilter`. 0 where ``c3 < 0``.

    Args:
        scales: standard deviations of the smoothing in voxels: about half the radius.
        alpha: ratio of the smallest curvature to the others that tells a blob from a tube;
            positive.
        gamma, threshold, softness, classes, radii: as in `SheetFilter`.

    Raises:
        ValueError: for values that must be positive and are not, or several classes.

    >>> BlobFilter(scales=(1.5, 3.0)).halo
    12
    """

    alpha = exponential("alpha")

    def __init__(
        self,
        scales: Sequence[float | int] = (1.5, 3.0),
        alpha: ArrayLike = 0.5,
        gamma: ArrayLike = 0.25,
        threshold: ArrayLike = 0.3,
        softness: ArrayLike = 0.1,
        classes: Sequence[str] = ("foreground",),
        radii: Sequence[int] | None = None,
    ):
        self._configure(scales, gamma, threshold, softness, classes, radii)
        self.log_alpha = learnable_log("alpha", alpha)

    def measure(self, c1: Values, c2: Values, c3: Values) -> Values:
        d1, d2, d3 = _gated(c3, c1, c2, c3)
        return jnp.where(c3 > 0, 1 - _below(jnp.square(d3) / (d1 * d2 + _TINY), self.alpha), 0.0)
