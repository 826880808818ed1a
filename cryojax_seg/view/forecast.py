"""Predicts a tomogram by one method while somebody paints, and says what is worth annotating."""

from typing import Any

import numpy as np

from cryojax_seg.view.following import Following
from cryojax_seg.view.methods import Method
from cryojax_seg.view.painting import Plane
from cryojax_seg.view.predictions import Predictions, predictable_axes
from cryojax_seg.view.session import Message, Session
from cryojax_seg.view.suggestions import calibration_of


class Forecast:
    """Predicts the slices of a session that are looked at, and then the whole volume by slabs.

    Args:
        session: whose tomogram is predicted.
        method: what has learned.
        predictions: take the labels.

    Attributes:
        method: as given.

    >>> from cryojax_seg.core import Tomogram
    >>> from cryojax_seg.view.methods import VoteMethod
    >>> from cryojax_seg.view.painting import Painting
    >>> noise = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    >>> tomogram = Tomogram(noise, voxel_size=(10.0, 10.0, 10.0))
    >>> session = Session(tomogram, painting=Painting(tomogram, ("membrane",)))
    >>> forecast = Forecast(session, VoteMethod(session), Predictions())
    >>> forecast.missing([(0, 2)])  # nothing is learned, so nothing can be predicted
    []
    """

    def __init__(self, session: Session, method: Method, predictions: Predictions):
        self._session, self.method, self._predictions = session, method, predictions
        self._axes = predictable_axes(session.tomogram.density)
        self._calibration: Any = None
        self.forget()

    def forget(self) -> None:
        """Count as missing all that was predicted by what was learned before."""
        segmenter, size = self.method.segmenter, self._session.tomogram.require_voxel_size()
        self._following = Following(
            self._predictions,
            self._session.shape,
            tuple(v / 10 for v in size),
            1 if segmenter is None else segmenter.stride,
        )

    def missing(self, looked: list[Plane]) -> list[Plane]:
        """Return those of some slices that have no prediction and can have one."""
        return [p for p in self.predictable(looked) if p not in self._predictions]

    def predictable(self, looked: list[Plane]) -> list[Plane]:
        """Return those of some slices that can be predicted."""
        return [] if self.method.segmenter is None else [p for p in looked if p[0] in self._axes]

    def predict(self, plane: Plane) -> None:
        """Predict a slice."""
        from cryojax_seg.core import labels

        logits = self.method.logits(plane)
        self._predictions.put(plane, np.asarray(labels(logits[None]))[0].astype(np.uint8))

    def keep_only(self, planes: list[Plane]) -> None:
        """Forget the predictions of all slices but these."""
        self._predictions.keep_only(set(planes))

    def next(self, looked: list[Plane]) -> int | None:
        """Return the first slice of the slab that is predicted next; None at the end."""
        middle = next((index for axis, index in looked if axis == 0), 0)
        return None if self.method.segmenter is None else self._following.next(middle)

    def follow(self, start: int) -> list[int]:
        """Predict a slab, and return its slices."""
        return self._following.follow(
            self.method.segmenter,
            self._session.volume(),
            start,
            self._calibration,
            self._session.wedge,
        )

    def candidate(self) -> int | None:
        """Return a slab that `suggestions` needs; None if it needs no more."""
        return self._following.candidate()

    def suggestions(self) -> Message:
        """Return what a page shows of the slices and boxes that are worth most to annotate."""
        painting = self._session.painting
        assert painting is not None
        return {
            "type": "suggestions",
            "items": self._following.slices(painting.annotated()),
            "boxes": self._following.boxes(painting.slices()),
        }

    def score(self) -> str:
        """Calibrate on annotation that was held out, and return the Dice on it in words."""
        held = self.method.held_out()
        self._calibration = calibration_of(held)
        found = None if held is None else held.dice()
        if found is None:
            return "There is too little annotation for a score"
        value, interval = found
        limits = "" if interval is None else f" ({interval[0]:.2f} to {interval[1]:.2f})"
        return f"Dice {value:.2f}{limits} on held-out annotation"
