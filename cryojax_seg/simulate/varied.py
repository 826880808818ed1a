"""Draws scenes of varied content, with which segmenters are trained.

All numbers that vary are leaves of the structures, and their static fields are the same in every
scene. So each kind of structure is compiled once, whatever is drawn.
"""

from collections.abc import Callable, Iterator

import jax
import numpy as np

from cryojax_seg.core.plain import Shape
from cryojax_seg.core.types import Key
from cryojax_seg.simulate.complexes import random_complex
from cryojax_seg.simulate.filaments import ActinFilament, Microtubule
from cryojax_seg.simulate.markers import CarbonFilm, GoldBead, IceCrystal
from cryojax_seg.simulate.placement import Occupancy, facing, random_direction
from cryojax_seg.simulate.populate import (
    CROWDING,
    Species,
    add_bundle,
    add_macromolecules,
    default_species,
    empty_volume,
    number,
)
from cryojax_seg.simulate.scene import Placed, Scene
from cryojax_seg.simulate.structures import Structure
from cryojax_seg.simulate.varied_membranes import add_membranes

DrawMembranes = Callable[[Occupancy, Key, bool, Species | None], list[Placed]]

EMPTY = 0.04  # share of scenes without any labelled structure
IN_VITRO = 0.1  # share of scenes with hardly anything but filaments
SHARES = {  # of the other scenes; of all scenes they are 0.85, 0.45 and 0.45 of the first three
    "membranes": 0.944,
    "microtubules": 0.41,
    "actin": 0.48,
    "macromolecules": 0.85,
    "gold beads": 0.25,
    "carbon film": 0.12,
    "ice": 0.08,
    "uneven ice": 0.15,
}


def varied(
    key: Key,
    shape: Shape,
    voxel_size: float,
    crowding: float | None = None,
    species: Species | None = None,
    proteins: Species | None = None,
    membranes: DrawMembranes = add_membranes,
) -> Scene:
    """Build a scene whose content is drawn at random, for the training of segmenters.

    Each kind of content is drawn independently, with the share of scenes in brackets; 4 % of the
    scenes have no labelled structures. A tenth of the scenes is as in vitro: one to three long
    straight filaments, four fifths of them microtubules, in nearly empty ice. All structures have
    all orientations with equal chances. An object for which there is no room is left out.

    - membranes (85 %), which fill 0.3 to 15 % of the voxels: flat and waved sheets, single or as
      stacks of up to six; vesicles, single, nested or in contact; tubules of 12 to 40 nm diameter,
      straight or bent, single or side by side; Golgi stacks; mitochondria; reticula. Thickness and
      density of the lipids vary, the lumen is brighter or darker than outside, and may be crowded;
      half of the membranes carry proteins;
    - microtubules (45 %) of 12 to 15 protofilaments, in any direction, a third as a bundle;
    - actin filaments (45 %), a third as a bundle;
    - macromolecules (85 %), up to 30 % of the free volume: random complexes of 60 kDa to 4 MDa that
      no other scene contains, and some of the known species;
    - gold beads (25 %), the edge of a carbon film (12 %) and lumps of ice (8 %), all of which are
      background;
    - contrast that changes across the volume (15 %).

    Args:
        key: random key; the same key gives the same scene.
        shape: voxels along z, y, x.
        voxel_size: angstrom.
        crowding: total volume of the macromolecules divided by the free volume, 0 to 0.3; None to
            draw it.
        species: known macromolecules by name, of which each scene gets up to four; None for
            ribosomes, proteasomes and small proteins. Each size of a map is compiled once, see
            `maps.of_one_size`.
        proteins: known membrane proteins by name, with the membrane normal to z at the origin.
            Half of the proteins on membranes are such; None for random complexes alone.
        membranes: draws the membranes; by default `varied_membranes.add_membranes`.

    Raises:
        ValueError: if the volume is thinner than 300 angstrom or crowding is out of range.

    >>> import jax
    >>> scene = varied(jax.random.key(4), (32, 32, 32), 10.0)
    >>> scene.shape, len(scene.objects) > 0
    ((32, 32, 32), True)
    """
    occupancy = empty_volume(key, shape, voxel_size, 300.0, "varied", crowding or 0.0)
    rng = occupancy.rng
    empty = rng.uniform() < EMPTY
    has = {name: bool(rng.uniform() < share) for name, share in SHARES.items()}
    in_vitro = rng.uniform() < IN_VITRO
    if in_vitro:
        has |= {"membranes": False, "microtubules": False, "actin": False, "ice": False}
    placed: list[Placed] = []
    if has["carbon film"]:
        placed.append(_carbon(occupancy, jax.random.fold_in(key, 1)))
        occupancy.add(placed[0])
    if has["membranes"] and not empty:
        by_membrane = jax.random.fold_in(key, 2)
        placed += membranes(occupancy, by_membrane, not has["carbon film"], proteins)
    if in_vitro and not empty:
        placed += _straight(occupancy)
    if has["microtubules"] and not empty:
        placed += _microtubules(occupancy)
    if has["actin"] and not empty:
        placed += _actin(occupancy)
    placed += _markers(occupancy, jax.random.fold_in(key, 3), has["gold beads"], has["ice"])
    if (has["macromolecules"] if crowding is None else crowding) and not empty:
        drawn = rng.uniform(0.0, 0.01) if in_vitro else rng.uniform(0.01, CROWDING[1])
        fraction = drawn if crowding is None else crowding
        chosen = _species(rng, default_species() if species is None else species)
        placed += add_macromolecules(occupancy, fraction, chosen)[0]
    contrast = _uneven(rng, occupancy.shape) if has["uneven ice"] else None
    return Scene(tuple(placed), occupancy.shape, occupancy.voxel_size, contrast)


def _filament_length(occupancy: Occupancy) -> np.ndarray:
    """Draw the length of a filament: from face to face, or shorter so that ends show."""
    diagonal, rng = float(np.linalg.norm(occupancy.extent)), occupancy.rng
    return number(1.1 * diagonal if rng.uniform() < 0.6 else rng.uniform(0.2, 0.8) * diagonal)


def _single(
    occupancy: Occupancy, make: Callable[[], Structure], name: str, count: int
) -> Iterator[Placed]:
    """Yield filaments at random places, of which half share one shape."""
    rng = occupancy.rng

    def turn(rng: np.random.Generator) -> np.ndarray:
        return facing(random_direction(rng), rng, axis=1)

    shared = make()
    for _ in range(count):
        structure = make() if rng.uniform() < 0.5 else shared
        one = occupancy.place(structure, name, turn, inside=False, tries=100)
        if one is not None:
            yield one


def _straight(occupancy: Occupancy) -> list[Placed]:
    """Return one to three filaments from face to face, most often one microtubule."""
    rng, found = occupancy.rng, []
    length = number(2.2 * float(np.linalg.norm(occupancy.extent)))
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        bend = number(rng.normal(0, 1 / 50000.0))
        if rng.uniform() < 0.8:
            wall = number(rng.choice([12.0, 13.0, 14.0, 15.0], p=[0.1, 0.5, 0.3, 0.1]))
            one = Microtubule(length, bend, wall), "microtubule"
        else:
            one = ActinFilament(length, bend), "actin"
        found += _single(occupancy, lambda one=one: one[0], one[1], 1)
    return found


def _microtubules(occupancy: Occupancy) -> list[Placed]:
    rng = occupancy.rng

    def tube() -> Microtubule:
        bend = rng.normal(0, 1 / rng.choice([30000.0, 6000.0]))
        wall = rng.choice([12.0, 13.0, 14.0, 15.0], p=[0.1, 0.5, 0.3, 0.1])
        return Microtubule(_filament_length(occupancy), number(bend), number(wall))

    if rng.uniform() < 1 / 3:
        spacing = rng.uniform(280.0, 400.0)  # 15 protofilaments are 286 angstrom wide
        return add_bundle(occupancy, tube(), "microtubule", int(rng.integers(2, 8)), spacing)
    return list(_single(occupancy, tube, "microtubule", int(rng.integers(1, 5))))


def _actin(occupancy: Occupancy) -> list[Placed]:
    rng = occupancy.rng

    def filament() -> ActinFilament:
        bend = rng.normal(0, 1 / rng.choice([20000.0, 4000.0]))
        return ActinFilament(_filament_length(occupancy), number(bend))

    if rng.uniform() < 1 / 3:
        spacing = rng.uniform(90.0, 150.0)
        return add_bundle(occupancy, filament(), "actin", int(rng.integers(4, 20)), spacing)
    return list(_single(occupancy, filament, "actin", int(rng.integers(1, 16))))


def _carbon(occupancy: Occupancy, key: Key) -> Placed:
    """Return a film whose edge crosses the volume."""
    rng = occupancy.rng
    radius, azimuth = rng.uniform(5000.0, 10000.0), rng.uniform(0, 2 * np.pi)
    film = CarbonFilm.random(
        key,
        number(radius),
        number(rng.uniform(100.0, 250.0)),
        number(rng.uniform(10.0, 50.0)),
        number(rng.uniform(1.5, 2.5)),
    )
    tilt = np.deg2rad(rng.normal(0, 3))
    outwards = np.array(
        [np.sin(tilt), np.cos(tilt) * np.sin(azimuth), np.cos(tilt) * np.cos(azimuth)]
    )
    edge = rng.uniform(0.15, 0.85, 3) * occupancy.extent
    up = np.array([1.0, 0.0, 0.0]) - outwards[0] * outwards
    rotation = facing(up, rng).astype(np.float32)
    return Placed(film, (edge - radius * outwards).astype(np.float32), rotation, "carbon film")


def _markers(occupancy: Occupancy, key: Key, beads: bool, ice: bool) -> list[Placed]:
    rng, found = occupancy.rng, []
    if beads:
        gold = GoldBead(number(rng.uniform(25.0, 75.0)), number(rng.uniform(5.0, 10.0)))
        found += [
            occupancy.place(gold, "gold bead", inside=False) for _ in range(rng.integers(1, 7))
        ]
    if ice:
        largest = 0.3 * float(occupancy.extent.min())
        for i in range(rng.integers(1, 4)):
            lump = IceCrystal.random(
                jax.random.fold_in(key, i),
                number(rng.uniform(0.25, 1.0) * largest),
                number(rng.uniform(0.05, 0.2)),
                number(rng.uniform(0.5, 2.0)),
            )
            found.append(occupancy.place(lump, "ice", inside=False))
    return [one for one in found if one is not None]


def _species(rng: np.random.Generator, known: Species) -> Species:
    """Return random complexes and a few of the known species."""
    count = min(int(rng.integers(0, 5)), len(known))
    chosen = {str(name): known[name] for name in rng.choice(sorted(known), count, replace=False)}
    for i in range(rng.integers(2, 7)):
        mass = float(np.exp(rng.uniform(np.log(60.0), np.log(4000.0))))
        # Two numbers of Gaussians, each compiled once.
        chosen[f"complex {i + 1}"] = random_complex(rng, mass, 16 if mass < 500 else 64)
    return chosen


def _uneven(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Return factors ``(z, y, x)`` on the contrast, which fall in a random direction in xy."""
    azimuth, least = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.9)
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape[1:]), indexing="ij")
    place = (np.sin(azimuth) * y + np.cos(azimuth) * x) / np.sqrt(2)
    return np.broadcast_to(1 - (1 - least) * (place + 1) / 2, shape).astype(np.float32)
