"""Restores a file by a filter or a network that is fitted to it, and audits the result."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any, Unpack

from cryojax_seg.core import LocalOperator, MissingWedge, Normalized
from cryojax_seg.core.plain import Contrast
from cryojax_seg.errors import ParameterError
from cryojax_seg.evaluate.restoration import Audit, audit
from cryojax_seg.inference import restored
from cryojax_seg.inference.model import operator_digest
from cryojax_seg.inference.restored import Source
from cryojax_seg.inference.restorers import (
    Deconvolution,
    Method,
    Pretrained,
    learns,
    method_name,
    takes_halves,
)
from cryojax_seg.inference.segmentation import Progress
from cryojax_seg.io import (
    MODEL_FILES,
    FileError,
    ModelCard,
    OutputSet,
    check_places,
    folder_made,
    is_begun,
    is_half_published,
    model_digest,
    read_tomogram,
    save_model,
    zarr_folders,
)
from cryojax_seg.io.files import PathLike, exists_already
from cryojax_seg.restore import ctf_deconvolution
from cryojax_seg.training import rundir
from cryojax_seg.training.restorers import (
    Learning,
    check_learning,
    fit_restorer,
    fit_wiener_to,
    schedule,
)

AUDIT, SPREAD = "audit.json", "spread.mrc"
_COMPLETE = MissingWedge((-90.0, 90.0))


@dataclasses.dataclass(frozen=True)
class Restored:
    """Describes the results of a restoration.

    Returned by `restore_file`.

    Attributes:
        volume: the restored volume that was written.
        run: the folder with the model, its checkpoints, audit.json and spread.mrc.
        audit: how the restored volume relates to the data; None if the file was done already.
        seconds: the time that it took.
    """

    volume: Path
    run: Path
    audit: Audit | None
    seconds: float


@dataclasses.dataclass(frozen=True)
class _Task:
    """Holds the arguments of `restore_file`."""

    source: Path
    target: Path
    wedge: MissingWedge | None
    method: Method
    halves: tuple[Path, ...] | None
    samples: int
    memory: float
    contrast: Contrast
    voxel_size: Any
    resume: bool
    overwrite: bool
    progress: Progress | None
    learning: Learning

    @property
    def run(self) -> Path:
        """Return the folder of the model and its checkpoints."""
        return self.target.with_suffix(".run")

    @property
    def name(self) -> str:
        """Return the method in one word."""
        return method_name(self.method)

    @property
    def inputs(self) -> list[Path]:
        """Return the files that are read."""
        return [self.source, *(self.halves or ())]

    def job(self) -> dict[str, Any]:
        """Return everything that decides the result, as plain values."""
        method = self.method.restorer if isinstance(self.method, Pretrained) else self.method
        keys = ("wedge", "halves", "samples", "contrast", "voxel_size", "learning")
        values = {key: getattr(self, key) for key in keys}
        told = operator_digest(method) if isinstance(method, LocalOperator) else method
        return {"restore": told, **values}


def restore_file(
    source: PathLike,
    target: PathLike,
    wedge: MissingWedge | None = None,
    *,
    method: Method = "wiener",
    halves: tuple[PathLike, PathLike] | None = None,
    samples: int = 4,
    memory: float = 2.0,
    contrast: Contrast = "dark",
    voxel_size: Any = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    **learning: Unpack[Learning],
) -> Restored:
    """Restore a tomogram: fit a filter or train a network, apply it, and audit the result.

    Beside the target NAME.mrc the folder NAME.run is written, with the model, checkpoints and
    audit.json. All files appear when they are complete. An interrupted training continues with
    ``resume=True``.

    Args:
        source: a tomogram, in any format that `io.read_tomogram` reads.
        target: the restored volume, .mrc or .zarr, with the contrast and grid of the source.
        wedge: the missing wedge of the source; None if unknown, which is enough for what is not
            trained on it.
        method: "wiener", the default, and a `Deconvolution` are filters. "equivariant" and the
            others of `training.fit_restorer` train a network; "energy" also writes
            NAME.run/spread.mrc, a map of the standard deviation of its samples. A restorer that was
            trained before is loaded by `load_pretrained`; any other can be passed as well.
        halves: two tomograms of the same series with independent noise.
        samples: number of samples of "energy" whose mean and standard deviation are written.
        memory: the most memory that the process may use while the restorer is applied, in GiB.
        contrast: whether structure is darker or brighter than its surroundings.
        voxel_size: voxel size in angstrom, for a file that does not state it.
        resume: whether to continue an interrupted run, or apply it again.
        overwrite: whether to replace an existing target and its run.
        progress: called with the number of tiles done and of all tiles; a training shows its own
            progress if this is given.
        learning: see `training.restorers.Learning`.

    Raises:
        FileError: if a file cannot be read, or exists.
        BusyError: if another process is writing the target.
        ValueError: for invalid settings, or settings that the method does not have.
        TrainingError: if the run folder is in use, or holds a run of other settings.
        Interrupted: if a signal ended the training; its progress is saved.
        OSError: if the disk is full.

    >>> import tempfile
    >>> import numpy as np
    >>> from cryojax_seg.io import write_mrc
    >>> from cryojax_seg.restore import Gaussian
    >>> folder = Path(tempfile.mkdtemp())
    >>> noise = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
    >>> write_mrc(folder / "t.mrc", noise, voxel_size=10.0)
    >>> source, target = folder / "t.mrc", folder / "smooth.mrc"
    >>> done = restore_file(source, target, method=Gaussian(1.0))
    >>> done.volume.name, done.run.name
    ('smooth.mrc', 'smooth.run')
    """
    pair = None if halves is None else tuple(Path(half) for half in halves)
    if isinstance(method, Pretrained):
        learning["patch"] = method.card.patch
    task = _Task(
        Path(source), Path(target), wedge, method, pair, samples, memory, contrast, voxel_size,
        resume, overwrite, progress, learning,
    )  # fmt: skip
    start = time.monotonic()
    _check(task)
    inside = [task.run / rundir.MODEL, task.run / AUDIT]
    if method == "energy":
        inside.append(task.run / SPREAD)
    with (
        folder_made(task.target.parent),
        rundir.exclusive(task.run) as run,
        OutputSet(
            task.job(),
            [task.target, *inside],
            task.inputs,
            overwrite or resume,
            zarr_folders([task.target]) | {task.run / rundir.MODEL: MODEL_FILES},
        ) as outputs,
    ):
        if outputs.finished:
            return Restored(task.target, task.run, None, 0.0)
        _check_run(task, bool(outputs.recorded))
        found = _restore(task, run, outputs)
    return Restored(task.target, task.run, found, time.monotonic() - start)


def _restore(task: _Task, run: rundir.Held, outputs: OutputSet) -> Audit:
    """Restore into outputs and a run folder that are held."""
    source = restored.read(task.source, task.halves, task.contrast, task.voxel_size)
    tomogram, volume = source.tomogram, source.volume
    if isinstance(task.method, Pretrained):
        task.method.check(tomogram)
    started = bool(outputs.recorded)  # by the same call, which was interrupted
    if task.overwrite and not started:
        rundir.clear(task.run)
        for name in (AUDIT, SPREAD):
            (task.run / name).unlink(missing_ok=True)
    outputs.record()
    restorer, steps = _restorer(task, source, run, task.resume or started)
    patch = schedule(task.name, volume.shape, **task.learning).patch
    tilts = None if task.wedge is None else task.wedge.tilt_range
    card = ModelCard(
        voxel_size=tomogram.voxel_size,
        contrast=task.contrast,
        tilt_range=None if tilts is None else (float(tilts[0]), float(tilts[1])),
        patch=patch,
        provenance={"method": task.name, **steps},
    )
    model = outputs.place(task.run / rundir.MODEL)
    save_model(model, restorer, card, overwrite=True)
    if task.method == "energy":
        restored.write_samples(
            restorer, source, task.target, task.run / SPREAD, outputs,
            wedge=_known(task.wedge), samples=task.samples, seed=task.learning.get("seed", 0),
            patch=patch, memory=task.memory,
        )  # fmt: skip
    else:
        if not takes_halves(task.method):
            source = dataclasses.replace(source, halves=None)
        restored.write(
            restorer, source, task.target, outputs,
            model=model_digest(model), patch=patch, memory=task.memory, progress=task.progress,
        )  # fmt: skip
    written = read_tomogram(outputs.staged(task.target)).density
    found = audit(volume, Normalized(written, volume.intensity), _known(task.wedge))
    text = json.dumps(dataclasses.asdict(found), indent=1)
    outputs.place(task.run / AUDIT).write_text(text + "\n")
    return found


def _restorer(
    task: _Task, source: Source, run: rundir.Held, resume: bool
) -> tuple[LocalOperator, dict[str, int]]:
    """Return the restorer of this method, and the steps of its training if it was trained."""
    method, sizes = task.method, source.tomogram.voxel_size
    size = None if sizes is None else sum(sizes) / 3
    if isinstance(method, Pretrained):
        return method.restorer, {}
    if isinstance(method, LocalOperator):
        return method, {}
    try:
        if method == "wiener":
            return fit_wiener_to(source.volume, source.halves), {}
        if isinstance(method, Deconvolution):
            return ctf_deconvolution(
                method.transfer,
                sum(source.tomogram.require_voxel_size()) / 3,
                strength=method.strength,
                phase_flipped=method.phase_flipped,
            ), {}
    except ParameterError:
        raise
    except ValueError as error:
        raise FileError(f"{task.source}: {error}") from None
    result = fit_restorer(
        source.volume, _known(task.wedge), source.halves,
        method=method, voxel_size=size, name=str(task.source),
        run=run, resume=resume, progress=task.progress is not None, **task.learning,
    )  # fmt: skip
    return result.operator, {"steps": result.steps}


def _known(wedge: MissingWedge | None) -> MissingWedge:
    """Return the wedge, or that of which nothing is missing if it is unknown."""
    return _COMPLETE if wedge is None else wedge


def _check(task: _Task) -> None:
    """Raise the errors that can be found before anything is read."""
    if task.target.suffix not in (".mrc", ".zarr"):
        raise ValueError(f"{task.target}: is not a file that ends in .mrc or .zarr")
    if learns(task.method) and task.wedge is None:
        raise ParameterError(
            f"{task.name} learns what the missing wedge is; give the tilt range, -90 to 90 if "
            "nothing is missing",
            "tilt_range",
        )
    check_learning(task.name, task.halves, **task.learning)
    restored.check_memory(task.memory)
    if task.method == "energy" and task.samples < 2:
        raise ParameterError(f"samples must be 2 or more, got {task.samples}", "samples")
    if task.resume and task.overwrite:
        raise ParameterError("resume and overwrite exclude each other", "resume", "overwrite")
    check_places([task.target, task.run], task.inputs)
    if task.target.exists() and not task.overwrite and not is_half_published(task.target):
        raise exists_already(task.target)
    _check_run(task, is_begun(task.target))


def _check_run(task: _Task, started: bool) -> None:
    """Check the run folder; a run that the same call has started may continue."""
    used = rundir.is_used(task.run)
    if used and not started and not task.resume and not task.overwrite:
        raise FileError(
            f"{task.run}: holds a run; resume or overwrite it, or choose another target",
            "resume",
            "overwrite",
        )
    if task.resume and not used:
        raise FileError(f"{task.run}: there is no run to resume", "resume")
