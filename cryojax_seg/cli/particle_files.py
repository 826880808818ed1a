"""What the commands for particles share: their tomogram, their table, and where they may be."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryojax_seg.cli import console

if TYPE_CHECKING:
    from cryojax_seg.core import Particles, Tomogram

TABLES = (".star", ".tbl", ".csv")


def one_voxel_size(tomogram: "Tomogram") -> float:
    """The edge of its voxels in angstrom; a ValueError if it is unknown or differs by axis."""
    size = tomogram.require_voxel_size()
    if max(size) > 1.01 * min(size):
        raise ValueError(
            f"{tomogram.name}: has voxels of {size[0]:g} x {size[1]:g} x {size[2]:g} A (z, y, x); "
            "particles need cubic ones, so resample it first"
        )
    return float(sum(size) / 3)


def check_table(path: Path, option: str) -> None:
    """Raises a ValueError unless this is the name of a table of particles."""
    if path.suffix.lower() not in TABLES:
        raise ValueError(
            f"{path}: {option} is a table that ends in .star (RELION), .tbl (Dynamo) or .csv"
        )


def check_absent(path: Path, overwrite: bool) -> None:
    """Raises a ValueError if there is something that may not be replaced."""
    if path.exists() and not overwrite:
        raise ValueError(f"{path}: exists already; choose another or --overwrite it")


def read_table(path: Path, tomogram: "Tomogram", voxel_size: float) -> "Particles":
    """The particles of one tomogram; of a table of several, those that bear its name."""
    from cryojax_seg import io

    table = io.read_particles(path, voxel_size, tomogram.density.shape)
    names = table.columns.get("rlnTomoName", ())
    if len(set(names)) > 1:
        own = Path(tomogram.name).name
        mine = [Path(name).name == own or Path(name).stem == Path(own).stem for name in names]
        if not any(mine):
            some = ", ".join(sorted(set(names))[:5])
            raise io.FileError(
                f"{path}: has particles of {len(set(names))} tomograms ({some}), none of which is "
                f"called {Path(own).stem} (rlnTomoName); rename one or split the table"
            )
        table = table.take([i for i, m in enumerate(mine) if m])
        console.say(f"{len(table)} of {len(names)} particles of {path} are in {tomogram.name}")
    return table


def read_mask(path: Path, label: int, tomogram: "Tomogram") -> Any:
    """Where a label volume on the grid of the tomogram has this value; bool ``(z, y, x)``."""
    from cryojax_seg import io

    labels = io.read_labels(path, tomogram, ignore=None).labels
    mask = labels == label
    if not mask.any():
        console.warn(f"{path}: no voxel has the label {label}")
    return mask


def normalized(tomogram: "Tomogram", contrast: str) -> Any:
    """The tomogram with structure bright and noise of deviation 1, read part by part."""
    from cryojax_seg import core, io

    try:
        intensity = core.measure_intensity(tomogram.density, contrast)  # pyright: ignore
    except ValueError as error:
        raise io.FileError(f"{tomogram.name}: {error}") from None
    return core.Normalized(tomogram.density, intensity)
