"""Checks of the tables that the commands for particles write."""

from pathlib import Path

TABLES = (".star", ".tbl", ".csv")


def check_table(path: Path, option: str) -> None:
    """Raises a ValueError unless this is the name of a table of particles."""
    if path.suffix.lower() not in TABLES:
        raise ValueError(
            f"{path}: {option} is a table that ends in .star (RELION), .tbl (Dynamo) or .csv"
        )


def check_not_input(output: Path, particles: Path, option: str) -> None:
    """Raises a ValueError if a table would be written where that of the particles is."""
    from cryojax_seg.io import real_path

    if real_path(output) == real_path(particles):
        other = output.with_name(f"{output.stem}_new{output.suffix}")
        raise ValueError(
            f"{output}: is the table of particles itself, and the new table would be written "
            f"there; choose another {option}, such as one whose table is {other.name}"
        )
