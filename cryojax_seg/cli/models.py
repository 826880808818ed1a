"""Saved models, as the commands take them."""

from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

AllowedModules = Annotated[
    tuple[str, ...], arg(metavar="MODULE ...", help_behavior_hint="(default: none)")
]


def load(path: Path, allow: tuple[str, ...] = ()) -> tuple[Any, Any, str]:
    """The segmenter, the card and the digest of a model in a folder RUN, or RUN/model.

    Args:
        path: the folder.
        allow: modules outside of this package that the model may import.

    Raises:
        ValueError: if there is none, or what is there gives no labels.
    """
    from cryojax_seg import core, io

    nested = path / "model"
    folder = nested if nested.is_dir() else path
    try:
        segmenter, card = io.load_model(folder, allow)
    except io.ForeignModuleError as error:
        raise io.FileError(f"{error}: --allow-module {error.module}") from None
    if not isinstance(segmenter, core.Segmenter):
        raise ValueError(f"{path}: is a {type(segmenter).__name__}, which gives no labels")
    return segmenter, card, io.model_digest(folder)
