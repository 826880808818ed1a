"""Simulates tomograms of known density, from which a restorer can learn."""

import math
from collections.abc import Callable, Sequence

import jax
import numpy as np

from cryojax_seg import units
from cryojax_seg.core import Normalized, measure_intensity
from cryojax_seg.core.types import Key, Shape
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.simulate import Scene, WedgeImaging, presets, simulate
from cryojax_seg.training.example import Example

Kind = Callable[[Key, Shape, float], Scene]
KINDS = (presets.vesicles, presets.organelles, presets.cytoskeleton, presets.crowded)
_EXTENT = 600.0  # angstrom, that the largest of them needs


def simulated(
    wedge: MissingWedge,
    voxel_size: float,
    count: int = 32,
    *,
    edge: int | None = None,
    snr: tuple[float, float] = (0.05, 1.0),
    kinds: Sequence[Kind] = KINDS,
    seed: int = 0,
) -> list[Example]:
    """Simulate phantoms with their true density, for `losses.noise2clean`.

    The noise is that of `simulate.WedgeImaging` (power as one over the root of the frequency). The
    signal-to-noise ratio of each phantom is drawn from a range, uniformly in its logarithm; the
    wedge is the same for all. The phantoms have no labels.

    Args:
        wedge: missing wedge of the tomograms to restore.
        voxel_size: their voxel size, in angstrom.
        count: number of phantoms.
        edge: edge of each phantom in voxels; by default 64, or more to cover 600 angstrom.
        snr: lowest and highest variance of the signal in structures over that of the noise.
        kinds: functions as in `simulate.presets`, used in turn.
        seed: seed of all random numbers.

    Raises:
        ValueError: for a count, voxel size or range that is not positive, or if a scene does not
            fit.

    >>> (one,) = simulated(MissingWedge((-60.0, 60.0)), 10.0, 1, edge=32)
    >>> one.truth.shape, bool(np.corrcoef(one.volume.ravel(), one.truth.ravel())[0, 1] > 0.05)
    ((32, 32, 32), True)
    """
    if count < 1 or not voxel_size > 0 or not 0 < snr[0] <= snr[1]:
        raise ValueError(
            f"count, voxel size and ratios are positive, got {count}, {voxel_size} and {snr}"
        )
    units.check("voxel_size", voxel_size, units.VOXEL_SIZE)
    edge = max(64, 4 * math.ceil(_EXTENT / voxel_size / 4)) if edge is None else edge
    rng = np.random.default_rng(seed)
    examples = []
    for number in range(count):
        by_scene, by_noise = jax.random.split(jax.random.fold_in(jax.random.key(seed), number))
        scene = kinds[number % len(kinds)](by_scene, (edge,) * 3, voxel_size)
        ratio = float(np.exp(rng.uniform(*np.log(snr))))
        one = simulate(scene, WedgeImaging(snr=ratio, wedge=wedge), by_noise)
        density, truth = np.asarray(one.density), np.asarray(one.truth.density)
        intensity = measure_intensity(density, "bright")
        volume = np.asarray(Normalized(density, intensity)[:])
        # The mean of a density is not measured, and differs between truth and reconstruction.
        truth = ((truth - truth.mean()) * intensity.gain + volume.mean()).astype(np.float32)
        examples.append(Example(volume, wedge=wedge, truth=truth, name=f"phantom {number}"))
    return examples
