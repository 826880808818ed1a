"""Writes what other programs open beside the results: scenes for ChimeraX and for napari."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from cryojax_seg.io.files import FileError, PathLike, atomic_write

Program = Literal["chimerax", "napari", "imod"]
Named = Callable[[Path], str]  # returns the path of a file as a scene names it
README = "README.txt"
_ENDINGS: dict[Program, str] = {"chimerax": ".cxc", "napari": "_napari.py", "imod": ".mod"}
_MRC = (".mrc", ".rec", ".map", ".st", ".ali", ".gz", ".bz2")
_PACKED = (".gz", ".bz2")
_MESHES = (".obj", ".stl", ".glb")  # that ChimeraX opens
_START = '''\
"""Shows the tomogram and the labels in napari; run it with Python."""

from pathlib import Path

{imports}

folder = Path(__file__).resolve().parent
viewer = napari.Viewer(title="cryojax_seg")


def read(path):
    """Return the voxels of a volume, and their size and place in angstrom."""
{read}


'''
_BY_MRCFILE = """\
    with mrcfile.open(folder / path, permissive=True) as file:
        size = [float(file.voxel_size[axis]) or 1.0 for axis in "zyx"]
        corner = [float(file.header.origin[axis]) for axis in "zyx"]
        if not any(corner):
            starts = [int(file.header[f"n{axis}start"]) for axis in "zyx"]
            corner = [start * step for start, step in zip(starts, size)]
        return file.data.copy(), {"scale": size, "translate": corner}"""
_BY_US = """\
    volume = io.read_tomogram(folder / path)
    size = volume.voxel_size or (1.0, 1.0, 1.0)
    corner = volume.corner() if volume.voxel_size else (0.0, 0.0, 0.0)
    return volume.density[:], {"scale": size, "translate": corner}"""


@dataclasses.dataclass(frozen=True)
class Layer:
    """Describes one label volume of a scene.

    Attributes:
        name: of the layer.
        path: the volume.
        names: names of the classes by label; empty where the labels number objects.
        colours: of the classes, as many as there are names, or of all numbered objects.
        meshes: files that ChimeraX shows in place of numbered objects, if it reads their format.

    >>> Layer("membrane", Path("instances/membrane.mrc"), {}, ("#2a78d6",)).meshes
    ()
    """

    name: str
    path: Path
    names: Mapping[int, str]
    colours: Sequence[str]
    meshes: Sequence[Path] = ()


def scene_path(base: Path, program: Program) -> Path:
    """Return the file of a scene.

    >>> scene_path(Path("a/scene"), "napari").name
    'scene_napari.py'
    """
    return base.with_name(base.name + _ENDINGS[program])


def write_scene(
    base: Path,
    program: Literal["chimerax", "napari"],
    layers: Sequence[Layer],
    tomogram: PathLike | None = None,
    overwrite: bool = False,
    home: Path | None = None,
) -> Path:
    """Write a scene that opens a tomogram with its labels, each in its place and colour.

    The paths in it are relative to its folder, so that the folder can be moved with what it shows.

    Args:
        base: path of the scene without its ending.
        program: what opens it.
        layers: the label volumes.
        tomogram: what is labelled; None, or no such file, leaves it out.
        overwrite: replace an existing file.
        home: the folder where the scene will lie, with what is in its folder now; None for that
            folder.

    Returns:
        the file, see `scene_path`.

    Raises:
        FileError: if ChimeraX has no reader for a label volume, or as `atomic_write`.

    >>> import tempfile
    >>> base = Path(tempfile.mkdtemp()) / "scene"
    >>> layer = Layer("labels", base.with_name("l.mrc"), {1: "actin"}, ("#2a78d6",))
    >>> print(write_scene(base, "chimerax", [layer]).read_text())
    open "l.mrc"
    segmentation surfaces #1 where 1 color #2a78d6 step 1
    volume #1 hide
    view
    """
    path = scene_path(base, program)
    if program == "chimerax":
        check_chimerax(path, [layer.path for layer in layers])
    source = None if tomogram is None or not Path(tomogram).exists() else Path(tomogram)

    def named(shown: Path) -> str:
        inside = shown.is_relative_to(path.parent)
        start = path.parent if inside or home is None else home
        return Path(os.path.relpath(shown, start)).as_posix()

    text = "\n".join([*_chimerax(named, layers, source), "view", ""])
    if program == "napari":
        paths = [*filter(None, [source]), *(layer.path for layer in layers)]
        text = _opening(paths) + "\n".join([*_napari(named, layers, source), ""])
    with atomic_write(path, overwrite) as file:
        file.write_text(text, "utf-8")
    return path


def check_chimerax(path: Path, volumes: Sequence[Path]) -> None:
    """Refuse a scene of volumes that ChimeraX cannot open.

    Raises:
        FileError: naming the scene.

    >>> check_chimerax(Path("scene.cxc"), [Path("labels.mrc")])
    """
    if any(volume.suffix == ".zarr" for volume in volumes):
        raise FileError(
            f"{path}: ChimeraX opens no OME-Zarr; write the labels in another format, such as mrc"
        )


def _chimerax(named: Named, layers: Sequence[Layer], tomogram: Path | None) -> Iterator[str]:
    """Yield commands; volumes and meshes are placed by their own voxel size and origin."""
    model = 0
    if tomogram is not None and tomogram.is_file():
        model += 1
        yield f'open "{named(tomogram)}"'
        yield f"volume #{model} style image region all"
    for layer in layers:
        meshes = [mesh for mesh in layer.meshes if mesh.suffix in _MESHES]
        for mesh in meshes:
            model += 1
            yield f'open "{named(mesh)}"'
            yield f"color #{model} {layer.colours[0]}"
        if meshes:
            continue
        model += 1
        yield f'open "{named(layer.path)}"'
        if not layer.names:
            yield f"volume #{model} style surface level 0.5 step 1"
            yield f"color #{model} {layer.colours[0]}"
            continue
        opened = model
        for label, colour in zip(layer.names, layer.colours, strict=True):
            model += 1
            yield f"segmentation surfaces #{opened} where {label} color {colour} step 1"
        yield f"volume #{opened} hide"


def _napari(named: Named, layers: Sequence[Layer], tomogram: Path | None) -> Iterator[str]:
    if tomogram is not None:
        yield f"data, place = read({named(tomogram)!r})"
        yield 'viewer.add_image(data, name="tomogram", colormap="gray", **place)'
    for layer in layers:
        yield f"data, place = read({named(layer.path)!r})"
        options = f"name={layer.name!r}, "
        if layer.names:
            colours = dict(zip(layer.names, layer.colours, strict=True))
            features = {"index": list(layer.names), "class": list(layer.names.values())}
            yield f"colours = { ({**colours, None: 'transparent'})!r}"
            yield f"features = {features!r}"
            options += "colormap=colours, features=features, "
        yield f'viewer.add_labels(data.astype("int32"), {options}**place)'
    yield "napari.run()"


def _opening(paths: Sequence[Path]) -> str:
    """Return the start of a script, which needs this package only for other files than MRC."""
    plain = all(
        path.suffix in _MRC and (path.suffix not in _PACKED or Path(path.stem).suffix in _MRC)
        for path in paths
    )
    imports = (
        "import mrcfile\nimport napari" if plain else "import napari\n\nfrom cryojax_seg import io"
    )
    return _START.format(imports=imports, read=_BY_MRCFILE if plain else _BY_US)
