"""Membranes whose shapes are labels of real tomograms, here of shapes that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cryojax_seg.simulate import Bilayer, Occupancy, Placed, Scene, render
from cryojax_seg.simulate.types import LUMEN, MEMBRANE
from cryojax_seg.simulate.varied_labels import (
    LabelledMembranes,
    SurfacePoints,
    planar_pieces,
    surface_points,
)

VOXEL, RADIUS, EDGE = 14.0, 20.3, 51  # angstrom, and voxels


def shell(half=False):
    """Labels, one voxel thick, of a sphere or of the half of it at high z."""
    offset = np.stack(np.indices((EDGE,) * 3), -1) - EDGE // 2
    labels = np.abs(np.linalg.norm(offset, axis=-1) - RADIUS) < 0.5
    return (labels & (offset[..., 0] >= 0) if half else labels).astype(np.int32)


def centred(half=False):
    found = surface_points(shell(half), VOXEL)
    points = found.points - np.float32(VOXEL * (EDGE // 2))
    return SurfacePoints(points, found.normals, found.spacing)


def test_points_lie_on_the_sphere_and_normals_along_its_radii():
    """Voxels lie within half a voxel, 7 angstrom, of the sphere; a quarter of that remains."""
    found = centred()
    radii = np.linalg.norm(found.points, axis=-1)
    assert np.sqrt(np.mean(np.square(radii - RADIUS * VOXEL))) < 1.75
    radial = np.abs(np.sum(found.normals * found.points, -1)) / radii
    assert radial.min() > np.cos(np.deg2rad(10))


def test_labels_without_a_surface_are_refused():
    with pytest.raises(ValueError, match="holds no surface"):
        surface_points(np.zeros((4, 4, 4), int), VOXEL)


def test_the_distance_is_that_of_the_sphere_on_a_finer_grid():
    surface = planar_pieces(centred(), (64, 64, 64), 10.0)
    points = np.random.default_rng(0).uniform(-300, 300, (4000, 3)).astype(np.float32)
    exact = np.linalg.norm(points, axis=-1) - RADIUS * VOXEL
    found = np.abs(np.asarray(surface.distance(jnp.asarray(points))))
    near = np.abs(exact) < 40
    error = found[near] - np.abs(exact[near])
    assert np.sqrt(np.mean(np.square(error))) < 2.0 and np.abs(error).max() < 8.0
    np.testing.assert_allclose(found, np.abs(exact), atol=15.0)


def test_a_gap_in_the_labels_is_an_open_membrane():
    surface = planar_pieces(centred(half=True), (64, 64, 64), 10.0)
    membrane = Placed(Bilayer(surface), (315.0,) * 3)
    truth = render(Scene((membrane,), (64, 64, 64), 10.0))
    labels, density = np.asarray(truth.labels), np.asarray(truth.density)
    pole, missing = int(round(31.5 + RADIUS * 1.4)), int(round(31.5 - RADIUS * 1.4))
    assert MEMBRANE in labels[pole - 2 : pole + 3, 32, 32]
    assert not labels[: missing + 10].any() and np.abs(density[: missing + 10]).max() < 0.01
    assert not (labels == LUMEN).any()
    half = 2 * np.pi * (RADIUS * VOXEL) ** 2 * 2 * (15.0 + 5.0) / 10.0**3  # voxels
    # Its edge reaches 1.5 labelled voxels, which are 7 % of the radius, farther.
    assert (labels == MEMBRANE).sum() == pytest.approx(1.05 * half, rel=0.08)


def test_a_scene_takes_a_part_of_a_volume_and_fills_what_it_says():
    drawn = LabelledMembranes({"ball": surface_points(shell(), VOXEL)})

    def placed(seed):
        occupancy = Occupancy((40, 40, 40), 10.0, np.random.default_rng(seed))
        return drawn(occupancy, jax.random.key(0), True)[0]

    labels = [np.asarray(render(Scene((placed(s),), (40,) * 3, 10.0)).labels) for s in (0, 0, 1)]
    np.testing.assert_array_equal(labels[0], labels[1])
    assert not np.array_equal(labels[0], labels[2])
    for one in labels:
        assert 0.002 < (one == MEMBRANE).mean() < 0.16
