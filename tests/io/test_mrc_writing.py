"""What is written reads back, here and with mrcfile, and never costs an older file."""

import io
import resource
import warnings

import jax.numpy as jnp
import mrcfile
import numpy as np
import pytest

from cryojax_seg.core import Tomogram
from cryojax_seg.io import (
    FileError,
    FileOutput,
    HeaderWarning,
    ZarrOutput,
    read_mrc,
    write_boxes,
    write_mrc,
)


@pytest.mark.parametrize(
    ("dtype", "mode"),
    [
        (np.int8, 0),
        (np.int16, 1),
        (np.uint16, 6),
        (np.float16, 12),
        (np.float32, 2),
        (np.float64, 2),
        (np.int32, 0),
        (np.int64, 0),
        (np.uint8, 0),
        (">f4", 2),
        (">i2", 1),
    ],
)
def test_types(tmp_path, phantom, dtype, mode):
    data = (phantom + 40).astype(dtype)
    write_mrc(tmp_path / "a.mrc", data, voxel_size=10.0)
    with mrcfile.open(tmp_path / "a.mrc") as file:
        assert int(file.header.mode) == mode
        assert np.array_equal(file.data, phantom + 40)
    assert np.array_equal(read_mrc(tmp_path / "a.mrc").density, phantom + 40)


@pytest.mark.parametrize(
    ("values", "mode"),
    [
        (np.array([0, 255], np.uint8), 1),
        (np.array([-128, 127], np.int64), 0),
        (np.array([-129, 0], np.int64), 1),
        (np.array([0, 65535], np.uint32), 6),
        (np.array([False, True]), 0),
        (jnp.array([0, 1], jnp.int32), 0),
        (jnp.array([0.5, 1], jnp.bfloat16), 2),
    ],
)
def test_integers_take_the_smallest_type_that_holds_them(tmp_path, values, mode):
    values = np.asarray(values).reshape(1, 1, 2)
    write_mrc(tmp_path / "a.mrc", values, voxel_size=10.0)
    with mrcfile.open(tmp_path / "a.mrc") as file:
        assert int(file.header.mode) == mode
    assert np.array_equal(read_mrc(tmp_path / "a.mrc").density, values.astype(np.float64))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 2), np.float32), "a volume"),
        (np.zeros((2, 0, 2), np.float32), "a volume"),
        (np.zeros((2, 2, 2, 2), np.float32), "a volume"),
        (np.full((2, 2, 2), 70000), "70000"),
        (np.zeros((2, 2, 2), np.complex64), "complex64"),
        (np.full((2, 2, 2), "x"), "real numbers"),
    ],
)
def test_refused_arrays_leave_the_former_file(tmp_path, array, words):
    path = tmp_path / "a.mrc"
    path.write_bytes(b"precious")
    with pytest.raises(FileError, match=words) as caught:
        write_mrc(path, array, overwrite=True)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_geometry_survives(tmp_path, phantom):
    tomogram = Tomogram(
        density=phantom,
        voxel_size=(13.48, 10.52, 7.0),
        origin=(-100.5, 20.25, 3.0),
        start=(5, -6, 7),
    )
    write_mrc(tmp_path / "a.mrc", phantom > 0, like=tomogram)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = read_mrc(tmp_path / "a.mrc")
    assert again.voxel_size == (13.48, 10.52, 7.0)
    assert again.origin == (-100.5, 20.25, 3.0)
    assert again.start == (5, -6, 7)
    write_mrc(tmp_path / "b.mrc", phantom, like=tomogram, voxel_size=20.0)
    assert read_mrc(tmp_path / "b.mrc").voxel_size == (20.0, 20.0, 20.0)


def test_read_process_write_keeps_every_voxel_in_place(mrc_bytes, put, tmp_path, phantom):
    """From big-endian bytes with permuted axes to a plain file: the same volume."""
    raw = mrc_bytes(phantom.transpose(2, 0, 1), 2, ">", mapc=2, mapr=3, maps=1, mx=5, my=4, mz=3)
    path = put("odd.mrc", raw)
    with pytest.warns(HeaderWarning, match="axis order mapc, mapr, maps is 2, 3, 1; brought"):
        tomogram = read_mrc(path, voxel_size=12.0)
    write_mrc(tmp_path / "plain.mrc", tomogram.density, like=tomogram)
    with mrcfile.open(tmp_path / "plain.mrc") as file:
        assert np.array_equal(file.data, phantom)
        assert (file.header.mapc, file.header.mapr, file.header.maps) == (1, 2, 3)


def test_unknown_voxel_size_stays_unknown(tmp_path, phantom):
    write_mrc(tmp_path / "a.mrc", phantom)
    with pytest.warns(HeaderWarning, match="cell is 0: voxel size unknown"):
        assert read_mrc(tmp_path / "a.mrc").voxel_size is None


def test_mrcfile_finds_no_fault(tmp_path, phantom):
    write_mrc(tmp_path / "a.mrc", phantom, voxel_size=10.0)
    report = io.StringIO()
    assert mrcfile.validate(tmp_path / "a.mrc", print_file=report), report.getvalue()
    with mrcfile.open(tmp_path / "a.mrc") as file:
        assert float(file.header.dmin) == phantom.min()
        assert float(file.header.dmax) == phantom.max()
        assert float(file.header.dmean) == pytest.approx(phantom.mean())
        assert float(file.header.rms) == pytest.approx(phantom.std(), rel=1e-6)


def test_statistics_leave_non_finite_voxels_out(tmp_path, phantom):
    phantom[0, 0, 0], phantom[1] = np.nan, np.inf
    with pytest.warns(HeaderWarning, match="a.mrc: 21 of 60 voxels are NaN or infinite"):
        write_mrc(tmp_path / "a.mrc", phantom, voxel_size=10.0)
    finite = phantom[np.isfinite(phantom)]
    with mrcfile.open(tmp_path / "a.mrc") as file:
        assert float(file.header.dmax) == finite.max()
        assert float(file.header.rms) == pytest.approx(finite.std(), rel=1e-6)


def test_existing_file_is_refused(tmp_path, phantom):
    path = tmp_path / "a.mrc"
    write_mrc(path, phantom, voxel_size=10.0)
    before = path.read_bytes()
    with pytest.raises(FileError, match="exists already.*allow overwriting"):
        write_mrc(path, phantom + 1)
    assert path.read_bytes() == before
    write_mrc(path, phantom + 1, voxel_size=10.0, overwrite=True)
    assert np.array_equal(read_mrc(path).density, phantom + 1)


def test_a_mapped_volume_can_be_written_over_itself(tmp_path, phantom):
    path = tmp_path / "a.mrc"
    write_mrc(path, phantom, voxel_size=10.0)
    tomogram = read_mrc(path, mmap=True)
    write_mrc(path, tomogram.density[::-1], like=tomogram, overwrite=True)
    assert np.array_equal(read_mrc(path).density, phantom[::-1])
    assert np.array_equal(tomogram.density, phantom)  # the map still shows the former file


def test_disk_full_leaves_the_former_file(tmp_path, phantom):
    path = tmp_path / "a.mrc"
    write_mrc(path, phantom, voxel_size=10.0)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    try:
        with pytest.raises(OSError) as caught:
            write_mrc(path, np.zeros((64, 64, 64), np.float32), overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(path) in str(caught.value) and "iB free" in str(caught.value)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_non_finite_voxels_are_said_by_every_writer(tmp_path, phantom):
    phantom[1, 1, 1:3] = np.nan, -np.inf
    words = "2( of 60)? voxels are NaN or infinite"
    for name, kind in (("a.mrc", FileOutput), ("a.zarr", ZarrOutput)):
        output = kind(tmp_path / name, phantom.shape, np.float32)
        output.write(np.s_[:, :, :], phantom)
        with pytest.warns(HeaderWarning, match=f"{name}: {words}"):
            output.finish()
    boxes = np.where(np.arange(54).reshape(2, 3, 3, 3) == 30, np.nan, 1).astype(np.float32)
    with pytest.warns(HeaderWarning, match="b.mrcs: 1 of 54 voxels"):
        write_boxes(tmp_path / "b.mrcs", boxes, 2, 3, 10.0)
    with mrcfile.open(tmp_path / "b.mrcs") as file:
        assert (float(file.header.dmin), float(file.header.dmax)) == (1.0, 1.0)
