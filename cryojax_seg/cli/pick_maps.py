"""What ``cryojax-seg pick`` takes from maps of probabilities and from labels."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryojax_seg.cli import console

if TYPE_CHECKING:
    import numpy as np

    from cryojax_seg.core import Particles, Tomogram

Picker = Callable[[float], "Particles"]  # of a threshold


def from_labels(
    name: str, labels: "np.ndarray", diameter: float, mask: Any, only: Sequence[int]
) -> "Particles":
    """The objects of a label volume, with their label as the class if there are several.

    Raises:
        ValueError: if there is no such label.
    """
    import numpy as np

    from cryojax_seg import particles

    present = np.unique(labels[labels > 0]).tolist()
    missing = [label for label in only if label not in present]
    listed = " ".join(map(str, present[:20])) + (" ..." if len(present) > 20 else "")
    if missing:
        raise ValueError(
            f"--label {' '.join(map(str, missing))}: no voxel of {name} has it; it has the labels "
            f"{listed or 'of background alone'}"
        )
    found = particles.pick_objects(labels, diameter, mask, only or None)
    console.say(f"{name}: holds labels ({listed}), so each connected object counts once")
    several = len(only or present) > 1
    if several and not only:
        console.say("each label is a class of its own; choose with --label N")
    return found if several else dataclasses.replace(found, classes=None)


def from_maps(
    maps: Sequence["np.ndarray"],
    diameters: Sequence[float],
    mask: Any,
    method: str,
    smallest: float,
) -> Picker:
    """Picks of one map by a method, or of several classes that compete."""
    from cryojax_seg import particles as p

    one, diameter = maps[0], diameters[0]
    if len(maps) > 1:
        return lambda threshold: p.pick_classes(maps, diameters, threshold, mask, smallest)
    if method == "peaks":
        return lambda threshold: p.pick_peaks(one, diameter, threshold, mask)
    if method == "regions":
        return lambda threshold: p.pick_regions(one, diameter, threshold, mask)
    return lambda threshold: p.pick_balls(one, diameter, threshold, mask, smallest)


def read(paths: Sequence[Path], first: "Tomogram", voxel_size: float | None) -> list["np.ndarray"]:
    """The maps on one grid, of which the first is read already; a mask is a map of 0 and 1.

    Raises:
        FileError: naming the one that is no map, or on another grid.
    """
    import numpy as np

    from cryojax_seg import io, particles

    maps = []
    for path in paths:
        volume = first if path == paths[0] else io.read_tomogram(path, voxel_size)
        if volume.density.shape != first.density.shape:
            raise io.FileError(
                f"{path}: has shape {volume.density.shape} (z, y, x) and {paths[0]} "
                f"{first.density.shape}; classes compete on one grid"
            )
        sizes = volume.voxel_size, first.voxel_size
        if None not in sizes and not np.allclose(*sizes, rtol=0.01):  # pyright: ignore
            raise io.FileError(
                f"{path}: has voxels of {sizes[0]} A (z, y, x) and {paths[0]} of {sizes[1]}; "
                "classes compete on one grid"
            )
        labels = particles.as_labels(np.asarray(volume.density)) if len(paths) > 1 else None
        if labels is not None and labels.max(initial=0) > 0 and len(np.unique(labels)) > 2:
            raise io.FileError(f"{path}: holds several labels; pick it alone, as one volume")
        maps.append(_probabilities(volume) if labels is None else (labels > 0).astype(np.float32))
    return maps


def _probabilities(tomogram: "Tomogram") -> "np.ndarray":
    import numpy as np

    from cryojax_seg import io

    values = np.asarray(tomogram.density, np.float32)
    finite = values[np.isfinite(values)]
    if finite.size and (finite.min() < -1e-6 or finite.max() > 1 + 1e-6):
        raise io.FileError(
            f"{tomogram.name}: holds values outside 0 to 1, so it is no probability map; for a "
            "tomogram give --template MAP, for labels among others whose background is not 0 "
            "set it to 0"
        )
    return values


def class_names(paths: Sequence[Path], given: Sequence[str]) -> list[str]:
    """The names of the classes of maps: as given, or CLASS of NAME.CLASS.probability.mrc.

    >>> class_names([Path("a.b.ribosome.probability.mrc"), Path("proteasome.mrc")], ())
    ['ribosome', 'proteasome']
    """
    if given and len(given) != len(paths):
        raise ValueError(f"--classes: {len(given)} names for {len(paths)} maps; give one for each")
    parts = [path.name.split(".") for path in paths]
    names = [p[-3] if len(p) > 2 and p[-2] == "probability" else p[0] for p in parts]
    names = [name.replace(" ", "_") for name in (given or names)]
    if len(set(names)) < len(names):
        raise ValueError(
            f"the classes of the maps are called {' '.join(names)}; give each its own name with "
            "--classes"
        )
    return names
