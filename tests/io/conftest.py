"""Files built byte by byte, so that the tests do not trust the code they test."""

import os
from pathlib import Path

import numpy as np
import pytest
from mrcfile.dtypes import HEADER_DTYPE

IMOD_STAMP = 1146047817
KINDS = {0: "i1", 1: "i2", 2: "f4", 4: "c8", 6: "u2", 12: "f2"}


def _mrc_bytes(data, mode=2, order="<", extended=b"", imod_flags=None, **fields) -> bytes:
    """An MRC file with 10 A voxels; keyword arguments overwrite header fields."""
    header = np.zeros((), HEADER_DTYPE.newbyteorder(order))
    for axis, count in zip("zyx", data.shape, strict=True):
        header[f"n{axis}"] = header[f"m{axis}"] = count
        header["cella"][axis] = 10.0 * count
    header["mode"], header["ispg"], header["nsymbt"] = mode, 1, len(extended)
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["map"] = b"MAP "
    header["machst"] = (0x44, 0x44, 0, 0) if order == "<" else (0x11, 0x11, 0, 0)
    for name, value in fields.items():
        header[name] = value
    raw = bytearray(header.tobytes())
    if imod_flags is not None:
        raw[152:160] = np.array([IMOD_STAMP, imod_flags], f"{order}i4").tobytes()
    kind = np.dtype(KINDS.get(mode, data.dtype.str)).newbyteorder(order)
    return bytes(raw) + extended + data.astype(kind).tobytes()


@pytest.fixture
def mrc_bytes():
    return _mrc_bytes


@pytest.fixture
def phantom():
    """No two axes, directions or corners of this volume look alike."""
    z, y, x = np.indices((3, 4, 5))
    return (x + 7 * y + 31 * z - 40).astype(np.float32)


@pytest.fixture
def put(tmp_path):
    """Writes bytes to a file of this name and returns its path."""

    def write(name: str, raw: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(raw)
        return path

    return write


@pytest.fixture(scope="session")
def real_data():
    """The folder with real volumes, or a skip that says how to get the test to run."""
    default = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("CRYOJAX_SEG_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set CRYOJAX_SEG_DATA to the folder that has them")
    return folder
