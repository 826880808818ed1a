"""``cryojax-seg simulate``: tomograms with a truth, as many as wanted."""

import dataclasses
import functools
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import Output, Overwrite, Resume, default, flat
from cryojax_seg.cli.geometry import TiltOptions
from cryojax_seg.errors import ParameterError

# The mean of structures is then about 0.5 standard deviations above that of the background, as in
# real tomograms at 1 to 1.7 nm per voxel.
CONTRAST_SIGMA = 1.0

Preset = Literal[
    "vesicles",
    "organelles",
    "cytoskeleton",
    "crowded",
    "contrast_drift",
    "varied",
    "threshold_dilemma",
    "flat_bilayers",
]


@dataclasses.dataclass(frozen=True)
class Simulate:
    """Simulate tomograms of known structures, and write their ground truth.

    Writes a folder for each, PRESET-000 and so on, with tomogram.mrc, its halves even.mrc and
    odd.mrc (dark = dense), labels.mrc (0 background, 1 membrane, 2 lumen, 3 microtubule, 4 actin,
    5 macromolecule), instances.mrc, particles.star and truth.json.
    """

    preset: Positional[Preset]
    """Kind of sample to simulate."""
    output: Output
    """Folder for the folders of the tomograms."""
    shape: Annotated[tuple[int, int, int], arg(metavar="Z Y X")] = (64, 128, 128)
    """Shape of the volume in voxels."""
    voxel_size: Annotated[float, arg(metavar="ANGSTROM")] = 10.0
    """Voxel size in angstrom."""
    contrast_sigma: Annotated[float | None, default("SIGMA", f"{CONTRAST_SIGMA:g}")] = None
    """Contrast of structures in standard deviations of the noise, as the root mean square over
    their voxels. With 1, structures are as visible as in real tomograms; with 0.3, hardly."""
    snr: Annotated[float | None, default("RATIO", "the square of --contrast-sigma")] = None
    """Signal-to-noise ratio inside the structures, as a ratio of variances (no unit). It replaces
    --contrast-sigma."""
    tier: Literal["wedge", "tilt_series"] = "wedge"
    """Level of detail. 'wedge' applies the missing wedge and coloured noise, in milliseconds.
    'tilt_series' simulates projections, contrast transfer, thickness, radiation damage, electron
    counting and the reconstruction."""
    tilt_step: float = 3.0
    """Angle between tilts in degrees, for --tier tilt_series."""
    crowding: Annotated[float | None, default("FRACTION", "that of the preset")] = None
    """Fraction of the free volume that macromolecules fill, 0 to 0.3."""
    maps: Annotated[tuple[Path, ...], default("MAP ...", "none")] = ()
    """Density maps (MRC) of macromolecules that replace the ribosomes, proteasomes and small
    proteins of the preset. Voxels above Otsu's threshold count as protein."""
    count: int = 1
    """Number of tomograms."""
    seed: int = 0
    """Seed of all random numbers; the same seed gives the same tomograms."""
    resume: Resume = False
    overwrite: Overwrite = False
    tilt: TiltOptions = TiltOptions((-60.0, 60.0))


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
    config = {k: v for k, v in flat(options).items() if k not in left_out}
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
    console.say(
        f"{made} tomograms in {options.output}, {time.monotonic() - start:.0f} s; contrast "
        f"{imaging.snr**0.5:.2g} sigma, which is a signal-to-noise ratio of {imaging.snr:.2g}"
    )


def _imaging(options: Simulate) -> Any:
    """Return how the tomograms are imaged."""
    from cryojax_seg import simulate

    wedge, snr = options.tilt.wedge(), _signal_to_noise(options)
    if options.tier == "wedge":
        return simulate.WedgeImaging(snr=snr, wedge=wedge)
    if not 0 < options.tilt_step < float("inf"):
        raise ValueError(f"--tilt-step must be above 0 degrees, got {options.tilt_step:g}")
    low, high = wedge.tilt_range
    scheme = simulate.TiltScheme.every(options.tilt_step, low, high, tilt_axis=wedge.tilt_axis)
    return simulate.TiltSeriesImaging(simulate.Acquisition(scheme=scheme), snr)


def _signal_to_noise(options: Simulate) -> float:
    """Return the ratio of variances that the options ask for, the square of the contrast."""
    if options.snr is not None:
        if options.contrast_sigma is not None:
            raise ParameterError("give either contrast_sigma or snr", "contrast_sigma", "snr")
        return options.snr
    contrast = CONTRAST_SIGMA if options.contrast_sigma is None else options.contrast_sigma
    if not 0 < contrast < float("inf"):
        raise ParameterError(f"contrast_sigma must be above 0, got {contrast:g}", "contrast_sigma")
    return contrast**2
