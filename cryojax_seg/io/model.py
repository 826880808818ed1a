"""Save and load models as folders with a JSON description and arrays; pickle is never used.

``model.json`` holds the class and hyperparameters, the classes, what the training data were, the
versions and a SHA-256 of every array, of the array file and of itself. ``arrays.npz`` holds the
arrays, uncompressed, keyed by their path in the module. Parameters may be stored as float16 and are
read back as float32; statistics always keep their type.
"""

import dataclasses
import datetime
import importlib.metadata
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

import cryojax_seg
from cryojax_seg.core.operator import (
    LocalOperator,
    hyperparameters,
    operator_name,
    registered_operator,
)
from cryojax_seg.core.segmenter import Segmenter
from cryojax_seg.io.card import ModelCard, read_card
from cryojax_seg.io.files import PathLike, atomic_folder, former_folder
from cryojax_seg.io.model_arrays import check_finite, digest, halved, pack, read_arrays
from cryojax_seg.io.modules import (
    ForeignModuleError,
    ModelError,
    flat_state,
    parameter_names,
    rebuild,
    with_state,
)
from cryojax_seg.io.plain import parse_json, read_bytes
from cryojax_seg.text import shown

VERSION = 3
MODEL_FILES = ("arrays.npz", "model.json")
_FORMAT = "cryojax_seg model"
_LARGEST_DESCRIPTION = 2**24
_KINDS = {
    **dict.fromkeys(("operator", "card", "arrays", "software"), dict),
    **dict.fromkeys(("arrays_sha256", "created"), str),
    "classes": list,
}


def save_model(
    path: PathLike,
    operator: LocalOperator,
    card: ModelCard | None = None,
    overwrite: bool = False,
    *,
    float16: bool = False,
) -> None:
    """Write a model folder completely or not at all.

    Args:
        path: the folder.
        operator: the segmenter or restorer.
        card: facts about its training data.
        overwrite: whether to replace a model that is there.
        float16: whether to store float32 parameters in half the space. They are rounded to 11 bits
            and read back as float32. Measured statistics of normalisation stay as they are.

    Raises:
        ModelError: if it could not be loaded again: the class is not defined at the top of a
            module, a parameter is not finite or too large for float16, or the card is not plain
            JSON.
        FileError: if the folder exists and `overwrite` is not set.

    >>> import tempfile
    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> folder = Path(tempfile.mkdtemp()) / "model"
    >>> save_model(folder, GlobalThreshold(0.5), ModelCard(contrast="bright"))
    >>> operator, card = load_model(folder)
    >>> type(operator).__name__, card.contrast
    ('GlobalThreshold', 'bright')
    """
    values = {name: np.asarray(value) for name, value in flat_state(operator).items()}
    small = parameter_names(operator) if float16 else frozenset()
    arrays = {name: halved(a) if name in small else a for name, a in values.items()}
    try:
        check_finite(values)
        check_finite(arrays, "too large for float16")
        description = _describe(operator)
        _check_shapes(flat_state(rebuild(description, _count(arrays), _modules(operator))), arrays)
    except ModelError as error:
        raise ModelError(f"{path}: this model cannot be saved: {error}") from error
    packed = pack(arrays)
    content = {
        "format": _FORMAT,
        "version": VERSION,
        "operator": description,
        "classes": list(operator.classes) if isinstance(operator, Segmenter) else [],
        "card": dataclasses.asdict(card or ModelCard()),
        "arrays": {
            name: {
                "shape": list(stored.shape),
                "dtype": values[name].dtype.name,
                "stored": stored.dtype.name,
                "sha256": digest(stored.tobytes()),
            }
            for name, stored in arrays.items()
        },
        "arrays_sha256": digest(packed),
        "software": _versions(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    try:
        content["sha256"] = digest(_canonical(content))
        text = json.dumps(content, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path}: the description is not plain JSON: {error}") from error
    with atomic_folder(path, overwrite, MODEL_FILES) as folder:
        (folder / "arrays.npz").write_bytes(packed)
        (folder / "model.json").write_text(text + "\n", encoding="utf-8")


def load_model(path: PathLike, allow: Sequence[str] = ()) -> tuple[Any, ModelCard]:
    """Load and verify the segmenter or restorer in a model folder, and its card.

    Everything is checked before it is used: the format version, the SHA-256 of description and
    arrays, shapes, types and finiteness. A model folder imports no code by itself: it is built of
    classes of this package, and of modules that are allowed by name.

    Args:
        path: the folder.
        allow: names of modules outside of this package that the model may import.

    Raises:
        ForeignModuleError: if the model needs another module.
        ModelError: naming the folder and what is wrong with it.

    >>> import tempfile
    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> folder = Path(tempfile.mkdtemp()) / "model"
    >>> save_model(folder, GlobalThreshold(2.0), ModelCard(contrast="bright"))
    >>> operator, card = load_model(folder)
    >>> float(operator.threshold[...]), card.contrast
    (2.0, 'bright')
    """
    content = read_description(path)
    try:
        arrays = read_arrays(Path(path) / "arrays.npz", content)
        module = rebuild(content["operator"], _count(arrays), allow)
        _check_shapes(flat_state(module), arrays)
        return with_state(module, arrays), read_card(content["card"], len(content["classes"]))
    except ForeignModuleError as error:
        raise ForeignModuleError(error.module, error.name, str(path)) from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except Exception as error:  # what a stranger forged can surface as almost anything
        raise ModelError(
            f"{path}: damaged model ({type(error).__name__}: {error}); copy the folder again"
        ) from error


def read_description(path: PathLike) -> dict[str, Any]:
    """Read ``model.json`` and verify its checksum and format version."""
    path = Path(path)
    file = path / "model.json"
    if not path.is_dir():
        former = former_folder(path)
        hint = f"; an interrupted write left the former one at {former}" if former.is_dir() else ""
        raise ModelError(f"{path}: no such model folder{hint}")
    for needed in (file, path / "arrays.npz"):
        if not needed.is_file():
            raise ModelError(f"{path}: not a complete model, {needed.name} is missing")
    try:
        content = parse_json(read_bytes(file, _LARGEST_DESCRIPTION))
    except ValueError as error:
        raise ModelError(f"{path}: model.json is damaged ({error}); copy it again") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ModelError(f"{path}: model.json does not describe a cryojax_seg model")
    if content.get("version") != VERSION:
        raise ModelError(f"{path}: {_other_version(content)}")
    stated = content.pop("sha256", None)
    if stated != digest(_canonical(content)):
        raise ModelError(
            f"{path}: model.json was changed or damaged after it was written; copy it again"
        )
    for name, kind in _KINDS.items():
        if not isinstance(content.get(name), kind):
            raise ModelError(
                f"{path}: model.json is damaged: its {name} is {shown(content.get(name))}"
            )
    if not all(isinstance(name, str) for name in content["classes"]):
        raise ModelError(f"{path}: model.json is damaged: its classes are not names")
    return content


def model_digest(path: PathLike) -> str:
    """Return a digest that two saved models share only if they compute the same.

    Raises:
        ModelError: as `load_model`.

    >>> import tempfile
    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> one, two = (Path(tempfile.mkdtemp()) / "model" for _ in range(2))
    >>> save_model(one, GlobalThreshold(0.5))
    >>> save_model(two, GlobalThreshold(0.6))
    >>> model_digest(one) == model_digest(one), model_digest(one) == model_digest(two)
    (True, False)
    """
    content = read_description(path)
    return digest(_canonical({k: content[k] for k in ("operator", "arrays_sha256", "card")}))


def _modules(operator: LocalOperator) -> list[str]:
    """Return the modules that define the classes of an operator."""
    parts = [m for _, m in nnx.iter_modules(operator) if isinstance(m, LocalOperator)]
    return [operator_name(type(part)).partition(":")[0] for part in parts]


def _describe(operator: LocalOperator) -> dict[str, Any]:
    """Return class and hyperparameters as they will be read."""
    cls = type(operator)
    if "<locals>" in cls.__qualname__ or registered_operator(operator_name(cls)) is not cls:
        raise ModelError(
            f"the class {cls.__qualname__} could not be found again; define it once, at the top of "
            "a module"
        )
    description = {"class": operator_name(cls), "arguments": hyperparameters(operator)}
    try:
        return json.loads(json.dumps(description, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ModelError(f"its hyperparameters are not plain values: {error}") from error


def _count(arrays: dict[str, np.ndarray]) -> int:
    return sum(array.size for array in arrays.values())


def _check_shapes(expected: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    if set(expected) != set(arrays):
        difference = ", ".join(sorted(set(expected) ^ set(arrays))[:4])
        raise ModelError(f"its arrays do not fit its class: {difference}")
    for name, value in expected.items():
        array = arrays[name]
        if tuple(value.shape) != array.shape:
            raise ModelError(f"array {name} is {array.shape}, its class needs {tuple(value.shape)}")
        if jnp.issubdtype(value.dtype, jnp.floating) != jnp.issubdtype(array.dtype, jnp.floating):
            raise ModelError(f"array {name} is {array.dtype}, its class needs {value.dtype}")


def _other_version(content: dict[str, Any]) -> str:
    """Return what is wrong with a description of another format version, and what to do."""
    found, software = content.get("version"), content.get("software")
    writer = software.get("cryojax_seg") if isinstance(software, dict) else None
    by = f" of cryojax_seg {shown(writer)}" if isinstance(writer, str) else ""
    mend = "install the version that wrote it, or train the model again"
    if isinstance(found, int) and found > VERSION:
        mend = "install a newer version"
    return (
        f"has the format version {shown(found)}{by}, and this version, {cryojax_seg.__version__}, "
        f"reads {VERSION}; {mend}"
    )


def _canonical(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, allow_nan=False).encode()


def _versions() -> dict[str, str]:
    packages = {name: importlib.metadata.version(name) for name in ("jax", "flax", "numpy")}
    return {
        "cryojax_seg": cryojax_seg.__version__,
        **packages,
        "python": platform.python_version(),
    }
