"""How biased is the area of membranes that is measured on predictions?

    python experiments/measurement_bias.py            # 25 CPU-minutes, after those of `networks.py`
    python experiments/measurement_bias.py --tiny     # a minute, for the tests

The converged networks of `networks.py` segment tilt series of parallel discs of known area, which
fill a quarter, all or four times the share of membrane of the validation scenes. The expected area,
a sum of probabilities, is measured ``as trained``, ``calibrated`` on these scenes, and corrected
for a share that is ``estimated`` in the volume (`segmenters.fit_prevalence`) or ``known``; beside
it stands the mid-surface of the mask. Errors are relative to the truth and cover false detections;
``truth`` has that of the measurement itself. Claims are about a visibility above 0.35. Intervals
resample seeds and scenes.

Learned: on true labels the area is right within
{claim=area on true labels, size of the error: value} of the truth. On predictions the sum of
calibrated probabilities is wrong at every share of membrane, and most where membrane is rare: above
a visibility of 0.35 its error is
{claim=expected area, calibrated, share quarter, visibility above 0.35: size of the error: value}
at a quarter of the share, {claim=expected area, calibrated, share same, visibility above 0.35: size
of the error: value} at the same and {claim=expected area, calibrated, share four times, visibility
above 0.35: size of the error: value} at four times. If the share is estimated in the volume itself,
four times the share is within the goal of 0.1 ({claim=expected area, calibrated, share estimated,
share four times, visibility above 0.35: size of the error: value}), and the others are not
({claim=expected area, calibrated, share estimated, share quarter, visibility above 0.35: size of
the error: value} and {claim=expected area, calibrated, share estimated, share same, visibility
above 0.35: size of the error: value}), since what the network invents looks to it like membrane.

A sceptic would say that single discs in noise are the worst case, in which a few inventions weigh
as much as the object, and that five networks of one size were tried.
"""

import dataclasses
import pathlib
import sys
from typing import Any

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro
from scipy.special import expit

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import core, evaluate, measure, segmenters
from cryojax_seg.simulate import Bilayer, Placed, Scene, measurements, render
from cryojax_seg.simulate.placement import facing
from cryojax_seg.simulate.sheets import Disc
from experiments import networks, scoring
from experiments.benchmark_scenes import MEMBRANE, Conditions, imaging_of, visible_contrast
from experiments.benchmark_set import Case
from experiments.common import Claim, Rows, resolved, results_folder
from experiments.networks import Design

VOXEL = 10.0  # angstrom
APART = 150.0  # angstrom, of parallel discs
BINS = (0.0, 0.35, 0.7, 1.001)  # of visibility
SHARES = {"quarter": (1, 0.5), "same": (1, 1.0), "four times": (4, 1.0)}  # discs, radius
CORRECTIONS = (
    "as trained",
    "calibrated",
    "calibrated, share estimated",
    "calibrated, share known",
)
CONDITIONS = Conditions(
    "discs", VOXEL, (-60.0, 60.0), "y", 3e4, contrast=0.5, fraction=0, crowding=0, sheet=True
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure the bias of areas under a shift of the share of membrane."""

    design: Design = dataclasses.field(default_factory=Design)
    """how the networks were trained"""
    each: int = 8
    """number of scenes of each share and third of visibility"""
    edge: int = 96
    sample: int = 200_000
    """voxels of each validation scene to which the calibration is fitted"""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    tiny: bool = False


@dataclasses.dataclass(frozen=True)
class Test:
    """Holds a volume of parallel discs.

    Attributes:
        case: the volume and its labels.
        share: name of the share of membrane.
        seen: visibility of all membranes in it.
        area: of their mid-surfaces, square angstrom.
    """

    case: Case
    share: str
    seen: float
    area: float


def discs(share: str, low: float, high: float, edge: int, rng: np.random.Generator) -> Test:
    """Return parallel discs at a random orientation whose visibility is from low to high."""
    while True:
        normal = rng.normal(size=3)
        normal /= np.linalg.norm(normal)
        seen = float(CONDITIONS.wedge.visibility(normal.astype(np.float32)))
        if low <= seen < high:
            break
    count, size = SHARES[share]
    middle = VOXEL * (edge - 1) / 2
    radius = np.float32(0.78 * size * middle)
    rotation = facing(normal, rng, 0).astype(np.float32)
    offsets = APART * (np.arange(count) - (count - 1) / 2)
    jitter = rng.uniform(-2 * VOXEL, 2 * VOXEL, 3)
    placed = tuple(
        Placed(Bilayer(Disc(radius)), (middle + jitter + d * normal).astype(np.float32), rotation)
        for d in offsets
    )
    scene = Scene(placed, (edge,) * 3, VOXEL)
    truth = render(scene)
    labels = np.asarray(truth.labels)
    key, snr, found = jax.random.key(int(rng.integers(2**31))), 0.1, None
    for _ in range(2):  # the second time at the signal-to-noise ratio of the wanted contrast
        imaging = imaging_of(CONDITIONS, "tilt series", snr)
        found = _image(imaging, truth.density, truth.structures, VOXEL, key)
        contrast = visible_contrast(found, labels == MEMBRANE, labels == 0)
        snr *= (CONDITIONS.contrast / max(contrast, 0.02)) ** 2
    assert found is not None
    volume = np.asarray(core.normalize(np.asarray(found.density), "bright"))
    visibility = np.full(volume.shape, seen, np.float32)
    case = Case(CONDITIONS, volume, labels == MEMBRANE, np.asarray(truth.normals), visibility)
    return Test(case, share, seen, sum(row["area"] for row in measurements(scene)))


@jax.jit
def _image(imaging, density, mask, voxel_size, key):
    return imaging(density, mask, voxel_size, key)


def tests_of(config: Config) -> list[Test]:
    rng = np.random.default_rng(0)
    return [
        discs(share, low, high, config.edge, rng)
        for share in SHARES
        for low, high in zip(BINS[:-1], BINS[1:], strict=True)
        for _ in range(config.each)
    ]


def shares_of(share: float) -> tuple[float, float]:
    return 1 - share, share


def corrected(logits: np.ndarray, known: float, true: float) -> dict[str, np.ndarray]:
    """Return calibrated logits that are corrected for the share of membrane.

    Args:
        logits: calibrated at the share `known`, ``(z, y, x, 1)``.
        known: the share of membrane in the validation scenes.
        true: that in this volume.
    """
    rows = logits.reshape(-1, 1)[:: max(logits.size // 200_000, 1)]
    estimated = segmenters.fit_prevalence(rows, shares_of(known))
    shifts = (
        segmenters.prior_correction(shares_of(known), s) for s in (estimated, shares_of(true))
    )
    return {name: shift(logits) for name, shift in zip(CORRECTIONS[2:], shifts, strict=True)}


def errors_of(found: networks.Trained, config: Config, tests: list[Test]) -> dict[str, list[float]]:
    """Return the relative errors of the areas in every volume.

    The expected area sums probabilities over the thickness of the labels. As trained they are those
    of patches that hold more membrane than tomograms do; the calibration is a temperature and a
    shift. The mask is at the threshold of the highest Dice in the validation scenes.
    """
    rng = np.random.default_rng(0)
    logits, labels, ranked = [], [], []
    cases = config.design.judged()
    for case in cases:
        z = found.logits(case)[..., 0]
        ranked.append(evaluate.rank(expit(z), case.membrane))
        chosen = rng.integers(0, z.size, min(config.sample, z.size))
        logits.append(z.ravel()[chosen])
        labels.append(case.membrane.ravel()[chosen])
    known = float(np.mean([case.membrane.mean() for case in cases]))
    threshold = scoring.best_threshold(sum(ranked[1:], ranked[0]))
    z = np.concatenate(logits)[:, None].astype(np.float64)
    calibration = segmenters.fit_recalibration(z, np.concatenate(labels).astype(int))
    errors: dict[str, list[float]] = {name: [] for name in (*CORRECTIONS, "mask")}
    for test in tests:
        true = test.case.membrane
        plain = found.logits(test.case)
        calibrated = calibration(plain)
        versions = {"as trained": plain, "calibrated": calibrated}
        versions |= corrected(calibrated, known, float(true.mean()))
        for name, version in versions.items():
            expected = float(expit(version.astype(np.float64)).sum())
            errors[name].append(expected / true.sum() - 1)
        mask = plain[..., 0] >= np.log(threshold / max(1 - threshold, 1e-9))
        errors["mask"].append(area(mask) / test.area - 1)
    return errors


def area(mask: np.ndarray) -> float:
    return measure.membrane_area(mask, (VOXEL, VOXEL, VOXEL), rim="round")


def mean_of(errors: np.ndarray) -> evaluate.Difference:
    """Return the mean over seeds and scenes, ``(seed, scene)``, with its interval."""
    return evaluate.paired_difference(errors, np.zeros_like(errors))


def summary(records: list[dict], tests: list[Test]) -> list[dict]:
    """Return a row for each measurement and share, with the error in each third of visibility."""
    rows = []
    for name in ("truth", *CORRECTIONS, "mask"):
        mine = [r for r in records if (r["seed"] is None) == (name == "truth")]
        errors = np.array([r["errors"]["mask" if name == "truth" else name] for r in mine])
        for share in SHARES:
            row: dict[str, Any] = {"measured": name, "share": share, "seeds": len(mine)}
            for low, high in zip(BINS[:-1], BINS[1:], strict=True):
                here = [t.share == share and low <= t.seen < high for t in tests]
                more = mean_of(errors[:, here])
                text = f"{low:g}_to_{min(high, 1):g}"
                row[f"error_{text}"] = more.mean
                row[f"interval_{text}"] = more.interval and list(more.interval)
            rows.append(row)
    return rows


def within(name: str, more: evaluate.Difference, goal: float) -> dict[str, Any]:
    """Return the claim that a mean error is at most so large in either direction."""
    ends = more.interval
    if ends is not None:
        largest = max(abs(ends[0]), abs(ends[1]))
        ends = (0.0 if ends[0] <= 0 <= ends[1] else min(abs(ends[0]), abs(ends[1])), largest)
    return resolved(Claim(name, abs(more.mean), ends, goal, at_most=True))


def claims_of(records: list[dict], tests: list[Test]) -> list[dict]:
    seen = np.array([test.seen for test in tests]) >= BINS[1]
    true = np.array([r["errors"]["mask"] for r in records if r["seed"] is None])
    found = [within("area on true labels, size of the error", mean_of(true), 0.02)]
    learned = [r["errors"] for r in records if r["seed"] is not None]
    for name in ("calibrated", "calibrated, share estimated"):
        for share in SHARES:
            here = seen & np.array([test.share == share for test in tests])
            more = mean_of(np.array([e[name] for e in learned])[:, here])
            text = f"expected area, {name}, share {share}, visibility above 0.35: size of the error"
            found.append(within(text, more, 0.1))
    return found


def draw(path: pathlib.Path, records: list[dict], tests: list[Test]) -> None:
    """Draw the error of every volume, as the mean over seeds, over its visibility."""
    names = (*CORRECTIONS, "mask")
    figure, axes = plt.subplots(1, 5, figsize=(17, 3.8), sharey=True, layout="constrained")
    for axis, name in zip(axes, names, strict=True):
        errors = [r["errors"][name] for r in records if r["seed"] is not None]
        for number, share in enumerate(SHARES):
            here = np.array([test.share == share for test in tests])
            x = np.array([test.seen for test in tests])[here]
            axis.plot(x, np.mean(errors, 0)[here], "o", ms=4, color=f"C{number}", label=share)
        axis.axhline(0, color="0.6", lw=0.8)
        axis.axhspan(-0.1, 0.1, color="0.9", zorder=0)
        axis.set_yscale("symlog", linthresh=0.5)
        title = "area of the mask" if name == "mask" else f"expected area,\n{name}"
        axis.set(title=title, xlabel="visibility", xlim=(0, 1), ylim=(-1.1, 12))
    axes[0].set_ylabel("relative error")
    axes[0].legend(title="share of membrane", fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(config: Config) -> None:
    if config.tiny:
        config = dataclasses.replace(config, design=networks.TINY, each=1, edge=48, seeds=(0,))
    rows = Rows("measurement_bias", dataclasses.asdict(config), config.tiny)
    tests = tests_of(config)
    if rows.done(seed=None) is None:
        exact = [area(test.case.membrane) / test.area - 1 for test in tests]
        rows.add({"seed": None}, {"errors": {"mask": exact}})
    for seed in config.seeds:
        if rows.done(seed=seed) is None:
            errors = errors_of(networks.converged(seed, config.design), config, tests)
            rows.add({"seed": seed}, {"errors": errors})
            means = "  ".join(f"{name}: {np.mean(values):.2f}" for name, values in errors.items())
            print(f"seed {seed}  mean error, {means}", flush=True)
    draw(results_folder(config.tiny) / "measurement_bias.png", rows.records, tests)
    rows.finish(summary(rows.records, tests), claims_of(rows.records, tests))


if __name__ == "__main__":
    main(tyro.cli(Config))
