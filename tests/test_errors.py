"""Errors name the parameter that mends them, and the command line its option."""

import copy

import numpy as np
import pytest

from cryojax_seg import errors, io
from cryojax_seg.cli import console
from cryojax_seg.training.config import TrainingError


@pytest.mark.parametrize(
    "kind", [errors.ParameterError, io.FileError, io.HeaderWarning, TrainingError]
)
def test_what_names_a_parameter_keeps_it_when_copied(kind):
    problem = copy.copy(kind("a.mrc: exists already", "overwrite"))
    assert str(problem) == "a.mrc: exists already" and problem.parameters == ("overwrite",)
    assert console.message(problem) == "a.mrc: exists already (--overwrite)"


def test_options_are_added_once_for_all_parameters():
    several = errors.ParameterError("where are the others", "coordinator", "processes")
    assert console.message(several) == "where are the others (--coordinator, --processes)"
    assert console.message(io.FileError("a.mrc: is empty")) == "a.mrc: is empty"
    assert console.message(ValueError("odd")) == console.message("odd") == "odd"
    unknown = errors.ParameterError("no size", "voxel_size")
    assert console.message(unknown) == "no size (--voxel-size ANGSTROM)"


@pytest.mark.filterwarnings("default")
def test_warnings_name_options_on_the_error_stream(capsys, tmp_path):

    path = tmp_path / "t.mrc"
    io.write_mrc(path, np.zeros((2, 3, 4), np.float32))
    with console.warnings_as_lines():
        io.read_tomogram(path)
    said = capsys.readouterr().err
    assert said.rstrip().endswith("give voxel_size in angstrom (--voxel-size ANGSTROM)")
