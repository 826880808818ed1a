"""``cryojax-seg average``: the wedge-compensated average of boxes, aligned if wanted."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional

from cryojax_seg.cli import console, particle_files
from cryojax_seg.cli.arguments import Output, Overwrite, TiltRange, VoxelSize, default, plain

_BATCH = 64  # boxes at a time
_FEWEST = 10  # particles whose halves are compared; fewer agree or not by chance


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
    """Largest turn that is tried around each pose in the first round, degrees."""
    spacing: float = 6.0
    """Distance of neighbouring turns, degrees; halved with angle after each round."""
    reach: float = 3.0
    """Longest way of a particle from the middle of its box, voxels."""
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
    import jax
    import numpy as np

    from cryojax_seg import core, io, particles, runtime

    runtime.keep_compiled()
    runtime.keep_memory()
    boxes = io.read_boxes(options.boxes)
    listed = io.read_table(table_path)
    numbers = _box_numbers(options.boxes, len(boxes), listed)
    if len(listed) < 2:
        raise io.FileError(f"{options.boxes}: two boxes or more are needed, to compare halves")
    images = listed.image_size()
    size = options.voxel_size or io.boxes_voxel_size(options.boxes)
    if size is None and images is not None:
        size = float(np.median(images.sizes))
    if size is None:
        raise io.FileError(f"{table_path}: no voxel size; give it with --voxel-size ANGSTROM")
    table, offsets = _placed(listed, size)
    assert options.tilt_range is not None
    edge = boxes.shape[1]
    wedge = core.MissingWedge(options.tilt_range, options.tilt_axis)
    radius = 0.35 * edge if options.radius is None else options.radius / size
    mask = particles.soft_sphere(boxes.shape[1:], radius, 4.0)
    scores = np.zeros(len(table), np.float32)
    poses = particles.Poses(np.asarray(table.rotations, np.float32), offsets, scores)
    # By box, so that the order of the table plays no role and no box is in both halves.
    ranks = np.unique(numbers, return_inverse=True)[1]
    halves = [np.flatnonzero(ranks % 2 == start) for start in (0, 1)]
    if not len(halves[1]):
        raise io.FileError(f"{table_path}: all rows name one box; halves need two or more")
    boxes = _Chosen(boxes, numbers)
    add = jax.jit(particles.average_particles)
    align = jax.jit(functools.partial(particles.align_particles, reach=options.reach))
    transfer = wedge.transfer(boxes.shape[1:])
    averages = [_summed(add, boxes, poses, half, wedge) for half in halves]
    reference = None if options.reference is None else _reference(options.reference, edge)
    for number in range(options.iterations):
        turns = particles.rotations_near(options.angle / 2**number, options.spacing / 2**number)
        parts = []
        for half, own in zip(halves, averages, strict=True):
            start = own.compensated() if number or reference is None else reference
            arguments = (start * mask, transfer, np.asarray(turns, np.float32))
            parts.append(_aligned(align, boxes, poses, half, *arguments))
        poses = _joined(parts, halves)
        averages = [_summed(add, boxes, poses, half, wedge) for half in halves]
        mean = float(np.mean(poses.scores))
        console.say(f"round {number + 1}: mean correlation {mean:.3f}")
    volumes = [np.asarray(a.compensated()) for a in averages]
    whole = np.asarray((averages[0] + averages[1]).compensated())
    first, second = volumes
    fsc = particles.masked_shell_correlation(first, second, mask, jax.random.key(0))
    found = particles.find_resolution(fsc.frequency, fsc.corrected, size)
    resolution = f"{found:.1f} A at FSC 0.143"
    if len(table) < _FEWEST:
        found = float("nan")
        resolution = f"too few for a resolution, which needs {_FEWEST} or more"
    _write(options, outputs, volumes, whole, listed, table, poses, fsc, found, size)
    return len(table), resolution


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
    particle_files.check_not_input(outputs["poses"], table, "--output")
    return outputs


def _write(
    options: Average, outputs: dict[str, Path], volumes: list[Any], whole: Any, listed: Any,
    table: Any, poses: Any, fsc: Any, found: float, size: float,
) -> None:  # fmt: skip
    import numpy as np

    from cryojax_seg import io

    for name, volume in zip(("first", "second"), volumes, strict=True):
        io.write_mrc(outputs[name], volume, voxel_size=size)
    offsets = np.float64(poses.offsets)
    named = listed.images is not None
    moved = dataclasses.replace(
        table,
        coordinates=table.coordinates + (0 if named else offsets),
        columns={**table.columns, **(_shifts(offsets * size) if named else {})},
        rotations=np.float64(poses.rotations),
        scores=np.float64(poses.scores) if options.iterations else table.scores,
        voxel_size=size,
    )
    # Centred coordinates stay centred: no size of a tomogram is needed.
    form = ("relion5", (0, 0, 0)) if listed.centred else ("relion3", None)
    io.write_particles(outputs["poses"], moved, *form)
    summary = {
        "particles": len(table),
        "resolution_angstrom": found if np.isfinite(found) else None,
        "frequency_per_angstrom": (np.asarray(fsc.frequency) / size).tolist(),
        **{
            f"fsc_{name}": np.asarray(getattr(fsc, name), float).tolist()
            for name in ("unmasked", "masked", "randomized", "corrected")
        },
    }
    outputs["scores"].write_text(json.dumps(summary, indent=1) + "\n")
    io.write_mrc(outputs["average"], whole, voxel_size=size)


@dataclasses.dataclass(frozen=True)
class _Chosen:
    """The box of each row of a table, read when it is asked for."""

    boxes: Any
    numbers: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.numbers), *self.boxes.shape[1:])

    def __getitem__(self, rows: Any) -> Any:
        return self.boxes[self.numbers[rows]]


def _box_numbers(path: Path, count: int, listed: Any) -> Any:
    """Which box each row of the table is of, by its name; in their order if it names none."""
    import numpy as np

    from cryojax_seg import io

    flat = listed.flat_images()
    if flat is not None:
        raise io.FileError(
            f"{listed.path}: its particles are 2D stacks ({flat}), a few projections of each "
            "instead of a box; extract boxes from the tomogram with this table first"
        )
    turned = [f"rlnTomoSubtomogram{angle}" for angle in ("Rot", "Tilt", "Psi")]
    if any(float(word or 0) for label in turned for word in listed.columns.get(label, ())):
        raise io.FileError(
            f"{listed.path}: its boxes are turned (rlnTomoSubtomogramRot, pseudo-subtomograms); "
            "extract boxes from the tomogram with this table first"
        )
    if listed.images is not None:
        return io.box_numbers(path, listed.images, listed.path)
    if len(listed) != count:
        raise io.FileError(
            f"{listed.path}: has {len(listed)} particles and {path} {count} boxes, and no column "
            "rlnImageName that says which belong together"
        )
    return np.arange(count)


def _placed(listed: Any, size: float) -> tuple[Any, Any]:
    """The particles where their boxes are, and their offsets from the middles of those, voxels.

    Boxes that a table names are at its coordinates without the shifts. In others the particles
    are in the middle.
    """
    import numpy as np

    from cryojax_seg import io

    stated = listed.pixel_size()
    given = size if stated is not None and stated.of_images else None
    shifted = io.particles_of(listed, size, (0, 0, 0), given)
    if listed.images is None:
        return shifted, np.zeros((len(shifted), 3), np.float32)
    placed = io.particles_of(listed.unshifted(), size, (0, 0, 0), given)
    return placed, np.asarray(shifted.coordinates - placed.coordinates, np.float32)


def _shifts(offsets: Any) -> dict[str, Any]:
    """Offsets in angstrom as RELION has them, taken away from the place of the box."""
    return {
        f"rlnOrigin{'ZYX'[i]}Angst": [repr(-v) for v in offsets[:, i].tolist()] for i in (2, 1, 0)
    }


def _batches(boxes: Any, poses: Any, numbers: Any):
    """The boxes of some particles with their poses, some at a time."""
    import numpy as np

    from cryojax_seg import particles

    for start in range(0, len(numbers), _BATCH):
        chosen = numbers[start : start + _BATCH]
        own = [np.asarray(p[chosen], np.float32) for p in poses]
        yield np.asarray(boxes[chosen], np.float32), particles.Poses(*own)


def _summed(add: Any, boxes: Any, poses: Any, numbers: Any, wedge: Any) -> Any:
    total = None
    for volumes, own in _batches(boxes, poses, numbers):
        part = add(volumes, own, wedge)
        total = part if total is None else total + part
    return total


def _aligned(
    align: Any, boxes: Any, poses: Any, numbers: Any, reference: Any, transfer: Any, turns: Any
) -> Any:
    import jax
    import numpy as np

    from cryojax_seg import particles

    found = [
        jax.device_get(align(volumes, reference, own, transfer, turns))
        for volumes, own in _batches(boxes, poses, numbers)
    ]
    return particles.Poses(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _joined(parts: list[Any], halves: list[Any]) -> Any:
    """The poses of both halves in the order of the table."""
    import numpy as np

    from cryojax_seg import particles

    order = np.argsort(np.concatenate(halves))
    return particles.Poses(*(np.concatenate(both)[order] for both in zip(*parts, strict=True)))


def _reference(path: Path, edge: int) -> Any:
    import numpy as np

    from cryojax_seg import io

    volume = np.asarray(io.read_tomogram(path).density, np.float32)
    if volume.shape != (edge,) * 3:
        raise io.FileError(
            f"{path}: has shape {volume.shape}, the boxes have {edge} voxels; crop or pad it"
        )
    return volume
