"""``cryojax-seg pick``: particles from a probability map, or by template matching."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import (
    Output,
    Overwrite,
    TableOptions,
    Workers,
    default,
    flat,
    plain,
)
from cryojax_seg.cli.geometry import VolumeOptions
from cryojax_seg.cli.projects import ProjectOptions


@dataclasses.dataclass(frozen=True)
class Pick:
    """Pick particles from probability maps or labels, or from a tomogram with a template.

    `cryojax-seg segment --probabilities` writes the maps. The maps of several classes compete:
    where two classes claim one place, the more probable is kept. In a label volume or a mask each
    connected object counts once. With --template the volume is a tomogram, and each voxel gets the
    best locally normalized correlation over all rotations; --tilt-range gives the template the
    missing wedge of the tomogram. With --annotated the threshold is the one with the highest F-beta
    on this volume. Picks go into a table for RELION, Dynamo or spreadsheets, the best first; the
    class number counts the maps from 1.
    """

    volumes: Annotated[
        Positional[tuple[Path, ...]], arg(metavar="MAP ...", help_behavior_hint="(one or more)")
    ]
    """Probability map of each class, or one label volume, or the tomogram to search."""
    output: Output
    """Table for the picks: .star (RELION 3.1), .tbl (Dynamo), .csv or .mod (IMOD)."""
    diameter: Annotated[tuple[float, ...], default("ANGSTROM ...", "required")] = ()
    """Diameter of the particle in angstrom. Give one for all maps, or one for each."""
    classes: Annotated[tuple[str, ...], default("NAME ...", "from the files")] = ()
    """Names of the classes of several maps, or of the labels 1, 2, ... of a label volume."""
    label: Annotated[tuple[str, ...], default("N|NAME ...", "all, each as a class")] = ()
    """Labels to pick in a label volume, by number or by the name that its file states."""
    threshold: Annotated[float | None, default("SCORE", "0.5; 6 deviations for a template")] = None
    """Minimum probability of a voxel of a particle. For peaks and templates it is the minimum
    probability or correlation of a pick (no unit)."""
    method: Annotated[
        Literal["balls", "peaks", "regions"] | None,
        default("METHOD", "balls, or peaks"),
    ] = None
    """'balls' finds where a ball of the diameter holds most probability. 'peaks' takes the highest
    voxels that are a diameter apart. 'regions' takes the centres of regions that a watershed
    splits."""
    smallest: float = 0.15
    """With --method balls, the minimum mean probability in a ball of 0.9 diameters (no unit).
    Specks have less."""
    most: Annotated[int | None, default("COUNT", "no limit")] = None
    """Maximum number of picks."""
    inside: Annotated[Path | None, default("LABELS", "anywhere")] = None
    """Label volume of a compartment. Only particles inside it are kept."""
    inside_label: int = 1
    """Label of the compartment."""
    membrane: Annotated[Path | None, default("LABELS", "none")] = None
    """Label volume of a membrane, for --distance. Picks are rotated so that z is its normal."""
    membrane_label: int = 1
    """Label of the membrane."""
    distance: Annotated[tuple[float, float] | None, default("LO HI", "any")] = None
    """Minimum and maximum distance of a particle's centre from the membrane, in angstrom."""
    annotated: Annotated[Path | None, default("TABLE", "none")] = None
    """Table of all true particles of this volume. The threshold is fitted to it."""
    beta: float = 4.0
    """With --annotated, the weight of recall relative to precision (no unit)."""
    template: Annotated[Path | None, default("MAP", "none")] = None
    """Density of the particle, as an MRC cube with the voxel size of the tomogram. Structure is
    bright."""
    angle: float = 15.0
    """With --template, the maximum angle in degrees from any rotation to the nearest one tried."""
    scores: Annotated[Path | None, default("FILE.mrc", "none")] = None
    """With --template, also write the correlation at each voxel to this file."""
    memory: float = 4.0
    """With --template, the maximum memory for the correlation in GiB."""
    relion: Literal["3.1", "5"] = "3.1"
    """Form of a .star table. RELION 5 counts angstrom from the middle of the tomogram; earlier
    versions count voxels or, where the optics know them, pixels of the tilt series."""
    workers: Workers = 0
    overwrite: Overwrite = False
    project: ProjectOptions = ProjectOptions()
    volume: VolumeOptions = VolumeOptions()
    table: TableOptions = TableOptions()


def run(options: Pick) -> None:
    """Run `Pick`; a ValueError or OSError says in one line what is wrong."""
    from cryojax_seg import io

    if len(options.project.run) > 1 and not io.is_address(options.output):
        count = len(options.project.run)
        raise ValueError(f"{options.output}: {count} runs for one table; give one --run")
    jobs, workers = _of_runs(options), options.workers
    console.each(jobs, _run, name=lambda one: str(one.output), workers=workers)


def _of_runs(options: Pick) -> list[Pick]:
    """Return the options of each run, with the file of its picks as the output."""
    from cryojax_seg import io

    if not io.is_address(options.output):
        return [options]
    runs = options.project.run
    if not runs:
        raise ValueError(f"{options.output}: give the --run that the picks belong to")
    paths, _ = io.new_copick(str(options.output), "picks", runs)
    return [
        dataclasses.replace(
            options,
            volumes=options.volumes[i :: len(runs)],
            output=path,
            table=dataclasses.replace(options.table, name=run),
        )
        for i, (run, path) in enumerate(zip(runs, paths, strict=True))
    ]


def _run(options: Pick) -> str:
    """Pick the particles of one tomogram, and write their table; return what is said of it."""
    from cryojax_seg import io

    io.check_table_name(options.output)
    _check(options)
    given = (options.inside, options.membrane, options.annotated, options.template)
    inputs = [*options.volumes, *filter(None, given)]
    paths, job = [options.output, *filter(None, [options.scores])], {"pick": plain(options)}
    with (
        io.folder_made(options.output.parent),
        io.OutputSet(job, paths, inputs, options.overwrite) as outputs,
    ):
        if outputs.finished:
            return f"{options.output}: is done already"
        count = _pick(options, outputs)
    return f"picked: {count} particles into {options.output}"


def _check(options: Pick) -> None:
    """Refuse options that exclude each other, before anything is read."""
    if not options.volumes:
        raise ValueError("pick needs a probability map of each class, a label volume or a tomogram")
    if not options.diameter:
        raise ValueError("--diameter ANGSTROM is needed; give the diameter of the particle")
    if options.distance is not None and options.membrane is None:
        raise ValueError("--distance needs --membrane LABELS, from which it is measured")
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
    from cryojax_seg import inference, io, runtime

    runtime.keep_compiled()
    first = options.volumes[0]
    tomogram = io.read_tomogram(first, options.volume.voxel_size)
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
        known, _ = io.read_particles_in(options.annotated, tomogram, **flat(options.table))
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
            voxel_size=options.volume.voxel_size,
            **shared,
        )
    else:
        found = inference.pick_by_template(
            tomogram,
            options.template,
            options.diameter[0],
            angle=options.angle,
            wedge=options.volume.wedge(),
            contrast=options.volume.contrast or "dark",
            memory=options.memory,
            **shared,
        )
    if options.scores is not None and found.match is not None:
        io.write_mrc(outputs.place(options.scores), found.match.scores, tomogram)
    picks = found.particles.take(slice(options.most))
    if not options.workers:
        _show(options, found)
    columns = dict(picks.columns)
    columns["rlnTomoName"] = [options.table.name or io.tomogram_name(first)] * len(picks)
    picks = dataclasses.replace(
        picks,
        voxel_size=io.cubic_voxel_size(tomogram),
        columns={} if options.output.suffix in (".tbl", ".mod") else columns,
    )
    fifth = options.relion == "5" and options.output.suffix == ".star"
    form: Any = "relion5" if fifth else None
    io.write_particles(outputs.place(options.output), picks, form, tomogram.density.shape)
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
