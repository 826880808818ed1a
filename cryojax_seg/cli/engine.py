"""What computes a segmentation: JAX, or OpenVINO, which is faster on a CPU."""

import dataclasses
from typing import Any, Literal

from cryojax_seg.cli import console

Name = Literal["auto", "jax", "openvino"]
Precision = Literal["f32", "bf16"]


@dataclasses.dataclass(frozen=True)
class Engine:
    """An engine that can run what it was chosen for."""

    name: Literal["jax", "openvino"]
    precision: Precision

    def program(self, segmenter: Any, shape: tuple[int, ...]) -> Any:
        """What `core.segment_tiles` shall run on such blocks; None for JAX on one device."""
        if self.name == "jax":
            import jax

            from cryojax_seg.core.sharding import Sharded

            return Sharded(segmenter) if jax.device_count() > 1 else None
        from cryojax_seg.export import OpenVINOProgram

        return OpenVINOProgram(segmenter, shape, self.precision)


def choose(wanted: Name, precision: Precision, segmenter: Any) -> Engine:
    """The engine that was asked for, or the fastest there is; says which.

    Raises:
        ValueError: if the one that was asked for is not installed or cannot run this segmenter or
            this precision.
    """
    import jax

    from cryojax_seg import export

    backend = jax.default_backend()
    if wanted == "openvino":
        export.require(segmenter)
    able = backend == "cpu" and export.installed() and export.supports(segmenter)
    if wanted == "openvino" or (wanted == "auto" and able):
        console.say(f"engine: OpenVINO on the CPU, {precision}")
        return Engine("openvino", precision)
    if precision != "f32":
        raise ValueError(f"--precision {precision} is for --engine openvino, and JAX runs this")
    count = jax.device_count()
    where = f"the {backend.upper()}" if count == 1 else f"{count} {backend.upper()} devices"
    console.say(f"engine: JAX on {where}")
    return Engine("jax", precision)
