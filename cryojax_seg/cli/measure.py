"""``cryojax-seg measure``: areas, volumes and distances of labels, as tables and a report."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import Output, Overwrite, VoxelSize, default, plain

TABLE, SUMMARY, REPORT = "instances.csv", "summary.json", "report.html"


@dataclasses.dataclass(frozen=True)
class Measure:
    """Measure the objects of a label volume in nanometres.

    Writes OUTPUT/instances.csv (one row an object), OUTPUT/summary.json and OUTPUT/report.html
    (one file, opens offline). With probabilities, values have 95 % intervals: the range over level
    sets, given that the object is there.
    """

    labels: Positional[Path]
    """Label volume: MRC, TIFF or OME-Zarr of integers, 0 is background."""
    output: Output
    """Folder of the results."""
    tomogram: Annotated[Path | None, default("PATH", "none")] = None
    """The tomogram that is labelled: its shape and voxel size must be those of the labels."""
    probabilities: Annotated[tuple[Path, ...], default("PATH ...", "none")] = ()
    """Calibrated probability maps, one for each class, in the order of their labels."""
    classes: Annotated[tuple[str, ...], default("NAME ...", "label 1, label 2, ...")] = ()
    """Names of the labels 1, 2, ... in order. The last term that is known in a name tells the kind:
    "ER membrane" is a membrane, "membrane protein" a complex."""
    kind: Annotated[tuple[str, ...], default("LABEL=KIND ...", "by name, else organelle")] = ()
    """Kind of a label or of a class by its name, instead of what the name tells: membrane,
    organelle, filament or complex, such as 1=membrane or tubes=filament."""
    membranes: Annotated[tuple[int, ...], default("LABEL ...", "by kind")] = ()
    """Labels that are membranes, the same as --kind LABEL=membrane."""
    smallest: int = 50
    """Objects of fewer voxels are left out."""
    split: bool = False
    """Split organelles and complexes at their necks, and membranes where the probability has a
    valley between them."""
    rim: Literal["flat", "round"] = "flat"
    """How membrane labels end at open edges: where the membrane does, or half a thickness later,
    rounded, as labels dilated from a surface do."""
    farthest: float = 1000.0
    """Distances between membranes are measured up to this, in angstrom."""
    contact: float = 300.0
    """Membranes this near, from middle to middle, are in contact, in angstrom."""
    meshes: Annotated[Literal["ply", "obj", "stl"] | None, default("{ply,obj,stl}", "none")] = None
    """Also write OUTPUT/meshes/CLASS-OBJECT.SUFFIX in angstrom: the mid-surfaces of membranes, the
    boundaries of the rest. PLY has the curvatures of every vertex, in 1/nm."""
    ignore: int = 255
    """Label value of voxels that nobody annotated; they count as background."""
    voxel_size: VoxelSize = None
    """Voxel size in angstrom."""
    overwrite: Overwrite = False
    """Replace earlier results."""


def run(options: Measure) -> None:
    """Does what `Measure` says; a ValueError or OSError tells what is wrong in one line."""
    from cryojax_seg import io
    from cryojax_seg.cli.measured import files, report, tables

    io.check_places([options.output], _inputs(options))
    names = {options.output: (TABLE, SUMMARY, REPORT, *files.MESHES)}
    job, inputs = {"measure": plain(options)}, _inputs(options)
    with (
        io.folder_made(options.output.parent),
        io.OutputSet(job, [options.output], inputs, options.overwrite, names) as outputs,
    ):
        if outputs.finished:
            print(f"{options.output}: is done already")
            return
        objects: dict[str, list[Any]] = {}
        rows, summary = measurements(options, objects)
        folder = outputs.place(options.output)
        folder.mkdir()
        files.write_table(folder / TABLE, rows)
        (folder / SUMMARY).write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
        (folder / REPORT).write_text(report.page(summary, rows), "utf-8")
        if options.meshes:
            files.write_meshes(folder / "meshes", options.meshes, summary, objects)
    tables.show(summary)
    console.say(f"wrote {options.output / REPORT}")


def _inputs(options: Measure) -> list[Path]:
    tomogram = () if options.tomogram is None else (options.tomogram,)
    return [options.labels, *tomogram, *options.probabilities]


def measurements(
    options: Measure, objects: dict[str, list[Any]] | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One row for each object, and the summary, as plain values.

    Args:
        options: of the command.
        objects: if given, it is filled with the objects of each class.
    """
    import itertools

    from cryojax_seg.cli.measured import measuring

    volume, present = _read(options)
    voxel_nm = tuple(v / 10 for v in volume.require_voxel_size())
    names = {label: _name(options, label) for label in sorted(present | _asked(options))}
    maps = _probabilities(options, volume, sorted(names))
    kinds = _kinds(options, names)
    rows, classes, sheets = [], {}, {}
    for label, name in names.items():
        kind = kinds[label]
        if kind in ("filament", "complex"):
            lines, totals = _counted(label, name, kinds, volume, maps.get(label), options)
            rows += [{"class": name, "label": label, "kind": kind, **row} for row in lines]
            classes[name] = {"label": label, "kind": kind, **totals}
            console.say(f"{name}: {kind}, {len(lines)} objects")
            continue
        parts = measuring.parts_of(
            volume.density, label, kind, maps.get(label), voxel_nm, options.smallest,
            options.split, options.rim,
        )  # fmt: skip
        found = measuring.measure_class(kind, parts)
        sheets[name] = found.sheet
        if objects is not None:
            objects[name] = parts
        rows += [{"class": name, "label": label, "kind": kind, **row} for row in found.rows]
        classes[name] = {"label": label, "kind": kind, **measuring.totals(kind, found.rows)}
        console.say(f"{name}: {kind}, {len(found.rows)} objects")
    pairs = []
    for first, second in itertools.permutations([n for n, s in sheets.items() if s], 2):
        values = measuring.between(
            sheets[first], sheets[second], options.farthest / 10, options.contact / 10
        )
        pairs.append({"from": first, "to": second, **values})
    summary = {
        "labels": str(options.labels),
        "voxel_size_angstrom": list(volume.require_voxel_size()),
        "shape": list(volume.density.shape),
        "options": plain(options),
        "classes": {
            name: {k: _plain(v) for k, v in values.items()} for name, values in classes.items()
        },
        "distances": pairs,
    }
    return rows, summary


def _plain(value: Any) -> Any:
    """For JSON, which has no infinity: what is not bounded there is null."""
    import math

    if hasattr(value, "_asdict"):
        return {key: _plain(v) for key, v in value._asdict().items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _counted(label: int, name: str, kinds: dict, volume, probability, options: Measure):
    """Rows and summary of filaments or complexes, which are measured in the whole volume."""
    import numpy as np

    from cryojax_seg import measure
    from cryojax_seg.cli.measured import counting

    labels, voxel_size = volume.density, volume.require_voxel_size()
    mask = labels == label
    own = None if probability is None else np.asarray(probability[:], np.float32)
    if kinds[label] == "filament":
        return counting.filaments(mask, name, own, voxel_size, options.rim)
    if options.split:
        nm = tuple(v / 10 for v in voxel_size)
        numbers = measure.split_bodies(mask, nm, smallest=options.smallest)
    else:
        numbers = measure.components(mask, options.smallest)

    def others(kind: str):
        wanted = [other for other, k in kinds.items() if k == kind]
        return np.isin(labels, wanted) if wanted else None

    return counting.complexes(numbers, own, voxel_size, others("membrane"), others("organelle"))


def _read(options: Measure):
    """The labels as they are stored, and which occur."""
    import warnings

    import numpy as np

    from cryojax_seg import io

    with warnings.catch_warnings():
        if options.tomogram is not None or options.voxel_size is not None:
            warnings.filterwarnings("ignore", message=".*voxel size", category=io.HeaderWarning)
        volume = io.read_tomogram(options.labels, options.voxel_size)
    if options.tomogram is not None:
        volume = _checked(volume, io.read_tomogram(options.tomogram, options.voxel_size), options)
    volume.require_voxel_size()
    values = np.asarray(volume.density)
    present: set[int] = set()
    for z, section in enumerate(values):
        found = np.unique(section)
        if found.dtype.kind == "f" and not (found == np.round(found)).all():
            raise io.FileError(
                f"{options.labels}: slice {z} holds values that are no integers; a label volume "
                "holds class numbers. Is this a density or a probability map?"
            )
        present |= {int(v) for v in found} - {0, options.ignore}
        if len(present) > 127:
            raise io.FileError(
                f"{options.labels}: holds more than 127 different labels; a label volume holds "
                "class numbers. Is this a density, or an instance map?"
            )
    if min(present, default=1) < 0:
        raise io.FileError(f"{options.labels}: has negative labels; labels start at 0")
    if values.dtype.kind == "f":
        values = values.astype(np.int16)
    return dataclasses.replace(volume, density=values), present


def _checked(volume, tomogram, options: Measure):
    """The labels with the voxel size of the tomogram, after a comparison of both."""
    from cryojax_seg import io

    if volume.density.shape != tomogram.density.shape:
        raise io.FileError(
            f"{options.labels}: has shape {volume.density.shape} (z, y, x), and "
            f"{options.tomogram} has {tomogram.density.shape}; they must lie on the same grid"
        )
    own, wanted = volume.voxel_size, tomogram.voxel_size
    if own is None or own == (1.0, 1.0, 1.0):  # 1 A: never filled in
        return dataclasses.replace(volume, voxel_size=wanted)
    if wanted is not None and any(abs(a - b) > 0.01 * b for a, b in zip(own, wanted, strict=True)):
        sizes = [", ".join(f"{v:g}" for v in size) for size in (own, wanted)]
        raise io.FileError(
            f"{options.labels}: has voxel size {sizes[0]} A (z, y, x), and {options.tomogram} has "
            f"{sizes[1]} A; correct the wrong header, or give the right one with "
            "--voxel-size ANGSTROM"
        )
    return volume


def _name(options: Measure, label: int) -> str:
    return options.classes[label - 1] if label <= len(options.classes) else f"label {label}"


def _asked(options: Measure) -> set[int]:
    """Labels that are named but may not occur: they are measured as nothing."""
    return set(range(1, len(options.classes) + 1)) | set(options.membranes)


def _kinds(options: Measure, names: dict[int, str]) -> dict[int, Any]:
    from cryojax_seg import measure

    kinds: dict[int, Any] = {n: measure.kind_of(name) for n, name in names.items()}
    numbers = {name: label for label, name in names.items()}
    for word in (*options.kind, *(f"{n}=membrane" for n in options.membranes)):
        key, _, kind = word.rpartition("=")
        label = numbers.get(key, int(key) if key.isdigit() else None)
        if label is None or kind not in measure.KINDS:
            raise ValueError(
                f"--kind {word}: LABEL=KIND is needed, with a label or the name of a class, and "
                f"one of {', '.join(measure.KINDS)}"
            )
        kinds[label] = kind
    for label, name in names.items():
        if kinds[label] is None:
            console.warn(f"{name} has no kind and is measured as organelle; give --kind {label}=")
            kinds[label] = "organelle"
    return kinds


def _probabilities(options: Measure, volume, labels: list[int]) -> dict[int, Any]:
    from cryojax_seg import io

    if not options.probabilities:
        return {}
    if len(options.probabilities) != len(labels):
        raise ValueError(
            f"--probabilities: {len(options.probabilities)} maps for {len(labels)} classes "
            f"({', '.join(map(str, labels))}); give one for each, in the order of the labels"
        )
    maps = {}
    for label, path in zip(labels, options.probabilities, strict=True):
        values = io.read_tomogram(path, options.voxel_size).density
        if values.shape != volume.density.shape:
            raise io.FileError(
                f"{path}: has shape {values.shape} (z, y, x), and {options.labels} has "
                f"{volume.density.shape}; they must lie on the same grid"
            )
        maps[label] = values
    return maps
