"""Makes coarse surfaces of objects that a page can turn."""

import base64
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from skimage.measure import marching_cubes

MOST = 60_000  # triangles in a page
_LEVEL = 0.35  # share of a coarse voxel at which the surface lies: thin sheets stay whole


def surfaces(
    objects: Callable[[], Iterable[tuple[int, str, Sequence[int], np.ndarray]]],
    shape: Sequence[int],
    most: int = MOST,
) -> dict[str, Any] | None:
    """Return the surfaces of objects for the script of a page; None without any.

    Voxels are combined until about so many triangles are left.

    Args:
        objects: returns for each object its colour (1, 2, ...), its name, the index of the first
            voxel of its box, and its mask. It is called twice, so that no object need be kept.
        shape: of the volume, ``(z, y, x)``.
        most: triangles.

    >>> ball = np.linalg.norm(np.indices((12, 12, 12)) - 5.5, axis=0) < 4
    >>> found = surfaces(lambda: [(1, "vesicle 1", (0, 0, 0), ball)], (12, 12, 12))
    >>> found["parts"][0]["name"], found["parts"][0]["count"] > 100
    ('vesicle 1', True)
    """
    faces = sum(
        np.count_nonzero(np.diff(mask, axis=axis)) for *_, mask in objects() for axis in range(3)
    )
    step = max(1, math.ceil(math.sqrt(2 * faces / most)))
    vertices, triangles, parts, before = [], [], [], 0
    for hue, name, start, mask in objects():
        mesh = _mesh(mask, step)
        if mesh is None:
            continue
        points, own = mesh
        parts.append({"hue": hue, "name": name, "start": 3 * sum(map(len, triangles))})
        parts[-1]["count"] = 3 * len(own)
        vertices.append(points + np.asarray(start, np.float32))
        triangles.append(own + before)
        before += len(points)
    if not parts:
        return None
    scale = 65535 / max(shape)
    points = np.clip(np.concatenate(vertices)[:, ::-1] * scale, 0, 65535).round().astype("<u2")
    return {
        "vertices": base64.b64encode(points.tobytes()).decode(),
        "triangles": base64.b64encode(np.concatenate(triangles).astype("<u4").tobytes()).decode(),
        "parts": parts,
        "shape": [n / max(shape) for n in shape][::-1],
    }


def _mesh(mask: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return vertices, in voxels of the mask, and triangles of one object; None if it is empty."""
    inside = np.argwhere(mask)
    if not len(inside):
        return None
    low = inside.min(0)
    inside = (inside - low) // step + 1  # counted, so that no box is copied as numbers
    shape = inside.max(0) + 2
    counts = np.bincount(np.ravel_multi_index(tuple(inside.T), shape), minlength=shape.prod())
    coarse = counts.reshape(shape).astype(np.float32) / step**3
    level = min(_LEVEL, 0.5 * float(coarse.max()))
    points, faces, _, _ = marching_cubes(coarse, level)
    return ((points + 0.5) * step - 0.5 - step + low).astype(np.float32), faces.astype(np.int64)
