"""Run 3D convolutions on x86 processors with oneDNN, which jaxlib carries inside.

XLA's own 3D convolution is the slowest path there is on a CPU. The CPU client of jaxlib holds
oneDNN, and a program that contains the custom call ``__onednn$convolution`` runs it, which is
faster (`experiments/benchmarks/convolution.py` measures how much). The call is private: its fields
change between versions, and a wrong field ends the process. So it is used only with the versions of
jaxlib that are listed, and only after a separate process has shown that it computes what the native
convolution does.

Programs that contain the call cannot be kept in JAX's persistent cache, so each process compiles
them again.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from cryojax_seg.core.types import Array, at_least_float32

VERSIONS = ("0.10.2",)  # of jaxlib, whose fields of the call are those written here
SWITCH = "CRYOJAX_SEG_ONEDNN"  # an environment variable; 0 turns the call off
_SECONDS = 120  # after which a probe has failed
_PROBE = 2  # raised when the probe changes, so that old results do not count
# Bytes of a block of the volume in a kernel gradient, for each output channel: more channels do
# more work with what they read. Best of 4 to 24 planes with 16 and 32 channels and 24 to 48 voxels.
_BLOCK_BYTES = 200_000
_RESULTS = {"equal": True, "different": False}

_convolution = Primitive("onednn_convolution")


def convolve(volumes: Array, kernel: Array, pads: tuple[tuple[int, int], ...]) -> Array:
    """Return the cross-correlation with zero padding; the caller asks `available` first.

    Args:
        volumes: ``(batch, z, y, x, in)``, of one of `types`.
        kernel: ``(kz, ky, kx, in, out)`` of the same type.
        pads: zeros before and after z, y and x.

    Returns:
        ``(batch, z, y, x, out)``, shorter than the padded volumes by the kernel less one. It is not
        differentiable.
    """
    return _convolution.bind(volumes, kernel, pads=pads)


def kernel_gradient(
    volume: Array, cotangent: Array, size: tuple[int, ...], pads: tuple[tuple[int, int], ...]
) -> Array:
    """Return the gradient of `convolve` of one volume with respect to its kernel.

    The gradient is a convolution too: the kernel is the cotangent, ``(z, y, 1, x, out)``, whose
    channels are x, and it moves over the volume in the form ``(z, y, tap in, x)`` that has a copy
    for each tap along x. It is computed for some planes at a time, which stay in the cache.

    It takes 0.4 to 0.7 of the time of products with gathered neighbourhoods for 24^3 voxels and
    fewer, 0.5 to 0.8 for 40^3 and 48^3 with 16 channels. With the taps along z as further outputs,
    it is as fast for 40^3 and slower for 24^3; a plane at a time, slower everywhere.

    Args:
        volume: ``(z, y, x, in)``, of one of `types`.
        cotangent: ``(z, y, x, out)`` of the same type.
        size: edges of the kernel.
        pads: zeros before and after z, y and x, together one less than the kernel is long.

    Returns:
        ``(kz, ky, kx, in, out)``.
    """
    depth, _, width, inputs = volume.shape
    kz, ky, kx = size
    outputs = cotangent.shape[-1]
    plane = math.prod(volume.shape[1:]) * kx * volume.dtype.itemsize
    most = max(_BLOCK_BYTES * outputs // plane - kz + 1, 1)
    count = -(-depth // most)
    planes = -(-depth // count)
    rest = count * planes - depth
    volume = jnp.pad(volume, ((pads[0][0], pads[0][1] + rest), (0, 0), pads[2], (0, 0)))
    cotangent = jnp.pad(cotangent, ((0, rest), (0, 0), (0, 0), (0, 0)))

    def block(i, total):
        near = jax.lax.dynamic_slice_in_dim(volume, i * planes, planes + kz - 1)
        near = jnp.concatenate([near[:, :, a : a + width] for a in range(kx)], axis=-1)
        change = jax.lax.dynamic_slice_in_dim(cotangent, i * planes, planes)
        around = ((0, 0), pads[1], (0, 0))
        part = convolve(near.swapaxes(2, 3)[None], change[:, :, None], around)[0]
        return total + part.astype(total.dtype)

    zero = jnp.zeros((kz, ky, kx * inputs, outputs), at_least_float32(volume.dtype))
    total = jax.lax.fori_loop(0, count, block, zero)
    return total.reshape(kz, ky, kx, inputs, outputs)


@functools.cache
def types() -> tuple[Any, ...]:
    """Return the types that oneDNN is fast with: bfloat16 only if the processor multiplies it."""
    fast = {"avx512_bf16", "amx_bf16"} & set(_flags())
    return (jnp.dtype(jnp.float32), *([jnp.dtype(jnp.bfloat16)] if fast else []))


@functools.cache
def available() -> bool:
    """Tell whether this process can use oneDNN: the platform, the version, and a probe.

    The probe runs once for each version and processor; its result is kept in the user's cache
    folder.

    >>> available() in (True, False)
    True
    """
    fits = sys.platform == "linux" and platform.machine() == "x86_64"
    version = importlib.metadata.version("jaxlib")
    if not fits or version not in VERSIONS or os.environ.get(SWITCH) == "0":
        return False
    # What cannot be kept in the persistent cache is no news, and JAX warns of it each time.
    warnings.filterwarnings("ignore", "Error writing persistent compilation cache .*bad_alloc")
    return _probed(_record(version))


def _flags() -> list[str]:
    """Return the features of the processor, as Linux lists them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    return next((line.split(":")[1].split() for line in lines if line.startswith("flags")), [])


def _record(version: str) -> Path | None:
    """Return the file that holds the result of the probe; None without a home folder."""
    import platformdirs

    kind = hashlib.sha256(" ".join(_flags()).encode()).hexdigest()[:12]
    try:
        return platformdirs.user_cache_path("cryojax-seg") / f"onednn-{version}-{kind}-{_PROBE}"
    except (OSError, RuntimeError):
        return None


def _probed(record: Path | None) -> bool:
    """Return the recorded result of the probe, or run it and record its result."""
    if record is not None:
        with contextlib.suppress(OSError, UnicodeDecodeError, KeyError):
            return _RESULTS[record.read_text()]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    try:
        run = subprocess.run(
            [
                sys.executable,
                "-c",
                f"import sys; from {__name__} import probe; sys.exit(not probe())",
            ],
            capture_output=True,
            env=environment,
            timeout=_SECONDS,
        )
        equal = run.returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False  # this is no finding about oneDNN, so it is not recorded
    if record is not None:
        partial = record.with_suffix(f".{os.getpid()}.tmp")
        try:
            record.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text("equal" if equal else "different")
            os.replace(partial, record)
        except OSError:  # then the next process probes again
            pass
    return equal


def _configuration(size: Sequence[int], pads: tuple[tuple[int, int], ...]) -> str:
    """Return the description of a convolution that oneDNN reads."""
    spatial = ["1", "2", "3"]
    data = {"batch_dim": "0", "feature_dim": "4", "spatial_dims": spatial}
    taps = {
        "input_feature_dim": "3",
        "output_feature_dim": "4",
        "spatial_dims": ["0", "1", "2"],
    }
    window = {
        "size": list(size),
        "pad_left": [before for before, _ in pads],
        "pad_right": [after for _, after in pads],
        "strides": [1, 1, 1],
        "window_dilations": [1, 1, 1],
    }
    fields = {
        "dims": "5",
        "feature_groups": "1",
        "input": {"dims": "5", "data": data},
        "output": {"dims": "5", "data": data},
        "kernel": {"dims": "5", "filter": taps},
        "window": window,
    }
    return json.dumps({"onednn_conv_config": fields})


@_convolution.def_abstract_eval
def _(volumes, kernel, *, pads):
    edges = zip(volumes.shape[1:4], pads, kernel.shape[:3], strict=True)
    size = [n + sum(pad) - taps + 1 for n, pad, taps in edges]
    return jax.core.ShapedArray((volumes.shape[0], *size, kernel.shape[-1]), volumes.dtype)


@_convolution.def_impl
def _(volumes, kernel, *, pads):
    return jax.jit(_convolution.bind, static_argnames="pads")(volumes, kernel, pads=pads)


def _lowered(context, volumes, kernel, *, pads):
    configuration = _configuration(context.avals_in[1].shape[:3], pads)
    rule = jax.ffi.ffi_lowering("__onednn$convolution", backend_config=configuration, api_version=2)
    return rule(context, volumes, kernel)


mlir.register_lowering(_convolution, _lowered, platform="cpu")


def _batched(arguments, axes, *, pads):
    """Fold a batch of volumes into theirs; kernels that differ are applied one after another."""
    volumes, kernel = arguments
    volumes = jnp.moveaxis(volumes, axes[0], 0) if axes[0] is not None else volumes
    if axes[1] is None:
        count, batch = volumes.shape[:2]
        folded = convolve(volumes.reshape(count * batch, *volumes.shape[2:]), kernel, pads)
        return folded.reshape(count, batch, *folded.shape[1:]), 0
    kernel = jnp.moveaxis(kernel, axes[1], 0)
    if axes[0] is None:
        return jax.lax.map(lambda own: convolve(volumes, own, pads), kernel), 0
    return jax.lax.map(lambda pair: convolve(pair[0], pair[1], pads), (volumes, kernel)), 0


batching.primitive_batchers[_convolution] = _batched


def probe() -> bool:
    """Compare with the native convolution, on shapes that are odd in every way."""
    cases = [
        ((2, 6, 7, 8, 3), (3, 3, 3, 3, 4), ((1, 1), (1, 1), (1, 1))),
        ((1, 6, 7, 8, 3), (2, 4, 3, 3, 2), ((1, 0), (1, 2), (1, 1))),
        ((2, 1, 3, 2, 5), (3, 5, 3, 5, 4), ((1, 1), (2, 2), (1, 1))),
        ((2, 8, 8, 8, 16), (3, 3, 3, 16, 32), ((1, 1), (1, 1), (1, 1))),
        ((1, 8, 9, 10, 7), (6, 9, 1, 7, 5), ((0, 0), (1, 2), (0, 0))),  # of `kernel_gradient`
        ((1, 10, 8, 48, 8), (8, 8, 1, 8, 32), ((0, 0), (1, 1), (0, 0))),
    ]
    for shape, kernel_shape, pads in cases:
        for dtype in types():
            volumes = jnp.cos(jnp.arange(math.prod(shape))).reshape(shape).astype(dtype)
            kernel = jnp.sin(jnp.arange(math.prod(kernel_shape))).reshape(kernel_shape)
            kernel = kernel.astype(dtype)
            found = jax.jit(lambda v, k, pads=pads: convolve(v, k, pads))(volumes, kernel)
            expected = jax.lax.conv_general_dilated(
                volumes.astype(jnp.float32),
                kernel.astype(jnp.float32),
                (1, 1, 1),
                pads,
                dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
            )
            error = jnp.abs(found.astype(jnp.float32) - expected).max() / jnp.abs(expected).max()
            if not error <= (1e-5 if dtype == jnp.float32 else 0.02):
                return False
    return True
