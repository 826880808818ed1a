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
from typing import Any, Literal

import jax
import numpy as np
import platformdirs
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import core, io, training
from cryojax_seg.core.ctf import ContrastTransfer
from cryojax_seg.core.plain import TiltAxis
from cryojax_seg.runtime import keep_compiled, keep_memory
from cryojax_seg.simulate import (
    Acquisition,
    Imaged,
    Imaging,
    Scene,
    TiltScheme,
    TiltSeriesImaging,
    Truth,
    WedgeImaging,
    presets,
    render,
)
from cryojax_seg.simulate.instrument import Microscope
from experiments.common import RESULTS, claim, results_folder, write_results

VERSION = 1
MEMBRANE = 1  # index in `simulate.CLASSES`
LEAST = 0.005  # of the voxels are membrane; some scenes of ``varied`` have none
Split = Literal["train", "validation", "test"]
Tier = Literal["tilt series", "wedge"]
COUNTS: dict[Split, int] = {"train": 48, "validation": 8, "test": 16}
TIERS: tuple[Tier, ...] = ("tilt series", "wedge")
UNSEEN_PRESETS = {8: "organelles", 9: "varied", 10: "organelles", 11: "varied"}  # by test number
UNSEEN_SIZES = {12: 8.0, 13: 14.0, 14: 8.0, 15: 14.0}  # angstrom


@dataclasses.dataclass(frozen=True)
class Conditions:
    """States how a scene is built and imaged.

    Attributes:
        preset: name of a function of `simulate.presets`.
        voxel_size: angstrom.
        tilt_range: lowest and highest tilt, degrees.
        tilt_axis: "y" or "x".
        defocus: angstrom.
        contrast: mean of membrane minus that of its surroundings, in standard deviations of noise.
        fraction: volume fraction of the vesicles.
        crowding: fraction of the free volume that macromolecules fill.
        sheet: whether a membrane crosses the volume.
    """

    preset: str
    voxel_size: float
    tilt_range: tuple[float, float]
    tilt_axis: TiltAxis
    defocus: float
    contrast: float
    fraction: float
    crowding: float
    sheet: bool

    @property
    def wedge(self) -> core.MissingWedge:
        return core.MissingWedge(self.tilt_range, self.tilt_axis)


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


def conditions(split: Split, number: int) -> Conditions:
    """Return the conditions of a scene, which depend on the version, split and number alone."""
    rng = np.random.default_rng([VERSION, list(COUNTS).index(split), number])
    half, lean = rng.uniform(40, 70), rng.uniform(-5, 5)
    sheet = number % 4 == 1
    drawn = Conditions(
        preset="crowded" if number % 3 == 2 else "vesicles",
        voxel_size=round(rng.uniform(9, 12), 2),
        tilt_range=(round(max(-half + lean, -70.0), 1), round(min(half + lean, 70.0), 1)),
        tilt_axis="x" if number % 2 else "y",
        defocus=round(float(np.exp(rng.uniform(np.log(2e4), np.log(6e4)))), -2),
        contrast=round(float(np.exp(rng.uniform(np.log(0.2), 0))), 3),
        fraction=round(rng.uniform(0.01, 0.05) / (2 if sheet else 1), 3),
        crowding=round(rng.uniform(0.02, 0.25), 3),
        sheet=sheet,
    )
    if split == "test" and number in UNSEEN_PRESETS:
        return dataclasses.replace(drawn, preset=UNSEEN_PRESETS[number])
    if split == "test" and number in UNSEEN_SIZES:
        return dataclasses.replace(drawn, voxel_size=UNSEEN_SIZES[number])
    return drawn


def built(one: Conditions, key: Any, edge: int) -> Scene:
    """Return the scene; what its preset does not know is left out."""
    known = {
        "vesicles": {"fraction": one.fraction, "sheet": one.sheet, "proteins": 4},
        "crowded": {"fraction": one.fraction},
    }
    return getattr(presets, one.preset)(
        key, (edge,) * 3, one.voxel_size, crowding=one.crowding, **known.get(one.preset, {})
    )


def imaging_of(one: Conditions, tier: Tier, snr: float) -> Imaging:
    if tier == "wedge":
        return WedgeImaging(snr=snr, wedge=one.wedge)
    low, high = one.tilt_range
    scheme = TiltScheme.every(3.0, low, high, tilt_axis=one.tilt_axis)
    microscope = Microscope(ContrastTransfer(defocus=one.defocus))
    return TiltSeriesImaging(Acquisition(scheme, microscope), snr=snr)


@jax.jit
def _image(imaging, density, mask, voxel_size, key) -> Imaged:
    return imaging(density, mask, voxel_size, key)


def visible_contrast(imaged: Imaged, membrane: np.ndarray, background: np.ndarray) -> float:
    """Return the mean of membrane minus that of background, in standard deviations of the noise."""
    signal = np.asarray(imaged.signal)
    noise = np.asarray(imaged.density) - signal
    return float((signal[membrane].mean() - signal[background].mean()) / noise.std())


def with_membranes(one: Conditions, key: Any, edge: int) -> Truth:
    """Return the truth of a scene; where it has hardly any membrane, that of the next one."""
    for number in range(10):
        key = key if number == 0 else jax.random.fold_in(key, number)
        truth = render(built(one, key, edge))
        if (np.asarray(truth.labels) == MEMBRANE).mean() >= LEAST:
            return truth
    raise ValueError(f"no scene of {one} has {100 * LEAST:g} % of membrane")


def make(split: Split, number: int, edge: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays of a scene as they are kept, and its row of the result."""
    one = conditions(split, number)
    seed = jax.random.fold_in(jax.random.key(VERSION), 1000 * list(COUNTS).index(split) + number)
    by_scene, by_noise = jax.random.split(seed)
    start = time.process_time()
    truth = with_membranes(one, by_scene, edge)
    labels = np.asarray(truth.labels)
    membrane, background = labels == MEMBRANE, labels == 0
    row: dict[str, Any] = {"split": split, "number": number, **dataclasses.asdict(one)}
    arrays = {
        "membrane": membrane,
        "normals": np.round(127 * np.asarray(truth.normals) * membrane[..., None]).astype(np.int8),
        "visibility": np.round(255 * np.asarray(truth.visibility(one.wedge))).astype(np.uint8),
    }
    for tier in TIERS:
        snr = 0.1
        for _ in range(2):  # the second time at the signal-to-noise ratio of the wanted contrast
            imaging = imaging_of(one, tier, snr)
            found = _image(imaging, truth.density, truth.structures, one.voxel_size, by_noise)
            seen = visible_contrast(found, membrane, background)
            snr *= (one.contrast / max(seen, 0.02)) ** 2
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
    return arrays, row


def folder_of(edge: int = 128) -> pathlib.Path:
    """Return the folder in which the scenes are kept."""
    name = f"v{VERSION}" if edge == 128 else f"v{VERSION}-{edge}"
    return platformdirs.user_cache_path("cryojax-seg") / "benchmark_set" / name


def ensure(split: Split, number: int, edge: int = 128) -> dict[str, Any]:
    """Make a scene unless it is there and sound, and return its row."""
    path = folder_of(edge) / f"{split}-{number}.npz"
    stated = path.with_suffix(".json")
    if stated.exists() and path.exists():
        row = json.loads(stated.read_text())
        if hashlib.sha256(path.read_bytes()).hexdigest() == row["file"]:
            return row
        print(f"{path} is damaged, and made again", flush=True)
    arrays, row = make(split, number, edge)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp.npz")
    kept: dict[str, Any] = {name.replace(" ", "_"): array for name, array in arrays.items()}
    np.savez_compressed(temporary, **kept)
    os.replace(temporary, path)
    row["file"] = hashlib.sha256(path.read_bytes()).hexdigest()
    stated.write_text(json.dumps(row))
    digest = recorded().get((split, number)) if edge == 128 else None
    if digest is not None and digest != row["digest"]:
        print(f"{split} {number}: this machine makes other labels than those that are recorded")
    return row


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
        with np.load(folder_of(edge) / f"{split}-{number}.npz") as kept:
            cases.append(
                Case(
                    conditions(split, number),
                    kept[tier.replace(" ", "_")].astype(np.float32),
                    kept["membrane"],
                    kept["normals"].astype(np.float32) / 127,
                    kept["visibility"].astype(np.float32) / 255,
                )
            )
    return cases


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
