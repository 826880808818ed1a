"""Does restoring a tomogram before segmentation help, which methods, and what does it invent?

    python experiments/restoration_first.py            # 90 CPU-minutes: about 60 on 2 cores
    python experiments/restoration_first.py --tiny     # under a minute: checks that it runs

Restorers get simulated vesicles and sheets with even and odd halves, at several noise levels, with
and without a wedge, and learn from the very tomograms that they restore; ``simulated`` ones learn
from phantoms with truth, of the same kind of scenes or others. A threshold, the sheet filter (also
at the ``best`` of its scales) and a small U-Net then learn from restored scenes with dense labels,
and are scored on others, and so on the real microtubules (`datasets.py`). In ``end to end`` and
``joint`` the U-Net learns together with the restorer. ``invented`` is the bright volume farther
than two voxels from any membrane, relative to that of membrane.

Learned, from one seed: restoration replaces a neighbourhood that a method lacks. Methods that look
at single voxels gain most: with noise2noise a threshold gains from
{condition=(0.1, True); restorer=none; method=threshold: dice} to
{condition=(0.1, True); restorer=n2n; method=threshold: dice} at a ratio of 0.1, and from
{condition=(0.3, True); restorer=none; method=threshold: dice} to
{condition=(0.3, True); restorer=n2n; method=threshold: dice} at 0.3. The default sheet filter gains
half as much ({condition=(0.1, True); restorer=none; method=sheet: dice} to
{condition=(0.1, True); restorer=n2n; method=sheet: dice}), and at the best of its scales a quarter
({condition=(0.1, True); restorer=none; method=best sheet: dice} to
{condition=(0.1, True); restorer=n2n; method=best sheet: dice}). A U-Net, whose neighbourhood
removes noise by itself, gains hardly anything
({condition=(0.1, True); restorer=none; method=unet: dice} to
{condition=(0.1, True); restorer=n2n; method=unet: dice}); at a ratio of 0.3 Wiener's filter brings
it from {condition=(0.3, True); restorer=none; method=unet: dice} to
{condition=(0.3, True); restorer=wiener; method=unet: dice}. In volumes of 128^3 membranes are
rarer, and chance resemblances more frequent, so the sheet filter gains more: from
{condition=128^3; restorer=none; method=sheet: dice} to
{condition=128^3; restorer=equivariant; method=sheet: dice} with the default restorer, but as much
with Wiener's filter ({condition=128^3; restorer=wiener; method=sheet: dice}), which takes seconds
where training takes minutes. Terms that fill the wedge add nothing to noise2noise, and IsoNet,
whose target is its own output, changes almost nothing.

A single tomogram teaches little, and longer training makes it worse: ``--effort.width 16
--effort.patch 48 --effort.steps 700`` memorised the noise, and lost most of the correlation of
noise2noise with the truth. Phantoms with truth do teach: those of the same kind of scenes lift the
sheet filter to {condition=(0.1, True); restorer=simulated; method=sheet: dice} and the U-Net, which
has three labelled scenes, to {condition=(0.1, True); restorer=simulated; method=unet: dice}; those
of other kinds reach {condition=(0.1, True); restorer=simulated (other scenes); method=sheet: dice}
and {condition=(0.1, True); restorer=simulated (other scenes); method=unet: dice}. On the real
microtubule the sheet filter has {condition=real; restorer=none; method=sheet: dice} alone,
{condition=real; restorer=equivariant; method=sheet: dice} with the default restorer and
{condition=real; restorer=simulated (other scenes); method=sheet: dice} with these phantoms; the
U-Net has {condition=real; restorer=none; method=unet: dice} alone,
{condition=real; restorer=wiener; method=unet: dice} behind Wiener's filter and
{condition=real; restorer=simulated (other scenes); method=unet: dice} behind the phantoms. Such a
restorer is therefore only as good as its phantoms resemble the sample.

Negative, against the goals: at the threshold of the best Dice, which is higher after restoration,
recall at low visibility falls. At the precision reached without restoration it rises by
{claim=equivariant, 128^3: recall of visibility below 0.3 that the sheet filter gains at equal
precision: value} at 128^3 and {claim=equivariant, 64^3: recall of visibility below 0.3 that the
sheet filter gains at equal precision: value} at 64^3 (goal 0.2), because there is less noise and
not because the wedge is filled. Much of what is bright after restoration is not membrane: its
volume is {claim=equivariant, 64^3: density invented / voxels of membrane: value} times that of
membrane, {claim=equivariant, 128^3: density invented / voxels of membrane: value} times at 128^3,
and {claim=simulated, 64^3: density invented / voxels of membrane: value} times with phantoms of the
same kind, where the goal was a fiftieth. Joint training does not pay within 120 steps: Dice is
{condition=(0.1, True); restorer=equivariant; method=end to end: dice} end to end and
{condition=(0.1, True); restorer=equivariant; method=joint: dice} with the restorer's own loss in
addition, which therefore helps, but {condition=(0.1, True); restorer=none; method=unet: dice} for
the U-Net alone, and {condition=(0.1, True); restorer=equivariant; method=unet: dice} behind the
restorer without joint training.

A sceptic would say that everything is from one seed and from networks of a hundred steps, that the
recorded result comes from a tree with changes that were not committed, and that a converged network
was never trained behind a restorer.
"""

import dataclasses
import pathlib
import sys
import time

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import core, evaluate, losses
from experiments import datasets
from experiments.common import Rows, claim, interval, results_folder
from experiments.restored import LOW, METHODS, Network, annotated, answer, found, score, unet
from experiments.restorers import (
    ENERGY,
    FILTERS,
    RECIPES,
    SIMULATED,
    SINGLE,
    Effort,
    Labelled,
    microtubules,
    run,
    simulated,
)
from experiments.scenes import WEDGE

EVERYTHING = core.MissingWedge((-90.0, 90.0))
DEFAULT, ELSEWHERE = "equivariant", "simulated (other scenes)"
LARGE = "128^3"
Condition = tuple[float, bool]  # signal-to-noise ratio, and whether there is a wedge


@dataclasses.dataclass(frozen=True)
class Config:
    """Compare restorers in front of segmentation methods.

    Restorers that are trained start from Wiener's filter. On the real microtubules, which have no
    halves, they assume white noise and learn from both volumes; methods learn from five slices of
    one. Simulated restorers have a wider U-Net and more steps, and never see the tomogram.
    """

    restorers: tuple[str, ...] = (
        "none",
        *SIMULATED,
        *FILTERS,
        *RECIPES,
        ENERGY,
        DEFAULT + SINGLE,
    )
    """restorers at the main condition"""
    fewer: tuple[str, ...] = ("none", "wiener", "n2n", DEFAULT)
    """restorers at the other conditions, and at the main one in volumes of 128^3"""
    main: Condition = (0.1, True)
    others: tuple[Condition, ...] = ((0.05, True), (0.3, True), (0.1, False))
    real: tuple[str, ...] = ("none", "wiener", DEFAULT, "isonet", ELSEWHERE)
    edge: int = 64
    """edge of the volumes, in voxels of 10 angstrom"""
    train: int = 3
    test: int = 3
    large: int = 128
    """edge of larger volumes, one for training and one for testing, in voxels; 0 for none"""
    effort: Effort = Effort()
    large_effort: Effort = Effort(400)
    """training effort in larger volumes, as in ``cryojax-seg restore``"""
    network: Network = Network()
    ways: tuple[str, ...] = ("end to end", "joint")
    """ways of training the U-Net together with the default restorer"""
    joint: float = 0.3
    """factor of the restorer's own loss in joint training"""
    seeds: tuple[int, ...] = (0,)
    tiny: bool = False


def quality(volumes: list[np.ndarray], tests: list[Labelled]) -> dict:
    """Return the correlation with the truth, the agreement with the data, and the invention.

    Bright is what is above halfway from background to membrane, see `evaluate.invention`.
    """
    correlation, agreement, filled, invented = [], [], [], []
    for volume, one in zip(volumes, tests, strict=True):
        audit = evaluate.audit(one.noisy.volume, volume, one.noisy.wedge, edge=64, count=1)
        agreement.append(audit.agreement_overall)
        filled.append(audit.filled_overall)
        if one.clean is not None:
            correlation.append(float(np.corrcoef(volume.ravel(), one.clean.ravel())[0, 1]))
            truth = one.labels == 1
            share = evaluate.invention(volume, truth, one.visibility, one.noisy.wedge).share
            invented.append(share)
    names = ("correlation", "agreement", "filled", "invented")
    parts = (correlation, agreement, filled, invented)
    return {name: interval(values)[0] for name, values in zip(names, parts, strict=True)}


def together(
    way: str, restorer: core.LocalOperator, scenes: list[Labelled], config: Config, seed: int
) -> core.Segmenter:
    """Return the U-Net behind the restorer."""
    learned = [annotated(one, one.noisy.volume) for one in scenes]
    labels = losses.supervised(losses.combine(losses.cross_entropy, losses.dice))
    own = losses.restoration(RECIPES[DEFAULT])
    match way:
        case "end to end":
            return unet(learned, config.network, seed, labels, restorer)
        case "joint":
            both = losses.add(labels, own, factors=(1.0, config.joint))
            return unet(learned, config.network, seed, both, restorer)
    raise ValueError(f"unknown way {way!r}")


def restored_and_scored(
    key: dict,
    name: str,
    scenes: list[Labelled],
    config: Config,
    seed: int,
    rows: Rows,
    methods: tuple[str, ...] = METHODS,
) -> None:
    """Score every method behind one restorer, and joint training at the main condition."""
    ways = config.ways if name == DEFAULT and key["condition"] == str(config.main) else ()
    wanted = methods + ways
    if all(rows.done(**key, restorer=name, method=method, seed=seed) for method in wanted):
        return
    tomograms = [one.noisy for one in scenes]
    tests = scenes[-config.test :]
    (volumes, restorer), seconds = run(name, tomograms, config.effort, seed)
    common = {**quality(volumes[-config.test :], tests), "restorer_seconds": seconds}

    def unrestored(method: str) -> float | None:
        """Return the precision of a method without restoration."""
        record = rows.done(**key, restorer="none", method=method, seed=seed)
        return None if record is None else record["precision"]

    for method in methods:
        start = time.process_time()
        masks = found(method, volumes, scenes, config.test, config.network, seed)
        scores = score(masks, tests, unrestored(method))
        add(rows, {**key, "restorer": name, "method": method, "seed": seed}, scores, common, start)
    for way in ways:
        assert restorer is not None
        start = time.process_time()
        net = together(way, restorer, scenes[: -config.test], config, seed)
        masks = answer(net, [one.noisy.volume for one in tests])
        scores = score(masks, tests, unrestored("unet"))
        add(rows, {**key, "restorer": name, "method": way, "seed": seed}, scores, common, start)


def add(rows: Rows, key: dict, scores: dict, common: dict, start: float) -> None:
    if rows.done(**key):  # before an interruption
        return
    seconds = time.process_time() - start
    record = rows.add(key, {**scores, **common, "method_seconds": seconds})
    low = record["recall_low"]
    print(
        f"{key['condition']} {key['restorer']:24s} {key['method']:10s} Dice "
        f"{record['dice'] or 0:.3f}  recall below {LOW}: {-1 if low is None else low:.3f}  "
        f"{common['restorer_seconds']:.0f} + {seconds:.0f} CPU-s",
        flush=True,
    )


def draw(path: pathlib.Path, table: list[dict], config: Config) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(13, 4.8), layout="constrained")
    main = [r for r in table if r["condition"] == str(config.main)]
    names = [r for r in config.restorers if any(row["restorer"] == r for row in main)]
    for axis, value in zip(axes, ("dice", "recall_low"), strict=True):
        for number, method in enumerate(METHODS):
            of = {r["restorer"]: r[value] for r in main if r["method"] == method}
            place = np.arange(len(names)) + 0.21 * (number - 1.5)
            axis.bar(place, [of.get(n) or 0 for n in names], 0.2, label=method)
        axis.set_xticks(np.arange(len(names)), names, rotation=40, ha="right")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set(title="Dice on unseen scenes, SNR 0.1, +-60 degrees")
    axes[1].set(title=f"recall of membrane of visibility below {LOW}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def summary(records: list[dict]) -> list[dict]:
    keys = ("condition", "restorer", "method")
    rows = []
    for key in dict.fromkeys(tuple(r[k] for k in keys) for r in records):
        mine = [r for r in records if tuple(r[k] for k in keys) == key]
        row: dict = dict(zip(keys, key, strict=True)) | {"seeds": len(mine)}
        for name, value in mine[0].items():
            if name not in (*keys, "seed") and not isinstance(value, str):
                row[name] = interval([r[name] for r in mine])[0]
        rows.append(row)
    return rows


def claims_of(table: list[dict], config: Config) -> list[dict]:
    of = {(r["condition"], r["restorer"], r["method"]): r for r in table}
    main = str(config.main)

    def at(restorer: str, method: str, value: str, condition: str = main):
        return (of.get((condition, restorer, method)) or {}).get(value)

    def gains(restorer: str, condition: str) -> list[dict]:
        """Return the gain of the sheet filter behind a restorer."""

        def gain(value: str, before: str) -> float | None:
            pair = at(restorer, "sheet", value, condition), at("none", "sheet", before, condition)
            return None if None in pair else pair[0] - pair[1]  # pyright: ignore

        what = f"{restorer}, {'128^3' if condition == LARGE else '64^3'}"
        low = f"{what}: recall of visibility below {LOW} that the sheet filter gains"
        return [
            claim(f"{what}: Dice that the sheet filter gains", gain("dice", "dice"), at_least=0.15),
            claim(low, gain("recall_low", "recall_low"), at_least=0.2),
            claim(f"{low} at equal precision", gain("recall_low_matched", "recall_low"),
                  at_least=0.2),
            claim(f"{what}: density invented / voxels of membrane",
                  at(restorer, "sheet", "invented", condition), at_most=0.02),
        ]  # fmt: skip

    joint = at(DEFAULT, "joint", "dice")
    parts = [at("none", "unet", "dice"), at(DEFAULT, "unet", "dice")]
    better = None if joint is None or None in parts else joint - max(parts)  # pyright: ignore
    return [
        *gains(DEFAULT, LARGE),
        *gains(DEFAULT, main),
        *(one for restorer in SIMULATED for one in gains(restorer, main)),
        claim("Dice of joint training minus the better of its parts", better, at_least=0.0),
    ]


def main(config: Config) -> None:
    if config.tiny:
        config = dataclasses.replace(
            config, restorers=("none", DEFAULT), others=(), real=(), edge=32, train=1, test=1,
            effort=Effort(2, 2, 16), network=Network(2, 16, 2), ways=("joint",), large=0,
        )  # fmt: skip
    rows = Rows("restoration_first", dataclasses.asdict(config), config.tiny)
    for seed in config.seeds:
        for condition in (config.main, *config.others):
            numbers = [100 * seed + i for i in range(config.train)]
            numbers += [1000 + 100 * seed + i for i in range(config.test)]
            wedge = WEDGE if condition[1] else EVERYTHING
            scenes = [simulated(i, config.edge, condition[0], wedge) for i in numbers]
            names = config.restorers if condition == config.main else config.fewer
            for name in names:
                key = {"condition": str(condition)}
                restored_and_scored(key, name, scenes, config, seed, rows)
            jax.clear_caches()
        if config.large:
            scenes = [simulated(i + seed, config.large, config.main[0], WEDGE) for i in (0, 1000)]
            one = dataclasses.replace(config, train=1, test=1, effort=config.large_effort)
            for name in config.fewer:
                key = {"condition": LARGE}
                restored_and_scored(key, name, scenes, one, seed, rows, METHODS[:3])
    if config.real:
        try:
            scenes = microtubules()
        except datasets.MissingData as missing:
            print(f"without the real volumes: {missing}")
            scenes = []
        real = dataclasses.replace(config, train=1, test=1)
        for name in config.real if scenes else ():
            restored_and_scored({"condition": "real"}, name, scenes, real, 0, rows)
    table = summary(rows.records)
    draw(results_folder(config.tiny) / "restoration_first.png", table, config)
    rows.finish(table, claims_of(table, config))


if __name__ == "__main__":
    main(tyro.cli(Config))
