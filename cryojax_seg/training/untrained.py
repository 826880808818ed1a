"""Fits methods to a tomogram without annotation, for a first look at it.

Each method looks for membranes, or for all that is dense, at scales that follow from the thickness
of a membrane and the voxel size. What it measures on the tomogram itself is how strong its response
is there: Otsu's method (1979) divides the responses into two classes.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from cryojax_seg.core import Chain, Segmenter, measured_box
from cryojax_seg.core.blocks import Readable, random_starts, read
from cryojax_seg.core.types import Array, Scalar, Volume
from cryojax_seg.restore import Gaussian
from cryojax_seg.segmenters import GlobalThreshold, SheetFilter, TensorVoting
from cryojax_seg.segmenters.ridge import hessian
from cryojax_seg.training.methods import Untrained

THICKNESS = 40.0  # angstrom, of a membrane
_FINEST = 0.7  # voxels; a narrower Gaussian is hardly sampled
_LEAST = 1e-3  # curvature, where most of the volume is flat
_CORE, _PATCHES = 48, 4  # voxels, and number of patches on which the responses are measured


def first_look(method: Untrained, volume: Readable | Array, voxel_size: float) -> Segmenter:
    """Return a segmenter of this method, fitted to a tomogram without annotation.

    - ``"threshold"``: the density, smoothed by a Gaussian of half the thickness of a membrane, is
      above a threshold.
    - ``"sheet"``: `SheetFilter` at half the thickness. The curvature that counts as contrast is
      the median over the tomogram, since most of it is background.
    - ``"tensor-voting"``: `TensorVoting`, whose votes reach over two thicknesses; its sheets are
      smoothed less, since the votes average too.

    Otsu's threshold of the responses on random patches becomes the threshold, and their standard
    deviation the softness.

    Args:
        method: name of the method.
        volume: ``(z, y, x)``, normalized, structure bright; `core.Normalized` will do.
        voxel_size: in angstrom.

    Raises:
        ValueError: if the response is the same everywhere.

    >>> noise = np.random.default_rng(0).normal(size=(24, 24, 24)).astype(np.float32)
    >>> noise[10:14] += 4.0  # a membrane, 4 voxels thick
    >>> found = first_look("threshold", noise, 10.0)(noise)[..., 0] > 0
    >>> bool(found[11:13, 4:-4, 4:-4].all()), float(found[18:].mean()) < 0.05
    (True, True)
    """
    scale, contrast = THICKNESS / 2 / voxel_size, 1.0
    if method != "threshold":
        width = max(scale if method == "sheet" else scale / 2, _FINEST)
        at, radius = jnp.float32(width), math.ceil(4 * width)
        curvatures = _on_patches(volume, radius, lambda block: _curvature(block, at, radius))
        contrast = max(float(np.median(curvatures)), _LEAST)
    from skimage import filters  # slow to load, and only needed here

    probe = unfitted(method, scale, contrast)
    responses = _on_patches(volume, probe.halo, lambda block: _logits(probe, block))
    if responses.min() == responses.max():
        raise ValueError(f"{method} finds the same everywhere, so nothing stands out")
    threshold, deviation = float(filters.threshold_otsu(responses)), float(responses.std())
    return unfitted(method, scale, contrast, threshold, deviation)


def unfitted(
    method: Untrained,
    scale: float = 2.0,
    contrast: float = 1.0,
    threshold: float = 0.0,
    softness: float = 1.0,
) -> Segmenter:
    """Return the segmenter of a method for a first look.

    Args:
        method: name of the method.
        scale: half the thickness of a membrane in voxels.
        contrast: curvature that counts as contrast.
        threshold: response at which the probability is 1/2.
        softness: response over which the probability turns from 1/2 to 0.73.

    >>> unfitted("sheet").classes, unfitted("threshold").classes
    (('membrane',), ('foreground',))
    """
    scale, half = max(scale, _FINEST), max(scale / 2, _FINEST)
    match method:
        case "threshold":
            return Chain([Gaussian(scale), GlobalThreshold(threshold, softness)])
        case "sheet":
            return SheetFilter(
                (scale,),
                gamma=contrast,
                threshold=threshold,
                softness=softness,
                classes=("membrane",),
            )
        case "tensor-voting":
            return TensorVoting(
                half,
                2 * scale,
                gamma=2 * contrast,
                threshold=threshold,
                softness=softness,
                classes=("membrane",),
            )


@jax.jit
def _logits(segmenter: Segmenter, block: Volume) -> Volume:
    return segmenter(block)[..., 0]


@functools.partial(jax.jit, static_argnames="radius")
def _curvature(block: Volume, scale: Scalar, radius: int) -> Volume:
    """Return the Frobenius norm of the Hessian."""
    components = jnp.stack(hessian(block, scale, radius))
    return jnp.sqrt(jnp.tensordot(jnp.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0]), components**2, 1))


def _on_patches(
    volume: Readable | Array, halo: int, function: Callable[[np.ndarray], Volume]
) -> np.ndarray:
    """Return the values of a function that looks `halo` voxels far, on random patches."""
    box = measured_box(volume)
    edges = [min(_CORE, s.stop - s.start) for s in box]
    inner = tuple(slice(halo, halo + n) for n in edges)
    values = []
    for start in random_starts(box, edges, _PATCHES, distinct=True):
        ends = [a - halo for a in start], [a + n + halo for a, n in zip(start, edges, strict=True)]
        values.append(np.asarray(function(read(volume, *ends)))[inner].ravel())
    return np.concatenate(values)
