"""Trains a restorer that removes noise on simulated scenes alone, for any tomogram.

    python experiments/pretrain_restorer.py --out denoise-fast    # 3 CPU-minutes, and the scenes
    python experiments/pretrain_restorer.py --tiny                # a minute, for the tests

The scenes of the preset ``varied`` are those that the built-in segmenters learn from. Parts of them
are enlarged or reduced to voxels of 7 to 14 angstrom, turned, and imaged under conditions drawn at
random (`training.Randomisation`); after every few steps other parts replace them, with other
conditions and other noise. The target is the image of the same conditions without its noise
(`losses.noise2clean`): contrast transfer, envelope and missing wedge stay as they are, so that the
restorer learns to remove noise and is not asked to invent what was not measured.
The folder `out` holds the model with its card, and ``cryojax-seg restore --model OUT`` applies it.

It is not among the models of the package: after 1,500 steps it made membranes and microtubules
easier to find, but its correlation with the truth in shells of frequency was below that of Wiener's
filter.
"""

import dataclasses
import pathlib
import sys
import time

import jax
import numpy as np
import tyro
from flax import nnx
from scipy import ndimage

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import core, io, losses, restore, runtime, training
from cryojax_seg.core.rotation import cube_rotations, rotate_by_transposing
from cryojax_seg.segmenters import fit_normalization
from cryojax_seg.training import Example, Randomisation, Scenes
from cryojax_seg.training.imaging import draw_conditions, image_patch
from cryojax_seg.training.pool import Rendered
from cryojax_seg.training.samples import prepare
from cryojax_seg.training.step import initial_state, make_step, take_apart
from experiments.common import environment

ZOOMS = (0.72, 1.4)  # lowest and highest factor from the voxel size of a scene


@dataclasses.dataclass(frozen=True)
class Config:
    """Train a restorer that removes noise on simulated scenes."""

    out: pathlib.Path = pathlib.Path("denoise-fast")
    """folder of the model"""
    steps: int = 1500
    """optimizer steps"""
    seed: int = 0
    """seed of the network, the scenes and their images"""
    patch: int = 32
    """edge of a patch, voxels"""
    edge: int = 112
    """edge of a scene, voxels"""
    part: int = 64
    """edge of the parts that are imaged, voxels"""
    scenes: int = 24
    """number of scenes in the end"""
    parts: int = 8
    """number of scenes in the beginning, and of parts from which patches are drawn at a time"""
    every: int = 100
    """steps after which other parts are imaged, and one more scene is taken"""
    cache: pathlib.Path | None = None
    """folder in which rendered scenes are kept; by default `scenes` beside the output, so that
    models trained beside each other share them"""
    tiny: bool = False
    """a few steps on small scenes"""


@jax.jit
def pair(key: jax.Array, ranges: Randomisation, scene: Rendered):
    """Return a scene as it is imaged under conditions drawn at random, and the same without noise.

    Both are ``(z, y, x)`` on one scale, and the last value is their missing wedge.
    """
    by_condition, by_noise = jax.random.split(key)
    found = draw_conditions(by_condition, ranges, scene.voxel_size, scene.density.shape)
    noisy = image_patch(scene.density, scene.labels, found, by_noise)
    silent = dataclasses.replace(found, gains=found.gains.at[1].set(0.0))
    clean = image_patch(scene.density, scene.labels, silent, by_noise)
    return noisy.volume, clean.volume, noisy.wedge


def part_of(scene: Rendered, edge: int, rng: np.random.Generator) -> Rendered:
    """Cut a random part out of a scene, zoom it to other voxels, and turn it.

    The part is ``edge`` voxels wide in the end. Labels are those of the nearest voxels.
    """
    size = scene.density.shape[0]
    low, high = np.log(ZOOMS)
    cut = min(round(edge * np.exp(rng.uniform(low, high))), size)
    where = tuple(slice(a, a + cut) for a in rng.integers(0, size - cut + 1, 3))
    density = ndimage.zoom(scene.density[where].astype(np.float32), edge / cut, order=1)
    labels = ndimage.zoom(scene.labels[where], edge / cut, order=0)
    turn = rng.choice(cube_rotations((edge,) * 3)) * rng.choice([-1, 1])  # mirror images as well
    density, labels = (np.asarray(rotate_by_transposing(turn, a)) for a in (density, labels))
    return Rendered(density, labels, scene.voxel_size * cut / edge)


def imaged(config: Config, scenes: Scenes, ranges: Randomisation, turn: int) -> list[Example]:
    """Image parts of random scenes for the given turn; their truth has no noise."""
    seed = config.seed + 1000 * (turn + 1)
    rng, found = np.random.default_rng(seed), []
    count = min(config.parts + turn, config.scenes)
    for number in range(config.parts):
        scene = part_of(scenes(int(rng.integers(count))), config.part, rng)
        key = jax.random.fold_in(jax.random.key(seed), number)
        volume, truth, wedge = pair(key, ranges, scene._replace(voxel_size=np.float32(scene[2])))
        name = f"phantom {number}"
        found.append(Example(np.asarray(volume), wedge=wedge, truth=np.asarray(truth), name=name))
    return found


def network(seed: int) -> core.LocalOperator:
    """Return the restorer before its training, which smooths a little."""
    start = restore.Gaussian(0.7, radius=3)
    return restore.unet_restorer(16, 1, start=start, stem="space_to_depth", rngs=nnx.Rngs(seed))


def trained(config: Config) -> tuple[core.LocalOperator, float]:
    """Train, and return the restorer and the minutes that it took."""
    cache = config.out.absolute().parent / "scenes" if config.cache is None else config.cache
    scenes = Scenes((config.edge,) * 3, seed=config.seed, cache=cache)
    ranges = dataclasses.replace(Randomisation(), blank=0.0)  # blank parts are never restored
    settings = training.TrainConfig(
        steps=config.steps, batch=4, patch=config.patch, optimizer="muon", learning_rate=1e-2,
        warmup=100, decay=0.6, ema=0.995, seed=config.seed,
        augmentation=training.Augmentation(intensity=0.0),
    )  # fmt: skip
    parts = take_apart(network(config.seed))
    step, state = make_step(parts, losses.noise2clean, settings), initial_state(parts, settings)
    start, total = time.monotonic(), 0.0
    for turn, first in enumerate(range(0, config.steps, config.every)):
        examples = imaged(config, scenes, ranges, turn)
        samples, values = prepare(examples, (), settings.patch_shape), []
        for _ in range(min(config.every, config.steps - first)):
            state, metrics = step(state, samples)
            values.append(metrics["loss"])
        total = (time.monotonic() - start) / 60
        mean = float(np.mean(jax.device_get(values)))
        print(f"step {int(state.step)}: mean loss {mean:.4f}, {total:.1f} minutes", flush=True)
    restorer = parts.rebuild(state.ema, state.fixed)
    return fit_normalization(restorer, examples[0].volume, patch=config.patch), total


def main(config: Config) -> None:
    """Train and save a restorer."""
    runtime.keep_compiled()
    if config.tiny:
        small = {"patch": 16, "edge": 40, "part": 32, "scenes": 1, "parts": 2}
        small |= {"steps": 4, "every": 2}
        config = dataclasses.replace(config, **small)
    restorer, minutes = trained(config)
    ranges, sizes = Randomisation(), Scenes.voxel_sizes
    card = io.ModelCard(
        voxel_size=(10.0, 10.0, 10.0),
        contrast="dark",
        patch=config.patch,
        voxel_sizes=(round(ZOOMS[0] * min(sizes), 1), round(ZOOMS[1] * max(sizes), 1)),
        tilt_ranges=(
            (ranges.lowest.high, ranges.highest.low),
            (ranges.lowest.low, ranges.highest.high),
        ),
        provenance={
            "method": "noise2clean",
            "command": f"python experiments/pretrain_restorer.py --steps {config.steps}"
            f" --seed {config.seed}",
            "environment": environment(),
            "steps": config.steps,
            "minutes": round(minutes, 1),
            "scenes": config.scenes,
        },
    )
    io.save_model(config.out, restorer, card, overwrite=True)
    print(f"wrote {config.out}")


if __name__ == "__main__":
    main(tyro.cli(Config))
