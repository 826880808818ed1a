"""Do tomograms that nobody annotated help a pretrained network that learns one slice of another?

    python experiments/unlabelled.py           # 15 minutes on one core
    python experiments/unlabelled.py --tiny    # a minute, for the tests

A U-Net (``unet-fast``) is pretrained on phantoms of the presets ``crowded`` and ``cytoskeleton`` as
in `fine_tuning.py`. Then it learns membranes from one slice of a phantom of another preset,
``vesicles``, at a third of the learning rate, in one of these ways:

- ``labelled``: from the slice alone;
- ``everywhere``: in addition from as many patches from anywhere in it and in two more phantoms of
  that preset, by the equivariant objective (`losses.equivariant`), whose teacher counts in every
  voxel;
- ``confident``: the same, and the teacher counts where its probability is at least 0.9 or at most
  0.1.

The Dice is that of the two phantoms without labels, and of another one that no way has seen.
Intervals are those of the mean over seeds (Student's t), which draw the patches; there is one
pretraining. No full run is recorded yet; a shorter one, of one seed, showed no gain.
"""

import dataclasses
import pathlib
import sys
import time
from typing import Literal

import numpy as np
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import core, losses, training
from cryojax_seg.core.plain import Shape
from cryojax_seg.training import starting
from experiments import fine_tuning
from experiments.annotated import Scene
from experiments.common import Rows, claim, interval

MEMBRANE = "membrane"
Way = Literal["labelled", "everywhere", "confident"]
CONFIDENCE: dict[Way, float] = {"everywhere": 0.5, "confident": 0.9}


@dataclasses.dataclass(frozen=True)
class Config:
    """Fine-tune a network that phantoms taught, with and without tomograms without labels."""

    pretraining: int = 500
    """steps of the pretraining"""
    phantoms: int = 8
    """phantoms that it sees"""
    steps: int = 100
    """steps of fine-tuning"""
    batch: int = 2
    """patches of the annotated tomogram per step, and of those without labels"""
    patch: int = 32
    """edge of a patch, voxels"""
    shape: Shape = (48, 80, 80)
    """shape of the phantoms that are learned and scored"""
    snr: float = 0.3
    """their signal-to-noise ratio"""
    unlabelled: int = 2
    """phantoms without labels"""
    factors: tuple[float, ...] = (0.3, 1.0)
    """weights of the equivariant objective"""
    seeds: tuple[int, ...] = (0, 1, 2)
    tiny: bool = False


def learn(
    way: Way,
    factor: float,
    scenes: list[Scene],
    network: core.Segmenter,
    config: Config,
    like: fine_tuning.Config,
    seed: int,
) -> core.Segmenter:
    """Learn the middle slice of the first scene, and from all but the last without labels."""
    annotated = scenes[0].annotated("annotated", (config.shape[0] // 2,))
    segmenter, batch = starting.begin(network, (MEMBRANE,)), config.batch
    chosen = fine_tuning.settings(
        like, config.steps, seed, learning_rate=fine_tuning.RATE * like.rate
    )
    if way == "labelled":
        return training.train(segmenter, [annotated], chosen, progress=False).operator
    objective = losses.add(
        losses.select(segmenter.default_loss(), range(batch)),
        losses.select(losses.equivariant(confidence=CONFIDENCE[way]), range(batch, 2 * batch)),
        factors=(1.0, factor),
    )
    others = [training.Example(one.volume, wedge=one.wedge) for one in scenes[1:-1]]
    chosen = dataclasses.replace(chosen, unannotated=batch)
    examples = [annotated, *others]
    return training.train(segmenter, examples, chosen, objective=objective, progress=False).operator


def table(rows: list[dict]) -> list[dict]:
    """Return a row for each way, with means and intervals over seeds."""
    found = []
    for way, factor in dict.fromkeys((r["way"], r["factor"]) for r in rows):
        kept = [r for r in rows if (r["way"], r["factor"]) == (way, factor)]
        row = {"way": way, "factor": factor}
        for name in ("dice", "dice_at_best_threshold", "dice_of_unlabelled"):
            mean, low, high = interval([r[name] or 0.0 for r in kept])
            row |= {name: mean, f"{name}_interval": None if low is None else [low, high]}
        row["cpu_seconds"] = min(r["cpu_seconds"] for r in kept)  # the others compile too
        found.append(row)
    return found


def claims_of(rows: list[dict]) -> list[dict]:
    """Return the claims that unlabelled tomograms gain; an interval above 0 meets one."""
    plain = {r["seed"]: r for r in rows if r["way"] == "labelled"}
    found = []
    for way, factor in dict.fromkeys((r["way"], r["factor"]) for r in rows if r["seed"] in plain):
        kept = [r for r in rows if (r["way"], r["factor"]) == (way, factor)]
        if way not in CONFIDENCE:
            continue
        for name, where in (("dice", "unseen"), ("dice_of_unlabelled", "unlabelled")):
            gains = [(r[name] or 0.0) - (plain[r["seed"]][name] or 0.0) for r in kept]
            mean, low, high = interval(gains)
            verdict = "not resolved"
            if low is not None and high is not None and (low > 0 or high < 0):
                verdict = "met" if low > 0 else "missed"
            told = {"interval": [low, high], "verdict": verdict, "met": verdict == "met"}
            text = f"{way}, weight {factor:g}: Dice of {where} phantoms minus labelled ({verdict})"
            found.append({**claim(text, mean, at_least=0.0), **told})
    return found


def main(config: Config) -> None:
    if config.tiny:
        small = {"phantoms": 1, "shape": (24, 32, 32), "patch": 16, "batch": 1, "factors": (1.0,)}
        few = {"pretraining": 2, "steps": 2, "seeds": (0,)}
        config = dataclasses.replace(config, **small, **few)
    records = Rows("unlabelled", dataclasses.asdict(config), config.tiny)
    shared = ("pretraining", "phantoms", "batch", "patch", "shape", "snr", "tiny")
    like = fine_tuning.Config(**{name: getattr(config, name) for name in shared})
    before = like if config.tiny else dataclasses.replace(like, batch=fine_tuning.Config.batch)
    network = fine_tuning.pretrained(before)
    scenes = fine_tuning.membranes(like, 2 + config.unlabelled)
    ways: list[tuple[Way, float]] = [("labelled", 0.0)]
    for factor in config.factors:
        ways.extend((way, factor) for way in CONFIDENCE)

    def scored(segmenter: core.Segmenter) -> dict:
        results = [fine_tuning.score(segmenter, one, config.patch) for one in scenes[1:]]
        others = [one["dice"] or 0.0 for one in results[:-1]]
        return {**results[-1], "dice_of_unlabelled": float(np.mean(others))}

    key = {"way": "zero-shot", "factor": 0.0, "seed": 0}
    if records.done(**key) is None:
        alone = scored(starting.begin(network, (MEMBRANE,)))
        print(records.add(key, {**alone, "cpu_seconds": 0.0}), flush=True)
    for seed in config.seeds:
        for way, factor in ways:
            key = {"way": way, "factor": factor, "seed": seed}
            if records.done(**key) is not None:
                continue
            start = time.process_time()
            learned = learn(way, factor, scenes, network, config, like, seed)
            seconds = time.process_time() - start
            values = {**scored(learned), "cpu_seconds": seconds}
            print(records.add(key, values), flush=True)
    rows = table(records.records)
    for row in rows:
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()})
    records.finish(rows, claims_of(records.records))


if __name__ == "__main__":
    main(tyro.cli(Config))
