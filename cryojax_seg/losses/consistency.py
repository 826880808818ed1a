"""Provides objectives that compare segmentations with the tomogram and need no labels.

All have the form ``objective(segmenter, batch) -> scalar`` (`losses.add` sums them) and use the
missing wedge of each patch, the half tomograms and a random key. An error names the part of the
batch that is missing.

Notation: ``A_M v`` is the volume v restricted to the measured frequencies M, ``R`` is a rotation of
the cube, ``M_R`` is the wedge rotated with the sample, and ``p(x)`` are the foreground
probabilities of a volume x.
"""

from typing import Any

import jax
import jax.numpy as jnp

from cryojax_seg.core import fourier
from cryojax_seg.core.loss import Objective, finite, logits_of
from cryojax_seg.core.rotation import cube_rotations, rotate_on_grid
from cryojax_seg.core.segmenter import Segmenter
from cryojax_seg.core.types import Array, Scalar, Volume
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.losses.objective import foreground, require


def _least_squares(columns: Array, target: Volume) -> Array:
    """Return the least squares coefficients of ``(i, z, y, x)`` columns.

    Columns are scaled to unit length and regularised by a ridge of 1e-6, because the windows of one
    class are nearly parallel and an absent class gives a column of zeros.
    """
    length = jnp.sqrt(jnp.square(columns).sum((1, 2, 3)))
    length = jnp.where(length > 0, length, 1.0)
    columns = columns / length[:, None, None, None]
    matrix = jnp.einsum("izyx,jzyx->ij", columns, columns)
    ridge = 1e-6 * jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    return jnp.linalg.solve(matrix + ridge, jnp.einsum("izyx,zyx->i", columns, target)) / length


def explain(
    volume: Volume, probability: Array, transfer: Array, widths: tuple[float, ...] = (0.7, 2.0)
) -> tuple[Volume, Volume]:
    """Return the density that class probabilities imply, and the residual of a volume.

    The density is ``D p = d_0 + sum_c sum_s d_cs G_s * p_c``, where each class has a profile made
    of Gaussian windows of several widths. Its coefficients fit the volume inside the measured
    region by linear least squares, so they need not be learned (variable projection, Golub &
    Pereyra 1973). They are constant for the gradient, which is exact for the residual because they
    minimise it.

    Args:
        volume: ``(z, y, x)``.
        probability: ``(z, y, x, class)`` without the background.
        transfer: measured share of each frequency, in rfftn layout.
        widths: standard deviations of the windows, voxels.

    Returns:
        ``D p`` and ``A_M (x - D p)``, both ``(z, y, x)``.
    """
    k2 = jnp.square(fourier.radius(volume.shape))
    gains = [jnp.exp(-2 * jnp.pi**2 * s**2 * k2) for s in widths]
    basis = jnp.stack(
        [
            fourier.apply_gain(probability[..., c], gain)
            for c in range(probability.shape[-1])
            for gain in gains
        ]
    )
    transfer = jnp.asarray(transfer).at[0, 0, 0].set(0.0)  # d_0 fits the mean exactly
    seen = jax.vmap(lambda b: fourier.apply_gain(b, transfer))(basis)
    target = fourier.apply_gain(volume, transfer)
    coefficients = jax.lax.stop_gradient(_least_squares(seen, target))
    density = jnp.einsum("i,izyx->zyx", coefficients, basis)
    left = target - jnp.einsum("i,izyx->zyx", coefficients, seen)
    return density - density.mean() + volume.mean(), left


def _like_noise(residual: Volume, transfer: Array, key: Array) -> Volume:
    """Return noise outside the measured region with the power of the residual inside, by shells."""
    shape = residual.shape
    power = fourier.shell_sum(jnp.square(jnp.abs(fourier.rfftn(residual))), shape)
    count = fourier.shell_sum(jnp.square(transfer), shape)
    amplitude = jnp.sqrt(jnp.maximum(power, 0) / jnp.maximum(count, 1.0) / residual.size)
    gain = fourier.shell_expand(amplitude, shape) * (1 - transfer)
    return fourier.apply_gain(jax.random.normal(key, shape, residual.dtype), gain)


def random_rotation(wedge: MissingWedge, shape: tuple[int, ...], key: Array) -> Array:
    """Draw a rotation of the grid that moves the wedge, as ``(3, 3)`` integers in zyx order.

    It is one of the rotations of the cube that keep the shape and change the wedge by at least half
    of the largest possible change.
    """
    table = jnp.asarray(cube_rotations(shape))
    here = wedge.transfer((12, 12, 12))
    there = jax.vmap(lambda r: wedge.rotate(r.astype(here.dtype)).transfer((12, 12, 12)))(table)
    different = jnp.abs(there - here[None]).mean((1, 2, 3))
    allowed = different >= 0.5 * different.max()
    return table[jax.random.categorical(key, jnp.where(allowed, 0.0, -jnp.inf))]


def disagreement(target: Array, found: Array, wedge: MissingWedge) -> tuple[Scalar, Scalar]:
    """Return ``|A_M (a - b)|^2`` and ``|A_M a|^2 + |A_M b|^2`` of two probability maps.

    The maps are ``(z, y, x, class)``. Only the measured frequencies M of the wedge count.
    """
    transfer = wedge.transfer(found.shape[:3]).astype(found.dtype)
    seen = jax.vmap(lambda v: fourier.apply_gain(v, transfer), in_axes=-1)
    a, b = seen(target), seen(found)
    return jnp.square(a - b).sum(), jnp.square(a).sum() + jnp.square(b).sum()


def certain(probability: Array, least: float) -> Array:
    """Return 1 where a probability is at least `least` or at most ``1 - least``, else 0.

    >>> certain(jnp.array([0.05, 0.5, 0.95]), 0.9).tolist()
    [1.0, 0.0, 1.0]
    """
    sure = jnp.maximum(probability, 1 - probability) >= least
    return jax.lax.stop_gradient(sure.astype(probability.dtype))


def equivariant(
    halves: bool = False,
    noise: bool = True,
    widths: tuple[float, ...] = (0.7, 2.0),
    confidence: float = 0.5,
) -> Objective:
    """Return an objective that asks for equal segmentations before and after a rotation.

    The objective needs no labels: a visible membrane must be found again after a rotation that
    hides it in the missing wedge. The sample is estimated as
    ``e = A_M x + (1 - A_M)(D p(x) + noise)``, see `explain`; the noise has the power of the
    residual. Then::

        q = p(A_M R e),      loss = |A_(M_R)(R p(x) - q)|^2 / (|A_(M_R) R p(x)|^2 + |A_(M_R) q|^2)

    Differences count only at the frequencies ``M_R`` that were measured before the rotation, so q
    may complete a membrane that x never showed. ``p(x)`` is the teacher and has no gradient, which
    prevents a collapse to empty segmentations. The objective adapts equivariant imaging, as used
    for restoration (Chen et al. 2021; IsoNet, DeepDeWedge, ICECREAM), to probabilities.

    With a `confidence`, both maps are set to 0 where the teacher is less certain than that, as in
    FixMatch (Sohn et al. 2020), so that an unsure teacher teaches nothing.

    Args:
        halves: whether the teacher sees one half tomogram and the student the other, whose noise
            is independent.
        noise: whether the missing wedge is also filled with noise.
        widths: standard deviations of the windows of `explain`, voxels.
        confidence: least probability, of a class or of its absence, at which the teacher counts;
            at 0.5 it counts everywhere.

    Raises:
        ValueError: if the confidence is not from 0.5 to below 1; when called, if the batch has no
            wedge, keys or halves.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> from cryojax_seg.training import Batch
    >>> volume = jax.random.normal(jax.random.key(0), (1, 8, 8, 8))
    >>> wedge = jax.tree.map(lambda a: jnp.full(1, a), MissingWedge((-60.0, 60.0)))
    >>> batch = Batch(volume, wedge=wedge, key=jax.random.split(jax.random.key(1), 1))
    >>> bool(0 < jax.jit(equivariant())(GlobalThreshold(0.0), batch) < 1)
    True
    """

    if not 0.5 <= confidence < 1:
        raise ValueError(f"confidence is a probability, from 0.5 to below 1, got {confidence}")

    def objective(segmenter: Segmenter, batch: Any) -> Scalar:
        require("equivariant", batch, "wedge", "key", *(("halves",) if halves else ()))
        volumes = finite(batch)
        keys = jax.vmap(lambda key: jax.random.split(key, 3))(batch.key)
        teachers = students = volumes
        if halves:
            first = jax.vmap(lambda key: jax.random.bernoulli(key))(keys[:, 2])
            swapped = first[:, None, None, None]
            teachers = jnp.where(swapped, batch.halves[:, 0], batch.halves[:, 1])
            students = jnp.where(swapped, batch.halves[:, 1], batch.halves[:, 0])
        p = jax.lax.stop_gradient(foreground(logits_of(segmenter, teachers)))

        def rotated(student: Volume, p: Array, wedge: MissingWedge, key: Array):
            transfer = wedge.transfer(student.shape).astype(student.dtype)
            density, left = explain(student, p, transfer, widths)
            fill = density
            if noise:
                fill = fill + _like_noise(left, transfer, key[0])
            estimate = (
                fourier.apply_gain(student, transfer) + fill - fourier.apply_gain(fill, transfer)
            )
            matrix = random_rotation(wedge, student.shape, key[1])
            estimate, p = rotate_on_grid(matrix, estimate, p)
            return (
                fourier.apply_gain(estimate, transfer),
                p,
                wedge.rotate(matrix.astype(transfer.dtype)),
            )

        inputs, targets, wedges = jax.vmap(rotated)(students, p, batch.wedge, keys)
        inputs = jax.lax.stop_gradient(inputs)
        q = foreground(logits_of(segmenter, inputs))
        if confidence > 0.5:
            sure = certain(targets, confidence)
            targets, q = sure * targets, sure * q

        apart, energy = jax.vmap(disagreement)(targets, q, wedges)
        return apart.sum() / (energy.sum() + 1.0)

    return objective
