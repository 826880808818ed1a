"""Scenes that are rendered once, and patches of them that are imaged anew."""

import dataclasses
import functools
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cryojax_seg.core.rotation import cube_rotations, rotate_on_grid
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.segmenters import LinearVote
from cryojax_seg.simulate import Placed, Scene, Solid, Sphere
from cryojax_seg.simulate.types import MEMBRANE
from cryojax_seg.training import Example, Scenes, Stream, TrainConfig, train
from cryojax_seg.training.imaging import Range
from cryojax_seg.training.pool import _as_it_is, draw_phantoms
from cryojax_seg.training.samples import prepare
from cryojax_seg.training.sampling import draw
from cryojax_seg.training.stream import Feed
from tests.training.test_imaging import PLAIN

EDGE, PATCH = 28, (8, 8, 8)
CLEAR = dataclasses.replace(PLAIN, contrast=Range(20.0, 20.0))


def ball(key, shape, voxel_size):
    """A ball off the centre, labelled membrane."""
    centre = np.asarray(jax.random.uniform(key, (3,), minval=100.0, maxval=180.0))
    return Scene((Placed(Solid(Sphere(60.0), MEMBRANE), centre),), shape, voxel_size)


def scenes(**changes):
    return Scenes((EDGE,) * 3, **{"voxel_sizes": (10.0, 9.0), "kinds": (ball,), **changes})


def stream(**changes):
    given = {"size": 2, "every": 4, "ranges": CLEAR, "scenes": scenes(), **changes}
    return Stream(("membrane",), **given)


@pytest.fixture(scope="module")
def pool():
    with Feed(stream(every=0)) as feed:
        return feed.at(0)


def test_scenes_are_the_same_by_number_and_seed():
    one, again, other = scenes()(3), scenes()(3), scenes()(4)
    for a, b in zip(one, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (one.voxel_size, other.voxel_size) == (9.0, 10.0)
    assert not np.array_equal(one.density, other.density)
    assert not np.array_equal(one.density, scenes(seed=1)(3).density)


def test_the_cache_gives_what_was_rendered_and_is_bounded(tmp_path):
    kept = scenes(cache=tmp_path)
    first = kept(0)
    (file,) = tmp_path.iterdir()
    stamp = file.stat().st_ino
    for a, b in zip(first, kept(0), strict=True):
        np.testing.assert_array_equal(a, b)
    assert file.stat().st_ino == stamp  # read, and not rendered again
    file.write_bytes(b"PK damaged")
    np.testing.assert_array_equal(kept(0).density, first.density)
    size = file.stat().st_size
    small = scenes(cache=tmp_path, most=int(2.5 * size))
    for number in range(5):
        small(number)
    names = sorted(path.name.rpartition("-")[2] for path in tmp_path.iterdir())
    assert names == ["3.npz", "4.npz"]
    (blocked := tmp_path / "file").write_text("no folder")
    np.testing.assert_array_equal(scenes(cache=blocked)(0).density, first.density)


def sized(key, shape, voxel_size, radii):
    """A ball of one of these radii."""
    radius = radii[sorted(radii)[0]]
    return Scene((Placed(Solid(Sphere(radius), MEMBRANE), (140.0,) * 3),), shape, voxel_size)


def test_a_scene_of_other_options_or_of_another_version_is_not_read(tmp_path, monkeypatch):
    def filled(radius, name="a"):
        kind = functools.partial(sized, radii={name: np.float32(radius)})
        kept = scenes(kinds=(kind,), cache=tmp_path)
        return kept.describe()["kinds"], (kept(0).labels == MEMBRANE).sum()

    (told, small), (other, large) = filled(40.0), filled(60.0)
    assert large > 2.5 * small  # 3.4 are expected
    assert told[0].startswith("sized(radii: a [") and told != other
    assert filled(40.0) == (told, small) and filled(40.0, "b")[0] != told
    assert len(list(tmp_path.iterdir())) == 3
    monkeypatch.setattr("cryojax_seg.training.stream._sources", lambda: "changed")
    filled(40.0)
    assert len(list(tmp_path.iterdir())) == 4


def test_the_pool_is_a_function_of_the_step(pool):
    with Feed(stream()) as feed, Feed(stream()) as resumed:
        for step in range(10):
            went_on = feed.at(step)
        np.testing.assert_array_equal(went_on.density, resumed.at(9).density)
        np.testing.assert_array_equal(went_on.voxels, resumed.at(9).voxels)
    assert stream().numbers(9) == [2, 3]
    with Feed(stream(size=3, first=1)) as feed:
        counts = np.asarray(feed.at(0).counts).sum(1)
    assert counts[0] > 0 and not counts[1:].any()  # nothing is drawn from an empty place
    assert not np.array_equal(went_on.density, pool.density)


def test_a_recorded_scene_gives_its_patches_as_they_are(tmp_path):
    kept = scenes(recorded=1.0, cache=tmp_path)
    one, again = kept(0), kept(0)  # rendered, and read
    for a, b in zip(one, again, strict=True):
        np.testing.assert_array_equal(a, b)
    low, high = one.tilts
    assert -70 <= low <= -40 and 40 <= high <= 70
    volume = one.density.astype(np.float32)
    spread = 1.4826 * np.median(np.abs(volume - np.median(volume)))
    assert abs(volume.mean()) < 0.05 and spread == pytest.approx(1.0, abs=0.01)
    inside = one.labels == MEMBRANE
    assert volume[inside].mean() > volume[~inside].mean() + 0.2
    with Feed(stream(scenes=kept, every=0)) as feed:
        batch = jax.jit(draw_phantoms, static_argnums=(2, 3))(
            feed.at(0), jax.random.key(0), 16, PATCH
        )
    both = np.stack([volume, kept(1).density.astype(np.float32)])
    assert np.isin(np.asarray(batch.volume), both).all()
    turns = np.asarray(batch.wedge.rotation)
    np.testing.assert_array_equal(np.abs(turns[:, 0, 0]), 1)
    np.testing.assert_allclose(np.linalg.det(turns), 1, atol=1e-6)
    assert set(np.asarray(batch.wedge.tilt_range)[:, 0]) <= {low, kept(1).tilts[0]}
    whole = stream(scenes=kept).example(0)
    np.testing.assert_array_equal(whole.volume, volume)
    assert whole.wedge.tilt_range == (low, high)


def test_the_wedge_turns_with_a_patch_that_is_taken_as_it_is():
    """A volume with a missing wedge does not change when its own wedge is applied again."""
    wedge = MissingWedge((-40.0, 65.0), "y", 0.0, np.eye(3, dtype=np.float32))
    white = jax.random.normal(jax.random.key(0), (15, 15, 15))
    volume, tilts = wedge.apply(white), np.float32([-40.0, 65.0])
    proper = cube_rotations((15, 15, 15))
    for turn in np.concatenate([proper, -proper]):
        (turned,) = rotate_on_grid(turn, volume)
        own = _as_it_is(turned, turned, jnp.asarray(tilts), jnp.asarray(turn), wedge)
        np.testing.assert_allclose(own.wedge.apply(turned), turned, atol=1e-4)


def test_patches_are_balanced_turned_and_imaged_anew(pool):
    drawn = jax.jit(draw_phantoms, static_argnums=(2, 3))
    batch = drawn(pool, jax.random.key(0), 64, PATCH)
    labels, volume = np.asarray(batch.labels), np.asarray(batch.volume)
    assert set(np.unique(labels)) == {0, 1}
    assert labels.any((1, 2, 3)).mean() >= 0.5 and (labels == 0).any((1, 2, 3)).mean() >= 0.5
    assert (labels > 0).mean() > 2 * (np.asarray(pool.labels) > 0).mean()
    # What is labelled is bright, so density and labels are turned alike.
    assert volume[labels > 0].mean() > 15 and abs(volume[labels == 0].mean()) < 2
    again = drawn(pool, jax.random.key(0), 64, PATCH)
    np.testing.assert_array_equal(again.volume, volume)
    assert not np.allclose(drawn(pool, jax.random.key(1), 64, PATCH).volume, volume)


def test_phantoms_beside_a_tomogram_count_as_much_as_its_patches(pool):
    labels = np.zeros((16, 16, 16), int)
    labels[:, 4:8] = 1
    weights = np.zeros(labels.shape, np.float32)
    weights[8] = 1
    own = prepare([Example(labels.astype(np.float32), labels, weights)], ("membrane",), PATCH)
    both = dataclasses.replace(own, pool=pool)
    batch, flips = draw(both, jax.random.key(0), 3, PATCH, 1, phantoms=2)
    alone, _ = draw(own, jax.random.key(0), 3, PATCH, 1)
    assert batch.volume.shape[0] == 5 and batch.wedge is None
    np.testing.assert_array_equal(batch.volume[:3], alone.volume)
    total = np.asarray(batch.weights).sum((1, 2, 3))
    assert total[3:].mean() == pytest.approx(total[:3].mean(), rel=1e-5)
    assert not np.asarray(flips)[3:].any()


def digest(result):
    arrays = jax.tree.leaves(result.operator.__dict__)
    raw = b"".join(np.asarray(a).tobytes() for a in arrays if hasattr(a, "dtype"))
    return hashlib.sha256(raw).hexdigest(), [line["loss"] for line in result.history]


def test_training_on_scenes_alone_learns_and_resumes_to_the_same(tmp_path):
    held_out = [stream(scenes=scenes(seed=9)).example(0)]
    config = TrainConfig(
        steps=12, batch=0, phantoms=3, patch=8, learning_rate=0.1, validate_every=6,
        checkpoint_every=6,
    )  # fmt: skip

    def run(folder, steps, resume=False):
        return train(
            LinearVote(1, classes=("membrane",)),
            [],
            dataclasses.replace(config, steps=steps, warmup=2, decay=0.0),
            validation=held_out,
            stream=stream(),
            run=folder,
            resume=resume,
            progress=False,
        )

    whole = run(tmp_path / "whole", 12)
    assert whole.history[-1]["average_precision"] > 0.95
    run(tmp_path / "parts", 6)
    parts = run(tmp_path / "parts", 12, resume=True)
    assert digest(parts) == digest(whole)


def test_what_does_not_fit_the_stream_is_refused():
    def start(config, examples=(), **given):
        return train(LinearVote(1, classes=("membrane",)), examples, config, **given)

    alone = TrainConfig(batch=0, phantoms=2, patch=8)
    with pytest.raises(ValueError, match="2 patches a step are of phantoms, and no stream"):
        start(alone)
    with pytest.raises(ValueError, match="none of them and validation"):
        start(alone, stream=stream())
    with pytest.raises(ValueError, match="patches with their context have \\(32, 32, 32\\)"):
        start(dataclasses.replace(alone, patch=16), stream=stream())
    with pytest.raises(ValueError, match="the stream labels"):
        start(alone, stream=dataclasses.replace(stream(), classes=("actin",)))
    with pytest.raises(ValueError, match="batch must be at least 1"):
        TrainConfig(batch=0)
