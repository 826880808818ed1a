"""What `train` and `compare` learn from: annotated tomograms, read and checked before any work."""

from typing import TYPE_CHECKING, Any

from cryojax_seg.cli import console
from cryojax_seg.cli.evaluate import class_names

if TYPE_CHECKING:
    from cryojax_seg.cli.train import Train


def read_examples(options: "Train") -> tuple[list[Any], Any, tuple[str, ...]]:
    """The annotated tomograms, the voxel size that they share, and the classes.

    Raises:
        ValueError: naming the file, if something does not fit.
    """
    from cryojax_seg import core, inference, io
    from cryojax_seg.training import Example

    wedge = None
    if options.tilt_range is not None:
        wedge = core.MissingWedge(options.tilt_range, options.tilt_axis)
    names = core.label_names(class_names(options.classes, 1)) if options.classes else None
    tomograms = [io.read_tomogram(path, options.voxel_size) for path in options.tomograms]
    voxel_size = io.common_voxel_size(tomograms)
    examples = []
    for tomogram, path in zip(tomograms, options.labels, strict=True):
        annotation = io.read_labels(
            path, tomogram, names, options.ignore, options.slices or None, options.voxel_size
        )
        normal = inference.normalized(tomogram, options.contrast)
        volume, missing = normal[:, :, :], normal.missing((slice(None),) * 3)
        weights = _without(missing, annotation)
        example = Example(
            volume,
            annotation.labels,
            weights,
            wedge,
            missing=missing if missing.any() else None,
            name=tomogram.name,
        )
        _warn_if_unlikely(example, path, options.contrast)
        examples.append(example)
    return examples, voxel_size, _classes(options, examples)


def _without(missing: Any, annotation: Any) -> Any:
    """The weights of an annotation, 0 where the tomogram holds no data."""
    from cryojax_seg import io

    weights = annotation.weights
    if not missing.any():
        return weights
    lost = int(((annotation.labels > 0) & missing).sum())
    if lost:
        console.warn(
            f"{annotation.name}: {lost} labelled voxels lie where the tomogram is blank or not "
            "finite; they are left out"
        )
    weights = weights * ~missing
    if not weights.any():
        raise io.FileError(
            f"{annotation.name}: every annotated voxel lies where the tomogram is blank"
        )
    return weights


def _warn_if_unlikely(example: Any, labels: Any, contrast: str) -> None:
    """Warns of labels that lie on structure of the other contrast, or mirrored."""
    from cryojax_seg import evaluate

    known, volume = example.weights > 0, example.volume
    inside, outside = known & (example.labels > 0), known & (example.labels == 0)
    if inside.any() and outside.any() and volume[inside].mean() < volume[outside].mean() - 0.05:
        other = "bright" if contrast == "dark" else "dark"
        console.warn(
            f"{example.name}: the labelled structure is not {contrast} there; is it "
            f"--contrast {other}?"
        )
    axes = evaluate.mirrored_axes(volume, example.labels, example.weights * (volume != 0))
    if axes:
        along = " and ".join("zyx"[axis] for axis in axes)
        console.warn(
            f"{labels}: mirrored along {along}, these labels would fit {example.name} better, so "
            "one of both was probably flipped when it was written; look at them together"
        )


def _classes(options: "Train", examples: list[Any]) -> tuple[str, ...]:
    """The classes, each of which has annotated voxels."""
    import numpy as np

    from cryojax_seg import core, io

    counts = _total(examples)
    present = np.flatnonzero(counts)
    highest = int(present[-1]) if present.size else 0
    if highest == 0:
        raise io.FileError(
            f"{options.labels[0]}: no annotated voxel has a label other than 0; "
            + io.not_annotated_hint(options.ignore)
        )
    classes = class_names(options.classes, highest)
    names = core.label_names(classes)
    empty = [n for n in range(1, len(names)) if counts[n] == 0]
    if not empty:
        return classes
    listed = ", ".join(f"{n} ({names[n]})" for n in empty[:6]) + (", ..." if empty[6:] else "")
    files = ", ".join(map(str, options.labels[:3])) + (", ..." if options.labels[3:] else "")
    message = f"{files}: no annotated voxel has the label {listed}"
    if options.classes:
        raise io.FileError(f"{message}; annotate some, or leave the name out of --classes")
    if len(empty) > 1 + len(present):
        raise io.FileError(
            f"{message}, and value {highest}: {int(counts[highest])} voxels. Correct stray values, "
            "or number the classes 1, 2, ..."
        )
    console.warn(f"{message}; nothing can be learned of it")
    return classes


def _total(examples: list[Any]) -> Any:
    """The annotated voxels of each label, 0 to 127, of all examples."""
    import numpy as np

    counts = np.zeros(128, np.int64)
    for example in examples:
        counts += np.bincount(example.labels[example.weights > 0], minlength=counts.size)
    return counts


def check_held_out(examples: list[Any], held_out: list[Any], classes: tuple[str, ...]) -> None:
    """Raises or warns where holding out leaves one side without any voxel of a class.

    Raises:
        ValueError: naming the class, if nothing of it is left to learn from.
    """
    from cryojax_seg import core

    learned, scored = _total(examples), _total(held_out)
    for label, name in list(enumerate(core.label_names(classes)))[1:]:
        if scored[label] and not learned[label]:
            raise ValueError(
                f"all annotated voxels of the class {name} would be held out to validate; annotate "
                "more of it, or use --validation 0"
            )
        if learned[label] and not scored[label]:
            console.warn(
                f"no voxel of the class {name} is held out, so its score is not known; annotate "
                "more of it"
            )
