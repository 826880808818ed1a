"""``cryojax-seg info``: what a file is, and what is odd about it."""

import dataclasses
from pathlib import Path

from tyro.conf import Positional

from cryojax_seg.cli.arguments import VoxelSize


@dataclasses.dataclass(frozen=True)
class Info:
    """Say what a tomogram, a label file or a saved model is, with warnings about its header."""

    file: Positional[Path]
    """Volume (MRC, also .rec, .map, .gz, .bz2; TIFF, OME-Zarr), or folder of a model or a run."""
    voxel_size: VoxelSize = None
    """Voxel size in angstrom."""
    json: bool = False
    """Print JSON."""


def run(options: Info) -> None:
    """Does what `Info` says; a ValueError or OSError tells what is wrong in one line."""
    import json

    from cryojax_seg import io

    nested = options.file / "model"
    found = io.describe(nested if nested.is_dir() else options.file, options.voxel_size)
    if options.json:
        print(json.dumps(dataclasses.asdict(found), indent=2))
        return
    print(f"{found.path}: {found.kind}")
    width = max(len(name) for name in found.facts)
    for name, value in found.facts.items():
        print(f"  {name.ljust(width)}  {value}")
    for warning in found.warnings:
        print(f"  warning: {warning}")
