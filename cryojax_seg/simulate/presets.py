"""Builds typical cellular scenes from a random key, a shape and a voxel size.

Structure sizes are in angstrom and do not depend on the voxel size. `Scene.notes` lists structures
that did not fit. A volume that is too small for a preset is refused before anything is placed.
"""

import dataclasses

import jax
import numpy as np

from cryojax_seg.core.plain import Shape
from cryojax_seg.core.types import Key
from cryojax_seg.simulate.filaments import ActinBundle, ActinFilament, Microtubule
from cryojax_seg.simulate.markers import GoldBead
from cryojax_seg.simulate.membranes import Bilayer
from cryojax_seg.simulate.organelles import GolgiStack, Mitochondrion
from cryojax_seg.simulate.placement import facing
from cryojax_seg.simulate.populate import (
    Species,
    add_filaments,
    add_membrane_proteins,
    add_vesicles,
    empty_volume,
    filled_scene,
    random_thickness,
    shortfall_notes,
)
from cryojax_seg.simulate.reticulum import Reticulum
from cryojax_seg.simulate.scene import Placed, Scene
from cryojax_seg.simulate.sheets import Cisterna, Disc, WavedSheet
from cryojax_seg.simulate.structures import Solid
from cryojax_seg.simulate.types import MEMBRANE
from cryojax_seg.simulate.varied import varied as varied

FRACTION = 0.12  # volume fraction that vesicles fill


def vesicles(
    key: Key,
    shape: Shape,
    voxel_size: float,
    crowding: float = 0.05,
    species: Species | None = None,
    proteins: int = 0,
    sheet: bool = True,
    fraction: float = FRACTION,
) -> Scene:
    """Build spherical and ellipsoidal vesicles, a waved membrane sheet and macromolecules.

    Args:
        key: random key; the same key gives the same scene.
        shape: voxels along z, y, x.
        voxel_size: angstrom.
        crowding: total volume of the macromolecules divided by the free volume, 0 to 0.3.
        species: macromolecules by name; None for ribosomes, proteasomes and small proteins.
        proteins: number of membrane proteins in each vesicle.
        sheet: whether a membrane crosses the volume.
        fraction: volume fraction that the vesicles fill, if there is room.

    Raises:
        ValueError: if the volume is thinner than 220 angstrom or crowding is out of range.

    >>> import jax
    >>> scene = vesicles(jax.random.key(0), (32, 32, 32), 10.0, crowding=0.0)
    >>> sorted({p.name for p in scene.objects})
    ['sheet', 'vesicle']
    """
    occupancy = empty_volume(key, shape, voxel_size, 220.0, "vesicles", crowding)
    extent = occupancy.extent
    placed = []
    if sheet:
        # The missing wedge hides a sheet whose normal lies along the beam, so this one is steep.
        rng = occupancy.rng
        tilt, azimuth = np.deg2rad(rng.uniform(50, 90)), rng.uniform(0, 2 * np.pi)
        flat = np.sin(tilt)
        normal = np.array([np.cos(tilt), flat * np.sin(azimuth), flat * np.cos(azimuth)])
        centre = (occupancy.extent / 2 - 0.3 * extent.min() * normal).astype(np.float32)
        rotation = facing(normal, rng).astype(np.float32)
        surface = WavedSheet(np.float32(30.0), np.float32(400.0))
        bilayer = Bilayer(surface, thickness=random_thickness(rng))
        placed.append(Placed(bilayer, centre, rotation, "sheet"))
        occupancy.add(placed[0])
    found = add_vesicles(occupancy, fraction, 0.3 * extent.min())
    notes = [] if found else ["no vesicle fitted"]
    placed += found
    if proteins:
        placed += [p for one in found for p in add_membrane_proteins(one, occupancy, proteins)]
    return filled_scene(occupancy, placed, notes, crowding, species)


def organelles(
    key: Key,
    shape: Shape,
    voxel_size: float,
    crowding: float = 0.1,
    species: Species | None = None,
) -> Scene:
    """Build a mitochondrion, endoplasmic reticulum, a Golgi stack, vesicles and macromolecules.

    Args:
        key, shape, voxel_size, crowding, species: as in `vesicles`.

    Raises:
        ValueError: if the volume is thinner than 600 angstrom or crowding is out of range.
    """
    occupancy = empty_volume(key, shape, voxel_size, 600.0, "organelles", crowding)
    extent = occupancy.extent
    rng, wide = occupancy.rng, float(np.sort(extent)[1])
    # Organelles have their natural size unless the volume is smaller; its faces may cut them.
    size = np.clip(0.38 * wide, 350.0, 2500.0)
    axes = (size * np.array([1.0, rng.uniform(1.2, 2.0), 1.0])).astype(np.float32)
    golgi = GolgiStack(np.float32(np.clip(0.28 * wide, 250.0, 2500.0)), count=4)
    maze = Reticulum.random(
        jax.random.fold_in(key, 1),
        float(np.clip(0.3 * wide, 300.0, 3000.0)),
        wavelength=min(3000.0, 0.9 * wide),
        width=200.0,
    )
    # The two largest lie at opposite corners, and the third at another one.
    corner = rng.choice([0.08, 0.92], 2)
    placed = []
    for place, name, structure in (
        (corner, "Golgi stack", golgi),
        (1 - corner, "mitochondrion", Mitochondrion(axes)),
        ((corner[0], 1 - corner[1]), "reticulum", maze),
    ):
        centres = np.array([0.5, *place]) * extent + rng.normal(0, 0.05 * wide, (300, 3))
        one = occupancy.place(structure, name, inside=False, tries=300, centres=centres)
        placed += [] if one is None else [one]
    notes = shortfall_notes(placed, dict.fromkeys(("mitochondrion", "Golgi stack", "reticulum"), 1))
    placed += add_vesicles(occupancy, FRACTION / 3, 0.2 * extent.min())
    return filled_scene(occupancy, placed, notes, crowding, species)


def cytoskeleton(
    key: Key,
    shape: Shape,
    voxel_size: float,
    crowding: float = 0.05,
    species: Species | None = None,
    microtubules: int | None = None,
    filaments: int | None = None,
) -> Scene:
    """Build microtubules of 13 and 14 protofilaments, actin filaments and an actin bundle.

    Args:
        key, shape, voxel_size, crowding, species: as in `vesicles`.
        microtubules: their number; None for one per (600 angstrom)^3, at least one.
        filaments: number of actin filaments; None for two per (600 angstrom)^3, at least two.

    Raises:
        ValueError: if the volume is thinner than 300 angstrom or crowding is out of range.
    """
    occupancy = empty_volume(key, shape, voxel_size, 300.0, "cytoskeleton", crowding)
    extent = occupancy.extent
    blocks = float(np.prod(extent)) / 600.0**3
    tubes = max(1, min(round(blocks), 12)) if microtubules is None else microtubules
    actin = max(2, min(2 * round(blocks), 24)) if filaments is None else filaments
    length = np.float32(1.2 * np.linalg.norm(extent[1:]))  # from face to face
    placed = []
    for i in range(tubes):
        # The radius of curvature is several micrometres, as in cells.
        bend = np.float32(occupancy.rng.normal(0, 1 / 30000.0))
        tube = Microtubule(length, bend, protofilaments=13 if i % 2 == 0 else 14)
        placed += add_filaments(occupancy, tube, "microtubule", 1, 12.0)
    bundle = ActinBundle(np.float32(0.6 * extent[1:].min()))
    placed += add_filaments(occupancy, bundle, "actin bundle", 1, 8.0) if actin > 2 else []
    for _ in range(actin):
        bend = np.float32(occupancy.rng.normal(0, 1 / 20000.0))
        placed += add_filaments(occupancy, ActinFilament(length / 2, bend), "actin", 1, 15.0)
    notes = shortfall_notes(placed, {"microtubule": tubes, "actin": actin})
    return filled_scene(occupancy, placed, notes, crowding, species)


def crowded(
    key: Key,
    shape: Shape,
    voxel_size: float,
    crowding: float = 0.2,
    species: Species | None = None,
    beads: int = 1,
    fraction: float = FRACTION,
) -> Scene:
    """Build vesicles, a Golgi stack, filaments, gold beads and many macromolecules.

    Args:
        key, shape, voxel_size, crowding, species: as in `vesicles`.
        beads: number of gold beads of 10 nm diameter.
        fraction: volume fraction that the vesicles fill, if there is room.

    Raises:
        ValueError: if the volume is thinner than 300 angstrom or crowding is out of range.
    """
    occupancy = empty_volume(key, shape, voxel_size, 300.0, "crowded", crowding)
    extent = occupancy.extent
    length = np.float32(1.2 * np.linalg.norm(extent[1:]))
    blocks = float(np.prod(extent)) / 600.0**3
    count = max(1, min(round(blocks), 6))
    placed = []
    for i in range(count):
        tube = Microtubule(length, protofilaments=13 if i % 2 == 0 else 14)
        placed += add_filaments(occupancy, tube, "microtubule", 1, 12.0)
    placed += add_filaments(occupancy, ActinFilament(length / 2), "actin", 2 * count, 15.0)
    if extent.min() >= 600:
        golgi = GolgiStack(np.float32(0.25 * extent.min()))
        stack = occupancy.place(golgi, "Golgi stack", inside=False)
        placed += [] if stack is None else [stack]
    notes = shortfall_notes(placed, {"microtubule": count, "actin": 2 * count})
    found = add_vesicles(occupancy, fraction, 0.25 * extent.min())
    placed += found + [p for one in found for p in add_membrane_proteins(one, occupancy, 6)]
    gold = GoldBead(np.float32(50.0))
    placed += [b for _ in range(beads) if (b := occupancy.place(gold, "gold bead")) is not None]
    notes += shortfall_notes(placed, {"gold bead": beads})
    return filled_scene(occupancy, placed, notes, crowding, species)


def contrast_drift(
    key: Key,
    shape: Shape,
    voxel_size: float,
    crowding: float = 0.05,
    species: Species | None = None,
    least: float = 0.35,
) -> Scene:
    """Build `vesicles` whose contrast changes across the volume, as in ice of uneven thickness.

    Args:
        key, shape, voxel_size, crowding, species: as in `vesicles`.
        least: contrast at the low end of x; it rises to 1 at the high end.

    Raises:
        ValueError: as for `vesicles`, and if `least` is not within 0 to 1.
    """
    if not 0 < least <= 1:
        raise ValueError(f"least must be above 0 and at most 1, got {least}")
    scene = vesicles(key, shape, voxel_size, crowding, species)
    ramp = np.linspace(least, 1.0, shape[2], dtype=np.float32)
    return dataclasses.replace(scene, contrast=np.broadcast_to(ramp, shape))


def threshold_dilemma(key: Key, shape: Shape, voxel_size: float) -> Scene:
    """Build structures of density 1.0, in one half of the volume 0.4, on a background of 0.

    The structures are three thick flat cisternae, labelled as membranes. Imaged with noise of
    standard deviation 0.5 (`WedgeImaging(sigma=0.5, exponent=0.0, wedge=None)`), no threshold
    finds the faint half without also selecting background.

    Args:
        key: random key.
        shape, voxel_size: as in `vesicles`.

    Raises:
        ValueError: if the volume is thinner than 160 angstrom.
    """
    occupancy = empty_volume(key, shape, voxel_size, 160.0, "threshold_dilemma")
    radius = 0.3 * occupancy.extent.min()
    flat = Cisterna(np.float32(radius - 1.5 * voxel_size), np.float32(1.5 * voxel_size))
    solid = Solid(flat, MEMBRANE, 1.0, np.float32(0.2 * voxel_size))
    found = [occupancy.place(solid, "structure", tries=200) for _ in range(3)]
    placed = [p for p in found if p is not None]
    scene = filled_scene(occupancy, placed, shortfall_notes(placed, {"structure": 3}))
    contrast = np.ones(shape, np.float32)
    contrast[:, :, shape[2] // 2 :] = 0.4
    return dataclasses.replace(scene, contrast=contrast)


def flat_bilayers(
    key: Key,
    shape: Shape,
    voxel_size: float,
    angles: tuple[float, ...] = (0.0, 30.0, 60.0, 90.0),
    azimuth: float = 0.0,
) -> Scene:
    """Build flat round bilayers at given angles, which the missing wedge affects differently.

    Args:
        key: random key.
        shape, voxel_size: as in `vesicles`.
        angles: angle between the normal of each bilayer and the beam, degrees, 0 to 90.
        azimuth: direction in which the normals tilt, degrees from x towards y.

    Raises:
        ValueError: if the volume is thinner than 200 angstrom or an angle is out of range.
    """
    if not all(0 <= a <= 90 for a in angles):
        raise ValueError(f"angles must be within 0 to 90 degrees, got {angles}")
    occupancy = empty_volume(key, shape, voxel_size, 200.0, "flat_bilayers")
    placed, direction, extent = [], np.deg2rad(azimuth), occupancy.extent
    # Give every bilayer an equal share of the volume.
    share = (np.prod(extent) / max(len(angles), 1)) ** (1 / 3)
    radius = np.float32(min(0.3 * extent.min(), 0.33 * share))
    for angle in angles:
        a = np.deg2rad(angle)
        normal = np.array([np.cos(a), np.sin(a) * np.sin(direction), np.sin(a) * np.cos(direction)])
        disc = Bilayer(Disc(radius))
        one = occupancy.place(
            disc, f"bilayer {angle:g}", lambda rng, n=normal: facing(n, rng), tries=300
        )
        placed += [] if one is None else [one]
    return filled_scene(
        occupancy, placed, shortfall_notes(placed, {f"bilayer {a:g}": 1 for a in angles})
    )
