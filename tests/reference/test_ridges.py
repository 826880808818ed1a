"""Hessians, eigenvalues and the filters made of them, against scipy, scikit-image and algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from skimage import feature, filters

from cryojax_seg.segmenters import BlobFilter, SheetFilter, TubeFilter
from cryojax_seg.segmenters.ridge import hessian, symmetric_eigenvalues

PAIRS = ((0, 0), (1, 1), (2, 2), (1, 0), (2, 0), (2, 1))
# Compiled as a whole: operation by operation they are a hundred programs.
eigenvalues_of = jax.jit(symmetric_eigenvalues)
hessian_of = jax.jit(hessian, static_argnums=2)
slope_of = jax.jit(
    jax.grad(
        lambda c, w: sum((a * e).sum() for a, e in zip(w, symmetric_eigenvalues(*c), strict=True))
    )
)


def matrices(eigenvalues, seed=0):
    """Symmetric matrices with these eigenvalues (n, 3) in random frames, and the frames."""
    frames = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues), 3, 3)))[0]
    return np.einsum("nij,nj,nkj->nik", frames, np.asarray(eigenvalues), frames), frames


def components(m, dtype=np.float64):
    return [jnp.asarray(m[:, i, j].astype(dtype)) for i, j in PAIRS]


def test_eigenvalues_in_double_precision(x64):
    random = np.random.default_rng(0).normal(size=(2000, 3, 3))
    random = random + random.swapaxes(1, 2)
    got = np.stack(eigenvalues_of(*components(random)), -1)
    np.testing.assert_allclose(got, np.linalg.eigvalsh(random), atol=1e-10)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e4])
def test_eigenvalues_in_single_precision(size):
    random = np.random.default_rng(0).normal(size=(2000, 3, 3)) * size
    random = random + random.swapaxes(1, 2)
    got = np.stack(eigenvalues_of(*components(random, np.float32)), -1)
    np.testing.assert_allclose(got, np.linalg.eigvalsh(random), atol=3e-5 * size)


@pytest.mark.parametrize("values", [(0, 0, 0), (1, 1, 1), (-1, 0, 0), (-1, -1, 0), (-2, -2, 3)])
def test_equal_eigenvalues_lose_half_of_the_digits_at_most(values):
    m, _ = matrices([values] * 200)
    got = np.stack(eigenvalues_of(*components(m, np.float32)), -1)
    np.testing.assert_allclose(got, np.tile(values, (200, 1)), atol=2e-3)
    gradient = slope_of(components(m, np.float32), (1.0, 2.0, 3.0))
    assert all(np.isfinite(g).all() for g in gradient)


def test_the_gradient_of_a_single_eigenvalue_is_its_projector(x64):
    # d lambda / dA = n n^T, and an off-diagonal component stands for two elements.
    for values, axis in [((-1, 0, 0), 0), ((-1, -1, 2), 2), ((-3, 0.5, 1), 0)]:
        m, frames = matrices([values] * 100)
        gradient = slope_of(components(m), tuple(np.eye(3)[axis]))
        n = frames[:, :, axis]
        expected = [n[:, i] * n[:, j] * (1 if i == j else 2) for i, j in PAIRS]
        np.testing.assert_allclose(gradient, expected, atol=1e-5)


def test_hessian_of_a_polynomial_is_exact(x64):
    z, y, x = np.mgrid[:25, :25, :25] - 12.0
    polynomial = 2 * z * z - y * y + 0.5 * x * x + 3 * z * y - z * x + 0.25 * y * x + z - 5
    got = np.stack(hessian_of(jnp.asarray(polynomial), 2.0, 8))[:, 12, 12, 12] / 2.0**2
    np.testing.assert_allclose(got, [4, -2, 1, 3, -1, 0.25], atol=1e-10)


def test_hessian_agrees_with_scipy_and_skimage(x64):
    volume = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(32,) * 3), 1.0)
    got = np.stack(hessian_of(jnp.asarray(volume), 2.0, 8))[:, 8:-8, 8:-8, 8:-8] / 2.0**2
    for field, (i, j) in zip(got, PAIRS, strict=True):
        order = np.eye(3, dtype=int)[i] + np.eye(3, dtype=int)[j]
        expected = ndimage.gaussian_filter(volume, 2.0, order=order)[8:-8, 8:-8, 8:-8]
        # scipy does not correct its derivative windows for being cut off at 4 deviations.
        assert np.abs(field - expected).max() < 5e-3 * np.abs(expected).max()
    theirs = feature.hessian_matrix(volume, 2.0, use_gaussian_derivatives=True, order="rc")
    zz = np.asarray(theirs[0])[8:-8, 8:-8, 8:-8]
    assert np.corrcoef(got[0].ravel(), zz.ravel())[0, 1] > 0.9999


def test_the_tube_filter_is_frangis(x64):
    volume = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(36,) * 3), 1.0)
    volume[:, 18, 18] += 1.0
    scale, gamma = 2.0, 0.1
    tube = TubeFilter((scale,), gamma=gamma, threshold=0.0, softness=1.0)
    tube = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tube)
    got = np.asarray(jax.jit(tube)(jnp.asarray(volume)))[9:-9, 9:-9, 9:-9, 0]
    # skimage does not multiply the Hessian by the squared scale.
    expected = filters.frangi(
        volume, [scale], alpha=0.5, beta=0.5, gamma=gamma / scale**2, black_ridges=False
    )[9:-9, 9:-9, 9:-9]
    assert expected.max() > 0.3
    # Where the curvature across is not the weakest Frangi's measure jumps to 0; this one goes on
    # decreasing from there, from exp(-1 / 2 beta^2) times at most 1 - exp(-1 / 2 alpha^2).
    tubular = expected > 0
    assert 0.2 < tubular.mean() < 0.9
    np.testing.assert_allclose(got[tubular], expected[tubular], atol=0.005)
    assert got[~tubular].max() <= np.exp(-2) * (1 - np.exp(-2))


def gaussian_object(dimension, width, edge=33):
    """A Gaussian sheet (2), tube (1) or blob (0) through the centre, of unit contrast."""
    grid = np.indices((edge,) * 3) - edge // 2
    return jnp.asarray(np.exp(-0.5 * (grid[: 3 - dimension] ** 2).sum(0) / width**2), jnp.float32)


@jax.jit
def run(segmenter, volume):
    return segmenter(volume)


@pytest.mark.parametrize("dimension", [2, 1, 0])
def test_every_shape_is_strongest_in_its_own_filter(dimension):
    volume = gaussian_object(dimension, 2.0)
    own = {2: SheetFilter, 1: TubeFilter, 0: BlobFilter}
    response = {
        d: float(run(f((2.0,), threshold=0.0, softness=1.0), volume)[16, 16, 16, 0])
        for d, f in own.items()
    }
    others = [response[d] for d in response if d != dimension]
    assert response[dimension] > 0.4 and max(others) < 0.15, response


def test_a_sheet_has_the_curvature_of_the_formula():
    # A sheet exp(-z^2 / 2 w^2) smoothed at scale s: c = s^2 w / (w^2 + s^2)^(3/2) on its plane.
    width, scale = 2.0, 1.5
    zz = jax.jit(lambda v: hessian(v, scale, 7)[0])(gaussian_object(2, width))[16, 16, 16]
    assert float(-zz) == pytest.approx(scale**2 * width / (width**2 + scale**2) ** 1.5, rel=2e-3)


def test_dark_structure_and_flat_volumes_give_nothing():
    for f in (SheetFilter, TubeFilter, BlobFilter):
        segmenter = f((2.0,), threshold=0.0, softness=1.0)
        for d in (2, 1, 0):
            assert float(run(segmenter, -gaussian_object(d, 2.0))[16, 16, 16, 0]) < 1e-6
        flat = run(segmenter, jnp.full((33, 33, 33), 5.0))
        assert float(jnp.abs(flat[8:-8, 8:-8, 8:-8]).max()) < 1e-6


def test_the_best_scale_wins():
    volume = gaussian_object(1, 2.5)
    one = [float(run(TubeFilter((s,), radii=(8,)), volume)[16, 16, 16, 0]) for s in (1.0, 2.5)]
    both = float(run(TubeFilter((1.0, 2.5), radii=(8, 8)), volume)[16, 16, 16, 0])
    assert one[1] > one[0] and both == pytest.approx(one[1], rel=1e-5)
