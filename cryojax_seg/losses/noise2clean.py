"""What a restorer can learn from simulations, whose density without noise is known."""

from typing import Any

import jax
import jax.numpy as jnp

from cryojax_seg.core.operator import LocalOperator
from cryojax_seg.core.types import BATCH_AXIS, Scalar
from cryojax_seg.losses.self_supervised import restorer_of
from cryojax_seg.losses.wedge import require


def noise2clean(operator: LocalOperator, batch: Any) -> Scalar:
    """The objective ``|truth - f(volume)|^2``, a mean over voxels.

    Its minimum is the mean of all that the density may be, given the tomogram and the kind of
    scenes that were simulated: noise is removed and the wedge filled with what such scenes hold.
    A tomogram of something else is restored to what they hold too.

    Args:
        operator: a restorer, or a `core.Chain` with restorers.
        batch: with the `truth`.

    Raises:
        ValueError: when called, if the batch has no truth, or nothing restores.

    >>> from types import SimpleNamespace
    >>> from cryojax_seg import restore
    >>> batch = SimpleNamespace(volume=jnp.zeros((1, 4, 4, 4)), truth=jnp.full((1, 4, 4, 4), 2.0))
    >>> float(noise2clean(restore.Gaussian(0.5), batch))
    4.0
    """
    require("noise2clean", batch, "truth")
    restored = jax.vmap(restorer_of(operator), axis_name=BATCH_AXIS)(batch.volume)
    return jnp.square(batch.truth - restored).mean()
