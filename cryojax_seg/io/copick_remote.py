"""Read copick projects whose data are on other machines, with the package copick.

copick lists what is on S3, on web servers, reached by SSH or in the CryoET Data Portal. What is
asked for is copied once into a cache on this machine, and read there like any other file.
"""

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryojax_seg.io.block import library
from cryojax_seg.io.copick_project import Entry, Kind, chosen_runs, located
from cryojax_seg.io.files import FileError, atomic_folder, atomic_write
from cryojax_seg.text import shortened

PORTAL = "cryoet_data_portal"
_HERE = ("local", "file")
_PLACES = ("static_root", "overlay_root", "croissant_url")
_ADVICE = "check the connection and the rights, or download the data"
_log = logging.getLogger("cryojax_seg.io")


def place_elsewhere(content: Mapping[str, Any]) -> str | None:
    """Return where a configuration keeps data that are not on this machine; None if it has none.

    >>> place_elsewhere({"static_root": "s3://bucket/a", "overlay_root": "local:///data"})
    's3://bucket/a'
    >>> place_elsewhere({"overlay_root": "/data"}) is None
    True
    """
    if content.get("config_type") == PORTAL:
        return f"the CryoET Data Portal, data sets {content.get('dataset_ids')}"
    for name in _PLACES:
        root = content.get(name)
        scheme, mark, _ = str(root).partition("://")
        if isinstance(root, str) and mark and scheme not in _HERE:
            return root
    return None


@contextlib.contextmanager
def _own_logs() -> Iterator[None]:
    """Keep the logs as they are, which copick shows from all packages once it runs."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@_own_logs()
def is_installed() -> bool:
    """Return whether the package copick is there.

    >>> is_installed() in (True, False)
    True
    """
    try:
        library("copick", Path(), "")
    except FileError:
        return False
    return True


@_own_logs()
def entries_elsewhere(path: Path, content: Mapping[str, Any], runs: Sequence[str]) -> list[Entry]:
    """Return what copick lists of a project; each has the path that it gets in the cache.

    Args:
        path: the configuration.
        content: what it holds.
        runs: names or patterns of the runs that are listed; none for all.

    Raises:
        FileError: if copick is missing or cannot list the data, or there is no such run.
    """
    copick = library("copick", path, "a project on another machine", "copick")
    folder = _cache(content)
    with _explained(path, "read the configuration", "correct it"):
        root = copick.from_file(str(path))
    with _explained(path, "list the data", _ADVICE):
        found = {run.name: run for run in root.runs}
    names = chosen_runs(path, sorted(found), runs)
    listing: dict[Any, Entry] = {}
    with _explained(path, "list the data", _ADVICE):
        for entry in (entry for name in names for entry in _of_run(found[name], folder)):
            # The portal may have several of one name; copick's own programs take the first.
            listing.setdefault(entry.key, entry)
    return list(listing.values())


@_own_logs()
def bring(entry: Entry) -> None:
    """Copy what is on another machine into the cache.

    Volumes that are there already are not copied again; picks and meshes may change, and are.

    Raises:
        FileError: if it cannot be copied.
    """
    source, place = entry.source, entry.path
    if source is None or (place.is_dir() and any(place.iterdir())):
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with _explained(place, "copy the data", _ADVICE):
        if entry.kind == "picks":
            source.load()
            with atomic_write(place, overwrite=True) as file:
                file.write_text(json.dumps(source.meta.model_dump()))
        elif entry.kind == "mesh":
            with atomic_write(place, overwrite=True) as file:
                file.write_bytes(source.mesh.export(file_type="glb"))
        else:
            store = source.zarr()
            with atomic_folder(place) as folder:
                store.fs.get(f"{store.path}/", f"{folder}/", recursive=True)
    _log.info(f"{entry} of {entry.run} is copied to {place}")


def _of_run(run: Any, folder: Path) -> Iterator[Entry]:
    def entry(kind: Kind, name: str, size: float | None, one: Any, several: bool = False) -> Entry:
        owner = ("", "") if kind == "tomogram" else (one.user_id, one.session_id)
        place = located(folder, Entry(kind, run.name, Path(), name, size, *owner, several))
        return Entry(kind, run.name, place, name, size, *owner, several, one)

    for space in run.voxel_spacings:
        for one in space.tomograms:
            yield entry("tomogram", one.tomo_type, float(space.voxel_size), one)
    for one in run.segmentations:
        if not getattr(one, "is_panoptic", False):
            kind = "instances" if getattr(one, "is_instance", False) else "segmentation"
            size, several = float(one.voxel_size), bool(one.is_multilabel)
            yield entry(kind, one.name, size, one, several)
    for one in run.picks:
        yield entry("picks", one.pickable_object_name, None, one)
    for one in run.meshes:
        yield entry("mesh", one.pickable_object_name, None, one)


def _cache(content: Mapping[str, Any]) -> Path:
    """Return the folder of the cache for the data of a project."""
    import platformdirs

    roots = [content.get(name) for name in (*_PLACES, "dataset_ids")]
    digest = hashlib.sha256(json.dumps(roots).encode()).hexdigest()[:16]
    return platformdirs.user_cache_path("cryojax-seg") / "copick" / digest


@contextlib.contextmanager
def _explained(path: Path, what: str, advice: str) -> Iterator[None]:
    """Raise a FileError for whatever copick and the network raise."""
    try:
        yield
    except FileError:
        raise
    except Exception as error:
        raise FileError(
            f"{path}: copick cannot {what} ({type(error).__name__}: {shortened(error, 160)}); "
            f"{advice}"
        ) from None
