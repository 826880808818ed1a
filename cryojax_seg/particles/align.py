"""Finds poses of particles by constrained correlation, in a search and by its gradient.

With M the wedge of the particles (in the frame of the tomogram), F the transform of a particle, G_R
that of the rotated reference, and t an offset, the score is the correlation over what was measured,

    CC(R, t) = sum_k M conj(G_R) F e^(2 pi i k t) / sqrt(sum_k M |G_R|^2 * sum_k M |F|^2)

(Förster et al. 2005, PNAS 102:4729), which is 1 for a particle that is the reference behind its
wedge. The zero frequency is left out.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from cryojax_seg.core import fourier
from cryojax_seg.core.plain import Shape
from cryojax_seg.core.rotation import rotation_from_vector
from cryojax_seg.core.types import Array, Scalar, Volume
from cryojax_seg.particles.interpolate import resample, spline_coefficients

Volumes = Float[Array, "n _z _y _x"]
Rotations = Float[Array, "k 3 3"]
Transfer = Float[Array, "_z _y _half_x"]


class Poses(NamedTuple):
    """Holds rotations of particles and their offsets in their boxes: ``sample = R @ ref + offset``.

    Attributes:
        rotations: ``(n, 3, 3)`` rotation matrices in zyx order.
        offsets: ``(n, 3)`` offsets from the middle voxel of the box, in voxels, zyx.
        scores: ``(n,)`` constrained correlations, -1 to 1.

        >>> import numpy as np
        >>> Poses(np.eye(3)[None], np.zeros((1, 3)), np.ones(1)).offsets.shape
        (1, 3)
    """

    rotations: Array
    offsets: Array
    scores: Array


def _weights(transfer: Array, shape: Shape) -> Array:
    """Return the transfer times the multiplicity of each frequency in the full transform."""
    counts = fourier.multiplicity(shape).astype(transfer.dtype)
    return (jnp.asarray(transfer) * counts).at[0, 0, 0].set(0.0)


def _inner(weights: Array, a: Any, b: Any) -> jax.Array:
    return jnp.sum(weights * (a.real * b.real + a.imag * b.imag), (-3, -2, -1))


def constrained_correlation(first: Volume, second: Volume, transfer: Transfer) -> Scalar:
    """Return the correlation of two volumes over the frequencies measured in both.

    It is 0 if one of them has no signal there.

    Args:
        first, second: volumes of one shape.
        transfer: weights on the rfftn grid, such as ``wedge.transfer(shape)``; for a reference with
            a wedge of its own the product of both, or the product with a `core.fourier` band.

    >>> import jax
    >>> from cryojax_seg.core import MissingWedge
    >>> wedge = MissingWedge((-60.0, 60.0))
    >>> volume = jax.random.normal(jax.random.key(0), (8, 8, 8))
    >>> seen = wedge.apply(volume)
    >>> float(constrained_correlation(volume, seen, wedge.transfer((8, 8, 8))).round(4))
    1.0
    """
    weights = _weights(jnp.asarray(transfer), first.shape)
    a, b = fourier.rfftn(first), fourier.rfftn(second)
    energy = _inner(weights, a, a) * _inner(weights, b, b)
    safe = jnp.where(energy > 0, energy, 1.0)
    return jnp.where(energy > 0, _inner(weights, a, b) / jnp.sqrt(safe), 0.0)


def search_poses(
    volumes: Volumes,
    reference: Volume,
    rotations: Rotations,
    transfer: Transfer,
    max_shift: float | int,
) -> Poses:
    """Find the best rotation for each particle, and the best integer offset with it, by FFT.

    The rotations are scanned, so memory does not grow with their number. It is compiled by
    `jax.jit`, with the shapes and `max_shift` static.

    Args:
        volumes: particles ``(n, z, y, x)`` with one wedge.
        reference: ``(z, y, x)``, 0 where it is to be ignored (multiply it with a soft mask).
        rotations: rotations to try, such as `uniform_rotations`.
        transfer: transfer of the wedge on the rfftn grid, times a band if only that counts.
        max_shift: largest offset, in voxels.

    Raises:
        ValueError: if the reference differs in shape from the particles.

    >>> import numpy as np
    >>> shape = (8, 8, 8)
    >>> reference = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    >>> volumes = np.roll(reference, 2, axis=2)[None]
    >>> rotations = np.eye(3, dtype=np.float32)[None]
    >>> poses = search_poses(volumes, reference, rotations, np.ones((8, 8, 5), np.float32), 3)
    >>> poses.offsets.tolist(), round(float(poses.scores[0]), 3)
    ([[0.0, 0.0, 2.0]], 1.0)
    """
    _check(volumes, reference)
    shape, count = reference.shape, volumes.shape[0]
    volumes, reference = jnp.asarray(volumes), jnp.asarray(reference)
    weights = _weights(jnp.asarray(transfer), shape)
    masked = jnp.asarray(transfer).at[0, 0, 0].set(0.0)
    spectra = jax.vmap(fourier.rfftn)(volumes)
    energies = _inner(weights[None], spectra, spectra)
    coefficients = spline_coefficients(reference)
    offsets = _offsets(shape, reference.dtype)
    z, y, x = (jnp.square(o) for o in offsets)
    allowed = z + y + x <= max_shift * max_shift + 1e-6
    size = shape[0] * shape[1] * shape[2]

    def step(best, item):
        number, rotation = item
        rotated = fourier.rfftn(resample(coefficients, rotation, jnp.zeros(3, reference.dtype)))
        product = spectra * (masked.astype(rotated.dtype) * jnp.conj(rotated))[None]
        maps = jax.vmap(lambda s: fourier.irfftn(s, shape))(product)
        flat = jnp.where(allowed[None], maps, -jnp.inf).reshape(count, -1)
        where = jnp.argmax(flat, 1)
        found = jnp.take_along_axis(flat, where[:, None], 1)[:, 0]
        energy = energies * _inner(weights, rotated, rotated)
        safe = jnp.where(energy > 0, energy, 1.0)
        score = jnp.where(energy > 0, found * size / jnp.sqrt(safe), 0.0)
        better = score > best[0]
        new = (score, jnp.full(count, number, jnp.int32), where.astype(jnp.int32))
        return tuple(jnp.where(better, n, b) for n, b in zip(new, best, strict=True)), None

    start = (
        jnp.full(count, -jnp.inf, reference.dtype),
        jnp.zeros(count, jnp.int32),
        jnp.zeros(count, jnp.int32),
    )
    rotations = jnp.asarray(rotations, reference.dtype)
    numbers = jnp.arange(rotations.shape[0], dtype=jnp.int32)
    (score, number, where), _ = jax.lax.scan(step, start, (numbers, rotations))
    flat = [jnp.broadcast_to(o, shape).ravel()[where] for o in offsets]
    return Poses(rotations[number], jnp.stack(flat, -1), score)


def _offsets(shape: Shape, dtype) -> list[Array]:
    """Return the offset that each voxel of a correlation map represents, along each axis."""
    axes = [jnp.fft.fftfreq(n, 1 / n).astype(dtype) for n in shape]
    return [a.reshape([-1 if i == j else 1 for j in range(3)]) for i, a in enumerate(axes)]


def refine_poses(
    volumes: Volumes,
    reference: Volume,
    poses: Poses,
    transfer: Transfer,
    steps: int = 8,
    max_shift: float | int = 3.0,
) -> Poses:
    """Refine poses to the nearest maximum of the correlation, by its gradient.

    Each step is one of Levenberg and Marquardt (Marquardt 1963) on ``|M (F - a G(R, t))|^2``, whose
    minimum over the scale a is the maximum of the correlation; derivatives in the rotation vector
    and the offset go through the spline interpolation. A step that would lower the score is
    rejected.

    Args:
        volumes, reference, transfer: as for `search_poses`.
        poses: initial poses, within about half the width of the reference's finest detail.
        steps: number of steps; 8 converge from 5 degrees and a voxel away.
        max_shift: largest change of the offset, in voxels.

    Raises:
        ValueError: if the reference differs in shape from the particles.

    >>> import numpy as np
    >>> ball = np.square(np.indices((16, 16, 16)) - 8.0)
    >>> reference = np.exp(-(ball / np.array([4.0, 9.0, 16.0])[:, None, None, None]).sum(0))
    >>> reference = reference.astype(np.float32)
    >>> volumes = np.roll(reference, 1, axis=2)[None]
    >>> start = Poses(np.eye(3, dtype=np.float32)[None], np.zeros((1, 3), np.float32), np.zeros(1))
    >>> poses = refine_poses(volumes, reference, start, np.ones((16, 16, 9), np.float32))
    >>> abs(poses.offsets).round(2).tolist()
    [[0.0, 0.0, 1.0]]
    """
    _check(volumes, reference)
    reference = jnp.asarray(reference)
    shape, dtype = reference.shape, reference.dtype
    weights = _weights(jnp.asarray(transfer), shape)
    coefficients = spline_coefficients(reference)
    arm = min(shape) / 4  # voxels that an angle of one radian moves, to scale the two

    def rotated(change, rotation, offset):
        change_of_rotation = rotation_from_vector(change[:3] / arm)
        return resample(coefficients, change_of_rotation @ rotation, offset + change[3:])

    def one(item):
        volume, rotation, offset = item
        spectrum = fourier.rfftn(volume)
        energy = _inner(weights, spectrum, spectrum)
        first_offset, zero = offset, jnp.zeros(6, dtype)

        def score_at(change, rotation, offset):
            g = fourier.rfftn(rotated(change, rotation, offset))
            both = energy * _inner(weights, g, g)
            safe = jnp.where(both > 0, both, 1.0)
            return jnp.where(both > 0, _inner(weights, g, spectrum) / jnp.sqrt(safe), 0.0)

        def step(state, _):
            rotation, offset, score, damping = state
            g = fourier.rfftn(rotated(zero, rotation, offset))
            slopes = jax.jacfwd(rotated)(zero, rotation, offset)
            slopes = jax.vmap(fourier.rfftn)(jnp.moveaxis(slopes, -1, 0))
            gg = _inner(weights, g, g)
            scale = _inner(weights, g, spectrum) / jnp.where(gg > 0, gg, 1.0)
            along = _inner(weights[None], slopes, g[None])
            normal = jax.vmap(lambda s: _inner(weights[None], slopes, s[None]))(slopes)
            normal = normal - along[:, None] * along[None] / jnp.where(gg > 0, gg, 1.0)
            right = _inner(weights[None], slopes, spectrum[None]) - scale * along
            right = right / jnp.where(jnp.abs(scale) > 1e-12, scale, 1.0)
            ridge = damping * jnp.diag(normal) + 1e-6 * jnp.trace(normal) + 1e-30
            change = jnp.linalg.solve(normal + jnp.diag(ridge), right)
            change = jnp.where(jnp.isfinite(change), change, 0.0)
            change = change / jnp.maximum(1.0, jnp.linalg.norm(change) / 2)  # two voxels at most
            there = score_at(change, rotation, offset)
            far = jnp.sum(jnp.square(offset + change[3:] - first_offset)) > max_shift * max_shift
            better = (there > score) & ~far
            rotation = jnp.where(
                better, rotation_from_vector(change[:3] / arm) @ rotation, rotation
            )
            offset = jnp.where(better, offset + change[3:], offset)
            damping = jnp.where(better, damping / 5, damping * 5)
            return (rotation, offset, jnp.where(better, there, score), damping), None

        start = (rotation, offset, score_at(zero, rotation, offset), jnp.asarray(0.01, dtype))
        (rotation, offset, score, _), _ = jax.lax.scan(step, start, None, length=steps)
        return rotation, offset, score

    items = (
        jnp.asarray(volumes),
        jnp.asarray(poses.rotations, dtype),
        jnp.asarray(poses.offsets, dtype),
    )
    return Poses(*jax.lax.map(one, items))


def align_particles(
    volumes: Volumes,
    reference: Volume,
    poses: Poses,
    transfer: Transfer,
    local_rotations: Rotations,
    max_shift: float | int = 3.0,
    steps: int = 8,
) -> Poses:
    """Find the best pose around a known one, by a local search and then `refine_poses`.

    Args:
        volumes, reference, transfer: as for `search_poses`.
        poses: initial poses.
        local_rotations: rotations that are applied to each pose in the search, such as
            `rotations_near`.
        max_shift: largest change of the offset, in voxels.
        steps: number of steps of the refinement; 0 for none.

    Raises:
        ValueError: if the reference differs in shape from the particles.

    >>> import numpy as np
    >>> ball = np.square(np.indices((16, 16, 16)) - 8.0)
    >>> reference = np.exp(-(ball / np.array([4.0, 9.0, 16.0])[:, None, None, None]).sum(0))
    >>> reference = reference.astype(np.float32)
    >>> volumes = np.roll(reference, 1, axis=2)[None]
    >>> start = Poses(np.eye(3, dtype=np.float32)[None], np.zeros((1, 3), np.float32), np.zeros(1))
    >>> local = np.eye(3, dtype=np.float32)[None]
    >>> poses = align_particles(volumes, reference, start, np.ones((16, 16, 9)), local, steps=0)
    >>> poses.offsets.tolist()
    [[0.0, 0.0, 1.0]]
    """
    _check(volumes, reference)
    reference = jnp.asarray(reference)
    dtype, local = reference.dtype, jnp.asarray(local_rotations, reference.dtype)

    def one(item):
        volume, rotation, offset = item
        # Moved back by whole voxels, so that the search is about the middle and nothing is lost.
        whole = jnp.round(offset).astype(jnp.int32)
        moved = jnp.roll(volume, -whole, (0, 1, 2))
        found = search_poses(moved[None], reference, local @ rotation, transfer, max_shift)
        return Poses(found.rotations[0], found.offsets[0] + whole.astype(dtype), found.scores[0])

    items = (
        jnp.asarray(volumes),
        jnp.asarray(poses.rotations, dtype),
        jnp.asarray(poses.offsets, dtype),
    )
    found = jax.lax.map(one, items)
    return refine_poses(volumes, reference, found, transfer, steps, max_shift) if steps else found


def _check(volumes: Volumes, reference: Volume) -> None:
    if tuple(volumes.shape[1:]) != tuple(reference.shape):
        raise ValueError(
            f"the reference has shape {tuple(reference.shape)} and the particles "
            f"{tuple(volumes.shape[1:])}; crop or pad one of them to the other's"
        )
