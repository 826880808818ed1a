"""Run networks on OpenVINO: their logits, the memory they take, and their statistics."""

import functools
import math
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from cryojax_seg.core import Segmenter
from cryojax_seg.core.plain import Shape
from cryojax_seg.core.types import Logits, Volume
from cryojax_seg.export.openvino import Blocks, openvino_model, openvino_module
from cryojax_seg.segmenters.normalization import normalizations

Precision = Literal["f32", "bf16"]

_EDGE = 64  # voxels of the block on which memory is counted; the count does not depend on it


class OpenVINOProgram:
    """Holds a segmenter compiled for the CPU and blocks of one shape; a call returns logits.

    What `core.apply_tiles` takes as its `program`, for the shape ``tiling.padded``.

    Args:
        segmenter, shape: as `openvino_model`.
        precision: of the arithmetic. ``"bf16"`` is faster where the CPU has it, and keeps only 8
            bits of each number.
        threads: how many it uses at most; None leaves that to OpenVINO.

    Raises:
        ValueError: as `openvino_model`; for bf16 on a CPU that does not have it; on a call, for a
            block of another shape.

    >>> from cryojax_seg.segmenters import LinearVote
    >>> program = OpenVINOProgram(LinearVote(3), (8, 8, 8))  # doctest: +SKIP
    >>> program(np.zeros((8, 8, 8), np.float32)).shape  # doctest: +SKIP
    (8, 8, 8, 1)
    """

    def __init__(
        self,
        segmenter: Segmenter,
        shape: Shape,
        precision: Precision = "f32",
        threads: int | None = None,
    ):
        model = openvino_model(segmenter, shape)
        if precision == "bf16" and "BF16" not in _property("OPTIMIZATION_CAPABILITIES"):
            raise ValueError("this CPU does not compute in bf16; use f32")
        self.shape = tuple(shape)
        self._compiled = _compiled(model, precision, threads)

    def __call__(self, block: Volume) -> Logits:
        if block.shape != self.shape:
            raise ValueError(f"compiled for blocks of {self.shape}, got one of {block.shape}")
        return self._compiled(np.ascontiguousarray(block, np.float32))[0]

    @property
    def bytes_per_voxel(self) -> float:
        """Return the memory of a call for each voxel of the block, in bytes.

        It is the largest sum of the arrays that live at the same time, operation by operation of
        the graph as OpenVINO compiled it.
        """
        operations = self._compiled.get_runtime_model().get_ordered_ops()
        last = {  # the operation that is the last to read an array
            source.get_source_output().get_node().get_friendly_name(): number
            for number, operation in enumerate(operations)
            for source in operation.inputs()
        }
        alive: dict[str, int] = {}
        most = 0
        for number, operation in enumerate(operations):
            alive[operation.get_friendly_name()] = _bytes(operation)
            most = max(most, sum(alive.values()))
            alive = {name: size for name, size in alive.items() if last.get(name, -1) > number}
        return most / math.prod(self.shape)


def memory_per_voxel(segmenter: Segmenter, precision: Precision = "f32") -> float:
    """Return the bytes that `OpenVINOProgram` takes for each voxel of a block of any shape.

    Args: as `OpenVINOProgram`, which also says what is raised.

    >>> from cryojax_seg.segmenters import LinearVote
    >>> memory_per_voxel(LinearVote(3))  # doctest: +SKIP
    12.0
    """
    edge = -(-_EDGE // segmenter.stride) * segmenter.stride
    return OpenVINOProgram(segmenter, (edge,) * 3, precision).bytes_per_voxel


def prefers_bf16() -> bool:
    """Return whether this CPU has units for bf16, so that OpenVINO would use them unasked.

    >>> prefers_bf16()  # doctest: +SKIP
    True
    """
    return _property("INFERENCE_PRECISION_HINT").get_type_name() == "bf16"


def measure_statistics(
    segmenter: Segmenter, patches: Float[np.ndarray, "count z y x"]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return mean and variance of each normalisation of the kind "batch", over all patches.

    Does what `segmenters.normalization.measure_statistics` does, without compiling a JAX program.

    Args:
        segmenter: as `openvino_model`.
        patches: of the normalised volume; the stride divides each axis.

    >>> from flax import nnx
    >>> from cryojax_seg.segmenters import ConvNet
    >>> net = ConvNet(layers=1, width=2, norm="batch", rngs=nnx.Rngs(0))
    >>> patches = np.random.default_rng(0).normal(size=(2, 8, 8, 8)).astype(np.float32)
    >>> list(measure_statistics(net, patches))  # doctest: +SKIP
    ['convolutions/0/norm']
    """
    openvino = openvino_module()
    blocks = Blocks(openvino.opset13)
    volumes = blocks.ops.parameter(patches.shape, np.float32)
    blocks.logits(segmenter, blocks.ops.unsqueeze(volumes, 1))
    known = normalizations(segmenter).items()
    measured = {p: blocks.statistics[id(n)] for p, n in known if id(n) in blocks.statistics}
    nodes = [node for pair in measured.values() for node in pair]
    compiled = _compiled(openvino.Model(nodes, [volumes], "statistics"), "f32", None)
    found = compiled(np.ascontiguousarray(patches, np.float32))
    values = [found[i].ravel() for i in range(len(nodes))]
    return dict(zip(measured, zip(values[::2], values[1::2], strict=True), strict=True))


@functools.cache
def _core() -> Any:
    return openvino_module().Core()


def _property(name: str) -> Any:
    return _core().get_property("CPU", name)


def _compiled(model: Any, precision: Precision, threads: int | None) -> Any:
    settings = {
        # Said in any case: where the CPU has bf16, OpenVINO would use it unasked.
        "INFERENCE_PRECISION_HINT": precision,
        # Pinned, two processes on one machine would share the same cores.
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_NUM_THREADS": threads or 0,
    }
    return _core().compile_model(model, "CPU", settings)


def _bytes(operation: Any) -> int:
    """Return the size of what an operation of a compiled graph computes; constants are no part."""
    facts = operation.get_rt_info()
    if facts["layerType"].astype(str) == "Const":
        return 0
    width = 2 if facts["outputPrecisions"].astype(str) == "bf16" else 4
    return width * sum(math.prod(output.get_shape()) for output in operation.outputs())
