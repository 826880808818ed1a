"""OME-TIFF sets: every plane as it is in its file, or a refusal that names what is missing."""

import itertools
import os
import time
import tracemalloc

import numpy as np
import pytest
import tifffile

from cryojax_seg.io import FileError, read_tiff

DATA = np.random.default_rng(3).normal(size=(16, 8, 9)).astype(np.float32)
UUIDS = ("urn:uuid:0", "urn:uuid:1")


ENTITIES = "".join(f'<!ENTITY {c} "{f"&{b};" * 10}">' for b, c in itertools.pairwise("abcdefghij"))
BILLION_LAUGHS = f'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">{ENTITIES}]><OME>&j;</OME>'


def plane_list(blocks):
    """TiffData elements: first z, first page, planes, and perhaps the name and UUID of a file."""
    for z, ifd, count, *file in blocks:
        inside = f'<UUID FileName="{file[0]}">{file[1]}</UUID>' if file else ""
        yield f'<TiffData FirstZ="{z}" IFD="{ifd}" PlaneCount="{count}">{inside}</TiffData>'


def ome(blocks, depth=16, uuid=UUIDS[0], extra="", **sizes):
    sizes = {"X": 9, "Y": 8, "Z": depth, "C": 1, "T": 1} | sizes
    stated = " ".join(f'Size{axis}="{n}"' for axis, n in sizes.items())
    return (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        f'UUID="{uuid}"><Image ID="Image:0">{extra}<Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
        f'Type="float" {stated}>{"".join(plane_list(blocks))}</Pixels></Image></OME>'
    )


def write(path, data, xml, compression=None):
    with tifffile.TiffWriter(path, ome=False) as file:
        for z, page in enumerate(data):
            description = xml if z == 0 else None
            options = {"metadata": None, "contiguous": False, "compression": compression}
            file.write(page, description=description, photometric="minisblack", **options)


def two_files(folder, compression=None, **names):
    """A set of two files of eight planes each; the second may be called otherwise in the XML."""
    second = names.get("second", "b.ome.tif")
    blocks = [(0, 0, 8, "a.ome.tif", UUIDS[0]), (8, 0, 8, second, UUIDS[1])]
    write(folder / "a.ome.tif", DATA[:8], ome(blocks), compression)
    write(folder / "b.ome.tif", DATA[8:], ome(blocks, uuid=UUIDS[1]), compression)
    return folder / "a.ome.tif"


def refusal(path):
    start = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(FileError) as caught:
            read_tiff(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    assert time.monotonic() - start < 5
    message = str(caught.value)
    assert str(path) in message and len(message) <= 500
    return message


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("named", ["a.ome.tif", "b.ome.tif"])
def test_a_complete_set(tmp_path, compression, named):
    two_files(tmp_path, compression)
    np.testing.assert_array_equal(read_tiff(tmp_path / named).density, DATA)


def test_planes_in_another_order(tmp_path):
    path = tmp_path / "a.ome.tif"
    write(path, DATA[::-1], ome([(z, 15 - z, 1) for z in range(16)]))
    np.testing.assert_array_equal(read_tiff(path).density, DATA)


def test_all_planes_in_the_other_file(tmp_path):
    two_files(tmp_path)
    path = tmp_path / "c.ome.tif"
    blocks = [(0, 0, 8, "b.ome.tif", UUIDS[1])]
    write(path, DATA[:8] + 100, ome(blocks, depth=8, uuid="urn:uuid:9"))
    np.testing.assert_array_equal(read_tiff(path).density, DATA[8:])


def test_a_missing_file(tmp_path):
    path = two_files(tmp_path)
    (tmp_path / "b.ome.tif").unlink()
    assert "b.ome.tif" in refusal(path)


@pytest.mark.parametrize("kind", ["pipe", "folder", "empty", "dangling"])
def test_something_else_in_the_place_of_a_file(tmp_path, kind):
    path, other = two_files(tmp_path), tmp_path / "b.ome.tif"
    other.unlink()
    if kind == "pipe":
        os.mkfifo(other)
    elif kind == "folder":
        other.mkdir()
    elif kind == "empty":
        other.touch()
    else:
        other.symlink_to("nothing")
    assert "b.ome.tif" in refusal(path)


@pytest.mark.parametrize("name", ["../b.ome.tif", "/etc/passwd", "..\\b.tif", "x/../b.ome.tif", ""])
def test_a_file_elsewhere(tmp_path, name):
    assert "is not beside it" in refusal(two_files(tmp_path, second=name))


def test_a_damaged_file_of_the_set(tmp_path):
    path = two_files(tmp_path)
    raw = (tmp_path / "b.ome.tif").read_bytes()
    for content in (raw[: len(raw) // 2], b"not a TIFF", raw[:100]):
        (tmp_path / "b.ome.tif").write_bytes(content)
        refusal(path)


@pytest.mark.parametrize(
    "blocks",
    [[(0, 0, 8)], [(0, 0, 8), (9, 8, 7)], [(0, 0, 15), (15, 20, 1)]],
)
def test_missing_planes(tmp_path, blocks):
    path = tmp_path / "a.ome.tif"
    write(path, DATA, ome(blocks))
    refusal(path)


def test_without_a_list_of_planes_they_are_the_pages(tmp_path):
    path = tmp_path / "a.ome.tif"
    write(path, DATA, ome([]))
    np.testing.assert_array_equal(read_tiff(path).density, DATA)
    write(path, DATA[:12], ome([]))
    assert "claims 16 planes" in refusal(path)


@pytest.mark.parametrize(
    "xml",
    [
        ome([(0, 0, 16)], depth=10**9),
        ome([], depth=10**9),
        ome([(0, 0, 10**9)]),
        ome([(0, 10**9, 1)]),
        ome([(10**9, 0, 1)]),
        ome([(0, 0, 16)], T=10**9),
        ome([(0, 0, 16)], C=10**12),
        ome([(0, 0, 16)], X=10**9),
        ome([(0, 0, 16)], depth=10**30),
        ome([(0, 0, 16)], depth=-4),
        ome([(0, 0, 16)], depth="many"),
        ome([(0, 0, 16)], depth="٣"),
        ome([(0, 0, 16)], X=8, Y=9),
        ome([(0, 0, 16)]).replace("XYZCT", "XXXXX"),
        ome([(0, 0, 16)]).replace("<TiffData", '<Channel SamplesPerPixel="999999999"/><TiffData'),
        ome([(0, 0, 16)], depth=0),
        ome([(0, 0, 16)])[:-20],
        "<OME " + "<x>" * 50_000 + "</OME>",
        ome([(0, 0, 16)]).replace(
            "</OME>",
            '<StructuredAnnotations><XMLAnnotation ID="A" Namespace="o/modulo"><Value><Modulo>'
            '<ModuloAlongZ Type="phase" Start="0" End="1e12" Step="1"/></Modulo></Value>'
            "</XMLAnnotation></StructuredAnnotations></OME>",
        ),
        ome([(0, 0, 16)]).replace("<Image", '<BinaryOnly MetadataFile="c.xml"/><Image'),
        '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
        + "".join(
            f'<!ENTITY {c} "{f"&{b};" * 10}">' for b, c in zip("abcdefgh", "bcdefghi", strict=True)
        )
        + "]><OME>&i;</OME>",
    ],
)
def test_hostile_descriptions(tmp_path, xml):
    path = tmp_path / "a.ome.tif"
    write(path, DATA, xml.encode())
    refusal(path)


def test_voxel_size_and_values_of_a_plain_file(tmp_path):
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": "ZYX", "PhysicalSizeX": 1.0, "PhysicalSizeXUnit": "nm"}
    metadata |= {"PhysicalSizeY": 1.0, "PhysicalSizeYUnit": "nm"}
    metadata |= {"PhysicalSizeZ": 1.0, "PhysicalSizeZUnit": "nm"}
    tifffile.imwrite(path, DATA, metadata=metadata, photometric="minisblack")
    found = read_tiff(path)
    assert found.voxel_size == (10.0, 10.0, 10.0)
    np.testing.assert_array_equal(found.density, DATA)
