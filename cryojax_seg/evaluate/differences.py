"""Compares two methods with an interval over training seeds, scenes and objects, and a verdict."""

import dataclasses
from typing import Literal

import numpy as np

Verdict = Literal["met", "missed", "not resolved"]


@dataclasses.dataclass(frozen=True)
class Difference:
    """Holds a mean difference of two methods with its interval.

    Returned by `paired_difference`.

    Attributes:
        mean: score of the first method minus that of the second.
        interval: lower and upper end; None if nothing varies that could be resampled.

    >>> Difference(0.1, (0.05, 0.15)).mean
    0.1
    """

    mean: float
    interval: tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class Claim:
    """States that a quantity reaches a goal, as far as its interval decides it.

    Attributes:
        name: the claim in words.
        value: the quantity, for example the `mean` of a `Difference`.
        interval: its interval; None if there is none, which resolves nothing.
        goal: the least value that is claimed, or the largest one if `at_most`.
        at_most: whether the goal is an upper limit.

    >>> Claim("finds more", 0.04, (0.01, 0.07), goal=0.0).verdict
    'met'
    >>> Claim("loses at most 0.02", 0.01, (-0.01, 0.03), goal=0.02, at_most=True).verdict
    'not resolved'
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    goal: float
    at_most: bool = False

    @property
    def verdict(self) -> Verdict:
        """Return "met" if the whole interval reaches the goal, "missed" if nothing of it does."""
        if self.interval is None:
            return "not resolved"
        low, high = sorted(self.interval)
        if self.at_most:
            low, high, goal = -high, -low, -self.goal
        else:
            goal = self.goal
        if low >= goal:
            return "met"
        return "missed" if high < goal else "not resolved"


def paired_difference(
    found: np.ndarray,
    other: np.ndarray,
    size: np.ndarray | None = None,
    scene: np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Return how much more of some objects one method finds than another, with its interval.

    All networks segment the same objects, so seeds, scenes and objects of a scene are resampled
    with replacement, each by itself and alike for both methods (the pigeonhole bootstrap of Owen
    2007, https://doi.org/10.1214/07-AOAS122, which is conservative). What both methods find easy or
    hard cancels.

    Args:
        found: ``(seed, object)``, the voxels of each object that the first method found after
            training with each seed; or any score of each scene.
        other: the same of the second method; its seeds pair with those of the first.
        size: ``(object,)``, the voxels of each object; by default 1, for scores of scenes.
        scene: ``(object,)``, the number of the scene of each object; by default each has its own.
        level: confidence level.
        resamples: number of bootstrap samples.
        seed: seed of the resampling.

    Raises:
        ValueError: for shapes that do not fit, no object, or values that are not finite.

    >>> better = np.array([[9.0, 6.0, 8.0, 7.0], [8.0, 7.0, 8.0, 7.0]])
    >>> one = paired_difference(better, better - 2.0, size=np.full(4, 10.0))
    >>> round(one.mean, 3), [round(v, 3) for v in one.interval]
    (0.2, [0.2, 0.2])
    """
    found, other = np.asarray(found, np.float64), np.asarray(other, np.float64)
    if found.ndim != 2 or found.shape != other.shape or not found.size:
        raise ValueError(
            f"both methods need scores of the same seeds and objects, (seed, object), got shapes "
            f"{found.shape} and {other.shape}"
        )
    seeds, count = found.shape
    size = np.ones(count) if size is None else np.asarray(size, np.float64)
    scene = np.arange(count) if scene is None else np.asarray(scene)
    if size.shape != (count,) or scene.shape != (count,):
        raise ValueError(
            f"size and scene must have one value for each of {count} objects, got shapes "
            f"{size.shape} and {scene.shape}"
        )
    more = found - other
    if not (np.isfinite(more).all() and np.isfinite(size).all() and (size > 0).all()):
        raise ValueError("scores must be finite, and sizes positive and finite")
    mean = float(more.mean(0).sum() / size.sum())
    scenes, inside = np.unique(scene, return_inverse=True)
    if seeds == 1 and len(scenes) == 1 and count == 1:
        return Difference(mean, None)
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(inside == i) for i in range(len(scenes))]
    values = np.empty(resamples)
    for i in range(resamples):
        of_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds)) / seeds
        of_scene = rng.multinomial(len(scenes), np.full(len(scenes), 1 / len(scenes)))
        weight = np.zeros(count)
        for times, objects in zip(of_scene, members, strict=True):
            if times:
                even = np.full(len(objects), 1 / len(objects))
                weight[objects] = times * rng.multinomial(len(objects), even)
        values[i] = (of_seed @ more @ weight) / (size @ weight)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Difference(mean, (low, high))
