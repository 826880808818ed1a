"""Normals of masks against analytic ones, and what is found and invented against visibility."""

import numpy as np
import pytest

from cryojax_seg import evaluate
from cryojax_seg.core import MissingWedge

EDGE = 40
GRID = np.stack(np.meshgrid(*[np.arange(EDGE) - 19.6] * 3, indexing="ij"), -1)
RADIUS = np.linalg.norm(GRID, axis=-1)
WEDGE = MissingWedge((-60.0, 60.0))


def angles(found, expected):
    return np.rad2deg(np.arccos(np.clip(np.abs((found * expected).sum(-1)), 0, 1)))


@pytest.mark.parametrize("thickness", [3.0, 5.0])
def test_normals_of_a_sphere(thickness):
    """Radial to a degree or two: digital shells have steps."""
    mask = np.abs(RADIUS - 14) < thickness / 2
    error = angles(evaluate.mask_normals(mask), GRID / RADIUS[..., None])[mask]
    assert np.median(error) < 2.5 and np.quantile(error, 0.99) < 8


@pytest.mark.parametrize("angle", [0.0, 20.0, 45.0, 70.0, 90.0])
def test_normals_of_planes(angle):
    a = np.deg2rad(angle)
    normal = np.array([np.cos(a), 0.0, np.sin(a)])
    mask = (np.abs(GRID @ normal) < 2) & (RADIUS < 14)
    error = angles(evaluate.mask_normals(mask), normal)[mask & (RADIUS < 9)]
    assert np.quantile(error, 0.99) < 4


def test_normals_of_nothing_are_nothing():
    assert not evaluate.mask_normals(np.zeros((5, 5, 5), bool)).any()
    with pytest.raises(ValueError, match="sigma must be positive"):
        evaluate.mask_normals(np.zeros((5, 5, 5), bool), sigma=0.0)


def test_precision_counts_each_predicted_voxel_once():
    shell = np.abs(RADIUS - 14) < 2
    normals = evaluate.mask_normals(shell)
    visibility = np.asarray(WEDGE.visibility(normals)) * shell
    found = shell & (visibility > 0.4)
    found[18:21, 18:21, 18:21] = True  # invented, in the middle
    found |= (np.abs(RADIUS - 16.5) < 0.6) & (GRID[..., 2] > 10)  # beside the truth: not invented
    bins = evaluate.precision_by_visibility(found, shell, visibility, WEDGE, 5)
    assert sum(b.true + b.false for b in bins) == found.sum()
    assert sum(b.true for b in bins) == (found & shell).sum()
    far = RADIUS[found & ~shell] < 11
    assert sum(b.invented for b in bins) == far.sum() == 27
    assert bins[0].true == bins[1].true == 0


def test_unannotated_voxels_are_neither_right_nor_wrong():
    shell = np.abs(RADIUS - 14) < 2
    weights = np.ones(shell.shape)
    weights[20:] = 0
    arguments = (0.5 * shell, WEDGE, 1)
    (half,) = evaluate.precision_by_visibility(shell, shell, *arguments, weights=weights)
    assert (half.true, half.false) == (shell[:20].sum(), 0)


def test_intervals_over_instances_are_wider_than_over_voxels():
    """Six objects, found whole or not at all: 600 voxels, but six observations."""
    instances = np.repeat(np.arange(1, 7), 100).reshape(6, 10, 10)
    truth, found = np.ones(instances.shape, bool), instances <= 4
    seen = np.full(instances.shape, 0.5)
    (voxels,) = evaluate.recall_by_visibility(found, truth, seen, 1)
    (objects,) = evaluate.recall_by_visibility(found, truth, seen, 1, instances=instances)
    assert voxels.recall == objects.recall == pytest.approx(2 / 3)
    assert np.diff(objects.interval)[0] > 4 * np.diff(voxels.interval)[0]
