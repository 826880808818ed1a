"""Fits a trained network to one tomogram, as segmenting does, so that it can learn on."""

from collections.abc import Callable

import numpy as np

from cryojax_seg.core import Normalized, Segmenter, Tomogram, fit_rescaled, label_names
from cryojax_seg.errors import ParameterError
from cryojax_seg.inference.contrast import probes
from cryojax_seg.inference.model import Model
from cryojax_seg.inference.thresholds import patches_of, thresholds_for
from cryojax_seg.inference.voxels import factor_for
from cryojax_seg.segmenters import Recalibration, Truncated, fit_normalization

OnGrid = Callable[[Segmenter], Segmenter]


def fitted_to(model: Model, tomogram: Tomogram, volume: Normalized) -> tuple[Segmenter, OnGrid]:
    """Return the network of a model for a tomogram, and what brings such a network onto its grid.

    The network has the normalisation statistics of this tomogram, and its thresholds are folded
    into its last layer, so that its labels are those of a probability above 0.5.

    Args:
        model: a network, see `load`.
        tomogram: the tomogram.
        volume: the same, normalized.

    Returns:
        the network, and a function that resamples and truncates a network of the same kind.

    Raises:
        FileError: if the voxels are more than twofold off those that the model knows.
        ParameterError: if the model is no network with a single last layer.

    >>> from cryojax_seg.core import measure_intensity
    >>> from cryojax_seg.inference import load
    >>> noise = np.random.default_rng(0).normal(size=(16, 32, 32)).astype(np.float32)
    >>> tomogram = Tomogram(noise, (14.0, 14.0, 14.0))
    >>> volume = Normalized(noise, measure_intensity(noise, "dark"))
    >>> network, onto = fitted_to(load("membrane-fast"), tomogram, volume)
    >>> network.norm, type(onto(network)).__name__
    ('frozen', 'Rescaled')
    """
    segmenter, card = model.segmenter, model.card
    if len(segmenter.last_layers()) != 1:
        raise ParameterError(
            f"{model.name}: a {type(segmenter).__name__} has no single last layer that could learn "
            "from strokes; choose a built-in model, or train a unet-fast",
            "start",
        )
    factor = factor_for(tomogram, card)
    rescaled = None if factor is None else fit_rescaled(segmenter, volume, factor)
    seen = volume if rescaled is None else rescaled.view(volume)
    patch = card.patch or 64
    fitted = fit_normalization(segmenter, seen, patch=patch)
    thresholds = card.thresholds or ()
    if card.provenance.get("built_in"):
        blocks = probes(seen, patch, segmenter.stride, patches_of(seen.shape, patch))
        logits = [np.asarray(fitted(block)) for block in blocks]
        thresholds = thresholds_for(logits, label_names(segmenter.classes)[1:], thresholds)
    if thresholds:
        shifts = np.log((1 - np.asarray(thresholds)) / np.asarray(thresholds)).tolist()
        several = len(segmenter.classes) > 1
        fitted = Recalibration(1.0, tuple([0.0, *shifts] if several else shifts)).folded(fitted)

    def onto(network: Segmenter) -> Segmenter:
        if card.halo is not None and card.halo < network.halo:
            network = Truncated(network, card.halo)
        return network if rescaled is None else rescaled.around(network)

    return fitted, onto
