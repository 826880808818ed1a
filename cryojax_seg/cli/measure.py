"""``cryojax-seg measure``: areas, volumes and distances of labels, as tables and a report."""

import dataclasses
import functools
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
    (one file, opens offline). Coordinates (z_nm, y_nm, x_nm, meshes) count from the origin of the
    file, as other programs show it. Of each object there are the distances to every other class,
    from surface to surface (min, mean) and from its centre. lumen_nm3 is the volume that a membrane
    encloses, without the membrane: in space where it is closed, else within z slices, and 0 where
    nothing is. With probabilities, values have 95 % intervals: the range over level
    sets, given that the object is there.
    """

    labels: Annotated[Positional[Path | None], default("LABELS", "none")] = None
    """Label volume: MRC, TIFF or OME-Zarr of integers, each number a class, 0 is background. It
    may be left out where --instances are given."""
    _: dataclasses.KW_ONLY
    output: Output
    """Folder of the results."""
    tomogram: Annotated[Path | None, default("PATH", "none")] = None
    """The tomogram that is labelled: its shape and voxel size must be those of the labels."""
    probabilities: Annotated[tuple[Path, ...], default("PATH ...", "none")] = ()
    """Calibrated probability maps, one for each class, in the order of their labels."""
    classes: Annotated[tuple[str, ...], default("NAME ...", "label 1, label 2, ...")] = ()
    """Names of the labels 1, 2, ... in order. The last term that is known in a name tells the kind:
    "ER membrane" is a membrane, "membrane protein" a complex."""
    instances: Annotated[tuple[str, ...], default("CLASS=PATH ...", "none")] = ()
    """Volumes in which each number is one object of a class, also where objects touch, as IMOD,
    Amira and Pyto write them. They replace what the labels hold of the class, and also count where
    they are small."""
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
    """Also write OUTPUT/meshes/CLASS-OBJECT.SUFFIX in angstrom from the origin of the file: the
    mid-surfaces of membranes and the boundaries of organelles. Their areas are those of the table
    within 1 %. PLY has the curvatures of every vertex, in 1/nm."""
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

    inputs = _inputs(options)
    io.check_places([options.output], inputs)
    names = {options.output: (TABLE, SUMMARY, REPORT, *files.MESHES)}
    job = {"measure": plain(options)}
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
    from cryojax_seg.cli.measured.reading import instance_paths

    single = [path for path in (options.labels, options.tomogram) if path is not None]
    return [*single, *instance_paths(options.instances), *options.probabilities]


def measurements(
    options: Measure, objects: dict[str, list[Any]] | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One row for each object, and the summary, as plain values.

    Args:
        options: of the command.
        objects: if given, it is filled with the membranes and organelles of each class.
    """
    import itertools

    from cryojax_seg.cli.measured import measuring, reading

    if options.labels is None and not options.instances:
        raise ValueError("what is to be measured? Give labels, or --instances CLASS=PATH")
    volume, present = reading.read_labels(options)
    names = {label: _name(options, label) for label in sorted(present | _asked(options))}
    given = _by_label(reading.read_instances(options, volume), names)
    maps = reading.read_probabilities(options, volume, sorted(names))
    scene = measuring.Scene(volume, names, _kinds(options, names), given, maps)
    found = {}
    for label, name in names.items():
        console.say(f"measuring {name}")
        progress = functools.partial(console.progress, label=name)
        found[name] = measuring.measure_class(scene, label, options, progress)
        console.say(f"{name}: {scene.kinds[label]}, {len(found[name].rows)} objects")
    console.say("measuring distances")
    with console.progress(len(names) ** 2, "distances") as step:
        measuring.add_gaps(found, max(scene.voxel_nm), step)
    measuring.place(found, volume.corner())
    sheets = {name: one.sheet for name, one in found.items() if one.sheet}
    pairs = []
    for first, second in itertools.permutations(sheets, 2):
        values = measuring.between(
            sheets[first], sheets[second], options.farthest / 10, options.contact / 10
        )
        pairs.append({"from": first, "to": second, **values})
    rows, classes = [], {}
    for label, name in names.items():
        kind = scene.kinds[label]
        same = {"class": name, "label": label, "kind": kind}
        rows += [{**same, **row} for row in found[name].rows]
        classes[name] = {"label": label, "kind": kind, **found[name].totals}
        if objects is not None and kind in ("membrane", "organelle"):
            objects[name] = found[name].parts
    summary = {
        "labels": str(options.labels or options.instances[0].partition("=")[2]),
        "voxel_size_angstrom": list(volume.require_voxel_size()),
        "origin_angstrom": list(volume.corner()),
        "shape": list(volume.density.shape),
        "options": plain(options),
        "classes": {
            name: {k: _plain(v) for k, v in values.items()} for name, values in classes.items()
        },
        "distances": pairs,
    }
    return rows, summary


def _by_label(instances: dict[str, Any], names: dict[int, str]) -> dict[int, Any]:
    """Maps of objects by the label of their class, which is a new one if there is no such class."""
    labels = {name: label for label, name in names.items()}
    labels |= {str(label): label for label in names if str(label) not in labels}
    found = {}
    for name, numbered in instances.items():
        label = labels.get(name, max(names, default=0) + 1)
        names.setdefault(label, name)
        found[label] = numbered
    return found


def _plain(value: Any) -> Any:
    """For JSON, which has no infinity: what is not bounded there is null."""
    import math

    if hasattr(value, "_asdict"):
        return {key: _plain(v) for key, v in value._asdict().items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
