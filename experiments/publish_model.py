"""Put a trained model into the package as a built-in model.

    python experiments/publish_model.py RUN membrane-fast --facts facts.yaml

RUN is a folder that `experiments/pretrain.py`, `cryojax-seg train` or `training.fit_model` wrote.
The facts are what the training could not write on the card, or what replaces it: fields of
`io.ModelCard` by their names, and entries of its provenance. After pretrain.py these are enough:

    scores:
      "benchmark scenes, membrane": {Dice: 0.84, average precision: 0.9}
      "real microtubule of 14 protofilaments": {Dice: 0.8}
    never_seen: [real tomograms, plunge-frozen tissue]
    licence: BSD-3-Clause

Others are voxel_sizes ([6, 20]), tilt_ranges ([[-35, 35], [-70, 70]]), command, commit, scenes,
minutes and machine.

Nothing is evaluated here. The card must be whole: it tells the voxel sizes and tilt ranges that the
training saw, its patch, and all facts above. Parameters become float16, and the folders of all
built-in models together stay below 6 MB. Writes ``cryojax_seg/models/NAME``.
"""

import dataclasses
import json
import pathlib
import sys
import tempfile
from typing import Annotated, Any

import tyro

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import inference, io
from cryojax_seg.io.card import read_card

LARGEST = 6_000_000  # bytes of all built-in models


@dataclasses.dataclass(frozen=True)
class Config:
    """Put a trained model into the package as a built-in model."""

    run: tyro.conf.Positional[pathlib.Path]
    """folder of the run, or of the model"""
    name: tyro.conf.Positional[str]
    """name of the built-in model, such as membrane-fast"""
    facts: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="YAML")] = None
    """file with entries of the provenance"""
    overwrite: bool = False
    """replace the built-in model of this name"""


def publish(config: Config, models: pathlib.Path) -> pathlib.Path:
    """Write the model into a folder of built-in models and return its folder.

    Raises:
        ValueError: if the name has no size, the card is not whole, or the models get too large.
        FileError: if there is no model, or one of this name and `overwrite` is not set.
    """
    stem, _, size = config.name.rpartition("-")
    if not stem or size not in inference.SIZES:
        sizes = " or ".join(f"-{size}" for size in inference.SIZES)
        raise ValueError(f"{config.name}: the name of a built-in model ends in {sizes}")
    model = inference.load(config.run)
    facts = io.read_yaml(config.facts) if config.facts else {}
    card = completed(model.card, facts, len(model.segmenter.classes))
    if missing := inference.missing_facts(card):
        raise ValueError(f"{config.run}: the card does not tell {', '.join(missing)}")
    with tempfile.TemporaryDirectory() as temporary:
        tried = pathlib.Path(temporary) / "model"
        io.save_model(tried, model.segmenter, card, float16=True)
        io.load_model(tried)  # as everyone will
        others = [folder for folder in models.glob("*/") if folder.name != config.name]
        total = sum(map(bytes_in, [tried, *others]))
    if total > LARGEST:
        raise ValueError(
            f"{config.name}: with it the built-in models take {total / 1e6:.1f} MB, more than "
            f"{LARGEST / 1e6:g} MB"
        )
    io.save_model(models / config.name, model.segmenter, card, config.overwrite, float16=True)
    return models / config.name


def completed(card: io.ModelCard, facts: Any, classes: int) -> io.ModelCard:
    """Return the card of a model with this number of classes, completed by these facts.

    They are fields of the card by their names, and the rest is provenance.

    The options of the training, with paths of the machine it ran on, are left out. Commit and
    machine are those of its environment, and scores join those of the training.

    >>> card = completed(io.ModelCard(), {"voxel_sizes": [6, 20], "scenes": 200}, 1)
    >>> card.voxel_sizes, card.provenance["scenes"]
    ((6.0, 20.0), 200)
    """
    if not isinstance(facts, dict):
        raise ValueError("the facts must be names with values, such as 'scenes: 200'")
    fields = {field.name for field in dataclasses.fields(io.ModelCard)} - {"provenance"}
    told = {name: value for name, value in facts.items() if name not in fields}
    stated = dataclasses.asdict(card) | {n: v for n, v in facts.items() if n in fields}
    of_training = {name: value for name, value in card.provenance.items() if name != "config"}
    if where := of_training.pop("environment", None):
        of_training["commit"] = where["commit"]
        of_training["machine"] = f"{where['cores']} cores, {where['device']}"
    scores = of_training.get("scores", {}) | told.get("scores", {})
    stated["provenance"] = of_training | told | {"scores": scores, "built_in": True}
    return read_card(json.loads(json.dumps(stated)), classes)  # refuses what has no sense


def bytes_in(folder: pathlib.Path) -> int:
    """Return the size of the files in a folder of built-in models, or of one."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main(config: Config) -> None:
    """Publish the model, and print where it is."""
    folder = publish(config, inference.MODELS)
    print(f"wrote {folder}; look at it: cryojax-seg models {config.name}")


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
