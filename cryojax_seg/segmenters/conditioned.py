"""Conditions a segmenter on the directions that the tilt series measured."""

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from cryojax_seg.core import Segmenter
from cryojax_seg.core.neighbourhood import gaussian
from cryojax_seg.core.parameters import Numbers, learnable, window_radii
from cryojax_seg.core.rotation import cube_rotations, rotate_by_transposing, rotate_on_grid
from cryojax_seg.core.types import Logits, Volume
from cryojax_seg.core.wedge import MissingWedge


class WedgeConditioned(Segmenter):
    """Sharpens the input of a segmenter along the measured directions.

    The wedge enters through the second moments T of its transfer function (`MissingWedge.moments`):
    the segmenter reads ``I + a div(T grad G I) + b div(grad G I)``, with a Gaussian window G and
    two learned gains, initially 0. The segmenter always sees data in the frame of the acquisition:
    data with a rotated wedge are rotated back by the nearest rotation of the cube, and the logits
    are rotated forth. The result is therefore equivariant to joint rotations of data and wedge by
    rotations of the cube, for any segmenter, and tilts about x and about y are equivalent.

    Args:
        segmenter: any segmenter.
        wedge: missing wedge of the data; a training step uses that of each patch instead.
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
        moments = wedge.moments().astype(volume.dtype)
        steered, plain = jnp.zeros_like(volume), jnp.zeros_like(volume)
        for i in range(3):
            for j in range(i, 3):
                orders = (int(i == 0) + (j == 0), int(i == 1) + (j == 1), int(i == 2) + (j == 2))
                curvature = gaussian(volume, self.scale, self.radius, orders)
                steered = steered + (1 if i == j else 2) * moments[i, j] * curvature
                plain = plain + curvature if i == j else plain
        gains = self.gains[...].astype(volume.dtype)
        return self.segmenter(volume + gains[0] * steered + gains[1] * plain)


def _undo_rotation(wedge: MissingWedge, matrix) -> MissingWedge:
    return wedge.rotate(jnp.asarray(matrix.T, jnp.result_type(float)))
