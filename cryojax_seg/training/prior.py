"""Begins the training of a network at the frequencies of its classes."""

from collections.abc import Sequence

import numpy as np
from flax import nnx

from cryojax_seg.core.operator import Operator
from cryojax_seg.core.segmenter import Segmenter
from cryojax_seg.training.example import Example

RAREST = 1e-3  # frequency; also of a class that is not annotated


def frequencies(examples: Sequence[Example], count: int) -> np.ndarray:
    """Return the weighted fraction of annotated voxels of each label value, at least `RAREST`.

    Args:
        examples: labelled examples.
        count: number of label values, with the background.

    >>> volume = np.zeros((4, 4, 4), np.float32)
    >>> labels = np.zeros((4, 4, 4), int)
    >>> labels[0] = 1
    >>> frequencies([Example(volume, labels)], 2).tolist()
    [0.75, 0.25]
    """
    total = np.zeros(count)
    for example in examples:
        known = example.weights > 0
        total += np.bincount(example.labels[known], example.weights[known], count)
    shares = np.maximum(total / max(total.sum(), 1e-12), RAREST)
    return shares / shares.sum()


def with_prior(segmenter: Operator, examples: Sequence[Example]) -> Operator:
    """Return a copy of a network whose probabilities begin at the frequencies of the classes.

    The last bias becomes ``log f_c``, or ``log(f / (1 - f))`` for one class (Lin et al. 2017,
    section 3.3). A bias of 0 costs the first hundreds of steps, in which the network learns that
    most voxels are background. A segmenter without such a bias is returned as it is.

    >>> from cryojax_seg.core import probabilities
    >>> from cryojax_seg.segmenters import ConvNet
    >>> volume = np.zeros((4, 4, 4), np.float32)
    >>> labels = np.zeros((4, 4, 4), int)
    >>> labels[0] = 1
    >>> net = with_prior(ConvNet(1, 2, rngs=nnx.Rngs(0)), [Example(volume, labels)])
    >>> round(float(probabilities(net(volume)).mean()), 3)
    0.25
    """
    if not isinstance(segmenter, Segmenter) or not segmenter.last_layers():
        return segmenter
    segmenter = nnx.clone(segmenter)
    classes = len(segmenter.classes)
    shares = frequencies(examples, max(classes, 2))
    logits = np.log(shares) if classes > 1 else np.log(shares[1:] / shares[:1])
    for _, bias in segmenter.last_layers():
        bias[...] = np.tile(logits, bias.shape[0] // classes).astype(bias.dtype)
    return segmenter
