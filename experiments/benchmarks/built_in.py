"""What does it cost to label a tomogram with a built-in model, and to clean the labels?

    python experiments/benchmarks/built_in.py           # 5 minutes on 2 cores
    python experiments/benchmarks/built_in.py --tiny    # a minute

A tomogram of 200 x 512 x 512 voxels, made of mirror images of one crowded phantom, goes from file
to file through ``cryojax-seg segment membrane``, each time in a process of its own, once before to
compile: on OpenVINO and in JAX, then with ``--min-size``, with ``--fill-holes``, with
``--instances`` and with all three. The share of cleaning is that of the processor time, which load
on the machine hardly changes; seconds are those of the clock. Without a tilt range there is no
average over flips. The result is ``experiments/results/benchmark_built_in.json``.
"""

import dataclasses
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Literal

import numpy as np
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from cryojax_seg import core, io
from cryojax_seg.core.plain import Shape
from cryojax_seg.simulate import WedgeImaging, simulate_preset
from experiments.common import claim, write_results

Engine = Literal["openvino", "jax"]
CLEANING = {
    "labels alone": (),
    "min-size": ("--min-size", "500"),
    "fill-holes": ("--fill-holes", "500"),
    "instances": ("--instances",),
    "all three": ("--min-size", "500", "--fill-holes", "500", "--instances"),
}
# Runs a command from a small process, whose children's memory and processor time are its alone.
_MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_maxrss / 2**20, used.ru_utime + used.ru_stime)
"""


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure labelling with a built-in model."""

    model: str = "membrane"
    engines: tuple[Engine, ...] = ("openvino", "jax")
    shape: Shape = (200, 512, 512)
    """shape of the tomogram, voxels"""
    phantom: Shape = (50, 128, 128)
    """shape of the phantom that it is made of"""
    repeats: int = 2
    """runs of each command, of which the fastest counts"""
    tiny: bool = False


def tomogram(config: Config) -> np.ndarray:
    """Return mirror images of a phantom, structure dark."""
    imaging = WedgeImaging(snr=1.0, wedge=core.MissingWedge((-60.0, 60.0)))
    one = simulate_preset("crowded", config.phantom, 10.0, imaging, seed=800)
    added = [(0, whole - part) for whole, part in zip(config.shape, config.phantom, strict=True)]
    return np.pad(-np.asarray(one.density, np.float32), added, mode="symmetric")


def measured(words: list[str]) -> dict[str, float]:
    """Return the seconds, the processor time and the largest memory of a command."""
    start = time.perf_counter()
    run = [sys.executable, "-c", _MEASURED, *words]
    peak, cpu = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "cpu_seconds": float(cpu), "peak_gib": float(peak)}


def main(config: Config) -> None:
    """Measure, and write the result."""
    if config.tiny:
        config = dataclasses.replace(
            config, shape=(40, 64, 64), phantom=(40, 64, 64), engines=("jax",), repeats=1
        )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        io.write_mrc(place / "tomogram.mrc", tomogram(config), voxel_size=10.0)
        for engine in config.engines:
            for name, options in CLEANING.items():
                if name not in ("labels alone", "all three") and engine != config.engines[0]:
                    continue
                words = [sys.executable, "-m", "cryojax_seg", "segment", config.model]
                words += [str(place / "tomogram.mrc"), "-o", str(place / "labels.mrc")]
                words += ["--engine", engine, "--contrast", "dark", "--overwrite", *options]
                if name == "labels alone":
                    measured(words)  # compiles its programs
                runs = [measured(words) for _ in range(config.repeats)]
                best = min(runs, key=lambda run: run["cpu_seconds"])
                rows.append({"engine": engine, "cleaning": name, **best})
                print(engine, name, {k: round(v, 2) for k, v in best.items()}, flush=True)
    of = {(row["engine"], row["cleaning"]): row for row in rows}
    what = f"{config.model}, {' x '.join(map(str, config.shape))}"
    claims = []
    for engine, most in (("openvino", 20.0), ("jax", 60.0)):
        alone, cleaned = of.get((engine, "labels alone")), of.get((engine, "all three"))
        if alone is None or cleaned is None:
            continue
        share = cleaned["cpu_seconds"] / alone["cpu_seconds"] - 1
        claims += [
            claim(f"{what}: seconds on {engine}", alone["seconds"], at_most=most),
            claim(f"{what}: cleaning / labelling on {engine}, CPU-s", share, at_most=0.2),
        ]
    write_results("benchmark_built_in", dataclasses.asdict(config), rows, claims, tiny=config.tiny)


if __name__ == "__main__":
    main(tyro.cli(Config))
