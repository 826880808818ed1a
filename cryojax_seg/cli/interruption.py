"""Advice after Ctrl-C and SIGTERM: every command says what is kept and how to go on."""

from pathlib import Path
from typing import Any

_TRAINING = ("train", "restore", "compare")  # what they did is kept in their folder


def advice(command: str, options: Any) -> str:
    """Say what is kept of a command that was interrupted, and how to go on.

    Args:
        command: its name.
        options: of the command; None while they are not known.

    >>> advice("info", None)
    'nothing was written; run the same command again'
    """
    output: Path | None = getattr(options, "output", None) or getattr(options, "openvino", None)
    if output is None:
        return "nothing was written; run the same command again"
    begun = next(filter(_begun, (output.with_suffix(".run"), output)), None)
    replaces = getattr(options, "overwrite", False)
    if begun is not None and command in _TRAINING:
        instead = " instead of --overwrite" if replaces else ""
        return f"what {begun} holds is kept; the same command with --resume{instead} goes on"
    if begun is not None and hasattr(options, "resume") and not replaces:
        return f"what {begun} holds is kept; the same command with --resume goes on"
    if begun is not None:
        return f"{begun} may be incomplete; the same command with --overwrite makes it again"
    return f"{output} is not finished; the same command goes on with it, or begins it again"


def _begun(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists()
