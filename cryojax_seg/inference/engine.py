"""Chooses the engine of a segmentation: JAX, or OpenVINO, where networks are faster on a CPU."""

import dataclasses
import functools
import logging
from typing import Any, Literal

import jax

from cryojax_seg import export
from cryojax_seg.core import tiling
from cryojax_seg.inference.contrast import is_network
from cryojax_seg.runtime.devices import Sharded
from cryojax_seg.segmenters import disagreement, in_bfloat16
from cryojax_seg.segmenters.normalization import Measure, measure_statistics
from cryojax_seg.text import percent

log = logging.getLogger(__name__)
Name = Literal["auto", "jax", "openvino"]
Precision = Literal["auto", "f32", "bf16"]
BASE = 0.9 * 2**30  # bytes that a process takes without tiles: libraries, compiled programs
# The same with OpenVINO, and its bytes per voxel beside the network, as peaks of whole runs show:
# blocks that are read, two copies of the logits, and answers, of which two exist at a time.
_OPENVINO_BASE = 0.65 * 2**30
_BLOCKS, _LOGIT, _ANSWER = 9, 8, 2
MOST = 0.005  # share of voxels that bf16 may label differently before it is given up


@dataclasses.dataclass(frozen=True)
class Engine:
    """Runs a segmenter in a precision that it supports.

    Returned by `choose_engine`.
    """

    name: Literal["jax", "openvino"]
    precision: Literal["f32", "bf16"]

    def segmenter(self, segmenter: Any) -> Any:
        """Return the segmenter that JAX runs in this precision."""
        low = self.name == "jax" and self.precision == "bf16"
        return in_bfloat16(segmenter) if low else segmenter

    def program(self, segmenter: Any, shape: tuple[int, ...]) -> Any:
        """Return the program that `core.apply_tiles` runs on blocks; None for JAX on one device."""
        if self.name == "jax":
            return Sharded(segmenter) if jax.local_device_count() > 1 else None
        return export.OpenVINOProgram(segmenter, shape, self.precision)

    @property
    def measure(self) -> Measure:
        """Return the function that measures the statistics of networks."""
        return measure_statistics if self.name == "jax" else export.measure_statistics

    @property
    def base(self) -> float:
        """Return the bytes that a process takes without tiles."""
        return BASE if self.name == "jax" else _OPENVINO_BASE

    def bytes_per_voxel(self, segmenter: Any, postprocess: Any) -> float:
        """Return the memory of a block per voxel; only JAX compiles its program for that."""
        if self.name == "jax":
            return tiling.bytes_per_voxel(self.segmenter(segmenter), postprocess)
        classes = len(segmenter.classes)
        answers = 1 + 2 * len(segmenter.classes) * postprocess.maps
        beside = _BLOCKS + _LOGIT * classes + _ANSWER * answers
        return export.memory_per_voxel(segmenter, self.precision) + beside

    def run(self, segmenter: Any) -> Any:
        """Return a function from blocks of any shape to their logits."""
        if self.name == "jax":
            lowered, logits = self.segmenter(segmenter), jax.jit(lambda s, block: s(block))
            return lambda block: logits(lowered, block)
        program = functools.cache(lambda shape: self.program(segmenter, shape))
        return lambda block: program(block.shape)(block)


def bounded(engine: Engine, segmenter: Any, volume: Any, name: str) -> Engine:
    """Return the engine, or the same in f32 if its bf16 changes too many labels, which is logged.

    The share of labels is measured on random blocks of the volume.
    """
    if engine.precision == "f32":
        return engine
    exact = Engine(engine.name, "f32")
    share = disagreement(engine.run(segmenter), exact.run(segmenter), volume, segmenter.stride)
    log.info(f"{name}: bf16 labels {percent(share)} of voxels differently from f32")
    if share <= MOST:
        return engine
    log.warning(f"{name}: that is more than {percent(MOST)}, so it is segmented in f32")
    return exact


def choose_engine(wanted: Name, precision: Precision, segmenter: Any) -> Engine:
    """Return the requested engine, or the fastest that is available, and log which.

    Args:
        wanted: "jax" or "openvino"; "auto" for the fastest.
        precision: "f32" or "bf16"; "auto" for bf16 only for networks, where the hardware has units
            for it.
        segmenter: the segmenter to run.

    Raises:
        ValueError: if the requested engine is not installed, or cannot run this segmenter or
            precision.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> choose_engine("jax", "f32", GlobalThreshold(0.5))
    Engine(name='jax', precision='f32')
    """
    backend = jax.default_backend()
    if wanted == "openvino":
        export.require(segmenter)
    able = backend == "cpu" and export.installed() and export.supports(segmenter)
    faster = able and is_network(segmenter)  # JAX computes a linear vote in half the time
    if wanted == "openvino" or (wanted == "auto" and faster):
        if precision == "auto":
            precision = _fit(export.prefers_bf16(), segmenter)
        log.info(f"engine: OpenVINO on the CPU, {precision}")
        return Engine("openvino", precision)
    if precision == "bf16":
        in_bfloat16(segmenter)  # says what cannot be
    elif precision == "auto":
        precision = _fit(backend != "cpu", segmenter)
    count = jax.local_device_count()
    where = f"the {backend.upper()}" if count == 1 else f"{count} {backend.upper()} devices"
    log.info(f"engine: JAX on {where}" + (", bf16" if precision == "bf16" else ""))
    return Engine("jax", precision)


def _fit(units: bool, segmenter: Any) -> Literal["f32", "bf16"]:
    """Return bf16 for networks if the hardware has units for it."""
    if not units:
        return "f32"
    try:
        in_bfloat16(segmenter)
    except ValueError:
        return "f32"
    return "bf16"
