"""How long does somebody wait who opens, scrolls through and paints on a tomogram?

    python experiments/benchmarks/painting.py           # 6 minutes on 2 cores
    python experiments/benchmarks/painting.py --tiny    # under a minute: checks that it runs

`cryojax-seg annotate` serves the page in a process of its own, and this one asks for slices and
paints as a page does, so the times contain everything but the browser. It measures:

- the start: from the command to its link, to the first picture of a plane, to one of each plane,
  and to the slices themselves; all are asked for at once, as the page does. A slice that takes long
  to read comes in two steps: first a coarse picture, which the page says, then the slice;
- scrolling: consecutive slices of each plane, each asked for when the one before is there;
- learning by the vote and by the last layer of a built-in model: from a stroke on the middle slice
  to the new prediction of this slice. Strokes come one second after the prediction for the one
  before, while the program predicts the rest of the volume. The first stroke teaches a class and
  background, and waits for programs that are compiled;
- saving: from a stroke to labels on disk, as MRC and as OME-Zarr;
- the largest resident memory of the process, as Linux counts it.

Seconds are those of a clock, so other load of the machine counts. Its number of waiting processes
is given with every tomogram, as is the niceness, which is below 0 if other programs had to stand
back. CPU time contains what the program predicts besides.

Tomograms are dark sheets in noise, in signed bytes, as MRC and as OME-Zarr with chunks of 128
voxels; they were just written, so that they lie in the page cache. The tomograms of 4 GiB are
floats: a sparse MRC file, which holds nothing but zeros and also needs no disk, and an OME-Zarr
with noise in the middle quarter of its sections.

Learned: a picture of each plane of 4 GiB is there after
{tomogram=1024 x 1024 x 1024, mrc: three_pictures_seconds} s (MRC) and
{tomogram=1024 x 1024 x 1024, zarr: three_pictures_seconds} s (OME-Zarr). The slices themselves take
{tomogram=1024 x 1024 x 1024, mrc: three_slices_seconds} s and
{tomogram=1024 x 1024 x 1024, zarr: three_slices_seconds} s: the system reads all of an MRC file for
a slice across its rows, and whole chunks are decoded. Their neighbours come with them, so that
scrolling is quick.

A sceptic would say that the files were never read from a disk, which takes longer; that scrolling
waits for a second where a new slab begins; and that a browser takes time to draw.
"""

import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any, Self

import numpy as np
import tyro
from websockets.sync.client import connect

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from cryojax_seg import io
from cryojax_seg.core import Tomogram
from cryojax_seg.core.blocks import blocks
from experiments.common import claim, write_results

ROOT = pathlib.Path(__file__).parents[2]
WAIT = 600.0  # seconds after which something must be wrong
PLANES = {0: "xy", 1: "xz", 2: "yz"}
SHEETS, THICKNESS = 64, 5  # voxels from one dark sheet to the next, and through one


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure the page on which labels are painted."""

    shapes: tuple[tuple[int, int, int], ...] = ((200, 512, 512), (500, 1000, 1000))
    large: tuple[int, int, int] = (1024, 1024, 1024)
    """shape of the tomograms of floats"""
    slices: int = 100
    """slices of each plane that are scrolled through"""
    strokes: int = 6
    """strokes after the first one"""
    model: str = "membrane-fast"
    tiny: bool = False


class Page:
    """Runs the command, and asks and tells what a page would."""

    def __init__(self, tomogram: pathlib.Path, labels: str, start: str):
        words = ["annotate", str(tomogram), "-o", f"{tomogram.with_suffix('')}-{labels}"]
        words += ["--classes", "membrane", "--start", start]
        # Python keeps its compiled modules, unless the environment forbids it.
        usual = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        self.began = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cryojax_seg", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**usual, "PYTHONPATH": str(ROOT)},
        )
        assert self._process.stdout is not None
        link = self._process.stdout.readline().strip()
        self.link_seconds = time.perf_counter() - self.began
        if not link:
            raise RuntimeError(f"this has failed: cryojax-seg {' '.join(words)}")
        address, _, token = link.removeprefix("http://").partition("/")
        plain = http.client.HTTPConnection(address)
        plain.request("GET", f"/{token}")
        cookie = plain.getresponse().headers["Set-Cookie"].partition(";")[0]
        plain.close()
        connection = connect(
            f"ws://{address}/messages",
            origin=f"http://{address}",  # pyright: ignore[reportArgumentType]  # a NewType of str
            additional_headers={"Cookie": cookie},
            max_size=None,
        )
        self._opened = contextlib.ExitStack()
        self._channel = self._opened.enter_context(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self._opened.close()
        self._process.kill()
        self._process.communicate()

    def tell(self, kind: str, **message: Any) -> None:
        self._channel.send(json.dumps({"type": kind, **message}))

    def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Return the next message of a type with these fields."""
        end = time.perf_counter() + WAIT
        while True:
            frame = self._channel.recv(end - time.perf_counter())
            if isinstance(frame, bytes):
                frame = frame[4 : 4 + int.from_bytes(frame[:4], "big")].decode()
            found = json.loads(frame)
            if found["type"] == "error":
                raise RuntimeError(found["text"])
            if found["type"] == kind and all(found[k] == v for k, v in fields.items()):
                return found

    def plane(self, layer: str, axis: int, index: int) -> None:
        """Ask for a slice and wait until it is there."""
        self.planes(layer, {axis: index})

    def planes(
        self, layer: str, wanted: dict[int, int]
    ) -> tuple[dict[int, float], dict[int, float]]:
        """Ask for a slice of each plane at once, and wait until all are there.

        Returns:
            when the first picture of each plane came, which may be coarse, and when the slice did.
        """
        for axis, index in wanted.items():
            self.tell("plane", layer=layer, axis=axis, index=index)
        first, whole = dict[int, float](), dict[int, float]()
        while len(whole) < len(wanted):
            found, now = self.until("plane", layer=layer), time.perf_counter()
            first.setdefault(found["axis"], now)
            if not found.get("coarse"):
                whole[found["axis"]] = now
        return first, whole

    def cpu(self) -> float:
        """Return the processor seconds of the command by now."""
        numbers = self._proc("stat").rpartition(")")[2].split()
        return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")

    def peak(self) -> float:
        """Return its largest resident memory in GiB."""
        (line,) = (one for one in self._proc("status").splitlines() if one.startswith("VmHWM"))
        return int(line.split()[1]) / 2**20

    def _proc(self, name: str) -> str:
        return pathlib.Path(f"/proc/{self._process.pid}/{name}").read_text()


def write_tomogram(path: pathlib.Path, shape: tuple[int, int, int]) -> None:
    """Write dark sheets in noise; every slice is another part of the same noise."""
    depth, rows, columns = shape
    noise = np.random.default_rng(0).normal(0, 25, (rows, columns + depth)).clip(-60, 60)
    noise[np.arange(rows) % SHEETS < THICKNESS] -= 60
    noise = noise.astype(np.int8)
    kind = io.ZarrOutput if path.suffix == ".zarr" else io.FileOutput
    output = kind(path, shape, np.int8, Tomogram(noise[None], voxel_size=(10.0, 10.0, 10.0)))
    for z, y, x in blocks(shape):
        part = [noise[y, x.start + n : x.stop + n] for n in range(z.start, z.stop)]
        output.write((z, y, x), np.stack(part))
    output.finish()


def write_sparse(path: pathlib.Path, shape: tuple[int, int, int]) -> None:
    """Write an MRC file of zeros that takes no space."""
    io.write_mrc(path, np.zeros((1, 1, shape[2]), np.float32), voxel_size=10.0)
    content = np.frombuffer(path.read_bytes()[:1024], "<i4").copy()
    content[:3] = content[7:10] = shape[::-1]
    content[10:13] = (10.0 * np.array(shape[::-1], "<f4")).view("<i4")
    with open(path, "wb") as file:
        file.write(content.tobytes())
        file.truncate(1024 + 4 * int(np.prod(shape)))


def write_chunks(path: pathlib.Path, shape: tuple[int, int, int]) -> None:
    """Write an OME-Zarr of floats, noise in the middle quarter of its sections and zeros beside."""
    with tempfile.NamedTemporaryFile() as file:
        volume = np.memmap(file, np.float32, "w+", shape=shape)
        for section in volume[3 * shape[0] // 8 : 5 * shape[0] // 8]:
            section[:] = np.random.default_rng(0).normal(size=shape[1:])
        io.write_zarr(path, volume, voxel_size=10.0)


def opened(path: pathlib.Path, shape: tuple[int, int, int], count: int) -> dict[str, Any]:
    """Return times of the start and of scrolling."""
    row: dict[str, Any] = {
        "tomogram": f"{' x '.join(map(str, shape))}, {path.suffix[1:]}",
        "load": os.getloadavg()[0],
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
    }
    with Page(path, "none.mrc", "none") as page:
        page.tell("hello")
        page.until("state")
        first, whole = page.planes("image", {axis: n // 2 for axis, n in enumerate(shape)})
        row |= {
            "link_seconds": page.link_seconds,
            "first_picture_seconds": min(first.values()) - page.began,
            "three_pictures_seconds": max(first.values()) - page.began,
            "three_slices_seconds": max(whole.values()) - page.began,
            "three_slices_cpu_seconds": page.cpu(),
            "scrolling": [],
        }
        for axis, length in enumerate(shape):
            first, times = max(0, (length - count) // 2), []
            for index in range(first, min(first + count, length)):
                began = time.perf_counter()
                page.plane("image", axis, index)
                times.append(time.perf_counter() - began)
            scrolled = {
                "plane": PLANES[axis],
                "slices_per_second": len(times) / sum(times),
                "median_ms": 1e3 * statistics.median(times),
                "slowest_ms": 1e3 * max(times),
            }
            row["scrolling"].append(scrolled)
        row["peak_gib"] = page.peak()
    return row


def stroke(page: Page, shape: tuple[int, int, int], place: int, value: int) -> None:
    """Paint on a sheet of the middle slice, or between two sheets, at one of ten places."""
    depth, rows, columns = shape
    sheet = rows // 2 // SHEETS * SHEETS + THICKNESS // 2
    row, left = sheet if value else sheet + SHEETS // 2, place * columns // 10
    points = [[row, left], [row, left + columns // 12]]
    page.tell("stroke", axis=0, index=depth // 2, points=points, radius_nm=2.0, value=value)


def learned(
    path: pathlib.Path, shape: tuple[int, int, int], start: str, count: int
) -> dict[str, Any]:
    """Return times from strokes to predictions."""
    with Page(path, f"{start}.mrc", start) as page:
        ready = False
        while not ready:
            page.tell("hello")
            learning = page.until("state")["learning"]
            ready = not learning["busy"] or "as it was trained" in learning["text"]
            time.sleep(0.2)
        ready_seconds = time.perf_counter() - page.began
        page.tell("look", planes=[[axis, length // 2] for axis, length in enumerate(shape)])
        page.tell("learn", action="pause")
        stroke(page, shape, 0, 0)
        seconds, processor = [], []
        for number in range(1 + count):
            used, began = page.cpu(), time.perf_counter()
            stroke(page, shape, number, 1 - number % 2)
            page.tell("learn", action="resume")
            page.until("predicted", slices=None)
            page.plane("prediction", 0, shape[0] // 2)
            seconds.append(time.perf_counter() - began)
            processor.append(page.cpu() - used)
            time.sleep(1)
        return {
            "method": start,
            "ready_seconds": ready_seconds,
            "first_stroke_seconds": seconds[0],
            "stroke_seconds": statistics.median(seconds[1:]),
            "slowest_stroke_seconds": max(seconds[1:]),
            "stroke_cpu_seconds": statistics.median(processor[1:]),
            "peak_gib": page.peak(),
        }


def saved(path: pathlib.Path, shape: tuple[int, int, int], form: str) -> dict[str, Any]:
    """Return times from strokes to labels on disk."""
    with Page(path, f"saved.{form}", "none") as page:
        seconds = []
        for place in range(3):
            began = time.perf_counter()
            stroke(page, shape, place, 1)
            while page.until("saved")["written"] <= place:  # each stroke requests one write
                pass
            seconds.append(time.perf_counter() - began)
            time.sleep(1.2 * seconds[-1])  # the program waits as long before it writes again
        return {"labels": form, "save_seconds": statistics.median(seconds), "peak_gib": page.peak()}


def main(config: Config) -> None:
    if config.tiny:
        small = {"shapes": ((16, 96, 96),), "large": (16, 64, 64), "slices": 5, "strokes": 2}
        config = dataclasses.replace(config, **small)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        for shape in config.shapes:
            for form in ("mrc", "zarr"):
                path = place / f"{shape[0]}.{form}"
                write_tomogram(path, shape)
                row = opened(path, shape, config.slices)
                if form == "mrc":
                    row["learning"] = [
                        learned(path, shape, start, config.strokes)
                        for start in ("vote", config.model)
                    ]
                    row["saving"] = [saved(path, shape, kind) for kind in ("mrc", "zarr")]
                rows.append(row)
                print(json.dumps(row, indent=1), flush=True)
        write_sparse(place / "large.mrc", config.large)
        write_chunks(place / "large.zarr", config.large)
        large = {
            name: opened(place / f"large.{form}", config.large, config.slices)
            for name, form in (("MRC", "mrc"), ("OME-Zarr", "zarr"))
        }
        rows.extend(large.values())
    vote, model = rows[0]["learning"]
    plane = " x ".join(map(str, config.shapes[0][1:]))
    claims = []
    for name, row in large.items():
        start = f"seconds: the largest {name}, from the command to a picture of"
        slowest = min(one["slices_per_second"] for one in row["scrolling"])
        claims += [
            claim(f"{start} one plane", row["first_picture_seconds"], at_most=2.0),
            claim(f"{start} each plane", row["three_pictures_seconds"], at_most=2.0),
            claim(f"slices per second: the largest {name}, slowest plane", slowest, at_least=20.0),
        ]
    claims += [
        claim(
            f"seconds: from a stroke to the prediction of the vote, {plane}",
            vote["stroke_seconds"],
            at_most=2.0,
        ),
        claim(
            f"seconds: from a stroke to the prediction of {config.model}, {plane}",
            model["stroke_seconds"],
            at_most=10.0,
        ),
    ]
    write_results("benchmark_painting", dataclasses.asdict(config), rows, claims, tiny=config.tiny)


if __name__ == "__main__":
    main(tyro.cli(Config))
