"""``cryojax-seg extract``: boxes around particles, cut out of a tomogram."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import (
    Contrast,
    CoordinatesVoxelSize,
    Output,
    Overwrite,
    TiltRange,
    TomogramName,
    VoxelSize,
    check_not_input,
    default,
    plain,
)


@dataclasses.dataclass(frozen=True)
class Extract:
    """Cut boxes around particles out of a tomogram, at sub-voxel positions.

    Each box has mean 0 and deviation 1, structure bright and the particle at its voxel EDGE/2, in
    the orientation of the tomogram. Beside the boxes a STAR file lists them (rlnImageName) with
    their poses and whatever else the table says. Boxes that reach beyond the volume are listed;
    what is missing in them is the mean, so 0. Particles centred outside of it are left out. With
    --tilt-range a stack of the missing wedge of each is written too, OUTPUT_wedges.mrcs, for
    programs that do not know how it turns.
    """

    tomogram: Positional[Path]
    """Volume: MRC, TIFF or OME-Zarr; large ones are read only where particles are."""
    particles: Positional[Path]
    """Table of particles: .star (RELION 3.1 or 5), .tbl (Dynamo) or .csv."""
    output: Output
    """One stack of volumes if it ends in .mrcs, else a folder with an MRC file for each."""
    edge: int = 64
    """Edge of the boxes in voxels, 8 to 512."""
    outside: Literal["keep", "drop"] = "keep"
    """What becomes of boxes that reach beyond the volume."""
    radius: Annotated[float | None, default("ANGSTROM", "the whole box counts")] = None
    """Radius of the particle in angstrom: boxes are normalized by what is beyond it."""
    tilt_range: Annotated[TiltRange, default("LO HI", "no wedges are written")] = None
    """Lowest and highest tilt in degrees. A wedge is 1 where its box, rotated to the pose of the
    reference, was measured and 0 elsewhere; the zero frequency is its voxel EDGE/2."""
    tilt_axis: Literal["y", "x"] = "y"
    """Axis the sample was tilted about."""
    contrast: Contrast = "dark"
    """Whether structure is darker or brighter than its surroundings in the tomogram."""
    voxel_size: VoxelSize = None
    """Voxel size in angstrom."""
    coordinates_voxel_size: CoordinatesVoxelSize = None
    """Size of the pixels that the table counts its coordinates in, in angstrom."""
    name: TomogramName = None
    """Name of the tomogram in a table of several."""
    overwrite: Overwrite = False
    """Replace existing files."""


def run(options: Extract) -> None:
    """Does what `Extract` says; a ValueError or OSError tells what is wrong in one line."""
    from cryojax_seg import io

    io.check_places([options.output], [options.tomogram, options.particles])
    star = options.output.with_suffix(".star")
    wedges = options.output.with_name(f"{options.output.stem}_wedges.mrcs")
    if not 8 <= options.edge <= 512:
        raise ValueError(f"--edge must be 8 to 512 voxels, got {options.edge}")
    if options.output.suffix not in ("", ".mrcs"):
        raise ValueError(
            f"{options.output}: --output ends in .mrcs (a stack) or is a folder's name"
        )
    check_not_input(star, options.particles, "--output")
    with io.OutputSet(
        {"extract": plain(options)},
        [options.output, star, *((wedges,) if options.tilt_range else ())],
        [options.tomogram, options.particles],
        options.overwrite,
        {} if options.output.suffix else {options.output: io.BOX_FILES},
    ) as outputs:
        if outputs.finished:
            print(f"{options.output}: is done already")
            return
        count = _extract(options, outputs, star, wedges)
    print(f"extracted: {count} boxes of {options.edge}^3 into {options.output}, see {star}")


def _extract(options: Extract, outputs: Any, star: Path, wedges: Path) -> int:
    """Writes boxes, table and wedges; how many boxes there are."""
    from cryojax_seg import core, io, particles, runtime

    runtime.keep_compiled()
    tomogram = io.read_tomogram(options.tomogram, options.voxel_size)
    size = io.cubic_voxel_size(tomogram)
    table, rows = io.read_particles_in(
        options.particles, tomogram, options.name, options.coordinates_voxel_size
    )
    table = dataclasses.replace(table, voxel_size=size)
    beyond = particles.extends_outside(table.coordinates, options.edge, tomogram.density.shape)
    for number in beyond.nonzero()[0][:20]:
        z, y, x = table.coordinates[number]
        console.say(f"row {rows[number] + 1} at z {z:g}, y {y:g}, x {x:g}: its box reaches beyond")
    if beyond.any():
        done = "kept, filled with the mean" if options.outside == "keep" else "dropped"
        console.warn(
            f"{options.particles}: {int(beyond.sum())} of {len(table)} boxes of {options.edge} "
            f"voxels reach beyond {options.tomogram} {tuple(tomogram.density.shape)}: {done} "
            "(--outside)"
        )
    if options.outside == "drop":
        table = table.take(~beyond)
    if not len(table):
        raise io.FileError(f"{options.particles}: no particle is left to extract")
    radius = None if options.radius is None else options.radius / size
    boxes = particles.extract_boxes(
        tomogram.density, table, options.edge, radius=radius, invert=options.contrast == "dark"
    )
    with console.progress(len(table), options.output.name) as advance:

        def volumes():
            for box in boxes:
                yield box.volume
                advance()

        io.write_boxes(outputs.place(options.output), volumes(), len(table), options.edge, size)
    names = [_name(options.output, i + 1) for i in range(len(table))]
    listed = io.with_boxes(table, names, options.edge)
    io.write_particles(outputs.place(star), listed)
    if options.tilt_range is not None:
        wedge = core.MissingWedge(options.tilt_range, options.tilt_axis)
        masks = particles.wedge_masks(wedge, table.rotations, options.edge)
        io.write_boxes(outputs.place(wedges), masks, len(table), options.edge, size)
    return len(table)


def _name(output: Path, number: int) -> str:
    if output.suffix == ".mrcs":
        return f"{number:06d}@{output.name}"
    return f"{output.name}/{number:06d}.mrc"
