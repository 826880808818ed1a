"""How many slices of how many tomograms must be annotated, from scratch and from a built-in model?

    python experiments/sparse_annotation.py            # 4 CPU-hours; goes on where it stopped
    python experiments/sparse_annotation.py --tiny     # a minute, for the tests

Of the training scenes of `benchmark_set.py`, which each seed draws anew, some have evenly spaced z
slices annotated. ``train`` learns from these alone, from scratch or, with replay, from the built-in
model `membrane-fast`, which is also scored without annotation. The threshold is that of the best
Dice in four validation scenes. All arms take equally many steps, two also four times as many, which
tells whether they converged. Minutes of annotation are those of somebody who paints as in
`annotation_minutes.py`. Intervals of differences resample seeds and scenes.

Learned: the built-in model knows most of what annotation can teach of these scenes. Without any its
Dice is {start=pretrained; tomograms=0; slices=0; steps=0: dice}. One slice of a single tomogram
makes it {start=pretrained; tomograms=1; slices=1; steps=600: dice} on others, three make it
{start=pretrained; tomograms=1; slices=3; steps=600: dice} and all
{start=pretrained; tomograms=1; slices=64; steps=600: dice}; three slices of four tomograms make it
{start=pretrained; tomograms=4; slices=3; steps=600: dice} and of sixteen
{start=pretrained; tomograms=16; slices=3; steps=600: dice}. These three slices change it by
{claim=3 slices of 1 tomogram, Dice of pretrained minus that without annotation: value} (interval
{claim=3 slices of 1 tomogram, Dice of pretrained minus that without annotation: interval}),
{claim=3 slices of 4 tomograms, Dice of pretrained minus that without annotation: value} (interval
{claim=3 slices of 4 tomograms, Dice of pretrained minus that without annotation: interval}) and
{claim=3 slices of 16 tomograms, Dice of pretrained minus that without annotation: value} (interval
{claim=3 slices of 16 tomograms, Dice of pretrained minus that without annotation: interval}).
From scratch three slices of one tomogram give
{start=scratch; tomograms=1; slices=3; steps=600: dice}, all slices of sixteen
{start=scratch; tomograms=16; slices=64; steps=600: dice}. Three slices instead of all change it by
{claim=pretrained, 1 tomogram, Dice of 3 slices minus that of 64: value},
{claim=pretrained, 4 tomograms, Dice of 3 slices minus that of 64: value} and
{claim=pretrained, 16 tomograms, Dice of 3 slices minus that of 64: value} of one, four and
sixteen tomograms with the built-in model, and
{claim=scratch, 1 tomogram, Dice of 3 slices minus that of 64: value},
{claim=scratch, 4 tomograms, Dice of 3 slices minus that of 64: value} and
{claim=scratch, 16 tomograms, Dice of 3 slices minus that of 64: value} from scratch. Where all is
annotated, a long training from scratch overtakes the built-in model
({start=scratch; tomograms=16; slices=64; steps=2400: dice} and
{start=pretrained; tomograms=16; slices=64; steps=2400: dice} in four times as many steps).

A sceptic would say that the scenes differ in preset, voxel size and contrast more than the
tomograms of one session do, so that slices of the tomogram that is to be labelled are worth more
(see `few_slices.py`); that the simulated annotation has no errors; that three draws of tomograms
are few; and that nothing was held out here, by which ``train`` keeps the start model where it was
better.
"""

import dataclasses
import functools
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any, Literal

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import core, evaluate, inference, segmenters, training
from experiments import networks, scoring
from experiments.annotation_minutes import seconds
from experiments.benchmark_set import Case, load
from experiments.common import Rows, interval, median, resolved, results_folder
from experiments.curves import COLOURS, with_intervals
from experiments.networks import Design

Start = Literal["scratch", "pretrained"]
STARTS: tuple[Start, ...] = ("scratch", "pretrained")
VOXEL = 10.5  # angstrom, about that of the scenes
FEW = (1, 3)  # tomograms and slices that are learned in several numbers of steps
NOTHING = {"start": "pretrained", "tomograms": 0, "slices": 0, "steps": 0}  # no annotation
CLOSE = -0.02  # of Dice, for three slices minus all of them
CONVERGED = 0.01  # of Dice, which four times as many steps add at most


@dataclasses.dataclass(frozen=True)
class Config:
    """Relate accuracy to the number of annotated slices and tomograms."""

    starts: tuple[Start, ...] = STARTS
    model: str = "membrane-fast"
    """built-in model of the start "pretrained" """
    tomograms: tuple[int, ...] = (1, 4, 16)
    slices: tuple[int, ...] = (1, 3, 10, 64)
    """annotated in each tomogram"""
    steps: int = 600
    other_steps: tuple[int, ...] = (150, 2400)
    """of three slices of one tomogram; the last also of all slices of all tomograms"""
    design: Design = dataclasses.field(default_factory=lambda: Design(validation=4))
    """which scenes are used; how networks are trained is the default of ``train``"""
    test: int = 16
    """number of test scenes"""
    seeds: tuple[int, ...] = (0, 1, 2)
    tiny: bool = False


def places(depth: int, count: int) -> np.ndarray:
    """Return the numbers of evenly spaced slices.

    >>> places(128, 3).tolist()
    [21, 64, 106]
    """
    return np.unique(((np.arange(count) + 0.5) * depth / count).astype(int))


def annotated(case: Case, count: int) -> training.Example:
    """Return a scene of which this many slices are annotated."""
    weights = np.zeros(case.volume.shape, np.float32)
    weights[places(len(weights), count)] = 1
    return dataclasses.replace(case.example(), weights=weights)


def minutes_of(case: Case, count: int) -> float:
    """Return the minutes in which somebody paints the membranes of these slices."""
    size = case.conditions.voxel_size / 10
    slices = (case.membrane[z] for z in places(len(case.membrane), count))
    return sum(seconds(one, np.zeros_like(one), size)[0] for one in slices) / 60


def learn(start: Start, cases: Sequence[Case], count: int, steps: int, seed: int, model: str):
    """Return what ``train`` makes of some slices of some scenes."""
    known = inference.load(model)
    if not steps:
        return known.segmenter
    size = (VOXEL, VOXEL, VOXEL)
    examples = tuple(annotated(case, count) for case in cases)
    data = training.Examples(examples, ("membrane",), size, "bright")
    fitted = training.fit_model(
        data,
        method="unet-fast",
        start=(known.segmenter, known.card) if start == "pretrained" else None,
        validation=0,
        steps=steps,
        seed=seed,
        progress=False,
    )
    return fitted.operator


def predict(network: core.Segmenter, case: Case) -> np.ndarray:
    fitted = segmenters.fit_normalization(network, case.volume)
    return np.asarray(core.probabilities(core.apply(fitted, case.volume)))[..., 0]


def score(network: core.Segmenter, judged: Sequence[Case], tests: Sequence[Case]) -> dict[str, Any]:
    """Return average precision and Dice of each test scene, at the validation scenes' threshold."""
    ranked = [evaluate.rank(predict(network, case), case.membrane) for case in judged]
    threshold = scoring.best_threshold(functools.reduce(evaluate.Ranking.__add__, ranked))
    found: dict[str, Any] = {"threshold": threshold, "average_precision": [], "dice": []}
    for case in tests:
        p = predict(network, case)
        mask = p >= threshold
        dice = 2 * (mask & case.membrane).sum() / (mask.sum() + case.membrane.sum())
        found["dice"].append(float(dice))
        found["average_precision"].append(evaluate.rank(p, case.membrane).average_precision)
    return found


def runs(config: Config) -> list[dict[str, Any]]:
    """Return the start, tomograms, slices and steps of every arm."""
    arms = [
        {"start": start, "tomograms": number, "slices": count, "steps": config.steps}
        for start in config.starts
        for number in config.tomograms
        for count in config.slices
    ]
    others = [(*FEW, steps) for steps in config.other_steps]
    others += [(*most(config), steps) for steps in config.other_steps[-1:]]
    arms += [
        {"start": start, "tomograms": number, "slices": count, "steps": steps}
        for start in config.starts
        for number, count, steps in others
    ]
    return arms + [NOTHING] * (NOTHING["start"] in config.starts)


def most(config: Config) -> tuple[int, int]:
    """Return the largest numbers of tomograms and slices."""
    return config.tomograms[-1], config.slices[-1]


def of(records: Sequence[dict], **key: Any) -> list[dict]:
    return [r for r in records if all(r[k] == v for k, v in key.items())]


def difference(mine: Sequence[dict], others: Sequence[dict], key: str) -> evaluate.Difference:
    """Return how much better the first records are than the others, paired by seed."""
    found, other = (np.array([r[key] for r in part]) for part in (mine, others))
    return evaluate.paired_difference(found, other)


def summary(records: Sequence[dict], config: Config) -> list[dict]:
    rows = []
    for arm in runs(config):
        mine = of(records, **arm)
        row: dict[str, Any] = {**arm, "seeds": len(mine)}
        for key in ("dice", "average_precision"):
            values = [float(np.mean(r[key])) for r in mine]
            row[key], low, high = interval(values)
            row[f"{key}_interval"] = None if low is None else [low, high]
        row["minutes"] = interval([r["minutes"] for r in mine])[0]
        rows.append({**row, "cpu_seconds": median([r["cpu_seconds"] for r in mine])})
    return rows


def draw(path: pathlib.Path, rows: Sequence[dict], config: Config) -> None:
    """Draw Dice over slices, minutes and steps, with the band of the intervals."""
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.3), layout="constrained", sharey=True)
    usual = of(rows, steps=config.steps)
    few = of(rows, tomograms=FEW[0], slices=FEW[1])
    for start, line in zip(config.starts, ("--", "-"), strict=False):
        for number, colour in zip(config.tomograms, COLOURS, strict=False):
            mine = of(usual, start=start, tomograms=number)
            label = f"{counted(number)}, {start}"
            with_intervals(axes[0], mine, "slices", color=colour, ls=line, label=label)
            with_intervals(axes[1], mine, "minutes", color=colour, ls=line)
        mine = sorted(of(few, start=start), key=lambda r: r["steps"])
        with_intervals(axes[2], mine, "steps", color=COLOURS[0], ls=line, label=start)
    for row in of(rows, steps=0):
        axes[0].axhline(row["dice"], color="0.5", ls=":", label="pretrained, no annotation")
    axes[0].set(xlabel="annotated slices of each tomogram", ylabel="Dice", ylim=(0, 1))
    axes[1].set_xlabel("minutes of annotation in all")
    axes[2].set_xlabel("steps, for three slices of one tomogram")
    for axis in axes:
        axis.set_xscale("log")
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    for axis, ticks in ((axes[0], config.slices), (axes[2], [r["steps"] for r in few])):
        axis.set_xticks(sorted(set(ticks)), [str(tick) for tick in sorted(set(ticks))])
    axes[0].legend(fontsize=8)
    axes[2].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def counted(tomograms: int) -> str:
    return f"{tomograms} tomogram{'s' * (tomograms > 1)}"


def claims_of(records: Sequence[dict], config: Config) -> list[dict]:
    """Return the claims about few slices, many tomograms and the start."""
    usual = of(records, steps=config.steps)
    few, many = min(config.slices[1:], default=config.slices[0]), config.slices[-1]
    found = []
    for start in config.starts:
        for number in config.tomograms:
            mine = of(usual, start=start, tomograms=number)
            less = difference(of(mine, slices=few), of(mine, slices=many), "dice")
            name = f"{start}, {counted(number)}, Dice of {few} slices minus that of {many}"
            found.append(scoring.gained(name, less, CLOSE))
        mine = of(usual, start=start)
        wide = of(mine, tomograms=config.tomograms[-1], slices=config.slices[0])
        deep = of(mine, tomograms=config.tomograms[0], slices=many)
        name = (
            f"{start}, Dice of {config.slices[0]} slice of {config.tomograms[-1]} tomograms minus "
            f"that of {many} slices of {config.tomograms[0]}"
        )
        found.append(scoring.gained(name, difference(wide, deep, "dice")))
        for number, count in (FEW, most(config)):
            part = of(records, start=start, tomograms=number, slices=count)
            usual_steps = of(part, steps=config.steps)
            for steps in config.other_steps[-1:]:
                more = difference(of(part, steps=steps), usual_steps, "dice")
                name = (
                    f"{start}, {count} slices of {counted(number)}, Dice of {steps} steps minus "
                    f"that of {config.steps}, converged if at most"
                )
                goal = evaluate.Claim(name, more.mean, more.interval, CONVERGED, at_most=True)
                found.append(resolved(goal))
    if set(STARTS) <= set(config.starts):
        for number in config.tomograms:
            scratch, trained = (
                of(usual, start=start, tomograms=number, slices=few) for start in STARTS
            )
            what = f"{few} slices of {counted(number)}, Dice of pretrained minus that"
            name = f"{what} from scratch"
            found.append(scoring.gained(name, difference(trained, scratch, "dice")))
            more = difference(trained, of(records, **NOTHING), "dice")
            found.append(scoring.gained(f"{what} without annotation", more))
    return found


def main(config: Config) -> None:
    if config.tiny:
        config = dataclasses.replace(
            config, starts=("scratch",), tomograms=(1,), slices=(1, 3), steps=2, other_steps=(),
            design=networks.TINY, test=1, seeds=(0,),
        )  # fmt: skip
    rows = Rows("sparse_annotation", dataclasses.asdict(config), config.tiny)
    learned, judged = config.design.learned(), config.design.judged()
    tests = load("test", config.design.tier, config.test, config.design.edge)
    for seed in config.seeds:
        order = np.random.default_rng(seed).permutation(len(learned))
        for arm in runs(config):
            key = {**arm, "seed": seed}
            if rows.done(**key):
                continue
            cases = [learned[i] for i in order[: arm["tomograms"]]]
            start = time.process_time()
            network = learn(arm["start"], cases, arm["slices"], arm["steps"], seed, config.model)
            took = time.process_time() - start
            values = score(network, judged, tests)
            values["minutes"] = sum(minutes_of(case, arm["slices"]) for case in cases)
            record = rows.add(key, {**values, "cpu_seconds": took})
            told = ", ".join(f"{name} {value}" for name, value in key.items())
            print(f"{told}: Dice {np.mean(record['dice']):.3f}  {took:.0f} CPU-s", flush=True)
            jax.clear_caches()  # programs of other numbers of tomograms
    table = summary(rows.records, config)
    draw(results_folder(config.tiny) / "sparse_annotation.png", table, config)
    rows.finish(table, claims_of(rows.records, config))


if __name__ == "__main__":
    main(tyro.cli(Config))
