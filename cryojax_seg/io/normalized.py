"""A tomogram as methods compute on it: normalized, with a word on what it lacks."""

import logging
from typing import Literal

import numpy as np

from cryojax_seg.core import Normalized, Tomogram, measure_intensity
from cryojax_seg.io.files import FileError
from cryojax_seg.text import percent

log = logging.getLogger("cryojax_seg.io")


def normalized(tomogram: Tomogram, contrast: Literal["dark", "bright"]) -> Normalized:
    """The tomogram with structure bright and noise of deviation 1, normalized as it is read.

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
