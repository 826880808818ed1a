"""Skeletons against analytic middles and other implementations; the losses made of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import ndimage
from skimage.morphology import skeletonize

from cryojax_seg import losses
from cryojax_seg.losses import topology

EDGE = 32
SHAPE = (12, 12, 12)  # of the losses, one for all: a shape compiles once
GRID = np.stack(np.meshgrid(*[np.arange(EDGE) - 15.3] * 3, indexing="ij"), -1)
skeleton_of = jax.jit(topology.surface_skeleton)
soft_skeleton_of = jax.jit(topology.soft_skeleton)


def signed_distance(kind):
    """Distance to the middle of a surface, and where its rim is far."""
    if kind == "sphere":
        return np.linalg.norm(GRID, axis=-1) - 10.2, np.ones((EDGE,) * 3, bool)
    if kind == "cap":
        high = GRID[..., 0] > 1.0
        return np.linalg.norm(GRID, axis=-1) - 10.2, high & (GRID[..., 0] > 4.0)
    normal = np.array({"flat": (1.0, 0, 0), "oblique": (0.53, 0.62, 0.578)}[kind])
    across = GRID @ (normal / np.linalg.norm(normal))
    along = np.sqrt(np.maximum((GRID**2).sum(-1) - across**2, 0))
    return across, along < 8.0


def structure(kind, thickness):
    across, inner = signed_distance(kind)
    mask = np.abs(across) < thickness / 2
    if kind == "cap":
        mask &= GRID[..., 0] > 1.0
    elif kind != "sphere":
        mask &= np.sqrt(np.maximum((GRID**2).sum(-1) - across**2, 0)) < 11.0
    return mask, across, inner


@pytest.mark.parametrize("thickness", [3.0, 4.0, 5.0, 6.0])
@pytest.mark.parametrize("kind", ["flat", "oblique", "sphere", "cap"])
def test_the_skeleton_of_a_surface_is_its_middle(kind, thickness):
    """All of the middle has skeleton within a voxel, and skeleton is within 1.5 voxels of it.

    A voxel's middle is up to half a diagonal (0.87) from where it was sampled, and a sheet of even
    thickness has two middle layers.
    """
    mask, across, inner = structure(kind, thickness)
    skeleton = np.asarray(skeleton_of(jnp.asarray(mask)))
    near = np.asarray(ndimage.distance_transform_edt(~skeleton)) <= 1.0
    middle = (np.abs(across) < 0.5) & mask & inner
    assert near[middle].mean() > 0.99
    assert (np.abs(across[skeleton & inner]) < 1.5).mean() > 0.98
    assert skeleton[inner].sum() < 2.5 * middle.sum()


def test_an_open_membrane_stays_a_surface_where_thinning_makes_it_a_curve():
    mask, across, inner = structure("cap", 4.0)
    middle = (np.abs(across) < 0.5) & mask & inner
    ours, thinned = np.asarray(skeleton_of(jnp.asarray(mask))), skeletonize(mask)
    near = [ndimage.distance_transform_edt(~s) <= 1.5 for s in (ours, thinned)]
    assert near[0][middle].mean() > 0.99
    assert near[1][middle].mean() < 0.5


def test_a_lone_annotated_slice_has_the_skeleton_of_its_plane():
    mask, _, _ = structure("oblique", 4.0)
    plane = np.zeros(mask.shape, bool)
    plane[15] = True
    alone = np.asarray(skeleton_of(jnp.asarray(mask), jnp.asarray(plane)))
    flat = np.asarray(skeleton_of(jnp.asarray(mask[15][None])))[0]
    np.testing.assert_array_equal(alone[15], flat)
    assert not alone[~plane].any() and flat.any()
    p = jnp.asarray(mask, jnp.float32)
    soft = np.asarray(soft_skeleton_of(p, jnp.asarray(plane)))
    np.testing.assert_array_equal(soft[15], np.asarray(soft_skeleton_of(p[15][None]))[0])
    assert not soft[~plane].any()


def test_what_is_thicker_than_the_depth_has_no_false_shell():
    slab = jnp.zeros((30, 8, 8), bool).at[3:27].set(True)
    assert not skeleton_of(slab).any()
    assert skeleton_of(slab[:, :, :].at[14:27].set(False))[8, 4, 4]  # 11 voxels: the 6th


def test_the_skeleton_of_a_microtubule_is_its_wall():
    """A hollow tube stays a tube; a solid rod becomes its axis."""
    across = np.hypot(GRID[..., 0], GRID[..., 2])
    wall = np.asarray(skeleton_of(jnp.asarray(np.abs(across - 9.2) < 2.0)))
    assert wall.any() and (np.abs(across[wall] - 9.2) < 1.0).mean() > 0.98
    axis = np.asarray(skeleton_of(jnp.asarray(across < 4.0)))[:, 8:-8]
    assert axis.any((0, 2)).all() and across[:, 8:-8][axis].max() < 1.5


def test_the_border_of_the_annotation_makes_no_skeleton():
    wall = jnp.zeros((9, 12, 12), bool).at[3:6].set(True)
    known = jnp.ones(wall.shape, bool).at[:, :, 6:].set(False)
    np.testing.assert_array_equal(skeleton_of(wall, known)[:, :, :6], skeleton_of(wall)[:, :, :6])


def reference_cl_dice(p, y, iterations, smooth=1.0):
    """Shit et al. 2021 with SciPy's grey morphology."""
    cross, cube = ndimage.generate_binary_structure(3, 1), np.ones((3, 3, 3), bool)

    def erode(v):
        return ndimage.grey_erosion(v, footprint=cross, mode="constant", cval=np.inf)

    def opened(v):
        return ndimage.grey_dilation(erode(v), footprint=cube, mode="constant", cval=-np.inf)

    def skeleton(v):
        s = np.maximum(v - opened(v), 0)
        for _ in range(iterations):
            v = erode(v)
            d = np.maximum(v - opened(v), 0)
            s = s + np.maximum(d - s * d, 0)
        return s

    sp, sy = skeleton(p), skeleton(y)
    precision = ((sp * y).sum() + smooth) / (sp.sum() + smooth)
    recall = ((sy * p).sum() + smooth) / (sy.sum() + smooth)
    return 1 - 2 * precision * recall / (precision + recall)


def test_cl_dice_is_the_published_one():
    rng = np.random.default_rng(0)
    for iterations in (1, 3):
        p = ndimage.gaussian_filter(rng.uniform(size=(9, 10, 11)), 1)
        p = (p - p.min()) / np.ptp(p) * 0.98 + 0.01
        y = (ndimage.gaussian_filter(rng.normal(size=p.shape), 1.2) > 0.1).astype(int)
        logits = jnp.asarray(np.log(p / (1 - p))[..., None], jnp.float32)
        found = jax.jit(losses.cl_dice, static_argnums=3)(
            logits, jnp.asarray(y), jnp.ones(y.shape), iterations
        )
        expected = reference_cl_dice(p, y.astype(float), iterations)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


ALL = {
    "cl_dice": losses.cl_dice,
    "surface_dice": losses.surface_dice,
    "skeleton_recall": losses.skeleton_recall,
}


@functools.cache
def run(name):
    return jax.jit(jax.value_and_grad(ALL[name]))


@pytest.mark.parametrize("name", ALL)
def test_a_hole_costs_more_than_a_thinner_membrane(name):
    """Both predictions miss a third of the voxels: one its flanks, one a piece of the surface."""
    wall = jnp.zeros(SHAPE, int).at[4:7].set(1)
    thin = jnp.zeros(SHAPE).at[5:7].set(1.0)
    torn = jnp.zeros(SHAPE).at[4:7, :8].set(1.0)
    weights = jnp.ones(wall.shape)
    cost = [
        float(run(name)(jnp.where(p[..., None] > 0, 30.0, -30.0), wall, weights)[0])
        for p in (thin, torn)
    ]
    assert cost[1] > 0.15 and cost[0] < 0.5 * cost[1]


@pytest.mark.parametrize("name", ALL)
def test_weights_weigh_the_skeletons(name):
    """Forgiven where the weight is small: missing the low half of a sheet costs little there."""
    wall = jnp.zeros(SHAPE, int).at[5:8].set(1)
    half = jnp.where(jnp.zeros(SHAPE).at[5:8, 6:].set(1.0)[..., None] > 0, 30.0, -30.0)
    low = jnp.ones(wall.shape).at[:, :6].set(0.1)
    plain = float(run(name)(half, wall, jnp.ones(wall.shape))[0])
    assert float(run(name)(half, wall, low)[0]) < 0.4 * plain


@pytest.mark.parametrize("name", ALL)
def test_absent_classes_are_perfect_and_several_classes_are_averaged(name):
    nothing = jnp.zeros(SHAPE, int)
    weights = jnp.ones(nothing.shape)
    loss, gradient = run(name)(jnp.full((*SHAPE, 1), -200.0), nothing, weights)
    assert float(loss) == 0 and not np.asarray(gradient).any()
    loss, gradient = run(name)(jnp.full((*SHAPE, 1), jnp.nan), nothing, 0 * weights)
    assert float(loss) == 0 and not np.asarray(gradient).any()
    wall = nothing.at[2:5].set(1)
    sure = 60.0 * jax.nn.one_hot(wall, 3)
    sure = sure.at[..., 2].set(-60.0)
    assert float(run(name)(sure, wall, weights)[0]) < 1e-3
    blind = jnp.zeros((*SHAPE, 3)).at[..., 0].set(60.0)
    single = float(run(name)(jnp.full((*SHAPE, 1), -60.0), wall, weights)[0])
    assert float(run(name)(blind, wall, weights)[0]) == pytest.approx(single / 2, abs=1e-3)


@pytest.mark.parametrize("name", ALL)
def test_a_batch_is_scored_as_one(name):
    """Sums run over the batch: of two equal volumes they are twice those of one."""
    rng = np.random.default_rng(1)
    logits = jnp.asarray(rng.normal(size=(7, 7, 7, 1)), jnp.float32)
    labels = jnp.asarray(ndimage.gaussian_filter(rng.normal(size=(7, 7, 7)), 1) > 0, jnp.int32)
    weights = jnp.ones(labels.shape)
    loss = jax.jit(ALL[name])
    twice = loss(*(jnp.stack([a, a]) for a in (logits, labels, weights)), smooth=2.0)
    np.testing.assert_allclose(twice, loss(logits, labels, weights, smooth=1.0), rtol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_gradients_in_float64(name, x64):
    """At random logits: where neighbours tie, a minimum has no derivative."""
    rng = np.random.default_rng(2)
    logits = jnp.asarray(rng.normal(size=(5, 5, 5, 1)))
    labels = jnp.zeros((5, 5, 5), int).at[1:4].set(1)
    weights = jnp.asarray(rng.uniform(size=labels.shape))
    extra = {} if name == "skeleton_recall" else {"iterations": 1}
    f = jax.jit(lambda z: ALL[name](z, labels, weights, **extra))
    check_grads(f, (logits,), order=1, modes=("rev",), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_finite_at_ties_and_when_saturated(name):
    labels = jnp.zeros(SHAPE, int).at[2:5].set(1)
    for fill in (0.0, 3.0, 1e4, -1e4):
        loss, gradient = run(name)(jnp.full((*SHAPE, 1), fill), labels, jnp.ones(SHAPE))
        assert np.isfinite(loss) and np.isfinite(gradient).all()
