"""Computes the mid-surface of a membrane as an oriented mesh, and its curvatures."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from scipy import ndimage
from scipy.optimize import root_scalar
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from scipy.spatial import KDTree
from skimage.measure import marching_cubes

from cryojax_seg.measure.area import membrane_area
from cryojax_seg.measure.mesh import NO_MESH, Mesh, cut, mesh_area, outwards
from cryojax_seg.measure.thickness import Sheet, Spacing

_NEIGHBOURS = 8  # points of the sheet that a distance is the mean of
_WIDEST = 3.0  # windows in which curvature is fitted
_MOST = 60  # points that it is fitted to
_BEYOND = 1.5  # voxels beyond the points of the sheet at which a mesh ends before it is cut back
_FLAT = 0.8  # voxels that the surface is from the middle of the nearest points
_DEEPEST = 4.0  # voxels that it is cut back at most
_STEP = 0.5  # voxels that it is moved at most


def oriented_normals(sheet: Sheet) -> np.ndarray:
    """Return the normals of a sheet with one sign on each connected piece, outwards if closed.

    Signs are propagated along a minimum spanning tree of one point in each cell of 2 x 2 x 2
    voxels, whose edges between adjacent cells cost ``1 - |n n'|`` (Hoppe et al. 1992, SIGGRAPH,
    section 3.3). The other points of a cell take its sign.

    Args:
        sheet: a sheet of `membrane_sheet`.

        Returns:
            ``(n, 3)`` unit vectors; on a non-orientable surface the sign jumps somewhere.

    >>> from cryojax_seg.measure.thickness import membrane_sheet
    >>> away = np.linalg.norm(np.indices((28, 28, 28)) - 13.5, axis=0)
    >>> sheet = membrane_sheet(abs(away - 9) < 1.5)
    >>> bool(((sheet.middle - 13.5) * oriented_normals(sheet) > 0).sum(1).min() > 0)
    True
    """
    if not len(sheet.normal):
        return sheet.normal
    cells = sheet.index // 2
    key = np.ravel_multi_index(tuple(cells.T), tuple(cells.max(0) + 1))
    _, first, cell = np.unique(key, return_index=True, return_inverse=True)
    normal, middle = sheet.normal[first].astype(np.float64), sheet.middle[first]
    sign = _consistent_signs(cells[first], normal, middle)
    agree = np.where((sheet.normal * normal[cell]).sum(1) < 0, -1, 1) * sign[cell]
    return (sheet.normal * agree[:, None]).astype(np.float32)


def _consistent_signs(cells: np.ndarray, normal: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Return the signs that make the normals of adjacent cells agree, outwards if closed."""
    count = len(normal)
    pairs = KDTree(cells).query_pairs(1.8, output_type="ndarray")
    agreement = (normal[pairs[:, 0]] * normal[pairs[:, 1]]).sum(1)
    cost = 1.001 - np.minimum(np.abs(agreement), 1)
    graph = coo_matrix((cost, (pairs[:, 0], pairs[:, 1])), shape=(count, count)).tocsr()
    tree = minimum_spanning_tree(graph)
    _, piece = connected_components(tree, directed=False)
    sign = np.ones(count)
    for start in np.unique(piece, return_index=True)[1]:
        order, before = breadth_first_order(tree, int(start), directed=False)
        turned = np.ones(count)
        turned[order[1:]] = np.sign((normal[order[1:]] * normal[before[order[1:]]]).sum(1))
        for i, j in zip(order[1:].tolist(), before[order[1:]].tolist(), strict=True):
            sign[i] = sign[j] * turned[i]
        outwards = (middle[order] - middle[order].mean(0)) * normal[order]
        if (outwards.sum(1) * sign[order]).sum() < 0:
            sign[order] *= -1
    return sign


def sheet_curvature(
    sheet: Sheet, normal: np.ndarray, at: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and Gaussian curvature at the points of a sheet.

    They follow from the change of its normals, as the half trace and the determinant of the shape
    operator S of ``n' - n = S (x' - x)``, which is fitted by least squares to the tangent
    components of neighbours within three windows.

    Args:
        sheet: a sheet of `membrane_sheet`.
        normal: its `oriented_normals`.
        at: indices ``(n,)`` of the points where it is needed; None for all.

    Returns:
        two arrays ``(n,)``; the mean curvature is positive where the normals diverge, as on a
        sphere.

    >>> from cryojax_seg.measure.thickness import membrane_sheet
    >>> away = np.linalg.norm(np.indices((34, 34, 34)) - 16.5, axis=0)
    >>> sheet = membrane_sheet(abs(away - 12) < 1.5)
    >>> mean, gaussian = sheet_curvature(sheet, oriented_normals(sheet))
    >>> round(float(mean.mean()) * 12, 1), round(float(gaussian.mean()) * 144, 1)
    (1.0, 1.1)
    """
    count = len(normal)
    at = np.arange(count) if at is None else np.asarray(at)
    mean, gaussian = np.zeros(at.size, np.float32), np.zeros(at.size, np.float32)
    if count < 8:
        return mean, gaussian
    rng = np.random.default_rng(0)
    # A quarter of the points, which are spread over the window and not the nearest of it.
    some = rng.permutation(count)[: max(count // 4, _MOST)]
    tree = KDTree(sheet.middle[some])
    axes = np.argmin(np.abs(normal[at]), axis=1)
    first = np.cross(normal[at], np.eye(3, dtype=np.float32)[axes])
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(normal[at], first)
    for begin in range(0, at.size, 20_000):
        places = slice(begin, min(begin + 20_000, at.size))
        part = at[places]
        widest = _WIDEST * sheet.window
        most = min(_MOST, some.size)
        distance, near = tree.query(sheet.middle[part], most, distance_upper_bound=widest)
        weight = np.isfinite(np.asarray(distance)).astype(np.float32)
        near = some[np.minimum(np.asarray(near), some.size - 1)]
        place = sheet.middle[near] - sheet.middle[part][:, None]
        change = normal[near] - normal[part][:, None]
        frame = np.stack([first[places], second[places]], 2)
        u, v = place @ frame, change @ frame
        weighted = np.swapaxes(weight[:, :, None] * u, 1, 2)
        gram = weighted @ u
        gram += 1e-6 * np.eye(2) * (np.trace(gram, axis1=1, axis2=2) + 1e-6)[:, None, None]
        shape = np.linalg.solve(gram, weighted @ v)
        mean[places] = np.trace(shape, axis1=1, axis2=2) / 2
        gaussian[places] = np.linalg.det(shape)
    return mean, gaussian


def membrane_mesh(
    sheet: Sheet,
    voxel_size: Spacing = (1.0, 1.0, 1.0),
    rim: Literal["flat", "round"] = "flat",
) -> Mesh:
    """Return a mesh of the mid-surface of a membrane, open where the membrane is open.

    The mesh comes from marching cubes on the signed distance to the points of the mid-surface, the
    mean over their nearest tangent planes. Windows of variance v shift the points of a curved sheet
    inwards by v times its mean curvature; this shift is undone first. Triangles alone do not show
    where an open edge is, so the mesh is cut back from its border until its area is
    `membrane_area`. A closed mesh is moved along its normals, by at most half a voxel, until it has
    that area.

    Args:
        sheet: a sheet of `membrane_sheet`.
        voxel_size: voxel size along z, y, x.
        rim: how the mask ends at open edges, see `membrane_area`.

    >>> from cryojax_seg.measure.mesh import mesh_area
    >>> from cryojax_seg.measure.thickness import membrane_sheet
    >>> away = np.linalg.norm(np.indices((34, 34, 34)) - 16.5, axis=0)
    >>> mesh = membrane_mesh(membrane_sheet(abs(away - 12) < 1.5))
    >>> round(mesh_area(mesh.vertices, mesh.faces) / (4 * np.pi * 12**2), 2)
    0.99
    """
    if len(sheet.index) < 8:
        return NO_MESH
    size = np.asarray(voxel_size, float)
    normal = oriented_normals(sheet)
    curvatures = np.stack(sheet_curvature(sheet, normal), 1)
    drawn = (sheet.window**2 + sheet.thickness**2 / 12) * curvatures[:, 0]
    middle = sheet.middle + np.clip(drawn, -sheet.window, sheet.window)[:, None] * normal
    middle, normal, curvatures = _thinned(size, middle, normal, curvatures)
    corners, faces, near = _zero_surface(middle, normal, size)
    if not len(faces):
        return NO_MESH
    weight = 1 / near.shape[1]
    values = np.concatenate([normal[near].sum(1) * weight, curvatures[near].sum(1) * weight], 1)
    aside = corners - middle[near].mean(1)
    across = values[:, :3] / np.linalg.norm(values[:, :3], axis=1, keepdims=True)
    height = (aside * across).sum(1)
    beyond = np.linalg.norm(aside - height[:, None] * across, axis=1)
    faces = faces[(np.abs(height) < _FLAT * float(size.max()))[faces].all(1)]  # ends of the band
    table, faces = cut(np.hstack([corners, values]), faces, _BEYOND * float(size.max()) - beyond)
    table, faces = _of_area(table, faces, membrane_area(sheet, rim=rim), float(size.max()))
    table = table.astype(np.float32)
    vertices, normal = table[:, :3], table[:, 3:6]
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    return Mesh(vertices, outwards(vertices, faces, normal), normal, table[:, 6], table[:, 7])


def _thinned(size: np.ndarray, middle: np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
    """Return the mean of the points in each voxel that the mid-surface goes through."""
    cells, member = np.unique(np.rint(middle / size).astype(int), axis=0, return_inverse=True)
    count = np.bincount(member.ravel(), minlength=len(cells))
    means = [
        np.stack([np.bincount(member.ravel(), column, len(cells)) / count for column in array.T], 1)
        for array in (middle, *values)
    ]
    means[1] /= np.maximum(np.linalg.norm(means[1], axis=1, keepdims=True), 1e-12)
    return means


def _zero_surface(middle: np.ndarray, normal: np.ndarray, size: np.ndarray):
    """Return vertices and faces at distance 0 to the points, and the nearest points of each."""
    cells = np.rint(middle / size).astype(int)
    start = cells.min(0) - 4
    band = np.zeros(cells.max(0) + 5 - start, bool)
    band[tuple((cells - start).T)] = True
    band = np.asarray(ndimage.binary_dilation(band, np.ones((3, 3, 3), bool), 2), bool)
    places = (np.argwhere(band) + start) * size
    tree = KDTree(middle)
    count = min(_NEIGHBOURS, len(middle))
    field = np.full(band.shape, 4 * float(size.max()), np.float32)
    offsets = [_offset(part, middle, normal, tree, count) for part in _chunks(places)]
    field[band] = np.concatenate(offsets)
    if not field.min() < 0 < field.max():
        return np.zeros((0, 3)), np.zeros((0, 3), int), np.zeros((0, count), int)
    corners, faces, _, _ = marching_cubes(field, 0.0, mask=band)
    corners = (corners + start) * size
    return corners, faces, np.asarray(tree.query(corners, count)[1]).reshape(len(corners), count)


def _chunks(places: np.ndarray) -> list[np.ndarray]:
    return np.array_split(places, 1 + len(places) // 50_000)


def _offset(places: np.ndarray, middle: np.ndarray, normal: np.ndarray, tree: KDTree, count: int):
    """Return signed distances to the nearest points.

    On a sphere, the tangent planes of neighbours lie outside and the points lie as far inside: with
    the mean of both normals, neither shifts the surface.
    """
    near = np.asarray(tree.query(places, count)[1]).reshape(len(places), count)
    own = normal[near]
    own = own * np.sign((own * own[:, :1]).sum(-1))[..., None]
    mean = own.mean(1, keepdims=True)
    mean /= np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)
    return ((places[:, None] - middle[near]) * (own + mean) / 2).sum(-1).mean(1)


def _of_area(table: np.ndarray, faces: np.ndarray, area: float, voxel: float):
    """Return the mesh, cut back from its border, then moved along its normals, to have this area.

    Args:
        table: position, normal and values of each vertex.
        faces: the faces of the mesh.
        area: the area to reach.
        voxel: the largest edge of a voxel.
    """
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    edges, times = np.unique(edges, axis=0, return_counts=True)
    border = np.unique(edges[times == 1])
    if len(border) and mesh_area(table[:, :3], faces) > area:
        depth = np.asarray(KDTree(table[border, :3]).query(table[:, :3])[0])

        def excess(level: float) -> float:
            kept, pieces = cut(table, faces, depth - level)
            return mesh_area(kept[:, :3], pieces) - area

        most = min(_DEEPEST * voxel, 0.9 * float(depth.max()))
        level = most if excess(most) >= 0 else _root(excess, 0.0, most, voxel)
        table, faces = cut(table, faces, depth - level)

    def moved(step: float) -> np.ndarray:
        return table[:, :3] + step * table[:, 3:6]

    def over(step: float) -> float:
        return mesh_area(moved(step), faces) - area

    most = _STEP * voxel
    low, high = over(-most), over(most)
    if low * high < 0:
        step = _root(over, -most, most, voxel)
    else:
        step = most * (-1 if abs(low) < abs(high) else 1)
    return np.hstack([moved(step), table[:, 3:]]), faces


def _root(function: Callable[[float], float], low: float, high: float, voxel: float) -> float:
    return float(root_scalar(function, bracket=(low, high), xtol=1e-3 * voxel).root)
