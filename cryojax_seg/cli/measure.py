"""``cryojax-seg measure``: areas, volumes and distances of labels, as tables and a report."""

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import Output, Overwrite, VoxelSize, default, plain

TABLE, SUMMARY, REPORT = "instances.csv", "summary.json", "report.html"
MESHES = ("meshes/*.ply", "meshes/*.obj", "meshes/*.stl")


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

    inputs = _inputs(options)
    io.check_places([options.output], inputs)
    names = {options.output: (TABLE, SUMMARY, REPORT, *MESHES)}
    job = {"measure": plain(options)}
    with (
        io.folder_made(options.output.parent),
        io.OutputSet(job, [options.output], inputs, options.overwrite, names) as outputs,
    ):
        if outputs.finished:
            print(f"{options.output}: is done already")
            return
        summary = _measure(options, outputs.place(options.output))
    show(summary)
    console.say(f"wrote {options.output / REPORT}")


def _inputs(options: Measure) -> list[Path]:
    from cryojax_seg.cli.measure_inputs import instance_paths

    single = [path for path in (options.labels, options.tomogram) if path is not None]
    return [*single, *instance_paths(options.instances), *options.probabilities]


def _measure(options: Measure, folder: Path) -> dict[str, Any]:
    """Measures and writes a folder of results; gives the summary as it is written."""
    from cryojax_seg import io, measure, report
    from cryojax_seg.cli import measure_inputs as read

    if options.labels is None and not options.instances:
        raise ValueError("what is to be measured? Give labels, or --instances CLASS=PATH")
    volume, present = read.read_labels(options)
    names = {label: _name(options, label) for label in sorted(present | _asked(options))}
    given = _by_label(read.read_instances(options, volume), names)
    maps = read.read_probabilities(options, volume, sorted(names))
    kinds = _kinds(options, names)
    classes = [
        measure.ObjectClass(
            name,
            label,
            kinds[label],
            numbers=given[label][0] if label in given else None,
            known_as=given[label][1] if label in given else (),
            probability=maps.get(label),
        )
        for label, name in names.items()
    ]
    with _progress() as progress:
        found = measure.measure_classes(
            volume.density,
            volume.require_voxel_size(),
            classes,
            smallest=options.smallest,
            split=options.split,
            rim=options.rim,
            farthest_angstrom=options.farthest,
            contact_angstrom=options.contact,
            origin_angstrom=volume.corner(),
            progress=progress,
        )
    summary = {
        "labels": str(options.labels or options.instances[0].partition("=")[2]),
        "voxel_size_angstrom": list(volume.require_voxel_size()),
        "origin_angstrom": list(volume.corner()),
        "shape": list(volume.density.shape),
        "options": plain(options),
        "classes": _plain(found.totals()),
        "distances": [
            {"from": first, "to": second, **_plain(dataclasses.asdict(values))}
            for (first, second), values in found.distances.items()
        ],
    }
    rows = found.rows()
    folder.mkdir()
    io.write_objects(folder / TABLE, rows)
    (folder / SUMMARY).write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
    (folder / REPORT).write_text(report.measurement_page(summary, rows), "utf-8")
    if options.meshes:
        meshes = {
            name: one.meshes(options.rim)
            for name, one in found.classes.items()
            if one.kind in ("membrane", "organelle")
        }
        io.write_object_meshes(folder / "meshes", options.meshes, meshes, volume.corner())
    return summary


def show(summary: dict[str, Any]) -> None:
    """Prints the tables of a summary."""
    from cryojax_seg.report import measurement_tables

    for title, columns, lines in measurement_tables(summary):
        console.table(title, columns, lines)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Gives a function that shows the progress of one part of the work after the other."""
    shown: dict[str, Callable[[int, int], None]] = {}
    with contextlib.ExitStack() as stack:

        def update(name: str, done: int, count: int) -> None:
            if name not in shown:
                stack.close()
                shown[name] = stack.enter_context(console.tracked(name))
            shown[name](done, count)
            if done == count:
                stack.close()

        yield update


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
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
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
