"""Options of ``cryojax-seg segment``, in groups."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from cryojax_seg.cli.arguments import (
    AllowedModules,
    MeshSuffix,
    Output,
    Overwrite,
    Resume,
    Scenes,
    Tomograms,
    default,
    named,
)
from cryojax_seg.cli.geometry import VolumeOptions
from cryojax_seg.cli.projects import ProjectOptions


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Choose the program that computes, its memory and its tiles."""

    memory: float = 2.0
    """Maximum memory of each worker in GiB, whatever the size of the tomogram."""
    tile: Annotated[str, default("auto|N", "auto")] = "auto"
    """Edge of the tiles in voxels; 'auto' uses the largest that fit --memory."""
    halo: Annotated[
        str,
        default(
            "auto|exact|N",
            "auto",
            "Context around each tile, in voxels. 'exact' uses the full receptive field; 'auto' "
            "uses the smallest halo that changes logits by less than 0.1.",
        ),
    ] = "auto"
    engine: Literal["auto", "jax", "openvino"] = "auto"
    """Program that computes. 'auto' uses OpenVINO for networks on a CPU, else JAX."""
    precision: Literal["auto", "f32", "bf16"] = "auto"
    """Precision of networks. 'auto' uses bf16 where the GPU, or the CPU with OpenVINO, has units
    for it, if it keeps 99.5 % of the labels; otherwise f32."""


@dataclasses.dataclass(frozen=True)
class CleanOptions:
    """Clean the labels, and number the objects in them."""

    min_size: Annotated[
        tuple[str, ...],
        default(
            "NM3|CLASS=NM3 ...",
            "0",
            "Remove objects of less than this volume in nm^3, of every class or of those named.",
        ),
    ] = ()
    fill_holes: Annotated[
        tuple[str, ...],
        default(
            "NM3|CLASS=NM3 ...",
            "0",
            "Fill holes in objects up to this volume in nm^3, of every class or of those named.",
        ),
    ] = ()
    instances: bool = False
    """Also write NAME.instances.mrc with a number for each object. Membranes that touch are
    separate objects, by the lumens that they enclose; with --probabilities also those with gaps."""
    skeleton: Annotated[
        Literal["auto", "surface", "line"] | None,
        default(
            "{auto,surface,line}",
            "none",
            "Also write NAME.skeleton.mrc with the mid-surfaces of membranes and the centre lines "
            "of filaments, by the names of the classes, or with one of them for every class.",
        ),
    ] = None

    def settings(self) -> dict[str, Any]:
        """Return the options as `inference.segment_file` takes them."""
        given = {"min_size": self.min_size, "fill_holes": self.fill_holes}
        volumes = {name: _volumes(words, name) for name, words in given.items() if words}
        others = {"instances": self.instances, "skeleton": self.skeleton}
        return volumes | {name: value for name, value in others.items() if value}


def _volumes(words: tuple[str, ...], name: str) -> "float | dict[str, float]":
    """Return one volume for all classes, or a volume for each class that is named."""
    option = name.replace("_", "-")
    try:
        if len(words) == 1 and "=" not in words[0]:
            return float(words[0])
        pairs = named(words, option, "CLASS=NM3", "membrane=500")
        return {word: float(value) for word, value in pairs.items()}
    except ValueError as error:
        if str(error).startswith("--"):
            raise
        raise ValueError(
            f"--{option} {' '.join(words)}: give a volume in nm^3 such as 500, or one for each "
            "class such as membrane=500"
        ) from None


@dataclasses.dataclass(frozen=True)
class ManyOptions:
    """Divide many tomograms among processes or jobs."""

    shard: Annotated[str | None, arg(metavar="I/N", help_behavior_hint="(default: all)")] = None
    """Segment only every N-th tomogram from the I-th, counted from 0, as a job array does."""
    workers: Annotated[int, arg(metavar="N")] = 0
    """Number of processes that segment at the same time, each on a GPU of its own if there are
    any. 0 uses this process alone."""
    slurm: Annotated[Path | None, arg(metavar="YAML", help_behavior_hint="(default: none)")] = None
    """Run the workers as SLURM jobs that this file describes; the README shows one."""
    compile_only: bool = False
    """Compile the programs that the tomograms need, once before a job array starts, and segment
    nothing."""


@dataclasses.dataclass(frozen=True)
class Segment:
    """Segment tomograms with a model, and write a label volume for each on the same grid.

    The model is a built-in one (`cryojax-seg models` lists them), which needs neither training nor
    a network connection, or one of your own.

    For one tomogram --output may be a file (.mrc, .zarr, .nii or .nrrd). Otherwise it is a folder,
    and the labels of NAME.mrc go to NAME.labels.mrc in it; files of the same name get the names of
    their folders. Labels are 8-bit integers (MRC mode 0) with the voxel size and origin of the
    tomogram.
    They appear when they are complete; after an interruption the same command goes on.
    """

    model: Positional[Path]
    """Name of a built-in model, such as membrane, or folder RUN that `cryojax-seg train -o RUN`
    wrote; a folder of that name comes before a built-in model. For a first look without any model:
    sheet or tensor-voting for membranes, threshold for all that is dense."""
    tomograms: Tomograms
    """Volumes to segment: MRC (also .rec, .map, .gz, .bz2), TIFF, OME-Zarr, NIfTI, NRRD, EM,
    HDF5, Amira or NumPy."""
    output: Output
    """Label volume of one tomogram, or folder of label volumes."""
    format: Literal["mrc", "zarr", "nifti", "nrrd"] = "mrc"
    """Format of the files in a folder: MRC, OME-Zarr with coarser levels, names and colours for
    viewers, NIfTI or NRRD."""
    zarr: Literal["0.5", "0.4"] = "0.5"
    """Version of OME-Zarr. Programs that read Zarr 2 alone, such as copick 1, need 0.4."""
    probabilities: bool = False
    """Also write NAME.CLASS.probability.mrc for each class but background."""
    map_type: Literal["float16", "float32"] = "float16"
    """Type of the probability maps. EMAN2 and older programs do not read float16 (MRC mode 12);
    NIfTI and NRRD always hold float32."""
    threshold: Annotated[float | None, default("P", "chosen by the model")] = None
    """Probability above which a voxel belongs to the class, 0 to 1, for models of one class. By
    default it is that of the model, or 0.5; built-in models choose it for each tomogram."""
    flips: Literal["auto", "on", "off"] = "auto"
    """Average over the flips that leave the missing wedge unchanged, which is up to 8 times slower.
    By default this is done for a small U-Net such as unet-fast if the tilt range is known."""
    force: bool = False
    """Segment a tomogram whose voxels are over twice as large or small as those of the model."""
    dry_run: bool = False
    """Print the tiles of each tomogram and the memory that they take, and segment nothing."""
    report: Annotated[Path | None, default("FILE.html", "none")] = None
    """Also write a page with slices, projections and surfaces of the labels of one tomogram."""
    scene: Scenes = ()
    """Also write NAME.scene.cxc, NAME.scene_napari.py or NAME.scene.mod beside the labels, with
    which ChimeraX, napari or IMOD show them on the tomogram."""
    meshes: Annotated[MeshSuffix | None, default("{ply,obj,stl,glb,surf}", "none")] = None
    """Also write the boundary of each class beside the labels, NAME.CLASS.SUFFIX, in angstrom from
    the origin of the file. `measure --meshes` writes each object by itself."""
    resume: Resume = False
    overwrite: Overwrite = False
    allow_module: AllowedModules = ()
    project: ProjectOptions = ProjectOptions()
    volume: VolumeOptions = VolumeOptions(contrast=None)
    clean: CleanOptions = CleanOptions()
    run: RunOptions = RunOptions()
    many: ManyOptions = ManyOptions()
