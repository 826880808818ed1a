"""``cryojax-seg pick``: particles from a probability map, or by template matching."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional

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
)

if TYPE_CHECKING:
    from cryojax_seg.core import Particles, Tomogram


@dataclasses.dataclass(frozen=True)
class Pick:
    """Pick particles from a probability map, or from a tomogram with a template.

    A map is what `cryojax-seg segment --probabilities` writes. With --template the volume is a
    tomogram, and each voxel gets the best locally normalized correlation over all rotations.
    With --annotated the threshold is the one with the highest F-beta on this volume. Picks go into
    a table for RELION, Dynamo or spreadsheets, the best first.
    """

    volume: Positional[Path]
    """Probability map of one class; or with --template the tomogram."""
    output: Output
    """Table of picks: .star (RELION 3.1), .tbl (Dynamo) or .csv."""
    diameter: Annotated[float | None, default("ANGSTROM", "required")] = None
    """Diameter of the particle in angstrom; picks are at least so far apart."""
    threshold: Annotated[float | None, default("SCORE", "0.5; with --template 6 deviations")] = None
    """Lowest probability or correlation of a pick (no unit)."""
    method: Literal["peaks", "regions"] = "peaks"
    """Peaks at least a diameter apart, or the centres of regions that a watershed splits."""
    most: Annotated[int | None, default("COUNT", "all")] = None
    """Largest number of picks."""
    inside: Annotated[Path | None, default("LABELS", "anywhere")] = None
    """Label volume of a compartment that particles must be in."""
    inside_label: int = 1
    """Label of the compartment."""
    membrane: Annotated[Path | None, default("LABELS", "none")] = None
    """Label volume of a membrane, for --distance; picks are turned so that z is its normal."""
    membrane_label: int = 1
    """Label of the membrane."""
    distance: Annotated[tuple[float, float] | None, default("LO HI", "any")] = None
    """Shortest and longest distance of a particle's centre from the membrane in angstrom."""
    annotated: Annotated[Path | None, default("TABLE", "none")] = None
    """Table of all true particles of this volume: chooses the threshold."""
    beta: float = 4.0
    """How much more recall counts than precision, with --annotated (no unit)."""
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
    import numpy as np

    from cryojax_seg import core, io, particles

    core.keep_compiled()
    tomogram = io.read_tomogram(options.volume, options.voxel_size)
    size = particle_files.one_voxel_size(tomogram)
    assert options.diameter is not None
    diameter = options.diameter / size
    mask = None
    if options.inside is not None:
        mask = particle_files.read_mask(options.inside, options.inside_label, tomogram)
    membrane = None
    if options.membrane is not None:
        membrane = particle_files.read_mask(options.membrane, options.membrane_label, tomogram)
    rotations = numbers = None
    if options.template is not None:
        rotations = particles.rotations_within(options.angle)
        scores, numbers = _matched(options, tomogram, rotations, size)
    else:
        scores = _probabilities(tomogram)
    threshold = _threshold(options, scores)
    picker = particles.pick_peaks if options.method == "peaks" else particles.pick_regions
    found = picker(scores, diameter, threshold, mask)
    if membrane is not None and options.distance is not None:
        away = particles.distances_to(found, membrane) * size
        low, high = options.distance
        found = found.take((away >= low) & (away <= high))
    if options.annotated is not None:
        found = _chosen(options, tomogram, found, size)
    if options.most is not None:
        found = found.take(slice(options.most))
    if rotations is not None and numbers is not None and len(found):
        voxels = np.rint(found.coordinates).astype(int)
        found = dataclasses.replace(found, rotations=rotations[numbers[tuple(voxels.T)]])
    elif membrane is not None and membrane.any() and len(found):
        normals = particles.normals_at(found.coordinates, membrane)
        found = dataclasses.replace(found, rotations=particles.orientations_from_normals(normals))
    name = options.name or io.tomogram_name(options.volume)
    columns = {} if options.output.suffix == ".tbl" else {"rlnTomoName": [name] * len(found)}
    found = dataclasses.replace(found, voxel_size=size, columns=columns)
    io.write_particles(options.output, found, overwrite=options.overwrite)
    if not len(found):
        console.warn(f"{options.volume}: nothing was picked; lower --threshold")
    print(f"picked: {len(found)} particles into {options.output}")


def _check(options: Pick) -> None:
    """What can be told to be wrong before anything is read."""
    particle_files.check_table(options.output, "--output")
    particle_files.check_absent(options.output, options.overwrite)
    if options.diameter is None or not options.diameter > 0:
        raise ValueError("--diameter ANGSTROM is needed, a length above 0: picks are so far apart")
    if options.distance is not None and options.membrane is None:
        raise ValueError("--distance needs --membrane LABELS, the membrane to measure it from")
    if options.distance is not None and options.distance[0] > options.distance[1]:
        raise ValueError(f"--distance: the shortest comes first, got {options.distance}")
    if options.most is not None and options.most < 1:
        raise ValueError(f"--most must be 1 or more, got {options.most}")
    if options.template is None and options.scores is not None:
        raise ValueError("--scores writes correlations, which need --template MAP")
    if options.scores is not None:
        particle_files.check_absent(options.scores, options.overwrite)
    if options.template is not None and options.method == "regions":
        raise ValueError("--method regions is for probability maps; leave it out with --template")
    if not options.beta > 0:
        raise ValueError(f"--beta must be above 0, got {options.beta}")


def _probabilities(tomogram: "Tomogram") -> Any:
    import numpy as np

    from cryojax_seg import io

    values = np.asarray(tomogram.density, np.float32)
    finite = values[np.isfinite(values)]
    if finite.size and (finite.min() < -1e-6 or finite.max() > 1 + 1e-6):
        raise io.FileError(
            f"{tomogram.name}: holds values outside 0 to 1, so it is no probability map; for a "
            "tomogram give --template MAP"
        )
    return values


def _matched(options: Pick, tomogram: "Tomogram", rotations: Any, size: float) -> Any:
    """Best correlation at each voxel, and the number of its rotation."""
    import numpy as np

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
    volume = particle_files.normalized(tomogram, options.contrast)
    console.say(f"{len(rotations)} rotations of {options.template}")
    try:
        match = particles.match_template(
            volume,
            np.asarray(template.density, np.float32),
            rotations,
            wedge,
            memory=options.memory,
        )
    except ValueError as error:
        raise io.FileError(f"{options.template}: {error}") from None
    if options.scores is not None:
        io.write_mrc(options.scores, match.scores, tomogram, overwrite=options.overwrite)
    return match


def _threshold(options: Pick, scores: Any) -> float:
    """What was asked for; with an annotation a low one, of which the best is chosen later."""
    import numpy as np

    if options.threshold is not None:
        return options.threshold
    if options.template is None:
        return 0.05 if options.annotated is not None else 0.5
    middle = float(np.median(scores))
    deviation = 1.4826 * float(np.median(np.abs(scores - middle)))
    found = middle + (3.0 if options.annotated is not None else 6.0) * deviation
    if options.annotated is None:
        console.say(f"threshold {found:.3f}: 6 deviations of the correlation above its median")
    return found


def _chosen(options: Pick, tomogram: "Tomogram", found: "Particles", size: float) -> "Particles":
    """The picks above the threshold that is best on the annotated particles."""
    from cryojax_seg import evaluate

    truth, _ = particle_files.read_table(
        options.annotated,  # pyright: ignore
        tomogram,
        size,
        options.name,
        options.coordinates_voxel_size,
    )
    picks = [(found.coordinates, found.scores)]
    radius = options.diameter / 2 / size  # pyright: ignore
    try:
        best = evaluate.fit_threshold(picks, [truth.coordinates], radius, options.beta)
    except ValueError as error:
        raise ValueError(f"{options.volume}: {error} (--threshold)") from None
    counts = best.counts
    console.table(
        f"threshold {best.value:.4g}, the best for {options.annotated}",
        (f"F{options.beta:g}", "precision", "recall", "found", "missed"),
        [
            [
                *(console.number(v) for v in (counts.f_beta(options.beta),)),
                *(console.number(v) for v in (counts.precision, counts.recall)),
                str(counts.true_positive),
                str(counts.false_negative),
            ]
        ],
    )
    return found.take(found.scores >= best.value)
