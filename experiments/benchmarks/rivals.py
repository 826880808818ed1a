"""Builds the networks of other tools in PyTorch from their published configuration, and ours.

The weights of other tools' networks are random, because only speed is compared. Their parameter
counts agree with the originals.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cryojax_seg.segmenters import UNet


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


class ResidualBlock(nn.Module):
    """Apply two convolutions with instance norm and a projected shortcut (MONAI UnetResBlock)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.body = nn.Sequential(
            _convolution(inputs, outputs, 3, stride),
            nn.InstanceNorm3d(outputs, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
            _convolution(outputs, outputs),
            nn.InstanceNorm3d(outputs, affine=True),
        )
        self.shortcut = (
            nn.Identity()
            if inputs == outputs and stride == 1
            else nn.Sequential(
                _convolution(inputs, outputs, 1, stride), nn.InstanceNorm3d(outputs, affine=True)
            )
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.leaky_relu(self.body(x) + self.shortcut(x), 0.01)


class PlainBlock(nn.Sequential):
    """Apply two convolutions, each with instance norm and a leaky rectifier."""

    bias = False

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        layers: list[nn.Module] = []
        for i, s in ((inputs, stride), (outputs, 1)):
            layers += [
                nn.Conv3d(i, outputs, 3, s, 1, bias=self.bias),
                nn.InstanceNorm3d(outputs, affine=True),
                nn.LeakyReLU(0.01, inplace=True),
            ]
        super().__init__(*layers)


class BiasedBlock(PlainBlock):
    """Apply two such convolutions with biases (a stage of nnU-Net)."""

    bias = True


class Pyramid(nn.Module):
    """Apply a U-Net with strided blocks, transposed convolutions and concatenated skips.

    It has `heads` heads at the finest levels, which map to `outputs` channels.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        down: type[nn.Module],
        up: type[PlainBlock],
        heads: int = 1,
        outputs: int = 1,
    ):
        super().__init__()
        inputs = (1, *widths[:-1])
        strides = (1, *(2 for _ in widths[1:]))
        pairs = list(zip(widths[:-1], widths[1:], strict=True))[::-1]
        self.down = nn.ModuleList(
            down(i, o, s) for i, o, s in zip(inputs, widths, strides, strict=True)
        )
        self.up = nn.ModuleList(nn.ConvTranspose3d(c, f, 2, 2, bias=up.bias) for f, c in pairs)
        self.merge = nn.ModuleList(up(2 * f, f) for f, _ in pairs)
        self.heads = nn.ModuleList(nn.Conv3d(w, outputs, 1) for w in widths[:heads])

    def _decoded(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the features of the levels, finest first."""
        skips = []
        for stage in self.down:
            x = stage(x)
            skips.append(x)
        decoded = [x]
        for grow, merge, skip in zip(self.up, self.merge, skips[-2::-1], strict=True):
            x = merge(torch.cat((grow(x), skip), 1))
            decoded.append(x)
        return decoded[::-1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.heads[0](self._decoded(x)[0])

    def at_scales(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the outputs of all heads, finest first, for training with deep supervision."""
        return [head(level) for head, level in zip(self.heads, self._decoded(x), strict=False)]


def membrain() -> nn.Module:
    """Build the network of MemBrain-seg 0.0.10, a DynUNet of six levels, 91,181,859 parameters."""
    return Pyramid((32, 64, 128, 256, 512, 1024), ResidualBlock, PlainBlock, heads=3)


def nnunet() -> nn.Module:
    """Build nnU-Net's default 3D network of six stages with at most 320 channels."""
    return Pyramid((32, 64, 128, 256, 320, 320), BiasedBlock, BiasedBlock)


class SameUNet:
    """Build a `segmenters.UNet`, with or without stem, with the same parameters in PyTorch.

    It is a function ``(batch, 1, z, y, x) -> (batch, class, z, y, x)``.

    Attributes:
        leaves: its parameters, which may be trained. Kernels are matrices with a row per output.
    """

    def __init__(self, net: UNet, device: str = "cpu"):
        self.leaves: list[torch.Tensor] = []
        self._parameters = []
        self._device, self._stem = device, net.stem != "none"
        self.encoder = [self._block(b) for b in net.encoder]
        self.decoder = [self._block(b) for b in net.decoder]
        self.down = [self._down(d) for d in net.down]
        self.up = [self._up(u) for u in net.up]
        self.head = self._linear(net.heads[0])

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        x, skips = self.encoder[0](_to_depth(x) if self._stem else x), []
        for shrink, encode in zip(self.down, self.encoder[1:], strict=True):
            skips.append(x)
            x = encode(shrink(x))
        for grow, decode, skip in list(zip(self.up, self.decoder, skips, strict=True))[::-1]:
            x = decode(skip + grow(x))
        return _to_space(self.head(x)) if self._stem else self.head(x)

    def write_back(self, values: list[torch.Tensor]) -> None:
        """Give the U-Net that this was built from these values of the leaves as its parameters."""
        for parameter, value in zip(self._parameters, values, strict=True):
            array = value.detach().cpu().numpy()
            if array.ndim > 1:
                *taps, inputs, outputs = parameter.shape
                array = np.moveaxis(array.reshape(outputs, inputs, *taps), (0, 1), (-1, -2))
            parameter[...] = array

    def _leaf(self, parameter) -> torch.Tensor:
        array = np.array(parameter[...])
        if array.ndim > 1:
            array = np.moveaxis(array, (-1, -2), (0, 1)).reshape(array.shape[-1], -1)
        value = torch.tensor(array, device=self._device, requires_grad=True)
        self.leaves.append(value)
        self._parameters.append(parameter)
        return value

    def _kernel(self, parameter):
        """Return a function that gives a kernel as ``(output, input, z, y, x)``."""
        leaf, (*taps, inputs, outputs) = self._leaf(parameter), parameter.shape
        shape = (outputs, inputs, *(taps or (1, 1, 1)))
        return lambda: leaf.view(shape)

    def _convolution(self, layer):
        kernel, norm = self._kernel(layer.kernel), layer.norm
        scale, shift = self._leaf(norm.scale), self._leaf(norm.shift)

        def run(x):
            x = functional.conv3d(x, kernel(), padding=1)
            if norm.kind == "instance":
                return functional.instance_norm(x, weight=scale, bias=shift, eps=1e-5)
            return x * scale[:, None, None, None] + shift[:, None, None, None]

        return run

    def _linear(self, layer):
        kernel, bias = self._kernel(layer.kernel), self._leaf(layer.bias)
        return lambda x: functional.conv3d(x, kernel(), bias)

    def _block(self, layer):
        first, second = self._convolution(layer.first), self._convolution(layer.second)
        project = self._linear(layer.project) if layer.project is not None else lambda x: x

        def run(x):
            branch = second(functional.leaky_relu(first(x), 0.01, inplace=True))
            return functional.leaky_relu(project(x) + branch, 0.01, inplace=True)

        return run

    def _down(self, layer):
        kernel, bias = self._kernel(layer.kernel), self._leaf(layer.bias)
        return lambda x: functional.conv3d(x, kernel(), bias, stride=2)

    def _up(self, layer):
        kernel, bias = self._kernel(layer.kernel), self._leaf(layer.bias)
        return lambda x: functional.conv_transpose3d(x, kernel().transpose(0, 1), bias, stride=2)


def _to_depth(x: torch.Tensor) -> torch.Tensor:
    """Move blocks of 2x2x2 voxels into channels, as `core.convolution.space_to_depth`."""
    b, c, z, y, x_ = x.shape
    blocks = x.view(b, c, z // 2, 2, y // 2, 2, x_ // 2, 2).permute(0, 3, 5, 7, 1, 2, 4, 6)
    return blocks.reshape(b, 8 * c, z // 2, y // 2, x_ // 2)


def _to_space(x: torch.Tensor) -> torch.Tensor:
    """Move channels into blocks of 2x2x2 voxels, as `core.convolution.depth_to_space`."""
    b, c, z, y, x_ = x.shape
    blocks = x.view(b, 2, 2, 2, c // 8, z, y, x_).permute(0, 4, 5, 1, 6, 2, 7, 3)
    return blocks.reshape(b, c // 8, 2 * z, 2 * y, 2 * x_)
