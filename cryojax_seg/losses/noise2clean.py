"""Trains a restorer on simulations, whose noise-free density is known."""

from typing import Any

import jax
import jax.numpy as jnp

from cryojax_seg.core.operator import LocalOperator
from cryojax_seg.core.types import BATCH_AXIS, Scalar
from cryojax_seg.losses.objective import require
from cryojax_seg.losses.self_supervised import restoration_of


def noise2clean(operator: LocalOperator, batch: Any) -> Scalar:
    """Return the objective ``|truth - f(volume)|^2``, a mean over voxels.

    Its minimiser is the posterior mean of the density given the tomogram, under the distribution of
    the simulated scenes: it removes noise and fills the missing wedge with typical content of these
    scenes. Other samples are therefore restored to resemble the simulated scenes as well.

    Args:
        operator: a restorer, or a `core.Chain` with restorers.
        batch: patches with `truth`.

    Raises:
        ValueError: if the batch has no truth, or the operator contains no restorer.

    >>> from types import SimpleNamespace
    >>> from cryojax_seg import restore
    >>> batch = SimpleNamespace(volume=jnp.zeros((1, 4, 4, 4)), truth=jnp.full((1, 4, 4, 4), 2.0))
    >>> float(noise2clean(restore.Gaussian(0.5), batch))
    4.0
    """
    require("noise2clean", batch, "truth")
    restored = jax.vmap(restoration_of(operator), axis_name=BATCH_AXIS)(batch.volume)
    return jnp.square(batch.truth - restored).mean()
