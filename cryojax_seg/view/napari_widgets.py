"""Makes the widgets of napari: one segments the active layer, one learns from a Labels layer.

napari imports this module; the package does not depend on napari.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cryojax_seg.core.names import label_names
from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.errors import ParameterError
from cryojax_seg.view.layers import (
    LayerData,
    labels_layer,
    learned,
    probability_layer,
    voxel_angstrom,
)

_OWN = "model folder"  # instead of the name of a built-in model
_CONTRASTS = ("dark", "bright")


def tomogram_of(layer: Any, voxel_nm: float | int = 0) -> Tomogram:
    """Return the volume of an image layer of napari.

    Args:
        layer: has data, scale, units, translate and name.
        voxel_nm: edge of a voxel in nm; 0 for that of the layer.

    Raises:
        ParameterError: if it is no volume, or has no voxel size.

    >>> import types
    >>> layer = types.SimpleNamespace(data=np.zeros((2, 3, 4)), name="t", translate=(0, 0, 0))
    >>> layer.scale, layer.units = (1.0, 1.0, 1.0), ("nanometer",) * 3
    >>> tomogram_of(layer).voxel_size, tomogram_of(layer, 1.5).voxel_size
    ((10.0, 10.0, 10.0), (15.0, 15.0, 15.0))
    """
    if layer.data.ndim != 3:
        raise ParameterError(f"{layer.name}: a volume is needed, this layer has other axes")
    size = voxel_angstrom(tuple(layer.scale), layer.units)
    if voxel_nm:
        size = (10.0 * voxel_nm, 10.0 * voxel_nm, 10.0 * voxel_nm)
    if size is None:
        raise ParameterError(
            f"{layer.name}: the scale of the layer has no unit; give the voxel size in nm",
            "voxel_nm",
        )
    z, y, x = (10.0 * float(at) if not voxel_nm else 0.0 for at in layer.translate)
    return Tomogram(np.asarray(layer.data), size, origin=(z, y, x), name=str(layer.name))


def found_layers(model: Any, tomogram: Tomogram, contrast: Any, maps: bool) -> list[LayerData]:
    """Segment a tomogram, and return its labels, and the maps that are asked for, as layers."""
    from cryojax_seg import inference

    found = inference.segment(model, tomogram, contrast=contrast, probabilities=maps)
    labels, probabilities = found if maps else (found, {})
    names = label_names(model.segmenter.classes)[1:]
    title = f"{tomogram.name} {' '.join(names)} by {model.name}"  # replaces that of this name
    return [
        *(
            probability_layer(
                values, tomogram, f"{tomogram.name} {name} probability by {model.name}"
            )
            for name, values in probabilities.items()
        ),
        labels_layer(labels, tomogram, names, title),
    ]


def segment_widget() -> Any:
    """Return the widget that segments an image by a built-in model, or one of your own."""
    from magicgui import magicgui
    from napari.layers import Image
    from napari.qt.threading import FunctionWorker, thread_worker
    from napari.types import LayerDataTuple

    from cryojax_seg import inference

    @magicgui(
        call_button="Segment",
        model={"choices": [*inference.built_in_models(), _OWN]},
        folder={"mode": "d", "label": "model folder"},
        contrast={"choices": _CONTRASTS, "label": "structure is"},
        voxel_nm={"label": "voxel size, nm (0: of the layer)", "step": 0.01, "max": 100.0},
    )
    def segment(
        image: Image,
        model: str = "membrane-fast",
        folder: Path = Path(),
        contrast: Any = "dark",
        voxel_nm: float = 0.0,
        probabilities: bool = False,
    ) -> FunctionWorker[list[LayerDataTuple]]:
        tomogram = tomogram_of(image, voxel_nm)

        def work() -> list[LayerData]:
            chosen = inference.load(folder if model == _OWN else model)
            return found_layers(chosen, tomogram, contrast, probabilities)

        return _started(thread_worker, work)

    return segment


def learn_widget() -> Any:
    """Return the widget that learns from the labels of some slices, and labels all others."""
    from magicgui import magicgui
    from napari.layers import Image, Labels
    from napari.qt.threading import FunctionWorker, thread_worker
    from napari.types import LayerDataTuple

    from cryojax_seg import inference

    @magicgui(
        call_button="Learn",
        painted={"label": "labels"},
        start={"choices": [*inference.built_in_models(), "vote"]},
        classes={"label": "classes, with commas"},
        background={"label": "label of background", "max": 254},
        contrast={"choices": _CONTRASTS, "label": "structure is"},
        voxel_nm={"label": "voxel size, nm (0: of the layer)", "step": 0.01, "max": 100.0},
        save_into={"mode": "d", "label": "save the model into"},
    )
    def learn(
        image: Image,
        painted: Labels,  # "labels" is an attribute of the widget itself
        start: str = "membrane-fast",
        classes: str = "",
        background: int = 0,
        contrast: Any = "dark",
        voxel_nm: float = 0.0,
        probabilities: bool = False,
        save_into: Path = Path(),
    ) -> FunctionWorker[list[LayerDataTuple]]:
        tomogram, values = tomogram_of(image, voxel_nm), np.array(painted.data)
        if values.shape != tomogram.density.shape:
            raise ParameterError(
                f"{painted.name} has the shape {values.shape}, and {image.name} "
                f"{tomogram.density.shape}; choose layers of one tomogram"
            )
        names = [name.strip() for name in classes.split(",") if name.strip()]
        names = names or list(painted.metadata.get("classes", ()))

        def work() -> list[LayerData]:
            from cryojax_seg import io

            model = learned(tomogram, values, start, names, background, contrast)
            if save_into != Path():
                io.save_model(save_into, model.segmenter, model.card, overwrite=True)
            return found_layers(model, tomogram, contrast, probabilities)

        return _started(thread_worker, work)

    return learn


def _started(thread_worker: Any, work: Callable[[], list[LayerData]]) -> Any:
    """Return a worker that has begun; napari adds its layers, and shows its errors."""
    worker = thread_worker(work, progress={"total": 0})()
    worker.start()
    return worker
