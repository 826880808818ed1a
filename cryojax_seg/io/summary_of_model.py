"""Describe a saved model for people."""

from pathlib import Path
from typing import Any

import numpy as np

from cryojax_seg.io.card import ModelCard, read_card
from cryojax_seg.io.files import FileError, PathLike
from cryojax_seg.io.model import load_model, read_description
from cryojax_seg.io.modules import ForeignModuleError
from cryojax_seg.text import joined


def describe_model(path: PathLike) -> dict[str, str]:
    """Return the facts of a model folder, ready to print.

    Raises:
        FileError: if there is no model, or it is damaged.
    """
    if not (Path(path) / "model.json").exists():
        raise FileError(
            f"{path}: is a folder without model.json and without OME-Zarr metadata; a volume or a "
            "model folder is needed"
        )
    content = read_description(path)
    try:
        _, card = load_model(path)
    except ForeignModuleError:  # its card can be read without its code
        card = read_card(content["card"], len(content["classes"]))
    count = sum(int(np.prod(array["shape"])) for array in content["arrays"].values())
    arguments = content["operator"]["arguments"]
    return {
        "class": content["operator"]["class"].removeprefix("cryojax_seg.").replace(":", "."),
        "arguments": ", ".join(f"{k}={_short(v)}" for k, v in arguments.items()),
        "classes": ", ".join(content["classes"]),
        "parameters": f"{count:,}",
        "voxel size (z, y, x)": joined(card.voxel_size, "A") if card.voxel_size else "unknown",
        **_seen(card),
        "contrast": card.contrast,
        "normalization": card.normalization,
        "tilt range": joined(card.tilt_range, "degrees") if card.tilt_range else "unknown",
        "training patch": f"{card.patch} voxels" if card.patch else "unknown",
        "halo that matters": "the exact one" if card.halo is None else f"{card.halo} voxels",
        "calibration": f"temperature {card.temperature:.3g}" if card.temperature else "none",
        "thresholds": ", ".join(f"{t:.3g}" for t in card.thresholds or ()) or "0.5",
        **{f"training {key}": _short(value) for key, value in card.provenance.items()},
        "written": content["created"],
        "software": ", ".join(f"{k} {v}" for k, v in content["software"].items()),
    }


def _seen(card: ModelCard) -> dict[str, str]:
    """Return the ranges of the training data, if they were of several kinds."""
    facts = {}
    if card.voxel_sizes:
        facts["voxel sizes seen"] = "{:g} to {:g} A".format(*card.voxel_sizes)
    if card.tilt_ranges:
        ranges = [f"{low:g} to {high:g}" for low, high in card.tilt_ranges]
        facts["tilt ranges seen"] = f"from ({ranges[0]}) to ({ranges[1]}) degrees"
    return facts


def _short(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"class", "arguments"}:
        return value["class"]
    text = "[" + ", ".join(map(_short, value)) + "]" if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
