"""How does an average of particles improve with their number, and what limits it?

    python experiments/averaging.py            # 12 minutes on 2 cores
    python experiments/averaging.py --tiny     # under a minute: checks that it runs

Subtomograms of an 80S-like ribosome (tilt range of +-60 degrees, white noise) are averaged, plainly
and with compensation of the missing wedge. With T the truth, A the average and a the factor that
fits T to it, the ratio of amplitudes ``|a T| / |A - a T|`` grows as sqrt(N), until errors that all
particles share limit it to a floor, which is the ratio without noise (0 particles in the table).
Views are random or one up to 15 degrees; poses are true, disturbed by 12 degrees and 1.5 voxels, or
refined by two rounds of alignment to the common average.

Learned: with true poses the ratio follows the law (exponent {claim=exponent of SNR over N without
the floor, true poses, up to 1000: value}) towards a floor of
{case=random, true poses; particles=0: snr_compensated}. In this case the plain average is slightly
better from 3 to 10,000 particles, though not without noise
({case=random, true poses; particles=0: snr_plain}), because compensation also amplifies the noise
of frequencies that few particles measured. Compensation pays where orientations are biased and
noise no longer dominates: for one view from 300 particles on, and by a factor of
{claim=SNR compensated / plain, one view, N = 10000: value} at 10,000, where the ratio is
{case=one view, true poses; particles=10000: snr_compensated} instead of
{case=random, true poses; particles=10000: snr_compensated}. Poses that are wrong by 12 degrees lead
to a floor of {case=random, disturbed poses; particles=0: snr_compensated}. Refined poses are nearly
as good as true ones up to 300 particles; at 1,000, where they are wrong by
{case=random, refined poses; particles=1000: pose_error_degrees} degrees, the ratio is
{case=random, refined poses; particles=1000: snr_compensated} instead of
{case=random, true poses; particles=1000: snr_compensated}. The reason was not investigated.

Refinement helps only if the initial errors exceed what the noise allows: in an earlier run with
half the signal and half the errors it made them larger, and the average worse.

A sceptic would say that one density with white noise and a known tilt range is the easiest case:
real poses come from a search in the same noisy volumes, half-sets were not kept apart, and one run
has no interval.
"""

import dataclasses
import functools
import pathlib
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg.core import MissingWedge, fourier
from cryojax_seg.core.rotation import rotation_from_vector
from cryojax_seg.particles import (
    Average,
    Poses,
    average_particles,
    refine_poses,
    resample,
    soft_sphere,
    spline_coefficients,
)
from cryojax_seg.simulate.complexes import ribosome
from experiments.common import Rows, claim, results_folder

# With one view the wedges leave a cone that no particle measured. Refined poses are disturbed ones
# after rounds of alignment to the common average, without independent halves.
CASES = {
    "random, true poses": ("random", "true"),
    "one view, true poses": ("one view", "true"),
    "random, disturbed poses": ("random", "disturbed"),
    "random, refined poses": ("random", "refined"),
}
WEDGE = MissingWedge((-60.0, 60.0))


@dataclasses.dataclass(frozen=True)
class Config:
    """Average simulated ribosomes."""

    numbers: tuple[int, ...] = (1, 3, 10, 30, 100, 300, 1000, 3000, 10000)
    refined: int = 1000
    """largest number of particles whose poses are refined"""
    edge: int = 28
    """edge of the boxes, in voxels"""
    voxel_size: float = 14.0
    """voxel size, in angstrom"""
    snr: float = 0.1
    """power of the signal of one particle, after the wedge, over that of its noise, in the mask"""
    angle: float = 12.0
    """root mean square error of disturbed orientations, in degrees"""
    shift: float = 1.5
    """root mean square error of disturbed positions, in voxels"""
    rounds: int = 2
    steps: int = 8
    seed: int = 0
    tiny: bool = False


def structure(config: Config) -> jax.Array:
    axis = (np.arange(config.edge) - config.edge // 2) * config.voxel_size
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    density = jnp.asarray(ribosome().density(jnp.asarray(points, jnp.float32)))
    return density * soft_sphere(density.shape, config.edge / 2 - 4, 3.0)


def random_rotation(key: jax.Array) -> jax.Array:
    """Draw a rotation uniform over SO(3), from the QR factors of a Gaussian matrix."""
    q, r = jnp.linalg.qr(jax.random.normal(key, (3, 3)))
    q = q * jnp.sign(jnp.diag(r))[None]
    return q * jnp.linalg.det(q)


def draw(key: jax.Array, coefficients: jax.Array, noise: jax.Array, view: str, config: Config):
    """Hold one particle, its true pose and its disturbed pose."""
    by_turn, by_place, by_noise, by_error, by_shift = jax.random.split(key, 5)
    if view == "random":
        rotation = random_rotation(by_turn)
    else:
        about, lean = jax.random.split(by_turn)
        turn = jax.random.uniform(about, maxval=2 * jnp.pi)
        axis = jnp.deg2rad(15.0) * jax.random.uniform(lean, (2,), minval=-1.0)
        beam = rotation_from_vector(jnp.stack([turn, jnp.zeros(()), jnp.zeros(())]))
        rotation = beam @ rotation_from_vector(jnp.concatenate([jnp.zeros(1), axis]))
    offset = jax.random.uniform(by_place, (3,), minval=-0.5, maxval=0.5)
    shape = (config.edge,) * 3
    clean = resample(coefficients, rotation, offset, oversampling=2)
    seen = fourier.apply_gain(
        clean + noise * jax.random.normal(by_noise, shape), WEDGE.transfer(shape)
    )
    error = jnp.deg2rad(config.angle) / jnp.sqrt(3.0) * jax.random.normal(by_error, (3,))
    moved = offset + config.shift / jnp.sqrt(3.0) * jax.random.normal(by_shift, (3,))
    return seen, rotation, offset, rotation_from_vector(error) @ rotation, moved


class Lab:
    """Holds the structure, and compiled programs that make and add particles in chunks."""

    def __init__(self, config: Config):
        self.config = config
        self.truth = structure(config)
        self.mask = soft_sphere(self.truth.shape, config.edge / 2 - 5, 3.0)
        self.coefficients = spline_coefficients(self.truth, 2)
        self.transfer = WEDGE.transfer(self.truth.shape)
        signal = fourier.apply_gain(self.truth, self.transfer)
        power = jnp.sum(jnp.square(signal * self.mask)) / jnp.sum(jnp.square(self.mask))
        # White noise keeps the measured share of its power.
        share = jnp.mean(jnp.square(self.transfer))
        self.noise = jnp.sqrt(power / config.snr / share)
        self.add = jax.jit(functools.partial(average_particles, wedge=WEDGE))
        self.refine = jax.jit(functools.partial(refine_poses, steps=config.steps))
        self.draw = {
            view: jax.jit(
                jax.vmap(functools.partial(draw, view=view, config=config), in_axes=(0, None, None))
            )
            for view in ("random", "one view")
        }

    def chunk(self, view: str, start: int, count: int, noise: Any):
        """Return the particles `start` to `start + count`, with true and disturbed poses."""
        base = jax.random.key(self.config.seed)
        keys = jax.vmap(functools.partial(jax.random.fold_in, base))(
            jnp.arange(start, start + count, dtype=jnp.uint32)
        )
        volumes, *parts = self.draw[view](keys, self.coefficients, noise)
        zero = jnp.zeros(count)
        return volumes, Poses(parts[0], parts[1], zero), Poses(parts[2], parts[3], zero)

    def ratio(self, volume: Any) -> tuple[float, float]:
        """Return the signal-to-noise ratio of an average and the factor of the truth in it."""
        a, t = volume * self.mask, self.truth * self.mask
        a, t = a - jnp.mean(a), t - jnp.mean(t)
        factor = jnp.vdot(a, t) / jnp.vdot(t, t)
        error = jnp.linalg.norm(a - factor * t)
        return float(jnp.abs(factor) * jnp.linalg.norm(t) / error), float(factor)


def pieces(start: int, stop: int):
    """Divide a range into chunks of 100, 10 and 1, so that only three shapes are compiled."""
    while start < stop:
        size = next(s for s in (100, 10, 1) if start + s <= stop)
        yield start, size
        start += size


def summed(lab: Lab, view: str, poses: str, start: int, stop: int, noise: Any) -> Average:
    total: Average | None = None
    for first, count in pieces(start, stop):
        volumes, true, disturbed = lab.chunk(view, first, count, noise)
        part = lab.add(volumes, true if poses == "true" else disturbed)
        total = part if total is None else total + part
    assert total is not None
    return total


def refined(lab: Lab, view: str, count: int) -> tuple[Average, float]:
    """Align particles to their own average in rounds; return the remaining error in degrees too."""
    chunks = [lab.chunk(view, first, size, lab.noise) for first, size in pieces(0, count)]
    poses = [disturbed for _, _, disturbed in chunks]

    def average() -> Average:
        parts = [lab.add(c[0], p) for c, p in zip(chunks, poses, strict=True)]
        return functools.reduce(lambda a, b: a + b, parts)

    for _ in range(lab.config.rounds):
        reference = fourier.low_pass(average().compensated(), 0.2) * lab.mask
        poses = [
            lab.refine(c[0], reference, p, lab.transfer) for c, p in zip(chunks, poses, strict=True)
        ]
    errors = []
    for (_, true, _), found in zip(chunks, poses, strict=True):
        turn = jnp.einsum("nij,nij->n", true.rotations, found.rotations)
        errors.append(np.rad2deg(np.arccos(np.clip((np.asarray(turn) - 1) / 2, -1, 1))))
    return average(), float(np.sqrt(np.mean(np.square(np.concatenate(errors)))))


def picture(path: pathlib.Path, table: list[dict], config: Config) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
    for axis, kind in zip(axes, ("compensated", "plain"), strict=True):
        for case in CASES:
            mine = [r for r in table if r["case"] == case and r["particles"] > 0]
            if mine:
                numbers = [r["particles"] for r in mine]
                axis.loglog(numbers, [r[f"snr_{kind}"] for r in mine], "o-", ms=4, label=case)
        first = next(r for r in table if r["case"] == "random, true poses" and r["particles"] == 1)
        line = np.array([config.numbers[0], config.numbers[-1]], float)
        law = first["snr_compensated"] * np.sqrt(line)
        axis.loglog(line, law, "k:", lw=1, label="square root")
        axis.set(xlabel="particles", title=f"{kind} average")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("signal over noise (amplitudes)")
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def exponent(rows: list[dict], most: int) -> float:
    """Return the slope of log(SNR) over log(N) up to a number, corrected for the floor."""
    floor = next(r["snr_compensated"] for r in rows if r["particles"] == 0)
    used = [r for r in rows if 0 < r["particles"] <= most]
    n = np.log([r["particles"] for r in used])
    noise = np.array([1 / r["snr_compensated"] ** 2 - 1 / floor**2 for r in used])
    return float(np.polyfit(n, -np.log(np.maximum(noise, 1e-9)) / 2, 1)[0])


def main(config: Config) -> None:
    if config.tiny:
        config = dataclasses.replace(
            config, numbers=(1, 10, 30), refined=10, edge=20, voxel_size=20.0, steps=2, rounds=1
        )
    rows = Rows("averaging", dataclasses.asdict(config), config.tiny)
    lab = Lab(config)
    for case, (view, poses) in CASES.items():
        total, former = None, 0
        for number in (0, *config.numbers):  # 0: the floor, without noise
            if poses == "refined" and not 0 < number <= config.refined:
                continue
            done = rows.done(case=case, particles=number)
            if done is not None and poses == "refined":
                continue
            start, error = time.process_time(), None
            if number == 0:
                average = summed(lab, view, poses, 0, min(300, config.numbers[-1]), jnp.zeros(()))
            elif poses == "refined":
                average, error = refined(lab, view, number)
            else:
                more = summed(lab, view, poses, former, number, lab.noise)
                average = total = more if total is None else total + more
                former = number
            if done is not None:
                continue
            compensated, factor = lab.ratio(average.compensated())
            plain, factor_plain = lab.ratio(average.plain())
            record = rows.add(
                {"case": case, "particles": number},
                {
                    "snr_compensated": compensated,
                    "snr_plain": plain,
                    "factor_compensated": factor,
                    "factor_plain": factor_plain,
                    "pose_error_degrees": error,
                    "cpu_seconds": time.process_time() - start,
                },
            )
            print(
                f"{case:24s} {number:6d}  SNR {compensated:7.2f} plain {plain:7.2f}  "
                f"{record['cpu_seconds']:.0f} CPU-s",
                flush=True,
            )
    table = rows.records
    picture(results_folder(config.tiny) / "averaging.png", table, config)
    rows.finish(table, claims(table, config))


def claims(table: list[dict], config: Config) -> list[dict]:
    def one(case: str, number: int, key: str = "snr_compensated") -> float | None:
        found = [r for r in table if r["case"] == case and r["particles"] == number]
        return found[0][key] if found else None

    true = [r for r in table if r["case"] == "random, true poses"]
    last, shared = config.numbers[-1], max(n for n in config.numbers if n <= config.refined)
    best, biased = one("random, true poses", last), one("one view, true poses", last)
    plain = one("one view, true poses", last, "snr_plain")
    refined_snr = one("random, refined poses", shared)
    disturbed = one("random, disturbed poses", shared)
    assert best and biased and plain and refined_snr and disturbed
    most = min(1000, last)
    return [
        claim(
            f"exponent of SNR over N without the floor, true poses, up to {most}",
            exponent(true, most),
            at_least=0.45,
            at_most=0.55,
        ),
        claim(f"SNR compensated / plain, one view, N = {last}", biased / plain, at_least=1.05),
        claim(f"SNR one view / random, N = {last}", biased / best, at_most=0.7),
        claim(
            f"SNR refined / disturbed poses, N = {shared}", refined_snr / disturbed, at_least=1.1
        ),
    ]


if __name__ == "__main__":
    main(tyro.cli(Config))
