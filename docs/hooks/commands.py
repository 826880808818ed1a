"""Makes sections with the options of each command from its ``--help``."""

import contextlib
import dataclasses
import html
import inspect
import io
import os
import re
import unittest.mock
from collections.abc import Iterator

import tyro

from cryojax_seg import cli
from cryojax_seg.cli import arguments

COMMANDS = {name: options for name, (options, _) in cli._COMMANDS.items()}


@dataclasses.dataclass(frozen=True)
class Option:
    """Holds the spelling and the help of an argument of a command."""

    spelling: str
    help: str


def groups(command: str) -> dict[str, list[Option]]:
    """Return the arguments of a command by the titles of their groups in ``--help``."""
    found: dict[str, list[Option]] = {}
    for title, lines in _sections(_help(command)):
        options: list[Option] = []
        for line in lines:
            spelling, _, text = line[2:].partition("  ")
            if spelling:
                options.append(Option(spelling.replace("{None}|", ""), text.strip()))
            elif options:
                last = options.pop()
                options.append(Option(last.spelling, f"{last.help} {text.strip()}".strip()))
        found[title] = [option for option in options if option.spelling != "-h, --help"]
    return {title: options for title, options in found.items() if options}


def _help(command: str) -> str:
    """Return the text of ``--help`` with unlimited line length."""
    printed = io.StringIO()
    wide = unittest.mock.patch.dict(os.environ, COLUMNS="9999")
    with wide, contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        tyro.cli(COMMANDS[command], args=["--help"], prog=command, config=arguments.MARKERS)
    return printed.getvalue()


def _sections(text: str) -> Iterator[tuple[str, list[str]]]:
    """Return title and lines of each group of arguments; the title is underlined by dashes."""
    lines = [*text.splitlines(), ""]
    for number, line in enumerate(lines):
        if set(line.strip()) == {"-"}:
            end = next(i for i in range(number, len(lines)) if not lines[i].strip())
            yield lines[number - 1].strip(), lines[number + 1 : end]


def markdown(command: str) -> str:
    """Return the ``--help`` of a command as a section with one definition for each argument."""
    parts = ["## Reference", f"*{PLACE.format(command)}*", description(command)]
    for title, options in groups(command).items():
        parts.append(f"### {title[0].upper() + title[1:]}")
        parts += [f"`{option.spelling}`\n:   {_escaped(option.help)}" for option in options]
    return "\n\n".join(parts)


PLACE = "This section shows what `cryojax-seg {} --help` prints."


def description(command: str) -> str:
    """Return the docstring of a command."""
    return _escaped(inspect.cleandoc(COMMANDS[command].__doc__ or ""))


def _escaped(text: str) -> str:
    """Escape a text so that Markdown finds only code between backticks in it."""
    parts = text.split("`")
    plain = [re.sub(r"([*_\[\]])", r"\\\1", html.escape(p, quote=False)) for p in parts[::2]]
    code = [f"`{part}`" for part in parts[1::2]]
    joined = [piece for pair in zip(plain, [*code, ""], strict=False) for piece in pair]
    text = "".join(joined)
    return re.sub(r"\s*\(default: (.*)\)$", r" *Default: \1.*", text).replace(
        " (required)", " *Required.*"
    )
