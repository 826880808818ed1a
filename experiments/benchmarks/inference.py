"""How fast is a tomogram segmented, and how close is that to the limit of the machine?

    pip install -e ".[benchmark]"                 # PyTorch, for the networks of other tools
    python experiments/benchmarks/inference.py    # 8 minutes on 2 cores

The benchmark measures, in one run, medians without compilation:

- voxels per second of each U-Net preset and of a filter, a vote and a threshold, on one block;
- the same for the networks on OpenVINO, in float32 and bfloat16;
- the same for the networks of MemBrain-seg 0.0.10 and of nnU-Net's default (random weights, their
  own architecture, in PyTorch on the same cores), and for our own U-Net without stem in PyTorch;
- the time from file to file with ``cryojax-seg segment`` in a process of its own, and its peak
  memory beside the prediction of ``--dry-run``;
- the cost per voxel against the size of the volume;
- the roofline: floating-point operations and bytes per voxel as counted by the compiler, and the
  share of the measured rates of a large matrix product and of a copy that is reached.

The defaults of MemBrain-seg overlap windows by half (each voxel is computed 8 times) and average
over 8 mirror images, which is 64 times the single pass measured here. The result is
``experiments/results/performance.json``.

Learned: with the convolutions of `core.onednn` JAX computes one network
{claim=voxels per second: U-Net without stem in JAX / in PyTorch: value} times as fast as PyTorch on
the same cores, and OpenVINO
{claim=voxels per second: U-Net without stem on OpenVINO / in PyTorch: value} times in float32; in
bfloat16 OpenVINO is twice as fast again. ``fast`` in JAX is
{claim=voxels per second: fast in JAX / MemBrain-seg's network, one pass: value} times as fast as
one pass of MemBrain-seg's network. From file to file it takes
{what=fast, file to file: seconds} s, of which {what=fast, file to file: seconds_to_the_plan} s
start Python and choose tiles, precision and halo. A small volume costs more per voxel than a large
one because of its halo. A linear vote is slower on OpenVINO ({what=vote, f32: voxels_per_second}
voxels per second) than in JAX ({what=vote: voxels_per_second}), so that ``segment`` has taken JAX
for it since this was recorded.

A sceptic would say that the defaults of MemBrain-seg were counted and not run, that networks with
random weights may be faster or slower than trained ones, and that other programs may have shared
the cores of the machine.
"""

import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from cryojax_seg import core, io, runtime, segmenters
from experiments.benchmarks.one_block import blocks, openvino, others, ours, rate
from experiments.common import claim, write_results

OVERLAP, MIRRORS = 8, 8  # passes over each voxel in MemBrain-seg's defaults


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure inference."""

    edge: int = 96
    """edge of the block, in voxels; networks of six levels need a multiple of 32 above 32"""
    repeats: int = 7
    file: tuple[int, int, int] = (200, 512, 512)
    """shape of the tomogram that is segmented from file to file"""
    runs: int = 3
    """number of times that it is segmented, after once for compilation"""
    edges: tuple[int, ...] = (64, 128, 256)
    """edges of the volumes for the cost against size"""
    processes: int = 3
    """number of processes that measure the networks one after another, because on some machines the
    speed of a network differs between processes by a factor of two"""
    one_pass: pathlib.Path | None = None
    """measure the networks in this process, and write the rows to this file"""
    json: bool = True
    """write experiments/results/performance.json; otherwise use the temporary folder"""


# Runs a command from a small process, because the peak memory of a child of this process would
# include that of this process.
_MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20)
"""


def process(words: list[str]) -> tuple[float, float]:
    """Return the seconds of a command and its largest resident memory in GiB."""
    start = time.perf_counter()
    run = [sys.executable, "-c", _MEASURED, *words]
    # Python keeps its compiled modules, unless the environment forbids it.
    usual = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    peak = subprocess.run(run, capture_output=True, text=True, check=True, env=usual).stdout
    return time.perf_counter() - start, float(peak)


def from_file_to_file(config: Config) -> list[dict]:
    """Return rows of the command line, with seconds and with measured and predicted memory."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        rng = np.random.default_rng(0)
        section = rng.normal(size=config.file[1:]).astype(np.float32)
        output = io.FileOutput(place / "tomogram.mrc", config.file, np.float32)
        for z in range(config.file[0]):
            output.write((slice(z, z + 1),), np.roll(section, 37 * z)[None])
        output.finish()
        for name, one in ours().items():
            if name not in ("threshold", "vote", "fast"):
                continue
            # A trained model states the halo that suffices, so it is not measured again.
            noise = rng.normal(size=(96, 96, 96)).astype(np.float32)
            halo = segmenters.fit_halo(one, noise)[0].halo
            io.save_model(place / name, one, io.ModelCard(contrast="bright", halo=halo))
            words = [sys.executable, "-m", "cryojax_seg", "segment", str(place / name)]
            words += [str(place / "tomogram.mrc"), "-o", str(place / f"{name}.mrc"), "--overwrite"]
            plan = subprocess.run(
                [*words, "--dry-run"], capture_output=True, text=True, check=True
            ).stdout
            first, _ = process(words)
            runs = [process(words) for _ in range(config.runs)]  # which find programs compiled
            seconds, peak = statistics.median(s for s, _ in runs), max(gib for _, gib in runs)
            planning = [process([*words, "--dry-run"])[0] for _ in range(config.runs)]
            rows.append(
                {
                    "what": f"{name}, file to file",
                    "engine": "auto",
                    "voxels_per_second": float(np.prod(config.file)) / seconds,
                    "seconds": seconds,
                    "seconds_to_the_plan": statistics.median(planning),
                    "seconds_with_compilation": first,
                    "predicted_gib": float(plan.split("about ")[1].split(" GiB")[0]),
                    "peak_gib": peak,
                }
            )
            print(
                f"{name:22s} {seconds:9.1f} s from file to file ({first:.1f} s the first "
                f"time), at most {peak:.2f} GiB; {plan.split(': ', 1)[1].strip()}",
                flush=True,
            )
    return rows


def against_size(config: Config) -> list[dict]:
    """Return rows of the cost against the edge of the volume, through the planner."""
    one = ours()["fast"]
    rows = []
    for edge in config.edges:
        volume = np.random.default_rng(0).normal(size=(edge,) * 3).astype(np.float32)
        cut, _ = segmenters.fit_halo(one, volume)
        plan = core.plan_tiles(cut, volume.shape)
        voxels = rate(lambda v=volume, p=plan, s=cut: core.apply(s, v, p), volume.size, 1)
        rows.append(
            {
                "what": f"fast, {edge}^3",
                "engine": "jax",
                "voxels_per_second": voxels,
                "waste": plan.waste,
            }
        )
        print(f"fast, {edge}^3: {voxels / 1e6:.3f} M voxels/s, waste {plan.waste:.2f}", flush=True)
    return rows


def in_processes(config: Config) -> list[dict]:
    """Return rows of the networks, each from the process in which it was fastest.

    Other load on the machine only makes networks slower, never faster.
    """
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(config.processes):
            path = pathlib.Path(folder) / f"{number}.json"
            words = [sys.executable, __file__, "--one-pass", str(path)]
            words += ["--edge", str(config.edge), "--repeats", str(config.repeats)]
            subprocess.run(words, check=True)
            runs.append(json.loads(path.read_text()))
    rows = []
    for same in zip(*runs, strict=True):
        by_speed = sorted(same, key=lambda row: row["voxels_per_second"])
        rows.append({**by_speed[-1], "slowest_process": by_speed[0]["voxels_per_second"]})
    return rows


def main(config: Config) -> None:
    runtime.keep_compiled()
    runtime.keep_memory()
    if config.one_pass is not None:
        sizes = config.edge, config.repeats
        rows = [*blocks(*sizes), *openvino(*sizes), *others(*sizes)]
        config.one_pass.write_text(json.dumps(rows))
        return
    rows = in_processes(config)
    rows += [*from_file_to_file(config), *against_size(config)]
    speed = {row["what"]: row["voxels_per_second"] for row in rows}
    seconds = {row["what"]: row.get("seconds") for row in rows}

    def ratio(a: str, b: str) -> float | None:
        return speed[a] / speed[b] if a in speed and b in speed else None

    once = ratio("fast", "MemBrain-seg")
    engine = ratio("fast, f32", "MemBrain-seg")
    whole = speed["fast, file to file"]
    theirs = speed.get("MemBrain-seg")
    large = [speed[f"fast, {edge}^3"] for edge in config.edges]
    claims = [
        claim("voxels per second: U-Net without stem in JAX / in PyTorch",
              ratio("no stem", "no stem, in PyTorch"), at_least=1.25),
        claim("voxels per second: U-Net without stem on OpenVINO / in PyTorch",
              ratio("no stem, f32", "no stem, in PyTorch"), at_least=2),
        claim("voxels per second: fast in JAX / MemBrain-seg's network, one pass", once,
              at_least=40),
        claim("voxels per second: fast on OpenVINO / MemBrain-seg's network, one pass", engine,
              at_least=40),
        claim("voxels per second: fast from file to file / MemBrain-seg's defaults",
              None if theirs is None else whole * OVERLAP * MIRRORS / theirs, at_least=200),
        claim("voxels per second: fast / no stem", ratio("fast", "no stem"), at_least=8),
        claim(f"seconds: fast from file to file, {' x '.join(map(str, config.file))}",
              seconds["fast, file to file"], at_most=4.5),
        claim("cost per voxel: largest volume / smallest", large[0] / large[-1], at_most=1.2),
    ]  # fmt: skip
    write_results("performance", dataclasses.asdict(config), rows, claims, tiny=not config.json)


if __name__ == "__main__":
    main(tyro.cli(Config))
