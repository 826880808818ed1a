"""Simulates tomograms of known density and labels, from which restorers and segmenters learn."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from cryojax_seg import units
from cryojax_seg.core import Normalized, label_names, measure_intensity
from cryojax_seg.core.plain import Shape
from cryojax_seg.core.types import Key
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.simulate import CLASSES, Phantom, Scene, WedgeImaging, presets, simulate
from cryojax_seg.training.example import Example
from cryojax_seg.training.imaging import CONTEXT, Randomisation
from cryojax_seg.training.stream import Scenes, Stream

Kind = Callable[[Key, Shape, float], Scene]
KINDS = (presets.vesicles, presets.organelles, presets.cytoskeleton, presets.crowded)
LABELLED = (presets.crowded, presets.cytoskeleton, presets.vesicles)
TYPICAL = MissingWedge((-60.0, 60.0))
_EXTENT = 600.0  # angstrom, that the largest of `KINDS` needs
_SMALLEST = 300.0  # angstrom, that each of `LABELLED` needs
_SCENE = 340.0  # angstrom, that the preset `varied` needs also at the smallest voxel size


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
    examples = []
    edge = edge or _edge(voxel_size, _EXTENT, 64)
    for one in _phantoms(wedge, voxel_size, count, edge, snr, kinds, seed):
        density, truth = np.asarray(one.density), np.asarray(one.truth.density)
        intensity = measure_intensity(density, "bright")
        volume = np.asarray(Normalized(density, intensity)[:])
        # The mean of a density is not measured, and differs between truth and reconstruction.
        truth = ((truth - truth.mean()) * intensity.gain + volume.mean()).astype(np.float32)
        name = f"phantom {len(examples)}"
        examples.append(Example(volume, wedge=wedge, truth=truth, name=name))
    return examples


def labelled(
    classes: tuple[str, ...],
    wedge: MissingWedge | None,
    voxel_size: float,
    count: int = 12,
    *,
    edge: int | None = None,
    snr: tuple[float, float] = (0.05, 2.0),
    kinds: Sequence[Kind] = LABELLED,
    seed: int = 0,
) -> Iterator[Example]:
    """Simulate phantoms with labels of these classes, one after another, for `training.train`.

    They are imaged as by `simulated`, and normalised as a tomogram is. Structures of other classes
    are background.

    Args:
        classes: classes of the segmenter that learns, by the names of `simulate.CLASSES`.
        wedge: missing wedge of the tomograms of the user; None if unknown, where one of 60 degrees
            is simulated, and is as unknown to the training.
        voxel_size: their voxel size, in angstrom.
        count: number of phantoms.
        edge: edge of each phantom in voxels; by default 56, or more to cover 300 angstrom.
        snr: lowest and highest variance of the signal in structures over that of the noise.
        kinds: functions as in `simulate.presets`, used in turn.
        seed: seed of all random numbers.

    Raises:
        ValueError: naming a class that is not simulated; and as for `simulated`.

    >>> (one,) = labelled(("microtubule",), None, 10.0, 1, edge=32)
    >>> one.volume.shape, np.unique(one.labels).tolist()
    ((32, 32, 32), [0, 1])
    """
    names = label_names(classes)
    if missing := not_simulated(classes):
        raise ValueError(f"{', '.join(missing)}: no such class of {', '.join(CLASSES)}")
    table = np.array([names.index(name) if name in names[1:] else 0 for name in CLASSES], np.int32)
    edge = edge or _edge(voxel_size, _SMALLEST, 56)
    phantoms = _phantoms(wedge or TYPICAL, voxel_size, count, edge, snr, kinds, seed)
    for number, one in enumerate(phantoms):
        density = np.asarray(one.density)
        volume = np.asarray(Normalized(density, measure_intensity(density, "bright"))[:])
        labels = table[np.asarray(one.labels)]
        yield Example(volume, labels, wedge=wedge, name=f"phantom {number}")


def resembling(
    classes: tuple[str, ...],
    wedge: MissingWedge | None,
    voxel_size: float,
    patch: tuple[int, int, int],
    seed: int = 0,
    *,
    cache: Path | None = None,
) -> Stream:
    """Return scenes for phantoms with the classes, voxel size and wedge of the user's tomograms.

    Args:
        classes: classes of the segmenter that learns, by the names of `simulate.CLASSES`.
        wedge: missing wedge of the tomograms; None if unknown, where many are imaged.
        voxel_size: angstrom; the scenes vary by 10 %.
        patch: edges of the patches, voxels.
        seed: seed of the scenes.
        cache: folder in which the scenes are kept for the next training; None keeps none.

    >>> resembling(("membrane",), None, 10.0, (32, 32, 32)).scenes.shape
    (48, 48, 48)
    """
    edge = max(math.ceil(_SCENE / voxel_size), max(patch) + 2 * CONTEXT)
    sizes = (voxel_size, 0.9 * voxel_size, 1.1 * voxel_size)
    scenes = Scenes((-(-edge // 8) * 8,) * 3, sizes, seed=seed, cache=cache)
    ranges = Randomisation().like(wedge)
    return Stream(classes, scenes, size=24, every=50, first=8, ranges=ranges)


def not_simulated(classes: tuple[str, ...]) -> list[str]:
    """Return the classes other than the background that the simulation does not know.

    >>> not_simulated(("background", "membrane", "ribosome"))
    ['ribosome']
    """
    return [name for name in label_names(classes)[1:] if name not in CLASSES[1:]]


def _edge(voxel_size: float, extent: float, least: int) -> int:
    """Return the edge of phantoms in voxels that covers an extent in angstrom."""
    return max(least, 4 * math.ceil(extent / voxel_size / 4)) if voxel_size > 0 else least


def _phantoms(
    wedge: MissingWedge,
    voxel_size: float,
    count: int,
    edge: int,
    snr: tuple[float, float],
    kinds: Sequence[Kind],
    seed: int,
) -> Iterator[Phantom]:
    if count < 1 or not voxel_size > 0 or not 0 < snr[0] <= snr[1]:
        raise ValueError(
            f"count, voxel size and ratios are positive, got {count}, {voxel_size} and {snr}"
        )
    units.check("voxel_size", voxel_size, units.VOXEL_SIZE)
    rng = np.random.default_rng(seed)
    for number in range(count):
        by_scene, by_noise = jax.random.split(jax.random.fold_in(jax.random.key(seed), number))
        scene = kinds[number % len(kinds)](by_scene, (edge,) * 3, voxel_size)
        ratio = float(np.exp(rng.uniform(*np.log(snr))))
        yield simulate(scene, WedgeImaging(snr=ratio, wedge=wedge), by_noise)
