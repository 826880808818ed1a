"""Computes rotations that map the voxel grid onto itself, and rotations from rotation vectors."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from cryojax_seg.core.plain import Shape
from cryojax_seg.core.types import Array


def cube_rotations(shape: Shape) -> np.ndarray:
    """Return the proper rotations ``(count, 3, 3)`` that map a box of this shape onto itself.

    They are signed permutation matrices of integers in zyx order.

    >>> len(cube_rotations((8, 8, 8))), len(cube_rotations((4, 8, 8)))
    (24, 8)
    """
    matrices = [
        np.eye(3, dtype=np.int32)[list(order)] * np.array(signs, np.int32)[:, None]
        for order in itertools.permutations(range(3))
        for signs in itertools.product((1, -1), repeat=3)
        if all(shape[i] == shape[j] for i, j in enumerate(order))
    ]
    return np.stack([m for m in matrices if np.linalg.det(m) > 0])


def rotate_on_grid(matrix: Array, *arrays: Array) -> tuple[jax.Array, ...]:
    """Rotate arrays ``(z, y, x, ...)`` by a signed permutation matrix that keeps their shape.

    Each array is gathered once: the value at r comes from ``M^T r``, with coordinates relative to
    the centre. The matrix (integers, zyx order) may be traced. (Chains of conditional flips would
    compute the same, but compilers duplicate them exponentially.)

    >>> import jax.numpy as jnp
    >>> line = jnp.arange(3).reshape(1, 1, 3)
    >>> rotate_on_grid(jnp.diag(jnp.array([1, -1, -1])), line)[0].ravel().tolist()
    [2, 1, 0]
    """
    shape = arrays[0].shape[:3]
    grids = np.meshgrid(*[2 * np.arange(n, dtype=np.int32) - (n - 1) for n in shape], indexing="ij")
    index = jnp.zeros(shape, jnp.int32)
    for axis, size in enumerate(shape):
        doubled = sum(matrix[other, axis] * grids[other] for other in range(3))
        index = index * size + (doubled + (size - 1)) // 2
    return tuple(jnp.asarray(a).reshape(-1, *a.shape[3:])[index] for a in arrays)


def rotate_by_transposing(matrix: np.ndarray, array: Array) -> jax.Array:
    """Rotate an array of any shape by a concrete signed permutation matrix.

    The result equals that of `rotate_on_grid`, but the array is transposed and flipped.

    >>> import jax.numpy as jnp
    >>> about_x = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    >>> rotate_by_transposing(about_x, jnp.zeros((2, 3, 4))).shape
    (3, 2, 4)
    """
    matrix = np.asarray(matrix)
    order = np.abs(matrix).argmax(1).tolist()
    signs = matrix[np.arange(3), order]
    rotated = jnp.transpose(jnp.asarray(array), (*order, *range(3, array.ndim)))
    return jnp.flip(rotated, [axis for axis in range(3) if signs[axis] < 0])


def rotation_from_vector(vector: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """Return the right-handed rotation about a vector (zyx) by its length in radians.

    The matrix, in zyx order, follows from Rodrigues' formula
    ``I + sin(t)/t K + (1 - cos(t))/t^2 K^2``. Near 0 its series is used, so that gradients with
    respect to small rotations are finite.

    >>> import jax.numpy as jnp
    >>> quarter = rotation_from_vector(jnp.array([jnp.pi / 2, 0.0, 0.0]))  # about z
    >>> (quarter @ jnp.array([0.0, 0.0, 1.0])).round(3).tolist()  # x becomes y
    [0.0, 1.0, 0.0]
    """
    vector = jnp.asarray(vector)
    z, y, x = vector
    zero = jnp.zeros_like(z)
    rows = ((zero, x, -y), (-x, zero, z), (y, -z, zero))
    cross = jnp.stack([jnp.stack(row) for row in rows])
    square = z * z + y * y + x * x
    small = square < 1e-4  # the remaining terms of the series are below 1e-9
    safe = jnp.where(small, 1.0, square)
    angle = jnp.sqrt(safe)
    first = jnp.where(small, 1 - square / 6 + square * square / 120, jnp.sin(angle) / angle)
    second = jnp.where(
        small, 0.5 - square / 24 + square * square / 720, (1 - jnp.cos(angle)) / safe
    )
    return jnp.eye(3, dtype=vector.dtype) + first * cross + second * (cross @ cross)
