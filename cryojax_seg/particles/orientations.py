"""Makes rotations that cover SO(3) or a part of it evenly, and those along a membrane normal."""

import math

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from cryojax_seg.core.masks import structure_normals
from cryojax_seg.core.types import Array

# Roots of equations (5) of Alexa 2022.
_PHI = math.sqrt(2.0)
_PSI = 1.533751168755204288118041


def uniform_rotations(count: int) -> Float[np.ndarray, "n 3 3"]:
    """Return rotations that cover SO(3) evenly, on super-Fibonacci spirals.

    The source is Alexa 2022 (CVPR, "Super-Fibonacci Spirals: Fast, Low-Discrepancy Sampling of
    SO(3)"). No rotation is farther than about ``235 * count^(-1/3)`` degrees from one of them, and
    the mean distance is half of that. By `covering_angle`, these are 51 and 26 degrees for 100
    rotations, 22.3 and 11.8 for 1,000, 9.8 and 5.6 for 10,000.

    Returns:
        ``(count, 3, 3)`` matrices in zyx order.

    Raises:
        ValueError: for a count below 1.

    >>> rotations = uniform_rotations(100)
    >>> bool(np.allclose(rotations @ rotations.transpose(0, 2, 1), np.eye(3)))
    True
    """
    if count < 1:
        raise ValueError(f"count must be 1 or more, got {count}")
    s = np.arange(count) + 0.5
    inner, outer = np.sqrt(s / count), np.sqrt(1 - s / count)
    alpha, beta = 2 * np.pi * s / _PHI, 2 * np.pi * s / _PSI
    quaternions = [inner * np.sin(alpha), inner * np.cos(alpha)]
    quaternions += [outer * np.sin(beta), outer * np.cos(beta)]
    return _zyx(Rotation.from_quat(np.stack(quaternions, -1)).as_matrix())


def rotations_within(step: float | int) -> Float[np.ndarray, "n 3 3"]:
    """Return `uniform_rotations`, enough to have one within `step` degrees of any rotation.

    Raises:
        ValueError: if the step is not between 2 and 180 degrees.

    >>> len(rotations_within(20.0))
    1623
    """
    if not 2 <= step <= 180:
        raise ValueError(f"step must be between 2 and 180 degrees, got {step}")
    return uniform_rotations(math.ceil((235.0 / step) ** 3 - 1e-9))


def covering_angle(
    rotations: Float[Array, "n 3 3"], samples: int = 100_000, seed: int = 0
) -> tuple[float, float]:
    """Return the largest and mean angle from any rotation to the nearest of these, in degrees.

    Args:
        rotations: rotation matrices, in any order of axes.
        samples: number of random rotations; their largest angle is a little below the true one.
        seed: seed of the random rotations.

    >>> largest, mean = covering_angle(uniform_rotations(100), 10_000)
    >>> 45 < largest < 55, 25 < mean < 27
    (True, True)
    """
    # The distance of unit quaternions, of which both signs are one rotation, is 2 sin(angle / 4).
    own = Rotation.from_matrix(np.asarray(rotations, float)).as_quat()
    tree = KDTree(np.concatenate([own, -own]))
    random = np.random.default_rng(seed).normal(size=(samples, 4))
    chords, _ = tree.query(random / np.linalg.norm(random, axis=1, keepdims=True))
    angles = np.rad2deg(4 * np.arcsin(np.minimum(chords / 2, 1)))
    return float(angles.max()), float(angles.mean())


def rotations_near(angle: float | int, step: float | int) -> Float[np.ndarray, "n 3 3"]:
    """Return rotations by up to `angle` degrees on a grid about `step` apart, including that by 0.

    Their rotation vectors lie on a body-centred cubic lattice, the thinnest covering of space by
    balls: no rotation at least half a step below the largest angle is farther than 0.65 steps from
    one of them, and none at the largest angle is farther than 0.85 steps. Multiply a pose by them.

    Args:
        angle: largest angle, in degrees.
        step: distance between neighbours, in degrees.

    Raises:
        ValueError: unless 0 < step, and 0 <= angle <= 180.

    >>> near = rotations_near(10.0, 5.0)
    >>> len(near), bool((near == np.eye(3)).all((1, 2)).any())
    (59, True)
    """
    if not (step > 0 and 0 <= angle <= 180):
        raise ValueError(f"needs 0 < step and 0 <= angle <= 180 degrees, got {step} and {angle}")
    edge = 2 * step / math.sqrt(3)  # of the cubic cell, whose middle is the nearest neighbour
    size = math.ceil(angle / edge)
    grid = np.stack(np.meshgrid(*[np.arange(-size, size + 1)] * 3, indexing="ij"), -1)
    corners = grid.reshape(-1, 3) * edge
    vectors = np.concatenate([corners, corners + edge / 2])
    # Also those just outside, which cover what is just inside.
    vectors = vectors[np.linalg.norm(vectors, axis=1) <= angle + step / 4 + 1e-9]
    return _zyx(Rotation.from_rotvec(np.deg2rad(vectors)).as_matrix())


def orientations_from_normals(
    normals: Float[Array, "n 3"], seed: int | None = None
) -> Float[np.ndarray, "n 3 3"]:
    """Return rotations that take the z axis of the reference to these normals.

    The rotation about the normal is arbitrary: it is the smallest rotation by default, and random
    with a seed.

    Args:
        normals: ``(n, 3)`` vectors in zyx order, of any length above 0.
        seed: seed of random rotations about the normals; None for the smallest rotations.

    Returns:
        ``(n, 3, 3)``, ``lab = R @ reference``, in zyx order.

    Raises:
        ValueError: for a normal of length 0 or that is not finite.

    >>> orientations_from_normals(np.array([[0.0, 0.0, 2.0]]))[0][:, 0].round(3).tolist()  # to x
    [0.0, 0.0, 1.0]
    """
    normals = np.asarray(normals, np.float64).reshape(-1, 3)
    lengths = np.linalg.norm(normals, axis=1)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise ValueError("normals must be finite and longer than 0; leave out particles without")
    n = normals[:, ::-1] / lengths[:, None]  # xyz
    # The rotation about z x n; at n = -z about x.
    axis = np.stack([-n[:, 1], n[:, 0], 0 * n[:, 0]], -1)
    sine = np.linalg.norm(axis, axis=1)
    angle = np.arctan2(sine, n[:, 2])
    axis = np.where(sine[:, None] > 1e-12, axis / np.maximum(sine, 1e-300)[:, None], [1.0, 0, 0])
    found = Rotation.from_rotvec(axis * angle[:, None])
    if seed is not None:
        about = np.random.default_rng(seed).uniform(0, 2 * np.pi, len(n))
        found = found * Rotation.from_rotvec(about[:, None] * np.array([0.0, 0, 1]))
    return _zyx(found.as_matrix().reshape(-1, 3, 3))


def normals_at(
    coordinates: Float[Array, "n 3"], mask: Bool[Array, "_z _y _x"], sigma: float | int = 2.0
) -> Float[np.ndarray, "n 3"]:
    """Return unit normals (zyx) of a mask at particles near it, pointing from the mask to them.

    A normal is the gradient of the signed distance to the mask, smoothed by a Gaussian. In the
    middle of a membrane, where the gradient vanishes, it is the direction in which the distance
    changes most (`core.masks.structure_normals`), with the sign of the particle's side, if any.

    Args:
        coordinates: ``(n, 3)`` positions in voxels, zyx; those outside the volume take the normal
            of the nearest voxel.
        mask: voxels of a membrane or a compartment.
        sigma: standard deviation of the Gaussian, in voxels.

    Raises:
        ValueError: if the mask is empty or full, or sigma is not positive.

    >>> wall = np.zeros((16, 16, 16), bool); wall[7:9] = True
    >>> normals_at(np.array([[12.0, 8, 8], [3, 8, 8]]), wall).round(2).tolist()
    [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]
    """
    mask = np.asarray(mask)
    if not mask.any() or mask.all():
        raise ValueError("the mask is empty or full, so it has no surface and no normals")
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma}")
    outside = np.asarray(ndimage.distance_transform_edt(~mask), np.float32)
    outside -= np.asarray(ndimage.distance_transform_edt(mask), np.float32)
    places = np.asarray(coordinates, float).reshape(-1, 3).T
    if not places.size:
        return np.zeros((0, 3))

    def at(field: np.ndarray) -> np.ndarray:
        return np.asarray(ndimage.map_coordinates(field, places, order=1, mode="nearest"))

    steps = [np.gradient(outside, axis=axis) for axis in range(3)]
    smooth = [ndimage.gaussian_filter(step, sigma, mode="nearest") for step in steps]
    mean = np.stack([at(np.asarray(field)) for field in smooth], -1)
    across = structure_normals(outside, sigma, at, "nearest")
    across = across * np.where(np.sum(across * mean, 1, keepdims=True) < 0, -1.0, 1.0)
    length = np.linalg.norm(mean, axis=1, keepdims=True)
    return np.where(length > 0.5, mean / np.maximum(length, 1e-12), across)


def _zyx(matrices: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(matrices[:, ::-1, ::-1])
