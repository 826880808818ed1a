"""Draws tilt series, as which a share of the scenes for training is imaged as a whole."""

import numpy as np

from cryojax_seg.core.ctf import ContrastTransfer
from cryojax_seg.core.types import Key
from cryojax_seg.simulate.acquisition import Acquisition, TiltScheme
from cryojax_seg.simulate.instrument import Microscope, Misalignment, Slab
from cryojax_seg.simulate.placement import generator
from cryojax_seg.simulate.populate import number
from cryojax_seg.simulate.tilt_series import TiltSeriesImaging

TILTS = 31


def varied_series(key: Key) -> TiltSeriesImaging:
    """Draw a tilt series of 31 tilts about y, reconstructed by weighted back-projection.

    Lowest and highest tilt are 40 to 70 degrees, the underfocus 1.5 to 8 micrometres, the exposure
    60 to 150 electrons per square angstrom, the ice 80 to 250 nm thick, alignments wrong by up to
    8 angstrom, and the contrast 0.3 to 2 standard deviations of the noise. All are leaves, so that
    one program images all series.

    >>> import jax
    >>> imaging = varied_series(jax.random.key(0))
    >>> low, high = imaging.acquisition.scheme.tilt_range
    >>> bool(-70 <= low <= -40), bool(40 <= high <= 70)
    (True, True)
    """
    rng = generator(key)
    low, high = rng.uniform(40.0, 70.0, 2)
    usual = TiltScheme.every(4.0)
    exposure = number(rng.uniform(60.0, 150.0) / TILTS)
    scheme = TiltScheme((number(-low), number(high)), usual.order, exposure)
    acquisition = Acquisition(
        scheme,
        Microscope(ContrastTransfer(defocus=number(rng.uniform(15_000.0, 80_000.0)))),
        Slab(number(rng.uniform(800.0, 2500.0))),
        misalignment=Misalignment(number(rng.uniform(0.0, 8.0)), number(rng.uniform(0.0, 0.3))),
    )
    contrast = np.exp(rng.uniform(np.log(0.3), np.log(2.0)))
    return TiltSeriesImaging(acquisition, snr=number(contrast**2))
