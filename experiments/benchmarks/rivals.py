"""The networks that other tools run, built in PyTorch from their published configuration.

Random weights serve: only speed is compared. Parameter counts agree with the originals.
"""

import torch
from torch import nn


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


class ResidualBlock(nn.Module):
    """Two convolutions with instance norm, and a projected shortcut (MONAI's UnetResBlock)."""

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
    """Two convolutions, each with instance norm and a leaky rectifier."""

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
    """The same with biases (nnU-Net's stage)."""

    bias = True


class Pyramid(nn.Module):
    """A U-Net: strided blocks down, transposed convolutions up, skips concatenated."""

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
        # Further heads are for training; they are counted and not run.
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
    """MemBrain-seg 0.0.10: MONAI's DynUNet of six levels, 91,181,859 parameters."""
    return Pyramid((32, 64, 128, 256, 512, 1024), ResidualBlock, PlainBlock, heads=3)


def nnunet() -> nn.Module:
    """nnU-Net's default 3D network: six stages, at most 320 channels."""
    return Pyramid((32, 64, 128, 256, 320, 320), BiasedBlock, BiasedBlock)
