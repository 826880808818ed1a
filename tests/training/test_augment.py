"""Augmentations: labels follow the volume, the wedge value follows both."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cryojax_seg.core import MissingWedge
from cryojax_seg.training import Augmentation, Batch
from cryojax_seg.training import augment as A
from cryojax_seg.training.samples import canonical

WEDGE = MissingWedge((-50.0, 60.0))
# Compiled once for all tests: operation by operation they are hundreds of programs.
filtered = jax.jit(MissingWedge.apply)
transfer = jax.jit(MissingWedge.transfer, static_argnums=1)
EVERYTHING = Augmentation(
    rotate90=0.5, rotate=0.5, intensity=1.0, noise=0.5, blank=0.5, narrow=0.5, amplitude=0.5
)


def patch(shape=(8, 8, 8), wedge=WEDGE, seed=0):
    rng = np.random.default_rng(seed)
    volume = jnp.asarray(rng.normal(size=shape), jnp.float32)
    labels = (volume > 0.5).astype(jnp.int32)
    weights = jnp.asarray(rng.uniform(size=shape) > 0.5, jnp.float32)
    return Batch(volume, labels, weights, canonical(wedge))


def test_cube_rotations_turn_the_wedge_with_the_patch():
    turned = jax.jit(A.rotate_by)
    before = patch()
    cut = dataclasses.replace(before, volume=filtered(before.wedge, before.volume))
    for matrix in (A.cube_rotations((8, 8, 8)) * s for s in (1, -1)):  # with the reflections: 48
        for m in matrix:
            after, moved = turned(before, jnp.asarray(m)), turned(cut, jnp.asarray(m))
            np.testing.assert_allclose(filtered(after.wedge, after.volume), moved.volume, atol=2e-5)
            # The annotation moved in the same way, and the voxels are where the matrix says.
            np.testing.assert_array_equal(after.labels, (after.volume > 0.5).astype(int))
            source = np.round(m.T @ (np.array([1, 2, 3]) - 3.5) + 3.5).astype(int)
            assert after.volume[1, 2, 3] == before.volume[tuple(source)]
            assert after.weights[1, 2, 3] == before.weights[tuple(source)]
    swapped = turned(before, jnp.asarray([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]))
    np.testing.assert_array_equal(swapped.volume, jnp.rot90(before.volume, 1, (1, 0)))
    unturned = filtered(before.wedge, swapped.volume)
    assert float(jnp.abs(unturned - filtered(swapped.wedge, swapped.volume)).max()) > 0.1


def test_random_cube_rotations_are_proper_and_all_occur():
    keys = jax.random.split(jax.random.key(0), 400)
    after = jax.jit(jax.vmap(lambda k: A.rotate90(patch((4, 4, 4)), k)))(keys)
    matrices = np.asarray(after.wedge.rotation).round().astype(int)
    np.testing.assert_allclose(np.linalg.det(matrices), 1.0)
    assert len({tuple(m.ravel().tolist()) for m in matrices}) == 24


def test_a_flat_box_is_only_rotated_onto_itself():
    before = patch((4, 8, 8))
    keys = jax.random.split(jax.random.key(0), 100)
    after = jax.jit(jax.vmap(lambda k: A.rotate90(before, k)))(keys)
    matrices = np.asarray(after.wedge.rotation).round().astype(int)
    assert (np.abs(matrices[:, 0, 0]) == 1).all()
    assert len({tuple(m.ravel().tolist()) for m in matrices}) == 8


def test_flips_keep_the_wedge_and_only_allowed_ones_occur():
    before = patch()
    allowed = WEDGE.symmetries()  # asymmetric range: not all eight
    assert len(allowed) == 4
    table = jnp.asarray([[axis in axes for axis in range(3)] for axes in allowed] * 2)
    keys = jax.random.split(jax.random.key(0), 60)
    after = jax.device_get(jax.jit(jax.vmap(lambda k: A.flip(before, k, table)))(keys))
    found = set()
    for i in range(60):
        for axes in allowed:
            if np.array_equal(after.volume[i], np.flip(before.volume, axes)):
                found.add(axes)
                np.testing.assert_array_equal(after.labels[i], np.flip(before.labels, axes))
                np.testing.assert_array_equal(after.weights[i], np.flip(before.weights, axes))
                break
        else:
            pytest.fail("a flip that changes the wedge")
    assert found == set(allowed)
    flipped = filtered(WEDGE, jnp.flip(before.volume, allowed[1]))
    expected = jnp.flip(filtered(WEDGE, before.volume), allowed[1])
    np.testing.assert_allclose(flipped, expected, atol=2e-5)


def test_turn_is_a_rotation_of_volume_annotation_and_wedge():
    n = 24
    z, y, x = np.meshgrid(*[np.arange(n) - (n - 1) / 2] * 3, indexing="ij")
    points = jnp.asarray(np.stack([z, y, x], -1), jnp.float32)
    direction = jnp.asarray([0.6, 0.0, 0.8])
    sheet = jnp.exp(-jnp.square(points @ direction) / 8)
    weights = jnp.ones(sheet.shape)
    before = Batch(sheet, (sheet > 0.5).astype(jnp.int32), weights, canonical(WEDGE))
    key = jax.random.key(4)
    after = jax.jit(A.rotate, static_argnums=2)(before, key, 30.0)
    matrix = jax.jit(A.rotation_matrix, static_argnums=1)(key, 30.0)
    np.testing.assert_allclose(matrix @ matrix.T, jnp.eye(3), atol=1e-5)
    assert float(jnp.abs(matrix - jnp.eye(3)).max()) > 0.1
    expected = jnp.exp(-jnp.square(points @ (matrix @ direction)) / 8)
    inside = np.asarray(after.weights) > 0
    assert 0.5 < inside.mean() < 1.0
    # Linear interpolation of a Gaussian of width 2 errs by at most h^2 f'' / 8 per axis.
    assert np.abs(after.volume - expected)[inside].max() < 0.06
    same = (np.asarray(after.labels) == np.asarray(expected > 0.5))[inside]
    assert same.mean() > 0.96  # nearest voxels: only the border of the sheet differs
    np.testing.assert_allclose(
        transfer(after.wedge, (8, 8, 8)),
        transfer(before.wedge.rotate(matrix), (8, 8, 8)),
        atol=1e-6,
    )


def test_narrowing_gives_exactly_the_smaller_wedge_at_the_same_contrast():
    before = patch((16, 16, 16))
    measured = Batch(
        filtered(before.wedge, before.volume), *[before.labels, before.weights], before.wedge
    )
    narrow = jax.jit(A.narrow_wedge, static_argnums=2)
    after = narrow(measured, jax.random.key(0), (30.0, 40.0))
    low, high = np.asarray(after.wedge.tilt_range)
    assert 30 <= high <= 40
    assert low == -high
    smaller = filtered(MissingWedge((low, high)), before.volume)
    ratio = after.volume.std() / smaller.std()
    np.testing.assert_allclose(after.volume, smaller * ratio, atol=2e-5)
    np.testing.assert_allclose(after.volume.std(), measured.volume.std(), rtol=1e-4)
    # A range that is already smaller is left alone.
    tight = Batch(
        measured.volume, before.labels, before.weights, canonical(MissingWedge((-20.0, 25.0)))
    )
    np.testing.assert_allclose(
        narrow(tight, jax.random.key(0), (30.0, 40.0)).wedge.tilt_range, (-20, 25)
    )


def test_noise_has_the_wedge_of_the_patch():
    before = patch((16, 16, 16))
    empty = Batch(0 * before.volume, before.labels, before.weights, before.wedge)
    noise = jax.jit(A.add_noise, static_argnums=2)(empty, jax.random.key(1), 0.5).volume
    assert 0.01 < float(noise.std()) < 0.5
    np.testing.assert_allclose(filtered(before.wedge, noise), noise, atol=1e-5)


def test_amplitudes_change_and_phases_stay():
    before = patch((16, 16, 16))
    after = jax.jit(A.scale_amplitudes, static_argnums=2)(before, jax.random.key(2), 0.5)
    ratio = np.fft.rfftn(after.volume) / np.fft.rfftn(before.volume)
    assert np.abs(ratio.imag).max() < 1e-3
    assert ratio.real.min() > 0
    assert ratio.real.max() / ratio.real.min() > 1.2
    np.testing.assert_allclose(after.volume.mean(), before.volume.mean(), atol=1e-5)
    np.testing.assert_allclose(after.volume.std(), before.volume.std(), rtol=1e-4)


def test_drift_is_affine_in_the_volume_and_in_the_position():
    before = patch((6, 7, 8))
    after = jax.jit(A.drift, static_argnums=2)(before, jax.random.key(3), 0.2).volume
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in (6, 7, 8)], indexing="ij")
    columns = [np.asarray(before.volume), np.ones_like(z), z, y, x]
    design = np.stack([c.ravel() for c in columns], -1)
    found, residual, _, _ = np.linalg.lstsq(design, np.asarray(after).ravel(), rcond=None)
    assert residual < 1e-8
    assert (np.abs(found - [1, 0, 0, 0, 0]) > 1e-3).all()


def test_blank_cuboids_are_zero_and_bounded():
    one = patch((12, 12, 12))
    full = Batch(one.volume + 100, one.labels, one.weights, one.wedge)
    keys = jax.random.split(jax.random.key(0), 50)
    after = jax.jit(jax.vmap(lambda k: A.blank_cuboids(full, k).volume))(keys)
    blank = (np.asarray(after) == 0).mean((1, 2, 3))
    assert blank.max() < 3 * (5 / 12) ** 3
    assert blank.mean() > 0.005
    kept = np.asarray(after) != 0
    np.testing.assert_array_equal(
        np.asarray(after)[kept], np.broadcast_to(full.volume, after.shape)[kept]
    )


@pytest.fixture(scope="module")
def compiled():
    run = jax.jit(
        lambda b, k, f: A.augment(b, k, f, EVERYTHING),
        compiler_options={"xla_backend_optimization_level": 0},  # compiles in half the time
    )
    one = patch()
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), one, one, one)
    flips = jnp.zeros((3, 8, 3), bool)
    return run, batch, flips


def test_augment_is_pure_and_differs_between_patches_and_steps(compiled):
    run, batch, flips = compiled
    one, two = run(batch, jax.random.key(0), flips), run(batch, jax.random.key(0), flips)
    other = run(batch, jax.random.key(1), flips)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one.volume, other.volume)
    assert not np.array_equal(one.volume[0], one.volume[1])
    assert jax.tree.structure(one) == jax.tree.structure(batch)


def test_augment_of_a_constant_patch_is_finite(compiled):
    run, batch, flips = compiled
    flat = Batch(0 * batch.volume + 3, batch.labels, batch.weights, batch.wedge)
    for seed in range(5):
        assert np.isfinite(run(flat, jax.random.key(seed), flips).volume).all()


def test_a_change_is_computed_only_if_a_patch_takes_it():
    computed = []

    def change(patch, key):
        jax.debug.callback(lambda: computed.append(True))
        return dataclasses.replace(patch, volume=patch.volume + jax.random.uniform(key))

    one, keys = patch((4, 4, 4)), jax.random.split(jax.random.key(0), 3)
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), one, one, one)
    run = jax.jit(lambda batch, taken: A._maybe(change, batch, keys, taken))
    none = run(batch, jnp.zeros(3, bool))
    jax.effects_barrier()
    np.testing.assert_array_equal(none.volume, batch.volume)
    assert not computed
    second = run(batch, jnp.arange(3) == 1)
    jax.effects_barrier()
    assert computed
    added = jnp.zeros((3, 1, 1, 1)).at[1].set(jax.random.uniform(keys[1]))
    np.testing.assert_array_equal(second.volume, batch.volume + added)


def test_nothing_on_changes_nothing():
    one = patch()
    batch = jax.tree.map(lambda leaf: leaf[None], one)
    off = Augmentation(flip=False, intensity=0.0)
    after = A.augment(batch, jax.random.key(0), jnp.ones((1, 8, 3), bool), off)
    np.testing.assert_array_equal(after.volume, batch.volume)
