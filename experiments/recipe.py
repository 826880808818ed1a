"""Which recipe trains a U-Net best in the same CPU-seconds?

    python experiments/recipe.py             # hours: 7 of training alone; recorded are three parts:
    python experiments/recipe.py --tasks membrane --seconds 30 \\
        --recipes default former "AdamW 0.003" "Muon 0.03"     # 8 minutes beside other work
    python experiments/recipe.py --recipes default bf16 --seconds 30 --seeds 0 1
    python experiments/recipe.py --tasks microtubule --recipes default --seconds 30 \\
        --seeds 0 1 2 3 4
    python experiments/recipe.py --tiny      # a minute, for the tests

Each recipe differs from the default of ``train --method unet-fast`` in what its name says, and gets
the same CPU-seconds of training, without compilation. A network learns six tomograms of nine
similar complexes (`complexes.py`), five slices of one with membranes, or with microtubules and
actin, or five slices of a real microtubule of 13 protofilaments (data set ``cylindra_mt``, see
`datasets.py`). It is scored by the mean Dice of its classes on three other tomograms, or on the
real microtubule of 14 protofilaments. Intervals are over seeds (Student's t).

Learned, of membranes in half a CPU-minute: Muon, and the class frequencies as the first bias, raise
the Dice from {result=recipe; recipe=former: dice} to {result=recipe; recipe=default: dice}. The
bias, and a rate that stays at its peak for half of the steps, account for two thirds of that
(AdamW 0.003: {result=recipe; recipe=AdamW 0.003: dice}), and Muon for the rest. A peak rate of 0.03
is not resolved from 0.01.

The second part compares bfloat16 with float32, on a processor that has it. A step takes about a
quarter less, and yet no difference in Dice at equal time is resolved, on any task. So float32 stays
the default. In the third part the default learns the real microtubule from five starts, with a Dice
of {result=recipe-microtubule; task=microtubule: dice}
({result=recipe-microtubule; task=microtubule: dice_interval}).

A sceptic would say that half a CPU-minute favours whatever learns fast, and that a recipe which
wins there may lose after an hour. `benchmarks/training.py` follows the winner for longer.
"""

import dataclasses
import functools
import pathlib
import sys
import time
from typing import Literal

import jax
import numpy as np
import tyro
from flax import nnx

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import core, evaluate, losses, segmenters, training
from cryojax_seg.core.loss import Loss
from cryojax_seg.simulate import WedgeImaging, presets, simulate
from cryojax_seg.training.config import Optimizer
from cryojax_seg.training.samples import prepare
from cryojax_seg.training.step import initial_state, take_apart
from experiments import complexes, datasets
from experiments.annotated import scene
from experiments.common import Rows, interval, over_seeds

Task = Literal["nine classes", "membrane", "filament", "microtubule"]
SLICES = 5  # annotated
REAL_GOAL = 0.90  # Dice of the real microtubule of 14 protofilaments
SHAPE = (64, 96, 96)
WEDGE = core.MissingWedge((-60.0, 60.0))


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Holds what a training may do differently."""

    width: int = 16
    depth: int = 1
    stem: str = "space_to_depth"
    prior: bool = True
    optimizer: Optimizer = "muon"
    learning_rate: float = 1e-2
    loss: Loss | None = None
    patch: int | tuple[int, int, int] = 48
    batch: int = 2
    ema: float = 0.99
    decay: float = 0.5
    rotate90: float = 0.0
    rotate: float = 0.0
    precision: Literal["f32", "bf16"] = "f32"


def _tversky_and_cross_entropy(logits, labels, weights):
    return losses.cross_entropy(logits, labels, weights) + losses.tversky(logits, labels, weights)


def _focal_and_dice(logits, labels, weights):
    return losses.focal(logits, labels, weights) + losses.dice(logits, labels, weights)


RECIPES = {
    "default": Recipe(),
    "without prior": Recipe(prior=False),
    "AdamW 0.003": Recipe(optimizer="adamw", learning_rate=3e-3),
    "AdamW 0.01": Recipe(optimizer="adamw", learning_rate=1e-2),
    "former": Recipe(optimizer="adamw", learning_rate=3e-3, prior=False, decay=1.0),
    "Muon 0.003": Recipe(learning_rate=3e-3),
    "Muon 0.03": Recipe(learning_rate=3e-2),
    "late decay": Recipe(decay=0.2),
    "cross-entropy": Recipe(loss=losses.cross_entropy),
    "Tversky": Recipe(loss=_tversky_and_cross_entropy),
    "focal": Recipe(loss=_focal_and_dice),
    "slow mean": Recipe(ema=0.999),
    "cube rotations": Recipe(rotate90=0.5),
    "small rotations": Recipe(rotate=0.5),
    "bf16": Recipe(precision="bf16"),
    "small patches": Recipe(patch=32, batch=4),
    "flat patches": Recipe(patch=(24, 64, 64)),
    "one patch": Recipe(batch=1),
    "deeper": Recipe(depth=2),
    "wider": Recipe(width=32, depth=2),
    "whole resolution": Recipe(depth=2, stem="none"),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Train every recipe on every task for the same CPU-seconds."""

    tasks: tuple[Task, ...] = ("nine classes", "membrane", "filament", "microtubule")
    recipes: tuple[str, ...] = tuple(RECIPES)
    seconds: float = 60.0
    """CPU-seconds of training; those of nine classes are four times as many"""
    seeds: tuple[int, ...] = (0, 1, 2)
    tiny: bool = False


@dataclasses.dataclass(frozen=True)
class Data:
    """Holds what is learned, what is scored, and the names of the classes."""

    examples: list[training.Example]
    tests: list[training.Example]
    classes: tuple[str, ...]


def phantoms(preset, kinds: tuple[int, ...], tiny: bool) -> Data:
    """Return a tomogram of which five slices are annotated, and three others."""
    found = []
    for seed in range(50, 52 if tiny else 54):
        by_scene, by_noise = jax.random.split(jax.random.key(seed))
        shape = (32, 64, 64) if tiny else SHAPE
        one = simulate(preset(by_scene, shape, 10.0), WedgeImaging(snr=0.3, wedge=WEDGE), by_noise)
        labels = np.zeros(shape, np.int32)
        for value, kind in enumerate(kinds, 1):
            labels[np.asarray(one.labels) == kind] = value
        volume = core.normalize(np.asarray(one.density), "bright")
        found.append(training.Example(volume, labels, wedge=WEDGE))
    names = [("membrane",), ("background", "microtubule", "actin")]
    return Data([sparse(found[0])], found[1:], names[len(kinds) - 1])


def sparse(example: training.Example) -> training.Example:
    """Return an example of which five equally spaced z slices are annotated."""
    depth = len(example.volume)
    kept = np.zeros_like(example.weights)
    slices = [(2 * i + 1) * depth // (2 * SLICES) for i in range(SLICES)]
    kept[slices] = example.weights[slices]
    return dataclasses.replace(example, weights=kept)


@functools.cache
def data_of(task: Task, tiny: bool) -> Data:
    match task:
        case "nine classes":
            counts = (2, 40, 2, 1) if tiny else (18, 100, 6, 3)
            per_class, edge, learned, scored = counts
            made = [
                complexes.example(complexes.crowded(seed, per_class, edge))
                for seed in range(learned + scored)
            ]
            return Data(made[:learned], made[learned:], complexes.CLASSES)
        case "membrane":
            return phantoms(presets.vesicles if tiny else presets.crowded, (1,), tiny)
        case "filament":
            return phantoms(presets.cytoskeleton, (3, 4), tiny)
        case "microtubule":
            learned, scored = (
                training.Example(s.volume, s.labels, s.weights, s.wedge)
                for s in map(scene, datasets.MICROTUBULES)
            )
            return Data([sparse(learned)], [scored], ("microtubule",))


def settings_of(recipe: Recipe, data: Data, seed: int, steps: int) -> training.TrainConfig:
    """Return the settings of a training, with patches that fit the tomograms."""
    edges = recipe.patch if isinstance(recipe.patch, tuple) else (recipe.patch,) * 3
    stride = 8
    smallest = np.min([e.volume.shape for e in data.examples], 0) // stride * stride
    z, y, x = (int(min(pair)) for pair in zip(edges, smallest, strict=True))
    return training.TrainConfig(
        steps=steps,
        patch=(z, y, x),
        batch=recipe.batch,
        optimizer=recipe.optimizer,
        learning_rate=recipe.learning_rate,
        ema=recipe.ema,
        decay=recipe.decay,
        seed=seed,
        precision=recipe.precision,
        augmentation=training.Augmentation(rotate90=recipe.rotate90, rotate=recipe.rotate),
    )


def untrained(recipe: Recipe, data: Data, seed: int) -> core.Segmenter:
    net = segmenters.UNet(
        recipe.width, recipe.depth, recipe.stem, classes=data.classes, rngs=nnx.Rngs(seed)
    )
    return training.with_prior(net, data.examples) if recipe.prior else net


def seconds_a_step(net: core.Segmenter, goal, data: Data, config: training.TrainConfig) -> float:
    """Return the CPU-seconds of a training step, the least of five after compilation."""
    samples = prepare(data.examples, net.classes, config.patch_shape)
    parts = take_apart(net)
    step, state, times = training.make_step(parts, goal, config), initial_state(parts, config), []
    for _ in range(6):
        start = time.process_time()
        state, _ = jax.block_until_ready(step(state, samples))
        times.append(time.process_time() - start)
    return min(times[1:])


def mean_dice(labels: np.ndarray, example: training.Example, classes: tuple[str, ...]) -> float:
    """Return the mean Dice over the classes of the labels that were found in a tomogram."""
    counts = evaluate.overlap(labels, example.labels, example.weights, classes)
    return float(np.mean([c.dice or 0.0 for c in counts.values()]))


def score(net: core.Segmenter, data: Data) -> list[float]:
    """Return the mean Dice over the classes in each of the tomograms that are scored."""
    found = []
    for example in data.tests:
        fitted = segmenters.fit_normalization(net, example.volume, patch=48)
        labels = np.asarray(core.labels(core.apply(fitted, example.volume)))
        found.append(mean_dice(labels, example, data.classes))
    return found


def trained(name: str, task: Task, seed: int, seconds: float, tiny: bool) -> dict:
    recipe, data = RECIPES[name], data_of(task, tiny)
    net = untrained(recipe, data, seed)
    goal = losses.supervised(recipe.loss) if recipe.loss is not None else net.default_loss()
    if tiny:
        steps, each = 2, 0.0
    else:
        each = seconds_a_step(net, goal, data, settings_of(recipe, data, seed, 10))
        steps = max(round(seconds / each), 10)
    config = settings_of(recipe, data, seed, steps)
    result = training.train(net, data.examples, config, objective=goal, progress=False)
    dice = score(result.operator, data)
    return {"steps": steps, "step_cpu_ms": 1e3 * each, "dice": dice}


def main(config: Config) -> None:
    if config.tiny:
        few = ("default", "former", "cube rotations")
        config = dataclasses.replace(config, tasks=("membrane",), recipes=few, seeds=(0,))
    if unknown := set(config.recipes) - set(RECIPES):
        raise SystemExit(f"unknown recipes {unknown}; there are {', '.join(RECIPES)}")
    rows = Rows("recipe", dataclasses.asdict(config), config.tiny)
    for seed in config.seeds:
        for task in config.tasks:
            for name in config.recipes:
                if rows.done(task=task, recipe=name, seed=seed):
                    continue
                budget = config.seconds * (4 if task == "nine classes" else 1)
                try:
                    values = trained(name, task, seed, budget, config.tiny)
                except datasets.MissingData as error:
                    print(f"{task}: left out: {error}")
                    break
                record = rows.add({"task": task, "recipe": name, "seed": seed}, values)
                print(
                    f"{task:13s} seed {seed} {name:17s} Dice {np.mean(record['dice']):.3f}  "
                    f"{record['steps']} steps of {record['step_cpu_ms']:.0f} ms",
                    flush=True,
                )
    table = [
        summary(rows.records, task, name)
        for task in config.tasks
        for name in config.recipes
        if any(r["task"] == task and r["recipe"] == name for r in rows.records)
    ]
    rows.finish(table, claims_of(rows.records, config))


def by_seed(records: list[dict], task: Task, name: str) -> dict[int, float]:
    return {
        r["seed"]: float(np.mean(r["dice"]))
        for r in records
        if r["task"] == task and r["recipe"] == name
    }


def summary(records: list[dict], task: Task, name: str) -> dict:
    mine, usual = (by_seed(records, task, n) for n in (name, "default"))
    mean, low, high = interval(list(mine.values()))
    apart = interval([mine[s] - usual[s] for s in mine if s in usual])
    of_seed = [r for r in records if r["task"] == task and r["recipe"] == name]
    return {
        "task": task,
        "recipe": name,
        "seeds": len(mine),
        "steps": int(np.median([r["steps"] for r in of_seed])),
        "dice": mean,
        "dice_interval": None if low is None else [low, high],
        "dice_minus_default": apart[0],
        "dice_minus_default_interval": None if apart[1] is None else list(apart[1:]),
    }


def claims_of(records: list[dict], config: Config) -> list[dict]:
    """Return the claims; intervals over seeds decide them.

    The default is compared with the former recipe, bfloat16 with the default, and the default on
    the real microtubule with the Dice that was the goal.
    """
    found = []
    for task in config.tasks:
        for better, worse, goal in (("default", "former", 0.0), ("bf16", "default", -0.01)):
            one, other = (by_seed(records, task, name) for name in (better, worse))
            gains = [one[seed] - other[seed] for seed in one if seed in other]
            name = f"{task}: Dice of {better} minus that of {worse}"
            found += [over_seeds(name, gains, goal)] if gains else []
        usual = list(by_seed(records, task, "default").values())
        if task == "microtubule" and usual:
            found.append(over_seeds("microtubule of 14 protofilaments: Dice", usual, REAL_GOAL))
    return found


if __name__ == "__main__":
    main(tyro.cli(Config))
