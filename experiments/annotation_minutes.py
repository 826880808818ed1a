"""How many minutes of annotation does live prediction save?

    python experiments/annotation_minutes.py           # 8 CPU-minutes
    python experiments/annotation_minutes.py --tiny    # a minute, for the tests

A person, who draws 50 nm a second with a brush of 6 nm and needs 1.5 seconds more for a stroke and
3 for a slice, annotates a crowded scene until its labels have a Dice of 0.85. Painting alone, the
slices are evenly spaced and label the nearest others. With live prediction by `membrane-fast` they
come in the order middle, quarters, eighths, or as the page suggests, and the person corrects the
prediction where that is quicker. Intervals are over seeds (Student's t), which are other scenes.

Learned: painting alone takes {way=painting alone: minutes} minutes for
{way=painting alone: slices} slices, live prediction {way=live prediction: minutes} minutes for
{way=live prediction: slices}, and suggestions {way=suggestions: minutes} minutes for
{way=suggestions: slices}. A copy of the prediction saved time on {way=live prediction: copied} and
{way=suggestions: copied} of these slices; on the others it had so many wrong specks, each a stroke,
that painting the slice was quicker. Negative: so live prediction saves no time here, but costs it;
suggestions win some of that back.

A sceptic would say that slices of 64 nm hold few membranes, so that painting one takes seconds;
that somebody who paints alone does not know how many slices are enough, as this person does; that
copying the nearest slice is good where slices are 1 nm apart, and no tool of the page; and that
nobody tells at a glance which way is quickest.
"""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro
from scipy import ndimage

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg.core.plain import Shape
from cryojax_seg.view.strokes import cleaned
from experiments.annotation_loop import Data, Loop, phantom
from experiments.common import Rows, interval, of, over_seeds, results_folder

WAYS = ("painting alone", "live prediction", "suggestions")
GOAL = 0.85  # Dice
SPEED, BRUSH, STROKE, SLICE = 50.0, 6.0, 1.5, 3.0  # nm/s, nm, s, s
SPECK, CLEANED = 4, 10.0  # pixels that stay wrong, nm of specks that the page removes


@dataclasses.dataclass(frozen=True)
class Config:
    """Count the minutes of annotation."""

    preset: str = "crowded"
    shape: Shape = (32, 64, 64)
    """shape of the scenes, voxels of 10 angstrom"""
    snr: float = 0.25
    """signal-to-noise ratio of the scenes, of the usual one"""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    tiny: bool = False


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
            took += STROKE + float(areas[number - 1]) * voxel_nm**2 / BRUSH / SPEED
            result[numbers == number] = wanted[numbers == number]
    return took, result


def quickest(
    wanted: np.ndarray, predicted: np.ndarray, voxel_nm: float
) -> tuple[float, np.ndarray, bool]:
    """Return the same as `seconds` for the quickest way to the wanted labels, and if it is a copy.

    The prediction is copied, copied without specks and holes, or not copied.

    >>> wanted = np.zeros((20, 20), bool); wanted[3:9, 2:17] = True
    >>> [quickest(wanted, predicted, 1.0)[::2] for predicted in (wanted, ~wanted)]
    [(3.0, True), (4.8, False)]
    """
    smooth = cleaned(predicted.astype(np.int8), round((CLEANED / voxel_nm) ** 2)) > 0
    copies = (seconds(wanted, start, voxel_nm) for start in (predicted, smooth))
    copy, alone = min(copies, key=lambda found: found[0]), seconds(wanted, wanted & False, voxel_nm)
    return (*copy, True) if copy[0] < alone[0] else (*alone, False)


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
    """Return the minutes and slices of annotation until the labels have a Dice of 0.85.

    Painting alone, slices are evenly spaced, and the others take the labels of the nearest one.
    Else `membrane-fast` learns from all slices before, and their errors are corrected, of which
    those of fewer than four pixels stay.
    """
    depth, voxel_nm = len(data.truth), data.tomogram.require_voxel_size()[0] / 10
    loop, took = Loop(data, data.model), 0.0
    if way == "painting alone":
        nothing = np.zeros_like(data.truth[0])
        for count in range(1, depth + 1):
            places = [int(depth * (i + 0.5) / count) for i in range(count)]
            value = loop.dice(nearest(data.truth, places))
            if value >= GOAL:
                took = sum(seconds(data.truth[z], nothing, voxel_nm)[0] for z in places)
                return {"minutes": took / 60, "slices": count, "copied": 0, "dice": value}
    copied, order, labels = 0, halving(depth), loop.labels(compare=way == "suggestions")
    while loop.dice(labels) < GOAL and len(loop.done) < depth:
        z = loop.suggestion() if way == "suggestions" else next(order)
        more, corrected, copy = quickest(data.truth[z], labels[z], voxel_nm)
        took, copied = took + more, copied + copy
        loop.annotate(z, corrected)
        labels = loop.labels(compare=way == "suggestions")
    found = {"minutes": took / 60, "slices": len(loop.done), "copied": copied}
    return {**found, "dice": loop.dice(labels)}


def table(records: list[dict]) -> list[dict]:
    """Return a row for each way, with the interval of minutes over seeds."""
    found = []
    for way in WAYS:
        kept = of(records, way=way)
        means = {
            name: interval([r[name] for r in kept])[0]
            for name in ("minutes", "slices", "copied", "dice")
        }
        _, low, high = interval([r["minutes"] for r in kept])
        ends = None if low is None else [low, high]
        found.append({"way": way, "seeds": len(kept), **means, "minutes_interval": ends})
    return found


def claims_of(records: list[dict]) -> list[dict]:
    """Return the minutes that live prediction saves, and what suggestions save besides."""
    alone, live, suggested = ([r["minutes"] for r in of(records, way=way)] for way in WAYS)
    return [
        over_seeds(name, [a - b for a, b in zip(before, after, strict=True)], 0.0)
        for name, before, after in (
            (f"minutes to Dice {GOAL} that live prediction saves", alone, live),
            (f"minutes to Dice {GOAL} that suggestions save besides", live, suggested),
        )
    ]


def draw(rows: list[dict], config: Config) -> None:
    """Draw the minutes of each way."""
    figure, axis = plt.subplots(figsize=(4.2, 3.4), layout="constrained")
    for number, row in enumerate(rows):
        ends = row["minutes_interval"]
        error = None if ends is None else [[row["minutes"] - ends[0]], [ends[1] - row["minutes"]]]
        axis.bar(number, row["minutes"], yerr=error, color="#7a52c7", capsize=4)
    axis.set_xticks(range(len(rows)), [row["way"] for row in rows])
    axis.set_ylabel(f"minutes to Dice {GOAL}")
    figure.savefig(results_folder(config.tiny) / "annotation_minutes.png", dpi=130)
    plt.close(figure)


def main(config: Config) -> None:
    if config.tiny:
        small: Any = {"preset": "vesicles", "shape": (32, 40, 40), "snr": 1.0, "seeds": (0,)}
        config = dataclasses.replace(config, **small)
    records = Rows("annotation_minutes", dataclasses.asdict(config), config.tiny)
    for seed in config.seeds:
        data = phantom(config.preset, config.shape, seed, config.snr)
        for way in WAYS:
            if records.done(way=way, seed=seed) is None:
                start = time.process_time()
                found = minutes(data, way)
                found["cpu_seconds"] = time.process_time() - start
                records.add({"way": way, "seed": seed}, found)
                print(way, seed, found, flush=True)
    rows = table(records.records)
    draw(rows, config)
    records.finish(rows, claims_of(records.records))


if __name__ == "__main__":
    main(tyro.cli(Config))
