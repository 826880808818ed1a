"""Trains the networks that experiments on the fixed scenes share, once a machine, and keeps them.

    python experiments/networks.py --seeds 0 1 2      # 10 CPU-minutes each, on 48 tilt series

The network is that of ``train --method unet-fast``, learns from all training scenes of
`benchmark_set.py` with dense labels, and is kept in the cache folder of the user.
"""

import dataclasses
import hashlib
import json
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import platformdirs
import tyro
from flax import nnx

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import core, io, losses, segmenters, training
from cryojax_seg.runtime import keep_compiled, keep_memory
from experiments import benchmark_set
from experiments.benchmark_set import Case, Tier
from experiments.common import environment
from experiments.conditioned import WedgeConditioned

VALIDATIONS = 20  # in one training, at equal distances


@dataclasses.dataclass(frozen=True)
class Design:
    """States how a network is trained, and on which scenes.

    Attributes:
        steps: of two patches each.
        scenes: number of training scenes, the first ones.
        validation: number of validation scenes.
        edge: of the scenes, voxels.
        patch: edge of the patches, voxels.
        tier: how the scenes are imaged.
    """

    steps: int = 4000
    scenes: int = 48
    validation: int = 8
    edge: int = 128
    patch: int = 48
    tier: Tier = "tilt series"

    def settings(self, seed: int, **changes: Any) -> training.TrainConfig:
        """Return the settings of the training, with changes."""
        values: dict[str, Any] = {
            "steps": self.steps,
            "patch": self.patch,
            "optimizer": "muon",
            "learning_rate": 1e-2,
            "validate_every": max(self.steps // VALIDATIONS, 1),
            "keep_best": False,  # of the last validation, so that all take equally many steps
            "seed": seed,
        }
        return training.TrainConfig(**{**values, **changes})

    def learned(self) -> list[Case]:
        return benchmark_set.load("train", self.tier, self.scenes, self.edge)

    def judged(self) -> list[Case]:
        return benchmark_set.load("validation", self.tier, self.validation, self.edge)


TINY = Design(steps=2, scenes=1, validation=1, edge=48, patch=32)  # of the tests


@dataclasses.dataclass(frozen=True)
class Trained:
    """Holds a trained network.

    Attributes:
        network: the network.
        curve: step and average precision of each validation.
        cpu_seconds: of the training, compilation and validations included.
        commit: at which it was trained.
    """

    network: core.Segmenter
    curve: list[tuple[int, float]]
    cpu_seconds: float
    commit: str

    def logits(self, case: Case) -> np.ndarray:
        """Return the logit of membrane, ``(z, y, x, 1)``, with the statistics of this volume."""
        net = self.network
        if isinstance(net, WedgeConditioned):
            net = net.with_wedge(case.conditions.wedge)
        fitted = segmenters.fit_normalization(net, case.volume)
        return np.asarray(core.apply(fitted, case.volume))

    def predict(self, case: Case) -> np.ndarray:
        """Return the probability of membrane."""
        return np.asarray(core.probabilities(self.logits(case)))[..., 0]


def untrained(seed: int, examples: Sequence[training.Example], width: int = 16) -> core.Segmenter:
    """Return the network of `train --method unet-fast`, with the prior of these examples."""
    rngs = nnx.Rngs(seed)
    net = segmenters.UNet(width, 1, "space_to_depth", classes=("membrane",), rngs=rngs)
    return training.with_prior(net, examples)


def train(
    net: core.Segmenter,
    examples: Sequence[training.Example],
    settings: training.TrainConfig,
    validation: Sequence[training.Example] = (),
    objective: losses.Objective | None = None,
) -> Trained:
    """Train by cross-entropy and Dice, or by an objective, and record the validations."""
    goal = objective or losses.supervised(losses.combine(losses.cross_entropy, losses.dice))
    start = time.process_time()
    result = training.train(
        net, examples, settings, validation=validation, objective=goal, progress=False
    )
    key = "average_precision"
    curve = [(int(line["step"]), float(line[key])) for line in result.history if key in line]
    seconds = time.process_time() - start
    return Trained(result.operator, curve, seconds, environment()["commit"])


def slope(curve: Sequence[tuple[int, float]]) -> float | None:
    """Return how much the average precision rose per 1,000 steps in the last half of a training.

    >>> round(slope([(0, 0.1), (500, 0.7), (1000, 0.75)]), 6)
    0.1
    """
    late = [point for point in curve if 2 * point[0] >= curve[-1][0]]
    if len(late) < 2:
        return None
    steps, scores = np.array(late, float).T
    return float(1000 * np.polyfit(steps, scores, 1)[0])


def converged(seed: int, design: Design) -> Trained:
    """Return the network of a seed; it is trained unless it is kept from before."""
    told = json.dumps([benchmark_set.VERSION, dataclasses.asdict(design), seed])
    name = hashlib.sha256(told.encode()).hexdigest()[:16]
    path = platformdirs.user_cache_path("cryojax-seg") / "networks" / name
    if path.exists():
        net, card = io.load_model(path)
        values = dict(card.provenance)
        curve = [(int(step), float(score)) for step, score in values.pop("curve")]
        return Trained(net, curve, **values)
    examples = [case.example() for case in design.learned()]
    validation = [case.example() for case in design.judged()]
    found = train(untrained(seed, examples), examples, design.settings(seed), validation)
    values = {key: getattr(found, key) for key in ("curve", "cpu_seconds", "commit")}
    card = io.ModelCard(contrast="bright", provenance=values)
    path.parent.mkdir(parents=True, exist_ok=True)
    io.save_model(path, found.network, card, overwrite=True)
    return found


@dataclasses.dataclass(frozen=True)
class Config:
    """Train the shared networks, and print their validation curves."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    design: Design = dataclasses.field(default_factory=Design)


def main(config: Config) -> None:
    keep_compiled()
    keep_memory()
    for seed in config.seeds:
        found = converged(seed, config.design)
        curve = "  ".join(f"{step}: {score:.3f}" for step, score in found.curve)
        print(f"seed {seed}, {found.cpu_seconds:.0f} CPU-s  {curve}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Config))
