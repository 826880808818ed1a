"""Does restoring a tomogram help to find its membranes, and what does restoration invent?

    python experiments/restoration_first.py            # 3 CPU-hours; goes on where it stopped
    python experiments/restoration_first.py --tiny     # two minutes, for the tests

Tilt series of `benchmark_set.py` with halves are restored by Wiener's filter or by a network that
learned from the halves of all of them (``n2n``, ``deepdewedge``, ``equivariant``) or from phantoms
(``simulated``), see `restorers.py`. Then a threshold, the sheet filter at its best scale in the
validation scenes, and a U-Net that learned from the restored training scenes segment the others. In
``joint`` the U-Net and the restorer ``equivariant`` learn on together, in six times the time of
the others; ``longer`` is a U-Net without restoration that learns as long. All are compared with no
restoration, as in `wedge_losses.py`; intervals of differences resample seeds, scenes and membranes.
"""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from experiments import networks, restorers, scoring
from experiments.benchmark_set import Case, Series, load_series
from experiments.common import Rows, median, over_seeds, results_folder
from experiments.curves import COLOURS, with_seeds
from experiments.networks import Design, Trained
from experiments.restored import (
    SEGMENTERS,
    SHEET,
    THRESHOLD,
    UNET,
    Parts,
    jointly,
    of_network,
    segmenter_of,
)
from experiments.restorers import NONE, RECIPES, SIMULATED, WIENER, Lesson
from experiments.scoring import HIDDEN, INVENTIONS

JOINT, SEPARATE = "joint", "equivariant"
LONGER = "longer"  # no restoration, and a U-Net that learns as long as in joint training
UNTRAINED = (NONE, LONGER, WIENER)
RESTORATIONS = (NONE, LONGER, WIENER, *RECIPES, SIMULATED, JOINT)
TINY = (NONE, LONGER, WIENER, JOINT)
FILLING = ("deepdewedge", "equivariant", SIMULATED)  # the missing wedge
QUALITIES = ("density_invented", "agreement", "filled")
# What a restoration should add to the average precision, and to the recall of hidden membrane.
GOALS = {SHEET: (0.05, 0.05), UNET: (0.02, 0.05)}


@dataclasses.dataclass(frozen=True)
class Config:
    """Restore the fixed scenes before they are segmented."""

    restorations: tuple[str, ...] = RESTORATIONS
    """``none`` first"""
    segmenters: tuple[str, ...] = SEGMENTERS
    design: Design = dataclasses.field(
        default_factory=lambda: Design(steps=1500, scenes=12, validation=4)
    )
    """how the U-Net learns, also in joint training"""
    scales: tuple[tuple[float, ...], ...] = ((1.0,), (1.5,), (2.0,), (3.0,), (1.5, 3.0))
    """scales of the sheet filter among which the validation scenes choose, in voxels"""
    lesson: Lesson = Lesson(steps=1000, patch=32)
    """how restorers learn from the tomograms that they restore"""
    patient: Lesson = Lesson(steps=1500, patch=48)
    """how ``simulated`` learns from phantoms"""
    factor: float = 0.3
    """factor of the restorer's own loss in joint training"""
    longer: int = 6
    """times the steps of the U-Net ``longer``, about as many CPU-seconds as joint training takes"""
    test: int = 16
    """number of test scenes"""
    seeds: tuple[int, ...] = (0, 1, 2)
    tiny: bool = False

    def lesson_of(self, restoration: str) -> Lesson:
        return self.patient if restoration == SIMULATED else self.lesson

    def has_seeds(self, restoration: str, segmenter: str) -> bool:
        """Return whether anything is trained, so that the result depends on the seed."""
        return segmenter == UNET or restoration not in UNTRAINED

    def segmenters_of(self, restoration: str) -> tuple[str, ...]:
        return (UNET,) if restoration == LONGER else self.segmenters

    def design_of(self, restoration: str) -> Design:
        times = self.longer if restoration == LONGER else 1
        return dataclasses.replace(self.design, steps=times * self.design.steps)


def keys_of(restoration: str, config: Config, seed: int) -> list[dict[str, Any]]:
    """Return the keys of the records of a restoration and a seed."""
    return [
        {"restoration": restoration, "segmenter": segmenter, "seed": seed}
        for segmenter in config.segmenters_of(restoration)
        if config.has_seeds(restoration, segmenter) or seed == config.seeds[0]
    ]


def run(restoration: str, series: Parts, rows: Rows, config: Config, seed: int, start: Any) -> Any:
    """Add the records of a restoration and a seed, and return the restorer that was trained.

    Args:
        start: the trained restorer with which joint training begins, for `JOINT` alone.
    """
    began, lesson = time.process_time(), config.lesson_of(restoration)
    both: Trained | None = None
    restorer = None
    if restoration == JOINT:
        both = jointly(start, series, config.design, config.factor, seed)
        chain: Any = both.network
        restorer = chain.restorers[0]
    elif restoration not in UNTRAINED:
        every = [one for part in series for one in part]
        restorer = restorers.learned(restoration, every, lesson, seed)
    taught = time.process_time() - began

    def restored(one: Series) -> Case:
        recipe = NONE if restoration == LONGER else restoration
        volume = restorers.restored(recipe, restorer, one, lesson.patch)
        return dataclasses.replace(one.case, volume=volume)

    cases = Parts(*([restored(one) for one in part] for part in series))
    facts = restorers.quality(cases.tests, series.tests)
    facts |= {"restorer_seconds": taught, "cut": picture(cases.tests[0].volume)}
    for key in keys_of(restoration, config, seed):
        if rows.done(**key):
            continue
        given = cases
        if both is not None and key["segmenter"] == UNET:
            found, given = of_network(both), Parts(*([o.case for o in part] for part in series))
        else:
            design = config.design_of(restoration)
            found = segmenter_of(key["segmenter"], cases, design, config.scales, seed)
        values = scoring.score(found.predict, given.judged, given.tests)
        record = rows.add(key, {**facts, **found.facts, **values})
        print(
            f"seed {seed} {restoration:12s} {key['segmenter']:10s} average precision "
            f"{np.mean(record['average_precision']):.3f}  density invented "
            f"{np.mean(record['density_invented']):.2f}  {taught:.0f} + "
            f"{record['segmenter_seconds']:.0f} CPU-s",
            flush=True,
        )
    return restorer


def picture(volume: np.ndarray) -> str:
    """Return the middle xz slice in 256 shades, as text."""
    shades = np.clip((volume[:, volume.shape[1] // 2] + 2) / 6, 0, 1)
    return np.round(255 * shades).astype(np.uint8).tobytes().hex()


def of(records: Sequence[dict], restoration: str, segmenter: str) -> list[dict]:
    key = (restoration, segmenter)
    return [r for r in records if (r["restoration"], r["segmenter"]) == key]


def summary(records: Sequence[dict], truth: scoring.Truth, config: Config) -> list[dict]:
    """Return a row for each restoration and segmenter, with its differences to no restoration."""
    rows = []
    for segmenter in config.segmenters:
        for restoration in config.restorations:
            if segmenter not in config.segmenters_of(restoration):
                continue
            mine = of(records, restoration, segmenter)
            row: dict[str, Any] = {"segmenter": segmenter, "restoration": restoration}
            row |= scoring.summary(mine, truth)
            if restoration != NONE:
                others = of(records, NONE, segmenter)
                quantities = ("average_precision", "recall_hidden", "dice")
                row |= scoring.gain_columns(mine, others, truth, *quantities)
            row["setting"] = ", ".join(dict.fromkeys(r["setting"] for r in mine))
            for name in QUALITIES:
                values = [v for r in mine for v in r[name] if v is not None]
                row[name] = float(np.mean(values)) if values else None
            for name in ("restorer_seconds", "segmenter_seconds"):
                row[name] = median([r[name] for r in mine])
            rows.append(row)
    return rows


def claims_of(records: Sequence[dict], truth: scoring.Truth, config: Config) -> list[dict]:
    """Return the claims about each restoration, joint training, inventions and convergence."""
    found = []

    def claim(pair: tuple[list, list], quantity: str, name: str, goal: float, most: bool = False):
        if all(pair):
            more = scoring.gain(*pair, truth, quantity)
            found.append(scoring.gained(name, more, goal, at_most=most))

    texts = {
        "average_precision": "average precision",
        "recall_hidden": "recall of hidden membrane at equal invention",
    }
    for segmenter, goals in GOALS.items():
        none = of(records, NONE, segmenter)
        for restoration in config.restorations:
            pair = of(records, restoration, segmenter), none
            for (quantity, text), goal in zip(texts.items(), goals, strict=True):
                if restoration != NONE:
                    claim(pair, quantity, f"{segmenter}, {text}, {restoration} minus none", goal)
    for other in (SEPARATE, LONGER):
        pair = of(records, JOINT, UNET), of(records, other, UNET)
        for quantity, text in texts.items():
            claim(pair, quantity, f"{UNET}, {text}, {JOINT} minus {other}", 0.0)
    for restoration in FILLING:
        pair = of(records, restoration, THRESHOLD), of(records, "n2n", THRESHOLD)
        name = f"voxels of density invented for each of structure, {restoration} minus n2n"
        claim(pair, "density_invented", name, 0.0, most=True)
    for restoration in (NONE, LONGER):
        slopes = [networks.slope(r["curve"]) for r in of(records, restoration, UNET)]
        name = f"average precision that 1,000 steps add in the end, {restoration}"
        kept = [s for s in slopes if s is not None]
        found.append(over_seeds(f"{name}; converged if at most", kept, 0.02, at_most=True))
    return found


def draw(path: pathlib.Path, rows: Sequence[dict], records: Sequence[dict], test: Case) -> None:
    """Draw the gains with intervals, recall over invention, and a slice of each restoration."""
    figure = plt.figure(figsize=(15, 7.5), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(1.7, 1))
    left, middle, right = parts[0].subplots(1, 3)
    names = list(dict.fromkeys(r["restoration"] for r in rows))
    for number, segmenter in enumerate(dict.fromkeys(r["segmenter"] for r in rows)):
        mine = [r for r in rows if r["segmenter"] == segmenter and r["restoration"] != NONE]
        place = [names.index(r["restoration"]) - 1 + 0.2 * (number - 1) for r in mine]
        for axis, key in ((left, "average_precision_gain"), (middle, "recall_hidden_gain")):
            values = np.array([r[key] for r in mine])
            ends = np.array([r[f"{key}_interval"] or [r[key]] * 2 for r in mine])
            error = np.abs(ends.T - values)
            axis.errorbar(place, values, error, fmt="o", color=COLOURS[number], label=segmenter)
    for axis, text in ((left, "average precision"), (middle, "recall of hidden membrane")):
        axis.axhline(0, color="0.5", lw=1)
        axis.set_xticks(range(len(names) - 1), names[1:], rotation=30, ha="right")
        axis.set_title(f"{text}, minus that without restoration", fontsize=10)
    left.legend(fontsize=8)
    for number, row in enumerate(r for r in rows if r["segmenter"] == UNET):
        curve = row["curves"]["recall_hidden_by_invention"]
        with_seeds(right, INVENTIONS, curve, color=f"C{number}", label=row["restoration"])
    right.set(xscale="log", xlabel="invented voxels for each true voxel (validation)")
    right.set_title(f"{UNET}: recall of membrane of visibility below {HIDDEN}", fontsize=10)
    right.legend(fontsize=8)
    for axis in (left, middle, right):
        axis.grid(alpha=0.3)
    shape = test.volume.shape[0], test.volume.shape[2]
    names = [name for name in names if name != LONGER]
    axes = parts[1].subplots(1, 1 + len(names))
    axes[0].imshow(test.membrane[:, test.membrane.shape[1] // 2], cmap="gray_r")
    for axis, name in zip(axes[1:], names, strict=True):
        cut = next(r["cut"] for r in records if r["restoration"] == name)
        axis.imshow(np.frombuffer(bytes.fromhex(cut), np.uint8).reshape(shape), cmap="gray")
    for axis, name in zip(axes, ("membrane, xz", *names), strict=True):
        axis.set(xticks=[], yticks=[])
        axis.set_title(name, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(config: Config) -> None:
    if config.tiny:
        lesson = Lesson(steps=2, patch=16, width=4, phantoms=1, edge=32)
        config = dataclasses.replace(
            config, restorations=TINY, scales=((1.5,), (3.0,)), design=networks.TINY,
            lesson=lesson, patient=lesson, test=1, seeds=(0,),
        )  # fmt: skip
    if config.restorations[0] != NONE:
        raise SystemExit("--restorations begins with none, with which the others are compared")
    rows = Rows("restoration_first", dataclasses.asdict(config), config.tiny)
    design = config.design
    series = Parts(
        load_series("train", design.scenes, design.edge),
        load_series("validation", design.validation, design.edge),
        load_series("test", config.test, design.edge),
    )
    tests = [one.case for one in series.tests]
    truth = scoring.Truth.of(tests)
    for seed in config.seeds:
        start = None  # of joint training
        for restoration in config.restorations:
            if all(rows.done(**key) for key in keys_of(restoration, config, seed)):
                continue
            if restoration == JOINT and start is None:
                every = [one for part in series for one in part]
                start = restorers.learned(SEPARATE, every, config.lesson, seed)
            restorer = run(restoration, series, rows, config, seed, start)
            start = restorer if restoration == SEPARATE else start
        jax.clear_caches()  # programs of this seed
    table = summary(rows.records, truth, config)
    draw(results_folder(config.tiny) / "restoration_first.png", table, rows.records, tests[0])
    rows.finish(table, claims_of(rows.records, truth, config))


if __name__ == "__main__":
    main(tyro.cli(Config))
