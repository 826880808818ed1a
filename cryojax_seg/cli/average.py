"""``cryojax-seg average``: the wedge-compensated average of boxes, aligned if wanted."""

import dataclasses
import math
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from cryojax_seg.cli.arguments import Output, Overwrite, default, plain
from cryojax_seg.cli.geometry import TiltOptions, VoxelSize


@dataclasses.dataclass(frozen=True)
class Average:
    """Average particles in their poses with their missing wedges, and measure the resolution.

    Odd and even particles are aligned and averaged separately. Writes OUT.mrc, both half-maps, the
    poses (OUT.star) and OUT.json with the Fourier shell correlation of the half-maps, corrected for
    the mask by phase randomization, and the resolution at 0.143. --tilt-range is needed.
    """

    boxes: Positional[Path]
    """Stack (.mrcs) or folder that `cryojax-seg extract` wrote, with its .star beside it."""
    output: Output
    """File for the average (.mrc); structure is bright."""
    particles: Annotated[Path | None, default("TABLE", "that of the boxes")] = None
    """Table with the poses. Its column rlnImageName assigns rows to boxes, in any order and for any
    part of them; without that column it has one row for each box, in their order."""
    iterations: int = 0
    """Rounds of alignment to the averages of the halves. 0 averages the poses as they are."""
    reference: Annotated[Path | None, default("MAP", "the average of the poses")] = None
    """Density to align to in the first round. Structure is bright; the box has the same edge."""
    angle: float = 9.0
    """Maximum rotation from each pose in the first round, in degrees; halved after each round."""
    spacing: float = 6.0
    """Angle between neighbouring rotations in degrees; halved after each round."""
    max_shift: float = 3.0
    """Maximum shift from the box centre in a round, in voxels."""
    radius: Annotated[float | None, default("ANGSTROM", "0.7 of half the box edge")] = None
    """Radius of the spherical mask in angstrom."""
    voxel_size: VoxelSize = None
    report: Annotated[Path | None, default("FILE.html", "none")] = None
    """Also write a page with slices, a surface and the FSC of the average."""
    overwrite: Overwrite = False
    tilt: TiltOptions = TiltOptions()


def run(options: Average) -> None:
    """Run `Average`; a ValueError or OSError says in one line what is wrong."""
    paths, wedge = _check(options), options.tilt.wedge(required=True)
    from cryojax_seg import inference, io, particles, runtime

    table = options.particles or options.boxes.with_suffix(".star")
    inputs = [options.boxes, table, *filter(None, [options.reference])]
    job = {"average": plain(options)}
    with io.OutputSet(job, list(paths.values()), inputs, options.overwrite) as outputs:
        if outputs.finished:
            print(f"{options.output}: is done already")
            return
        runtime.keep_compiled()
        runtime.keep_memory()
        found = inference.average_files(
            options.boxes,
            {name: outputs.place(path) for name, path in paths.items()},
            wedge,
            table=table,
            reference=options.reference,
            iterations=options.iterations,
            angle=options.angle,
            spacing=options.spacing,
            max_shift=options.max_shift,
            radius=options.radius,
            voxel_size=options.voxel_size,
        )
    if options.report is not None:
        from cryojax_seg import report

        halves = (paths["first"], paths["second"])
        report.write_average_page(
            options.report, options.output, halves, paths["scores"], overwrite=options.overwrite
        )
    resolution = _resolution(found.resolution, particles.FEWEST_FOR_RESOLUTION)
    print(f"averaged: {found.count} particles into {options.output}; {resolution}")


def _resolution(angstrom: float | None, fewest: int) -> str:
    """Return the resolution in words.

    >>> _resolution(21.34, 10), _resolution(float("inf"), 10)
    ('21.3 A at FSC 0.143', 'the halves agree at no resolution (FSC below 0.143)')
    """
    if angstrom is None:
        return f"too few for a resolution, which needs {fewest} or more"
    if math.isinf(angstrom):
        return "the halves agree at no resolution (FSC below 0.143)"
    return f"{angstrom:.1f} A at FSC 0.143"


def _check(options: Average) -> dict[str, Path]:
    """Refuse options that are wrong before anything is read; return the files to write."""
    from cryojax_seg import io

    if options.output.suffix != ".mrc":
        raise ValueError(f"{options.output}: --output is a file that ends in .mrc")
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
    io.check_table_name(outputs["poses"], table)
    return outputs
