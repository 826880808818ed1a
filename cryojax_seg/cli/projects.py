"""Options that name data in a copick project, and the files that such addresses mean."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

SCHEME = "copick:"
# What is meant by an address in an option of this name.
_KINDS = {
    **dict.fromkeys(("tomograms", "tomogram", "unlabelled"), "tomogram"),
    **dict.fromkeys(("labels", "prediction", "truth", "volumes"), "segmentation"),
    **dict.fromkeys(("inside", "membrane", "predictions"), "segmentation"),
    **dict.fromkeys(("particles", "annotated"), "picks"),
    "instances": "instances",
}
_WRITERS = ("Segment", "Pick")  # the commands whose output may be in a project
_WRITTEN = ("output", "publish")
Publish = Annotated[
    Path | None, arg(metavar="copick:#NAME", help_behavior_hint="(default: nothing)")
]


@dataclasses.dataclass(frozen=True)
class ProjectOptions:
    """Say which data of a copick project are meant by copick:CONFIG.json#NAME."""

    run: Annotated[
        tuple[str, ...], arg(metavar="RUN ...", help_behavior_hint="(default: all)")
    ] = ()
    """Runs of the copick project: names, or patterns such as 'TS_*'."""
    voxel_spacing: Annotated[
        float | None, arg(metavar="ANGSTROM", help_behavior_hint="(default: the only one)")
    ] = None
    """Voxel spacing of the tomograms and segmentations of the copick project, in angstrom."""


def with_projects(options: Any) -> Any:
    """Return options with files in place of addresses in copick projects.

    The project options of the result have the names of the runs, in the order of the files, and
    an output that is an address has the project of the inputs.

    Raises:
        ValueError: if an address means nothing, or one file is needed and there are several.
    """
    words = list(_addresses(options))
    output = str(getattr(options, "output", ""))
    written = {name: str(getattr(options, name, None) or "") for name in _WRITTEN}
    written = {name: word for name, word in written.items() if word.startswith(SCHEME)}
    if not words and not written:
        return options
    if hasattr(options, "files"):  # of `info`, which describes the project itself
        return _replaced(options, lambda name, word: [Path(_config(word)).expanduser()])
    if output.startswith(SCHEME) and type(options).__name__ not in _WRITERS:
        raise ValueError(
            f"{output}: this is no output of this command; name a file or a folder"
            + ", and give the address to --publish" * hasattr(options, "publish")
        )
    if not hasattr(options, "project"):
        raise ValueError(f"{words[0][1]}: this command takes no address in a copick project")
    from cryojax_seg import io

    group = options.project
    wanted: Any = [(word, _kind(options, name)) for name, word in words]
    if wanted:
        found = io.find_copick(wanted, group.run, group.voxel_spacing)
        paths = {
            (name, word): [entry.path for entry in entries]
            for (name, word), entries in zip(words, found.entries, strict=True)
        }
        options = _replaced(options, lambda name, word: paths[name, word])
        spacings = {e.spacing for part in found.entries for e in part if e.spacing is not None}
        spacing = spacings.pop() if len(spacings) == 1 else group.voxel_spacing
        group = ProjectOptions(found.runs, spacing)
        if found.labels and len(words) < 2 and hasattr(options, "prediction"):
            raise ValueError(
                f"{words[0][1]}: holds several objects by the labels of its project; score it "
                "against another segmentation of the project"
            )
        options = _completed(options, found)
    for name, place in written.items():
        if not _config(place):
            config = next((_config(word) for _, word in words if _config(word)), "")
            if not config:
                raise ValueError(f"{place}: names no copick project; give copick:CONFIG.json")
            whole = Path(f"{SCHEME}{config}{place.removeprefix(SCHEME)}")
            options = dataclasses.replace(options, **{name: whole})
    return dataclasses.replace(options, project=group)


def _config(word: str) -> str:
    return word.removeprefix(SCHEME).partition("#")[0]


def _kind(options: Any, name: str) -> str:
    if name == "volumes" and getattr(options, "template", None) is not None:
        return "tomogram"  # which `pick` searches with a template
    if name not in _KINDS:
        raise ValueError(f"--{name.replace('_', '-')} takes no address in a copick project")
    return _KINDS[name]


def _addresses(options: Any) -> Iterator[tuple[str, str]]:
    """Yield name and word of each option that is an address of something to read."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            yield from _addresses(value)
        for one in value if isinstance(value, tuple) else (value,):
            word = _address_in(one)
            if word and field.name not in _WRITTEN:
                yield field.name, word


def _replaced(options: Any, paths: Callable[[str, str], list[Path]]) -> Any:
    """Return options with paths in place of addresses, one where one is needed."""
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        name, value = field.name, getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            changed[name] = _replaced(value, paths)
        elif isinstance(value, tuple):
            parts = [_parts(one, name, paths) for one in value]
            changed[name] = tuple(one for part in parts for one in part)
        elif isinstance(value, Path) and str(value).startswith(SCHEME) and name not in _WRITTEN:
            found = paths(name, str(value))
            if len(found) > 1:
                raise ValueError(
                    f"{value}: means {len(found)} files where one is needed; give one --run"
                )
            changed[name] = found[0]
    return dataclasses.replace(options, **changed)


def _address_in(word: Any) -> str:
    """Return the address that an option or NAME=ADDRESS has; nothing if it has none."""
    text = str(word) if isinstance(word, Path) else ""
    if isinstance(word, str):
        text = word.partition("=")[2]
    return text if text.startswith(SCHEME) else ""


def _parts(word: Any, name: str, paths: Callable[[str, str], list[Path]]) -> list[Any]:
    """Return what one word of an option with several becomes, NAME=PATH if it is NAME=ADDRESS."""
    address = _address_in(word)
    if not address:
        return [word]
    found = paths(name, address)
    if isinstance(word, Path):
        return list(found)
    if len(found) > 1:
        raise ValueError(f"{word}: means {len(found)} files where one is needed; give one --run")
    return [f"{word.partition('=')[0]}={found[0]}"]


def _completed(options: Any, found: Any) -> Any:
    """Return options with the classes, their values and the only run, unless they are given."""
    changed: dict[str, Any] = {}
    names = {field.name for field in dataclasses.fields(options)}
    for name in names:
        value = getattr(options, name)
        if dataclasses.is_dataclass(value) and not isinstance(value, ProjectOptions):
            changed[name] = _completed(value, found)
        elif name == "name" and value is None and len(found.runs) == 1:
            changed["name"] = found.runs[0]
    if "values" in names and found.labels and not options.values:
        classes = options.classes or tuple(found.labels)
        unknown = [name for name in classes if name not in found.labels]
        if unknown:
            known = ", ".join(found.labels)
            raise ValueError(f"--classes {unknown[0]}: the copick project knows {known}")
        changed |= {"classes": classes, "values": tuple(found.labels[name] for name in classes)}
    elif "classes" in names and not options.classes and "template" not in names:
        changed["classes"] = found.classes
    return dataclasses.replace(options, **changed)
