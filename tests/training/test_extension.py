"""A run goes on after its end, ends when it has converged or its time is over, and diverges."""

import dataclasses
import shutil
import signal
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from cryojax_seg import losses
from cryojax_seg.errors import ParameterError
from cryojax_seg.segmenters import LinearVote
from cryojax_seg.training import (
    TrainConfig,
    TrainingError,
    convergence,
    split_annotation,
    train,
    validate,
)
from cryojax_seg.training.convergence import decided, trend
from cryojax_seg.training.rundir import read_metrics
from cryojax_seg.training.schedule import Phases

sys.path.insert(0, str(Path(__file__).parent))
import worker  # noqa: E402


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "short"
    return folder, worker.run(folder, steps=20, decay=0.5)


@pytest.fixture
def copy(short, tmp_path):
    shutil.copytree(short[0], tmp_path / "run")
    return tmp_path / "run"


def rates(result):
    return np.array([line["rate"] for line in result.history])


def test_a_finished_run_is_extended(short, copy):
    former = short[1]
    longer = worker.run(copy, resume=True, steps=40, decay=0.5)
    assert (longer.steps, longer.stopped) == (40, "finished")
    assert longer.history[:20] == former.history
    assert [line["step"] for line in read_metrics(copy)] == list(range(1, 41))
    np.testing.assert_allclose(rates(longer)[[9, 20, 30]], [0.2, 0.2, 0.101], rtol=1e-3)
    assert rates(longer)[19] < 0.01 and rates(longer)[39] < 0.01
    assert longer.score >= former.score  # the best parameters are kept
    # Once more, as if the process had been killed before the first checkpoint after the extension.
    for folder in (copy / "checkpoints").iterdir():
        shutil.rmtree(folder)
    shutil.copytree(short[0] / "checkpoints", copy / "checkpoints", dirs_exist_ok=True)
    again = worker.run(copy, resume=True, steps=40, decay=0.5)
    assert worker.digest(again) == worker.digest(longer)


def test_an_extended_run_that_is_interrupted_continues_bit_for_bit(copy, tmp_path, monkeypatch):
    shutil.copytree(copy, tmp_path / "whole")
    whole = worker.run(tmp_path / "whole", resume=True, steps=40)
    judged = validate.scores

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGTERM)
        return judged(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(validate, "scores", interrupted)
        part = worker.run(copy, resume=True, steps=40)
    assert (part.stopped, part.steps) == ("SIGTERM", 30)
    rest = worker.run(copy, resume=True, steps=40)
    assert worker.digest(rest) == worker.digest(whole)


def test_fewer_steps_than_are_done_are_refused(copy):
    with pytest.raises(TrainingError, match="has taken 20 steps already; give more than that, not"):
        worker.run(copy, resume=True, steps=10)


def lines(scores, every=100, peak=0.1, seconds=0.1):
    """A record with a validation after every so many steps at the peak rate."""
    made = [
        {"step": s, "rate": peak, "seconds": seconds} for s in range(1, every * len(scores) + 1)
    ]
    for number, score in enumerate(scores, 1):
        made[number * every - 1]["dice"] = float(score)
    return made


def test_the_trend_is_the_line_of_the_last_validations():
    scores = 0.4 + 0.01 * np.arange(12) + np.tile([0.003, -0.003], 6)
    found = trend(lines(scores), 0.1)
    steps, last = 100 * np.arange(7, 13), scores[-6:]
    line, covariance = np.polyfit(steps, last, 1, cov="unscaled")
    error = np.sqrt(covariance[0, 0] * ((last - np.polyval(line, steps)) ** 2).sum() / 4)
    assert (found.span, found.count) == (500, 12)
    values = (found.slope, found.error, found.score, found.most)
    expected = (line[0], error, last.mean(), 500 * (line[0] + 2 * error))
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    assert trend(lines(scores[:3]), 0.1) is None


def test_the_trend_ignores_what_came_after_and_before_the_last_peak():
    former, later = lines([0.5] * 9), lines(np.linspace(0.6, 0.7, 5))
    falling = [{"step": 0, "rate": 0.05, "seconds": 0.1, "dice": 0.9}]
    assert trend([*former, *falling, *later, *falling], 0.1).count == 5
    assert trend([*former, *falling], 0.1).flat


@pytest.mark.parametrize(
    ("scores", "flat"),
    [
        (np.full(7, 0.7), False),  # too few to say
        (np.full(8, 0.7), True),
        (np.zeros(30), False),  # it has not begun to learn
        (0.3 + 0.02 * np.arange(12), False),
        (0.8 - 0.8 * np.exp(-np.arange(40) / 5), True),
        (0.7 + np.tile([0.05, -0.05], 5), False),  # too noisy to say
    ],
)
def test_a_plateau_is_a_slope_that_is_known_to_be_small(scores, flat):
    assert trend(lines(scores), 0.1).flat == flat


TIMED = TrainConfig(steps=10_000, minutes=10, decay=0.2, learning_rate=0.1, validate_every=100)


def test_the_rate_falls_when_the_score_is_flat():
    plan = Phases(50, 8000, 10_000)
    assert decided(plan, TIMED, lines(np.full(8, 0.7)), 800) == (50, 800, 1000)
    rising = decided(plan, TIMED, lines(0.3 + 0.02 * np.arange(8)), 800)
    # 10 minutes of steps of 0.1 s, of which 800 are done, with what validations take.
    ends = 800 + int((600 - 80) / (0.1 * 1.05))
    assert rising == (50, ends - round(0.2 * ends), ends)


def test_the_rate_falls_early_enough_for_the_minutes_and_only_once():
    slow = lines(0.3 + 0.02 * np.arange(8), seconds=0.7)
    plan = decided(Phases(50, 8000, 10_000), TIMED, slow, 800)
    assert plan == (50, 800, 800 + int(40 / (0.7 * 1.05)))
    slower = lines(0.3 + 0.02 * np.arange(8), seconds=0.74)
    later = decided(plan, TIMED, slower, 810)
    assert later.falls == 800 and 810 < later.ends < plan.ends
    assert decided(plan, TIMED, lines([0.5] * 8), 820).ends == plan.ends  # never later again


def test_minutes_that_do_not_last_for_a_validation_are_refused():
    config = dataclasses.replace(TIMED, minutes=0.1)
    with pytest.raises(ParameterError, match="0.1 minutes are enough for 57 steps, fewer than the"):
        decided(Phases(50, 8000, 10_000), config, lines([])[:10] or lines([0], 10), 10)


def test_a_run_ends_when_it_has_converged(tmp_path, monkeypatch):
    """The end that was decided is in the checkpoint, and a run that is extended goes on."""
    monkeypatch.setattr(validate, "scores", lambda *_: validate.Scores(0.7, 0.8))
    limit = {"steps": 1000, "minutes": 5, "validate_every": 10, "decay": 0.2, "warmup": 5}
    result = worker.run(tmp_path / "run", **limit)
    assert (result.stopped, result.steps) == ("converged", 100)
    assert result.trend.flat and result.trend.count == 8
    np.testing.assert_allclose(rates(result)[5:81], 0.2, rtol=1e-6)
    assert (np.diff(rates(result)[80:]) < 0).all()
    again = worker.run(tmp_path / "run", resume=True, **limit)
    assert worker.digest(again) == worker.digest(result)
    longer = worker.run(tmp_path / "run", resume=True, **limit | {"steps": 120, "minutes": None})
    assert (longer.stopped, longer.steps) == ("finished", 120)
    assert longer.history[:100] == result.history


def test_a_kill_after_the_decision_repeats_it(tmp_path, monkeypatch):
    """Though the clock would decide otherwise now."""
    monkeypatch.setattr(convergence, "_fitting", lambda *_: 60)
    limit = {"steps": 1000, "minutes": 5, "validate_every": 10, "decay": 0.5}
    whole = worker.run(tmp_path / "run", checkpoint_every=1000, **limit)
    assert (whole.stopped, whole.steps) == ("out of time", 60)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000060")
    monkeypatch.setattr(convergence, "_fitting", lambda *_: 1000)
    again = worker.run(tmp_path / "run", resume=True, checkpoint_every=1000, **limit)
    assert worker.digest(again) == worker.digest(whole)


def test_a_run_that_diverges_goes_on_from_its_best_at_a_lower_rate(tmp_path):
    """Its last state is finite, but has no finite loss any more."""

    def objective(segmenter, batch):
        value = losses.supervised(losses.cross_entropy)(segmenter, batch)
        return value + jnp.where((segmenter.kernel[...] ** 2).sum() > 50.0, jnp.inf, 0.0)

    def go(rate, resume):
        given, held_out = split_annotation(worker.example(), 0.25)
        config = worker.config(learning_rate=rate, warmup=2, steps=40, validate_every=2)
        return train(
            LinearVote(radius=1), [given], config, validation=[held_out],
            objective=objective, run=tmp_path / "run", resume=resume, progress=False,
        )  # fmt: skip

    with pytest.raises(TrainingError, match=r"kept in .*Resume it with a lower") as caught:
        go(0.9, False)
    assert caught.value.parameters == ("resume", "learning_rate")
    with pytest.raises(TrainingError, match="the loss is inf"):
        go(0.9, True)
    result = go(0.02, True)
    assert result.steps == 40 and all(np.isfinite(line["loss"]) for line in result.history)
    assert result.score > 0.7
