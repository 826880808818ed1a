"""Slices are served as they lie in the volume, from memory maps and from chunks."""

import numpy as np
import pytest

from cryojax_seg import io, view
from cryojax_seg.core import Tomogram
from cryojax_seg.view.slices import Window


@pytest.fixture
def ramp():
    """A volume in which every voxel differs from all others."""
    return np.arange(5 * 6 * 7, dtype=np.uint8).reshape(5, 6, 7)


def expected(volume, axis, index):
    """Rows and columns of a plane: y and x, z and x, y and z."""
    plane = np.take(volume, index, axis)
    return plane.T if axis == 2 else plane


@pytest.mark.parametrize("kind", ["array", "map", "transposed map", "zarr"])
def test_planes_are_those_of_the_volume(ramp, kind, tmp_path):
    volume = ramp
    if kind == "zarr":
        io.write_zarr(tmp_path / "a.zarr", ramp, voxel_size=10.0)
        volume = io.read_tomogram(tmp_path / "a.zarr").density
    elif kind == "map":
        ramp.tofile(tmp_path / "a.raw")
        volume = np.memmap(tmp_path / "a.raw", np.uint8, "r", shape=ramp.shape)
    elif kind == "transposed map":  # as of MRC files whose axes are in another order
        ramp.transpose(2, 1, 0).tofile(tmp_path / "a.raw")
        volume = np.memmap(tmp_path / "a.raw", np.uint8, "r", shape=(7, 6, 5)).transpose(2, 1, 0)
    slices = view.Slices(volume, lambda values: values.astype(np.uint8))
    for axis in range(3):
        for index in range(ramp.shape[axis]):
            found = slices.plane(axis, index)
            assert found.flags.c_contiguous
            np.testing.assert_array_equal(found, expected(ramp, axis, index))


def test_a_slice_that_is_not_there_is_refused(ramp):
    slices = view.label_slices(ramp)
    with pytest.raises(ValueError, match="no slice 7 along x; the volume has slices 0 to 6"):
        slices.plane(2, 7)
    with pytest.raises(ValueError, match="axis"):
        slices.plane(3, 0)


def test_slabs_of_a_map_are_kept_and_bounded(tmp_path, monkeypatch):
    """Slices across the rows of a file are read many at a time, and few slabs stay."""
    monkeypatch.setattr(view.slices, "_LARGEST", 4 * 5 * 3)
    data = np.random.default_rng(0).integers(0, 255, (4, 5, 20)).astype(np.uint8)
    data.tofile(tmp_path / "a.raw")
    volume = np.memmap(tmp_path / "a.raw", np.uint8, "r", shape=data.shape)
    calls = []

    def convert(values):
        calls.append(values.shape)
        return values.astype(np.uint8)

    slices = view.Slices(volume, convert)
    for index in range(6):
        np.testing.assert_array_equal(slices.plane(2, index), data[:, :, index].T)
    assert sum(np.prod(shape) for shape in calls) == 4 * 5 * 6
    assert len(slices._slabs[2]) == 2
    slices.plane(2, 19)
    assert len(slices._slabs[2]) == 2


def test_slices_that_lie_beside_each_other_are_read_together(tmp_path):
    """Sections of a file are read one by one, and neighbours in the xz plane of a file at once."""
    data = np.random.default_rng(0).integers(0, 255, (4, 6, 5)).astype(np.uint8)
    data.tofile(tmp_path / "a.raw")
    volume = np.memmap(tmp_path / "a.raw", np.uint8, "r", shape=data.shape)
    shapes = []

    def convert(values):
        shapes.append(values.shape)
        return values

    slices = view.Slices(volume, convert)
    for axis, read in enumerate([[(1, 6, 5)] * 2, [(4, 6, 5)], [(4, 6, 5)]]):
        shapes.clear()
        slices.plane(axis, 0), slices.plane(axis, 1)
        assert shapes == read


def test_a_slice_across_a_large_file_has_a_preview(tmp_path, monkeypatch):
    """It holds sections at equal distances, and nothing where the whole slice is quick."""
    data = np.random.default_rng(0).integers(0, 255, (10, 5, 20)).astype(np.uint8)
    data.tofile(tmp_path / "a.raw")
    volume = np.memmap(tmp_path / "a.raw", np.uint8, "r", shape=data.shape)
    slices = view.label_slices(volume)
    assert slices.preview(2, 3) is None  # of a small file
    monkeypatch.setattr(view.slices, "_QUICK", 4 * data[0].size)  # every third section
    found = slices.preview(2, 3)
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, data[[1, 1, 1, 4, 4, 4, 7, 7, 7, 9], :, 3].T)
    assert slices.preview(0, 3) is None and view.label_slices(data).preview(2, 3) is None
    with pytest.raises(ValueError, match="no slice 20 along x"):
        slices.preview(2, 20)
    np.testing.assert_array_equal(slices.plane(2, 3), data[..., 3].T)
    assert slices.preview(2, 4) is None  # its slab is there by now


def test_a_slice_of_large_chunks_has_a_preview(tmp_path, monkeypatch):
    """It is that of the next coarser level, in voxels of the finest."""
    data = np.random.default_rng(0).normal(size=(132, 140, 136)).astype(np.float32)
    data[40:80] += 50
    io.write_zarr(tmp_path / "a.zarr", data, voxel_size=10.0)
    slices = view.Slices(
        io.read_zarr(tmp_path / "a.zarr").density, lambda v: np.clip(v, 0, 255).astype(np.uint8)
    )
    assert slices.preview(0, 60) is None  # of small chunks
    monkeypatch.setattr(view.slices, "_QUICK", 1000)
    coarse = io.read_zarr(tmp_path / "a.zarr", level=1).density
    half = np.clip(coarse[30:31], 0, 255).astype(np.uint8)[0]
    found = slices.preview(0, 60)
    assert found.shape == (140, 136) and half.shape == (70, 68)
    np.testing.assert_array_equal(found[::2, ::2], half)
    np.testing.assert_array_equal(found[1::2, 1::2], half)
    across = slices.preview(2, 5)
    assert across.shape == (140, 132) and across[:, 60].min() > 40 and across[:, 100].max() < 10
    slices.plane(0, 60)
    assert slices.preview(0, 61) is None  # its slab is there by now


def test_a_page_gets_the_preview_before_the_slice(tmp_path, monkeypatch):
    monkeypatch.setattr(view.slices, "_QUICK", 1000)
    np.zeros((9, 20, 30), np.int8).tofile(tmp_path / "a.raw")
    volume = np.memmap(tmp_path / "a.raw", np.int8, "r", shape=(9, 20, 30))
    session, told = view.viewing_session(Tomogram(volume)), []
    receive = session.connect(lambda message, data: told.append((message, data)))
    for axis in (2, 2, 0):
        receive({"type": "plane", "layer": "image", "axis": axis, "index": 1})
    assert [(m["axis"], m.get("coarse")) for m, _ in told] == [
        (2, True),
        (2, None),
        (2, None),
        (0, None),
    ]
    assert len(told[0][1]) == len(told[1][1]) == 9 * 20


@pytest.mark.parametrize("kind", ["i1", "u1", "<i2", ">i2", ">u2"])
def test_many_small_integers_become_the_bytes_that_few_become(kind):
    values = np.random.default_rng(0).integers(0, 2**16, (3, 200, 200)).astype("<u2").astype(kind)
    window = Window(-40.0, 90.0)
    expected = np.stack([[window.as_bytes(row) for row in plane] for plane in values])
    np.testing.assert_array_equal(window.as_bytes(values), expected)
    np.testing.assert_array_equal(
        window.as_bytes(values[..., ::3]), window.as_bytes(values.astype(np.float32))[..., ::3]
    )


def test_the_window_ignores_blank_parts_and_damage():
    rng = np.random.default_rng(1)
    volume = rng.normal(100.0, 3.0, (16, 64, 64)).astype(np.float32)
    clean = view.measure_window(volume)
    volume[:, :30] = 0  # blank
    volume[3, 40] = np.nan
    volume[5, 41, :8] = 1e30
    found = view.measure_window(volume)
    assert abs(found.low - clean.low) < 1 and abs(found.high - clean.high) < 1
    assert found.as_bytes(np.array([np.nan, np.inf, -np.inf])).tolist() == [0, 255, 0]
    # One in a hundred voxels is darker than black, and one brighter than white.
    shown = found.as_bytes(rng.normal(100.0, 3.0, 100_000))
    assert 0.005 < (shown < found.black).mean() < 0.02
    assert 0.005 < (shown > found.white).mean() < 0.02


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_constant_volume_has_a_window(value):
    found = view.measure_window(np.full((4, 4, 4), value, np.float32))
    assert found.low < value < found.high
    assert found.black < found.white


def test_integers_keep_values_that_are_frequent():
    """A volume of bytes holds few values, none of which is a fill value."""
    volume = np.repeat(np.arange(8, dtype=np.int8), 512).reshape(8, 16, 32)
    assert view.measure_window(volume) == Window(0.0, 7.0, 0, 255)
