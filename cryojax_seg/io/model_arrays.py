"""Store the arrays of a saved model in a file, and verify them when they are read."""

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cryojax_seg.io.modules import ModelError


def pack(arrays: dict[str, np.ndarray]) -> bytes:
    """Return an uncompressed npz without timestamps, so that equal arrays give equal bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as file:
                stored = np.asarray(array, order="C").view(_storage(array.dtype))
                np.lib.format.write_array(file, stored, version=(1, 0), allow_pickle=False)
    return packed.getvalue()


def read_arrays(path: Path, content: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the arrays that a description states, verified, in the types they had in memory."""
    raw = path.read_bytes()
    if digest(raw) != content["arrays_sha256"]:
        raise ModelError("arrays.npz is damaged (its SHA-256 differs); copy the folder again")
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if set(members) != {f"{name}.npy" for name in content["arrays"]}:
            raise ModelError("arrays.npz does not hold the arrays that model.json lists")
        for name, stated in content["arrays"].items():
            info = members[f"{name}.npy"]
            if info.compress_type != zipfile.ZIP_STORED:  # so that nothing expands
                raise ModelError("arrays.npz is compressed, as this package never writes it")
            arrays[name] = _read_array(archive.read(info), name, stated)
    check_finite(arrays)
    return arrays


def halved(array: np.ndarray) -> np.ndarray:
    """Return a float32 array as float16, which is infinite where a value is too large."""
    with np.errstate(over="ignore"):
        return array.astype(np.float16) if array.dtype == np.float32 else array


def check_finite(arrays: dict[str, np.ndarray], fault: str = "NaN or infinite") -> None:
    """Raise a ModelError that names the first array with a value that is not finite."""
    for name, array in arrays.items():
        if jnp.issubdtype(array.dtype, jnp.floating) and not np.isfinite(array).all():
            raise ModelError(f"array {name} holds values that are {fault}")


def digest(raw: bytes) -> str:
    """Return the SHA-256 of some bytes."""
    return hashlib.sha256(raw).hexdigest()


def _read_array(raw: bytes, name: str, stated: dict[str, Any]) -> np.ndarray:
    """Read one array after comparing its header with the description."""
    dtype, shape = jnp.dtype(stated["stored"]), tuple(stated["shape"])
    kept = jnp.dtype(stated["dtype"])
    if kept != dtype and (kept, dtype) != (np.float32, np.float16):
        raise ModelError(f"model.json says that the {kept} array {name} is stored as {dtype}")
    stream = io.BytesIO(raw)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ModelError(f"array {name} has an unknown format")
    found, fortran, kind = np.lib.format.read_array_header_1_0(stream)
    if found != shape or kind != _storage(dtype):
        raise ModelError(f"array {name} is {found} {kind}, model.json says {shape} {dtype}")
    data = raw[stream.tell() :]
    if len(data) != int(np.prod(shape, dtype=object)) * dtype.itemsize:
        raise ModelError(f"array {name} is truncated")
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    if digest(array.tobytes()) != stated["sha256"]:
        raise ModelError(f"array {name} is damaged (its SHA-256 differs)")
    if dtype == np.float64 and not jax.config.jax_enable_x64:  # pyright: ignore
        raise ModelError(f"array {name} is float64; set JAX_ENABLE_X64=1 to load it")
    return array if kept == dtype else array.astype(kept)


def _storage(dtype: np.dtype) -> np.dtype:
    """Return the type on disk; JAX's small floats, unknown to NumPy, are stored as integers."""
    return np.dtype(f"u{dtype.itemsize}") if dtype.kind == "V" else dtype
