"""A corpus of damaged and hostile files of every format that is read.

Each is read with the values that it holds, or refused by an error of one line that names it, in
little memory and without waiting for ever.
"""

import bz2
import csv
import gzip
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import tifffile

from cryojax_seg import io
from cryojax_seg.cli import arguments, train
from cryojax_seg.inference import workers
from cryojax_seg.segmenters import LinearVote
from cryojax_seg.training import TrainingError, checkpoint, rundir
from cryojax_seg.training.comparison import read_fold

SHAPE = (3, 4, 5)
DATA = (np.indices(SHAPE) * np.array([31, 7, 1])[:, None, None, None]).sum(0).astype(np.float32)
TREE = {"kernel": np.arange(6, dtype=np.float32), "step": np.array(7, np.int32)}
POINTS = [[1.0, 2.0, 3.0], [4.0, 5.5, 6.0], [7.0, 8.0, 9.25]]
STAR = (
    "data_particles\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n_rlnCoordinateZ #3\n"
    + "".join(f"{x} {y} {z}\n" for z, y, x in POINTS)
)
RUN = {"format": 1, "segmenter": {"class": "LinearVote"}, "config": {"steps": 3}, "data": []}
SECONDS, MEBIBYTES = 20, 400  # of one file


def volume(path):
    return np.asarray(io.read_tomogram(path).density)


def particles(path):
    return io.read_particles(path, 10.0, (64, 64, 64)).coordinates


def table(path):
    return {k: dict(v) for k, v in io.read_star(path).items()}


def resumed(path):
    rundir.check_same(path.parent, RUN)
    return RUN


def fold(path):
    return read_fold(path, (2, 4, 5, 1), "this job")["probabilities"]


def config(path):
    return arguments.read_config(path, train.Train)


# For each format: the name of the file, what reads it, and whether damage of any bit must be seen.
READERS = {
    "mrc": ("a.mrc", volume, False),
    "mrc extended": ("e.mrc", volume, False),
    "mrc gzip": ("a.mrc.gz", volume, False),
    "mrc bzip2": ("a.mrc.bz2", volume, False),
    "boxes": ("b.mrcs", io.read_boxes, False),
    "tiff": ("a.tif", volume, False),
    "tiff zlib": ("z.tif", volume, False),
    "tiff imagej": ("j.tif", volume, False),
    "bigtiff": ("big.tif", volume, False),
    "ome-tiff": ("a.ome.tif", volume, False),
    "star": ("a.star", table, False),
    "star particles": ("p.star", particles, False),
    "tbl": ("a.tbl", particles, False),
    "csv": ("a.csv", particles, False),
    "csv points": ("points.csv", io.read_points, False),
    "json points": ("points.json", io.read_points, False),
    "json": ("a.json", io.read_json_object, False),
    "yaml config": ("config.yaml", config, False),
    "yaml slurm": ("slurm.yaml", workers.slurm_options, False),
    "run.json": ("run/run.json", resumed, True),
    "fold": ("fold.npz", fold, False),
}
FOLDERS = {
    "zarr 3 group": ("three.zarr", "zarr.json"),
    "zarr 3 array": ("three.zarr", "0/zarr.json"),
    "zarr 3 chunk": ("three.zarr", "0/c/0/0/0"),
    "zarr 2 group": ("two.zarr", ".zattrs"),
    "zarr 2 array": ("two.zarr", "0/.zarray"),
    "zarr 2 chunk": ("two.zarr", "0/0.0.0"),
    "model.json": ("model", "model.json"),
    "model arrays": ("model", "arrays.npz"),
    "manifest": ("store", "step-00000001/manifest.json"),
}
SEALED = ("model.json", "model arrays", "manifest", "zarr 3 chunk")


def read_model(path):
    io.describe(path)
    return np.asarray(io.load_model(path)[0].kernel[...])


def read_store(path):
    return checkpoint.restore(path, TREE).tree["kernel"]


def reader_of(folder):
    return {"model": read_model, "store": read_store}.get(folder, volume)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder with a sound file of every format."""
    here = tmp_path_factory.mktemp("corpus")
    io.write_mrc(here / "a.mrc", DATA, voxel_size=10.0)
    raw = bytearray((here / "a.mrc").read_bytes())
    raw[92:96] = (80).to_bytes(4, "little")
    (here / "e.mrc").write_bytes(bytes(raw[:1024]) + b"x" * 80 + bytes(raw[1024:]))
    (here / "a.mrc.gz").write_bytes(gzip.compress((here / "a.mrc").read_bytes(), mtime=0))
    (here / "a.mrc.bz2").write_bytes(bz2.compress((here / "a.mrc").read_bytes()))
    io.write_boxes(here / "b.mrcs", np.stack([DATA[:3, :3, :3]] * 2), 2, 3, 10.0)
    for name, options in (
        ("a.tif", {}),
        ("z.tif", {"compression": "zlib"}),
        ("j.tif", {"imagej": True, "metadata": {"axes": "ZYX", "unit": "nm", "spacing": 1.0}}),
        ("big.tif", {"bigtiff": True}),
        ("a.ome.tif", {"metadata": {"axes": "ZYX"}}),
    ):
        tifffile.imwrite(here / name, DATA, photometric="minisblack", **options)
    for name in ("a.star", "p.star"):
        (here / name).write_text(STAR)
    rows = [[i + 1, *[0] * 22, x, y, z, *[0] * 9] for i, (z, y, x) in enumerate(POINTS)]
    (here / "a.tbl").write_text("".join(" ".join(map(str, row)) + "\n" for row in rows))
    for name in ("a.csv", "points.csv"):
        with open(here / name, "w", newline="") as file:
            csv.writer(file).writerows([["z", "y", "x"], *POINTS])
    (here / "points.json").write_text(json.dumps(POINTS))
    (here / "a.json").write_text(json.dumps({"config": {"steps": 3}, "list": [1, 2.5, None]}))
    (here / "config.yaml").write_text("steps: 500\nmethod: vote\nclasses: [membrane]\n")
    (here / "slurm.yaml").write_text("queue: gpu\ncores: 8\nmemory: 32GB\n")
    (here / "run").mkdir()
    (here / "run" / "run.json").write_text(json.dumps(RUN))
    kept = {"probabilities": np.full((2, 4, 5, 1), 0.5, np.float16), "seconds": np.ones(2)}
    np.savez_compressed(here / "fold.npz", **kept, parameters=3, voxels=60, key="this job")  # pyright: ignore
    io.write_zarr(here / "three.zarr", DATA, voxel_size=10.0)
    two = here / "two.zarr"
    (two / "0").mkdir(parents=True)
    axes = [{"name": axis, "type": "space", "unit": "angstrom"} for axis in "zyx"]
    steps = [{"type": "scale", "scale": [10.0] * 3}]
    image = {"version": "0.4", "axes": axes}
    image["datasets"] = [{"path": "0", "coordinateTransformations": steps}]
    (two / ".zattrs").write_text(json.dumps({"multiscales": [image]}))
    array = {"zarr_format": 2, "shape": SHAPE, "chunks": SHAPE, "dtype": "<f4", "order": "C"}
    array |= {"compressor": None, "filters": None, "fill_value": 0}
    (two / "0" / ".zarray").write_text(json.dumps(array))
    (two / "0" / "0.0.0").write_bytes(DATA.tobytes())
    io.save_model(here / "model", LinearVote(1))
    best = {"score": None, "step": 0, "stale": 0}
    checkpoint.save(here / "store", 1, TREE, best)
    return here


def flips(raw, seed):
    rng, damaged = np.random.default_rng(seed), bytearray(raw)
    for place in rng.integers(0, len(raw), 3):
        damaged[place] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def inserted(raw, what):
    return raw[: len(raw) // 2] + what + raw[len(raw) // 2 :]


def giants(raw):
    """Every number of a text, and every four bytes of a header, as large as it may be."""
    if b"\0" in raw[:200]:
        return raw[:4] + b"\xff\xff\xff\x7f" * 15 + raw[64:]
    return re.sub(rb"\d+", b"99999999999999999999", raw)


MUTATIONS = {
    "empty": lambda raw: b"",
    "one byte": lambda raw: raw[:1],
    "a tenth": lambda raw: raw[: len(raw) // 10],
    "half": lambda raw: raw[: len(raw) // 2],
    "all but one": lambda raw: raw[:-1],
    "all but 20": lambda raw: raw[:-20],
    "flips 1": lambda raw: flips(raw, 1),
    "flips 2": lambda raw: flips(raw, 2),
    "flips 3": lambda raw: flips(raw, 3),
    "header": lambda raw: flips(raw[:64], 4) + raw[64:],
    "giants": giants,
    "byte order mark": lambda raw: b"\xef\xbb\xbf" + raw,
    "utf-16": lambda raw: raw.decode("latin-1").encode("utf-16"),
    "latin-1": lambda raw: inserted(raw, "é".encode("latin-1")),
    "nul": lambda raw: inserted(raw, b"\0" * 9),
    "escapes": lambda raw: inserted(raw, b"\x1b[2J\r\n\t"),
    "long word": lambda raw: inserted(raw, b"x" * 10**6),
    "lists": lambda raw: b"[" * 10**5,
    "objects": lambda raw: b'{"a":' * 10**5,
    "deep yaml": lambda raw: b"a: " + b"[" * 10**4,
    "other json": lambda raw: b"[[5, null]]",
    "twice": lambda raw: raw + raw,
    "swapped": lambda raw: raw[::-1],
}
# What must read as the sound file does.
HARMLESS = {
    ("byte order mark", name)
    for name in (
        *("star", "star particles", "csv", "csv points", "json points", "json"),
        *("yaml config", "yaml slurm", "run.json", "model.json", "zarr 3 group", "zarr 2 group"),
    )
} | {("twice", name) for name in ("mrc", "mrc extended", "tiff", "tiff zlib", "bigtiff")}
# Of these a part is no whole: what was cut must be noticed.
WHOLE = [name for name in READERS if name not in ("star", "star particles", "tbl", "csv")]
CUTS = ("empty", "one byte", "a tenth", "half", "all but 20")


def outcome(read, path, named):
    """What comes of reading a file, None if it is refused as it should be."""

    def late(*_):
        raise TimeoutError(f"{path}: more than {SECONDS} s")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    former = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read(path)
    except (ValueError, OSError, TrainingError) as error:
        message = str(error)
        assert not isinstance(error, (UnicodeDecodeError, TimeoutError)), message
        assert len(message) <= 500 and "\n" not in message and message.isprintable(), message
        assert str(named) in message, message
        return None
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert after - before < MEBIBYTES * 2**10


def equal(a, b):
    if isinstance(a, dict):
        return a == b
    return np.shape(a) == np.shape(b) and bool(np.all(jnp.asarray(a) == jnp.asarray(b)))


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_damaged_file(corpus, tmp_path, kind, mutation):
    name, read, sealed = READERS[kind]
    sound, path = corpus / name, tmp_path / name
    path.parent.mkdir(exist_ok=True)
    content = MUTATIONS[mutation](sound.read_bytes())
    path.write_bytes(content)
    found = outcome(read, path, path.parent if kind == "run.json" else path)
    if (mutation, kind) in HARMLESS:
        assert found is not None
    if (mutation, kind) in HARMLESS or (found is not None and (sealed or mutation in CUTS[:2])):
        assert equal(found, read(sound))
    if kind in WHOLE and mutation in CUTS and found is not None:
        assert equal(found, read(sound)) or kind.startswith(("csv", "yaml"))


@pytest.mark.parametrize("kind", FOLDERS)
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_damaged_file_in_a_folder(corpus, tmp_path, kind, mutation):
    folder, name = FOLDERS[kind]
    path = tmp_path / folder
    shutil.copytree(corpus / folder, path)
    (path / name).write_bytes(MUTATIONS[mutation]((corpus / folder / name).read_bytes()))
    read = reader_of(folder)
    found = outcome(read, path, path)
    if (mutation, kind) in HARMLESS:
        assert found is not None
    if found is not None and (kind in SEALED or mutation in CUTS):
        assert equal(found, read(corpus / folder))


PLACES = {
    "absent": lambda path: None,
    "pipe": os.mkfifo,
    "folder": lambda path: path.mkdir(),
    "dangling link": lambda path: path.symlink_to("nothing"),
    "circle": lambda path: path.symlink_to(path),
    "endless": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("place", PLACES)
def test_something_else_in_the_place_of_a_file(tmp_path, kind, place):
    name, read, _ = READERS[kind]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    PLACES[place](path)
    assert outcome(read, path, path) is None


@pytest.mark.parametrize("kind", FOLDERS)
@pytest.mark.parametrize("place", PLACES)
def test_something_else_in_the_place_of_a_file_in_a_folder(corpus, tmp_path, kind, place):
    folder, name = FOLDERS[kind]
    path = tmp_path / folder
    shutil.copytree(corpus / folder, path)
    (path / name).unlink()
    PLACES[place](path / name)
    assert outcome(reader_of(folder), path, path) is None


def test_the_corpus_is_large(corpus):
    kinds = len(READERS) + len(FOLDERS)
    assert kinds * (len(MUTATIONS) + len(PLACES)) > 800
    hashes = {
        hashlib.sha256(mutation((corpus / name).read_bytes())).hexdigest()
        for name, _, _ in READERS.values()
        for mutation in MUTATIONS.values()
    }
    assert len(hashes) > 300


@pytest.mark.parametrize(
    "content", ["[" * 10**5, "[]", '{"step": 1e400}', '{"step": "1"}', "\0", "{"]
)
def test_lines_of_metrics_that_are_not_sound_are_left_out(tmp_path, content):
    lines = ['{"step": 1, "loss": 0.5}', content, '{"step": 2, "loss": 0.25}']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert [line["loss"] for line in rundir.read_metrics(tmp_path)] == [0.5, 0.25]
