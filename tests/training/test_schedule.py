"""The learning rate rises, stays and falls; a fall over all steps is the cosine of optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cryojax_seg.training import TrainConfig
from cryojax_seg.training.schedule import learning_rate, phases


def rates(config, steps):
    planned = jnp.asarray(phases(config))
    return np.array([learning_rate(config, planned, jnp.int32(step)) for step in steps])


def test_the_rate_rises_stays_and_falls():
    config = TrainConfig(steps=100, warmup=0.1, decay=0.2, learning_rate=1.0)
    values = rates(config, range(101))
    np.testing.assert_allclose(values[[0, 10, 80, 90, 100]], [0.01, 1, 1, 0.505, 0.01], rtol=1e-5)
    assert (np.diff(values[:11]) > 0).all()
    assert (values[10:81] == 1).all()
    assert (np.diff(values[80:]) < 0).all()


def test_a_fall_from_the_peak_on_is_a_cosine():
    config = TrainConfig(steps=60, warmup=6, decay=1.0, learning_rate=0.5)
    cosine = optax.warmup_cosine_decay_schedule(0.005, 0.5, 6, 60, 0.005)
    with jax.numpy_dtype_promotion("standard"):
        expected = [cosine(jnp.float32(step)) for step in range(61)]
    np.testing.assert_allclose(rates(config, range(61)), expected, rtol=1e-5)


def test_the_shortest_runs_have_phases_too():
    assert phases(TrainConfig(steps=1, warmup=50)) == (1, 1, 1)
    assert phases(TrainConfig(steps=3, warmup=0.0, decay=0.0)) == (1, 3, 3)
    assert np.isfinite(rates(TrainConfig(steps=1), [0, 1, 2])).all()
