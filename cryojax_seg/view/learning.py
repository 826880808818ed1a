"""Learns from strokes while somebody paints, and predicts what is looked at first.

Nothing here loads JAX until the thread of a `Learner` runs, so that the page is there at once.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cryojax_seg.view.methods import AROUND, METHODS, Method
from cryojax_seg.view.painting import Plane
from cryojax_seg.view.predictions import KEPT, Predictions, logits_of_slice
from cryojax_seg.view.session import Message, Send, Session
from cryojax_seg.view.suggestions import calibration_of, ranked, slice_gains

if TYPE_CHECKING:
    from cryojax_seg.core import Segmenter
    from cryojax_seg.training import Example

_SLICES = 24  # annotated slices that are learned from at a time
_CANDIDATES = 16  # slices that are compared for the next annotation
_LARGEST = 2**30  # bytes of a file of which planes across its rows are predicted
_WARM = 1.5  # seconds after the first page, which shall be shown before JAX is loaded
_log = logging.getLogger(__name__)


class Learner:
    """Learns in a thread of its own from what is painted in a session.

    After a stroke it learns for a moment, predicts the slices that are looked at, and tells the
    pages; then it computes the score on held-out annotation, and predicts the slices around. A new
    stroke comes before all of that.

    Args:
        session: in which labels are painted.
        save: takes the segmenter, writes it as a model, and returns where; None if it cannot be
            saved.
        methods: ways to learn by name; the first is used until another is chosen.

    >>> from cryojax_seg.core import Tomogram
    >>> from cryojax_seg.view.painting import Painting
    >>> tomogram = Tomogram(np.zeros((4, 5, 6), np.float32), voxel_size=(10.0, 10.0, 10.0))
    >>> session = Session(tomogram, painting=Painting(tomogram, ("membrane",)))
    >>> learner = Learner(session)
    >>> session.state()["learning"]["text"], learner.suggestions()
    ('Paint some strokes of a class, and of background', [])
    >>> learner.close()
    """

    def __init__(
        self,
        session: Session,
        save: "Callable[[Segmenter], str] | None" = None,
        methods: Mapping[str, Callable[[], Method]] = METHODS,
    ):
        self._session, self._methods, self._save = session, methods, save
        self._name = next(iter(methods))
        self._method: Method | None = None
        self._predictions = Predictions()
        self._looked: list[Plane] = [(a, n // 2) for a, n in enumerate(session.shape)]
        self._slabs: dict[int, tuple[int, np.ndarray, np.ndarray]] = {}
        self._asked: list[Send] = []  # pages that wait for suggestions
        self._painted: dict[int, None] = {}  # slices in the order in which they were painted
        self._held: Any = None
        self._wanted = self._learned = 0
        self._text, self._dice = "Paint some strokes of a class, and of background", ""
        self._paused = self._closed = False
        self._changed = threading.Condition()
        session.layers["prediction"] = self._predictions
        session.learning = self.state
        session.listeners.append(self._stroke)
        session.closing.append(self.close)
        for kind, function in (
            ("learn", self._ask),
            ("look", self._look),
            ("suggest", self._suggest),
        ):
            session.answer(kind, function)
        self._thread = threading.Thread(target=self._run, name="cryojax-seg learning", daemon=True)
        self._thread.start()

    @property
    def segmenter(self) -> Any:
        """Return what has been learned by now; None before the first strokes."""
        return None if self._method is None else self._method.segmenter

    def state(self) -> Message:
        """Return what a page shows of the learning."""
        return {
            "type": "learning",
            "method": self._name,
            "methods": list(self._methods),
            "saves": self._save is not None,
            "paused": self._paused,
            "text": self._text,
            "dice": self._dice,
        }

    def close(self) -> None:
        """End the thread, after what it computes at the moment."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(10)

    def suggestions(self) -> list[tuple[int, float]]:
        """Return the slices z that are worth most to annotate, with their gains.

        Probabilities are calibrated on held-out annotation; see `slice_gains` and `ranked`.
        """
        painting, segmenter = self._session.painting, self.segmenter
        if painting is None or segmenter is None:
            return []
        depth, annotated = painting.shape[0], painting.annotated()
        spread = np.linspace(0, depth - 1, min(depth, _CANDIDATES)).round().astype(int).tolist()
        gains = slice_gains(
            segmenter,
            self._session.volume(),
            [z for z in dict.fromkeys(spread) if z not in annotated],
            calibration=calibration_of(self._held),
            wedge=self._session.wedge,
        )
        return ranked(gains, annotated, painting.voxel_nm[0])

    # What pages ask for, in threads of theirs.

    def _stroke(self, plane: Plane) -> None:
        with self._changed:
            if plane[0] == 0:
                self._painted.pop(plane[1], None)
                self._painted[plane[1]] = None
            self._wanted += 1
            self._changed.notify_all()

    def _look(self, message: Message, send: Send) -> None:
        planes, shape = message.get("planes"), self._session.shape
        if not isinstance(planes, list) or len(planes) > 3:
            raise ValueError("up to three slices are looked at")
        pairs = [tuple(p) for p in planes if isinstance(p, list) and len(p) == 2]
        with self._changed:
            self._looked = [
                (a, i)
                for a, i in pairs
                if type(a) is int and type(i) is int and 0 <= a < 3 and 0 <= i < shape[a]
            ]
            self._changed.notify_all()

    def _ask(self, message: Message, send: Send) -> None:
        action = message.get("action")
        if action == "method":
            name = message.get("method")
            if not isinstance(name, str) or name not in self._methods:
                raise ValueError(f"known methods are {', '.join(self._methods)}")
            with self._changed:
                self._name, self._method = name, None
                self._wanted += 1
                self._changed.notify_all()
            self._tell(f"The method {name} begins", "")
        elif action in ("pause", "resume"):
            with self._changed:
                self._paused = action == "pause"
                self._changed.notify_all()
            self._tell()
        elif action == "save":
            if self._save is None or self.segmenter is None:
                raise ValueError("there is no model to save yet; paint some strokes first")
            send({"type": "told", "text": f"The model is in {self._save(self.segmenter)}"}, None)
        else:
            raise ValueError("learning can be paused, resumed and saved, and get another method")

    def _suggest(self, message: Message, send: Send) -> None:
        if self.segmenter is None:
            send({"type": "suggestions", "items": []}, None)
            return
        with self._changed:  # the thread answers, so that the page is served meanwhile
            self._asked.append(send)
            self._changed.notify_all()

    def _tell(self, text: str | None = None, dice: str | None = None) -> None:
        self._text = self._text if text is None else text
        self._dice = self._dice if dice is None else dice
        self._session.tell(self.state())

    # What the thread does.

    def _run(self) -> None:
        try:
            self._warm()
            while self._wait():
                self._work()
        except Exception:  # a defect: painting goes on, and the traceback is in the log
            _log.exception("learning has ended by an error")
            self._tell("Learning has ended by an error; the log of the program has more", "")

    def _warm(self) -> None:
        """Load and compile what the first stroke needs, once a page is shown."""
        while not self._session.pages and not self._closed:
            time.sleep(0.05)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._wanted > 0, _WARM)
        if self._closed:
            return
        from cryojax_seg.segmenters import LinearVote

        try:
            volume = self._session.volume()
        except ValueError as problem:
            self._tell(str(problem), "")
            self._closed = True
            return
        vote = LinearVote(AROUND, classes=self._session.classes)
        for axis in self._predictable():
            if self._wanted == 0 and not self._closed:
                logits_of_slice(vote, volume, (axis, 0))

    def _predictable(self) -> tuple[int, ...]:
        """Return the axes whose planes can be predicted without reading all of a large file."""
        density: Any = self._session.tomogram.density
        small = not isinstance(density, np.memmap) or density.nbytes < _LARGEST
        return (0, 1, 2) if small and isinstance(density, np.ndarray) else (0, 1)

    def _wait(self) -> bool:
        """Return once there is something to learn or to predict; False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (not self._paused and self._due()))
            return not self._closed

    def _due(self) -> bool:
        return self._wanted != self._learned or bool(self._asked) or bool(self._missing())

    def _missing(self) -> list[Plane]:
        """Return the slices that are looked at, or lie next to them, and have no prediction."""
        if self.segmenter is None:
            return []
        axes, depth = self._predictable(), self._session.shape[0]
        wanted = [plane for plane in self._looked if plane[0] in axes]
        middle = next((i for a, i in self._looked if a == 0), None)
        if middle is not None:
            beside = sorted(range(depth), key=lambda z: abs(z - middle))
            wanted += [(0, z) for z in beside[: KEPT // 2]]
        return [plane for plane in wanted if self._predictions.plane(*plane) is None]

    def _work(self) -> None:
        with self._changed:
            wanted = self._wanted
        if wanted != self._learned:
            self._learned = wanted
            self._learn()
            return
        if self._asked:
            self._rank()
            return
        for plane in self._missing()[:1]:
            self._predict(plane)
            told = [plane[1]] if plane[0] == 0 else []
            self._session.tell({"type": "predicted", "slices": told})

    def _rank(self) -> None:
        items = [
            {"index": z, "text": f"Slice {z} has an expected gain of {gain:.3f}"}
            for z, gain in self.suggestions()
        ]
        with self._changed:
            pages, self._asked = self._asked, []
        for send in pages:
            send({"type": "suggestions", "items": items}, None)

    def _learn(self) -> None:
        began = time.monotonic()
        classes, name = self._session.classes, self._name
        if self._method is None:
            self._method = self._methods[name]()
        method, examples = self._method, self._examples()
        if not examples:
            self._tell("Paint some strokes of a class, and of background", "")
            return
        try:
            text = method.learn(examples, classes)
        except ValueError as problem:
            self._tell(str(problem))
            return
        looked = [plane for plane in self._looked if plane[0] in self._predictable()]
        for number, plane in enumerate(looked):
            self._predict(plane)
            if number == 0:  # what is painted on, before the planes across it
                self._predictions.keep_only(set(looked))
                self._session.tell({"type": "predicted", "slices": None})
        self._session.tell({"type": "predicted", "slices": []})
        self._tell(f"{text} in {time.monotonic() - began:.1f} s")
        with self._changed:
            if self._closed or self._wanted != self._learned:
                return
        self._held = method.held_out(examples, classes)
        found = None if self._held is None else self._held.dice()
        if found is None:
            self._tell(dice="There is too little annotation for a score")
            return
        value, interval = found
        limits = "" if interval is None else f" ({interval[0]:.2f} to {interval[1]:.2f})"
        self._tell(dice=f"Dice {value:.2f}{limits} on held-out annotation")

    def _examples(self) -> "list[Example]":
        """Return one example for each annotated slice, with the slices around it."""
        from cryojax_seg.training import Example

        painting = self._session.painting
        assert painting is not None
        volume, depth = self._session.volume(), painting.shape[0]
        slices, found = painting.slices(), []
        chosen = self._chosen(painting.annotated())
        for z in self._slabs.keys() - set(chosen):
            del self._slabs[z]
        for z in chosen:
            first = max(z - AROUND, 0)
            if z not in self._slabs:
                where = (slice(first, min(z + AROUND + 1, depth)), slice(None), slice(None))
                self._slabs[z] = (first, volume[where], volume.missing(where))
            first, block, missing = self._slabs[z]
            known = (slices[z] >= 0) & ~missing[z - first]
            if known.any():
                values = np.zeros(block.shape, np.int32)
                weights = np.zeros(block.shape, np.float32)
                values[z - first] = np.where(known, slices[z], 0)
                weights[z - first] = known
                found.append(Example(block, values, weights, name=f"slice {z}"))
        return found

    def _chosen(self, annotated: tuple[int, ...]) -> list[int]:
        """Return the slices to learn from: those painted last, and some from all over."""
        last = [z for z in reversed(self._painted) if z in annotated][: _SLICES // 2]
        others = [z for z in annotated if z not in last]
        step = max(1, -(-len(others) // (_SLICES - len(last))))
        return sorted([*last, *others[::step]])

    def _predict(self, plane: Plane) -> None:
        from cryojax_seg.core import labels

        logits = logits_of_slice(self.segmenter, self._session.volume(), plane)
        self._predictions.put(plane, np.asarray(labels(logits[0][None]))[0].astype(np.uint8))
