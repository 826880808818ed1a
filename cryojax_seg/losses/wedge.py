"""Provides objectives that weigh voxels by what the missing wedge hides.

They have the form ``objective(segmenter, batch) -> scalar`` (`losses.add` sums them) and use the
missing wedge of each patch beside its labels. An error names the part of the batch that is missing.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from cryojax_seg.core.loss import Objective
from cryojax_seg.core.segmenter import Segmenter
from cryojax_seg.core.types import Array, Scalar
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.losses.objective import require


def visibility_weights(
    batch: Any,
    emphasis: float,
    extent_angstrom: float = 60.0,
    thickness_angstrom: float = 15.0,
) -> Array:
    """Return the weights of a batch times ``1 + emphasis (1 - w(n))`` where there is a normal n.

    w(n) is the visibility of a surface with this normal.

    Args:
        batch: patches with `normals` and `wedge`.
        emphasis: -1 gives invisible surfaces no weight; values above 0 give them more weight.
        extent_angstrom, thickness_angstrom: size of the surface patch, see
            `MissingWedge.visibility`.

    Raises:
        ValueError: if the batch has no normals or no wedge, or emphasis is below -1.
    """
    if not emphasis >= -1:
        raise ValueError(f"emphasis must be at least -1 (weights are not negative), got {emphasis}")
    require("visibility_weighted", batch, "labels", "normals", "wedge")

    def visibility(wedge: MissingWedge, normals: Array) -> Array:
        return wedge.visibility(normals, extent_angstrom, thickness_angstrom)

    seen = jax.vmap(visibility)(batch.wedge, batch.normals)
    surface = jnp.square(batch.normals).sum(-1) > 0.25
    return batch.weights * jnp.where(surface, 1 + emphasis * (1 - seen), 1.0)


def visibility_weighted(
    objective: Objective,
    emphasis: float,
    extent_angstrom: float = 60.0,
    thickness_angstrom: float = 15.0,
) -> Objective:
    """Return an objective in which the visibility of surfaces weights their voxels.

    Every loss can be used, because weights enter all sums: cross-entropy, Dice, surface losses.

    Args:
        objective: for example ``losses.supervised(losses.cross_entropy)``.
        emphasis, extent_angstrom, thickness_angstrom: see `visibility_weights`.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> from cryojax_seg.training import Batch
    >>> volume = jax.random.normal(jax.random.key(0), (1, 8, 8, 8))
    >>> wedge = jax.tree.map(lambda a: jnp.full(1, a), MissingWedge((-60.0, 60.0)))
    >>> normals = jnp.zeros((1, 8, 8, 8, 3)).at[..., 0].set(1.0)  # along the beam
    >>> ones = jnp.ones_like(volume)
    >>> batch = Batch(volume, jnp.zeros(volume.shape, int), ones, wedge=wedge, normals=normals)
    >>> weighted = visibility_weighted(lambda segmenter, batch: batch.weights.mean(), emphasis=4.0)
    >>> round(float(weighted(GlobalThreshold(0.0), batch)), 1)
    4.0
    """

    def weighted(segmenter: Segmenter, batch: Any) -> Scalar:
        weights = visibility_weights(batch, emphasis, extent_angstrom, thickness_angstrom)
        return objective(segmenter, dataclasses.replace(batch, weights=weights))

    return weighted
