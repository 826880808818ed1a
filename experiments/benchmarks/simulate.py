"""How much time and memory does the simulation of a tomogram take, and do they grow linearly?

    python experiments/benchmarks/simulate.py           # 3 minutes on 2 cores
    python experiments/benchmarks/simulate.py --tiny    # under a minute: checks that it runs

The benchmark times both models of imaging (median, without compilation): the missing wedge with
noise, and a whole tilt series with CTF, damage, Poisson counts and back-projections (of the halves
and of the signal without noise). The time of the series includes the times of its parts, which are
also given separately. Memory is what the compiled program allocates for arguments, results and
buffers. The real-space projector is also correlated with Fourier slices of a smooth phantom. The
results are `experiments/results/benchmark_simulate.json` and a figure.
"""

import dataclasses
import pathlib
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import tyro

matplotlib.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from cryojax_seg.simulate import Acquisition, TiltScheme, TiltSeriesImaging, WedgeImaging
from cryojax_seg.simulate.acquisition import expose
from cryojax_seg.simulate.projection import fourier_project, project
from cryojax_seg.simulate.reconstruction import weighted_back_projection
from experiments.common import claim, results_folder, write_results

VOXEL_SIZE = 10.0  # angstrom


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure the simulation."""

    cases: tuple[tuple[int, int, int, int], ...] = (
        (64, 64, 64, 41),
        (96, 96, 96, 41),
        (128, 128, 128, 21),
        (128, 128, 128, 41),
        (128, 128, 128, 81),
        (128, 256, 256, 41),
    )
    """z, y, x of the volume, and the number of tilts"""
    repeats: int = 3
    tiny: bool = False


def phantom(shape: tuple[int, int, int]) -> jax.Array:
    """Make a vesicle and blobs of protein, smooth on the scale of two voxels."""
    axes = [np.arange(n) - (n - 1) / 2 for n in shape]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    size = min(shape) / 32
    radius = np.sqrt(z**2 + (y - size) ** 2 + (x + 2 * size) ** 2)
    density = np.exp(-((radius - 8 * size) ** 2) / 2 / 2**2)
    for at in ((4, 9, 5), (-6, -8, 9), (1, -9, -8)):
        distance = sum((a - size * b) ** 2 for a, b in zip((z, y, x), at, strict=True))
        density = density + np.exp(-distance / 2 / (1.5 * size) ** 2)
    return jnp.asarray(density, jnp.float32)


def measure(function, *arguments, repeats: int) -> dict[str, float]:
    """Return median seconds of a call, seconds of compilation, and megabytes."""
    start = time.perf_counter()
    executable = jax.jit(function).lower(*arguments).compile()
    compiling = time.perf_counter() - start
    memory = executable.memory_analysis()
    jax.block_until_ready(executable(*arguments))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(executable(*arguments))
        times.append(time.perf_counter() - start)
    total = sum(getattr(memory, f"{part}_size_in_bytes") for part in ("argument", "output", "temp"))
    return {
        "seconds": statistics.median(times),
        "compile_s": compiling,
        "megabytes": total / 2**20,
    }


def case(shape: tuple[int, int, int], tilts: int, repeats: int) -> dict:
    """Return the row of one size."""
    density = phantom(shape)
    mask, key = density > 0.5, jax.random.key(0)
    acquisition = Acquisition(scheme=TiltScheme.every(120 / (tilts - 1)))
    angles = acquisition.scheme.angles
    assert angles.size == tilts
    images = project(density, angles)
    tier, wedge = TiltSeriesImaging(acquisition), WedgeImaging(snr=0.1)
    parts = {
        "wedge": (lambda d: wedge(d, mask, VOXEL_SIZE, key), density),
        "tilt_series": (lambda d: tier(d, mask, VOXEL_SIZE, key), density),
        "project": (project, density, angles),
        "expose": (lambda d: expose(d, VOXEL_SIZE, acquisition, key), density),
        "back_project": (lambda i: weighted_back_projection(i, angles, shape), images),
    }
    row = {"shape": list(shape), "tilts": tilts, "voxels_x_tilts": tilts * density.size}
    for name, (function, *arguments) in parts.items():
        found = measure(function, *arguments, repeats=repeats)
        row |= {f"{name}_s": found["seconds"]}
        if name in ("wedge", "tilt_series"):
            row |= {f"{name}_{k}": found[k] for k in ("compile_s", "megabytes")}
    print(
        f"{'x'.join(map(str, shape)):>12}, {tilts} tilts: tilt series {row['tilt_series_s']:.2f} s,"
        f" {row['tilt_series_megabytes']:.0f} MB (project {row['project_s']:.2f} s, expose"
        f" {row['expose_s']:.2f} s, back-project {row['back_project_s']:.2f} s);"
        f" wedge {row['wedge_s']:.3f} s",
        flush=True,
    )
    return row


def least_correlation(edge: int) -> float:
    """Return the least correlation of both projectors, for tilts of -60 to 60 degrees."""
    density, angles = phantom((edge, edge, edge)), jnp.linspace(-60.0, 60.0, 13)
    values = []
    for axis in ("y", "x"):
        images = project(density, angles, axis), fourier_project(density, angles, axis)
        values += [
            float(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1]) for a, b in zip(*images, strict=True)
        ]
    return min(values)


def picture(rows: list[dict], path: pathlib.Path) -> None:
    """Draw times against voxels times tilts, with the line of linear growth."""
    figure, axes = plt.subplots(figsize=(6, 4.2), layout="constrained")
    rows = sorted(rows, key=lambda row: row["voxels_x_tilts"])
    work = np.array([row["voxels_x_tilts"] for row in rows])
    for name, label in (
        ("tilt_series", "tilt series: expose and 3 reconstructions"),
        ("expose", "expose"),
        ("project", "project"),
        ("back_project", "weighted back-projection"),
        ("wedge", "wedge tier"),
    ):
        axes.loglog(work, [row[f"{name}_s"] for row in rows], "o-", ms=4, label=label)
    last = rows[-1]["tilt_series_s"]
    axes.loglog(work, last * work / work[-1], "k:", lw=1, label="linear")
    axes.set(xlabel="voxels x tilts", ylabel="seconds")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main(config: Config) -> None:
    if config.tiny:
        config = dataclasses.replace(config, cases=((16, 16, 16, 5), (16, 32, 32, 9)), repeats=1)
    rows = [case((z, y, x), tilts, config.repeats) for z, y, x, tilts in config.cases]

    def value(shape, tilts, name):
        found = [r[name] for r in rows if (r["shape"], r["tilts"]) == (list(shape), tilts)]
        return found[0] if found else None

    work = np.log([row["voxels_x_tilts"] for row in rows])
    exponent = float(np.polyfit(work, np.log([row["tilt_series_s"] for row in rows]), 1)[0])
    cube, slab = (128, 128, 128), (128, 256, 256)
    claims = [
        claim("wedge tier, 128^3, s", value(cube, 41, "wedge_s"), at_most=0.3),
        claim("tilt series, 128^3, 41 tilts, s", value(cube, 41, "tilt_series_s"), at_most=10),
        claim(
            "tilt series, 128x256x256, 41 tilts, s", value(slab, 41, "tilt_series_s"), at_most=60
        ),
        claim("tilt series: exponent of the time in voxels x tilts", exponent, at_most=1.1),
        claim(
            "projectors: least correlation",
            least_correlation(16 if config.tiny else 64),
            at_least=0.998,
        ),
    ]
    picture(rows, results_folder(config.tiny) / "benchmark_simulate.png")
    write_results("benchmark_simulate", dataclasses.asdict(config), rows, claims, tiny=config.tiny)


if __name__ == "__main__":
    main(tyro.cli(Config))
