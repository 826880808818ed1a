"""``cryojax-seg info``: the kind of a file, and unusual entries of its header."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from cryojax_seg.cli import console
from cryojax_seg.cli.geometry import VoxelSize
from cryojax_seg.errors import Mendable


@dataclasses.dataclass(frozen=True)
class Info:
    """Describe files (tomograms, labels, models, boxes or tables) and warn of unusual headers."""

    files: Annotated[
        Positional[tuple[Path, ...]],
        arg(metavar="FILE ...", help_behavior_hint="(one or more)"),
    ]
    """Volumes (MRC, also .rec, .map, .gz, .bz2; TIFF, OME-Zarr, NIfTI, NRRD, EM, HDF5, Amira,
    NumPy), IMOD models, meshes, copick projects, files of a tilt series (.tlt, .mdoc, .aln,
    .tomostar, .xml), folders of a model or a run, names of built-in models, boxes of particles, or
    tables of particles (.star, .tbl, .csv)."""
    voxel_size: VoxelSize = None
    json: bool = False
    """Print JSON, as a list of objects for several files."""


def run(options: Info) -> None:
    """Run `Info`; a ValueError or OSError says in one line what is wrong."""
    import json

    from cryojax_seg import io
    from cryojax_seg.inference.paths import expanded

    files = expanded(options.files)
    if not files:
        raise ValueError("no file is given; name one or more")
    found: list[Any] = []

    def describe(path: Path) -> None:
        found.append(io.describe(_place(path), options.voxel_size))
        if not options.json:
            _show(found[-1])

    try:
        console.each(files, describe)
    finally:
        if options.json and found:
            values = [dataclasses.asdict(one) for one in found]
            print(json.dumps(values[0] if len(files) == 1 else values, indent=2))


def _place(path: Path) -> Path:
    """Return the path of a file, or the folder of the model in a run or of a built-in one."""
    if path.exists():
        nested = path / "model"
        return nested if nested.is_dir() else path
    from cryojax_seg import inference  # which needs JAX

    name = inference.built_in_name(path)
    return inference.model_folder(path) if name else path


def _show(found: Any) -> None:
    """Print one fact a line."""
    print(f"{found.path}: {found.kind}")
    width = max((len(name) for name in found.facts), default=0)
    for name, value in found.facts.items():
        print(f"  {name.ljust(width)}  {value}")
    for warning in found.warnings:
        parameters = ("voxel_size",) if "voxel_size" in warning else ()
        print(f"  warning: {console.message(Mendable(warning, *parameters))}")
