"""Cleaned labels and numbered objects are those of the whole volume, in files as in memory."""

import numpy as np
import pytest
from scipy import ndimage

from cryojax_seg import inference, io
from cryojax_seg.core import Tomogram
from cryojax_seg.inference import cleaned
from cryojax_seg.io.measurements import number_type
from cryojax_seg.measure.runs import EVERY, FACES
from cryojax_seg.segmenters import GlobalThreshold

SIZE = (10.0, 10.0, 10.0)  # a voxel is 1 nm^3
CLASSES = ("background", "a", "b")
CLEAN = {"min_size": {"a": 6.0, "b": 3}, "fill_holes": 4.0}
HOW = {"engine": "jax", "tile": 8, "contrast": "bright"}


@pytest.fixture(scope="module")
def tomogram():
    noise = np.random.default_rng(0).normal(size=(18, 20, 21)).astype(np.float32)
    return Tomogram(ndimage.gaussian_filter(noise, 0.9), SIZE, (1.0, 2.0, 3.0))


@pytest.fixture(scope="module")
def model():
    return inference.Model(GlobalThreshold([-1.0, 1.2], classes=CLASSES))


@pytest.fixture(scope="module")
def raw(model, tomogram):
    return inference.segment(model, tomogram, **HOW)


@pytest.fixture(scope="module")
def expected(raw):
    """By SciPy, on the whole volume."""
    labels = raw.copy()
    for value, least in ((1, 6), (2, 3)):
        numbers, _ = ndimage.label(labels == value, EVERY)
        labels[(numbers > 0) & (np.bincount(numbers.ravel())[numbers] < least)] = 0
    numbers, count = ndimage.label(labels == 0, FACES)
    for number in range(1, count + 1):
        hole = numbers == number
        around = np.unique(labels[ndimage.binary_dilation(hole, FACES) & ~hole])
        inside = not any(hole[face].any() for face in _faces())
        if inside and len(around) == 1 and hole.sum() <= 4:
            labels[hole] = around[0]
    return labels


def _faces():
    return [np.s_[(slice(None),) * axis + (end,)] for axis in range(3) for end in (0, -1)]


def test_something_is_removed_and_something_is_filled(raw, expected):
    assert ((raw > 0) & (expected == 0)).sum() > 10 and ((raw == 0) & (expected > 0)).sum() > 10


def test_in_memory(model, tomogram, expected):
    np.testing.assert_array_equal(inference.segment(model, tomogram, **HOW, **CLEAN), expected)


@pytest.mark.parametrize("suffix", [".mrc", ".zarr"])
@pytest.mark.parametrize("depth", [1, 2, 7])
def test_in_files(model, tomogram, expected, tmp_path, monkeypatch, suffix, depth):
    from cryojax_seg.measure import slabs

    monkeypatch.setattr(slabs, "depth_of", lambda _: depth)
    io.write_mrc(tmp_path / "t.mrc", tomogram.density, tomogram)
    target = tmp_path / f"t.labels{suffix}"
    done = inference.segment_file(model, tmp_path / "t.mrc", target, instances=True, **HOW, **CLEAN)
    labels = io.read_tomogram(target)
    np.testing.assert_array_equal(np.asarray(labels.density), expected)
    for value, name in enumerate(CLASSES[1:], 1):
        assert done.shares[name] == pytest.approx((expected == value).mean())
    one, first = ndimage.label(expected == 1, EVERY)
    two, second = ndimage.label(expected == 2, EVERY)
    assert done.objects == {"a": first, "b": second}
    numbers = io.read_tomogram(done.instances)
    assert done.instances == tmp_path / f"t.instances{suffix}"
    assert numbers.density.dtype == np.uint16 and numbers.voxel_size == SIZE
    assert numbers.origin == (1.0, 2.0, 3.0)
    np.testing.assert_array_equal(np.asarray(numbers.density), np.where(two > 0, two + first, one))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["t.mrc", target.name, done.instances.name]
    )


@pytest.mark.parametrize("suffix", [".mrc", ".zarr"])
def test_cleaning_that_was_interrupted_goes_on(
    model, tomogram, expected, tmp_path, monkeypatch, suffix
):
    from cryojax_seg.measure import slabs

    monkeypatch.setattr(slabs, "depth_of", lambda _: 1)
    io.write_mrc(tmp_path / "t.mrc", tomogram.density, tomogram)
    how = {**HOW, **CLEAN, "instances": True}
    clean, files = cleaned.clean, (tmp_path / "t.mrc", tmp_path / f"t.labels{suffix}")

    def interrupted(how, read, write, shape):
        left = [7]

        def some(z, block):
            write(z, block)
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt

        clean(how, read, some, shape)

    with monkeypatch.context() as patch:
        patch.setattr(cleaned, "clean", interrupted)
        with pytest.raises(KeyboardInterrupt):
            inference.segment_file(model, *files, **how)
    assert not files[1].exists()
    computed = []
    done = inference.segment_file(
        model, *files, progress=lambda tile, _: computed.append(tile), **how
    )
    assert len(computed) == 1  # no tile was computed again
    found = np.asarray(io.read_tomogram(files[1]).density)
    np.testing.assert_array_equal(found, expected)
    assert done.shares["a"] == pytest.approx((expected == 1).mean())
    again = inference.unfinished(model, [files], instances=True, resume=True)
    assert again == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_size": -1.0}, "min_size is a volume in nm"),
        ({"fill_holes": {"a": float("nan")}}, "fill_holes is a volume in nm"),
        ({"min_size": {"lipid": 3.0}}, "min_size names lipid, and the classes are a, b"),
        ({"instances": True}, "instances is for segment_file"),
        ({"skeleton": "line"}, "skeleton is for segment_file"),
    ],
)
def test_settings_without_meaning_are_refused(model, tomogram, settings, message):
    with pytest.raises(ValueError, match=message):
        inference.segment(model, tomogram, **HOW, **settings)


def test_a_volume_needs_the_voxel_size(model, tomogram):
    unknown = Tomogram(tomogram.density)
    with pytest.raises(ValueError, match="voxel size"):
        inference.segment(model, unknown, **HOW, min_size=3.0)
    assert inference.segment(model, unknown, **HOW, min_size=0.0).any()


def test_the_type_of_the_numbers_holds_them():
    assert number_type(65_535, ".mrc") == np.uint16 == number_type(65_535, ".zarr")
    assert number_type(65_536, ".zarr") == np.int32
    assert number_type(2**24, ".mrc") == np.float32
    with pytest.raises(ValueError, match="16,777,216 objects"):
        number_type(2**24 + 1, ".mrc")


@pytest.mark.parametrize("suffix", [".mrc", ".zarr"])
def test_skeletons_are_labels_of_thin_structures(tmp_path, suffix):
    """A membrane of 4 voxels and a filament of 5, whose classes say what they are."""
    volume = np.zeros((20, 40, 40), np.float32)
    volume[8:12] = 1.5
    volume[:, 18:23, 18:23] = 3.0
    volume += np.random.default_rng(0).normal(0, 0.01, volume.shape).astype(np.float32)
    io.write_mrc(tmp_path / "t.mrc", volume, voxel_size=10.0)
    classes = ("background", "membrane", "microtubule")
    raw = Tomogram(volume, SIZE)
    first = inference.Model(GlobalThreshold([0.0, 1.0], classes=classes))
    levels = inference.plan(first, raw, engine="jax", contrast="bright")
    normal = np.asarray(levels.volume[:, :, :])
    nothing, membrane, filament = (
        float(normal[place]) for place in ((0, 0, 0), (9, 0, 0), (0, 20, 20))
    )
    between = [(nothing + membrane) / 2, (membrane + filament) / 2]
    model = inference.Model(GlobalThreshold(between, classes=classes))
    target = tmp_path / f"t.labels{suffix}"
    how = {"engine": "jax", "contrast": "bright", "skeleton": "auto"}
    done = inference.segment_file(model, tmp_path / "t.mrc", target, **how)
    found = np.asarray(io.read_tomogram(done.skeleton).density)
    labels = np.asarray(io.read_tomogram(target).density)
    assert done.skeleton == tmp_path / f"t.skeleton{suffix}" and found.dtype == np.int8
    assert ((found == labels) | (found == 0)).all()
    assert found[4:-4, 20, 20].tolist() == [2] * 12 and (found == 2).sum() < 3 * 20
    far = found[:, :12, :12]
    assert (far[9:11] == 1).any(0).all() and not far[:9].any() and not far[11:].any()


def test_skeletons_need_a_class_that_has_one(model, tomogram):
    with pytest.raises(ValueError, match="no class is a membrane or a filament by its name"):
        inference.plan(model, tomogram, skeleton="auto", **HOW)
