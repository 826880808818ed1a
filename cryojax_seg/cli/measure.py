"""``cryojax-seg measure``: areas, volumes and distances of labels, as tables and a report."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import (
    MeshSuffix,
    Output,
    Overwrite,
    Scenes,
    Workers,
    default,
    named,
    plain,
)
from cryojax_seg.cli.geometry import VoxelSize
from cryojax_seg.cli.projects import ProjectOptions, Publish


@dataclasses.dataclass(frozen=True)
class Measure:
    """Measure the objects of label volumes in nanometres.

    Writes OUTPUT/instances.csv (one row for each object), OUTPUT/summary.json, OUTPUT/report.html
    (one file, opens offline) and OUTPUT/instances/CLASS.mrc, where each voxel has the number that
    its object has in the table; --instances reads it again. Coordinates (z_nm, y_nm, x_nm, meshes)
    count from the origin of the file, as in other programs. Each object has its distances to every
    other class, from surface to surface (minimum and mean) and from its centre, its area in contact
    with it, and the membrane or organelle that it lies in (inside_class, inside_instance, side:
    inside, across or outside). lumen_nm3 is the
    volume that a membrane encloses, without the membrane: in 3D where the membrane is closed, else
    within z slices, and 0 where nothing is enclosed. With probabilities, values have 95 %
    intervals: those of membranes and microtubules hold the true sizes by the errors of the built-in
    models, and membranes that are too open and microtubules that may be fragments have none; those
    of organelles and complexes are ranges over level sets and sampled masks. Totals of microtubules
    and sizes of other filaments have none. The column no_interval says why. Of several volumes, the
    results of each go into a folder OUTPUT/NAME.
    """

    labels: Annotated[Positional[tuple[Path, ...]], default("LABELS ...", "none")] = ()
    """Label volumes: any volume files of integers, where 0 is background and each other number
    is a class. They may be left out if --instances are given."""
    _: dataclasses.KW_ONLY
    output: Output
    """Folder for the results."""
    tomogram: Annotated[tuple[Path, ...], default("PATH ...", "none")] = ()
    """Tomogram that was labelled, one for each label volume. Its shape and voxel size must be those
    of the labels."""
    probabilities: Annotated[tuple[Path, ...], default("PATH ...", "none")] = ()
    """Calibrated probability maps, one for each class, in the order of their labels."""
    classes: Annotated[tuple[str, ...], default("NAME ...", "as the file states")] = ()
    """Names of the labels 1, 2, ... in order, instead of those that the file states. The last known
    term in a name decides the kind: "ER membrane" is a membrane, "membrane protein" a complex."""
    instances: Annotated[tuple[str, ...], default("CLASS=PATH ...", "none")] = ()
    """Volumes in which each number is one object of a class, even where objects touch, as IMOD,
    Amira and Pyto write them. They replace the labels of the class, and --smallest does not apply
    to them."""
    kind: Annotated[tuple[str, ...], default("LABEL=KIND ...", "by name, else organelle")] = ()
    """Kind of a label or class (membrane, organelle, filament or complex), such as 1=membrane or
    tubes=filament. It replaces the kind that the name decides."""
    membranes: Annotated[tuple[int, ...], default("LABEL ...", "by kind")] = ()
    """Labels that are membranes; the same as --kind LABEL=membrane."""
    smallest: Annotated[int | None, default("N", "50; membranes: 16 square thicknesses")] = None
    """Minimum size of an object in voxels. Smaller objects are left out."""
    split: bool = False
    """Split organelles and complexes at their necks, and membranes at valleys of the probability.
    Membranes that touch are separate objects in any case, by the lumens that they enclose."""
    rim: Literal["flat", "round"] = "flat"
    """How membrane labels end at open edges. 'flat' labels end with the membrane; 'round' labels
    extend half a thickness further, like labels dilated from a surface."""
    farthest: float = 1000.0
    """Maximum distance between membranes that is measured, in angstrom."""
    contact: float = 300.0
    """Maximum distance between the mid-surfaces of membranes in contact, in angstrom."""
    touching: Annotated[float | None, default("ANGSTROM", "30, or one voxel")] = None
    """Maximum distance between the surfaces of objects in contact, for the contact area of each."""
    meshes: Annotated[MeshSuffix | None, default("{ply,obj,stl,glb,surf}", "none")] = None
    """Also write the mid-surfaces of membranes and the boundaries of organelles to
    OUTPUT/meshes/CLASS-OBJECT.SUFFIX, in angstrom from the origin of the file. Their areas agree
    with the table within 1 %. GLB is what copick reads, and surf Amira. PLY files hold the
    curvatures of every vertex, in 1/nm."""
    scene: Scenes = ("chimerax", "napari")
    """Also write OUTPUT/scene.cxc, scene_napari.py or scene.mod, with which ChimeraX, napari or
    IMOD show the results on the tomogram."""
    publish: Publish = None
    """Also write the numbered objects of each class into a copick project, and with --meshes glb
    their surfaces."""
    memory: float = 2.0
    """Maximum memory in GiB, whatever the size of the volume. It is exceeded by objects whose box
    takes more, and by filaments of very many voxels, which take some 100 bytes each."""
    ignore: int = 255
    """Label of voxels that nobody annotated. They count as background."""
    voxel_size: VoxelSize = None
    workers: Workers = 0
    overwrite: Overwrite = False
    project: ProjectOptions = ProjectOptions()


def run(options: Measure) -> None:
    """Run `Measure`; a ValueError or OSError says in one line what is wrong."""
    jobs = _of_volumes(options)
    alone = len(jobs) == 1 and not options.workers
    work = functools.partial(_run, alone=alone)
    from cryojax_seg import io

    # Those of several lie in one folder, which is made before workers begin.
    with contextlib.nullcontext() if len(jobs) == 1 else io.folder_made(options.output):
        console.each(jobs, work, name=lambda one: str(one.output), workers=options.workers)
    if not options.probabilities:
        from cryojax_seg import measure

        console.say(measure.bias_of_predictions())


def _of_volumes(options: Measure) -> list[Measure]:
    """Return the options of each label volume, whose output is a folder of its own."""
    from cryojax_seg import inference

    volumes = inference.expanded(options.labels)
    count = len(volumes)
    if len(options.tomogram) not in (0, max(count, 1)):
        raise ValueError(
            f"--tomogram: {len(options.tomogram)} for {count} label volumes; give one for each"
        )
    if count < 2:
        return [dataclasses.replace(options, labels=volumes)]
    for name in ("instances", "probabilities"):
        if getattr(options, name):
            raise ValueError(f"--{name} belong to one label volume, and there are {count}")
    runs = options.project.run
    names = runs if len(runs) == count else inference.names(volumes)
    return [
        dataclasses.replace(
            options,
            labels=(volume,),
            tomogram=options.tomogram[i : i + 1],
            output=options.output / name,
            project=dataclasses.replace(options.project, run=runs[i : i + 1]),
        )
        for i, (volume, name) in enumerate(zip(volumes, names, strict=True))
    ]


def _run(options: Measure, alone: bool) -> str:
    """Measure one volume; return what is said of it, unless tables say it."""
    instances = named(options.instances, "instances", "CLASS=PATH", "vesicle=map.mrc")
    inputs = [*options.labels, *options.tomogram, *map(Path, instances.values())]
    inputs += options.probabilities
    from cryojax_seg import io, report, runtime

    runtime.keep_memory(2**28)  # more would exceed --memory
    io.check_places([options.output], inputs)
    if "imod" in options.scene:
        io.check_imod(options.output / "scene.mod")
    names = {options.output: report.MEASUREMENT_FILES}
    job = {"measure": plain(options)}
    with (
        io.folder_made(options.output.parent),
        io.OutputSet(job, [options.output], inputs, options.overwrite, names) as outputs,
    ):
        if outputs.finished:
            return f"{options.output}: is done already"
        summary = _measure(options, instances, outputs.place(options.output), alone)
    if not alone:
        counts = [f"{row['count']} {name}" for name, row in summary["classes"].items()]
        return f"{options.output}: {', '.join(counts) or 'no objects'}"
    for title, columns, lines in report.measurement_tables(summary):
        console.table(title, columns, lines)
    return f"wrote {options.output / 'report.html'}"


def _measure(
    options: Measure, instances: dict[str, str], folder: Path, shown: bool
) -> dict[str, Any]:
    """Measure and write the folder of results; return the summary."""
    from cryojax_seg import io, measure, report

    kinds: dict[str, Any] = named(options.kind, "kind", "LABEL=KIND", "1=membrane", measure.KINDS)
    kinds |= {str(label): "membrane" for label in options.membranes}
    tomogram = next(iter(options.tomogram), None)
    volume, classes = io.read_object_classes(
        next(iter(options.labels), None),
        instances=instances,
        probabilities=options.probabilities,
        tomogram=tomogram,
        classes=options.classes,
        kind=kinds,
        voxel_size=options.voxel_size,
        ignore=options.ignore,
    )
    published = None
    if options.publish is not None:
        published = io.publication(
            options.publish,
            ["instances", *(["mesh"] if options.meshes == "glb" else [])],
            options.project.run,
            volume,
            [one.name for one in classes if one.kind != "filament"],
            overwrite=options.overwrite,
        )
    with _progress() if shown else contextlib.nullcontext() as progress:
        found = measure.measure_classes(
            volume.density,
            volume.require_voxel_size(),
            classes,
            smallest=options.smallest,
            split=options.split,
            rim=options.rim,
            farthest_angstrom=options.farthest,
            contact_angstrom=options.contact,
            touching_angstrom=options.touching,
            origin_angstrom=volume.corner(),
            memory_gib=options.memory,
            progress=progress,
        )
    summary = report.write_measurements(
        folder,
        found,
        volume,
        options=plain(options),
        meshes=options.meshes,
        rim=options.rim,
        tomogram=tomogram and io.read_tomogram(tomogram, options.voxel_size),
        scenes=options.scene,
        home=options.output,
    )
    if published is not None:
        published.write_measurements(found, volume, options.rim)
    return summary


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function that shows the progress of one part of the work after the other."""
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
