"""Which method finds membranes best in noise, uneven contrast and the missing wedge?

    python experiments/method_comparison.py          # 40 CPU-minutes, after `networks.py`
    python experiments/method_comparison.py --tiny   # a minute, for the tests

All methods segment the test tilt series of `benchmark_set.py`. Filters have the settings of highest
average precision in the validation scenes. The linear vote and the network of few layers (left out
of the recorded result) learn with the defaults of ``train``, and the U-Net is that of
`networks.py`, each with three seeds. Thresholds, of Dice and of equal invention, are chosen on the
validation scenes too (`scoring.py`); ``dice_in_hindsight`` is at the best one of each test scene.
Contrast is low in the third of the test scenes where it is lowest, and high where it is highest.
Intervals of differences resample seeds and scenes.

Learned: at these contrasts, around those of real membranes, the U-Net is in a class of its own: its
average precision is {method=unet-fast: average_precision}, at low contrast
{method=unet-fast: average_precision_at_low_contrast}. The best filter is tensor voting, with
{method=tensor-voting: average_precision}; it is better than the threshold
({method=threshold: average_precision}), which no smoothing improves, and than the linear vote
({method=vote: average_precision}). Even at the best threshold of each scene, filters reach a Dice
of {method=threshold: dice_in_hindsight} to {method=tensor-voting: dice_in_hindsight}. Where they
invent as little as the U-Net they find next to nothing, and hardly any hidden membrane.

A sceptic would say that filters were made for tomograms without crowding and with a corrected
transfer function, and would restore the tomograms first; and that the linear vote is trained by its
default of 400 steps of the Dice loss, which may not suit rare membranes.
"""

import dataclasses
import functools
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro
from flax import nnx

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import core, evaluate, restore, segmenters
from cryojax_seg.training.methods import defaults, known
from experiments import networks, scoring
from experiments.benchmark_set import Case, load
from experiments.common import Rows, environment, interval, median, results_folder
from experiments.curves import with_seeds
from experiments.fitting import train_method
from experiments.networks import Design
from experiments.scoring import INVENTIONS

CLASSES = ("membrane",)
FILTERS = ("threshold", "local-threshold", "hysteresis", "sheet", "tensor-voting")
CONVERGED = "unet-fast"
SMOOTHED = (0.0, 1.0, 1.5, 2.0)  # voxels


@dataclasses.dataclass(frozen=True)
class Config:
    """Compare methods on the fixed scenes."""

    methods: tuple[str, ...] = (*FILTERS, "vote", "convnet", CONVERGED)
    """names of methods; may be your own, see `training.methods`"""
    design: Design = dataclasses.field(default_factory=Design)
    """how the U-Net was trained, and with what scenes"""
    test: int = 16
    """number of test scenes"""
    seeds: tuple[int, ...] = (0, 1, 2)
    tiny: bool = False


def smoothed(scale: float, make: Callable[[float], core.Segmenter], case: Case) -> core.Segmenter:
    """Return a segmenter of the smoothed volume, made for the standard deviation that it has."""
    if scale == 0:
        return make(1.0)
    window = restore.Gaussian(scale)
    return core.Chain([window, make(float(np.std(core.apply(window, case.volume))))])


def candidates(method: str, case: Case) -> dict[str, core.Segmenter]:
    """Return the settings of a filter among which the validation scenes choose."""
    s = segmenters
    match method:
        case "threshold":
            return {
                f"smoothed by {scale:g}": smoothed(
                    scale, lambda std: s.GlobalThreshold(0.0, std / 2), case
                )
                for scale in SMOOTHED
            }
        case "local-threshold":
            return {
                f"smoothed by {scale:g}, window {window:g}": smoothed(
                    scale, lambda std, w=window: s.LocalThreshold((w,), softness=std / 2), case
                )
                for scale in (0.0, 1.5)
                for window in (4.0, 8.0)
            }
        case "hysteresis":
            return {
                f"smoothed by {scale:g}, from {low:g} to {low + 1:g}": smoothed(
                    scale, lambda std, v=low: s.Hysteresis(v * std, (v + 1) * std, std / 2), case
                )
                for scale in SMOOTHED
                for low in (0.5, 1.0, 1.5)
            }
        case "sheet":
            scales = ((1.0,), (1.5,), (2.0,), (3.0,), (1.5, 3.0))
            return {f"scales {' '.join(f'{v:g}' for v in n)}": s.SheetFilter(n) for n in scales}
        case "tensor-voting":
            return {
                f"thickness {thickness:g}, scale {scale:g}": s.TensorVoting(thickness, scale)
                for thickness in (1.5, 2.0, 3.0)
                for scale in (2.0, 4.0)
            }
    raise ValueError(f"{method!r} is not a filter")


def predict(segmenter: core.Segmenter, case: Case) -> np.ndarray:
    return np.asarray(core.probabilities(core.apply(segmenter, case.volume)))[..., 0]


def precision_of(segmenter: core.Segmenter, cases: list[Case]) -> float:
    """Return the average precision of all scenes together."""
    ranked = [evaluate.rank(predict(segmenter, case), case.membrane) for case in cases]
    return sum(ranked[1:], ranked[0]).average_precision or 0.0


def prepared(
    method: str, seed: int | None, config: Config, validation: list[Case]
) -> tuple[scoring.Predict, dict[str, Any]]:
    """Return the prediction of a method, its setting, parameters, and the CPU-seconds it took."""
    start, setting = time.process_time(), "-"
    if method in FILTERS:
        options = candidates(method, validation[0])
        if config.tiny:
            options = dict(list(options.items())[:2])
        setting = max(options, key=lambda name: precision_of(options[name], validation))
        network = options[setting]
        run = functools.partial(predict, network)
        seconds = time.process_time() - start
    else:
        assert seed is not None
        found = (
            networks.converged(seed, config.design)
            if method == CONVERGED
            else learned(method, seed, config)
        )
        network, seconds, run = found.network, found.cpu_seconds, found.predict
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))
    return run, {"setting": setting, "cpu_seconds": seconds, "parameters": count}


def learned(method: str, seed: int, config: Config) -> networks.Trained:
    """Return a segmenter that is trained with the defaults of its method."""
    examples = [case.example() for case in config.design.learned()]
    found, seconds = train_method(
        method,
        CLASSES,
        examples,
        seed,
        steps=2 if config.tiny else defaults(method).steps,
        patch=config.design.patch,
    )
    return networks.Trained(found, [], seconds, environment()["commit"])


def summary(records: list[dict], truth: scoring.Truth, tests: list[Case]) -> list[dict]:
    """Return a row for each method."""
    contrast = np.array([case.conditions.contrast for case in tests])
    order = np.argsort(contrast)
    third = -(-len(order) // 3)
    rows = []
    for method in dict.fromkeys(r["method"] for r in records):
        mine = [r for r in records if r["method"] == method]
        row: dict[str, Any] = {"method": method, "setting": mine[0]["setting"]}
        row |= scoring.summary(mine, truth)
        for name, scenes in (("low", order[:third]), ("high", order[-third:])):
            values = [float(np.mean(np.array(r["average_precision"])[scenes])) for r in mine]
            row[f"average_precision_at_{name}_contrast"] = interval(values)[0]
        row["curves"]["average_precision"] = [r["average_precision"] for r in mine]
        for key in ("cpu_seconds", "parameters"):
            row[key] = median([r[key] for r in mine])
        rows.append(row)
    return rows


def draw(path: pathlib.Path, rows: list[dict], tests: list[Case]) -> None:
    """Draw precision over contrast, and recall over visibility and invention."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.6), layout="constrained")
    contrast = np.array([case.conditions.contrast for case in tests])
    order = np.argsort(contrast)
    centres = (scoring.BINS[:-1] + scoring.BINS[1:]) / 2
    for number, row in enumerate(rows):
        look: Any = {"color": f"C{number}", "label": row["method"]}
        curves = row["curves"]
        values = np.array(curves["average_precision"])[:, order].mean(0)
        left.plot(contrast[order], values, "o", ms=5, **look)
        for axis, x, key in (
            (middle, centres, "recall_by_visibility"),
            (right, INVENTIONS, "recall_hidden_by_invention"),
        ):
            with_seeds(axis, x, curves[key], **look)
    left.set(xlabel="contrast (standard deviations of the noise)", ylabel="average precision")
    middle.set(xlabel="visibility", ylabel="recall", title=f"invention {scoring.CHOSEN}")
    right.set(xscale="log", xlabel="invented voxels for each true one")
    right.set_ylabel(f"recall below a visibility of {scoring.HIDDEN}")
    for axis in (left, middle, right):
        axis.set_ylim(0, 1)
        axis.grid(alpha=0.3)
    left.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(config: Config) -> None:
    if config.tiny:
        methods = ("threshold", "sheet", "vote", CONVERGED)
        config = dataclasses.replace(
            config, methods=methods, design=networks.TINY, test=1, seeds=(0,)
        )
    for method in config.methods:
        known(method)
    rows = Rows("method_comparison", dataclasses.asdict(config), config.tiny)
    design = config.design
    validation, tests = design.judged(), load("test", design.tier, config.test, design.edge)
    truth = scoring.Truth.of(tests)
    for method in config.methods:
        for seed in (None,) if method in FILTERS else config.seeds:
            if rows.done(method=method, seed=seed):
                continue
            run, facts = prepared(method, seed, config, validation)
            values = {**facts, **scoring.score(run, validation, tests)}
            record = rows.add({"method": method, "seed": seed}, values)
            one = scoring.summary([record], truth)
            print(
                f"{method:16s} seed {seed}  average precision {one['average_precision']:.3f}  "
                f"Dice {one['dice']:.3f}  {facts['cpu_seconds']:.0f} CPU-s  {facts['setting']}",
                flush=True,
            )
            jax.clear_caches()  # programs of other methods
    table = summary(rows.records, truth, tests)
    draw(results_folder(config.tiny) / "method_comparison.png", table, tests)
    of = {m: [r for r in rows.records if r["method"] == m] for m in config.methods}
    best = {m: np.mean([r["validation_average_precision"] for r in of[m]]) for m in of}
    filters = max((m for m in of if m in FILTERS), key=best.__getitem__, default="threshold")
    claims = []
    for one, other in (
        *((m, filters) for m in of if m not in FILTERS),
        (CONVERGED, "convnet"),
        (filters, "threshold"),
    ):
        if one != other and one in of and other in of:
            more = scoring.gain(of[one], of[other], truth, "average_precision")
            claims.append(scoring.gained(f"average precision, {one} minus {other}", more))
    rows.finish(table, claims)


if __name__ == "__main__":
    main(tyro.cli(Config))
