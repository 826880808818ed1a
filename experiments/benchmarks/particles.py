"""How fast are template matching and extraction, compared with the limits of the FFT and the disk?

    python experiments/benchmarks/particles.py           # 3 minutes on 2 cores
    python experiments/benchmarks/particles.py --tiny    # under a minute: checks that it runs

Template matching is measured for a volume of 200 x 512 x 512 voxels and a template of 32. The time
per rotation is the additional time of a few more rotations in one program, divided by their number;
the time of 1,000 rotations is extrapolated as 1,000 times that plus the start. The limit is the
time of the bare FFTs, measured in the same way: one forward and one inverse real transform of the
block for each rotation.

Extraction is measured for boxes of 64 voxels at sub-voxel positions, from a memory-mapped file into
a stack on the same disk, and compared with copying and flushing the same number of bytes; 10,000
boxes are 10.5 GB. Both wall time and processor time are given.
"""

import dataclasses
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from cryojax_seg import io
from cryojax_seg.core import MissingWedge, Particles, fourier
from cryojax_seg.particles import extract_boxes, soft_sphere, uniform_rotations
from cryojax_seg.particles.template_matching import best_rotations, plan_blocks
from experiments.common import claim, write_results

TOTAL = 1000  # rotations
BOXES = 10_000


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure template matching and extraction."""

    shape: tuple[int, int, int] = (200, 512, 512)
    template: int = 32
    few: int = 4
    """number of rotations beyond the first that are measured"""
    boxes: int = 1000
    edge: int = 64
    repeats: int = 2
    tiny: bool = False


def timed(function: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Return the least wall time and processor time of a call, in seconds."""
    clock, processor = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        jax.block_until_ready(function())
        clock.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
    return min(clock), min(processor)


def for_each(function: Callable[[int], Any], few: int, repeats: int) -> dict[str, float]:
    """Return seconds for one more item and for one alone, from calls with 1 and 1 + few."""
    for count in (1, 1 + few):
        jax.block_until_ready(function(count))  # compiled
    one, many = (timed(lambda c=c: function(c), repeats) for c in (1, 1 + few))
    return {
        "seconds_first": one[0],
        "seconds_each": (many[0] - one[0]) / few,
        "cpu_seconds_each": (many[1] - one[1]) / few,
    }


def matching(config: Config) -> tuple[dict, dict]:
    edge = (config.template,) * 3
    _, shape = plan_blocks(config.shape, edge, 64.0)
    rng = np.random.default_rng(0)
    block = jnp.asarray(rng.normal(size=shape).astype(np.float32))
    template = rng.normal(size=edge).astype(np.float32)
    mask = np.asarray(soft_sphere(edge, config.template / 2 - 4, 3.0))
    transfer = MissingWedge((-60.0, 60.0)).transfer(edge)
    turns = np.asarray(uniform_rotations(1 + config.few), np.float32)

    def match(count: int):
        return best_rotations(block, template, mask, transfer, turns[:count])

    @jax.jit
    def transforms(volume, numbers):
        def step(volume, _):
            return fourier.irfftn(fourier.rfftn(volume), volume.shape), None

        return jax.lax.scan(step, volume, numbers)[0]

    def bare(count: int):
        return transforms(block, jnp.arange(count))

    found = for_each(match, config.few, config.repeats)
    limit = for_each(bare, config.few, config.repeats)
    print(
        f"block {shape}: {found['seconds_each']:.2f} s a rotation, FFTs {limit['seconds_each']:.2f}"
    )
    total = found["seconds_first"] + (TOTAL - 1) * found["seconds_each"]
    return (
        {"what": "rotation", "block": list(shape), "seconds_1000_extrapolated": total, **found},
        {"what": "bare FFTs of a rotation", "block": list(shape), **limit},
    )


def extraction(config: Config) -> tuple[dict, dict]:
    rng = np.random.default_rng(0)
    volume = rng.normal(size=config.shape).astype(np.float32)
    high = np.array(config.shape) - config.edge
    where = config.edge / 2 + rng.uniform(0, 1, (config.boxes, 3)) * np.maximum(high, 0)
    size = 4 * config.boxes * config.edge**3
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        io.write_mrc(folder / "volume.mrc", volume, voxel_size=10.0)
        mapped = io.read_mrc(folder / "volume.mrc", mmap=True).density

        def extract():
            boxes = extract_boxes(mapped, Particles(where), config.edge)
            path = folder / "boxes.mrcs"
            io.write_boxes(
                path, (b.volume for b in boxes), config.boxes, config.edge, 10.0, overwrite=True
            )

        def copy():
            with open(folder / "boxes.mrcs", "rb") as source, open(folder / "copy", "wb") as target:
                while block := source.read(4 * config.edge**3):
                    target.write(block)
                target.flush()
                os.fsync(target.fileno())

        extract()  # compiled
        rows = []
        for what, function in (("extraction", extract), ("copy", copy)):
            seconds, processor = timed(function, config.repeats)
            rows.append(
                {
                    "what": what,
                    "boxes": config.boxes,
                    "seconds": seconds,
                    "cpu_seconds": processor,
                    "megabytes_per_second": size / seconds / 1e6,
                    "megabytes_per_cpu_second": size / processor / 1e6,
                    "seconds_10000_extrapolated": seconds / config.boxes * BOXES,
                }
            )
            print(f"{what}: {size / seconds / 1e6:.0f} MB/s, {processor / seconds:.2f} cores")
    return rows[0], rows[1]


def main(config: Config) -> None:
    if config.tiny:
        config = dataclasses.replace(
            config, shape=(40, 64, 64), template=16, few=2, boxes=20, edge=32, repeats=1
        )
    rotation, transforms = matching(config)
    extracted, copied = extraction(config)
    claims = [
        claim(
            "hours for 1,000 rotations of a 200 x 512 x 512 volume, extrapolated",
            rotation["seconds_1000_extrapolated"] / 3600,
            at_most=2.0,
        ),
        claim(
            "fraction of the FFT limit: bare FFTs / rotation",
            transforms["seconds_each"] / rotation["seconds_each"],
            at_least=0.5,
        ),
        claim(
            "extraction over copying, throughput",
            extracted["megabytes_per_second"] / copied["megabytes_per_second"],
            at_least=0.8,
        ),
    ]
    rows = [rotation, transforms, extracted, copied]
    write_results("benchmark_particles", dataclasses.asdict(config), rows, claims, tiny=config.tiny)


if __name__ == "__main__":
    main(tyro.cli(Config))
