"""Make the metadata of OME-Zarr volumes that are written, NGFF 0.5 (Zarr 3) or 0.4 (Zarr 2)."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from cryojax_seg.core.plain import Shape
from cryojax_seg.io.label_card import LabelCard
from cryojax_seg.io.ome import STEPS, Zyx

Version = Literal["0.5", "0.4"]
DRIVERS = {"0.5": "zarr3", "0.4": "zarr"}  # TensorStore's names
_COARSEST = 128  # voxels; levels are added until no axis is longer
# Colours that everybody can tell apart (Okabe and Ito 2008), for labels 1, 2, ...
COLOURS = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)),
    *((0, 114, 178), (213, 94, 0), (204, 121, 167)),
)


@dataclasses.dataclass(frozen=True)
class ZarrForm:
    """Says how a volume is kept as OME-Zarr.

    Attributes:
        version: "0.5", or "0.4" for programs that read Zarr 2 alone.
        values: what stands in the file for the labels 0, 1, ...; empty for the labels themselves.

    >>> ZarrForm("0.4", (0, 7)).values[1]
    7
    """

    version: Version = "0.5"
    values: Sequence[int] = ()

    def stored(self, block: np.ndarray) -> np.ndarray:
        """Return what stands in the file for a block of labels.

        >>> ZarrForm(values=(0, 7)).stored(np.array([1, 0])).tolist()
        [7, 0]
        """
        return np.asarray(self.values)[block] if self.values else block

    def read(self, stored: np.ndarray) -> np.ndarray:
        """Return the labels of a part of the file; this inverts `stored`."""
        if not self.values:
            return stored
        order = np.argsort(self.values)
        return order[np.searchsorted(np.asarray(self.values)[order], stored)].astype(np.int8)


USUAL_FORM = ZarrForm()


def level_factors(shape: Shape) -> list[tuple[int, ...]]:
    """Return by how much each level is coarser than the finest, along each axis.

    >>> level_factors((5, 130, 300))
    [(1, 1, 1), (2, 2, 2), (4, 4, 4)]
    >>> level_factors((1, 600, 600))[-1]
    (1, 8, 8)
    """
    factors = [(1,) * len(shape)]
    while max(-(-n // f) for n, f in zip(shape, factors[-1], strict=True)) > _COARSEST:
        # An axis of one voxel is not halved any more.
        factors.append(
            tuple(2 * f if f < n else f for n, f in zip(shape, factors[-1], strict=True))
        )
    return factors


def group_files(
    name: str,
    factors: list[tuple[int, ...]],
    voxel_size: Zyx | None,
    origin: Zyx,
    method: str,
    chunks: list[int],
    card: LabelCard | None = None,
    form: ZarrForm = USUAL_FORM,
) -> dict[str, dict[str, Any]]:
    """Return the metadata files of a volume whose levels are coarser by these factors.

    Args:
        name: of the volume.
        factors: see `level_factors`.
        voxel_size: angstrom along z, y, x; None leaves the unit out.
        origin: angstrom, of the centre of voxel (0, 0, 0) of the finest level.
        method: how voxels were combined.
        chunks: files of each level; empty parts of a volume have none, so a copy cannot be told to
            be complete without their number.
        card: what the labels mean, if it is a label volume.
        form: version of OME-Zarr, and values of the labels.

    Returns:
        the content of each file by its name.
    """
    unit = {} if voxel_size is None else {"unit": "angstrom"}
    size = voxel_size or (1.0, 1.0, 1.0)
    datasets = []
    for level, factor in enumerate(factors):
        scale = [f * v for f, v in zip(factor, size, strict=True)]
        # The first of f voxels that became one lies (f - 1) / 2 voxels before their centre.
        shift = [
            o + (f - 1) / 2 * v
            for o, f, v in zip(origin if voxel_size else (0.0,) * 3, factor, size, strict=True)
        ]
        steps = [
            {"type": "scale", "scale": scale},
            {"type": "translation", "translation": shift},
        ]
        datasets.append({"path": str(level), STEPS: steps})
    image: dict[str, Any] = {
        "name": name,
        "axes": [{"name": axis, "type": "space", **unit} for axis in "zyx"],
        "datasets": datasets,
        "type": method,
        "metadata": {
            "description": f"blocks of 2 x 2 x 2 voxels became their {method}",
            "chunks": chunks,
        },
    }
    if card is not None:
        others = {key: text for key, text in card.entries().items() if key != "classes"}
        image["metadata"]["labels"] = others
    version, labels = form.version, image_label(card, form.values)
    if version == "0.4":
        labels = {key: {"version": version, **entry} for key, entry in labels.items()}
        content = {"multiscales": [{"version": version, **image}], **labels}
        return {".zgroup": {"zarr_format": 2}, ".zattrs": content}
    attributes = {"ome": {"version": version, "multiscales": [image], **labels}}
    return {"zarr.json": {"zarr_format": 3, "node_type": "group", "attributes": attributes}}


def image_label(card: LabelCard | None, values: Sequence[int] = ()) -> dict[str, Any]:
    """Return the entry that makes viewers show labels in colours, with their names.

    >>> image_label(LabelCard(("membrane",)))["image-label"]["properties"]
    [{'label-value': 1, 'name': 'membrane'}]
    """
    if card is None:
        return {}
    count = len(card.classes)
    kinds, stored = card.kinds or (None,) * count, values[1:] or range(1, count + 1)
    properties = [
        {"label-value": value, "name": name, **({"kind": kind} if kind else {})}
        for value, name, kind in zip(stored, card.classes, kinds, strict=True)
    ]
    pairs = zip(stored, itertools.cycle(COLOURS), strict=False)
    return {
        "image-label": {
            "colors": [{"label-value": value, "rgba": [*rgb, 255]} for value, rgb in pairs],
            "properties": properties,
        }
    }


def array_metadata(
    shape: Shape, chunk: Sequence[int], dtype: np.dtype, version: Version
) -> dict[str, Any]:
    """Return what TensorStore needs to create the array of a level, Zarr 3 or Zarr 2.

    Zarr 2 has no checksums, and blosc is the compression that all its readers know.

    >>> array_metadata((2, 3, 4), (2, 3, 4), np.dtype("f4"), "0.4")["dtype"]
    '<f4'
    """
    if version == "0.4":
        return {
            "shape": list(shape),
            "chunks": list(chunk),
            "dtype": dtype.newbyteorder("<").str,
            "fill_value": False if dtype.kind == "b" else 0,
            "dimension_separator": "/",
            "compressor": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1},
        }
    return {
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "dimension_names": ["z", "y", "x"],
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": 1, "checksum": True}},
        ],
    }
