"""What does a slice of annotation add to a built-in model?

    python experiments/few_slices.py           # 90 minutes on 2 cores
    python experiments/few_slices.py --tiny    # a minute, for the tests
    python experiments/few_slices.py --tasks 14pf --ways replay scratch \\
        --seeds 0 1 2 3 4                      # the part that is recorded

A built-in model learns on from one, three or five annotated slices, and is scored on what it never
saw: two other phantoms of vesicles, or the real microtubule of 14 protofilaments after slices of
that of 13 (data set ``cylindra_mt``, see `datasets.py`). Fine-tuning with replay, where half of the
patches are phantoms as in ``train --start``, is compared with the same and the scored tomograms as
``--unlabelled``, with fine-tuning without replay, and with as many or ten times as many steps from
scratch. Labels are those that ``segment`` gives. Intervals are over seeds (Student's t).

Learned, of the real microtubule. The built-in model, which never saw a real voxel, has a Dice of
{data=14pf; slices=0; way=as it is: dice}. With replay one slice brings it to
{data=14pf; slices=1; way=replay: dice}, three to {data=14pf; slices=3; way=replay: dice} and five
to {data=14pf; slices=5; way=replay: dice}; from scratch, as many steps reach
{data=14pf; slices=1; way=scratch: dice}, {data=14pf; slices=3; way=scratch: dice} and
{data=14pf; slices=5; way=scratch: dice}.

A sceptic would say that this is one pair of tomograms of one laboratory, and that 150 steps are few
for a network from scratch. The third part of `recipe.py` takes three times as many, with five other
slices, and its Dice is higher than that of replay here; nobody compared both on the same slices.
"""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import core, inference, training
from cryojax_seg.core.plain import Shape
from cryojax_seg.simulate import CLASSES, WedgeImaging
from experiments import datasets, pretrained
from experiments.common import Rows, interval, of, over_seeds, results_folder
from experiments.curves import over_slices
from experiments.pretrained import Target

Way = Literal["replay", "unlabelled", "fine-tuned", "scratch", "scratch, long"]
WAYS: tuple[Way, ...] = ("replay", "unlabelled", "fine-tuned", "scratch", "scratch, long")
LONG = 10  # times as many steps
REAL_SLICES = {1: (18,), 3: (9, 18, 26), 5: (7, 12, 18, 23, 28)}
GOALS = {1: 0.85, 3: 0.90}  # Dice of the real microtubule after as many slices
SCORES = ("dice", "best_dice", "average_precision", "precision", "recall", "ece")


@dataclasses.dataclass(frozen=True)
class Config:
    """Fine-tune built-in models with a few slices."""

    membrane: str = "membrane-fast"
    """built-in model that learns the vesicles"""
    microtubule: str = "microtubule-fast"
    """built-in model that learns the real microtubule"""
    tasks: tuple[Literal["vesicles", "14pf"], ...] = ("vesicles", "14pf")
    ways: tuple[Way, ...] = WAYS
    slices: tuple[int, ...] = (1, 3, 5)
    """numbers of annotated slices: 1, 3 or 5"""
    steps: int = 150
    """steps of fine-tuning, and from scratch"""
    shape: Shape = (64, 96, 96)
    """shape of the phantoms"""
    seeds: tuple[int, ...] = (0, 1, 2)
    tiny: bool = False


@dataclasses.dataclass(frozen=True)
class Task:
    """Names what is learned by which model, from which slices of which tomogram."""

    name: str
    model: str
    structure: str
    learned: Target
    targets: Sequence[Target]
    slices: dict[int, tuple[int, ...]]


def tasks(config: Config) -> Iterator[Task]:
    """Yield what is learned."""
    if "vesicles" in config.tasks:
        imaging = WedgeImaging(snr=pretrained.CONTRAST**2, wedge=pretrained.WEDGE)
        size, depth = pretrained.VOXEL, config.shape[0]
        learned, *others = (
            pretrained.phantom("vesicles", config.shape, size, imaging, 700, number)
            for number in range(3)
        )
        slices = {n: tuple(depth * (i + 1) // (n + 1) for i in range(n)) for n in config.slices}
        yield Task("vesicles", config.membrane, "membrane", learned, others, slices)
    if "14pf" in config.tasks:
        try:
            learned, other = (pretrained.microtubule(name) for name in ("13pf", "14pf"))
        except datasets.MissingData as error:
            print(f"the real microtubule is left out: {error}")
            return
        slices = {n: REAL_SLICES[n] for n in config.slices}
        yield Task("14pf", config.microtubule, "microtubule", learned, [other], slices)


def plain(target: Target) -> training.Example:
    """Return a tomogram as an example without labels."""
    volume = core.normalize(np.asarray(target.tomogram.density), "bright")
    return training.Example(volume, wedge=target.tomogram.wedge)


def annotated(task: Task, slices: tuple[int, ...]) -> training.Example:
    """Return the tomogram to learn from, of which these slices are annotated."""
    truth = (task.learned.labels == CLASSES.index(task.structure)).astype(np.int32)
    weights = np.zeros(truth.shape, np.float32)
    weights[list(slices)] = task.learned.weights[list(slices)]
    whole = plain(task.learned)
    return dataclasses.replace(whole, labels=truth, weights=weights, name=task.name)


def learn(task: Task, slices: tuple[int, ...], way: Way, config: Config, seed: int) -> Any:
    """Return the model that a way of learning makes of some annotated slices.

    Nothing is held out, so that all slices teach. In fine-tuning all but the last layers have a
    third of the learning rate. The seed draws patches, phantoms and the network from scratch.
    """
    model, scratch = inference.load(task.model), way.startswith("scratch")
    size = task.learned.tomogram.require_voxel_size()
    told = ((task.structure,), size, "bright", (-60.0, 60.0))
    others = training.Examples(tuple(plain(one) for one in task.targets), *told)
    fitted = training.fit_model(
        training.Examples((annotated(task, slices),), *told),
        method=model.card.provenance["method"],
        start=None if scratch else (model.segmenter, model.card),
        replay=0 if way == "fine-tuned" else None,
        unlabelled=others if way == "unlabelled" else None,
        validation=0,
        steps=config.steps * (LONG if way == "scratch, long" else 1),
        seed=seed,
        progress=False,
    )
    return inference.Model(fitted.operator, fitted.card)


def scored(model: inference.Model, task: Task) -> dict[str, float | None]:
    """Return the mean scores over the tomograms that were not annotated."""
    found = [pretrained.score(model, target)[task.structure] for target in task.targets]
    return {name: interval([one[name] for one in found])[0] for name in SCORES}


def run(task: Task, config: Config, seed: int, records: Rows) -> None:
    """Learn a task in all ways and from all numbers of slices, with one seed."""
    for count, slices in task.slices.items():
        for way in config.ways:
            key = {"data": task.name, "way": way, "slices": count, "seed": seed}
            if records.done(**key) is not None:
                continue
            start = time.process_time()
            model = learn(task, slices, way, config, seed)
            values = {"cpu_seconds": time.process_time() - start, **scored(model, task)}
            records.add(key, values)
            print(*key.values(), f"Dice {values['dice'] or 0:.3f}", flush=True)


def table(records: list[dict]) -> list[dict]:
    """Return a row for each task, way and number of slices, with intervals over seeds."""
    found = []
    for data, slices, way in dict.fromkeys((r["data"], r["slices"], r["way"]) for r in records):
        kept = [r for r in records if (r["data"], r["slices"], r["way"]) == (data, slices, way)]
        row: dict[str, Any] = {"data": data, "slices": slices, "way": way, "seeds": len(kept)}
        row |= {name: interval([r[name] for r in kept])[0] for name in SCORES}
        _, low, high = interval([r["dice"] or 0.0 for r in kept])
        row["dice_interval"] = None if low is None else [low, high]
        found.append(row)
    return found


def dice(records: list[dict], **key: Any) -> list[float]:
    """Return the Dice of the records with this key, in the order of their seeds."""
    return [r["dice"] or 0.0 for r in of(records, **key)]


def claims_of(records: list[dict], config: Config) -> list[dict]:
    """Return the claims; the interval over seeds decides, and one seed resolves nothing."""
    found = []
    for data, slices in dict.fromkeys((r["data"], r["slices"]) for r in records if r["slices"]):
        (zero,) = dice(records, data=data, way="as it is")
        of = {way: dice(records, data=data, slices=slices, way=way) for way in config.ways}
        after = f"{data}, {slices} slice(s): Dice of replay"
        others = {f"that of {way}": of[way] for way in config.ways if way != "replay"}
        others["that without annotation"] = [zero] * len(of["replay"])
        for name, values in others.items():
            gains = [a - b for a, b in zip(of["replay"], values, strict=True)]
            found.append(over_seeds(f"{after} minus {name}", gains, 0.0))
        if data == "14pf" and slices in GOALS:
            found.append(over_seeds(after, of["replay"], GOALS[slices]))
    return found


def draw(rows: list[dict], config: Config) -> None:
    """Draw the Dice over the number of annotated slices, a panel for each task."""
    names = list(dict.fromkeys(r["data"] for r in rows))
    figure, axes = plt.subplots(
        1, len(names), figsize=(4.6 * len(names), 3.8), layout="constrained", squeeze=False
    )
    for axis, name in zip(axes[0], names, strict=True):
        mine = [r for r in rows if r["data"] == name]
        over_slices(axis, mine, config.ways)
        (zero,) = [r["dice"] for r in mine if r["way"] == "as it is"]
        axis.axhline(zero or 0.0, ls="--", color="#333333", label="without annotation")
        axis.set_title(name)
    axes[0][0].set_ylabel("Dice on tomograms that nobody annotated")
    axes[0][0].legend(fontsize=8)
    figure.savefig(results_folder(config.tiny) / "few_slices.png", dpi=130)
    plt.close(figure)


def main(config: Config) -> None:
    if config.tiny:
        small = {"tasks": ("vesicles",), "shape": (32, 40, 40), "slices": (1,), "seeds": (0,)}
        few = {"steps": 2, "ways": ("replay", "scratch")}
        config = dataclasses.replace(config, **small, **few)
    records = Rows("few_slices", dataclasses.asdict(config), config.tiny)
    for seed in config.seeds:
        for task in tasks(config):
            key = {"data": task.name, "way": "as it is", "slices": 0, "seed": 0}
            if records.done(**key) is None:
                records.add(key, scored(inference.load(task.model), task))
            run(task, config, seed, records)
    rows = table(records.records)
    for row in rows:
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()})
    draw(rows, config)
    records.finish(rows, claims_of(records.records, config))


if __name__ == "__main__":
    main(tyro.cli(Config))
