"""Strict settings for every test and doctest: no silent promotion, no warnings."""

import os
import shutil
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# The workers and the programs that tests start share what they compile, for this run only. Also the
# smallest programs: there are thousands, and reading one takes a quarter of the time of compiling
# it. The folder has no limit of size, with which every new file would look at all others.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", f"{tempfile.gettempdir()}/cryojax-seg-compiled-{os.getpid()}"
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

QUICK = {"xla_backend_optimization_level": 0}  # compiles in a third of the time


def pytest_unconfigure():
    shutil.rmtree(f"{tempfile.gettempdir()}/cryojax-seg-compiled-{os.getpid()}", ignore_errors=True)


@pytest.fixture(autouse=True, scope="module")
def programs():
    """Compiled programs of one file at a time; those of all would take many gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture
def key():
    return jax.random.key(20260)


@pytest.fixture
def x64():
    """Float64 arithmetic, for gradient checks and comparisons with a reference."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def check_gradients():
    """Compares the gradient in each argument with a central difference along one direction.

    One compilation gives values and gradients, which `jax.test_util.check_grads` takes three for.
    """

    def check(function, *arguments, step=1e-5, rtol=1e-4):
        places = tuple(range(len(arguments)))
        compiled = jax.jit(jax.value_and_grad(function, argnums=places), compiler_options=QUICK)
        _, gradients = compiled(*arguments)
        for place, gradient in enumerate(gradients):
            assert np.isfinite(gradient).all()
            direction = jnp.cos(jnp.arange(gradient.size, dtype=gradient.dtype))
            direction = direction.reshape(gradient.shape)
            values = []
            for sign in (1, -1):
                moved = list(arguments)
                moved[place] = moved[place] + sign * step * direction
                values.append(compiled(*moved)[0])
            difference = (values[0] - values[1]) / (2 * step)
            np.testing.assert_allclose(jnp.vdot(gradient, direction), difference, rtol=rtol)
            assert abs(difference) > 1e-4, place

    return check
