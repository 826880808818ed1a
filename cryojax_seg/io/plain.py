"""Read plain values from untrusted JSON and YAML, with bounds on size and depth."""

import json
import os
from collections.abc import Collection
from typing import Any

from cryojax_seg.io.files import FileError, PathLike, existing_file
from cryojax_seg.text import shortened, shown, size_text

LARGEST = 2**24  # bytes of a JSON file
_LARGEST_YAML = 2**20  # PyYAML takes seconds for each megabyte
_DEEPEST = 64  # lists and objects within each other
_LARGEST_INTEGER = 8192  # bits; Python refuses to write integers of some thousand digits
_TOO_DEEP = f"is nested more than {_DEEPEST} levels deep"


def read_json(path: PathLike, largest: int = LARGEST) -> Any:
    """Return the content of a JSON file.

    Args:
        path: the file, in UTF-8.
        largest: bytes it may have.

    Raises:
        FileError: if it is missing, too large, too deeply nested or no JSON; it names the file.

    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "a.json"
    >>> _ = path.write_text('{"a": [1, 2]}')
    >>> read_json(path)
    {'a': [1, 2]}
    """
    content = read_bytes(path, largest)
    try:
        return parse_json(content)
    except ValueError as error:
        raise FileError(f"{path}: {error}; copy it again") from None


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: if it is too deeply nested or no JSON.
    """
    try:
        words = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        value = json.loads(words)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except ValueError as error:
        raise ValueError(f"is not JSON ({error})") from None
    _check(value, len(words))
    return value


def read_json_object(path: PathLike, largest: int = LARGEST) -> dict[str, Any]:
    """Return the content of a JSON file that must be an object; see `read_json`.

    >>> import tempfile
    >>> from pathlib import Path
    >>> file = Path(tempfile.mkdtemp()) / "a.json"
    >>> _ = file.write_text('{"a": [1, 2]}')
    >>> read_json_object(file)
    {'a': [1, 2]}
    """
    value = read_json(path, largest)
    if not isinstance(value, dict):
        raise FileError(f"{path}: holds {shown(value)} where a JSON object is needed")
    return value


def read_yaml(path: PathLike) -> Any:
    """Return the content of a YAML file of plain values.

    Raises:
        FileError: if it is missing, too large, too deeply nested or no plain YAML, or grows by its
            anchors; it names the file.

    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "a.yaml"
    >>> _ = path.write_text("steps: 500")
    >>> read_yaml(path)
    {'steps': 500}
    """
    import yaml

    content = read_bytes(path, _LARGEST_YAML)
    try:
        text = content.decode("utf-8-sig")
        value = yaml.safe_load(text)
        _check(value, len(text))
    except RecursionError:
        raise FileError(f"{path}: {_TOO_DEEP}") from None
    except Exception as error:  # PyYAML raises almost anything at odd numbers, dates and tags
        raise FileError(f"{path}: is not plain YAML: {error}") from None
    return value


def read_options(path: PathLike, known: Collection[str]) -> dict[str, Any]:
    """Return the options in a YAML file, one a line; their names may be spelled with dashes.

    Args:
        path: the file, see `read_yaml`.
        known: names that the options may have, spelled with underscores.

    Raises:
        FileError: naming the file, if there is none, it is no mapping, or has unknown options.

    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "a.yaml"
    >>> _ = path.write_text("learning-rate: 0.1")
    >>> read_options(path, ["learning_rate"])
    {'learning_rate': 0.1}
    """
    if not os.path.isfile(path):
        raise FileError(f"{path}: no such configuration file")
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise FileError(f"{path}: must hold one option a line, such as 'steps: 500'")
    options = {str(key).replace("-", "_"): value for key, value in values.items()}
    for name in options:
        if name not in known:
            choices = ", ".join(sorted(k.replace("_", "-") for k in known))
            unknown = shortened(name, 60)
            raise FileError(f"{path}: unknown option '{unknown}'; known are {choices}")
    return options


def read_bytes(path: PathLike, largest: int) -> bytes:
    """Return the content of a file of at most so many bytes.

    Raises:
        FileError: if it is missing, empty or too large; it names the file.
    """
    path = existing_file(path)
    with open(path, "rb") as file:
        content = file.read(min(largest, os.fstat(file.fileno()).st_size) + 1)
    if len(content) > largest:
        raise FileError(
            f"{path}: is larger than {size_text(largest)}, too large for what it should hold"
        )
    return content


def _check(value: Any, characters: int) -> None:
    """Refuse values nested too deeply, or made larger than their text by anchors.

    Level by level, so that nothing is visited more often than the text has characters.
    """
    level, count = [value], 1
    for _ in range(_DEEPEST):
        holders = [v for v in level if isinstance(v, (dict, list, set, tuple))]
        count += sum(2 * len(v) if isinstance(v, dict) else len(v) for v in holders)
        if count > max(characters, 64):
            raise ValueError("its anchors repeat too much; write the values out")
        if any(isinstance(v, int) and v.bit_length() > _LARGEST_INTEGER for v in level):
            raise ValueError("holds an integer of too many digits")
        level = [item for v in holders for item in _items(v)]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


def _items(holder: Any) -> list[Any]:
    return [*holder.keys(), *holder.values()] if isinstance(holder, dict) else list(holder)
