"""Describe what a copick project holds: tomograms, segmentations, picks and meshes.

copick (https://copick.github.io/copick) keeps the data of many tomograms, its runs, below a folder:
``ExperimentRuns/RUN/VoxelSpacing10.000/TYPE.zarr``,
``Segmentations/10.000_USER_SESSION_NAME[-multilabel].zarr``,
``InstanceSegmentations/10.000_USER_SESSION_OBJECT.zarr``, ``Picks/USER_SESSION_OBJECT.json`` and
``Meshes/USER_SESSION_OBJECT.glb``. Its configuration names a root that others share and an overlay
with what was added; what is in the overlay wins.
"""

import dataclasses
import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from cryojax_seg.io.files import FileError
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
MULTILABEL = "-multilabel"
SEGMENTATIONS: tuple[Kind, ...] = ("segmentation", "instances")
ENDING: dict[Kind, str] = {"picks": ".json", "mesh": ".glb"}  # others are folders .zarr
FOLDER: dict[Kind, str] = {
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
        source: what copick reads on another machine, of which the path is a copy; else None.

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
    source: Any = dataclasses.field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        owner = f":{self.user}/{self.session}" if self.user else ""
        size = "" if self.spacing is None else f"@{self.spacing:g}"
        flag = "multilabel" if self.multilabel else "instance" * (self.kind == "instances")
        return f"{self.name}{owner}{size}" + f"?{flag}=true" * bool(flag)

    @property
    def key(self) -> tuple[Any, ...]:
        """Return what tells it from the others of its project."""
        parts = (self.name, self.spacing, self.user, self.session, self.multilabel)
        return (self.kind, self.run, *parts)


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
        return located(self.overlay, entry)


def located(root: Path, entry: Entry) -> Path:
    """Return where something lies below the root of a project; "-" is for what no file may have.

    >>> located(Path(), Entry("tomogram", "TS_1", Path(), "a/b", 10.0)).as_posix()
    'ExperimentRuns/TS_1/VoxelSpacing10.000/a-b.zarr'
    """
    run = root / RUNS / entry.run
    title = re.sub(r"[/\\\0]", "-", entry.name)
    if entry.kind == "tomogram":
        return run / f"VoxelSpacing{entry.spacing:.3f}" / f"{title}.zarr"
    size = "" if entry.spacing is None else f"{entry.spacing:.3f}_"
    name = f"{size}{entry.user}_{entry.session}_{title}"
    name += (MULTILABEL if entry.multilabel else "") + ENDING.get(entry.kind, ".zarr")
    return run / FOLDER[entry.kind] / name


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


def chosen_runs(path: Path, every: Sequence[str], runs: Sequence[str]) -> list[str]:
    """Return the runs of a project that are named or match a pattern; all for none.

    Raises:
        FileError: naming the project, if nothing matches one of them.

    >>> chosen_runs(Path("c.json"), ["TS_1", "TS_2", "x"], ["TS_*"])
    ['TS_1', 'TS_2']
    """
    for pattern in runs:
        if not fnmatch.filter(every, pattern):
            some, word = shortened(", ".join(every), 120) or "none", shown(pattern, 60)
            raise FileError(f"{path}: has no run {word}; it has {some}", "run")
    return [run for run in every if not runs or any(fnmatch.fnmatchcase(run, p) for p in runs)]
