"""Sorts particles into classes by the reference that fits each best."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cryojax_seg.core.types import Array
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.particles.align import Poses, Rotations, Volumes, align_particles
from cryojax_seg.particles.average import average_particles


class Classification(NamedTuple):
    """Holds the classes of particles, with their averages.

    Returned by `classify_particles`.

    Attributes:
        classes: int ``(n,)``, the class of each particle, from 0.
        poses: the pose of each particle in its class.
        references: ``(class, z, y, x)``, the wedge-compensated averages.
        changed: for each iteration, the share of the particles that changed class.
    """

    classes: np.ndarray
    poses: Poses
    references: np.ndarray
    changed: tuple[float, ...]


@functools.partial(jax.jit, static_argnames=("max_shift", "steps"))
def _aligned(volumes, reference, poses, transfer, near, max_shift, steps):
    return align_particles(volumes, reference, poses, transfer, near, max_shift, steps)


_averaged = jax.jit(average_particles)


def classify_particles(
    volumes: Volumes,
    references: Array,
    poses: Poses,
    wedge: MissingWedge | None = None,
    mask: Array | None = None,
    local_rotations: Rotations | None = None,
    max_shift: float | int = 2.0,
    steps: int = 0,
    iterations: int = 10,
) -> Classification:
    """Classify particles by multi-reference alignment.

    Two steps alternate until no particle changes class: particles are aligned to all references by
    constrained correlation and assigned to the best, and each reference becomes the
    wedge-compensated average of its particles. A reference without particles stays as it is. This
    converges to the nearest optimum: start from references that differ, such as averages of random
    subsets or known structures.

    Args:
        volumes: ``(n, z, y, x)`` with one wedge.
        references: ``(class, z, y, x)`` initial references.
        poses: initial poses of the particles.
        wedge: missing wedge of the tomogram.
        mask: soft mask with which the references are multiplied.
        local_rotations: rotations to try around each pose; by default the pose itself alone.
        max_shift: largest change of the offset, in voxels.
        steps: number of steps of the gradient refinement; 0 for none.
        iterations: largest number of iterations.

    Raises:
        ValueError: if there are fewer than two references, or their shape is not the particles'.

    >>> references = np.random.default_rng(0).normal(size=(2, 8, 8, 8)).astype(np.float32)
    >>> poses = Poses(np.tile(np.eye(3), (3, 1, 1)), np.zeros((3, 3)), np.zeros(3))
    >>> classify_particles(references[[0, 1, 0]], references, poses).classes.tolist()
    [0, 1, 0]
    """
    references = np.array(references)
    if references.ndim != 4 or len(references) < 2:
        raise ValueError(f"references must be (class, z, y, x), two or more: {references.shape}")
    volumes = jnp.asarray(volumes)
    shape, dtype = volumes.shape[1:], volumes.dtype
    half = (*shape[:2], shape[2] // 2 + 1)
    transfer = jnp.ones(half, dtype) if wedge is None else wedge.transfer(shape).astype(dtype)
    near = jnp.eye(3)[None] if local_rotations is None else local_rotations
    near = jnp.asarray(near, dtype)
    count = len(volumes)
    classes, changed = np.full(count, -1), []
    for _ in range(iterations):
        found = []
        for reference in references:
            masked = jnp.asarray(reference, dtype)
            masked = masked if mask is None else masked * jnp.asarray(mask, dtype)
            found.append(_aligned(volumes, masked, poses, transfer, near, max_shift, steps))
        scores = np.stack([np.asarray(f.scores) for f in found])
        best = scores.argmax(0)
        each = np.arange(count)
        parts = [np.stack([np.asarray(f[i]) for f in found])[best, each] for i in range(3)]
        poses = Poses(*parts)
        changed.append(float(np.mean(best != classes)) if count else 0.0)
        classes = best
        for number in range(len(references)):
            mine = np.flatnonzero(classes == number)
            if mine.size:
                own = Poses(*(part[mine] for part in parts))
                references[number] = np.asarray(_averaged(volumes[mine], own, wedge).compensated())
        if changed[-1] == 0:
            break
    return Classification(classes, poses, references, tuple(changed))
