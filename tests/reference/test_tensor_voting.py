"""Tensor voting against its definition, and what it is for: gaps, normals and the wedge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cryojax_seg.core import MissingWedge
from cryojax_seg.segmenters import TensorVoting
from cryojax_seg.segmenters.tensor_voting import sheet_tensors, vote, wedge_gate

votes_of = jax.jit(vote, static_argnums=3)  # one program; by its operations it is fifty
PAIRS = ((0, 0), (1, 1), (2, 2), (1, 0), (2, 0), (2, 1))


def full(tensors):
    """Six components to 3 x 3 matrices."""
    out = np.zeros((*tensors.shape[:-1], 3, 3))
    for k, (i, j) in enumerate(PAIRS):
        out[..., i, j] = out[..., j, i] = tensors[..., k]
    return out


def packed(matrices):
    return jnp.stack([jnp.asarray(matrices[..., i, j]) for i, j in PAIRS], axis=-1)


def by_definition(tensors, scale, bend, radius):
    """The sum over all neighbours, one offset after the other."""
    shape = tensors.shape[:3]
    padded = np.pad(tensors, [(radius, radius)] * 3 + [(0, 0)] * 2)
    steps = np.arange(-radius, radius + 1)
    norm = 8 * np.exp(-0.5 * (steps / scale) ** 2).sum() ** 2
    total = np.zeros_like(tensors)
    for offset in np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3):
        square = (offset**2).sum() / scale**2
        if square == 0:
            continue
        d = offset / np.linalg.norm(offset)
        across, along = np.eye(3) - np.outer(d, d), np.outer(d, d)
        where = tuple(slice(radius + o, radius + o + n) for o, n in zip(offset, shape, strict=True))
        k = padded[where]
        votes = across @ k @ across - bend * (along @ k @ across + across @ k @ along)
        total += square**2 * np.exp(-0.5 * square) / norm * votes
    return total


def test_votes_are_the_sum_over_the_neighbours(x64):
    random = np.random.default_rng(0).normal(size=(6, 7, 8, 3, 3))
    random = random + random.swapaxes(-1, -2)
    for bend in (1.0, 0.3):
        got = full(np.asarray(votes_of(packed(random), 1.3, bend, 3)))
        np.testing.assert_allclose(got, by_definition(random, 1.3, bend, 3), atol=1e-12)


def test_a_plane_gives_back_its_own_tensor(x64):
    plane = np.zeros((3, 25, 25, 3, 3))
    plane[1, :, :, 0, 0] = 1.0
    got = full(np.asarray(votes_of(packed(plane), 2.0, 1.0, 12)))[1, 12, 12]
    np.testing.assert_allclose(got, np.diag([1.0, 0, 0]), atol=2e-3)


def grid(edge):
    return np.indices((edge,) * 3) - (edge - 1) / 2


def broken_shell(edge=36, radius=11.0, half_angle=28.0):
    """A spherical shell without its poles along z, where they were, and the distance to it."""
    z, y, x = grid(edge)
    distance = np.sqrt(z * z + y * y + x * x)
    pole = np.hypot(y, x) < np.abs(z) * np.tan(np.deg2rad(half_angle))
    density = 2.5 * np.exp(-0.5 * ((distance - radius) / 1.5) ** 2)
    return np.where(pole, 0, density), pole, distance - radius


@pytest.fixture(scope="module")
def bridged():
    density, pole, depth = broken_shell()
    noisy = density + np.random.default_rng(0).normal(0, 0.5, density.shape)
    volume = jnp.asarray(noisy, jnp.float32)

    @jax.jit
    def run(segmenter):
        return segmenter(volume)[..., 0]

    with_votes = run(TensorVoting(threshold=0.0, softness=1.0))
    without = run(TensorVoting(threshold=0.0, softness=1.0, strength=1e-6))
    return np.asarray(with_votes), np.asarray(without), pole, depth


def test_a_gap_is_bridged(bridged):
    with_votes, without, pole, depth = bridged
    gap = pole & (np.abs(depth) < 0.8)
    shell = ~pole & (np.abs(depth) < 0.8)
    background = (depth < -6) | ((depth > 5) & (depth < 6))
    # Saliency in the gap over that of the background: three times with votes, less without.
    assert with_votes[gap].mean() > 3 * with_votes[background].mean()
    assert with_votes[gap].mean() > 1.5 * without[gap].mean()
    assert with_votes[shell].mean() > 1.5 * with_votes[gap].mean()
    # The gap is closed where the surface would be, not in front of it or behind.
    beside = pole & (np.abs(np.abs(depth) - 5) < 1)
    assert with_votes[gap].mean() > 2 * with_votes[beside].mean()


def test_normals_point_outwards_even_in_the_gap():
    density, pole, depth = broken_shell()

    @jax.jit
    def tensors(volume):
        sheets = sheet_tensors(volume, 1.5, 0.25, 6)
        return sheets + vote(sheets, 2.0, 1.0, 8)

    normals = np.linalg.eigh(full(np.asarray(tensors(jnp.asarray(density, jnp.float32)))))[1]
    radial = np.stack(grid(36), -1)
    radial /= np.linalg.norm(radial, axis=-1, keepdims=True)
    alignment = np.abs((normals[..., -1] * radial).sum(-1))
    assert alignment[~pole & (np.abs(depth) < 0.8)].mean() > 0.995
    assert alignment[pole & (np.abs(depth) < 0.8)].mean() > 0.97


def test_bent_votes_follow_a_cylinder_better_than_flat_ones(x64):
    """On a cylinder of radius 6 the votes alone have the normal of the cylinder."""
    _, y, x = grid(25)
    distance = np.maximum(np.hypot(y, x), 1e-9)
    normal = np.stack([np.zeros_like(x), y, x], -1) / distance[..., None]
    k = np.exp(-2 * (distance - 6) ** 2)[..., None, None] * normal[..., None] * normal[..., None, :]
    # Half of the cylinder votes; look at the other half, close to the cut.
    k[:, :, 12:] = 0
    near = (np.abs(distance - 6) < 0.5) & (x >= 0) & (x < 3)
    near[:9], near[-9:] = False, False
    error = {}
    for bend in (0.0, 1.0):
        votes = full(np.asarray(votes_of(packed(k), 1.5, bend, 6)))
        first = np.linalg.eigh(votes)[1][..., -1]
        error[bend] = 1 - np.abs((first * normal).sum(-1))[near].mean()
    assert error[1.0] < 0.4 * error[0.0] and error[1.0] < 0.03, error


@pytest.mark.parametrize(("axis", "kept"), [(0, 0.0), (1, 0.5), (2, 1.0)])
def test_the_gate_keeps_normals_that_were_measured(axis, kept):
    # Tilts of +-60 degrees about y: normals along x are measured, along the beam z they are not.
    one = np.zeros((1, 1, 1, 3, 3), np.float32)
    one[..., axis, axis] = 1.0
    gate = wedge_gate(packed(one), MissingWedge((-60.0, 60.0)), 0.02)
    np.testing.assert_allclose(gate, kept, atol=1e-5)


def test_the_gate_turns_at_the_edge_of_the_wedge():
    for low, high in [(-60.0, 60.0), (-40.0, 65.0)]:
        for edge in (low, high):
            for degrees in (edge - 2, edge, edge + 2):
                a = np.deg2rad(degrees)
                n = np.array([np.sin(a), 0.0, np.cos(a)], np.float32)
                gate = wedge_gate(
                    packed(np.outer(n, n)[None, None, None]), MissingWedge((low, high)), 0.01
                )
                expected = 0.5 if degrees == edge else float(low < degrees < high)
                assert float(gate[0, 0, 0]) == pytest.approx(expected, abs=0.06)


def test_the_gate_turns_with_the_sample():
    quarter = jnp.asarray([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])  # x to z
    one = np.zeros((1, 1, 1, 3, 3), np.float32)
    one[..., 0, 0] = 1.0
    turned = MissingWedge((-60.0, 60.0)).rotate(quarter)
    assert float(wedge_gate(packed(one), turned, 0.02)[0, 0, 0]) == pytest.approx(1.0, abs=1e-5)
    segmenter = TensorVoting(1.0, 1.0, radii=(2, 2), wedge=turned)
    volume = jnp.zeros((9, 9, 9)).at[4].set(3.0)  # a sheet that faces z
    upright = TensorVoting(1.0, 1.0, radii=(2, 2), wedge=MissingWedge((-60.0, 60.0)))
    run = jax.jit(lambda s: s(volume)[4, 4, 4, 0])
    assert float(run(segmenter)) > 0 > float(run(upright))
