"""Trains methods in the same way in all experiments that compare them."""

import time
from collections.abc import Sequence

from cryojax_seg import core, losses, training
from cryojax_seg.training.methods import build, defaults, objective, parts

NETWORKS = ("vote", "convnet", "unet", "unet-fast", "unet-large", "tomoseg")


def is_network(method: str) -> bool:
    """Return whether a method is trained for the steps of networks instead of those of filters."""
    return parts(method)[0] in NETWORKS


def train_method(
    method: str,
    classes: tuple[str, ...],
    examples: list[training.Example],
    seed: int,
    *,
    steps: int,
    patch: int | tuple[int, int, int],
    restorers: Sequence[core.LocalOperator] = (),
    goal: losses.Objective | None = None,
) -> tuple[core.Segmenter, float]:
    """Train a method, behind restorers if any, with its defaults except for steps and patch.

    Args:
        goal: an objective in the place of the method's own.

    Returns:
        the segmenter and the CPU-seconds it took, compilation included.
    """
    settings = defaults(method)
    config = training.TrainConfig(
        steps=steps,
        batch=settings.batch,
        patch=patch,
        learning_rate=settings.learning_rate,
        ema=settings.ema,
        optimizer=settings.optimizer,
        seed=seed,
    )
    start = time.process_time()
    segmenter = build(method, classes, examples[0].volume, seed)
    segmenter = training.with_prior(segmenter, examples)
    segmenter = core.Chain([*restorers, segmenter]) if restorers else segmenter
    result = training.train(
        segmenter, examples, config, objective=goal or objective(method), progress=False
    )
    return result.operator, time.process_time() - start
