"""Writes what other programs open beside the results: a scene for ChimeraX, one for napari."""

import os
from collections.abc import Sequence
from pathlib import Path

from cryojax_seg.io.measurements import plain_name
from cryojax_seg.report.charts import COLOURS

CHIMERAX, NAPARI, README = "scene.cxc", "scene_napari.py", "README.txt"
HANDED_ON = (CHIMERAX, NAPARI, README)

_README = """\
instances.csv has a row for each object and summary.json the totals; report.html shows both.
instances/CLASS.mrc holds for each voxel the number of its object in the table.
scene.cxc opens in ChimeraX, and `python scene_napari.py` in napari (pip install napari mrcfile).
Surfaces in meshes/, if there are any, are in angstrom, in the frame of the tomogram.
"""
_START = '''\
"""Shows the tomogram and the numbered objects in napari; run it with Python."""

from pathlib import Path

import mrcfile
import napari

folder = Path(__file__).resolve().parent
viewer = napari.Viewer(title="cryojax_seg")


def add(name, path, show, **options):
    with mrcfile.open(folder / path, permissive=True) as file:
        size = [float(file.voxel_size[axis]) for axis in "zyx"]
        corner = [float(file.header.origin[axis]) for axis in "zyx"]
        show(file.data.copy(), name=name, scale=size, translate=corner, **options)


'''


def write_scenes(folder: Path, classes: Sequence[str], tomogram: str | None = None) -> None:
    """Write scenes for ChimeraX and napari, and a README, into a folder of measurements.

    The paths in them are relative to the folder. ChimeraX places volumes and meshes by their own
    voxel size and origin; classes have the colours of the report.

    Args:
        folder: the folder, with ``instances/CLASS.mrc`` and perhaps ``meshes``.
        classes: names of the classes in the order of their colours.
        tomogram: path of the tomogram, an MRC file; None, or no such file, leaves it out.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_scenes(folder, ("membrane",))
    >>> sorted(path.name for path in folder.iterdir())
    ['README.txt', 'scene.cxc', 'scene_napari.py']
    """
    chimerax, napari, model = [], [], 0
    source = _relative(folder, tomogram)
    if source is not None:
        model += 1
        chimerax += [f'open "{source}"', f"volume #{model} style image region all"]
        napari.append(f'add("tomogram", {source!r}, viewer.add_image, colormap="gray")')
    for place, name in enumerate(classes):
        colour, word = COLOURS[place % len(COLOURS)], plain_name(name)
        own = folder / "instances" / f"{word}.mrc"
        meshes = sorted((folder / "meshes").glob(f"{word}-[0-9]*"))
        if own.exists():
            napari.append(f"add({name!r}, {f'instances/{word}.mrc'!r}, viewer.add_labels)")
        files = [f"meshes/{mesh.name}" for mesh in meshes]
        files = files or ([f"instances/{word}.mrc"] if own.exists() else [])
        for file in files:
            model += 1
            chimerax.append(f'open "{file}"')
            if not meshes:
                chimerax.append(f"volume #{model} style surface level 0.5 step 1")
            chimerax.append(f"color #{model} {colour}")
    chimerax.append("view")
    (folder / CHIMERAX).write_text("\n".join(chimerax) + "\n", "utf-8")
    (folder / NAPARI).write_text(_START + "\n".join([*napari, "napari.run()"]) + "\n", "utf-8")
    (folder / README).write_text(_README, "utf-8")


def _relative(folder: Path, path: str | None) -> str | None:
    """Return the path of a file from a folder; None if there is no such file."""
    if path is None or not Path(path).is_file():
        return None
    return Path(os.path.relpath(path, folder)).as_posix()
