"""Losses that follow the middle of thin structures: soft skeletons, clDice, skeleton recall.

A voxel too much or too little on the side of a membrane is nothing, a hole is everything: these
losses compare one segmentation with the skeleton of the other. ``logits`` is ``(..., z, y, x,
class)``; the background of several classes has no skeleton and is left out. An unannotated voxel
(weight 0), like one beyond the volume, is neither inside nor outside: windows skip it, so a lone
annotated slice has the skeleton of its two dimensions and the border of the annotation makes none.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from cryojax_seg.core import neighbourhood
from cryojax_seg.core.loss import VoxelLabels, VoxelLogits, VoxelWeights, annotated
from cryojax_seg.core.types import Array, Scalar

Soft = Float[Array, "*batch z y x"]
Mask = Bool[Array, "*batch z y x"]
Pool = Callable[[Soft, Mask], Soft]


def _window(x: Array, axis: int, fill: float | bool, radius: int = 1) -> list[Array]:
    """The array shifted by -radius to radius along an axis, `fill` coming in."""
    pads = [(radius, radius) if a == axis % x.ndim else (0, 0) for a in range(x.ndim)]
    padded = jnp.pad(x, pads, constant_values=fill)
    size = x.shape[axis]
    return [jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(2 * radius + 1)]


def _pooled(pool: Callable[..., Any], p: Soft, connectivity: int) -> Soft:
    """`core.neighbourhood.erode` or `dilate` with any batch axes."""
    flat = p.reshape(-1, *p.shape[-3:])
    return jax.vmap(lambda volume: pool(volume, connectivity))(flat).reshape(p.shape)


def erode_cross(p: Soft, known: Mask) -> Soft:
    """Minimum over the six face neighbours, of values between 0 and 1; unknown voxels skipped."""
    return _pooled(neighbourhood.erode, jnp.where(known, p, 1.0), 1)


def erode_cube(p: Soft, known: Mask) -> Soft:
    """Minimum over the cube of 27 voxels."""
    return _pooled(neighbourhood.erode, jnp.where(known, p, 1.0), 3)


def dilate_cube(p: Soft, known: Mask) -> Soft:
    """Maximum over the cube of 27 voxels."""
    return _pooled(neighbourhood.dilate, jnp.where(known, p, 0.0), 3)


def soft_skeleton(
    p: Soft, known: Mask | None = None, iterations: int = 3, erode: Pool = erode_cross
) -> Soft:
    """What openings remove from a soft mask, and from its erosions (Shit et al. 2021, algorithm 1).

    Its mass depends on the parity of the thickness and on the window: use it as a loss, and score
    with `evaluate.surface_dice`.

    Args:
        p: between 0 and 1.
        known: False where nothing is annotated; None for all known.
        iterations: erosions; at least half the thickness of the structures.
        erode: `erode_cross` gives curves and sheets, `erode_cube` sheets.

    >>> wall = jnp.zeros((5, 5, 5)).at[1:4].set(1.0)
    >>> soft_skeleton(wall)[:, 2, 2].tolist()
    [0.0, 0.0, 1.0, 0.0, 0.0]
    """
    known = jnp.ones(p.shape, bool) if known is None else known

    def opened(state: tuple[Soft, Soft], _: None) -> tuple[tuple[Soft, Soft], None]:
        p, skeleton = state
        eroded = erode(p, known)
        new = jax.nn.relu(p - dilate_cube(eroded, known))
        return (eroded, skeleton + jax.nn.relu(new - skeleton * new)), None

    # A loop, so that its body compiles once.
    start = (p, jnp.zeros_like(p))
    (_, skeleton), _ = jax.lax.scan(opened, start, length=iterations + 1)
    return jnp.where(known, skeleton, 0.0)


_DIRECTIONS = [u for u in itertools.product((-1, 0, 1), repeat=3) if u > (0, 0, 0)]


def surface_skeleton(mask: Mask, known: Mask | None = None, depth: int = 6) -> Mask:
    """The middle of true structures: surfaces stay surfaces, open ones too.

    The ridge of the exact Euclidean distance d to the background: voxels where, along one of the
    13 directions u to a neighbour, d bends down by ``d(r+u) + d(r-u) - 2 d(r) <= -0.6 |u|``, and
    from where it rises nowhere by |u| / 2 or more. Across a sheet d rises and falls with slope 1,
    so the bend is about 2 |u| at its middle voxel, about |u| at its two middle voxels, and 0
    elsewhere; the slope tells the middle from the steps of a digital surface. (Thinning, as in
    `skimage.skeletonize`, shrinks an open sheet to a curve.) Not differentiable: for labels.

    Args:
        mask: labels of one class.
        known: False where nothing is annotated; such voxels are not background.
        depth: largest distance that is told apart, voxels: the middle of a structure more than
            twice as thick is left out.

    >>> wall = jnp.zeros((7, 7, 7), bool).at[2:5].set(True)
    >>> surface_skeleton(wall)[:, 3, 3].tolist()
    [False, False, False, True, False, False, False]
    """
    known = jnp.ones(mask.shape, bool) if known is None else known
    far = float((depth + 1) ** 2)
    square = jnp.where(known & ~mask, 0.0, far)
    steps = np.arange(-depth, depth + 1, dtype=np.float32) ** 2
    for axis in (-3, -2, -1):  # Felzenszwalb & Huttenlocher 2012, section 3, within `depth`
        shifted = _window(square, axis, far, depth)
        square = functools.reduce(
            jnp.minimum, [s + float(c) for s, c in zip(shifted, steps, strict=True)]
        )
    distance = jnp.sqrt(jnp.minimum(square, far))
    # Beyond the volume and where nothing is known a structure goes on as it is.
    usable = jnp.where(known, distance, jnp.nan)
    ridge, slope = jnp.zeros(mask.shape, bool), jnp.zeros_like(distance)
    for u in _DIRECTIONS:
        length = math.sqrt(sum(i * i for i in u))
        before, after = _shifted(usable, u), _shifted(usable, tuple(-i for i in u))
        ridge = ridge | (before + after - 2 * distance <= -0.6 * length)  # False for NaN
        slope = jnp.fmax(slope, (jnp.fmax(before, after) - distance) / length)
    return ridge & (slope < 0.5) & mask & known & (square < far)


def _shifted(x: Array, offset: tuple[int, ...]) -> Array:
    for axis, step in zip((-3, -2, -1), offset, strict=True):
        if step:
            x = _window(x, axis, jnp.nan)[1 + step]
    return x


def _foreground(
    logits: VoxelLogits, labels: VoxelLabels, weights: VoxelWeights
) -> tuple[Array, Array, Array, Array]:
    """Of the foreground, each ``(class, ..., z, y, x)``: probability, target, weight and known."""
    known = weights > 0
    logits, target, weights = annotated(logits, labels, weights)
    if logits.shape[-1] == 1:
        p = jax.nn.sigmoid(logits)
    else:
        p, target = jax.nn.softmax(logits, axis=-1)[..., 1:], target[..., 1:]
    p, target = jnp.moveaxis(p, -1, 0), jnp.moveaxis(target, -1, 0)
    return p, target, jnp.broadcast_to(weights, p.shape), jnp.broadcast_to(known, p.shape)


def _total(x: Array) -> Float[Array, " class"]:
    return x.sum(tuple(range(1, x.ndim)))


def _share(part: Array, whole: Array, smooth: float | Scalar) -> Float[Array, " class"]:
    return (_total(part) + smooth) / (_total(whole) + smooth)


def _both_ways(
    logits: VoxelLogits,
    labels: VoxelLabels,
    weights: VoxelWeights,
    of_prediction: Pool,
    of_truth: Pool,
    smooth: float | Scalar,
) -> Scalar:
    """One minus the harmonic mean of how much of each skeleton the other mask covers."""
    p, truth, weight, known = _foreground(logits, labels, weights)
    predicted = weight * of_prediction(p, known)
    true = weight * of_truth(truth, known)
    precision = _share(predicted * truth, predicted, smooth)
    recall = _share(true * p, true, smooth)
    return (1 - 2 * precision * recall / (precision + recall)).mean()


def cl_dice(
    logits: VoxelLogits,
    labels: VoxelLabels,
    weights: VoxelWeights,
    iterations: int = 3,
    smooth: float | Scalar = 1.0,
) -> Scalar:
    """One minus the centre-line Dice (Shit et al. 2021, equation 3), averaged over the classes.

    ``Tprec = (sum w S_P y + s) / (sum w S_P + s)``, ``Tsens = (sum w S_Y p + s) / (sum w S_Y + s)``
    with the soft skeletons of prediction and truth; their harmonic mean. For filaments. A class
    that is neither there nor predicted is perfect.

    Args:
        logits: ``(..., z, y, x, class)``.
        labels, weights: as for every loss; windows skip voxels of weight 0.
        iterations: see `soft_skeleton`.
        smooth: in weighted voxels; positive.

    >>> wall = jnp.zeros((5, 5, 5), int).at[2].set(1)
    >>> sure = jnp.where(wall[..., None] > 0, 50.0, -50.0)
    >>> round(float(cl_dice(sure, wall, jnp.ones((5, 5, 5)))), 5)
    0.0
    """

    def skeleton(p: Soft, known: Mask) -> Soft:
        return soft_skeleton(p, known, iterations)

    return _both_ways(logits, labels, weights, skeleton, skeleton, smooth)


def surface_dice(
    logits: VoxelLogits,
    labels: VoxelLabels,
    weights: VoxelWeights,
    iterations: int = 5,
    smooth: float | Scalar = 1.0,
) -> Scalar:
    """One minus the surface Dice in the form made for membranes, averaged over the classes.

    As `cl_dice`, with surfaces for curves: the prediction's soft skeleton by cubic erosion, and
    the true `surface_skeleton`, in which open membranes stay surfaces (after Lamm et al. 2024,
    MemBrain v2, who smooth and thin the labels).

    Args: as `cl_dice`.

    >>> wall = jnp.zeros((7, 7, 7), int).at[2:5].set(1)
    >>> thin = jnp.where(jnp.zeros((7, 7, 7)).at[3].set(1)[..., None] > 0, 50.0, -50.0)
    >>> round(float(surface_dice(thin, wall, jnp.ones((7, 7, 7)))), 5)    # thinner, but complete
    0.0
    """

    def skeleton(p: Soft, known: Mask) -> Soft:
        return soft_skeleton(p, known, iterations, erode_cube)

    def middle(truth: Soft, known: Mask) -> Soft:
        return surface_skeleton(truth > 0, known).astype(truth.dtype)

    return _both_ways(logits, labels, weights, skeleton, middle, smooth)


def skeleton_recall(
    logits: VoxelLogits,
    labels: VoxelLabels,
    weights: VoxelWeights,
    dilation: int = 0,
    smooth: float | Scalar = 1.0,
) -> Scalar:
    """One minus the recall of the true skeleton, averaged over the classes.

    ``1 - (sum w S p + s) / (sum w S + s)`` with the `surface_skeleton` S of the truth, thickened
    within it (Kirchhoff et al. 2024, equation 3, with surfaces). Asks for completeness only: add
    it to a loss that asks for precision. The prediction needs no skeleton, so it is the cheapest.

    Args:
        logits, labels, weights, smooth: as in `cl_dice`.
        dilation: voxels by which the skeleton is thickened (2 in the paper, for thin tubes; a
            skeleton as thick as the membrane would only count its voxels).

    >>> wall = jnp.zeros((5, 5, 5), int).at[2].set(1)
    >>> everything = jnp.full((5, 5, 5, 1), 50.0)
    >>> float(skeleton_recall(everything, wall, jnp.ones((5, 5, 5))))
    0.0
    """
    p, truth, weight, known = _foreground(logits, labels, weights)
    skeleton = surface_skeleton(truth > 0, known).astype(weight.dtype)
    for _ in range(dilation):
        skeleton = dilate_cube(skeleton, known) * truth
    skeleton = weight * skeleton
    return (_total(skeleton * (1 - p)) / (_total(skeleton) + smooth)).mean()
