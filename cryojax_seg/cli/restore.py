"""``cryojax-seg restore``: a tomogram with less noise and a filled missing wedge."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import Output, Overwrite, Seed, default, flat
from cryojax_seg.cli.geometry import VolumeOptions
from cryojax_seg.cli.projects import ProjectOptions, Publish
from cryojax_seg.training.config import RestorerMethod


@dataclasses.dataclass(frozen=True)
class DeconvolutionOptions:
    """Describe the microscope, for --method deconvolution."""

    defocus: Annotated[float | None, default("MICROMETRE", "required by deconvolution")] = None
    """Defocus of the untilted image in micrometre; underfocus is positive."""
    voltage: float = 300.0
    """Acceleration voltage of the microscope in kilovolt."""
    strength: float = 1.0
    """Factor of the assumed signal-to-noise ratio (no unit). Higher values sharpen more."""
    phase_flipped: bool = False
    """Whether the signs of the contrast transfer were corrected before reconstruction."""


@dataclasses.dataclass(frozen=True)
class LearningOptions:
    """Change how a network learns; the filters ignore these options."""

    steps: Annotated[int | None, default("INT", "400, 700 for simulated")] = None
    """Number of optimizer steps."""
    batch: int = 2
    """Patches per step."""
    patch: Annotated[int | None, default("INT", "32, 48 for simulated")] = None
    """Edge of the training patches in voxels, a multiple of 4."""
    width: Annotated[int | None, default("INT", "8, 16 for simulated")] = None
    """Number of channels of the finest level of the U-Net. A wide network that learns for long from
    one small tomogram memorizes its noise."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW (no unit)."""
    phantoms: int = 32
    """Number of phantoms that --method simulated learns from. Making 32 takes most of a minute."""
    samples: int = 4
    """Number of samples that --method energy draws; it writes their standard deviation."""
    seed: Seed = 0


@dataclasses.dataclass(frozen=True)
class Restore:
    """Restore a tomogram: remove its noise, or fill its missing wedge as well.

    By default Wiener's filter removes noise, with the spectrum of the noise from --halves, or from
    the tomogram if its noise is white. Other methods train a network on the tomogram without
    labels, for which --tilt-range is needed. Beside OUT.mrc the command writes the folder OUT.run
    with the model, checkpoints and audit.json, which says how well the result agrees with the
    measured data and, with --tilt-range, how much power it adds in the missing wedge. Ctrl-C saves
    and stops; the same command with --resume goes on.
    """

    tomogram: Positional[Path]
    """Volume to restore: MRC (also .rec, .map, .gz, .bz2), TIFF, OME-Zarr, NIfTI, NRRD, EM,
    HDF5, Amira or NumPy."""
    output: Output
    """File for the restored volume, .mrc or .zarr. Contrast and grid are those of the tomogram."""
    halves: Annotated[
        tuple[Path, Path] | None, arg(metavar="EVEN ODD", help_behavior_hint="(default: none)")
    ] = None
    """Half-maps with independent noise, from even and odd tilts or frames of the same series."""
    model: Annotated[
        Path | None, arg(metavar="FOLDER", help_behavior_hint="(default: none, see --method)")
    ] = None
    """Folder NAME.run of a restorer that was trained before, such as on another tomogram. It is
    applied as it is, instead of a --method."""
    method: Annotated[
        RestorerMethod | Literal["wiener", "deconvolution"] | None,
        arg(help_behavior_hint="(default: wiener, without --model)"),
    ] = None
    """Method of restoration. 'wiener' is the Wiener filter estimated from two
    half-maps with independent noise, or from the tomogram; it and 'deconvolution' take seconds. The
    others train a network on the tomogram: 'n2n' removes noise only, and 'energy' also writes a map
    of the uncertainty. 'simulated' learns from phantoms of this voxel size and tilt range instead.
    It is accurate when the sample resembles the phantoms, and unreliable when it does not."""
    memory: float = 2.0
    """Maximum memory for applying the method, in GiB."""
    publish: Publish = None
    """Also write the restored volume into a copick project, as a tomogram of the type NAME."""
    resume: bool = False
    """Continue the run beside --output from its newest checkpoint."""
    overwrite: Overwrite = False
    project: ProjectOptions = ProjectOptions()
    volume: VolumeOptions = VolumeOptions()
    learning: LearningOptions = LearningOptions()
    deconvolution: DeconvolutionOptions = DeconvolutionOptions()


def run(options: Restore) -> None:
    """Run `Restore`; a ValueError or OSError says in one line what is wrong."""
    trained = options.method not in (None, "wiener", "deconvolution")
    wedge = options.volume.wedge(required=trained)
    if options.model is not None and options.method is not None:
        raise ValueError("--model is a restorer that was trained before; leave --method out")
    if options.method == "deconvolution" and options.deconvolution.defocus is None:
        raise ValueError("--method deconvolution needs --defocus, in micrometre")
    from cryojax_seg import inference, io, report, runtime
    from cryojax_seg.training import Interrupted

    published = None
    if options.publish is not None:
        tomogram = io.read_tomogram(options.tomogram, options.volume.voxel_size, mmap=True)
        published = io.publication(
            options.publish,
            ["tomogram"],
            options.project.run,
            tomogram,
            overwrite=options.overwrite or options.resume,
        )

    runtime.keep_compiled()
    runtime.keep_memory()
    try:
        with console.tracked(options.output.name) as progress:
            done = inference.restore_file(
                options.tomogram,
                options.output,
                wedge,
                method=_method(options),
                halves=options.halves,
                memory=options.memory,
                contrast=options.volume.contrast or "dark",
                voxel_size=options.volume.voxel_size,
                resume=options.resume,
                overwrite=options.overwrite,
                progress=progress,
                **flat(options.learning),
            )
    except Interrupted as interrupt:
        folder = options.output.with_suffix(".run")
        console.say(f"interrupted; {folder} is kept; the same command with --resume goes on")
        raise SystemExit(128 + interrupt.signal) from None
    if published is not None:
        published.write_volume(options.output)
    if done.audit is None:
        print(f"{options.output}: is done already")
        return
    console.table(*report.audit_table(done.audit))
    print(f"restored: {options.output} (run: {done.run})")


def _method(options: Restore) -> Any:
    """Return the method as `inference.restore_file` takes it."""
    from cryojax_seg import inference

    if options.model is not None:
        return inference.load_pretrained(options.model)
    if options.method != "deconvolution":
        return options.method or "wiener"
    from cryojax_seg.core.ctf import ContrastTransfer

    given = options.deconvolution
    defocus = 1e4 * (given.defocus or 0.0)  # micrometre to angstrom
    transfer = ContrastTransfer(defocus, voltage=given.voltage)
    return inference.Deconvolution(transfer, given.strength, given.phase_flipped)
