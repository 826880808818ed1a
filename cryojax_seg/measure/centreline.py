"""Represents the axes of filaments as splines through the middle of a mask, from end to end."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float
from scipy.interpolate import BSpline, make_smoothing_spline

Points = Float[np.ndarray, "_n 3"]  # angstrom, zyx


@dataclasses.dataclass(frozen=True, eq=False)
class Filament:
    """Represents the axis of a filament as a smooth curve.

    Attributes:
        spline_angstrom: the spline of the axis, zyx, with voxel i at ``i * voxel_size``.
        radius_angstrom: the radius of a tube with the cross-section of the mask.
        covered: the fraction of the length with mask around it; the rest is gaps.
        at_border: whether the first and the last end lie at a face of the volume.
        hollow: whether the axis was found by the wall around it (`hollow.fit_tubes`).

    >>> line = Filament.through(np.array([[0.0, 0, 0], [0, 0, 50], [0, 0, 100]]))
    >>> round(line.length_angstrom, 6), line.at(np.array([25.0])).round(6).tolist()
    (100.0, [[0.0, 0.0, 25.0]])
    """

    spline_angstrom: BSpline
    radius_angstrom: float = 0.0
    covered: float = 1.0
    at_border: tuple[bool, bool] = (False, False)
    hollow: bool = False

    @functools.cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        """Return parameters of the spline, and the length up to each."""
        spline = self.spline_angstrom
        low, high = spline.t[spline.k], spline.t[-spline.k - 1]
        u = np.linspace(low, high, 8 * len(spline.t) + 33)
        speed = np.linalg.norm(spline(u, 1), axis=1)
        middle = np.linalg.norm(spline((u[1:] + u[:-1]) / 2, 1), axis=1)
        pieces = np.diff(u) * (speed[:-1] + 4 * middle + speed[1:]) / 6  # Simpson's rule
        return u, np.concatenate([[0.0], np.cumsum(pieces)])

    @classmethod
    def through(cls, points_angstrom: Points, scale_angstrom: float = 0.0, **fields) -> "Filament":
        """Return the spline through points in order, without waves shorter than a scale.

        A point that repeats the one before counts once.
        """
        steps = np.linalg.norm(np.diff(points_angstrom, axis=0), axis=1)
        new = np.concatenate([[True], steps > 1e-6])
        u = np.concatenate([[0.0], np.cumsum(steps)])[new]
        return cls(smoothing_spline(points_angstrom[new], u, 0.0, scale_angstrom), **fields)

    @property
    def length_angstrom(self) -> float:
        """Return the length along the axis."""
        return float(self._table[1][-1])

    @property
    def ends_angstrom(self) -> Points:
        """Return the first and the last point."""
        return self.at(np.array([0.0, self.length_angstrom]))

    def shifted(self, shift_angstrom: np.ndarray) -> "Filament":
        """Return the same axis, shifted (zyx)."""
        old = self.spline_angstrom
        spline = BSpline(old.t, old.c + shift_angstrom, old.k)
        return dataclasses.replace(self, spline_angstrom=spline)

    def arc_lengths_angstrom(self, spacing_angstrom: float) -> np.ndarray:
        """Return evenly spaced distances along the axis from end to end, about this far apart."""
        count = max(round(self.length_angstrom / spacing_angstrom), 1)
        return np.linspace(0.0, self.length_angstrom, count + 1)

    def at(self, arc_lengths_angstrom: np.ndarray) -> Points:
        """Return the points ``(n, 3)`` at distances along the axis, in angstrom, zyx."""
        return self.spline_angstrom(self._parameter(arc_lengths_angstrom))

    def tangents(self, arc_lengths_angstrom: np.ndarray) -> Points:
        """Return the unit tangents at distances along the axis."""
        first = self.spline_angstrom(self._parameter(arc_lengths_angstrom), 1)
        return first / np.linalg.norm(first, axis=1, keepdims=True)

    def curvature_vectors_per_angstrom(self, arc_lengths_angstrom: np.ndarray) -> Points:
        """Return the curvature vectors, which point towards the centre of curvature."""
        u = self._parameter(arc_lengths_angstrom)
        first, second = self.spline_angstrom(u, 1), self.spline_angstrom(u, 2)
        square = (first * first).sum(1, keepdims=True)
        along = (first * second).sum(1, keepdims=True) / square
        return (second - along * first) / square

    def curvature_per_angstrom(self, arc_lengths_angstrom: np.ndarray) -> np.ndarray:
        """Return the curvature at distances along the axis."""
        return np.linalg.norm(self.curvature_vectors_per_angstrom(arc_lengths_angstrom), axis=1)

    def _parameter(self, arc_lengths_angstrom: np.ndarray) -> np.ndarray:
        u, s = self._table
        return np.interp(arc_lengths_angstrom, s, u)


def smoothing_spline(points: Points, u: np.ndarray, noise: float, scale: float) -> BSpline:
    """Return the cubic smoothing spline that follows waves longer than a scale, but not the noise.

    Its penalty on the second derivative halves waves of length ``2 pi (lam / density)^(1/4)``. The
    penalty is the largest whose residual equals the noise in the two directions across the axis,
    less the degrees of freedom of the spline (Reinsch, Numer. Math. 10, 177, 1967). It is never so
    small that waves shorter than the scale remain, since correlated noise could be taken for them.
    """
    if len(u) < 5:
        dense = np.linspace(u[0], u[-1], 5)
        points, u = np.stack([np.interp(dense, u, p) for p in points.T], 1), dense
    extent = float(u[-1] - u[0])
    density = len(u) / extent

    def spline(wave: float) -> BSpline:
        return make_smoothing_spline(u, points, lam=density * (wave / (2 * np.pi)) ** 4)

    def spare(wave: float, found: BSpline) -> float:
        taken = min(2.2 * extent / wave + 2, len(u))
        return 2 * noise**2 * (len(u) - taken) - ((found(u) - points) ** 2).sum()

    best = spline(scale)
    if noise and scale and spare(scale, best) > 0:
        low, high = np.log(scale), np.log(max(20 * extent, 2 * scale))
        for _ in range(6):
            middle = (low + high) / 2
            trial = spline(float(np.exp(middle)))
            if spare(float(np.exp(middle)), trial) > 0:
                low, best = middle, trial
            else:
                high = middle
    return best
