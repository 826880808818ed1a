"""What is drawn is what was placed: densities, labels, instances, normals, measurements."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cryojax_seg.core import MissingWedge
from cryojax_seg.simulate import (
    Bilayer,
    Ellipsoid,
    GaussianComplex,
    Placed,
    Scene,
    Solid,
    Sphere,
    measurements,
    particles,
    render,
)
from cryojax_seg.simulate.types import BACKGROUND, LUMEN, MACROMOLECULE, MEMBRANE

SHAPE, VOXEL = (28, 36, 44), 10.0
CENTRE = np.array([140.0, 180.0, 150.0], np.float32)
TURN = np.array([[0.6, 0.0, -0.8], [0.0, 1.0, 0.0], [0.8, 0.0, 0.6]], np.float32)
VESICLE = Placed(Bilayer(Sphere(np.float32(95.0))), CENTRE, None, "vesicle")
PEA = Placed(Solid(Sphere(np.float32(40.0))), CENTRE + np.float32([0, 0, 200]), None, "pea")
GUEST = Placed(
    GaussianComplex(np.zeros((1, 3), np.float32), np.ones(1, np.float32), np.float32(15.0)),
    CENTRE,
    TURN,
    "guest",
)
SCENE = Scene((VESICLE, PEA, GUEST), SHAPE, VOXEL)


@pytest.fixture(scope="module")
def truth():
    return jax.tree.map(np.asarray, render(SCENE))


def grid():
    axes = [np.arange(n, dtype=np.float32) * VOXEL for n in SHAPE]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1)


def test_labels_and_instances_are_those_of_the_distances(truth):
    radius = np.linalg.norm(grid() - CENTRE, axis=-1)
    wall = np.abs(radius - 95) <= 15 + 5  # half the thickness and one leaflet sigma
    edge = np.abs(np.abs(radius - 95) - 20) < 1e-3
    assert ((truth.labels == MEMBRANE) == wall)[~edge].all()
    assert (truth.instances[wall & ~edge] == 1).all()
    inside = (truth.labels == MACROMOLECULE) & (radius < 60)
    assert (truth.instances[inside] == 3).all() and inside.any()
    assert (truth.labels[(radius < 70) & ~inside] == LUMEN).all()  # a guest replaces the lumen
    pea = np.linalg.norm(grid() - PEA.centre, axis=-1) < 39
    assert (truth.labels[pea] == MACROMOLECULE).all() and (truth.instances[pea] == 2).all()
    assert (truth.labels[truth.instances == 0] == BACKGROUND).all()


def test_the_order_of_drawing_decides_but_a_lumen_never_replaces_a_structure(truth):
    other = render(Scene((GUEST, PEA, VESICLE), SHAPE, VOXEL))
    assert np.array_equal(other.labels, truth.labels)
    np.testing.assert_allclose(other.density, truth.density, atol=1e-5)


def test_density_is_the_mean_over_the_voxel(truth):
    """Against 6^3 points a voxel, in float64: the four-point rule is off by under 3 %."""
    voxel = np.array([14, 18, 24])  # in the wall
    steps = (np.arange(6) + 0.5) / 6 - 0.5
    fine = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    for offset in ((0, 0, 0), (0, 0, 1), (0, 0, -2), (5, 0, 0)):
        points = (voxel + np.array(offset) + fine) * VOXEL
        with jax.enable_x64(True):
            mean = sum(p.density(jnp.asarray(points)).mean() for p in SCENE.objects)
        at = tuple(voxel + np.array(offset))
        assert truth.density[at] == pytest.approx(float(mean), abs=0.03)


def test_nothing_is_lost_between_blocks(truth):
    """The blockwise drawing equals every object evaluated everywhere, tails to 1e-3."""
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], np.float32) * VOXEL / 4
    whole = sum(
        np.mean([np.asarray(p.density(grid() + c)) for c in corners], axis=0) for p in SCENE.objects
    )
    np.testing.assert_allclose(truth.density, whole, atol=2e-3)


def test_normals_and_distances_are_those_of_the_sphere(truth):
    membrane = truth.labels == MEMBRANE
    offset = grid() - CENTRE
    radius = np.linalg.norm(offset, axis=-1)
    radial = offset / np.maximum(radius, 1e-6)[..., None]
    np.testing.assert_allclose(truth.normals[membrane], radial[membrane], atol=1e-5)
    assert (truth.normals[~membrane] == 0).all()
    np.testing.assert_allclose(truth.distance[membrane], (radius - 95)[membrane], atol=1e-3)
    assert (np.abs(truth.distance[membrane]) <= 20 + 1e-3).all()


def test_a_turned_object_has_turned_normals():
    body = Bilayer(Ellipsoid(np.float32([60.0, 90.0, 120.0])))
    plain = Placed(body, CENTRE)
    turned = Placed(body, CENTRE, TURN)
    points = CENTRE + np.random.default_rng(0).normal(0, 80, (50, 3)).astype(np.float32)
    moved = ((points - CENTRE) @ TURN.T + CENTRE).astype(np.float32)
    np.testing.assert_allclose(turned.distance(moved), plain.distance(points), atol=1e-2)
    np.testing.assert_allclose(turned.normal(moved), plain.normal(points) @ TURN.T, atol=1e-3)


def test_visibility_is_that_of_the_normals(truth):
    wedge = MissingWedge((-50.0, 60.0))
    seen = np.asarray(jax.jit(type(truth).visibility)(truth, wedge))
    membrane = truth.labels == MEMBRANE
    assert (seen[~membrane] == 0).all()
    expected = np.asarray(wedge.visibility(truth.normals[membrane]))
    np.testing.assert_allclose(seen[membrane], expected, atol=1e-6)
    assert seen[14, 18, 24] > 0.85  # the side of the vesicle; its pole faces the beam
    assert seen[14 + 9, 18, 15] < 0.4


def test_measurements_are_analytic_and_say_what_lies_outside():
    cut = Scene((dataclasses.replace(VESICLE, centre=np.float32([140, 180, 0])),), SHAPE, VOXEL)
    whole, half = measurements(SCENE)[0], measurements(cut)[0]
    assert whole["area"] == pytest.approx(4 * np.pi * 95**2)
    assert whole["volume"] == pytest.approx(4 / 3 * np.pi * 95**3)
    assert (whole["name"], whole["instance"], whole["inside"]) == ("vesicle", 1, 1.0)
    assert half["inside"] == pytest.approx(0.5, abs=0.06)  # the lattice has 5 angstrom
    assert half["area"] == whole["area"]
    voxels = np.asarray(render(SCENE).labels) == LUMEN
    assert [p.name for p in particles(SCENE)] == ["guest"]
    assert voxels.sum() * VOXEL**3 < whole["volume"]


def test_gradients_reach_every_number_of_an_object():
    """Against central differences, in float64 to 1e-5 relative."""

    def energy(radius, thickness, centre):
        placed = Placed(Bilayer(Sphere(radius), thickness=thickness), centre, jnp.asarray(TURN))
        density = render(Scene((placed,), (16, 16, 16), 15.0)).density
        weights = jnp.linspace(0.5, 1.5, 16)[None, None]
        return jnp.sum(weights * jnp.square(density))

    with jax.enable_x64(True):
        at = (jnp.asarray(70.0), jnp.asarray(32.0), jnp.asarray([112.0, 115.0, 118.0]))
        run = jax.jit(jax.value_and_grad(energy, (0, 1, 2)))
        _, gradient = run(*at)
        steps = [
            (np.array([1.0, 0, 0, 0, 0]), gradient[0]),
            (np.array([0, 1.0, 0, 0, 0]), gradient[1]),
            (np.array([0, 0, 0, 0, 1.0]), gradient[2][2]),
        ]
        for step, slope in steps:
            values = [
                float(run(at[0] + s * step[0], at[1] + s * step[1], at[2] + s * step[2:])[0])
                for s in (1e-4, -1e-4)
            ]
            assert float(slope) == pytest.approx((values[0] - values[1]) / 2e-4, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (8, 8)}, "shape must be three"),
        ({"voxel_size": -1.0}, "voxel_size must be above"),
    ],
)
def test_impossible_scenes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SCENE, **changes)


def test_contrast_scales_the_density(truth):
    contrast = np.full(SHAPE, 0.4, np.float32)
    faint = render(dataclasses.replace(SCENE, contrast=contrast))
    np.testing.assert_allclose(faint.density, 0.4 * truth.density, rtol=1e-6, atol=1e-20)
