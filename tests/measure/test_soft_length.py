"""The expected length of filaments in probability maps, and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import KDTree

from cryojax_seg.measure.sections import _planes, _weights, soft_length

VOXEL = (10.0, 10.0, 10.0)
EDGE = 40
compiled = jax.jit(lambda p: soft_length(p, VOXEL))


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def away(curve):
    points = np.indices((EDGE,) * 3).reshape(3, -1).T * 10.0
    return KDTree(curve).query(points)[0].reshape((EDGE,) * 3)


def soft(distance, radius, width=2.5):
    return (1 / (1 + np.exp((distance - radius) / width))).astype(np.float32)


def random_line(rng, length=240.0):
    way = rng.normal(size=3)
    way /= np.linalg.norm(way)
    return 10 * (EDGE - 1) / 2 + np.linspace(-length / 2, length / 2, 600)[:, None] * way


def helix():
    angle = np.linspace(0, 3 * np.pi, 2000)
    return np.stack([60 + angle * 28, 195 + 90 * np.cos(angle), 195 + 90 * np.sin(angle)], 1)


def test_planes_weigh_every_direction_alike(rng):
    """Cubic voxels: 5 %; two, and one and a half times as deep as wide: 9 %."""
    lines = rng.normal(size=(5000, 3))
    lines /= np.linalg.norm(lines, axis=1, keepdims=True)
    for voxel_size, worst in (
        ((1.0, 1.0, 1.0), 0.05),
        ((2.0, 1.0, 1.0), 0.09),
        ((1.5, 1.0, 1.0), 0.09),
    ):
        normals = np.array([n for n, _ in _planes()]) / voxel_size
        # A line of one unit meets |t . normal| planes of each family.
        seen = np.abs(lines @ normals.T) @ np.array(_weights(voxel_size))
        assert np.abs(seen - 1).max() < worst


@pytest.mark.parametrize("radius", [20.0, 30.0, 40.0])
def test_length_of_tubes_of_any_thickness(rng, radius):
    """Round ends add four radii. 5 % each, 3 % of five lines."""
    lengths = [float(compiled(soft(away(random_line(rng)), radius))) for _ in range(5)]
    expected = 240 + 4 * radius
    assert lengths == pytest.approx([expected] * 5, rel=0.05)
    assert np.mean(lengths) == pytest.approx(expected, rel=0.03)
    curve = helix()
    length = np.linalg.norm(np.diff(curve, axis=0), axis=1).sum()
    assert float(compiled(soft(away(curve), radius))) == pytest.approx(
        length + 4 * radius, rel=0.04
    )


def test_it_is_the_mean_of_the_level_sets(rng):
    p = soft(away(helix()), 25.0, 8.0)
    levels = (np.arange(40) + 0.5) / 40
    mean = np.mean([float(compiled((p > u).astype(np.float32))) for u in levels])
    assert float(compiled(p)) == pytest.approx(mean, rel=0.01)
    assert float(compiled(0.3 * p)) == pytest.approx(0.3 * float(compiled(p)), rel=1e-4)


def test_noise_cancels(rng):
    """Uniform noise of up to 0.2 in all voxels adds less than 6 % of a helix of 860 angstrom."""
    noise = rng.uniform(size=(EDGE,) * 3).astype(np.float32)
    assert abs(float(compiled(0.2 * noise))) < 50
    flat = compiled(np.full((EDGE,) * 3, 0.5, np.float32))
    assert float(flat) == pytest.approx(0, abs=1e-2)
    assert float(compiled(np.zeros((EDGE,) * 3, np.float32))) == 0


def test_gradient(x64, check_gradients, rng):
    p = jnp.asarray(rng.uniform(size=(6, 7, 8)))
    check_gradients(lambda p: soft_length(p, (20.0, 10.0, 12.0)), p, step=1e-7)


def test_gradients_are_finite_where_probabilities_are_equal():
    gradient = jax.jit(jax.grad(lambda p: soft_length(p, VOXEL)))
    for value in (0.0, 0.5, 1.0):
        assert np.isfinite(gradient(jnp.full((8, 8, 8), value))).all()
    one = gradient(jnp.zeros((8, 8, 8)).at[4, 4, 4].set(0.5))
    assert float(one[4, 4, 4]) == pytest.approx(float(soft_length(
        jnp.zeros((8, 8, 8)).at[4, 4, 4].set(1.0), VOXEL)))  # fmt: skip


def test_descent_restores_a_length():
    """A gap in a line closes when the loss asks for the length it had."""
    line = np.linspace(60, 330, 500)[:, None] * np.array([0, 0, 1.0]) + np.array([195, 195, 0])
    whole = soft(away(line), 25.0)[10:30, 10:30]
    logits = jnp.log(jnp.clip(whole, 1e-3, 1 - 1e-3)) - jnp.log1p(-jnp.clip(whole, 1e-3, 1 - 1e-3))
    broken = logits.at[:, :, 18:22].add(-6.0)
    wanted = soft_length(jax.nn.sigmoid(logits), VOXEL)

    @jax.jit
    def step(x):
        loss, slope = jax.value_and_grad(
            lambda x: (soft_length(jax.nn.sigmoid(x), VOXEL) / wanted - 1) ** 2
        )(x)
        return x - 0.2 * slope / jnp.maximum(jnp.abs(slope).max(), 1e-6), loss

    losses = []
    for _ in range(80):
        broken, loss = step(broken)
        losses.append(float(loss))
    assert losses[-1] < 0.2 * losses[0]
