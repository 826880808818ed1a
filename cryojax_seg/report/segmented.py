"""Writes the report of a segmentation, and the scenes in which other programs show it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from cryojax_seg import io
from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io.files import PathLike, atomic_write
from cryojax_seg.measure import boundary_surface
from cryojax_seg.report.charts import COLOURS
from cryojax_seg.report.handing_on import (
    README,
    Layer,
    Program,
    check_chimerax,
    scene_path,
    write_scene,
)
from cryojax_seg.report.page import page, section, table
from cryojax_seg.report.planes import LabelPlanes
from cryojax_seg.report.scene import scene
from cryojax_seg.report.slices import Picture, slices_of
from cryojax_seg.report.surfaces import surfaces
from cryojax_seg.report.units import number

_SLAB = 64  # sections that are looked at at a time
_README = """\
NAME.labels holds the class of each voxel of the tomogram NAME: {classes}, and 0 elsewhere.
Where asked for, NAME.CLASS.probability says how probable a class is; meshes are in angstrom.
Scenes: NAME.scene.cxc opens in ChimeraX, `python NAME.scene_napari.py` shows it in napari, and
3dmod NAME.mrc NAME.scene.mod in IMOD. They find the files where they lay, seen from this folder.
"""


def write_segmentation_page(
    path: PathLike, labels: PathLike, tomogram: PathLike, *, overwrite: bool = False
) -> None:
    """Write a page that shows a label volume on its tomogram, in one file that opens offline.

    Args:
        path: the HTML file.
        labels: the label volume, whose names are those that it states, see `io.read_label_card`.
        tomogram: what is labelled, on the same grid.
        overwrite: replace an existing file.

    Raises:
        FileError: if the volumes differ in shape, or the file exists.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> values = np.zeros((8, 8, 8), np.int8); values[2:6, 2:6, 2:6] = 1
    >>> for name in ("labels.mrc", "t.mrc"):
    ...     io.write_mrc(folder / name, values, voxel_size=10.0)
    >>> write_segmentation_page(folder / "r.html", folder / "labels.mrc", folder / "t.mrc")
    >>> "12.5 %" in (folder / "r.html").read_text()
    True
    """
    path = Path(path)
    found, seen = io.read_tomogram(labels), io.read_tomogram(tomogram)
    if found.density.shape != seen.density.shape:
        raise io.FileError(
            f"{labels}: has shape {found.density.shape}, and {tomogram} has {seen.density.shape}; "
            "they must lie on the same grid"
        )
    card = io.read_label_card(labels)
    values = np.asarray(found.density[:])
    counts = np.bincount(np.maximum(values, 0).ravel())
    names = _names(card, len(counts) - 1)
    planes = LabelPlanes(values)
    bodies = [
        (label, name, (0, 0, 0), values == label)
        for label, name in enumerate(names, 1)
        if label < len(counts) and counts[label]
    ]
    shown, scripts = scene(
        slices_of(Picture.of(seen.density), planes),
        surfaces(lambda: bodies, values.shape),
        names,
        numbered=False,
    )
    shares = [
        (name, f"{number(100 * float(counts[n]) / values.size)} %" if n < len(counts) else "0 %")
        for n, name in enumerate(names, 1)
    ]
    size = found.voxel_size
    grid = " x ".join(map(str, values.shape))
    lengths = "" if size is None else " of " + " x ".join(f"{v / 10:g}" for v in size) + " nm"
    about = f"<p>{grid} voxels (z, y, x){lengths}."
    if card and card.model:
        limits = ", ".join(f"{value:g}" for value in card.thresholds)
        about += f" Segmented by the model {card.model}" + (f", threshold {limits}" * bool(limits))
        about += "."
    body = shown + section("Classes", table(("class", "share of the volume"), shares))
    with atomic_write(path, overwrite) as file:
        file.write_text(
            page(f"Labels of {Path(tomogram).name}", f"{about}</p>", body, scripts), "utf-8"
        )


def segmentation_scenes(labels: PathLike, programs: Sequence[Program]) -> list[Path]:
    """Return the files that `write_segmentation_scenes` writes, before there is anything to show.

    Raises:
        FileError: if a program cannot open such labels, or the package imodmodel is missing.

    >>> [path.name for path in segmentation_scenes("a/t.labels.mrc", ("chimerax", "imod"))]
    ['t.scene.cxc', 't.scene.mod']
    """
    base = _base(Path(labels))
    if "chimerax" in programs:
        check_chimerax(scene_path(base, "chimerax"), [Path(labels)])
    if "imod" in programs:
        io.check_imod(scene_path(base, "imod"))
    return [scene_path(base, program) for program in programs]


def write_segmentation_scenes(
    labels: PathLike,
    tomogram: PathLike,
    programs: Sequence[Program],
    *,
    overwrite: bool = False,
) -> None:
    """Write scenes beside a label volume, in which other programs show it on its tomogram.

    The classes have the colours of the report. An IMOD model has their outlines in each slice.

    Args:
        labels: the label volume, whose names are those that it states, see `io.read_label_card`.
        tomogram: what is labelled.
        programs: what opens it, of "chimerax", "napari" and "imod".
        overwrite: replace existing files.

    Raises:
        FileError: as `segmentation_scenes`, or if a file exists.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> values = np.zeros((8, 8, 8), np.int8); values[2:6, 2:6, 2:6] = 1
    >>> for name in ("t.labels.mrc", "t.mrc"):
    ...     io.write_mrc(folder / name, values, voxel_size=10.0)
    >>> write_segmentation_scenes(folder / "t.labels.mrc", folder / "t.mrc", ("chimerax",))
    >>> (folder / "t.scene.cxc").read_text().splitlines()[2:]
    ['open "t.labels.mrc"', 'segmentation surfaces #2 where 1 color #2a78d6 step 1', ...
    """
    labels = Path(labels)
    segmentation_scenes(labels, programs)
    volume = io.read_tomogram(labels, mmap=True)
    names = dict(enumerate(_names(io.read_label_card(labels), _highest(volume)), 1))
    colours = [COLOURS[n % len(COLOURS)] for n in range(len(names))]
    layer = Layer("labels", labels, names, colours)
    for program in programs:
        if program == "imod":
            objects = [
                io.ModelObject(name, "closed", rims, colour=colour)
                for (name, rims), colour in zip(_outlines(volume, names), colours, strict=True)
            ]
            path, shape = scene_path(_base(labels), program), np.shape(volume.density)
            io.write_imod(path, objects, shape, volume.voxel_size, overwrite)
        else:
            write_scene(_base(labels), program, [layer], tomogram, overwrite)


def segmentation_meshes(labels: PathLike, suffix: str, classes: Sequence[str]) -> list[Path]:
    """Return the files that `write_segmentation_meshes` may write, one for each class.

    >>> [path.name for path in segmentation_meshes("a/t.labels.mrc", "ply", ("ER membrane",))]
    ['t.ER_membrane.ply']
    """
    stem = Path(labels).stem.removesuffix(".labels")
    names = [f"{stem}.{io.plain_name(name)}.{suffix}" for name in classes]
    return [Path(labels).with_name(name) for name in names]


def write_segmentation_meshes(
    labels: PathLike, suffix: str, *, overwrite: bool = False
) -> list[Path]:
    """Write the boundary of each class of a label volume as a triangle mesh beside it.

    The surface encloses the volume of the voxels, see `measure.boundary_surface`. Vertices are in
    angstrom from the origin of the file, or in voxels if the voxel size is unknown. The volume is
    held in memory.

    Args:
        labels: the label volume, whose names are those that it states, see `io.read_label_card`.
        suffix: "ply", "obj", "stl", "glb" or "surf".
        overwrite: replace existing files.

    Returns:
        the files; a class without voxels has none.

    Raises:
        FileError: if a file exists.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> values = np.zeros((8, 8, 8), np.int8); values[2:6, 2:6, 2:6] = 1
    >>> io.write_mrc(folder / "t.labels.mrc", values, voxel_size=10.0)
    >>> [path.name for path in write_segmentation_meshes(folder / "t.labels.mrc", "obj")]
    ['t.label_1.obj']
    """
    volume = io.read_tomogram(labels)
    values, written = np.asarray(volume.density), []
    names = _names(io.read_label_card(labels), int(values.max(initial=0)))
    size = np.asarray(volume.voxel_size or (1.0, 1.0, 1.0))
    origin = volume.origin if volume.voxel_size else (0.0, 0.0, 0.0)
    for label, path in enumerate(segmentation_meshes(labels, suffix, names), 1):
        surface = boundary_surface(values == label)
        if len(surface.faces):
            vertices = surface.places * size + np.asarray(origin)
            io.write_mesh(path, vertices, surface.faces, overwrite=overwrite)
            written.append(path)
    return written


def write_segmentation_readme(folder: Path, classes: Sequence[str]) -> None:
    """Write what the files of a folder of labels are, unless it has a README.txt already.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_segmentation_readme(folder, ("membrane", "actin"))
    >>> (folder / "README.txt").read_text().splitlines()[0]
    'NAME.labels holds the class of each voxel of the tomogram NAME: 1 membrane, 2 actin, and 0 ...
    """
    if (folder / README).exists():
        return
    named = ", ".join(f"{label} {name}" for label, name in enumerate(classes, 1))
    with atomic_write(folder / README) as file:
        file.write_text(_README.format(classes=named), "utf-8")


def _base(labels: Path) -> Path:
    return labels.with_name(f"{labels.stem.removesuffix('.labels')}.scene")


def _names(card: io.LabelCard | None, highest: int) -> list[str]:
    """Return the names of the labels 1, 2, ... up to the highest there is."""
    names = list(card.classes) if card else []
    return names + [f"label {n}" for n in range(len(names) + 1, highest + 1)]


def _highest(volume: Tomogram) -> int:
    """Return the highest label."""
    count, density = volume.density.shape[0], volume.density
    return max(int(np.max(density[z : z + _SLAB])) for z in range(0, count, _SLAB))


def _outlines(volume: Tomogram, names: Mapping[int, str]) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Yield the name of each class, and its outlines in all slices."""
    rims: dict[int, list[np.ndarray]] = {label: [] for label in names}
    for start in range(0, volume.density.shape[0], _SLAB):
        slab = np.asarray(volume.density[start : start + _SLAB])
        for label in set(np.unique(slab).tolist()) & rims.keys():
            rims[label] += io.outlines(slab == label, (start, 0, 0))
    for label, name in names.items():
        yield name, rims[label]
