"""Finds positions and rotations of a known structure in a tomogram by template matching.

For each rotation R, with the template T_R = R T behind the wedge of the tomogram, a mask m about
the middle voxel, weighted means ``<.>`` under it and sums over the voxels u of the template's box,

    score(r) = sum_u m (T_R - <T_R>) V(r + u) / sqrt(sum_u m (T_R - <T_R>)^2 * sum_u m (V - <V>)^2)

(Roseman 2003, Ultramicroscopy 94:225, with the constrained correlation's wedge; Förster et al.
2005). It lies between -1 and 1, and is 1 where the volume is the template times any gain plus any
offset. The sums over all r are products in Fourier space.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
from jaxtyping import Bool, Float

from cryojax_seg.core import fourier
from cryojax_seg.core.blocks import Readable, read, release
from cryojax_seg.core.particles import Particles
from cryojax_seg.core.plain import Shape
from cryojax_seg.core.types import Array, Volume
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.particles.interpolate import resample, spline_coefficients
from cryojax_seg.particles.resolution import soft_sphere

_BYTES = 36  # of working memory for each voxel of a block


class Match(NamedTuple):
    """Holds the best rotation at each voxel, and its score.

    Returned by `match_template`.

    Attributes:
        scores: float32 ``(z, y, x)``, the best score, -1 to 1.
        numbers: int32 ``(z, y, x)``, the index of the rotation with this score.
        rotations: ``(k, 3, 3)``, the rotations that were tried.
    """

    scores: np.ndarray
    numbers: np.ndarray
    rotations: np.ndarray

    def without(self, missing: Bool[np.ndarray, "z y x"]) -> "Match":
        """Return the match with score 0 where nothing was measured."""
        return self._replace(scores=np.where(missing, np.float32(0), self.scores))

    def oriented(self, particles: Particles) -> Particles:
        """Return particles in the best rotations at their voxels."""
        voxels = np.rint(particles.coordinates).astype(int)
        return dataclasses.replace(
            particles, rotations=self.rotations[self.numbers[tuple(voxels.T)]]
        )


def match_template(
    volume: Readable | Array,
    template: Readable | Array,
    rotations: Float[Array, "k 3 3"],
    wedge: MissingWedge | None = None,
    mask: Array | None = None,
    memory: float = 4.0,
) -> Match:
    """Find the best score over all rotations at each voxel, tile by tile.

    The volume is continued by mirror images; tiles change the result by rounding only. Where the
    volume is constant under the mask the score is 0. The rotations are scanned in one compiled
    program, on the device on which JAX runs.

    Args:
        volume: ``(z, y, x)``, structure bright as in the template; may be a memory map.
        template: centred on its middle voxel, with the same voxel size, and with a margin in which
            the blur of the wedge stays inside.
        rotations: rotations to try, ``sample = R @ template``.
        wedge: missing wedge of the tomogram.
        mask: soft mask of the template's shape, and round, as it is not rotated; by default a
            `soft_sphere` that ends at the faces.
        memory: memory of the working arrays in GiB, which decides the size of the tiles.

    Raises:
        ValueError: if the template is constant under the mask, or larger than the volume.

    >>> rng = np.random.default_rng(0)
    >>> template = rng.normal(size=(8, 8, 8)).astype(np.float32)
    >>> volume = np.zeros((12, 14, 16), np.float32); volume[2:10, 3:11, 5:13] = 3 * template + 1
    >>> match = match_template(volume, template, np.eye(3)[None])
    >>> [int(i) for i in np.unravel_index(match.scores.argmax(), match.scores.shape)]
    [6, 7, 9]
    >>> round(float(match.scores.max()), 3)
    1.0
    """
    template = np.asarray(template, np.float32)
    if any(t > n for t, n in zip(template.shape, volume.shape, strict=True)):
        raise ValueError(f"the template {template.shape} is larger than the volume {volume.shape}")
    if mask is None:
        edge = 3.0 if min(template.shape) > 12 else 1.0
        mask = soft_sphere(template.shape, min(template.shape) / 2 - 0.5 - edge, edge)
    mask = np.asarray(mask, np.float32)
    if mask.shape != template.shape:
        raise ValueError(f"mask {mask.shape} and template {template.shape} differ in shape")
    known = template[mask > 0.5]
    if not known.size or known.min() == known.max():
        raise ValueError("the template is constant under its mask, so nothing can match it")
    tile, block = plan_blocks(volume.shape, template.shape, memory)
    transfer = None
    if wedge is not None:
        transfer = np.asarray(wedge.transfer(template.shape), np.float32)
    matrices = np.asarray(rotations, np.float32)
    scores = np.zeros(volume.shape, np.float32)
    numbers = np.zeros(volume.shape, np.int32)
    counts = [math.ceil(n / t) for n, t in zip(volume.shape, tile, strict=True)]
    for index in np.ndindex(*counts):
        start = [i * t for i, t in zip(index, tile, strict=True)]
        first = [s - t // 2 for s, t in zip(start, template.shape, strict=True)]
        part = read(volume, first, [f + b for f, b in zip(first, block, strict=True)])
        release(volume)
        best, number = best_rotations(_centred(part), template, mask, transfer, matrices)
        where = tuple(
            slice(s, min(s + t, n)) for s, t, n in zip(start, tile, volume.shape, strict=True)
        )
        inside = tuple(slice(0, w.stop - w.start) for w in where)
        scores[where] = np.asarray(best)[inside]
        numbers[where] = np.asarray(number)[inside]
    return Match(scores, numbers, np.asarray(rotations))


def plan_blocks(shape: Shape, template: Shape, memory: float) -> tuple[Shape, Shape]:
    """Return the shape of a tile, and that of its block, which suits the FFT.

    >>> plan_blocks((200, 512, 512), (32, 32, 32), 4.0)
    ((200, 512, 512), (231, 550, 550))
    """
    counts = [1, 1, 1]
    while True:
        tile = [math.ceil(n / c) for n, c in zip(shape, counts, strict=True)]
        block = [
            int(scipy.fft.next_fast_len(t + b - 1))  # pyright: ignore
            for t, b in zip(tile, template, strict=True)
        ]
        if math.prod(block) * _BYTES <= memory * 2**30 or max(tile) == 1:
            return tuple(tile), tuple(block)
        counts[int(np.argmax(tile))] += 1


def _centred(block: np.ndarray) -> np.ndarray:
    """Normalize to mean 0 and deviation 1, for precise sums of squares; NaN becomes the mean."""
    finite = np.isfinite(block)
    values = block if finite.all() else block[finite]
    mean = float(values.mean(dtype=np.float64)) if values.size else 0.0
    result = np.where(finite, block - np.float32(mean), np.float32(0))
    deviation = float(result.std(dtype=np.float64))
    return result / np.float32(deviation if deviation > 0 else 1.0)


@jax.jit
def best_rotations(
    block: Float[Array, "_z _y _x"],
    template: Volume,
    mask: Volume,
    transfer: Array | None,
    rotations: Float[Array, "k 3 3"],
) -> tuple[jax.Array, jax.Array]:
    """Return the best score and the index of its rotation, for one block in memory.

    Args:
        block: values of mean about 0 and standard deviation about 1.
        template, mask: as for `match_template`.
        transfer: transfer of the wedge on the template's rfftn grid.
        rotations: rotations to try.

    Returns:
        two volumes, smaller than the block by the template less one voxel. Their first voxel is the
        middle of a template that begins at the first voxel of the block.
    """
    block, template, mask = jnp.asarray(block), jnp.asarray(template), jnp.asarray(mask)
    spectrum = fourier.rfftn(block)
    valid = tuple(slice(0, b - t + 1) for b, t in zip(block.shape, template.shape, strict=True))

    def correlated(kernel, with_spectrum):
        # Leaving out the lines of zeros of the padded kernel was measured to gain nothing.
        padded = jnp.fft.rfftn(kernel, block.shape)
        return fourier.irfftn(jnp.conj(padded) * with_spectrum, block.shape)[valid]

    total = jnp.sum(mask)
    sums = correlated(mask, spectrum)
    squares = correlated(mask, fourier.rfftn(jnp.square(block)))
    spread = squares - jnp.square(sums) / total
    flat = spread < 1e-5 * total  # rounding of a constant, at deviation 1
    inverse = jnp.where(flat, 0.0, 1 / jnp.sqrt(jnp.where(flat, 1.0, spread)))
    coefficients = spline_coefficients(template)

    def step(best, item):
        number, rotation = item
        rotated = resample(coefficients, rotation, jnp.zeros(3, template.dtype))
        if transfer is not None:
            rotated = fourier.apply_gain(rotated, transfer)
        kernel = mask * (rotated - jnp.sum(mask * rotated) / total)
        # sum m (T - <T>)^2, of which the kernel has one factor m.
        norm = jnp.sum(kernel * (rotated - jnp.sum(mask * rotated) / total))
        kernel = kernel / jnp.sqrt(jnp.maximum(norm, 1e-20))
        score = correlated(kernel, spectrum)
        better = score > best[0]
        return (jnp.where(better, score, best[0]), jnp.where(better, number, best[1])), None

    shape = inverse.shape
    start = (jnp.full(shape, -jnp.inf, block.dtype), jnp.zeros(shape, jnp.int32))
    count = jnp.arange(rotations.shape[0], dtype=jnp.int32)
    (best, number), _ = jax.lax.scan(step, start, (count, jnp.asarray(rotations)))
    return jnp.where(flat, 0.0, best * inverse), number
