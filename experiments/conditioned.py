"""Conditions a segmenter on the directions that the tilt series measured, and trains it so.

`wedge_losses.py` asks what this is worth.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Float

from cryojax_seg.core import Segmenter
from cryojax_seg.core.loss import Loss, Objective, finite, labels_of
from cryojax_seg.core.neighbourhood import gaussian
from cryojax_seg.core.parameters import Numbers, learnable, window_radii
from cryojax_seg.core.rotation import cube_rotations, rotate_by_transposing, rotate_on_grid
from cryojax_seg.core.types import BATCH_AXIS, Array, Logits, Scalar, Volume
from cryojax_seg.core.wedge import MissingWedge


def moments(wedge: MissingWedge) -> Float[Array, "3 3"]:
    """Return the second moments of the measured directions, a ``(3, 3)`` tensor in zyx order.

    The tensor is ``T = 3 E[M(k) k k^T]`` over unit vectors k. It is the identity if everything was
    measured, and smaller along unmeasured directions; ``moments(wedge.rotate(R))`` is ``R T R^T``.
    Along the tilt axis ``T = (high - low) / pi``; across it the components are the integrals of
    ``2 cos^2 a``, ``2 sin^2 a`` and ``2 sin a cos a`` over the tilt angles a, divided by pi. A hard
    edge is assumed.

    >>> [round(float(m), 2) for m in jnp.diag(moments(MissingWedge((-60.0, 60.0))))]
    [0.39, 0.67, 0.94]
    """
    upright, real = wedge.about_y(), jnp.result_type(float)
    low, high = (jnp.deg2rad(jnp.asarray(a, real)) for a in wedge.tilt_range)
    span, double = high - low, (jnp.sin(2 * high) - jnp.sin(2 * low)) / 2
    mixed = jnp.square(jnp.sin(high)) - jnp.square(jnp.sin(low))
    zero = jnp.zeros_like(span)
    rows = ((span - double, zero, mixed), (zero, span, zero), (mixed, zero, span + double))
    tensor = jnp.stack([jnp.stack(row) for row in rows]) / jnp.pi
    rotation = jnp.asarray(upright.rotation, tensor.dtype)
    return rotation @ tensor @ rotation.T


class WedgeConditioned(Segmenter):
    """Sharpens the input of a segmenter along the measured directions.

    The wedge enters through the second moments T of its transfer function (`moments`): the
    segmenter reads ``I + a div(T grad G I) + b div(grad G I)``, with a Gaussian window G and two
    learned gains, initially 0. The segmenter always sees data in the frame of the acquisition: data
    with a rotated wedge are rotated back by the nearest rotation of the cube, and the logits are
    rotated forth. The result is therefore equivariant to joint rotations of data and wedge by
    rotations of the cube, for any segmenter, and tilts about x and about y are equivalent.

    Args:
        segmenter: any segmenter.
        wedge: missing wedge of the data; `given_wedge` uses that of each patch instead.
        scale: standard deviation of the window, voxels.
        gains: a and b.
        radius: radius in voxels at which the window is truncated; 4 scales by default.

    Raises:
        ValueError: for a scale that is not positive.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> conditioned = WedgeConditioned(GlobalThreshold(1.0), MissingWedge((-60.0, 60.0)))
    >>> conditioned.halo, conditioned.with_wedge(MissingWedge((-50.0, 50.0))).wedge.tilt_range
    (4, (-50.0, 50.0))
    """

    def __init__(
        self,
        segmenter: Segmenter,
        wedge: MissingWedge,
        scale: float | int = 1.0,
        gains: Numbers = (0.0, 0.0),
        radius: int | None = None,
    ):
        if not scale > 0:
            raise ValueError(f"scale must be positive, not {scale}")
        self.segmenter = segmenter
        self.wedge = wedge.as_numbers()
        self.scale = scale
        (self.radius,) = window_radii("scale", (scale,), None if radius is None else (radius,))
        self.gains = learnable(gains)
        self.halo = segmenter.halo + self.radius
        self.stride, self.classes = segmenter.stride, segmenter.classes

    def with_wedge(self, wedge: MissingWedge) -> "WedgeConditioned":
        """Return the segmenter for data with another wedge; parameters are shared."""
        return WedgeConditioned(self.segmenter, wedge, self.scale, self.gains[...], self.radius)

    def __call__(self, volume: Volume) -> Logits:
        return self.logits_given_wedge(volume, self.wedge)

    def logits_given_wedge(self, volume: Volume, wedge: MissingWedge) -> Logits:
        """Return the logits of a volume with this wedge, whose numbers may be traced."""
        wedge = wedge.about_y()
        if isinstance(wedge.rotation, Tracer):  # tracing allows only rotations that keep the shape
            table = jnp.asarray(cube_rotations(volume.shape))
            fit = (table.astype(wedge.rotation.dtype) * wedge.rotation[None]).sum((1, 2))
            matrix = table[jnp.argmax(fit)]
            logits = self._upright(
                rotate_on_grid(matrix.T, volume)[0], _undo_rotation(wedge, matrix)
            )
            return rotate_on_grid(matrix, logits)[0]
        table = cube_rotations((1, 1, 1))
        matrix = table[np.argmax((table * np.asarray(wedge.rotation)).sum((1, 2)))]
        logits = self._upright(
            rotate_by_transposing(matrix.T, volume), _undo_rotation(wedge, matrix)
        )
        return rotate_by_transposing(matrix, logits)

    def _upright(self, volume: Volume, wedge: MissingWedge) -> Logits:
        tensor = moments(wedge).astype(volume.dtype)
        steered, plain = jnp.zeros_like(volume), jnp.zeros_like(volume)
        for i in range(3):
            for j in range(i, 3):
                orders = (int(i == 0) + (j == 0), int(i == 1) + (j == 1), int(i == 2) + (j == 2))
                curvature = gaussian(volume, self.scale, self.radius, orders)
                steered = steered + (1 if i == j else 2) * tensor[i, j] * curvature
                plain = plain + curvature if i == j else plain
        gains = self.gains[...].astype(volume.dtype)
        return self.segmenter(volume + gains[0] * steered + gains[1] * plain)


def _undo_rotation(wedge: MissingWedge, matrix) -> MissingWedge:
    return wedge.rotate(jnp.asarray(matrix.T, jnp.result_type(float)))


def given_wedge(loss: Loss) -> Objective:
    """Return the objective that applies a loss to the logits which know the wedge of each patch.

    >>> from cryojax_seg.losses import cross_entropy
    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> from cryojax_seg.training import Batch
    >>> wedge = MissingWedge((-60.0, 60.0))
    >>> volume = jnp.full((1, 2, 2, 2), 1.0)
    >>> wedges = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], wedge.about_y())
    >>> batch = Batch(volume, volume.astype(int), volume, wedge=wedges)
    >>> conditioned = WedgeConditioned(GlobalThreshold(1.0), wedge)
    >>> round(float(given_wedge(cross_entropy)(conditioned, batch)), 3)  # log 2
    0.693
    """

    def objective(segmenter: Any, batch: Any) -> Scalar:
        run = jax.vmap(segmenter.logits_given_wedge, axis_name=BATCH_AXIS)
        return loss(run(finite(batch), batch.wedge), *labels_of(batch))

    return objective
