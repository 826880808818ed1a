"""Scenes of varied content, and the parts that only they use."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from cryojax_seg.simulate import (
    Bilayer,
    Occupancy,
    Placed,
    Scene,
    Sphere,
    presets,
    render,
)
from cryojax_seg.simulate.complexes import random_complex
from cryojax_seg.simulate.filaments import Microtubule
from cryojax_seg.simulate.markers import CarbonFilm
from cryojax_seg.simulate.populate import add_bundle, add_membrane_proteins, globule
from cryojax_seg.simulate.sheets import Plane
from cryojax_seg.simulate.structures import PROTEIN_VOLUME
from cryojax_seg.simulate.types import LUMEN, MACROMOLECULE, MEMBRANE
from cryojax_seg.simulate.varied_membranes import DrawnMembranes

SHAPE, VOXEL = (40, 40, 40), 12.0


def scene_of(seed, **settings):
    return presets.varied(jax.random.key(seed), SHAPE, VOXEL, **settings)


@pytest.fixture(scope="module")
def scenes():
    return [scene_of(seed, crowding=0.03) for seed in range(20)]


def signature(structure):
    """All that decides whether a structure needs a program of its own."""
    leaves, tree = jax.tree.flatten(structure)
    return tree, tuple((np.shape(leaf), jax.typeof(jnp.asarray(leaf))) for leaf in leaves)


def test_no_seed_needs_a_program_of_its_own(scenes):
    """Structures of one class, surface and number of Gaussians share a program."""
    kinds = collections.defaultdict(set)
    for placed in (placed for scene in scenes for placed in scene.objects):
        s = placed.structure
        parts = type(s), type(getattr(s, "surface", None)), np.shape(getattr(s, "weights", 0))
        kinds[parts].add(signature(s))
    assert len(kinds) >= 12
    assert {len(found) for found in kinds.values()} == {1}


def test_membranes_fill_their_share(scenes):
    names = {"sheet", "vesicle", "tubule", "Golgi stack", "mitochondrion", "reticulum"}
    fractions, seen = [], set()
    for scene in scenes:
        found = {p.name for p in scene.objects} & names
        seen |= found
        labels = np.asarray(render(scene).labels)
        fractions.append((labels == MEMBRANE).mean())
        assert (fractions[-1] > 0) == bool(found)
    drawn = np.array([f for f in fractions if f])
    assert 12 <= len(drawn) <= 19  # of 20; 0.82 are expected
    # Proteins may cover membranes, and 32768 points estimate the fraction: a fifth.
    assert drawn.min() > 0.8 * 0.003 and drawn.max() < 1.2 * 0.15
    assert drawn.max() > 3 * drawn.min()
    assert len(seen) >= 4


def test_the_same_key_draws_the_same_scene(scenes):
    again = scene_of(3, crowding=0.03)
    for leaf, other in zip(jax.tree.leaves(scenes[3]), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(leaf, other)
    assert [p.name for p in again.objects] != [p.name for p in scenes[4].objects]


def test_filaments_are_steep_too(scenes):
    tubes = [p for s in scenes for p in s.objects if p.name in ("microtubule", "actin")]
    steep = np.array([abs(np.asarray(p.rotation)[0, 1]) for p in tubes])
    assert steep.max() > np.sin(np.deg2rad(45)) and steep.min() < np.sin(np.deg2rad(15))


def test_crowding_and_species_can_be_given():
    scene = scene_of(0, crowding=0.1, species={"mine": globule()})
    assert {p.name for p in scene.objects} & {"ribosome", "proteasome", "globule"} == set()
    none = scene_of(0, crowding=0.0)
    assert not any(p.name.startswith("complex") for p in none.objects)


def test_touching_vesicles_are_both_labelled():
    for seed in range(5):
        occupancy = Occupancy((48, 48, 48), 10.0, np.random.default_rng(seed))
        found = DrawnMembranes(occupancy, jax.random.key(0)).touching()
        if len(found) > 1:
            break
    truth = render(Scene(tuple(found), (48, 48, 48), 10.0))
    labels, instances = np.asarray(truth.labels), np.asarray(truth.instances)
    walls = [(labels == MEMBRANE) & (instances == i + 1) for i in range(len(found))]
    others = [scipy.ndimage.binary_dilation(sum(walls[:i] + walls[i + 1 :]) > 0) for i in (0, 1)]
    assert (walls[0] & others[0]).sum() > 3
    lumens = [np.asarray(p.distance(jnp.asarray(p.centre)))[()] for p in found]
    assert max(lumens) < -70.0
    for placed in found:
        at = tuple(np.round(np.asarray(placed.centre) / 10).astype(int))
        assert labels[at] == LUMEN


def test_a_lumen_has_its_density_and_may_hold_macromolecules():
    vesicle = Placed(Bilayer(Sphere(150.0), lumen=0.1), np.float32([200, 200, 200]))
    points = np.float32([[200, 200, 200], [200, 200, 100], [200, 200, 10]])
    np.testing.assert_allclose(vesicle.density(points), [0.1, 0.1, 0.0], atol=1e-4)
    occupancy = Occupancy((40, 40, 40), 10.0, np.random.default_rng(0))
    occupancy.add(vesicle, hollow=True)
    centres = np.float32([[200, 200, 200]])
    inside = occupancy.place(globule(), "globule", centres=centres)
    truth = render(Scene((vesicle, inside), (40, 40, 40), 10.0))
    at = tuple(np.round(np.asarray(inside.centre) / 10).astype(int))
    assert truth.labels[at] == MACROMOLECULE and truth.labels[20, 20, 10] == LUMEN
    occupancy = Occupancy((40, 40, 40), 10.0, np.random.default_rng(0))
    occupancy.add(vesicle)
    assert occupancy.place(globule(), "globule", centres=centres) is None


def test_a_bundle_is_parallel_and_spaced():
    occupancy = Occupancy((64, 64, 64), 12.0, np.random.default_rng(1))
    tube = Microtubule(np.float32(900.0))
    tubes = add_bundle(occupancy, tube, "microtubule", 5, 300.0)
    assert len(tubes) >= 3
    axis = np.asarray(tubes[0].rotation)[:, 1]
    offsets = np.array([p.centre - tubes[0].centre for p in tubes])
    across = np.linalg.norm(offsets - np.outer(offsets @ axis, axis), axis=1)
    np.testing.assert_allclose(across[1:], 300.0, atol=0.1)


@pytest.mark.parametrize(("kilodalton", "count"), [(60.0, 16), (499.0, 16), (4000.0, 64)])
def test_random_complexes_have_their_mass_and_none_is_like_another(kilodalton, count):
    rng = np.random.default_rng(0)
    some = [random_complex(rng, kilodalton, count) for _ in range(4)]
    for one in some:
        assert one.integral() == pytest.approx(kilodalton * 1e3 * PROTEIN_VOLUME, rel=1e-4)
        # The envelope at 0.4 of the density of protein encloses about the volume of the protein.
        assert one.measurements()["volume"] == pytest.approx(one.integral(), rel=0.35)
    gyration = [np.sqrt(np.square(c.centres).sum(1).mean()) for c in some]
    assert np.ptp(gyration) > 0.02 * np.mean(gyration)


def test_carbon_fills_one_side_of_its_edge_and_is_background():
    film = CarbonFilm.random(jax.random.key(0), 2000.0, 160.0, roughness=10.0)
    placed = Placed(film, np.float32([160, 160, 160 - 2000]))  # the edge is in the middle
    truth = render(Scene((placed,), (32, 32, 32), 10.0))
    density = np.asarray(truth.density)
    np.testing.assert_allclose(density[16, 16, 21:], 2.2, atol=0.01)
    np.testing.assert_allclose(density[16, 16, :11], 0.0, atol=0.01)
    np.testing.assert_allclose(density[[3, 28], 16, 24], 0.0, atol=0.01)
    assert np.asarray(truth.labels).max() == 0


def test_proteins_stand_on_an_endless_sheet():
    occupancy = Occupancy((24, 24, 24), 10.0, np.random.default_rng(0))
    sheet = Placed(Bilayer(Plane()), np.float32([115, 115, 115]), np.eye(3, dtype=np.float32))
    proteins = add_membrane_proteins(sheet, occupancy, 4, globule(), apart=60.0)
    assert len(proteins) == 4
    np.testing.assert_allclose([p.centre[0] for p in proteins], 115.0, atol=1.0)
