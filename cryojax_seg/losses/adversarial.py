"""Trains a restorer against a learned energy.

The method follows CryoGEN (ICLR 2025) as far as its public abstract and reviews describe it; the
paper and its code were not available. It shares with CryoGEN a predictor with noise in its input,
an energy that is trained against the predictor with a gradient penalty, data and re-projection
consistency, and a single training stage. The inputs of the energy are our own choice; see
`adversarial`.
"""

from typing import Any

import jax
import jax.numpy as jnp

from cryojax_seg.core import fourier
from cryojax_seg.core.loss import Objective
from cryojax_seg.core.operator import LocalOperator
from cryojax_seg.core.rotation import rotate_on_grid
from cryojax_seg.core.types import BATCH_AXIS, Array, Features, Scalar, Volume
from cryojax_seg.core.wedge import MissingWedge, unmeasured_noise
from cryojax_seg.losses.consistency import random_rotation
from cryojax_seg.losses.objective import require
from cryojax_seg.losses.self_supervised import split


class EnergyTrained(LocalOperator):
    """Combines a restorer and the energy it is trained against into one trainable operator.

    Args:
        restorer: any operator with one channel.
        energy: an operator with one channel; the mean of its output is the energy of a volume,
            which is low for a volume that resembles data.

    >>> from flax import nnx
    >>> from cryojax_seg.restore import Gaussian
    >>> from cryojax_seg.segmenters import ConvNet
    >>> pair = EnergyTrained(Gaussian(1.0), ConvNet(3, 8, norm="weight", rngs=nnx.Rngs(1)))
    >>> pair(jnp.zeros((4, 4, 4))).shape
    (4, 4, 4, 1)
    """

    def __init__(self, restorer: LocalOperator, energy: LocalOperator):
        self.restorer = restorer
        self.energy = energy
        self.halo, self.stride = restorer.halo, restorer.stride

    def __call__(self, volume: Volume) -> Features:
        return self.restorer(volume)


def adversarial(
    consistency: float = 1.0, energy: float = 0.1, penalty: float = 1.0, share: float | None = None
) -> Objective:
    """Return the objective that trains a restorer g and an energy E against each other.

    With the tomogram y, its halves ``v_1, v_2`` (made by `split` if there are none), noise e in the
    missing wedge of the input, and ``x_i = g(v_i + e)``::

        L_g = |A_M (v_2 - x_1)|^2 + consistency |g(A_M x_1 + e') - x_1|^2 + energy E(view(x_1))
        L_E = E(R y) - E(view(x_1)) + penalty |dE/dy|^2,    view(x) = A_(M_R) x + R (v_1 - v_2) / 2

    The halves also swap roles. E compares measurements, as in AmbientGAN (Bora et al. 2018): the
    rotated data have the wedge ``M_R``, and so does the view of the estimate, with real noise. The
    view shows the content that g put into the missing wedge of y, which must resemble measured
    content. The gradient penalty (Mescheder et al. 2018) is estimated from the squared change of E
    along a random direction, so it needs no second derivative. g and E each treat the other as
    constant.

    Args:
        consistency, energy, penalty: factors of the terms.
        share: see `split`.

    Raises:
        ValueError: when called, if the batch has no wedge or keys, or the operator is not an
            `EnergyTrained`.

    >>> from cryojax_seg.restore import Gaussian
    >>> from cryojax_seg.segmenters import LinearVote
    >>> from cryojax_seg.training import Batch
    >>> volume = jax.random.normal(jax.random.key(0), (1, 8, 8, 8))
    >>> wedge = jax.tree.map(lambda a: jnp.full(1, a), MissingWedge((-60.0, 60.0)))
    >>> batch = Batch(volume, wedge=wedge, key=jax.random.split(jax.random.key(1), 1))
    >>> pair = EnergyTrained(Gaussian(1.0), LinearVote(1))
    >>> bool(jax.jit(adversarial())(pair, batch) > 0)
    True
    """

    def objective(operator: LocalOperator, batch: Any) -> Scalar:
        require("adversarial", batch, "key", "wedge")
        if not isinstance(operator, EnergyTrained):
            raise ValueError(
                f"losses.adversarial needs a losses.EnergyTrained, not a {type(operator).__name__}"
            )
        shape = batch.volume.shape[1:]
        dtype = batch.volume.dtype
        keys = jax.vmap(lambda key: jax.random.split(key, 5))(batch.key)
        masks = jax.vmap(lambda wedge: wedge.transfer(shape).astype(dtype))(batch.wedge)
        halves = batch.halves
        if halves is None:
            halves = jax.vmap(lambda v, m, k: split(v, m, k[0], share))(batch.volume, masks, keys)
        restored = jax.vmap(lambda v: operator.restorer(v)[..., 0], axis_name=BATCH_AXIS)
        constant = jax.lax.stop_gradient(operator.energy)
        judge = jax.vmap(lambda net, v: net(v).mean(), (None, 0), axis_name=BATCH_AXIS)

        def prepared(pair: Array, mask: Array, wedge: MissingWedge, keys: Array):
            swap = jax.random.bernoulli(keys[1])
            first, second = jnp.where(swap, pair[::-1], pair)
            noise = [unmeasured_noise(first, mask, key) for key in (keys[2], keys[3])]
            matrix = random_rotation(wedge, shape, keys[4])
            (view,) = rotate_on_grid(matrix, pair.mean(0))
            (residual,) = rotate_on_grid(matrix, (pair[0] - pair[1]) / 2)
            there = wedge.rotate(matrix.astype(dtype)).transfer(shape).astype(dtype)
            return first + noise[0], second, noise[1], view, residual, there

        inputs, targets, again, views, residuals, theres = jax.vmap(prepared)(
            halves, masks, batch.wedge, keys
        )
        gain = jax.vmap(fourier.apply_gain)
        estimates = restored(inputs)
        data = jnp.square(gain(targets - estimates, masks)).mean()
        repeated = restored(gain(estimates, masks) + again)
        loss = data + consistency * jnp.square(repeated - estimates).mean()
        fake = gain(estimates, theres) + residuals
        loss = loss + energy * judge(constant, fake).mean()

        direction = jax.vmap(lambda k: jax.random.normal(k[0], shape, dtype))(keys)
        step = 0.1
        real = judge(operator.energy, views)
        slope = (judge(operator.energy, views + step * direction) - real) / step
        apart = real - judge(operator.energy, jax.lax.stop_gradient(fake))
        return loss + apart.mean() + penalty * views[0].size * jnp.square(slope).mean()

    return objective
