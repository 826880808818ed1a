"""Filling the room of a volume: vesicles, filaments, membrane proteins, a crowd of molecules.

Each function takes room from a `Room` and returns what it placed.
"""

import functools

import jax
import numpy as np

from cryojax_seg.simulate.complexes import GaussianComplex, proteasome, ribosome
from cryojax_seg.simulate.membranes import Bilayer
from cryojax_seg.simulate.placement import Room, facing
from cryojax_seg.simulate.scene import Placed
from cryojax_seg.simulate.structures import Structure
from cryojax_seg.simulate.surfaces import Ellipsoid, Sphere

THINNEST, THICKEST = 25.0, 35.0  # angstrom between the leaflets of a membrane
CROWDING = (0.0, 0.3)  # volume fraction of macromolecules
Species = dict[str, Structure]  # macromolecules by name
APART = 80.0  # angstrom between proteins in a membrane


def check_crowding(crowding: float) -> float:
    """The volume fraction itself.

    Raises:
        ValueError: if it is not within 0 to 0.3.
    """
    low, high = CROWDING
    if not low <= crowding <= high:
        raise ValueError(f"crowding must be within {low:g} to {high:g}, got {crowding}")
    return crowding


def random_thickness(rng: np.random.Generator) -> float:
    """Angstrom between the leaflets of a membrane, 25 to 35."""
    return float(np.float32(rng.uniform(THINNEST, THICKEST)))


def crowd(
    room: Room, fraction: float, species: Species | None = None
) -> tuple[list[Placed], list[str]]:
    """Fills free room with macromolecules at random places, turned at random.

    Args:
        room: where there is room; it is taken.
        fraction: volume of the macromolecules over the volume that was free, 0 to 0.3. The faces
            of the volume cut them, as they cut a sample.
        species: by name, about the same volume of each; None for ribosomes, proteasomes and small
            globular proteins.

    Returns:
        what was placed, and a note if that is less than was asked for.
    """
    wanted = check_crowding(fraction) * room.free_volume()
    if not wanted:
        return [], []
    if species is None:
        species = _species()
    volumes = {name: s.measurements()["volume"] for name, s in species.items()}
    placed, filled = [], 0.0
    room.gap = 0.0  # a crowd touches
    # The largest first: small ones find room between them.
    order = sorted(species, key=lambda name: -volumes[name])
    for i, name in enumerate(order):
        share = (wanted - filled) / (len(order) - i)
        stop = filled + share
        # Not more than half of the last one too much.
        while filled + volumes[name] / 2 < stop:
            one = room.place(species[name], name, inside=False, tries=200)
            if one is None:
                break
            placed.append(one)
            filled += volumes[name]
    notes = []
    if filled < 0.9 * wanted - min(volumes.values()):
        reached = fraction * filled / wanted
        notes.append(
            f"crowding {fraction:g} asked for, {reached:.3f} reached with {len(placed)} "
            "macromolecules: there was no room for more"
        )
    return placed, notes


@functools.cache  # their volumes are worth keeping
def _species() -> Species:
    return {"ribosome": ribosome(), "proteasome": proteasome(), "globule": globule()}


def globule() -> GaussianComplex:
    """A globular protein of about 100 kDa, 60 angstrom across."""
    return GaussianComplex(np.zeros((1, 3), np.float32), np.ones(1, np.float32), 18.0)


def stud(placed: Placed, room: Room, count: int, protein: Structure | None = None) -> list[Placed]:
    """Proteins in a membrane: at random places on it, their z axis along its normal.

    Args:
        placed: the membrane.
        room: whose generator chooses; the proteins take their room in it.
        count: how many at most: they keep `APART`, and stand only within the volume.
        protein: None for a head of about 60 angstrom on a short stem.
    """
    protein = (
        GaussianComplex(
            np.array([[15.0, 0, 0], [45.0, 0, 0]], np.float32),
            np.array([1.0, 1.5], np.float32),
            14.0,
        )
        if protein is None
        else protein
    )
    reach = placed.structure.reach()
    points = room.rng.normal(size=(64 * count, 3))
    points *= reach / np.linalg.norm(points, axis=-1, keepdims=True)
    points = (points + np.asarray(placed.centre)).astype(np.float32)
    points, normals, distance = map(np.asarray, _on_surface(placed, points))
    on = (np.abs(distance) < 1.0) & ((points >= 0) & (points <= room.extent)).all(-1)
    proteins = []
    for point, normal in zip(points[on], normals[on], strict=True):
        apart = [np.linalg.norm(point - p.centre) > APART for p in proteins]
        if len(proteins) < count and all(apart):
            turn = facing(normal, room.rng)
            proteins.append(Placed(protein, point, turn.astype(np.float32), "membrane protein"))
    for one in proteins:
        room.add(one)
    return proteins


@jax.jit
def _on_surface(placed: Placed, points):
    """Points moved to the surface, its normals there, and how far from it they still are."""

    def step(_, points):
        return points - placed.distance(points)[:, None] * placed.normal(points)

    points = jax.lax.fori_loop(0, 8, step, points)  # more than once, as it may be bent
    return points, placed.normal(points), placed.distance(points)


def add_vesicles(room: Room, fraction: float, largest: float) -> list[Placed]:
    """Spheres and ellipsoids until this fraction of the volume is theirs, or no more fit."""
    rng, total = room.rng, np.prod(room.extent)
    placed, filled, failures = [], 0.0, 0
    while filled < fraction * total and failures < 3:
        # Sizes as a log-uniform law gives them: many small, few large.
        size = float(np.exp(rng.uniform(np.log(75.0), np.log(max(largest, 76.0)))))
        axes = size * np.clip(rng.normal(1.0, 0.1, 3), 0.75, 1.25)
        surface = Sphere(np.float32(size))
        if rng.uniform() < 0.5:
            surface = Ellipsoid(axes.astype(np.float32))
        one = room.place(Bilayer(surface, thickness=random_thickness(rng)), "vesicle")
        if one is None:
            failures += 1
            largest *= 0.7
        else:
            placed.append(one)
            filled += surface.measurements()["volume"]
    return placed


def add_filaments(room: Room, structure: Structure, name: str, count: int, spread: float) -> list:
    """Filaments (along y in their frame) near the horizontal plane, through the volume."""

    def lying(rng: np.random.Generator) -> np.ndarray:
        elevation, azimuth = np.deg2rad(rng.normal(0, spread)), rng.uniform(0, 2 * np.pi)
        flat = np.cos(elevation)
        direction = (np.sin(elevation), flat * np.cos(azimuth), flat * np.sin(azimuth))
        return facing(np.array(direction), rng, axis=1)

    found = (room.place(structure, name, lying, inside=False, tries=200) for _ in range(count))
    return [one for one in found if one is not None]


def missing(placed: list[Placed], asked: dict[str, int]) -> list[str]:
    """A sentence for each kind of which fewer were placed than asked for."""
    counts = {name: sum(p.name == name for p in placed) for name in asked}
    return [
        f"{asked[name]} x {name} asked for, {counts[name]} placed: there was no room for more"
        for name in asked
        if counts[name] < asked[name]
    ]
