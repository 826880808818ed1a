"""Answers the messages of a page that shows a tomogram, whatever carries them.

A message is a dictionary of plain values with a ``type``, and may come with bytes. `Session`
describes all of them.
"""

import dataclasses
import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cryojax_seg.core.names import label_names
from cryojax_seg.core.plain import Contrast
from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io.ome_writing import COLOURS
from cryojax_seg.text import shown
from cryojax_seg.view.changes import CHANGES, Layer, Message, plane_of
from cryojax_seg.view.label_file import LabelFile
from cryojax_seg.view.painting import Painting, Plane
from cryojax_seg.view.saving import Saved, Saver
from cryojax_seg.view.slices import Slices, density_slices, label_slices, probability_slices

if TYPE_CHECKING:  # a page is shown without JAX
    from cryojax_seg.core.wedge import MissingWedge
    from cryojax_seg.training import Example

Send = Callable[[Message, bytes | None], None]
_log = logging.getLogger(__name__)


class Session:
    """Shows a tomogram on any number of pages, and keeps what is painted on them.

    A page asks for ``{"type": "hello"}`` and gets ``"state"``: shape, classes, colours, layers.
    For ``{"type": "plane", "layer": ..., "axis": ..., "index": ...}`` it gets the bytes of a slice
    of the ``"image"``, the ``"labels"``, the ``"prediction"`` or the ``"probability:1"``; before a
    slice that takes seconds to read, it gets a coarse picture, which is marked as such. Labels
    are changed by ``"stroke"``, ``"line"``, ``"fill"``, ``"complete"``, ``"paste"``, ``"undo"``
    and ``"redo"``; every page is told ``"changed"``, then ``"saved"`` when it is on disk. A message
    that cannot be followed is answered by ``"error"`` with one line of text.

    Args:
        tomogram: what is shown.
        classes: names of the classes, background first if there are several.
        labels: a label volume that is shown and cannot be changed; instead of painting.
        probabilities: a volume for each class but the background.
        painting: the labels that can be changed.
        file: where they are saved; None keeps them in memory alone.
        contrast: of structure, for `example`.
        wedge: the missing wedge of the tomogram; None if unknown.

    >>> noise = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    >>> tomogram = Tomogram(noise, voxel_size=(10.0, 10.0, 10.0))
    >>> session = Session(tomogram, painting=Painting(tomogram, ("membrane",)))
    >>> told = []
    >>> receive = session.connect(lambda message, data: told.append((message["type"], data)))
    >>> stroke = {"type": "stroke", "axis": 0, "index": 2, "points": [[2, 2]], "value": 1}
    >>> receive(stroke | {"radius_nm": 1.0})
    >>> receive({"type": "plane", "layer": "labels", "axis": 0, "index": 2})
    >>> told[-1][0], list(told[-1][1]).count(1)
    ('plane', 5)
    >>> session.example().weights.sum()
    np.float32(5.0)
    """

    def __init__(
        self,
        tomogram: Tomogram,
        classes: Sequence[str] = ("foreground",),
        *,
        labels: Any = None,
        probabilities: Sequence[Any] = (),
        painting: Painting | None = None,
        file: LabelFile | None = None,
        contrast: Contrast = "dark",
        wedge: "MissingWedge | None" = None,
    ):
        self.tomogram, self.painting, self.file = tomogram, painting, file
        self.contrast: Contrast = contrast
        self.wedge = wedge
        self._classes = tuple(classes)
        image, self._window = density_slices(tomogram.density)
        self.layers: dict[str, Layer] = {"image": image}
        if painting is not None:
            self.layers["labels"] = _Painted(painting)
        elif labels is not None:
            self.layers["labels"] = label_slices(labels)
        for number, values in enumerate(probabilities, 1):
            self.layers[f"probability:{number}"] = probability_slices(values)
        self._pages: list[Send] = []
        self._lock = threading.Lock()
        self._normalized: Any = None
        self._saver = None
        if painting is not None and file is not None:
            self._saver = Saver(
                lambda: file.write(painting.slices(), painting.classes), self._tell_saved
            )
        self.listeners: list[Callable[[Plane], None]] = []  # called after each change
        self.closing: list[Callable[[], None]] = []  # called before this is closed
        self.learning: Callable[[], Message] | None = None  # what a `Learner` tells of itself
        self._closed = False
        self._answers: dict[str, Callable[[Message, Send], None]] = {
            "hello": lambda message, send: send(self.state(), None),
            "plane": self._send_plane,
        }
        if painting is not None:
            for name in CHANGES:
                self._answers[name] = self._change
            self._answers["add_class"] = self._add_class

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the tomogram."""
        return tuple(int(n) for n in self.tomogram.density.shape)

    @property
    def pages(self) -> int:
        """Return how many pages are open."""
        with self._lock:
            return len(self._pages)

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes, to which a page may have added some."""
        return self.painting.classes if self.painting is not None else self._classes

    def answer(self, name: str, function: Callable[[Message, Send], None]) -> None:
        """Let a function answer the messages of another type."""
        self._answers[name] = function

    def connect(self, send: Send) -> Callable[[Any], None]:
        """Add a page, and return the function that takes its messages.

        Args:
            send: takes a message and its bytes to the page; it may be called from any thread.
        """
        with self._lock:
            self._pages.append(send)

        def receive(message: Any) -> None:
            try:
                kind = message.get("type") if isinstance(message, dict) else None
                if self._closed and kind not in ("hello", "plane"):
                    raise ValueError("this session is closed, so nothing can be painted here")
                if not isinstance(kind, str) or kind not in self._answers:
                    raise ValueError(f"there is no message of type {shown(kind)}")
                self._answers[kind](message, send)
            except (ValueError, OSError) as error:
                send({"type": "error", "text": str(error)}, None)
            except Exception:  # a defect: the page stays alive, and the traceback is in the log
                _log.exception("a message of the page could not be answered")
                send({"type": "error", "text": "this failed; the program's log has more"}, None)

        return receive

    def disconnect(self, send: Send) -> None:
        """Remove a page."""
        with self._lock:
            if send in self._pages:
                self._pages.remove(send)

    def tell(self, message: Message, data: bytes | None = None) -> None:
        """Send a message to every page."""
        with self._lock:
            pages = list(self._pages)
        for send in pages:
            send(message, data)

    def state(self) -> Message:
        """Return what a page must know before it shows anything."""
        tomogram, painting = self.tomogram, self.painting
        names = label_names(self.classes)
        size = tomogram.voxel_size
        return {
            "type": "state",
            "title": str(tomogram.name).rsplit("/", 1)[-1],
            "file": self.file.path.name if self.file is not None else None,
            "shape": list(self.shape),
            "voxel_nm": None if size is None else [v / 10 for v in size],
            "window": {"black": self._window.black, "white": self._window.white},
            "names": list(names),
            "colours": [list(COLOURS[n % len(COLOURS)]) for n in range(len(names) - 1)],
            "layers": list(self.layers),
            "editable": painting is not None,
            "learning": None if self.learning is None else self.learning(),
            **self._progress(),
        }

    def volume(self) -> Any:
        """Return the normalized volume, which takes a pass over all of it the first time.

        Raises:
            FileError: if the tomogram holds no two different values.
        """
        from cryojax_seg.io import normalized

        with self._lock:
            if self._normalized is None:
                self._normalized = normalized(self.tomogram, self.contrast)
            return self._normalized

    def example(self, around: int | None = None) -> "Example":
        """Return the labels that are painted by now as an example to train on.

        Args:
            around: keep only slices up to this many voxels from an annotated one, to save memory;
                None for the whole tomogram.

        Raises:
            ValueError: if nothing can be painted here, or nothing is annotated yet.
        """
        if self.painting is None:
            raise ValueError("this session only shows a tomogram; annotate it to get an example")
        from cryojax_seg.view.examples import painted_example

        return painted_example(self.painting, self.volume(), self.tomogram.name, self.wedge, around)

    def close(self) -> Saved:
        """Write what is left and release the file; return whether all of it is on disk."""
        self._closed = True
        saved = Saved() if self._saver is None else self._saver.close()
        for function in self.closing:  # after that, since an interrupt leaves little time
            function()
        if self.file is not None:
            self.file.close()
        return saved

    def _progress(self) -> Message:
        if self.painting is None:
            return {}
        saved = self._saver.state if self._saver is not None else Saved()
        return {
            "annotated": list(self.painting.annotated()),
            "counts": list(self.painting.counts().values()),
            "saved": dataclasses.asdict(saved),
        }

    def _send_plane(self, message: Message, send: Send) -> None:
        name, (axis, index) = message.get("layer"), plane_of(message)
        if not isinstance(name, str) or name not in self.layers:
            raise ValueError(f"there is no layer {shown(name)}")
        told = {"type": "plane", "layer": name, "axis": axis, "index": index}
        layer = self.layers[name]
        if isinstance(layer, Slices) and (coarse := layer.preview(axis, index)) is not None:
            send({**told, "coarse": True}, coarse.tobytes())
        values = layer.plane(axis, index)
        if name == "labels" and self.painting is not None:
            told["undo"], told["redo"] = self.painting.steps((axis, index))
        send(told, None if values is None else values.tobytes())

    def _change(self, message: Message, send: Send) -> None:
        assert self.painting is not None
        prediction = self.layers.get("prediction")
        if CHANGES[message["type"]](self.painting, message, prediction):
            self.changed(plane_of(message))
        else:  # so that what the page drew by itself goes
            self._send_plane({**message, "layer": "labels"}, send)

    def changed(self, plane: Plane) -> None:
        """Save, and tell every page and listener, that labels of a slice have changed."""
        if self._saver is not None:
            self._saver.request()
        self.tell({"type": "changed", "axis": plane[0], "index": plane[1], **self._progress()})
        for listener in self.listeners:
            listener(plane)

    def _add_class(self, message: Message, send: Send) -> None:
        assert self.painting is not None
        name = message.get("name")
        if not isinstance(name, str):
            raise ValueError("a class needs a name")
        self.painting.add_class(name)
        if self._saver is not None:
            self._saver.request()
        self.tell(self.state())

    def _tell_saved(self, saved: Saved) -> None:
        self.tell({"type": "saved", **dataclasses.asdict(saved)})


class _Painted:
    """The labels of a painting as bytes: 255 is not annotated, 254 excluded."""

    def __init__(self, painting: Painting):
        self._painting = painting

    def plane(self, axis: int, index: int) -> np.ndarray | None:
        labels = self._painting.plane((axis, index))
        return None if (labels == -1).all() else np.ascontiguousarray(labels).view(np.uint8)
