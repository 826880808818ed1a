"""Saved models, as the commands take them."""

from pathlib import Path
from typing import Any


def load(path: Path) -> tuple[Any, Any, str]:
    """The segmenter, the card and the digest of a model in a folder RUN, or RUN/model.

    Raises:
        ValueError: if there is none, or what is there gives no labels.
    """
    from cryojax_seg import core, io

    nested = path / "model"
    folder = nested if nested.is_dir() else path
    segmenter, card = io.load_model(folder)
    if not isinstance(segmenter, core.Segmenter):
        raise ValueError(f"{path}: is a {type(segmenter).__name__}, which gives no labels")
    return segmenter, card, io.model_digest(folder)
