"""Strict settings for every test and doctest: no silent promotion, no warnings."""

import os

# Two test workers share the cores; one intra-op pool each would only fight.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import matplotlib
import pytest

matplotlib.use("Agg")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def key():
    return jax.random.key(20260)


@pytest.fixture
def x64():
    """Float64 arithmetic, for gradient checks and comparisons with a reference."""
    with jax.enable_x64(True):
        yield
