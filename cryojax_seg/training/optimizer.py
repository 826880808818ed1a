"""Turns gradients into updates, by AdamW or by Muon."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from cryojax_seg.core.types import Array
from cryojax_seg.training.config import TrainConfig

_MOMENTUM = 0.95
_COEFFICIENTS = (3.4445, -4.775, 2.0315)  # of Jordan et al. 2024
_ITERATIONS = 5
_RMS = 0.2  # root mean square of an update, as AdamW's


def optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Return the optimizer with gradient clipping; scalars and vectors do not decay.

    ``"adamw"`` is AdamW. ``"muon"`` is Muon (Jordan et al. 2024, "Muon: an optimizer for hidden
    layers in neural networks") for kernels and AdamW for the rest: the momentum of a kernel, as a
    matrix of inputs by outputs, is made orthogonal, and scaled to the size of an AdamW update (Liu
    et al. 2025, arXiv 2502.16982, equation 4).

    Its learning rate is 1: the step multiplies the updates by that of `schedule.learning_rate`.
    """
    match config.optimizer:
        case "adamw":
            rule = optax.adamw(1.0, weight_decay=config.weight_decay, mask=_are_kernels)
        case "muon":
            kernels = optax.chain(
                optax.trace(_MOMENTUM, nesterov=True),
                optax.stateless(lambda updates, _: jax.tree.map(_scaled, updates)),
                optax.add_decayed_weights(config.weight_decay),
                optax.scale(-1.0),
            )
            others = optax.adamw(1.0, weight_decay=0.0, nesterov=True)
            rule = optax.partition({True: kernels, False: others}, _are_kernels)
    return optax.chain(optax.clip_by_global_norm(config.clip), rule)


def _are_kernels(params: Any) -> Any:
    return jax.tree.map(lambda value: value.ndim > 1, params)


def _scaled(kernel: Array) -> Array:
    matrix = kernel.reshape(-1, kernel.shape[-1])
    size = _RMS * math.sqrt(max(matrix.shape))
    return (size * orthogonalized(matrix)).reshape(kernel.shape)


def orthogonalized(matrix: Array) -> Array:
    """Return U S V^T for a matrix U D V^T, with S near 1 wherever D is not near 0.

    Five Newton-Schulz iterations ``X <- a X + b A X + c A^2 X`` with ``A = X X^T``, of coefficients
    that rise fast from 0 and then stay between 0.7 and 1.2 (Jordan et al. 2024). Each is a product
    of X with a polynomial of A, and these commute. So they are multiplied as small matrices first,
    and a long matrix is multiplied only twice: a sixth of the time for ``3456 x 128``.

    Args:
        matrix: ``(rows, columns)``.

    >>> import jax.numpy as jnp
    >>> found = orthogonalized(jnp.diag(jnp.array([3.0, -2.0])))
    >>> bool(jnp.allclose(found, jnp.diag(jnp.array([1.0, -1.0])), atol=0.4))
    True
    """
    tall = matrix.shape[0] > matrix.shape[1]
    matrix = matrix / (jnp.linalg.norm(matrix) + 1e-8)
    # Rounding errors of A grow by the square of the first coefficient with each iteration.
    with jax.default_matmul_precision("highest"):
        gram = matrix.T @ matrix if tall else matrix @ matrix.T
        a, b, c = _COEFFICIENTS
        identity = jnp.eye(len(gram), dtype=gram.dtype)
        total = identity
        for _ in range(_ITERATIONS):
            factor = a * identity + b * gram + c * (gram @ gram)
            total = factor @ total
            gram = factor @ gram @ factor
        return matrix @ total if tall else total @ matrix
