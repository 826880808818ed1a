"""Describe a file for people: its kind, its facts and what is suspicious about it."""

import dataclasses
import math
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io.chunked import Chunked
from cryojax_seg.io.copick_project import NOUNS
from cryojax_seg.io.copick_reading import is_copick, read_copick
from cryojax_seg.io.files import HeaderWarning, PathLike
from cryojax_seg.io.imod import describe_imod, is_imod
from cryojax_seg.io.label_card import read_label_card
from cryojax_seg.io.mesh_reading import describe_mesh, is_mesh
from cryojax_seg.io.ome import metadata_file, read_multiscale
from cryojax_seg.io.summary_of_particles import describe_particles
from cryojax_seg.io.tilts import is_tilt_series, read_tilt_series
from cryojax_seg.io.volume import read_tomogram
from cryojax_seg.io.voxel_size import VoxelSize
from cryojax_seg.text import joined, shortened, size_text

_SAMPLED = 2**24  # voxels looked at in a large volume
_FEW = 64  # an integer volume with no more values than this, from 0 or -1 up, is a label volume


@dataclasses.dataclass(frozen=True)
class Description:
    """Result of `describe`.

    Attributes:
        path: the file or folder.
        kind: "tomogram", "labels", "model", "boxes", "2D stack", "particles", "table",
            "tilt series", "IMOD model", "mesh" or "copick project".
        facts: name and value of each fact, ready to print, lengths with their unit.
        warnings: what is suspicious, a sentence each.

    >>> Description("t.mrc", "tomogram", {"type": "float32"}, ()).kind
    'tomogram'
    """

    path: str
    kind: str
    facts: dict[str, str]
    warnings: tuple[str, ...]


def describe(path: PathLike, voxel_size: VoxelSize | None = None) -> Description:
    """Describe a volume, a saved or an IMOD model, a mesh, particles, or a file of a tilt series.

    Volumes are told apart by their voxels: integers with few values are labels. Of volumes larger
    than memory should hold, evenly spaced slices are looked at.

    Args:
        path: a volume, a model folder, a stack or folder of boxes, a table of particles, an IMOD
            model, a mesh, or a file that `read_tilt_series` reads.
        voxel_size: angstrom, one number or (z, y, x); wins over the header.

    Raises:
        FileError: if it is none of these or damaged; it names the file and what to do.

    >>> import tempfile
    >>> from cryojax_seg.io.mrc import write_mrc
    >>> file = Path(tempfile.mkdtemp()) / "labels.mrc"
    >>> write_mrc(file, np.eye(4, dtype=np.int8)[None], voxel_size=10.0)
    >>> found = describe(file)
    >>> found.kind, found.facts["values"]
    ('labels', '0 (75.00 %), 1 (25.00 %)')
    """
    if is_tilt_series(path):
        return Description(str(path), "tilt series", _of_tilts(path), ())
    if is_copick(path):
        return Description(str(path), "copick project", _of_copick(path), ())
    if is_imod(path):
        return Description(str(path), "IMOD model", describe_imod(path), ())
    if is_mesh(path):
        return Description(str(path), "mesh", describe_mesh(path), ())
    other = describe_particles(Path(path), voxel_size)
    if other is not None:
        return Description(str(path), *other)
    folder = Path(path).is_dir()
    if folder and ((Path(path) / "model.json").exists() or not metadata_file(Path(path))):
        from cryojax_seg.io.summary_of_model import describe_model  # which needs JAX

        return Description(str(path), "model", describe_model(path), ())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", HeaderWarning)
        tomogram = read_tomogram(path, voxel_size)
    prefix = f"{Path(path)}: "
    found = [str(w.message).removeprefix(prefix) for w in caught if w.category is HeaderWarning]
    size = tomogram.voxel_size
    facts = {
        "shape (z, y, x)": " x ".join(map(str, tomogram.density.shape)),
        "type": str(tomogram.density.dtype),
        "file": size_text(_bytes(Path(path))),
        "voxel size (z, y, x)": joined(size, "A") if size else "unknown",
        "origin (z, y, x)": joined(tomogram.origin, "A"),
        "start (z, y, x)": joined(tomogram.start, "voxels"),
    }
    if size:
        extent = [n * v / 10 for n, v in zip(tomogram.density.shape, size, strict=True)]
        facts["extent (z, y, x)"] = joined(extent, "nm")
    if isinstance(tomogram.density, Chunked):
        facts["chunks (z, y, x)"] = " x ".join(map(str, tomogram.density.chunks))
        facts["levels"] = str(len(read_multiscale(Path(path)).levels))
    card = read_label_card(path)
    facts |= card.entries() if card else {}
    kind, of_values, odd = _voxels(tomogram)
    if size is None and not any("voxel size unknown" in note for note in found):
        odd.append("voxel size unknown; give voxel_size in angstrom where lengths matter")
    return Description(str(path), kind, facts | of_values, (*found, *odd))


def _of_tilts(path: PathLike) -> dict[str, str]:
    series = read_tilt_series(path)
    return {"understood as": series.kind, **series.facts()}


def _of_copick(path: PathLike) -> dict[str, str]:
    project = read_copick(path)
    runs = project.runs
    facts = {"runs": shortened(f"{len(runs)}: {', '.join(runs)}", 200)}
    for kind, name in NOUNS.items():
        held = Counter(str(entry) for entry in project.entries if entry.kind == kind)
        several = {"mesh": "meshes", "picks": "picks"}.get(kind, f"{name}s")
        listed = [f"{word} in {n} run{'s' * (n != 1)}" for word, n in held.most_common()]
        facts[several] = shortened("; ".join(listed), 300) or "none"
    labels = [name if n is None else f"{name} ({n})" for name, n in project.objects.items()]
    facts["objects"] = shortened(", ".join(labels), 300) or "none"
    facts["written into"] = str(project.overlay or "nothing on this machine")
    return facts


def _bytes(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def _voxels(tomogram: Tomogram) -> tuple[str, dict[str, str], list[str]]:
    """Return the kind, facts and warnings that follow from the voxels."""
    density = tomogram.density
    step = max(1, -(-math.prod(density.shape) // _SAMPLED))
    part = np.asarray(density[::step])
    sampled = {} if step == 1 else {"looked at": f"every {step}th slice along z"}
    if part.dtype.kind in "iub":
        values, counts = np.unique(part, return_counts=True)
        if len(values) <= _FEW and values[0] >= -1:
            shares = [
                f"{v} ({100 * n / part.size:.2f} %)" for v, n in zip(values, counts, strict=True)
            ]
            listed = ", ".join(shares[:12]) + (", ..." if len(shares) > 12 else "")
            return "labels", {"values": listed, **sampled}, []
    finite = part[np.isfinite(part)].astype(np.float64)
    if finite.size == 0:
        return "tomogram", sampled, ["no voxel is finite"]
    facts = {
        "range": f"{finite.min():g} to {finite.max():g}",
        "mean and deviation": f"{finite.mean():g}, {finite.std():g}",
    }
    odd = ["all voxels have the same value"] if finite.min() == finite.max() else []
    on_disk = isinstance(density, np.memmap) or not isinstance(density, np.ndarray)
    if on_disk and finite.size < part.size:
        odd.append(f"{part.size - finite.size} of {part.size} voxels looked at are not finite")
    return "tomogram", facts | sampled, odd
