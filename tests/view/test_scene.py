"""Neuroglancer gets the volumes as they lie on disk."""

import urllib.error
import urllib.request
import zlib
from io import BytesIO

import numpy as np
import pytest

from cryojax_seg import io, view
from cryojax_seg.core import Particles
from cryojax_seg.io.label_card import LabelCard

pytest.importorskip("neuroglancer")

SHAPE = (8, 20, 24)


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    density = rng.normal(size=SHAPE).astype(np.float32)
    labels = np.zeros(SHAPE, np.int8)
    labels[2:5, 4:9] = 2
    labels[0] = -1
    io.write_mrc(tmp_path / "t.mrc", density, voxel_size=13.0)
    io.write_mrc(tmp_path / "l.mrc", labels, voxel_size=13.0, card=LabelCard(("ER", "actin")))
    io.write_mrc(tmp_path / "p.mrc", (labels == 2).astype(np.float16) / 4, voxel_size=13.0)
    io.write_zarr(tmp_path / "t.zarr", density, voxel_size=13.0)
    listed = Particles(np.array([[1.0, 2.0, 3.0], [2.0, 5.0, 7.0]]), voxel_size=13.0)
    io.write_particles(tmp_path / "p.star", listed)
    return tmp_path, density, labels


def token(layer):
    return layer.source[0].url.removeprefix("python://volume/")


def voxels(viewer, layer, low, high, dtype=np.uint8):
    """What the page gets of a part of a layer."""
    place = "/".join(",".join(map(str, corner)) for corner in (low, high))
    address = f"{str(viewer).split('/v/')[0]}/neuroglancer/npz/{token(layer)}/1,1,1/{place}"
    with urllib.request.urlopen(address, timeout=30) as answer:
        found = np.load(BytesIO(zlib.decompress(answer.read())))
    assert found.dtype == dtype
    return found


@pytest.mark.parametrize("name", ["t.mrc", "t.zarr"])
def test_every_layer_has_the_voxels_of_its_file(files, name):
    folder, density, labels = files
    viewer = view.open_scene(folder / name, folder / "l.mrc", [folder / "p.mrc"], folder / "p.star")
    layers = {layer.name: layer.layer for layer in viewer.state.layers}
    assert list(layers) == [name, "l.mrc", "ER probability", "p.star"]
    low, high = (1, 3, 2), (6, 18, 20)
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    np.testing.assert_array_equal(voxels(viewer, layers[name], low, high, "f4"), density[part])
    np.testing.assert_array_equal(voxels(viewer, layers["l.mrc"], low, high), labels[part])
    assert not voxels(viewer, layers["l.mrc"], (0, 0, 0), (1, 20, 24)).any()  # nobody annotated it
    found = voxels(viewer, layers["ER probability"], low, high)
    np.testing.assert_array_equal(found, np.where(labels[part] == 2, 64, 0))
    assert layers["l.mrc"].segments == {1, 2}
    points = [list(one.point) for one in layers["p.star"].annotations]
    assert points == [[1.0, 2.0, 3.0], [2.0, 5.0, 7.0]]
    assert viewer.state.dimensions.scales.tolist() == pytest.approx([1.3e-9] * 3)


def test_only_its_own_link_reaches_it(files):
    viewer = view.open_scene(files[0] / "t.mrc")
    link = str(viewer)
    assert link.startswith("http://127.0.0.1:") and len(link.rstrip("/").split("/")[-1]) >= 40
    with urllib.request.urlopen(link, timeout=30) as answer:
        assert b"neuroglancer" in answer.read()
    wrong = link.replace(link.rstrip("/").split("/")[-1], "0" * 40)
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(wrong, timeout=30)
    with error.value:
        assert error.value.code == 404


def test_volumes_on_other_grids_are_refused(files, write):
    folder = files[0]
    other = write("other.mrc", np.zeros((8, 20, 25), np.int8), 13.0)
    with pytest.raises(io.FileError, match=r"shape \(8, 20, 25\)"):
        view.open_scene(folder / "t.mrc", other)
    with pytest.raises(io.FileError, match="voxel size"):
        view.open_scene(folder / "t.mrc", write("other.mrc", np.zeros(SHAPE, np.int8), 10.0))
