"""Whatever bytes a file holds: a volume or a FileError, and little memory either way."""

import bz2
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


PACKED = {"gzip": lambda raw: gzip.compress(raw, 1), "bzip2": lambda raw: bz2.compress(raw, 1)}
TIFFS = {
    "tiff": {},
    "compressed tiff": {"compression": "zlib"},
    "imagej tiff": {"imagej": True, "metadata": {"axes": "ZYX", "unit": "nm", "spacing": 1.0}},
    "big tiff": {"bigtiff": True},
    "ome tiff": {"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 1.0}},
}


@pytest.mark.parametrize("kind", ["mrc", *PACKED, *TIFFS])
def test_random_damage(mrc_bytes, tmp_path, phantom, kind):
    if kind not in TIFFS:
        raw = mrc_bytes(phantom)
        places = 224
    else:
        packed, data = io.BytesIO(), phantom.astype(np.float32)
        tifffile.imwrite(packed, data, photometric="minisblack", **TIFFS[kind])
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
            path.write_bytes(PACKED.get(kind, bytes)(content))
            seen.add(type(outcome(path)))
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    assert seen == {Tomogram, FileError}


TABLES = {"a.star": "relion3", "b.star": "relion5", "a.tbl": None, "a.csv": None, "a.mod": None}
OTHERS = {
    "warp": """data_

loop_
_rlnMicrographName #1
_rlnCoordinateX #2
_rlnCoordinateY #3
_rlnCoordinateZ #4
_rlnAngleRot #5
_rlnAngleTilt #6
_rlnAnglePsi #7
_rlnPixelSize #8
TS_1.mrc.tomostar 4.5 3.25 2.0 10 20 -30 10.0
TS_1.mrc.tomostar 1.5 6.75 5.0 -110 80 3 10.0
""",
    "m": """data_

loop_
_wrpSourceName #1
_wrpCoordinateX1 #2
_wrpCoordinateY1 #3
_wrpCoordinateZ1 #4
_wrpAngleRot1 #5
_wrpAngleTilt1 #6
_wrpAnglePsi1 #7
TS_1.tomostar 45.0 32.5 20.0 10 20 -30
TS_1.tomostar 15.0 67.5 50.0 -110 80 3
""",
    "relion4": """data_optics

loop_
_rlnOpticsGroup #1
_rlnTomoTiltSeriesPixelSize #2
1 2.5

data_particles

loop_
_rlnTomoName #1
_rlnCoordinateX #2
_rlnCoordinateY #3
_rlnCoordinateZ #4
_rlnOpticsGroup #5
TS_1 18 13 8 1
TS_1 6 27 20 1
""",
}


@pytest.mark.parametrize("name", [*TABLES, *OTHERS])
def test_random_damage_of_tables(tmp_path, name):
    """Whatever the bytes: particles or a FileError that names the file, in one line."""
    path, rng = tmp_path / name, np.random.default_rng(9)
    if name in OTHERS:
        path = path.with_suffix(".star")
        path.write_text(OTHERS[name])
    else:
        where = rng.uniform(1, 9, (4, 3))
        picks = Particles(where, classes=[1, 2, 1, 1], voxel_size=10.0)
        write_particles(path, picks, TABLES[name], (9,) * 3)
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
