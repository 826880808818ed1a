"""Boxes: where the particle is, what is outside, and which wedge goes with them."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryojax_seg import io
from cryojax_seg.core import MissingWedge, Particles
from cryojax_seg.particles import extends_outside, extract_boxes

SHAPE = (40, 44, 48)


def waves(place, cutoff=0.35):
    """A band-limited function of position, known everywhere."""
    rng = np.random.default_rng(0)
    k = rng.normal(size=(30, 3))
    k *= cutoff * rng.uniform(0.2, 1, (30, 1)) / np.linalg.norm(k, axis=1, keepdims=True)
    return np.cos(2 * np.pi * place @ k.T + np.arange(30)).sum(-1)


@pytest.fixture(scope="module")
def volume():
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    return (5 + 2 * waves(grid.astype(float))).astype(np.float32)


def normalized(box):
    return (box - box.mean()) / box.std()


def test_boxes_are_at_sub_voxel_positions_to_a_percent(volume):
    """Against the function itself: the particle is at voxel edge // 2, also for odd edges."""
    where = np.array([[20.0, 21, 22], [19.3, 22.75, 20.5], [21.1, 20.9, 24.45]])
    for edge in (11, 12):
        grid = np.stack(np.meshgrid(*[np.arange(edge) - edge // 2] * 3, indexing="ij"), -1)
        for box, centre in zip(extract_boxes(volume, Particles(where), edge), where, strict=True):
            expected = normalized(waves(grid + centre))
            error = np.abs(box.volume - expected).max()
            assert error < (1e-5 if box.number == 0 else 0.02), error
            assert np.sqrt(np.mean((box.volume - expected) ** 2)) < 0.004


def test_memory_maps_are_read_and_structure_becomes_bright(volume, tmp_path):
    io.write_mrc(tmp_path / "t.mrc", volume, voxel_size=10.0)
    mapped = io.read_mrc(tmp_path / "t.mrc", mmap=True).density
    particles = Particles([[20.3, 21, 22], [18, 20, 22]])
    there = [b.volume for b in extract_boxes(mapped, particles, 16)]
    here = [b.volume for b in extract_boxes(volume, particles, 16)]
    dark = [b.volume for b in extract_boxes(-volume, particles, 16, invert=True)]
    np.testing.assert_array_equal(there, here)
    np.testing.assert_allclose(dark, here, atol=1e-5)
    assert abs(np.mean(here[0])) < 1e-5 and np.std(here[0]) == pytest.approx(1, abs=1e-4)


def test_background_beyond_the_particle_is_what_is_normalized(volume):
    (box,) = extract_boxes(volume, Particles([[20, 21, 22]]), 16, radius=6)
    far = np.square(np.indices((16,) * 3) - 8).sum(0) > 36
    assert abs(box.volume[far].mean()) < 1e-5
    assert box.volume[far].std() == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match="leaves no background"):
        next(extract_boxes(volume, Particles([[20, 21, 22]]), 16, radius=20))
    with pytest.raises(ValueError, match="edge must be 2"):
        next(extract_boxes(volume, Particles([[20, 21, 22]]), 1))


def test_nothing_is_wrapped_at_the_faces(volume):
    """What is outside is 0, the mean; what is inside is what it is anywhere."""
    where = np.array([[2.0, 21, 22], [2.25, 21, 47.5], [20, 21, 47], [-30, 21, 22], [-2.5, 50, 0]])
    boxes = [b.volume for b in extract_boxes(volume, Particles(where), 16)]
    assert extends_outside(where, 16, SHAPE).all()
    assert (boxes[0][:6] == 0).all() and (boxes[0][6] != 0).any()
    inside = volume[:10, 13:29, 14:30]
    np.testing.assert_allclose(boxes[0][6:], normalized(inside), atol=1e-5)
    assert (boxes[1][:6] == 0).all() and (boxes[1][:, :, 8:] == 0).all()
    np.testing.assert_allclose(boxes[2][:, :, :9], normalized(volume[12:28, 13:29, 39:]), atol=1e-5)
    assert (boxes[3] == 0).all()
    assert np.isfinite(boxes[4]).all() and boxes[4].shape == (16,) * 3


def test_constant_and_damaged_volumes_give_finite_boxes(volume):
    flat = np.full(SHAPE, 7.0, np.float32)
    (box,) = extract_boxes(flat, Particles([[20.5, 20.25, 20]]), 16)
    assert (box.volume == 0).all()
    damaged = volume.copy()
    damaged[20, 20, 20] = np.nan
    (box,) = extract_boxes(damaged, Particles([[20.5, 20.25, 20]]), 16)
    assert np.isfinite(box.volume).all() and box.volume.std() == pytest.approx(1, abs=1e-4)
    assert list(extract_boxes(volume, Particles(np.zeros((0, 3))), 16)) == []


def test_each_box_has_the_wedge_of_its_own_turn():
    """Turned into the frame of the reference the sample is turned back: by the transpose."""
    wedge = MissingWedge((-60.0, 60.0))
    turns = Rotation.random(2, random_state=0).as_matrix()
    particles = Particles(np.full((2, 3), 12.0), turns)
    noise = np.random.default_rng(0).normal(size=(24, 24, 24)).astype(np.float32)
    for box, turn in zip(extract_boxes(noise, particles, 16, wedge), turns, strict=True):
        assert box.wedge is not None
        np.testing.assert_allclose(box.wedge.rotation, turn.T, atol=1e-6)
        np.testing.assert_allclose(
            box.wedge.rotate(turn.astype(np.float32)).rotation, np.eye(3), atol=1e-6
        )
