"""``cryojax-seg simulate``: tomograms with a truth, as many as wanted."""

import dataclasses
import functools
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import Output, Overwrite, Resume

Preset = Literal[
    "vesicles",
    "organelles",
    "cytoskeleton",
    "crowded",
    "contrast_drift",
    "threshold_dilemma",
    "flat_bilayers",
]


@dataclasses.dataclass(frozen=True)
class Simulate:
    """Make tomograms of known structures, with everything that is true about them.

    Writes a folder for each, PRESET-000 and so on, with tomogram.mrc, its halves even.mrc and
    odd.mrc (dark = dense), labels.mrc (0 background, 1 membrane, 2 lumen, 3 microtubule, 4 actin,
    5 macromolecule), instances.mrc, particles.star and truth.json.
    """

    preset: Positional[Preset]
    """Kind of sample to simulate."""
    output: Output
    """Folder for the tomograms."""
    shape: Annotated[tuple[int, int, int], arg(metavar="Z Y X")] = (64, 128, 128)
    """Size of the volume in voxels."""
    voxel_size: Annotated[float, arg(metavar="ANGSTROM")] = 10.0
    """Voxel size in angstrom."""
    snr: float = 0.1
    """Signal-to-noise ratio inside the structures: variance of the signal over that of the noise.
    Real tomograms have 0.02 to 1."""
    tier: Literal["wedge", "tilt_series"] = "wedge"
    """wedge: the missing wedge and coloured noise, in milliseconds. tilt_series: projections,
    contrast transfer, thickness, radiation damage, electrons and a reconstruction."""
    tilt_range: Annotated[tuple[float, float], arg(metavar="LO HI")] = (-60.0, 60.0)
    """Lowest and highest tilt in degrees."""
    tilt_step: float = 3.0
    """Degrees between tilts (tilt_series only)."""
    tilt_axis: Literal["y", "x"] = "y"
    """Axis the sample is tilted about."""
    crowding: Annotated[float | None, arg(help_behavior_hint="(default: of the preset)")] = None
    """Fraction of the free volume that macromolecules fill, 0 to 0.3."""
    maps: Annotated[tuple[Path, ...], arg(metavar="MAP ...")] = ()
    """Density maps (MRC) of macromolecules to place instead of ribosomes, proteasomes and small
    proteins. What exceeds Otsu's threshold is taken for solid protein."""
    count: int = 1
    """How many tomograms."""
    seed: int = 0
    """Seed of the first; the same seed gives the same tomograms."""
    resume: Resume = False
    overwrite: Overwrite = False


def run(options: Simulate) -> None:
    """Run `Simulate`; a ValueError or OSError says in one line what is wrong."""
    from cryojax_seg import io, runtime, simulate

    runtime.keep_compiled()
    runtime.keep_memory()
    imaging = _imaging(options)
    make = functools.partial(
        simulate.simulate_preset,
        options.preset,
        options.shape,
        options.voxel_size,
        imaging,
        seed=options.seed,
        crowding=options.crowding,
        species=io.read_density_maps(options.maps),
    )
    start, left_out = time.monotonic(), ("output", "count", "resume", "overwrite", "maps")
    config = {k: v for k, v in dataclasses.asdict(options).items() if k not in left_out}
    with console.tracked("simulating") as progress:
        made = io.write_phantoms(
            options.output,
            options.preset,
            options.count,
            lambda number: make(number=number),
            imaging=imaging,
            config=config,
            inputs=options.maps,
            resume=options.resume,
            overwrite=options.overwrite,
            progress=progress,
        )
    console.say(f"{made} tomograms in {options.output}, {time.monotonic() - start:.0f} s")


def _imaging(options: Simulate) -> Any:
    """Return how the tomograms are imaged."""
    from cryojax_seg import core, simulate

    wedge = core.MissingWedge(options.tilt_range, options.tilt_axis)
    if options.tier == "wedge":
        return simulate.WedgeImaging(snr=options.snr, wedge=wedge)
    if not 0 < options.tilt_step < float("inf"):
        raise ValueError(f"--tilt-step must be above 0 degrees, got {options.tilt_step:g}")
    low, high = options.tilt_range
    scheme = simulate.TiltScheme.every(options.tilt_step, low, high, tilt_axis=options.tilt_axis)
    return simulate.TiltSeriesImaging(simulate.Acquisition(scheme=scheme), options.snr)
