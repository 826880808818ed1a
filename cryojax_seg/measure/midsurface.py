"""The mid-surface of a membrane, with two sides: a mesh, and its curvatures."""

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from scipy.spatial import KDTree
from skimage.measure import marching_cubes

from cryojax_seg.measure.mesh import Mesh
from cryojax_seg.measure.thickness import Sheet, Spacing

_NEIGHBOURS = 8  # points of the sheet that a distance is the mean of
_REACH = 3.0  # windows in which curvature is fitted
_MOST = 60  # points that it is fitted to
_FAR = 0.8  # voxels from the nearest point of the sheet at which a mesh ends


def oriented_normals(sheet: Sheet) -> np.ndarray:
    """The normals of a sheet with one sign on each connected piece, outwards where it closes.

    Signs are carried along a minimum spanning tree of neighbouring points, whose edges cost
    ``1 - |n n'|`` (Hoppe et al. 1992, SIGGRAPH, section 3.3).

    Args:
        sheet: from `membrane_sheet`.

    Returns:
        ``(n, 3)``; on a surface with one side only, the sign jumps somewhere.

    >>> from cryojax_seg.measure.thickness import membrane_sheet
    >>> away = np.linalg.norm(np.indices((28, 28, 28)) - 13.5, axis=0)
    >>> sheet = membrane_sheet(abs(away - 9) < 1.5)
    >>> bool(((sheet.middle - 13.5) * oriented_normals(sheet) > 0).sum(1).min() > 0)
    True
    """
    normal = sheet.normal.astype(np.float64)
    count = len(normal)
    if not count:
        return sheet.normal
    pairs = KDTree(sheet.index).query_pairs(1.8, output_type="ndarray")
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
        outwards = (sheet.middle[order] - sheet.middle[order].mean(0)) * normal[order]
        if (outwards.sum(1) * sign[order]).sum() < 0:
            sign[order] *= -1
    return (normal * sign[:, None]).astype(np.float32)


def sheet_curvature(sheet: Sheet, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and Gaussian curvature at the points of a sheet, from how its normals turn around them.

    The shape operator S of ``n' - n = S (x' - x)``, by least squares over the tangent components of
    neighbours within three windows: its half trace and its determinant.

    Args:
        sheet: from `membrane_sheet`.
        normal: its `oriented_normals`.

    Returns:
        two arrays ``(n,)``; the mean curvature is positive where the normals diverge, as those
        of a sphere do.

    >>> from cryojax_seg.measure.thickness import membrane_sheet
    >>> away = np.linalg.norm(np.indices((34, 34, 34)) - 16.5, axis=0)
    >>> sheet = membrane_sheet(abs(away - 12) < 1.5)
    >>> mean, gaussian = sheet_curvature(sheet, oriented_normals(sheet))
    >>> round(float(mean.mean()) * 12, 1), round(float(gaussian.mean()) * 144, 1)
    (1.0, 1.1)
    """
    count = len(normal)
    mean, gaussian = np.zeros(count, np.float32), np.zeros(count, np.float32)
    if count < 8:
        return mean, gaussian
    tree = KDTree(sheet.middle)
    axes = np.argmin(np.abs(normal), axis=1)
    first = np.cross(normal, np.eye(3, dtype=np.float32)[axes])
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(normal, first)
    rng = np.random.default_rng(0)
    for begin in range(0, count, 20_000):
        part = slice(begin, min(begin + 20_000, count))
        most = min(4 * _MOST, count)
        reach = _REACH * sheet.window
        distance, near = tree.query(sheet.middle[part], most, distance_upper_bound=reach)
        kept = rng.permutation(most)[:_MOST]  # spread over the window, not the nearest of it
        weight = np.isfinite(np.asarray(distance)[:, kept]).astype(np.float32)
        near = np.minimum(np.asarray(near)[:, kept], count - 1)
        place = sheet.middle[near] - sheet.middle[part][:, None]
        turn = normal[near] - normal[part][:, None]
        frame = np.stack([first[part], second[part]], 1)
        u = np.einsum("nkc,nac->nka", place, frame)
        v = np.einsum("nkc,nac->nka", turn, frame)
        gram = np.einsum("nk,nka,nkb->nab", weight, u, u)
        gram += 1e-6 * np.eye(2) * (np.trace(gram, axis1=1, axis2=2) + 1e-6)[:, None, None]
        shape = np.linalg.solve(gram, np.einsum("nk,nka,nkb->nab", weight, u, v))
        mean[part] = np.trace(shape, axis1=1, axis2=2) / 2
        gaussian[part] = np.linalg.det(shape)
    return mean, gaussian


def membrane_mesh(sheet: Sheet, voxel_size: Spacing = (1.0, 1.0, 1.0)) -> Mesh:
    """A mesh of the mid-surface of a membrane, open where the membrane is.

    Marching cubes on the signed distance to the points of the mid-surface (mean over the nearest
    of their tangent planes), without the triangles that lie beyond the points. Windows of variance
    v draw the points of a curved sheet inwards by v times its mean curvature; they are moved back.

    Args:
        sheet: from `membrane_sheet`.
        voxel_size: along z, y, x.

    >>> from cryojax_seg.measure.area import mesh_area
    >>> from cryojax_seg.measure.thickness import membrane_sheet
    >>> away = np.linalg.norm(np.indices((34, 34, 34)) - 16.5, axis=0)
    >>> mesh = membrane_mesh(membrane_sheet(abs(away - 12) < 1.5))
    >>> round(mesh_area(mesh.vertices, mesh.faces) / (4 * np.pi * 12**2), 1)
    1.0
    """
    none = np.zeros((0, 3), np.float32)
    empty = Mesh(none, none.astype(np.int32), none, none[:, 0], none[:, 0])
    if len(sheet.index) < 8:
        return empty
    size = np.asarray(voxel_size, float)
    normal = oriented_normals(sheet)
    curvatures = sheet_curvature(sheet, normal)
    drawn = (sheet.window**2 + sheet.thickness**2 / 12) * curvatures[0]
    middle = sheet.middle + np.clip(drawn, -sheet.window, sheet.window)[:, None] * normal
    start = sheet.index.min(0) - 4
    band = np.zeros(sheet.index.max(0) + 5 - start, bool)
    band[tuple((np.rint(middle / size).astype(int) - start).T)] = True
    band = np.asarray(ndimage.binary_dilation(band, np.ones((3, 3, 3), bool), 2), bool)
    places = (np.argwhere(band) + start) * size
    tree = KDTree(middle)
    near = np.asarray(tree.query(places, min(_NEIGHBOURS, len(normal)))[1])
    side = normal[near] * np.sign((normal[near] * normal[near[:, :1]]).sum(-1))[..., None]
    offset = ((places[:, None] - middle[near]) * side).sum(-1).mean(1)
    field = np.full(band.shape, 4 * float(size.max()), np.float32)
    field[band] = offset
    if not field.min() < 0 < field.max():
        return empty
    corners, faces, _, _ = marching_cubes(field, 0.0, mask=band)
    corners = (corners + start) * size
    away, nearest = (np.asarray(found) for found in tree.query(corners))
    kept = away <= _FAR * float(size.max())
    faces = faces[kept[faces].all(1)]
    used, flat = np.unique(faces, return_inverse=True)
    faces = flat.reshape(-1, 3).astype(np.int32)
    mean, gaussian = (values[nearest[used]] for values in curvatures)
    vertices, normal = corners[used].astype(np.float32), normal[nearest[used]]
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    if (np.cross(b - a, c - a) * normal[faces[:, 0]]).sum() < 0:
        faces = faces[:, ::-1]
    return Mesh(vertices, faces, normal, mean, gaussian)
