"""From the words of a command line to a dataclass of options, and the options several share."""

import contextlib
import dataclasses
import functools
import inspect
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import FlagCreatePairsOff, Positional, arg, subcommand

from cryojax_seg.cli.console import PROGRAM

DESCRIPTION = """Segment cryo-electron tomograms with anything from a threshold to a 3D U-Net.

Try `cryojax-seg demo` first. Arrays are (z, y, x); lengths are in angstrom."""

Tomograms = Annotated[
    Positional[tuple[Path, ...]],
    arg(metavar="TOMOGRAM ...", help_behavior_hint="(one or more)"),
]
Output = Annotated[Path, arg(aliases=["-o"])]
Overwrite = bool
VoxelSize = Annotated[
    float | None,
    arg(metavar="ANGSTROM", help_behavior_hint="(default: what the file says)"),
]
TiltRange = Annotated[tuple[float, float] | None, arg(metavar="LO HI")]
Contrast = Literal["dark", "bright"]


def default(metavar: str, hint: str) -> Any:
    """The help of an optional argument whose default is found out later."""
    return arg(metavar=metavar, help_behavior_hint=f"(default: {hint})")


def parse(argv: list[str], commands: Mapping[str, type]) -> Any:
    """The options of the command that is named first, as an instance of its dataclass.

    Raises:
        SystemExit: after printing help.
        ValueError: one line that says what is wrong with the arguments.
    """
    kinds = [
        Annotated[kind, subcommand(name, description=_description(kind, argv, name))]
        for name, kind in commands.items()
    ]
    union = functools.reduce(lambda a, b: a | b, kinds)
    if argv[0] in commands:
        argv = [argv[0], *_from_config(argv[1:], commands[argv[0]]), *argv[1:]]
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            return tyro.cli(
                union,
                args=argv,
                prog=PROGRAM,
                description=DESCRIPTION,
                config=(FlagCreatePairsOff,),
            )
    except SystemExit as end:
        if not end.code:
            raise
        named = f" {argv[0]}" if argv[0] in commands else ""
        raise ValueError(f"{_summary(messages.getvalue())}; see {PROGRAM}{named} --help") from None


def _description(kind: type, argv: list[str], name: str) -> str:
    """The whole docstring in the help of the command itself, its first line in the overview."""
    text = inspect.cleandoc(kind.__doc__ or "")
    return text if argv[0] == name else text.split("\n")[0]


def _summary(box: str) -> str:
    """One line of tyro's message: what is wrong, and what was probably meant.

    The message has a title, rules or a box, and indented explanations.
    """
    box = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line.strip("│ ") for line in box.splitlines()]
    lines = ["" if re.match(r"[╭╰─]|-{9}", line) else line for line in lines]
    # The title is in the upper edge of the box, or above the first rule.
    _, *paragraphs = [p.strip().split("\n") for p in re.split(r"\n{2,}", "\n".join(["", *lines]))]
    first = paragraphs[0]
    if first[0].startswith("Missing"):
        names = [line for line in first[1:] if line.startswith("-") or line.isupper()]
        return f"{first[0]} {'; '.join(names)}"
    text = " ".join(first).replace("{None}|", "").rstrip(".")
    for paragraph in paragraphs[1:]:
        if paragraph[0].startswith("Perhaps you meant") and len(paragraph) > 1:
            return f"{text} (perhaps you meant {paragraph[1].split(' ')[0]})"
    return text


def _from_config(argv: list[str], kind: type) -> list[str]:
    """The options in the YAML file that ``--config`` names, as words of a command line.

    They come before the words that were typed, so that those win.
    """
    if "config" not in {f.name for f in dataclasses.fields(kind)}:
        return []
    path = next((a.split("=", 1)[1] for a in argv if a.startswith("--config=")), None)
    if path is None and "--config" in argv[:-1]:
        path = argv[argv.index("--config") + 1]
    return [] if path is None else config_words(Path(path), kind)


def config_words(path: Path, kind: type) -> list[str]:
    """The words of a YAML mapping of option names (as in the help) to values.

    Raises:
        ValueError: naming the file, if it is not such a mapping or has unknown keys.
    """
    import yaml

    if not path.is_file():
        raise ValueError(f"{path}: no such configuration file")
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is not plain YAML: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: must hold one option a line, such as 'steps: 500'")
    known = {f.name for f in dataclasses.fields(kind)} - {"config", "tomograms"}
    words = []
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name not in known:
            choices = ", ".join(sorted(k.replace("_", "-") for k in known))
            raise ValueError(f"{path}: unknown option '{key}'; known are {choices}")
        if value is None or value is False:
            continue
        option = f"--{name.replace('_', '-')}"
        items = value if isinstance(value, list) else [] if value is True else [value]
        words += [option, *map(str, items)]
    return words


def plain(options: Any) -> dict[str, Any]:
    """Options as plain values for a configuration file: paths absolute, unset ones left out."""

    def convert(value):
        if isinstance(value, Path):
            return str(value.resolve())
        return [convert(v) for v in value] if isinstance(value, tuple) else value

    values = {f.name: convert(getattr(options, f.name)) for f in dataclasses.fields(options)}
    return {k: v for k, v in values.items() if v is not None and v is not False and v != []}
