"""Label volumes: the right labels and weights, or an error that names both files."""

import numpy as np
import pytest
import tifffile

from cryojax_seg.core import Tomogram
from cryojax_seg.io import FileError, HeaderWarning, annotate, read_labels, write_mrc

SHAPE = (3, 4, 5)
TOMOGRAM = Tomogram(np.zeros(SHAPE, np.float32), voxel_size=(10.0, 10.0, 10.0), name="cell.mrc")


@pytest.fixture
def labels(phantom):
    """0, 1, 2 and 255, in every slice."""
    return np.choose(phantom.astype(int) % 4, [0, 1, 2, 255]).astype(np.int16)


@pytest.fixture
def write(tmp_path):
    def to_file(values, voxel_size=10.0, name="labels.mrc"):
        write_mrc(tmp_path / name, values, voxel_size=voxel_size)
        return tmp_path / name

    return to_file


def refused(path, *words, **arguments):
    with pytest.raises(FileError) as caught:
        read_labels(path, TOMOGRAM, **arguments)
    message = str(caught.value)
    for word in (str(path), "cell.mrc", *words):
        assert word in message, message


def test_ignore_value_becomes_weight_zero(write, labels):
    result = read_labels(write(labels), TOMOGRAM, classes=("background", "membrane", "filament"))
    assert result.labels.dtype == np.int32 and result.weights.dtype == np.float32
    assert np.array_equal(result.weights, labels != 255)
    assert np.array_equal(result.labels, np.where(labels == 255, 0, labels))
    assert result.slices == (0, 1, 2)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.uint16])
def test_other_types_hold_the_same_labels(write, labels, dtype):
    result = read_labels(write(labels.astype(dtype)), TOMOGRAM)
    assert np.array_equal(result.labels, np.where(labels == 255, 0, labels))


def test_tiff_labels(tmp_path, labels):
    tifffile.imwrite(tmp_path / "l.tif", labels.astype(np.uint8), photometric="minisblack")
    assert np.array_equal(read_labels(tmp_path / "l.tif", TOMOGRAM).weights, labels != 255)


def test_other_ignore_values(write, labels):
    path = write(np.where(labels == 255, -1, labels).astype(np.int16))
    refused(path, "negative labels -1", "set the ignore value to -1")
    assert np.array_equal(read_labels(path, TOMOGRAM, ignore=-1).weights, labels != 255)
    none = read_labels(write(labels, name="b.mrc"), TOMOGRAM, ignore=None, highest=None)
    assert none.weights.all() and none.labels.max() == 255


def test_signed_bytes_hold_255_as_minus_one(write, labels):
    path = write(labels.astype(np.uint8).view(np.int8))  # MRC mode 0
    for ignore in (255, -1):
        result = read_labels(path, TOMOGRAM, ignore=ignore)
        assert np.array_equal(result.weights, labels != 255)
        assert np.array_equal(result.labels, np.where(labels == 255, 0, labels))
    refused(path, "negative labels -1", ignore=None)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.int8])
def test_masks_of_0_and_255(write, labels, dtype):
    mask = 255 * (labels == 1)
    path = write(mask.astype(np.uint8).view(np.int8) if dtype == np.int8 else mask.astype(dtype))
    for ignore in (None, 7):
        with pytest.warns(HeaderWarning, match="read as a mask: 255 is label 1"):
            result = read_labels(path, TOMOGRAM, ignore=ignore)
        assert np.array_equal(result.labels, labels == 1) and result.weights.all()
    with pytest.warns(HeaderWarning, match="255|-1.*counts as not annotated.*another ignore value"):
        assert not read_labels(path, TOMOGRAM).labels.any()


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.float64])
def test_tiff_labels_of_64_bit(tmp_path, labels, dtype):
    values = np.where(labels == 255, 3, labels)
    tifffile.imwrite(tmp_path / "l.tif", values.astype(dtype), photometric="minisblack")
    assert np.array_equal(read_labels(tmp_path / "l.tif", TOMOGRAM).labels, values)


def test_integers_that_do_not_fit(tmp_path, labels):
    tifffile.imwrite(tmp_path / "l.tif", labels.astype(np.int64) << 40, photometric="minisblack")
    refused_alone = pytest.raises(FileError, match="l.tif: holds integers from 0 to")
    with refused_alone:
        read_labels(tmp_path / "l.tif", TOMOGRAM)


def test_stray_values_are_counted(write, labels):
    values = np.where(labels == 255, 0, labels)
    values[0, 0, :3] = 200
    path = write(values)
    refused(path, "value 200: 3 voxels", "labels above 127")
    names = ("background", "membrane", "filament")
    refused(path, "value 200: 3 voxels", "declare the classes", classes=names)


def test_a_prediction_is_not_sparse(write, recwarn):
    values = np.zeros((8, 4, 5), np.int8)
    values[3, 1] = 1
    assert read_labels(write(values), ignore=None).weights.all()
    assert not [w for w in recwarn if "hold labels" in str(w.message)]


def test_only_some_slices_annotated(write, labels, tmp_path):
    binary = (labels == 1).astype(np.int8)
    path = write(binary)
    by_index = read_labels(path, TOMOGRAM, annotated=[0, 2])
    assert by_index.slices == (0, 2)
    assert np.array_equal(by_index.labels[[0, 2]], binary[[0, 2]])
    assert by_index.weights[0].all() and not by_index.labels[1].any()
    mask = np.zeros(SHAPE, np.int8)
    mask[1, :2] = 1
    by_mask = read_labels(path, TOMOGRAM, annotated=write(mask, name="mask.mrc"))
    assert np.array_equal(by_mask.weights, mask)
    refused(path, "annotated slices", "0 to 2, got [7]", annotated=[1, 7])
    refused(path, "annotated slices", "got none", annotated=[])
    refused(path, "mask", annotated=write(mask[:2], name="small.mrc"))


def test_forgotten_slices_are_pointed_out(write):
    values = np.zeros((8, 4, 5), np.int8)
    values[3, 1] = 1
    with pytest.warns(HeaderWarning, match="only 1 of 8 slices hold labels"):
        read_labels(write(values))
    with pytest.warns(HeaderWarning, match="no voxel has a label other than 0"):
        read_labels(write(values * 0, name="blank.mrc"))


def test_shape(write, labels):
    refused(write(labels[:2]), "(2, 4, 5)", "(3, 4, 5)", "same binning")
    refused(write(labels.transpose(2, 1, 0), name="t.mrc"), "transposed", "order x, y, z")
    refused(write(labels.transpose(1, 2, 0), name="u.mrc"), "transposed", "order x, z, y")


def test_transposition_hint_is_right(labels):
    """Doing what the message says gives the shape of the tomogram."""
    stored = labels.transpose(1, 2, 0)
    assert stored.transpose([{"z": 0, "y": 1, "x": 2}[a] for a in "xzy"]).shape == SHAPE


def test_not_integers(write, labels):
    refused(write(labels + np.float32(0.5)), "0.5", "is not an integer", "probability")
    refused(write(labels + np.float32(1e30), name="e.mrc"), "1e+30", "is not an integer up to 2^24")
    values = labels.astype(np.float32)
    values[2, 0, 0] = np.nan
    with pytest.warns(HeaderWarning, match="NaN"):
        refused(write(values, name="nan.mrc"), "nan", "slice 2")


def test_a_density_is_not_a_label_volume(tmp_path):
    values = np.arange(20 * 20 * 20, dtype=np.int16).reshape(20, 20, 20)
    write_mrc(tmp_path / "d.mrc", values, voxel_size=10.0)
    with pytest.raises(FileError, match="more than 4096 different values"):
        read_labels(tmp_path / "d.mrc")


def test_unknown_values(write, labels):
    path = write(labels)
    refused(path, "values 2, known are 0 background, 1 membrane", classes=("membrane",))
    names = ("background", "membrane", "filament")
    refused(path, "values 255", "declare the classes", classes=names, ignore=None)
    refused(write(labels - 3, name="n.mrc"), "negative labels -3")


@pytest.mark.parametrize("classes", [None, ("membrane",)])
def test_imod_signed_bytes(write, labels, classes):
    binary = (labels == 1).astype(np.int8)
    path = write(binary.astype(np.int16) - 128)
    refused(path, "-128", "IMOD", "offset=128", "newstack", classes=classes)
    result = read_labels(path, TOMOGRAM, classes=classes, offset=128)
    assert np.array_equal(result.labels, binary)


def test_voxel_size(write, labels):
    refused(write(labels, 10.2), "10.2, 10.2, 10.2 A", "10, 10, 10 A", "1 %")
    assert read_labels(write(labels, 10.05, "near.mrc"), TOMOGRAM).slices == (0, 1, 2)
    for unset in (None, 1.0):  # programs that do not know the voxel size write 0 or 1
        assert read_labels(write(labels, unset, f"{unset}.mrc"), TOMOGRAM).slices == (0, 1, 2)
    given = read_labels(write(labels, 20.0, "wrong.mrc"), TOMOGRAM, voxel_size=10.0)
    assert given.slices == (0, 1, 2)


def test_everything_ignored(write, labels):
    refused(write(np.full(SHAPE, 255)), "every voxel is marked as not annotated")


def test_annotate_with_a_mask():
    values = np.array([[[0, 1, 255, 2]]])
    result = annotate(values, annotated=np.array([[[1, 0, 1, 1]]]))
    assert result.labels.tolist() == [[[0, 0, 0, 2]]]
    assert result.weights.tolist() == [[[1.0, 0.0, 0.0, 1.0]]]


def test_real_labels(real_data):
    folder = real_data / "tardis_cnn"
    with pytest.warns(HeaderWarning, match="9 of 64 slices hold labels"):
        result = read_labels(folder / "4_0_55_98_25_mask.tif", classes=("membrane",))
    assert result.labels.shape == (64, 64, 64)
    assert set(np.unique(result.labels).tolist()) == {0, 1}
    assert result.weights.all()
