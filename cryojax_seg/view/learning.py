"""Learns from strokes while somebody paints, and predicts what is looked at first.

Nothing here loads JAX until the thread of a `Learner` runs, so that the page is there at once.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cryojax_seg.view.forecast import Forecast
from cryojax_seg.view.methods import Methods, VoteMethod, chosen, methods_from
from cryojax_seg.view.painting import Plane
from cryojax_seg.view.predictions import Predictions
from cryojax_seg.view.session import Message, Send, Session

if TYPE_CHECKING:
    from cryojax_seg.core import Segmenter
    from cryojax_seg.io import ModelCard

_WARM = 1.5  # seconds after the first page, which shall be shown before JAX is loaded
_PAINT = "Paint some strokes of a class, and of background"
_log = logging.getLogger(__name__)


class Learner:
    """Learns in a thread of its own from what is painted in a session.

    After a stroke it learns for a moment, predicts the slices that are looked at, and tells the
    pages; then it computes the score on held-out annotation, and predicts the rest of the volume. A
    new stroke comes before all of that.

    Args:
        session: in which labels are painted.
        save: takes the segmenter and its card, writes them as a model, and returns where; None if
            it cannot be saved.
        start: "vote", the name of a built-in model, or a model folder.

    Raises:
        FileError: if there is no such model.

    >>> import numpy as np
    >>> from cryojax_seg.core import Tomogram
    >>> from cryojax_seg.view.painting import Painting
    >>> tomogram = Tomogram(np.zeros((4, 5, 6), np.float32), voxel_size=(10.0, 10.0, 10.0))
    >>> session = Session(tomogram, painting=Painting(tomogram, ("membrane",)))
    >>> learner = Learner(session)
    >>> session.state()["learning"]["text"]
    'Paint some strokes of a class, and of background'
    >>> learner.close()
    """

    def __init__(
        self,
        session: Session,
        save: "Callable[[Segmenter, ModelCard], str] | None" = None,
        start: str = "vote",
    ):
        self._session, self._start, self._save = session, start, save
        # The names of the others are found by the thread, since that loads JAX.
        self._methods: Methods = {"vote": VoteMethod} if start == "vote" else methods_from(start)
        self._name = next(iter(self._methods))
        self._forecast: Forecast | None = None  # of the method, once that is built
        self._predictions = Predictions()
        self._looked: list[Plane] = [(a, n // 2) for a, n in enumerate(session.shape)]
        self._asked: list[Send] = []  # pages that wait for suggestions
        self._painted: dict[Plane, None] = {}  # slices in the order in which they were painted
        painting = session.painting
        self._wanted = int(painting is not None and bool(painting.annotated()))
        self._learned = 0
        self._text, self._dice = _PAINT if start == "vote" else "The model is loaded", ""
        self._paused = self._closed = self._working = False
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
        """Return what has been learned by now; None before."""
        return None if self._forecast is None else self._forecast.method.segmenter

    def state(self) -> Message:
        """Return what a page shows of the learning."""
        return {
            "type": "learning",
            "method": self._name,
            "methods": list(self._methods),
            "saves": self._save is not None,
            "paused": self._paused,
            "busy": self._busy(),
            "text": self._text,
            "dice": self._dice,
        }

    def _busy(self) -> bool:
        """Return whether strokes are to be learned from, or slices to be predicted."""
        if self._closed:
            return False
        forecast = self._forecast
        if forecast is None or self._wanted != self._learned or self._working:
            return True
        return forecast.next(self._looked) is not None

    def close(self) -> None:
        """End the thread, after what it computes at the moment."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(5)

    # What pages ask for, in threads of theirs.

    def _stroke(self, plane: Plane) -> None:
        with self._changed:
            self._painted.pop(plane, None)
            self._painted[plane] = None
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
                self._name, self._forecast = name, None
                self._wanted += 1
                self._changed.notify_all()
            self._tell(f"The method {name} begins", "")
        elif action in ("pause", "resume"):
            with self._changed:
                self._paused = action == "pause"
                self._changed.notify_all()
            self._tell()
        elif action == "save":
            forecast = self._forecast
            if self._save is None or forecast is None or forecast.method.segmenter is None:
                raise ValueError("there is no model to save yet; paint some strokes first")
            where = self._save(*forecast.method.model())
            send({"type": "told", "text": f"The model is in {where}"}, None)
        else:
            raise ValueError("learning can be paused, resumed and saved, and get another method")

    def _suggest(self, message: Message, send: Send) -> None:
        if self.segmenter is None:
            send({"type": "suggestions", "items": [], "boxes": []}, None)
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
                self._working = False
        except Exception:  # a defect: painting goes on, and the traceback is in the log
            _log.exception("learning has ended by an error")
            self._tell("Learning has ended by an error; the log of the program has more", "")

    def _warm(self) -> None:
        """Load what the first stroke needs, once a page is shown."""
        while not self._session.pages and not self._closed:
            time.sleep(0.05)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._wanted > 0, _WARM)
        if self._closed:
            return
        try:
            self._session.volume()
        except ValueError as problem:
            self._tell(str(problem), "")
            self._closed = True
            return
        self._methods = methods_from(self._start)
        self._tell()
        self._build()

    def _build(self) -> Forecast | None:
        """Return the forecast of the method that is chosen; None if it cannot be had.

        Then the pages are told why.
        """
        if self._forecast is None:
            name = self._name
            try:
                method = self._methods[name](self._session)
            except (ValueError, OSError) as problem:
                self._tell(str(problem), "")
                return None
            forecast = Forecast(self._session, method, self._predictions)
            with self._changed:
                if name != self._name:  # another one was chosen meanwhile
                    return None
                self._forecast = forecast
            if method.segmenter is not None:
                self._tell(f"{name} predicts as it was trained; paint where it is wrong", "")
        return self._forecast

    def _wait(self) -> bool:
        """Return once there is something to learn or to predict; False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (not self._paused and self._due()))
            self._working = not self._closed
            return self._working

    def _due(self) -> bool:
        forecast = self._forecast
        if self._wanted != self._learned:
            return True
        if forecast is None or forecast.method.segmenter is None:
            return False
        waits = bool(self._asked) or bool(forecast.missing(self._looked))
        return waits or forecast.next(self._looked) is not None

    def _work(self) -> None:
        with self._changed:
            wanted, forecast = self._wanted, self._forecast
        if wanted != self._learned:
            self._learned = wanted
            self._learn()
        elif forecast is None:
            return
        elif missing := forecast.missing(self._looked):
            forecast.predict(missing[0])
            told = [missing[0][1]] if missing[0][0] == 0 else []
            self._session.tell({"type": "predicted", "slices": told})
        elif self._asked and forecast.candidate() is None:
            with self._changed:
                pages, self._asked = self._asked, []
            for send in pages:
                send(forecast.suggestions(), None)
        else:  # one slab at a time, since somebody may paint meanwhile
            start = forecast.candidate() if self._asked else forecast.next(self._looked)
            if start is not None:
                self._session.tell({"type": "predicted", "slices": forecast.follow(start)})

    def _learn(self) -> None:
        began = time.monotonic()
        forecast, painting = self._build(), self._session.painting
        if forecast is None or painting is None:
            return
        with self._changed:
            order = list(self._painted)
        try:
            text = forecast.method.learn(chosen(painting, order), self._session.classes)
        except ValueError as problem:
            self._tell(str(problem))
            return
        looked = forecast.predictable(self._looked)
        forecast.forget()
        for number, plane in enumerate(looked):
            forecast.predict(plane)
            if number == 0:  # what is painted on, before the planes across it
                forecast.keep_only(looked)
                self._session.tell({"type": "predicted", "slices": None})
        self._session.tell({"type": "predicted", "slices": []})
        self._tell(f"{text} in {time.monotonic() - began:.1f} s")
        with self._changed:
            if self._closed or self._wanted != self._learned:
                return
        self._tell(dice=forecast.score())
