"""Segments by tensor voting, in which each sheet element votes for its continuation nearby.

A symmetric tensor K at every voxel (its direction is a normal, its size a saliency) votes for the
tensors of its neighbours. For a normal n seen along the unit vector d, let ``a = n . d`` and
``t = n - a d``. The vote is ``t t^T - b a (d t^T + t d^T)``. At b = 1 and to first order in a this
is the reflected normal ``t - a d``, the normal of the circle through both voxels (Guy & Medioni
1997); it weighs ``1 - a^2``, so nothing is said along the normal itself. It is linear in
``K = n n^T`` (compare the closed form of Wu et al., arXiv 1601.04888), so voting is a convolution
from 6 to 6 channels. With distances weighed by ``l^4 exp(-l^2 / 2 s^2)`` its kernel is a polynomial
times a Gaussian, hence separable, and exactly local.
"""

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from cryojax_seg.core.convolution import conv3d
from cryojax_seg.core.parameters import (
    exponential,
    learnable,
    learnable_log,
    one_class,
    window_radii,
)
from cryojax_seg.core.segmenter import Segmenter
from cryojax_seg.core.types import Array, Logits, Scalar, Volume
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.segmenters.ridge import hessian, symmetric_eigenvalues

Tensors = Float[Array, "z y x 6"]  # zz, yy, xx, zy, zx, yx
_PAIRS = ((0, 0), (1, 1), (2, 2), (1, 0), (2, 0), (2, 1))
_TINY = 1e-6


@functools.cache
def _polynomials() -> tuple[np.ndarray, np.ndarray]:
    """``l^4`` times the vote at b = 0, and its slope in b: ``[powers of z, y, x, in, out]``.

    With offset ``e = l d``: ``l^4 K - l^2 (e e^T K + K e e^T) + (e^T K e) e e^T`` and
    ``2 (e^T K e) e e^T - l^2 (e e^T K + K e e^T)``.
    """
    flat, slope = np.zeros((2, 5, 5, 5, 6, 6))
    squares = [tuple(2 * (k == axis) for k in range(3)) for axis in range(3)]

    def add(table, powers, source, target, value):
        i, j, k = np.sum(powers, axis=0)
        table[i, j, k, source, target] += value

    for source, target in itertools.product(range(6), range(6)):
        unit = np.zeros((3, 3))
        unit[_PAIRS[source]] = unit[_PAIRS[source][::-1]] = 1.0
        a, b = _PAIRS[target]
        axis = np.eye(3, dtype=int)
        for one, two in itertools.product(squares, squares):
            add(flat, (one, two), source, target, unit[a, b])
        for one, c in itertools.product(squares, range(3)):
            for table in (flat, slope):
                add(table, (one, axis[a], axis[c]), source, target, -unit[c, b])
                add(table, (one, axis[c], axis[b]), source, target, -unit[a, c])
        for c, d in itertools.product(range(3), range(3)):
            add(flat, (axis[c], axis[d], axis[a], axis[b]), source, target, unit[c, d])
            add(slope, (axis[c], axis[d], axis[a], axis[b]), source, target, 2 * unit[c, d])
    return flat, slope


def vote(tensors: Tensors, scale: float | Scalar, bend: float | Scalar, radius: int) -> Tensors:
    """Return the sum of the votes that each voxel receives.

    Args:
        tensors: ``(z, y, x, 6)``, components zz, yy, xx, zy, zx, yx.
        scale: standard deviation s of the Gaussian in voxels; votes are strongest around 2 s.
        bend: b above; 1 continues a sheet along circles, 0 along planes.
        radius: votes from beyond this many voxels along an axis do not count.

    Returns:
        tensors of the same layout; a complete plane one voxel thick gives back its own tensor.
    """
    dtype = tensors.dtype
    offset = jnp.arange(-radius, radius + 1).astype(dtype) / scale
    weight = jnp.exp(-0.5 * jnp.square(offset))
    # An integral of 1 over the plane (not the volume): two thirds of the normalization in 3D.
    weight = weight / weight.sum() ** (2 / 3)
    taps = jnp.stack([weight * offset**k for k in range(5)])
    flat, slope = (jnp.asarray(table / 8, dtype) for table in _polynomials())
    # Along z the 6 components become their 5 moments; along y moments meet, so that what is left
    # to do along x are again 5 moments of 6 components.
    one = jnp.eye(6, dtype=dtype)
    along_z = jnp.einsum("it,cd->tcid", taps, one).reshape(-1, 1, 1, 6, 30)
    along_y = jnp.einsum("ijkcd,jt->tickd", flat + bend * slope, taps)
    along_x = jnp.einsum("kt,cd->tkcd", taps, one).reshape(1, 1, -1, 30, 6)
    moments = conv3d(tensors, along_z)
    moments = conv3d(moments, along_y.reshape(1, -1, 1, 30, 30))
    return conv3d(moments, along_x)


def sheet_tensors(
    volume: Volume, thickness: float | Scalar, gamma: float | Scalar, radius: int
) -> Tensors:
    """Return tensors ``g/(g + gamma) n n^T`` of bright sheets with normal n.

    Their strength is the gap of the two largest curvatures, ``g = max(c1, 0) - max(c2, 0)``. No
    eigenvectors: with C minus the Hessian, ``n n^T = (C - c2)(C - c3) / ((c1 - c2)(c1 - c3))``,
    and g makes the product vanish, with finite gradients, wherever the normal is not defined.
    """

    def plane(minus_components):
        components = tuple(-h for h in minus_components)
        zz, yy, xx, zy, zx, yx = components
        c3, c2, c1 = symmetric_eigenvalues(*components)
        gap = jax.nn.relu(c1) - jax.nn.relu(c2)
        size = gap / ((gap + gamma) * (c1 - c2 + _TINY) * (c1 - c3 + _TINY))
        squares = (
            zz * zz + zy * zy + zx * zx,
            zy * zy + yy * yy + yx * yx,
            zx * zx + yx * yx + xx * xx,
            zz * zy + zy * yy + zx * yx,
            zz * zx + zy * yx + zx * xx,
            zy * zx + yy * yx + yx * xx,
        )
        constants = (c2 * c3,) * 3 + (0.0,) * 3
        terms = zip(squares, components, constants, strict=True)
        return jnp.stack([size * (s - (c2 + c3) * c + d) for s, c, d in terms], axis=-1)

    # Plane by plane for the same reason as `ridge.curvatures`.
    return jax.lax.map(plane, hessian(volume, thickness, radius))


def wedge_gate(tensors: Tensors, wedge: MissingWedge, softness: float | Scalar) -> Volume:
    """Return how far the normals lie in the measured region, between 0 and 1.

    A normal n is measured if it lies between the two planes that bound the wedge, that is, if
    ``(e_1 . n)(e_2 . n) > 0`` with their normals e: a linear function of ``n n^T``.

    Args:
        tensors: ``(z, y, x, 6)``.
        wedge: the missing wedge.
        softness: the product over which the gate turns from 1/2 to 0.73.
    """
    axes = np.eye(3)
    horizontal, beam = (
        jnp.stack([jnp.asarray(wedge._frame(*axis)[i], tensors.dtype) for axis in axes])
        for i in range(2)
    )
    first, second = (
        (h.astype(tensors.dtype) * horizontal + b.astype(tensors.dtype) * beam)
        for h, b in wedge._sector()
    )
    form = jnp.stack([0.5 * (first[a] * second[b] + first[b] * second[a]) for a, b in _PAIRS])
    form = form * jnp.asarray([1, 1, 1, 2, 2, 2], tensors.dtype)
    trace = tensors[..., 0] + tensors[..., 1] + tensors[..., 2]
    return jax.nn.sigmoid(tensors @ form / (trace + _TINY) / softness)


class TensorVoting(Segmenter):
    """Finds sheets and closes gaps where the density is weak or absent.

    Sheet tensors of the smoothed volume vote (see `vote`). The logit follows from the saliency
    ``l1 - l2`` of ``K + strength vote(K)``, which is large where neighbours agree on a normal.
    Normals in the missing wedge are unreliable: with a wedge their tensors are suppressed before
    the vote, so that the measured parts of a membrane close the gaps caused by the wedge.

    Args:
        thickness: standard deviation of the smoothing in voxels: about half the sheet's thickness.
        scale: standard deviation of the voting window in voxels; votes come from around 2 scales.
        strength: weight of the neighbours' votes; positive. 0 in the limit is no voting.
        bend: 1 continues a sheet along circles, 0 along planes.
        gamma: curvature at which a tensor has half its full size, in intensity units; positive.
        threshold: saliency at which the probability is 1/2.
        softness: saliency over which the probability turns from 1/2 to 0.73; positive.
        wedge: the missing wedge of the data; None to trust all normals.
        wedge_softness: softness of the gate (see `wedge_gate`); positive.
        classes: the name of the class.
        radii: radii in voxels at which smoothing and voting are truncated; 4 initial scales by
            default.

    Raises:
        ValueError: for values that must be positive and are not, or several classes.

    >>> TensorVoting(thickness=1.5, scale=2.0).halo
    14
    """

    thickness = exponential("thickness")
    scale = exponential("scale")
    strength = exponential("strength")
    gamma = exponential("gamma")
    softness = exponential("softness")

    def __init__(
        self,
        thickness: float | int = 1.5,
        scale: float | int = 2.0,
        strength: ArrayLike = 1.0,
        bend: ArrayLike = 1.0,
        gamma: ArrayLike = 0.25,
        threshold: ArrayLike = 0.75,
        softness: ArrayLike = 0.25,
        wedge: MissingWedge | None = None,
        wedge_softness: ArrayLike = 0.1,
        classes: Sequence[str] = ("foreground",),
        radii: Sequence[int] | None = None,
    ):
        self.radii = window_radii("thickness and scale", (thickness, scale), radii)
        self.halo, self.stride = sum(self.radii), 1
        self.classes = one_class("TensorVoting", classes)
        self.wedge = None if wedge is None else wedge.as_numbers()
        self.log_thickness = learnable_log("thickness", thickness)
        self.log_scale = learnable_log("scale", scale)
        self.log_strength = learnable_log("strength", strength)
        self.bend = learnable(bend)
        self.log_gamma = learnable_log("gamma", gamma)
        self.threshold = learnable(threshold)
        self.log_softness = learnable_log("softness", softness)
        gate = learnable_log("wedge_softness", wedge_softness)
        self.log_wedge_softness = None if wedge is None else gate

    @property
    def wedge_softness(self) -> Scalar | float:
        return 0.1 if self.log_wedge_softness is None else jnp.exp(self.log_wedge_softness[...])

    def __call__(self, volume: Volume) -> Logits:
        tensors = sheet_tensors(volume, self.thickness, self.gamma, self.radii[0])
        if self.wedge is not None:
            gate = wedge_gate(tensors, self.wedge, self.wedge_softness)
            tensors = tensors * gate[..., None]
        votes = vote(tensors, self.scale, self.bend[...], self.radii[1])
        total = tensors + self.strength * votes
        _, middle, high = symmetric_eigenvalues(*(total[..., i] for i in range(6)))
        return ((high - middle - self.threshold[...]) / self.softness)[..., None]
