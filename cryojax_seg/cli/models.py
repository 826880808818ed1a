"""``cryojax-seg models``: the built-in models and their cards."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from cryojax_seg.cli import console
from cryojax_seg.text import shortened

if TYPE_CHECKING:
    from cryojax_seg import inference


@dataclasses.dataclass(frozen=True)
class Models:
    """List the built-in models, or print the cards of models.

    Built-in models were trained on simulated tomograms and are part of the package, so nothing is
    downloaded. Their names can be given wherever a command takes the folder of a model.
    """

    names: Annotated[
        Positional[tuple[str, ...]],
        arg(metavar="NAME ...", help_behavior_hint="(default: a table of all built-in models)"),
    ] = ()
    """Names of built-in models, or folders RUN or RUN/model, whose cards are printed."""
    json: bool = False
    """Print JSON, as a list of objects."""


def run(options: Models) -> None:
    """Run `Models`; a ValueError or OSError says in one line what is wrong."""
    import json

    from cryojax_seg import inference

    names = options.names or tuple(inference.built_in_models())
    found = [inference.model_facts(name) for name in names]
    if options.json:
        print(json.dumps([dataclasses.asdict(one) for one in found], indent=2))
    elif not found:
        print("this version of cryojax_seg has no built-in models; train one: cryojax-seg train")
    elif options.names:
        print("\n\n".join(_card(one) for one in found))
    else:
        _list(found)


def _list(found: list["inference.Facts"]) -> None:
    columns = ("name", "classes", "parameters", "size", "voxel size", "Dice")
    rows = [(m.name, *(_facts(m)[name] for name in columns[1:-1]), _dice(m)) for m in found]
    console.table("built-in models", columns, rows)
    print(f"card:     {console.PROGRAM} models {found[0].name}")
    print(f"segment:  {console.PROGRAM} segment {found[0].name} TOMOGRAM -o LABELS.mrc")


def _card(model: "inference.Facts") -> str:
    """Return the name and one fact a line."""
    facts = {name: text for name, text in _facts(model).items() if text}
    width = max(map(len, facts))
    return "\n".join([model.name, *(f"  {n.ljust(width)}  {t}" for n, t in facts.items())])


def _facts(model: "inference.Facts") -> dict[str, str]:
    """Return the facts of a model as texts, which are empty where it does not tell."""
    card, told = model.card, dict(model.card.provenance)
    for name in ("scores", "built_in"):
        told.pop(name, None)
    never, licence = (_text(told.pop(name, "")) for name in ("never_seen", "licence"))
    first = ("command", "commit", "scenes", "minutes", "machine")
    sizes = card.voxel_sizes or (card.voxel_size and (min(card.voxel_size), max(card.voxel_size)))
    tilts = card.tilt_ranges or (card.tilt_range and (card.tilt_range,))
    return {
        "classes": ", ".join(model.classes),
        "parameters": f"{model.parameters:,}",
        "size": f"{model.size / 1e6:.2f} MB",
        "voxel size": " to ".join(dict.fromkeys(f"{s:g}" for s in sizes)) + " A" if sizes else "",
        "tilt range": " to ".join(dict.fromkeys(f"({a:g}, {b:g})" for a, b in tilts)) + " degrees"
        if tilts
        else "",
        "contrast": f"{card.contrast} structure",
        **{f"score {number}": text for number, text in enumerate(_scores(model), 1)},
        "never seen": never,
        **{f"training {name}": _text(told.pop(name, "")) for name in first},
        **{f"training {name}": _text(told[name]) for name in sorted(told)},
        "licence": licence,
    }


def _dice(model: "inference.Facts") -> str:
    """Return the lowest and the highest Dice of all scores; the card tells which is which."""
    values = [of["Dice"] for of in model.scores.values() if of.get("Dice") is not None]
    return (
        " to ".join(dict.fromkeys(f"{v:.2f}" for v in (min(values), max(values))))
        if values
        else "-"
    )


def _scores(model: "inference.Facts") -> list[str]:
    """Return a text for each data set: its name, and each measure with its value."""
    return [
        f"{data}: "
        + ", ".join(
            f"{measure} {_text(value)}" for measure, value in of.items() if value is not None
        )
        for data, of in model.scores.items()
    ]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return shortened(f"{value:.3g}" if isinstance(value, float) else value, 200)
