"""Defines names for array types.

Arrays are ``(z, y, x)`` with channels or classes last, and there is no batch axis: `jax.vmap`
adds one.
"""

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, Integer, PRNGKeyArray, Real, Shaped

Array = jax.Array | np.ndarray  # NumPy arrays are accepted wherever JAX arrays are

Number = float | Float[Array, ""]
Volume = Float[Array, "z y x"]
Features = Float[Array, "z y x channel"]
Logits = Float[Array, "z y x class"]
Labels = Int[Array, "z y x"]
Weights = Float[Array, "z y x"]
Mask = Bool[Array, "z y x"]
Spectrum = Shaped[Array, "z y half_x"]
Scalar = Float[Array, ""]
Key = PRNGKeyArray

# Volumes of any dtype of a kind, whose shapes need not agree with those of other arguments.
MaskArray = Bool[Array, "_z _y _x"]
LabelArray = Integer[Array, "_z _y _x"]
WeightArray = Real[Array, "_z _y _x"]
ProbabilityArray = Real[Array, "_z _y _x"]

# Name of the batch axis that `jax.vmap` adds, over which batch normalisation averages.
BATCH_AXIS = "batch"


@runtime_checkable
class Annotation(Protocol):
    """Represents an annotated volume ``(z, y, x)``, optionally with a leading batch axis."""

    # Read-only properties, so that frozen dataclasses match.
    @property
    def volume(self) -> Any: ...
    @property
    def labels(self) -> Any: ...
    @property
    def weights(self) -> Any: ...


def at_least_float32(dtype: Any) -> Any:
    """Return the type in which to sum many numbers of this type: float32 or wider.

    >>> at_least_float32(jnp.bfloat16) == jnp.float32, at_least_float32(jnp.float64) == jnp.float64
    (True, True)
    """
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32
