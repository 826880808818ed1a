"""Exchanges volumes with napari as layers, without importing it: data, what it knows, and kind.

Lengths of layers are in nm, axes are z, y, x, and layers of one tomogram lie on each other.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cryojax_seg.core.names import class_names
from cryojax_seg.core.plain import Contrast
from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.errors import ParameterError
from cryojax_seg.inference import Model
from cryojax_seg.io import FileError, LabelCard, read_tomogram, write_mrc, write_zarr
from cryojax_seg.io.label_card import read_label_card
from cryojax_seg.io.ome_writing import COLOURS
from cryojax_seg.view.methods import chosen, methods_from
from cryojax_seg.view.painting import UNKNOWN, Painting
from cryojax_seg.view.session import Session

LayerData = tuple[Any, dict[str, Any], str]
IGNORED = 255  # the value of voxels that nobody annotated, in a Labels layer
_NM = {"angstrom": 0.1, "nanometer": 1.0, "micrometer": 1e3, "millimeter": 1e6, "meter": 1e9}


def reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerData]] | None:
    """Return the function that reads a path into layers, as napari asks for it.

    Args:
        path: a file or folder; several are not read together.

    >>> reader(["a.mrc", "b.mrc"]) is None
    True
    """
    return read_layers if isinstance(path, str) else None


def read_layers(path: Any) -> list[LayerData]:
    """Read a tomogram, labels or a probability map as a layer; MRC stays on disk.

    Integers that say what they mean (`io.LabelCard`) become a Labels layer, in which 255 is not
    annotated; a file with ``probability`` in its name becomes an image from 0 to 1.

    Raises:
        FileError: if it cannot be read.

    >>> import tempfile
    >>> file = f"{tempfile.mkdtemp()}/labels.mrc"
    >>> labels = np.ones((2, 3, 4), np.int8)
    >>> write_mrc(file, labels, voxel_size=10.0, card=LabelCard(("membrane",)))
    >>> ((data, known, kind),) = read_layers(file)
    >>> kind, known["scale"], known["metadata"]
    ('labels', (1.0, 1.0, 1.0), {'classes': ('membrane',)})
    """
    tomogram, card = read_tomogram(path), read_label_card(path)
    density: Any = tomogram.density
    data = density if isinstance(density, np.ndarray) else np.asarray(density[:, :, :])
    name = Path(path).name
    if card is not None and np.dtype(data.dtype).kind in "iu":
        return [labels_layer(np.asarray(data), tomogram, card.classes, name)]
    if "probability" in name:
        return [probability_layer(data, tomogram, name)]
    known = {"name": name, "colormap": "gray", **grid(tomogram)}
    return [(data, known, "image")]


def grid(tomogram: Tomogram) -> dict[str, Any]:
    """Return what a layer knows of where its voxels lie.

    >>> tomogram = Tomogram(np.zeros((2, 3, 4)), (10.0, 10.0, 10.0), origin=(0.0, 5.0, 0.0))
    >>> grid(tomogram)["scale"], grid(tomogram)["translate"]
    ((1.0, 1.0, 1.0), (0.0, 0.5, 0.0))
    """
    found: dict[str, Any] = {"axis_labels": ("z", "y", "x")}
    if tomogram.voxel_size is not None:
        found["scale"] = tuple(float(size) / 10 for size in tomogram.voxel_size)
        found["translate"] = tuple(float(at) / 10 for at in tomogram.origin)
        found["units"] = ("nm",) * 3
    return found


def labels_layer(
    labels: np.ndarray, tomogram: Tomogram, classes: Sequence[str], name: str
) -> LayerData:
    """Return labels of a tomogram as a layer, with the colours of the page.

    >>> tomogram = Tomogram(np.zeros((1, 1, 2)), (10.0, 10.0, 10.0))
    >>> data, known, kind = labels_layer(np.array([[[-1, 1]]]), tomogram, ("a",), "found")
    >>> data.tolist(), sorted(known)
    ([[[255, 1]]], ['axis_labels', 'colormap', 'metadata', 'name', 'scale', 'translate', 'units'])
    """
    colours: dict[int | None, Any] = {None: (0, 0, 0, 0), 0: (0, 0, 0, 0)}
    colours[IGNORED] = (0.5, 0.5, 0.5, 0.3)
    for label in range(1, len(classes) + 1):
        colours[label] = (*(c / 255 for c in COLOURS[(label - 1) % len(COLOURS)]), 1.0)
    data = labels.view(np.uint8) if labels.dtype == np.int8 else np.where(labels < 0, 255, labels)
    known = {
        "name": name,
        "metadata": {"classes": tuple(classes)},
        "colormap": colours,
        **grid(tomogram),
    }
    return data, known, "labels"


def probability_layer(values: Any, tomogram: Tomogram, name: str) -> LayerData:
    """Return the probability of a class as an image that is added to the tomogram.

    >>> probability_layer(np.zeros((1, 1, 2)), Tomogram(np.zeros((1, 1, 2))), "actin")[2]
    'image'
    """
    known = {"colormap": "magma", "contrast_limits": (0.0, 1.0), "blending": "additive"}
    return values, {"name": name, **known, **grid(tomogram)}, "image"


def voxel_angstrom(scale: Sequence[float | int], units: Any) -> tuple[float, float, float] | None:
    """Return the voxel size of a layer in angstrom; None if its unit is no length.

    >>> voxel_angstrom((1.0, 1.0, 2.0), ("nanometer",) * 3)
    (10.0, 10.0, 20.0)
    >>> voxel_angstrom((1.0, 1.0, 1.0), ("pixel",) * 3) is None
    True
    """
    names = [str(unit) for unit in (units if isinstance(units, tuple | list) else [units] * 3)]
    if len(names) != 3 or len(scale) != 3 or not all(name in _NM for name in names):
        return None
    z, y, x = (float(s) * _NM[name] * 10 for s, name in zip(scale, names, strict=True))
    return z, y, x


def write_layer(path: str, data: Any, known: Mapping[str, Any]) -> list[str]:
    """Write a Labels or Image layer as MRC or OME-Zarr with its voxel size, as napari asks for it.

    Args:
        path: ends in .mrc or .zarr.
        data: ``(z, y, x)``.
        known: of the layer: scale, units, translate and metadata.

    Returns:
        the path.

    Raises:
        FileError: if it is no volume, or the file exists.

    >>> import tempfile
    >>> path = f"{tempfile.mkdtemp()}/found.zarr"
    >>> nm = {"scale": (1.0, 1.0, 1.0), "units": ("nanometer",) * 3}
    >>> meaning = {"metadata": {"classes": ("membrane",)}}
    >>> written = write_layer(path, np.ones((2, 3, 4), np.uint8), nm | meaning)
    >>> read_layers(path)[0][1]["metadata"]
    {'classes': ('membrane',)}
    """
    array = np.asarray(data)
    if array.ndim != 3:
        raise FileError(f"{path}: a volume (z, y, x) is needed, this layer has {array.ndim} axes")
    size = voxel_angstrom(known.get("scale", ()), known.get("units", "pixel"))
    z, y, x = known.get("translate", (0.0,) * 3) if size else (0.0,) * 3
    like = Tomogram(array, size, origin=(10 * float(z), 10 * float(y), 10 * float(x)))
    names = tuple(known.get("metadata", {}).get("classes", ()))
    card = LabelCard(names) if names and array.dtype.kind in "iu" else None
    write = write_zarr if Path(path).suffix == ".zarr" else write_mrc
    write(path, array, like, card=card)
    return [path]


def learned(
    tomogram: Tomogram,
    labels: np.ndarray,
    start: str = "vote",
    classes: Sequence[str] = (),
    background: int = 0,
    contrast: Contrast = "dark",
) -> Model:
    """Return what a model learns from a Labels layer.

    Args:
        tomogram: with a voxel size.
        labels: ``(z, y, x)``; 255 is not annotated, and so are slices without any label.
        start: "vote", a built-in model or a model folder, as in `annotate`.
        classes: names of the labels 1, 2, ...; made up by default.
        background: the label of the background. If it is 0, slices with labels are complete; if it
            is another one, voxels of the label 0 are not annotated.
        contrast: of structure in the tomogram.

    Raises:
        ParameterError: if nothing is annotated, or names are missing.
        ValueError: as `Method.learn`.

    >>> noise = np.random.default_rng(0).normal(size=(9, 32, 32)).astype(np.float32)
    >>> labels = np.zeros(noise.shape, int)
    >>> labels[4, :, 8:16] = 1
    >>> labels[4, :, 20:] = 2
    >>> tomogram = Tomogram(noise - 9 * (labels[4] == 1), (10.0, 10.0, 10.0))
    >>> learned(tomogram, labels, background=2).segmenter.classes
    ('foreground',)
    """
    values = np.asarray(labels).astype(np.int64)
    values[(values < 0) | (values == IGNORED)] = UNKNOWN
    if background:
        values[values == 0] = UNKNOWN
        values[values == background] = 0
        values[values > background] -= 1
    else:
        values[~(values > 0).any((1, 2))] = UNKNOWN
    highest = int(values.max(initial=UNKNOWN))
    if highest < 1:
        raise ParameterError("no voxel of a class is annotated in this layer; paint some", "labels")
    names = class_names(tuple(classes), highest)
    if highest > len(names) - (len(names) > 1):
        raise ParameterError(
            f"the layer has the labels 1 to {highest}, and {len(classes)} names are given; name "
            "all classes, or none",
            "classes",
        )
    known = np.flatnonzero((values >= 0).any((1, 2))).tolist()
    slices = {z: values[z].astype(np.int8) for z in known}
    painting = Painting(tomogram, names, slices)
    session = Session(tomogram, painting=painting, contrast=contrast)
    methods = methods_from(start)
    method = methods[next(iter(methods))](session)
    method.learn(chosen(painting), names)
    return Model(*method.model(), name=f"{start}, which learned")
