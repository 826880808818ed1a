"""How long does a training step take, compared with the same step in PyTorch?

    pip install -e ".[benchmark]"                      # PyTorch
    python experiments/benchmarks/training_step.py     # under a minute on 2 cores

A U-Net without stem is trained on membranes of a simulated scene until its Dice on another scene
reaches a goal. PyTorch starts from the same parameters and gets the same patches, loss
(cross-entropy plus Dice), optimizer (AdamW), learning rates, clipped gradients and validation; the
losses of the first steps show that both do the same. Our step also draws its patches and keeps the
running mean of the parameters, while the patches for PyTorch are drawn before its clock starts.
Both alternate in groups of steps, so that other load on the machine affects both. Compilation is
not counted. The result is ``experiments/results/benchmark_training_step.json``.

Learned: the losses agree to some millionths. Our step takes 1.1 times as long as that in PyTorch
(twice as long before convolutions went through oneDNN), and the Dice is reached in 1.3 times its
seconds, in which both validate.
"""

import dataclasses
import functools
import importlib.util
import os
import pathlib
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from cryojax_seg import core, runtime, training
from cryojax_seg.segmenters import UNet
from cryojax_seg.training.samples import Samples, prepare
from cryojax_seg.training.sampling import draw
from cryojax_seg.training.schedule import learning_rate, phases
from cryojax_seg.training.step import initial_state, step_key, take_apart
from experiments.common import claim, write_results
from experiments.scenes import vesicles

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
HAS_TORCH = importlib.util.find_spec("torch") is not None


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure training."""

    edge: int = 64
    """edge of the scenes, in voxels"""
    patch: int = 40
    batch: int = 2
    steps: int = 200
    """largest number of steps"""
    turn: int = 10
    """steps between validations, after which the two alternate"""
    dice: float = 0.75
    """Dice of the validation scene at which the clock stops"""
    snr: float = 1.0
    seed: int = 0
    json: bool = True
    """write experiments/results/benchmark_training_step.json; otherwise use the temporary folder"""


class Ours:
    """Trains with `training.make_step`, and validate."""

    name = "cryojax_seg"

    def __init__(self, net, samples: Samples, settings: training.TrainConfig, validation):
        self.parts, self.samples, self.validation = take_apart(net), samples, validation
        self.state = initial_state(self.parts, settings)
        step = training.make_step(self.parts, net.default_loss(), settings)
        start = time.perf_counter()
        self.compiled = step.lower(self.state, samples).compile()  # pyright: ignore
        self.compile_seconds = time.perf_counter() - start
        self._labels = jax.jit(
            lambda params, fixed, v: core.labels(self.parts.rebuild(params, fixed)(v))
        )

    def step(self, count: int) -> float:
        self.state, metrics = self.compiled(self.state, self.samples)
        return float(metrics["loss"])

    def dice(self) -> float:
        volume, truth = self.validation
        return dice(np.asarray(self._labels(self.state.params, self.state.fixed, volume)), truth)


class Theirs:
    """Trains and validate in PyTorch."""

    name = "PyTorch"
    compile_seconds = 0.0

    def __init__(self, net, samples: Samples, settings: training.TrainConfig, validation):
        import torch

        from experiments.benchmarks.rivals import SameUNet

        torch.set_num_threads(CORES)
        self.torch, self.net, self.validation = torch, SameUNet(net), validation
        self.rate = functools.partial(learning_rate, settings, phases(settings))
        self.clip = settings.clip
        leaves = self.net.leaves
        groups = [
            {"params": [p for p in leaves if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in leaves if p.ndim == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0)
        patch = settings.patch_shape
        drawn = jax.jit(lambda key: draw(samples, key, settings.batch, patch)[0])
        self.batches = []
        for count in range(settings.steps):
            by_sample, _ = step_key(jnp.uint32(settings.seed), jnp.int32(count))
            batch = drawn(by_sample)
            arrays = (np.array(batch.volume), np.array(batch.labels, np.float32))
            self.batches.append([torch.from_numpy(a)[:, None] for a in arrays])

    def step(self, count: int) -> float:
        functional = self.torch.nn.functional
        volume, target = self.batches[count]
        logits = self.net(volume)
        p = self.torch.sigmoid(logits)
        overlap = (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)
        loss = functional.binary_cross_entropy_with_logits(logits, target) + 1 - overlap
        self.optimizer.zero_grad()
        loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.net.leaves, self.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = float(self.rate(count))
        self.optimizer.step()
        return float(loss.detach())

    def dice(self) -> float:
        volume, truth = self.validation
        with self.torch.inference_mode():
            logits = self.net(self.torch.from_numpy(volume)[None, None])
        return dice(logits[0, 0].numpy() > 0, truth)


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    return float(2 * (found * truth).sum() / max(found.sum() + truth.sum(), 1))


@dataclasses.dataclass
class Record:
    """Records what one of the two has done so far."""

    losses: list[float] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)
    dice: list[float] = dataclasses.field(default_factory=list)
    reached: float | None = None
    """seconds of training when the Dice reached the goal"""


def race(config: Config, runners) -> list[Record]:
    """Alternate in groups of steps until all have reached the goal or spent their steps."""
    records = [Record() for _ in runners]
    for start in range(0, config.steps, config.turn):
        for runner, record in zip(runners, records, strict=True):
            for count in range(start, min(start + config.turn, config.steps)):
                clock = time.perf_counter()
                record.losses.append(runner.step(count))
                record.seconds.append(time.perf_counter() - clock)
            record.dice.append(runner.dice())
            if record.reached is None and record.dice[-1] >= config.dice:
                record.reached = sum(record.seconds)
            each = 1e3 * statistics.median(record.seconds)
            print(
                f"{runner.name:12s} step {len(record.losses):4d}  loss {record.losses[-1]:.4f}  "
                f"Dice {record.dice[-1]:.3f}  {each:.0f} ms/step",
                flush=True,
            )
        if all(record.reached is not None for record in records):
            break
    return records


def main(config: Config) -> None:
    runtime.keep_memory()
    volume, truth = vesicles(config.seed, config.snr, False, 60, config.edge)
    validation = vesicles(config.seed + 1, config.snr, False, 60, config.edge)
    example = training.Example(volume, truth)
    settings = training.TrainConfig(
        steps=config.steps,
        batch=config.batch,
        patch=config.patch,
        seed=config.seed,
        augmentation=training.Augmentation(flip=False, intensity=0.0),
    )
    net = UNet(classes=("membrane",), rngs=nnx.Rngs(config.seed))
    samples = prepare([example], net.classes, settings.patch_shape)
    kinds = (Ours, Theirs) if HAS_TORCH else (Ours,)
    if not HAS_TORCH:
        print("PyTorch is not installed: pip install -e '.[benchmark]' to compare with it")
    runners = [kind(net, samples, settings, validation) for kind in kinds]
    records = race(config, runners)
    rows = [
        {
            "what": runner.name,
            "seconds_to_dice": record.reached,
            "steps": len(record.losses),
            "step_ms": 1e3 * statistics.median(record.seconds),
            "compile_seconds": runner.compile_seconds,
            "dice": record.dice,
            "losses": record.losses[:: config.turn],
        }
        for runner, record in zip(runners, records, strict=True)
    ]
    write_results(
        "benchmark_training_step",
        dataclasses.asdict(config),
        rows,
        claims_of(config, records),
        tiny=not config.json,
    )


def claims_of(config: Config, records: list[Record]) -> list[dict]:
    step = to_goal = difference = None
    if len(records) == 2:
        ours, theirs = records
        step = statistics.median(ours.seconds) / statistics.median(theirs.seconds)
        if ours.reached is not None and theirs.reached is not None:
            to_goal = ours.reached / theirs.reached
        first = slice(0, 5)  # later steps start from the rounding errors of earlier ones
        pairs = zip(ours.losses[first], theirs.losses[first], strict=True)
        difference = max(abs(a - b) / b for a, b in pairs)
    return [
        claim("training step: ours / PyTorch", step, at_most=1.3),
        claim(f"seconds to a Dice of {config.dice:g}: ours / PyTorch", to_goal, at_most=1.3),
        claim("loss of the first steps: relative difference", difference, at_most=1e-3),
    ]


if __name__ == "__main__":
    main(tyro.cli(Config))
