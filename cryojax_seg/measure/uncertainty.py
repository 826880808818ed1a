"""Computes intervals of measurements on masks from calibrated probabilities.

A mask is sampled as ``p(r) > u(r)``, where u is uniform in every voxel, so that each voxel is
foreground with exactly its probability. Errors of a segmentation are correlated in space, and so is
u: it is the cumulative distribution function of a Gaussian field with some correlation length.

The correlation length is the distance over which the errors of a boundary have the same direction.
If it is unknown, use an infinite one: then a sample is one level set of p, and no other dependence
between voxels gives a sum over voxels, such as a volume, a larger variance (Kaas et al. 2000,
Insurance: Mathematics and Economics 27:151). The interval is too wide then, never too narrow.
Level sets of a smooth p are smooth too, while a finite length makes boundaries rougher and so
increases areas; use short lengths for volumes and counts only.
"""

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage, special

from cryojax_seg.measure.measured import Measured

Probability = Float[np.ndarray, "_z _y _x"]
LEVEL = 0.95
_TERMS = 6  # of the tetrachoric series; the rest acts within a voxel


def sample_masks(
    probability: Probability,
    seed: int = 0,
    count: int = 32,
    correlation: float | int = math.inf,
) -> Iterator[Bool[np.ndarray, "_z _y _x"]]:
    """Yield sampled masks, in which each voxel is foreground with its probability.

    Args:
        probability: ``(z, y, x)`` calibrated probabilities, between 0 and 1.
        seed: the seed of the samples.
        count: the number of masks. Levels are stratified if the correlation is infinite.
        correlation: the length l in voxels of ``exp(-d^2 / 2 l^2)``, the correlation of the
            Gaussian field at distance d; infinite for one level per sample, 0 for independent
            voxels.

    Raises:
        ValueError: for values that are no probabilities, a negative length, or a count below 1.

    >>> p = np.full((4, 4, 4), 0.25, np.float32)
    >>> sum(int(mask.sum()) for mask in sample_masks(p, count=8)) / 8
    16.0
    """
    probability = checked(probability)
    if not correlation >= 0:
        raise ValueError(f"correlation must be 0 voxels or more, got {correlation}")
    if count < 1:
        raise ValueError(f"count must be 1 or more, got {count}")
    if math.isinf(correlation):
        for level in sampled_levels(seed, count):
            yield probability > level
        return
    rng = np.random.default_rng(seed)
    threshold = special.ndtri(probability)  # infinite where p is 0 or 1
    for _ in range(count):
        yield _field(probability.shape, correlation, rng) < threshold


def sampled_levels(seed: int, count: int) -> list[float]:
    """Return the levels of p above which `sample_masks` samples with an infinite correlation.

    >>> sorted(round(10 * level) // 5 for level in sampled_levels(0, 2))
    [0, 1]
    """
    rng = np.random.default_rng(seed)
    strata = (np.arange(count) + rng.uniform(size=count)) / count
    return rng.permutation(strata).tolist()


def interval(values: Iterable[float | int], level: float = LEVEL) -> tuple[float, float]:
    """Return the central interval of samples.

    Args:
        values: the measurement on each sampled mask.
        level: the share of samples in the interval.

    >>> interval(range(81), level=0.5)
    (20.0, 60.0)
    """
    low, high = np.quantile(np.fromiter(values, float), [(1 - level) / 2, (1 + level) / 2]).tolist()
    return low, high


def with_interval(
    measure: Callable[[np.ndarray], float],
    probability: Probability,
    seed: int = 0,
    count: int = 32,
    correlation: float | int = math.inf,
) -> Measured:
    """Measure the most likely mask, with an interval over sampled masks.

    Args:
        measure: a function of a bool mask.
        probability, seed, count, correlation: see `sample_masks`.

    >>> ball = np.linalg.norm(np.indices((16, 16, 16)) - 7.5, axis=0)
    >>> p = special.expit(5.0 - ball).astype(np.float32)
    >>> print(with_interval(lambda mask: float(mask.sum()), p, count=40))
    552 (8 to 2524)
    """
    value = float(measure(checked(probability) > 0.5))
    samples = sample_masks(probability, seed, count, correlation)
    return Measured(value, *interval(float(measure(mask)) for mask in samples))


def interval_if_present(
    measure: Callable[[np.ndarray], float], probability: Probability, count: int = 5
) -> tuple[float, float]:
    """Return the interval of a measurement over level sets, on condition that the object exists.

    If the highest probability of an object is 0.9, one level in ten is above all of it: this is the
    probability that the object does not exist, and says nothing about its size. So u is uniform
    below the highest probability (the 99th percentile above 1/2), and the levels are its central
    95 %. For a thin membrane the interval covers how much of it exists, but not errors of its
    position: its level sets share their middle, and uncertainty of its radius appears in them as
    thickness.

    Args:
        measure: a function of a bool mask.
        probability: ``(z, y, x)`` the probability of one object, 0 where others are.
        count: the number of levels; two suffice for a volume, which decreases with the level.

    >>> ball = np.linalg.norm(np.indices((16, 16, 16)) - 7.5, axis=0)
    >>> p = 0.9 * special.expit(2 * (5.0 - ball)).astype(np.float32)
    >>> interval_if_present(lambda mask: float(mask.sum()), p)
    (136.0, 1328.0)
    """
    probability = checked(probability)
    likely = probability[probability > 0.5]
    highest = float(np.percentile(likely, 99)) if likely.size else 1.0
    levels = np.linspace((1 - LEVEL) / 2, (1 + LEVEL) / 2, max(count, 2)) * highest
    values = [float(measure(probability > level)) for level in levels]
    return min(values), max(values)


def soft_volume(
    probability: Probability,
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0),
    correlation: float | int = math.inf,
) -> Measured:
    """Return the expected volume ``sum p`` and its interval in closed form, without samples.

    With an infinite correlation the volume is that of the level set at u, which decreases with u,
    so its quantiles are the volumes at the quantiles of u. Otherwise its variance is that of a
    thresholded Gaussian field by the tetrachoric series (Pearson 1900; Kendall & Stuart 1977, eq.
    15.54), ``sum_k 1/k! sum_ij a_k(i) rho(i - j)^k a_k(j)`` with ``a_k = phi(t) He_{k-1}(t)``,
    ``t = Phi^-1(p)``: powers of a Gaussian correlation are narrower Gaussians, so that each term is
    one convolution. The rest of ``p (1 - p)`` after six terms counts as independent between voxels.

    Args:
        probability: ``(z, y, x)`` calibrated probabilities, between 0 and 1.
        voxel_size: voxel size along z, y, x.
        correlation: the correlation length in voxels, see `sample_masks`.

    Returns:
        the volume, in the cube of the unit of `voxel_size`.

    >>> p = np.full((10, 10, 10), 0.5, np.float32)
    >>> print(soft_volume(p, correlation=0))   # binomial: 500 +- 1.96 * 15.8
    500 (469 to 531)
    >>> print(soft_volume(p))
    500 (0 to 1000)
    """
    probability = checked(probability)
    if not correlation >= 0:
        raise ValueError(f"correlation must be 0 voxels or more, got {correlation}")
    one = math.prod(voxel_size)
    total = float(probability.sum(dtype=np.float64))
    if math.isinf(correlation):
        low, high = (int((probability > u).sum()) for u in ((1 + LEVEL) / 2, (1 - LEVEL) / 2))
        return Measured(total * one, low * one, high * one)
    half = -float(special.ndtri((1 - LEVEL) / 2)) * math.sqrt(_variance(probability, correlation))
    return Measured(total * one, max(total - half, 0.0) * one, (total + half) * one)


def _variance(probability: np.ndarray, correlation: float | int) -> float:
    """Return the variance of the number of foreground voxels."""
    uncertain = (probability > 0) & (probability < 1)
    if not uncertain.any():
        return 0.0
    box = ndimage.find_objects(uncertain.astype(np.int8))[0]
    p = np.where(uncertain[box], probability[box], 0.5)  # where nothing is known to be uncertain
    t = special.ndtri(p)
    density = np.where(uncertain[box], np.exp(-t * t / 2) / math.sqrt(2 * math.pi), 0)
    left = float((p * (1 - p))[uncertain[box]].sum(dtype=np.float64))
    total = 0.0
    for k in range(1, _TERMS + 1):
        a = (density * special.eval_hermitenorm(k - 1, t) / math.sqrt(math.factorial(k))).astype(
            np.float32
        )
        own = float((a * a).sum(dtype=np.float64))
        width = correlation / math.sqrt(k)
        near, peak = a, 1.0
        if width > 0:
            near = ndimage.gaussian_filter(a, width, mode="constant")
            peak = float(_kernel(width).max()) ** 3
        total += float((a * near).sum(dtype=np.float64)) / peak
        left -= own
    return total + max(left, 0.0)


def _kernel(width: float) -> np.ndarray:
    delta = np.zeros(2 * int(4 * width + 0.5) + 1)
    delta[delta.size // 2] = 1
    return ndimage.gaussian_filter1d(delta, width, mode="constant")


def _field(shape, correlation: float | int, rng: np.random.Generator) -> np.ndarray:
    """Return a Gaussian field of unit variance, without correlation of opposite faces."""
    width = correlation / math.sqrt(2)
    padded = [n + math.ceil(3 * correlation) for n in shape]
    field = rng.standard_normal(padded, dtype=np.float32)
    if width < 0.1:  # narrower than a voxel
        return field[tuple(slice(n) for n in shape)]
    for axis, size in enumerate(padded):
        delta = np.zeros(size)
        delta[0] = 1
        gain = np.sqrt((ndimage.gaussian_filter1d(delta, width, mode="wrap") ** 2).sum())
        field = ndimage.gaussian_filter1d(field, width, axis=axis, mode="wrap") / np.float32(gain)
    return field[tuple(slice(n) for n in shape)]


def checked(probability: np.ndarray) -> np.ndarray:
    """Return probabilities, or raise a ValueError if they are none."""
    probability = np.asarray(probability)
    if probability.size and not (probability.min() >= 0 and probability.max() <= 1):
        raise ValueError(
            f"probabilities must lie within 0 to 1, got {probability.min():g} to "
            f"{probability.max():g}; logits go through a sigmoid first"
        )
    return probability
