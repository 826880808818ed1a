"""Boxes around the particles of a tomogram, from files to files."""

import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cryojax_seg import io, particles
from cryojax_seg.core import MissingWedge
from cryojax_seg.core.plain import Contrast
from cryojax_seg.errors import Mendable
from cryojax_seg.io.files import FileError, PathLike

_SHOWN = 20  # boxes that reach beyond the volume and are listed
_log = logging.getLogger("cryojax_seg.inference")


def extract_files(
    tomogram: PathLike,
    table: PathLike,
    output: Path,
    star: Path,
    wedges: Path | None = None,
    *,
    edge: int = 64,
    radius: float | None = None,
    outside: Literal["keep", "drop"] = "keep",
    wedge: MissingWedge | None = None,
    contrast: Contrast = "dark",
    voxel_size: float | None = None,
    coordinates_voxel_size: float | None = None,
    name: str | None = None,
    of_class: int | None = None,
    relion: Literal["3.1", "5"] = "3.1",
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Cut boxes around the particles of a tomogram, and write them with their table.

    Args:
        tomogram: the volume.
        table: of particles.
        output: a stack that ends in .mrcs, or a folder.
        star: the table of the boxes.
        wedges: stack of the missing wedge of each box; None writes none.
        edge: of the boxes in voxels.
        radius: of the particle in angstrom; see `particles.extract_boxes`.
        outside: "keep" boxes that reach beyond the volume, or "drop" them.
        wedge: the missing wedge of the tomogram, for `wedges`.
        contrast: whether structure is "dark" or "bright" in the tomogram.
        voxel_size, coordinates_voxel_size, name, of_class: see `io.read_particles_in`.
        relion: form of the table of the boxes, see `io.write_particles`.
        progress: called with the boxes that are done and those there are.

    Returns:
        the number of boxes.

    Raises:
        FileError: if no particle of the table lies in the tomogram, or none is left.

    >>> import tempfile
    >>> from cryojax_seg.core import Particles
    >>> folder = Path(tempfile.mkdtemp())
    >>> volume = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
    >>> io.write_mrc(folder / "t.mrc", volume, voxel_size=10.0)
    >>> found = Particles([[8.0, 8, 8], [7, 8, 8]], voxel_size=10.0)
    >>> io.write_particles(folder / "p.csv", found)
    >>> boxes, star = folder / "boxes.mrcs", folder / "boxes.star"
    >>> extract_files(folder / "t.mrc", folder / "p.csv", boxes, star, edge=8)
    2
    >>> io.read_boxes(boxes).shape
    (2, 8, 8, 8)
    """
    volume = io.read_tomogram(tomogram, voxel_size)
    size = io.cubic_voxel_size(volume)
    found, rows = io.read_particles_in(table, volume, name, coordinates_voxel_size, of_class)
    found = dataclasses.replace(found, voxel_size=size)
    beyond = particles.extends_outside(found.coordinates, edge, volume.density.shape)
    for number in np.flatnonzero(beyond)[:_SHOWN]:
        z, y, x = found.coordinates[number]
        _log.info(f"row {rows[number] + 1} at z {z:g}, y {y:g}, x {x:g}: its box reaches beyond")
    if beyond.any():
        done = "kept, filled with the mean" if outside == "keep" else "dropped"
        problem = (
            f"{table}: {int(beyond.sum())} of {len(found)} boxes of {edge} voxels reach beyond "
            f"{tomogram} {tuple(volume.density.shape)}: {done}"
        )
        _log.warning(Mendable(problem, "outside"))
    if outside == "drop":
        found = found.take(~beyond)
    count = len(found)
    if not count:
        raise FileError(f"{table}: no particle is left to extract")
    boxes = particles.extract_boxes(
        volume.density,
        found,
        edge,
        radius=None if radius is None else radius / size,
        invert=contrast == "dark",
    )

    def volumes() -> Iterator[np.ndarray]:
        for number, box in enumerate(boxes, 1):
            yield box.volume
            if progress is not None:
                progress(number, count)

    io.write_boxes(output, volumes(), count, edge, size)
    stated, stack = output.name, output.suffix == ".mrcs"
    names = [f"{i:06d}@{stated}" if stack else f"{stated}/{i:06d}.mrc" for i in range(1, count + 1)]
    form: Any = ("relion5", volume.density.shape) if relion == "5" else ("relion3", None)
    io.write_particles(star, io.with_boxes(found, names, edge), *form)
    if wedges is not None and wedge is not None:
        masks = particles.wedge_masks(wedge, found.rotations, edge)
        io.write_boxes(wedges, masks, count, edge, size)
    return count
