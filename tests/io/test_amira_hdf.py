"""Amira lattices and EMAN2's HDF5: every way to store them, and files that are refused."""

import warnings
import zlib

import h5py
import numpy as np
import pytest

from cryojax_seg.core import Tomogram
from cryojax_seg.io import FileError, HeaderWarning, read_labels, read_tomogram
from cryojax_seg.io.hdf import H5Volume

SIZE = (12.0, 11.0, 13.5)  # angstrom, zyx
TYPES = {"u1": "byte", "i2": "short", "u2": "ushort", "i4": "int", "f4": "float", "f8": "double"}


def quiet(read, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HeaderWarning)
        return read(*arguments, **options)


def runs(raw: bytes) -> bytes:
    """HxByteRLE by its definition: runs of equal bytes, and single ones as they are."""
    found, place = bytearray(), 0
    while place < len(raw):
        count = 1
        while place + count < len(raw) and raw[place + count] == raw[place] and count < 127:
            count += 1
        found += bytes([count, raw[place]]) if count > 1 else bytes([129, raw[place]])
        place += count
    return bytes(found)


def amira(data, packing="", kind="BINARY-LITTLE-ENDIAN", name="Labels", unit=""):
    """The bytes of a .am file as Amira writes it."""
    order = ">" if kind == "BINARY" else "<"
    raw = data.astype(data.dtype.newbyteorder(order)).tobytes()
    if kind == "ASCII":
        raw = "\n".join(f"{v} " for v in data.ravel().tolist()).encode()
    packed = {"": raw, "HxByteRLE": runs(raw), "HxZip": zlib.compress(raw)}[packing]
    z, y, x = data.shape
    ends = [(n - 1) * v for n, v in zip((x, y, z), SIZE[::-1], strict=True)]
    box = " ".join(f"{low} {low + end}" for low, end in zip((25, 40, -70), ends, strict=True))
    tail = f"({packing},{len(packed)})" if packing else ""
    header = f"""# AmiraMesh {kind} 2.1

define Lattice {x} {y} {z}

Parameters {{
    Units {{ Coordinates "{unit}" }}
    Materials {{ Exterior {{ Id 1 }} Membrane {{ Color 1 0 0, Id 2 }} }}
    Content "{x}x{y}x{z} {TYPES[data.dtype.str[1:]]}, uniform coordinates",
    BoundingBox {box},
    CoordType "uniform"
}}

Lattice {{ {TYPES[data.dtype.str[1:]]} {name} }} @1{tail}

# Data section follows
@1
"""
    return header.encode() + packed + b"\n"


@pytest.mark.parametrize("stored", TYPES)
@pytest.mark.parametrize(
    ("packing", "kind"),
    [
        ("", "BINARY-LITTLE-ENDIAN"),
        ("", "BINARY"),
        ("", "ASCII"),
        ("HxByteRLE", "BINARY-LITTLE-ENDIAN"),
        ("HxZip", "BINARY-LITTLE-ENDIAN"),
    ],
)
def test_amira(put, phantom, stored, packing, kind):
    data = (phantom + 40).astype(stored)
    path = put("a.mrc", amira(data, packing, kind, unit="A"))  # told apart by content
    read = quiet(read_tomogram, path)
    np.testing.assert_array_equal(read.density, data)
    assert read.density.dtype == {"f8": "f4"}.get(stored, stored)
    assert read.voxel_size == SIZE
    assert read.origin == (-70.0, 40.0, 25.0)


def test_labels_of_amira(put, phantom):
    labels = (phantom > 20).astype(np.uint8)
    path = put("a.am", amira(labels, "HxByteRLE"))
    grid = Tomogram(phantom, SIZE)
    read = quiet(read_labels, path, grid, classes=("membrane",))
    np.testing.assert_array_equal(read.labels, labels)
    with pytest.raises(FileError, match="known are 0 background, 1 membrane"):
        quiet(read_labels, put("b.am", amira(3 * labels)), grid, classes=("membrane",))


def test_long_runs_of_amira(put):
    data = np.zeros((5, 30, 40), np.uint8)
    data[2, 3:20, 5:9] = 2
    np.testing.assert_array_equal(
        quiet(read_tomogram, put("a.am", amira(data, "HxByteRLE"))).density, data
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw[:200], "does not end"),
        (lambda raw: raw[:-20], "truncated"),
        (lambda raw: raw.replace(b"Lattice 5 4 3", b"Lattice 99999 99999 99999"), "truncated"),
        (lambda raw: raw.replace(b"Lattice 5 4 3", b"Lattice 0 4 3"), "header is damaged"),
        (lambda raw: raw.replace(b"{ byte", b"{ byte[3]"), "has no lattice of one number"),
        (lambda raw: raw.replace(b"@1(HxByteRLE", b"@1(HxOther"), "compressed by HxOther"),
        (lambda raw: raw.replace(b"Lattice { byte", b"Lattice { complex"), "holds complex"),
    ],
)
def test_damaged_amira(put, phantom, change, words):
    raw = change(amira((phantom + 40).astype(np.uint8), "HxByteRLE"))
    path = put("a.am", raw)
    with pytest.raises(FileError, match=words) as caught:
        quiet(read_tomogram, path)
    assert str(path) in str(caught.value)


def eman(path, data, render=None, **options):
    """A file as EMAN2 writes it, with its header; `render` compresses to so many bits."""
    with h5py.File(path, "w") as file:
        group = file.create_group("MDF/images/0")
        file["MDF/images"].attrs["imageid_max"] = np.int32(0)
        for axis, size, origin in zip("zyx", SIZE, (-70.0, 40.0, 25.0), strict=True):
            group.attrs[f"EMAN.apix_{axis}"] = np.float32(size)
            group.attrs[f"EMAN.origin_{axis}"] = np.float32(origin)
            group.attrs[f"EMAN.n{axis}"] = np.int32(data.shape["zyx".index(axis)])
        group.attrs["EMAN.source_path"] = "a.mrc"
        if render:
            low, high = float(data.min()), float(data.max())
            group.attrs["EMAN.stored_renderbits"] = np.int32(render)
            group.attrs["EMAN.stored_rendermin"] = np.float32(low)
            group.attrs["EMAN.stored_rendermax"] = np.float32(high)
            whole = np.round((data - low) / (high - low) * (2**render - 1))
            data = whole.astype(np.uint8 if render <= 8 else np.uint16)
        group.create_dataset("image", data=data, **options)


PACKED = {"chunks": (1, 4, 5), "compression": "gzip", "shuffle": True}


@pytest.mark.parametrize("options", [{}, PACKED])
@pytest.mark.parametrize("mmap", ["auto", True])
def test_eman(tmp_path, phantom, options, mmap):
    eman(tmp_path / "a.mrc", phantom, **options)  # told apart by content
    read = quiet(read_tomogram, tmp_path / "a.mrc", mmap=mmap)
    np.testing.assert_array_equal(read.density[:, :, :], phantom)
    np.testing.assert_array_equal(np.asarray(read.density)[1:, 2], phantom[1:, 2])
    assert read.voxel_size == SIZE
    assert read.origin == (-70.0, 40.0, 25.0)
    lazy = H5Volume if options else np.memmap
    assert isinstance(read.density, lazy) == (mmap is True)


@pytest.mark.parametrize("bits", [5, 8, 12])
def test_compressed_images_of_eman_have_their_values(tmp_path, phantom, bits):
    eman(tmp_path / "a.hdf", phantom, bits, **PACKED)
    read = quiet(read_tomogram, tmp_path / "a.hdf").density
    step = float(np.ptp(phantom)) / (2**bits - 1)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, phantom, atol=0.51 * step)
    assert (read.min(), read.max()) == (phantom.min(), phantom.max())


def put_attribute(group, name, value):
    """As `HdfIO2::write_attr` of EMAN2 writes it: arrays of one number, and words that end in 0."""
    space, stored = h5py.h5s.create_simple((1,)), np.asarray([value])
    if isinstance(value, bytes):
        kind, space = h5py.h5t.C_S1.copy(), h5py.h5s.create(h5py.h5s.SCALAR)
        kind.set_size(len(value) + 1)
        stored = np.asarray(value, f"S{len(value) + 1}")
    elif isinstance(value, list):  # a Transform: 3 rows of 4
        fields = [(f"{i // 4}{i % 4}", np.float32) for i in range(12)]
        stored = np.array([tuple(value)], fields)
        kind = h5py.h5t.py_create(stored.dtype)
    else:
        stored = stored.astype({int: np.int32, float: np.float32, np.int8: np.int8}[type(value)])
        kind = h5py.h5t.py_create(stored.dtype)
    h5py.h5a.create(group.id, name.encode(), kind, space).write(stored)


def test_a_header_in_all_types_of_eman(tmp_path, phantom):
    """Whole numbers that were compressed to 8 bits come back as they were."""
    path, labels = tmp_path / "a.hdf", (phantom > 20) * 2 + (phantom > 40) * 1
    with h5py.File(path, "w") as file:
        images = file.create_group("MDF/images")
        put_attribute(images, "imageid_max", 0)
        group = images.create_group("0")
        header = {"nx": 5, "ny": 4, "nz": 3, "is_complex": np.int8(ord("F")), "ptcl_repr": 1}
        header |= {f"apix_{axis}": size for axis, size in zip("zyx", SIZE, strict=True)}
        header |= {
            f"origin_{axis}": where for axis, where in zip("zyx", (-7.0, 4.0, 2.0), strict=True)
        }
        header |= {"source_path": b"tomograms/a.hdf", "xform.align3d": [1.0] * 12}
        header |= {"stored_renderbits": 8, "stored_rendermin": 0.0, "stored_rendermax": 255.0}
        for name, value in (header | {"stored_truncated": 0}).items():
            put_attribute(group, f"EMAN.{name}", value)
        group.create_dataset("image", data=labels.astype("u1"), chunks=(1, 4, 5), compression=1)
    read = quiet(read_tomogram, path)
    assert (read.voxel_size, read.origin) == (SIZE, (-7.0, 4.0, 2.0))
    names = ("background", "a", "b", "c")
    np.testing.assert_array_equal(quiet(read_labels, path, read, classes=names).labels, labels)


def test_one_value_that_eman_compressed(tmp_path, phantom):
    """The lowest and the highest value are the same, and all voxels have it."""
    eman(tmp_path / "a.hdf", np.zeros_like(phantom))
    with h5py.File(tmp_path / "a.hdf", "a") as file:
        header = {"bits": np.int32(5), "min": np.float32(0.5), "max": np.float32(0.5)}
        for name, value in header.items():
            file["MDF/images/0"].attrs[f"EMAN.stored_render{name}"] = value
    assert (quiet(read_tomogram, tmp_path / "a.hdf").density == 0.5).all()


@pytest.mark.parametrize("stated", [None, 1.0, 13.5])
def test_the_pixel_spacing_of_imod_counts_where_eman_states_none(tmp_path, phantom, stated):
    path = tmp_path / "a.hdf"
    with h5py.File(path, "w") as file:
        file.create_group("MDF/images/0")["image"] = phantom
        file["MDF/images"].attrs["IMOD.PixelSpacing"] = np.float32([10.5])
        for axis in "xyz" if stated else "":
            file["MDF/images/0"].attrs[f"EMAN.apix_{axis}"] = np.float32(stated)
    size = stated if stated == 13.5 else 10.5
    assert quiet(read_tomogram, path).voxel_size == (size,) * 3


def test_other_hdf5_files(tmp_path, phantom):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["exported_data"] = phantom.astype(np.int64)[None]
        file["exported_data"].attrs["element_size_um"] = [0.0012, 0.0011, 0.00135]
        file["names"] = np.arange(3)
    read = quiet(read_tomogram, path)
    np.testing.assert_array_equal(read.density, phantom)
    assert (read.density.dtype, read.voxel_size) == (np.int32, SIZE)
    with h5py.File(path, "a") as file:
        file["second"] = phantom
    with pytest.raises(
        FileError, match="holds 2 data sets that are volumes: exported_data, second"
    ):
        read_tomogram(path)


def test_hdf5_leads_nowhere_else_and_claims_no_more_than_it_holds(tmp_path, phantom):
    eman(tmp_path / "other.hdf", phantom)
    path = tmp_path / "a.hdf"
    with h5py.File(path, "w") as file:
        group = file.create_group("MDF/images/0")
        group["image"] = h5py.ExternalLink("other.hdf", "/MDF/images/0/image")
    with pytest.raises(FileError, match="leads to another file"):
        read_tomogram(path)
    with h5py.File(path, "w") as file:
        group = file.create_group("MDF/images/0")
        group.create_dataset("image", (10**6, 10**6, 10**3), np.float32, chunks=(1, 64, 64))
    with pytest.raises(FileError, match="truncated or damaged: it claims") as caught:
        read_tomogram(path)
    assert str(path) in str(caught.value)
    with h5py.File(path, "w") as file:
        for name in "01":
            file.create_group(f"MDF/images/{name}")["image"] = phantom
    with pytest.raises(FileError, match="stack of 2 images"):
        read_tomogram(path)


@pytest.mark.parametrize("kept", [9, 0.5, -8])
@pytest.mark.parametrize("options", [{}, PACKED])
def test_truncated_hdf5(tmp_path, phantom, kept, options):
    path = tmp_path / "a.hdf"
    eman(path, phantom, **options)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2 if kept == 0.5 else kept])
    with pytest.raises(FileError) as caught:
        read_tomogram(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", ["amira", "ascii", "rle", "zip", "hdf", "chunks"])
def test_random_damage(tmp_path, put, phantom, kind):
    """Whatever the bytes: a volume or a FileError that names the file."""
    data, path = (phantom + 40).astype(np.uint8), tmp_path / "a"
    if kind in ("hdf", "chunks"):
        eman(path, phantom, **(PACKED if kind == "chunks" else {}))
    else:
        packing = {"rle": "HxByteRLE", "zip": "HxZip"}.get(kind, "")
        order = "ASCII" if kind == "ascii" else "BINARY-LITTLE-ENDIAN"
        put("a", amira(data, packing, order))
    raw = path.read_bytes()
    rng, seen = np.random.default_rng(5), set()
    for _ in range(200):
        damaged = bytearray(raw)
        for place in rng.integers(0, min(len(raw), 4096), rng.integers(1, 5)):
            damaged[place] = int(rng.choice([0, 1, 127, 128, 255, rng.integers(256)]))
        if rng.random() < 0.1:
            damaged = damaged[: rng.integers(1, len(damaged))]
        path.write_bytes(damaged)
        try:
            seen.add(type(quiet(read_tomogram, path)))
        except FileError as error:
            assert str(path) in str(error)
            seen.add(FileError)
    assert seen == {Tomogram, FileError}


def test_labels_of_eman(tmp_path, phantom):
    labels = (phantom > 20).astype(np.uint8)
    grid = Tomogram(phantom, SIZE)
    eman(tmp_path / "a.hdf", labels, **PACKED)
    read = quiet(read_labels, tmp_path / "a.hdf", grid, classes=("membrane",))
    np.testing.assert_array_equal(read.labels, labels)
    eman(tmp_path / "b.hdf", 3 * labels)
    with pytest.raises(FileError, match="known are 0 background, 1 membrane") as caught:
        quiet(read_labels, tmp_path / "b.hdf", grid, classes=("membrane",))
    assert str(tmp_path / "b.hdf") in str(caught.value)


@pytest.mark.parametrize("kind", ["amira", "hdf"])
def test_a_missing_voxel_size_gets_one_line(tmp_path, put, phantom, kind):
    path = tmp_path / "a"
    if kind == "amira":
        raw = amira(phantom.astype(np.float32))
        put("a", raw.replace(b"BoundingBox", b"Nothing"))
    else:
        with h5py.File(path, "w") as file:
            file["volume"] = phantom
    with pytest.warns(HeaderWarning, match="voxel size unknown; give voxel_size") as caught:
        read = read_tomogram(path)
    assert len(caught) == 1 and str(path) in str(caught[0].message)
    assert read.voxel_size is None
    np.testing.assert_array_equal(read.density, phantom)
    assert read_tomogram(path, voxel_size=9.0).voxel_size == (9.0, 9.0, 9.0)
