"""Convolutions by every way against the native one, scipy and analytic gradients."""

import subprocess
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from jax.test_util import check_grads

from cryojax_seg.core import convolution, large_kernels, onednn
from cryojax_seg.core.convolution import conv3d


def native(volume, kernel):
    return jax.lax.conv_general_dilated(
        volume[None], kernel, (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )[0]


CASES = [
    ((6, 7, 8, 1), (3, 3, 3, 1, 4)),
    ((6, 8, 8, 2), (5, 3, 3, 2, 3)),
    ((5, 12, 9, 4), (3, 3, 3, 4, 6)),
    ((6, 7, 8, 3), (2, 4, 3, 3, 2)),  # even kernels pad more at the end
    ((1, 3, 2, 5), (3, 5, 3, 5, 4)),  # thinner than the kernel
    ((6, 7, 8, 3), (1, 1, 1, 3, 2)),
    ((9, 8, 7, 1), (5, 5, 5, 1, 3)),  # large ones, through the FFT
    ((7, 12, 9, 2), (6, 5, 7, 2, 3)),
    ((2, 9, 3, 5), (7, 8, 9, 5, 6)),  # thinner than a large kernel
]
WAYS = ["products", pytest.param("onednn", marks=pytest.mark.skipif(
    not onednn.available(), reason="jaxlib carries no oneDNN that is known here"
))]  # fmt: skip


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """Both ways of a CPU, whatever this machine would choose."""
    monkeypatch.setattr(onednn, "available", lambda: request.param == "onednn")
    return request.param


@pytest.mark.parametrize("shape, kernel_shape", CASES, ids=str)
def test_it_is_the_native_convolution(shape, kernel_shape, way, key):
    keys = jax.random.split(key, 3)
    volume, kernel = jax.random.normal(keys[0], shape), jax.random.normal(keys[1], kernel_shape)
    cotangent = jax.random.normal(keys[2], (*shape[:3], kernel_shape[-1]))

    def with_gradient(conv, volume, kernel):
        value, pull = jax.vjp(conv, volume, kernel)
        return value, *pull(cotangent)

    expected = jax.jit(partial(with_gradient, native))(volume, kernel)
    found = jax.jit(partial(with_gradient, lambda v, k: conv3d(v, k)))(volume, kernel)
    for ours, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, reference, atol=1e-5 * float(jnp.abs(reference).max()))


def test_it_against_scipy(way, key):
    volume, kernel = jax.random.normal(key, (2, 7, 7, 7))
    kernel = kernel[:5, 1:6, :7]
    channels = jnp.stack([volume, volume[::-1], 2 * volume], -1)
    taps = jnp.stack([kernel, 0.5 * kernel, -kernel], -1)[..., None]
    ours = jax.jit(lambda v, k: conv3d(v, k))(channels, taps)[..., 0]
    expected = sum(
        scipy.ndimage.correlate(
            np.asarray(channels[..., i], np.float64), np.asarray(taps[..., i, 0]), mode="constant"
        )
        for i in range(3)
    )
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_a_large_plane_is_cut_into_rows(key):
    """A plane too big for one block is cut into rows; rows that do not divide it are not used."""
    for height, rows in ((96, 32), (97, 97)):
        volume = jax.random.normal(key, (2, height, 100, 8))
        kernel = jax.random.normal(key, (3, 3, 3, 8, 2))
        assert convolution._rows(volume.shape, 9, 4) == rows
        pads = convolution._same(kernel)
        found = jax.jit(partial(convolution._products, pads=pads))(volume, kernel)
        np.testing.assert_allclose(found, native(volume, kernel), atol=2e-4)


@pytest.mark.parametrize("bytes_", [1, 3000, 10**9])
def test_kernel_gradients_by_blocks_of_planes(bytes_, monkeypatch, key):
    """Blocks of one plane, of several that do not divide the depth, and one block."""
    if not onednn.available():
        pytest.skip("jaxlib carries no oneDNN that is known here")
    monkeypatch.setattr(onednn, "_BLOCK_BYTES", bytes_)
    volume, kernel = jax.random.normal(key, (7, 6, 5, 4)), jnp.zeros((3, 2, 4, 4, 3))
    cotangent = jax.random.normal(key, (7, 6, 5, 3))
    pads = convolution._same(kernel)
    run = jax.jit(partial(onednn.kernel_gradient, size=kernel.shape[:3], pads=pads))
    found = run(volume, cotangent)
    expected = jax.vjp(partial(native, volume), kernel)[1](cotangent)[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("size, channels", [(3, 1), (3, 4), (5, 3)])
def test_gradients_in_float64(size, channels, x64, key):
    volume = jax.random.normal(key, (4, 5, 3, channels), jnp.float64)
    kernel = jax.random.normal(key, (size, size, size, channels, 2), jnp.float64)
    assert large_kernels.is_large(kernel) == (size == 5)
    conv = jax.jit(lambda v, k: conv3d(v, k))
    check_grads(conv, (volume, kernel), order=1, modes=("rev",))
    batched = jax.vmap(conv3d, in_axes=(0, None))(jnp.stack([volume, 2 * volume]), kernel)
    np.testing.assert_allclose(batched[1], 2 * conv3d(volume, kernel), rtol=1e-12)


@pytest.mark.parametrize("kernel_shape", [(5, 7, 5, 1, 8), (9, 9, 9, 8, 5)], ids=str)
def test_large_kernels_are_as_accurate_as_float32(kernel_shape, key):
    """Against sums in float64, values and gradients differ by at most 2e-6 of the largest."""
    assert large_kernels.is_large(jnp.zeros(kernel_shape))
    keys, (*size, inputs, outputs) = jax.random.split(key, 3), kernel_shape
    volume = jax.random.normal(keys[0], (12, 11, 10, inputs))
    kernel = jax.random.normal(keys[1], kernel_shape)
    cotangent = jax.random.normal(keys[2], (*volume.shape[:3], outputs))
    value, pull = jax.vjp(jax.jit(lambda v, k: conv3d(v, k)), volume, kernel)
    found = (value, *pull(cotangent))
    v, k, c = (np.asarray(a, np.float64) for a in (volume, kernel, cotangent))
    padded = np.pad(v, [*[(n // 2, n // 2) for n in size], (0, 0)])
    expected = [
        np.zeros(c.shape),
        np.zeros(padded.shape),
        np.zeros(k.shape),
    ]
    for taps in np.ndindex(*size):
        part = tuple(slice(t, t + n) for t, n in zip(taps, v.shape[:3], strict=True))
        expected[0] += padded[part] @ k[taps]
        expected[1][part] += c @ k[taps].T
        expected[2][taps] = np.einsum("zyxi,zyxo->io", padded[part], c)
    inner = tuple(slice(n // 2, n // 2 + m) for n, m in zip(size, v.shape[:3], strict=True))
    expected[1] = expected[1][inner]
    for ours, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, reference, 0, 2e-6 * np.abs(reference).max())


@pytest.mark.parametrize("axes", [(0, None), (1, 0), (None, 4)], ids=str)
@pytest.mark.parametrize("size", [3, 5])
def test_any_axis_of_either_argument_is_mapped(axes, size, way, key):
    keys = jax.random.split(key, 2)
    shape, kernel_shape = [5, 6, 4, 3], [size, size, size, 3, 2]
    for sizes, axis in zip((shape, kernel_shape), axes, strict=True):
        if axis is not None:
            sizes.insert(axis, 2)
    volumes, kernels = jax.random.normal(keys[0], shape), jax.random.normal(keys[1], kernel_shape)
    found = jax.jit(jax.vmap(conv3d, in_axes=axes))(volumes, kernels)
    for i in range(2):
        volume = volumes if axes[0] is None else jnp.take(volumes, i, axes[0])
        kernel = kernels if axes[1] is None else jnp.take(kernels, i, axes[1])
        np.testing.assert_allclose(found[i], native(volume, kernel), atol=2e-4)


def test_sums_of_bfloat16_are_float32(way, key):
    """No more is lost than by rounding the factors and the result."""
    if way == "onednn" and jnp.bfloat16 not in onednn.types():
        pytest.skip("this processor does not multiply bfloat16")
    keys = jax.random.split(key, 2)
    volume = jax.random.normal(keys[0], (6, 6, 6, 8), jnp.bfloat16)
    kernel = jax.random.normal(keys[1], (3, 3, 3, 8, 4), jnp.bfloat16)
    found = jax.jit(lambda v, k: conv3d(v, k))(volume, kernel)
    assert found.dtype == jnp.bfloat16
    expected = native(volume.astype(jnp.float32), kernel.astype(jnp.float32))
    np.testing.assert_allclose(
        found.astype(jnp.float32), expected, atol=2**-8 * float(jnp.abs(expected).max())
    )


def test_another_device_contracts_over_the_batch(monkeypatch):
    """A custom gradient under vmap would become a grouped convolution, which cuDNN runs slowly."""
    monkeypatch.setattr(convolution, "_on_cpu", lambda: False)

    def loss(kernel, volumes):
        return jax.vmap(lambda v: conv3d(v, kernel))(volumes).sum()

    traced = jax.jit(jax.grad(loss)).trace(jnp.ones((3, 3, 3, 4, 5)), jnp.ones((2, 6, 6, 6, 4)))
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.convolution" in text
    assert "feature_group_count = 2" not in text and "batch_group_count = 2" not in text


def test_strided_forms_equal_the_strided_convolutions(key):
    volume = jax.random.normal(key, (4, 6, 8, 3))
    kernel = jax.random.normal(key, (2, 2, 2, 3, 5))
    expected = jax.lax.conv_general_dilated(
        volume[None], kernel, (2, 2, 2), "VALID", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )[0]
    np.testing.assert_allclose(convolution.downsample(volume, kernel), expected, atol=1e-5)
    # The transposed convolution is the adjoint of the one with inputs and outputs swapped.
    up = convolution.upsample(volume, kernel)
    other = jax.random.normal(jax.random.key(9), up.shape)
    down = convolution.downsample(other, kernel.swapaxes(3, 4))
    np.testing.assert_allclose(jnp.vdot(up, other), jnp.vdot(volume, down), rtol=1e-4)


class TestProbe:
    """oneDNN is used only where a separate process has shown that it works."""

    @pytest.fixture
    def runs(self, monkeypatch, tmp_path):
        """The commands that were run instead of the probe, and the status that each returns."""
        runs = {"status": 0, "commands": []}

        def run(command, **options):
            runs["commands"].append(command)
            return subprocess.CompletedProcess(command, runs["status"])

        monkeypatch.setattr(onednn.subprocess, "run", run)
        return runs

    def test_its_result_is_kept(self, runs, tmp_path):
        record = tmp_path / "folder" / "onednn"
        assert onednn._probed(record) and onednn._probed(record)
        assert len(runs["commands"]) == 1 and record.read_text() == "equal"

    def test_a_process_that_dies_turns_it_off(self, runs, tmp_path):
        runs["status"] = -4  # SIGILL, which a wrong field of the call leads to
        record = tmp_path / "onednn"
        assert not onednn._probed(record) and not onednn._probed(record)
        assert len(runs["commands"]) == 1

    def test_a_torn_record_is_made_again(self, runs, tmp_path):
        record = tmp_path / "onednn"
        record.write_text("equ")
        assert onednn._probed(record)
        assert record.read_text() == "equal"

    def test_other_versions_do_not_use_it(self, monkeypatch, runs):
        monkeypatch.setattr(onednn.importlib.metadata, "version", lambda name: "0.99.0")
        assert not onednn.available.__wrapped__() and not runs["commands"]

    def test_the_environment_turns_it_off(self, monkeypatch, runs):
        monkeypatch.setenv(onednn.SWITCH, "0")
        assert not onednn.available.__wrapped__() and not runs["commands"]

    @pytest.mark.skipif(not onednn.available(), reason="jaxlib carries no oneDNN that is known")
    def test_it_tells_a_wrong_result(self, monkeypatch):
        assert onednn.probe()
        convolve = onednn.convolve
        monkeypatch.setattr(onednn, "convolve", lambda v, k, pads: convolve(v, k, pads) * 1.01)
        assert not onednn.probe()
