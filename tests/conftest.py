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
import matplotlib
import pytest

matplotlib.use("Agg")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


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
