"""Volumes of other fields: written by the library of each, read by ours, and refused alike."""

import gzip
import tracemalloc
import warnings

import emfile
import nibabel
import nrrd
import numpy as np
import pytest

from cryojax_seg.core import Tomogram
from cryojax_seg.io import FileError, HeaderWarning, describe, read_labels, read_tomogram
from cryojax_seg.io.nifti import nifti_header
from cryojax_seg.io.nrrd import nrrd_header

SIZE, ORIGIN = (12.0, 11.0, 13.5), (-70.0, 40.0, 25.0)  # angstrom, zyx


def nifti(path, data, unit="micron", per=1e4, affine=None, **_):
    if affine is None:
        affine = np.diag([*(v / per for v in SIZE[::-1]), 1.0])
        affine[:3, 3] = [v / per for v in ORIGIN[::-1]]
    image = nibabel.Nifti1Image(data.transpose(2, 1, 0), affine)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)


def slicer(path, data, encoding="raw", **fields):
    x, y, z = SIZE[::-1]
    header = {"space": "left-posterior-superior", "encoding": encoding}
    header |= {"space directions": np.diag([x, y, z]), "space origin": np.array(ORIGIN[::-1])}
    header |= {"space units": ["angstrom"] * 3, **fields}
    nrrd.write(str(path), data, header, index_order="C")


def quiet(read, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HeaderWarning)
        return read(*arguments, **options)


WRITERS = {
    "nii": (nifti, True),
    "nii.gz": (nifti, True),
    "nrrd": (slicer, True),
    "nhdr": (slicer, True),
    "npy": (lambda path, data, **_: np.save(path, data), False),
    "em": (lambda path, data, **_: emfile.write(path, data.astype(np.float32)), False),
}


@pytest.fixture(params=WRITERS)
def kind(request):
    return request.param


@pytest.fixture
def volume(tmp_path, phantom, kind):
    path = tmp_path / f"v.{kind}"
    WRITERS[kind][0](path, phantom)
    return path


def test_the_phantom_is_read_as_it_was_written(volume, phantom, kind):
    read = quiet(read_tomogram, volume)
    np.testing.assert_array_equal(read.density, phantom)
    if WRITERS[kind][1]:
        assert read.voxel_size == SIZE
        np.testing.assert_allclose(read.origin, ORIGIN, rtol=1e-5)
    else:
        assert read.voxel_size is None
    assert read_tomogram(volume, voxel_size=9.0).voxel_size == (9.0, 9.0, 9.0)


def test_the_content_decides_and_not_the_suffix(volume, phantom, kind):
    if kind == "nhdr":  # which names a second file
        return
    other = volume.rename(volume.with_name("anything.mrc"))
    np.testing.assert_array_equal(quiet(read_tomogram, other).density, phantom)


def test_large_volumes_are_mapped(volume, phantom, kind):
    if kind == "nii.gz" or (kind == "nhdr"):
        return
    density = quiet(read_tomogram, volume, mmap=True).density
    assert isinstance(density, np.memmap)
    np.testing.assert_array_equal(density, phantom)


@pytest.mark.parametrize("stored", ["i1", "u1", "i2", "u2", "i4", "i8", "f4", "f8"])
def test_types(tmp_path, phantom, kind, stored):
    if kind == "em":
        return
    data = (phantom + 40 if stored[0] == "u" else phantom).astype(stored)
    data = data % 100 if stored == "i1" else data
    path = tmp_path / f"v.{kind}"
    if kind.startswith("nii"):
        image = nibabel.Nifti1Image(data.transpose(2, 1, 0), np.eye(4), dtype=stored)
        nibabel.save(image, path)
    else:
        WRITERS[kind][0](path, data)
    read = quiet(read_tomogram, path)
    np.testing.assert_array_equal(read.density, data)
    assert read.density.dtype == {"i8": "i4", "f8": "f4"}.get(stored, stored)


def test_labels_of_64_bits_are_read_where_they_fit(tmp_path, phantom, kind):
    if kind == "em":
        return
    path, data = tmp_path / f"v.{kind}", np.zeros((3, 4, 5), np.int64)
    data[1, 2, 3:] = 1

    def save(values):
        if kind.startswith("nii"):
            nibabel.save(nibabel.Nifti1Image(values.T, np.eye(4), dtype="i8"), path)
        else:
            WRITERS[kind][0](path, values)

    save(data)
    annotation = quiet(read_labels, path, Tomogram(phantom), classes=("membrane",))
    np.testing.assert_array_equal(annotation.labels, data)
    save(np.where(data > 0, 5, 0))
    with pytest.raises(FileError, match=r"known are 0 background, 1 membrane") as caught:
        quiet(read_labels, path, classes=("membrane",))
    assert str(path) in str(caught.value)
    save(np.where(data > 0, 2**40, 0))
    with pytest.raises(FileError, match=r"those of 32 bit"):
        quiet(read_labels, path)


def test_a_missing_voxel_size_gets_one_line(volume, kind):
    if WRITERS[kind][1]:
        return
    with pytest.warns(HeaderWarning, match="voxel size unknown; give voxel_size") as caught:
        read_tomogram(volume)
    assert len(caught) == 1
    assert str(volume) in str(caught[0].message)
    found = describe(volume)
    assert found.facts["voxel size (z, y, x)"] == "unknown"


@pytest.mark.parametrize("kept", [1, 300, 0.9, -1])
def test_truncated_files_are_refused(volume, kind, kept):
    if kind == "nhdr":
        volume = volume.with_suffix(".raw")
        path = volume.with_suffix(".nhdr")
    else:
        path = volume
    raw = volume.read_bytes()
    volume.write_bytes(raw[: int(kept * len(raw)) if kept == 0.9 else min(kept, len(raw) - 1)])
    with pytest.raises(FileError) as caught:
        quiet(read_tomogram, path)
    assert str(path) in str(caught.value) or str(volume) in str(caught.value)


def _claim(raw: bytes, kind: str, count: int) -> bytes:
    """The file with a shape of this many voxels along each axis."""
    short = np.array([count] * 3, "<i2").tobytes()
    if kind == "nii":
        return raw[:42] + short + raw[48:]
    if kind == "nii.gz":
        return gzip.compress(_claim(gzip.decompress(raw), "nii", count))
    if kind == "em":
        return raw[:4] + np.array([count] * 3, "<i4").tobytes() + raw[16:]
    if kind == "npy":
        words = b"(3, 4, 5), }"
        claim = f"({count}, {count}, {count}), }}".encode()
        return raw.replace(words + b" " * (len(claim) - len(words)), claim)
    return raw.replace(b"sizes: 5 4 3", f"sizes: {count} {count} {count}".encode())


def test_huge_claims_are_refused_before_anything_is_allocated(volume, kind):
    raw = volume.read_bytes()
    claim = _claim(raw, kind, 30_000)
    assert claim != raw
    volume.write_bytes(claim)
    tracemalloc.start()
    try:
        with pytest.raises(FileError) as caught:
            quiet(read_tomogram, volume)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
    assert str(volume.with_suffix("")) in str(caught.value)


def test_random_damage(volume, kind):
    """Whatever the bytes: a volume or a FileError that names the file, and little memory."""
    raw = volume.read_bytes()
    unpacked = gzip.decompress(raw) if kind.endswith("gz") else raw
    rng, seen = np.random.default_rng(11), set()
    places = min(len(unpacked), 700)
    tracemalloc.start()
    try:
        for _ in range(200):
            damaged = bytearray(unpacked)
            for place in rng.integers(0, places, rng.integers(1, 5)):
                damaged[place] = int(rng.choice([0, 1, 127, 128, 255, rng.integers(256)]))
            if rng.random() < 0.1:
                damaged = damaged[: rng.integers(1, len(damaged))]
            volume.write_bytes(gzip.compress(damaged, 1) if kind.endswith("gz") else damaged)
            try:
                seen.add(type(quiet(read_tomogram, volume)))
            except FileError as error:
                assert str(volume.with_suffix("")) in str(error)
                seen.add(FileError)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    assert seen == {Tomogram, FileError}


def test_a_wrong_magic_is_refused(tmp_path, put):
    for start in (b"NRRX0004\n", b"\x93NUMPX\x01\x00", bytes(344) + b"n+9\0", b"\x06\0\x01\x05"):
        path = put("a", start + bytes(2000))
        with pytest.raises(FileError, match="not an MRC file") as caught:
            read_tomogram(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("unit", "lengths", "expected", "words"),
    [
        ("micron", 0.00135, 13.5, None),
        ("mm", 1.35e-6, 13.5, None),
        ("meter", 1.35e-9, 13.5, None),
        ("mm", 13.5, 13.5, "mm, which no tomogram has"),
        ("unknown", 13.5, 13.5, "no unit of length"),
        ("mm", 1.0, None, "voxel size is 1, as where it is not known"),
    ],
)
def test_units_of_nifti(tmp_path, phantom, unit, lengths, expected, words):
    path = tmp_path / "a.nii"
    nifti(path, phantom, unit, affine=np.diag([lengths] * 3 + [1.0]))
    if words is None:
        read = read_tomogram(path)
    else:
        with pytest.warns(HeaderWarning, match=words):
            read = read_tomogram(path)
    assert read.voxel_size == (expected and (expected,) * 3)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (-1, 1, 1), (1, -1, -1)])
def test_an_affine_tells_where_voxels_lie(tmp_path, phantom, axes, signs):
    """The same scene, stored with other axes and directions, is read as the same volume."""
    straight = np.diag([13.5e-4, 11e-4, 12e-4, 1.0])
    image = nibabel.Nifti1Image(phantom.transpose(2, 1, 0), straight)
    stored = nibabel.orientations.inv_ornt_aff(
        np.array([[axis, sign] for axis, sign in zip(axes, signs, strict=True)]), image.shape
    )
    turned = image.as_reoriented([[a, s] for a, s in zip(axes, signs, strict=True)])
    np.testing.assert_allclose(turned.affine, straight @ stored, atol=1e-9)
    turned.header.set_xyzt_units("micron")
    nibabel.save(turned, tmp_path / "a.nii")
    read = quiet(read_tomogram, tmp_path / "a.nii")
    world = np.sign(turned.affine[:2, :3].sum(1))
    expected = phantom[:, ::-1, ::-1] if (world == -1).all() else phantom
    np.testing.assert_array_equal(read.density, expected)
    assert read.voxel_size == SIZE


def test_slope_and_intercept_of_nifti(tmp_path, phantom):
    image = nibabel.Nifti1Image(phantom.T.astype(np.int16), np.diag([13.0, 13.0, 13.0, 1.0]))
    image.header.set_slope_inter(0.5, -3.0)
    nibabel.save(image, tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[112:120] = np.array([0.5, -3.0], "<f4").tobytes()  # which nibabel applies and resets
    (tmp_path / "a.nii").write_bytes(raw)
    expected = nibabel.load(tmp_path / "a.nii").get_fdata().T
    read = quiet(read_tomogram, tmp_path / "a.nii")
    np.testing.assert_allclose(read.density, expected, rtol=1e-6)
    assert read.density.dtype == np.float32


def test_big_endian_files(tmp_path, phantom, put):
    header = nibabel.Nifti1Header(endianness=">")
    image = nibabel.Nifti1Image(phantom.T, np.diag([13.0, 13.0, 13.0, 1.0]), header)
    nibabel.save(image, tmp_path / "a.nii")
    assert (tmp_path / "a.nii").read_bytes()[:4] == b"\0\0\1\x5c"
    em = bytes([5, 0, 0, 5]) + np.array([5, 4, 3], ">i4").tobytes() + bytes(496)
    slicer(tmp_path / "a.nrrd", phantom.astype(">f4"), endian="big")
    for path in (
        tmp_path / "a.nii",
        tmp_path / "a.nrrd",
        put("a.em", em + phantom.astype(">f4").tobytes()),
    ):
        read = quiet(read_tomogram, path)
        np.testing.assert_array_equal(read.density, phantom)
        assert read.density.dtype == np.dtype("f4")


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
@pytest.mark.parametrize("suffix", ["nrrd", "nhdr"])
def test_encodings_of_nrrd(tmp_path, phantom, encoding, suffix):
    path = tmp_path / f"a.{suffix}"
    slicer(path, phantom, encoding)
    np.testing.assert_array_equal(quiet(read_tomogram, path).density, phantom)


@pytest.mark.parametrize("name", ["../other.raw", "LIST", "part%03d.raw 1 2 1"])
def test_a_header_of_nrrd_leads_nowhere_else(put, name):
    header = nrrd_header((2, 2, 2), np.int8).decode().rstrip() + f"\ndata file: {name}\n"
    path = put("a.nhdr", header.encode())
    with pytest.raises(FileError, match="not one file beside it"):
        read_tomogram(path)


def test_numpy_objects_and_images_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[[{}]]], object), allow_pickle=True)
    with pytest.raises(FileError, match="holds object"):
        read_tomogram(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.zeros((3, 4)))
    with pytest.raises(FileError, match="no single volume"):
        read_tomogram(tmp_path / "b.npy")
    np.save(tmp_path / "c.npy", np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)))
    read = quiet(read_tomogram, tmp_path / "c.npy")
    np.testing.assert_array_equal(read.density, np.arange(24.0).reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("header", "name", "load"),
    [
        (nifti_header, "a.nii", lambda path: nibabel.load(path).get_fdata().transpose(2, 1, 0)),
        (nrrd_header, "a.nrrd", lambda path: nrrd.read(str(path), index_order="C")[0]),
    ],
)
@pytest.mark.parametrize("stored", ["i1", "i2", "f4"])
def test_what_we_write_the_library_reads(put, phantom, header, name, load, stored):
    data = (phantom % 100).astype(stored)
    like = Tomogram(phantom, SIZE, ORIGIN)
    path = put(name, header(data.shape, data.dtype, like) + data.tobytes())
    np.testing.assert_array_equal(load(path), data)
    read = quiet(read_tomogram, path)
    np.testing.assert_array_equal(read.density, data)
    assert read.voxel_size == SIZE
    np.testing.assert_allclose(read.origin, ORIGIN, rtol=1e-6)
    if name == "a.nii":
        image = nibabel.load(path)
        np.testing.assert_allclose(np.array(image.header.get_zooms()) * 1e4, SIZE[::-1], rtol=1e-6)
        assert image.header.get_xyzt_units()[0] == "micron"
        assert nibabel.aff2axcodes(image.affine) == ("R", "A", "S")
    else:
        fields = nrrd.read_header(str(path))
        np.testing.assert_allclose(fields["space directions"], np.diag(SIZE[::-1]))


def test_a_missing_library_is_named_with_the_extra(tmp_path, phantom, monkeypatch):
    nifti(tmp_path / "a.nii", phantom)
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    with pytest.raises(FileError, match=r"nibabel.*pip install 'cryojax-seg\[formats\]'"):
        read_tomogram(tmp_path / "a.nii")
