"""What is read from good and odd MRC files, and what is warned about."""

import bz2
import gzip
import itertools
import time
import warnings

import jax.numpy as jnp
import mrcfile
import numpy as np
import pytest

from cryojax_seg.io import HeaderWarning, read_mrc, read_tomogram


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("mode", [0, 1, 2, 6, 12])
@pytest.mark.parametrize("extended", [b"", b"SERI" * 37])
def test_modes_byte_orders_and_extended_headers(mrc_bytes, put, phantom, mode, order, extended):
    data = phantom + 40 if mode == 6 else phantom
    tomogram = read_mrc(put("a.mrc", mrc_bytes(data, mode, order, extended)))
    assert np.array_equal(tomogram.density, data)
    assert tomogram.density.dtype.isnative
    assert jnp.asarray(tomogram.density).shape == (3, 4, 5)
    assert tomogram.voxel_size == (10.0, 10.0, 10.0)


@pytest.mark.parametrize("order", list(itertools.permutations((1, 2, 3))))
def test_axis_order(mrc_bytes, put, phantom, order):
    """The same volume stored with its axes in any order reads as the same volume."""
    mapc, mapr, maps = order
    zyx_axis = {3: 0, 2: 1, 1: 2}
    stored = phantom.transpose(zyx_axis[maps], zyx_axis[mapr], zyx_axis[mapc])
    start = {3: 30, 2: 20, 1: 10}  # of the axes z, y, x
    raw = mrc_bytes(
        stored,
        mapc=mapc,
        mapr=mapr,
        maps=maps,
        mx=5,
        my=4,
        mz=3,
        cella=(50.0, 80.0, 90.0),  # x, y, z: 10, 20 and 30 A
        origin=(1.0, 2.0, 3.0),
        nxstart=start[mapc],
        nystart=start[mapr],
        nzstart=start[maps],
    )
    odd = f"axis order mapc, mapr, maps is {mapc}, {mapr}, {maps}; brought into the order z, y, x"
    with pytest.warns(HeaderWarning, match=f"differs between axes: 30, 20, 10|{odd}") as caught:
        tomogram = read_mrc(put("a.mrc", raw))
    assert len(caught) == 1 + (order != (1, 2, 3))
    assert np.array_equal(tomogram.density, phantom)
    assert tomogram.voxel_size == (30.0, 20.0, 10.0)
    assert tomogram.origin == (3.0, 2.0, 1.0)
    assert tomogram.start == (30, 20, 10)


@pytest.mark.parametrize("order", ["<", ">"])
def test_imod_bytes(mrc_bytes, put, order):
    data = np.array([0, 127, 128, 200, 255], np.uint8).reshape(1, 1, 5)
    unsigned = mrc_bytes(data.view(np.int8), 0, order, imod_flags=0)
    signed = mrc_bytes(data.view(np.int8), 0, order, imod_flags=1)
    assert read_mrc(put("u.mrc", unsigned)).density.ravel().tolist() == [0, 127, 128, 200, 255]
    assert read_mrc(put("s.mrc", signed)).density.ravel().tolist() == [0, 127, -128, -56, -1]


def test_bytes_whose_header_says_they_are_unsigned(mrc_bytes, put):
    data = np.array([0, 200], np.uint8).view(np.int8).reshape(1, 1, 2)
    with pytest.warns(HeaderWarning, match="unsigned bytes"):
        tomogram = read_mrc(put("u.mrc", mrc_bytes(data, 0, dmin=0, dmax=200)))
    assert tomogram.density.ravel().tolist() == [0, 200]


def test_imod_inverted_origin(mrc_bytes, put, phantom):
    raw = mrc_bytes(phantom, origin=(1.0, 2.0, 3.0), imod_flags=4)
    assert read_mrc(put("o.mrc", raw)).origin == (-3.0, -2.0, -1.0)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
@pytest.mark.parametrize("order", ["<", ">"])
def test_compressed(mrc_bytes, put, phantom, compress, order):
    raw = compress(mrc_bytes(phantom, order=order, extended=b"x" * 100))
    tomogram = read_tomogram(put("no_suffix_needed", raw))
    assert np.array_equal(tomogram.density, phantom)
    assert tomogram.density.dtype == np.float32


def test_reads_what_mrcfile_writes(tmp_path, phantom):
    path = tmp_path / "a.mrc"
    with mrcfile.new(path) as file:
        file.set_data(phantom)
        file.voxel_size = 13.48
        file.header.origin = (1.5, 2.5, 3.5)
        file.nstart = (1, 2, 3)
    tomogram = read_mrc(path)
    assert np.array_equal(tomogram.density, phantom)
    assert tomogram.voxel_size == (13.48, 13.48, 13.48)
    assert (tomogram.origin, tomogram.start) == ((3.5, 2.5, 1.5), (3, 2, 1))


@pytest.mark.parametrize(
    ("fields", "expected", "words"),
    [
        ({"cella": (0, 0, 0)}, None, "cell is 0: voxel size unknown"),
        ({"cella": (np.nan, 40, 30)}, None, "voxel size unknown"),
        ({"cella": (-50, 40, 30)}, None, "voxel size unknown"),
        ({"cella": (0, 40, 30)}, None, "voxel size unknown"),
        ({"mx": 0}, None, "voxel size unknown"),
        ({"mx": 1, "my": 1, "mz": 1}, None, "mx, my, mz are 1"),
        ({"cella": (5, 4, 3)}, 1.0, "exactly 1 A"),
        ({"cella": (0.065, 0.052, 0.039)}, 0.013, "outside 0.5 to 100 A"),
        ({"cella": (1000, 800, 600)}, 200.0, "outside 0.5 to 100 A"),
        ({"cella": (52.6, 42.08, 31.56)}, 10.52, None),
    ],
)
def test_voxel_size(mrc_bytes, put, phantom, fields, expected, words):
    path = put("v.mrc", mrc_bytes(phantom, **fields))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tomogram = read_mrc(path)
    messages = [str(w.message) for w in caught]
    assert tomogram.voxel_size == (None if expected is None else (expected,) * 3)
    assert [str(path) in m and words in m for m in messages] == ([True] if words else [])


def test_unknown_voxel_size_says_what_to_do(mrc_bytes, put, phantom):
    with pytest.warns(HeaderWarning, match="voxel size unknown"):
        tomogram = read_mrc(put("v.mrc", mrc_bytes(phantom, cella=(0, 0, 0))))
    with pytest.raises(ValueError, match=r"v\.mrc.*voxel_size"):
        tomogram.require_voxel_size()


def test_given_voxel_size_wins_and_silences_the_header(mrc_bytes, put, phantom):
    path = put("v.mrc", mrc_bytes(phantom, cella=(5, 4, 3)))
    assert read_mrc(path, voxel_size=13.4).voxel_size == (13.4, 13.4, 13.4)
    assert read_mrc(path, voxel_size=(3.0, 2.0, 1)).voxel_size == (3.0, 2.0, 1.0)
    with pytest.raises(ValueError, match="positive"):
        read_mrc(path, voxel_size=-1.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"machst": (0, 0, 0, 0)}, "wrong machine stamp 00000000; read as little-endian"),
        ({"machst": (0x11, 0x11, 0, 0)}, "read as little-endian"),
        ({"map": b"\0"}, "no MAP identifier"),
        ({"mapc": 1, "mapr": 1, "maps": 3}, "1, 1, 3; taken as 1, 2, 3"),
        ({"mapc": 0, "mapr": 0, "maps": 0}, "0, 0, 0; taken as 1, 2, 3"),
        ({"origin": (np.nan, 0, 0)}, "origin is not finite"),
    ],
)
def test_odd_headers_are_read_with_a_warning(mrc_bytes, put, phantom, change, words):
    with pytest.warns(HeaderWarning, match=words) as caught:
        tomogram = read_mrc(put("odd.mrc", mrc_bytes(phantom, **change)))
    assert len(caught) == 1
    assert np.array_equal(tomogram.density, phantom)


@pytest.mark.parametrize("order", ["<", ">"])
def test_machine_stamp_missing_in_mode_0(mrc_bytes, put, phantom, order):
    raw = mrc_bytes(phantom, 0, order, machst=(0, 0, 0, 0))
    with pytest.warns(HeaderWarning, match="machine stamp"):
        assert np.array_equal(read_mrc(put("a.mrc", raw)).density, phantom)


def test_trailing_bytes(mrc_bytes, put, phantom):
    with pytest.warns(HeaderWarning, match="17 bytes more"):
        tomogram = read_mrc(put("long.mrc", mrc_bytes(phantom) + b"\0" * 17))
    assert np.array_equal(tomogram.density, phantom)


def test_non_finite_voxels_are_counted(mrc_bytes, put, phantom):
    phantom[0, 0, :2] = np.nan, np.inf
    with pytest.warns(HeaderWarning, match="2 of 60 voxels"):
        tomogram = read_mrc(put("nan.mrc", mrc_bytes(phantom)))
    assert np.isnan(tomogram.density[0, 0, 0])


@pytest.mark.parametrize("mz", [3, 7])
def test_space_group_0_with_a_full_grid_is_a_volume(mrc_bytes, put, phantom, mz):
    raw = mrc_bytes(phantom, ispg=0, mz=mz, cella=(50.0, 40.0, 10.0 * mz))
    assert read_mrc(put("relion.mrc", raw)).density.shape == (3, 4, 5)


def test_memory_map(mrc_bytes, put, phantom):
    path = put("a.mrc", mrc_bytes(phantom, 1, extended=b"y" * 80))
    mapped = read_mrc(path, mmap=True).density
    base = mapped.base if isinstance(mapped.base, np.memmap) else mapped
    assert isinstance(base, np.memmap) and not mapped.flags.writeable
    assert np.array_equal(mapped, phantom)
    assert not isinstance(read_mrc(path).density, np.memmap)


def test_large_volume_opens_at_once(mrc_bytes, tmp_path):
    """8 GiB on paper, sparse on disk: opened by mapping it, without reading it."""
    path = tmp_path / "large.mrc"
    header = mrc_bytes(np.zeros((1, 1, 1), np.float32), nx=1024, ny=1024, nz=2048)[:1024]
    header = bytearray(header)
    header[28:40] = np.array([1024, 1024, 2048], "<i4").tobytes()
    header[40:52] = np.array([10240, 10240, 20480], "<f4").tobytes()
    with open(path, "wb") as file:
        file.write(header)
        file.truncate(1024 + 2**33)
    started = time.perf_counter()
    tomogram = read_mrc(path)
    assert time.perf_counter() - started < 2.0
    assert tomogram.density.shape == (2048, 1024, 1024)
    assert float(tomogram.density[2047, 1023, 1023]) == 0.0


def test_real_volume(real_data):
    tomogram = read_mrc(real_data / "cylindra_mt" / "beta-tubulin.mrc")
    assert tomogram.density.shape == (20, 20, 20)
    assert tomogram.voxel_size == (5.144, 5.144, 5.144)
    assert tomogram.density.max() == pytest.approx(7.637047)
