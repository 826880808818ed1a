"""Rotations that map a grid of voxels onto itself: exact, nothing is interpolated."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from cryojax_seg.core.types import Array, Shape


def cube_rotations(shape: Shape) -> np.ndarray:
    """The proper rotations that map a box of this shape onto itself, as ``(count, 3, 3)`` integers.

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


def move(matrix: Array, *arrays: Array) -> tuple[jax.Array, ...]:
    """Arrays ``(z, y, x, ...)`` turned by a signed permutation matrix that keeps their shape.

    The content at r comes from ``M^T r``, with coordinates from the middle, in one gather each;
    the matrix (integers, zyx order) may be traced. (Chains of conditional flips compute the same,
    but compilers duplicate them exponentially.)

    >>> import jax.numpy as jnp
    >>> line = jnp.arange(3).reshape(1, 1, 3)
    >>> move(jnp.diag(jnp.array([1, -1, -1])), line)[0].ravel().tolist()
    [2, 1, 0]
    """
    shape = arrays[0].shape[:3]
    grids = np.meshgrid(*[2 * np.arange(n, dtype=np.int32) - (n - 1) for n in shape], indexing="ij")
    index = jnp.zeros(shape, jnp.int32)
    for axis, size in enumerate(shape):
        doubled = sum(matrix[other, axis] * grids[other] for other in range(3))
        index = index * size + (doubled + (size - 1)) // 2
    return tuple(jnp.asarray(a).reshape(-1, *a.shape[3:])[index] for a in arrays)


def transpose(matrix: np.ndarray, array: Array) -> jax.Array:
    """The same for a matrix known beforehand: an array of any shape, transposed and flipped.

    >>> import jax.numpy as jnp
    >>> about_x = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    >>> transpose(about_x, jnp.zeros((2, 3, 4))).shape
    (3, 2, 4)
    """
    matrix = np.asarray(matrix)
    order = np.abs(matrix).argmax(1).tolist()
    signs = matrix[np.arange(3), order]
    turned = jnp.transpose(jnp.asarray(array), (*order, *range(3, array.ndim)))
    return jnp.flip(turned, [axis for axis in range(3) if signs[axis] < 0])
