"""Makes single objects of known area, length and spacing, each of one visibility."""

import math

import jax
import numpy as np

from cryojax_seg import core, training
from cryojax_seg.simulate import (
    ActinBundle,
    Bilayer,
    Phantom,
    Placed,
    Scene,
    WedgeImaging,
    presets,
    simulate,
)
from cryojax_seg.simulate.placement import facing
from cryojax_seg.simulate.sheets import Disc
from cryojax_seg.simulate.types import ACTIN, MEMBRANE
from experiments.scenes import WEDGE

VOXEL = 10.0
SPACING = 140.0


def direction(task: str, angle: float) -> np.ndarray:
    """Return the normal or the filament axis at an angle from 0, invisible, to 90 degrees, visible.

    Normals turn from the beam to x; filaments turn by twice the angle, from x over y to the beam.
    """
    if task == "membranes":
        a = math.radians(angle)
        return np.array([math.cos(a), 0.0, math.sin(a)])
    a = 2 * math.radians(angle)
    if angle <= 45:
        return np.array([0.0, math.sin(a), math.cos(a)])
    return np.array([-math.cos(a), math.sin(a), 0.0])


def visibility(task: str, way: np.ndarray) -> float:
    """Return the visibility of an object with this normal or axis."""
    if task == "membranes":
        return float(WEDGE.visibility(np.asarray(way, np.float32)))
    side = np.cross(way, (0.0, 1.0, 0.0) if abs(way[1]) < 0.9 else (1.0, 0.0, 0.0))
    side /= np.linalg.norm(side)
    turn = np.linspace(0, np.pi, 2000, endpoint=False)[:, None]
    k = np.cos(turn) * side + np.sin(turn) * np.cross(way, side)
    steepest = math.tan(math.radians(WEDGE.tilt_range[1]))
    return float((np.abs(k[:, 0]) <= np.abs(k[:, 2]) * steepest + 1e-9).mean())


def scene_of(task: str, way: np.ndarray, edge: int, rng: np.random.Generator) -> Scene:
    """Return one object within two voxels of the middle of a volume."""
    middle = VOXEL * (edge - 1) / 2
    centre = middle + rng.uniform(-2 * VOXEL, 2 * VOXEL, 3)
    if task == "membranes":
        radius = middle * rng.uniform(0.55, 0.75)
        structure, axis = Bilayer(Disc(np.float32(radius))), 0
    else:
        length = middle * rng.uniform(1.1, 1.3)
        structure, axis = ActinBundle(np.float32(length), spacing=np.float32(SPACING)), 1
    rotation = facing(way, rng, axis).astype(np.float32)
    return Scene((Placed(structure, centre.astype(np.float32), rotation),), (edge,) * 3, VOXEL)


def phantom(scene: Scene, snr: float, seed: int) -> Phantom:
    return simulate(scene, WedgeImaging(snr=snr, wedge=WEDGE), jax.random.key(seed))


def labels_of(task: str, one: Phantom) -> np.ndarray:
    return np.asarray(one.labels == (MEMBRANE if task == "membranes" else ACTIN), np.int32)


def example(task: str, one: Phantom) -> training.Example:
    labels = labels_of(task, one)
    volume = core.normalize(np.asarray(one.density), "bright")
    normals = np.asarray(one.truth.normals)
    return training.Example(volume, labels, wedge=WEDGE, normals=normals)


def examples_of(
    task: str, count: int, seed: int, edge: int, snr: float, vesicles: bool
) -> list[training.Example]:
    """Return objects at random orientations; optionally every second scene has vesicles."""
    rng, found = np.random.default_rng(seed), []
    for i in range(count):
        if vesicles and task == "membranes" and i % 2:
            scene = presets.vesicles(jax.random.key(1000 * seed + i), (edge,) * 3, VOXEL)
        else:
            way = rng.normal(size=3)
            scene = scene_of(task, way / np.linalg.norm(way), edge, rng)
        found.append(example(task, phantom(scene, snr, 1000 * seed + i)))
    return found


def joined(examples: list[training.Example]) -> training.Example:
    """Join scenes along z, with the voxels near the joints not annotated."""
    weights = [np.array(e.weights) for e in examples]
    for w in weights:
        w[:6] = w[-6:] = 0
    volume, labels = (
        np.concatenate([np.asarray(getattr(e, name)) for e in examples])
        for name in ("volume", "labels")
    )
    return training.Example(volume, labels, np.concatenate(weights), WEDGE)
