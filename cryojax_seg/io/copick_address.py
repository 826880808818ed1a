"""Find the files that an address in a copick project means: ``copick:config.json#NAME``.

What follows the # is spelled as copick's own programs spell it: ``TYPE@SPACING`` for tomograms,
``NAME:USER/SESSION@SPACING?multilabel=true`` for segmentations (``?instance=true`` where voxels
number objects), and ``OBJECT:USER/SESSION`` for picks and meshes. Each part may be left out or hold
the patterns * and ?.
"""

import dataclasses
import fnmatch
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryojax_seg.io.copick_project import (
    NOUNS,
    SEGMENTATIONS,
    CopickProject,
    Entry,
    Kind,
    chosen_runs,
    number,
)
from cryojax_seg.io.copick_reading import read_copick
from cryojax_seg.io.copick_remote import bring
from cryojax_seg.io.files import FileError
from cryojax_seg.text import shortened, shown

SCHEME = "copick:"
USER, SESSION = "cryojax-seg", "1"
_SAME = 0.0006  # angstrom; names hold three digits
_log = logging.getLogger("cryojax_seg.io")


@dataclasses.dataclass(frozen=True)
class Address:
    """What an address says.

    Attributes:
        config: the configuration of the project; empty for that of the other addresses.
        name: type of a tomogram, or name of an object or a segmentation; "*" for any.
        user, session: who made it and when; "*" for any.
        spacing: angstrom; None for any.
        multilabel: whether a segmentation holds several objects; None for either.
        instance: whether the voxels of a segmentation are numbers of objects.
    """

    config: str = ""
    name: str = "*"
    user: str = "*"
    session: str = "*"
    spacing: float | None = None
    multilabel: bool | None = None
    instance: bool = False

    def matches(self, entry: Entry) -> bool:
        """Return whether the address may mean this."""
        pairs = [(entry.name, self.name)]
        if entry.user:
            pairs += [(entry.user, self.user), (entry.session, self.session)]
        spaced = self.spacing is None or entry.spacing is None
        spaced = spaced or abs((entry.spacing or 0) - (self.spacing or 0)) < _SAME
        kind = self.multilabel is None or self.multilabel == entry.multilabel
        return spaced and kind and all(fnmatch.fnmatchcase(*pair) for pair in pairs)


def is_address(word: object) -> bool:
    """Return whether a word is an address in a copick project.

    >>> is_address("copick:config.json"), is_address("copick.json")
    (True, False)
    """
    return str(word).startswith(SCHEME)


def read_address(word: object) -> Address:
    """Return what an address says.

    Raises:
        FileError: if it is not spelled as one.

    >>> found = read_address("copick:c.json#membrane:me/2@10?multilabel=true")
    >>> found.config, found.name, found.user, found.session, found.spacing, found.multilabel
    ('c.json', 'membrane', 'me', '2', 10.0, True)
    """
    config, _, rest = str(word).removeprefix(SCHEME).partition("#")
    rest, asked, flag = rest.partition("?")
    main, sized, size = rest.partition("@")
    name, _, owner = main.partition(":")
    user, _, session = owner.partition("/")
    stated = re.fullmatch(r"(multilabel|instance)=(true|false|1|0)", flag)
    spacing = None if size == "*" else number(size)
    if (asked and not stated) or (sized and size != "*" and spacing is None):
        raise FileError(
            f"{shown(str(word))} is no address in a copick project; write "
            "copick:config.json#NAME:USER/SESSION@SPACING, and ?multilabel=true or ?instance=true "
            "behind it"
        )
    yes = stated is not None and stated[2] in ("true", "1")
    several = yes if stated is not None and stated[1] == "multilabel" else None
    numbered = yes and several is None
    return Address(config, name or "*", user or "*", session or "*", spacing, several, numbered)


@dataclasses.dataclass(frozen=True)
class Found:
    """What addresses mean. Returned by `find_copick`.

    Attributes:
        runs: the runs that have all of it.
        entries: of each address one for each run.
        classes: names of the labels 1, 2, ... of the first segmentation; empty without one.
        labels: value of each object in it by its name; empty unless it holds several objects.
    """

    runs: tuple[str, ...]
    entries: tuple[tuple[Entry, ...], ...]
    classes: tuple[str, ...] = ()
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)


def find_copick(
    wanted: Sequence[tuple[str, Kind]], runs: Sequence[str] = (), spacing: float | None = None
) -> Found:
    """Return what addresses mean in each run that has all of it.

    Where no segmentation is meant, a mesh may be: it is painted as labels. What is on another
    machine is copied here.

    Args:
        wanted: addresses, each with the kind of data that it means. One without a project is of
            that of the first.
        runs: names or patterns of runs; none for all.
        spacing: of tomograms and segmentations, angstrom, where an address does not say.

    Raises:
        FileError: if no run has all of it, or an address means several things in one run.

    >>> import json, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "ExperimentRuns" / "TS_1" / "VoxelSpacing10.000" / "wbp.zarr").mkdir(parents=True)
    >>> config = folder / "config.json"
    >>> _ = config.write_text(json.dumps({"pickable_objects": [], "overlay_root": str(folder)}))
    >>> found = find_copick([(f"copick:{config}#wbp@10", "tomogram")], ["TS_*"])
    >>> found.runs, found.entries[0][0].path.name
    (('TS_1',), 'wbp.zarr')
    """
    addresses = [read_address(word) for word, _ in wanted]
    first = next((address.config for address in addresses if address.config), "")
    projects: dict[str, CopickProject] = {}
    table: dict[str, list[Entry]] = {}
    lacking: dict[str, str] = {}
    classes: tuple[str, ...] = ()
    labels: dict[str, int] = {}
    for position, (address, (_, kind)) in enumerate(zip(addresses, wanted, strict=True)):
        config = address.config or first
        if not config:
            raise FileError(
                f"{SCHEME} is no address without a project; name one as {SCHEME}config.json"
            )
        if config not in projects:
            projects[config] = read_copick(Path(config).expanduser(), runs)
        project = projects[config]
        asked = spacing if address.spacing is None else address.spacing
        address = dataclasses.replace(address, spacing=asked)
        kind = "instances" if kind == "segmentation" and address.instance else kind
        if not position:
            table = {run: [] for run in chosen_runs(project.path, project.runs, runs)}
        for run in table:
            every = [e for e in project.entries if e.run == run]
            held = [entry for entry in every if entry.kind == kind]
            meant = [entry for entry in held if address.matches(entry)]
            if kind == "segmentation" and not meant and not address.multilabel:
                meant = [e for e in every if e.kind == "mesh" and address.matches(e)]
            if len(meant) > 1:
                raise FileError(
                    f"{project.path}: run {run} has several that are meant: {_listed(meant)}; say "
                    f"which, such as {SCHEME}{project.path.name}#{meant[0]}",
                    *(("voxel_spacing",) if len({e.spacing for e in meant}) > 1 else ()),
                )
            table[run] += meant
            if not meant:
                why = f"no {NOUNS[kind]} that is meant; it has {_listed(held)}"
                lacking.setdefault(run, f"{project.path}: run {run} has {why}")
            elif kind == "segmentation":
                classes = classes or project.classes(meant[0])
                if meant[0].multilabel:
                    known = [(n, name) for name, n in project.objects.items() if n is not None]
                    labels = labels or {name: n for n, name in sorted(known)}
    full = {run: tuple(entries) for run, entries in table.items() if run not in lacking}
    if not full:
        raise FileError(next(iter(lacking.values()), "no run has any data"), "run", "voxel_spacing")
    if lacking:
        _log.info(
            f"{len(lacking)} of {len(table)} runs are left out: {next(iter(lacking.values()))}"
        )
    meant = [entry for entries in full.values() for entry in entries]
    _check_kinds(meant)
    for entry in meant:
        bring(entry)
    return Found(tuple(full), tuple(zip(*full.values(), strict=True)), classes, labels)


def _check_kinds(entries: Sequence[Entry]) -> None:
    """Refuse segmentations of one object beside those of several, whose labels differ."""
    held = [entry for entry in entries if entry.kind == "segmentation"]
    one = next((entry for entry in held if not entry.multilabel), None)
    several = next((entry for entry in held if entry.multilabel), None)
    if one is not None and several is not None:
        raise FileError(
            f"{one.path}: holds one object as 1, and {several} holds several by their labels; give "
            "two of one kind"
        )


def _listed(entries: Sequence[Entry]) -> str:
    return shortened(", ".join(map(str, entries)), 160) or "none"


def new_copick(
    word: str,
    kind: Kind,
    runs: Sequence[str],
    spacing: float | None = None,
    classes: Sequence[str] = (),
    model: str = "",
) -> tuple[list[Path], tuple[int, ...]]:
    """Return where data go that are written under an address, and the values of labels in them.

    The classes of a segmentation are found among the objects of the project by their names, where
    blanks, underscores and capitals do not count. One class becomes a segmentation of its object,
    whose voxels are 1; several become a multilabel one with the labels of their objects.

    Args:
        word: the address; user and session are cryojax-seg and 1 unless it has them.
        kind: of the data.
        runs: where it goes.
        spacing: edge of the voxels in angstrom, of tomograms and segmentations.
        classes: of a segmentation, without the background.
        model: name of a multilabel segmentation, unless the address has one.

    Returns:
        a path for each run, and for a segmentation the value of the background and of each class.

    Raises:
        FileError: if a class is no object of the project, or there is no name to write under.

    >>> import json, tempfile
    >>> config = Path(tempfile.mkdtemp()) / "config.json"
    >>> objects = [{"name": "ER-membrane", "label": 7}]
    >>> content = {"pickable_objects": objects, "overlay_root": str(config.parent)}
    >>> _ = config.write_text(json.dumps(content))
    >>> paths, values = new_copick(
    ...     f"copick:{config}", "segmentation", ["TS_1"], 10.0, ["er membrane"])
    >>> paths[0].name, values
    ('10.000_cryojax-seg_1_ER-membrane.zarr', (0, 1))
    """
    address = read_address(word)
    project = read_copick(Path(address.config).expanduser())
    here = f"{SCHEME}{project.path.name}#NAME"
    given = "" if "*" in address.name else address.name
    sized = kind == "tomogram" or kind in SEGMENTATIONS
    if sized and (spacing or address.spacing) is None:
        raise FileError(f"{project.path}: needs the voxel spacing to write", "voxel_spacing")
    values: tuple[int, ...] = ()
    if len(classes) > 1:
        names = [_object(project, name) for name in classes]
        labels = [project.objects[name] for name in names]
        if None in labels or len(set(labels)) < len(labels):
            raise FileError(
                f"{project.path}: the objects {', '.join(names)} need labels of their own; add them"
            )
        values = (0, *(label for label in labels if label is not None))
        given = given or model
    elif kind != "tomogram" and (classes or given):
        given = _object(project, given or classes[0])
        values = (0, 1) if classes else ()
    if not given:
        raise FileError(f"{project.path}: under which name? Write {here}", "output")
    new = Entry(
        kind,
        "",
        Path(),
        given,
        address.spacing or spacing if sized else None,
        USER if "*" in address.user else address.user,
        SESSION if "*" in address.session else address.session,
        len(classes) > 1,
    )
    return [project.place(dataclasses.replace(new, run=run)) for run in runs], values


def _object(project: CopickProject, name: str) -> str:
    """Return the name of the object that a class is."""
    plain = {re.sub(r"[\s_-]+", "-", known.lower()): known for known in project.objects}
    found = plain.get(re.sub(r"[\s_-]+", "-", name.lower()))
    if found is None:
        known = shortened(", ".join(project.objects), 160) or "none"
        raise FileError(
            f"{project.path}: has no object {shown(name, 60)}, its objects are {known}; add it, or "
            f"name one as {SCHEME}{project.path.name}#OBJECT"
        )
    return found
