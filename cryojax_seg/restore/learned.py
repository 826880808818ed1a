"""A network that restores: what the self-supervised losses train."""

import math

import jax.numpy as jnp
from flax import nnx

from cryojax_seg.core import LocalOperator, Segmenter
from cryojax_seg.core.types import Features, Volume
from cryojax_seg.segmenters import UNet


class Learned(LocalOperator):
    """A network of one output channel as a restorer: ``w(v) + network(w(v))``.

    Without a start w it is the network alone. What a linear filter can know of a noisy tomogram is
    most of what can be known: with the filter as a start a network learns the rest alone.

    Args:
        network: any operator of one channel, such as a `UNet`; see `unet_restorer` for one that
            is made for this.
        start: what the network improves on, such as `fit_wiener`; None for nothing.

    Raises:
        ValueError: for a segmenter of several classes.

    >>> net = Learned(UNet(2, 1, norm="none", rngs=nnx.Rngs(0)))
    >>> net.halo, net.stride, net(jnp.zeros((8, 8, 8))).shape
    (9, 2, (8, 8, 8, 1))
    """

    def __init__(self, network: LocalOperator, start: LocalOperator | None = None):
        if isinstance(network, Segmenter) and len(network.classes) != 1:
            raise ValueError(
                f"a restorer gives one density, the network has {len(network.classes)} classes"
            )
        self.network = network
        self.start = start
        self.halo, self.stride = network.halo, network.stride
        if start is not None:
            self.halo, self.stride = self.halo + start.halo, math.lcm(self.stride, start.stride)

    def __call__(self, volume: Volume) -> Features:
        if self.start is None:
            return self.network(volume)
        started = self.start(volume)
        return started + self.network(started[..., 0])


def unet_restorer(
    width: int = 16,
    depth: int = 2,
    norm: str = "instance",
    start: LocalOperator | None = None,
    *,
    rngs: nnx.Rngs,
):
    """A U-Net as a restorer, which adds 0 to its start before it has learned anything.

    Args:
        width, depth, norm: as those of `segmenters.UNet`.
        start: see `Learned`; None for nothing.
        rngs: source of the initial kernels.

    >>> net = unet_restorer(2, 1, norm="none", rngs=nnx.Rngs(0))
    >>> float(jnp.abs(net(jnp.ones((8, 8, 8)))).max())
    0.0
    """
    network = UNet(width, depth, norm=norm, rngs=rngs)
    head = network.heads[0].kernel
    head[...] = jnp.zeros_like(head[...])
    return Learned(network, start)
