"""Fills a volume with vesicles, filaments, membrane proteins and macromolecules.

Each function marks what it places in an `Occupancy` and returns the placed structures.
"""

import functools

import jax
import numpy as np

from cryojax_seg.core.plain import Shape
from cryojax_seg.core.types import Key
from cryojax_seg.errors import ParameterError
from cryojax_seg.simulate.arcs import hexagonal
from cryojax_seg.simulate.complexes import GaussianComplex, proteasome, ribosome
from cryojax_seg.simulate.membranes import Bilayer
from cryojax_seg.simulate.placement import Occupancy, facing, generator, random_direction
from cryojax_seg.simulate.scene import Placed, Scene
from cryojax_seg.simulate.structures import Structure
from cryojax_seg.simulate.surfaces import Ellipsoid, Sphere

THINNEST, THICKEST = 25.0, 35.0  # angstrom between the leaflets of a membrane
CROWDING = (0.0, 0.3)  # volume fraction of macromolecules
Species = dict[str, Structure]  # macromolecules by name
APART = 80.0  # angstrom between proteins in a membrane
POINTS = 1024  # on a membrane, at which proteins may stand


def check_crowding(crowding: float) -> float:
    """Return the volume fraction unchanged if it is valid.

    Raises:
        ParameterError: if it is not within 0 to 0.3.
    """
    low, high = CROWDING
    if not low <= crowding <= high:
        raise ParameterError(
            f"crowding must be within {low:g} to {high:g}, got {crowding}", "crowding"
        )
    return crowding


def empty_volume(
    key: Key, shape: Shape, voxel_size: float, least: float, preset: str, crowding: float = 0.0
) -> Occupancy:
    """Return an empty volume; refuse it if its shortest edge is below `least` angstrom."""
    if len(shape) != 3 or min(shape) < 1:
        raise ParameterError(f"shape must be three sizes of 1 or more, got {tuple(shape)}", "shape")
    if not (np.isfinite(voxel_size) and voxel_size > 0):
        raise ParameterError(f"voxel_size must be above 0 angstrom, got {voxel_size}", "voxel_size")
    shortest = min(shape) * float(voxel_size)
    if shortest < least:
        raise ParameterError(
            f"shape {tuple(shape)} at voxel_size {voxel_size:g} angstrom is {shortest:.0f} "
            f"angstrom thin; the preset {preset} needs at least {least:.0f} angstrom along "
            "each axis",
            "shape",
        )
    check_crowding(crowding)
    return Occupancy(tuple(shape), voxel_size, generator(key))


def filled_scene(
    occupancy: Occupancy,
    placed: list[Placed],
    notes: list[str],
    crowding: float = 0.0,
    species: Species | None = None,
) -> Scene:
    """Return the scene of the placed structures, with macromolecules in the remaining volume."""
    molecules, shortfall = add_macromolecules(occupancy, crowding, species)
    objects, notes = tuple(placed + molecules), notes + shortfall
    return Scene(objects, occupancy.shape, occupancy.voxel_size, notes=tuple(notes))


def number(value: float) -> np.ndarray:
    """Return an array without axes, as all drawn leaves are, so that they share programs."""
    return np.asarray(value, np.float32)


def random_thickness(rng: np.random.Generator) -> float:
    """Draw the distance between the leaflets of a membrane, 25 to 35 angstrom."""
    return float(np.float32(rng.uniform(THINNEST, THICKEST)))


def add_macromolecules(
    occupancy: Occupancy, fraction: float, species: Species | None = None
) -> tuple[list[Placed], list[str]]:
    """Place macromolecules at random positions and rotations in the free volume.

    Args:
        occupancy: the occupied part of the volume; the macromolecules are added to it.
        fraction: total volume of the macromolecules divided by the free volume, 0 to 0.3. Their
            centres lie in the volume, whose faces cut some of them.
        species: macromolecules by name, each of which receives about the same total volume; None
            for ribosomes, proteasomes and small globular proteins.

    Returns:
        the placed macromolecules, and a note if fewer fitted than requested.
    """
    requested = check_crowding(fraction) * occupancy.free_volume()
    if not requested:
        return [], []
    if species is None:
        species = default_species()
    volumes = {name: s.measurements()["volume"] for name, s in species.items()}
    placed, filled = [], 0.0
    occupancy.gap = 0.0  # macromolecules may touch
    # Place the largest species first, because small ones still fit in between.
    order = sorted(species, key=lambda name: -volumes[name])
    for i, name in enumerate(order):
        share = (requested - filled) / (len(order) - i)
        stop = filled + share
        # Exceed the share by at most half a macromolecule.
        while filled + volumes[name] / 2 < stop:
            one = occupancy.place(species[name], name, tries=200, periodic=True)
            if one is None:
                break
            placed.append(one)
            filled += volumes[name]
    notes = []
    if filled < 0.9 * requested - min(volumes.values()):
        achieved = fraction * filled / requested
        notes.append(
            f"crowding of {fraction:g} was requested, but only {achieved:.3f} was reached with "
            f"{len(placed)} macromolecules; no more fitted"
        )
    return placed, notes


@functools.cache  # computing their volumes takes a while
def default_species() -> Species:
    """Return ribosomes, proteasomes and small globular proteins."""
    return {"ribosome": ribosome(), "proteasome": proteasome(), "globule": globule()}


def globule() -> GaussianComplex:
    """Return a globular protein of about 100 kDa and 60 angstrom diameter."""
    return GaussianComplex(np.zeros((1, 3), np.float32), np.ones(1, np.float32), 18.0)


def add_membrane_proteins(
    placed: Placed,
    occupancy: Occupancy,
    count: int,
    protein: Structure | None = None,
    apart: float = APART,
) -> list[Placed]:
    """Place proteins at random points of a membrane, with their z axis along its normal.

    Args:
        placed: the membrane.
        occupancy: the occupied part of the volume; the proteins are added to it.
        count: largest number of proteins, which lie within the volume.
        protein: structure of the protein; None for a head of about 60 angstrom on a short stem.
        apart: least distance between two of them, angstrom.
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
    radius, rng = placed.structure.bounding_radius(), occupancy.rng
    if np.isfinite(radius):
        points = rng.normal(size=(POINTS, 3))
        points *= radius / np.linalg.norm(points, axis=-1, keepdims=True)
        points += np.asarray(placed.centre)
    else:
        points = rng.uniform(size=(POINTS, 3)) * occupancy.extent
    moved = _on_surface(placed, points.astype(np.float32))
    points, normals, distance = map(np.asarray, moved)
    on = (np.abs(distance) < 1.0) & ((points >= 0) & (points <= occupancy.extent)).all(-1)
    proteins = []
    for point, normal in zip(points[on], normals[on], strict=True):
        far = [np.linalg.norm(point - p.centre) > apart for p in proteins]
        if len(proteins) < count and all(far):
            rotation = facing(normal, rng)
            proteins.append(Placed(protein, point, rotation.astype(np.float32), "membrane protein"))
    for one in proteins:
        occupancy.add(one)
    return proteins


@jax.jit
def _on_surface(placed: Placed, points):
    """Move points to the surface; return them, the normals there and the remaining distances."""

    def step(_, points):
        return points - placed.distance(points)[:, None] * placed.normal(points)

    points = jax.lax.fori_loop(0, 8, step, points)  # repeated, because the surface may be curved
    return points, placed.normal(points), placed.distance(points)


def add_vesicles(occupancy: Occupancy, fraction: float, largest: float) -> list[Placed]:
    """Place spherical and ellipsoidal vesicles until they fill this fraction of the volume."""
    rng, total = occupancy.rng, np.prod(occupancy.extent)
    placed, filled, failures = [], 0.0, 0
    while filled < fraction * total and failures < 3:
        # Sizes follow a log-uniform distribution: many small vesicles and few large ones.
        size = float(np.exp(rng.uniform(np.log(75.0), np.log(max(largest, 76.0)))))
        axes = size * np.clip(rng.normal(1.0, 0.1, 3), 0.75, 1.25)
        surface = Sphere(np.float32(size))
        if rng.uniform() < 0.5:
            surface = Ellipsoid(axes.astype(np.float32))
        one = occupancy.place(Bilayer(surface, thickness=random_thickness(rng)), "vesicle")
        if one is None:
            failures += 1
            largest *= 0.7
        else:
            placed.append(one)
            filled += surface.measurements()["volume"]
    return placed


def add_filaments(
    occupancy: Occupancy, structure: Structure, name: str, count: int, spread: float
) -> list:
    """Place filaments, which lie along y in their frame, at small angles to the xy plane.

    Args:
        occupancy: the occupied part of the volume; the filaments are added to it.
        structure: one filament.
        name: name of each placed filament.
        count: number of filaments to try.
        spread: standard deviation of their elevation above the xy plane, degrees.
    """

    def nearly_horizontal(rng: np.random.Generator) -> np.ndarray:
        elevation, azimuth = np.deg2rad(rng.normal(0, spread)), rng.uniform(0, 2 * np.pi)
        flat = np.cos(elevation)
        direction = (np.sin(elevation), flat * np.cos(azimuth), flat * np.sin(azimuth))
        return facing(np.array(direction), rng, axis=1)

    found = (
        occupancy.place(structure, name, nearly_horizontal, inside=False, tries=200)
        for _ in range(count)
    )
    return [one for one in found if one is not None]


def add_bundle(
    occupancy: Occupancy, structure: Structure, name: str, count: int, spacing: float
) -> list[Placed]:
    """Place parallel filaments, which lie along y in their frame, in a random direction.

    Args:
        occupancy: the occupied part of the volume; the filaments are added to it.
        structure: one filament.
        name: name of each placed filament.
        count: number of filaments to try, in hexagonal packing.
        spacing: between the axes of neighbours, angstrom.
    """
    rng = occupancy.rng
    turn = facing(random_direction(rng), rng, axis=1)
    first = occupancy.place(structure, name, lambda _: turn, inside=False, tries=200)
    if first is None:
        return []
    found = [first]
    for row, column in hexagonal(count)[1:]:
        own = np.array([row * spacing, rng.normal(0, 100.0), column * spacing])
        centre = (np.asarray(first.centre) + turn @ own).astype(np.float32)
        one = Placed(structure, centre, first.rotation, name)
        if occupancy.fits(one):
            found.append(one)
            occupancy.add(one)
    return found


def shortfall_notes(placed: list[Placed], requested: dict[str, int]) -> list[str]:
    """Return a sentence for each kind of structure of which fewer fitted than requested."""
    counts = {name: sum(p.name == name for p in placed) for name in requested}
    return [
        f"{requested[name]} x {name} requested, but only {counts[name]} fitted"
        for name in requested
        if counts[name] < requested[name]
    ]
