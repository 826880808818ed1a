"""Tomograms and their halves as methods compute on them: normalized, and checked."""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np

from cryojax_seg.core import Normalized, Tomogram, measure_intensity
from cryojax_seg.core.blocks import blocks, release
from cryojax_seg.core.plain import Contrast
from cryojax_seg.io.files import FileError
from cryojax_seg.text import percent

log = logging.getLogger("cryojax_seg.io")


def normalized(tomogram: Tomogram, contrast: Contrast) -> Normalized:
    """Return the tomogram with bright structure and unit noise, normalized as it is read.

    Logs how much of the volume is blank or not finite.

    Raises:
        FileError: naming the file, if it holds no two different values.

    >>> noise = np.random.default_rng(0).normal(5.0, 2.0, (8, 8, 8)).astype(np.float32)
    >>> bool(abs(np.median(normalized(Tomogram(noise), "dark")[:, :, :])) < 1e-6)
    True
    """
    try:
        intensity = measure_intensity(tomogram.density, contrast)
    except ValueError as error:
        raise FileError(f"{tomogram.name}: {error}") from None
    in_memory = type(tomogram.density) is np.ndarray  # then the reader has counted them
    if intensity.damaged and not in_memory:
        share = percent(intensity.damaged)
        log.warning(f"{tomogram.name}: {share} of its voxels are NaN or infinite")
    if intensity.blank.share:
        share = percent(intensity.blank.share)
        values = intensity.blank.values + intensity.blank.patches
        kinds = "one value" if len(values) == 1 else f"{len(values)} values"
        log.info(
            f"{tomogram.name}: {share} of the volume is blank ({kinds} repeated exactly): left out"
        )
    return Normalized(tomogram.density, intensity)


def check_halves(tomogram: Tomogram, halves: Sequence[Tomogram]) -> None:
    """Raise a FileError, naming the files, unless these can be the halves of that tomogram.

    >>> whole, half = (Tomogram(np.ones((2, 2, n))) for n in (2, 3))
    >>> check_halves(whole, [half, half])
    Traceback (most recent call last):
    cryojax_seg.io.files.FileError: tomogram: has shape (2, 2, 3), tomogram has (2, 2, 2); halves...
    """
    even, odd = halves
    for half in halves:
        if half.density.shape != tomogram.density.shape:
            raise FileError(
                f"{half.name}: has shape {half.density.shape}, {tomogram.name} has "
                f"{tomogram.density.shape}; halves lie on the grid of their tomogram"
            )
        if half.voxel_size is None or tomogram.voxel_size is None:
            continue
        if not np.allclose(half.voxel_size, tomogram.voxel_size, rtol=1e-3):
            raise FileError(
                f"{half.name}: has voxels of {half.voxel_size[0]:.4g} A, {tomogram.name} of "
                f"{tomogram.voxel_size[0]:.4g} A"
            )
    for where in blocks(tomogram.density.shape):
        same = np.array_equal(even.density[where], odd.density[where])
        release(even.density)
        release(odd.density)
        if not same:
            return
    raise FileError(
        f"{even.name} and {odd.name}: hold the same values, so their noise is not independent; "
        "reconstruct one from the even and one from the odd tilts or frames"
    )


def on_scale(half: Tomogram, whole: Normalized) -> Normalized:
    """Return a half on the scale of the normalized whole, with its own blank parts left out.

    So the mean of two halves is on the scale of the tomogram.

    >>> noise = np.random.default_rng(0).normal(5.0, 2.0, (8, 8, 8)).astype(np.float32)
    >>> whole = normalized(Tomogram(noise), "dark")
    >>> bool(np.array_equal(on_scale(Tomogram(noise), whole)[:], whole[:]))
    True
    """
    intensity = whole.intensity
    if intensity.blank.share:
        blank = measure_intensity(half.density, "bright").blank
        intensity = dataclasses.replace(intensity, blank=blank)
    return Normalized(half.density, intensity)
