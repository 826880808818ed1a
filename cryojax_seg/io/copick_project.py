"""Find what a copick project on this machine holds: tomograms, segmentations, picks and meshes.

copick (https://copick.github.io/copick) keeps the data of many tomograms, its runs, below a folder:
``ExperimentRuns/RUN/VoxelSpacing10.000/TYPE.zarr``,
``Segmentations/10.000_USER_SESSION_NAME[-multilabel].zarr``,
``InstanceSegmentations/10.000_USER_SESSION_OBJECT.zarr``, ``Picks/USER_SESSION_OBJECT.json`` and
``Meshes/USER_SESSION_OBJECT.glb``. Its configuration names a root that others share and an overlay
with what was added; what is in the overlay wins.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from cryojax_seg.io.files import FileError, PathLike
from cryojax_seg.io.plain import read_json_object
from cryojax_seg.text import shortened, shown

Kind = Literal["tomogram", "segmentation", "instances", "picks", "mesh"]
NOUNS: dict[Kind, str] = {
    "tomogram": "tomogram",
    "segmentation": "segmentation",
    "instances": "instance segmentation",
    "picks": "set of picks",
    "mesh": "mesh",
}
RUNS = "ExperimentRuns"
_MULTILABEL = "-multilabel"
SEGMENTATIONS: tuple[Kind, ...] = ("segmentation", "instances")
_ENDING: dict[Kind, str] = {"picks": ".json", "mesh": ".glb"}  # others are folders .zarr
_FOLDER: dict[Kind, str] = {
    "picks": "Picks",
    "mesh": "Meshes",
    "segmentation": "Segmentations",
    "instances": "InstanceSegmentations",
}
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f\s_]')  # in names, as copick has it


@dataclasses.dataclass(frozen=True)
class Entry:
    """One file or OME-Zarr folder of a run.

    Attributes:
        kind: "tomogram", "segmentation", "instances" (whose voxels number the objects of one
            class), "picks" or "mesh".
        run: its run.
        path: where it lies.
        name: type of the tomogram, or name of the object or of the segmentation.
        spacing: edge of the voxels in angstrom; None for picks and meshes.
        user: who made it, a person or a program; empty for a tomogram.
        session: in which session; empty for a tomogram.
        multilabel: whether a segmentation holds several objects, by their labels.

    >>> str(Entry("segmentation", "TS_1", Path("a.zarr"), "membrane", 10.0, "me", "1"))
    'membrane:me/1@10'
    """

    kind: Kind
    run: str
    path: Path
    name: str
    spacing: float | None = None
    user: str = ""
    session: str = ""
    multilabel: bool = False

    def __str__(self) -> str:
        owner = f":{self.user}/{self.session}" if self.user else ""
        size = "" if self.spacing is None else f"@{self.spacing:g}"
        flag = "multilabel" if self.multilabel else "instance" * (self.kind == "instances")
        return f"{self.name}{owner}{size}" + f"?{flag}=true" * bool(flag)

    @property
    def key(self) -> tuple[Any, ...]:
        """Return what tells it from the others of its project."""
        return dataclasses.astuple(dataclasses.replace(self, path=Path()))


@dataclasses.dataclass(frozen=True)
class CopickProject:
    """What a configuration of copick and its folders hold.

    Returned by `read_copick`.

    Attributes:
        path: the configuration, or the Croissant manifest.
        objects: label of each pickable object by its name; None where it has none.
        entries: everything that was found, sorted by run.
        overlay: the folder that new data go into; None if there is none.
    """

    path: Path
    objects: dict[str, int | None]
    entries: tuple[Entry, ...]
    overlay: Path | None

    @property
    def runs(self) -> list[str]:
        """Return the names of the runs that hold anything."""
        return sorted({entry.run for entry in self.entries})

    def classes(self, entry: Entry) -> tuple[str, ...]:
        """Return the names of the labels 1, 2, ... of a segmentation.

        >>> project = CopickProject(Path("c.json"), {"actin": 3, "membrane": 1}, (), None)
        >>> project.classes(Entry("segmentation", "TS_1", Path(), "all", multilabel=True))
        ('membrane', 'label2', 'actin')
        """
        if not entry.multilabel:
            return (entry.name,)
        names = {label: name for name, label in self.objects.items() if label is not None}
        count = max(names, default=0)
        if count > 127:
            raise FileError(
                f"{self.path}: has an object with the label {count}; classes have numbers up to "
                "127, so give it a smaller label"
            )
        return tuple(names.get(label, f"label{label}") for label in range(1, count + 1))

    def place(self, entry: Entry) -> Path:
        """Return where new data lie, in the overlay.

        Raises:
            FileError: if there is no overlay, or a name has characters that copick refuses.

        >>> project = CopickProject(Path("c.json"), {}, (), Path("overlay"))
        >>> new = Entry("picks", "TS_1", Path(), "ribosome", None, "me", "1")
        >>> project.place(new).as_posix()
        'overlay/ExperimentRuns/TS_1/Picks/me_1_ribosome.json'
        """
        if self.overlay is None:
            raise FileError(
                f"{self.path}: names no overlay_root on this machine to write into; write to a "
                "folder instead, or add one"
            )
        words = {"object": entry.name, "user": entry.user, "session": entry.session}
        if entry.kind == "tomogram":
            words = {"tomogram": entry.name}
        for what, word in words.items():
            if not word or _FORBIDDEN.search(word):
                better = _FORBIDDEN.sub("-", word).strip("-") or what
                raise FileError(
                    f"{self.path}: copick allows no {what} called {shown(word, 60)}; "
                    f"call it {shortened(better, 60)}"
                )
        run = self.overlay / RUNS / entry.run
        if entry.kind == "tomogram":
            return run / f"VoxelSpacing{entry.spacing:.3f}" / f"{entry.name}.zarr"
        size = "" if entry.spacing is None else f"{entry.spacing:.3f}_"
        name = f"{size}{entry.user}_{entry.session}_{entry.name}"
        name += (_MULTILABEL if entry.multilabel else "") + _ENDING.get(entry.kind, ".zarr")
        return run / _FOLDER[entry.kind] / name


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


def read_copick(path: PathLike) -> CopickProject:
    """Read a configuration of copick, or a Croissant manifest, and list what is there.

    The package copick is not needed. What its configuration names on other machines is not read.

    Args:
        path: the configuration (JSON), or the ``metadata.json`` of a manifest as copick exports it.

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
    from cryojax_seg.io import croissant

    path = Path(path)
    content = read_json_object(path)
    if "recordSet" in content:
        return croissant.read_croissant(path, content)
    objects = read_objects(content.get("pickable_objects"), path)
    known = {word: local(content.get(word), path) for word in ("static_root", "overlay_root")}
    roots = [root for root in known.values() if root is not None]
    manifest = content.get("croissant_url")
    found: dict[tuple[Any, ...], Entry] = {}
    if isinstance(manifest, str):
        beside = local(manifest, path)
        if beside is None:
            raise _elsewhere(path, manifest)
        base = croissant.read_croissant(beside, read_json_object(beside))
        found, objects = {entry.key: entry for entry in base.entries}, base.objects | objects
        roots = [*filter(None, [base.overlay]), *roots]
    if not roots and not found:
        stated = content.get("overlay_root") or content.get("static_root")
        raise _elsewhere(path, shown(stated, 120) if stated else "no folder at all")
    for root in roots:
        found |= {entry.key: entry for entry in listed(root)}
    overlay = known["overlay_root"] or (roots[-1] if isinstance(manifest, str) and roots else None)
    return CopickProject(path, objects, _sorted(found.values()), overlay)


def _elsewhere(path: Path, place: str) -> FileError:
    return FileError(
        f"{path}: its data are at {shortened(place, 120)}, not on this machine; download them "
        "(copick sync, or the pages of the CryoET Data Portal) and name their folder as "
        "overlay_root"
    )


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
        for kind, folder in _FOLDER.items():
            for path in _listing(run / folder):
                entry = parsed(kind, run.name, path)
                if entry is not None and path.is_dir() == (kind in SEGMENTATIONS):
                    yield entry


def parsed(kind: Kind, run: str, path: Path) -> Entry | None:
    """Return what the name of a segmentation, of picks or of a mesh says; None if it is neither.

    >>> parsed("segmentation", "TS_1", Path("10.000_me_1_cell-multilabel.zarr")).name
    'cell'
    """
    if path.suffix != _ENDING.get(kind, ".zarr"):
        return None
    sized = kind in SEGMENTATIONS
    words = path.name.removesuffix(path.suffix).split("_", 3 if sized else 2)
    size = number(words.pop(0)) if sized else None
    if len(words) != 3 or not all(words) or (sized and size is None):
        return None
    user, session, name = words
    several = kind == "segmentation" and name.endswith(_MULTILABEL)
    name = name.removesuffix(_MULTILABEL) if several else name
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


def number(word: str) -> float | None:
    """Return a length in angstrom; None if the word is none.

    >>> number("10.000"), number("-1"), number("x")
    (10.0, None, None)
    """
    try:
        value = float(word)
    except ValueError:
        return None
    return value if 0 < value < 1e6 else None


def _sorted(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda e: (e.run, e.kind, str(e))))
