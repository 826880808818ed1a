"""Names the ways to learn from strokes within a moment."""

import abc
import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np

from cryojax_seg.view.painting import UNKNOWN, Painting, Plane
from cryojax_seg.view.planes import as_plane, as_slab, box_of, plane_shape
from cryojax_seg.view.predictions import logits_of_slice

if TYPE_CHECKING:  # the page is there before JAX is loaded
    from cryojax_seg.core import Segmenter
    from cryojax_seg.io import ModelCard
    from cryojax_seg.training import Correction, Example, HeldOutVoxels, Rows
    from cryojax_seg.view.session import Session

AROUND = 3  # slices on each side of an annotated one that the vote sees
_SLICES = 24  # annotated slices that are learned from at a time
_BYTES = 2**28  # of features that are kept


@dataclasses.dataclass(frozen=True)
class Painted:
    """Holds what is painted on a slice.

    Attributes:
        plane: axis and index of the slice.
        labels: int8 ``(row, column)``, negative where nobody annotated.
    """

    plane: Plane
    labels: np.ndarray


def chosen(painting: Painting, order: Iterable[Plane] = ()) -> list[Painted]:
    """Return the slices to learn from: those painted last, and some from all over.

    Args:
        painting: the labels.
        order: slices in the order in which they were painted.

    >>> from cryojax_seg.core import Tomogram
    >>> tomogram = Tomogram(np.zeros((4, 5, 6), np.float32), voxel_size=(10.0, 10.0, 10.0))
    >>> painting = Painting(tomogram)
    >>> painting.stroke((2, 3), [[2, 0], [2, 1]], 0.1, 1)
    True
    >>> [one.plane for one in chosen(painting)], [one.plane for one in chosen(painting, [(2, 3)])]
    ([(0, 0), (0, 1)], [(2, 3)])
    """
    known = [plane for plane in order if (painting.plane(plane) >= 0).any()]
    last = known[::-1][: _SLICES // 2]
    # What lies on two slices counts once, and strokes across the sections as those of one slice.
    rows, columns = ([index for axis, index in last if axis == a] for a in (1, 2))

    def alone(plane: Plane) -> np.ndarray:
        labels = painting.plane(plane).copy()
        if plane[0] != 1:
            labels[rows] = UNKNOWN
        if plane[0] == 0:
            labels[:, columns] = UNKNOWN
        return labels

    others = [
        (0, z) for z in painting.annotated() if (0, z) not in last and (alone((0, z)) >= 0).any()
    ]
    step = max(1, -(-len(others) // (_SLICES - len(last))))
    return [Painted(plane, alone(plane)) for plane in sorted([*last, *others[::step]])]


class Method(abc.ABC):
    """Learns from a few slices, within a moment.

    Attributes:
        segmenter: what was learned, for the tomogram of the session; None before.
    """

    segmenter: Any

    @abc.abstractmethod
    def learn(self, painted: Sequence[Painted], classes: tuple[str, ...]) -> str:
        """Learn, and return in a few words what was done.

        Raises:
            ValueError: if nothing can be learned from these yet; it says what is needed.
        """

    @abc.abstractmethod
    def logits(self, plane: Plane) -> np.ndarray:
        """Return the logits ``(row, column, class)`` of a slice by what was learned."""

    @abc.abstractmethod
    def held_out(self) -> "HeldOutVoxels | None":
        """Return annotated voxels as the method predicts them without having seen them."""

    @abc.abstractmethod
    def model(self) -> "tuple[Segmenter, ModelCard]":
        """Return what was learned as a model, with what its card tells of inference."""


Methods = Mapping[str, "Callable[[Session], Method]"]


@final
class VoteMethod(Method):
    """Fits a linear vote anew after each stroke, see `training.fit_vote`."""

    def __init__(self, session: "Session"):
        from cryojax_seg.segmenters import LinearVote

        self.segmenter: Any = None
        self._session = session
        self._slabs: dict[Plane, tuple[int, np.ndarray, np.ndarray]] = {}
        self._examples: list[Example] = []
        # Compiled before it is needed; the parameters do not matter.
        logits_of_slice(LinearVote(AROUND, classes=session.classes), session.volume(), (0, 0))

    def learn(self, painted: Sequence[Painted], classes: tuple[str, ...]) -> str:
        from cryojax_seg.training import fit_vote

        self._examples = self._cut(painted)
        if not self._examples:
            raise ValueError("Paint some strokes of a class, and of background")
        self.segmenter = fit_vote(self._examples, classes, AROUND, self.segmenter)
        count = sum(int((example.weights > 0).sum()) for example in self._examples)
        return f"The vote learned from {count} voxels"

    def logits(self, plane: Plane) -> np.ndarray:
        return logits_of_slice(self.segmenter, self._session.volume(), plane)

    def held_out(self) -> "HeldOutVoxels | None":
        from cryojax_seg.training import cross_validate_vote

        return cross_validate_vote(self._examples, self.segmenter.classes, AROUND)

    def model(self) -> "tuple[Segmenter, ModelCard]":
        from cryojax_seg.io import ModelCard

        tomogram = self._session.tomogram
        return self.segmenter, ModelCard(
            voxel_size=tomogram.voxel_size,
            contrast=self._session.contrast,
            provenance={"method": "vote"},
        )

    def _cut(self, painted: Sequence[Painted]) -> "list[Example]":
        """Return one example for each annotated slice, with the slices around it."""
        from cryojax_seg.training import Example

        volume, found = self._session.volume(), []
        for plane in self._slabs.keys() - {one.plane for one in painted}:
            del self._slabs[plane]
        for one in painted:
            axis, index = one.plane
            if one.plane not in self._slabs:
                first = max(index - AROUND, 0)
                where = [slice(None)] * 3
                where[axis] = slice(first, min(index + AROUND + 1, volume.shape[axis]))
                block = volume[tuple(where)]
                self._slabs[one.plane] = first, block, volume.missing(tuple(where))
            first, block, missing = self._slabs[one.plane]
            here = (slice(None),) * axis + (slice(index - first, index - first + 1),)
            labels = as_slab(one.labels, axis)
            known = (labels >= 0) & ~missing[here]
            if known.any():
                values = np.zeros(block.shape, np.int32)
                weights = np.zeros(block.shape, np.float32)
                values[here], weights[here] = np.where(known, labels, 0), known
                found.append(Example(block, values, weights, name=f"slice {index}"))
        return found


@final
class LastLayerMethod(Method):
    """Lets the last layer of a trained network learn, see `training.fit_last_layer`.

    The network runs once for each slice that is painted on or looked at; a stroke then costs the
    regression alone.

    Args:
        session: in which labels are painted.
        name: of a built-in model, or a model folder.

    Raises:
        FileError: if there is no such model, or it is for other voxels.
        ParameterError: if the model is no network with a single last layer.
    """

    def __init__(self, session: "Session", name: str):
        from cryojax_seg import inference

        self._session, self.name = session, name
        self._model = inference.load(name)
        self._network, self._onto = inference.fitted_to(
            self._model, session.tomogram, session.volume()
        )
        self._classes: tuple[str, ...] = ()
        self._exposed: Any = None
        self._correction: Correction | None = None
        self._channels: collections.OrderedDict[Plane, np.ndarray] = collections.OrderedDict()
        self._rows: dict[Plane, tuple[np.ndarray, Rows | None]] = {}
        self._prepare(session.classes)

    def learn(self, painted: Sequence[Painted], classes: tuple[str, ...]) -> str:
        from cryojax_seg.training import fit_last_layer

        self._prepare(classes)
        for plane in self._rows.keys() - {one.plane for one in painted}:
            del self._rows[plane]
        for one in painted:
            known = self._rows.get(one.plane)
            if known is None or not np.array_equal(known[0], one.labels):
                self._rows[one.plane] = one.labels, self._rows_of(one)
        rows = self._known()
        if not rows:
            self._correct(None)
            return f"{self.name} predicts as it was trained"
        self._correct(fit_last_layer(rows, classes))
        count = sum(round(float(one.weights[one.labels >= 0].sum())) for one in rows)
        return f"The last layer of {self.name} learned from {count} voxels"

    def logits(self, plane: Plane) -> np.ndarray:
        channels = self._channels_of(plane)
        count = len(self._classes)
        return channels[..., :count] if self._correction is None else self._correction(channels)

    def held_out(self) -> "HeldOutVoxels | None":
        from cryojax_seg.training import cross_validate_last_layer

        rows = self._known()
        return cross_validate_last_layer(rows, self._classes) if rows else None

    def model(self) -> "tuple[Segmenter, ModelCard]":
        card = self._model.card
        kept = {k: v for k, v in card.provenance.items() if k in ("method", "licence", "data")}
        return self._learned, dataclasses.replace(
            card,
            temperature=None,
            shifts=None,
            thresholds=None,
            provenance={**kept, "start": self.name},
        )

    def _prepare(self, classes: tuple[str, ...]) -> None:
        """Build the network for these classes, if they are others than before."""
        from cryojax_seg.training import exposed

        if classes != self._classes:
            self._exposed = self._onto(exposed(self._network, classes))
            self._classes = classes
            self._channels.clear()
            self._rows.clear()
            self._correct(None)

    def _correct(self, correction: "Correction | None") -> None:
        from cryojax_seg.training import Correction

        count = len(self._classes)
        width = self._network.last_layers()[0].kernel.shape[0]
        none = Correction(np.zeros((width, count)), np.zeros(count))
        self._correction = correction
        self._learned = (correction or none).on(self._network, self._classes)
        self.segmenter = self._onto(self._learned)

    def _known(self) -> "list[Rows]":
        return [rows for _, rows in self._rows.values() if rows is not None]

    def _rows_of(self, painted: Painted) -> "Rows | None":
        """Return what the last layer learns from a slice; None if nothing is annotated there."""
        from cryojax_seg.training import rows_of

        volume, (axis, index) = self._session.volume(), painted.plane
        rows, columns = plane_shape(volume.shape, axis)
        box = box_of(axis, index, slice(0, rows), slice(0, columns))
        missing = as_plane(volume.missing(box), axis)
        labels = np.where(missing, -1, painted.labels)
        if not (labels >= 0).any():
            return None
        return rows_of(self._channels_of(painted.plane), labels)

    def _channels_of(self, plane: Plane) -> np.ndarray:
        if plane in self._channels:
            self._channels.move_to_end(plane)
        else:
            found = logits_of_slice(self._exposed, self._session.volume(), plane)
            self._channels[plane] = found.astype(np.float16)
            while sum(c.nbytes for c in self._channels.values()) > _BYTES and (
                len(self._channels) > 1
            ):
                self._channels.popitem(last=False)
        return self._channels[plane].astype(np.float32)


def methods_from(start: str) -> Methods:
    """Return the ways to learn by name, the one to start with first.

    Args:
        start: "vote", the name of a built-in model, with or without its size, or a model folder.

    Raises:
        FileError: if there is no such model.

    >>> list(methods_from("membrane"))
    ['membrane-fast', 'vote', 'cell-fast', 'microtubule-fast']
    """
    from cryojax_seg.inference import built_in_models, built_in_name, model_folder

    def last_layer(name: str) -> "Callable[[Session], Method]":
        return lambda session: LastLayerMethod(session, name)

    known: dict[str, Callable[[Session], Method]] = {"vote": VoteMethod}
    known |= {name: last_layer(name) for name in built_in_models()}
    first = start if start in known else built_in_name(start)
    if first is None:
        model_folder(start)  # which says what is wrong with it
        first = str(start)
        known[first] = last_layer(first)
    return {first: known.pop(first), **known}
