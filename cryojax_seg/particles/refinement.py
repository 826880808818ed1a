"""Refines two halves of the particles independently, and compares their averages."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from cryojax_seg.core.blocks import Readable
from cryojax_seg.core.types import Array, Volume
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.particles.align import Poses, align_particles
from cryojax_seg.particles.average import Average, average_particles
from cryojax_seg.particles.orientations import rotations_near
from cryojax_seg.particles.resolution import (
    ShellCorrelation,
    find_resolution,
    masked_shell_correlation,
    soft_sphere,
)

FEWEST_FOR_RESOLUTION = 10  # particles whose halves are compared; fewer agree or not by chance
_BATCH = 64  # boxes at a time
_MASK = 0.35  # of the edge of a box: radius of the mask, 0.7 of half the box
_FALL = 4.0  # voxels over which the mask falls to 0
_log = logging.getLogger("cryojax_seg.particles")


@dataclasses.dataclass(frozen=True, eq=False)
class Refinement:
    """Holds the averages and poses of two independent halves of the particles.

    Returned by `refine_halves`.

    Attributes:
        average: float32 ``(z, y, x)``, the wedge-compensated average of all particles.
        halves: the average of each half.
        poses: poses of all particles, in their order.
        correlation: Fourier shell correlation of the halves.
    """

    average: np.ndarray
    halves: tuple[np.ndarray, np.ndarray]
    poses: Poses
    correlation: ShellCorrelation

    def resolution(self, voxel_size_angstrom: float | int) -> float | None:
        """Return the resolution at a corrected shell correlation of 0.143, in angstrom.

        Returns:
            None for fewer than 10 particles, whose halves may agree by chance; infinity if not even
            the first shell agrees.
        """
        if len(self.poses.scores) < FEWEST_FOR_RESOLUTION:
            return None
        frequency, corrected = self.correlation.frequency, self.correlation.corrected
        return find_resolution(frequency, corrected, voxel_size_angstrom)

    def shells(self, voxel_size_angstrom: float | int) -> dict[str, list[float]]:
        """Return the correlations by shell, plain values by name.

        Returns:
            "frequency_per_angstrom", and "fsc_unmasked", "fsc_masked", "fsc_randomized" and
            "fsc_corrected", see `ShellCorrelation`.
        """
        names = ("unmasked", "masked", "randomized", "corrected")
        frequency = np.asarray(self.correlation.frequency) / voxel_size_angstrom
        return {
            "frequency_per_angstrom": frequency.tolist(),
            **{
                f"fsc_{name}": np.asarray(getattr(self.correlation, name), float).tolist()
                for name in names
            },
        }


def half_sets(numbers: Int[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
    """Divide particles into two independent halves by the number of their box.

    The order of the particles does not matter, and no box is in both halves.

    Args:
        numbers: the number of the box of each particle.

    Returns:
        indices of the particles of each half.

    Raises:
        ValueError: if there are fewer than two boxes.

    >>> [half.tolist() for half in half_sets(np.array([7, 3, 7, 5]))]
    [[0, 1, 2], [3]]
    """
    ranks = np.unique(numbers, return_inverse=True)[1]
    first, second = (np.flatnonzero(ranks % 2 == start) for start in (0, 1))
    if not len(second):
        raise ValueError("halves need particles from two boxes or more")
    return first, second


def refine_halves(
    boxes: Readable | Array,
    poses: Poses,
    wedge: MissingWedge,
    *,
    numbers: Int[np.ndarray, " n"] | None = None,
    iterations: int = 0,
    reference: Volume | None = None,
    angle: float | int = 9.0,
    spacing: float | int = 6.0,
    max_shift: float | int = 3.0,
    radius: float | int | None = None,
) -> Refinement:
    """Align and average two halves of the particles independently, and compare the averages.

    Args:
        boxes: cubes ``(n, z, y, x)`` in the orientation of their tomogram; only a few are in memory
            at a time.
        poses: initial poses, one for each particle.
        wedge: missing wedge of the tomogram.
        numbers: the number of the box of each particle; None if there is one box for each, in their
            order.
        iterations: number of rounds of alignment of each half to its own average; 0 averages the
            initial poses.
        reference: bright density ``(z, y, x)`` to which both halves are aligned in the first round;
            None for their own averages.
        angle: largest rotation around each pose in the first round, in degrees; halved after each
            round.
        spacing: angle between neighbouring rotations, in degrees; halved after each round.
        max_shift: largest change of an offset in a round, in voxels.
        radius: radius of the mask in voxels; None for 0.7 of half the box.

    Returns:
        averages, poses and the correlation of the halves.

    Raises:
        ValueError: for numbers and poses of different length, fewer than two boxes, or a reference
            of another shape.

    >>> volumes = np.random.default_rng(0).normal(size=(12, 8, 8, 8)).astype(np.float32)
    >>> poses = Poses(np.tile(np.eye(3), (12, 1, 1)), np.zeros((12, 3)), np.zeros(12))
    >>> found = refine_halves(volumes, poses, MissingWedge((-90.0, 90.0)))
    >>> bool(np.allclose(found.halves[0], volumes[::2].mean(0), atol=1e-4))
    True
    """
    count, shape = len(poses.scores), tuple(boxes.shape[1:])
    numbers = np.arange(boxes.shape[0]) if numbers is None else np.asarray(numbers)
    if len(numbers) != count:
        raise ValueError(f"there are {len(numbers)} numbers of boxes for {count} poses")
    if reference is not None and tuple(reference.shape) != shape:
        raise ValueError(
            f"reference has shape {tuple(reference.shape)} and the boxes {shape}; crop or pad it"
        )
    halves = half_sets(numbers)
    poses = Poses(*(np.asarray(part, np.float32) for part in poses))
    mask = soft_sphere(shape, _MASK * shape[0] if radius is None else radius, _FALL)
    task = _Task(boxes, numbers, wedge)
    align = jax.jit(functools.partial(align_particles, max_shift=max_shift))
    averages = [task.averaged(poses, half) for half in halves]
    for number in range(iterations):
        near = rotations_near(angle / 2**number, spacing / 2**number)
        parts = []
        for half, own in zip(halves, averages, strict=True):
            start = own.compensated() if number or reference is None else reference
            rotations = np.asarray(near, np.float32)
            parts.append(task.aligned(align, poses, half, jnp.float32(start) * mask, rotations))
        poses = _joined(parts, halves)
        averages = [task.averaged(poses, half) for half in halves]
        mean = float(np.mean(poses.scores))
        _log.info("round %d: mean correlation %.3f", number + 1, mean)
    first, second = (np.asarray(average.compensated()) for average in averages)
    whole = np.asarray((averages[0] + averages[1]).compensated())
    correlation = masked_shell_correlation(first, second, mask, jax.random.key(0))
    return Refinement(whole, (first, second), poses, correlation)


@dataclasses.dataclass(frozen=True, eq=False)
class _Task:
    """Reads the boxes of all particles, a few at a time."""

    boxes: Readable | Array
    numbers: np.ndarray
    wedge: MissingWedge

    def batches(self, poses: Poses, chosen: np.ndarray) -> Iterator[tuple[np.ndarray, Poses]]:
        for start in range(0, len(chosen), _BATCH):
            some = chosen[start : start + _BATCH]
            own = [np.asarray(part[some], np.float32) for part in poses]
            yield np.asarray(self.boxes[self.numbers[some]], np.float32), Poses(*own)

    def averaged(self, poses: Poses, chosen: np.ndarray) -> Average:
        parts = [_average(volumes, own, self.wedge) for volumes, own in self.batches(poses, chosen)]
        return functools.reduce(Average.__add__, parts)

    def aligned(
        self,
        align: Callable[..., Poses],
        poses: Poses,
        chosen: np.ndarray,
        reference: Volume,
        near: Float[Array, "k 3 3"],
    ) -> Poses:
        transfer = self.wedge.transfer(tuple(self.boxes.shape[1:]))
        found = [
            jax.device_get(align(volumes, reference, own, transfer, near))
            for volumes, own in self.batches(poses, chosen)
        ]
        return Poses(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


_average = jax.jit(average_particles)


def _joined(parts: list[Poses], halves: tuple[np.ndarray, np.ndarray]) -> Poses:
    """Return the poses of both halves in the order of the particles."""
    order = np.argsort(np.concatenate(halves))
    return Poses(*(np.concatenate(both)[order] for both in zip(*parts, strict=True)))
