"""Tests of the optimizers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cryojax_seg.training import TrainConfig
from cryojax_seg.training.optimizer import optimizer, orthogonalized


@pytest.mark.parametrize("rule", ("adamw", "muon"))
def test_only_kernels_decay(rule):
    params = {"kernel": jnp.ones((2, 2)), "threshold": jnp.ones(()), "bias": jnp.ones(3)}
    transform = optimizer(TrainConfig(optimizer=rule, weight_decay=0.1, warmup=0.0))
    zero = jax.tree.map(jnp.zeros_like, params)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = transform.update(zero, transform.init(params), params)
    assert (np.asarray(updates["kernel"]) < 0).all()
    assert float(updates["threshold"]) == 0
    assert (np.asarray(updates["bias"]) == 0).all()


def test_muon_moves_a_kernel_orthogonally_and_a_bias_as_adam_does():
    """The step is 0.2 sqrt(inputs) times a matrix of singular values near 1."""
    params = {"kernel": jnp.zeros((3, 3, 3, 4, 8)), "bias": jnp.zeros(3)}
    gradient = {
        "kernel": jax.random.normal(jax.random.key(0), (3, 3, 3, 4, 8)),
        "bias": jnp.array([1.0, -2.0, 3.0]),
    }
    transform = optimizer(TrainConfig(optimizer="muon", clip=100.0))
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = transform.update(gradient, transform.init(params), params)
    matrix = np.asarray(updates["kernel"]).reshape(108, 8) / (0.2 * np.sqrt(108))
    values = np.linalg.svd(matrix, compute_uv=False)
    assert (values > 0.6).all() and (values < 1.3).all()  # five iterations do not converge fully
    # Downhill: the kernel against its gradient, the bias by equal steps as at Adam's first.
    assert np.sum(matrix * np.asarray(gradient["kernel"]).reshape(108, 8)) < 0
    size = abs(float(updates["bias"][0]))
    np.testing.assert_allclose(updates["bias"], [-size, size, -size], rtol=1e-5)


@pytest.mark.parametrize("shape", [(216, 16), (6, 30), (8, 8), (5, 1)])
@pytest.mark.parametrize("spread", [0, 6])
def test_orthogonalized_maps_singular_values_as_the_iterations_do(shape, spread):
    """Also those of six orders of magnitude, whose squares are lost in rounding."""
    rng = np.random.default_rng(0)
    u, values, v = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    values = values * np.logspace(0, -spread, len(values))
    matrix = (u * values) @ v
    expected = values / np.linalg.norm(values)
    for _ in range(5):
        expected = 3.4445 * expected - 4.775 * expected**3 + 2.0315 * expected**5
    truth = (u * expected) @ v
    for scale in (1e-3, 1.0, 1e6):
        found = orthogonalized(jnp.asarray(scale * matrix, jnp.float32))
        assert np.linalg.norm(found - truth) < 2e-3 * np.linalg.norm(truth)


def test_orthogonalized_leaves_zero():
    np.testing.assert_array_equal(orthogonalized(jnp.zeros((4, 3))), np.zeros((4, 3)))
