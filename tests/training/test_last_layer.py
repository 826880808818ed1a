"""The last layer of a network learns alone, and keeps what it knew."""

import numpy as np
import pytest
from flax import nnx

from cryojax_seg import training
from cryojax_seg.segmenters import ConvNet, Tempered, UNet, fit_normalization

VOLUME = np.random.default_rng(0).normal(size=(8, 16, 16)).astype(np.float32)
NETWORKS = {
    "unet": lambda names: UNet(4, 1, "space_to_depth", classes=names, rngs=nnx.Rngs(1)),
    "convnet": lambda names: ConvNet(2, 4, classes=names, rngs=nnx.Rngs(1)),
}
CLASSES = {
    "same": (("membrane",), ("membrane",)),
    "another name": (("membrane",), ("wall",)),
    "one more": (("membrane",), ("background", "actin", "membrane")),
    "one less": (("background", "actin", "membrane"), ("membrane",)),
    "another order": (
        ("background", "actin", "membrane"),
        ("background", "membrane", "wall", "actin"),
    ),
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("classes", CLASSES)
def test_a_correction_is_the_same_beside_a_network_and_inside(network, classes):
    known, wanted = CLASSES[classes]
    net = fit_normalization(NETWORKS[network](known), VOLUME, patch=8, count=2)
    channels = np.asarray(training.exposed(net, wanted)(VOLUME))
    width, count = channels.shape[-1] - len(wanted), len(wanted)
    rng = np.random.default_rng(2)
    correction = training.Correction(rng.normal(size=(width, count)), rng.normal(size=count))
    inside = correction.on(net, wanted)
    assert inside.classes == wanted
    np.testing.assert_allclose(np.asarray(inside(VOLUME)), correction(channels), atol=1e-4)


def test_classes_keep_their_logits_by_name():
    known, wanted = CLASSES["another order"]
    net = NETWORKS["unet"](known)
    before, channels = np.asarray(net(VOLUME)), np.asarray(training.exposed(net, wanted)(VOLUME))
    np.testing.assert_allclose(channels[..., [0, 3, 1]], before, atol=1e-5)
    np.testing.assert_allclose(channels[..., 2], before[..., 0] - 3, atol=1e-5)  # "wall" is rare
    alone = np.asarray(training.exposed(net, ("membrane",))(VOLUME))
    np.testing.assert_allclose(alone[..., 0], before[..., 2] - before[..., 0], atol=1e-5)
    new = np.asarray(training.exposed(net, ("wall",))(VOLUME))
    assert (new[..., 0] == -3).all()


def rows(channels, labels):
    return training.rows_of(channels[None].astype(np.float32), labels[None])


def test_one_stroke_moves_little_where_the_network_is_sure():
    rng = np.random.default_rng(0)
    truth = np.arange(4000) % 4 == 0
    features = rng.normal(size=(4000, 8)) + 6 * truth[:, None]
    channels = np.column_stack([8.0 * truth - 4.0, features])
    labels = np.full(4000, -1)
    labels[:40:4] = 1  # ten voxels of the class, and none of the background
    found = training.fit_last_layer([rows(channels, labels)], ("membrane",))(channels)[:, 0] > 0
    assert (found == truth).mean() > 0.99
    # What is painted everywhere wins.
    wrong = training.fit_last_layer([rows(channels, (~truth).astype(int))], ("membrane",))
    assert ((wrong(channels)[:, 0] > 0) == ~truth).mean() > 0.99


def test_painting_errors_alone_does_not_turn_the_network_round():
    rng = np.random.default_rng(0)
    truth = np.arange(10_000) % 4 == 0
    guess = truth ^ (rng.random(10_000) < 0.1)  # a tenth is wrong
    features = rng.normal(size=(10_000, 8)) + 2 * guess[:, None]  # which tell no more than that
    channels = np.column_stack([4.0 * guess - 2.0, features])
    labels = np.full(10_000, -1)
    wrong = np.flatnonzero(guess != truth)[:100]
    labels[wrong] = truth[wrong]
    found = training.fit_last_layer([rows(channels, labels)], ("membrane",))(channels)[:, 0] > 0
    assert (found == truth).mean() > (guess == truth).mean() - 0.05


def test_rows_stand_for_all_voxels_of_their_label():
    labels = np.zeros((100, 200), int)
    labels[:3] = 1
    labels[50:] = -2  # excluded voxels are not annotated
    found = training.rows_of(np.zeros((100, 200, 2)), labels)
    assert [(found.labels == n).sum() for n in (-1, 0, 1)] == [1000, 4000, 600]
    sums = [found.weights[found.labels == n].sum() for n in (-1, 0, 1)]
    np.testing.assert_allclose(sums, [50 * 200, 47 * 200, 3 * 200])
    assert (labels[tuple(found.places.T)] == np.where(found.labels < 0, -2, found.labels)).all()


def test_nothing_annotated_and_wrapped_networks_are_refused():
    with pytest.raises(ValueError, match="nothing is annotated"):
        training.fit_last_layer([rows(np.zeros((9, 3)), np.full(9, -1))], ("membrane",))
    assert (
        training.cross_validate_last_layer(
            [rows(np.zeros((9, 3)), np.zeros(9, int))], ("membrane",)
        )
        is None
    )
    assert Tempered(NETWORKS["unet"](("a",)), 2.0).last_layers() == ()
