"""Whatever bytes a file holds: a volume or a FileError, and little memory either way."""

import gzip
import io
import tracemalloc
import warnings

import numpy as np
import pytest
import tifffile

from cryojax_seg.core import Particles, Tomogram
from cryojax_seg.io import (
    FileError,
    HeaderWarning,
    particles_of,
    read_table,
    read_tomogram,
    write_particles,
)


def outcome(path):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HeaderWarning)
            return read_tomogram(path)
    except FileError as error:
        assert str(path) in str(error)
        return error


@pytest.mark.parametrize("kind", ["mrc", "gzip", "tiff", "compressed tiff"])
def test_random_damage(mrc_bytes, tmp_path, phantom, kind):
    if kind in ("mrc", "gzip"):
        raw = mrc_bytes(phantom)
        places = 224
    else:
        packed = io.BytesIO()
        compression = "zlib" if "compressed" in kind else None
        tifffile.imwrite(packed, phantom, photometric="minisblack", compression=compression)
        raw = packed.getvalue()
        places = len(raw)
    rng = np.random.default_rng(7)
    path = tmp_path / "damaged"
    seen = set()
    tracemalloc.start()
    try:
        for _ in range(200):
            damaged = bytearray(raw)
            for place in rng.integers(0, places, rng.integers(1, 5)):
                damaged[place] = int(rng.choice([0, 1, 127, 128, 255, rng.integers(256)]))
            content = bytes(
                damaged[: rng.integers(1, len(damaged))] if rng.random() < 0.1 else damaged
            )
            path.write_bytes(gzip.compress(content, 1) if kind == "gzip" else content)
            seen.add(type(outcome(path)))
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    assert seen == {Tomogram, FileError}


TABLES = {"a.star": "relion3", "b.star": "relion5", "a.tbl": None, "a.csv": None, "a.mod": None}


@pytest.mark.parametrize("name", TABLES)
def test_random_damage_of_tables(tmp_path, name):
    """Whatever the bytes: particles or a FileError that names the file, in one line."""
    path, rng = tmp_path / name, np.random.default_rng(9)
    where = rng.uniform(1, 9, (4, 3))
    write_particles(
        path, Particles(where, classes=[1, 2, 1, 1], voxel_size=10.0), TABLES[name], (9,) * 3
    )
    raw, seen = path.read_bytes(), set()
    tracemalloc.start()
    try:
        for _ in range(200):
            damaged = bytearray(raw)
            for place in rng.integers(0, len(raw), rng.integers(1, 5)):
                damaged[place] = int(rng.choice([*b"0 .,#_-e\n", 0, 127, 255, rng.integers(256)]))
            cut = rng.integers(1, len(raw)) if rng.random() < 0.1 else len(raw)
            path.write_bytes(damaged[:cut])
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", HeaderWarning)
                    seen.add(type(particles_of(read_table(path), 10.0, (9, 9, 9))))
            except FileError as error:
                assert str(path) in str(error) and "\n" not in str(error)
                seen.add(FileError)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    assert seen == {Particles, FileError}
