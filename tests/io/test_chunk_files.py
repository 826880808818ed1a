"""Zarr volumes whose files are not all there, or not what they should be."""

import json
import os
import shutil

import numpy as np
import pytest
import tensorstore as ts

from cryojax_seg.io import FileError, HeaderWarning, describe, read_zarr, write_zarr

SHAPE = (4, 6, 8)
DATA = np.random.default_rng(5).integers(1, 9, SHAPE).astype(np.int16)


def foreign(path, data, version, shards=None, separator="/", empty=False):
    """A volume in chunks of 2^3 as other programs write it, perhaps without chunks of zeros."""
    path.mkdir()
    axes = [{"name": axis, "type": "space", "unit": "angstrom"} for axis in "zyx"]
    steps = [{"type": "scale", "scale": [10.0, 10.0, 10.0]}]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}
    if version == 2:
        image["version"] = "0.4"
        (path / ".zattrs").write_text(json.dumps({"multiscales": [image]}))
        (path / ".zgroup").write_text('{"zarr_format": 2}')
        metadata = {"shape": data.shape, "chunks": [2, 2, 2], "dtype": "<i2"}
        metadata |= {"dimension_separator": separator, "fill_value": 0, "compressor": None}
    else:
        ome = {"ome": {"version": "0.5", "multiscales": [image]}}
        group = {"zarr_format": 3, "node_type": "group", "attributes": ome}
        (path / "zarr.json").write_text(json.dumps(group))
        inner = [{"name": "bytes", "configuration": {"endian": "little"}}]
        grid = shards or [2, 2, 2]
        if shards:
            sharding = {"chunk_shape": [2, 2, 2], "codecs": inner}
            inner = [{"name": "sharding_indexed", "configuration": sharding}]
        metadata = {
            "shape": data.shape,
            "data_type": "int16",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": grid}},
            "codecs": inner,
            "fill_value": 0,
        }
    store = {"driver": "file", "path": f"{path / '0'}/"}
    driver = "zarr" if version == 2 else "zarr3"
    spec = {"driver": driver, "kvstore": store, "metadata": metadata}
    spec |= {"store_data_equal_to_fill_value": True} if empty else {}
    ts.open(spec, create=True).result().write(data).result()
    return path


KINDS = {
    "v2 nested": {"version": 2},
    "v2 flat": {"version": 2, "separator": "."},
    "v3": {"version": 3},
    "v3 shards": {"version": 3, "shards": [4, 2, 4]},
}


def chunk_files(path):
    files = [p for p in (path / "0").rglob("*") if p.is_file() and not p.name.startswith(".z")]
    return sorted(p for p in files if p.name != "zarr.json")


@pytest.fixture(params=KINDS)
def volume(request, tmp_path):
    return foreign(tmp_path / "a.zarr", DATA, **KINDS[request.param])


def test_a_complete_volume_is_read_without_a_word(volume):
    np.testing.assert_array_equal(np.asarray(read_zarr(volume).density), DATA)
    assert len(chunk_files(volume)) in (24, 6)


def test_missing_chunks_are_counted(volume):
    files = chunk_files(volume)
    for file in files[:3]:
        file.unlink()
    words = (
        f"a.zarr: 3 of {len(files)} chunk files \\({100 * 3 / len(files):.2g} %\\) are not there"
    )
    with pytest.warns(HeaderWarning, match=words):
        found = np.asarray(read_zarr(volume).density)
    assert (found[found > 0] == DATA[found > 0]).all() and (found == 0).any()
    for file in files[3:]:
        file.unlink()
    with pytest.raises(
        FileError, match=f"{len(files)} of its {len(files)} chunk files are missing"
    ):
        read_zarr(volume)


@pytest.mark.parametrize("kind", ["pipe", "folder", "dangling", "outside", "loop"])
def test_what_is_no_chunk_is_refused_and_never_opened(volume, tmp_path, kind):
    file = chunk_files(volume)[1]
    shutil.move(file, tmp_path / "elsewhere")
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        targets = {"dangling": volume / "0" / "no", "outside": tmp_path / "elsewhere", "loop": file}
        file.symlink_to(targets[kind])
    for read in (read_zarr, describe):
        with pytest.raises(FileError) as caught:
            read(volume)
        assert str(file) in str(caught.value)


def test_folders_and_metadata_that_lead_elsewhere(tmp_path):
    path = foreign(tmp_path / "a.zarr", DATA, 3)
    shutil.move(path / "0" / "c", tmp_path / "c")
    (path / "0" / "c").symlink_to(tmp_path / "c")
    with pytest.raises(FileError, match="0/c: is a link out of the array"):
        read_zarr(path)
    (path / "0" / "c").unlink()
    shutil.move(tmp_path / "c", path / "0" / "c")
    shutil.move(path / "0" / "zarr.json", tmp_path / "zarr.json")
    (path / "0" / "zarr.json").symlink_to(tmp_path / "zarr.json")
    with pytest.raises(FileError, match=r"zarr.json: is a link out of the array"):
        read_zarr(path)
    (path / "0" / "zarr.json").unlink()
    os.mkfifo(path / "0" / "zarr.json")
    with pytest.raises(FileError, match=r"zarr.json: is a pipe"):
        read_zarr(path)


def test_a_link_within_the_array_is_followed(tmp_path):
    path = foreign(tmp_path / "a.zarr", DATA, 3)
    first, second = chunk_files(path)[:2]
    second.unlink()
    second.symlink_to(first)
    assert np.asarray(read_zarr(path).density)[:2, :2, 2:4].tolist() == DATA[:2, :2, :2].tolist()


def test_own_sparse_volumes_are_read_without_a_word_and_incomplete_ones_refused(tmp_path):
    labels = np.zeros((2, 3, 400), np.int8)
    labels[1, 1, 300] = 1
    path = tmp_path / "l.zarr"
    write_zarr(path, labels, voxel_size=10.0)
    np.testing.assert_array_equal(np.asarray(read_zarr(path).density), labels)
    (file,) = chunk_files(path)
    file.unlink()
    with pytest.raises(FileError, match="1 of its 1 chunk files are missing"):
        read_zarr(path)
    write_zarr(path, np.zeros((2, 3, 400), np.int8), voxel_size=10.0, overwrite=True)
    assert not np.asarray(read_zarr(path).density).any()


def test_metadata_that_claim_a_volume_that_is_not_there(tmp_path):
    path = foreign(tmp_path / "a.zarr", DATA, 3)
    file = path / "0" / "zarr.json"
    content = json.loads(file.read_text())
    for shape, words in (([10**9] * 3, "2.40 voxels"), ([1, 1, 10**13], "2.40 voxels")):
        file.write_text(json.dumps(content | {"shape": shape}))
        for read in (read_zarr, describe):
            with pytest.raises(FileError, match=words):
                read(path)
    file.write_text("[" * 100_000)
    with pytest.raises(FileError, match=r"0/zarr.json: is nested more than 64"):
        read_zarr(path)
