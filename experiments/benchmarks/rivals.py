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
    """Apply a U-Net with strided blocks, transposed convolutions and concatenated skips."""

    def __init__(
        self,
        widths: tuple[int, ...],
        down: type[nn.Module],
        up: type[PlainBlock],
        heads: int = 1,
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
        # Further heads serve training alone; they count as parameters and are not run.
        self.heads = nn.ModuleList(nn.Conv3d(w, 1, 1) for w in widths[:heads])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for stage in self.down:
            x = stage(x)
            skips.append(x)
        for grow, merge, skip in zip(self.up, self.merge, skips[-2::-1], strict=True):
            x = merge(torch.cat((grow(x), skip), 1))
        return self.heads[0](x)


def membrain() -> nn.Module:
    """Build the network of MemBrain-seg 0.0.10, a DynUNet of six levels, 91,181,859 parameters."""
    return Pyramid((32, 64, 128, 256, 512, 1024), ResidualBlock, PlainBlock, heads=3)


def nnunet() -> nn.Module:
    """Build nnU-Net's default 3D network of six stages with at most 320 channels."""
    return Pyramid((32, 64, 128, 256, 320, 320), BiasedBlock, BiasedBlock)


class SameUNet:
    """Build a `segmenters.UNet` without stem, with the same parameters, in PyTorch.

    It is a function ``(batch, 1, z, y, x) -> (batch, class, z, y, x)``.

    Attributes:
        leaves: its parameters, which may be trained.
    """

    def __init__(self, net: UNet, device: str = "cpu"):
        self.leaves: list[torch.Tensor] = []
        self._device = device
        self.encoder = [self._block(b) for b in net.encoder]
        self.decoder = [self._block(b) for b in net.decoder]
        self.down = [self._resample(d, functional.conv3d, 4, 3, 0, 1, 2) for d in net.down]
        self.up = [self._resample(u, functional.conv_transpose3d, 3, 4, 0, 1, 2) for u in net.up]
        self.head = self._linear(net.heads[0])

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        x, skips = self.encoder[0](x), []
        for shrink, encode in zip(self.down, self.encoder[1:], strict=True):
            skips.append(x)
            x = encode(shrink(x))
        for grow, decode, skip in list(zip(self.up, self.decoder, skips, strict=True))[::-1]:
            x = decode(skip + grow(x))
        return self.head(x)

    def _leaf(self, parameter, *axes: int) -> torch.Tensor:
        value = torch.from_numpy(np.array(parameter[...]))
        value = value.permute(*axes).contiguous() if axes else value
        value = value.to(self._device).requires_grad_()
        self.leaves.append(value)
        return value

    def _convolution(self, layer):
        kernel, norm = self._leaf(layer.kernel, 4, 3, 0, 1, 2), layer.norm
        scale, shift = self._leaf(norm.scale), self._leaf(norm.shift)

        def run(x):
            x = functional.conv3d(x, kernel, padding=1)
            if norm.kind == "instance":
                return functional.instance_norm(x, weight=scale, bias=shift, eps=1e-5)
            return x * scale[:, None, None, None] + shift[:, None, None, None]

        return run

    def _linear(self, layer):
        kernel, bias = self._leaf(layer.kernel, 1, 0), self._leaf(layer.bias)
        return lambda x: functional.conv3d(x, kernel[:, :, None, None, None], bias)

    def _block(self, layer):
        first, second = self._convolution(layer.first), self._convolution(layer.second)
        project = self._linear(layer.project) if layer.project is not None else lambda x: x

        def run(x):
            branch = second(functional.leaky_relu(first(x), 0.01, inplace=True))
            return functional.leaky_relu(project(x) + branch, 0.01, inplace=True)

        return run

    def _resample(self, layer, function, *axes: int):
        kernel, bias = self._leaf(layer.kernel, *axes), self._leaf(layer.bias)
        return lambda x: function(x, kernel, bias, stride=2)
