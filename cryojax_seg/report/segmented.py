"""Writes the report of a segmentation: slices, projections and surfaces of the classes."""

from pathlib import Path

import numpy as np

from cryojax_seg import io
from cryojax_seg.io.files import PathLike, atomic_write
from cryojax_seg.report.page import page, section, table
from cryojax_seg.report.scene import scene
from cryojax_seg.report.slices import LabelPlanes, Picture, slices_of
from cryojax_seg.report.surfaces import surfaces
from cryojax_seg.report.units import number


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
    names = list(card.classes) if card else []
    names += [f"label {n}" for n in range(len(names) + 1, len(counts))]
    planes = LabelPlanes(values)
    bodies = [
        (label, name, (0, 0, 0), values == label)
        for label, name in enumerate(names, 1)
        if label < len(counts) and counts[label]
    ]
    shown, scripts = scene(
        slices_of(Picture.of(seen.density), planes),
        surfaces(bodies, values.shape),
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
