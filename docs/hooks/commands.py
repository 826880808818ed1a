"""The options of each command, as its ``--help`` has them."""

import dataclasses
import html
import inspect
import re
import warnings

import tyro
from tyro.conf import FlagCreatePairsOff

from cryojax_seg import cli

COMMANDS = {name: options for name, (options, _) in cli._COMMANDS.items()}


@dataclasses.dataclass(frozen=True)
class Option:
    """An argument of a command: how it is spelled, and the help that it shows."""

    spelling: str
    help: str


def groups(command: str) -> dict[str, list[Option]]:
    """The arguments of a command, by the title of the group that ``--help`` shows them in."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        parser = tyro.extras.get_parser(COMMANDS[command], config=(FlagCreatePairsOff,))
    found = {}
    for group in parser._action_groups:
        options = [_option(action) for action in group._group_actions if action.dest != "help"]
        if options:
            found[group.title or "options"] = options
    return found


def markdown(command: str) -> str:
    """What ``--help`` says of a command, as a section with one definition for each argument."""
    parts = ["## Reference", f"*{PLACE.format(command)}*", description(command)]
    for title, options in groups(command).items():
        parts.append(f"### {title[0].upper() + title[1:]}")
        parts += [f"`{option.spelling}`\n:   {_escaped(option.help)}" for option in options]
    return "\n\n".join(parts)


PLACE = "This section shows what `cryojax-seg {} --help` prints."


def description(command: str) -> str:
    """The docstring of a command."""
    return _escaped(inspect.cleandoc(COMMANDS[command].__doc__ or ""))


def _option(action) -> Option:
    names = ", ".join(action.option_strings)
    value = re.sub(r"^\{None\}\|", "", action.metavar or "")
    return Option(" ".join(filter(None, (names, value))), " ".join((action.help or "").split()))


def _escaped(text: str) -> str:
    """Text in which Markdown finds nothing but code between backticks."""
    parts = text.split("`")
    plain = [re.sub(r"([*_\[\]])", r"\\\1", html.escape(p, quote=False)) for p in parts[::2]]
    code = [f"`{part}`" for part in parts[1::2]]
    joined = [piece for pair in zip(plain, [*code, ""], strict=False) for piece in pair]
    text = "".join(joined)
    return re.sub(r"\s*\(default: (.*)\)$", r" *Default: \1.*", text).replace(
        " (required)", " *Required.*"
    )
