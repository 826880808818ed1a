"""How the methods hold their numbers: learnable values, positive ones as logarithms."""

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

_room: ContextVar[list[int] | None] = ContextVar("room", default=None)


@contextlib.contextmanager
def room_for(count: int) -> Iterator[None]:
    """Within it modules that are made may hold so many values in all, so that a description from a
    file cannot fill the memory.

    >>> with room_for(8):
    ...     _ = filled((2, 2))
    ...     _ = filled((2, 3))
    Traceback (most recent call last):
        ...
    ValueError: it needs more parameters than there are
    """
    token = _room.set([count])
    try:
        yield
    finally:
        _room.reset(token)


def claim(shape: Sequence[int]) -> None:
    """Says that an array of this shape is about to be made.

    Raises:
        ValueError: within `room_for`, if there is none for it.
    """
    room = _room.get()
    if room is not None:
        room[0] -= math.prod(shape)
        if room[0] < 0:
            raise ValueError("it needs more parameters than there are")


def filled(shape: Sequence[int], value: float = 0.0) -> Array:
    """A float32 array of equal values, which a parameter starts from."""
    claim(shape)
    # Through NumPy, as jnp.full would compile a program for every size.
    return jnp.asarray(np.full(tuple(shape), value, np.float32))


def learnable(value: Numbers) -> nnx.Param:
    """A float32 parameter of any sign."""
    return nnx.Param(jnp.asarray(value, jnp.float32))


def learnable_log(name: str, value: Numbers) -> nnx.Param:
    """The logarithm of a positive parameter, so that no gradient step can make it negative.

    Raises:
        ValueError: naming the parameter, if a value is not positive and finite.
    """
    numbers = np.asarray(value, np.float32)
    if not (np.isfinite(numbers).all() and (numbers > 0).all()):
        raise ValueError(f"{name} must be positive and finite, not {value}")
    return nnx.Param(jnp.asarray(np.log(numbers)))


def exponential(name: str) -> Any:
    """A property that reads ``self.log_NAME`` as the positive number it stands for."""
    return property(lambda self: jnp.exp(getattr(self, f"log_{name}")[...]))


def window_radii(
    name: str, scales: Sequence[float | int], radii: Sequence[int] | None, reach: float = 4.0
) -> tuple[int, ...]:
    """Where Gaussian windows of these scales (voxels) are cut off: at `reach` scales by default.

    The radii are fixed while the scales are learned, because they are the neighbourhood.
    """
    if len(scales) == 0:
        raise ValueError(f"{name} needs at least one value")
    if radii is None:
        return tuple(max(1, math.ceil(reach * float(s))) for s in scales)
    if len(radii) != len(scales) or min(radii) < 1:
        raise ValueError(f"{name} {tuple(scales)} need one radius of 1 or more each, not {radii}")
    return tuple(int(r) for r in radii)


def one_class(method: str, classes: Sequence[str]) -> tuple[str, ...]:
    """The class of a method with one response.

    Raises:
        ValueError: for several classes, naming the combinator that makes them.
    """
    if len(classes) != 1:
        raise ValueError(
            f"{method} has one response, so it takes one class, not {tuple(classes)}; "
            f"for several classes use Stacked([{method}(...), ...], classes={tuple(classes)})"
        )
    return tuple(classes)


def per_threshold(name: str, value: Numbers, classes: Sequence[str]) -> np.ndarray:
    """A value per threshold: a scalar for one class, ``(K - 1,)`` for K classes.

    Raises:
        ValueError: naming the parameter, if there are no classes or the count does not fit.
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
    """Logits of the intensity bands that one or more thresholds cut out.

    One class: ``(I - t) / softness``. K classes: ``logit_0 = 0`` and
    ``logit_k = sum_{j <= k} (I - t_j) / softness`` with the thresholds in ascending order.
    Neighbouring logits are equal exactly at their threshold and the increments fall with k, so
    the largest logit is the band.
    """
    steps = (volume[..., None] - jnp.sort(thresholds, axis=-1)) / softness
    if len(classes) == 1:
        return steps
    return jnp.concatenate([jnp.zeros_like(steps[..., :1]), jnp.cumsum(steps, axis=-1)], axis=-1)
