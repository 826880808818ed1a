"""Options of ``cryojax-seg train``, in groups."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from cryojax_seg.cli.arguments import AnnotationOptions, Output, Overwrite, Seed, Tomograms, default
from cryojax_seg.cli.geometry import VolumeOptions
from cryojax_seg.cli.projects import ProjectOptions
from cryojax_seg.training import methods, settings


@dataclasses.dataclass(frozen=True)
class LengthOptions:
    """Say when training ends if not after a number of steps."""

    until_converged: bool = False
    """End when the validation score no longer rises; a run without --steps does. A number of
    steps is then the limit."""
    minutes: Annotated[float | None, default("FLOAT", f"{settings.MINUTES} without --steps")] = None
    """Limit of --until-converged, which it implies, in minutes. The learning rate falls early
    enough to end within it."""

    def limit(self) -> float | None:
        """Return the limit in minutes; None to take all steps."""
        return settings.MINUTES if self.until_converged and self.minutes is None else self.minutes


@dataclasses.dataclass(frozen=True)
class ValidationOptions:
    """Say what the model is validated with, and how often."""

    hold_out: Annotated[Path | None, default("TOMOGRAM", "one of three or more")] = None
    """One of the tomograms, which is held out for validation entirely. Nothing is learned from
    it."""
    validate_every: Annotated[int | None, default("INT", "100, more for many tomograms")] = None
    """Steps between validations."""
    patience: int = 0
    """Stop after this many validations without improvement; 0 never stops early."""


@dataclasses.dataclass(frozen=True)
class NetworkOptions:
    """Change the size of a U-Net, for the methods unet, unet-fast and unet-large."""

    width: Annotated[int | None, default("INT", "by method, 16 or 32")] = None
    """Channels of the finest level. Each coarser level has twice as many."""
    depth: Annotated[int | None, default("INT", "by method, 1 to 3")] = None
    """Number of coarser levels."""
    stem: Annotated[
        Literal["none", "space_to_depth"] | None, default("{none,space_to_depth}", "by method")
    ] = None
    """What comes first: space_to_depth turns blocks of 2x2x2 voxels into channels, which makes a
    network of the same width several times faster."""


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """Change how the method learns; the defaults suit most tomograms."""

    batch: Annotated[int | None, default("INT", "2")] = None
    """Patches per step."""
    patch: Annotated[int | None, default("INT", "by method, 40 or 48")] = None
    """Edge of the training patches, in voxels."""
    learning_rate: Annotated[float | None, default("FLOAT", "by method, 0.001 to 0.05")] = None
    """Peak learning rate (no unit)."""
    optimizer: Annotated[
        Literal["adamw", "muon"] | None, default("{adamw,muon}", "muon for U-Nets, else adamw")
    ] = None
    """Optimizer. Muon learns in fewer steps, but only networks."""
    warmup: Annotated[float | None, default("FLOAT", "0.05")] = None
    """Steps in which the learning rate rises to its peak; below 1, their fraction of all steps."""
    ema: Annotated[float | None, default("FLOAT", "by method, 0.9 to 0.99")] = None
    """Decay per step of the running mean of the parameters, which is what is kept."""
    augment: Annotated[tuple[str, ...], default("NAME=P ...", "flip=1 intensity=0.5")] = ()
    """Probabilities of random changes of the patches: flip (0 or 1), rotate90, rotate, intensity,
    noise, blank, narrow (the tilt range), amplitude. Those that are not named stay as they are."""
    precision: Literal["f32", "bf16"] = "f32"
    """Precision of a network's products during training; use bf16 on GPUs and TPUs."""
    start: Annotated[Path | None, default("MODEL", "none")] = None
    """Model that was trained before, a folder RUN or the name of a built-in model such as
    membrane, from whose parameters the training begins. Classes are matched by name. It needs a
    third of the learning rate."""
    replay: Annotated[float | None, default("FRACTION", "0.5 with --start, else 0")] = None
    """Fraction of the patches of each step that come from simulated phantoms, so that a few
    slices do not overwrite what the model knew; 0 turns it off."""
    unlabelled: Annotated[tuple[Path, ...], default("TOMOGRAM ...", "none")] = ()
    """Tomograms without annotation that teach as well, by the missing wedge, where the model is
    sure of them. They need --tilt-range. A gain is not proven yet."""
    consistency: float = settings.CONSISTENCY
    """Weight of what --unlabelled tomograms teach (no unit)."""
    restorer: Annotated[Path | None, default("RUN", "none")] = None
    """Folder of a restorer (the .run folder of `cryojax-seg restore`) that is applied first."""
    joint: float = 0.0
    """Weight of the restorer's own loss (no unit). 0 keeps the restorer fixed; above 0 it learns
    along with the segmenter, which needs --tilt-range."""
    seed: Seed = 0


@dataclasses.dataclass(frozen=True)
class ProcessOptions:
    """Train in several processes, on several devices or machines."""

    distributed: bool = False
    """Join the other processes that Slurm or Open MPI started with this command."""
    coordinator: Annotated[str | None, default("HOST:PORT", "none")] = None
    """Address of process 0 and a free port there, where neither Slurm nor Open MPI started this
    process; give --processes and --process too."""
    processes: Annotated[int | None, default("N", "none")] = None
    """Number of processes that train together."""
    process: Annotated[int | None, default("I", "none")] = None
    """Index of this process, 0 to N-1."""


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a segmenter on annotated tomograms; a few annotated slices are enough to start.

    A part of the annotation is held out for validation, and the parameters that score best on it
    are kept. Writes RUN/model (for `cryojax-seg segment`), RUN/config.yaml, RUN/metrics.jsonl and
    checkpoints. Ctrl-C saves and stops; --resume goes on from there.
    """

    tomograms: Tomograms
    """Volumes to learn from: MRC, TIFF, OME-Zarr, NIfTI, NRRD, EM, HDF5, Amira or
    NumPy."""
    labels: Annotated[tuple[Path, ...], default("LABELS ...", "required")]
    """One label volume for each tomogram: integers, where 0 is background and 1, 2, ... are the
    classes."""
    output: Output
    """Folder RUN for the model and its training."""
    method: Annotated[
        str | None,
        default(f"{{{methods.NAMES}}}[@MODULE:FUNCTION]", f"{methods.USUAL}, or that of --start"),
    ] = None
    """Method to train. Append @MODULE:FUNCTION to replace its loss; the function takes (logits,
    labels, weights) or (segmenter, batch)."""
    steps: Annotated[int | None, default("INT", "until converged")] = None
    """Number of optimizer steps."""
    validation: Annotated[
        float | None, default("FLOAT", "0.2, or one whole tomogram of three or more")
    ] = None
    """Fraction of the annotation of each tomogram that is held out for validation, 0 to below 1;
    0 holds out nothing."""
    resume: bool = False
    """Continue the run in --output from its newest checkpoint."""
    overwrite: Overwrite = False
    config: Annotated[Path | None, default("FILE", "none")] = None
    """YAML file of these options ('steps: 500'), such as RUN/config.yaml. Options on the command
    line replace those of the file."""
    project: ProjectOptions = ProjectOptions()
    volume: VolumeOptions = VolumeOptions()
    annotation: AnnotationOptions = AnnotationOptions()
    length: LengthOptions = LengthOptions()
    held_out: ValidationOptions = ValidationOptions()
    network: NetworkOptions = NetworkOptions()
    training: TrainingOptions = TrainingOptions()
    several_processes: ProcessOptions = ProcessOptions()
