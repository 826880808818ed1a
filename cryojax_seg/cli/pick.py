"""``cryojax-seg pick``: particles from a probability map, or by template matching."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from cryojax_seg.cli import console, particle_files
from cryojax_seg.cli.arguments import (
    Contrast,
    CoordinatesVoxelSize,
    Output,
    Overwrite,
    TiltRange,
    TomogramName,
    VoxelSize,
    default,
    plain,
)

if TYPE_CHECKING:
    from cryojax_seg.core import Particles, Tomogram
    from cryojax_seg.evaluate import Threshold
    from cryojax_seg.particles import Match


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
    """Does what `Pick` says; a ValueError or OSError tells what is wrong in one line."""
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


def _pick(options: Pick, outputs: Any) -> int:
    """Picks and writes; the number of particles."""
    from cryojax_seg import io, particles, runtime

    runtime.keep_compiled()
    first = options.volumes[0]
    tomogram = io.read_tomogram(first, options.voxel_size)
    size = io.cubic_voxel_size(tomogram)
    mask = membrane = None
    if options.inside is not None:
        mask = io.read_label_mask(options.inside, options.inside_label, tomogram)
    if options.membrane is not None:
        membrane = io.read_label_mask(options.membrane, options.membrane_label, tomogram)

    def at_distance(found: "Particles") -> "Particles":
        if membrane is None or options.distance is None:
            return found
        low, high = (distance / size for distance in options.distance)
        return particles.within_distance(found, membrane, low, high)

    match = None
    if options.template is not None:
        match = _matched(options, tomogram, size)
        if options.scores is not None:
            io.write_mrc(outputs.place(options.scores), match.scores, tomogram)
        threshold, diameter = _threshold(options, match.scores), options.diameter[0] / size
        found = at_distance(particles.pick_peaks(match.scores, diameter, threshold, mask))
        if options.annotated is not None:
            found = _chosen(options, tomogram, found)
    else:
        found = _from_volumes(options, tomogram, mask, at_distance)
    if options.most is not None:
        found = found.take(slice(options.most))
    if match is not None:
        found = match.oriented(found)
    elif membrane is not None and membrane.any() and len(found):
        found = particles.oriented_by_membrane(found, membrane)
    columns = dict(found.columns)
    columns["rlnTomoName"] = [options.name or io.tomogram_name(first)] * len(found)
    if options.output.suffix == ".tbl":
        columns = {}
    found = dataclasses.replace(found, voxel_size=size, columns=columns)
    io.write_particles(outputs.place(options.output), found)
    if not len(found):
        console.warn(f"{first}: nothing was picked; lower --threshold, or --smallest or --diameter")
    return len(found)


def _from_volumes(
    options: Pick,
    tomogram: "Tomogram",
    mask: Any,
    at_distance: Callable[["Particles"], "Particles"],
) -> "Particles":
    """Picks of labels, or of the maps of one class or of several."""
    from cryojax_seg import io, particles

    paths, size = options.volumes, io.cubic_voxel_size(tomogram)
    diameters = [d / size for d in options.diameter]
    labels = particles.as_labels(tomogram.density) if len(paths) == 1 else None
    if labels is not None:
        if options.annotated is not None:
            raise ValueError(f"{paths[0]}: holds labels, for which --annotated has no threshold")
        return at_distance(_from_labels(options, tomogram.name, labels, diameters[0], mask))
    if options.label:
        raise ValueError(f"{paths[0]}: holds no labels for --label to choose from")
    maps = io.read_probability_maps(paths, tomogram, options.voxel_size)
    method = options.method or "balls"

    def picks(threshold: float) -> "Particles":
        return at_distance(
            particles.pick_maps(
                maps, diameters, threshold, method=method, mask=mask, smallest=options.smallest
            )
        )

    if options.annotated is None:
        found = picks(_threshold(options, None))
    elif method == "peaks":
        found = _chosen(options, tomogram, picks(_threshold(options, None)))
    else:
        found = _at_best_level(options, tomogram, picks)
    if len(maps) == 1:
        return found
    names = io.class_names(paths, options.classes)
    kinds = found.classes.tolist()
    rows = [[str(i), name, str(kinds.count(i))] for i, name in enumerate(names, 1)]
    console.table("picks of each class", ("class", "name", "picks"), rows)
    return dataclasses.replace(found, columns={"rlnParticleName": [names[i - 1] for i in kinds]})


def _from_labels(options: Pick, name: str, labels: Any, diameter: float, mask: Any) -> "Particles":
    """The objects of a label volume."""
    from cryojax_seg import particles
    from cryojax_seg.errors import ParameterError

    present = sorted(set(labels.ravel().tolist()) - {0})
    try:
        found = particles.pick_labels(labels, diameter, only=options.label, mask=mask)
    except ParameterError as error:
        raise ParameterError(f"{name}: {error}", *error.parameters) from None
    labels_found = particles.listed(present)
    console.say(f"{name}: holds labels ({labels_found}), so each connected object counts once")
    if len(present) > 1 and not options.label:
        console.say("each label is a class of its own; choose with --label N")
    return found


def _check(options: Pick) -> None:
    """What can be told to be wrong before anything is read."""
    particle_files.check_table(options.output, "--output")
    if not options.volumes:
        raise ValueError("pick needs a probability map of each class, a label volume or a tomogram")
    if not options.diameter or min(options.diameter) <= 0:
        raise ValueError("--diameter ANGSTROM is needed: the particle's diameter, above 0")
    if len(options.diameter) not in (1, len(options.volumes)):
        raise ValueError(
            f"--diameter: {len(options.diameter)} diameters for {len(options.volumes)} maps; give "
            "one for all or one for each, in the order of the maps"
        )
    if len(options.volumes) > 1:
        from cryojax_seg.io import class_names

        class_names(options.volumes, options.classes)
        if options.template is not None or options.annotated is not None or options.label:
            raise ValueError("--template, --annotated and --label are for one volume at a time")
        if options.method not in (None, "balls"):
            raise ValueError("--method: the maps of several classes are picked as balls only")
    if options.distance is not None and options.membrane is None:
        raise ValueError("--distance needs --membrane LABELS, the membrane to measure it from")
    if options.distance is not None and options.distance[0] > options.distance[1]:
        raise ValueError(f"--distance: the shortest comes first, got {options.distance}")
    if options.most is not None and options.most < 1:
        raise ValueError(f"--most must be 1 or more, got {options.most}")
    if options.template is None and options.scores is not None:
        raise ValueError("--scores writes correlations, which need --template MAP")
    if options.template is not None and options.method not in (None, "peaks"):
        raise ValueError(
            f"--method {options.method} is for probability maps; leave it out with --template"
        )
    if not 0 <= options.smallest <= 1:
        raise ValueError(f"--smallest must be within 0 to 1, got {options.smallest:g}")
    if not options.beta > 0:
        raise ValueError(f"--beta must be above 0, got {options.beta}")


def _matched(options: Pick, tomogram: "Tomogram", size: float) -> "Match":
    """Best correlation at each voxel, and the number of its rotation."""
    from cryojax_seg import core, io, particles

    template = io.read_tomogram(options.template)  # pyright: ignore
    if template.voxel_size is not None and abs(template.voxel_size[0] / size - 1) > 0.01:
        raise io.FileError(
            f"{options.template}: has voxels of {template.voxel_size[0]:.4g} A, {tomogram.name} of "
            f"{size:.4g} A; resample one of them"
        )
    wedge = None
    if options.tilt_range is not None:
        wedge = core.MissingWedge(options.tilt_range, options.tilt_axis)
    rotations = particles.rotations_within(options.angle)
    volume = io.normalized(tomogram, options.contrast)
    console.say(f"{len(rotations)} rotations of {options.template}")
    try:
        match = particles.match_template(
            volume, template.density, rotations, wedge, memory=options.memory
        )
    except ValueError as error:
        raise io.FileError(f"{options.template}: {error}") from None
    return match.without(volume.missing((slice(None),) * 3))


def _threshold(options: Pick, scores: Any) -> float:
    """What was asked for; with an annotation a low one, of which the best is chosen later."""
    from cryojax_seg import particles

    if options.threshold is not None:
        return options.threshold
    if options.template is None:
        return 0.05 if options.annotated is not None else 0.5
    found = particles.correlation_threshold(scores, 6.0 if options.annotated is None else 3.0)
    if options.annotated is None:
        console.say(f"threshold {found:.3f}: 6 deviations of the correlation above its median")
    return found


def _chosen(options: Pick, tomogram: "Tomogram", found: "Particles") -> "Particles":
    """The picks above the threshold that is best on the annotated particles."""
    from cryojax_seg import evaluate

    truth, radius = _truth(options, tomogram)
    picks = [(found.coordinates, found.scores)]
    try:
        best = evaluate.fit_threshold(picks, [truth], radius, options.beta)
    except ValueError as error:
        raise ValueError(f"{tomogram.name}: {error} (--threshold)") from None
    _say_best(options, best)
    return found.take(found.scores >= best.value)


def _at_best_level(
    options: Pick, tomogram: "Tomogram", picks: Callable[[float], "Particles"]
) -> "Particles":
    """The picks at the threshold of a voxel that is best on the annotated particles."""
    from cryojax_seg import evaluate

    truth, radius = _truth(options, tomogram)
    best = evaluate.fit_level(lambda t: picks(t).coordinates, truth, radius, options.beta)
    _say_best(options, best)
    return picks(best.value)


def _truth(options: Pick, tomogram: "Tomogram") -> tuple[Any, float]:
    """The annotated middles and the radius of the particle, in voxels."""
    from cryojax_seg import io

    assert options.annotated is not None
    truth, _ = io.read_particles_in(
        options.annotated, tomogram, options.name, options.coordinates_voxel_size
    )
    return truth.coordinates, options.diameter[0] / 2 / io.cubic_voxel_size(tomogram)


def _say_best(options: Pick, best: "Threshold") -> None:
    counts = best.counts
    shares = (counts.f_beta(options.beta), counts.precision, counts.recall)
    console.table(
        f"threshold {best.value:.4g}, the best for {options.annotated}",
        (f"F{options.beta:g}", "precision", "recall", "found", "missed"),
        [[*map(console.number, shares), str(counts.true_positive), str(counts.false_negative)]],
    )
