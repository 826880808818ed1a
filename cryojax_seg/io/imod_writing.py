"""Write IMOD models (.mod) with the package imodmodel: outlines, centre lines and points."""

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cryojax_seg.core.particles import Particles
from cryojax_seg.core.plain import Shape
from cryojax_seg.io.block import library
from cryojax_seg.io.files import FileError, HeaderWarning, PathLike, atomic_write
from cryojax_seg.io.imod import ANGSTROM, FIRST
from cryojax_seg.text import shortened

_CLASSES = 255  # objects of a table of particles
_NAME = 63  # bytes of the name of an object


@dataclasses.dataclass(frozen=True, eq=False)
class ModelObject:
    """Holds one object of an IMOD model.

    Attributes:
        name: its name; IMOD keeps 63 bytes of it.
        kind: "closed" for outlines in slices, "open" for lines, "points" for scattered points.
        contours: the points ``(n, 3)`` of each contour, zyx, in voxels from the centre of the first
            voxel.
        surfaces: for each contour the number of the thing that it belongs to; empty for none.
        radius: of the points as 3dmod draws them, in voxels.
        colour: such as "#2a78d6".

    >>> ModelObject("actin", "open", [np.zeros((2, 3))]).colour
    '#00ff00'
    """

    name: str
    kind: Literal["closed", "open", "points"]
    contours: Sequence[np.ndarray]
    surfaces: Sequence[int] = ()
    radius: float = 3.0
    colour: str = "#00ff00"


def check_imod(path: PathLike) -> None:
    """Refuse to write a model where the package imodmodel is missing.

    Raises:
        FileError: naming the file and the extra to install.

    >>> check_imod("a.mod")
    """
    _models(Path(path))


def write_imod(
    path: PathLike,
    objects: Sequence[ModelObject],
    shape: Shape | None = None,
    voxel_size: Sequence[float] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a model that 3dmod shows on the volume that it describes.

    Args:
        path: ending in .mod.
        objects: what to write; `imod_labels.read_imod` paints it again.
        shape: of the volume, ``(z, y, x)``; None if it is not known.
        voxel_size: of the volume, angstrom, zyx; None if it is not known.
        overwrite: replace an existing file.

    Raises:
        FileError: if the package imodmodel is missing, or as `atomic_write`.

    >>> import tempfile
    >>> from cryojax_seg.io.imod import describe_imod
    >>> file = Path(tempfile.mkdtemp()) / "a.mod"
    >>> line = ModelObject("actin", "open", [np.array([[1.0, 2, 3], [1, 2, 7]])])
    >>> write_imod(file, [line], (4, 5, 9), (10.0, 10.0, 10.0))
    >>> describe_imod(file)["object 1 (actin)"]
    '1 open contours, label 1'
    """
    models = _models(Path(path))
    z, y, x = shape or (0, 0, 0)
    depth, size = (1.0, None) if voxel_size is None else (voxel_size[0], voxel_size[2])
    with warnings.catch_warnings(), atomic_write(path, overwrite) as file:
        warnings.simplefilter("ignore", DeprecationWarning)  # of pydantic within imodmodel
        header = models.ModelHeader(
            xmax=x,
            ymax=y,
            zmax=z,
            zscale=depth / (size or 1.0),
            pixelsize=size or 1.0,
            units=0 if size is None else ANGSTROM,
            flags=models.ModelFlags(z_coordinates_start_from_negative_half=True),
        )
        written = [_object(models, one) for one in objects]
        models.ImodModel(objects=written, header=header).to_file(file)


def write(path: Path, particles: Particles, overwrite: bool, shape: Shape | None) -> None:
    """Write particles as scattered points, an object for each class; see `io.write_particles`."""
    classes = particles.classes if particles.classes is not None else np.ones(len(particles), int)
    if len(classes) and not 1 <= classes.min() <= classes.max() <= _CLASSES:
        raise FileError(
            f"{path}: an IMOD model has an object for each class, from 1 to {_CLASSES}, and there "
            f"are classes from {classes.min()} to {classes.max()}; write a .star or .csv table"
        )
    lost = ["orientations"] if not np.allclose(particles.rotations, np.eye(3)) else []
    lost += ["scores"] if particles.scores is not None else []
    lost += [shortened(name, 60) for name in particles.columns]
    if lost:
        message = f"{path}: an IMOD model holds positions and classes; left out: {', '.join(lost)}"
        warnings.warn(message, HeaderWarning, stacklevel=3)
    objects = [
        ModelObject("", "points", [particles.coordinates[classes == number]])
        for number in range(1, int(classes.max(initial=1)) + 1)
    ]
    size = particles.voxel_size
    write_imod(path, objects, shape, None if size is None else (size,) * 3, overwrite)


def outlines(mask: np.ndarray, start: Sequence[int] = (0, 0, 0)) -> Iterator[np.ndarray]:
    """Yield closed contours around the voxels of a mask, slice by slice.

    Filling them gives the same mask again; one around a hole lies inside that of its object.

    Args:
        mask: ``(z, y, x)``, true inside.
        start: the first voxel of the mask in the volume.

    Yields:
        points ``(n, 3)``, zyx, in voxels from the centre of the first voxel of the volume.

    >>> mask = np.zeros((1, 4, 4), bool)
    >>> mask[0, 1:3, 1:3] = True
    >>> [len(points) for points in outlines(mask)]
    [8]
    """
    from skimage.measure import find_contours

    for z, section in enumerate(mask):
        for found in find_contours(np.pad(section, 1).astype(np.float32), 0.5):
            points = found[:-1]  # the last one is the first
            after = np.roll(points, -1, axis=0) - points
            turns = (after != np.roll(after, 1, axis=0)).any(1)  # others lie between two
            places = np.insert(points[turns] - 1.0, 0, z, axis=1)
            yield places + np.asarray(start, float)


def _models(path: Path) -> Any:
    return library("imodmodel.models", path, "an IMOD model")


def _object(models: Any, one: ModelObject) -> Any:
    surfaces = one.surfaces or [0] * len(one.contours)
    contours = [
        models.Contour(
            points=np.asarray(points, float)[:, ::-1] + FIRST,
            header=models.ContourHeader(surf=int(surface)),
        )
        for points, surface in zip(one.contours, surfaces, strict=True)
    ]
    red, green, blue = (int(one.colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    header = models.ObjectHeader(
        name=one.name.encode()[:_NAME].decode(errors="ignore"),
        flags=models.ObjectFlags(open=one.kind == "open", scattered=one.kind == "points"),
        contsize=len(contours),
        surfsize=int(max(surfaces, default=0)),
        pdrawsize=round(one.radius) if one.kind == "points" else 0,
        red=red,
        green=green,
        blue=blue,
    )
    return models.Object(contours=contours, header=header)
