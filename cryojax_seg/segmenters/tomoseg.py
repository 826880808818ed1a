"""Segments slices by the tomoseg network of EMAN2 (Chen et al. 2017, doi:10.1038/nmeth.4405)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float

from cryojax_seg.core import Segmenter
from cryojax_seg.core.loss import Objective, supervised
from cryojax_seg.core.segmenter import check_divisible
from cryojax_seg.core.types import Array, Logits, Volume
from cryojax_seg.losses.voxel import log_mse
from cryojax_seg.segmenters.blocks import biased, initialize, kernel, vector

HEADS = ("linear_logmse", "sigmoid_bce")
_SIZE = 15
_CHANNELS = 40
_DEVIATION = 0.01  # of the initial kernels, cut at two deviations


class _Layer(nnx.Module):
    """Convolves slices with 15x15 kernels, bias and zero padding."""

    def __init__(self, inputs: int, outputs: int):
        self.kernel = kernel((_SIZE, _SIZE, inputs, outputs), _DEVIATION**2)
        self.bias = vector(outputs)

    def __call__(self, slices: Float[Array, "z y x in"]) -> Float[Array, "z y x out"]:
        out = jax.lax.conv_general_dilated(
            jnp.asarray(slices),
            self.kernel[...].astype(slices.dtype),
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return biased(out, self.bias)


def _max_pool(slices: Float[Array, "z y x c"]) -> Float[Array, "z half_y half_x c"]:
    z, y, x, c = slices.shape
    return slices.reshape(z, y // 2, 2, x // 2, 2, c).max((2, 4))


class Tomoseg(Segmenter):
    """Applies three 15x15 convolutions to each z slice, with 40, 40 and one channel per class.

    A 2x2 max pooling follows the first, so a score sees 72x72 pixels of its slice and stands for
    2x2 of them; it is repeated to the full resolution. 378,081 parameters for one class. The
    input is divided by 3, which brings a normalised tomogram to about (-1, 1).

    Args:
        head: ``"sigmoid_bce"``: the output is a logit. ``"linear_logmse"``: the output is a value
            y that is trained towards 0 and 1 (`losses.log_mse`); the logit is ``y - 0.5``, so the
            label changes at y = 0.5 and ``logit + 0.5`` gives y back. Its probabilities are not
            calibrated.
        classes: one class, as in the original, or several that compete.
        rngs: source of the initial kernels.

    Raises:
        ValueError: for another head; on a call, for an axis that is not a multiple of 2.

    >>> net = Tomoseg(rngs=nnx.Rngs(0))
    >>> net.halo, net.stride, sum(p.size for p in jax.tree.leaves(net))
    (36, 2, 378081)
    """

    def __init__(
        self,
        head: str = "linear_logmse",
        classes: Sequence[str] = ("foreground",),
        *,
        rngs: nnx.Rngs,
    ):
        if head not in HEADS:
            raise ValueError(f"head {head!r} is not one of {', '.join(HEADS)}")
        self.head = head
        self.classes = tuple(classes)
        # An even pixel sees 35 to the left and 36 to the right, an odd one 36 and 35.
        self.halo, self.stride = 36, 2
        self.first = _Layer(1, _CHANNELS)
        self.second = _Layer(_CHANNELS, _CHANNELS)
        self.last = _Layer(_CHANNELS, len(self.classes))
        initialize(self, rngs, truncation=2.0)

    def default_loss(self) -> Objective:
        """Return the log mean squared error for the linear head, else cross-entropy plus Dice."""
        return supervised(log_mse) if self.head == "linear_logmse" else super().default_loss()

    def __call__(self, volume: Volume) -> Logits:
        check_divisible(volume.shape, self.stride)
        x = _max_pool(jax.nn.relu(self.first(jnp.asarray(volume)[..., None] / 3)))
        x = self.last(jax.nn.relu(self.second(x)))
        x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
        return x - 0.5 if self.head == "linear_logmse" else x
