"""A tomogram as the commands compute on it: normalized, and what it lacks is said."""

from typing import TYPE_CHECKING

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import Contrast

if TYPE_CHECKING:
    from cryojax_seg.core import Normalized, Tomogram


def normalized(tomogram: "Tomogram", contrast: Contrast) -> "Normalized":
    """The tomogram with structure bright and noise of deviation 1, read part by part.

    Raises:
        FileError: naming the file, if it holds no two different values.
    """
    import numpy as np

    from cryojax_seg import core, io

    try:
        intensity = core.measure_intensity(tomogram.density, contrast)
    except ValueError as error:
        raise io.FileError(f"{tomogram.name}: {error}") from None
    in_memory = type(tomogram.density) is np.ndarray  # then the reader has counted them
    if intensity.damaged and not in_memory:
        share = console.percent(intensity.damaged)
        console.warn(f"{tomogram.name}: {share} of its voxels are NaN or infinite")
    if intensity.blank.share:
        share = console.percent(intensity.blank.share)
        values = intensity.blank.values + intensity.blank.patches
        what = "one value" if len(values) == 1 else f"{len(values)} values"
        console.say(
            f"{tomogram.name}: {share} of the volume is blank ({what} repeated exactly): left out"
        )
    return core.Normalized(tomogram.density, intensity)
