"""Defines the methods by which a file is restored, those that were trained before among them."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Literal

from cryojax_seg.core import LocalOperator, Tomogram
from cryojax_seg.core.ctf import ContrastTransfer
from cryojax_seg.inference.model import load_restorer
from cryojax_seg.inference.voxels import FAR, sizes
from cryojax_seg.io import FileError, ModelCard
from cryojax_seg.io.files import PathLike
from cryojax_seg.training.config import RestorerMethod

_WHOLE = ("noise2clean", "simulated", "wiener")  # methods that learn from whole tomograms
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Deconvolution:
    """Describes Wiener's deconvolution of the contrast transfer, see `restore.ctf_deconvolution`.

    Attributes:
        transfer: the contrast transfer of the microscope.
        strength: the strength of the filter; the assumed signal-to-noise ratio grows with it (no
            unit).
        phase_flipped: whether the signs of the transfer were corrected before reconstruction.

    >>> from cryojax_seg.core.ctf import ContrastTransfer
    >>> Deconvolution(ContrastTransfer(defocus=30000.0)).strength
    1.0
    """

    transfer: ContrastTransfer
    strength: float = 1.0
    phase_flipped: bool = False


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Holds a restorer that was trained before, on phantoms or on another tomogram.

    Returned by `load_pretrained`; a method of `restore_file`.

    Attributes:
        name: the name or the folder that it was loaded by.
        restorer: the restorer.
        card: the facts about its training.
    """

    name: str
    restorer: LocalOperator
    card: ModelCard

    @property
    def takes_halves(self) -> bool:
        """Return whether it restores each half of a tomogram alone, and not the tomogram.

        >>> from cryojax_seg.restore import Gaussian
        >>> Pretrained("mine", Gaussian(1.0), ModelCard()).takes_halves
        True
        """
        return self.card.provenance.get("method") not in _WHOLE

    def check(self, tomogram: Tomogram) -> None:
        """Raise a FileError if the voxels are over twofold off those that the restorer saw.

        Within that range nothing is resampled, and a warning tells if the voxels are others than
        those of the training.

        >>> from cryojax_seg.restore import Gaussian
        >>> import numpy as np
        >>> one = Pretrained("mine", Gaussian(1.0), ModelCard((10.0, 10.0, 10.0)))
        >>> one.check(Tomogram(np.zeros((2, 2, 2)), (30.0, 30.0, 30.0), name="t.mrc"))
        Traceback (most recent call last):
        cryojax_seg.io.files.FileError: t.mrc: has voxels of 30 A, and mine learned from 10 ...
        """
        trained, found = self.card.voxel_size, tomogram.voxel_size
        if trained is None or found is None:
            return
        low, high = self.card.voxel_sizes or (min(trained), max(trained))
        text = (
            f"{tomogram.name}: has voxels of {sizes(found)} A, and {self.name} learned from "
            f"{low:.4g} to {high:.4g} A"
        )
        if min(found) * FAR < low or max(found) > FAR * high:
            raise FileError(
                f"{text}; that is more than twofold off. Use wiener, or give the voxel size if it "
                "is wrong",
                "voxel_size",
            )
        if min(found) < 0.95 * low or max(found) > 1.05 * high:
            _log.warning(f"{text}; compare the result with that of wiener")


def load_pretrained(path: PathLike, allow: Sequence[str] = ()) -> Pretrained:
    """Load a restorer for `restore_file`.

    Args:
        path, allow: as for `load_restorer`.

    Raises:
        FileError: as `load_restorer`.

    >>> import tempfile
    >>> from cryojax_seg import io
    >>> from cryojax_seg.restore import Gaussian
    >>> folder = tempfile.mkdtemp()
    >>> io.save_model(f"{folder}/model", Gaussian(2.0))
    >>> type(load_pretrained(folder).restorer).__name__
    'Gaussian'
    """
    return Pretrained(str(path), *load_restorer(path, allow))


Method = RestorerMethod | Literal["wiener"] | Deconvolution | Pretrained | LocalOperator


def method_name(method: Method) -> str:
    """Return a method in one word.

    >>> from cryojax_seg.restore import Gaussian
    >>> method_name("wiener"), method_name(Gaussian(1.0))
    ('wiener', 'Gaussian')
    """
    match method:
        case str():
            return method
        case Pretrained():
            return method.name
        case Deconvolution():
            return "deconvolution"
    return type(method).__name__


def learns(method: Method) -> bool:
    """Return whether a network is trained by this method.

    >>> learns("wiener"), learns("equivariant")
    (False, True)
    """
    return isinstance(method, str) and method != "wiener"


def takes_halves(method: Method) -> bool:
    """Return whether each half of a tomogram is restored alone, and not the tomogram.

    Filters are linear, and the tomogram is the mean of its halves; phantoms have none.

    >>> takes_halves("wiener"), takes_halves("n2n")
    (False, True)
    """
    if isinstance(method, Pretrained):
        return method.takes_halves
    return not (method in ("wiener", "simulated") or isinstance(method, Deconvolution))
