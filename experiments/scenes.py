"""Makes the simulated membranes that several experiments share."""

import functools

import jax
import numpy as np

from cryojax_seg import core, segmenters, training
from cryojax_seg.simulate import Phantom, WedgeImaging, presets, simulate

WEDGE = core.MissingWedge((-60.0, 60.0))


@functools.cache
def phantom(seed: int, edge: int, snr: float, wedge: core.MissingWedge = WEDGE) -> Phantom:
    """Make vesicles and sheets in a cube of 10 A voxels, imaged with noise and this wedge."""
    scene_key, imaging_key = jax.random.split(jax.random.key(seed))
    scene = presets.vesicles(scene_key, (edge,) * 3, 10.0)
    return simulate(scene, WedgeImaging(snr=snr, wedge=wedge), imaging_key)


def example(one: Phantom, wedge: core.MissingWedge = WEDGE) -> training.Example:
    """Return a phantom with dense labels of its membrane as a training example."""
    labels = np.asarray(one.labels == 1, np.int32)
    return training.Example(
        core.normalize(np.asarray(one.density), "bright"),
        labels,
        wedge=wedge,
        normals=np.asarray(one.truth.normals),
    )


def logits(segmenter: core.Segmenter, one: Phantom) -> np.ndarray:
    """Return the logits of a phantom, with the normalisation of the network fitted to it."""
    volume = core.normalize(np.asarray(one.density), "bright")
    return core.apply(segmenters.fit_normalization(segmenter, volume), volume)


def tilt_range_of(half_tilt: int) -> core.MissingWedge | None:
    """Return the missing wedge of half a tilt range in degrees; from 90 on there is none."""
    return None if half_tilt >= 90 else core.MissingWedge((-float(half_tilt), float(half_tilt)))


def vesicles(
    seed: int, snr: float, drift: bool, half_tilt: int, edge: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return a normalized volume and its labels; only seed and drift determine the scene."""
    by_scene, by_noise = jax.random.split(jax.random.key(seed))
    preset = presets.contrast_drift if drift else presets.vesicles
    scene = preset(by_scene, (edge,) * 3, 10.0)
    one = simulate(scene, WedgeImaging(snr=snr, wedge=tilt_range_of(half_tilt)), by_noise)
    volume = core.normalize(np.asarray(one.density), "bright")
    return volume, np.asarray(one.labels == 1, np.int32)
