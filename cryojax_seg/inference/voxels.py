"""Decides how a tomogram is resampled for a model that learned from other voxels."""

import logging
from collections.abc import Sequence

from cryojax_seg.core import Tomogram
from cryojax_seg.io import FileError, ModelCard

ALIKE = 0.05  # relative difference up to which voxels are taken as equal
FAR = 2.001  # ratio above which nothing is known of the model, with room for rounding
log = logging.getLogger(__name__)

Factor = tuple[float, float, float]


def factor_for(tomogram: Tomogram, card: ModelCard, force: bool = False) -> Factor | None:
    """Return the voxels of a model for each voxel of a tomogram along z, y, x.

    Args:
        tomogram: the tomogram to segment.
        card: of the model.
        force: allow voxels over twice as large or small as any that the model saw.

    Returns:
        the factor for `core.Rescaled`; None if the voxels differ by at most 5 %, or if a voxel size
        is unknown.

    Raises:
        FileError: if the voxels differ more than twofold, or the tomogram lacks a voxel size and
            the model is one of the built-in models.

    >>> import numpy as np
    >>> tomogram = Tomogram(np.zeros((2, 2, 2)), (7.0, 7.0, 7.0))
    >>> factor_for(tomogram, ModelCard((10.0, 10.0, 10.0)))
    (0.7, 0.7, 0.7)
    >>> factor_for(tomogram, ModelCard((7.2, 7.2, 7.2))) is None
    True
    """
    trained = card.voxel_size
    if trained is None:
        return None
    if tomogram.voxel_size is None:
        if card.provenance.get("built_in"):  # the reader has warned in any case
            raise FileError(
                f"{tomogram.name}: its voxel size is unknown, and the model is for voxels of "
                f"{sizes(trained)} A; give the voxel size",
                "voxel_size",
            )
        return None
    # Headers hold float32: rounding lets all tomograms of a microscope share their programs.
    z, y, x = (round(a / b, 4) for a, b in zip(tomogram.voxel_size, trained, strict=True))
    if all(abs(factor - 1) <= ALIKE for factor in (z, y, x)):
        return None
    low, high = card.voxel_sizes or (min(trained), max(trained))
    known = low / FAR <= min(tomogram.voxel_size) and max(tomogram.voxel_size) <= FAR * high
    text = (
        f"{tomogram.name}: has voxels of {sizes(tomogram.voxel_size)} A, and the model is for "
        f"voxels of {sizes(trained)} A"
    )
    if not known and not force:
        seen = f"{low:.4g} to {high:.4g} A" if low < high else f"{low:.4g} A"
        raise FileError(
            f"{text}; that is more than twofold off the {seen} that it saw, so its labels would "
            "mean little. Use another model, give the voxel size if it is wrong, or force it",
            *("voxel_size", "force"),
        )
    log.info(f"{text}: it is resampled for the model tile by tile, its labels keep its own grid")
    return z, y, x


def sizes(voxel_size: Sequence[float]) -> str:
    """Return a voxel size as text, with one number if all axes are equal.

    >>> sizes((10.0, 10.0, 10.0)), sizes((20.0, 10.0, 10.0))
    ('10', '20 x 10 x 10')
    """
    known = [f"{size:.4g}" for size in voxel_size]
    return known[0] if len(set(known)) == 1 else " x ".join(known)
