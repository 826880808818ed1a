"""What a restorer can learn from the tomogram alone: one loss for the whole family of methods.

Notation: ``f`` restores a volume, ``v_1, v_2`` are half tomograms of independent noise, ``A_M v``
is v with only the measured frequencies M, ``R`` a rotation of the cube, ``M_R`` the rotated wedge.
With each half in the part of the first::

    loss = observed |A_M (v_2 - f(v_1))|^p + | W^(1/2) F (R t_2 - f(A_M R b_1)) |^p
    W    = seen M_R M + lost M_R (1 - M) + never (1 - M_R)

``|.|^p`` is the mean over voxels. A `Recipe` says what the base b and the target t are, and what
counts how much; the published methods are rows of that table. Noise cannot be predicted from noise
that is independent of it (Lehtinen et al. 2018), so the first term removes it; the second takes
from the sample what the tilt series measured of it, and asks for it back.

Without halves a tomogram is split into two with independent noise, see `split`.
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
from cryojax_seg.core.rotation import rotate_on_grid
from cryojax_seg.core.segmenter import Segmenter
from cryojax_seg.core.types import BATCH_AXIS, Array, Key, Scalar, Shape, Volume
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.losses.wedge import random_rotation, require

Part = Literal["data", "filled", "estimate"]
Transfer = Callable[[MissingWedge, Shape], Array]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One row of the table.

    Attributes:
        halves: whether base and target come from two halves; else from the tomogram itself.
        observed: factor of the term without rotation.
        everywhere: let that term compare all frequencies, and not the measured ones alone.
        base, target: of the rotated term: the ``"data"`` v; v with its wedge ``"filled"`` from
            f(v), a constant for the gradient; or the ``"estimate"`` f(v), with its
            gradient.
        seen, lost, never: factors of frequencies that the input shows; that were measured, and that
            the rotation took away; that were never measured. All 0: no rotated term.
        noise: standard deviation of noise added to the input, of the tomogram's.
        reinject: add to what fills the wedge the noise that f removed (IsoNet2).
        power: 2 for squares, 1 for absolute values.
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
# IsoNet (Liu et al. 2022): the network's own output fills the wedge, and counts as the truth.
ISONET = Recipe(
    halves=False, base="filled", target="filled", seen=1.0, lost=1.0, never=1.0, noise=0.1, power=1
)
# IsoNet2 (Liu et al. 2025), noise2noise with mask weights: its own outputs do not count.
ISONET2 = Recipe(halves=True, base="filled", target="filled", seen=1.0, lost=20.0, reinject=True)
# DeepDeWedge (Wiedemann & Heckel 2024): the target is data, the input is refilled.
DEEPDEWEDGE = Recipe(halves=True, base="filled", target="data", seen=1.0, lost=2.0)
# Equivariant imaging in one stage (Chen et al. 2021; ICECREAM, 2026): the estimate is rotated,
# measured again, and must come back.
EQUIVARIANT = Recipe(
    halves=True, observed=1.0, base="estimate", target="estimate", seen=2.0, lost=2.0
)


def split(volume: Volume, transfer: Array, key: Key, share: float | None = None) -> Array:
    """Two volumes ``(2, z, y, x)`` of one sample with independent noise, from a single one.

    ``v + z`` and ``v - z``, with z of the covariance of the noise (recorrupted-to-recorrupted,
    Pang et al. 2021): the noise of the first is then independent of that of the second, if it is
    Gaussian. Its spectrum has to be known. Without a `share` it is taken to be white inside the
    measured region, with the power that the volume has in the highest fifth of frequencies, where
    there is little else. Of a tomogram that was low-pass filtered that would be nothing: give the
    share of its own spectrum, in shells, that is noise. A share of 1 smooths what is strong.

    Args:
        volume: ``(z, y, x)``.
        transfer: what was measured, in rfftn layout.
        key: random key.
        share: None, or 0 to 1.
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
    amplitude = jnp.sqrt(power).at[0].set(0.0)  # the mean is no noise
    gain = fourier.shell_expand(amplitude, shape) * transfer
    z = fourier.apply_gain(jax.random.normal(key, shape, volume.dtype), gain)
    return jnp.stack([volume + z, volume - z])


def _filter(volumes: Array, gain: Array) -> Array:
    """Volumes ``(half, z, y, x)`` through a real gain on the rfftn grid."""
    return jax.vmap(lambda v: fourier.apply_gain(v, gain))(volumes)


def _size(difference: Array, power: int) -> Scalar:
    return jnp.abs(difference).mean() if power == 1 else jnp.square(difference).mean()


def _refilled(data: Array, outputs: Array, transfer: Array, key: Key, reinject: bool) -> Array:
    """The data, with what the restorer says where nothing was measured."""
    if reinject:
        # The halves differ by their noise alone, and so do the outputs by what is left of it.
        before, after = (jnp.std(pair[0] - pair[-1]) / 2**0.5 for pair in (data, outputs))
        removed = jnp.sqrt(jnp.abs(jnp.square(before) - jnp.square(after)) + 1e-12)
        outputs = outputs + removed * jax.random.normal(key, outputs.shape, outputs.dtype)
    return data - _filter(data, 1 - transfer) + _filter(outputs, 1 - transfer)


def _like(volumes: Array, reference: Array) -> Array:
    """Volumes with the mean and deviation of others, each of its own."""
    axes = (1, 2, 3)
    mean, deviation = reference.mean(axes, keepdims=True), reference.std(axes, keepdims=True)
    spread = jnp.sqrt(volumes.var(axes, keepdims=True) + 1e-12)
    return (volumes - volumes.mean(axes, keepdims=True)) / spread * deviation + mean


def restorer_of(operator: LocalOperator) -> Callable[[Volume], Volume]:
    """The restoration within an operator: a restorer itself, or the restorers of a `core.Chain`.

    Raises:
        ValueError: if nothing in the operator restores.
    """
    if isinstance(operator, Chain) and operator.restorers:
        return operator.restore
    if isinstance(operator, Segmenter):
        raise ValueError(
            f"a loss of restoration needs a restorer, or a core.Chain with restorers, not a "
            f"{type(operator).__name__}"
        )
    return lambda volume: operator(volume)[..., 0]


def restoration(
    recipe: Recipe = EQUIVARIANT,
    transfer: Transfer = MissingWedge.transfer,
    share: float | None = None,
) -> Objective:
    """The objective that a restorer learns by, without labels; see the top of this module.

    With ``losses.add(segmentation, restoration(...), factors=(1.0, 0.3))`` a `core.Chain`
    learns to restore and to segment at once, and gradients of both pass through the restorer.

    Args:
        recipe: `NOISE2NOISE`, `ISONET`, `ISONET2`, `DEEPDEWEDGE`, `EQUIVARIANT`, or one's own.
        transfer: what a wedge lets through, on the rfftn grid of a shape: real values between 0
            and 1 are welcome, such as an anisotropic resolution.
        share: of the power spectrum that is noise, where a tomogram has to be split; None for white
            noise; see `split`.

    Raises:
        ValueError: when called, if the batch lacks the wedge or the keys, or nothing restores.

    >>> deep = restoration(DEEPDEWEDGE)
    """

    def objective(module: Any, batch: Any) -> Scalar:
        require("restoration", batch, "key", "wedge")
        run = restorer_of(module)
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
            outputs = jax.lax.stop_gradient(parts["estimate"])
            parts["filled"] = jax.vmap(
                lambda d, a, m, k: _refilled(d, a, m, k[1], recipe.reinject)
            )(data, outputs, masks, keys)

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
