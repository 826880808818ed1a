"""Runs the loop of `cryojax-seg annotate` without a page, on tomograms whose truth is known."""

import dataclasses

import numpy as np

from cryojax_seg.core import Tomogram
from cryojax_seg.core.plain import Shape
from cryojax_seg.simulate import CLASSES, WedgeImaging
from cryojax_seg.view.forecast import Forecast
from cryojax_seg.view.methods import chosen, methods_from
from cryojax_seg.view.painting import Painting
from cryojax_seg.view.predictions import Predictions
from cryojax_seg.view.session import Session
from experiments import pretrained
from experiments.benchmark_set import Case

LEAST = 0.01  # share of a scene that is membrane


@dataclasses.dataclass(frozen=True)
class Data:
    """Holds a tomogram, structure bright, and where the structure is, as far as it is known."""

    name: str
    tomogram: Tomogram
    truth: np.ndarray
    known: np.ndarray
    model: str
    structure: str


def phantom(preset: str, shape: Shape, seed: int, snr: float = 1.0) -> Data:
    """Return a scene of a preset whose membranes are annotated."""
    imaging = WedgeImaging(snr=snr * pretrained.CONTRAST**2, wedge=pretrained.WEDGE)
    for number in range(20):  # small scenes may hold no membrane
        one = pretrained.phantom(preset, shape, pretrained.VOXEL, imaging, 900 + seed, number)
        truth = one.labels == CLASSES.index("membrane")
        if truth.mean() > LEAST:
            return Data(preset, one.tomogram, truth, one.weights > 0, "membrane-fast", "membrane")
    raise ValueError(f"{preset}: no scene of shape {shape} holds membranes")


def excerpt(case: Case, shape: Shape) -> Data:
    """Return the middle of a fixed scene of membranes."""
    lower = [(have - want) // 2 for have, want in zip(case.volume.shape, shape, strict=True)]
    where = tuple(slice(a, a + want) for a, want in zip(lower, shape, strict=True))
    size = case.conditions.voxel_size
    tomogram = Tomogram(case.volume[where], (size, size, size), wedge=case.conditions.wedge)
    known = np.ones(shape, bool)
    return Data("scenes", tomogram, case.membrane[where], known, "membrane-fast", "membrane")


def microtubule() -> Data:
    """Return the real microtubule of 14 protofilaments."""
    one = pretrained.microtubule("14pf")
    truth = one.labels == CLASSES.index("microtubule")
    return Data("14pf", one.tomogram, truth, one.weights > 0, "microtubule-fast", "microtubule")


class Loop:
    """Takes annotated slices, and gives labels of all slices and what is worth annotating next.

    Args:
        data: what is annotated.
        start: what learns, as for `cryojax-seg annotate --start`.

    Attributes:
        done: the slices that are annotated, in order.
    """

    def __init__(self, data: Data, start: str):
        self.data, self.done = data, list[int]()
        self._session = Session(
            data.tomogram,
            painting=Painting(data.tomogram, (data.structure,)),
            contrast="bright",
            wedge=data.tomogram.wedge,
        )
        self._kept = Predictions()
        self._forecast = Forecast(
            self._session, methods_from(start)[start](self._session), self._kept
        )

    @property
    def painting(self) -> Painting:
        """Return what is annotated by now."""
        assert self._session.painting is not None
        return self._session.painting

    def annotate(self, z: int, labels: np.ndarray | None = None) -> None:
        """Annotate a slice, by the truth or by other labels."""
        wanted = self.data.truth[z] if labels is None else labels
        here = np.where(self.data.known[z], wanted, -1).astype(np.int8)
        slices = {**self.painting.slices(), z: here}
        self._session.painting = Painting(self.data.tomogram, (self.data.structure,), slices)
        self.done.append(z)

    def labels(self, compare: bool) -> np.ndarray:
        """Learn, and return the labels of all slices; with `compare` gains are calibrated."""
        if self.done:
            self._forecast.method.learn(chosen(self.painting), (self.data.structure,))
            if compare:
                self._forecast.score()
        self._forecast.forget()
        while (start := self._forecast.next([])) is not None:
            self._forecast.follow(start)
        planes = [self._kept.plane(0, z) for z in range(len(self.data.truth))]
        found = np.stack([plane for plane in planes if plane is not None]) == 1
        for z, own in self.painting.slices().items():
            found[z] = np.where(own >= 0, own == 1, found[z])
        return found

    def suggestion(self) -> int:
        """Return the slice that is worth most, by the labels that were computed last."""
        return self._forecast.suggestions()["items"][0]["index"]

    def dice(self, found: np.ndarray) -> float:
        """Return the Dice of labels where the truth is known."""
        a, b = found[self.data.known], self.data.truth[self.data.known]
        return float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1))
