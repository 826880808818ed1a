"""What every structure owes, whichever it is."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cryojax_seg.simulate.arcs import Capsule
from cryojax_seg.simulate.complexes import (
    GaussianComplex,
    apoferritin,
    proteasome,
    ribosome,
)
from cryojax_seg.simulate.filaments import ActinBundle, ActinFilament, Microtubule
from cryojax_seg.simulate.maps import MapDensity
from cryojax_seg.simulate.markers import GoldBead, IceCrystal
from cryojax_seg.simulate.membranes import Bilayer
from cryojax_seg.simulate.organelles import GolgiStack, Mitochondrion, NuclearEnvelope
from cryojax_seg.simulate.reticulum import Reticulum
from cryojax_seg.simulate.sheets import Cap, Cisterna, Cup, Disc, Plane
from cryojax_seg.simulate.structures import Solid
from cryojax_seg.simulate.surfaces import Ellipsoid, Sphere, Torus
from cryojax_seg.simulate.types import CLASSES

KEY = jax.random.key(3)
PORES = np.array([[0.0, 0.0], [1200.0, 0.0]], np.float32)
BLOB = np.zeros((12, 12, 12), np.float32)
BLOB[3:9, 3:9, 4:8] = 1.0
STRUCTURES = {
    "sphere": Bilayer(Sphere(200.0)),
    "ellipsoid": Bilayer(Ellipsoid((150.0, 250.0, 200.0))),
    "cup": Bilayer(Cup(300.0, 0.8, 60.0)),
    "disc": Bilayer(Disc(200.0)),
    "cap": Bilayer(Cap(300.0, 0.8)),
    "mitochondrion": Mitochondrion((500.0, 900.0, 500.0), gap=120.0, cristae=3),
    "golgi": GolgiStack(600.0, count=3),
    "nuclear envelope": NuclearEnvelope(6000.0, 0.3, PORES),
    "reticulum": Reticulum.random(KEY, 1500.0, wavelength=1000.0, width=200.0, count=16),
    "microtubule": Microtubule(400.0, 1e-4),
    "actin": ActinFilament(400.0, 1e-3),
    "actin bundle": ActinBundle(400.0, -1e-4),
    "gaussian": GaussianComplex(np.zeros((1, 3), np.float32), np.ones(1, np.float32), 15.0),
    "ribosome": ribosome(),
    "proteasome": proteasome(),
    "apoferritin": apoferritin(),
    "map": MapDensity.from_map(BLOB, (10.0, 10.0, 10.0), 0.5),
    "solid": Solid(Torus(200.0, 80.0)),
    "gold": GoldBead(50.0),
    "ice": IceCrystal.random(KEY, 300.0),
}


@jax.jit
def evaluate(structure, points):
    return (
        structure.density(points),
        structure.labels(points),
        structure.distance(points),
        structure.excluded_volume(points),
        structure.normal(points),
    )


@pytest.fixture(params=STRUCTURES)
def structure(request):
    return STRUCTURES[request.param]


def cloud(reach):
    """Points in a cube, and along its axes, where gradients have their kinks."""
    points = np.random.default_rng(0).uniform(-reach, reach, (3000, 3))
    points[:60] *= np.repeat(np.eye(3), 20, 0)
    points[60] = 0.0
    return points.astype(np.float32)


def test_values_are_in_range(structure):
    points = cloud(structure.bounding_radius())
    density, labels, distance, body, normal = (np.asarray(v) for v in evaluate(structure, points))
    for values in (density, distance, body, normal):
        assert np.isfinite(values).all() and values.dtype == np.float32
    assert labels.dtype == np.int32
    assert np.all((labels >= 0) & (labels < len(CLASSES)))
    lengths = np.linalg.norm(normal, axis=-1)
    assert np.all((np.abs(lengths - 1) < 1e-4) | (lengths < 1e-4)) and (lengths > 0.5).mean() > 0.99
    # All labels, and nearly all density, lie in the body: beyond are the flanks of Gaussians.
    assert np.abs(density).max() > 0.1
    assert body[labels > 0].max(initial=-1.0) <= 1e-3
    assert np.abs(density[body > 25.0]).max(initial=0.0) < 0.05
    assert np.all(body <= np.abs(distance) + 1e-3)


def test_nothing_is_beyond_reach(structure):
    """Density below 1e-3, and no label, outside the ball."""
    points = cloud(structure.bounding_radius())
    r = np.maximum(np.linalg.norm(points, axis=-1, keepdims=True), 1e-3)
    out = points * np.maximum(
        1, structure.bounding_radius() * (1.001 + np.arange(len(r))[:, None] % 3) / r
    )
    out[np.linalg.norm(out, axis=-1) < structure.bounding_radius()] += (
        10 * structure.bounding_radius()
    )
    density, labels, *_ = evaluate(structure, out.astype(np.float32))
    assert np.abs(density).max() < 1e-3 and not np.asarray(labels).any()


def test_jit_is_eager(structure):
    points = cloud(structure.bounding_radius())
    density, labels, *_ = evaluate(structure, points)
    np.testing.assert_allclose(density, structure.density(points), atol=1e-4)
    assert (np.asarray(labels) == np.asarray(structure.labels(points))).mean() > 0.99
    one = jax.eval_shape(structure.density, points[7])
    assert one.shape == ()


def test_gradients_reach_every_leaf(structure):
    """Finite, also with kinks among the points; and the density depends on some of them."""
    leaves = jax.tree.map(jnp.asarray, structure)
    total = jax.jit(jax.grad(lambda s, p: jnp.square(s.density(p)).sum(), argnums=(0, 1)))
    *parameters, points = jax.tree.leaves(total(leaves, cloud(structure.bounding_radius())))
    assert all(np.isfinite(g).all() for g in (*parameters, points))
    assert any(np.abs(g).max() > 0 for g in parameters)


def test_float64_points_give_float64(structure, x64):
    """And agree with float32 to its rounding of coordinates."""
    points = cloud(structure.bounding_radius())
    double = jax.jit(lambda s, p: (s.density(p), s.distance(p)))(structure, points.astype(float))
    assert [v.dtype for v in double] == [jnp.float64] * 2
    single = evaluate(structure, points)
    assert single[0].dtype == jnp.float32
    np.testing.assert_allclose(double[0], single[0], atol=2e-3)


def test_measurements_are_plain_numbers(structure):
    sizes = structure.measurements()
    assert set(sizes) <= {"area", "volume", "length"}
    assert all(type(v) is float and v > 0 for v in sizes.values())
    assert type(structure.bounding_radius()) is float


def test_structures_are_frozen_pytrees(structure):
    leaves, tree = jax.tree.flatten(structure)
    again = jax.tree.unflatten(tree, leaves)
    assert type(again) is type(structure) and jax.tree.structure(again) == tree
    with pytest.raises(dataclasses.FrozenInstanceError):
        structure.anything = 1


def test_jit_tells_classes_apart():
    """Structures of different classes are unequal; equal ones made `jax.jit` mix them up."""
    surfaces = [Sphere(1.0), Ellipsoid((3.0, 4.0, 5.0)), Torus(2.0, 1.0), Cup(1.0, 1.0, 0.5)]
    surfaces += [Capsule(1.0, 1.0), Cisterna(1.0, 1.0), Disc(1.0), Cap(1.0, 1.0), Plane()]
    trees = [jax.tree.structure(s) for s in (*STRUCTURES.values(), *surfaces)]
    trees = list({str(t): t for t in trees}.values())
    assert all(a != b for a, b in itertools.combinations(trees, 2)) and len(trees) > 25
