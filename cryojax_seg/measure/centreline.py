"""Smooth axes of filaments: splines through the middle of a mask, from end to end."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float
from scipy.interpolate import BSpline, make_smoothing_spline

Points = Float[np.ndarray, "_n 3"]  # angstrom, zyx


@dataclasses.dataclass(frozen=True, eq=False)
class Filament:
    """The axis of a filament as a smooth curve.

    Attributes:
        spline: of the axis, angstrom zyx; voxel i is at ``i * voxel_size``.
        radius_angstrom: of the tube that has the cross-section of the mask.
        covered: the part of the length that has mask around it; the rest are gaps.
        at_border: whether the first and the last end are where the volume ends.

    >>> line = Filament.through(np.array([[0.0, 0, 0], [0, 0, 50], [0, 0, 100]]))
    >>> round(line.length_angstrom, 6), line.at(np.array([25.0])).round(6).tolist()
    (100.0, [[0.0, 0.0, 25.0]])
    """

    spline: BSpline
    radius_angstrom: float = 0.0
    covered: float = 1.0
    at_border: tuple[bool, bool] = (False, False)

    @functools.cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        """Parameters of the spline, and the length up to each."""
        low, high = self.spline.t[self.spline.k], self.spline.t[-self.spline.k - 1]
        u = np.linspace(low, high, 8 * len(self.spline.t) + 33)
        speed = np.linalg.norm(self.spline(u, 1), axis=1)
        middle = np.linalg.norm(self.spline((u[1:] + u[:-1]) / 2, 1), axis=1)
        pieces = np.diff(u) * (speed[:-1] + 4 * middle + speed[1:]) / 6  # Simpson's rule
        return u, np.concatenate([[0.0], np.cumsum(pieces)])

    @classmethod
    def through(cls, points: Points, scale: float = 0.0, **fields) -> "Filament":
        """The spline through points in order, or with a scale without waves shorter than it."""
        steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
        u = np.concatenate([[0.0], np.cumsum(steps)])
        return cls(smoothing_spline(points, u, 0.0, scale), **fields)

    @property
    def length_angstrom(self) -> float:
        """Along the axis."""
        return float(self._table[1][-1])

    @property
    def ends_angstrom(self) -> Points:
        """The first and the last point."""
        return self.at(np.array([0.0, self.length_angstrom]))

    def moved(self, shift: np.ndarray) -> "Filament":
        """The same elsewhere (angstrom, zyx)."""
        spline = BSpline(self.spline.t, self.spline.c + shift, self.spline.k)
        return dataclasses.replace(self, spline=spline)

    def places(self, spacing_angstrom: float) -> np.ndarray:
        """Distances along the axis from end to end, evenly and about so far apart."""
        count = max(round(self.length_angstrom / spacing_angstrom), 1)
        return np.linspace(0.0, self.length_angstrom, count + 1)

    def at(self, places: np.ndarray) -> Points:
        """Points at distances along the axis (angstrom)."""
        return self.spline(self._parameter(places))

    def tangents(self, places: np.ndarray) -> Points:
        """Unit tangents at distances along the axis."""
        first = self.spline(self._parameter(places), 1)
        return first / np.linalg.norm(first, axis=1, keepdims=True)

    def bends(self, places: np.ndarray) -> Points:
        """Curvature vectors (per angstrom, towards the centre of curvature)."""
        u = self._parameter(places)
        first, second = self.spline(u, 1), self.spline(u, 2)
        square = (first * first).sum(1, keepdims=True)
        along = (first * second).sum(1, keepdims=True) / square
        return (second - along * first) / square

    def curvature(self, places: np.ndarray) -> np.ndarray:
        """Curvature per angstrom at distances along the axis."""
        return np.linalg.norm(self.bends(places), axis=1)

    def _parameter(self, places: np.ndarray) -> np.ndarray:
        u, s = self._table
        return np.interp(places, s, u)


def smoothing_spline(points: Points, u: np.ndarray, noise: float, scale: float) -> BSpline:
    """The cubic smoothing spline that keeps what is longer than a scale and leaves the noise.

    Its penalty on the second derivative halves waves of length ``2 pi (lam / density)^(1/4)``. It
    is the largest whose residual is that of the noise, in the two directions across the axis and
    less what the spline takes up itself (Reinsch, Numer. Math. 10, 177, 1967), but waves shorter
    than the scale are no property of an axis: noise that neighbours share is not taken for one.
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
