"""Probability maps of several classes on one grid, and the names of their classes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.errors import ParameterError
from cryojax_seg.io.files import FileError
from cryojax_seg.io.volume import read_tomogram
from cryojax_seg.particles.objects import as_labels


def read_probability_maps(
    paths: Sequence[Path], first: Tomogram, voxel_size: float | None = None
) -> list[np.ndarray]:
    """Read the maps of several classes on one grid; a mask is a map of 0 and 1.

    Args:
        paths: of the maps.
        first: the one of the first path, which is read already.
        voxel_size: angstrom, instead of what the headers say.

    Returns:
        float32 ``(z, y, x)``, one for each path.

    Raises:
        FileError: naming the one that is no map, or on another grid.

    >>> import tempfile
    >>> from cryojax_seg.io.mrc import write_mrc
    >>> file = Path(tempfile.mkdtemp()) / "ribosome.probability.mrc"
    >>> write_mrc(file, np.full((4, 4, 4), 0.25, np.float32), voxel_size=10.0)
    >>> (found,) = read_probability_maps([file], read_tomogram(file))
    >>> found.shape, float(found.max())
    ((4, 4, 4), 0.25)
    """
    maps = []
    for path in paths:
        volume = first if path == paths[0] else read_tomogram(path, voxel_size)
        if volume.density.shape != first.density.shape:
            raise FileError(
                f"{path}: has shape {volume.density.shape} (z, y, x) and {paths[0]} "
                f"{first.density.shape}; classes compete on one grid"
            )
        own, other = volume.voxel_size, first.voxel_size
        if own is not None and other is not None and not np.allclose(own, other, rtol=0.01):
            raise FileError(
                f"{path}: has voxels of {own} A (z, y, x) and {paths[0]} of {other}; "
                "classes compete on one grid"
            )
        labels = as_labels(np.asarray(volume.density)) if len(paths) > 1 else None
        if labels is not None and labels.max(initial=0) > 0 and len(np.unique(labels)) > 2:
            raise FileError(f"{path}: holds several labels; pick it alone, as one volume")
        maps.append(_probabilities(volume) if labels is None else (labels > 0).astype(np.float32))
    return maps


def _probabilities(tomogram: Tomogram) -> np.ndarray:
    values = np.asarray(tomogram.density, np.float32)
    finite = values[np.isfinite(values)]
    if finite.size and (finite.min() < -1e-6 or finite.max() > 1 + 1e-6):
        raise FileError(
            f"{tomogram.name}: holds values outside 0 to 1, so it is no probability map; for a "
            "tomogram give a template, for labels among others whose background is not 0 set it "
            "to 0",
            "template",
        )
    return values


def class_names(paths: Sequence[Path], given: Sequence[str] = ()) -> list[str]:
    """Return the names of the classes of maps: as given, or CLASS of NAME.CLASS.probability.mrc.

    Raises:
        ParameterError: for another number of names than of maps, or names that are alike.

    >>> class_names([Path("a.b.ribosome.probability.mrc"), Path("proteasome.mrc")])
    ['ribosome', 'proteasome']
    """
    if given and len(given) != len(paths):
        raise ParameterError(
            f"{len(given)} names for {len(paths)} maps; give one for each", "classes"
        )
    parts = [path.name.split(".") for path in paths]
    names = [p[-3] if len(p) > 2 and p[-2] == "probability" else p[0] for p in parts]
    names = [name.replace(" ", "_") for name in (given or names)]
    if len(set(names)) < len(names):
        raise ParameterError(
            f"the classes of the maps are called {' '.join(names)}; give each its own name",
            "classes",
        )
    return names
