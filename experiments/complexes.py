"""Makes crowded phantoms of nine similar complexes that experiments about many classes share."""

import functools
import math
from collections.abc import Sequence

import jax
import numpy as np

from cryojax_seg import core, training
from cryojax_seg.simulate import GaussianComplex, Phantom, Scene, WedgeImaging, simulate
from cryojax_seg.simulate.complexes import apoferritin
from cryojax_seg.simulate.placement import Occupancy, generator

WEDGE = core.MissingWedge((-60.0, 60.0))
VOXEL_SIZE = 10.0  # angstrom
SIGMA = 14.0  # angstrom
PEAK = 1.2  # density at the middle of a Gaussian, which is a domain of about 43 kDa
GRAIN = 34.0  # angstrom between the Gaussians of a compact part


def _ring(count: int, radius: float, height: float, phase: float = 0.0) -> np.ndarray:
    """Return points on a circle about the y axis, in angstrom."""
    angle = 2 * math.pi * (np.arange(count) + phase) / count
    heights = np.full(count, height)
    return np.stack([radius * np.cos(angle), heights, radius * np.sin(angle)], -1)


def _rings(*rings: tuple[int, float, float]) -> np.ndarray:
    """Return rings of (count, radius, height), each turned against the one before."""
    return np.concatenate([_ring(*ring, phase=0.5 * i) for i, ring in enumerate(rings)])


def _domain(semi_axes: Sequence[float], centre: Sequence[float] = (0, 0, 0)) -> np.ndarray:
    """Return the points of a cubic lattice in an ellipsoid, in angstrom."""
    ranges = [np.arange(-math.ceil(a / GRAIN), math.ceil(a / GRAIN) + 1) for a in semi_axes]
    grid = GRAIN * np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, 3)
    inside = np.square(grid / np.asarray(semi_axes)).sum(1) <= 1
    return grid[inside] + np.asarray(centre)


@functools.cache
def nine_complexes() -> dict[str, GaussianComplex]:
    """Return nine complexes of 120 to 290 angstrom, named after what their shapes resemble.

    They are rings, shells, rods and lobes of one density, so that only their shape tells them
    apart.
    """
    y = _domain((30.0, 62.0, 34.0))
    points = {
        "chaperonin": _rings((7, 50, -50), (7, 54, -18), (7, 54, 18), (7, 50, 50)),
        "proteasome core": _rings((7, 36, -54), (7, 40, -18), (7, 40, 18), (7, 36, 54)),
        "activated core": _rings(
            *((7, 26, -118), (7, 30, -86)),
            *((7, 36, -54), (7, 40, -18), (7, 40, 18), (7, 36, 54)),
            *((7, 30, 86), (7, 26, 118)),
        ),
        "unfoldase": _rings((6, 48, -22), (6, 52, 12), (6, 70, 26)),
        "tetramer": np.concatenate(
            [
                _domain((30.0, 44.0, 26.0), (a * 24, b * 40, a * b * 14))
                for a in (-1, 1)
                for b in (-1, 1)
            ]
        ),
        "rotary ATPase": np.concatenate(
            [_rings((6, 38, 78), (6, 42, 44)), _domain((14.0, 60.0, 14.0)), _ring(10, 40, -66)]
        ),
        "small subunit": np.concatenate([y, _domain((34.0, 30.0, 40.0), (26, 78, 8))]),
        "large subunit": _domain((66.0, 76.0, 70.0)),
    }
    made = {name: (p - p.mean(0), np.full(len(p), PEAK), SIGMA) for name, p in points.items()}
    ferritin = apoferritin()
    made["ferritin"] = (ferritin.centres, ferritin.weights, ferritin.sigma)
    most = max(len(centres) for centres, _, _ in made.values())
    return {name: _padded(*parts, most) for name, parts in made.items()}


def _padded(centres, weights, sigma: float, count: int) -> GaussianComplex:
    """Return a complex with this many Gaussians, some of no weight: one program draws them all."""
    more = count - len(centres)
    return GaussianComplex(
        np.pad(np.asarray(centres, np.float32), ((0, more), (0, 0))),
        np.pad(np.asarray(weights, np.float32), (0, more), constant_values=1e-20),
        np.float32(sigma),
    )


CLASSES = ("background", *nine_complexes())


def crowded(seed: int, per_class: int = 18, edge: int = 100, snr: float = 0.5) -> Phantom:
    """Place as many of each complex at random in a cube of 10 A voxels, and image it.

    The largest are placed first. A volume that has no room for all of them gets fewer.
    """
    scene_key, imaging_key = jax.random.split(jax.random.key(seed))
    occupancy = Occupancy((edge,) * 3, VOXEL_SIZE, generator(scene_key))
    occupancy.gap = 0.0  # angstrom; they may touch
    kinds = nine_complexes()
    placed = []
    for name in sorted(kinds, key=lambda n: -kinds[n].measurements()["volume"]):
        for _ in range(per_class):
            one = occupancy.place(kinds[name], name, inside=False, tries=200)
            if one is not None:
                placed.append(one)
    scene = Scene(tuple(placed), (edge,) * 3, VOXEL_SIZE)
    return simulate(scene, WedgeImaging(snr=snr, wedge=WEDGE), imaging_key)


def example(one: Phantom) -> training.Example:
    """Return a phantom with a label for each complex as a training example."""
    names = [CLASSES.index(p.name) for p in one.scene.objects]
    lookup = np.array([0, *names], np.int32)
    labels = lookup[np.asarray(one.truth.instances)]
    volume = core.normalize(np.asarray(one.density), "bright")
    return training.Example(volume, labels, wedge=WEDGE)
