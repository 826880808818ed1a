"""Bad MRC files: each is refused by name, with what to do, before anything is allocated."""

import bz2
import gzip
import tracemalloc

import numpy as np
import pytest

from cryojax_seg.io import FileError, HeaderWarning, read_mrc, read_tomogram

SMALL = np.zeros((3, 4, 5), np.float32)


def refused(path, *words):
    """The message of the refusal, which names the file, says these words and costs no memory."""
    tracemalloc.start()
    try:
        with pytest.raises(FileError) as caught:
            read_tomogram(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert str(path) in message
    for word in words:
        assert word in message
    assert peak < 2**20
    return message


@pytest.mark.parametrize("keep", [-1, 1024 + 120, 1024])
def test_truncated(mrc_bytes, put, keep):
    raw = mrc_bytes(SMALL)[:keep]
    refused(put("t.mrc", raw), "truncated", "1264", str(len(raw)), "Copy it again")


@pytest.mark.parametrize("extra", [0, 1])
def test_header_alone_claiming_3_gib(mrc_bytes, put, extra):
    raw = mrc_bytes(SMALL, nx=1024, ny=1024, nz=768)[:1024] + b"\0" * extra
    refused(put("bomb.mrc", raw), "3.0 GiB", f"the file has {1024 + extra}")


@pytest.mark.parametrize("shape", [(10**5, 10**5, 10**5), (2**21, 2**21, 2**22)])
def test_sizes_beyond_any_memory(mrc_bytes, put, shape):
    nz, ny, nx = shape
    raw = mrc_bytes(SMALL, nx=nx, ny=ny, nz=nz)
    refused(put("huge.mrc", raw), str(1024 + 4 * nx * ny * nz))


def test_extended_header_larger_than_the_file(mrc_bytes, put):
    refused(put("n.mrc", mrc_bytes(SMALL, nsymbt=2**31 - 1)), "nsymbt", "2147483647")


@pytest.mark.parametrize(
    ("field", "value"), [("nx", -9), ("ny", -1), ("nz", 0), ("nsymbt", -1), ("nx", 0)]
)
def test_impossible_field(mrc_bytes, put, field, value):
    refused(put("f.mrc", mrc_bytes(SMALL, **{field: value})), f"field {field} is {value}")


@pytest.mark.parametrize(
    ("mode", "word"),
    [(3, "complex"), (4, "complex"), (101, "4-bit"), (16, "RGB"), (99, "not a mode"), (-1, "mode")],
)
def test_mode(mrc_bytes, put, mode, word):
    data = SMALL.astype(np.complex64) if mode == 4 else SMALL
    refused(put("m.mrc", mrc_bytes(data, mode=mode)), f"mode {mode}", word, "newstack")


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (b"<!DOCTYPE html><html><body>404 Not Found</body></html>" * 60, "HTML page"),
        (b"<html>gone</html>", "HTML page"),
        (b"PK\x03\x04" + b"\0" * 2000, "zip"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (np.random.default_rng(0).bytes(5000), "not an MRC file"),
        (b"\0" * 1024, "not an MRC file"),
        (b"\0", "1 bytes"),
    ],
)
def test_something_else(put, raw, word):
    refused(put("page.mrc", raw), "not an MRC file", word)


def test_nothing_there(tmp_path, put):
    refused(tmp_path / "absent.mrc", "no such file")
    refused(tmp_path, "is a folder")
    refused(put("empty.mrc", b""), "empty")


def test_image(mrc_bytes, put):
    refused(put("i.mrc", mrc_bytes(SMALL[:1], ispg=0)), "2D image", "4 x 5")


def test_stack_of_images(mrc_bytes, put):
    path = put("tilts.mrc", mrc_bytes(SMALL, ispg=0, mz=1))
    refused(path, "stack of 3 2D images", "alterheader -sam 5,4,3", "stack_as_volume")
    with pytest.warns(HeaderWarning, match="differs between axes"):
        assert read_mrc(path, stack_as_volume=True).density.shape == (3, 4, 5)


@pytest.mark.parametrize(
    ("mz", "word"), [(2, "2 volumes of 2 sections"), (0, "volumes"), (3, "4D")]
)
def test_stack_of_volumes(mrc_bytes, put, mz, word):
    raw = mrc_bytes(np.zeros((4, 4, 5), np.float32), ispg=401, mz=mz)
    refused(put("v.mrc", raw), "4D", word, "newstack -secs")


@pytest.mark.filterwarnings("ignore::cryojax_seg.io.HeaderWarning")
def test_space_group_401_with_one_volume_is_a_volume(mrc_bytes, put):
    assert read_mrc(put("v.mrc", mrc_bytes(SMALL, ispg=401))).density.shape == (3, 4, 5)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
class TestCompressed:
    def test_truncated_inside(self, mrc_bytes, put, compress):
        refused(put("c.mrc.gz", compress(mrc_bytes(SMALL)[:-10])), "truncated", "240 bytes")

    def test_truncated_stream(self, mrc_bytes, put, compress):
        noise = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
        path = put("c.mrc.gz", compress(mrc_bytes(noise))[:-40])
        with pytest.raises(FileError, match="copy it again|Copy it again"):
            read_mrc(path)

    def test_flipped_bit(self, mrc_bytes, put, compress):
        raw = bytearray(compress(mrc_bytes(SMALL + np.arange(5, dtype=np.float32))))
        raw[len(raw) - 20] ^= 4
        with pytest.raises(FileError, match="[Cc]opy it again"):
            read_mrc(put("c.mrc.gz", bytes(raw)))

    def test_not_mrc(self, put, compress):
        refused(put("c.mrc.gz", compress(b"<html>" * 400)), "HTML page")
        refused(put("d.mrc.gz", compress(b"tiny")), "4 bytes")

    def test_sizes_beyond_memory(self, mrc_bytes, put, compress):
        raw = compress(mrc_bytes(SMALL, nx=10**5, ny=10**5, nz=10**5))
        refused(put("c.mrc.gz", raw), "in memory")


def test_gzip_claiming_more_than_deflate_can_hold(mrc_bytes, put):
    raw = gzip.compress(mrc_bytes(SMALL, nx=1024, ny=1024, nz=64))
    refused(put("c.mrc.gz", raw), "cannot hold as much")


def test_gzip_with_a_bomb_behind_the_volume(mrc_bytes, put):
    path = put("bomb.mrc.gz", gzip.compress(mrc_bytes(SMALL) + bytes(2**26)))
    tracemalloc.start()
    try:
        with pytest.warns(HeaderWarning, match="more data than the header says"):
            tomogram = read_mrc(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert tomogram.density.shape == (3, 4, 5)
    assert peak < 2**21
