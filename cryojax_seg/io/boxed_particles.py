"""Tables of particles that are cut out as boxes: which box is whose, and their poses in it."""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from cryojax_seg.core.particles import Particles
from cryojax_seg.core.types import Array
from cryojax_seg.io.boxes import box_numbers, boxes_voxel_size
from cryojax_seg.io.files import FileError, PathLike
from cryojax_seg.io.particles import ParticleTable, particles_of, write_particles


def read_box_numbers(path: Path, count: int, listed: ParticleTable) -> Int[np.ndarray, " n"]:
    """Return the box of each row of a table, by its name; in their order if it names none.

    Args:
        path: of the boxes.
        count: of the boxes.
        listed: the table.

    Raises:
        FileError: if the table lists other things than boxes in the orientation of the tomogram,
            or not as many as there are.

    >>> listed = ParticleTable(Path("a.csv"), {"z": ("2", "5"), "y": ("4", "7"), "x": ("6", "9")})
    >>> read_box_numbers(Path("boxes.mrcs"), 2, listed).tolist()
    [0, 1]
    """
    flat = listed.flat_images()
    if flat is not None:
        raise FileError(
            f"{listed.path}: its particles are 2D stacks ({flat}), a few projections of each "
            "instead of a box; extract boxes from the tomogram with this table first"
        )
    rotated = [f"rlnTomoSubtomogram{angle}" for angle in ("Rot", "Tilt", "Psi")]
    if any(float(word or 0) for label in rotated for word in listed.columns.get(label, ())):
        raise FileError(
            f"{listed.path}: its boxes are turned (rlnTomoSubtomogramRot, pseudo-subtomograms); "
            "extract boxes from the tomogram with this table first"
        )
    if listed.images is not None:
        return np.asarray(box_numbers(path, listed.images, listed.path))
    if len(listed) != count:
        raise FileError(
            f"{listed.path}: has {len(listed)} particles and {path} {count} boxes, and no column "
            "rlnImageName that says which belong together"
        )
    return np.arange(count)


def boxed_voxel_size(path: Path, listed: ParticleTable, given: float | None = None) -> float:
    """Return the voxel size of boxes in angstrom: as given, of their header, or of their table.

    Raises:
        FileError: if it is not known.

    >>> import tempfile
    >>> from cryojax_seg.io.boxes import write_boxes
    >>> file = Path(tempfile.mkdtemp()) / "boxes.mrcs"
    >>> write_boxes(file, [np.zeros((4, 4, 4))], 1, 4, 10.0)
    >>> boxed_voxel_size(file, ParticleTable(Path("a.csv"), {"z": ("2",)}))
    10.0
    """
    size = given or boxes_voxel_size(path)
    images = listed.image_size()
    if size is None and images is not None:
        size = float(np.median(images.sizes))
    if size is None:
        raise FileError(f"{listed.path}: no voxel size; give voxel_size", "voxel_size")
    return size


def boxed_particles(
    listed: ParticleTable, voxel_size: float
) -> tuple[Particles, Float[np.ndarray, "n 3"]]:
    """Return the particles where their boxes are, and their offsets from the middles of those.

    Boxes that a table names are at its coordinates without the shifts. In others the particles
    are in the middle.

    Args:
        listed: the table.
        voxel_size: of the boxes, angstrom.

    Returns:
        the particles, and float32 offsets in voxels, zyx.

    >>> listed = ParticleTable(Path("a.csv"), {"z": ("2",), "y": ("4",), "x": ("6",)})
    >>> particles, offsets = boxed_particles(listed, 10.0)
    >>> particles.coordinates.tolist(), offsets.tolist()
    ([[2.0, 4.0, 6.0]], [[0.0, 0.0, 0.0]])
    """
    stated = listed.pixel_size()
    given = voxel_size if stated is not None and stated.of_images else None
    shifted = particles_of(listed, voxel_size, (0, 0, 0), given)
    if listed.images is None:
        return shifted, np.zeros((len(shifted), 3), np.float32)
    placed = particles_of(listed.unshifted(), voxel_size, (0, 0, 0), given)
    return placed, np.asarray(shifted.coordinates - placed.coordinates, np.float32)


def write_boxed_particles(
    path: PathLike,
    listed: ParticleTable,
    particles: Particles,
    rotations: Float[Array, "n 3 3"],
    offsets: Float[Array, "n 3"],
    scores: Float[Array, " n"] | None,
    voxel_size: float,
) -> None:
    """Write new poses of boxed particles, beside whatever else their table says.

    Args:
        path: of the new table.
        listed: the table that they came from.
        particles: where their boxes are, from `boxed_particles`.
        rotations: of the particles, zyx.
        offsets: from the middles of their boxes, voxels, zyx. They become shifts where the table
            names its boxes, else they move the coordinates.
        scores: None for those of the particles.
        voxel_size: of the boxes, angstrom.

    >>> import tempfile
    >>> from cryojax_seg.io.particles import read_particles
    >>> listed = ParticleTable(Path("a.csv"), {"z": ("2",), "y": ("4",), "x": ("6",)})
    >>> particles, _ = boxed_particles(listed, 10.0)
    >>> file = Path(tempfile.mkdtemp()) / "aligned.star"
    >>> shift = np.array([[0.5, 0.0, 0.0]])
    >>> write_boxed_particles(file, listed, particles, np.eye(3)[None], shift, None, 10.0)
    >>> read_particles(file).coordinates.tolist()
    [[2.5, 4.0, 6.0]]
    """
    moves, named = np.asarray(offsets, np.float64), listed.images is not None
    shifts = {
        f"rlnOrigin{'ZYX'[i]}Angst": [repr(-v) for v in (moves * voxel_size)[:, i].tolist()]
        for i in (2, 1, 0)
    }
    moved = dataclasses.replace(
        particles,
        coordinates=particles.coordinates + (0 if named else moves),
        columns={**particles.columns, **(shifts if named else {})},
        rotations=np.float64(rotations),
        scores=particles.scores if scores is None else np.float64(scores),
        voxel_size=voxel_size,
    )
    # Centred coordinates stay centred: no size of a tomogram is needed.
    form = ("relion5", (0, 0, 0)) if listed.centred else ("relion3", None)
    write_particles(path, moved, *form)
