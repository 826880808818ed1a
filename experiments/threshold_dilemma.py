"""Why can no threshold keep faint structure and reject noise, and how many neighbours solve this?

    python experiments/threshold_dilemma.py            # 20 minutes; recorded with --seeds 0 1 2
    python experiments/threshold_dilemma.py --tiny     # under a minute: checks that it runs

Structure of density 1.0, some of it of 0.4, lies in a background of 0 with white noise of standard
deviation 0.5. A threshold t has a false positive rate of ``Q(t / sigma)`` and misses ``Q((mu - t) /
sigma)`` of structure of density mu, where Q is the tail of the normal distribution. A vote over N
voxels of one region divides sigma by sqrt(N). Methods learn from two scenes with dense labels, and
are scored on two others. What one is worth is the size of the ideal vote, which knows its region,
with the same distance d' between faint structure and background, see `worth`.

Learned: where both error rates of the faint structure are equal, they are
{method=vote of 1, threshold 0.2, faint: analytic_error} with one voxel,
{method=vote of 25, threshold 0.2, faint: analytic_error} with a vote of 25 voxels, and
{method=vote of 81, threshold 0.2, faint: analytic_error} with 81. A threshold is worth one voxel
whoever chooses it ({method=otsu: worth_votes} and {method=threshold: worth_votes}), and a local
threshold too ({method=local-threshold: worth_votes}). Hysteresis is worth
{method=hysteresis: worth_votes} voxels, a linear vote {method=vote: worth_votes}, tensor voting
{method=tensor-voting: worth_votes}, a convolutional network {method=convnet: worth_votes}, a U-Net
{method=unet-fast: worth_votes} and the sheet filter, which is told that the structure is a sheet,
{method=sheet: worth_votes}. Intervals of what is trained are wide, and do not rank the networks.

A sceptic would say that the noise is white and that structure has two densities only; that three
seeds leave intervals as wide as the values of the networks; and that a vote which knows its region
is no method that anybody has.
"""

import dataclasses
import pathlib
import sys

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro
from scipy.stats import norm

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import core, evaluate, segmenters, training
from cryojax_seg.evaluate import Claim
from cryojax_seg.simulate import WedgeImaging, presets, simulate
from cryojax_seg.training.methods import defaults, known, parts
from experiments.common import Rows, claim, interval, resolved, results_folder
from experiments.fitting import train_method

CLASSES = ("structure",)
DENSITY = {"bright": 1.0, "faint": 0.4}


@dataclasses.dataclass(frozen=True)
class Config:
    """Show the dilemma by arithmetic, by simulation and with every method."""

    methods: tuple[str, ...] = (
        "threshold",
        "local-threshold",
        "hysteresis",
        "sheet",
        "tensor-voting",
        "vote",
        "convnet",
        "unet-fast",
    )
    sigma: float = 0.5
    """standard deviation of the noise"""
    votes: tuple[int, ...] = (1, 9, 25, 81)
    edge: int = 64
    network_steps: int = 600
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    tiny: bool = False


def phantom(seed: int, config: Config):
    """Return the noisy density, the noise-free density and the labels."""
    by_scene, by_noise = jax.random.split(jax.random.key(seed))
    scene = presets.threshold_dilemma(by_scene, (config.edge,) * 3, 10.0)
    imaging = WedgeImaging(sigma=config.sigma, exponent=0.0, wedge=None)
    one = simulate(scene, imaging, by_noise)
    return np.asarray(one.density), np.asarray(one.truth.density), np.asarray(one.labels > 0)


def inside(clean: np.ndarray) -> dict[str, np.ndarray]:
    """Return the voxels well inside background, bright structure and faint structure.

    That is where structure has 99 % of its density or more, and background 1 % or less.
    """
    half = clean.shape[2] // 2
    level = np.where(np.arange(clean.shape[2]) < half, DENSITY["bright"], DENSITY["faint"])
    core_of = clean >= 0.99 * level
    return {
        "background": clean <= 0.01,
        "bright": core_of & (level == DENSITY["bright"]),
        "faint": core_of & (level == DENSITY["faint"]),
    }


def analytic(threshold: np.ndarray, density: float, sigma: float, votes: int) -> np.ndarray:
    """Return the missed share of structure of this density, or false positives for density 0."""
    s = sigma / np.sqrt(votes)
    return norm.sf(threshold / s) if density == 0 else norm.cdf((threshold - density) / s)


def simulated(values, sigma: float, votes: int, rng, count: int = 20_000) -> np.ndarray:
    """Draw means over this many voxels of a region, each with its own noise."""
    drawn = values[rng.integers(0, len(values), (count, votes))]
    return (drawn + sigma * rng.normal(size=drawn.shape)).mean(1)


def rates(config: Config, thresholds: np.ndarray) -> list[dict]:
    """Return simulated and analytic rates at thresholds, for every size of vote."""
    rng = np.random.default_rng(0)
    clean = [phantom(seed, config)[1] for seed in config.seeds]
    regions = [inside(c) for c in clean]
    rows = []
    for votes in config.votes:
        for region, density in {"background": 0.0, **DENSITY}.items():
            values = np.concatenate([c[r[region]] for c, r in zip(clean, regions, strict=True)])
            means = simulated(values, config.sigma, votes, rng)
            wrong = [float((means > t).mean() if density == 0 else (means <= t).mean())
                     for t in thresholds]  # fmt: skip
            expected = analytic(thresholds, density, config.sigma, votes)
            rows.append(
                {
                    "votes": votes,
                    "region": region,
                    "simulated": wrong,
                    "analytic": expected.tolist(),
                }
            )
    return rows


def train(method: str, examples, config: Config, seed: int):
    network = parts(method)[0] in ("convnet", "unet-fast")
    steps = config.network_steps if network else defaults(method).steps
    patch = 24 if config.tiny else 32
    steps = 3 if config.tiny else steps
    return train_method(method, CLASSES, examples, seed, steps=steps, patch=patch)


def score(segmenter, seeds, config: Config) -> dict:
    """Return false positives, misses of bright and faint structure, and Dice on unseen scenes."""
    wrong = {name: np.zeros(2) for name in ("background", *DENSITY)}
    pooled = evaluate.Overlap(0.0, 0.0, 0.0)
    for seed in seeds:
        noisy, clean, labels = phantom(seed, config)
        volume = core.normalize(noisy, "bright")
        fitted = segmenters.fit_normalization(segmenter, volume)
        found = np.asarray(core.labels(core.apply(fitted, volume))) == 1
        pooled += evaluate.overlap(found.astype(int), labels.astype(int))["foreground"]
        for name, where in inside(clean).items():
            error = found if name == "background" else ~found
            wrong[name] += (error[where].sum(), where.sum())
    # A rate of none or of all is not known better than half a voxel (Hautus 1995).
    ratio = {name: float((bad + 0.5) / (total + 1)) for name, (bad, total) in wrong.items()}
    return {
        "false_positives": ratio["background"],
        "missed_bright": ratio["bright"],
        "missed_faint": ratio["faint"],
        "worth_votes": worth(ratio["background"], ratio["faint"], config.sigma),
        "dice": pooled.dice,
    }


def draw(path: pathlib.Path, thresholds, curves, table, config: Config) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(14, 6), constrained_layout=True)
    colours = {"background": "tab:gray", "bright": "tab:orange", "faint": "tab:red"}
    names = {"background": "false positives", "bright": "bright missed", "faint": "faint missed"}
    for row in curves:
        strength = 1.0 if row["votes"] == 1 else 0.35
        colour = colours[row["region"]]
        label = names[row["region"]] if row["votes"] == 1 else None
        left.plot(thresholds, row["analytic"], color=colour, alpha=strength, label=label)
        left.plot(thresholds, row["simulated"], ".", color=colour, alpha=strength, ms=4)
    for votes in config.votes:
        crossing = DENSITY["faint"] / 2
        rate = analytic(np.array([crossing]), 0.0, config.sigma, votes)[0]
        left.plot(crossing, rate, "kx")
        left.annotate(f"vote of {votes}: {rate:.2g}", (crossing, rate), (crossing + 0.03, rate))
        fp = analytic(thresholds, 0.0, config.sigma, votes)
        missed = analytic(thresholds, DENSITY["faint"], config.sigma, votes)
        right.plot(fp, missed, color="tab:gray", alpha=1.0 if votes == 1 else 0.4)
        right.annotate(f"{votes}", (rate, rate), color="tab:gray")
    left.set(yscale="log", ylim=(1e-5, 1), xlabel="threshold", ylabel="rate of error")
    left.set_title("lines: arithmetic, dots: simulated; x: where both errors are equal")
    left.legend()
    for number, row in enumerate(table):
        x, y = max(row["false_positives"], 1e-6), max(row["missed_faint"], 1e-4)
        right.plot(x, y, "osD^vP*Xh"[number], color=f"C{number}", ms=8, label=row["method"])
    right.legend(loc="lower left", fontsize=8, framealpha=1)
    right.set(xscale="log", yscale="log", xlim=(1e-6, 1), ylim=(1e-4, 1.5))
    right.set(xlabel="false positives", ylabel="faint structure missed")
    right.set_title("curves: every threshold on a vote of N; marks: methods, unseen scenes")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main(config: Config) -> None:
    if config.tiny:
        config = dataclasses.replace(config, methods=("threshold", "vote"), edge=32, seeds=(0,))
    thresholds = np.linspace(-0.2, 1.2, 29)
    for method in config.methods:
        known(method)
    records = Rows("threshold_dilemma", dataclasses.asdict(config), config.tiny)
    curves = rates(config, thresholds)
    for seed in config.seeds:
        noisy, _, labels = zip(*(phantom(100 + 10 * seed + i, config) for i in (0, 1)), strict=True)
        examples = [
            training.Example(core.normalize(n, "bright"), label.astype(int))
            for n, label in zip(noisy, labels, strict=True)
        ]
        unseen = (1000 + 10 * seed, 1001 + 10 * seed)
        for method in ("otsu", *config.methods):
            if records.done(method=method, seed=seed):
                continue
            if method == "otsu":  # nothing learned
                segmenter, seconds = segmenters.otsu(examples[0].volume, classes=CLASSES), 0.0
            else:
                segmenter, seconds = train(method, examples, config, seed)
            values = score(segmenter, unseen, config) | {"cpu_seconds": seconds}
            record = records.add({"method": method, "seed": seed}, values)
            print(
                f"seed {seed} {method:16s} false positives {record['false_positives']:.4f}  missed "
                f"bright {record['missed_bright']:.4f} faint {record['missed_faint']:.4f}  "
                f"Dice {record['dice'] or 0:.3f}  {seconds:.0f} CPU-s",
                flush=True,
            )
    table = []
    for method in ("otsu", *config.methods):
        mine = [r for r in records.records if r["method"] == method]
        row: dict = {"method": method, "seeds": len(mine)}
        for key in ("false_positives", "missed_bright", "missed_faint", "dice", "cpu_seconds"):
            row[key], low, high = interval([r[key] for r in mine])
            if key == "dice" and low is not None:
                row["dice_interval"] = [low, high]
        known_votes = [r["worth_votes"] for r in mine]
        row["worth_votes"], low, high = interval(known_votes)
        row["worth_votes_interval"] = None if low is None else [low, high]
        table.append(row)
    draw(results_folder(config.tiny) / "threshold_dilemma.png", thresholds, curves, table, config)
    off = max(
        abs(s - a) for row in curves for s, a in zip(row["simulated"], row["analytic"], strict=True)
    )
    at = DENSITY["faint"] / 2
    best_threshold = float(analytic(np.array([at]), 0.0, config.sigma, 1)[0])
    claims = [
        claim("largest difference of simulated and analytic rates", off, at_most=0.02),
        claim("error of the best possible threshold on the faint structure", best_threshold,
              at_least=0.3),
        *votes_claims(table),
    ]  # fmt: skip
    for row in curves:
        at_crossing = float(np.interp(at, thresholds, row["simulated"]))
        table.append(
            {
                "method": f"vote of {row['votes']}, threshold {at:g}, {row['region']}",
                "error": at_crossing,
                "analytic_error": float(np.interp(at, thresholds, row["analytic"])),
            }
        )
    records.finish(table, claims)


def worth(false_positives: float, missed: float, sigma: float) -> float:
    """Return the voxels that an ideal vote needs for these rates of error on faint structure.

    Both rates give the distance between the two distributions, d' = z(false positives) + z(missed),
    wherever the threshold lies (Green and Swets 1966); that of a vote of N is ``mu sqrt(N) /
    sigma``. A threshold is worth one voxel:

    >>> round(worth(float(norm.sf(0.3 / 0.5)), float(norm.cdf((0.3 - 0.4) / 0.5)), 0.5), 6)
    1.0
    """
    distance = norm.isf(false_positives) + norm.isf(missed)
    return float((max(distance, 0.0) * sigma / DENSITY["faint"]) ** 2)


def votes_claims(table: list[dict]) -> list[dict]:
    """Return the claims about the votes that methods are worth; intervals over seeds decide."""
    found = []
    for row in table:
        ends = row["worth_votes_interval"]
        if row["method"] in ("otsu", "threshold", "local-threshold"):
            goal, at_most = 1.1, True
        else:
            goal, at_most = 2.0, False
        name = f"votes that {row['method']} is worth"
        interval_of = None if ends is None else (ends[0], ends[1])
        one = Claim(name, row["worth_votes"], interval_of, goal, at_most=at_most)
        found.append(resolved(one))
    return found


if __name__ == "__main__":
    main(tyro.cli(Config))
