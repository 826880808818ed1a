"""Scenes as microscopists know them. Each preset is a function of a key, a shape and a voxel size.

Sizes are in angstrom and do not depend on the voxel size. What a preset asks for and cannot place
is in `Scene.notes`; what can never fit is refused before anything is drawn.
"""

import dataclasses
import itertools

import jax
import numpy as np

from cryojax_seg.core.types import Key, Shape
from cryojax_seg.simulate.filaments import ActinBundle, ActinFilament, Microtubule
from cryojax_seg.simulate.markers import GoldBead
from cryojax_seg.simulate.membranes import Bilayer
from cryojax_seg.simulate.organelles import GolgiStack, Mitochondrion
from cryojax_seg.simulate.placement import Room, facing, generator
from cryojax_seg.simulate.populate import (
    Species,
    add_filaments,
    add_vesicles,
    check_crowding,
    crowd,
    missing,
    random_thickness,
    stud,
)
from cryojax_seg.simulate.reticulum import Reticulum
from cryojax_seg.simulate.scene import Placed, Scene
from cryojax_seg.simulate.sheets import Cisterna, Disc, WavedSheet
from cryojax_seg.simulate.structures import Solid
from cryojax_seg.simulate.types import MEMBRANE

FRACTION = 0.12  # of the volume that vesicles are to fill


def _room(
    key: Key, shape: Shape, voxel_size: float, least: float, preset: str, crowding: float = 0.0
) -> Room:
    """An empty volume, refused if its shortest edge is below `least` angstrom."""
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape must be three sizes of 1 or more, got {tuple(shape)}")
    if not (np.isfinite(voxel_size) and voxel_size > 0):
        raise ValueError(f"voxel_size must be above 0 angstrom, got {voxel_size}")
    shortest = min(shape) * float(voxel_size)
    if shortest < least:
        raise ValueError(
            f"shape {tuple(shape)} at voxel_size {voxel_size:g} angstrom is {shortest:.0f} "
            f"angstrom thin; the preset {preset} needs at least {least:.0f} angstrom along "
            "each axis"
        )
    check_crowding(crowding)
    return Room(tuple(shape), voxel_size, generator(key))


def _scene(
    room: Room,
    placed: list[Placed],
    notes: list[str],
    crowding: float = 0.0,
    species: Species | None = None,
) -> Scene:
    """What was placed, with a crowd in the room that is left."""
    molecules, less = crowd(room, crowding, species)
    objects, notes = tuple(placed + molecules), notes + less
    return Scene(objects, room.shape, room.voxel_size, notes=tuple(notes))


def vesicles(
    key: Key,
    shape: Shape,
    voxel_size: float,
    crowding: float = 0.05,
    species: Species | None = None,
    proteins: int = 0,
    sheet: bool = True,
) -> Scene:
    """Vesicles, spherical and ellipsoidal, beside a waved sheet, with macromolecules between.

    Args:
        key: random key: the same key, the same scene.
        shape: voxels along z, y, x.
        voxel_size: angstrom.
        crowding: volume of macromolecules over free volume, 0 to 0.3.
        species: the macromolecules by name; None for ribosomes, proteasomes and small proteins.
        proteins: how many proteins stand in each vesicle's membrane.
        sheet: whether a membrane crosses the volume.

    Raises:
        ValueError: if the volume is thinner than 220 angstrom or crowding is out of range.

    >>> import jax
    >>> scene = vesicles(jax.random.key(0), (32, 32, 32), 10.0, crowding=0.0)
    >>> sorted({p.name for p in scene.objects})
    ['sheet', 'vesicle']
    """
    room = _room(key, shape, voxel_size, 220.0, "vesicles", crowding)
    extent = room.extent
    placed = []
    if sheet:
        # A sheet that faces the beam is all but lost in the wedge: this one is steep.
        tilt, turn = np.deg2rad(room.rng.uniform(50, 90)), room.rng.uniform(0, 2 * np.pi)
        flat = np.sin(tilt)
        normal = np.array([np.cos(tilt), flat * np.sin(turn), flat * np.cos(turn)])
        centre = (room.extent / 2 - 0.3 * extent.min() * normal).astype(np.float32)
        turned = facing(normal, room.rng).astype(np.float32)
        surface = WavedSheet(np.float32(30.0), np.float32(400.0))
        placed.append(
            Placed(Bilayer(surface, thickness=random_thickness(room.rng)), centre, turned, "sheet")
        )
        room.add(placed[0])
    found = add_vesicles(room, FRACTION, 0.3 * extent.min())
    notes = [] if found else ["no vesicle found room"]
    studs = [p for one in found for p in stud(one, room, proteins)] if proteins else []
    return _scene(room, placed + found + studs, notes, crowding, species)


def organelles(
    key: Key,
    shape: Shape,
    voxel_size: float,
    crowding: float = 0.1,
    species: Species | None = None,
) -> Scene:
    """A mitochondrion, endoplasmic reticulum, a Golgi-like stack, vesicles, macromolecules.

    Args: as `vesicles`.

    Raises:
        ValueError: if the volume is thinner than 600 angstrom or crowding is out of range.
    """
    room = _room(key, shape, voxel_size, 600.0, "organelles", crowding)
    extent = room.extent
    rng, wide = room.rng, float(np.sort(extent)[1])
    # As large as life, or as the volume: cut by its faces, as a tomogram cuts them.
    size = np.clip(0.5 * wide, 450.0, 2500.0)
    axes = (size * np.array([1.0, rng.uniform(1.2, 2.0), 1.0])).astype(np.float32)
    golgi = GolgiStack(np.float32(np.clip(0.35 * wide, 300.0, 2500.0)))
    maze = Reticulum.random(
        jax.random.fold_in(key, 1),
        float(np.clip(0.35 * wide, 350.0, 3000.0)),
        wavelength=min(3000.0, 0.9 * wide),
        width=200.0,
    )
    corners = rng.permutation(list(itertools.product((0.5,), (0.08, 0.92), (0.08, 0.92))))
    placed = []
    for corner, name, structure in zip(
        corners,
        ("mitochondrion", "Golgi stack", "reticulum"),
        (Mitochondrion(axes), golgi, maze),
        strict=False,
    ):
        centres = corner * room.extent + rng.normal(0, 0.05 * wide, (300, 3))
        one = room.place(structure, name, inside=False, tries=300, centres=centres)
        placed += [] if one is None else [one]
    notes = missing(placed, dict.fromkeys(("mitochondrion", "Golgi stack", "reticulum"), 1))
    placed += add_vesicles(room, FRACTION / 3, 0.2 * extent.min())
    return _scene(room, placed, notes, crowding, species)


def cytoskeleton(
    key: Key,
    shape: Shape,
    voxel_size: float,
    crowding: float = 0.05,
    species: Species | None = None,
    microtubules: int | None = None,
    filaments: int | None = None,
) -> Scene:
    """Microtubules of 13 and 14 protofilaments, actin filaments and a bundle of them.

    Args:
        key, shape, voxel_size, crowding, species: as `vesicles`.
        microtubules: how many; None for one in each (600 angstrom)^3, at least one.
        filaments: of actin; None for two in each (600 angstrom)^3, at least two.

    Raises:
        ValueError: if the volume is thinner than 300 angstrom or crowding is out of range.
    """
    room = _room(key, shape, voxel_size, 300.0, "cytoskeleton", crowding)
    extent = room.extent
    blocks = float(np.prod(extent)) / 600.0**3
    tubes = max(1, min(round(blocks), 12)) if microtubules is None else microtubules
    actin = max(2, min(2 * round(blocks), 24)) if filaments is None else filaments
    length = np.float32(1.2 * np.linalg.norm(extent[1:]))  # from face to face
    placed = []
    for i in range(tubes):
        # Bent like the real ones: radii of curvature of micrometres.
        bend = np.float32(room.rng.normal(0, 1 / 30000.0))
        tube = Microtubule(length, bend, protofilaments=13 if i % 2 == 0 else 14)
        placed += add_filaments(room, tube, "microtubule", 1, 12.0)
    bundle = ActinBundle(np.float32(0.6 * extent[1:].min()))
    placed += add_filaments(room, bundle, "actin bundle", 1, 8.0) if actin > 2 else []
    for _ in range(actin):
        bend = np.float32(room.rng.normal(0, 1 / 20000.0))
        placed += add_filaments(room, ActinFilament(length / 2, bend), "actin", 1, 15.0)
    notes = missing(placed, {"microtubule": tubes, "actin": actin})
    return _scene(room, placed, notes, crowding, species)


def crowded(
    key: Key,
    shape: Shape,
    voxel_size: float,
    crowding: float = 0.2,
    species: Species | None = None,
    beads: int = 1,
) -> Scene:
    """Everything at once: reticulum, vesicles, filaments, gold beads, a crowd of macromolecules.

    Args:
        key, shape, voxel_size, crowding, species: as `vesicles`.
        beads: gold beads of 10 nm.

    Raises:
        ValueError: if the volume is thinner than 300 angstrom or crowding is out of range.
    """
    room = _room(key, shape, voxel_size, 300.0, "crowded", crowding)
    extent = room.extent
    length = np.float32(1.2 * np.linalg.norm(extent[1:]))
    blocks = float(np.prod(extent)) / 600.0**3
    count = max(1, min(round(blocks), 6))
    placed = []
    for i in range(count):
        tube = Microtubule(length, protofilaments=13 if i % 2 == 0 else 14)
        placed += add_filaments(room, tube, "microtubule", 1, 12.0)
    placed += add_filaments(room, ActinFilament(length / 2), "actin", 2 * count, 15.0)
    if extent.min() >= 600:
        stack = room.place(GolgiStack(np.float32(0.25 * extent.min())), "Golgi stack", inside=False)
        placed += [] if stack is None else [stack]
    notes = missing(placed, {"microtubule": count, "actin": 2 * count})
    found = add_vesicles(room, FRACTION, 0.25 * extent.min())
    placed += found + [p for one in found for p in stud(one, room, 6)]
    gold = GoldBead(np.float32(50.0))
    placed += [b for _ in range(beads) if (b := room.place(gold, "gold bead")) is not None]
    notes += missing(placed, {"gold bead": beads})
    return _scene(room, placed, notes, crowding, species)


def contrast_drift(
    key: Key,
    shape: Shape,
    voxel_size: float,
    crowding: float = 0.05,
    species: Species | None = None,
    least: float = 0.35,
) -> Scene:
    """`vesicles` whose contrast falls across the volume, as uneven thickness makes it.

    Args:
        key, shape, voxel_size, crowding, species: as `vesicles`.
        least: contrast at the low end of x; it rises to 1 at the other.

    Raises:
        ValueError: as `vesicles`; if `least` is not within 0 to 1.
    """
    if not 0 < least <= 1:
        raise ValueError(f"least must be above 0 and at most 1, got {least}")
    scene = vesicles(key, shape, voxel_size, crowding, species)
    ramp = np.linspace(least, 1.0, shape[2], dtype=np.float32)
    return dataclasses.replace(scene, contrast=np.broadcast_to(ramp, shape))


def threshold_dilemma(key: Key, shape: Shape, voxel_size: float) -> Scene:
    """Structure at density 1.0 in a background of 0, one region of it at 0.4.

    Three thick flat cisternae, labelled as membranes. Imaged with noise of standard deviation 0.5
    (`WedgeImaging(sigma=0.5, exponent=0.0, wedge=None)`) no threshold finds the faint part
    and leaves the background alone.

    Args:
        key: random key.
        shape, voxel_size: as `vesicles`.

    Raises:
        ValueError: if the volume is thinner than 160 angstrom.
    """
    room = _room(key, shape, voxel_size, 160.0, "threshold_dilemma")
    reach = 0.3 * room.extent.min()
    flat = Cisterna(np.float32(reach - 1.5 * voxel_size), np.float32(1.5 * voxel_size))
    solid = Solid(flat, MEMBRANE, 1.0, np.float32(0.2 * voxel_size))
    found = [room.place(solid, "structure", tries=200) for _ in range(3)]
    placed = [p for p in found if p is not None]
    scene = _scene(room, placed, missing(placed, {"structure": 3}))
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
    """Flat round bilayers at chosen angles, for what the missing wedge does to each.

    Args:
        key: random key.
        shape, voxel_size: as `vesicles`.
        angles: degrees between the normal of each and the beam, 0 to 90.
        azimuth: degrees from x towards y of the direction into which the normals lean.

    Raises:
        ValueError: if the volume is thinner than 200 angstrom or an angle is out of range.
    """
    if not all(0 <= a <= 90 for a in angles):
        raise ValueError(f"angles must be within 0 to 90 degrees, got {angles}")
    room = _room(key, shape, voxel_size, 200.0, "flat_bilayers")
    placed, lean, extent = [], np.deg2rad(azimuth), room.extent
    # As large as leaves each its share of the volume.
    share = (np.prod(extent) / max(len(angles), 1)) ** (1 / 3)
    radius = np.float32(min(0.3 * extent.min(), 0.33 * share))
    for angle in angles:
        a = np.deg2rad(angle)
        normal = np.array([np.cos(a), np.sin(a) * np.sin(lean), np.sin(a) * np.cos(lean)])
        disc = Bilayer(Disc(radius))
        one = room.place(
            disc, f"bilayer {angle:g}", lambda rng, n=normal: facing(n, rng), tries=300
        )
        placed += [] if one is None else [one]
    return _scene(room, placed, missing(placed, {f"bilayer {a:g}": 1 for a in angles}))
