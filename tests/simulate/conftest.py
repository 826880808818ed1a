import jax
import jax.numpy as jnp
import numpy as np
import pytest

QUICK = {"xla_backend_optimization_level": 0}  # compiles in a third of the time


@pytest.fixture
def check_gradients():
    """Compares the gradient in each argument with a central difference along one direction.

    One compilation gives values and gradients, which `jax.test_util.check_grads` takes three for.
    """

    def check(function, *arguments, step=1e-5, rtol=1e-4):
        places = tuple(range(len(arguments)))
        compiled = jax.jit(jax.value_and_grad(function, argnums=places), compiler_options=QUICK)
        _, gradients = compiled(*arguments)
        for place, gradient in enumerate(gradients):
            assert np.isfinite(gradient).all()
            direction = jnp.cos(jnp.arange(gradient.size, dtype=gradient.dtype))
            direction = direction.reshape(gradient.shape)
            values = []
            for sign in (1, -1):
                moved = list(arguments)
                moved[place] = moved[place] + sign * step * direction
                values.append(compiled(*moved)[0])
            difference = (values[0] - values[1]) / (2 * step)
            np.testing.assert_allclose(jnp.vdot(gradient, direction), difference, rtol=rtol)
            assert abs(difference) > 1e-4, place

    return check
