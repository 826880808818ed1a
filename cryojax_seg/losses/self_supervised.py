"""Trains restorers on the tomogram alone, with one loss for a family of published methods.

Notation: ``f`` restores a volume, ``v_1, v_2`` are half tomograms of independent noise, ``A_M v``
is v restricted to the measured frequencies M, ``R`` is a rotation of the cube, and ``M_R`` is the
wedge rotated with the sample. The loss averages over both orders of the halves::

    loss = observed |A_M (v_2 - f(v_1))|^p + | W^(1/2) F (R t_2 - f(A_M R b_1)) |^p
    W    = seen M_R M + lost M_R (1 - M) + never (1 - M_R)

``|.|^p`` is the mean over voxels. A `Recipe` selects the base b, the target t and the factors; each
published method is one recipe. The first term removes noise, because noise cannot be predicted from
independent noise (Lehtinen et al. 2018). The second term removes measured information from the
rotated sample and trains the restorer to recover it.

A tomogram without halves is split into two volumes with independent noise; see `split`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from cryojax_seg.core import fourier
from cryojax_seg.core.combinators import Chain
from cryojax_seg.core.loss import Objective
from cryojax_seg.core.operator import LocalOperator
from cryojax_seg.core.plain import Shape
from cryojax_seg.core.rotation import rotate_on_grid
from cryojax_seg.core.segmenter import Segmenter
from cryojax_seg.core.types import BATCH_AXIS, Array, Key, Scalar, Volume
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.losses.consistency import random_rotation
from cryojax_seg.losses.objective import require

Part = Literal["data", "filled", "estimate"]
Transfer = Callable[[MissingWedge, Shape], Array]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Describes one self-supervised method by the terms of its loss.

    Attributes:
        halves: whether base and target come from the two halves; otherwise both come from the
            tomogram itself.
        observed: factor of the term without rotation.
        everywhere: whether that term compares all frequencies instead of the measured ones.
        base, target: volumes of the term with rotation: ``"data"`` is v; ``"filled"`` is v with its
            missing wedge filled from f(v), constant for the gradient; ``"estimate"`` is f(v), with
            gradients.
        seen: factor of frequencies that the rotated input shows.
        lost: factor of measured frequencies that the rotated input lacks.
        never: factor of frequencies that were never measured. If seen, lost and never are all 0,
            there is no term with rotation.
        noise: standard deviation of the noise added to the input, relative to the tomogram's.
        reinject: whether noise as strong as f removed is added to the fill (IsoNet2).
        power: 2 for squared, 1 for absolute differences.

    >>> own = dataclasses.replace(DEEPDEWEDGE, lost=5.0)
    >>> own.rotates, NOISE2NOISE.rotates
    (True, False)
    """

    halves: bool
    observed: float = 0.0
    everywhere: bool = False
    base: Part = "data"
    target: Part = "data"
    seen: float = 0.0
    lost: float = 0.0
    never: float = 0.0
    noise: float = 0.0
    reinject: bool = False
    power: Literal[1, 2] = 2

    @property
    def rotates(self) -> bool:
        return self.seen > 0 or self.lost > 0 or self.never > 0


# Noise2noise on even and odd halves (Lehtinen et al. 2018; cryoCARE, Buchholz et al. 2019).
NOISE2NOISE = Recipe(halves=True, observed=1.0, everywhere=True)
# IsoNet (Liu et al. 2022): the network's own output fills the missing wedge and is the target.
ISONET = Recipe(
    halves=False, base="filled", target="filled", seen=1.0, lost=1.0, never=1.0, noise=0.1, power=1
)
# IsoNet2 (Liu et al. 2025), noise2noise with mask weights: its own output is no target.
ISONET2 = Recipe(halves=True, base="filled", target="filled", seen=1.0, lost=20.0, reinject=True)
# DeepDeWedge (Wiedemann & Heckel 2024): the target is data, the input has a filled wedge.
DEEPDEWEDGE = Recipe(halves=True, base="filled", target="data", seen=1.0, lost=2.0)
# Equivariant imaging in one stage (Chen et al. 2021; ICECREAM, 2026): the estimate is rotated and
# measured again, and the restorer must recover it.
EQUIVARIANT = Recipe(
    halves=True, observed=1.0, base="estimate", target="estimate", seen=2.0, lost=2.0
)


def split(volume: Volume, transfer: Array, key: Key, share: float | None = None) -> Array:
    """Split a volume into two volumes ``(2, z, y, x)`` of the same sample with independent noise.

    The result is ``v + z`` and ``v - z`` with random z of the covariance of the noise
    (recorrupted-to-recorrupted, Pang et al. 2021), so that Gaussian noise is independent in both.
    This requires the noise spectrum. Without `share` the noise is assumed to be white inside the
    measured region, with the power of the volume in the highest fifth of frequencies, where signal
    is weak. A low-pass filtered tomogram has no power there: give the share of its own power
    spectrum, by shells, that is noise. A share of 1 smooths strong signal.

    Args:
        volume: ``(z, y, x)``.
        transfer: measured share of each frequency, in rfftn layout.
        key: random key.
        share: None for white noise, or 0 to 1.

    >>> volume = jax.random.normal(jax.random.key(0), (8, 8, 8))
    >>> halves = split(volume, jnp.ones((8, 8, 5)), jax.random.key(1))
    >>> halves.shape, bool(jnp.allclose(halves.mean(0), volume, atol=1e-5))
    ((2, 8, 8, 8), True)
    """
    shape = volume.shape
    sums = fourier.shell_sum(jnp.square(jnp.abs(fourier.rfftn(volume))), shape)
    count = fourier.shell_sum(jnp.square(transfer), shape)
    power = jnp.maximum(sums, 0) / jnp.maximum(count, 1.0) / volume.size
    if share is None:
        top = slice(4 * power.size // 5, None)
        floor = sums[top].sum() / jnp.maximum(count[top].sum(), 1.0) / volume.size
        power = jnp.minimum(power, floor)
    else:
        power = share * power
    amplitude = jnp.sqrt(power).at[0].set(0.0)  # the mean is not noise
    gain = fourier.shell_expand(amplitude, shape) * transfer
    z = fourier.apply_gain(jax.random.normal(key, shape, volume.dtype), gain)
    return jnp.stack([volume + z, volume - z])


def _filter(volumes: Array, gain: Array) -> Array:
    """Multiply volumes ``(half, z, y, x)`` by a real gain on the rfftn grid."""
    return jax.vmap(lambda v: fourier.apply_gain(v, gain))(volumes)


def _size(difference: Array, power: int) -> Scalar:
    return jnp.abs(difference).mean() if power == 1 else jnp.square(difference).mean()


def _refilled(data: Array, estimates: Array, transfer: Array, key: Key, reinject: bool) -> Array:
    """Return the data with unmeasured frequencies replaced by those of the estimates."""
    if reinject:
        # The halves differ only by their noise, and the estimates by the remaining noise.
        before, after = (jnp.std(pair[0] - pair[-1]) / 2**0.5 for pair in (data, estimates))
        removed = jnp.sqrt(jnp.abs(jnp.square(before) - jnp.square(after)) + 1e-12)
        noise = jax.random.normal(key, estimates.shape, estimates.dtype)
        estimates = estimates + removed * noise
    return data - _filter(data, 1 - transfer) + _filter(estimates, 1 - transfer)


def _like(volumes: Array, reference: Array) -> Array:
    """Give each volume the mean and standard deviation of its reference."""
    axes = (1, 2, 3)
    mean, deviation = reference.mean(axes, keepdims=True), reference.std(axes, keepdims=True)
    spread = jnp.sqrt(volumes.var(axes, keepdims=True) + 1e-12)
    return (volumes - volumes.mean(axes, keepdims=True)) / spread * deviation + mean


def restoration_of(operator: LocalOperator) -> Callable[[Volume], Volume]:
    """Return the restoration function of a restorer or of the restorers of a `core.Chain`.

    Raises:
        ValueError: if the operator contains no restorer.
    """
    if isinstance(operator, Chain) and operator.restorers:
        return operator.restore
    if isinstance(operator, Segmenter):
        raise ValueError(
            f"a restoration loss needs a restorer or a core.Chain with restorers, not a "
            f"{type(operator).__name__}"
        )
    return lambda volume: operator(volume)[..., 0]


def restoration(
    recipe: Recipe = EQUIVARIANT,
    transfer: Transfer = MissingWedge.transfer,
    share: float | None = None,
) -> Objective:
    """Return the objective that trains a restorer without labels; see the module docstring.

    With ``losses.add(segmentation, restoration(...), factors=(1.0, 0.3))`` a `core.Chain` learns to
    restore and to segment jointly, with gradients of both through the restorer.

    Args:
        recipe: `NOISE2NOISE`, `ISONET`, `ISONET2`, `DEEPDEWEDGE`, `EQUIVARIANT`, or your own.
        transfer: function that returns the measured share of each frequency, from 0 to 1, for a
            wedge and a shape, in rfftn layout; intermediate values may describe an anisotropic
            resolution.
        share: share of the power spectrum that is noise, used if the batch has no halves; see
            `split`.

    Raises:
        ValueError: when called, if the batch has no wedge or keys, or the operator contains no
            restorer.

    >>> from cryojax_seg.restore import Gaussian
    >>> from cryojax_seg.training import Batch
    >>> volume = jax.random.normal(jax.random.key(0), (1, 8, 8, 8))
    >>> wedge = jax.tree.map(lambda a: jnp.full(1, a), MissingWedge((-60.0, 60.0)))
    >>> batch = Batch(volume, wedge=wedge, key=jax.random.split(jax.random.key(1), 1))
    >>> bool(jax.jit(restoration(NOISE2NOISE))(Gaussian(1.0), batch) > 0)
    True
    """

    def objective(module: Any, batch: Any) -> Scalar:
        require("restoration", batch, "key", "wedge")
        run = restoration_of(module)
        shape = batch.volume.shape[1:]
        keys = jax.vmap(lambda key: jax.random.split(key, 4))(batch.key)
        masks = jax.vmap(lambda wedge: transfer(wedge, shape).astype(batch.volume.dtype))(
            batch.wedge
        )
        if not recipe.halves:
            data = batch.volume[:, None]
        elif batch.halves is not None:
            data = batch.halves
        else:
            data = jax.vmap(lambda v, m, k: split(v, m, k[0], share))(batch.volume, masks, keys)

        def restored(volumes: Array) -> Array:
            flat = volumes.reshape(-1, *shape)
            return jax.vmap(run, axis_name=BATCH_AXIS)(flat).reshape(volumes.shape)

        total = jnp.zeros((), batch.volume.dtype)
        parts = {"data": data}
        if recipe.observed or {recipe.base, recipe.target} != {"data"}:
            parts["estimate"] = restored(data)
        if recipe.observed:
            left = data[:, ::-1] - parts["estimate"]
            seen = left if recipe.everywhere else jax.vmap(_filter)(left, masks)
            total = total + recipe.observed * _size(seen, recipe.power)
        if not recipe.rotates:
            return total
        if "filled" in (recipe.base, recipe.target):
            estimates = jax.lax.stop_gradient(parts["estimate"])
            parts["filled"] = jax.vmap(
                lambda d, a, m, k: _refilled(d, a, m, k[1], recipe.reinject)
            )(data, estimates, masks, keys)

        def rotated(base: Array, target: Array, wedge: MissingWedge, mask: Array, keys: Array):
            matrix = random_rotation(wedge, shape, keys[2])
            base, target = (
                jax.vmap(lambda v: rotate_on_grid(matrix, v)[0])(pair) for pair in (base, target)
            )
            there = transfer(wedge.rotate(matrix.astype(mask.dtype)), shape).astype(mask.dtype)
            inputs = _filter(base, mask)
            if recipe.base == "filled":
                inputs = _like(inputs, base)
            if recipe.noise:
                inputs = inputs + recipe.noise * jax.random.normal(keys[3], inputs.shape)
            weight = recipe.seen * there * mask + recipe.lost * there * (1 - mask)
            return inputs, target[::-1], weight + recipe.never * (1 - there)

        inputs, targets, weights = jax.vmap(rotated)(
            parts[recipe.base], parts[recipe.target], batch.wedge, masks, keys
        )
        left = targets - restored(inputs)
        return total + _size(jax.vmap(_filter)(left, jnp.sqrt(weights)), recipe.power)

    return objective
