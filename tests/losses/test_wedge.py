"""Losses that know the wedge: their effect on phantoms with a known answer, and gradients."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

from cryojax_seg import losses
from cryojax_seg.core import MissingWedge, Segmenter
from cryojax_seg.core.rotation import cube_rotations, rotate_by_transposing, rotate_on_grid
from cryojax_seg.losses import consistency
from cryojax_seg.losses import wedge as wedge_losses
from cryojax_seg.segmenters import GlobalThreshold, LinearVote
from cryojax_seg.training import Batch
from cryojax_seg.training.samples import canonical

EDGE = 24
WEDGE = MissingWedge((-60.0, 60.0))
GRID = np.stack(np.meshgrid(*[np.arange(EDGE) - (EDGE - 1) / 2] * 3, indexing="ij"), -1)
FACING_X = np.eye(3)[2]  # its spectrum was measured
FACING_BEAM = np.eye(3)[0]  # its spectrum lies in the wedge


# Compiled for a few calls on small volumes: quick to compile matters, quick to run does not.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
# Compiled once for all tests: operation by operation they are hundreds of programs.
measured_by = jax.jit(MissingWedge.apply)
transfer_of = jax.jit(MissingWedge.transfer, static_argnums=1)
visibility_weights = jax.jit(wedge_losses.visibility_weights, static_argnums=1)


class Answer(Segmenter):
    """Whatever logits it is given, for any volume: what an objective makes of an answer."""

    halo, stride, classes = 0, 1, ("membrane",)

    def __init__(self, logits):
        self.logits = nnx.Param(logits)

    def __call__(self, volume):
        return self.logits[...]


def sheet(normal, offset=0.0, reach=8.0, width=1.2):
    """A round patch of membrane in the middle: its profile, 1 in the middle plane."""
    across = GRID @ normal - offset
    along = np.sqrt(np.maximum((GRID**2).sum(-1) - (GRID @ normal) ** 2, 0))
    return np.exp(-0.5 * (across / width) ** 2) / (1 + np.exp(2 * (along - reach)))


def answer(probability, dtype=np.float32):
    p = np.clip(probability, 1e-4, 1 - 1e-4)
    return Answer(jnp.asarray(np.log(p / (1 - p))[..., None], dtype))


def batch_of(density, truth=None, normals=None, halves=None, wedge=WEDGE, dtype=np.float32, seed=0):
    """A batch of one patch that was measured with the wedge."""
    volume = np.asarray(measured_by(wedge, jnp.asarray(density, jnp.float32)), dtype)
    truth = density > 0.5 if truth is None else truth
    one = Batch(
        volume=jnp.asarray(volume),
        labels=jnp.asarray(truth, jnp.int32),
        weights=jnp.ones(density.shape, dtype),
        wedge=canonical(wedge),
        normals=None if normals is None else jnp.asarray(normals, dtype),
        halves=None if halves is None else jnp.asarray(halves, dtype),
        key=jax.random.key(seed),
    )
    return jax.tree.map(lambda leaf: leaf[None], one)


def value(objective, segmenter, batch):
    return float(quick(objective)(segmenter, batch))


def two_sheets():
    """A sheet facing x and one facing the beam, apart, with their normals."""
    seen, lost = sheet(FACING_X, -6.0, 5.0), sheet(FACING_BEAM, 7.0, 5.0)
    normals = np.where((seen > 0.5)[..., None], FACING_X, 0.0)
    return seen, lost, np.where((lost > 0.5)[..., None], FACING_BEAM, normals)


def test_emphasis_forgives_or_insists_on_what_cannot_be_seen():
    seen, lost, normals = two_sheets()
    batch = batch_of(np.maximum(seen, lost), normals=normals)
    low = float(WEDGE.visibility(jnp.asarray(FACING_BEAM, jnp.float32)))
    high = float(WEDGE.visibility(jnp.asarray(FACING_X, jnp.float32)))
    assert low < 0.3 < 0.7 < high
    for emphasis in (-1.0, 0.0, 3.0):
        weights = np.asarray(visibility_weights(batch, emphasis))[0]
        inside = (seen > 0.5) & ~(lost > 0.5)
        np.testing.assert_allclose(weights[inside], 1 + emphasis * (1 - high), rtol=1e-5)
        np.testing.assert_allclose(weights[lost > 0.5], 1 + emphasis * (1 - low), rtol=1e-5)
        np.testing.assert_array_equal(weights[(seen <= 0.5) & (lost <= 0.5)], 1.0)


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.dice], ids=["ce", "dice"])
def test_losing_the_invisible_sheet_costs_as_much_as_emphasis_says(loss):
    seen, lost, normals = two_sheets()
    batch = batch_of(np.maximum(seen, lost), normals=normals)
    plain = losses.supervised(loss)
    missed = answer((seen > 0.5) * 1.0)  # finds only what was measured
    cost = {e: value(losses.visibility_weighted(plain, e), missed, batch) for e in (-1.0, 0.0, 4.0)}
    assert cost[0.0] == pytest.approx(value(plain, missed, batch), rel=1e-6)
    for emphasis, found in cost.items():
        weights = np.asarray(visibility_weights(batch, emphasis))[0]
        hit, miss = weights[seen > 0.5].sum(), weights[(lost > 0.5) & ~(seen > 0.5)].sum()
        expected = miss / (2 * hit + miss)  # Dice; and -log(1e-4) for each missed voxel
        if loss is losses.cross_entropy:
            expected = -np.log(1e-4) * miss / weights.sum()
        assert found == pytest.approx(expected, rel=0.05)  # probabilities stop at 1e-4
    assert cost[-1.0] < 0.5 * cost[0.0] < 0.5 * cost[4.0]


def test_emphasis_below_minus_one_and_missing_arguments_are_refused():
    batch = batch_of(sheet(FACING_X))
    segmenter = GlobalThreshold(0.5)
    plain = losses.supervised(losses.dice)
    with pytest.raises(ValueError, match="emphasis must be at least -1"):
        losses.visibility_weighted(plain, -2.0)(segmenter, batch)
    with pytest.raises(ValueError, match="needs the normals"):
        losses.visibility_weighted(plain, 1.0)(segmenter, batch)
    with pytest.raises(ValueError, match="needs the half tomograms"):
        losses.equivariant(halves=True)(segmenter, batch)
    with pytest.raises(ValueError, match="needs random keys"):
        losses.equivariant()(segmenter, dataclasses.replace(batch, key=None))
    with pytest.raises(ValueError, match="needs the missing wedge"):
        losses.equivariant()(segmenter, dataclasses.replace(batch, wedge=None))


def test_the_density_of_probabilities_is_the_least_squares_solution():
    """Against NumPy in float64, built from the definition."""
    rng = np.random.default_rng(1)
    volume, p = rng.normal(size=(10, 9, 8)), rng.uniform(size=(10, 9, 8, 2))
    with jax.enable_x64(True):
        transfer = transfer_of(WEDGE, volume.shape)
        density, left = jax.jit(consistency.explain, static_argnums=3)(volume, p, transfer, (1.0,))
    mask = np.asarray(transfer)
    k = np.meshgrid(*[np.fft.fftfreq(n) for n in (10, 9)], np.fft.rfftfreq(8), indexing="ij")
    window = np.exp(-2 * np.pi**2 * sum(f**2 for f in k))

    def filtered(v, gain):
        return np.fft.irfftn(np.fft.rfftn(v) * gain, s=v.shape, axes=(0, 1, 2))

    basis = [np.ones_like(volume)] + [filtered(p[..., c], window) for c in range(2)]
    columns = np.stack([filtered(b, mask).ravel() for b in basis], 1)
    target = filtered(volume, mask).ravel()
    found = np.linalg.lstsq(columns, target, rcond=None)[0]
    expected = sum(c * b for c, b in zip(found, basis, strict=True))
    # The ridge is 1e-6 of each basis function's energy.
    np.testing.assert_allclose(density, expected, atol=1e-4 * np.abs(expected).max())
    best = np.square(target - columns @ found).sum()
    assert best <= float(np.square(np.asarray(left)).sum()) <= best * (1 + 1e-5)


def test_every_turning_moves_the_wedge():
    @jax.jit
    def turn(key):
        matrix = consistency.random_rotation(WEDGE, (8, 8, 8), key)
        turned = WEDGE.rotate(matrix.astype(jnp.float32))
        return matrix, jnp.abs(turned.transfer((16,) * 3) - WEDGE.transfer((16,) * 3)).mean()

    for seed in range(20):
        matrix, moved = turn(jax.random.key(seed))
        assert abs(np.linalg.det(matrix)) == pytest.approx(1)
        assert moved > 0.1


class Filled(Segmenter):
    """A threshold on a volume that it first completes, if told to, by knowing the truth."""

    halo, stride, classes = 0, 1, ("membrane",)

    def __init__(self, bias):
        self.bias = nnx.Param(jnp.asarray(bias, jnp.float32))

    def __call__(self, volume):
        return 10.0 * (volume[..., None] - self.bias[...])


def test_consistency_asks_for_the_measured_membrane_after_it_was_turned_away():
    """A segmenter that finds nothing after rotation is inconsistent; one whose answers turn is not.

    `Filled` is a threshold: it cannot see a sheet once it is in the wedge. The loss falls when the
    volume has no wedge at all, where a rotation loses nothing.
    """
    density = sheet(FACING_X, reach=9.0)
    full = MissingWedge((-90.0, 90.0))
    objective = losses.equivariant(noise=False)
    blind = np.mean([value(objective, Filled(0.5), batch_of(density, seed=s)) for s in range(3)])
    free = value(objective, Filled(0.5), batch_of(density, wedge=full))
    assert free < 1e-3 < 0.1 < blind


@pytest.mark.parametrize(("normal", "share"), [(FACING_BEAM, (0, 0.35)), (FACING_X, (0.65, 1))])
def test_consistency_counts_what_was_measured_before_the_rotation(normal, share):
    """Of a sheet that only one answer has, the difference is the measured part of its energy.

    Little of it for a sheet that faced the beam: what a small patch has beyond its plane wave.
    """
    common = sheet(FACING_X, -7.0, 5.0)
    more = common + sheet(normal, 6.0, 9.0)
    answers = (jnp.asarray(a[..., None], jnp.float32) for a in (common, more))
    difference, _ = jax.jit(consistency.disagreement)(*answers, WEDGE)
    extra = np.fft.rfftn(more - common)
    measured = np.fft.irfftn(
        extra * np.asarray(transfer_of(WEDGE, common.shape)), common.shape, (0, 1, 2)
    )
    np.testing.assert_allclose(difference, np.square(measured).sum(), rtol=1e-4)
    assert share[0] < difference / np.square(more - common).sum() < share[1]


def test_halves_teach_each_other():
    """With halves the volume itself is not looked at."""
    density = sheet(FACING_X)
    rng = np.random.default_rng(0)
    halves = density + 0.1 * rng.normal(size=(2, *density.shape))
    batch = batch_of(density, halves=halves)
    objective = losses.equivariant(halves=True)
    other = dataclasses.replace(batch, volume=batch.volume * 0)
    segmenter = Filled(0.5)
    assert value(objective, segmenter, batch) == value(objective, segmenter, other)
    swapped = dataclasses.replace(batch, halves=batch.halves * 0)
    assert value(objective, segmenter, batch) != value(objective, segmenter, swapped)


OBJECTIVES = {
    "visibility": losses.visibility_weighted(
        losses.supervised(losses.combine(losses.cross_entropy, losses.dice)), 2.0
    ),
    "equivariant": losses.equivariant(noise=False),
}
differentiated = {name: quick(jax.value_and_grad(f)) for name, f in OBJECTIVES.items()}


def small_batch(dtype=np.float32):
    crop = (slice(8, 16),) * 3
    seen, lost, normals = two_sheets()
    noise = 0.3 * np.random.default_rng(2).normal(size=(8, 8, 8))
    batch = batch_of(
        sheet(FACING_X)[crop] + noise, np.maximum(seen, lost)[crop] > 0.3, normals[crop]
    )
    return jax.tree.map(
        lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, batch
    )


class Pupil(Segmenter):
    """A vote with a bias that its first call, the teacher's, does not follow."""

    halo, stride, classes = 1, 1, ("membrane",)

    def __init__(self, kernel, bias, teacher=None):
        self.kernel, self.bias, self.teacher = nnx.Param(kernel), nnx.Param(bias), teacher
        self.calls = nnx.static([])

    def __call__(self, volume):
        first = not self.calls
        self.calls.append(1)
        bias = self.teacher if first and self.teacher is not None else self.bias[...]
        shifted = [jnp.roll(volume, i, 0) * self.kernel[...][i] for i in range(3)]
        return (shifted[0] + shifted[1] + shifted[2] + bias)[..., None]


class Taught(Segmenter):
    """Gives fixed probabilities to its first call, the teacher's, and its logits afterwards."""

    halo, stride, classes = 0, 1, ("membrane",)

    def __init__(self, teacher, logits):
        self.teacher, self.logits = nnx.Param(teacher), nnx.Param(logits)
        self.calls = nnx.static([])

    def __call__(self, volume):
        self.calls.append(1)
        answer = self.teacher if len(self.calls) == 1 else self.logits
        return answer[...][..., None]


def test_a_teacher_that_is_not_confident_teaches_nothing():
    """The gradient is exactly 0 for each voxel about which it is unsure, and no others."""
    batch, rng = small_batch(), np.random.default_rng(3)
    p = rng.choice([0.02, 0.4, 0.88, 0.97], size=(8, 8, 8)).astype(np.float32)
    unsure = ((p > 0.1) & (p < 0.9)).sum()
    logits = jnp.asarray(rng.normal(size=p.shape), jnp.float32)

    def gradient(confidence, teacher):
        def f(logits):
            segmenter = Taught(jnp.log(teacher / (1 - teacher)), logits)
            return losses.equivariant(noise=False, confidence=confidence)(segmenter, batch)

        return jax.jit(jax.value_and_grad(f))(logits)

    _, found = gradient(0.9, p)
    assert (np.asarray(found) == 0).sum() == unsure
    value, found = gradient(0.9, np.full_like(p, 0.6))
    assert float(value) == 0 and not np.asarray(found).any()
    assert np.asarray(gradient(0.5, p)[1]).all()
    with pytest.raises(ValueError, match="from 0.5 to below 1, got 1"):
        losses.equivariant(confidence=1.0)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_in_float64(name, x64):
    """Against differences, in the bias of a vote.

    The residual of `explain` is minimal in the constants it holds fixed, up to its ridge of 1e-6.
    The teacher of the consistency is fixed by design.
    """
    batch = small_batch(np.float64)
    kernel = jnp.asarray([0.5, 1.0, -0.7])
    teacher = 0.1 if name == "equivariant" else None

    @jax.jit
    def f(bias):
        return OBJECTIVES[name](Pupil(kernel, bias, teacher), batch)

    assert abs(float(jax.grad(f)(jnp.asarray(0.1)))) > 1e-5
    check_grads(f, (jnp.asarray(0.1),), 1, ("rev",), rtol=2e-3, atol=1e-8)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("content", ["zero", "constant", "nan", "saturated"])
def test_gradients_are_finite_at_degenerate_points(name, content):
    batch = small_batch()
    fill = {"zero": 0.0, "constant": 3.0, "saturated": 1e4, "nan": np.nan}[content]
    volume = batch.volume * 0 + fill if content != "nan" else batch.volume.at[0, 1, 2, 3].set(fill)
    batch = dataclasses.replace(batch, volume=volume)
    _, gradient = differentiated[name](LinearVote(1), batch)
    for leaf in jax.tree.leaves(gradient):
        assert np.isfinite(leaf).all()


def test_unannotated_batches_teach_nothing_where_labels_are_asked_for():
    batch = small_batch()
    batch = dataclasses.replace(batch, weights=0 * batch.weights)
    loss, gradient = differentiated["visibility"](LinearVote(1), batch)
    assert float(loss) == 0
    assert all(np.abs(leaf).max() == 0 for leaf in jax.tree.leaves(gradient))


def test_known_and_traced_rotations_move_alike():
    rng = np.random.default_rng(0)
    cube, turn = rng.normal(size=(4, 4, 4, 2)).astype(np.float32), jax.jit(rotate_on_grid)
    for matrix in cube_rotations((4, 4, 4)):
        (gathered,) = turn(matrix, cube)
        np.testing.assert_array_equal(rotate_by_transposing(matrix, cube), gathered)
