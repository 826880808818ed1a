"""Restoration against a learned energy, in the manner of CryoGEN; see `restore.energy`."""

from typing import Any

import jax
import jax.numpy as jnp

from cryojax_seg.core import fourier
from cryojax_seg.core.rotation import move
from cryojax_seg.core.types import BATCH_AXIS, Array, Scalar
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.losses.objective import Objective
from cryojax_seg.losses.self_supervised import split
from cryojax_seg.losses.wedge import require, turning


def adversarial(
    consistency: float = 1.0, energy: float = 0.1, penalty: float = 1.0, share: float | None = None
) -> Objective:
    """The objective of a restorer g and an energy E that learn against each other.

    With the tomogram y and its halves ``v_1, v_2`` (`split` makes them if there are none), noise e
    in the wedge of the input, and ``x_i = g(v_i + e)``::

        L_g = |A_M (v_2 - x_1)|^2 + consistency |g(A_M x_1 + e') - x_1|^2 + energy E(view(x_1))
        L_E = E(R y) - E(view(x_1)) + penalty |dE/dy|^2,    view(x) = A_(M_R) x + R (v_1 - v_2) / 2

    Each in the part of the other. E compares measurements, as in AmbientGAN (Bora et al. 2018): the
    data, turned, have the wedge ``M_R``; so has the view of the estimate, with real noise. What was
    put into the wedge of y is seen there, and must look like what was measured elsewhere. The
    penalty is that of Mescheder et al. 2018, by the squared change of E along a random direction
    (finite differences: it needs no second derivative). Each of both treats the other as constant.

    Args:
        consistency, energy, penalty: factors.
        share: see `split`.

    Raises:
        ValueError: when called, if the batch lacks the wedge or the keys, or the module has no
            `restorer` and `energy`.
    """

    def objective(module: Any, batch: Any) -> Scalar:
        require("adversarial", batch, "key", "wedge")
        if not hasattr(module, "restorer") or not hasattr(module, "energy"):
            raise ValueError(
                f"losses.adversarial needs a restore.EnergyTrained, not a {type(module).__name__}"
            )
        shape = batch.volume.shape[1:]
        dtype = batch.volume.dtype
        keys = jax.vmap(lambda key: jax.random.split(key, 5))(batch.key)
        masks = jax.vmap(lambda wedge: wedge.transfer(shape).astype(dtype))(batch.wedge)
        halves = batch.halves
        if halves is None:
            halves = jax.vmap(lambda v, m, k: split(v, m, k[0], share))(batch.volume, masks, keys)
        restored = jax.vmap(module.restorer, axis_name=BATCH_AXIS)
        constant = jax.lax.stop_gradient(module.energy)
        judge = jax.vmap(lambda net, v: net(v).mean(), (None, 0), axis_name=BATCH_AXIS)

        def prepared(pair: Array, mask: Array, wedge: MissingWedge, keys: Array):
            swap = jax.random.bernoulli(keys[1])
            first, second = jnp.where(swap, pair[::-1], pair)
            noise = [_beyond(mask, key, first) for key in (keys[2], keys[3])]
            matrix = turning(wedge, shape, keys[4])
            (view,) = move(matrix, pair.mean(0))
            (residual,) = move(matrix, (pair[0] - pair[1]) / 2)
            there = wedge.rotate(matrix.astype(dtype)).transfer(shape).astype(dtype)
            return first + noise[0], second, noise[1], view, residual, there

        inputs, targets, again, views, residuals, theres = jax.vmap(prepared)(
            halves, masks, batch.wedge, keys
        )
        gain = jax.vmap(fourier.apply_gain)
        answers = restored(inputs)
        data = jnp.square(gain(targets - answers, masks)).mean()
        repeated = restored(gain(answers, masks) + again)
        loss = data + consistency * jnp.square(repeated - answers).mean()
        fake = gain(answers, theres) + residuals
        loss = loss + energy * judge(constant, fake).mean()

        direction = jax.vmap(lambda k: jax.random.normal(k[0], shape, dtype))(keys)
        step = 0.1
        real = judge(module.energy, views)
        slope = (judge(module.energy, views + step * direction) - real) / step
        apart = real - judge(module.energy, jax.lax.stop_gradient(fake))
        return loss + apart.mean() + penalty * views[0].size * jnp.square(slope).mean()

    return objective


def _beyond(mask: Array, key: Array, like: Array) -> Array:
    """Noise outside of the measured region with the power per coefficient that `like` has in it."""
    deviation = jnp.std(like) / jnp.sqrt(jnp.maximum(mask.mean(), 1e-6))
    noise = deviation * jax.random.normal(key, like.shape, like.dtype)
    return noise - fourier.apply_gain(noise, mask)
