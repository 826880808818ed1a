"""Placement without overlap, and the presets built on it."""

import jax
import numpy as np
import pytest

from cryojax_seg.cli.simulate import Simulate
from cryojax_seg.simulate import (
    Bilayer,
    GaussianComplex,
    Occupancy,
    Placed,
    Sphere,
    WedgeImaging,
    measurements,
    presets,
    render,
    simulate,
)
from cryojax_seg.simulate.placement import facing, random_rotation
from cryojax_seg.simulate.populate import add_macromolecules, add_membrane_proteins, globule

SHAPE, VOXEL = (32, 40, 48), 10.0
KEY = jax.random.key(7)


def room(seed=0, shape=SHAPE):
    return Occupancy(shape, VOXEL, np.random.default_rng(seed))


def test_rotations_turn_and_nothing_else():
    rng = np.random.default_rng(0)
    for axis in range(3):
        direction = rng.normal(size=3)
        turn = facing(direction, rng, axis)
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(turn) == pytest.approx(1)
        np.testing.assert_allclose(turn[:, axis], direction / np.linalg.norm(direction))
    mean = np.mean([random_rotation(rng) for _ in range(2000)], axis=0)
    assert np.abs(mean).max() < 0.06  # 4 standard errors of a uniform rotation


def test_balls_do_not_overlap_and_stay_inside():
    space = room()
    balls = [space.place(Bilayer(Sphere(np.float32(40.0))), "ball") for _ in range(10)]
    centres = np.array([b.centre for b in balls if b is not None])
    assert len(centres) >= 8
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    outer = 40 + 15 + 5  # half the thickness and one leaflet sigma
    # A body is tested at lattice points 10 angstrom apart.
    assert apart[~np.eye(len(centres), dtype=bool)].min() > 2 * outer - 10
    assert (centres > outer - 10).all() and (centres < np.array(SHAPE) * VOXEL - outer).all()


def test_what_cannot_fit_is_not_placed():
    assert room().place(Bilayer(Sphere(np.float32(300.0))), "giant") is None
    full = room()
    full.add(Placed(Bilayer(Sphere(np.float32(1000.0))), np.zeros(3, np.float32)))
    assert full.free_volume() == 0
    assert full.place(globule(), "globule") is None


def test_a_crowd_has_the_volume_asked_for_and_says_so_otherwise():
    space = room()
    free = space.free_volume()
    assert free == pytest.approx(np.prod(SHAPE) * VOXEL**3, rel=0.05)
    placed, notes = add_macromolecules(space, 0.1, {"globule": globule()})
    volume = sum(p.structure.measurements()["volume"] for p in placed)
    assert notes == []
    assert volume / free == pytest.approx(0.1, abs=0.005)
    full = room()
    full.clearance[:, :, 4:] = -1.0  # a wall leaves a thin slice
    full.clearance[::3] = -1.0
    placed, notes = add_macromolecules(full, 0.3, {"globule": globule()})
    assert len(notes) == 1 and "crowding of 0.3 was requested" in notes[0]
    assert f"{len(placed)} macromolecules" in notes[0]


def test_a_dense_crowd_of_small_proteins_is_reached():
    placed, notes = add_macromolecules(room(shape=(24, 24, 24)), 0.28, {"globule": globule()})
    assert notes == [] and len(placed) > 20


def test_macromolecules_do_not_gather_at_the_faces():
    """Their centres are uniform: as many in the core as its share of the volume, 3 errors."""
    ball = GaussianComplex(np.zeros((1, 3), np.float32), np.ones(1, np.float32), 40.0)
    rooms = [room(seed, (48, 48, 48)) for seed in range(12)]
    placed = [p for space in rooms for p in add_macromolecules(space, 0.25, {"ball": ball})[0]]
    centres = np.array([p.centre for p in placed])
    assert len(centres) > 400 and centres.min() >= 0 and centres.max() <= 470
    core = ((centres >= 80) & (centres <= 390)).all(-1).mean()
    share = (310 / 470) ** 3
    assert core == pytest.approx(share, abs=3 * (share * (1 - share) / len(centres)) ** 0.5)


def test_organelles_fit_into_the_default_shape_of_the_command():
    for seed in range(5):
        key = jax.random.key(seed)
        scene = presets.organelles(key, Simulate.shape, Simulate.voxel_size, crowding=0.02)
        assert scene.notes == ()
        assert {"Golgi stack", "mitochondrion", "reticulum"} <= {p.name for p in scene.objects}


def test_membrane_proteins_stand_on_the_membrane():
    space = room()
    vesicle = Placed(Bilayer(Sphere(np.float32(100.0))), np.float32([150, 200, 240]))
    space.add(vesicle)
    proteins = add_membrane_proteins(vesicle, space, 5)
    assert len(proteins) == 5
    for protein in proteins:
        offset = protein.centre - vesicle.centre
        assert np.linalg.norm(offset) == pytest.approx(100, abs=1.0)
        np.testing.assert_allclose(
            protein.rotation[:, 0], offset / np.linalg.norm(offset), atol=1e-3
        )


CALLS = {
    "vesicles": lambda key: presets.vesicles(key, SHAPE, VOXEL, crowding=0.02, proteins=2),
    "organelles": lambda key: presets.organelles(key, SHAPE, 20.0, crowding=0.0),
    "cytoskeleton": lambda key: presets.cytoskeleton(key, SHAPE, VOXEL, crowding=0.0),
    "crowded": lambda key: presets.crowded(key, SHAPE, VOXEL, crowding=0.02),
    "contrast_drift": lambda key: presets.contrast_drift(key, SHAPE, VOXEL, crowding=0.0),
    "threshold_dilemma": lambda key: presets.threshold_dilemma(key, SHAPE, VOXEL),
    "flat_bilayers": lambda key: presets.flat_bilayers(key, SHAPE, VOXEL, (0.0, 90.0)),
}
KINDS = {
    "vesicles": {1, 2, 5},
    "organelles": {1, 2},
    "cytoskeleton": {3, 4},
    "crowded": {1, 3, 4, 5},
    "contrast_drift": {1, 2},
    "threshold_dilemma": {1},
    "flat_bilayers": {1},
}


@pytest.mark.parametrize("name", CALLS)
def test_presets_hold_what_they_promise(name):
    scene, again = CALLS[name](KEY), CALLS[name](KEY)
    truth = render(scene)
    assert np.array_equal(truth.density, render(again).density)
    found = set(np.unique(truth.labels)) - {0}
    assert found >= KINDS[name] and found <= KINDS[name] | {1, 2, 5}
    assert np.isfinite(truth.density).all()
    # Structures stand out, and objects hardly touch: densities do not pile up.
    density, inside = np.asarray(truth.density), np.asarray(truth.structures)
    assert density[inside].mean() > 5 * np.median(density[np.asarray(truth.labels) == 0])
    rows = measurements(scene)
    assert len(rows) == len(scene.objects)
    instances = np.unique(truth.instances)
    assert instances.max() <= len(rows)
    assert all({"name", "centre", "rotation", "inside"} <= set(row) for row in rows)


def test_another_key_gives_another_scene():
    first, second = (CALLS["flat_bilayers"](jax.random.key(i)) for i in (0, 1))
    assert not np.array_equal(first.objects[0].centre, second.objects[0].centre)


def test_flat_bilayers_have_the_angles_asked_for():
    scene = presets.flat_bilayers(KEY, (40, 60, 60), 10.0, (0.0, 45.0, 90.0), azimuth=90.0)
    normals = [np.asarray(p.rotation)[:, 0] for p in scene.objects]
    expected = [[1, 0, 0], [0.5**0.5, 0.5**0.5, 0], [0, 1, 0]]
    np.testing.assert_allclose(normals, expected, atol=1e-6)


def test_the_dilemma_is_the_one_of_the_thresholds():
    """Density 1 and 0.4 in a background of 0, noise 0.5: as stated, to the noise of the sample."""
    scene = presets.threshold_dilemma(KEY, SHAPE, VOXEL)
    imaging = WedgeImaging(sigma=0.5, exponent=0.0, wedge=None)
    phantom = simulate(scene, imaging, jax.random.key(1))
    noise = np.asarray(phantom.density - phantom.truth.density)
    assert noise.std() == pytest.approx(0.5, rel=0.01)
    density, labels = np.asarray(phantom.truth.density), np.asarray(phantom.labels)
    half = SHAPE[2] // 2
    for part, level in ((np.s_[:, :, : half - 2], 1.0), (np.s_[:, :, half + 2 :], 0.4)):
        inside = density[part][labels[part] == 1]
        assert np.quantile(inside, 0.9) == pytest.approx(level, abs=0.02)
    assert np.abs(density[labels == 0]).mean() < 0.02


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: presets.vesicles(KEY, (8, 40, 40), 10.0), "80 angstrom thin.*at least 220"),
        (lambda: presets.organelles(KEY, SHAPE, 10.0), "at least 600"),
        (lambda: presets.vesicles(KEY, SHAPE, 0.0), "voxel_size must be above 0"),
        (lambda: presets.vesicles(KEY, SHAPE, VOXEL, crowding=0.4), "within 0 to 0.3"),
        (lambda: presets.contrast_drift(KEY, SHAPE, VOXEL, least=0.0), "least must be"),
        (lambda: presets.flat_bilayers(KEY, SHAPE, VOXEL, (95.0,)), "within 0 to 90"),
    ],
)
def test_impossible_requests_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
