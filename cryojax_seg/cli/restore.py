"""``cryojax-seg restore``: a tomogram with less noise and a filled wedge, learned from itself."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import (
    Contrast,
    Output,
    Overwrite,
    TiltRange,
    VoxelSize,
    default,
)
from cryojax_seg.training.config import RestorerMethod

# The options that `inference.restore_file` takes by the same name.
_PASSED = (
    *("halves", "samples", "memory", "contrast", "voxel_size", "resume", "overwrite"),
    *("steps", "batch", "patch", "width", "learning_rate", "phantoms", "seed"),
)


@dataclasses.dataclass(frozen=True)
class Restore:
    """Restore a tomogram: filter it, or train a network without labels, and apply that.

    Networks improve on Wiener's filter; the wedge and the noise are all they need to know. Beside
    OUT.mrc it writes the folder OUT.run with the model, checkpoints and audit.json: how far the
    result agrees with what was measured, and how much was put where nothing was. Ctrl-C saves and
    stops; the same command with --resume goes on.
    """

    tomogram: Positional[Path]
    """Volume to restore: MRC (also .rec, .map, .gz, .bz2), TIFF or OME-Zarr."""
    output: Output
    """File of the restored volume, .mrc or .zarr; contrast and grid are those of the tomogram."""
    halves: Annotated[tuple[Path, Path] | None, arg(metavar="EVEN ODD")] = None
    """Two tomograms of the same series with independent noise, of even and odd tilts or frames."""
    method: RestorerMethod | Literal["wiener", "deconvolution"] = "equivariant"
    """wiener and deconvolution are filters and take seconds. The others are trained on the
    tomogram: n2n removes noise only, and energy also writes a map of what is not known; but
    simulated learns from phantoms of this voxel size and tilt range, and sees what they hold."""
    defocus: Annotated[float | None, default("MICROMETRE", "required by deconvolution")] = None
    """Of the untilted image, positive under focus."""
    voltage: float = 300.0
    """Of the microscope in kilovolt, for deconvolution."""
    strength: float = 1.0
    """Of deconvolution: the assumed signal-to-noise ratio grows with it (no unit)."""
    phase_flipped: bool = False
    """Whether the signs of the contrast transfer were corrected before reconstruction."""
    tilt_range: Annotated[TiltRange, default("LO HI", "required")] = None
    """Lowest and highest tilt in degrees."""
    tilt_axis: Literal["y", "x"] = "y"
    """Axis the sample was tilted about."""
    steps: Annotated[int | None, default("INT", "400, 700 for simulated")] = None
    """Optimizer steps."""
    batch: int = 2
    """Patches per step."""
    patch: Annotated[int | None, default("INT", "32, 48 for simulated")] = None
    """Edge of the training patches in voxels; a multiple of 4."""
    width: Annotated[int | None, default("INT", "8, 16 for simulated")] = None
    """Channels of the finest level of the U-Net. On one small tomogram a wide network that learns
    for long learns the noise by heart."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW (no unit)."""
    phantoms: int = 32
    """How many are made, with --method simulated: most of a minute."""
    samples: int = 4
    """Answers whose spread is written, with --method energy."""
    memory: float = 2.0
    """GiB for the tiles it is applied to."""
    contrast: Contrast = "dark"
    """Whether structure is darker or brighter than its surroundings."""
    voxel_size: VoxelSize = None
    """Voxel size in angstrom."""
    seed: int = 0
    """Seed of all randomness."""
    resume: bool = False
    """Go on with the run beside --output from its newest checkpoint."""
    overwrite: Overwrite = False
    """Replace an existing output and its run."""


def run(options: Restore) -> None:
    """Run `Restore`; a ValueError or OSError says in one line what is wrong."""
    _check(options)
    from cryojax_seg import core, inference, runtime
    from cryojax_seg.training import Interrupted

    runtime.keep_compiled()
    runtime.keep_memory()
    given = {name: getattr(options, name) for name in _PASSED}
    wedge = core.MissingWedge(options.tilt_range, options.tilt_axis)
    try:
        with console.tracked(options.output.name) as progress:
            done = inference.restore_file(
                options.tomogram, options.output, wedge,
                method=_method(options), progress=progress, **given,
            )  # fmt: skip
    except Interrupted as interrupt:
        folder = options.output.with_suffix(".run")
        console.say(f"interrupted; {folder} is kept; the same command with --resume goes on")
        raise SystemExit(128 + interrupt.signal) from None
    if done.audit is None:
        print(f"{options.output}: is done already")
        return
    report(done.audit)
    print(f"restored: {options.output} (run: {done.run})")


def _method(options: Restore) -> Any:
    """The method as `inference.restore_file` takes it."""
    if options.method != "deconvolution":
        return options.method
    from cryojax_seg import inference
    from cryojax_seg.core.ctf import ContrastTransfer

    defocus = 1e4 * (options.defocus or 0.0)  # micrometre to angstrom
    transfer = ContrastTransfer(defocus, voltage=options.voltage)
    return inference.Deconvolution(transfer, options.strength, options.phase_flipped)


def _check(options: Restore) -> None:
    """What only the command line can tell to be wrong, before anything is read."""
    if options.tilt_range is None:
        raise ValueError("--tilt-range LO HI is needed: what was measured is all a restorer knows")
    if options.method == "deconvolution" and options.defocus is None:
        raise ValueError("--method deconvolution needs --defocus, in micrometre")


def report(found: Any) -> None:
    """Print an audit."""
    rows = [
        (f"{k:.2f}", *(console.number(v, 2) for v in values))
        for k, *values in zip(
            found.frequency, found.agreement, found.kept, found.filled, strict=True
        )
    ]
    overall = (found.agreement_overall, found.kept_overall, found.filled_overall)
    rows.append(("all", *(console.number(v, 2) for v in overall)))
    columns = ("1/voxel", "agreement", "power kept", "wedge filled")
    console.table("what the restored volume owes to the data", columns, rows)
