"""How much CPU time and memory does `measure` take, by the size of the volume and its membranes?

    python experiments/benchmarks/measure.py           # 5 CPU-minutes
    python experiments/benchmarks/measure.py --tiny    # under a minute: checks that it runs

Vesicles of the preset are imaged by the wedge tier and segmented by ``membrane-fast``, once. Mirror
images of this block fill volumes of several sizes, all of it or some blocks, which sets the share
of membrane; a higher probability everywhere adds to it. `cryojax-seg measure` runs on the labels
and the probabilities of each volume in a process of its own, and so do the three ways of cleaning
(``segment --min-size --fill-holes --instances``), of which the last numbers components, as it does
for all classes but membranes. CPU-seconds are those of all threads, start and compilation included;
other load on the machine increases them.

Learned: the membranes that are there decide the time, and not the volume. Of 200 x 512 x 512
voxels, {claim=CPU-seconds of measure, 200 x 512 x 512, 3 % membrane: value} CPU-seconds measure 3 %
of membrane, and {claim=CPU-seconds of measure, 200 x 512 x 512, 15 % membrane: value} measure 15 %,
where numbering the membranes and their thickness take most. Memory stays below the 2 GiB that were
allowed. Cleaning takes {claim=cleaning / network, 200 x 512 x 512, 15 % membrane: value} of the
time of the network. Other programs kept both cores busy during the recorded run.

A sceptic would say that mirror images of one block are as many membranes of few sizes, and that
cells hold large ones, whose boxes take more memory.
"""

import dataclasses
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from cryojax_seg import inference, io
from cryojax_seg.core import MissingWedge, Tomogram
from cryojax_seg.core.plain import Shape
from cryojax_seg.inference import cleaned
from cryojax_seg.inference.cleaning import Cleaning
from cryojax_seg.simulate import WedgeImaging, simulate_preset
from experiments.common import Rows, claim

VOXEL = (10.0, 10.0, 10.0)  # angstrom
WEDGE = MissingWedge((-60.0, 60.0))
NETWORK = 8.7  # CPU-seconds of the network on 200 x 512 x 512
MOST = 50.0  # nm^3 of a hole that is filled, and of an object that is removed
# Runs a command from a small process, because the usage of children includes its largest one.
_MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20)
"""


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure the cost of `measure` and of cleaning."""

    block: Shape = (100, 256, 256)
    cases: tuple[tuple[int, int, int, int, float], ...] = (
        (1, 1, 1, 1, 0.0),
        (2, 2, 2, 2, 0.0),
        (2, 2, 2, 8, 1.6),
    )
    """blocks along z, y, x; how many of them have vesicles; what is added to the logits"""
    memory: float = 2.0
    """GiB that `measure` may take"""
    tiny: bool = False


def block_of(shape: Shape) -> np.ndarray:
    """Return the probability of membrane in a block."""
    imaging = WedgeImaging(snr=0.64, wedge=WEDGE)
    one = simulate_preset("vesicles", shape, VOXEL[0], imaging, seed=7, number=0)
    tomogram = Tomogram(np.asarray(one.density), one.voxel_size, wedge=WEDGE)
    model = inference.load("membrane-fast")
    _, maps = inference.segment(model, tomogram, probabilities=True, contrast="bright")
    return np.asarray(maps["membrane"], np.float32)


def filled(block: np.ndarray, counts: Shape, full: int, added: float) -> np.ndarray:
    """Return a volume of mirror images of a block, of which some are empty."""
    p = np.clip(block, 1e-4, 1 - 1e-4)
    p = p / (p + (1 - p) * np.exp(-added))
    volume = np.full([n * e for n, e in zip(counts, p.shape, strict=True)], 0.003, np.float32)
    places = list(np.ndindex(*counts))
    for place in places[:: len(places) // full][:full]:
        image = p[tuple(slice(None, None, -1 if i % 2 else 1) for i in place)]
        box = (slice(i * e, (i + 1) * e) for i, e in zip(place, p.shape, strict=True))
        volume[tuple(box)] = image
    return volume


def cleaning_seconds(labels: np.ndarray) -> dict[str, float]:
    """Return the CPU-seconds of each way of cleaning labels."""
    most = MOST * 1e3 / float(np.prod(VOXEL))

    def clean(small: float, hole: float) -> None:
        how = Cleaning((small,), (hole,))
        cleaned.clean(how, lambda z: labels[z], labels.__setitem__, labels.shape)

    def number() -> None:
        how, place = Cleaning((0.0,), (0.0,)), pathlib.Path(tempfile.gettempdir())
        found = cleaned.objects(how, labels.__getitem__, labels.shape, place)
        for _ in found.slabs():
            pass

    seconds = {}
    ways = {
        "min_size": lambda: clean(most, 0.0),
        "fill_holes": lambda: clean(0.0, most),
        "instances": number,
    }
    for name, way in ways.items():
        start = time.process_time()
        way()
        seconds[f"{name}_seconds"] = time.process_time() - start
    return seconds


def measured(folder: pathlib.Path, volume: np.ndarray, memory: float) -> dict[str, float]:
    """Return CPU-seconds and the largest resident memory of `measure`, and what it found."""
    labels, maps = folder / "t.mrc", folder / "t.membrane.probability.mrc"
    io.write_mrc(labels, (volume > 0.5).astype(np.int8), voxel_size=VOXEL, overwrite=True)
    io.write_mrc(maps, volume.astype(np.float16), voxel_size=VOXEL, overwrite=True)
    words = ["measure", str(labels), "--probabilities", str(maps), "--classes", "membrane"]
    words += ["-o", str(folder / "m"), "--memory", str(memory), "--overwrite"]
    run = [sys.executable, "-c", _MEASURED, sys.executable, "-m", "cryojax_seg", *words]
    # Python keeps its compiled modules, unless the environment forbids it.
    usual = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    told = subprocess.run(run, capture_output=True, text=True, check=True, env=usual).stdout
    seconds, peak = map(float, told.split())
    rows = (folder / "m" / "instances.csv").read_text().splitlines()
    return {"cpu_seconds": seconds, "peak_gib": peak, "objects": len(rows) - 1}


def main(config: Config) -> None:
    if config.tiny:
        few = ((1, 1, 1, 1, 0.0), (1, 1, 2, 1, 0.0))
        config = dataclasses.replace(config, block=(24, 48, 48), cases=few)
    records = Rows("benchmark_measure", dataclasses.asdict(config), config.tiny)
    block = block_of(config.block)
    for *counts, full, added in config.cases:
        key = {"blocks": counts, "full": full, "added": added}
        if records.done(**key) is not None:
            continue
        z, y, x = counts
        volume = filled(block, (z, y, x), full, added)
        labels = (volume > 0.5).astype(np.int8)
        values = {"shape": list(volume.shape), "membrane": float(labels.mean())}
        values |= cleaning_seconds(labels)
        with tempfile.TemporaryDirectory() as folder:
            values |= measured(pathlib.Path(folder), volume, config.memory)
        records.add(key, values)
        print({name: round(v, 3) if isinstance(v, float) else v for name, v in values.items()})
    claims = []
    for row in records.records[1:]:
        said = f"{' x '.join(map(str, row['shape']))}, {100 * row['membrane']:.0f} % membrane"
        share = sum(row[f"{n}_seconds"] for n in ("min_size", "fill_holes", "instances")) / NETWORK
        claims += [
            claim(f"CPU-seconds of measure, {said}", row["cpu_seconds"], at_most=120),
            claim(f"GiB of measure, {said}", row["peak_gib"], at_most=config.memory),
            claim(f"cleaning / network, {said}", share, at_most=0.2),
        ]
    records.finish(records.records, claims)


if __name__ == "__main__":
    main(tyro.cli(Config))
