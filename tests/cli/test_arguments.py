"""Groups of options that commands share: their flags, their files, and the check of their units."""

import dataclasses
from pathlib import Path

import pytest

from cryojax_seg.cli import arguments
from cryojax_seg.cli.arguments import AnnotationOptions, Output, Overwrite, Resume
from cryojax_seg.cli.geometry import VolumeOptions


@dataclasses.dataclass(frozen=True)
class Work:
    """Do some work."""

    output: Output
    """Where the results go."""
    volume: VolumeOptions = VolumeOptions(contrast=None)
    annotation: AnnotationOptions = AnnotationOptions()
    steps: int = 10
    """Steps of the work."""
    resume: Resume = False
    overwrite: Overwrite = False


@dataclasses.dataclass(frozen=True)
class Other:
    """Do other work."""

    volume: VolumeOptions = VolumeOptions()


def parse(*words):
    return arguments.parse(list(words), {"work": Work, "other": Other})


def test_flags_of_a_group_have_no_prefix_and_defaults_are_those_of_the_command():
    words = ("--voxel-size", "10", "--tilt-range", "-60", "50", "--classes", "membrane", "lumen")
    found = parse("work", "-o", "out", *words, "--slices", "3", "7", "--overwrite")
    assert found.volume == VolumeOptions((-60.0, 50.0), voxel_size=10.0, contrast=None)
    assert found.annotation == AnnotationOptions(("membrane", "lumen"), (3, 7), 255)
    assert found.overwrite and found.output == Path("out")
    assert parse("other").volume.contrast == "dark"


def test_help_names_each_option_of_a_group_once(capsys):
    with pytest.raises(SystemExit):
        parse("work", "--help")
    said = capsys.readouterr().out
    for name in ("voxel-size", "contrast", "tilt-range", "tilt-axis", "classes", "slices"):
        assert said.count(f"--{name}") == 1, name
    assert "(default: that of the model)" in " ".join(said.replace("│", " ").split())


def test_numbers_in_a_group_are_checked_for_their_unit():
    with pytest.raises(ValueError, match="--voxel-size is in angstrom: 0.134 looks like nano"):
        parse("work", "-o", "out", "--voxel-size", "0.134")


def test_a_configuration_file_knows_the_options_of_groups(tmp_path):
    given = parse("work", "-o", "out", "--voxel-size", "10", "--slices", "3", "--steps", "4")
    values = arguments.plain(given)
    expected = {"slices": [3], "steps": 4, "voxel_size": 10.0, "ignore": 255, "tilt_axis": "y"}
    assert expected.items() <= values.items() and "volume" not in values
    file = tmp_path / "config.yaml"
    file.write_text("voxel-size: 10\nslices: [3]\n")
    assert arguments.read_config(file, Work) == {"voxel_size": 10, "slices": [3]}
    file.write_text("volume: 10\n")
    with pytest.raises(ValueError, match="unknown option 'volume'"):
        arguments.read_config(file, Work)
