"""Shows and annotates tomograms in notebooks: Jupyter, VS Code, Colab and others with anywidget."""

import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np

from cryojax_seg.core.plain import Contrast
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.io.files import PathLike, real_path
from cryojax_seg.io.voxel_size import VoxelSize
from cryojax_seg.training import Example
from cryojax_seg.view.opening import Source, annotation_session, viewing_session
from cryojax_seg.view.saving import Saved
from cryojax_seg.view.session import Message, Session

_FRONT = Path(__file__).with_name("front.js")


class Notebook(anywidget.AnyWidget):
    """Shows a session as the result of a cell.

    Returned by `show` and `annotate`.

    Attributes:
        session: the session, which answers the messages of every place where this is shown.
    """

    _esm = _FRONT

    def __init__(self, session: Session):
        super().__init__()
        self.session = session
        receive = session.connect(self._carry)
        self.on_msg(lambda _, content, buffers: receive(content))

    def _carry(self, message: Message, data: bytes | None) -> None:
        self.send(message, None if data is None else [data])

    def example(self, around: int | None = None) -> Example:
        """Return what is painted by now, to train on; see `Session.example`."""
        return self.session.example(around)

    def wait(self, seconds: float | int = 60) -> bool:
        """Wait until what is painted by now is learned and all slices are predicted.

        Returns:
            whether that is so; False after this time, or if nothing learns.
        """
        end = time.monotonic() + seconds
        while self.session.learning is not None and time.monotonic() < end:
            if not self.session.learning()["busy"]:
                return True
            time.sleep(0.05)
        return False

    def prediction(self) -> np.ndarray:
        """Return the predicted labels ``(z, y, x)``, uint8; 0 where there are none yet."""
        kept: Any = self.session.layers.get("prediction")
        found = np.zeros(self.session.shape, np.uint8)
        for z in range(len(found)):
            plane = None if kept is None else kept.plane(0, z)
            if plane is not None:
                found[z] = plane
        return found

    def close_session(self) -> Saved:
        """Write what is left and release the file of the labels, and return whether all is saved.

        It is not needed at the end of a notebook: what the page calls saved is on disk.
        """
        return self.session.close()


_OPEN: weakref.WeakValueDictionary[Path, Session] = weakref.WeakValueDictionary()


def show(
    tomogram: Source,
    labels: Source | None = None,
    probabilities: Source | Sequence[Source] | None = None,
    classes: Sequence[str] = (),
    *,
    voxel_size: VoxelSize | None = None,
) -> Notebook:
    """Show a tomogram in a notebook, in three orthogonal planes.

    Args:
        tomogram: a path, a `core.Tomogram` or an array ``(z, y, x)``; a file is not loaded.
        labels: integers of the same shape that are laid over it; 0 is background.
        probabilities: a volume from 0 to 1 for each class but the background, or an array ``(z, y,
            x, class)``.
        classes: names of the labels 1, 2, ...
        voxel_size: angstrom, one number or (z, y, x), which the scale bar needs; wins over the
            file.

    Raises:
        FileError: if a volume cannot be read, or lies on another grid.

    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    >>> shown = show(noise, labels=noise > 1, voxel_size=10.0)
    >>> shown.session.state()["layers"]
    ['image', 'labels']
    """
    return Notebook(
        viewing_session(tomogram, labels, _maps(probabilities), classes, voxel_size=voxel_size)
    )


def _maps(given: Any) -> list[Any]:
    if given is None:
        return []
    if isinstance(given, list | tuple):
        return list(given)
    if getattr(given, "ndim", 3) == 4:
        return [given[..., number] for number in range(given.shape[-1])]
    return [given]


def annotate(
    tomogram: Source,
    classes: Sequence[str] = (),
    labels: PathLike | None = None,
    *,
    start: PathLike | None = "vote",
    voxel_size: VoxelSize | None = None,
    contrast: Contrast = "dark",
    wedge: MissingWedge | None = None,
) -> Notebook:
    """Paint labels of a tomogram in a notebook.

    `Notebook.example` returns them at any time. Running the cell again opens the same labels again
    and closes the session before.

    Args:
        tomogram: as in `show`; its voxel size must be known.
        classes: names of the labels 1, 2, ...; by default those in the file, else "foreground".
        labels: the MRC file or OME-Zarr folder (a name that ends in .zarr) in which the labels are
            kept after each stroke, and found if they are there; None keeps them in memory alone, so
            that they are lost with the kernel.
        start: what learns from the strokes and predicts slices: "vote", the name of a built-in
            model such as "membrane", or a model folder; None for nothing.
        voxel_size: angstrom, one number or (z, y, x); wins over the file.
        contrast: of structure in the tomogram, "dark" or "bright".
        wedge: its missing wedge, which examples carry; None if unknown.

    Raises:
        ParameterError: if the voxel size is unknown.
        BusyError: if another process holds the labels; it says who.
        FileError: if a file cannot be read, or the labels are of another tomogram.

    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    >>> painted = annotate(noise, ["membrane"], voxel_size=10.0, start=None)
    >>> painted.session.painting.stroke((0, 2), [[2, 2]], radius_nm=1.0, value=1)
    True
    >>> int(painted.example().weights.sum())
    5
    """
    place = None if labels is None else real_path(labels)
    if place is not None and place in _OPEN:
        former = _OPEN.pop(place)
        former.tell({"type": "error", "text": "these labels were opened again in another cell"})
        former.close()
    session = annotation_session(
        tomogram,
        labels,
        classes,
        voxel_size=voxel_size,
        contrast=contrast,
        wedge=wedge,
        start=start,
    )
    if place is not None:
        _OPEN[place] = session
    return Notebook(session)
