"""Half-set refinement and picking by one call each, from Python."""

import logging

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryojax_seg import particles
from cryojax_seg.core import MissingWedge, Particles
from cryojax_seg.errors import ParameterError

EDGE = 12
WHOLE = MissingWedge((-90.0, 90.0))


@pytest.fixture(scope="module")
def boxes(blobs, imaged):
    """Twelve noisy copies of one density in known rotations, and their poses."""
    rotations = Rotation.random(12, random_state=3).as_matrix()
    offsets = np.random.default_rng(4).uniform(-1, 1, (12, 3))
    volumes = imaged(blobs, EDGE, rotations, offsets, WHOLE, noise=0.3, seed=5)
    poses = particles.Poses(rotations, offsets, np.zeros(12))
    return np.asarray(volumes, np.float32), poses


def test_halves_are_averaged_apart_and_agree(boxes):
    volumes, poses = boxes
    found = particles.refine_halves(volumes, poses, WHOLE)
    first = particles.average_particles(
        volumes[::2], particles.Poses(*(np.float32(p[::2]) for p in poses)), WHOLE
    )
    np.testing.assert_allclose(found.halves[0], first.compensated(), atol=1e-4)
    np.testing.assert_allclose(found.average, np.mean(found.halves, 0), atol=1e-4)
    assert np.corrcoef(found.halves[0].ravel(), found.halves[1].ravel())[0, 1] > 0.7
    np.testing.assert_allclose(found.poses.rotations, poses.rotations, atol=1e-6)
    assert 2 * 10.0 <= found.resolution(10.0) < EDGE * 10.0
    shells = found.shells(10.0)
    assert shells["frequency_per_angstrom"][-1] == pytest.approx(0.05)
    assert len(shells["fsc_corrected"]) == len(shells["frequency_per_angstrom"])


def test_boxes_of_one_number_stay_in_one_half(boxes):
    volumes, poses = boxes
    assert [h.tolist() for h in particles.half_sets(np.array([4, 9, 4, 2]))] == [[1, 3], [0, 2]]
    numbers = np.array([0, 1, 1, 2])
    some = particles.Poses(*(part[:4] for part in poses))
    found = particles.refine_halves(volumes, some, WHOLE, numbers=numbers)
    assert found.resolution(10.0) is None  # too few
    with pytest.raises(ValueError, match="two boxes or more"):
        particles.refine_halves(volumes, some, WHOLE, numbers=0 * numbers)
    with pytest.raises(ValueError, match="3 numbers of boxes for 4 poses"):
        particles.refine_halves(volumes, some, WHOLE, numbers=numbers[:3])
    with pytest.raises(ValueError, match="reference has shape"):
        particles.refine_halves(volumes, poses, WHOLE, reference=np.zeros((4, 4, 4), np.float32))


def test_a_round_of_alignment_raises_the_correlation(boxes, caplog):
    volumes, poses = boxes
    moved = particles.Poses(poses.rotations, np.zeros((12, 3)), poses.scores)
    with caplog.at_level(logging.INFO, "cryojax_seg.particles"):
        found = particles.refine_halves(
            volumes, moved, WHOLE, iterations=1, angle=3.0, spacing=6.0, max_shift=2.0,
            reference=particles.refine_halves(volumes, poses, WHOLE).average,
        )  # fmt: skip
    assert caplog.messages[0].startswith("round 1: mean correlation 0.")
    error = np.linalg.norm(found.poses.offsets - poses.offsets, axis=1)
    assert np.median(error) < 0.5 < np.median(np.linalg.norm(poses.offsets, axis=1))
    assert found.poses.scores.min() > 0.3


def test_a_wedge_mask_is_the_rotated_wedge_of_all_frequencies():
    wedge = MissingWedge((-60.0, 60.0))
    quarter = Rotation.from_euler("x", 90, degrees=True).as_matrix()[::-1, ::-1]  # about x, zyx
    plain, turned = particles.wedge_masks(wedge, np.stack([np.eye(3), quarter]), 8)
    half = np.fft.ifftshift(plain)[:, :, :5]
    np.testing.assert_allclose(half, wedge.transfer((8, 8, 8)), atol=1e-5)
    assert plain[7, 4, 4] == pytest.approx(0, abs=1e-5)  # along the beam nothing is measured
    assert turned[4, 7, 4] == pytest.approx(0, abs=1e-5) and turned[7, 4, 4] > 0.9


def test_picks_of_labels_and_their_place_by_a_membrane():
    labels = np.zeros((12, 12, 24), np.int32)
    labels[5:8, 5:8, 3:6], labels[5:8, 5:8, 16:19] = 1, 4
    both = particles.pick_labels(labels, 3.0)
    assert sorted(both.classes.tolist()) == [1, 4]
    one = particles.pick_labels(labels, 3.0, only=[4])
    assert one.coordinates.tolist() == [[6.0, 6.0, 17.0]] and one.classes is None
    with pytest.raises(ParameterError, match="no voxel has the label 3; the labels are 1 4") as e:
        particles.pick_labels(labels, 3.0, only=[3])
    assert e.value.parameters == ("label",)
    wall = np.zeros(labels.shape, bool)
    wall[:, :, :2] = True
    near = particles.within_distance(both, wall, 1.0, 5.0)
    assert near.coordinates.tolist() == [[6.0, 6.0, 4.0]]
    facing = particles.oriented_by_membrane(near, wall)
    np.testing.assert_allclose(facing.rotations[0][:, 0], [0, 0, 1], atol=1e-6)


def test_a_match_orients_particles_and_forgets_what_was_not_measured():
    rotations = Rotation.random(2, random_state=0).as_matrix()
    match = particles.Match(
        np.full((2, 2, 2), 0.5, np.float32), np.array([[[0, 1]] * 2] * 2, np.int32), rotations
    )
    found = match.oriented(Particles([[0.2, 0.9, 0.6], [1, 0, 0]]))
    np.testing.assert_array_equal(found.rotations, rotations[[1, 0]])
    missing = np.zeros((2, 2, 2), bool)
    missing[0] = True
    assert match.without(missing).scores[:, 0, 0].tolist() == [0, 0.5]
