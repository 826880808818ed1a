"""Provides learned restorers, which the self-supervised losses train."""

import math

import jax.numpy as jnp
from flax import nnx

from cryojax_seg.core import LocalOperator, Segmenter
from cryojax_seg.core.types import Features, Volume
from cryojax_seg.segmenters import UNet


class Learned(LocalOperator):
    """Restores by a network with one output channel, as ``w(v) + network(w(v))``.

    Without a start w the result is that of the network alone. A linear filter already removes most
    of the noise of a tomogram; with the filter as a start the network learns only the rest.

    Args:
        network: any operator with one channel, such as a `UNet`; see `unet_restorer`.
        start: restorer that the network improves on, such as one from `fit_wiener`; None for none.

    Raises:
        ValueError: for a segmenter of several classes.

    >>> net = Learned(UNet(2, 1, norm="none", rngs=nnx.Rngs(0)))
    >>> net.halo, net.stride, net(jnp.zeros((8, 8, 8))).shape
    (9, 2, (8, 8, 8, 1))
    """

    def __init__(self, network: LocalOperator, start: LocalOperator | None = None):
        if isinstance(network, Segmenter) and len(network.classes) != 1:
            raise ValueError(
                f"a restorer needs a network with one class, not {len(network.classes)}"
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
    stem: str = "none",
    *,
    rngs: nnx.Rngs,
):
    """Return a U-Net restorer that initially adds 0 to its start.

    Args:
        width, depth, norm: as in `segmenters.UNet`.
        start: see `Learned`; None for none.
        stem: as in `segmenters.UNet`.
        rngs: source of the initial kernels.

    >>> net = unet_restorer(2, 1, norm="none", rngs=nnx.Rngs(0))
    >>> float(jnp.abs(net(jnp.ones((8, 8, 8)))).max())
    0.0
    """
    network = UNet(width, depth, stem, norm=norm, rngs=rngs)
    head = network.heads[0].kernel
    head[...] = jnp.zeros_like(head[...])
    return Learned(network, start)
