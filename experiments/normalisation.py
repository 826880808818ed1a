"""Which normalisation should the U-Net have, if it must tile exactly and training time is fixed?

    python experiments/normalisation.py            # about 25 CPU-minutes, 20 minutes on 2 cores
    python experiments/normalisation.py --tiny     # under a minute: checks that it runs
    python experiments/normalisation.py --name normalisation-finalists \\
        --candidates weight batch instance --rates 5e-3 --seconds 90 --seeds 0 1 2 3

Each candidate trains the same U-Net for the same CPU-seconds on synthetic tomograms of five classes
with noise, a missing wedge and varying contrast, at two rates, of which a validation volume chooses
one. The mean Dice is over the foreground classes of test volumes. ``none``, ``rms``, ``weight`` and
``affine`` are local. ``instance`` and ``batch`` are scored with statistics that are ``fitted`` to
each test volume, which tiles exactly; frozen on the ``training`` volumes; or of the ``whole`` test
volume, which cannot be tiled. The best three are compared again with four seeds and more time.

Learned: networks with statistics of the volume learn faster than local ones. Of the finalists,
instance norm with fitted statistics has a mean Dice of
{result=normalisation-finalists; candidate=instance; statistics=fitted: dice}, batch norm
{result=normalisation-finalists; candidate=batch; statistics=fitted: dice}, weight norm
{result=normalisation-finalists; candidate=weight; statistics=local: dice}. Fitted statistics tile
exactly, and are as good as those of the whole volume, with which instance norm has
{result=normalisation-finalists; candidate=instance; statistics=whole: dice}; statistics that are
frozen on the training volumes are worse
({result=normalisation-finalists; candidate=instance; statistics=training: dice}). With two seeds
and less time batch norm was ahead of instance norm, which is why the finalists were compared; none
of that was resolved.

A sceptic would say that such a Dice is that of networks which have only begun to learn, and that
neither four seeds nor one size of network rank instance and batch norm.
"""

import dataclasses
import functools
import itertools
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import nnx

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from cryojax_seg import losses
from cryojax_seg.core import MissingWedge, Segmenter, apply, labels, normalize
from cryojax_seg.segmenters import UNet, fit_normalization
from experiments.common import claim, over_seeds, write_results

CLASSES = ("background", "membrane", "tube", "filament", "particle")


@dataclasses.dataclass(frozen=True)
class Config:
    """Compare normalisations of the U-Net at equal CPU-seconds."""

    name: str = "normalisation"
    """name of the result file"""
    tiny: bool = False
    """run two candidates in less than a minute, to check that everything works"""
    candidates: tuple[str, ...] = ("none", "rms", "weight", "affine", "batch", "instance")
    edge: int = 64
    """edge of the volumes, in voxels"""
    train: int = 6
    """number of training volumes"""
    test: int = 2
    """number of test volumes"""
    noise: float = 0.5
    """standard deviation of the noise, in units of the density of a membrane"""
    patch: int = 32
    """edge of the training patches, in voxels"""
    batch: int = 2
    width: int = 8
    depth: int = 2
    seconds: float = 45.0
    """training time of each run, in CPU-seconds"""
    rates: tuple[float, ...] = (3e-3, 1e-2)
    """learning rates of each candidate"""
    seeds: tuple[int, ...] = (0, 1)


def phantom(rng: np.random.Generator, edge: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Make a normalised tomogram and its labels: vesicles, tubes, filaments and particles."""
    grid = np.stack(np.meshgrid(*[np.arange(edge, dtype=np.float32)] * 3, indexing="ij"), -1)
    density = np.zeros((edge,) * 3, np.float32)
    truth = np.zeros((edge,) * 3, np.int32)

    def add(distance, profile, label, reach):
        density[...] = np.maximum(density, profile)
        truth[np.abs(distance) < reach] = label

    per = edge**3 / 64**3  # objects per volume of 64^3
    for _ in range(max(1, round(2 * per))):
        radius = rng.uniform(9, 16)
        d = np.linalg.norm(grid - rng.uniform(0, edge, 3), axis=-1) - radius
        add(d, np.exp(-(((np.abs(d) - 2) / 1.2) ** 2)), 1, 3.5)
    for label, count, radius, reach in ((2, 2, 5.0, 1.8), (3, 4, 0.0, 2.0)):
        for _ in range(max(1, round(count * per))):
            axis = rng.normal(size=3) * (0.4, 1, 1)
            axis /= np.linalg.norm(axis)
            offset = grid - rng.uniform(0.1 * edge, 0.9 * edge, 3)
            across = offset - (offset @ axis)[..., None] * axis
            d = np.linalg.norm(across, axis=-1) - radius
            add(d, 1.2 * np.exp(-((d / 1.3) ** 2)), label, reach)
    for _ in range(max(1, round(12 * per))):
        d = np.linalg.norm(grid - rng.uniform(0, edge, 3), axis=-1)
        texture = rng.normal(1, 0.3, (edge,) * 3)
        add(d, 1.1 * texture * np.exp(-((d / 4.5) ** 4)), 4, 4.5)
    contrast = rng.uniform(0.6, 1.4)
    measured = contrast * density + noise * rng.normal(size=density.shape).astype(np.float32)
    measured = MissingWedge((-60.0, 60.0)).apply(jnp.asarray(measured, jnp.float32))
    return normalize(np.asarray(measured), "bright"), truth


def sample(rng: np.random.Generator, volumes, config: Config):
    """Draw random patches; every second one is centred on a voxel of a random foreground class."""
    pairs = []
    for i in range(config.batch):
        volume, truth = volumes[rng.integers(len(volumes))]
        centre = rng.integers(0, config.edge, 3)
        there = np.argwhere(truth == rng.integers(1, len(CLASSES)))
        if i % 2 and len(there):
            centre = there[rng.integers(len(there))]
        origin = np.clip(centre - config.patch // 2, 0, config.edge - config.patch)
        where = tuple(slice(o, o + config.patch) for o in origin)
        pairs.append((volume[where], truth[where]))
    return tuple(np.stack(part) for part in zip(*pairs, strict=True))


def objective(segmenter, volumes, truth):
    logits = jax.vmap(segmenter, axis_name="batch")(volumes)
    weights = jnp.ones(truth.shape, logits.dtype)
    return losses.cross_entropy(logits, truth, weights) + losses.dice(logits, truth, weights)


def compiled_step(graph, params, fixed, optimizer, batch):
    """Return the training step, compiled before the clock starts."""

    @jax.jit
    def step(params, opt_state, rate, batch):
        def loss(params):
            return objective(nnx.merge(graph, params, fixed), *batch)

        value, gradient = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(gradient, opt_state)
        params = optax.apply_updates(params, jax.tree.map(lambda u: -rate * u, updates))
        return params, opt_state, value

    return step.lower(params, optimizer.init(params), jnp.float32(0), batch).compile()


def train(candidate: str, rate: float, seed: int, volumes, config: Config):
    """Return the network after `config.seconds` of CPU time, and its number of steps."""
    rng = np.random.default_rng(100 + seed)
    norm = "instance" if candidate == "affine" else candidate
    net = UNet(config.width, config.depth, norm=norm, classes=CLASSES, rngs=nnx.Rngs(seed))
    if candidate == "affine":
        net = fit_normalization(net, volumes[0][0], patch=config.patch, count=config.batch)
    graph, params, fixed = nnx.split(net, nnx.Param, ...)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())
    step = compiled_step(graph, params, fixed, optimizer, sample(rng, volumes, config))
    opt_state, steps, start, done = optimizer.init(params), 0, time.process_time(), 0.0
    while done < 1:
        now = np.float32(rate * min(1.0, done / 0.05 + 0.02) * (0.5 + 0.5 * np.cos(np.pi * done)))
        batch = sample(rng, volumes, config)
        params, opt_state, value = step(params, opt_state, jnp.asarray(now), batch)
        value.block_until_ready()
        steps += 1
        done = (time.process_time() - start) / config.seconds
    return nnx.merge(graph, params, fixed), steps, float(value)


def mean_dice(predictions, volumes) -> float:
    """Return the mean Dice over the foreground classes, all volumes together."""
    predicted = np.stack([np.asarray(labels(jnp.asarray(p))) for p in predictions])
    truth = np.stack([t for _, t in volumes])
    scores = []
    for k in range(1, len(CLASSES)):
        both = np.sum((predicted == k) & (truth == k))
        scores.append(2 * both / max(np.sum(predicted == k) + np.sum(truth == k), 1))
    return float(np.mean(scores))


@jax.jit
def whole(segmenter, volume):
    return segmenter(volume)


def scores(
    net: Segmenter, candidate: str, train_volumes, volumes, config: Config
) -> dict[str, float]:
    """Return the mean Dice for each way of applying the network."""
    if candidate not in ("instance", "batch"):
        return {"local": mean_dice([apply(net, v) for v, _ in volumes], volumes)}
    fit = functools.partial(fit_normalization, patch=config.patch, count=16)
    population = np.concatenate([v for v, _ in train_volumes])
    frozen = fit(net, population)
    ways = {
        "fitted": [apply(fit(net, v), v) for v, _ in volumes],
        "training": [apply(frozen, v) for v, _ in volumes],
        "whole": [np.asarray(whole(net, jnp.asarray(v))) for v, _ in volumes],
    }
    return {way: mean_dice(predictions, volumes) for way, predictions in ways.items()}


def summary(runs) -> list[dict]:
    """Return a row for each candidate, way of applying it and rate, averaged over seeds.

    `chosen` marks the rate that is best on the validation volume.
    """
    groups = {}
    for run in runs:
        for way in run["test"]:
            groups.setdefault((run["candidate"], way), {}).setdefault(run["rate"], []).append(run)
    rows = []
    for (candidate, way), by_rate in groups.items():
        means = {r: np.mean([run["validation"][way] for run in g]) for r, g in by_rate.items()}
        for rate, group in by_rate.items():
            rows.append(
                {
                    "candidate": candidate,
                    "statistics": way,
                    "rate": rate,
                    "chosen": rate == max(means, key=lambda r: means[r]),
                    "steps": float(np.mean([run["steps"] for run in group])),
                    "validation_dice": float(means[rate]),
                    "dice": float(np.mean([run["test"][way] for run in group])),
                    "dice_of_seeds": [run["test"][way] for run in group],
                }
            )
    return sorted(rows, key=lambda row: -row["dice"])


def main(config: Config) -> None:
    if config.tiny:
        small = dict(edge=16, train=1, test=1, patch=16, width=2, depth=1, seconds=0.5)
        few = dict(candidates=("affine", "instance"), rates=(5e-3,), seeds=(0,))
        config = dataclasses.replace(config, **small, **few)
    rng = np.random.default_rng(0)
    volumes = [
        phantom(rng, config.edge, config.noise) for _ in range(config.train + config.test + 1)
    ]
    training, validation = volumes[: config.train], volumes[config.train : config.train + 1]
    test = volumes[config.train + 1 :]
    runs = []
    # The innermost loop is over candidates, so that other load on the machine affects all alike.
    for seed, rate, candidate in itertools.product(config.seeds, config.rates, config.candidates):
        net, steps, loss = train(candidate, rate, seed, training, config)
        run = {
            "candidate": candidate,
            "rate": rate,
            "seed": seed,
            "steps": steps,
            "loss": loss,
            "validation": scores(net, candidate, training, validation, config),
            "test": scores(net, candidate, training, test, config),
        }
        runs.append(run)
        shown = ", ".join(f"{way} {d:.3f}" for way, d in run["test"].items())
        print(f"{candidate:>9} rate {rate:g} seed {seed}: {steps} steps, {shown}", flush=True)
    fitted = fit_normalization(net, test[0][0], patch=config.patch, count=16)
    tiled = apply(fitted, test[0][0], tile=config.edge // 2)
    difference = float(np.abs(tiled - apply(fitted, test[0][0])).max())

    rows = summary(runs)
    table = {f"{r['candidate']} {r['statistics']}": r["dice"] for r in rows if r["chosen"]}
    for name, value in table.items():
        print(f"{name:>20}  mean Dice {value:.3f}")
    limit = "largest difference of a logit, tiled and whole, when fitted"
    claims = [*claims_of(rows), claim(limit, difference, at_most=1e-3)]
    write_results(config.name, dataclasses.asdict(config), rows, claims, tiny=config.tiny)


def claims_of(rows: list[dict]) -> list[dict]:
    """Return the claims about the Dice, from differences that are paired by seed."""
    kept = {f"{row['candidate']} {row['statistics']}": row for row in rows if row["chosen"]}
    default = UNet(1, 0, rngs=nnx.Rngs(0)).norm
    ours = f"{default} fitted" if f"{default} fitted" in kept else f"{default} local"
    tiling = [name for name in kept if not name.endswith("whole")]
    best = max(tiling, key=lambda name: kept[name]["dice"])

    def minus(one: str, other: str) -> list[float]:
        pairs = zip(kept[one]["dice_of_seeds"], kept[other]["dice_of_seeds"], strict=True)
        return [a - b for a, b in pairs]

    whole = "mean Dice of instance norm: whole-volume statistics minus fitted"
    return [
        over_seeds("mean Dice of the default, minus the best that tiles", minus(ours, best), -0.01),
        over_seeds(whole, minus("instance whole", "instance fitted"), 0.02, at_most=True),
    ]


if __name__ == "__main__":
    main(tyro.cli(Config))
