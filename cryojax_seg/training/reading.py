"""Reads annotated tomograms as examples, and checks them before any work."""

import dataclasses
import logging
from collections.abc import Sequence
from os import PathLike

import numpy as np

from cryojax_seg import evaluate, io
from cryojax_seg.core import MissingWedge, Tomogram, class_names, label_names
from cryojax_seg.core.plain import Contrast, TiltAxis
from cryojax_seg.errors import Mendable, ParameterError
from cryojax_seg.training.example import Example, split_annotation
from cryojax_seg.training.resampling import VoxelSize, alike, at_one_size

Path = str | PathLike[str]
_log = logging.getLogger("cryojax_seg.training")


@dataclasses.dataclass(frozen=True)
class Examples:
    """Holds the annotated tomograms from which one segmenter learns.

    Returned by `read_examples`.

    Attributes:
        examples: one example for each tomogram.
        classes: names of the classes of their labels, as in `core.Segmenter`.
        voxel_size: the voxel size that they share, in angstrom along z, y, x; None if unknown.
        contrast: whether structure was darker or brighter than its surroundings in the files.
        tilt_range: lowest and highest tilt, degrees; None if unknown.
    """

    examples: tuple[Example, ...]
    classes: tuple[str, ...] = ("foreground",)
    voxel_size: tuple[float, float, float] | None = None
    contrast: Contrast = "dark"
    tilt_range: tuple[float, float] | None = None


def read_examples(
    tomograms: Sequence[Path],
    labels: Sequence[Path],
    *,
    voxel_size: float | None = None,
    contrast: Contrast = "dark",
    tilt_range: tuple[float, float] | None = None,
    tilt_axis: TiltAxis = "y",
    classes: Sequence[str] = (),
    slices: Sequence[int] = (),
    ignore: int | None = 255,
    thickness: float | None = None,
    values: Sequence[int] = (),
) -> Examples:
    """Read tomograms with their annotation, and check that one segmenter can learn from them.

    Tomograms of finer voxels than others, by over 5 %, are resampled with their labels to the
    coarsest, which the log says.

    Warnings are logged for labels that seem to lie on structure of the other contrast, to be
    mirrored, or to lie where a tomogram holds no data, and for classes without voxels.

    Args:
        tomograms: files of the tomograms.
        labels: a label volume for each of them: integers, 0 is background, 1, 2, ... the classes;
            or an IMOD model.
        voxel_size: voxel size in angstrom; by default that in the files.
        contrast: whether structure is darker or brighter than its surroundings.
        tilt_range: lowest and highest tilt, degrees; None if unknown.
        tilt_axis: axis about which the sample was tilted.
        classes: names of the labels 1, 2, ... in order; by default those that the label files
            state, or foreground, or class1, ...
        slices: z indices that are annotated; none for all. The other slices are ignored.
        ignore: label of voxels without annotation; None for no such label.
        thickness: of what open contours and points of IMOD models mark, angstrom.
        values: what stands in the volumes for the labels 1, 2, ...; other values are background.

    Raises:
        FileError: naming the file, if something does not fit.
        ParameterError: if the numbers of files differ, or names of classes repeat or contradict
            each other.

    >>> import pathlib, tempfile
    >>> labels = np.zeros((8, 16, 16), np.int8)
    >>> labels[:, 4:8] = 1
    >>> density = np.random.default_rng(0).normal(size=labels.shape).astype(np.float32) - 4 * labels
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name, values in (("tomogram", density), ("labels", labels)):
    ...     io.write_mrc(folder / f"{name}.mrc", values, voxel_size=10.0)
    >>> found = read_examples([folder / "tomogram.mrc"], [folder / "labels.mrc"], slices=(2, 5))
    >>> found.classes, found.voxel_size, int(found.examples[0].weights.any((1, 2)).sum())
    (('foreground',), (10.0, 10.0, 10.0), 2)
    """
    if not tomograms or len(tomograms) != len(labels):
        raise ParameterError(
            f"{len(tomograms)} tomogram(s) and {len(labels)} label file(s): at least one is "
            "needed, and as many labels in the same order",
            "labels",
        )
    wedge = None if tilt_range is None else MissingWedge(tilt_range, tilt_axis)
    names = label_names(class_names(classes, 1)) if classes else None
    volumes = [io.read_tomogram(path, voxel_size) for path in tomograms]
    wanted = coarsest(volumes)
    shared = io.common_voxel_size(volumes) if wanted is None else wanted
    examples = []
    for tomogram, path in zip(volumes, labels, strict=True):
        annotation = io.read_labels(
            path,
            tomogram,
            names,
            ignore,
            slices or None,
            voxel_size,
            thickness=thickness,
            stored=values,
        )
        normal = io.normalized(tomogram, contrast)
        volume, missing = normal[:, :, :], normal.missing((slice(None),) * 3)
        example = Example(
            volume,
            annotation.labels,
            _without(missing, annotation),
            wedge,
            missing=missing if missing.any() else None,
            name=tomogram.name,
        )
        _warn_if_unlikely(example, path, contrast)
        examples.append(example)
    if wanted is not None:
        examples = at_one_size(examples, [t.require_voxel_size() for t in volumes], wanted)
    found = _classes(examples, labels, classes, ignore)
    return Examples(tuple(examples), found, shared, contrast, tilt_range)


def coarsest(volumes: Sequence[Tomogram]) -> VoxelSize | None:
    """Return the coarsest voxel size of tomograms that differ in it; None if they do not.

    None as well where one is unknown, as that may be any of them.
    """
    if any(tomogram.voxel_size is None for tomogram in volumes):
        return None
    sizes = [tomogram.require_voxel_size() for tomogram in volumes]
    z, y, x = map(max, zip(*sizes, strict=True))
    return None if all(alike(size, (z, y, x)) for size in sizes) else (z, y, x)


def _without(missing: np.ndarray, annotation: io.Annotation) -> np.ndarray:
    """Return the weights of an annotation, 0 where the tomogram holds no data."""
    weights = annotation.weights
    if not missing.any():
        return weights
    lost = int(((annotation.labels > 0) & missing).sum())
    if lost:
        _log.warning(
            f"{annotation.name}: {lost} labelled voxels lie where the tomogram is blank or not "
            "finite; they are left out"
        )
    weights = weights * ~missing
    if not weights.any():
        raise io.FileError(
            f"{annotation.name}: every annotated voxel lies where the tomogram is blank"
        )
    return weights


def _warn_if_unlikely(example: Example, labels: Path, contrast: str) -> None:
    """Warn of labels that lie on structure of the other contrast, or mirrored."""
    known, volume = example.weights > 0, example.volume
    inside, outside = known & (example.labels > 0), known & (example.labels == 0)
    if inside.any() and outside.any() and volume[inside].mean() < volume[outside].mean() - 0.05:
        other = "bright" if contrast == "dark" else "dark"
        text = f"{example.name}: the labelled structure is not {contrast} there; is it {other}?"
        _log.warning(Mendable(text, "contrast"))
    axes = evaluate.mirrored_axes(volume, example.labels, example.weights * (volume != 0))
    if axes:
        along = " and ".join("zyx"[axis] for axis in axes)
        _log.warning(
            f"{labels}: mirrored along {along}, these labels would fit {example.name} better, so "
            "one of both was probably flipped when it was written; look at them together"
        )


def _classes(
    examples: Sequence[Example], labels: Sequence[Path], given: Sequence[str], ignore: int | None
) -> tuple[str, ...]:
    """Return the classes, and check that each has annotated voxels."""
    counts = _total(examples)
    present = np.flatnonzero(counts)
    highest = int(present[-1]) if present.size else 0
    if highest == 0:
        raise io.FileError(
            f"{labels[0]}: no annotated voxel has a label other than 0; "
            + ("annotate some" if ignore is None else io.not_annotated_hint(ignore)),
            *(() if ignore is None else ("ignore",)),
        )
    classes = class_names(given or io.shared_names(labels, highest), highest)
    names = label_names(classes)
    empty = [n for n in range(1, len(names)) if counts[n] == 0]
    if not empty:
        return classes
    listed = ", ".join(f"{n} ({names[n]})" for n in empty[:6]) + (", ..." if empty[6:] else "")
    files = ", ".join(map(str, labels[:3])) + (", ..." if labels[3:] else "")
    message = f"{files}: no annotated voxel has the label {listed}"
    if given:
        raise io.FileError(f"{message}; annotate some, or leave the name out of classes", "classes")
    if len(empty) > 1 + len(present):
        raise io.FileError(
            f"{message}, and value {highest}: {int(counts[highest])} voxels. Correct stray values, "
            "or number the classes 1, 2, ..."
        )
    _log.warning(f"{message}; nothing can be learned of it")
    return classes


def _total(examples: Sequence[Example]) -> np.ndarray:
    """Return the number of annotated voxels of each label, 0 to 127, of all examples."""
    counts = np.zeros(128, np.int64)
    for example in examples:
        counts += np.bincount(example.labels[example.weights > 0], minlength=counts.size)
    return counts


def hold_out(
    examples: Sequence[Example], classes: tuple[str, ...], validation: float = 0.2, seed: int = 0
) -> tuple[list[Example], list[Example]]:
    """Hold out a part of the annotation of each example (see `split_annotation`).

    A warning is logged for classes of which nothing is held out.

    Args:
        examples: annotated examples.
        classes: names of the classes of their labels.
        validation: fraction of the annotation that is held out.
        seed: seed of the choice.

    Returns:
        the examples to learn from, and those to validate with.

    Raises:
        ValueError: if an annotation cannot be divided.
        ParameterError: naming a class of which nothing would be left to learn from.

    >>> labels = np.zeros((10, 4, 4), int)
    >>> labels[:, 1] = 1
    >>> learned, held_out = hold_out([Example(labels.astype(np.float32), labels)], ("thing",))
    >>> [int(e.weights.any((1, 2)).sum()) for e in (*learned, *held_out)]
    [8, 2]
    """
    pairs = [split_annotation(example, validation, seed) for example in examples]
    learned, held_out = [one for one, _ in pairs], [other for _, other in pairs]
    check_held_out(learned, held_out, classes)
    return learned, held_out


def divided(
    examples: Sequence[Example],
    classes: tuple[str, ...],
    validation: float | int | None = None,
    whole: int | None = None,
    seed: int = 0,
) -> tuple[list[Example], list[Example]]:
    """Return the examples to learn from and those to validate with, as a training needs them.

    One of three or more tomograms is held out entirely, as another tomogram is a fairer test than
    other slices of the same one: that with the least annotation, if it has every class and leaves
    every class to learn from. Of fewer a fifth of the annotation of each is held out.

    Args:
        examples: annotated examples.
        classes: names of the classes of their labels.
        validation: fraction of the annotation that is held out of each instead; 0 for none.
        whole: index of the example that is held out entirely instead.
        seed: seed of the choice of slices.

    Raises:
        ParameterError: for a fraction or an index without meaning, or both; and as `hold_out`.

    >>> labels = np.zeros((10, 4, 4), int)
    >>> labels[:, 1] = 1
    >>> three = [Example(labels.astype(np.float32), labels, name=name) for name in "abc"]
    >>> [[e.name for e in part] for part in divided(three, ("thing",), whole=0)]
    [['b', 'c'], ['a']]
    """
    if validation is not None and not 0 <= validation < 1:
        raise ParameterError(
            f"validation is a fraction from 0 to below 1, got {validation}", "validation"
        )
    if validation is not None and whole is not None:
        raise ParameterError(
            "a part of each tomogram or one of them is held out, not both",
            *("validation", "hold_out"),
        )
    if whole is not None and (len(examples) < 2 or not 0 <= whole < len(examples)):
        raise ParameterError(
            f"tomogram {whole} of {len(examples)} cannot be held out; one must be left to learn "
            "from",
            "hold_out",
        )
    if validation == 0:
        return list(examples), []
    if validation is None and whole is None and len(examples) >= 3:
        whole = _fairest(examples)
        if whole is not None:
            name = examples[whole].name
            _log.info(f"{name} is held out to validate, as one of three or more tomograms")
    if whole is None:
        return hold_out(examples, classes, 0.2 if validation is None else validation, seed)
    learned, held_out = [*examples[:whole], *examples[whole + 1 :]], [examples[whole]]
    check_held_out(learned, held_out, classes)
    return learned, held_out


def _fairest(examples: Sequence[Example]) -> int | None:
    """Return the least annotated example that has every class and leaves every class in others."""
    counts = np.stack([_total([example]) for example in examples])
    rest = counts.sum(0) - counts
    everything = counts.sum(0) > 0
    fair = np.flatnonzero(((counts > 0) == everything).all(1) & ((rest > 0) == everything).all(1))
    return int(fair[np.argmin(counts[fair].sum(1))]) if fair.size else None


def check_held_out(
    learned: Sequence[Example], held_out: Sequence[Example], classes: tuple[str, ...]
) -> None:
    """Raise or warn where holding out leaves one side without any voxel of a class."""
    left, scored = _total(learned), _total(held_out)
    for label, name in list(enumerate(label_names(classes)))[1:]:
        if scored[label] and not left[label]:
            raise ParameterError(
                f"all annotated voxels of the class {name} would be held out to validate; annotate "
                "more of it, or hold out nothing",
                "validation",
            )
        if left[label] and not scored[label]:
            _log.warning(
                f"no voxel of the class {name} is held out, so its score is not known; annotate "
                "more of it"
            )
