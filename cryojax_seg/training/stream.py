"""Renders a stream of scenes while training goes on, the same in every run of the same seed."""

import contextlib
import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cryojax_seg import __version__, simulate
from cryojax_seg.core import normalize
from cryojax_seg.core.plain import Shape
from cryojax_seg.core.types import Key
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.io.files import FileError, atomic_write
from cryojax_seg.runtime import devices, processes
from cryojax_seg.simulate import Scene, presets, render
from cryojax_seg.simulate.varied_series import varied_series
from cryojax_seg.training.example import Example
from cryojax_seg.training.imaging import Randomisation, draw_conditions, image_patch
from cryojax_seg.training.pool import Pool, Rendered, empty_pool, inserted, label_values

Kind = Callable[[Key, Shape, float], Scene]
KINDS = (presets.varied,)
Source = Callable[[int], Rendered]


@dataclasses.dataclass(frozen=True)
class Scenes:
    """Renders scenes by number; equal numbers give equal scenes.

    Attributes:
        shape: voxels along z, y, x.
        voxel_sizes: angstrom, used in turn.
        kinds: functions as in `simulate.presets`, used in turn; or `functools.partial` of them,
            whose options are pytrees.
        seed: seed of all random numbers.
        cache: folder in which rendered scenes are kept; None keeps none. Scenes of another version
            of the simulation are not read.
        most: bytes that the folder may hold; of more, those that were used least recently go.
        recorded: share of scenes that are imaged as a whole, by `simulate.varied_series`.

    >>> scene = Scenes((32, 32, 32), (10.0,), (presets.cytoskeleton,))(0)
    >>> scene.density.shape, scene.labels.dtype, int(scene.labels.max())
    ((32, 32, 32), dtype('int8'), 5)
    """

    shape: Shape
    voxel_sizes: Sequence[float] = (10.0, 9.0, 11.0)
    kinds: Sequence[Kind] = KINDS
    seed: int = 0
    cache: Path | None = None
    most: int = 2**30
    recorded: float = 0.0

    def __call__(self, number: int) -> Rendered:
        """Return a scene, from the cache if it is there."""
        if self.cache is None:
            return self._render(number)
        path = self.cache / f"{self._digest}-{number}.npz"
        try:
            with np.load(path, allow_pickle=False) as found:
                size, tilts = float(found["voxel_size"]), found["tilts"]
                scene = Rendered(found["density"], found["labels"], size, tilts)
            os.utime(path)
            return scene
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, EOFError):  # damaged: it is rendered again
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        scene = self._render(number)
        with contextlib.suppress(
            OSError, FileError
        ):  # a full or read-only disk: then it is only slower
            self.cache.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as temporary, open(temporary, "wb") as file:
                np.savez_compressed(file, **scene._asdict())
            _shrink(self.cache, self.most)
        return scene

    def _render(self, number: int) -> Rendered:
        key = jax.random.fold_in(jax.random.key(self.seed), number)
        size = float(self.voxel_sizes[number % len(self.voxel_sizes)])
        scene = self.kinds[number % len(self.kinds)](key, self.shape, size)
        chance, by_series, by_noise = jax.random.split(jax.random.fold_in(key, 1), 3)
        if jax.random.uniform(chance) >= self.recorded:
            truth = render(scene)
            labels = np.asarray(truth.labels).astype(np.int8)
            return Rendered(np.asarray(truth.density).astype(np.float16), labels, size)
        imaging = varied_series(by_series)
        phantom = simulate.simulate(scene, imaging, by_noise)
        volume = normalize(np.asarray(phantom.density), "bright").astype(np.float16)
        tilts = np.asarray(imaging.acquisition.scheme.tilt_range, np.float32)
        return Rendered(volume, np.asarray(phantom.labels).astype(np.int8), size, tilts)

    def describe(self) -> dict[str, Any]:
        """Return what the scenes depend on, as plain values."""
        return {
            "shape": list(self.shape),
            "voxel_sizes": list(self.voxel_sizes),
            "kinds": [_described(kind) for kind in self.kinds],
            "seed": self.seed,
            "recorded": self.recorded,
        }

    @functools.cached_property
    def _digest(self) -> str:
        content = f"{__version__} {_sources()} {self.describe()}"
        return hashlib.sha256(content.encode()).hexdigest()[:12]


def _described(kind: Kind) -> str:
    """Return the name of a kind of scene, with the names in its options and their digests."""
    if not isinstance(kind, functools.partial):
        return getattr(kind, "__name__", repr(kind))
    given = []
    for option, value in sorted(kind.keywords.items()):
        names, content = {}, hashlib.sha256()
        for path, leaf in jax.tree.leaves_with_path(value):
            names |= {str(at.key): None for at in path if isinstance(at, jax.tree_util.DictKey)}
            content.update(jax.tree_util.keystr(path).encode())
            content.update(np.asarray(leaf).tobytes())
        given.append(f"{option}: {', '.join(names)} [{content.hexdigest()[:8]}]")
    return f"{kind.func.__name__}({'; '.join(given)})"


@functools.cache
def _sources() -> str:
    """Return a digest of the programs that make scenes."""
    files = sorted(Path(simulate.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _shrink(folder: Path, most: int) -> None:
    """Remove the files that were used least recently until the rest is small enough."""
    files = sorted(folder.glob("*.npz"), key=lambda file: file.stat().st_mtime)
    total = sum(file.stat().st_size for file in files)
    for file in files[:-1]:
        if total <= most:
            break
        total -= file.stat().st_size
        file.unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True)
class Stream:
    """Says which scenes patches are drawn from, and how they are imaged.

    A bounded pool of scenes is on the device. One comes in every so many steps, and replaces the
    oldest one when the pool is full. So the pool is a function of the step, and a resumed run sees
    the same patches.

    Attributes:
        classes: classes of the segmenter that learns, by the names of `simulate.CLASSES`.
        scenes: function that renders a scene by its number.
        size: largest number of scenes in the pool.
        every: steps after which one comes in; 0 keeps the first ones.
        first: number of scenes before the first step, at most `size`.
        ranges: conditions of imaging.

    >>> Stream(("membrane",), Scenes((64, 64, 64)), size=4, first=2).numbers(0)
    [0, 1, None, None]
    """

    classes: tuple[str, ...]
    scenes: Scenes
    size: int = 16
    every: int = 100
    first: int = 8
    ranges: Randomisation = dataclasses.field(default_factory=Randomisation)

    def seen(self, step: int) -> int:
        """Return the number of scenes that were in the pool before a step."""
        return min(self.first, self.size) + (step // self.every if self.every else 0)

    def numbers(self, step: int) -> list[int | None]:
        """Return the numbers of the scenes in the pool at a step, by their places.

        >>> stream = Stream(("membrane",), Scenes((32, 32, 32)), size=3, every=10, first=2)
        >>> stream.numbers(9), stream.numbers(10), stream.numbers(45)
        ([0, 1, None], [0, 1, 2], [3, 4, 5])
        """
        end = self.seen(step)
        found: list[int | None] = [None] * self.size
        for number in range(max(end - self.size, 0), end):
            found[number % self.size] = number
        return found

    def describe(self) -> dict[str, Any]:
        """Return what the patches depend on, as plain values."""
        return {
            "classes": list(self.classes),
            "scenes": self.scenes.describe(),
            "size": self.size,
            "every": self.every,
            "first": self.first,
            "ranges": dataclasses.asdict(self.ranges),
        }

    def example(self, number: int) -> Example:
        """Return a whole scene, imaged under conditions of its own, as an example.

        Args:
            number: of the scene; its conditions and noise are drawn from the same number.
        """
        scene = self.scenes(number)
        if np.isfinite(scene.tilts).all():
            labels = label_values(self.classes)[scene.labels]
            low, high = (float(angle) for angle in scene.tilts)
            volume, wedge = scene.density.astype(np.float32), MissingWedge((low, high))
            return Example(volume, labels, wedge=wedge, name=f"phantom {number}")
        by_condition, by_noise = jax.random.split(
            jax.random.fold_in(jax.random.key(self.scenes.seed), number + 2**31)
        )
        imaged = _whole(by_condition, by_noise, self.ranges, *scene[:3])
        labels = label_values(self.classes)[np.asarray(imaged.labels)]
        name = f"phantom {number}"
        return Example(np.asarray(imaged.volume), labels, wedge=imaged.wedge, name=name)


@jax.jit
def _whole(by_condition: Key, by_noise: Key, ranges: Any, density: Any, labels: Any, size: Any):
    conditions = draw_conditions(by_condition, ranges, size, density.shape)
    return image_patch(density, labels, conditions, by_noise)


class Feed:
    """Keeps the pool of a stream up to date, and renders the next scene meanwhile.

    >>> from cryojax_seg.simulate import presets
    >>> scenes = Scenes((32, 32, 32), (10.0,), (presets.cytoskeleton,))
    >>> with Feed(Stream(("microtubule",), scenes, size=1, every=0)) as feed:
    ...     feed.at(0).density.shape
    (1, 32, 32, 32)
    """

    def __init__(self, stream: Stream, mesh: jax.sharding.Mesh | None = None):
        self.stream, self.mesh = stream, mesh
        self.held: list[int | None] = [None] * stream.size
        shape = stream.scenes.shape
        self.pool = empty_pool(stream.size, shape, stream.classes, stream.ranges)
        self.placed = self.pool
        self.thread = ThreadPoolExecutor(1, "scenes")
        self.coming: dict[int, Future[Rendered]] = {}

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *error: Any) -> None:
        self.thread.shutdown(wait=False, cancel_futures=True)

    def at(self, step: int) -> Pool:
        """Return the pool of a step. All processes must call this at the same steps."""
        wanted = self.stream.numbers(step)
        missing = [(p, n) for p, n in enumerate(wanted) if n is not None and self.held[p] != n]
        for place, number in missing:
            found = self._scene(number)
            self.pool = inserted(self.pool, place, found, number)
            self.held[place] = number
        if missing:
            self.placed = devices.replicated(self.pool, self.mesh)
        if self.stream.every and processes.is_primary():
            self._prepare(self.stream.seen(step))
        return self.placed

    def _scene(self, number: int) -> Rendered:
        """Return a scene as the first process renders it."""
        shape = self.stream.scenes.shape
        found = Rendered(np.zeros(shape, np.float16), np.zeros(shape, np.int8), 0.0)
        if processes.is_primary():
            coming = self.coming.pop(number, None)
            found = self.stream.scenes(number) if coming is None else coming.result()
        arrays = (*found[:2], np.asarray(found.voxel_size, np.float32), found.tilts)
        return Rendered(*processes.arrays_from_primary(arrays))

    def _prepare(self, number: int) -> None:
        if number not in self.coming:
            self.coming[number] = self.thread.submit(self.stream.scenes, number)
