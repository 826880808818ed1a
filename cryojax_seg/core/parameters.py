"""Creates learnable parameters; positive ones are stored as logarithms."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Float

from cryojax_seg.core.types import Array, Logits, Scalar, Volume

Numbers = ArrayLike | Sequence[float | int]

_remaining: ContextVar[list[int] | None] = ContextVar("remaining", default=None)


@contextlib.contextmanager
def parameter_limit(count: int) -> Iterator[None]:
    """Limit the total number of parameters that modules created in this context may hold.

    The limit keeps a model description read from a file from exhausting memory.

    >>> with parameter_limit(8):
    ...     _ = filled((2, 2))
    ...     _ = filled((2, 3))
    Traceback (most recent call last):
        ...
    ValueError: the operator needs more parameters than its file contains
    """
    token = _remaining.set([count])
    try:
        yield
    finally:
        _remaining.reset(token)


def reserve(shape: Sequence[int]) -> None:
    """Count an array of this shape, which is about to be created, towards `parameter_limit`.

    Raises:
        ValueError: if the limit is exceeded.
    """
    remaining = _remaining.get()
    if remaining is not None:
        remaining[0] -= math.prod(shape)
        if remaining[0] < 0:
            raise ValueError("the operator needs more parameters than its file contains")


def filled(shape: Sequence[int], value: float = 0.0) -> Array:
    """Return a float32 array of equal values, the initial value of a parameter."""
    reserve(shape)
    # jnp.full would compile a program for every size.
    return jnp.asarray(np.full(tuple(shape), value, np.float32))


def learnable(value: Numbers) -> nnx.Param:
    """Return a float32 parameter of any sign."""
    return nnx.Param(jnp.asarray(value, jnp.float32))


def learnable_log(name: str, value: Numbers) -> nnx.Param:
    """Return the logarithm of a positive parameter, which no gradient step can make negative.

    Raises:
        ValueError: if a value is not positive and finite.
    """
    numbers = np.asarray(value, np.float32)
    if not (np.isfinite(numbers).all() and (numbers > 0).all()):
        raise ValueError(f"{name} must be positive and finite, not {value}")
    return nnx.Param(jnp.asarray(np.log(numbers)))


def exponential(name: str) -> Any:
    """Return a property that is the exponential of ``self.log_NAME``."""
    return property(lambda self: jnp.exp(getattr(self, f"log_{name}")[...]))


def window_radii(
    name: str, scales: Sequence[float | int], radii: Sequence[int] | None, truncate: float = 4.0
) -> tuple[int, ...]:
    """Return the radii in voxels at which Gaussian windows of these scales are truncated.

    The default is `truncate` times the scale. The radii define the halo, so they stay fixed while
    the scales are learned.
    """
    if len(scales) == 0:
        raise ValueError(f"{name} needs at least one value")
    if radii is None:
        return tuple(max(1, math.ceil(truncate * float(s))) for s in scales)
    if len(radii) != len(scales) or min(radii) < 1:
        raise ValueError(f"{name} {tuple(scales)} need one radius of 1 or more each, not {radii}")
    return tuple(int(r) for r in radii)


def one_class(method: str, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the only class of a method with a single response.

    Raises:
        ValueError: if there are several classes; the message suggests `Stacked`.
    """
    if len(classes) != 1:
        raise ValueError(
            f"{method} has one response, so it takes one class, not {tuple(classes)}; "
            f"for several classes use Stacked([{method}(...), ...], classes={tuple(classes)})"
        )
    return tuple(classes)


def per_threshold(name: str, value: Numbers, classes: Sequence[str]) -> np.ndarray:
    """Return one value per threshold: a scalar for one class, ``(K - 1,)`` for K classes.

    Raises:
        ValueError: if there are no classes, or the number of values does not match.
    """
    if len(classes) == 0:
        raise ValueError("classes needs at least one name")
    count = max(1, len(classes) - 1)
    numbers = np.asarray(value, np.float32)
    if numbers.size not in (1, count):
        raise ValueError(
            f"{name} needs {count} value{'s' * (count > 1)} for the classes {tuple(classes)}, "
            f"not {numbers.size}"
        )
    return numbers.reshape(()) if len(classes) == 1 else np.broadcast_to(numbers, (count,))


def bands(
    volume: Volume,
    thresholds: Float[Array, "#z #y #x threshold"],
    softness: Scalar,
    classes: tuple[str, ...],
) -> Logits:
    """Return the logits of the intensity bands between one or more thresholds.

    One class: ``(I - t) / softness``. K classes: ``logit_0 = 0`` and
    ``logit_k = sum_{j <= k} (I - t_j) / softness`` with the thresholds in ascending order.
    Adjacent logits are equal at their threshold and the increments decrease with k, so the largest
    logit belongs to the band that contains I.
    """
    steps = (volume[..., None] - jnp.sort(thresholds, axis=-1)) / softness
    if len(classes) == 1:
        return steps
    return jnp.concatenate([jnp.zeros_like(steps[..., :1]), jnp.cumsum(steps, axis=-1)], axis=-1)
