"""Shows a tomogram with labels, probabilities and particles in neuroglancer."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cryojax_seg.core.names import class_names, label_names
from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io import FileError, read_tomogram
from cryojax_seg.io.files import PathLike
from cryojax_seg.io.label_card import stated_names
from cryojax_seg.io.ome_writing import COLOURS
from cryojax_seg.io.same_grid import check_same_grid
from cryojax_seg.io.voxel_size import VoxelSize
from cryojax_seg.view.slices import measure_window

_GREY = """#uicontrol invlerp normalized
void main() { emitGrayscale(normalized()); }
"""
_TINT = """#uicontrol float opacity slider(min=0, max=1, default=0.6)
void main() {{ float p = toNormalized(getDataValue()); emitRGBA(vec4({colour}, p * opacity)); }}
"""
_LABELS = 254  # above are marks of what nobody annotated


class Converted:
    """Represents a volume whose parts are converted as they are read.

    >>> half = Converted(np.ones((2, 3, 4), np.float16), np.float32, lambda part: part / 2)
    >>> half.shape, half[0, :1].tolist()
    ((2, 3, 4), [[0.5, 0.5, 0.5, 0.5]])
    """

    def __init__(self, volume: Any, dtype: Any, convert: Callable[[np.ndarray], np.ndarray]):
        self.shape, self.dtype = tuple(int(n) for n in volume.shape), np.dtype(dtype)
        self._volume, self._convert = volume, convert

    def __getitem__(self, index: Any) -> np.ndarray:
        return self._convert(np.asarray(self._volume[index])).astype(self.dtype, copy=False)

    def transpose(self) -> np.ndarray:
        """Return all of it with its axes reversed, from which meshes are made."""
        return self[:, :, :].T


def open_scene(
    tomogram: PathLike,
    labels: PathLike | None = None,
    probabilities: Sequence[PathLike] = (),
    particles: PathLike | None = None,
    classes: Sequence[str] = (),
    *,
    voxel_size: VoxelSize | None = None,
) -> Any:
    """Open files in neuroglancer without converting them, and return its viewer.

    The viewer serves this machine alone, under an address that holds a secret, as long as this
    process runs: ``str(viewer)`` is the link. Meshes of the labels are made when they are shown.

    Args:
        tomogram: in any format that `io.read_tomogram` reads; MRC and OME-Zarr are read part by
            part.
        labels: integers on its grid.
        probabilities: a map on its grid for each class but the background.
        particles: a table of particles in it, see `io.read_particles`.
        classes: names of the labels 1, 2, ...; by default those in the file of the labels.
        voxel_size: angstrom, one number or (z, y, x); wins over the file.

    Raises:
        FileError: if a file cannot be read, or lies on another grid.
        ParameterError: if the voxel size is unknown.

    >>> import tempfile
    >>> from cryojax_seg.io import write_mrc
    >>> file = f"{tempfile.mkdtemp()}/t.mrc"
    >>> write_mrc(file, np.arange(24, dtype=np.float32).reshape(2, 3, 4), voxel_size=10.0)
    >>> viewer = open_scene(file, labels=None)
    >>> str(viewer).startswith("http://127.0.0.1:"), [layer.name for layer in viewer.state.layers]
    (True, ['t.mrc'])
    """
    import neuroglancer  # an extra, and slow to load

    volume = read_tomogram(tomogram, voxel_size)
    size = [length / 10 for length in volume.require_voxel_size()]
    space = neuroglancer.CoordinateSpace(names=["z", "y", "x"], units="nm", scales=size)
    layers: list[tuple[str, Any]] = [(_name(volume), _image(neuroglancer, volume, space))]
    given = tuple(classes)
    if labels is not None:
        given = stated_names(labels, given)
        known = _beside(labels, volume)
        layers.append((_name(known), _segments(neuroglancer, known, given, space)))
    names = label_names(class_names(given, max(len(given), len(probabilities), 1)))[1:]
    for number, path in enumerate(probabilities):
        found = _beside(path, volume)
        colour = [channel / 255 for channel in COLOURS[number % len(COLOURS)]]
        shader = _TINT.format(colour=", ".join(f"{channel:.3f}" for channel in colour))
        source = neuroglancer.LocalVolume(_bytes_of_probabilities(found), space, "image")
        name = names[number] if number < len(names) else _name(found)
        layers.append(
            (f"{name} probability", neuroglancer.ImageLayer(source=source, shader=shader))
        )
    if particles is not None:
        layers.append((_file(particles), _points(neuroglancer, particles, volume, space)))
    neuroglancer.set_server_bind_address("127.0.0.1")
    viewer = neuroglancer.Viewer()
    with viewer.txn() as state:
        state.dimensions = space
        state.display_dimensions = ["x", "y", "z"]
        state.position = [n / 2 for n in volume.density.shape]
        for name, layer in layers:
            state.layers.append(name=name, layer=layer)
        state.layout = "4panel"
        state.cross_section_scale = max(volume.density.shape[1:]) / 700
        state.projection_scale = 1.5 * max(volume.density.shape)
    return viewer


def _file(path: PathLike) -> str:
    return str(path).rstrip("/").rsplit("/", 1)[-1]


def _name(volume: Tomogram) -> str:
    return _file(volume.name)


def _beside(path: PathLike, tomogram: Tomogram) -> Tomogram:
    found = read_tomogram(path)
    check_same_grid(found, tomogram, f"{path} (beside {tomogram.name})")
    return found


def _image(neuroglancer: Any, volume: Tomogram, space: Any) -> Any:
    window = measure_window(volume.density)
    data: Any = Converted(volume.density, np.float32, lambda part: part)
    step = (window.high - window.low) / 255
    shown = [window.low + step * window.black, window.low + step * window.white]
    return neuroglancer.ImageLayer(
        source=neuroglancer.LocalVolume(data, space, "image"),
        shader=_GREY,
        shader_controls={"normalized": {"range": shown}},
    )


def _segments(neuroglancer: Any, volume: Tomogram, names: Sequence[str], space: Any) -> Any:
    def convert(part: np.ndarray) -> np.ndarray:
        return np.where((part < 0) | (part > _LABELS), 0, part)

    data = Converted(volume.density, np.uint8, convert)
    count = max(len(names), 1 if names else 8)
    source = neuroglancer.LocalVolume(data, space, "segmentation")
    layer = neuroglancer.SegmentationLayer(source=source)
    layer.segments = set(range(1, count + 1))
    layer.segment_colors = {
        label: "#{:02x}{:02x}{:02x}".format(*COLOURS[(label - 1) % len(COLOURS)])
        for label in range(1, count + 1)
    }
    layer.selected_alpha = 0.45
    return layer


def _bytes_of_probabilities(volume: Tomogram) -> Any:
    def convert(part: np.ndarray) -> np.ndarray:
        values = np.nan_to_num(part.astype(np.float32))
        if values.size and (values.min() < -1e-3 or values.max() > 1.001):
            raise FileError(f"{volume.name}: holds values outside 0 to 1, so it is no map")
        return np.rint(255 * np.clip(values, 0, 1))

    return Converted(volume.density, np.uint8, convert)


def _points(neuroglancer: Any, path: PathLike, tomogram: Tomogram, space: Any) -> Any:
    from cryojax_seg.io import read_particles_in

    found, rows = read_particles_in(path, tomogram)
    points = np.asarray(found.coordinates, float)
    return neuroglancer.LocalAnnotationLayer(
        dimensions=space,
        annotation_color="#f0e442",
        annotations=[
            neuroglancer.PointAnnotation(id=str(row), point=[float(v) for v in point])
            for row, point in zip(rows, points, strict=True)
        ],
    )
