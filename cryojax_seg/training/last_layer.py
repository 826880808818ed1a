"""Lets the last layer of a trained network learn from a few strokes, in a fraction of a second."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from cryojax_seg.core import Segmenter, hyperparameters
from cryojax_seg.core.names import label_names
from cryojax_seg.io.modules import flat_state, with_state
from cryojax_seg.training.logistic import fit_logistic
from cryojax_seg.training.vote_fitting import HeldOutVoxels

_PRIOR = 0.3  # standard deviation of a weight, for features of unit deviation
# Weight of all voxels of a slice that nobody annotated, by that of those that somebody did. People
# paint where the network is wrong, and without the rest it would learn to be wrong where it is not.
_TRUSTED = 6.0
_RARE = -3.0  # logit of a class of which the network knows nothing
_PER_LABEL = 4000  # voxels of each label that are learned from
_PER_SLICE = 1000  # voxels of a slice that nobody annotated
_FOLDS = 5
_TILE = 32  # pixels


def exposed(network: Segmenter, classes: tuple[str, ...]) -> Segmenter:
    """Return a network whose channels are the logits of these classes, then the features.

    Features are what the last layer maps to logits. Classes keep the logits of the same name, and
    those that are new have a constant one. A network of one class gives its logit to a single class
    of any name.

    Args:
        network: has one last layer, see `Segmenter.last_layers`.
        classes: names of the classes, background first if there are several.

    >>> from cryojax_seg.segmenters import ConvNet
    >>> net = ConvNet(1, 2, classes=("membrane",), rngs=nnx.Rngs(0))
    >>> volume = np.random.default_rng(0).normal(size=(4, 4, 4)).astype(np.float32)
    >>> channels = np.asarray(exposed(net, ("membrane",))(volume))
    >>> channels.shape, bool(np.allclose(channels[..., :1], net(volume), atol=1e-6))
    ((4, 4, 4, 3), True)
    """
    kernel, bias = _last_layer(network)
    width = kernel.shape[0]
    features = np.broadcast_to(np.eye(width)[:, None], (width, kernel.shape[1], width))
    head = np.concatenate([_matched(kernel, network.classes, classes, 0.0), features], -1)
    shifts = np.concatenate(
        [_matched(bias, network.classes, classes, _RARE), np.zeros((*bias.shape[:-1], width))], -1
    )
    names = (*classes, *(f"feature {number}" for number in range(width)))
    return _with_head(network, names, head, shifts)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Holds voxels of one slice, as the last layer sees them.

    Returned by `rows_of`.

    Attributes:
        channels: ``(voxel, channel)``, of the network that `exposed` returns.
        labels: ``(voxel,)``, -1 where nobody annotated.
        weights: ``(voxel,)``; some of many stand for all of them.
        places: ``(voxel, 2)``, rows and columns.
    """

    channels: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    places: np.ndarray


def rows_of(channels: np.ndarray, labels: np.ndarray, seed: int = 0) -> Rows:
    """Return at most 4000 voxels of each label of a slice, and 1000 that nobody annotated.

    Args:
        channels: ``(row, column, channel)``.
        labels: ``(row, column)``, negative where nobody annotated.
        seed: seed of their choice.

    >>> rows_of(np.zeros((8, 8, 3)), np.eye(8, dtype=int) - 1).labels.sum()
    np.int64(-56)
    """
    rng, chosen, weights = np.random.default_rng(seed), [], []
    flat = np.maximum(labels.ravel(), -1).astype(np.int64)
    for label in np.unique(flat):
        voxels = np.flatnonzero(flat == label)
        most = _PER_SLICE if label < 0 else _PER_LABEL
        some = voxels if len(voxels) <= most else rng.choice(voxels, most, replace=False)
        chosen.append(some)
        weights.append(np.full(len(some), len(voxels) / len(some)))
    index = np.concatenate(chosen)
    places = np.column_stack(np.unravel_index(index, labels.shape))
    return Rows(
        channels[places[:, 0], places[:, 1]].astype(np.float32),
        flat[index],
        np.concatenate(weights),
        places,
    )


@dataclasses.dataclass(frozen=True)
class Correction:
    """Adds to logits what was learned of the features.

    Attributes:
        kernel: ``(feature, class)``.
        bias: ``(class,)``.

    >>> Correction(np.full((2, 1), 3.0), np.ones(1))(np.array([[5.0, 1.0, 2.0]])).tolist()
    [[15.0]]
    """

    kernel: np.ndarray
    bias: np.ndarray

    def __call__(self, channels: np.ndarray) -> np.ndarray:
        """Return the logits ``(..., class)`` of the channels that an `exposed` network has."""
        count = len(self.bias)
        features = channels[..., count:].astype(np.float32)
        return channels[..., :count] + features @ self.kernel.astype(np.float32) + self.bias

    def on(self, network: Segmenter, classes: tuple[str, ...]) -> Segmenter:
        """Return the network for these classes with the correction in its last layer."""
        kernel, bias = (
            _matched(value, network.classes, classes, missing)
            for value, missing in zip(_last_layer(network), (0.0, _RARE), strict=True)
        )
        return _with_head(network, classes, kernel + self.kernel[:, None], bias + self.bias)


def fit_last_layer(rows: Sequence[Rows], classes: tuple[str, ...]) -> Correction:
    """Return the correction of the greatest posterior probability given annotated voxels.

    The network stays, and its last layer moves by a logistic regression on the features. Two things
    keep what it knew: weights have a normal prior around no change, and voxels of the same slices
    that nobody annotated have the probabilities of the network as targets (Li and Hoiem 2016,
    "Learning without forgetting"), with at most six times the weight of what is annotated. So the
    background need not be painted.

    Args:
        rows: of each annotated slice.
        classes: names of the classes, background first if there are several.

    Raises:
        ValueError: if nothing is annotated.

    >>> channels = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    >>> channels[:, 0] = -3.0  # the network knows nothing
    >>> labels = (channels[:, 1] > 0).astype(int)
    >>> rows = Rows(channels, labels, np.ones(500), np.zeros((500, 2), int))
    >>> found = fit_last_layer([rows], ("membrane",))(channels)[:, 0] > 0
    >>> bool((found == labels).mean() > 0.95)
    True
    """
    channels = np.concatenate([one.channels for one in rows])
    labels = np.concatenate([one.labels for one in rows])
    weights = np.concatenate([_weights(one) for one in rows])
    outputs, known = len(classes), labels >= 0
    if not known.any():
        raise ValueError("nothing is annotated, so nothing can be learned; paint some strokes")
    before, features = channels[:, :outputs], channels[:, outputs:]
    centre, scale = features.mean(0), features.std(0) + 1e-6
    target = np.eye(max(outputs, 2), dtype=np.float32)[np.maximum(labels, 0)][:, -outputs:]
    target = np.where(known[:, None], target, _probabilities(before))
    kernel, bias = fit_logistic((features - centre) / scale, target, weights, _PRIOR, before)
    kernel = kernel / scale[:, None]
    return Correction(kernel, bias - centre @ kernel)


def cross_validate_last_layer(
    rows: Sequence[Rows], classes: tuple[str, ...]
) -> HeldOutVoxels | None:
    """Predict annotated voxels by last layers that were fitted without their slices.

    Up to five groups of slices are left out in turn; of a single slice, each half along its columns
    that has as many voxels of the classes as the other.

    Args:
        rows, classes: as in `fit_last_layer`.

    Returns:
        the voxels; None if no group can be held out.

    >>> channels = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    >>> channels[:, 0] = -3.0
    >>> labels = (channels[:, 1] > 0).astype(int)
    >>> places = np.column_stack([np.zeros(500, int), np.arange(500)])
    >>> rows = Rows(channels, labels, np.ones(500), places)
    >>> cross_validate_last_layer([rows], ("membrane",)).dice()[0] > 0.9
    True
    """
    parts = []
    for number, (learned, held) in enumerate(_folds(rows)):
        try:
            correction = fit_last_layer(learned, classes)
        except ValueError:
            continue
        for index, one in enumerate(held):
            known = one.labels >= 0
            logits = correction(one.channels[known])
            found = logits.argmax(1) if len(classes) > 1 else (logits[:, 0] > 0).astype(int)
            tiles = one.places[known] // _TILE
            places = np.insert(tiles, 0, [[number], [index]], axis=1)
            parts.append((logits, one.labels[known], found, one.weights[known], places))
    if not parts:
        return None
    logits, labels, found, weights, places = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    if not len(labels):
        return None
    tiles = np.unique(places, axis=0, return_inverse=True)[1].ravel()
    return HeldOutVoxels(logits, labels, found, weights, tiles)


def _folds(rows: Sequence[Rows]) -> list[tuple[list[Rows], list[Rows]]]:
    if len(rows) > 1:
        groups = np.array_split(np.arange(len(rows)), min(len(rows), _FOLDS))
        return [
            ([one for i, one in enumerate(rows) if i not in group], [rows[i] for i in group])
            for group in groups
        ]
    (one,) = rows
    columns = one.places[one.labels > 0, 1]
    if not columns.size:
        return []
    left = one.places[:, 1] <= np.median(columns)
    halves = [[_some(one, side)] for side in (left, ~left)]
    return [(halves[0], halves[1]), (halves[1], halves[0])]


def _weights(rows: Rows) -> np.ndarray:
    """Return the weights of voxels, of which those that nobody annotated have a limited sum."""
    known = rows.labels >= 0
    rest = rows.weights[~known].sum()
    share = min(1.0, _TRUSTED * rows.weights[known].sum() / rest) if rest else 1.0
    return np.where(known, rows.weights, share * rows.weights)


def _some(rows: Rows, chosen: np.ndarray) -> Rows:
    return Rows(
        rows.channels[chosen], rows.labels[chosen], rows.weights[chosen], rows.places[chosen]
    )


def _probabilities(logits: np.ndarray) -> np.ndarray:
    if logits.shape[1] == 1:
        return 1 / (1 + np.exp(-logits))
    return np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))


def _last_layer(network: Segmenter) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel ``(feature, voxel of a block, class)`` and bias ``(1, voxel, class)``."""
    (layer,) = network.last_layers()
    kernel, bias = (np.asarray(value[...]) for value in layer)
    count = len(network.classes)
    return kernel.reshape(len(kernel), -1, count), bias.reshape(1, -1, count)


def _matched(
    values: np.ndarray, known: tuple[str, ...], classes: tuple[str, ...], missing: float
) -> np.ndarray:
    """Return values of the last layer ``(..., class)`` for other classes, by their names.

    A network of one class has the logit 0 for the background, and one of several the difference to
    that of the background.
    """
    if len(known) == 1:
        values = np.concatenate([np.zeros_like(values), values], -1)
    names = ("background", *label_names(known)[1:])
    if len(known) == len(classes) == 1:
        names = ("background", *classes)
    nothing = np.full_like(values[..., 0], missing)
    if len(classes) == 1:
        (name,) = classes
        found = values[..., names.index(name)] - values[..., 0] if name in names else nothing
        return found[..., None]
    return np.stack(
        [
            values[..., names.index(name)] if name in names else values[..., 0] + nothing
            for name in ("background", *label_names(classes)[1:])
        ],
        -1,
    )


def _with_head(
    network: Segmenter, classes: tuple[str, ...], kernel: np.ndarray, bias: np.ndarray
) -> Segmenter:
    """Return the network with another last layer."""
    build: Any = type(network)
    arguments = {**hyperparameters(network), "classes": classes}
    fresh = nnx.eval_shape(lambda: build(**arguments, rngs=nnx.Rngs(0)))
    values = {name: np.asarray(value) for name, value in flat_state(network).items()}
    for name, value in flat_state(fresh).items():
        if values[name].shape != value.shape:  # of the last layer, which is set below
            values[name] = np.zeros(value.shape, np.float32)
    result = with_state(fresh, values)
    (layer,) = result.last_layers()
    layer.kernel[...] = jnp.asarray(kernel.reshape(len(kernel), -1), jnp.float32)
    layer.bias[...] = jnp.asarray(bias.ravel(), jnp.float32)
    return result
