"""Shapes of the arrays that travel through the package, named once.

Arrays are ``(z, y, x)``, channels and classes come last, and there is no batch axis: batches are
made with `jax.vmap`.
"""

from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped

Volume = Float[Array, "z y x"]
Features = Float[Array, "z y x channel"]
Logits = Float[Array, "z y x class"]
Labels = Int[Array, "z y x"]
Weights = Float[Array, "z y x"]
Mask = Bool[Array, "z y x"]
Spectrum = Shaped[Array, "z y half_x"]
Scalar = Float[Array, ""]
Key = PRNGKeyArray
Shape = tuple[int, int, int]
