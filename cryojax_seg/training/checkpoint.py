"""Writes checkpoints completely or not at all, and checks them bit for bit when they are read.

A checkpoint is a folder ``step-00000120``: arrays written by Orbax, and a manifest with shape,
dtype and SHA-256 of every array, because storage formats do not notice a flipped bit. It is written
under a temporary name and renamed when it is complete.
"""

import dataclasses
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import v1

import cryojax_seg
from cryojax_seg.io.disk import sync, sync_tree
from cryojax_seg.io.plain import read_json_object
from cryojax_seg.training.config import TrainingError
from cryojax_seg.training.rundir import explained

_NAME = re.compile(r"step-(\d{8,})")
_MANIFEST, _ARRAYS = "manifest.json", "arrays"
# Of several processes the first saves and restores, and Orbax must not wait for the others.
_ALONE = {"primary_host": 0, "active_processes": {0}, "barrier_sync_key_prefix": "first"}


@dataclasses.dataclass(frozen=True)
class Restored:
    """Holds an intact checkpoint.

    Attributes:
        tree: NumPy arrays in the structure of the template.
        meta: the plain values saved with it.
        path: its folder.
        skipped: newer checkpoints that were damaged, each with the reason.
    """

    tree: Any
    meta: dict[str, Any]
    path: Path
    skipped: tuple[str, ...]


def _leaves(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(p): v for p, v in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _seal(manifest: dict[str, Any]) -> str:
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints in a folder, newest first, sound or not."""
    found = [p for p in folder.glob("step-*") if _NAME.fullmatch(p.name)]
    return sorted(found, key=_step, reverse=True)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def save(folder: Path, step: int, tree: Any, meta: dict[str, Any], keep: int = 3) -> Path:
    """Write a checkpoint, wait until it is on disk, and remove the oldest beyond `keep`.

    Of several processes the first alone calls this, and `restore`.

    Raises:
        OSError: naming the path and the free space; earlier checkpoints are untouched.
    """
    target = folder / f"step-{step:08d}"
    temporary = folder / f".tmp-{target.name}"
    arrays = {name: np.asarray(leaf) for name, leaf in _leaves(tree).items()}
    manifest: dict[str, Any] = {
        "format": 1,
        "step": step,
        "version": cryojax_seg.__version__,
        "meta": meta,
        "leaves": [
            {"name": n, "shape": list(a.shape), "dtype": a.dtype.str, "sha256": _digest(a)}
            for n, a in arrays.items()
        ],
    }
    manifest["sha256"] = _seal(manifest)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob(".tmp-step-*"):  # of processes that were killed
            shutil.rmtree(stale, ignore_errors=True)
        temporary.mkdir()
        # Short keys: names of parameters may hold characters that a path must not.
        _write(temporary / _ARRAYS, {f"a{i}": a for i, a in enumerate(arrays.values())})
        (temporary / _MANIFEST).write_text(json.dumps(manifest))
        sync_tree(temporary)
        if target.exists():
            shutil.rmtree(target)  # the same step of the same run, or one that is not sound
        temporary.rename(target)
        sync(folder)
    except Exception as error:  # Orbax and its storage raise many types for a full disk
        shutil.rmtree(temporary, ignore_errors=True)
        raise explained(error, target) from error
    # Newer ones can only be damaged: they neither count nor go until they are written again.
    for old in [p for p in checkpoints(folder) if _step(p) <= step][keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    options = ocp.options.MultiprocessingOptions(**_ALONE)
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=options)
    # Not v1.save, which compares its path with that of all processes, whatever its options say.
    with ocp.Checkpointer(handler, multiprocessing_options=options) as checkpointer:
        checkpointer.save(str(path.absolute()), arrays)


def _load(path: Path) -> Any:
    context = v1.Context()
    for name, value in _ALONE.items():
        setattr(context.multiprocessing, name, value)
    with context:
        return v1.load(str(path.absolute()))


def _read(path: Path, template: Any) -> tuple[Any, dict[str, Any]]:
    """Read tree and meta of one checkpoint; a ValueError says what is wrong with it."""
    if not (path / _MANIFEST).is_file():
        raise ValueError(f"it has no {_MANIFEST}")
    try:
        manifest = read_json_object(path / _MANIFEST)
    except (OSError, ValueError) as error:
        raise ValueError(f"its {_MANIFEST} cannot be read") from error
    if manifest.get("sha256") != _seal(manifest):
        raise ValueError(f"its {_MANIFEST} is damaged")
    try:
        entries = {entry["name"]: entry for entry in manifest["leaves"]}
        stated = {n: (tuple(e["shape"]), e["dtype"], e["sha256"]) for n, e in entries.items()}
        meta = dict(manifest["meta"])
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"its {_MANIFEST} lacks what it should say ({error!r})") from None
    wanted = _leaves(template)
    if wanted.keys() != stated.keys():
        odd = sorted(wanted.keys() ^ stated.keys())
        raise ValueError(f"it holds other arrays than this run ({', '.join(odd[:3])}, ...)")
    for name, leaf in wanted.items():
        shape, dtype, _ = stated[name]
        want = f"{leaf.dtype.str}{leaf.shape}"
        if (shape, dtype) != (leaf.shape, leaf.dtype.str):
            raise ValueError(f"{name} is {dtype}{shape}, this run needs {want}")
    try:
        loaded = _load(path / _ARRAYS)
    except Exception as error:  # a damaged file surfaces as any of a dozen types
        raise ValueError(f"its arrays cannot be read ({type(error).__name__})") from error
    values = {}
    for index, (name, (_, dtype, digest)) in enumerate(stated.items()):
        array = np.asarray(loaded.get(f"a{index}"))
        if array.dtype.str != dtype or _digest(array) != digest:
            raise ValueError(f"{name} differs from its checksum")
        values[name] = array
    structure = jax.tree.structure(template)
    leaves = [values[name] for name in wanted]
    return jax.tree.unflatten(structure, leaves), meta


def restore(folder: Path, template: Any) -> Restored | None:
    """Read the newest sound checkpoint; return None if there is no checkpoint at all.

    Args:
        folder: the folder of the checkpoints.
        template: the expected tree; structure, shapes and dtypes must be equal.

    Raises:
        TrainingError: if there are checkpoints and none of them is sound; it names each with the
            reason. Nothing ever restarts from scratch by itself.
    """
    skipped = []
    for path in checkpoints(folder):
        try:
            tree, meta = _read(path, template)
        except ValueError as error:
            skipped.append(f"{path}: {error}")
            continue
        return Restored(tree, meta, path, tuple(skipped))
    if skipped:
        raise TrainingError("no checkpoint can be used. " + "; ".join(skipped))
    return None
