"""Small files and a way to run the command line in this process."""

import jax
import numpy as np
import pytest

from cryojax_seg import io
from cryojax_seg.cli import main
from cryojax_seg.core import Tomogram
from cryojax_seg.simulate import WedgeImaging, presets, simulate

VOXELS = (10.0, 10.0, 10.0)
SLICES = ("6", "12", "18")


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A folder with a dark tomogram and its halves, labels (one class, and three), sparse ones."""
    folder = tmp_path_factory.mktemp("my files")  # with a space, as people have them
    scene = presets.vesicles(jax.random.key(1), (24, 32, 32), VOXELS[0])
    cell = simulate(scene, WedgeImaging(snr=2.0), jax.random.key(4))
    labels = np.asarray(cell.labels)
    like = Tomogram(-np.asarray(cell.density), VOXELS, origin=(100.0, -20.0, 30.0))
    sparse = np.full(labels.shape, 255, np.int16)
    sparse[[6, 12, 18]] = labels[[6, 12, 18]] == 1
    for name, array in (
        ("tomogram", like.density),
        ("even", -np.asarray(cell.imaged.even)),
        ("odd", -np.asarray(cell.imaged.odd)),
        ("membrane", (labels == 1).astype(np.int8)),
        ("classes", np.where(labels == 5, 2, labels == 1).astype(np.int8)),
        ("sparse", sparse),
    ):
        io.write_mrc(folder / f"{name}.mrc", array, like)
    return folder


@pytest.fixture
def run(capsys):
    """Runs the command line: gives its status, what it printed and what it complained about."""

    def call(*words):
        status = main([str(word) for word in words])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call


@pytest.fixture(scope="session")
def trained(files, tmp_path_factory):
    """A run folder with a trained linear vote."""
    folder = tmp_path_factory.mktemp("runs") / "vote"
    words = ["train", files / "tomogram.mrc", "--labels", files / "sparse.mrc", "--method", "vote"]
    words += ["--classes", "membrane", "--steps", "100", "--patch", "16", "-o", folder]
    assert main([str(word) for word in words]) == 0
    return folder
