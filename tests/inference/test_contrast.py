"""Networks find out whether structure is dark or bright."""

import numpy as np
import pytest
from flax import nnx

from cryojax_seg import inference, io
from cryojax_seg.core import Tomogram, normalize
from cryojax_seg.segmenters import ConvNet, GlobalThreshold
from cryojax_seg.training import Example, TrainConfig, train

SIZE = (10.0, 10.0, 10.0)


def balls(noise, seed):
    """Bright balls in noise, and where they are."""
    rng = np.random.default_rng(seed)
    places = np.indices((32, 40, 40)).T
    centres = rng.uniform(4, 28, (24, 3)) * [1, 1.25, 1.25]
    inside = np.min([np.linalg.norm(places - c, axis=-1).T for c in centres], axis=0) < 3
    return (inside + noise * rng.normal(size=inside.shape)).astype(np.float32), inside


@pytest.fixture(scope="module")
def model():
    """A network that learned from dark balls."""
    volume, inside = balls(0.4, 0)
    example = Example(normalize(volume, "bright"), inside.astype(np.int32))
    net = ConvNet(2, 4, classes=("ball",), rngs=nnx.Rngs(0))
    config = TrainConfig(steps=80, patch=16, batch=4, learning_rate=0.02)
    learned = train(net, [example], config, progress=False).operator
    return inference.Model(learned, io.ModelCard(SIZE, "dark", patch=16))


@pytest.mark.parametrize("size", [10.0, 8.0])
@pytest.mark.parametrize("noise", [0.3, 0.6])
def test_the_contrast_is_found(model, caplog, size, noise):
    volume, inside = balls(noise, 1)
    for sign, turns in ((-1, False), (1, True)):
        caplog.clear()
        tomogram = Tomogram(sign * volume + 5, (size,) * 3, name="t.mrc")
        found = inference.segment(model, tomogram, engine="jax") > 0
        assert ("more certain of bright than of dark" in caplog.text) == turns
        overlap = 2 * (found & inside).sum() / (found.sum() + inside.sum())
        assert overlap > 0.6, (sign, overlap)
        given = "bright" if turns else "dark"
        same = inference.segment(model, tomogram, contrast=given, engine="jax") > 0
        assert (same != found).mean() < 1e-3  # statistics are those of the same patches


def test_a_given_contrast_is_kept_and_noise_decides_nothing(model, caplog):
    volume, inside = balls(0.3, 2)
    tomogram = Tomogram(volume, SIZE, name="t.mrc")
    wrong = inference.segment(model, tomogram, contrast="dark", engine="jax") > 0
    assert (wrong & inside).sum() < 0.3 * inside.sum()
    noise = np.random.default_rng(3).normal(size=(32, 32, 32)).astype(np.float32)
    inference.plan(model, Tomogram(noise, SIZE), engine="jax")
    threshold = inference.Model(GlobalThreshold(2.0), model.card)
    inference.plan(threshold, tomogram, engine="jax")  # no network
    assert "more certain" not in caplog.text
