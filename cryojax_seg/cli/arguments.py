"""From the words of a command line to a dataclass of options, and the options several share."""

import contextlib
import dataclasses
import functools
import inspect
import io
import operator
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, arg, subcommand

from cryojax_seg import units
from cryojax_seg.cli.console import PROGRAM
from cryojax_seg.cli.geometry import check_tilts, with_tilts

# How options are spelled: flags without a negative form, and without the names of their groups.
MARKERS = (FlagCreatePairsOff, OmitArgPrefixes)

DESCRIPTION = """Segment cryo-electron tomograms with anything from a threshold to a 3D U-Net.

Try `cryojax-seg demo` first. Arrays are (z, y, x); lengths are in angstrom."""

Tomograms = Annotated[
    Positional[tuple[Path, ...]],
    arg(metavar="TOMOGRAM ...", help_behavior_hint="(one or more)"),
]
Output = Annotated[Path, arg(aliases=["-o"])]
Overwrite = Annotated[bool, arg(help="Replace existing outputs.")]
Workers = Annotated[
    int,
    arg(
        metavar="N",
        help="Number of processes that work at the same time, each on another tomogram. 0 uses "
        "this process alone.",
    ),
]
Resume = Annotated[
    bool,
    arg(help="Keep the results of an interrupted call of this command, and compute the rest."),
]
MeshSuffix = Literal["ply", "obj", "stl", "glb", "surf"]
Scenes = Annotated[
    tuple[Literal["chimerax", "napari", "imod"], ...],
    arg(metavar="{chimerax,napari,imod} ..."),
]
Seed = Annotated[int, arg(help="Seed of all random numbers.")]
AllowedModules = Annotated[
    tuple[str, ...],
    arg(
        metavar="MODULE ...",
        help="Python modules of your own that the model may import.",
        help_behavior_hint="(default: none)",
    ),
]
# What the numbers are that options ask for; those of other names are not checked.
_QUANTITIES = {
    "defocus": units.DEFOCUS,
    "voltage": units.VOLTAGE,
    "voxel_size": units.VOXEL_SIZE,
    "voxel_spacing": units.VOXEL_SIZE,
    "tilt_range": units.TILT,
    "diameter": units.DIAMETER,
    "radius": units.RADIUS,
    "thickness": units.DIAMETER,
    "contact": units.DISTANCE,
    "farthest": units.DISTANCE,
    "distance": units.DISTANCE,
    "memory": units.MEMORY,
    "threshold": units.FRACTION,
    "validation": units.FRACTION,
    "crowding": units.FRACTION,
    "learning_rate": units.LEARNING_RATE,
}


def default(metavar: str, hint: str, text: str | None = None) -> Any:
    """Describe an optional argument whose default is found out later, by `text` if it is long."""
    return arg(metavar=metavar, help=text, help_behavior_hint=f"(default: {hint})")


@dataclasses.dataclass(frozen=True)
class AnnotationOptions:
    """Say how to read the label volumes."""

    classes: Annotated[
        tuple[str, ...],
        default("NAME ...", "as the files state, or foreground, or class1 class2 ..."),
    ] = ()
    """Names of the labels 1, 2, ... in order."""
    slices: Annotated[tuple[int, ...], default("Z ...", "all")] = ()
    """Z indices of the annotated slices, from 0. All other slices are ignored."""
    ignore: int = 255
    """Label of voxels that nobody annotated. Signed bytes (MRC mode 0) store 255 as -1."""
    thickness: Annotated[float | None, default("ANGSTROM", "as the model says")] = None
    """Diameter in angstrom of tubes along open contours, and of points, of IMOD models, and
    thickness of the shells that meshes become."""
    values: Annotated[tuple[int, ...], default("N ...", "1 2 ...")] = ()
    """Values in the label volumes of the labels 1, 2, ... in order, if they are others. All other
    values count as background."""


@dataclasses.dataclass(frozen=True)
class TableOptions:
    """Say how to read tables of particles."""

    coordinates_voxel_size: Annotated[float | None, default("ANGSTROM", "that of the table")] = None
    """Size in angstrom of the pixels in which a table counts its coordinates."""
    name: Annotated[str | None, default("NAME", "that of its file")] = None
    """Name of the tomogram in tables of particles."""
    of_class: Annotated[
        int | None, arg(name="class", metavar="N", help_behavior_hint="(default: all)")
    ] = None
    """Class of the particles to take, by its number in the table. The objects of an IMOD model are
    classes from 1."""


# Options that say how a command is called this time, not what it does.
_OF_THIS_CALL = {"config", "resume", "overwrite", "distributed"}
_OF_THIS_CALL |= {"coordinator", "processes", "process", "run", "voxel_spacing"}


def parse(argv: list[str], commands: Mapping[str, type]) -> Any:
    """The options of the command that is named first, as an instance of its dataclass.

    Raises:
        SystemExit: after printing help.
        ValueError: one line that says what is wrong with the arguments; also for a number that
            can only be meant in another unit, see `units.check`.
    """
    kinds: list[Any] = [
        Annotated[kind, subcommand(name, description=_description(kind, argv, name))]
        for name, kind in commands.items()
    ]
    union: Any = functools.reduce(operator.or_, kinds)
    command, rest = argv[0], argv[1:]
    config: dict[str, Any] = {}
    path = _config_file(rest) if command == "train" else None
    if path is not None:
        config = read_config(path, commands[command])
    check_tilts(rest, config)
    tomograms = tuple(map(Path, config.pop("tomograms", None) or ()))
    # What is typed comes after what the file says, and wins. The path between them ends an option
    # with any number of values, which would swallow the tomograms.
    words = [*_words(config), "--config", str(path)] if config else []
    messages = io.StringIO()
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stderr(messages))
            if not _writes_to_output(argv):  # where the output is no terminal, text has no box
                stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            options = tyro.cli(
                union,
                args=[command, *words, *rest],
                prog=PROGRAM,
                description=DESCRIPTION,
                config=MARKERS,
            )
    except SystemExit as end:
        if not end.code:
            raise
        named = f" {command}" if command in commands else ""
        raise ValueError(f"{_summary(messages.getvalue())}; see {PROGRAM}{named} --help") from None
    options = with_tilts(options)
    given = flat(options)
    for name, quantity in _QUANTITIES.items():
        units.check(f"--{name.replace('_', '-')}", given.get(name), quantity)
    if tomograms and not options.tomograms:
        options = dataclasses.replace(options, tomograms=tomograms)
    return options


def flat(options: Any) -> dict[str, Any]:
    """Return all options by name, with those of nested groups beside the others.

    >>> flat(TableOptions(name="TS_1"))["name"]
    'TS_1'
    """
    found: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name == "tilt_from":
            continue  # it gave the tilt range when the options were parsed
        found |= flat(value) if dataclasses.is_dataclass(value) else {field.name: value}
    return found


def option_names(kind: Any) -> set[str]:
    """Return the names of all options of a command, nested groups included.

    >>> sorted(option_names(AnnotationOptions))
    ['classes', 'ignore', 'slices', 'thickness', 'values']
    """
    names: set[str] = set()
    for field in dataclasses.fields(kind):
        kind = field.type
        names |= option_names(kind) if dataclasses.is_dataclass(kind) else {field.name}
    return names


def _description(kind: type, argv: list[str], name: str) -> str:
    """The whole docstring in the help of the command itself, its first line in the overview."""
    text = inspect.cleandoc(kind.__doc__ or "")
    return text if argv[0] == name else text.split("\n")[0]


def _writes_to_output(words: Sequence[str]) -> bool:
    """Return whether arguments ask for help or a completion script instead of work."""
    return any(word in ("-h", "--help") or word.startswith("--tyro-") for word in words)


def _summary(message: str) -> str:
    """Return one line of tyro's message: the mistake, and the option that was probably meant.

    The message is a title, then paragraphs between blank lines and lines of dashes.
    """
    lines = [line.strip() for line in message.splitlines()]
    lines = ["" if set(line) <= {"-"} else line for line in lines]
    _, *paragraphs = [p.strip().split("\n") for p in re.split(r"\n{2,}", "\n".join(["", *lines]))]
    first = paragraphs[0]
    names = [line for line in first[1:] if line.startswith("-") or line.isupper()]
    if first[0].startswith("Missing") and names:
        return f"{first[0]} {'; '.join(names)}"
    text = " ".join(first).replace("{None}|", "").rstrip(". ")
    for paragraph in paragraphs[1:]:
        if paragraph[0].startswith("Perhaps you meant") and len(paragraph) > 1:
            return f"{text} (perhaps you meant {paragraph[1].split(' ')[0]})"
    return text


def _config_file(argv: list[str]) -> Path | None:
    """The file that ``--config`` names."""
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        if word.startswith("--config="):
            return Path(word.split("=", 1)[1])
        if word == "--config" and following:
            return Path(following)
    return None


def read_config(path: Path, kind: type) -> dict[str, Any]:
    """The options in a YAML file, by the names of the fields of `kind`.

    Raises:
        ValueError: naming the file, if it is not a mapping or has unknown keys.
    """
    from cryojax_seg import io

    return io.read_options(path, option_names(kind) - {"config"})


def _words(config: dict[str, Any]) -> list[str]:
    """Options as the words of a command line."""
    words = []
    for name, value in config.items():
        if value is not None and value is not False:
            items = value if isinstance(value, list) else [] if value is True else [value]
            words += [f"--{name.replace('_', '-')}", *map(str, items)]
    return words


def plain(options: Any) -> dict[str, Any]:
    """Options as plain values for a configuration file: paths absolute, unset ones left out."""

    def convert(value):
        if isinstance(value, Path):
            return os.path.realpath(value)  # unlike resolve, not stopped by a circle of links
        return [convert(v) for v in value] if isinstance(value, tuple) else value

    given = flat(options)
    values = {name: convert(given[name]) for name in sorted(given.keys() - _OF_THIS_CALL)}
    return {k: v for k, v in values.items() if v is not None and v is not False and v != []}


def named(
    words: tuple[str, ...], option: str, form: str, example: str, values: Sequence[str] = ()
) -> dict[str, str]:
    """Return the words NAME=VALUE of an option as a dictionary.

    Raises:
        ValueError: for a word of another form, or a name that is given twice.

    >>> named(("noise=0.3",), "augment", "NAME=P", "noise=0.3")
    {'noise': '0.3'}
    """
    found: dict[str, str] = {}
    for word in words:
        name, _, value = word.partition("=") if not values else word.rpartition("=")
        if not (name and value) or (values and value not in values):
            choices = f", one of {', '.join(values)}" if values else ""
            raise ValueError(f"--{option} {word}: give {form}{choices}, such as {example}")
        if name in found:
            raise ValueError(f"--{option} {word}: {name} is given twice")
        found[name] = value
    return found


def check_resume(options: Any) -> None:
    """Raise a ValueError for both --resume and --overwrite."""
    if options.resume and options.overwrite:
        raise ValueError("--resume and --overwrite exclude each other")


def load_model(path: Path, allow: tuple[str, ...] = ()) -> Any:
    """Return the `inference.Model` in a folder RUN, or RUN/model, or of a built-in name.

    Raises:
        ValueError: if there is none, or it needs a module that is not allowed.
    """
    from cryojax_seg import inference, io

    try:
        return inference.load(path, allow)
    except io.ForeignModuleError as error:
        raise io.FileError(f"{error}: --allow-module {error.module}") from None
