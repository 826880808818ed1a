"""Keep the state of a comparison in its folder, and tell whether another call may continue it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryojax_seg.io import FileError, atomic_write, read_json_object
from cryojax_seg.io.outputs import is_half_published, is_leftover
from cryojax_seg.training.example import Example
from cryojax_seg.training.rundir import fingerprint

REPORT, SCORES, FOLDS = "report.html", "scores.json", "folds"
_STATE = "compare.json"


def check_comparison(
    folder: Path, settings: Mapping[str, Any], *, resume: bool = False, overwrite: bool = False
) -> None:
    """Refuse a folder of a comparison that does not agree with the settings.

    A comparison that has the same settings and no report yet goes on without `resume` too.

    Args:
        folder: of the comparison; it need not exist.
        settings: plain values that must not change between the parts of a comparison.
        resume: whether an earlier comparison goes on.
        overwrite: whether an earlier comparison is replaced.

    Raises:
        FileError: if the folder holds another comparison or other files, or nothing to resume.

    >>> import tempfile
    >>> check_comparison(Path(tempfile.mkdtemp()), {"seed": 0})
    """
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder}: exists and is not a folder; choose another output", "output")
    if is_half_published(folder / REPORT) or overwrite:
        return
    state = folder / _STATE
    before = read_json_object(state) if state.is_file() else {}
    if resume and not before:
        raise FileError(f"{folder}: there is no comparison to resume", "resume")
    changed = sorted(
        key
        for key in (before.keys() | settings.keys()) - {"data"}
        if before.get(key) != settings.get(key)
    )
    if resume and changed:
        raise FileError(
            f"{folder}: was made with another {changed[0]}; a comparison only goes on with the "
            "same options, other methods excepted",
            changed[0],
        )
    used = folder.is_dir() and any(not is_leftover(path) for path in folder.iterdir())
    reported = any((folder / name).exists() for name in (REPORT, SCORES))
    if used and not resume and (changed or reported):
        raise FileError(
            f"{folder}: holds files already; choose another output, resume that comparison or "
            "overwrite it",
            *("output", "resume", "overwrite"),
        )


def begin_comparison(
    folder: Path, settings: Mapping[str, Any], example: Example, *, overwrite: bool = False
) -> None:
    """Write the state of a comparison into its folder, which must be held.

    Args:
        folder: of the comparison.
        settings: see `check_comparison`.
        example: the data.
        overwrite: remove what an earlier comparison wrote, and nothing else.

    Raises:
        FileError: if the folder holds a comparison of other data.
    """
    state = folder / _STATE
    if overwrite:
        state.unlink(missing_ok=True)
        for path in (folder / FOLDS).glob("*-[0-9]*.npz"):
            path.unlink()
    now = dict(settings) | {"data": fingerprint(example)}
    if state.exists() and read_json_object(state).get("data") != now["data"]:
        raise FileError(
            f"{folder}: was made with another tomogram or other labels; choose another output or "
            "overwrite it",
            *("output", "overwrite"),
        )
    with atomic_write(state) as file:  # first: without it nobody could tell whose folds they are
        file.write_text(json.dumps(now, indent=1, allow_nan=False) + "\n")
