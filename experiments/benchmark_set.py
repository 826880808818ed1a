"""On which scenes of membranes are methods compared?

    python experiments/benchmark_set.py                      # 15 CPU-minutes, once a machine
    python experiments/benchmark_set.py --export FOLDER      # the test scenes as MRC files
    python experiments/benchmark_set.py --tiny               # a minute, for the tests

A fixed set has 48 scenes to train on, 8 to choose settings on and 16 to test, of 128^3 voxels, each
in two tiers: a tilt series, and a missing wedge with coloured noise alone. Preset, voxel size (9 to
12 angstrom), tilt range and axis, defocus and contrast are drawn by number. Four test scenes are of
presets that no training scene is of, and four have voxels of 8 or 14 angstrom. The scenes of a
version never change, which digests of their labels prove. To score a program of your own, let it
segment the exported tomograms, and call ``cryojax-seg benchmark TOMOGRAM --labels TRUTH
--predictions NAME=LABELS``.

Learned: the shares of membrane, meant to be from 0.01 to 0.05 of the voxels, miss both ends by
little ({claim=least prevalence: value} and {claim=largest prevalence: value}), and the contrast of
each scene is what it states.

A sceptic would say that all scenes come from one simulator, which draws membranes as smooth
bilayers without proteins in them, so that a method can be best here and fail on real cells; and
that scenes of 128^3 voxels are small beside a tomogram.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import platformdirs
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import core, io, training
from cryojax_seg.runtime import keep_compiled, keep_memory
from experiments.benchmark_scenes import (
    COUNTS,
    MEMBRANE,
    TIERS,
    UNSEEN_PRESETS,
    VERSION,
    Conditions,
    Split,
    Tier,
    conditions,
    imaged,
    keys_of,
    with_membranes,
)
from experiments.common import RESULTS, claim, results_folder, write_results

Made = tuple[dict[str, np.ndarray], dict[str, Any]]  # arrays, and what is stated of them


@dataclasses.dataclass(frozen=True)
class Case:
    """Holds a scene in one tier, normalized, structure bright.

    Attributes:
        conditions: how it was made.
        volume: ``(z, y, x)``.
        membrane: mask of the truth.
        normals: ``(z, y, x, 3)``, of membranes, 0 elsewhere.
        visibility: of membranes, 0 to 1.
    """

    conditions: Conditions
    volume: np.ndarray
    membrane: np.ndarray
    normals: np.ndarray
    visibility: np.ndarray

    def example(self, normals: bool = False) -> training.Example:
        """Return the scene with dense labels, to train on."""
        return training.Example(
            self.volume,
            self.membrane.astype(np.int32),
            wedge=self.conditions.wedge,
            normals=self.normals if normals else None,
        )


@dataclasses.dataclass(frozen=True)
class Series:
    """Holds a tilt series with its halves.

    Attributes:
        case: the tilt series.
        halves: ``(2, z, y, x)``, of independent noise, whose mean is the volume of the case.
        structures: mask of all structures, membranes and others.
    """

    case: Case
    halves: np.ndarray
    structures: np.ndarray


def make(split: Split, number: int, edge: int) -> Made:
    """Return the arrays of a scene as they are kept, and its row of the result."""
    one = conditions(split, number)
    by_scene, by_noise = keys_of(split, number)
    start = time.process_time()
    truth = with_membranes(one, by_scene, edge)
    membrane = np.asarray(truth.labels) == MEMBRANE
    row: dict[str, Any] = {"split": split, "number": number, **dataclasses.asdict(one)}
    arrays = {
        "membrane": membrane,
        "normals": np.round(127 * np.asarray(truth.normals) * membrane[..., None]).astype(np.int8),
        "visibility": np.round(255 * np.asarray(truth.visibility(one.wedge))).astype(np.uint8),
    }
    for tier in TIERS:
        found, seen = imaged(one, tier, truth, by_noise)
        density = np.asarray(found.density)
        arrays[tier] = np.asarray(core.normalize(density, "bright")).astype(np.float16)
        signal = np.asarray(found.signal)
        row |= {
            f"{tier}: contrast": seen,
            f"{tier}: snr": float(found.snr),
            f"{tier}: snr of the volume": float(signal.var() / (density - signal).var()),
        }
    row["prevalence"] = float(membrane.mean())
    row["hidden"] = float((arrays["visibility"][membrane] < 0.3 * 255).mean())
    row["digest"] = hashlib.sha256(np.packbits(membrane).tobytes()).hexdigest()[:16]
    row["cpu_seconds"] = time.process_time() - start
    digest = recorded().get((split, number)) if edge == 128 else None
    if digest is not None and digest != row["digest"]:
        print(f"{split} {number}: this machine makes other labels than those that are recorded")
    return arrays, row


def make_halves(split: Split, number: int, edge: int) -> Made:
    """Return the halves of the tilt series that `make` images, as they are kept."""
    one = conditions(split, number)
    by_scene, by_noise = keys_of(split, number)
    truth = with_membranes(one, by_scene, edge)
    found, _ = imaged(one, "tilt series", truth, by_noise)
    intensity = core.measure_intensity(np.asarray(found.density), "bright")
    pair = [intensity.apply(np.asarray(half)) for half in (found.even, found.odd)]
    arrays = {
        "halves": np.stack(pair).astype(np.float16),
        "structures": np.asarray(truth.structures),
    }
    return arrays, {"split": split, "number": number}


def folder_of(edge: int = 128) -> pathlib.Path:
    """Return the folder in which the scenes are kept."""
    name = f"v{VERSION}" if edge == 128 else f"v{VERSION}-{edge}"
    return platformdirs.user_cache_path("cryojax-seg") / "benchmark_set" / name


def kept(path: pathlib.Path, made: Callable[[], Made]) -> dict[str, Any]:
    """Make arrays unless they are there and sound, and return what is stated of them."""
    stated = path.with_suffix(".json")
    if stated.exists() and path.exists():
        row = json.loads(stated.read_text())
        if hashlib.sha256(path.read_bytes()).hexdigest() == row["file"]:
            return row
        print(f"{path} is damaged, and made again", flush=True)
    arrays, row = made()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp.npz")
    named: dict[str, Any] = {name.replace(" ", "_"): array for name, array in arrays.items()}
    np.savez_compressed(temporary, **named)
    os.replace(temporary, path)
    row["file"] = hashlib.sha256(path.read_bytes()).hexdigest()
    stated.write_text(json.dumps(row))
    return row


def ensure(split: Split, number: int, edge: int = 128) -> dict[str, Any]:
    """Make a scene unless it is there and sound, and return its row."""
    path = folder_of(edge) / f"{split}-{number}.npz"
    return kept(path, functools.partial(make, split, number, edge))


@functools.cache
def recorded() -> dict[tuple[str, int], str]:
    """Return the digests of the labels in the recorded result, by split and number."""
    path = RESULTS / "benchmark_set.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    return {(row["split"], row["number"]): row["digest"] for row in rows if "digest" in row}


def load(split: Split, tier: Tier, count: int | None = None, edge: int = 128) -> list[Case]:
    """Return the first scenes of a split, all by default; those that are absent are made."""
    cases = []
    for number in range(COUNTS[split] if count is None else count):
        ensure(split, number, edge)
        with np.load(folder_of(edge) / f"{split}-{number}.npz") as arrays:
            cases.append(
                Case(
                    conditions(split, number),
                    arrays[tier.replace(" ", "_")].astype(np.float32),
                    arrays["membrane"],
                    arrays["normals"].astype(np.float32) / 127,
                    arrays["visibility"].astype(np.float32) / 255,
                )
            )
    return cases


def load_series(split: Split, count: int | None = None, edge: int = 128) -> list[Series]:
    """Return the first tilt series of a split with their halves; those that are absent are made."""
    found = []
    for number, case in enumerate(load(split, "tilt series", count, edge)):
        path = folder_of(edge) / f"{split}-{number}-halves.npz"
        kept(path, functools.partial(make_halves, split, number, edge))
        with np.load(path) as arrays:
            found.append(Series(case, arrays["halves"].astype(np.float32), arrays["structures"]))
    return found


def export(folder: pathlib.Path, count: int, edge: int) -> None:
    """Write the first test scenes as tomograms, structure dark, with their labels."""
    folder.mkdir(parents=True, exist_ok=True)
    for tier in TIERS:
        for number, case in enumerate(load("test", tier, count, edge)):
            name, size = f"test-{number:02d}", case.conditions.voxel_size
            path = folder / f"{name}-{tier.replace(' ', '-')}.mrc"
            io.write_mrc(path, -case.volume, voxel_size=size)
            if tier == TIERS[0]:
                labels = case.membrane.astype(np.int8)
                io.write_mrc(folder / f"{name}-membrane.mrc", labels, voxel_size=size)
    rows = [dataclasses.asdict(conditions("test", number)) for number in range(count)]
    (folder / "conditions.json").write_text(json.dumps(rows, indent=1) + "\n")


def summary(rows: list[dict]) -> list[dict]:
    """Return a row for each split, with the least and the largest value of its scenes."""
    found = []
    for split in dict.fromkeys(row["split"] for row in rows):
        mine = [row for row in rows if row["split"] == split]
        one: dict[str, Any] = {"split": split, "scenes": len(mine)}
        for name in ("prevalence", "hidden", "voxel_size", "defocus", "contrast"):
            one[f"{name}_range"] = [min(r[name] for r in mine), max(r[name] for r in mine)]
        for tier in TIERS:
            values = [r[f"{tier}: snr"] for r in mine]
            one[f"{tier}: snr range"] = [min(values), max(values)]
        one["cpu_seconds"] = sum(r["cpu_seconds"] for r in mine)
        found.append(one)
    return found


@dataclasses.dataclass(frozen=True)
class Config:
    """Make the fixed scenes of membranes, or write the test scenes as files."""

    export: pathlib.Path | None = None
    """folder for the test scenes as MRC files"""
    tiny: bool = False


def main(config: Config) -> None:
    keep_compiled()
    keep_memory()
    edge = 48 if config.tiny else 128
    if config.export is not None:
        export(config.export, 1 if config.tiny else COUNTS["test"], edge)
        print(f"wrote {config.export}")
        return
    rows = []
    for split, count in COUNTS.items():
        for number in range(1 if config.tiny else count):
            row = ensure(split, number, edge)
            rows.append(row)
            print(
                f"{split:10s} {number:2d} {row['preset']:10s} {row['voxel_size']:5.2f} A  "
                f"membrane {100 * row['prevalence']:4.1f} %, {100 * row['hidden']:3.0f} % hidden  "
                f"contrast {row['tilt series: contrast']:.2f} sigma, "
                f"SNR {row['tilt series: snr']:.2f}  "
                f"{row['cpu_seconds']:.0f} CPU-s",
                flush=True,
            )
    rows = [{k: v for k, v in row.items() if k != "file"} | {"detail": True} for row in rows]
    seen = [r for r in rows if r["preset"] not in UNSEEN_PRESETS.values()]
    off = [abs(r[f"{tier}: contrast"] / r["contrast"] - 1) for r in rows for tier in TIERS]
    claims = [
        claim("least prevalence", min(r["prevalence"] for r in seen), at_least=0.01),
        claim("largest prevalence", max(r["prevalence"] for r in seen), at_most=0.05),
        claim("largest error of the contrast", max(off), at_most=0.1),
    ]
    settings = {"version": VERSION, "edge": edge, "tiny": config.tiny}
    write_results("benchmark_set", settings, [*summary(rows), *rows], claims, tiny=config.tiny)
    print(f"the scenes are in {folder_of(edge)}; results in {results_folder(config.tiny)}")


if __name__ == "__main__":
    main(tyro.cli(Config))
