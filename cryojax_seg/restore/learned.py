"""A network that restores: what the self-supervised losses train."""

import jax.numpy as jnp
from flax import nnx

from cryojax_seg.core import Restorer, Segmenter
from cryojax_seg.core.types import Volume
from cryojax_seg.segmenters import UNet


class Learned(Restorer):
    """A network of one output channel as a restorer: its logit is the density.

    Args:
        network: any segmenter of one class, such as a `UNet`; see `unet_restorer` for one that is
            made for this.

    Raises:
        ValueError: for a network of several classes.

    >>> net = Learned(UNet(2, 1, norm="none", rngs=nnx.Rngs(0)))
    >>> net.halo, net.stride, net(jnp.zeros((8, 8, 8))).shape
    (9, 2, (8, 8, 8))
    """

    def __init__(self, network: Segmenter):
        if len(network.classes) != 1:
            raise ValueError(
                f"a restorer gives one density, the network has {len(network.classes)} classes"
            )
        self.network = network

    @property
    def halo(self) -> int:
        return self.network.halo

    @property
    def stride(self) -> int:
        return self.network.stride

    def __call__(self, volume: Volume) -> Volume:
        return self.network(volume)[..., 0]


def unet_restorer(width: int = 16, depth: int = 2, norm: str = "instance", *, rngs: nnx.Rngs):
    """A U-Net as a restorer, whose answer is 0 before it has learned anything.

    Of a tomogram at a signal-to-noise ratio of 0.1 the best linear answer is nearly 0 too: nothing
    has to be unlearned first.

    Args:
        width, depth, norm: as those of `segmenters.UNet`.
        rngs: source of the initial kernels.

    >>> net = unet_restorer(2, 1, norm="none", rngs=nnx.Rngs(0))
    >>> float(jnp.abs(net(jnp.ones((8, 8, 8)))).max())
    0.0
    """
    network = UNet(width, depth, norm=norm, classes=("density",), rngs=rngs)
    head = network.heads[0].kernel
    head[...] = jnp.zeros_like(head[...])
    return Learned(network)
