"""Provides losses based on skeletons of thin structures: clDice, surface Dice, skeleton recall.

For a membrane, a hole matters more than a voxel too many or too few at its side. These losses
therefore compare each segmentation with the skeleton of the other. ``logits`` is ``(..., z, y, x,
class)``; with several classes the background is ignored. Windows skip unannotated voxels (weight
0) and voxels beyond the volume, so a single annotated slice has a two-dimensional skeleton and the
border of the annotation creates none.
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
    """Return the array shifted by -radius to radius along an axis, padded with `fill`."""
    pads = [(radius, radius) if a == axis % x.ndim else (0, 0) for a in range(x.ndim)]
    padded = jnp.pad(x, pads, constant_values=fill)
    size = x.shape[axis]
    return [jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(2 * radius + 1)]


def _pooled(pool: Callable[..., Any], p: Soft, connectivity: int) -> Soft:
    """Apply `core.neighbourhood.erode` or `dilate` with any batch axes."""
    flat = p.reshape(-1, *p.shape[-3:])
    return jax.vmap(lambda volume: pool(volume, connectivity))(flat).reshape(p.shape)


def erode_cross(p: Soft, known: Mask) -> Soft:
    """Return the minimum over known voxels among each voxel and its six face neighbours."""
    return _pooled(neighbourhood.erode, jnp.where(known, p, 1.0), 1)


def erode_cube(p: Soft, known: Mask) -> Soft:
    """Return the minimum over the known voxels of the cube of 27 voxels."""
    return _pooled(neighbourhood.erode, jnp.where(known, p, 1.0), 3)


def dilate_cube(p: Soft, known: Mask) -> Soft:
    """Return the maximum over the known voxels of the cube of 27 voxels."""
    return _pooled(neighbourhood.dilate, jnp.where(known, p, 0.0), 3)


def soft_skeleton(
    p: Soft, known: Mask | None = None, iterations: int = 3, erode: Pool = erode_cross
) -> Soft:
    """Return the soft skeleton of a soft mask (Shit et al. 2021, algorithm 1).

    The skeleton collects what morphological openings remove from the mask and its erosions. Its
    mass depends on the parity of the thickness and on the window, so use it in losses only; score
    with `evaluate.surface_dice`.

    Args:
        p: mask with values between 0 and 1.
        known: False where nothing is annotated; None if every voxel is annotated.
        iterations: number of erosions, at least half the thickness of the structures.
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

    # A scan compiles its body once.
    start = (p, jnp.zeros_like(p))
    (_, skeleton), _ = jax.lax.scan(opened, start, length=iterations + 1)
    return jnp.where(known, skeleton, 0.0)


_DIRECTIONS = [u for u in itertools.product((-1, 0, 1), repeat=3) if u > (0, 0, 0)]


def surface_skeleton(mask: Mask, known: Mask | None = None, depth: int = 6) -> Mask:
    """Return the medial surface of a mask, in which open surfaces stay surfaces.

    It is the ridge of the exact Euclidean distance d to the background: the voxels where, along one
    of the 13 directions u to a neighbour, ``d(r+u) + d(r-u) - 2 d(r) <= -0.6 |u|``, and where d
    rises in no direction by |u| / 2 or more. Across a sheet d rises and falls with slope 1, so this
    second difference is about -2 |u| at a single middle voxel, -|u| at each of two middle voxels,
    and 0 elsewhere; the slope condition excludes the steps of a digital surface. (Thinning, as in
    `skimage.skeletonize`, shrinks an open sheet to a curve.) The function is not differentiable; it
    is meant for labels.

    Args:
        mask: mask of one class.
        known: False where nothing is annotated; such voxels do not count as background.
        depth: largest distance that is computed, voxels. Structures more than twice as thick have
            no medial surface.

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
    # A structure is assumed to continue beyond the volume and into unannotated voxels.
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
    """Return foreground probabilities, targets, weights and known masks, classes first."""
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


def _mutual_coverage_loss(
    logits: VoxelLogits,
    labels: VoxelLabels,
    weights: VoxelWeights,
    of_prediction: Pool,
    of_truth: Pool,
    smooth: float | Scalar,
) -> Scalar:
    """Return one minus the harmonic mean of the covered shares of both skeletons."""
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
    """Return one minus the centre-line Dice (Shit et al. 2021, equation 3), averaged over classes.

    The Dice is the harmonic mean of ``Tprec = (sum w S_P y + s) / (sum w S_P + s)`` and
    ``Tsens = (sum w S_Y p + s) / (sum w S_Y + s)``, where S are the soft skeletons of prediction
    and truth. It suits filaments. A class that is absent and not predicted scores 1.

    Args:
        logits: ``(..., z, y, x, class)``.
        labels, weights: ``(..., z, y, x)``; windows skip voxels of weight 0.
        iterations: see `soft_skeleton`.
        smooth: smoothing s in weighted voxels; positive.

    >>> wall = jnp.zeros((5, 5, 5), int).at[2].set(1)
    >>> sure = jnp.where(wall[..., None] > 0, 50.0, -50.0)
    >>> round(float(cl_dice(sure, wall, jnp.ones((5, 5, 5)))), 5)
    0.0
    """

    def skeleton(p: Soft, known: Mask) -> Soft:
        return soft_skeleton(p, known, iterations)

    return _mutual_coverage_loss(logits, labels, weights, skeleton, skeleton, smooth)


def surface_dice(
    logits: VoxelLogits,
    labels: VoxelLabels,
    weights: VoxelWeights,
    iterations: int = 5,
    smooth: float | Scalar = 1.0,
) -> Scalar:
    """Return one minus the surface Dice for membranes, averaged over the classes.

    It is `cl_dice` with surfaces instead of curves: the soft skeleton of the prediction uses cubic
    erosion, and that of the truth is its `surface_skeleton`, in which open membranes stay surfaces
    (after Lamm et al. 2024, MemBrain v2, who smooth and thin the labels).

    Args:
        logits, labels, weights, iterations, smooth: as in `cl_dice`.

    >>> wall = jnp.zeros((7, 7, 7), int).at[2:5].set(1)
    >>> thin = jnp.where(jnp.zeros((7, 7, 7)).at[3].set(1)[..., None] > 0, 50.0, -50.0)
    >>> round(float(surface_dice(thin, wall, jnp.ones((7, 7, 7)))), 5)    # thinner, but complete
    0.0
    """

    def skeleton(p: Soft, known: Mask) -> Soft:
        return soft_skeleton(p, known, iterations, erode_cube)

    def middle(truth: Soft, known: Mask) -> Soft:
        return surface_skeleton(truth > 0, known).astype(truth.dtype)

    return _mutual_coverage_loss(logits, labels, weights, skeleton, middle, smooth)


def skeleton_recall(
    logits: VoxelLogits,
    labels: VoxelLabels,
    weights: VoxelWeights,
    dilation: int = 0,
    smooth: float | Scalar = 1.0,
) -> Scalar:
    """Return one minus the recall of the true skeleton, averaged over the classes.

    The loss is ``1 - (sum w S p + s) / (sum w S + s)`` with the `surface_skeleton` S of the truth,
    thickened within the mask (Kirchhoff et al. 2024, equation 3, with surfaces). It rewards only
    completeness, so add it to a loss that rewards precision. It is the cheapest of these losses,
    because the prediction needs no skeleton.

    Args:
        logits, labels, weights, smooth: as in `cl_dice`.
        dilation: voxels by which the skeleton is thickened (2 in the paper, for thin tubes; a
            skeleton as thick as the membrane gives the plain recall).

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
