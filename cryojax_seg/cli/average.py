"""``cryojax-seg average``: the wedge-compensated average of boxes, aligned if wanted."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional

from cryojax_seg.cli.arguments import (
    Output,
    Overwrite,
    TiltRange,
    VoxelSize,
    check_not_input,
    default,
    plain,
)


@dataclasses.dataclass(frozen=True)
class Average:
    """Average particles, each in its pose and with its own missing wedge, and say how well.

    Odd and even particles are aligned and averaged apart. Beside OUT.mrc it writes both halves, the
    poses (OUT.star) and OUT.json with the Fourier shell correlation of the halves, corrected for
    the mask by phase randomization, and the resolution at 0.143.
    """

    boxes: Positional[Path]
    """Stack (.mrcs) or folder that `cryojax-seg extract` wrote; its .star lies beside it."""
    output: Output
    """Average, an .mrc file; structure is bright."""
    particles: Annotated[Path | None, default("TABLE", "that of the boxes")] = None
    """Table with poses. Its rlnImageName says which box each row is of, in any order and for any
    part of them; without that it has a row for each box, in their order."""
    tilt_range: Annotated[TiltRange, default("LO HI", "required")] = None
    """Lowest and highest tilt of the tomogram in degrees; -90 90 if nothing is missing."""
    tilt_axis: Literal["y", "x"] = "y"
    """Axis the sample was tilted about."""
    iterations: int = 0
    """Rounds of alignment to the halves' own averages; 0 averages the poses as they are."""
    reference: Annotated[Path | None, default("MAP", "the average of the poses")] = None
    """Density to align to in the first round, bright, in a box of the same edge."""
    angle: float = 9.0
    """Largest rotation that is tried around each pose in the first round, in degrees."""
    spacing: float = 6.0
    """Angle between neighbouring rotations, in degrees. Both are halved after each round."""
    max_shift: float = 3.0
    """Maximum shift of a particle in a round, in voxels."""
    radius: Annotated[float | None, default("ANGSTROM", "0.7 of half the box")] = None
    """Radius of the mask in angstrom."""
    voxel_size: VoxelSize = None
    """Voxel size in angstrom."""
    overwrite: Overwrite = False
    """Replace existing files."""


def run(options: Average) -> None:
    """Does what `Average` says; a ValueError or OSError tells what is wrong in one line."""
    paths = _check(options)
    from cryojax_seg import io

    table = options.particles or options.boxes.with_suffix(".star")
    inputs = [options.boxes, table, *([] if options.reference is None else [options.reference])]
    job = {"average": plain(options)}
    with io.OutputSet(job, list(paths.values()), inputs, options.overwrite) as outputs:
        if outputs.finished:
            print(f"{options.output}: is done already")
            return
        staged = {name: outputs.place(path) for name, path in paths.items()}
        count, resolution = _average(options, table, staged)
    print(f"averaged: {count} particles into {options.output}; {resolution}")


def _average(options: Average, table_path: Path, outputs: dict[str, Path]) -> tuple[int, str]:
    """Averages and writes; the number of particles, and the resolution in words."""
    from cryojax_seg import core, io, particles, runtime

    runtime.keep_compiled()
    runtime.keep_memory()
    boxes = io.read_boxes(options.boxes)
    listed = io.read_table(table_path)
    numbers = io.read_box_numbers(options.boxes, len(boxes), listed)
    if len(listed) < 2:
        raise io.FileError(f"{options.boxes}: two boxes or more are needed, to compare halves")
    if len(set(numbers.tolist())) < 2:
        raise io.FileError(f"{table_path}: all rows name one box; halves need two or more")
    size = io.boxed_voxel_size(options.boxes, listed, options.voxel_size)
    table, offsets = io.boxed_particles(listed, size)
    edge = boxes.shape[1]
    assert options.tilt_range is not None
    found = particles.refine_halves(
        boxes,
        particles.Poses(table.rotations, offsets, 0 * offsets[:, 0]),
        core.MissingWedge(options.tilt_range, options.tilt_axis),
        numbers=numbers,
        iterations=options.iterations,
        reference=None if options.reference is None else _reference(options.reference, edge),
        angle=options.angle,
        spacing=options.spacing,
        max_shift=options.max_shift,
        radius=None if options.radius is None else options.radius / size,
    )
    resolution = found.resolution(size)
    volumes = dict(first=found.halves[0], second=found.halves[1], average=found.average)
    for name, volume in volumes.items():
        io.write_mrc(outputs[name], volume, voxel_size=size)
    scores = found.poses.scores if options.iterations else None
    rotations, offsets = found.poses.rotations, found.poses.offsets
    io.write_boxed_particles(outputs["poses"], listed, table, rotations, offsets, scores, size)
    known = resolution is not None and math.isfinite(resolution)
    summary = {
        "particles": len(table),
        "resolution_angstrom": resolution if known else None,
        **found.shells(size),
    }
    outputs["scores"].write_text(json.dumps(summary, indent=1) + "\n")
    if resolution is None:
        fewest = particles.FEWEST_FOR_RESOLUTION
        return len(table), f"too few for a resolution, which needs {fewest} or more"
    return len(table), f"{resolution:.1f} A at FSC 0.143"


def _check(options: Average) -> dict[str, Path]:
    """What can be told to be wrong before anything is read; the files that are written."""
    if options.output.suffix != ".mrc":
        raise ValueError(f"{options.output}: --output is a file that ends in .mrc")
    if options.tilt_range is None:
        raise ValueError(
            "--tilt-range LO HI is needed: what each particle lacks (-90 90 if nothing does)"
        )
    if options.iterations < 0:
        raise ValueError(f"--iterations must be 0 or more, got {options.iterations}")
    if options.reference is not None and not options.iterations:
        raise ValueError("--reference is for alignment, which needs --iterations 1 or more")
    stem = options.output.with_suffix("")
    outputs = {
        "average": options.output,
        "first": stem.with_name(f"{stem.name}.half1.mrc"),
        "second": stem.with_name(f"{stem.name}.half2.mrc"),
        "poses": options.output.with_suffix(".star"),
        "scores": options.output.with_suffix(".json"),
    }
    table = options.particles or options.boxes.with_suffix(".star")
    check_not_input(outputs["poses"], table, "--output")
    return outputs


def _reference(path: Path, edge: int) -> Any:
    from cryojax_seg import io

    volume = io.read_tomogram(path).density
    if volume.shape != (edge,) * 3:
        raise io.FileError(
            f"{path}: has shape {volume.shape}, the boxes have {edge} voxels; crop or pad it"
        )
    return volume
