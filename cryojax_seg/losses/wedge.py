"""Objectives that know what the tilt series did not measure.

All are ``objective(segmenter, batch) -> scalar`` (`losses.add` sums them) and use more of the batch
than its labels: the missing wedge of every patch, the normals of the true surfaces, the two half
tomograms, a random key. What is missing is named in the error.

Notation: ``A_M v`` is the volume v with only the measured frequencies M, ``R`` a rotation of the
cube, ``M_R`` the wedge rotated with the sample, ``p(x)`` the foreground probabilities of volume x.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from cryojax_seg.core import fourier
from cryojax_seg.core.loss import Objective, VoxelLogits, finite, logits_of
from cryojax_seg.core.rotation import cube_rotations, rotate_on_grid
from cryojax_seg.core.segmenter import Segmenter
from cryojax_seg.core.types import Array, Scalar, Volume
from cryojax_seg.core.wedge import MissingWedge

_SOURCE = {
    "labels": "labels: training.Example(..., labels=...)",
    "wedge": "the missing wedge of the tomogram: training.Example(..., wedge=MissingWedge(...))",
    "normals": "the normals of the true surfaces: training.Example(..., normals=...)",
    "halves": "the half tomograms: training.Example(..., halves=...)",
    "truth": "the density without noise: training.Example(..., truth=...), of simulations",
    "key": "random keys: training.train gives them, else Batch(..., key=jax.random.split(...))",
}


def require(who: str, batch: Any, *names: str) -> None:
    for name in names:
        if getattr(batch, name, None) is None:
            raise ValueError(f"losses.{who} needs {_SOURCE[name]}")


def _foreground(logits: VoxelLogits) -> VoxelLogits:
    """Probabilities of the classes but the background, with or without a batch."""
    if logits.shape[-1] == 1:
        return jax.nn.sigmoid(logits)
    return jax.nn.softmax(logits, axis=-1)[..., 1:]


def visibility_weights(
    batch: Any, emphasis: float, extent: float = 6.0, thickness: float = 1.5
) -> Array:
    """The weights of a batch times ``g(w(n)) = 1 + emphasis (1 - w(n))`` where there is a normal.

    Args:
        batch: with `normals` and `wedge`.
        emphasis: -1 forgives what cannot be seen (weight w), above 0 insists on it.
        extent, thickness: of the patch of surface that is looked at, voxels; see
            `MissingWedge.visibility`.

    Raises:
        ValueError: if the batch has no normals or no wedge, or emphasis is below -1.
    """
    if not emphasis >= -1:
        raise ValueError(f"emphasis must be at least -1 (weights are not negative), got {emphasis}")
    require("visibility_weighted", batch, "labels", "normals", "wedge")
    seen = jax.vmap(lambda wedge, normal: wedge.visibility(normal, extent, thickness))(
        batch.wedge, batch.normals
    )
    surface = jnp.square(batch.normals).sum(-1) > 0.25
    return batch.weights * jnp.where(surface, 1 + emphasis * (1 - seen), 1.0)


def visibility_weighted(
    objective: Objective, emphasis: float, extent: float = 6.0, thickness: float = 1.5
) -> Objective:
    """An objective in which voxels count by how much of their surface the tilt series measured.

    Works for every loss, as weights enter all their sums: cross-entropy, Dice, surface terms.

    Args:
        objective: for example ``losses.supervised(losses.cross_entropy)``.
        emphasis, extent, thickness: see `visibility_weights`.

    >>> from cryojax_seg import losses
    >>> hard = visibility_weighted(losses.supervised(losses.cross_entropy), emphasis=4.0)
    >>> forgiving = visibility_weighted(losses.supervised(losses.dice), emphasis=-1.0)
    """

    def weighted(segmenter: Segmenter, batch: Any) -> Scalar:
        weights = visibility_weights(batch, emphasis, extent, thickness)
        return objective(segmenter, dataclasses.replace(batch, weights=weights))

    return weighted


def _energy(volume: Volume) -> Scalar:
    return jnp.square(volume).mean()


def _measured(volume: Volume, transfer: Array) -> Volume:
    return fourier.apply_gain(volume, transfer)


def _least_squares(columns: Array, target: Volume) -> Array:
    """Coefficients of ``(i, z, y, x)`` columns, scaled to one length, with a ridge of 1e-6.

    For windows of one class are nearly parallel, and a class that is absent is a column of zeros.
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
    """The density that class probabilities stand for, and what of a volume it leaves unexplained.

    ``D p = d_0 + sum_c sum_s d_cs G_s * p_c``: a density and a profile for every class, as Gaussian
    windows of several widths. The coefficients that explain the volume best inside the measured
    region are the solution of a small least squares problem, so nothing else has to be learned
    (variable projection, Golub & Pereyra 1973); they are constants for the gradient, which is
    exact for the residual because they minimise it.

    Args:
        volume: ``(z, y, x)``.
        probability: ``(z, y, x, class)`` without the background.
        transfer: what was measured, in rfftn layout.
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
    transfer = jnp.asarray(transfer).at[0, 0, 0].set(0.0)  # the mean density d_0 explains itself
    seen = jax.vmap(lambda b: _measured(b, transfer))(basis)
    target = _measured(volume, transfer)
    coefficients = jax.lax.stop_gradient(_least_squares(seen, target))
    density = jnp.einsum("i,izyx->zyx", coefficients, basis)
    left = target - jnp.einsum("i,izyx->zyx", coefficients, seen)
    return density - density.mean() + volume.mean(), left


def forward_model(widths: tuple[float, ...] = (0.7, 2.0)) -> Objective:
    """Probabilities must explain the tomogram where it was measured; elsewhere they are free.

    ``|A_M (x - D p)|^2 / |A_M (x - mean x)|^2`` with the density `explain` gives to p; between 0
    and 1 up to the ridge of the fit. Needs no labels. Completing a membrane inside the wedge costs
    nothing, losing one that was measured does.

    Args:
        widths: of the profiles, voxels.

    Raises:
        ValueError: when called, if the batch has no wedge.
    """

    def objective(segmenter: Segmenter, batch: Any) -> Scalar:
        require("forward_model", batch, "wedge")
        volumes = finite(batch)
        p = _foreground(logits_of(segmenter, volumes, batch.wedge))

        def one(volume: Volume, probability: Array, wedge: MissingWedge) -> Scalar:
            transfer = wedge.transfer(volume.shape).astype(volume.dtype)
            _, left = explain(volume, probability, transfer, widths)
            spread = _energy(_measured(volume - volume.mean(), transfer))  # no mean, as `left`
            return _energy(left) / jnp.where(spread > 0, spread, 1.0)

        return jax.vmap(one)(volumes, p, batch.wedge).mean()

    return objective


def _like_noise(residual: Volume, transfer: Array, key: Array) -> Volume:
    """Noise outside of the measured region with the power the residual has in it, by shells."""
    shape = residual.shape
    power = fourier.shell_sum(jnp.square(jnp.abs(fourier.rfftn(residual))), shape)
    count = fourier.shell_sum(jnp.square(transfer), shape)
    amplitude = jnp.sqrt(jnp.maximum(power, 0) / jnp.maximum(count, 1.0) / residual.size)
    gain = fourier.shell_expand(amplitude, shape) * (1 - transfer)
    return fourier.apply_gain(jax.random.normal(key, shape, residual.dtype), gain)


def random_rotation(wedge: MissingWedge, shape: tuple[int, ...], key: Array) -> Array:
    """Return a random rotation of the grid that moves the wedge: ``(3, 3)`` integers, zyx order.

    Among the rotations of the cube that keep the shape, those whose wedge differs from the given
    one by at least half of what the most different one does.
    """
    table = jnp.asarray(cube_rotations(shape))
    here = wedge.transfer((12, 12, 12))
    there = jax.vmap(lambda r: wedge.rotate(r.astype(here.dtype)).transfer((12, 12, 12)))(table)
    different = jnp.abs(there - here[None]).mean((1, 2, 3))
    allowed = different >= 0.5 * different.max()
    return table[jax.random.categorical(key, jnp.where(allowed, 0.0, -jnp.inf))]


def disagreement(wanted: Array, found: Array, wedge: MissingWedge) -> tuple[Scalar, Scalar]:
    """``|A_M (a - b)|^2`` and ``|A_M a|^2 + |A_M b|^2`` of two probabilities ``(z, y, x, class)``.

    Only the measured frequencies M of this wedge count.
    """
    transfer = wedge.transfer(found.shape[:3]).astype(found.dtype)
    seen = jax.vmap(lambda v: _measured(v, transfer), in_axes=-1)
    a, b = seen(wanted), seen(found)
    return jnp.square(a - b).sum(), jnp.square(a).sum() + jnp.square(b).sum()


def equivariant(
    halves: bool = False, noise: bool = True, widths: tuple[float, ...] = (0.7, 2.0)
) -> Objective:
    """Penalise predictions that do not rotate with the sample.

    No labels: a membrane that the tilt series shows here must be found again after the rotation
    that hides it. With the estimate of the sample ``e = A_M x + (1 - A_M)(D p(x) + noise)``
    (`explain`; the noise has the power of what p leaves unexplained)::

        q = p(A_M R e),      loss = |A_(M_R)(R p(x) - q)|^2 / (|A_(M_R) R p(x)|^2 + |A_(M_R) q|^2)

    The difference counts only at frequencies ``M_R`` that were measured before the rotation: a
    membrane that x never showed is in neither, and q may complete it at no cost. ``p(x)`` is the
    teacher, without gradient, so that both cannot agree on nothing. After equivariant imaging as
    restorers use it (Chen et al. 2021; IsoNet, DeepDeWedge, ICECREAM), with probabilities in the
    place of densities.

    Args:
        halves: teach with one half tomogram and ask of the other, whose noise is independent.
        noise: fill the wedge with noise as well.
        widths: of the profiles, voxels.

    Raises:
        ValueError: when called, if the batch lacks the wedge, the keys or the halves.
    """

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
        p = jax.lax.stop_gradient(_foreground(logits_of(segmenter, teachers, batch.wedge)))

        def rotated(student: Volume, p: Array, wedge: MissingWedge, key: Array):
            transfer = wedge.transfer(student.shape).astype(student.dtype)
            density, left = explain(student, p, transfer, widths)
            fill = density
            if noise:
                fill = fill + _like_noise(left, transfer, key[0])
            estimate = _measured(student, transfer) + fill - _measured(fill, transfer)
            matrix = random_rotation(wedge, student.shape, key[1])
            estimate, p = rotate_on_grid(matrix, estimate, p)
            return _measured(estimate, transfer), p, wedge.rotate(matrix.astype(transfer.dtype))

        inputs, wanted, wedges = jax.vmap(rotated)(students, p, batch.wedge, keys)
        inputs = jax.lax.stop_gradient(inputs)
        q = _foreground(logits_of(segmenter, inputs, batch.wedge))

        apart, energy = jax.vmap(disagreement)(wanted, q, wedges)
        return apart.sum() / (energy.sum() + 1.0)

    return objective


def invented_energy(
    logits: VoxelLogits, labels: Array, weights: Array, wedge: MissingWedge
) -> tuple[Scalar, Scalar]:
    """Energy of structure predicted where the truth has none, in the wedge and outside of it.

    ``|(1 - A_M) f|^2`` and ``|A_M f|^2`` of the false foreground ``f = w (1 - y) p``, per voxel of
    annotated background. What lies in the wedge is supported by no measurement. Of one patch
    ``(z, y, x)``; the annotation should be dense, as a lone slice has energy everywhere.
    """
    known = weights > 0
    p = _foreground(jnp.where(known[..., None], logits, 0.0)).sum(-1)
    background = jnp.where(known & (labels == 0), weights, 0.0).astype(p.dtype)
    false = background * p
    transfer = wedge.transfer(false.shape).astype(false.dtype)
    seen = _measured(false, transfer)
    total = background.sum()
    total = jnp.where(total > 0, total, 1.0)
    return jnp.square(false - seen).sum() / total, jnp.square(seen).sum() / total


def hallucination(measured: float = 0.0) -> Objective:
    """Penalises invented structure, most where no measurement could contradict it.

    The mean over patches of `invented_energy`: in the wedge, plus `measured` times that outside.

    Args:
        measured: factor of what lies in the measured region, which other losses punish already.

    Raises:
        ValueError: when called, if the batch has no wedge.
    """

    def objective(segmenter: Segmenter, batch: Any) -> Scalar:
        require("hallucination", batch, "labels", "wedge")
        volumes = finite(batch)
        logits = logits_of(segmenter, volumes, batch.wedge)
        missing, seen = jax.vmap(invented_energy)(logits, batch.labels, batch.weights, batch.wedge)
        return (missing + measured * seen).mean()

    return objective
