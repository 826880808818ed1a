"""Strict settings for every test and doctest: no silent promotion, no warnings."""

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import platformdirs
import pytest

matplotlib.use("Agg")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def _kept() -> Path:
    """The folder of compiled programs of this jaxlib on this kind of processor."""
    with contextlib.suppress(OSError):
        flags = next(n for n in Path("/proc/cpuinfo").read_text().splitlines() if "flags" in n)
        kind = hashlib.sha256(flags.encode()).hexdigest()[:12]
        return _folder(kind)
    return _folder(platform.machine())


def _folder(kind: str) -> Path:
    version = importlib.metadata.version("jaxlib")
    return platformdirs.user_cache_path("cryojax-seg") / "tests" / f"jaxlib-{version}-{kind}"


# Nine tenths of the time goes into compiling, so what is compiled is kept from run to run, and is
# shared by the workers and the programs that tests start. Also the smallest programs: there are
# thousands, and reading one takes a quarter of the time of compiling it. JAX sets no limit to the
# folder, with which every new file would look at all others; see `pytest_unconfigure`.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_kept()))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)

QUICK = {"xla_backend_optimization_level": 0}  # compiles in a third of the time
# Where programs run for long, or need all digits of float64 (which some lose when optimized less),
# they are optimized as for users; elsewhere less, as compiling takes nine tenths of the time.
OPTIMIZED = ("training", "inference", "restore", "simulate", "view", "experiments", "cli", "test_")


UNUSED = 14 * 24 * 3600  # seconds after which a compiled program goes
MOST = 3 * 2**30  # bytes that a process may hold before it forgets its compiled programs


def pytest_unconfigure(config):
    """Removes compiled programs that no run has used for two weeks."""
    if hasattr(config, "workerinput"):  # a worker; the run itself does it
        return
    for file in _kept().glob("*"):
        with contextlib.suppress(OSError):  # another run may have removed it
            if time.time() - file.stat().st_atime > UNUSED:
                file.unlink()


def _resident() -> int:
    """Bytes of memory that this process holds; 0 where the system does not say."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


@pytest.fixture(autouse=True, scope="module")
def programs(request):
    """Compiles quickly; compiled programs stay in memory until they take much of it."""
    place = request.path.relative_to(request.config.rootpath).parts[1:]
    jax.config.update("jax_disable_most_optimizations", not place[0].startswith(OPTIMIZED))
    yield
    if _resident() > MOST:
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


@pytest.fixture(scope="session")
def balls():
    """A noisy volume with dark balls, and their labels."""
    shape = (16, 40, 40)
    rng = np.random.default_rng(0)
    volume, labels, grid = rng.normal(size=shape), np.zeros(shape, np.int8), np.indices(shape)
    for centre in ((5, 9, 30), (8, 28, 10), (11, 14, 8), (4, 30, 32)):
        away = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
        volume -= 5 * np.exp(-away / 8)
        labels[away <= 9] = 1
    return volume.astype(np.float32), labels


@pytest.fixture
def write(tmp_path):
    """Writes an array as an MRC file and returns its path."""
    from cryojax_seg import io

    def to_file(name, values, size=10.0):
        io.write_mrc(tmp_path / name, values, voxel_size=size, overwrite=True)
        return tmp_path / name

    return to_file
