"""Finds the models that come with the package, by name."""

import dataclasses
import difflib
import logging
import math
from pathlib import Path
from typing import get_args

from cryojax_seg.io.card import ModelCard, read_card
from cryojax_seg.io.files import FileError, PathLike, former_folder
from cryojax_seg.io.model import read_description
from cryojax_seg.io.modules import ModelError
from cryojax_seg.training import methods

MODELS = Path(__file__).resolve().parents[1] / "models"
SIZES = ("standard", "fast")  # a name without a size means the first of them that is there
# What the provenance of a built-in model tells, beside what inference depends on.
FACTS = (
    *("method", "command", "commit", "scenes", "minutes", "machine", "scores", "never_seen"),
    *("licence", "built_in"),
)
_RANGES = ("voxel_size", "voxel_sizes", "tilt_ranges", "patch")
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Facts:
    """Describes a model without loading its parameters.

    Returned by `model_facts`.

    Attributes:
        name: the name or the folder that it was asked for by.
        classes: names of its classes.
        parameters: number of values in its arrays.
        size: of its folder on disk, in bytes.
        card: the facts about its training data.
    """

    name: str
    classes: tuple[str, ...]
    parameters: int
    size: int
    card: ModelCard

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """Return the scores by data set and measure; empty if the card tells none."""
        found = self.card.provenance.get("scores")
        known = found if isinstance(found, dict) else {}  # a model of one's own may tell others
        return {data: of for data, of in known.items() if isinstance(of, dict)}


def built_in_models() -> dict[str, Path]:
    """Return the folder of each built-in model by its name, such as ``membrane-fast``.

    >>> all(folder.is_dir() for folder in built_in_models().values())
    True
    """
    return {path.parent.name: path.parent for path in sorted(MODELS.glob("*/model.json"))}


def built_in_name(path: PathLike) -> str | None:
    """Return the whole name of the built-in model that a path means; None if it means none.

    A folder of that name that holds a model comes first. A name without a size means the standard
    size, or the fast one if there is no other.

    >>> built_in_name("no-such-model") is None
    True
    """
    name, known = str(path), built_in_models()
    if _local(path) is not None:
        return None
    return next((n for n in (name, *(f"{name}-{size}" for size in SIZES)) if n in known), None)


def model_folder(path: PathLike) -> Path:
    """Return the folder of a model.

    A path with a folder in it that does not exist is returned as it is; reading it says what is
    wrong.

    Args:
        path: a folder RUN, or RUN/model, or the name of a built-in model.

    Raises:
        FileError: if there is neither a folder nor a built-in model of that name.

    >>> model_folder("no-such-model")
    Traceback (most recent call last):
    cryojax_seg.io.files.FileError: no-such-model: no such model folder, and no built-in model...
    """
    folder = _local(path)
    if folder is not None:
        if str(path) in _names():
            _log.info(f"{path}: takes the model in the folder of this name, not the built-in one")
        return folder
    name, given = built_in_name(path), Path(path)
    if name is not None:
        return built_in_models()[name]
    if (given / "model").is_dir():
        return given / "model"
    if given.is_dir() or former_folder(given).is_dir() or given.name != str(path):
        return given
    raise FileError(
        f"{path}: no such model folder, and no built-in model has that name; {_hint(given.name)}"
    )


def untrained_method(path: PathLike) -> methods.Untrained | None:
    """Return the method for a first look that a path means; None for a model.

    A folder of that name that holds a model comes first.

    >>> untrained_method("sheet"), untrained_method("runs/sheet")
    ('sheet', None)
    """
    known: tuple[methods.Untrained, ...] = get_args(methods.Untrained)
    if _local(path) is not None:
        return None
    return next((method for method in known if method == str(path)), None)


def model_facts(path: PathLike) -> Facts:
    """Return what a model tells about itself, without loading its parameters.

    Args:
        path: as in `model_folder`.

    Raises:
        FileError: if there is no such model.
        ModelError: if its description is damaged.

    >>> import tempfile
    >>> from cryojax_seg import io
    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> folder = Path(tempfile.mkdtemp()) / "model"
    >>> io.save_model(folder, GlobalThreshold(2.0))
    >>> model_facts(folder).parameters
    2
    """
    name, folder = built_in_name(path) or str(path), model_folder(path)
    content = read_description(folder)
    try:
        card = read_card(content["card"], len(content["classes"]))
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error
    return Facts(
        name=name,
        classes=tuple(content["classes"]),
        parameters=sum(math.prod(array["shape"]) for array in content["arrays"].values()),
        size=sum(file.stat().st_size for file in folder.iterdir()),
        card=card,
    )


def missing_facts(card: ModelCard) -> list[str]:
    """Return what the card of a built-in model must tell, and this card does not.

    >>> missing_facts(ModelCard())[:3]
    ['voxel_size', 'voxel_sizes', 'tilt_ranges']
    """
    facts = [name for name in FACTS if card.provenance.get(name) in (None, "", {}, [])]
    return [name for name in _RANGES if getattr(card, name) is None] + facts


def _local(path: PathLike) -> Path | None:
    """Return the folder with a model that is at this path; None for none."""
    candidates = (Path(path) / "model", Path(path))
    return next((folder for folder in candidates if (folder / "model.json").is_file()), None)


def _names() -> list[str]:
    """Return all names that mean a built-in model, with and without a size."""
    whole = list(built_in_models())
    short = [name.rpartition("-")[0] for name in whole if name.endswith(SIZES)]
    return list(dict.fromkeys([*short, *whole]))


def _hint(name: str) -> str:
    """Return which names there are, and which of them is meant."""
    names = _names()
    if not names:
        return "this version of cryojax_seg has none"
    close = difflib.get_close_matches(name, names, n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    return f"{meant}There are {', '.join(names)}" if meant else f"there are {', '.join(names)}"
