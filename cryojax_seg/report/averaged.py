"""Writes the report of an average: its slices, its projections, and the FSC of its halves."""

import math
from pathlib import Path

import numpy as np

from cryojax_seg import io
from cryojax_seg.io.files import PathLike, atomic_write
from cryojax_seg.io.plain import read_json_object
from cryojax_seg.report.charts import COLOURS, lines
from cryojax_seg.report.page import figure, page, section
from cryojax_seg.report.pictures import as_grey, jpeg
from cryojax_seg.report.planes import LabelPlanes
from cryojax_seg.report.scene import scene
from cryojax_seg.report.slices import NARROWED, Picture, slices_of
from cryojax_seg.report.surfaces import surfaces

_LEVEL = 0.143  # FSC at which the resolution is read
_DEVIATIONS = 2.0  # of the density above its mean, at which the surface is drawn


def write_average_page(
    path: PathLike, average: PathLike, halves: tuple[PathLike, PathLike], scores: PathLike,
    *, overwrite: bool = False,
) -> None:  # fmt: skip
    """Write a page that shows an average, in one file that opens offline.

    Args:
        path: the HTML file.
        average: the average, a cube in which structure is bright.
        halves: the averages of both halves.
        scores: the JSON file that `inference.average_files` wrote.
        overwrite: replace an existing file.

    Raises:
        FileError: if a volume cannot be read, or the file exists.

    >>> import json, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> blob = np.exp(-np.square(np.indices((8, 8, 8)) - 4).sum(0) / 8).astype(np.float32)
    >>> halves = (folder / "one.mrc", folder / "two.mrc")
    >>> for file in (folder / "a.mrc", *halves):
    ...     io.write_mrc(file, blob, voxel_size=10.0)
    >>> shells = {f"fsc_{name}": [1.0, 0.0] for name in ("unmasked", "masked", "corrected")}
    >>> scores = {"particles": 9, "resolution_angstrom": None, "frequency_per_angstrom": [0, 0.05]}
    >>> size = (folder / "a.json").write_text(json.dumps(scores | shells))
    >>> write_average_page(folder / "a.html", folder / "a.mrc", halves, folder / "a.json")
    >>> "9 particles, 8 voxels of 1 nm" in (folder / "a.html").read_text()
    True
    """
    volume = io.read_tomogram(average)
    density = np.asarray(volume.density, np.float32)
    found = read_json_object(Path(scores))
    level = float(density.mean() + _DEVIATIONS * density.std())
    inside = density > level
    planes = LabelPlanes(inside.astype(np.int8))
    surface = surfaces(lambda: [(1, "average", (0, 0, 0), inside)], density.shape)
    limits = _limits(density)
    body, scripts = scene(
        slices_of(Picture(density, limits), planes),
        surface,
        (f"above {level:.3g}",),
        numbered=False,
    )
    pictures = []
    for name, file in zip(("first half", "second half"), halves, strict=True):
        half = np.asarray(io.read_tomogram(file).density, np.float32)
        cut = as_grey(half[half.shape[0] // 2], *limits)
        image = f'<div class="stack"><img src="{jpeg(cut)}" alt="{name}"></div>'
        pictures.append(f'<figure class="panel"><figcaption>{name}</figcaption>{image}</figure>')
    body += section("Halves", f'<div class="panels">{"".join(pictures)}</div>', "Middle z slices.")
    frequency = [10 * f for f in found["frequency_per_angstrom"]]
    curves = {
        name: [
            (f, c)
            for f, c in zip(frequency, found[f"fsc_{name}"], strict=True)
            if c is not None and math.isfinite(c)
        ]
        for name in ("unmasked", "masked", "corrected")
    }
    chart = lines(
        {name: points for name, points in curves.items() if points},
        "Fourier shell correlation of the halves",
        "spatial frequency (1/nm)",
        "correlation",
        dict(zip(curves, COLOURS, strict=False)),
        _LEVEL,
    )
    names = "".join(
        f'<li><span class="swatch" style="background:{c}"></span>{n}</li>'
        for n, c in zip(curves, COLOURS, strict=False)
    )
    note = f"The resolution is read where the corrected curve falls below {_LEVEL} (dashed)."
    drawn = figure("Fourier shell correlation", note, f'{chart}<ul class="legend">{names}</ul>')
    body += f'<section class="charts">{drawn}</section>'
    resolution = found["resolution_angstrom"]
    reached = "no resolution, for too few particles or no crossing"
    if resolution:
        reached = f"{resolution / 10:.2f} nm at an FSC of {_LEVEL}"
    size = volume.require_voxel_size()[0] / 10
    about = (
        f"{found['particles']:,} particles, {density.shape[0]} voxels of {size:g} nm; {reached}."
    )
    with atomic_write(path, overwrite) as file:
        text = page(f"Average {Path(average).name}", f"<p>{about}</p>", body, scripts)
        file.write_text(text, "utf-8")


def _limits(density: np.ndarray) -> tuple[float, float]:
    """Return the densities of black and white, so that the inside of the structure is not white.

    Most of an average is empty, so the percentiles of tomograms would cut its densities off.
    """
    low, high = np.percentile(density, (1, 100)).tolist()
    middle, half = (low + high) / 2, (high - low) / 2 / NARROWED
    return middle - half, middle + max(half, 1e-6)
