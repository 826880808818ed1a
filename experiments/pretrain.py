"""Trains the models that learn from simulated scenes alone.

    python experiments/pretrain.py --model membrane --size fast --minutes 60 --out membrane-fast
    python experiments/pretrain.py ... --minutes 120 --resume   # another sitting of an hour
    python experiments/pretrain.py --tiny                       # a minute, for the tests

A U-Net learns from a stream of scenes of the preset ``varied`` at voxels of 9 to 11 angstrom, which
are rendered once and imaged anew for every patch (`training.Randomisation`), and is validated on
scenes of another seed. The folder holds the run, and in `model` the model with its card.
"""

import dataclasses
import math
import pathlib
import sys
import time
from typing import Any, Literal

import numpy as np
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import core, evaluate, io, runtime, training
from cryojax_seg.segmenters import Truncated, fit_halo, fit_normalization
from cryojax_seg.training import methods
from experiments.common import environment

MODELS = {
    "membrane": ("membrane",),
    "microtubule": ("microtubule",),
    "cell": ("background", "membrane", "microtubule", "actin", "macromolecule"),
}
METHODS = {"fast": "unet-fast", "standard": "unet"}
VOXEL = 10.0  # angstrom


@dataclasses.dataclass(frozen=True)
class Config:
    """Train a model on simulated scenes."""

    model: Literal["membrane", "microtubule", "cell"] = "membrane"
    """classes of the model"""
    size: Literal["fast", "standard"] = "fast"
    """size of the network"""
    minutes: float = 60.0
    """minutes of training in all sittings; it ends earlier when the score rises no more"""
    out: pathlib.Path = pathlib.Path("pretrained")
    """folder of the run and its model"""
    resume: bool = False
    """go on with the run in that folder"""
    seed: int = 0
    """seed of the network, the scenes and the patches"""
    patches: int = 4
    """patches per step"""
    patch: int = 32
    """edge of a patch, voxels"""
    edge: int = 112
    """edge of a scene, voxels"""
    scenes: int = 24
    """scenes from which patches are drawn at a time"""
    every: int = 200
    """steps after which a new scene replaces the oldest one"""
    held_out: int = 6
    """scenes of another seed for validation"""
    cache: pathlib.Path | None = None
    """folder in which rendered scenes are kept for the next run"""
    tiny: bool = False
    """a few steps on small scenes"""


def stream_of(config: Config, seed: int) -> training.Stream:
    """Return the scenes of a seed."""
    scenes = training.Scenes((config.edge,) * 3, seed=seed, cache=config.cache)
    return training.Stream(MODELS[config.model], scenes, config.scenes, config.every)


def settings(config: Config) -> training.TrainConfig:
    """Return the settings of the training."""
    usual = methods.defaults(METHODS[config.size])
    steps = 4 if config.tiny else round(2000 * config.minutes)  # more than there is time for
    return training.TrainConfig(
        steps=steps,
        minutes=None if config.tiny else config.minutes,
        batch=0,
        phantoms=config.patches,
        patch=config.patch,
        optimizer=usual.optimizer,
        learning_rate=usual.learning_rate,
        warmup=100,
        ema=0.998,
        seed=config.seed,
        validate_every=2 if config.tiny else 500,
        checkpoint_every=500,
    )


def scores(segmenter: Any, examples: list[training.Example], halo: int | None) -> dict[str, Any]:
    """Return Dice and average precision of each class on whole scenes."""
    overlaps: dict[str, Any] = {}
    rankings: dict[str, Any] = {}
    names = core.label_names(segmenter.classes)
    for example in examples:
        fitted = fit_normalization(segmenter, example.measured, patch=min(example.volume.shape))
        fitted = fitted if halo is None else Truncated(fitted, halo)
        logits = core.apply(fitted, example.volume)
        found, labels = np.asarray(core.probabilities(logits)), np.asarray(core.labels(logits))
        for value, name in enumerate(names[1:], 1):
            true = example.labels == value
            one = evaluate.rank(
                found[..., value if found.shape[-1] > 1 else 0].ravel(), true.ravel()
            )
            if one is not None:
                rankings[name] = one + rankings[name] if name in rankings else one
        for name, one in evaluate.overlap(
            labels, example.labels, example.weights, fitted.classes
        ).items():
            overlaps[name] = one + overlaps[name] if name in overlaps else one
    return {
        name: {
            "dice": overlaps[name].dice,
            "average precision": rankings[name].average_precision if name in rankings else None,
        }
        for name in names[1:]
    }


def main(config: Config) -> None:
    """Train, score and save a model."""
    runtime.keep_compiled()
    runtime.keep_memory()
    if config.tiny:
        small = {"patch": 16, "edge": 40, "patches": 2, "scenes": 2, "held_out": 1}
        config = dataclasses.replace(config, **small)
    stream, other = stream_of(config, config.seed), stream_of(config, config.seed + 1000)
    start = time.perf_counter()
    held_out = [other.example(number) for number in range(config.held_out)]
    print(f"{len(held_out)} scenes for validation: {time.perf_counter() - start:.0f} s", flush=True)
    network = methods.build(METHODS[config.size], MODELS[config.model], held_out[0].volume)
    network = training.with_prior(network, held_out)
    result = training.train(
        network,
        [],
        settings(config),
        validation=held_out,
        stream=stream,
        run=config.out,
        resume=config.resume,
    )
    operator = result.operator
    halo = operator.halo
    if halo >= config.patch // 2:
        halo = fit_halo(operator, held_out[0].measured)[0].halo
    found = scores(operator, held_out, halo)
    for name, one in found.items():
        print(name, {key: value and round(value, 3) for key, value in one.items()})
    seconds = math.fsum(line["seconds"] for line in result.history)
    ranges = stream.ranges
    card = io.ModelCard(
        voxel_size=(VOXEL,) * 3,
        contrast="dark",
        tilt_range=None,
        patch=config.patch,
        halo=halo,
        provenance={
            "method": METHODS[config.size],
            "command": "python experiments/pretrain.py "
            f"--model {config.model} --size {config.size} --minutes {config.minutes:g}",
            "environment": environment(),
            "config": {**dataclasses.asdict(config), "out": str(config.out), "cache": None},
            "steps": result.steps,
            "minutes": round(seconds / 60, 1),
            "scenes": max(stream.numbers(result.steps)) + 1,
            "seen": {
                "voxel_size": [min(stream.scenes.voxel_sizes), max(stream.scenes.voxel_sizes)],
                "tilt_range": [ranges.lowest.low, ranges.highest.high],
                "ranges": dataclasses.asdict(ranges),
            },
            "scores": found,
        },
    )
    io.save_model(config.out / "model", operator, card, overwrite=True)
    print(f"wrote {config.out / 'model'}: {result.steps} steps, {result.stopped}")


if __name__ == "__main__":
    main(tyro.cli(Config))
