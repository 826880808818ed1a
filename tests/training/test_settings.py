"""What a user sets reaches the training, and what makes no sense is refused before it."""

import numpy as np
import pytest

from cryojax_seg.errors import ParameterError
from cryojax_seg.training import Augmentation, Example, methods, settings

VOLUME = np.zeros((20, 60, 70), np.float32)
ONE = [Example(VOLUME)]


def configured(method="unet", examples=ONE, **given):
    segmenter = settings.resized(methods.build(method, ("foreground",), VOLUME), **given)
    return segmenter, settings.configured(method, segmenter, examples, **given)


def test_settings_reach_the_network_and_the_training():
    segmenter, config = configured(
        width=4, depth=1, stem="space_to_depth", warmup=7, ema=0.5, validate_every=30,
        augment={"noise": 0.25, "flip": 0},
    )  # fmt: skip
    assert (segmenter.width, segmenter.depth, segmenter.stem) == (4, 1, "space_to_depth")
    assert (config.warmup, config.ema, config.validate_every) == (7, 0.5, 30)
    assert config.augmentation == Augmentation(flip=False, noise=0.25)


def test_what_is_not_set_stays_as_the_method_has_it():
    preset, config = configured("unet-fast", depth=2)
    assert (preset.width, preset.depth, preset.stem) == (16, 2, "space_to_depth")
    assert config.augmentation == Augmentation()
    assert config.patch_shape == (16, 48, 48)  # multiples of the stride, which is 8 now
    assert configured("unet-fast", depth=4)[1].patch_shape == (32, 32, 32)
    assert (config.minutes, config.steps) == (None, methods.defaults("unet-fast").steps)


def test_a_limit_in_minutes_leaves_the_number_of_steps_open():
    _, config = configured(minutes=5)
    assert (config.minutes, config.warmup, config.validate_every) == (5, 50, 100)
    assert config.steps > 100_000
    assert configured(minutes=5, steps=70)[1].steps == 70


@pytest.mark.parametrize(
    ("method", "given", "message", "parameters"),
    [
        ("vote", {"depth": 1}, "depth describes a U-Net; the method vote", ("method", "depth")),
        ("unet", {"width": 0}, "width must be at least 1, got 0", ("width",)),
        ("unet", {"depth": 6}, "depth must be 0 to 5, got 6", ("depth",)),
        ("unet", {"ema": 1.0}, "ema must be at least 0 and below 1", ("ema",)),
        ("unet", {"warmup": -1}, "warmup is a fraction or a number of steps", ("warmup",)),
        ("unet", {"validate_every": 0}, "validate_every must be at least 1", ("validate_every",)),
        ("unet", {"minutes": 0}, "minutes must be positive, got 0", ("minutes",)),
        ("unet", {"steps": 0}, "steps must be at least 1, got 0", ("steps",)),
        ("unet", {"augment": {"nois": 0.1}}, "no augmentation is called 'nois'", ("augment",)),
        ("unet", {"augment": {"noise": 1.1}}, "noise is a probability, got 1.1", ("augment",)),
        ("unet", {"augment": {"flip": 0.5}}, "flip is 0 or 1, got 0.5", ("augment",)),
    ],
)  # fmt: skip
def test_settings_without_meaning_are_refused(method, given, message, parameters):
    with pytest.raises(ParameterError, match=message) as refused:
        settings.check(method, **given)
    assert refused.value.parameters == parameters
