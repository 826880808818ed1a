"""Average boxes from files to files, and write halves, poses and the resolution."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cryojax_seg import io, particles
from cryojax_seg.core import MissingWedge
from cryojax_seg.io.files import FileError, PathLike


@dataclasses.dataclass(frozen=True)
class Averaged:
    """Reports what `average_files` wrote.

    Attributes:
        count: number of particles.
        resolution: angstrom, where the Fourier shell correlation of the halves falls to 0.143;
            None for too few particles, and infinite if the halves never agree.

    >>> Averaged(4, None).count
    4
    """

    count: int
    resolution: float | None


def average_files(
    boxes: PathLike,
    outputs: Mapping[str, Path],
    wedge: MissingWedge,
    *,
    table: PathLike | None = None,
    reference: PathLike | None = None,
    iterations: int = 0,
    angle: float = 9.0,
    spacing: float = 6.0,
    max_shift: float = 3.0,
    radius: float | None = None,
    voxel_size: float | None = None,
) -> Averaged:
    """Average boxes in their poses, after alignment if wanted, and write the result.

    Args:
        boxes: stack or folder of boxes.
        outputs: the files to write: "average", the halves "first" and "second", "poses" (a STAR
            table) and "scores" (JSON).
        wedge: the missing wedge of the tomogram.
        table: poses of the boxes; by default the table beside them.
        reference: density to align to in the first round.
        iterations: rounds of alignment.
        angle, spacing, max_shift: as for `particles.refine_halves`.
        radius: of the mask, angstrom; 0.7 of half the box by default.
        voxel_size: angstrom, instead of what the table or the headers say.

    Raises:
        FileError: naming the file, for fewer than two boxes or files that do not fit each other.

    >>> import tempfile
    >>> from cryojax_seg.core import Particles
    >>> folder = Path(tempfile.mkdtemp())
    >>> boxes = np.random.default_rng(0).normal(size=(4, 8, 8, 8)).astype(np.float32)
    >>> io.write_boxes(folder / "boxes.mrcs", boxes, 4, 8, 10.0)
    >>> poses = io.with_boxes(
    ...     Particles(np.zeros((4, 3)), voxel_size=10.0),
    ...     [f"{number:06d}@boxes.mrcs" for number in (1, 2, 3, 4)],
    ...     8,
    ... )
    >>> io.write_particles(folder / "boxes.star", poses)
    >>> names = ("average", "first", "second", "poses", "scores")
    >>> outputs = {name: folder / f"{name}.mrc" for name in names}
    >>> outputs["poses"] = folder / "poses.star"
    >>> average_files(folder / "boxes.mrcs", outputs, MissingWedge((-60.0, 60.0)))
    Averaged(count=4, resolution=None)
    """
    boxes = Path(boxes)
    table = boxes.with_suffix(".star") if table is None else Path(table)
    volumes, listed = io.read_boxes(boxes), io.read_table(table)
    numbers = io.read_box_numbers(boxes, len(volumes), listed)
    if len(listed) < 2:
        raise FileError(f"{boxes}: two boxes or more are needed, to compare halves")
    if len(set(numbers.tolist())) < 2:
        raise FileError(f"{table}: all rows name one box; halves need two or more")
    size = io.boxed_voxel_size(boxes, listed, voxel_size)
    found, offsets = io.boxed_particles(listed, size)
    refined = particles.refine_halves(
        volumes,
        particles.Poses(found.rotations, offsets, 0 * offsets[:, 0]),
        wedge,
        numbers=numbers,
        iterations=iterations,
        reference=None if reference is None else _reference(reference, volumes.shape[1]),
        angle=angle,
        spacing=spacing,
        max_shift=max_shift,
        radius=None if radius is None else radius / size,
    )
    resolution = refined.resolution(size)
    first, second = refined.halves
    for name, volume in {"first": first, "second": second, "average": refined.average}.items():
        io.write_mrc(outputs[name], volume, voxel_size=size)
    poses = refined.poses
    scores = poses.scores if iterations else None
    io.write_boxed_particles(
        outputs["poses"], listed, found, poses.rotations, poses.offsets, scores, size
    )
    known = resolution is not None and math.isfinite(resolution)
    summary: dict[str, Any] = {
        "particles": len(found),
        "resolution_angstrom": resolution if known else None,
        **refined.shells(size),
    }
    outputs["scores"].write_text(json.dumps(summary, indent=1) + "\n")
    return Averaged(len(found), resolution)


def _reference(path: PathLike, edge: int) -> np.ndarray:
    volume = io.read_tomogram(path).density
    if volume.shape != (edge,) * 3:
        raise FileError(
            f"{path}: has shape {volume.shape}, the boxes have {edge} voxels; crop or pad it"
        )
    return np.asarray(volume)
