"""Read Croissant manifests of copick projects, as published benchmarks come: JSON-LD and tables.

A manifest (https://docs.mlcommons.org/croissant) says in JSON which columns of which CSV files hold
its records. copick exports one set of records for each kind of data, whose column ``url`` is the
place of a file below the base of the project. Records that stand in the manifest are read too.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cryojax_seg.io import copick_project, copick_reading
from cryojax_seg.io.copick_project import CopickProject, Entry, Kind
from cryojax_seg.io.delimited import read_columns
from cryojax_seg.io.files import FileError, existing_file
from cryojax_seg.io.text import read_text
from cryojax_seg.text import shortened, shown

_SETS: dict[str, Kind] = {
    "tomograms": "tomogram",
    "segmentations": "segmentation",
    "instance_segmentations": "instances",
    "picks": "picks",
    "meshes": "mesh",
}
_TRUE = ("true", "1", "yes")


def read_croissant(path: Path, content: Mapping[str, Any]) -> CopickProject:
    """Return the project that a manifest describes; the package mlcroissant is not needed.

    Args:
        path: the manifest, ``PROJECT/Croissant/metadata.json``.
        content: what it holds.

    Raises:
        FileError: naming the manifest or the table that is not as copick exports it, or if none of
            the data is on this machine.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> rows = [{"run": "TS_1", "object_name": "ribosome", "user_id": "me", "session_id": "1",
    ...          "url": "Picks/a.json"}]
    >>> manifest = {"recordSet": [{"@id": "copick/picks", "data": rows}]}
    >>> [str(entry) for entry in read_croissant(folder / "metadata.json", manifest).entries]
    ['ribosome:me/1']
    """
    base = _base(path, content)
    entries, places = [], []
    for kind, row in _records(path, content):
        url = row.get("url", "")
        place = _place(url, base, path)
        places.append(url)
        if place is not None:
            entries.append(_entry(kind, row, place, path))
    if places and not entries:
        raise FileError(
            f"{path}: its data are elsewhere, such as {shortened(places[0], 120)}; download them, "
            "and name their folder as copick:baseUrl in the manifest"
        )
    stated = content.get("copick:config")
    objects = stated.get("pickable_objects") if isinstance(stated, dict) else None
    named = {} if objects is None else copick_reading.read_objects(objects, path)
    return CopickProject(path, named, tuple(sorted(entries, key=lambda e: (e.run, str(e)))), base)


def _base(path: Path, content: Mapping[str, Any]) -> Path:
    """Return the folder that urls are relative to: as stated, or that above the manifest's."""
    stated = copick_reading.local(content.get("copick:baseUrl"), path)
    if stated is not None and stated.is_dir():
        return stated
    return path.absolute().parent.parent


def _records(path: Path, content: Mapping[str, Any]) -> Iterator[tuple[Kind, dict[str, str]]]:
    """Yield the rows of the sets of records that are of copick."""
    files = {
        one.get("@id"): one.get("contentUrl")
        for one in _objects(content.get("distribution", []), "distribution", path)
    }
    for records in _objects(content["recordSet"], "recordSet", path):
        name = str(records.get("@id", "")).rpartition("/")[2]
        if name not in _SETS:
            continue
        if "data" in records:
            for row in _objects(records["data"], f"data of {name}", path):
                cells = {str(key).rpartition("/")[2]: value for key, value in row.items()}
                yield _SETS[name], {key: "" if v is None else str(v) for key, v in cells.items()}
            continue
        tables: dict[str, dict[str, list[str]]] = {}
        columns: dict[str, list[str]] = {}
        for field in _objects(records.get("field", []), f"field of {name}", path):
            word = str(field.get("@id", "")).rpartition("/")[2]
            source = field.get("source")
            where = source.get("fileObject") if isinstance(source, dict) else None
            extract = source.get("extract") if isinstance(source, dict) else None
            file = where.get("@id") if isinstance(where, dict) else None
            column = extract.get("column") if isinstance(extract, dict) else None
            url = files.get(file) if isinstance(file, str) else None
            if not isinstance(url, str) or not isinstance(column, str):
                raise FileError(
                    f"{path}: does not say which column of which file holds {shortened(word, 60)} "
                    f"of {name}; export it again"
                )
            if url not in tables:
                table = path.parent / Path(url).name  # beside it, wherever it was made
                tables[url] = read_columns(read_text(existing_file(table)), table)
            if column in tables[url]:  # columns were added in later versions
                columns[word] = tables[url][column]
        for values in zip(*columns.values(), strict=True):
            yield _SETS[name], dict(zip(columns, values, strict=True))


def _objects(stated: Any, what: str, path: Path) -> list[dict[str, Any]]:
    if not isinstance(stated, list) or not all(isinstance(one, dict) for one in stated):
        raise FileError(f"{path}: {what} is {shown(stated, 60)}, a list of objects is needed")
    return stated


def _place(url: str, base: Path, path: Path) -> Path | None:
    """Return the path of a file of this machine; None for one elsewhere."""
    if not url or "\0" in url:
        raise FileError(f"{path}: a record has no url; export it again")
    if "://" in url:
        found = copick_reading.local(url, path)
        return found if found is not None and found.exists() else None
    inside = Path(url)
    if ".." in inside.parts:
        raise FileError(f"{path}: the url {shown(url, 80)} leads out of its folder; correct it")
    return base / inside


def _entry(kind: Kind, row: dict[str, str], place: Path, path: Path) -> Entry:
    sized = kind == "tomogram" or kind in copick_project.SEGMENTATIONS
    name = "tomo_type" if kind == "tomogram" else "name" if sized else "object_name"
    needed = ["run", name, *(("voxel_size",) if sized else ())]
    needed += [] if kind == "tomogram" else ["user_id", "session_id"]
    missing = [word for word in needed if not row.get(word)]
    if missing:
        raise FileError(f"{path}: a {kind} has no {', '.join(missing)}; export it again")
    spacing = None
    if sized:
        spacing = copick_project.number(row["voxel_size"])
        if spacing is None:
            raise FileError(
                f"{path}: the voxel size {shown(row['voxel_size'], 60)} of a {kind} is no length "
                "in angstrom; correct it"
            )
    owner = ("", "") if kind == "tomogram" else (row["user_id"], row["session_id"])
    several = row.get("is_multilabel", "").strip().lower() in _TRUE
    return Entry(kind, row["run"], place, row[name], spacing, *owner, several)
