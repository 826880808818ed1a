"""Build OpenVINO graphs from the parameters of networks, for fast inference on CPUs.

Nothing is traced: each block of `segmenters.blocks` has a method here that adds the same block to a
graph, so both files are read side by side. Needs the extra ``cryojax-seg[openvino]``.
"""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from cryojax_seg.core import Rescaled, Segmenter, Symmetrized
from cryojax_seg.core.operator import require_local
from cryojax_seg.core.plain import Shape
from cryojax_seg.core.resampling import matrices
from cryojax_seg.core.segmenter import check_divisible
from cryojax_seg.segmenters import ConvNet, Isotonic, LinearVote, Tempered, Truncated, UNet
from cryojax_seg.segmenters.blocks import SLOPE, Convolution, Down, Linear, ResidualBlock, Up
from cryojax_seg.segmenters.normalization import (
    EPSILON,
    Normalization,
    standardized,
)

_INSTALL = 'pip install "cryojax-seg[openvino]"'
_METHODS = (UNet, ConvNet, LinearVote)
_WRAPPERS = (Truncated, Tempered, Isotonic, Symmetrized, Rescaled)


def installed() -> bool:
    """Return whether the extra is installed; nothing is imported.

    >>> isinstance(installed(), bool)
    True
    """
    return importlib.util.find_spec("openvino") is not None


def supports(segmenter: Segmenter) -> bool:
    """Return whether a graph can be built for this segmenter and those it wraps.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> supports(Truncated(LinearVote(3), 1)), supports(GlobalThreshold(0.5))
    (True, False)
    """
    return isinstance(_inmost(segmenter), _METHODS)


def require(segmenter: Segmenter) -> None:
    """Raise a ValueError that says what to do unless `openvino_model` can build the graph.

    Statistics that are not fitted are not its business.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> require(GlobalThreshold(0.5))
    Traceback (most recent call last):
    ValueError: ...
    """
    openvino_module()
    if not supports(segmenter):
        name = type(_inmost(segmenter)).__name__
        known = ", ".join(kind.__name__ for kind in _METHODS)
        wrappers = ", ".join(kind.__name__ for kind in _WRAPPERS)
        raise ValueError(
            f"there is no OpenVINO graph for {name}, only for {known}, also within {wrappers}; let "
            "JAX compute it"
        )


def _inmost(segmenter: Segmenter) -> Segmenter:
    while isinstance(segmenter, _WRAPPERS):
        segmenter = segmenter.segmenter
    return segmenter


def openvino_module() -> Any:
    """Import OpenVINO in silence; a ValueError says how to install it."""
    # Importing openvino tells its makers so over the network, from a forked process, and leaves an
    # identity in the home folder, unless this package of theirs is missing.
    sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore
    try:
        import openvino
    except ImportError as error:
        raise ValueError(f"{error}; OpenVINO is an extra: {_INSTALL}") from error
    return openvino


def openvino_model(segmenter: Segmenter, shape: Shape | None = None) -> Any:
    """Return the segmenter as an ``openvino.Model`` in float32, with equal logits to rounding.

    Its input is ``volume``, float32 ``(z, y, x)``, normalized, structure bright. Its output is
    ``logits``, float32 ``(z, y, x, class)``.

    Args:
        segmenter: a `UNet`, `ConvNet` or `LinearVote`, by itself or in `Truncated`, `Tempered`,
            `Isotonic`, `Symmetrized` or `Rescaled`.
        shape: of the input; None for any whose axes are multiples of the stride, unless the
            segmenter is `Rescaled`.

    Raises:
        ValueError: for another segmenter, one whose statistics are not fitted, or a shape that the
            stride does not divide or that is missing; without the extra.

    >>> openvino_model(LinearVote(3), (8, 8, 8)).outputs  # doctest: +SKIP
    [<Output: names[logits] shape[8,8,8,1] type: f32>]
    """
    require(segmenter)
    require_local(segmenter)
    if shape is not None:
        check_divisible(shape, segmenter.stride)
    elif any(isinstance(module, Rescaled) for _, module in nnx.iter_modules(segmenter)):
        raise ValueError("a graph that resamples its input needs a shape; give one")
    openvino = openvino_module()
    blocks = Blocks(openvino.opset13)
    volume = blocks.ops.parameter(shape or (-1, -1, -1), np.float32, name="volume")
    volume.output(0).set_names({"volume"})
    features = blocks.ops.unsqueeze(volume, (0, 1))  # (1, channel, z, y, x) as OpenVINO has it
    logits = blocks.ops.transpose(blocks.logits(segmenter, features), (0, 2, 3, 4, 1))
    logits = blocks.ops.squeeze(logits, 0)
    logits.output(0).set_names({"logits"})
    return openvino.Model([logits], [volume], type(segmenter).__name__)


def write_openvino(
    segmenter: Segmenter, xml: Path, weights: Path, shape: Shape | None = None
) -> None:
    """Write the graph (.xml) and its float32 parameters (.bin).

    The graph carries halo, stride and classes as runtime information under ``cryojax_seg``. Where
    it is read both files must have the same name but for the ending.

    Args: as `openvino_model`, which also says what is raised.

    >>> write_openvino(LinearVote(3), Path("graph.xml"), Path("graph.bin"))  # doctest: +SKIP
    """
    model = openvino_model(segmenter, shape)
    for name in ("halo", "stride"):
        model.set_rt_info(str(getattr(segmenter, name)), ["cryojax_seg", name])
    model.set_rt_info(",".join(segmenter.classes), ["cryojax_seg", "classes"])
    # save_model would round the parameters to 16 bits.
    openvino_module().serialize(model, str(xml), str(weights))


class Blocks:
    """Add blocks to a graph, from nodes ``(batch, channel, z, y, x)`` to such nodes."""

    def __init__(self, ops: Any):
        self.ops = ops  # an operation set of openvino
        self.statistics: dict[int, tuple[Any, Any]] = {}  # of each measured norm, by its id

    def logits(self, segmenter: Segmenter, x: Any) -> Any:
        match segmenter:
            case UNet():
                return self.unet(segmenter, x)
            case ConvNet():
                return self.convnet(segmenter, x)
            case LinearVote():
                return self.vote(segmenter, x)
            case Truncated():
                return self.logits(segmenter.segmenter, x)
            case Tempered():
                return self.logits(segmenter.segmenter, x) / _array(segmenter.temperature)
            case Isotonic():
                return self.isotonic(segmenter, x)
            case Symmetrized():
                return self.symmetrized(segmenter, x)
            case Rescaled():
                return self.rescaled(segmenter, x)
        raise AssertionError(f"{type(segmenter).__name__} should have been refused")

    def unet(self, net: UNet, x: Any) -> Any:
        stem = net.stem != "none"
        x = self.ops.space_to_depth(x, "blocks_first", 2) if stem else x
        x = self.residual(net.encoder[0], x)
        skips = []
        for down, encode in zip(net.down, net.encoder[1:], strict=True):
            skips.append(x)
            x = self.residual(encode, self.down(down, x))
        for up, decode, skip in list(zip(net.up, net.decoder, skips, strict=True))[::-1]:
            x = self.residual(decode, skip + self.up(up, x))
        logits = self.linear(net.heads[0], x)
        return self.ops.depth_to_space(logits, "blocks_first", 2) if stem else logits

    def convnet(self, net: ConvNet, x: Any) -> Any:
        for convolution in net.convolutions:
            x = self.activation(self.convolution(convolution, x))
        return self.linear(net.head, x)

    def vote(self, vote: LinearVote, x: Any) -> Any:
        votes = self.convolve(x, _array(vote.kernel))
        return (votes - _channels(vote.threshold)) / _array(vote.softness)

    def isotonic(self, calibrated: Isotonic, x: Any) -> Any:
        """Add the value at the first knot and the contribution of each piece of the line."""
        x = self.logits(calibrated.segmenter, x)
        knots, values = _array(calibrated.knots), _array(calibrated.values)
        y = self.ops.constant(values[:1])
        for i, slope in enumerate(np.diff(values) / np.diff(knots)):
            y = y + (self.ops.clamp(x, knots[i], knots[i + 1]) - knots[i : i + 1]) * _array(slope)
        return y

    def symmetrized(self, mean: Symmetrized, x: Any) -> Any:
        views = [self.flip(self.logits(mean.segmenter, self.flip(x, a)), a) for a in mean.flips]
        return sum(views[1:], views[0]) / _array(len(views))

    def flip(self, x: Any, axes: tuple[int, ...]) -> Any:
        if not axes:
            return x
        end = np.iinfo(np.int64).min
        n = len(axes)
        return self.ops.slice(x, [-1] * n, [end] * n, [-1] * n, [axis + 2 for axis in axes])

    def rescaled(self, rescaled: Rescaled, x: Any) -> Any:
        """Add the resampling as a product with a matrix along each axis, there and back."""
        sizes = x.get_output_shape(0)[2:]
        pairs = [matrices(ratio, n) for ratio, n in zip(rescaled.by, sizes, strict=True)]
        x = self.products(x, [there for there, _ in pairs])
        x = (x - _array(rescaled.centre)) * _array(rescaled.gain)
        return self.products(self.logits(rescaled.segmenter, x), [back for _, back in pairs])

    def products(self, x: Any, matrices: list[np.ndarray]) -> Any:
        along_z, along_y, along_x = matrices
        batch, channels, z, y, n = x.get_output_shape(0)
        x = self.ops.reshape(x, (batch, channels, z, y * n), False)
        x = self.ops.matmul(along_z, x, False, False)
        x = self.ops.reshape(x, (batch, channels, len(along_z), y, n), False)
        x = self.ops.matmul(along_y, x, False, False)
        return self.ops.matmul(x, along_x, False, True)

    def residual(self, block: ResidualBlock, x: Any) -> Any:
        branch = self.convolution(block.second, self.activation(self.convolution(block.first, x)))
        skip = x if block.project is None else self.linear(block.project, x)
        return self.activation(skip + branch)

    def convolution(self, block: Convolution, x: Any) -> Any:
        kernel = block.kernel[...]
        if block.norm.kind == "weight" and kernel.shape[3] > 1:
            kernel = standardized(kernel)
        return self.normalization(block.norm, self.convolve(x, _array(kernel)))

    def normalization(self, norm: Normalization, x: Any) -> Any:
        scale, shift = _channels(norm.scale), _channels(norm.shift)
        if norm.kind == "rms":
            power = self.ops.reduce_mean(x * x, 1, keep_dims=True)
            x = x / self.ops.sqrt(power + _array(EPSILON))
        elif norm.kind == "batch":  # to be measured, over all blocks of the batch
            x = x - (mean := self.mean(x))
            variance = self.mean(x * x)
            self.statistics[id(norm)] = mean, variance
            x = x / self.ops.sqrt(variance + _array(EPSILON))
        elif norm.kind == "frozen":
            scale = scale / np.sqrt(_channels(norm.variance) + _array(EPSILON))
            x = x - _channels(norm.mean)
        return x * scale + shift

    def mean(self, x: Any) -> Any:
        """Add the mean of each channel, plane by plane, as one sum of a million loses digits."""
        planes = self.ops.reduce_mean(x, (3, 4), keep_dims=False)  # (batch, channel, z)
        depth = x.get_output_shape(0)[2]
        # A product, as OpenVINO makes one mean of a mean of means.
        columns = self.ops.matmul(planes, np.full((depth, 1), 1 / depth, np.float32), False, False)
        mean = self.ops.reduce_mean(columns, 0, keep_dims=True)
        return self.ops.reshape(mean, (1, -1, 1, 1, 1), False)

    def activation(self, x: Any) -> Any:
        return self.ops.prelu(x, _array(SLOPE))

    def linear(self, block: Linear, x: Any) -> Any:
        return self.convolve(x, _array(block.kernel)[None, None, None]) + _channels(block.bias)

    def down(self, block: Down, x: Any) -> Any:
        return self.convolve(x, _array(block.kernel), stride=2) + _channels(block.bias)

    def up(self, block: Up, x: Any) -> Any:
        kernel = _array(block.kernel).transpose(3, 4, 0, 1, 2)
        two, zero = [2, 2, 2], [0, 0, 0]
        spread = self.ops.convolution_backprop_data(x, kernel, two, None, zero, zero, [1, 1, 1])
        return spread + _channels(block.bias)

    def convolve(self, x: Any, kernel: np.ndarray, stride: int = 1) -> Any:
        """Cross-correlate with a kernel ``(kz, ky, kx, in, out)``, padded if `stride` is 1."""
        pad = [n // 2 if stride == 1 else 0 for n in kernel.shape[:3]]
        kernel = np.ascontiguousarray(kernel.transpose(4, 3, 0, 1, 2))
        return self.ops.convolution(x, kernel, [stride] * 3, pad, pad, [1, 1, 1])


def _array(values: Any) -> np.ndarray:
    return np.array(values, np.float32)  # a copy, as OpenVINO refuses arrays it must not write to


def _channels(values: Any) -> np.ndarray:
    """Return a number per channel as ``(1, channel, 1, 1, 1)``."""
    return _array(values).reshape(1, -1, 1, 1, 1)


def requirements(
    segmenter: Segmenter,
    contrast: str = "bright",
    normalization: str = "median and deviation",
    shape: Shape | None = None,
) -> dict[str, str]:
    """Return what a user of the graph must know beside the graph itself, as lines of text by topic.

    Args:
        segmenter: that is written.
        contrast: of structure in the training data, "dark" or "bright".
        normalization: of the training data.
        shape: of the volumes; None for any.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> requirements(GlobalThreshold(1.0))["input"]
    'volume (z, y, x), float32; every axis is a multiple of 1'
    """
    axes = "z, y, x" if shape is None else " x ".join(map(str, shape))
    stride = segmenter.stride
    score = "sigmoid" if len(segmenter.classes) == 1 else "softmax"
    frozen = any(getattr(m, "kind", None) == "frozen" for _, m in nnx.iter_modules(segmenter))
    return {
        "input": f"volume ({axes}), float32; every axis is a multiple of {stride}",
        "output": f"logits ({axes}, class), float32; their {score} is the probability of "
        + ", ".join(segmenter.classes),
        "normalize": f"normalize each tomogram by its {normalization}, with bright structure "
        f"(structure was {contrast} in the training data)",
        "statistics": "those of the training data" if frozen else "none",
        "tiles": f"read at least {segmenter.halo} voxels more on each side and crop them; "
        f"start tiles at multiples of {stride}",
        "precision": "float32, if you set INFERENCE_PRECISION_HINT to f32",
    }
