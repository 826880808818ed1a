"""Picks the particles of one tomogram from maps, from labels or with a template."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cryojax_seg.core import MissingWedge, Particles, Tomogram
from cryojax_seg.core.plain import Contrast
from cryojax_seg.errors import ParameterError
from cryojax_seg.evaluate import Threshold, fit_level, fit_threshold
from cryojax_seg.io import (
    class_names,
    cubic_voxel_size,
    normalized,
    read_probability_maps,
    read_tomogram,
    stated_names,
)
from cryojax_seg.io.files import FileError, PathLike
from cryojax_seg.particles import (
    Match,
    Surroundings,
    as_labels,
    correlation_threshold,
    listed,
    match_template,
    pick_labels,
    pick_maps,
    pick_peaks,
    rotations_within,
)
from cryojax_seg.particles.picking import Method

_DEVIATIONS = 6.0  # of the correlation above its median, for a pick
_LOW_DEVIATIONS = 3.0  # the same where an annotation chooses the threshold
_log = logging.getLogger("cryojax_seg.inference")


@dataclasses.dataclass(frozen=True)
class Picked:
    """Holds the picked particles of one tomogram.

    Returned by `pick_volumes`.

    Attributes:
        particles: the particles, with coordinates in voxels, by descending score.
        chosen: the threshold that an annotation chose, with its counts; None without one.
        classes: names of the classes 1, 2, ... of several maps; empty for one map.
        match: the correlation with a template at each voxel; None without a template.
    """

    particles: Particles
    chosen: Threshold | None = None
    classes: tuple[str, ...] = ()
    match: Match | None = None


def pick_volumes(
    paths: Sequence[PathLike],
    diameters: Sequence[float],
    *,
    tomogram: Tomogram | None = None,
    threshold: float | None = None,
    method: Method = "balls",
    smallest: float = 0.15,
    labels: Sequence[int | str] = (),
    classes: Sequence[str] = (),
    surroundings: Surroundings | None = None,
    truth: Float[np.ndarray, "n 3"] | None = None,
    beta: float = 4.0,
    voxel_size: float | None = None,
) -> Picked:
    """Pick the particles of one label volume, or of the probability maps of one or more classes.

    Args:
        paths: one label volume, or a map for each class. The maps of several classes compete.
        diameters: diameters of the particles in angstrom, one for all maps or one for each.
        tomogram: the volume of the first path, if it was already read.
        threshold: lowest probability, 0.5 by default; see `particles.pick_maps`.
        method, smallest: see `particles.pick_maps`.
        labels: the labels to pick in a label volume, by number or by name; all by default.
        classes: names of the classes of several maps, from the names of the files by default; or of
            the labels 1, 2, ... of a label volume, as it states by default.
        surroundings: where particles may be.
        truth: centres of all annotated particles in voxels. They choose the threshold with the
            highest F-beta.
        beta: weight of recall relative to precision.
        voxel_size: voxel size in angstrom, instead of that in the headers.

    Raises:
        ParameterError: for a parameter that does not suit the volumes.
        FileError: naming a volume that is no map, or lies on another grid.

    >>> import tempfile
    >>> from cryojax_seg.io import write_mrc
    >>> file = Path(tempfile.mkdtemp()) / "map.mrc"
    >>> probability = np.zeros((9, 9, 20), np.float32); probability[2:7, 2:7, 2:7] = 0.8
    >>> write_mrc(file, probability, voxel_size=10.0)
    >>> pick_volumes([file], [50.0]).particles.coordinates.round(3).tolist()
    [[4.0, 4.0, 4.0]]
    """
    _check(diameters, len(paths), beta)
    if not 0 <= smallest <= 1:
        raise ParameterError(f"smallest must be within 0 to 1, got {smallest:g}", "smallest")
    files, where = [Path(path) for path in paths], surroundings or Surroundings()
    names = class_names(files, classes) if len(files) > 1 else ()
    if names and (truth is not None or labels):
        raise ParameterError("labels and annotations are for one volume at a time")
    tomogram = tomogram or read_tomogram(files[0], voxel_size)
    size = cubic_voxel_size(tomogram)
    sizes = [diameter / size for diameter in diameters]
    found = as_labels(np.asarray(tomogram.density)) if not names else None
    if found is not None:
        if truth is not None:
            raise ParameterError(f"{files[0]}: holds labels, for which no threshold is chosen")
        stated = stated_names(files[0], classes)
        only = [_label(label, stated, files[0]) for label in labels]
        picked = where.oriented(_from_labels(tomogram.name, found, sizes[0], only, where))
        if picked.classes is None or max(picked.classes.tolist(), default=0) > len(stated):
            return Picked(picked)
        return Picked(_named(picked, stated), classes=stated)
    if labels:
        raise ParameterError(f"{files[0]}: holds no labels to choose from", "label")
    maps = read_probability_maps(files, tomogram, voxel_size)

    def picks(level: float) -> Particles:
        picked = pick_maps(
            maps, sizes, level, method=method, mask=where.compartment, smallest=smallest
        )
        return where.within(picked)

    if truth is None:
        picked, chosen = picks(0.5 if threshold is None else threshold), None
    elif method == "peaks":
        every = picks(0.05 if threshold is None else threshold)
        picked, chosen = _at_best(every, tomogram.name, truth, sizes[0], beta)
    else:
        chosen = fit_level(lambda level: picks(level).coordinates, truth, sizes[0] / 2, beta)
        picked = picks(chosen.value)
    if names:
        picked = _named(picked, names)
    return Picked(where.oriented(picked), chosen, tuple(names))


def _named(picked: Particles, names: Sequence[str]) -> Particles:
    """Return the particles with the name of the class of each."""
    assert picked.classes is not None
    columns = {"rlnParticleName": [names[i - 1] for i in picked.classes.tolist()]}
    return dataclasses.replace(picked, columns=columns)


def _label(label: int | str, names: Sequence[str], path: Path) -> int:
    """Return the number of a label, which may be a name."""
    if isinstance(label, int) or label.isdecimal():
        return int(label)
    if label in names:
        return names.index(label) + 1
    known = f"its labels are {', '.join(names)}" if names else "it does not name its labels"
    raise ParameterError(f"{path}: has no label called {label}; {known}", "label")


def pick_by_template(
    tomogram: Tomogram,
    template: PathLike,
    diameter: float,
    *,
    threshold: float | None = None,
    angle: float = 15.0,
    wedge: MissingWedge | None = None,
    contrast: Contrast = "dark",
    surroundings: Surroundings | None = None,
    truth: Float[np.ndarray, "n 3"] | None = None,
    beta: float = 4.0,
    memory: float = 4.0,
) -> Picked:
    """Pick the peaks of the correlation of a tomogram with a density over all rotations.

    Args:
        tomogram: the volume to search.
        template: density of the particle, bright, on voxels of the same size.
        diameter: of the particle, angstrom.
        threshold: lowest correlation; by default 6 deviations above the median.
        angle: a rotation is tried within so many degrees of any.
        wedge: the missing wedge of the tomogram.
        contrast: whether structure is "dark" or "bright" in the tomogram.
        surroundings, truth, beta: as for `pick_volumes`.
        memory: GiB for the correlation.

    Raises:
        FileError: if the template does not suit the tomogram.
        ParameterError: if nothing was picked to choose a threshold from.

    >>> import tempfile
    >>> from cryojax_seg.io import write_mrc
    >>> file = Path(tempfile.mkdtemp()) / "template.mrc"
    >>> template = np.exp(-np.square(np.indices((8, 8, 8)) - 4).sum(0) / 4).astype(np.float32)
    >>> write_mrc(file, template, voxel_size=10.0)
    >>> volume = np.zeros((12, 14, 16), np.float32); volume[2:10, 3:11, 5:13] = template
    >>> cell = Tomogram(volume, (10.0, 10.0, 10.0))
    >>> found = pick_by_template(cell, file, 80.0, threshold=0.9, angle=180.0, contrast="bright")
    >>> found.particles.coordinates.round().tolist()
    [[6.0, 7.0, 9.0]]
    """
    _check([diameter], 1, beta)
    where, size = surroundings or Surroundings(), cubic_voxel_size(tomogram)
    match = _matched(tomogram, template, size, angle, wedge, contrast, memory)
    if threshold is None:
        deviations = _DEVIATIONS if truth is None else _LOW_DEVIATIONS
        threshold = correlation_threshold(match.scores, deviations)
        if truth is None:
            _log.info(
                f"threshold {threshold:.3f}: the correlation lies 6 deviations above its median"
            )
    peaks = pick_peaks(match.scores, diameter / size, threshold, where.compartment)
    picked, chosen = where.within(peaks), None
    if truth is not None:
        picked, chosen = _at_best(picked, tomogram.name, truth, diameter / size, beta)
    return Picked(match.oriented(picked), chosen, match=match)


def _check(diameters: Sequence[float], count: int, beta: float) -> None:
    if not count:
        raise ParameterError("there is no volume to pick from; give one or more")
    if not diameters or min(diameters) <= 0:
        raise ParameterError("give the diameter of the particle, above 0", "diameter")
    if len(diameters) not in (1, count):
        raise ParameterError(
            f"{len(diameters)} diameters for {count} maps; give one for all or one for each, in "
            "the order of the maps",
            "diameter",
        )
    if not beta > 0:
        raise ParameterError(f"beta must be above 0, got {beta}", "beta")


def _from_labels(
    name: str, values: np.ndarray, diameter: float, only: Sequence[int], where: Surroundings
) -> Particles:
    present = sorted(set(values.ravel().tolist()) - {0})
    try:
        found = pick_labels(values, diameter, only=only, mask=where.compartment)
    except ParameterError as error:
        raise ParameterError(f"{name}: {error}", *error.parameters) from None
    _log.info(f"{name}: holds labels ({listed(present)}), so each connected object counts once")
    if len(present) > 1 and not only:
        _log.info("each label is a class of its own; name the labels to pick fewer")
    return where.within(found)


def _at_best(
    found: Particles, name: str, truth: np.ndarray, diameter: float, beta: float
) -> tuple[Particles, Threshold]:
    """Return the picks above the threshold of scores that is best on annotated particles."""
    picks = [(found.coordinates, np.asarray(found.scores))]
    try:
        best = fit_threshold(picks, [truth], diameter / 2, beta)
    except ValueError as error:
        raise ParameterError(f"{name}: {error}", "threshold") from None
    return found.take(np.asarray(found.scores) >= best.value), best


def _matched(
    tomogram: Tomogram,
    path: PathLike,
    size: float,
    angle: float,
    wedge: MissingWedge | None,
    contrast: Contrast,
    memory: float,
) -> Match:
    template = read_tomogram(path)
    own = template.voxel_size
    if own is not None and abs(own[0] / size - 1) > 0.01:
        raise FileError(
            f"{path}: has voxels of {own[0]:.4g} A, {tomogram.name} of {size:.4g} A; resample one "
            "of them"
        )
    rotations = rotations_within(angle)
    volume = normalized(tomogram, contrast)
    _log.info(f"{len(rotations)} rotations of {path}")
    try:
        match = match_template(volume, template.density, rotations, wedge, memory=memory)
    except ValueError as error:
        raise FileError(f"{path}: {error}") from None
    return match.without(volume.missing((slice(None),) * 3))
