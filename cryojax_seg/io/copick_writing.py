"""Write results into a copick project beside the files that a command writes."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io.annotation import IGNORE
from cryojax_seg.io.copick_address import is_address, new_copick
from cryojax_seg.io.copick_project import Kind
from cryojax_seg.io.files import FileError, PathLike
from cryojax_seg.io.mesh import write_mesh
from cryojax_seg.io.particles_in_tomogram import cubic_voxel_size
from cryojax_seg.io.volume import read_tomogram
from cryojax_seg.io.zarr_writing import write_zarr

if TYPE_CHECKING:
    from cryojax_seg.measure import Measurements


@dataclasses.dataclass(frozen=True)
class Publication:
    """Says where results go in a copick project, whose folders are made when they are written.

    Returned by `publication`, before there are any results.

    Attributes:
        places: the file or OME-Zarr folder of each kind of data and each class; "" is the class
            of what has none.
        values: of the background and of each label in a segmentation; empty for other data.
        overwrite: whether what is there is replaced.
    """

    places: Mapping[tuple[Kind, str], Path]
    values: tuple[int, ...] = ()
    overwrite: bool = False

    def write_volume(self, path: PathLike) -> None:
        """Write a volume that is a file as the tomogram or the labels.

        Labels that stand for "not annotated" (255, and those below 0) become 0.
        """
        ((kind, _), place), volume = next(iter(self.places.items())), read_tomogram(path)
        data: Any = volume.density
        if kind == "segmentation":
            found = np.asarray(data)
            known = (found >= 0) & (found != IGNORE)
            data = np.asarray(self.values, np.uint8)[np.where(known, found, 0)]
        self._write_zarr(place, data, volume)

    def write_measurements(
        self, found: "Measurements", volume: Tomogram, rim: Literal["flat", "round"] = "flat"
    ) -> None:
        """Write the numbered objects of each class, and their surfaces as one mesh of the class.

        Args:
            found: as `measure.measure_classes` returns it.
            volume: the labels that were measured.
            rim: how membrane labels end at open edges.
        """
        for (kind, name), place in self.places.items():
            one = found.classes[name]
            if not one.boxes:
                continue
            if kind == "instances":
                numbers = one.numbers(volume.density.shape)
                small = numbers.max() <= np.iinfo(np.uint16).max
                self._write_zarr(place, numbers.astype(np.uint16 if small else np.int32), volume)
                continue
            vertices, faces, count = [], [], 0
            for _, mesh in one.meshes(rim):
                vertices.append(10.0 * mesh.vertices)  # nanometres to angstrom
                faces.append(mesh.faces + count)
                count += len(mesh.vertices)
            place.parent.mkdir(parents=True, exist_ok=True)
            write_mesh(
                place, np.concatenate(vertices), np.concatenate(faces), overwrite=self.overwrite
            )

    def _write_zarr(self, place: Path, data: Any, volume: Tomogram) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        # The first voxel of every volume of a project lies at its origin.
        size = volume.require_voxel_size()
        write_zarr(place, data, voxel_size=size, overwrite=self.overwrite, version="0.4")


def publication(
    word: object,
    kinds: Sequence[Kind],
    runs: Sequence[str],
    volume: Tomogram,
    classes: Sequence[str] = (),
    *,
    overwrite: bool = False,
) -> Publication:
    """Return where results go in a copick project, and refuse what cannot be written there.

    Args:
        word: the address, such as ``copick:config.json#membrane:me/1``.
        kinds: of the data; "instances" and "mesh" are written for each class.
        runs: the run that the data belong to.
        volume: on whose grid they lie.
        classes: without the background.
        overwrite: whether to replace what is there.

    Raises:
        FileError: if it is no address, names several runs, or something is there already; as
            `new_copick`.

    >>> import json, tempfile
    >>> config = Path(tempfile.mkdtemp()) / "config.json"
    >>> content = {"pickable_objects": [], "overlay_root": str(config.parent)}
    >>> _ = config.write_text(json.dumps(content))
    >>> grid = Tomogram(np.zeros((2, 2, 2)), (10.0, 10.0, 10.0))
    >>> found = publication(f"copick:{config}#wbp", ["tomogram"], ["TS_1"], grid)
    >>> [path.name for path in found.places.values()]
    ['wbp.zarr']
    """
    if not is_address(word):
        raise FileError(f"{word}: is no address in a copick project, such as copick:config.json#a")
    if len(runs) != 1:
        raise FileError(f"{word}: give the one run that the data belong to", "run")
    size = cubic_voxel_size(volume)
    places: dict[tuple[Kind, str], Path] = {}
    values: tuple[int, ...] = ()
    for kind in kinds:
        each = [(name, [name]) for name in classes] if kind in ("instances", "mesh") else None
        for name, some in each or [("", list(classes))]:
            (place,), values = new_copick(str(word), kind, runs, size, some)
            if place in places.values():
                raise FileError(
                    f"{word}: names one object, and there are several classes: "
                    f"{', '.join(classes)}; leave the name out"
                )
            if place.exists() and not overwrite:
                raise FileError(f"{place}: exists already; choose another session", "overwrite")
            places[kind, name] = place
    return Publication(places, values, overwrite)
