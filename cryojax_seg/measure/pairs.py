"""How points lie to each other within a region: pair correlation, and what chance would give."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.fft import irfftn, next_fast_len, rfftn
from scipy.spatial import KDTree

Points = Float[np.ndarray, "_n 3"]  # angstrom, zyx
_LARGEST = 96  # voxels along an axis of the mask whose overlap with itself is taken


@dataclasses.dataclass(frozen=True, eq=False)
class Region:
    """Where points could have been found: a volume, or a mask in it.

    Attributes:
        shape: voxels along z, y, x; voxel i reaches half a voxel to both sides of ``i * voxel``.
        voxel_size: angstrom along z, y, x.
        mask: ``(z, y, x)``; None for the whole volume.

    >>> box = Region((10, 10, 10), (10.0, 10.0, 10.0))
    >>> box.volume, box.holds(np.array([[0.0, 0, -4], [0, 0, -6]])).tolist()
    (1000000.0, [True, False])
    """

    shape: tuple[int, ...]
    voxel_size: tuple[float, float, float]
    mask: Bool[np.ndarray, "_z _y _x"] | None = None

    def __post_init__(self):
        if self.mask is not None and self.mask.shape != tuple(self.shape):
            raise ValueError(f"region has shape {self.mask.shape}, the volume {tuple(self.shape)}")
        if not self.volume:
            raise ValueError("region is empty: give one in which there could be something")

    @functools.cached_property
    def volume(self) -> float:
        """Cubic angstrom."""
        voxels = np.prod(self.shape) if self.mask is None else np.count_nonzero(self.mask)
        return float(voxels) * float(np.prod(self.voxel_size))

    @functools.cached_property
    def _voxels(self) -> np.ndarray:
        assert self.mask is not None
        return np.flatnonzero(self.mask)

    def holds(self, points: Points) -> Bool[np.ndarray, "_n"]:
        """Which points lie in it."""
        index = np.rint(points / self.voxel_size).astype(int)
        inside = np.all((index >= 0) & (index < self.shape), axis=1)
        if self.mask is None:
            return inside
        return inside & self.mask[tuple(np.where(inside[:, None], index, 0).T)]

    def random(self, count: int, rng: np.random.Generator) -> Points:
        """So many independent points, uniform in it."""
        if self.mask is None:
            index = rng.uniform(size=(count, 3)) * self.shape - 0.5
        else:
            flat = rng.choice(self._voxels, count)
            index = np.stack(np.unravel_index(flat, self.shape), 1) + rng.uniform(
                -0.5, 0.5, (count, 3)
            )
        return index * self.voxel_size

    def border_distance(self, points: Points) -> Float[np.ndarray, "_n"]:
        """From points of it to its border, the faces of the volume included, angstrom."""
        size = np.asarray(self.voxel_size)
        index = points / size
        faces = np.minimum(index + 0.5, np.asarray(self.shape) - 0.5 - index) * size
        nearest = faces.min(1)
        if self.mask is None:
            return nearest
        edge = ndimage.binary_dilation(self.mask) & ~self.mask
        if not edge.any():
            return nearest
        tree = KDTree(np.argwhere(edge) * size)
        inner = np.asarray(tree.query(points)[0]) - size.min() / 2
        return np.minimum(nearest, np.maximum(inner, 0.0))

    def overlap(self, radii: Float[np.ndarray, "_m"]) -> Float[np.ndarray, "_m"]:
        """Volume it has in common with itself moved by a distance, on average over directions.

        The isotropized set covariance (Ohser, Math. Operationsforsch. Statist. 14, 63, 1983).
        """
        k = np.arange(600) + 0.5  # Fibonacci's half sphere
        z, angle = 1 - k / 600, np.pi * (1 + 5**0.5) * k
        ring = np.sqrt(1 - z * z)
        moves = np.stack([z, ring * np.cos(angle), ring * np.sin(angle)], 1)
        moves = radii[:, None, None] * moves
        if self.mask is None:
            sides = np.asarray(self.shape) * self.voxel_size
            return np.maximum(sides - np.abs(moves), 0.0).prod(2).mean(1)
        covariance, voxel = self._covariance
        centre = np.asarray(covariance.shape) // 2
        index = np.moveaxis(moves / voxel + centre, 2, 0)
        found = ndimage.map_coordinates(covariance, index, order=1, mode="constant")
        return np.asarray(found).mean(1)

    @functools.cached_property
    def _covariance(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the mask, with no movement in the middle, and its voxel size."""
        assert self.mask is not None
        box = ndimage.find_objects(self.mask.astype(np.int8))[0]
        mask = self.mask[box].astype(np.float32)
        factor = [-(-n // _LARGEST) for n in mask.shape]
        mask = np.pad(mask, [(0, -n % f) for n, f in zip(mask.shape, factor, strict=True)])
        parts = [m for n, f in zip(mask.shape, factor, strict=True) for m in (n // f, f)]
        mask = mask.reshape(parts).mean((1, 3, 5))
        voxel = np.asarray(factor) * self.voxel_size
        size = [next_fast_len(2 * n + 1, real=True) for n in mask.shape]
        spectrum = np.abs(np.asarray(rfftn(mask, size))) ** 2
        covariance = np.fft.fftshift(np.asarray(irfftn(spectrum, size)))
        return np.maximum(covariance, 0.0) * float(np.prod(voxel)), voxel


@dataclasses.dataclass(frozen=True)
class PairCorrelation:
    """How much more often than by chance points have a distance.

    Attributes:
        radius_nm: edges of the bins of distance.
        g: pairs in each bin over those expected of independent points; 1 is chance, 0 is none.
        random_low, random_high: 95 % of random patterns of as many points in the same region have
            a g between these, in each bin by itself.
        ripley_k_nm3: ``K(r) = integral 4 pi s^2 g(s) ds`` up to the end of each bin.
        p_value: part of random patterns that differ from chance as much at some distance, by the
            largest deviation of the cube root of K; small where points are not random.
    """

    radius_nm: tuple[float, ...]
    g: tuple[float, ...]
    random_low: tuple[float, ...]
    random_high: tuple[float, ...]
    ripley_k_nm3: tuple[float, ...]
    p_value: float


def pair_correlation(
    points: Points,
    region: Region,
    edges_angstrom: Float[np.ndarray, "_m"],
    simulations: int = 99,
    seed: int = 0,
) -> PairCorrelation | None:
    """Pair correlation with correction for the edges of the region, and a band of chance.

    Pairs in a bin are divided by ``n (n - 1) / V^2 integral gamma(r) 4 pi r^2 dr``, the number that
    independent points give, where gamma is the overlap of the region with itself moved by r. The
    band is that of simulated patterns (Besag & Diggle 1977); the p value is that of the maximum
    absolute deviation test (Baddeley et al. 2014, Ecol. Monogr. 84, 477).

    Args:
        points: in the region, angstrom.
        region: where they could have been.
        edges_angstrom: of the bins of distance, increasing from 0 or more.
        simulations: random patterns.
        seed: of the patterns.

    Returns:
        None for fewer than two points.

    Raises:
        ValueError: for edges that do not increase, or fewer than 19 simulations.

    >>> box = Region((50, 50, 50), (10.0, 10.0, 10.0))
    >>> points = box.random(300, np.random.default_rng(0))
    >>> found = pair_correlation(points, box, np.array([0.0, 100.0, 200.0]))
    >>> [low < g < high for low, g, high in zip(found.random_low, found.g, found.random_high)]
    [True, True]
    """
    edges = np.asarray(edges_angstrom, float)
    if edges.size < 2 or edges[0] < 0 or not (np.diff(edges) > 0).all():
        raise ValueError("edges_angstrom must increase from 0 or more, two at least")
    if simulations < 19:
        raise ValueError(f"simulations must be 19 or more for a band of 95 %, got {simulations}")
    count = len(points)
    if count < 2:
        return None
    expected = count * (count - 1) / region.volume**2 * _shells(region, edges)
    expected = np.where(expected > 0, expected, np.inf)
    g = _pairs(points, edges) / expected
    rng = np.random.default_rng(seed)
    chance = np.array(
        [_pairs(region.random(count, rng), edges) / expected for _ in range(simulations)]
    )
    low, high = np.quantile(chance, [0.025, 0.975], axis=0)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    k = np.cumsum(np.concatenate([g[None], chance]) * shells, axis=1)
    roots = np.cbrt(k)
    largest = np.abs(roots - np.cbrt(np.cumsum(shells))).max(1)
    return PairCorrelation(
        radius_nm=tuple((0.1 * edges).tolist()),
        g=tuple(g.tolist()),
        random_low=tuple(low.tolist()),
        random_high=tuple(high.tolist()),
        ripley_k_nm3=tuple((1e-3 * k[0]).tolist()),
        p_value=float((largest >= largest[0]).mean()),
    )


def _pairs(points: Points, edges: Float[np.ndarray, "_m"]) -> Float[np.ndarray, "_k"]:
    """Ordered pairs with a distance in each bin; its lower edge is not in a bin."""
    tree = KDTree(points)
    return np.diff(np.asarray(tree.count_neighbors(tree, edges), float) - len(points))


def _shells(region: Region, edges: Float[np.ndarray, "_m"]) -> Float[np.ndarray, "_k"]:
    """``integral gamma(r) 4 pi r^2 dr`` over each bin, by the rule of Gauss with four points."""
    nodes, weights = np.polynomial.legendre.leggauss(4)
    half = np.diff(edges)[:, None] / 2
    radii = edges[:-1, None] + half * (1 + nodes)
    gamma = region.overlap(radii.ravel()).reshape(radii.shape)
    return (half * weights * gamma * 4 * np.pi * radii**2).sum(1)
