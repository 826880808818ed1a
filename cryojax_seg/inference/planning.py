"""Plans the segmentation of a tomogram: the engine, the tiles, and the memory they need."""

import dataclasses
import logging
import math
from typing import Any, Unpack

import jax.numpy as jnp
import numpy as np
from flax import nnx

from cryojax_seg.core import (
    LocalOperator,
    Normalized,
    Rescaled,
    Segmenter,
    Tiling,
    Tomogram,
    fit_rescaled,
    label_names,
    labels,
    probabilities,
)
from cryojax_seg.core.plain import Shape
from cryojax_seg.core.tiling import (
    WASTE,
    compile_tiles,
    memory_for,
    plan_tiles,
    tiling_of,
)
from cryojax_seg.core.types import Logits
from cryojax_seg.errors import Mendable, ParameterError
from cryojax_seg.inference.cleaning import Cleaning, cleaning
from cryojax_seg.inference.contrast import (
    evidence,
    is_network,
    opposite,
    prefers,
    probes,
    turned,
    without_flips,
)
from cryojax_seg.inference.engine import BASE, Engine, bounded, choose_engine
from cryojax_seg.inference.model import Model
from cryojax_seg.inference.settings import Settings, check_settings, cleaning_of
from cryojax_seg.inference.thresholds import patches_of, thresholds_for
from cryojax_seg.inference.voxels import factor_for, sizes
from cryojax_seg.io import check_memory, read_tomogram
from cryojax_seg.io.files import PathLike
from cryojax_seg.io.intensity import normalized
from cryojax_seg.segmenters import Truncated, fit_halo, fit_normalization

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class LabelsAndMaps:
    """Turns logits ``(z, y, x, class)`` into int8 labels and, on request, float16 maps.

    Attributes:
        thresholds: of each class except the background, see `core.labels`; none for 0.5.
        maps: whether to return a map for each class except the background.

    >>> labels, probability = LabelsAndMaps((), True)(jnp.full((1, 1, 1, 1), 3.0))
    >>> int(labels[0, 0, 0]), round(float(probability[0, 0, 0]), 2)
    (1, 0.95)
    """

    thresholds: tuple[float, ...]
    maps: bool

    def __call__(self, logits: Logits) -> Any:
        found = labels(logits, self.thresholds).astype(jnp.int8)
        if not self.maps:
            return (found,)
        one, p = logits.shape[-1] == 1, probabilities(logits)
        shown = range(0 if one else 1, p.shape[-1])
        return found, *(p[..., i].astype(jnp.float16) for i in shown)


@dataclasses.dataclass(frozen=True)
class Saving:
    """Holds the saving of computation that more memory would bring.

    Attributes:
        memory: the memory that brings it, in GiB.
        computed: the number of voxels computed for each voxel of the volume with that memory.
    """

    memory: float
    computed: float


@dataclasses.dataclass(frozen=True)
class Plan:
    """Describes how one tomogram is segmented; `str` says it in words.

    Returned by `plan`.

    Attributes:
        tomogram: the tomogram as read.
        volume: the same tomogram, normalized block by block as it is read.
        segmenter: the segmenter, fitted to the tomogram; a `core.Rescaled` if the tomogram has
            other voxels than the model.
        tiling: the tiles.
        postprocess: the function that turns logits into labels and maps.
        engine: the engine that computes the logits.
        bytes_per_voxel: memory of a tile for each of its voxels, with its halo.
        cleaning: how the labels are cleaned afterwards.
    """

    tomogram: Tomogram
    volume: Normalized
    segmenter: Segmenter
    tiling: Tiling
    postprocess: LabelsAndMaps
    engine: Engine
    bytes_per_voxel: float
    cleaning: Cleaning

    @property
    def memory(self) -> float:
        """Return the most memory that the process needs, in GiB."""
        return (math.prod(self.tiling.padded) * self.bytes_per_voxel + self.engine.base) / 2**30

    @property
    def saving(self) -> Saving | None:
        """Return the saving that more memory would bring; None if it is small."""
        return saved_by_memory(self.segmenter, self.tiling, self.bytes_per_voxel, self.engine.base)

    def compile(self) -> None:
        """Compile the programs of the plan, for a later process with the same compilation cache."""
        program = self.engine.program(self.segmenter, self.tiling.padded)
        if program is None:
            compile_tiles(self.segmenter, self.tiling, self.postprocess)
        else:  # a program of its own compiles when it is called
            program(np.zeros(self.tiling.padded, np.float32))

    def __str__(self) -> str:
        tiling, exact = self.tiling, exact_halo(self.segmenter)
        of = f" of {exact}" if exact > self.segmenter.halo else ""
        tiles = "1 tile" if tiling.count == 1 else f"{tiling.count} tiles"
        return (
            f"{_times(tiling.shape)} voxels in {tiles} of {_times(tiling.tile)} with a halo of "
            f"{tiling.halo} voxels{of}: {tiling.waste:.2f} voxels computed for each, about "
            f"{self.memory:.1f} GiB of memory at most, in {self.engine.precision}{self._resampled}"
        )

    @property
    def _resampled(self) -> str:
        """Return the voxels to which the tomogram is resampled, in words; nothing if it is not."""
        parts = [m for _, m in nnx.iter_modules(self.segmenter) if isinstance(m, Rescaled)]
        if not parts or self.tomogram.voxel_size is None:
            return ""
        pairs = zip(self.tomogram.voxel_size, parts[0].factor, strict=True)
        return f", resampled to voxels of {sizes([size / factor for size, factor in pairs])} A"


def exact_halo(segmenter: Segmenter) -> int:
    """Return the halo of a segmenter without `Truncated`.

    >>> from cryojax_seg.segmenters import LinearVote
    >>> exact_halo(Rescaled(Truncated(LinearVote(4), 1), 0.5)) == Rescaled(LinearVote(4), 0.5).halo
    True
    """
    match segmenter:
        case Truncated():
            return exact_halo(segmenter.segmenter)
        case Rescaled() if isinstance(segmenter.segmenter, Truncated):
            return segmenter.around(segmenter.segmenter.segmenter).halo
    return segmenter.halo


def _times(shape: Shape) -> str:
    return " x ".join(map(str, shape))


def saved_by_memory(
    operator: LocalOperator, tiling: Tiling, each: float, base: float = BASE
) -> Saving | None:
    """Return the saving of a tiling that more memory would bring; None if it is small.

    Args:
        operator: a segmenter or restorer.
        tiling: of a volume.
        each: bytes per computed voxel.
        base: bytes that the process takes without tiles.

    >>> from cryojax_seg.core.tiling import tiling_of
    >>> from cryojax_seg.restore import Gaussian
    >>> tiling = tiling_of(Gaussian(4.0), (64, 64, 64), 16)
    >>> saving = saved_by_memory(Gaussian(4.0), tiling, 40.0)
    >>> saving is not None and saving.computed < 0.9 * tiling.waste
    True
    >>> whole = tiling_of(Gaussian(4.0), (64, 64, 64), 64)
    >>> saved_by_memory(Gaussian(4.0), whole, 40.0) is None
    True
    """
    if tiling.waste <= WASTE:
        return None
    memory, better = memory_for(operator, tiling.shape, each=each)
    if better.waste > 0.9 * tiling.waste:
        return None
    return Saving(math.ceil((memory + base) / 2**30 * 10) / 10, better.waste)


def plan(model: Model, tomogram: Tomogram | PathLike, **settings: Unpack[Settings]) -> Plan:
    """Measure the intensities of a tomogram and divide it into tiles, without segmenting it.

    Args:
        model: the model, see `load`.
        tomogram: the tomogram in memory, or the path of a file.
        settings: see `Settings`.

    Raises:
        ValueError: naming a setting that is invalid, or one that this model cannot use.
        FileError: if the tomogram cannot be read, or holds no two different values.

    >>> from cryojax_seg.segmenters import LinearVote
    >>> noise = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
    >>> print(plan(Model(LinearVote(2)), Tomogram(noise), engine="jax").tiling.count)
    1
    """
    check_settings(**settings)
    segmenter, card, halo = model.segmenter, model.card, settings.get("halo", "auto")
    threshold = settings.get("threshold")
    if len(segmenter.classes) > 1 and threshold is not None:
        raise ParameterError(
            f"threshold is for models of one class; this one has {', '.join(segmenter.classes)} "
            "and a threshold of its own for each",
            "threshold",
        )
    if not isinstance(tomogram, Tomogram):
        tomogram = read_tomogram(tomogram, settings.get("voxel_size"), mmap=True)
    engine = settings.get("engine", "auto")
    if not isinstance(engine, Engine):
        engine = choose_engine(engine, settings.get("precision", "auto"), segmenter)
    factor = factor_for(tomogram, card, settings.get("force", False))
    cleaned = cleaning(tomogram, label_names(segmenter.classes)[1:], **cleaning_of(settings))
    volume = normalized(tomogram, settings.get("contrast") or card.contrast)
    segmenter = model.fitted(tomogram, volume)
    rescaled = None if factor is None else fit_rescaled(segmenter, volume, factor)
    seen = volume if rescaled is None else rescaled.view(volume)  # by the segmenter itself
    # Statistics are best measured as in training.
    patch = card.patch or 64
    fitted = fit_normalization(segmenter, seen, patch=patch, measure=engine.measure)
    if settings.get("contrast") is None and is_network(segmenter):
        other = fit_normalization(segmenter, turned(seen), patch=patch, measure=engine.measure)
        blocks = probes(seen, patch, segmenter.stride)
        expected, found = (
            [evidence(run(sign * block)) for block in blocks]
            for sign, run in (
                (np.float32(1), engine.run(without_flips(fitted))),
                (np.float32(-1), engine.run(without_flips(other))),
            )
        )
        if prefers(found, expected):
            volume, seen, fitted = turned(volume), turned(seen), other
            rescaled = rescaled and rescaled.turned()
            log.warning(
                Mendable(
                    f"{tomogram.name}: the model is more certain of {opposite(card.contrast)} than "
                    f"of {card.contrast} structure, so {opposite(card.contrast)} is taken; give "
                    "the contrast if that is wrong",
                    "contrast",
                )
            )

    thresholds = (card.thresholds or ()) if threshold is None else (threshold,)
    # Models that come with the package are calibrated, for tomograms of all kinds. Other models
    # have thresholds that suit annotation, often of the same tomogram.
    if threshold is None and card.provenance.get("built_in"):
        run = engine.run(without_flips(fitted))
        blocks = probes(seen, patch, segmenter.stride, patches_of(seen.shape, patch))
        logits = [np.asarray(run(block)) for block in blocks]
        thresholds = thresholds_for(logits, label_names(segmenter.classes)[1:], thresholds)
    postprocess = LabelsAndMaps(thresholds, settings.get("probabilities", False))

    def on_grid(segmenter: Segmenter) -> Segmenter:
        return segmenter if rescaled is None else rescaled.around(segmenter)

    whole = on_grid(fitted)
    engine = bounded(engine, whole, volume, tomogram.name)
    each = engine.bytes_per_voxel(whole, postprocess)

    def cut(segmenter: Segmenter) -> Tiling:
        if (tile := settings.get("tile")) is not None:
            return tiling_of(segmenter, volume.shape, tile)
        memory = settings.get("memory", 2.0) * 2**30 - engine.base
        return plan_tiles(segmenter, volume.shape, memory, each=each)

    tiling = cut(whole)
    # Of one tile too where the halo is most of the work, unless it had to be measured first.
    known = halo != "auto" or card.halo is not None
    if halo != "exact" and (tiling.count > 1 or (known and tiling.waste > WASTE)):
        if halo != "auto":
            whole = Truncated(whole, halo)
        elif card.halo is not None:
            whole = on_grid(Truncated(fitted, card.halo))
        else:
            run = Engine(engine.name, "f32").run(fitted)
            whole = on_grid(fit_halo(fitted, seen, run=run)[0])
        tiling = cut(whole)
    # A block as it is read and as it is computed; the rest depends on the method.
    advice = f"its tiles have a halo of {tiling.halo} voxels: give a smaller halo"
    check_memory(tomogram.name, 8 * math.prod(tiling.padded), advice)
    whole = engine.segmenter(whole)
    return Plan(tomogram, volume, whole, tiling, postprocess, engine, each, cleaned)
