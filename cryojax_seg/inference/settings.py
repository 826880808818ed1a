"""Defines the settings of a segmentation, and checks them."""

from collections.abc import Sequence
from typing import Any, Literal, Unpack

from cryojax_seg.core.plain import Contrast
from cryojax_seg.errors import ParameterError
from cryojax_seg.inference.cleaning import CleanSettings, check_cleaning
from cryojax_seg.inference.engine import BASE, Engine, Name, Precision
from cryojax_seg.io.ome_writing import Version


class Settings(CleanSettings, total=False):
    """Holds the settings of a segmentation, each of which has a default.

    Taken by `plan`, `segment` and `segment_file`. Those of cleaning are in `CleanSettings`.

    Attributes:
        threshold: probability above which a voxel belongs to the class, for models of one class; by
            default that of the model's card, or 0.5; built-in models of one class take the one with
            the best expected Dice in the tomogram, see `thresholds`. Models of several classes use
            their card's.
        probabilities: whether to return a map for each class except the background; False by
            default.
        map_type: type of the maps, "float16" by default, or "float32"; NIfTI and NRRD hold float32.
        zarr: version of OME-Zarr that is written, "0.5" by default, or "0.4".
        label_values: what OME-Zarr holds for the background and each class; by default 0, 1, ...
        memory: the most memory that the process may use, in GiB; 2 by default.
        tile: edge of the tiles in voxels; by default the largest that fit the memory.
        halo: context around each tile in voxels. "exact" uses the full receptive field; "auto",
            the default, the smallest halo that changes logits by less than 0.1.
        contrast: whether structure is "dark" or "bright" in the file; by default as in the training
            data of the model, unless a network is clearly more certain of the opposite.
        voxel_size: voxel size in angstrom, for a file that does not state it.
        force: whether to segment a tomogram whose voxels are over twice as large or small as those
            of the model; False by default.
        engine: the engine or its name; by default the fastest that is installed.
        precision: precision of the products of networks; by default bf16 on hardware with units for
            it, if this keeps 99.5 % of the labels, else f32. JAX takes f32 on a CPU.
    """

    threshold: float | None
    probabilities: bool
    map_type: Literal["float16", "float32"]
    zarr: Version
    label_values: Sequence[int]
    memory: float
    tile: int | None
    halo: int | Literal["auto", "exact"]
    contrast: Contrast | None
    voxel_size: Any
    force: bool
    engine: Engine | Name
    precision: Precision


def check_settings(**settings: Unpack[Settings]) -> None:
    """Raise a ParameterError that names the first invalid setting."""
    threshold, memory = settings.get("threshold"), settings.get("memory", 2.0)
    tile, halo = settings.get("tile"), settings.get("halo", "auto")
    if threshold is not None and not 0 < threshold < 1:
        raise ParameterError(f"threshold must lie between 0 and 1, got {threshold:g}", "threshold")
    if not memory * 2**30 > BASE:
        raise ParameterError(f"memory must be above {BASE / 2**30:g} GiB, got {memory:g}", "memory")
    if settings.get("map_type", "float16") not in ("float16", "float32"):
        raise ParameterError("map_type is float16 or float32", "map_type")
    check_cleaning(**cleaning_of(settings))
    if tile is not None and tile < 1:
        raise ParameterError(f"tile is a number of voxels above 0, got {tile}", "tile")
    if halo not in ("auto", "exact") and not (isinstance(halo, int) and halo >= 0):
        raise ParameterError(f"halo is a number of voxels, 'auto' or 'exact', got {halo!r}", "halo")


def cleaning_of(settings: Settings) -> CleanSettings:
    """Return the settings that belong to cleaning.

    >>> cleaning_of({"threshold": 0.4, "min_size": 100.0})
    {'min_size': 100.0}
    """
    found: Any = {n: v for n, v in settings.items() if n in CleanSettings.__annotations__}
    return found
