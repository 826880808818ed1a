"""Does it matter which slices are annotated, and how many minutes does live prediction save?

    python experiments/active.py           # 10 CPU-minutes
    python experiments/active.py --tiny    # a minute, for the tests

**slices**: complete slices of a tomogram are annotated, and what learns in `annotate` labels the
others: the linear vote, and the last layer of a built-in model. The slices are those that the page
suggests one after the other (`view.ranked`; the first one is drawn), drawn at random, or evenly
spaced with a random phase. Tomograms are a scene of each preset for every seed, and the real
microtubule of 14 protofilaments (the data set ``cylindra_mt``, see `datasets.py`; without it this
part is left out), of which seeds draw the slices. Dice is that of the labels of the whole tomogram,
with the annotation where there is some.

**minutes**: a person who draws at 50 nm a second with a brush of 6 nm, and needs 1.5 seconds more
for each stroke and 3 for each slice, annotates a crowded scene with a quarter of the usual signal
until the labels of the whole tomogram have a Dice of 0.85. Painting alone, slices are evenly spaced
and the others take the labels of the nearest one. With live prediction, the person corrects what
`membrane-fast`, which learns from all slices before, predicts in slices in the order middle,
quarters, eighths; and with suggestions in those that the page suggests. Errors of fewer than four
pixels stay.

Intervals are over seeds (Student's t) of paired differences.
"""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro
from scipy import ndimage

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg.core import Tomogram
from cryojax_seg.core.plain import Shape
from cryojax_seg.evaluate import Claim
from cryojax_seg.simulate import CLASSES, WedgeImaging
from cryojax_seg.view.following import Following
from cryojax_seg.view.methods import chosen, methods_from
from cryojax_seg.view.painting import Painting
from cryojax_seg.view.predictions import Predictions
from cryojax_seg.view.session import Session
from cryojax_seg.view.suggestions import calibration_of
from experiments import datasets, pretrained
from experiments.common import Rows, interval, resolved, results_folder

Way = Literal["suggested", "random", "evenly spaced"]
WAYS: tuple[Way, ...] = ("suggested", "random", "evenly spaced")
HELP = ("painting alone", "live prediction", "suggestions")
GOAL = 0.85  # Dice
SPEED, BRUSH, STROKE, SLICE = 50.0, 6.0, 1.5, 3.0  # nm/s, nm, s, s
SPECK = 4  # pixels
LEAST = 0.01  # share of a scene that is membrane


@dataclasses.dataclass(frozen=True)
class Config:
    """Compare slices to annotate, and the minutes of annotation."""

    presets: tuple[str, ...] = ("vesicles", "crowded")
    real: bool = True
    shape: Shape = (32, 64, 64)
    """shape of the scenes, voxels of 10 angstrom"""
    slices: tuple[int, ...] = (1, 2, 4)
    """numbers of annotated slices"""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    snr: float = 0.25
    """signal-to-noise ratio of the scenes of which minutes are counted"""
    tiny: bool = False


@dataclasses.dataclass(frozen=True)
class Data:
    """Holds a tomogram, structure bright, and where the structure is, as far as it is known."""

    name: str
    tomogram: Tomogram
    truth: np.ndarray
    known: np.ndarray
    model: str
    structure: str


def phantom(preset: str, config: Config, seed: int, snr: float = 1.0) -> Data:
    """Return a scene of a preset whose membranes are annotated."""
    imaging = WedgeImaging(snr=snr * pretrained.CONTRAST**2, wedge=pretrained.WEDGE)
    for number in range(20):  # small scenes may hold no membrane
        size = pretrained.VOXEL
        one = pretrained.phantom(preset, config.shape, size, imaging, 900 + seed, number)
        truth = one.labels == CLASSES.index("membrane")
        if truth.mean() > LEAST:
            break
    else:
        raise ValueError(f"{preset}: no scene of shape {config.shape} holds membranes")
    return Data(preset, one.tomogram, truth, one.weights > 0, "membrane-fast", "membrane")


def microtubule() -> Data:
    """Return the real microtubule of 14 protofilaments."""
    one = pretrained.microtubule("14pf")
    truth = one.labels == CLASSES.index("microtubule")
    return Data("14pf", one.tomogram, truth, one.weights > 0, "microtubule-fast", "microtubule")


class Loop:
    """Is the loop of `annotate` without a page: slices come in, and labels of all slices go out."""

    def __init__(self, data: Data, start: str):
        self.data = data
        self.painting = Painting(data.tomogram, (data.structure,))
        self.session = Session(
            data.tomogram, painting=self.painting, contrast="bright", wedge=data.tomogram.wedge
        )
        self.method = methods_from(start)[start](self.session)
        self.done: list[int] = []
        self.following: Following | None = None

    def annotate(self, z: int, labels: np.ndarray | None = None) -> None:
        """Annotate a slice, by the truth or by other labels."""
        wanted = self.data.truth[z] if labels is None else labels
        here = np.where(self.data.known[z], wanted, -1).astype(np.int8)
        slices = {**self.painting.slices(), z: here}
        self.painting = Painting(self.data.tomogram, (self.data.structure,), slices)
        self.done.append(z)

    def labels(self, compare: bool) -> np.ndarray:
        """Learn, and return the labels of all slices; with `compare` gains are calibrated."""
        if self.done:
            self.method.learn(chosen(self.painting), (self.data.structure,))
        calibration = calibration_of(self.method.held_out()) if compare and self.done else None
        shape, kept = self.session.shape, Predictions()
        stride, voxel_nm = self.method.segmenter.stride, self.painting.voxel_nm
        following = self.following = Following(kept, shape, voxel_nm, stride)
        while (start := following.next(0)) is not None:
            segmenter, volume = self.method.segmenter, self.session.volume()
            wedge = self.session.wedge
            following.follow(segmenter, volume, start, calibration, wedge)
        planes = [kept.plane(0, z) for z in range(shape[0])]
        found = np.stack([plane for plane in planes if plane is not None]) == 1
        for z, own in self.painting.slices().items():
            found[z] = np.where(own >= 0, own == 1, found[z])
        return found

    def suggestion(self) -> int:
        """Return the slice that is worth most."""
        assert self.following is not None
        return self.following.slices(self.done)[0]["index"]

    def dice(self, found: np.ndarray) -> float:
        """Return the Dice of labels where the truth is known."""
        a, b = found[self.data.known], self.data.truth[self.data.known]
        return float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1))


def curve(data: Data, start: str, way: Way, config: Config, seed: int) -> dict[str, float]:
    """Return the Dice after each number of slices."""
    rng, depth = np.random.default_rng(seed), len(data.truth)
    # A slice without any structure cannot be annotated as the first one.
    order = rng.permutation(depth)
    first = next(int(z) for z in order if (data.truth & data.known)[z].any())
    order = [first, *(int(z) for z in order if z != first)]
    phase, found, loop = rng.random(), {}, Loop(data, start)
    for count in range(1, max(config.slices) + 1):
        if way == "evenly spaced":
            places = [int(depth * (i + phase) / count) for i in range(count)]
            if count not in config.slices:
                continue
            if not (data.truth & data.known)[places].any():
                found[str(count)] = 0.0  # nothing to learn from
                continue
            loop = Loop(data, start)
            for z in places:
                loop.annotate(z)
        else:
            loop.annotate(
                loop.suggestion() if way == "suggested" and count > 1 else order[count - 1]
            )
        if way == "suggested" or count in config.slices:
            labels = loop.labels(compare=way == "suggested")
            if count in config.slices:
                found[str(count)] = loop.dice(labels)
    return found


def seconds(wanted: np.ndarray, given: np.ndarray, voxel_nm: float) -> tuple[float, np.ndarray]:
    """Return how long it takes to correct labels of a slice, and the labels afterwards.

    >>> wanted = np.zeros((20, 20), bool); wanted[3:9, 2:17] = True
    >>> seconds(wanted, np.zeros_like(wanted), 1.0)[0]   # a line of 15 nm and of the brush
    4.8
    """
    took, result = SLICE, given.copy()
    for errors in (wanted & ~given, given & ~wanted):
        numbers = np.zeros(errors.shape, np.int32)
        ndimage.label(errors, np.ones((3, 3)), output=numbers)
        areas = np.bincount(numbers.ravel())[1:]
        for number in np.flatnonzero(areas >= SPECK) + 1:
            took += STROKE + areas[number - 1] * voxel_nm**2 / BRUSH / SPEED
            result[numbers == number] = wanted[numbers == number]
    return took, result


def halving(depth: int) -> Iterator[int]:
    """Yield the middle slice, then those at quarters, eighths, and so on."""
    parts, seen = 2, set()
    while len(seen) < depth:
        for place in range(1, parts, 2):
            z = depth * place // parts
            if z not in seen:
                seen.add(z)
                yield z
        parts *= 2
        if parts > 2 * depth:
            yield from (z for z in range(depth) if z not in seen)
            return


def nearest(truth: np.ndarray, places: list[int]) -> np.ndarray:
    """Return labels of which each slice is that of the nearest place."""
    z = np.arange(len(truth))
    return truth[np.array(places)[abs(z[:, None] - np.array(places)).argmin(1)]]


def minutes(data: Data, way: str) -> dict[str, Any]:
    """Return the minutes and slices of annotation until the labels have a Dice of 0.85."""
    depth, voxel_nm = len(data.truth), data.tomogram.require_voxel_size()[0] / 10
    loop, took = Loop(data, data.model), 0.0
    if way == "painting alone":
        nothing = np.zeros_like(data.truth[0])
        for count in range(1, depth + 1):
            places = [int(depth * (i + 0.5) / count) for i in range(count)]
            value = loop.dice(nearest(data.truth, places))
            if value >= GOAL:
                took = sum(seconds(data.truth[z], nothing, voxel_nm)[0] for z in places)
                return {"minutes": took / 60, "slices": count, "dice": value}
    order, labels = halving(depth), loop.labels(compare=way == "suggestions")
    while loop.dice(labels) < GOAL and len(loop.done) < depth:
        z = loop.suggestion() if way == "suggestions" else next(order)
        more, corrected = seconds(data.truth[z], labels[z], voxel_nm)
        took += more
        loop.annotate(z, corrected)
        labels = loop.labels(compare=way == "suggestions")
    return {"minutes": took / 60, "slices": len(loop.done), "dice": loop.dice(labels)}


def measure(records: Rows, key: dict[str, Any], values: Callable[[], dict[str, Any]]) -> None:
    """Add a record, unless it is there already."""
    if records.done(**key) is None:
        start = time.process_time()
        found = values()
        told = records.add(key, {**found, "cpu_seconds": time.process_time() - start})
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in told.items()}, flush=True)


def run(config: Config, records: Rows, seed: int, real: Data | None) -> None:
    """Measure everything with one seed."""
    scenes = [phantom(preset, config, seed) for preset in config.presets]
    for data in [*scenes, *([real] if real else [])]:
        for learner in ("vote", data.model):
            for way in WAYS:
                key = {"part": "slices", "data": data.name, "learner": learner}
                measure(
                    records,
                    {**key, "way": way, "seed": seed},
                    lambda d=data, m=learner, w=way: {"dice": curve(d, m, w, config, seed)},
                )
    noisy = phantom(config.presets[-1], config, seed, config.snr)
    for way in HELP:
        key = {"part": "minutes", "data": f"{noisy.name}, noisy", "learner": noisy.model}
        measure(records, {**key, "way": way, "seed": seed}, lambda w=way: minutes(noisy, w))


def table(records: list[dict], config: Config) -> list[dict]:
    """Return a row for each way, with intervals over seeds."""
    found = []
    keys = dict.fromkeys((r["part"], r["data"], r["learner"], r["way"]) for r in records)
    for part, data, learner, way in keys:
        kept = of(records, part=part, data=data, learner=learner, way=way)
        told = {"part": part, "data": data, "learner": learner, "way": way, "seeds": len(kept)}
        if part == "minutes":
            for name in ("minutes", "slices", "dice"):
                mean, low, high = interval([r[name] for r in kept])
                told[name] = mean
                if name == "minutes":
                    told["minutes_interval"] = None if low is None else [low, high]
            found.append(told)
            continue
        for count in config.slices:
            mean, low, high = interval([r["dice"][str(count)] for r in kept])
            ends = None if low is None else [low, high]
            found.append({**told, "annotated": count, "dice": mean, "dice_interval": ends})
    return found


def of(records: list[dict], **key: Any) -> list[dict]:
    """Return the records with this key, in the order of their seeds."""
    kept = [r for r in records if all(r[k] == v for k, v in key.items())]
    return sorted(kept, key=lambda r: r["seed"])


def claims_of(records: list[dict], config: Config) -> list[dict]:
    """Return what suggestions gain, and what live prediction and suggestions save."""
    found = []
    slices = of(records, part="slices")
    for data, learner in dict.fromkeys((r["data"], r["learner"]) for r in slices):
        ours, *others = ([r["dice"] for r in of(slices, data=data, learner=learner, way=way)]
                         for way in WAYS)  # fmt: skip
        for way, theirs in zip(WAYS[1:], others, strict=True):
            # The mean over the numbers of slices, so that no number is chosen afterwards.
            gains = [
                float(np.mean([a[str(n)] - b[str(n)] for n in config.slices]))
                for a, b in zip(ours, theirs, strict=True)
            ]
            name = f"{data}, {learner}: mean Dice of suggested minus {way} slices"
            found.append(paired(name, gains, 0.0))
    alone, live, suggested = ([r["minutes"] for r in of(records, part="minutes", way=way)]
                              for way in HELP)  # fmt: skip
    saved = [a - b for a, b in zip(alone, live, strict=True)]
    found.append(paired(f"minutes to Dice {GOAL} that live prediction saves", saved, 0.0))
    saved = [a - b for a, b in zip(live, suggested, strict=True)]
    found.append(paired(f"minutes to Dice {GOAL} that suggestions save besides", saved, 0.0))
    return found


def paired(name: str, values: list[float], goal: float) -> dict:
    """Return the claim that a mean over seeds is at least a goal."""
    mean, low, high = interval(values)
    ends = None if low is None or high is None else (low, high)
    return resolved(Claim(name, mean or 0.0, ends, goal))


def draw(rows: list[dict], config: Config) -> None:
    """Draw the Dice over the number of slices, a panel for each tomogram, and the minutes."""
    slices = [r for r in rows if r["part"] == "slices"]
    names = list(dict.fromkeys((r["data"], r["learner"]) for r in slices))
    columns = len(names) // 2 + 1
    figure, axes = plt.subplots(
        2, columns, figsize=(3.5 * columns, 6.4), layout="constrained", squeeze=False
    )
    colours = dict(zip(WAYS, ("#d83a7c", "#eda100", "#2a78d6"), strict=True))
    for number, (data, learner) in enumerate(names):
        axis = axes[number % 2][number // 2]
        for way in WAYS:
            mine = [
                r for r in slices if (r["data"], r["learner"], r["way"]) == (data, learner, way)
            ]
            counts = [r["annotated"] for r in mine]
            axis.plot(counts, [r["dice"] for r in mine], "o-", color=colours[way], label=way)
            if all(r["dice_interval"] for r in mine):
                lows, highs = zip(*(r["dice_interval"] for r in mine), strict=True)
                axis.fill_between(counts, lows, highs, color=colours[way], alpha=0.15, lw=0)
        axis.set(title=f"{data}, {learner}", ylim=(0, 1), xticks=config.slices)
        axis.set_xlabel("annotated slices")
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("Dice")
    axes[0][0].legend(fontsize=8)
    axis = axes[0][-1]
    for number, row in enumerate(r for r in rows if r["part"] == "minutes"):
        ends = row["minutes_interval"]
        error = None if ends is None else [[row["minutes"] - ends[0]], [ends[1] - row["minutes"]]]
        axis.bar(number, row["minutes"], yerr=error, color="#7a52c7", capsize=4)
        axis.text(number, 0, row["way"].replace(" ", "\n"), ha="center", va="bottom", fontsize=8)
    axis.set(title=f"minutes to Dice {GOAL}", xticks=[])
    axes[1][-1].set_visible(False)
    figure.savefig(results_folder(config.tiny) / "active.png", dpi=130)
    plt.close(figure)


def main(config: Config) -> None:
    if config.tiny:
        config = dataclasses.replace(
            config,
            presets=("vesicles",),
            real=False,
            shape=(32, 40, 40),
            slices=(1, 2),
            seeds=(0,),
            snr=1.0,
        )
    records, real = Rows("active", dataclasses.asdict(config), config.tiny), None
    try:
        real = microtubule() if config.real else None
    except datasets.MissingData as error:
        print(f"the real microtubule is left out: {error}")
    for seed in config.seeds:
        run(config, records, seed, real)
    rows = table(records.records, config)
    draw(rows, config)
    records.finish(rows, claims_of(records.records, config))


if __name__ == "__main__":
    main(tyro.cli(Config))
