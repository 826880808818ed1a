"""TIFF stacks: the right voxels and voxel size, or a refusal that names the file."""

import struct
import tracemalloc
import warnings

import numpy as np
import pytest
import tifffile
from PIL import Image

from cryojax_seg.io import FileError, HeaderWarning, read_tiff, read_tomogram


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"bigtiff": True}])
def test_types(tmp_path, phantom, kind, order, options):
    path = tmp_path / "stack"  # told apart by content, not by name
    data = (phantom + 40 if kind[0] == "u" else phantom).astype(kind)
    tifffile.imwrite(path, data, byteorder=order, photometric="minisblack", **options)
    tomogram = read_tomogram(path)
    assert np.array_equal(tomogram.density, data)
    assert tomogram.density.dtype == np.dtype(kind)
    assert tomogram.voxel_size is None


def test_memory_map(tmp_path, phantom):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, phantom, photometric="minisblack")
    mapped = read_tiff(path, mmap=True).density
    assert isinstance(mapped, np.memmap)
    assert np.array_equal(mapped, phantom)


@pytest.mark.parametrize(
    ("unit", "resolution", "spacing", "expected"),
    [
        ("nm", 1 / 1.052, 1.052, (10.52, 10.52, 10.52)),
        ("micron", 1000.0, 0.002, (20.0, 10.0, 10.0)),
        ("angstrom", 0.125, 8.0, (8.0, 8.0, 8.0)),
        ("pixel", 1.0, 1.0, None),
        ("", 1.0, 1.0, None),
    ],
)
def test_imagej_calibration(tmp_path, phantom, unit, resolution, spacing, expected):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        phantom,
        imagej=True,
        resolution=(resolution, resolution),
        metadata={"axes": "ZYX", "unit": unit, "spacing": spacing},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HeaderWarning)
        assert read_tiff(path).voxel_size == expected
    assert read_tiff(path, voxel_size=5.0).voxel_size == (5.0, 5.0, 5.0)


def test_ome_calibration(tmp_path, phantom):
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": "ZYX", "PhysicalSizeX": 1.2, "PhysicalSizeXUnit": "nm"}
    metadata |= {"PhysicalSizeY": 1.2, "PhysicalSizeYUnit": "nm"}
    metadata |= {"PhysicalSizeZ": 0.0012, "PhysicalSizeZUnit": "µm"}
    tifffile.imwrite(path, phantom, metadata=metadata, photometric="minisblack")
    assert read_tiff(path).voxel_size == (12.0, 12.0, 12.0)


def test_lzw(tmp_path, phantom):
    path = tmp_path / "a.tif"
    pages = [Image.fromarray(page) for page in (phantom + 40).astype(np.uint8)]
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_lzw")
    with tifffile.TiffFile(path) as file:
        assert int(file.pages.first.compression) == 5
    assert np.array_equal(read_tomogram(path).density, phantom + 40)


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        (np.zeros((8, 9), np.uint8), {}, "2D image"),
        (np.zeros((3, 8, 9, 3), np.uint8), {"photometric": "rgb"}, "colour"),
        (np.zeros((2, 3, 8, 9), np.uint8), {"photometric": "minisblack"}, "one time point"),
        (np.zeros((3, 8, 9), np.complex64), {"photometric": "minisblack"}, "complex64"),
        (np.full((3, 8, 9), 2**40), {"photometric": "minisblack"}, "those of 32 bit"),
    ],
)
def test_refused_kinds(tmp_path, data, options, words):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, data, **options)
    with pytest.raises(FileError, match=words) as caught:
        read_tomogram(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("keep", [8, 100, 0.5, -20])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_truncated(tmp_path, keep, compression):
    path = tmp_path / "a.tif"
    data = np.random.default_rng(0).normal(size=(6, 32, 32)).astype(np.float32)
    tifffile.imwrite(path, data, compression=compression, photometric="minisblack")
    raw = path.read_bytes()
    path.write_bytes(raw[: int(keep * len(raw)) if keep == 0.5 else keep])
    with pytest.raises(FileError) as caught:
        read_tomogram(path)
    assert str(path) in str(caught.value)


def test_page_claiming_gigabytes(tmp_path):
    """One page of 2^15 x 2^15 floats with 16 bytes behind it, plain and 'compressed'."""
    for compression in (1, 5, 8):
        tags = [(256, 4, 2**15), (257, 4, 2**15), (258, 3, 32), (259, 3, compression)]
        tags += [(262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 4, 2**15), (279, 4, 16), (339, 3, 3)]
        directory = struct.pack("<H", len(tags))
        for tag, kind, value in tags:
            directory += struct.pack("<HHII", tag, kind, 1, value)
        second = 24 + len(directory) + 4
        raw = b"II*\0" + struct.pack("<I", 24) + bytes(16)
        raw += directory + struct.pack("<I", second) + directory + struct.pack("<I", 0)
        path = tmp_path / f"{compression}.tif"
        path.write_bytes(raw)
        tracemalloc.start()
        try:
            with pytest.raises(FileError, match=r"claim 8\.0 GiB"):
                read_tomogram(path)
            assert tracemalloc.get_traced_memory()[1] < 2**22
        finally:
            tracemalloc.stop()


def test_non_finite_voxels_are_counted(tmp_path, phantom):
    phantom[1, 1, 1] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", phantom, photometric="minisblack")
    with pytest.warns(HeaderWarning, match="1 of 60 voxels"):
        read_tiff(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("name", "shape", "voxel_size", "largest"),
    [
        ("cylindra_mt/13pf_MT.tif", (36, 206, 94), (10.52, 10.52, 10.52), 255),
        ("cylindra_mt/14pf_MT.tif", (44, 136, 84), (10.52, 10.52, 10.52), 255),
        ("tardis_cnn/0_0_30_47_25.tif", (96, 96, 96), None, 254),
        ("tardis_cnn/4_0_55_98_25_mask.tif", (64, 64, 64), None, 1),
        ("autophagy/Phagophore_middle_labels.tif", (202, 928, 928), None, 3),
    ],
)
def test_real_volumes(real_data, name, shape, voxel_size, largest):
    tomogram = read_tomogram(real_data / name)
    assert tomogram.density.shape == shape
    assert tomogram.voxel_size == voxel_size
    assert tomogram.density.max() == largest
    if "autophagy" in name:  # not only the first page
        assert {0, 1, 2} == set(np.unique(tomogram.density[::10]).tolist())


def test_one_bit_pixels_are_named(tmp_path):
    path = tmp_path / "a.tif"
    pages = [Image.fromarray(np.eye(16, dtype=bool)) for _ in range(3)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    with pytest.raises(FileError, match="holds 1-bit pixels.*convert it"):
        read_tomogram(path)


@pytest.mark.parametrize("kept", [8, 15])
def test_an_imagej_stack_that_lost_pages_is_refused(tmp_path, kept):
    path = tmp_path / "a.tif"
    data = np.random.default_rng(0).normal(size=(16, 8, 9)).astype(np.float32)
    stated = "ImageJ=1.53t\nimages=16\nslices=16\n"
    for count in (16, kept):
        with tifffile.TiffWriter(path) as file:
            for z in range(count):
                options = {"metadata": None, "contiguous": False, "compression": "zlib"}
                file.write(data[z], description=None if z else stated, **options)
        if count == 16:
            np.testing.assert_array_equal(read_tomogram(path).density, data)
    with pytest.raises(FileError) as caught:
        read_tomogram(path)
    assert str(path) in str(caught.value)
