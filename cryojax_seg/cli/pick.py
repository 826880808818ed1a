"""``cryojax-seg pick``: particles from a probability map, or by template matching."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import (
    Contrast,
    CoordinatesVoxelSize,
    Output,
    Overwrite,
    TiltRange,
    TomogramName,
    VoxelSize,
    check_table,
    default,
    plain,
)


@dataclasses.dataclass(frozen=True)
class Pick:
    """Pick particles from probability maps or labels, or from a tomogram with a template.

    A map is what `cryojax-seg segment --probabilities` writes. The maps of several classes compete:
    where two claim one place, the more probable is kept. In a label volume or a mask each connected
    object counts once. With --template the volume is a tomogram, and each voxel gets the best
    locally normalized correlation over all rotations. With --annotated the threshold is the one
    with the highest F-beta on this volume. Picks go into a table for RELION, Dynamo or
    spreadsheets, the best first; of several classes the class number counts the maps from 1.
    """

    volumes: Annotated[
        Positional[tuple[Path, ...]], arg(metavar="MAP ...", help_behavior_hint="(one or more)")
    ]
    """Probability map of each class, or one label volume, or the tomogram to find a template in."""
    output: Output
    """Table of picks: .star (RELION 3.1), .tbl (Dynamo) or .csv."""
    diameter: Annotated[tuple[float, ...], default("ANGSTROM ...", "required")] = ()
    """Diameter of the particle in angstrom: one for all maps, or one for each."""
    classes: Annotated[tuple[str, ...], default("NAME ...", "from the names of the maps")] = ()
    """Names of the classes of several maps."""
    label: Annotated[tuple[int, ...], default("N ...", "all, each a class")] = ()
    """Labels to pick in a label volume."""
    threshold: Annotated[float | None, default("SCORE", "0.5; 6 deviations for a template")] = None
    """Lowest probability of a voxel of a particle; for peaks and templates the lowest probability
    or correlation of a pick (no unit)."""
    method: Annotated[
        Literal["balls", "peaks", "regions"] | None, default("METHOD", "balls; of a template peaks")
    ] = None
    """balls: where a ball of the diameter holds most probability. peaks: the highest voxels, a
    diameter apart. regions: the centres of regions that a watershed splits."""
    smallest: float = 0.15
    """With balls: least mean probability in a ball of 0.9 diameters (no unit); specks have less."""
    most: Annotated[int | None, default("COUNT", "all")] = None
    """Largest number of picks."""
    inside: Annotated[Path | None, default("LABELS", "anywhere")] = None
    """Label volume of a compartment that particles must be in."""
    inside_label: int = 1
    """Label of the compartment."""
    membrane: Annotated[Path | None, default("LABELS", "none")] = None
    """Label volume of a membrane, for --distance; picks are rotated so that z is its normal."""
    membrane_label: int = 1
    """Label of the membrane."""
    distance: Annotated[tuple[float, float] | None, default("LO HI", "any")] = None
    """Shortest and longest distance of a particle's centre from the membrane in angstrom."""
    annotated: Annotated[Path | None, default("TABLE", "none")] = None
    """Table of all true particles of this volume: chooses the threshold."""
    beta: float = 4.0
    """With --annotated: how much more recall counts than precision (no unit)."""
    template: Annotated[Path | None, default("MAP", "none")] = None
    """Density of the particle, bright, on voxels of the tomogram's size: an MRC cube."""
    angle: float = 15.0
    """With --template: a rotation is tried within so many degrees of any."""
    tilt_range: Annotated[TiltRange, default("LO HI", "no wedge")] = None
    """With --template: lowest and highest tilt in degrees."""
    tilt_axis: Literal["y", "x"] = "y"
    """Axis the sample was tilted about."""
    contrast: Contrast = "dark"
    """With --template: whether structure is darker or brighter than its surroundings."""
    scores: Annotated[Path | None, default("FILE.mrc", "not written")] = None
    """With --template: also write the correlation at each voxel."""
    memory: float = 4.0
    """GiB for the correlation."""
    voxel_size: VoxelSize = None
    """Voxel size in angstrom."""
    coordinates_voxel_size: CoordinatesVoxelSize = None
    """Size of the pixels that --annotated counts its coordinates in, in angstrom."""
    name: TomogramName = None
    """Name of the tomogram in the tables."""
    overwrite: Overwrite = False
    """Replace existing files."""


def run(options: Pick) -> None:
    """Run `Pick`; a ValueError or OSError says in one line what is wrong."""
    _check(options)
    from cryojax_seg import io

    given = (options.inside, options.membrane, options.annotated, options.template)
    inputs = [*options.volumes, *filter(None, given)]
    paths, job = [options.output, *filter(None, [options.scores])], {"pick": plain(options)}
    with io.OutputSet(job, paths, inputs, options.overwrite) as outputs:
        if outputs.finished:
            print(f"{options.output}: is done already")
            return
        count = _pick(options, outputs)
    print(f"picked: {count} particles into {options.output}")


def _check(options: Pick) -> None:
    """Refuse options that exclude each other, before anything is read."""
    check_table(options.output, "--output")
    if not options.volumes:
        raise ValueError("pick needs a probability map of each class, a label volume or a tomogram")
    if not options.diameter:
        raise ValueError("--diameter ANGSTROM is needed: the particle's diameter, above 0")
    if options.distance is not None and options.membrane is None:
        raise ValueError("--distance needs --membrane LABELS, the membrane to measure it from")
    if options.most is not None and options.most < 1:
        raise ValueError(f"--most must be 1 or more, got {options.most}")
    if options.template is None:
        if options.scores is not None:
            raise ValueError("--scores writes correlations, which need --template MAP")
        return
    if len(options.volumes) > 1 or options.label:
        raise ValueError("--template is for one tomogram at a time, without --label")
    if options.method not in (None, "peaks"):
        raise ValueError(
            f"--method {options.method} is for probability maps; leave it out with --template"
        )


def _pick(options: Pick, outputs: Any) -> int:
    """Pick and write; return the number of particles."""
    from cryojax_seg import core, inference, io, runtime

    runtime.keep_compiled()
    first = options.volumes[0]
    tomogram = io.read_tomogram(first, options.voxel_size)
    surroundings = io.read_surroundings(
        tomogram,
        inside=options.inside,
        inside_label=options.inside_label,
        membrane=options.membrane,
        membrane_label=options.membrane_label,
        distance=options.distance,
    )
    shared: dict[str, Any] = {"surroundings": surroundings, "threshold": options.threshold}
    if options.annotated is not None:
        known, _ = io.read_particles_in(
            options.annotated, tomogram, options.name, options.coordinates_voxel_size
        )
        shared |= {"truth": known.coordinates, "beta": options.beta}
    if options.template is None:
        found = inference.pick_volumes(
            options.volumes,
            options.diameter,
            tomogram=tomogram,
            method=options.method or "balls",
            smallest=options.smallest,
            labels=options.label,
            classes=options.classes,
            voxel_size=options.voxel_size,
            **shared,
        )
    else:
        tilts = options.tilt_range
        found = inference.pick_by_template(
            tomogram,
            options.template,
            options.diameter[0],
            angle=options.angle,
            wedge=None if tilts is None else core.MissingWedge(tilts, options.tilt_axis),
            contrast=options.contrast,
            memory=options.memory,
            **shared,
        )
    if options.scores is not None and found.match is not None:
        io.write_mrc(outputs.place(options.scores), found.match.scores, tomogram)
    picks = found.particles.take(slice(options.most))
    _show(options, found)
    columns = dict(picks.columns)
    columns["rlnTomoName"] = [options.name or io.tomogram_name(first)] * len(picks)
    picks = dataclasses.replace(
        picks,
        voxel_size=io.cubic_voxel_size(tomogram),
        columns={} if options.output.suffix == ".tbl" else columns,
    )
    io.write_particles(outputs.place(options.output), picks)
    if not len(picks):
        console.warn(f"{first}: nothing was picked; lower --threshold, or --smallest or --diameter")
    return len(picks)


def _show(options: Pick, found: Any) -> None:
    """Print the threshold that was chosen, and how many particles each class has."""
    if found.classes:
        kinds = found.particles.classes.tolist()
        rows = [[str(i), name, str(kinds.count(i))] for i, name in enumerate(found.classes, 1)]
        console.table("picks of each class", ("class", "name", "picks"), rows)
    if found.chosen is not None:
        counts = found.chosen.counts
        shares = (counts.f_beta(options.beta), counts.precision, counts.recall)
        console.table(
            f"threshold {found.chosen.value:.4g}, the best for {options.annotated}",
            (f"F{options.beta:g}", "precision", "recall", "found", "missed"),
            [[*map(console.number, shares), str(counts.true_positive), str(counts.false_negative)]],
        )
