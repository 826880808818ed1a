"""Segments by a plain stack of 3D convolutions."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx

from cryojax_seg.core import Segmenter
from cryojax_seg.core.segmenter import LastLayer
from cryojax_seg.core.types import Logits, Volume
from cryojax_seg.segmenters.blocks import Convolution, Linear, activation, initialize


class ConvNet(Segmenter):
    """Applies convolutions of ``kernel^3`` voxels and `width` channels, then a linear map.

    The halo is ``layers * (kernel // 2)``.

    Args:
        layers: number of convolutions, each followed by normalisation and a leaky rectifier.
        width: number of channels.
        kernel: odd edge of the kernels, voxels.
        classes: class names; one is a sigmoid, several a softmax.
        norm: see `normalization.Normalization`.
        rngs: source of the initial kernels.

    Raises:
        ValueError: for an even kernel, or no layer or channel.

    >>> net = ConvNet(layers=2, width=4, kernel=5, rngs=nnx.Rngs(0))
    >>> net.halo, net.stride, net(jnp.zeros((6, 7, 8))).shape
    (4, 1, (6, 7, 8, 1))
    """

    def __init__(
        self,
        layers: int = 4,
        width: int = 16,
        kernel: int = 3,
        classes: Sequence[str] = ("foreground",),
        norm: str = "none",
        *,
        rngs: nnx.Rngs,
    ):
        if layers < 1 or width < 1:
            raise ValueError(f"a ConvNet needs layers and width >= 1, got {layers} and {width}")
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"the kernel must be odd to have a centre, got {kernel}")
        self.layers, self.width, self.kernel = layers, width, kernel
        self.classes = tuple(classes)
        self.halo, self.stride = layers * (kernel // 2), 1
        inputs = (1 if layer == 0 else width for layer in range(layers))
        self.convolutions = nnx.List([Convolution(i, width, kernel, norm) for i in inputs])
        self.head = Linear(width, len(self.classes))
        initialize(self, rngs)

    @property
    def norm(self) -> str:
        return self.convolutions[-1].norm.kind

    def last_layers(self) -> tuple[LastLayer, ...]:
        return (LastLayer(self.head.kernel, self.head.bias),)

    def __call__(self, volume: Volume) -> Logits:
        x = jnp.asarray(volume)[..., None]
        for convolution in self.convolutions:
            x = activation(convolution(x))
        return self.head(x)
