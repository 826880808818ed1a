"""Saved models, as the commands take them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

if TYPE_CHECKING:
    from cryojax_seg.inference import Model

LEAST_MEMORY = 0.9  # GiB that a process takes without tiles, see `inference.planning.BASE`
AllowedModules = Annotated[
    tuple[str, ...], arg(metavar="MODULE ...", help_behavior_hint="(default: none)")
]


def load(path: Path, allow: tuple[str, ...] = ()) -> "Model":
    """The model in a folder RUN, or RUN/model.

    Raises:
        ValueError: if there is none, or it needs a module that is not allowed.
    """
    from cryojax_seg import inference, io

    try:
        return inference.load(path, allow)
    except io.ForeignModuleError as error:
        raise io.FileError(f"{error}: --allow-module {error.module}") from None
