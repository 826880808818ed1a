"""Numbers in another unit are refused at once, with what was probably meant."""

import numpy as np
import pytest

from cryojax_seg import units
from cryojax_seg.core import MissingWedge
from cryojax_seg.core.ctf import ContrastTransfer
from cryojax_seg.restore import ctf_deconvolution
from cryojax_seg.simulate.instrument import Slab
from cryojax_seg.training import TrainConfig

RESTORE = ("restore", "t.mrc", "-o", "o.mrc", "--tilt-range", "-60", "60")
PICK = ("pick", "p.mrc", "-o", "o.star")
TRAIN = ("train", "t.mrc", "--labels", "l.mrc", "-o", "run")
WORDS = [
    (
        (*RESTORE, "--defocus", "35000"),
        "--defocus is in micrometre: 35000 looks like angstrom, give 3.5",
    ),
    ((*RESTORE, "--defocus", "3.5e-6"), "3.5e-06 looks like metre, give 3.5"),
    ((*RESTORE, "--defocus", "-8000"), "angstrom, give -0.8, or nanometre, give -8"),
    (
        (*RESTORE, "--voltage", "300000"),
        "--voltage is in kilovolt: 300000 looks like volt, give 300",
    ),
    ((*RESTORE, "--memory", "4096"), "--memory is in GiB: 4096 looks like MiB, give 4"),
    ((*RESTORE, "--learning-rate", "3"), "3 looks like thousandths, give 0.003"),
    ((*RESTORE, "--learning-rate", "-3"), "-3 looks like an exponent of 10, give 0.001"),
    (
        (*TRAIN, "--tilt-range", "-1.0472", "1.0472"),
        "-1.0472 1.0472 looks like radian, give -60 60",
    ),
    ((*TRAIN, "--voxel-size", "0.134"), "--voxel-size is in angstrom: 0.134 looks like nano"),
    ((*TRAIN, "--voxel-size", "1.34e-9"), "1.34e-09 looks like metre, give 13.4"),
    ((*TRAIN, "--voxel-size", "1340"), "1340 looks like picometre, give 13.4"),
    ((*TRAIN, "--validation", "20"), "--validation is a fraction: 20 looks like percent, give 0.2"),
    ((*PICK, "--diameter", "12"), "--diameter is in angstrom: 12 looks like nanometre, give 120"),
    ((*PICK, "--diameter", "120", "--threshold", "50"), "50 looks like percent, give 0.5"),
    (("extract", "t.mrc", "p.star", "-o", "b.mrcs", "--radius", "8"), "nanometre, give 80"),
    (("segment", "m", "t.mrc", "-o", "l.mrc", "--memory", "2147483648"), "bytes, give 2"),
    (("simulate", "vesicles", "-o", "s", "--voxel-size", "1e-9"), "metre, give 10"),
]


@pytest.mark.parametrize(("words", "expected"), WORDS)
def test_options_in_another_unit(words, expected, capsys, tmp_path, monkeypatch):
    """Before any file is looked for: none of these exists."""
    from cryojax_seg.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(list(words)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
    assert not list(tmp_path.iterdir())


def test_what_may_be_meant_passes():
    """A correct or unusual number is nobody's mistake, nor is an array."""
    for value, quantity in (
        *((v, units.DEFOCUS) for v in (0.0, 0.2, 3.5, -2.0, 20, None, np.float32(35000))),
        *((v, units.VOXEL_SIZE) for v in (0.5, 1, 13.48, 100)),
        *((v, units.TILT) for v in ((-60.0, 60.0), (-90, 90), (0.0, 45.0), (-3.0, 2.0))),
        *((v, units.VOLTAGE) for v in (80, 120, 200, 300, 1000)),
        *((v, units.MEMORY) for v in (0.1, 2, 64, 1024)),
        *((v, units.DIAMETER) for v in (35, 120.0, 2500)),
        *((v, units.FRACTION) for v in (0, 0.5, 1)),
        *((v, units.LEARNING_RATE) for v in (1e-5, 0.05, 1)),
        *((v, units.ABERRATION) for v in (0.0, 0.01, 2.7)),
        (float("nan"), units.DEFOCUS),
    ):
        units.check("it", value, quantity)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: ContrastTransfer(3.5), "in angstrom: 3.5 looks like micrometre, give 35000$"),
        (lambda: ContrastTransfer(voltage=300_000), "give 300$"),
        (lambda: ContrastTransfer(spherical_aberration=2700.0), "micrometre, give 2.7$"),
        (lambda: ContrastTransfer(amplitude_contrast=7), "percent, give 0.07$"),
        (lambda: MissingWedge((-1.05, 1.05)), "radian, give -60.16 60.16$"),
        (lambda: Slab(thickness=150.0), "thickness is in angstrom: 150 looks like nano"),
        (lambda: TrainConfig(learning_rate=3.0), "give 0.003$"),
        (lambda: ctf_deconvolution(ContrastTransfer(), 1e-9), "metre, give 10$"),
    ],
)
def test_constructors_say_it_too(make, expected):
    with pytest.raises(ValueError, match=expected):
        make()
