"""Options that describe the tomograms where their files do not, and the tilt geometry."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

VoxelSize = Annotated[
    float | None,
    arg(
        metavar="ANGSTROM",
        help="Voxel size in angstrom. It replaces that of the file.",
        help_behavior_hint="(default: that of the file)",
    ),
]
Contrast = Literal["dark", "bright"]


def _or(text: str) -> Callable[[str], str]:
    """Return the hint for an option whose default is its value, or a text if that is None."""
    return lambda value: f"(default: {text if value == 'None' else value})"


@dataclasses.dataclass(frozen=True)
class TiltOptions:
    """Set the tilt geometry, from which the missing wedge follows."""

    tilt_range: Annotated[
        tuple[float, float] | None, arg(metavar="LO HI", help_behavior_hint=_or("unknown"))
    ] = None
    """Lowest and highest tilt in degrees. The missing wedge follows from it."""
    tilt_axis: Literal["y", "x"] = "y"
    """Axis that the sample was tilted about."""
    tilt_from: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(default: none)")] = (
        None
    )
    """File of the tilt series that gives the tilt range instead: .tlt, .rawtlt, .mdoc, .aln of
    AreTomo, .tomostar or .xml of Warp, or .star of RELION; `cryojax-seg info FILE` shows
    what it says."""

    def wedge(self, required: bool = False) -> Any:
        """Return the missing wedge; None if the tilt range is not given.

        Raises:
            ValueError: if it is required and not given.
        """
        if self.tilt_range is None:
            if required:
                raise ValueError(
                    "--tilt-range LO HI is needed to compute the missing wedge; give -90 90 if "
                    "nothing is missing"
                )
            return None
        from cryojax_seg.core import MissingWedge

        return MissingWedge(self.tilt_range, self.tilt_axis)


@dataclasses.dataclass(frozen=True)
class VolumeOptions(TiltOptions):
    """Describe the tomograms where their files do not."""

    voxel_size: VoxelSize = None
    contrast: Annotated[
        Contrast | None, arg(metavar="{dark,bright}", help_behavior_hint=_or("that of the model"))
    ] = "dark"
    """Whether structure is darker or brighter than its surroundings."""


def check_tilts(typed: Sequence[str], config: dict[str, Any]) -> None:
    """Refuse two sources of the tilt range; what is typed removes the other one from a file.

    Args:
        typed: words of the command line.
        config: options of a configuration file, from which one may be removed.

    Raises:
        ValueError: if --tilt-range and --tilt-from are both typed, or both in the file.
    """
    names = {
        word.partition("=")[0].lstrip("-").replace("-", "_") for word in typed if word[:2] == "--"
    }
    for first, second in (("tilt_range", "tilt_from"), ("tilt_from", "tilt_range")):
        if {first, second} <= names or {first, second} <= config.keys():
            raise ValueError(
                "--tilt-range and --tilt-from both say what the tilts were; give one of them"
            )
        if first in names:
            config.pop(second, None)


def with_tilts(options: Any) -> Any:
    """Return options whose tilt range is that of the file that --tilt-from names.

    Raises:
        ValueError: if that is no file of a tilt series; it names the file.
    """
    if isinstance(options, TiltOptions):
        if options.tilt_from is None:
            return options
        from cryojax_seg import io

        low, high = io.read_tilt_series(options.tilt_from).tilt_range
        return dataclasses.replace(options, tilt_range=(low, high), tilt_from=None)
    groups = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}
    resolved = {n: with_tilts(v) for n, v in groups.items() if dataclasses.is_dataclass(v)}
    return dataclasses.replace(options, **resolved)
