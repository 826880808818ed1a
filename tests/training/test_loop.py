"""Training from start to end, in a few seconds."""

import dataclasses
import json
import math
import signal
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cryojax_seg import losses
from cryojax_seg.core import apply, labels, tiling
from cryojax_seg.segmenters import (
    ConvNet,
    GlobalThreshold,
    LinearVote,
    Tomoseg,
    UNet,
    fit_normalization,
)
from cryojax_seg.training import (
    Augmentation,
    Batch,
    Example,
    TrainConfig,
    TrainingError,
    train,
    validate,
)
from cryojax_seg.training.rundir import read_metrics

sys.path.insert(0, str(Path(__file__).parent))
import worker  # noqa: E402


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, worker.run(folder)


def test_a_vote_learns_the_box_from_three_slices(finished):
    _, result = finished
    whole = worker.example()
    found = labels(apply(result.operator, whole.volume))
    dice = 2 * (found & whole.labels).sum() / (found.sum() + whole.labels.sum())
    assert dice > 0.8
    assert result.score > 0.8
    assert (result.steps, result.stopped) == (40, "finished")


def test_metrics_have_one_line_per_step(finished):
    folder, result = finished
    lines = read_metrics(folder)
    assert [line["step"] for line in lines] == list(range(1, 41))
    assert lines == result.history
    assert [line["step"] for line in lines if "dice" in line] == [10, 20, 30, 40]
    assert set(lines[0]) == {"step", "loss", "norm", "rate", "seconds"}
    assert max(line["dice"] for line in lines if "dice" in line) == result.score


def test_the_folder_describes_the_run_and_keeps_the_latest_checkpoints(finished):
    folder, _ = finished
    description = json.loads((folder / "run.json").read_text())
    assert description["operator"]["class"] == "cryojax_seg.segmenters:LinearVote"
    assert TrainConfig.from_dict(description["config"]) == worker.config()
    names = sorted(p.name for p in (folder / "checkpoints").iterdir())
    assert names == ["step-00000036", "step-00000039", "step-00000040"]
    assert not (folder / "lock").exists()


def test_a_finished_run_resumes_to_the_same_result(finished, caplog):
    folder, result = finished
    assert worker.digest(worker.run(folder, resume=True)) == worker.digest(result)
    assert "this run ended after step 40; to go on, resume it with more steps" in caplog.text


def test_an_interrupted_run_continues_bit_for_bit(finished, tmp_path, monkeypatch):
    _, result = finished
    judged = validate.scores
    former = signal.getsignal(signal.SIGTERM)

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGTERM)
        return judged(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(validate, "scores", interrupted)
        part = worker.run(tmp_path / "run")
    assert (part.stopped, part.steps, part.score) == ("SIGTERM", 10, None)  # cut short at once
    with monkeypatch.context() as patch:
        patch.setattr(validate, "scores", interrupted)
        again = worker.run(tmp_path / "run", resume=True)
    assert (again.stopped, again.steps) == ("SIGTERM", 10)  # as long as it is not made up for
    assert signal.getsignal(signal.SIGTERM) == former
    rest = worker.run(tmp_path / "run", resume=True)
    assert worker.digest(rest) == worker.digest(result)
    lines = read_metrics(tmp_path / "run")
    assert [line["step"] for line in lines] == list(range(1, 41))
    assert [line.get("dice") for line in lines] == [line.get("dice") for line in rest.history]
    assert [line.get("dice") for line in rest.history] == [
        line.get("dice") for line in result.history
    ]


def test_a_run_that_replays_continues_bit_for_bit(tmp_path, monkeypatch):
    changes = {"replay": 2, "steps": 20}
    whole = worker.run(tmp_path / "whole", **changes)
    judged = validate.scores

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGTERM)
        return judged(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(validate, "scores", interrupted)
        assert worker.run(tmp_path / "run", **changes).stopped == "SIGTERM"
    rest = worker.run(tmp_path / "run", resume=True, **changes)
    assert worker.digest(rest) == worker.digest(whole)
    description = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [one["name"] for one in description["data"]] == ["toy", "phantom"]
    with pytest.raises(ValueError, match="2 patches a step are replayed, of 0 examples"):
        train(LinearVote(1), [worker.example()], worker.config(**changes), progress=False)


def test_early_stop_keeps_the_best_and_survives_a_resume(tmp_path, monkeypatch):
    scores = iter([0.5, 0.8, 0.8, 0.1])
    monkeypatch.setattr(validate, "scores", lambda *_: validate.Scores(next(scores), 0.5))
    result = worker.run(tmp_path / "run", patience=2)
    assert (result.stopped, result.steps, result.score) == ("no improvement", 40, 0.8)
    again = worker.run(tmp_path / "run", resume=True, patience=2)
    assert worker.digest(again) == worker.digest(result)


def test_the_validated_parameters_are_the_ones_that_are_kept(tmp_path, monkeypatch):
    seen = []

    def judge(segmenter, *_):
        seen.append(np.asarray(segmenter.kernel[...]))
        return validate.Scores([0.1, 0.9, 0.5, 0.4][len(seen) - 1], 0.5)

    monkeypatch.setattr(validate, "scores", judge)
    result = worker.run()
    np.testing.assert_array_equal(result.operator.kernel[...], seen[1])


def test_a_run_is_neither_overwritten_nor_resumed_as_something_else(finished):
    folder, _ = finished
    with pytest.raises(TrainingError, match="already holds a run"):
        worker.run(folder)
    with pytest.raises(TrainingError, match=r"config.learning_rate was 0.2, is now 0.3"):
        worker.run(folder, resume=True, learning_rate=0.3)
    other = worker.example(seed=9)
    with pytest.raises(TrainingError, match=r"data\[0\].sha256 was"):
        train(LinearVote(radius=1), [other], worker.config(), run=folder, resume=True)


def test_validation_dice_is_the_set_formula_on_annotated_voxels():
    rng = np.random.default_rng(0)
    volume = rng.normal(size=(9, 8, 7)).astype(np.float32)
    truth = rng.integers(0, 2, volume.shape)
    weights = (rng.uniform(size=volume.shape) > 0.5) * (np.arange(9) == 4)[:, None, None]
    example = Example(volume, truth, weights.astype(np.float32))
    found, true = (volume > 0.3) & weights, (truth > 0) & weights
    expected = 2 * (found & true).sum() / (found.sum() + true.sum())
    np.testing.assert_allclose(validate.scores(GlobalThreshold(0.3), [example], 8).dice, expected)
    # With context, a crop is segmented as the whole volume is.
    vote = LinearVote(radius=2)
    whole = np.asarray(labels(apply(vote, volume))) > 0
    expected = 2 * (whole & true).sum() / ((whole & weights).sum() + true.sum())
    np.testing.assert_allclose(validate.scores(vote, [example], 8).dice, expected)


def test_a_validation_computes_what_it_may(monkeypatch):
    """It was 15 voxels for each needed: as long as the training between two of them."""
    rng = np.random.default_rng(0)
    volume = rng.normal(size=(40, 96, 96)).astype(np.float32)
    truth = np.zeros(volume.shape, np.int32)
    truth[:, :6, :6], truth[:, 90:, 90:] = 1, 2
    weights = np.zeros(volume.shape, np.float32)
    weights[[7, 21]] = 1
    example, vote = Example(volume, truth, weights), LinearVote(radius=3, classes=("a", "b", "c"))
    seen, run = [], tiling._run
    monkeypatch.setattr(
        tiling, "_run", lambda s, b, *rest: seen.append(b.shape) or run(s, b, *rest)
    )

    def judge(config):
        seen.clear()
        return validate.scores(vote, [example], 16, 0, validate.affordable(config))

    config = TrainConfig(steps=1000, validate_every=100, batch=2, patch=16)
    step = 3 * 2 * 16**3  # voxels that a step computes, forwards and backwards
    assert judge(config) == judge(config)
    assert 1 < len(seen) and len(set(seen)) == 1  # one program for all tiles
    assert sum(map(math.prod, seen)) <= 0.05 * 100 * step
    all_of_it = validate.scores(vote, [example], 16)
    assert validate.scores(vote, [example], 16, 0, 1e9) == all_of_it
    seen.clear()
    weights[:], weights[7] = 0, 1
    validate.scores(vote, [Example(volume, truth, weights)], 16)
    assert sum(map(math.prod, seen)) / (96 * 96) <= 9  # a slice, 4 of context on both sides


def test_drawn_tiles_have_every_class():
    volume = np.random.default_rng(0).normal(size=(8, 64, 64)).astype(np.float32)
    truth = np.zeros(volume.shape, np.int32)
    truth[:, :4, :4], truth[:, 60:, 60:] = 1, 2
    example = Example(volume, truth, np.ones(volume.shape, np.float32))
    for seed in range(5):
        tiles = validate._chosen([example], 0, 1, 2 * 8 * 16 * 16, seed)
        assert sum(math.prod(tile.padded) for _, tile in tiles) <= 2 * 8 * 16 * 16
        found = {int(v) for _, tile in tiles for v in np.unique(truth[validate._where(tile)])}
        assert found == {0, 1, 2}


def test_statistics_of_many_tomograms_leave_most_of_a_validation_to_its_tiles(monkeypatch):
    """Those of all twelve would have left a single tile, whose score is a matter of luck."""
    rng = np.random.default_rng(0)
    examples = []
    for number in range(12):
        labels = np.zeros((32, 32, 32), np.int32)
        labels[:, 8:16] = 1 + (number == 11)
        volume = rng.normal(size=labels.shape).astype(np.float32)
        examples.append(Example(volume, labels))
    net = UNet(2, 1, "space_to_depth", classes=("a", "b", "c"), rngs=nnx.Rngs(0))
    fitted, tiles = [], []
    fit, run = validate.fit_normalization, tiling._run
    monkeypatch.setattr(
        validate, "fit_normalization", lambda n, v, **kw: fitted.append(v) or fit(n, v, **kw)
    )
    monkeypatch.setattr(
        tiling, "_run", lambda s, b, *rest: tiles.append(b.shape) or run(s, b, *rest)
    )
    voxels = 64 * 16**3
    assert validate.scores(net, examples, 16, 0, voxels) is not None
    held = {id(v) for v in fitted}
    assert len(held) == 4 and id(examples[11].measured) in held  # the only one with class c
    assert 4 <= len(tiles) and sum(map(math.prod, tiles)) <= voxels / 2


def test_one_line_learns_the_threshold_alone():
    given = worker.example()
    result = train(
        GlobalThreshold(-1.0, softness=0.5),
        [given],
        worker.config(steps=60, learning_rate=0.1, learn=("threshold",)),
        progress=False,
    )
    assert float(result.operator.softness) == pytest.approx(0.5)
    # Two unit Gaussians at 0 and 1.5.
    assert 0.4 < float(result.operator.threshold[...]) < 1.3


def test_a_network_with_instance_norm_comes_back_local(capsys):
    net = ConvNet(layers=1, width=2, norm="instance", rngs=nnx.Rngs(0))
    given = worker.example()
    config = worker.config(steps=2, batch=1, augmentation=Augmentation(flip=False, intensity=0.0))
    result = train(net, [given], config, validation=[given])
    assert result.operator.halo == 1
    assert np.isfinite(apply(result.operator, given.volume)).all()
    assert "step 2/2" in capsys.readouterr().err


def test_the_default_loss_suits_the_method():
    """At every scale with deep supervision; the log mean square error for a linear head."""
    rng = np.random.default_rng(0)
    volume = jnp.asarray(rng.normal(size=(1, 8, 8, 8)), jnp.float32)
    labels = jnp.asarray(volume > 0.5, jnp.int32)
    batch = Batch(volume, labels, jnp.ones_like(volume))
    usual = losses.combine(losses.cross_entropy, losses.dice)
    deep = UNet(width=2, depth=2, norm="none", deep_supervision=True, rngs=nnx.Rngs(0))
    cases = [
        (GlobalThreshold(0.5), losses.supervised(usual)),
        (deep, losses.deep_supervision(usual)),
        (Tomoseg("linear_logmse", rngs=nnx.Rngs(0)), losses.supervised(losses.log_mse)),
        (Tomoseg("sigmoid_bce", rngs=nnx.Rngs(0)), losses.supervised(usual)),
    ]
    for segmenter, expected in cases:
        assert segmenter.default_loss()(segmenter, batch) == expected(segmenter, batch)
    assert deep.default_loss()(deep, batch) != losses.supervised(usual)(deep, batch)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"patch": 0}, "patch edges must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive"),
        ({"ema": 1.0}, "ema must be"),
        ({"warmup": -0.5}, "warmup is a fraction"),
        ({"decay": 1.5}, "decay is a fraction"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**changes)


def test_an_unknown_option_is_named():
    with pytest.raises(ValueError, match="unknown training option augmentation.flop"):
        TrainConfig.from_dict({"augmentation": {"flop": 1.0}})
    assert TrainConfig.from_dict({"patch": [4, 8, 8]}).patch_shape == (4, 8, 8)


def test_a_patch_off_the_stride_is_refused():
    net = UNet(width=2, depth=2, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="multiple of the stride 4 of UNet"):
        train(net, [worker.example()], worker.config(patch=10), progress=False)


def test_tensorboard_needs_its_extra_and_a_folder():
    with pytest.raises(TrainingError, match="need a run folder"):
        worker.run(tensorboard=True)


def test_a_start_that_training_only_spoils_is_kept(finished, tmp_path):
    """What a trained model knows is not lost to a learning rate that is far too high."""
    good = finished[1].operator
    held_out = [worker.example()]
    chosen = worker.config(steps=6, learning_rate=1.0, validate_every=2, validate_start=True)
    patch = min(chosen.patch_shape)
    score = validate.scores(good, held_out, patch, 0, validate.affordable(chosen)).dice
    quick = {"validation": held_out, "progress": False}
    result = train(good, [worker.example()], chosen, run=tmp_path / "run", **quick)
    assert result.score == pytest.approx(score)
    for a, b in zip(jax.tree.leaves(good), jax.tree.leaves(result.operator), strict=True):
        np.testing.assert_array_equal(a, b)
    again = train(good, [worker.example()], chosen, run=tmp_path / "run", resume=True, **quick)
    assert again.score == result.score and again.steps == 6
    without = dataclasses.replace(chosen, validate_start=False)
    assert train(good, [worker.example()], without, **quick).score < score


def test_a_network_is_judged_with_the_statistics_it_is_kept_with():
    """Fewer patches gave others: a network that found three quarters was said to find nothing."""
    example = worker.example()
    net = ConvNet(layers=1, width=4, norm="instance", rngs=nnx.Rngs(1))
    kept = fit_normalization(net, example.volume, patch=8)
    found = np.asarray(labels(apply(kept, example.volume)))[example.weights > 0]
    true = example.labels[example.weights > 0]
    expected = 2 * (found & true).sum() / (found.sum() + true.sum())
    assert expected > 0.1
    assert validate.scores(net, [example], 8).dice == pytest.approx(expected)
