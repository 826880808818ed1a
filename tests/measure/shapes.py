"""Phantoms with known areas: masks of shells, tori and caps, by their distance functions."""

import numpy as np


def grid(half, voxel_size=(1.0, 1.0, 1.0), turned=True):
    """Positions ``(3, z, y, x)`` around a centre off the voxels, turned against the axes."""
    half = np.broadcast_to(half, 3)
    shape = [int(2 * h / v) + 1 for h, v in zip(half, voxel_size, strict=True)]
    axes = [(np.arange(n) - (n - 1) / 2) * v for n, v in zip(shape, voxel_size, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij")) + np.array([0.3, -0.2, 0.1]).reshape(
        3, 1, 1, 1
    )
    if turned:
        turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
        points = np.einsum("ij,j...->i...", turn, points)
    return points


def sphere(points, radius):
    return np.linalg.norm(points, axis=0) - radius


def torus(points, major, minor):
    return np.hypot(np.hypot(points[1], points[2]) - major, points[0]) - minor


def cap(points, radius, angle):
    """Distances to a part of a sphere within an angle (degrees) of its pole, and to its plane."""
    far = np.linalg.norm(points, axis=0)
    inside = np.arccos(points[0] / np.maximum(far, 1e-9)) <= np.deg2rad(angle)
    height, rim = radius * np.cos(np.deg2rad(angle)), radius * np.sin(np.deg2rad(angle))
    to_rim = np.hypot(points[0] - height, np.hypot(points[1], points[2]) - rim)
    return np.where(inside, np.abs(far - radius), to_rim), inside


def cap_area(radius, angle):
    return 2 * np.pi * radius**2 * (1 - np.cos(np.deg2rad(angle)))


def ellipsoid(points, axes):
    """Distance to an ellipsoid, by Newton's method on the multiplier of the nearest point."""
    a2 = np.square(np.asarray(axes, float)).reshape(3, 1, 1, 1)
    root = np.zeros(points.shape[1:])
    for _ in range(25):
        part = points**2 * a2 / (a2 + root) ** 2
        value = part.sum(0) - 1
        slope = -2 * (part / (a2 + root)).sum(0)
        root = np.maximum(root - value / slope, -0.9 * a2.min())
    nearest = points * a2 / (a2 + root)
    sign = np.sign((points**2 / a2).sum(0) - 1)
    return sign * np.linalg.norm(points - nearest, axis=0)


def ellipsoid_area(axes, count=300):
    """By quadrature over the sphere."""
    a, b, c = axes
    z, w = np.polynomial.legendre.leggauss(count)
    angle = (np.arange(count) + 0.5) * 2 * np.pi / count
    x, y = (np.sqrt(1 - z * z)[:, None] * f(angle) for f in (np.cos, np.sin))
    density = a * b * c * np.sqrt((x / c) ** 2 + (y / b) ** 2 + (z[:, None] / a) ** 2)
    return float((w[:, None] * density).sum() * 2 * np.pi / count)
