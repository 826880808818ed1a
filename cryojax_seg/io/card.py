"""Describe the data that a model was trained on, as inference needs it, on a model card."""

import dataclasses
from typing import TYPE_CHECKING, Any

from cryojax_seg.core.plain import Contrast
from cryojax_seg.io.modules import LARGEST_REACH, ModelError
from cryojax_seg.text import shown

if TYPE_CHECKING:
    from cryojax_seg.measure import Kind

_LARGEST_PATCH = 4096  # voxels
_LARGEST_SHIFT = 1e3


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """Properties of the data that a model was trained on, and how to train it again.

    Attributes:
        voxel_size: angstrom (z, y, x) of the training data; None if unknown.
        contrast: how structure looked in the training files, "dark" or "bright".
        normalization: how intensities were scaled, by name.
        tilt_range: lowest and highest tilt of the training data in degrees; None if unknown.
        patch: edge of the training patches in voxels, of which normalisation statistics are best
            measured; None if unknown.
        halo: voxels around a tile that were measured to matter; None for the exact halo.
        voxel_sizes: smallest and largest voxel size in angstrom of the training data; None if all
            had `voxel_size`.
        tilt_ranges: narrowest and widest tilt range in degrees of the training data; None if all
            had `tilt_range`.
        temperature: by which the logits were divided, within the model, so that its probabilities
            are calibrated; None for no calibration.
        shifts: that were then added to the logit of each class, within the model.
        thresholds: of each class but the background, at which labels were best, see `core.labels`;
            None for 0.5. They change no probability.
        kinds: how the objects of each class but the background are measured, one of `measure.KINDS`
            or None; None if only the names of the classes tell it.
        provenance: whatever else should be known about the training, as plain JSON values.

    >>> card = ModelCard(voxel_size=(10.0, 10.0, 10.0), tilt_range=(-60.0, 60.0), patch=64)
    >>> card.contrast, card.halo is None
    ('dark', True)
    """

    voxel_size: tuple[float, float, float] | None = None
    contrast: Contrast = "dark"
    normalization: str = "median and median absolute deviation"
    tilt_range: tuple[float, float] | None = None
    patch: int | None = None
    halo: int | None = None
    voxel_sizes: tuple[float, float] | None = None
    tilt_ranges: tuple[tuple[float, float], tuple[float, float]] | None = None
    temperature: float | None = None
    shifts: tuple[float, ...] | None = None
    thresholds: tuple[float, ...] | None = None
    kinds: "tuple[Kind | None, ...] | None" = None
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)


def read_card(stated: dict[str, Any], classes: int) -> ModelCard:
    """Read the card from the description of a model with this number of classes.

    Raises:
        ModelError: if a field is missing, or holds a value that makes no sense.
    """
    fields = {field.name for field in dataclasses.fields(ModelCard)}
    stated = {"kinds": None, **stated}  # which earlier models do not have
    if set(stated) != fields:
        raise ModelError(f"its card has the fields {sorted(stated)}, not {sorted(fields)}")
    if stated["contrast"] not in ("dark", "bright") or not isinstance(stated["provenance"], dict):
        raise ModelError("its card is damaged: contrast or provenance have no sense")
    temperature = stated["temperature"]
    temperature = _numbers(
        None if temperature is None else [temperature], 1, "temperature", 0.0, 1e6
    )
    return ModelCard(
        voxel_size=_numbers(stated["voxel_size"], 3, "voxel_size", 0.0, 1e30),
        contrast=stated["contrast"],
        normalization=str(stated["normalization"]),
        tilt_range=_numbers(stated["tilt_range"], 2, "tilt_range", -90.001, 90.001),
        patch=_voxels(stated["patch"], "patch", 1, _LARGEST_PATCH),
        halo=_voxels(stated["halo"], "halo", 0, LARGEST_REACH),
        voxel_sizes=_numbers(stated["voxel_sizes"], 2, "voxel_sizes", 0.0, 1e30),
        tilt_ranges=_tilt_ranges(stated["tilt_ranges"]),
        temperature=None if temperature is None else temperature[0],
        shifts=_numbers(stated["shifts"], classes, "shifts", -_LARGEST_SHIFT, _LARGEST_SHIFT),
        thresholds=_numbers(stated["thresholds"], max(classes - 1, 1), "thresholds", 0.0, 1.0),
        kinds=_kinds(stated["kinds"], max(classes - 1, 1)),
        provenance=stated["provenance"],
    )


def _voxels(value: Any, name: str, least: int, most: int) -> int | None:
    """Return a number of voxels, or None."""
    if value is None:
        return None
    if type(value) is not int or not least <= value <= most:
        raise ModelError(
            f"its card says {name} {shown(value)}, an integer of {least} to {most} is needed"
        )
    return value


def _kinds(values: Any, count: int) -> Any:
    """Return a kind or None for each class."""
    from cryojax_seg.measure.kinds import KINDS  # which needs JAX

    if values is None:
        return None
    if (
        not isinstance(values, list)
        or len(values) != count
        or not all(value is None or value in KINDS for value in values)
    ):
        raise ModelError(f"its card says kinds {shown(values)} where {count} are needed")
    return tuple(values)


def _tilt_ranges(values: Any) -> Any:
    """Return two tilt ranges, or None."""
    if values is None:
        return None
    if not isinstance(values, list) or len(values) != 2 or None in values:
        raise ModelError(f"its card says tilt_ranges {shown(values)} where two ranges are needed")
    return tuple(_numbers(value, 2, "tilt_ranges", -90.001, 90.001) for value in values)


def _numbers(values: Any, count: int, name: str, above: float, below: float) -> Any:
    """Return a tuple of `count` numbers between two limits; None for None."""
    if values is None:
        return None
    real = isinstance(values, list) and all(type(v) in (int, float) for v in values)
    if not real or len(values) != count or not all(above < v < below for v in values):
        raise ModelError(
            f"its card says {name} {shown(values)} where {count} numbers above {above:g} and below "
            f"{below:g} are needed"
        )
    return tuple(float(v) for v in values)
