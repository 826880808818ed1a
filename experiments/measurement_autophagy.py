"""What can be measured on real labels of autophagosomes, and what does it cost?

    python experiments/measurement_autophagy.py             # 5 minutes on 2 cores
    python experiments/measurement_autophagy.py --tiny      # one volume, under a minute

Four published label volumes of yeast autophagy (up to 342 x 928 x 928 voxels of 1.408 nm; data set
``autophagy``, see `datasets.py`) are measured by ``cryojax-seg measure``, each in a process of its
own whose time and peak memory are recorded. The labelled membranes are open, because tilt series do
not show those that face the beam. The volume that the autophagosome encloses is therefore measured
within z slices, with gaps of up to 160 voxels bridged, and is a lower bound for the imaged slab.

Learned: the slowest volume takes {claim=slowest volume, CPU-seconds: value} CPU-seconds, none needs
more than {claim=peak memory, GiB: value} GiB, and the median distances of inner and outer membranes
are {claim=AP_middle: median distance of inner and outer membrane, nm: value},
{claim=Phagophore_middle: median distance of inner and outer membrane, nm: value} and
{claim=vacuole_contact: median distance of inner and outer membrane, nm: value} nm.

A sceptic would say that the goals of these distances, 6 to 30 nm, are so wide that hardly anything
could miss them, and that nobody measured the same volumes by another program.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro
from scipy import ndimage

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import io, measure
from experiments import datasets
from experiments.common import claim, results_folder, write_results

VOXEL_NM = 1.408
# Files and the names of their labels.
VOLUMES = {
    "AP_middle": ("inner membrane", "outer membrane"),
    "Phagophore_middle": ("inner membrane", "outer membrane", "rim membrane"),
    "wrapped_AB_middle": ("wrapped membrane", "wrapping membrane"),
    "vacuole_contact": ("vacuole membrane", "outer membrane", "inner membrane"),
}
COMMAND = """
import json, resource, sys
from cryojax_seg.cli import main
status = main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"cpu_seconds": used.ru_utime + used.ru_stime, "peak_kb": used.ru_maxrss}))
sys.exit(status)
"""


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure labels of autophagosomes."""

    volumes: tuple[str, ...] = tuple(VOLUMES)
    gap: int = 160
    """widest gap in a membrane that is bridged within a slice, in voxels"""
    enclosing: tuple[str, ...] = ("AP_middle",)
    """volumes whose membranes enclose a volume within slices"""
    tiny: bool = False


def command(path: pathlib.Path, names: tuple[str, ...], folder: str) -> dict:
    """Return the summary of one volume, with the time and memory of the command."""
    words = ["measure", str(path), "--voxel-size", str(10 * VOXEL_NM), "--classes", *names]
    words += ["-o", folder]
    began = time.perf_counter()
    root = pathlib.Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *words],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"},
    )
    wall = time.perf_counter() - began
    summary = json.loads((pathlib.Path(folder) / "summary.json").read_text())
    cost = json.loads(done.stdout.splitlines()[-1])
    return summary | {
        "wall_seconds": wall,
        "cpu_seconds": cost["cpu_seconds"],
        "peak_gib": cost["peak_kb"] / 2**20,
    }


def enclosed_um3(labels: np.ndarray, label: int, gap: int) -> float:
    """Return the volume that a membrane encloses within z slices, which grows with the gap.

    The labels have gaps where a membrane is tangent to the tilt axis.
    """
    (box,) = ndimage.find_objects((labels == label).view(np.int8))
    box = tuple(
        slice(max(s.start - gap, 0), s.stop + gap) if axis else s for axis, s in enumerate(box)
    )
    inside = measure.lumen(labels[box] == label, gap)
    return float(np.count_nonzero(inside.mask)) * (VOXEL_NM / 1000) ** 3


def draw(path: pathlib.Path, pictures: dict[str, np.ndarray], rows: list[dict]) -> None:
    """Draw a slice of every volume, and the distances between its membranes."""
    figure, axes = plt.subplots(
        2, len(rows), figsize=(4 * len(rows), 7), squeeze=False, constrained_layout=True
    )
    for (top, bottom), row in zip(axes.T, rows, strict=True):
        name = row["volume"]
        top.imshow(pictures[name], cmap="tab10", interpolation="nearest", vmin=0, vmax=9)
        top.set(title=name, xticks=[], yticks=[])
        for pair in row["distances"]:
            edges, areas = (np.array(v) for v in pair["histogram"].values())
            if areas.any():
                label = f"{pair['from']} to {pair['to']}"
                bottom.stairs(areas / areas.sum(), edges, label=label)
        bottom.set(xlabel="distance (nm)", ylabel="share of area")
        bottom.legend(fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(config: Config) -> None:
    if config.tiny:
        config = dataclasses.replace(config, volumes=("vacuole_contact",), enclosing=())
    folder = datasets.folder("autophagy")
    rows, pictures = [], {}
    for name in config.volumes:
        path = folder / f"{name}_labels.tif"
        labels = np.asarray(io.read_tomogram(path, voxel_size=10 * VOXEL_NM).density)
        middle = int(np.median(np.flatnonzero(labels.any((1, 2)))))
        pictures[name] = ndimage.maximum_filter(labels[middle - 3 : middle + 4].max(0), 5)
        with tempfile.TemporaryDirectory() as results:
            found = command(path, VOLUMES[name], f"{results}/out")
        row = {"volume": name, "shape": found["shape"]}
        row |= {k: found[k] for k in ("wall_seconds", "cpu_seconds", "peak_gib", "distances")}
        row["areas_um2"] = {n: c["area_nm2"]["value"] * 1e-6 for n, c in found["classes"].items()}
        if name in config.enclosing:
            row["enclosed_um3"] = {
                n: enclosed_um3(labels, i, config.gap) for i, n in enumerate(VOLUMES[name], 1)
            }
        rows.append(row)
        print(f"{name}: {row['areas_um2']} um^2, {row['cpu_seconds']:.0f} CPU-s", flush=True)
    draw(results_folder(config.tiny) / "measurement_autophagy.png", pictures, rows)
    claims = [
        claim("slowest volume, CPU-seconds", max(r["cpu_seconds"] for r in rows), at_most=60),
        claim("peak memory, GiB", max(r["peak_gib"] for r in rows), at_most=4),
    ]
    for row in rows:
        for pair in row["distances"]:
            if (pair["from"], pair["to"]) == ("inner membrane", "outer membrane"):
                # A double membrane is two bilayers with a gap, closer than any contact site.
                median = pair["quantiles_nm"]["0.5"]
                name = f"{row['volume']}: median distance of inner and outer membrane, nm"
                claims.append(claim(name, median, at_least=6, at_most=30))
    write_results(
        "measurement_autophagy", dataclasses.asdict(config), rows, claims, tiny=config.tiny
    )


if __name__ == "__main__":
    main(tyro.cli(Config))
