"""OME-Zarr in and out: the right voxels at the right place, or a refusal that names the folder."""

import contextlib
import json
import math
import resource
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore as ts

from cryojax_seg.core import Tiling, Tomogram, normalize
from cryojax_seg.io import (
    Chunked,
    FileError,
    HeaderWarning,
    LabelCard,
    Output,
    TileJob,
    ZarrOutput,
    describe,
    is_zarr,
    read_labels,
    read_tomogram,
    read_zarr,
    write_mrc,
    write_zarr,
)
from cryojax_seg.io.ome_writing import ZarrForm

KINDS = ["?", "i1", "u1", "i2", "u2", "i4", "f2", "f4"]
UNITS = {"angstrom": 10.0, "nanometer": 1.0, "micrometer": 1e-3, "meter": 1e-9}  # of 10 A


def noise(shape, kind="f4"):
    values = np.random.default_rng(5).integers(0, 5, shape)
    return (values > 2 if kind == "?" else values - 2 * (kind[0] != "u")).astype(kind)


@pytest.fixture(scope="module")
def volume():
    """Two chunks along two axes and an odd rest."""
    return noise((5, 130, 131))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.zarr"


def edit(path, change):
    """Changes what attributes.ome holds, in place."""
    file = path / "zarr.json"
    content = json.loads(file.read_text())
    change(content["attributes"]["ome"])
    file.write_text(json.dumps(content))


def image(ome):
    return ome["multiscales"][0]


def level(ome):
    return image(ome)["datasets"][0]


def steps(ome):
    return level(ome)["coordinateTransformations"]


def old(path, data, axes, datasets, **image):
    """NGFF 0.4 on Zarr 2, through TensorStore alone."""
    for name, dtype, values in data:
        spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{path}/{name}/"}}
        spec["metadata"] = {"shape": values.shape, "dtype": dtype, "dimension_separator": "/"}
        ts.open(spec, create=True).result()[...] = values
    content = {"multiscales": [{"version": "0.4", "axes": axes, "datasets": datasets, **image}]}
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zattrs").write_text(json.dumps(content))


def check_ngff(path, shape, known):
    """What NGFF 0.5 demands of an image of three axes; returns its data sets."""
    group = json.loads((path / "zarr.json").read_text())
    assert group["zarr_format"] == 3 and group["node_type"] == "group"
    ome = group["attributes"]["ome"]
    assert ome["version"] == "0.5"
    (image,) = ome["multiscales"]
    assert image["name"] == path.name and isinstance(image["type"], str)
    assert isinstance(image["metadata"], dict)
    unit = {"unit": "angstrom"} if known else {}
    assert image["axes"] == [{"name": axis, "type": "space", **unit} for axis in "zyx"]
    before = None
    for dataset in image["datasets"]:
        scale, translation = dataset["coordinateTransformations"]
        assert set(scale) == {"type", "scale"} and scale["type"] == "scale"
        assert set(translation) == {"type", "translation"}
        assert translation["type"] == "translation"
        assert len(scale["scale"]) == len(translation["translation"]) == 3
        array = json.loads((path / dataset["path"] / "zarr.json").read_text())
        assert array["node_type"] == "array" and array["zarr_format"] == 3
        assert array["dimension_names"] == ["z", "y", "x"]
        wanted = shape if before is None else [-(-n // 2) for n in before]
        assert array["shape"] == list(wanted)
        chunk = array["chunk_grid"]["configuration"]["chunk_shape"]
        assert chunk == [min(n, 128) for n in wanted]
        before = array["shape"]
    assert max(before) <= 128
    return image["datasets"]


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(path, kind):
    data = noise((3, 4, 5), kind)
    write_zarr(path, data, voxel_size=10.0)
    tomogram = read_tomogram(path)
    assert isinstance(tomogram.density, Chunked) and is_zarr(path)
    assert tomogram.density.dtype == data.dtype and tomogram.density.dtype.isnative
    assert np.array_equal(tomogram.density, data)
    assert tomogram.voxel_size == (10.0, 10.0, 10.0) and tomogram.name == str(path)


def test_what_is_written_is_ome_zarr(path, volume):
    like = Tomogram(volume, (20.5, 10.25, 10.25), (-3.0, 0.0, 7.5))
    write_zarr(path, jnp.asarray(volume), like)
    with pytest.warns(HeaderWarning, match="differs between axes"):
        tomogram = read_zarr(path)
    assert np.array_equal(tomogram.density, volume)
    assert (tomogram.voxel_size, tomogram.origin) == (like.voxel_size, like.origin)
    first, second = check_ngff(path, volume.shape, known=True)
    steps = first["coordinateTransformations"] + second["coordinateTransformations"]
    assert [s[s["type"]] for s in steps] == [
        [20.5, 10.25, 10.25],
        [-3.0, 0.0, 7.5],
        [41.0, 20.5, 20.5],
        [-3.0 + 20.5 / 2, 10.25 / 2, 7.5 + 10.25 / 2],
    ]


def test_unknown_voxel_size(path, volume):
    write_zarr(path, volume, Tomogram(volume, origin=(1.0, 2.0, 3.0)))
    first, second = check_ngff(path, volume.shape, known=False)
    assert first["coordinateTransformations"][0]["scale"] == [1.0, 1.0, 1.0]
    assert second["coordinateTransformations"][1]["translation"] == [0.5, 0.5, 0.5]
    with pytest.warns(HeaderWarning, match="no unit: voxel size unknown"):
        assert read_zarr(path).voxel_size is None
    assert read_zarr(path, voxel_size=7.0).voxel_size == (7.0, 7.0, 7.0)


def blocks_of_two(volume):
    """The eight voxels that become one, NaN beyond the faces: ``(8, z, y, x)``."""
    padded = np.pad(
        volume.astype(float), [(0, n % 2) for n in volume.shape], constant_values=np.nan
    )
    return np.stack([padded[i::2, j::2, k::2] for i, j, k in np.ndindex(2, 2, 2)])


@pytest.mark.parametrize("kind", ["f4", "f2", "i1"])
def test_coarser_levels(path, volume, kind):
    write_zarr(path, volume.astype(kind), voxel_size=10.0)
    tomogram = read_zarr(path, level=1)
    assert tomogram.voxel_size == (20.0, 20.0, 20.0) and tomogram.origin == (5.0, 5.0, 5.0)
    eight = blocks_of_two(volume)
    if kind == "i1":  # the most frequent label, of several the smallest
        counts = np.stack([(eight == label).sum(0) for label in range(-2, 3)])
        assert np.array_equal(tomogram.density, counts.argmax(0) - 2)
    else:
        np.testing.assert_allclose(tomogram.density, np.nanmean(eight, 0), atol=1e-3)


def test_a_ramp_keeps_its_place(path):
    """Where a level says that its voxels lie, they have the value of that place."""
    x = np.arange(520, dtype=np.float32)
    write_zarr(path, np.broadcast_to(3 * x, (1, 2, 520)), Tomogram(x[None, None], (9.0,) * 3))
    shapes = []
    for level in range(4):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HeaderWarning)  # z is not halved below one voxel
            tomogram = read_zarr(path, level=level)
        assert tomogram.voxel_size is not None
        place = tomogram.origin[2] + tomogram.voxel_size[2] * np.arange(tomogram.density.shape[2])
        np.testing.assert_allclose(np.asarray(tomogram.density)[0, 0], place / 3, rtol=1e-6)
        shapes.append(tomogram.density.shape)
    assert shapes == [(1, 2, 520), (1, 1, 260), (1, 1, 130), (1, 1, 65)]
    with pytest.raises(FileError, match="levels 0 to 3, not 4"):
        read_zarr(path, level=4)


def test_parts_are_arrays(path, volume):
    write_zarr(path, volume, voxel_size=10.0)
    density = read_zarr(path).density
    assert isinstance(density, Chunked)
    assert (density.ndim, density.size, density.nbytes) == (3, volume.size, volume.nbytes)
    for where in [np.s_[1:3, 120:, 5:130], np.s_[2:], np.s_[:, -3:], np.s_[4:2], np.s_[::3]]:
        part = density[where]
        assert type(part) is np.ndarray and np.array_equal(part, volume[where])
    assert np.asarray(density, np.float64).dtype == np.float64
    assert isinstance(read_zarr(path, mmap=False).density, np.ndarray)
    assert np.array_equal(normalize(density, "dark"), normalize(volume, "dark"))
    with pytest.raises(TypeError, match="slices are needed"):
        density[3]
    with pytest.raises(IndexError, match="forwards"):
        density[::-1]
    with pytest.raises(ValueError, match="always a copy"):
        np.asarray(density, copy=False)


@pytest.mark.parametrize("kind", ["i1", "f2"])
def test_unaligned_parts(path, kind):
    """Parts that share chunks and overlap, one after another, in no order."""
    whole = noise((130, 140, 131), kind)
    output = ZarrOutput(path, whole.shape, kind)
    cuts = [(0, 50, 127, 130), (0, 100, 140), (0, 129, 131)]
    parts = [
        tuple(slice(axis[i], axis[i + 1]) for axis, i in zip(cuts, index, strict=True))
        for index in np.ndindex(3, 2, 2)
    ]
    np.random.default_rng(0).shuffle(parts)
    for where in parts:
        block = whole[where].copy()
        output.write(where, block)
        block[:] = 1  # it is the caller's
    output.write(np.s_[20:60, 90:110], whole[20:60, 90:110])
    output.finish()
    assert np.array_equal(read_zarr(path, 10.0).density, whole)
    assert np.array_equal(
        read_zarr(path, 10.0, level=1).density[:10],
        downsampled(whole, "mode" if kind == "i1" else "mean")[:10],
    )


def downsampled(volume, method):
    return ts.downsample(ts.array(volume), [2, 2, 2], method).read().result()


def test_resume(path, volume):
    first = ZarrOutput(path, volume.shape, "f4")
    first.write(np.s_[:, :60], volume[:, :60])
    first.flush()
    assert [p.name for p in path.parent.iterdir()] == [".a.zarr.partial"] and not is_zarr(path)
    del first
    for shape, kind in [((5, 130, 132), "f4"), (volume.shape, "f2")]:
        with pytest.raises(FileError, match="not what was being written"):
            ZarrOutput(path, shape, kind, resume=True)
    second = ZarrOutput(path, volume.shape, "f4", Tomogram(volume, (10.0,) * 3), resume=True)
    second.write(np.s_[:, 60:], volume[:, 60:])
    second.finish()
    assert [p.name for p in path.parent.iterdir()] == ["a.zarr"]
    assert np.array_equal(read_zarr(path).density, volume)
    with pytest.raises(FileError, match="not what was being written"):
        ZarrOutput(path, volume.shape, "f4", overwrite=True, resume=True)


def test_a_job_that_is_interrupted_goes_on(tmp_path, volume):
    """Tiles with no respect for chunks, into OME-Zarr and MRC at once."""
    paths = [(tmp_path / "labels.ome.zarr", np.int8), (tmp_path / "map.mrc", np.float16)]
    tiles = list(Tiling(volume.shape, (3, 70, 131), 0))
    for stop in (2, None):
        with (
            pytest.raises(KeyboardInterrupt) if stop else contextlib.nullcontext(),
            TileJob({}, paths, volume.shape, Tomogram(volume, (10.0,) * 3)) as job,
        ):
            assert job.done == (0 if stop else 2)
            for where in tiles[job.done : stop]:
                job.write(where, [volume[where]] * 2)
            if stop:
                raise KeyboardInterrupt
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labels.ome.zarr", "map.mrc"]
    for path, _ in paths:
        assert np.array_equal(read_tomogram(path).density, volume)
    assert isinstance(ZarrOutput(tmp_path / "a.zarr", (2, 3, 4), "i1"), Output)


def test_a_new_start_forgets_the_former_one(path):
    for value in (7, 0):
        output = ZarrOutput(path, (2, 3, 4), "i1")
        output.write(np.s_[:, :2], np.full((2, 2, 4), value, "i1"))
        output.flush()
    output.finish()
    assert not np.asarray(read_zarr(path, 10.0).density).any()
    with pytest.raises(ValueError, match="finished or discarded"):
        output.write(np.s_[:, :], np.zeros((2, 3, 4), "i1"))


def test_overwriting(path, volume):
    write_zarr(path, volume, voxel_size=10.0)
    with pytest.raises(FileError, match="exists already"):
        write_zarr(path, volume)
    output = ZarrOutput(path, (2, 3, 4), "i1", overwrite=True)
    output.write(np.s_[:, :], np.ones((2, 3, 4), "i1"))
    assert read_zarr(path).density.shape == volume.shape
    output.discard()
    write_zarr(path, -np.asarray(read_zarr(path).density), read_zarr(path), overwrite=True)
    assert np.array_equal(read_zarr(path).density, -volume)
    assert [p.name for p in path.parent.iterdir()] == ["a.zarr"]


def test_refusals_before_any_work(path, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "file").write_text("1")
    for name, shape, kind, words in [
        ("precious", (1, 2, 3), "f4", "is not an OME-Zarr folder"),
        ("file", (1, 2, 3), "f4", "is not an OME-Zarr folder"),
        ("absent/a.zarr", (1, 2, 3), "f4", "there is no folder"),
        ("a.zarr", (1, 0, 3), "f4", "a volume"),
        ("a.zarr", (2, 3), "f4", "a volume"),
        ("a.zarr", (1, 2, 3), "c8", "real numbers"),
    ]:
        with pytest.raises(FileError, match=words) as caught:
            ZarrOutput(tmp_path / name, shape, kind, overwrite=True)
        assert str(tmp_path / name) in str(caught.value)
    output = ZarrOutput(path, (2, 3, 4), "f4")
    with pytest.raises(ValueError, match="for a part of"):
        output.write(np.s_[1:3, :], np.zeros((2, 3, 4)))
    with pytest.raises(FileError, match="a volume"):
        write_zarr(path, np.zeros((3, 4)))


@contextlib.contextmanager
def little_space():
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_full_disk(path):
    data = np.random.default_rng(0).normal(size=(8, 64, 64)).astype(np.float32)
    complaint = pytest.raises(OSError, match=r"cannot write .*a.zarr.* free\)")
    with little_space(), complaint:
        write_zarr(path, data)
    assert list(path.parent.iterdir()) == []
    output = ZarrOutput(path, data.shape, "f4")
    with little_space(), complaint:
        output.write(np.s_[:, :], data)
        output.flush()
    with complaint:  # also when there is space again: a part is missing
        output.flush()
    output.discard()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("units", [["nanometer", "nanometer", None], ["foot"] * 3])
def test_unknown_units(path, units):
    write_zarr(path, noise((2, 3, 4)), Tomogram(noise((2, 3, 4)), (10.0,) * 3, (1.0, 2.0, 3.0)))
    edit(path, lambda o: [a.update(unit=u) for a, u in zip(image(o)["axes"], units, strict=True)])
    with pytest.warns(HeaderWarning, match="a.zarr: the axes have units .*voxel size unknown"):
        tomogram = read_zarr(path)
    assert (tomogram.voxel_size, tomogram.origin) == (None, (0.0, 0.0, 0.0))


@pytest.mark.parametrize("unit", UNITS)
def test_units(path, volume, unit):
    write_zarr(path, volume[:2, :3, :4], voxel_size=10.0)

    def change(ome):
        steps(ome)[0]["scale"] = [UNITS[unit]] * 3
        steps(ome)[1]["translation"] = [0.0, -UNITS[unit], 2 * UNITS[unit]]
        for axis in image(ome)["axes"]:
            axis["unit"] = unit

    edit(path, change)
    tomogram = read_zarr(path)
    assert tomogram.voxel_size == (10.0, 10.0, 10.0) and tomogram.origin == (0.0, -10.0, 20.0)


@pytest.mark.parametrize("dtype", [">f4", "<f4", "|b1", "<i2"])
def test_version_0_4(path, dtype):
    """Five axes, other names of the levels, a scale of all levels, a foreign byte order."""
    data = noise((3, 4, 5), "?" if dtype == "|b1" else "i2").astype(dtype)
    axes = [{"name": "t", "type": "time", "unit": "second"}, {"name": "c", "type": "channel"}]
    axes += [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]
    datasets = [
        {
            "path": f"s/{level}",
            "coordinateTransformations": [
                {"type": "scale", "scale": [1, 1, 2**level, 2**level, 2**level]},
                {"type": "translation", "translation": [0, 0, 1, 2, 3]},
            ],
        }
        for level in range(2)
    ]
    outer = [{"type": "scale", "scale": [1, 1, 1.5, 1.5, 1.5]}]
    arrays = [("s/0", dtype, data[None, None]), ("s/1", dtype, data[None, None, ::2, ::2, ::2])]
    old(path, arrays, axes, datasets, coordinateTransformations=outer)
    assert is_zarr(path)
    fine, coarse = read_tomogram(path), read_zarr(path, level=1)
    assert np.array_equal(fine.density, data) and fine.density[1:, :2].shape == (2, 2, 5)
    assert fine.density.dtype == data.dtype.newbyteorder("=")
    assert np.array_equal(coarse.density, data[::2, ::2, ::2])
    assert (fine.voxel_size, fine.origin) == ((15.0,) * 3, (15.0, 30.0, 45.0))
    assert (coarse.voxel_size, coarse.origin) == ((30.0,) * 3, (15.0, 30.0, 45.0))


@pytest.mark.parametrize("kind", KINDS)
def test_version_0_4_is_written(path, volume, kind):
    data = noise((3, 4, 200), kind)
    write_zarr(path, data, voxel_size=5.0, version="0.4")
    assert sorted(p.name for p in path.iterdir()) == [".zattrs", ".zgroup", "0", "1"]
    assert json.loads((path / ".zgroup").read_text()) == {"zarr_format": 2}
    (image,) = json.loads((path / ".zattrs").read_text())["multiscales"]
    assert image["version"] == "0.4" and [d["path"] for d in image["datasets"]] == ["0", "1"]
    array = json.loads((path / "0" / ".zarray").read_text())
    assert array["zarr_format"] == 2 and array["dimension_separator"] == "/"
    assert array["compressor"]["id"] == "blosc" and array["chunks"] == [3, 4, 128]
    fine, coarse = read_tomogram(path), read_zarr(path, level=1)
    assert np.array_equal(fine.density, data) and fine.density.dtype == data.dtype
    assert coarse.density.shape == (2, 2, 100) and coarse.origin == (2.5, 2.5, 2.5)
    (path / "0" / "0" / "0" / "1").unlink()  # their number is noted down here too
    with pytest.raises(FileError, match="chunk files are missing"):
        read_zarr(path)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_with_other_values(path, version):
    form, card = ZarrForm(version, (0, 200, 7)), LabelCard(("membrane", "actin"))
    like = Tomogram(np.zeros((2, 3, 4), np.int8), (8.0,) * 3)
    output = ZarrOutput(path, (2, 3, 4), "i1", like, card=card, form=form)
    labels = np.arange(24).reshape(2, 3, 4) % 3
    whole = np.s_[0:2, 0:3, 0:4]
    output.write(whole, labels.astype(np.int8))
    assert np.array_equal(output.read(whole), labels) and output.read(whole).dtype == np.int8
    output.finish()
    found = read_zarr(path).density
    assert np.array_equal(found, np.array([0, 200, 7])[labels]) and found.dtype == np.uint8
    file = json.loads((path / (".zattrs" if version == "0.4" else "zarr.json")).read_text())
    entry = (file if version == "0.4" else file["attributes"]["ome"])["image-label"]
    assert {p["label-value"]: p["name"] for p in entry["properties"]} == {
        200: "membrane",
        7: "actin",
    }
    assert entry.get("version") == ("0.4" if version == "0.4" else None)


def fourth_axis(ome):
    image(ome)["axes"].insert(0, {"name": "t", "type": "time"})
    for step in steps(ome):
        step[step["type"]].insert(0, 1.0)


DAMAGE = {
    "no multiscales": (lambda o: o.clear(), "multiscales is missing"),
    "no images": (lambda o: o["multiscales"].clear(), "multiscales holds no image"),
    "an image is a number": (lambda o: o["multiscales"].insert(0, 3), "holds no image"),
    "another version": (lambda o: o.update(version="0.6"), "convert it to OME-Zarr 0.5"),
    "no axes": (lambda o: image(o).pop("axes"), "axes is missing"),
    "axes of version 0.3": (lambda o: image(o).update(axes=["z", "y", "x"]), "name is missing"),
    "transposed": (lambda o: image(o)["axes"].reverse(), "spatial axes z, y, x, in this order"),
    "2D": (lambda o: image(o)["axes"].pop(0), "has the axes y, x"),
    "4D": (
        lambda o: image(o)["axes"].insert(0, {"name": "w", "type": "space"}),
        "spatial axes z, y, x",
    ),
    "wrong type": (lambda o: image(o)["axes"][0].update(type="time"), "time, space, space"),
    "more axes than the array": (fourth_axis, "shape (2, 3, 4), and its metadata 4 axes"),
    "no levels": (lambda o: image(o)["datasets"].clear(), "datasets is empty"),
    "level is missing": (lambda o: level(o).update(path="7"), "'7' is missing"),
    "level outside": (lambda o: level(o).update(path="0/../../x"), "leads out of the folder"),
    "absolute path": (lambda o: level(o).update(path="/tmp"), "leads out of the folder"),
    "the folder itself": (lambda o: level(o).update(path="."), "leads out of the folder"),
    "level behind a link": (lambda o: level(o).update(path="link"), "leads out of the folder"),
    "no path": (lambda o: level(o).update(path="\0"), "is not a path"),
    "path is a number": (lambda o: level(o).update(path=5), "path is 5, a text is needed"),
    "no scale": (lambda o: steps(o).pop(0), "a scale and perhaps a translation"),
    "two scales": (lambda o: steps(o).append(steps(o)[0]), "a scale and perhaps a translation"),
    "no steps": (lambda o: steps(o).clear(), "a scale and perhaps a translation"),
    "short": (lambda o: steps(o)[0].update(scale=[1.0, 2.0]), "3 numbers are needed"),
    "text": (lambda o: steps(o)[0].update(scale=[1.0, "2", 3.0]), "3 numbers are needed"),
    "not finite": (lambda o: steps(o)[1].update(translation=[0, math.nan, 0]), "3 numbers"),
    "huge": (lambda o: steps(o)[0].update(scale=[1, 10**400, 1]), "3 numbers are needed"),
    "negative": (lambda o: steps(o)[0].update(scale=[1, -1, 1]), "positive numbers are needed"),
    "outer is a number": (lambda o: image(o).update(coordinateTransformations=5), "is 5, a list"),
    "outer": (lambda o: image(o).update(coordinateTransformations=[{"type": "x"}]), "['x']"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_metadata(path, name):
    change, words = DAMAGE[name]
    write_zarr(path, noise((2, 3, 4)), voxel_size=10.0)
    (path.parent / "x").mkdir()
    (path / "link").symlink_to(path.parent / "x")
    edit(path, change)
    assert is_zarr(path) == (name == "more axes than the array")  # which only the array tells
    with pytest.raises(FileError) as caught:
        read_tomogram(path)
    assert str(path) in str(caught.value) and words in str(caught.value)
    assert "; " in str(caught.value)  # what to do


def test_damaged_files(path):
    """Of the group, of an array and of a chunk."""
    write_zarr(path, noise((2, 3, 4)), voxel_size=10.0)
    density = read_zarr(path).density
    chunk = path / "0" / "c" / "0" / "0" / "0"
    raw = bytearray(chunk.read_bytes())
    raw[len(raw) // 2] ^= 4
    chunk.write_bytes(raw)
    with pytest.raises(FileError, match="voxels cannot be read.*copy it again"):
        np.asarray(density)
    for name in ("0", ""):
        file = path / name / "zarr.json"
        for content in (file.read_bytes()[:-20], b"[" * 10**5, b"\xff\0", b""):
            file.write_bytes(content)
            with pytest.raises(FileError) as caught:
                read_tomogram(path)
            assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("version", "place"),
    [("0.5", "0/zarr.json"), ("0.5", "zarr.json"), ("0.4", "0/.zarray"), ("0.4", ".zattrs")],
)
@pytest.mark.filterwarnings("ignore::cryojax_seg.io.files.HeaderWarning")
def test_random_damage(path, version, place):
    """Whatever a volume says of itself: a volume or a refusal, and nothing of its size is made."""
    write_zarr(path, noise((2, 3, 4)), voxel_size=10.0, version=version)
    file = path / place
    raw, rng, seen = file.read_bytes(), np.random.default_rng(3), set()
    for _ in range(200):
        damaged = bytearray(raw)
        for place in rng.integers(0, len(raw), rng.integers(1, 4)):
            damaged[place] = int(rng.choice([*b'0129,:"[]{}-', rng.integers(256)]))
        file.write_bytes(bytes(damaged))
        try:
            seen.add(type(read_zarr(path)))
        except FileError as error:
            assert str(path) in str(error)
            seen.add(FileError)
    assert seen == {Tomogram, FileError}


@pytest.mark.parametrize(
    ("what", "words"),
    [("shape", "claim the shape.*at most 2.40 voxels"), ("chunk_shape", "and this machine has")],
)
def test_an_array_claiming_everything(path, what, words):
    write_zarr(path, noise((2, 3, 4)), voxel_size=10.0)
    file = path / "0" / "zarr.json"
    claimed = json.loads(file.read_text())
    place = claimed if what == "shape" else claimed["chunk_grid"]["configuration"]
    place[what] = [2**20] * 3
    file.write_text(json.dumps(claimed))
    with pytest.raises(FileError, match=words) as caught:
        np.asarray(read_zarr(path).density)
    assert str(path) in str(caught.value)


def test_unknown_codecs(path):
    write_zarr(path, noise((2, 3, 4)), voxel_size=10.0)
    file = path / "0" / "zarr.json"
    array = json.loads(file.read_text())
    array["codecs"].insert(1, {"name": "numcodecs.shuffle"})
    file.write_text(json.dumps(array))
    with pytest.raises(FileError, match="numcodecs.shuffle.*codecs of the Zarr specification"):
        read_zarr(path)


@pytest.mark.parametrize("dtype", ["complex64", "bfloat16"])
def test_refused_types(path, dtype):
    write_zarr(path, noise((2, 3, 4)), voxel_size=10.0)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/0/"}}
    spec["metadata"] = {"shape": [2, 3, 4], "data_type": dtype}
    ts.open(spec, create=True, delete_existing=True).result()
    with pytest.raises(FileError, match="real numbers are read"):
        read_zarr(path)


def test_several_volumes(path):
    axes = [{"name": axis, "type": "space"} for axis in "zyx"]
    axes.insert(0, {"name": "c", "type": "channel"})
    scale = [{"type": "scale", "scale": [1, 1, 1, 1]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    old(path, [("0", "|i1", np.zeros((2, 3, 4, 5), np.int8))], axes, datasets)
    with pytest.raises(FileError, match="one channel and one time point"):
        read_zarr(path)


def test_folders_that_are_no_volume(path, tmp_path):
    write_zarr(path, noise((2, 3, 4)), voxel_size=10.0)
    (tmp_path / "empty").mkdir()
    for folder, words in [
        (path / "0", "name the OME-Zarr folder that it lies in"),
        (tmp_path / "empty", "name a volume file or an OME-Zarr folder"),
        (tmp_path / "absent", "no such f"),
    ]:
        assert not is_zarr(folder)
        for reader in (read_tomogram, read_zarr):
            with pytest.raises(FileError, match=words) as caught:
                reader(folder)
            assert str(folder) in str(caught.value)


def test_description(path, volume):
    write_zarr(path, (volume + 2).astype(np.int8), voxel_size=10.0)
    found = describe(path)
    assert found.kind == "labels" and found.warnings == ()
    assert found.facts["chunks (z, y, x)"] == "5 x 128 x 128" and found.facts["levels"] == "2"
    assert found.facts["type"] == "int8" and found.facts["extent (z, y, x)"] == "5, 130, 131 nm"
    volume = np.where(volume == 1, np.nan, volume)
    with pytest.warns(HeaderWarning, match="voxels are NaN"):
        write_zarr(path, volume, voxel_size=10.0, overwrite=True)
    assert describe(path).kind == "tomogram" and "not finite" in describe(path).warnings[0]
    with pytest.raises(FileError, match="name the OME-Zarr folder"):
        describe(path / "0")


def test_labels(path, tmp_path):
    """A label volume and a mask as OME-Zarr, for a tomogram as MRC."""
    write_mrc(tmp_path / "t.mrc", noise((2, 3, 4)), voxel_size=10.0)
    labels = np.zeros((2, 3, 4), np.uint8)
    labels[0, 0], labels[1, 1, 1] = 1, 255
    write_zarr(path, labels)
    write_zarr(tmp_path / "mask.zarr", np.arange(24).reshape(2, 3, 4) > 0)
    tomogram = read_tomogram(tmp_path / "t.mrc")
    annotation = read_labels(path, tomogram, annotated=tmp_path / "mask.zarr")
    assert annotation.labels.sum() == 3 and annotation.weights.sum() == 22
