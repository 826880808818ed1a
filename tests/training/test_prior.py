"""A network begins at the class frequencies, and a method without a last bias is unchanged."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cryojax_seg import core
from cryojax_seg.segmenters import ConvNet, GlobalThreshold, UNet
from cryojax_seg.training import Example, with_prior
from cryojax_seg.training.prior import RAREST, frequencies

VOLUME = np.zeros((8, 8, 8), np.float32)


def labels_of(*counts: int) -> np.ndarray:
    """Return labels of which the first values 1, 2, ... have these numbers of voxels."""
    labels = np.zeros(VOLUME.size, int)
    labels[: sum(counts)] = np.repeat(np.arange(1, len(counts) + 1), counts)
    return labels.reshape(VOLUME.shape)


def test_frequencies_count_annotated_voxels_of_all_examples():
    weights = np.zeros_like(VOLUME)
    weights[:4] = 0.5
    half = Example(VOLUME, labels_of(64), weights)
    whole = Example(VOLUME, labels_of(0, 128))
    total = 128 + 512
    expected = [(96 + 384) / total, 32 / total, 128 / total]
    np.testing.assert_allclose(frequencies([half, whole], 3), expected)


def test_an_absent_class_is_rare_but_possible():
    shares = frequencies([Example(VOLUME, labels_of(256))], 3)
    np.testing.assert_allclose(shares[2], RAREST / (1 + RAREST))
    assert shares.sum() == pytest.approx(1)


@pytest.mark.parametrize("stem", ("none", "space_to_depth"))
@pytest.mark.parametrize("classes", (("one",), ("background", "a", "b")))
def test_a_network_begins_at_the_frequencies_on_empty_data(stem, classes):
    """Its features are 0 there, so the probabilities are those of the bias at every voxel."""
    net = UNet(2, 1, stem, deep_supervision=True, classes=classes, rngs=nnx.Rngs(0))
    example = Example(VOLUME, labels_of(*(64, 32)[: max(len(classes) - 1, 1)]))
    before = core.probabilities(net(jnp.asarray(VOLUME)))
    begun = with_prior(net, [example])
    p = np.asarray(core.probabilities(begun(jnp.asarray(VOLUME))))
    shares = frequencies([example], max(len(classes), 2))
    shares = shares if len(classes) > 1 else shares[1:]
    np.testing.assert_allclose(p, np.broadcast_to(shares.astype(np.float32), p.shape), rtol=1e-5)
    np.testing.assert_array_equal(core.probabilities(net(jnp.asarray(VOLUME))), before)


def test_other_methods_stay_as_they_are():
    threshold = GlobalThreshold(0.5)
    assert with_prior(threshold, [Example(VOLUME, labels_of(9))]) is threshold
    assert with_prior(ConvNet(1, 2, rngs=nnx.Rngs(0)), [Example(VOLUME, labels_of(9))]) is not None
