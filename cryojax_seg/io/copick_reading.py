"""Find what a copick project holds: in folders of this machine, and with copick elsewhere."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cryojax_seg.io.copick_project import (
    ENDING,
    FOLDER,
    MULTILABEL,
    RUNS,
    SEGMENTATIONS,
    CopickProject,
    Entry,
    Kind,
    number,
)
from cryojax_seg.io.files import FileError, PathLike
from cryojax_seg.io.plain import read_json_object
from cryojax_seg.text import shortened, shown

_HOW = "pip install 'cryojax-seg[copick]' reads them from there"
_log = logging.getLogger("cryojax_seg.io")


def is_copick(path: PathLike) -> bool:
    """Return whether this is a configuration of copick, or a Croissant manifest.

    >>> is_copick("labels.mrc")
    False
    """
    if Path(path).suffix.lower() != ".json" or not Path(path).is_file():
        return False
    try:
        content = read_json_object(path)
    except FileError:
        return False
    return "pickable_objects" in content or "recordSet" in content


def read_copick(path: PathLike, runs: Sequence[str] = ()) -> CopickProject:
    """Read a configuration of copick, or a Croissant manifest, and list what is there.

    The package copick is needed only for what the configuration names on other machines.

    Args:
        path: the configuration (JSON), or the ``metadata.json`` of a manifest as copick exports it.
        runs: names or patterns of the runs that are listed on other machines; none for all.

    Raises:
        FileError: if it is neither, or none of its folders is on this machine; it names the file.

    >>> import json, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> picks = folder / "ExperimentRuns" / "TS_1" / "Picks"
    >>> picks.mkdir(parents=True)
    >>> (picks / "me_1_ribosome.json").touch()
    >>> objects = [{"name": "ribosome", "is_particle": True, "label": 1}]
    >>> config = {"pickable_objects": objects, "overlay_root": f"local://{folder}"}
    >>> _ = (folder / "config.json").write_text(json.dumps(config))
    >>> project = read_copick(folder / "config.json")
    >>> project.runs, [str(entry) for entry in project.entries], project.objects
    (['TS_1'], ['ribosome:me/1'], {'ribosome': 1})
    """
    from cryojax_seg.io import copick_remote, croissant

    path = Path(path)
    content = read_json_object(path)
    if "recordSet" in content:
        return croissant.read_croissant(path, content)
    objects = read_objects(content.get("pickable_objects"), path)
    known = {word: local(content.get(word), path) for word in ("static_root", "overlay_root")}
    roots = [root for root in known.values() if root is not None]
    manifest = local(content.get("croissant_url"), path)
    found: dict[tuple[Any, ...], Entry] = {}
    if manifest is not None:
        base = croissant.read_croissant(manifest, read_json_object(manifest))
        found, objects = {entry.key: entry for entry in base.entries}, base.objects | objects
        roots = [*filter(None, [base.overlay]), *roots]
    elsewhere = copick_remote.place_elsewhere(content)
    if elsewhere is not None and copick_remote.is_installed():
        listing = copick_remote.entries_elsewhere(path, content, runs)
        found |= {entry.key: entry for entry in listing}
    elif elsewhere is not None and roots:
        _log.info(f"{path}: data at {shortened(elsewhere, 120)} are not listed; {_HOW}")
    elif elsewhere is not None:
        raise FileError(
            f"{path}: its data are at {shortened(elsewhere, 120)}, not on this machine; {_HOW}, or "
            "download them and name their folder as overlay_root"
        )
    elif not roots:
        raise FileError(f"{path}: names no folder with data; add it as overlay_root")
    for root in roots:
        found |= {entry.key: entry for entry in listed(root)}
    overlay = known["overlay_root"] or (roots[-1] if manifest is not None and roots else None)
    return CopickProject(path, objects, _sorted(found.values()), overlay)


def read_objects(stated: Any, path: Path) -> dict[str, int | None]:
    """Return the label of each pickable object by its name.

    Raises:
        FileError: if the objects are not as copick writes them.

    >>> read_objects([{"name": "ribosome", "label": 2}], Path("config.json"))
    {'ribosome': 2}
    """
    if not isinstance(stated, list):
        raise FileError(
            f"{path}: has no list pickable_objects, so it is no configuration of copick"
        )
    found: dict[str, int | None] = {}
    for one in stated:
        name = one.get("name") if isinstance(one, dict) else None
        label = one.get("label", 1) if isinstance(one, dict) else None
        right = label is None or (isinstance(label, int) and 0 < label < 2**31)
        if not isinstance(name, str) or not name or not right or isinstance(label, bool):
            raise FileError(
                f"{path}: the object {shown(one, 80)} needs a name and a label above 0; correct it"
            )
        found[name] = label
    return found


def local(root: Any, path: Path) -> Path | None:
    """Return the folder or file on this machine that a configuration names; None for another.

    >>> local("local:///data/project", Path("config.json")), local("s3://bucket", Path("c.json"))
    (PosixPath('/data/project'), None)
    """
    if not isinstance(root, str) or not root or "\0" in root:
        return None
    scheme, mark, rest = root.partition("://")
    if mark and scheme not in ("local", "file"):
        return None
    place = Path(rest if mark else root).expanduser()
    beside = path.parent / place
    return beside if not place.exists() and beside.exists() else place


def listed(root: Path) -> Iterator[Entry]:
    """Yield what lies below the root of a project; files of other names are left out.

    >>> list(listed(Path("/nowhere")))
    []
    """
    for run in _folders(root / RUNS):
        for place in _folders(run):
            size = number(place.name.removeprefix("VoxelSpacing"))
            if place.name.startswith("VoxelSpacing") and size is not None:
                for volume in _folders(place):
                    name = volume.name.removesuffix(".zarr")
                    if volume.suffix == ".zarr" and "features" not in name:
                        yield Entry("tomogram", run.name, volume, name, size)
        for kind, folder in FOLDER.items():
            for path in _listing(run / folder):
                entry = parsed(kind, run.name, path)
                if entry is not None and path.is_dir() == (kind in SEGMENTATIONS):
                    yield entry


def parsed(kind: Kind, run: str, path: Path) -> Entry | None:
    """Return what the name of a segmentation, of picks or of a mesh says; None if it is neither.

    >>> parsed("segmentation", "TS_1", Path("10.000_me_1_cell-multilabel.zarr")).name
    'cell'
    """
    if path.suffix != ENDING.get(kind, ".zarr"):
        return None
    sized = kind in SEGMENTATIONS
    words = path.name.removesuffix(path.suffix).split("_", 3 if sized else 2)
    size = number(words.pop(0)) if sized else None
    if len(words) != 3 or not all(words) or (sized and size is None):
        return None
    user, session, name = words
    several = kind == "segmentation" and name.endswith(MULTILABEL)
    name = name.removesuffix(MULTILABEL) if several else name
    return Entry(kind, run, path, name, size, user, session, several) if name else None


def _folders(place: Path) -> list[Path]:
    return [path for path in _listing(place) if path.is_dir()]


def _listing(place: Path) -> list[Path]:
    """Return what a folder shows, sorted; nothing if there is none."""
    try:
        return sorted(path for path in place.iterdir() if path.name[0] != ".")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise FileError(f"{place}: cannot be read ({error.strerror})") from None


def _sorted(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda e: (e.run, e.kind, str(e))))
