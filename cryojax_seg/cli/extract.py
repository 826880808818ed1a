"""``cryojax-seg extract``: boxes around particles, cut out of a tomogram."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import Output, Overwrite, TableOptions, default, flat, plain
from cryojax_seg.cli.geometry import VolumeOptions
from cryojax_seg.cli.projects import ProjectOptions


@dataclasses.dataclass(frozen=True)
class Extract:
    """Cut boxes around particles out of a tomogram, at sub-voxel positions.

    Each box has mean 0, standard deviation 1 and bright structure; the particle lies at voxel
    EDGE/2, in the orientation of the tomogram. A STAR file beside the boxes lists them
    (rlnImageName) with their poses and the other columns of the table. Boxes that reach beyond the
    volume are listed and filled with 0, the mean; particles centred outside the volume are left
    out. --tilt-range also writes OUTPUT_wedges.mrcs, a stack with the missing wedge of each box,
    for programs that do not rotate the wedge. A wedge is 1 where its box, rotated to the pose of
    the reference, was measured and 0 elsewhere; the zero frequency is at voxel EDGE/2.
    """

    tomogram: Positional[Path]
    """Volume to cut from. Large ones are read only where particles are."""
    particles: Positional[Path]
    """Table of particles: .star (RELION, Warp or M), .tbl (Dynamo), .csv, .json (copick or EMAN2),
    .ndjson (CryoET Data Portal) or an IMOD model (.mod)."""
    output: Output
    """Stack of volumes if the name ends in .mrcs, else a folder with an MRC file for each box."""
    edge: int = 64
    """Edge of the boxes in voxels, 8 to 512."""
    outside: Literal["keep", "drop"] = "keep"
    """Keep or drop boxes that reach beyond the volume."""
    radius: Annotated[float | None, default("ANGSTROM", "use the whole box")] = None
    """Radius of the particle in angstrom. Boxes are normalized by the voxels beyond it."""
    relion: Literal["3.1", "5"] = "3.1"
    """Form of a .star table. RELION 5 counts angstrom from the middle of the tomogram; earlier
    versions count voxels or, where the optics know them, pixels of the tilt series."""
    overwrite: Overwrite = False
    project: ProjectOptions = ProjectOptions()
    volume: VolumeOptions = VolumeOptions()
    table: TableOptions = TableOptions()


def run(options: Extract) -> None:
    """Run `Extract`; a ValueError or OSError says in one line what is wrong."""
    from cryojax_seg import inference, io, runtime

    output, inputs = options.output, [options.tomogram, options.particles]
    io.check_places([output], inputs)
    star, wedges = output.with_suffix(".star"), output.with_name(f"{output.stem}_wedges.mrcs")
    if not 8 <= options.edge <= 512:
        raise ValueError(f"--edge must be 8 to 512 voxels, got {options.edge}")
    if output.suffix not in ("", ".mrcs"):
        raise ValueError(f"{output}: --output ends in .mrcs (a stack) or is a folder's name")
    io.check_table_name(star, options.particles)
    wedge = options.volume.wedge()
    with io.OutputSet(
        {"extract": plain(options)},
        [output, star, *([] if wedge is None else [wedges])],
        inputs,
        options.overwrite,
        {} if output.suffix else {output: io.BOX_FILES},
    ) as outputs:
        if outputs.finished:
            print(f"{output}: is done already")
            return
        runtime.keep_compiled()
        with console.tracked(output.name) as progress:
            count = inference.extract_files(
                options.tomogram,
                options.particles,
                outputs.place(output),
                outputs.place(star),
                None if wedge is None else outputs.place(wedges),
                edge=options.edge,
                radius=options.radius,
                outside=options.outside,
                wedge=wedge,
                contrast=options.volume.contrast or "dark",
                voxel_size=options.volume.voxel_size,
                relion=options.relion,
                progress=progress,
                **flat(options.table),
            )
    print(f"extracted: {count} boxes of {options.edge}^3 into {output}, see {star}")
