"""What is said of long work, where the error stream is no terminal."""

import time

import pytest

from cryojax_seg.training import progress, remaining


@pytest.fixture
def quick(monkeypatch):
    """Speaks after a tenth of a second of silence, to a stream that somebody watches."""
    monkeypatch.setattr(progress, "QUIET", 0.1)
    monkeypatch.setattr(progress, "_watched", lambda: True)


def lines_of(capsys):
    return capsys.readouterr().err.splitlines()


def test_the_time_left_leaves_out_the_step_that_compiles(capsys, monkeypatch):
    """It was 824,866 s after the first step, and never in minutes."""
    times = iter([1000.0, 1060.0, 1120.0, 1180.0, 1240.0])  # the first took 1000 s, the others 60
    monkeypatch.setattr(
        progress, "Remaining", lambda total: remaining.Remaining(total, lambda: next(times))
    )
    with progress.reporter(5, 0, True) as shown:
        for step in range(1, 6):
            shown.report({"step": step, "loss": 0.5, "rate": 0.1})
    first, second, *_, last = lines_of(capsys)
    assert first == "step 1/5  loss 0.5000  rate 1.0e-01  0 s so far"
    assert second == "step 2/5  loss 0.5000  rate 1.0e-01  about 3 min left"
    assert last == "step 5/5  loss 0.5000  rate 1.0e-01"


def test_a_run_whose_length_is_found_out_shows_it_from_then_on(capsys):
    with progress.reporter(None, 0, True) as shown:
        for step in range(1, 21):
            shown.report({"step": step, "loss": 0.5, "rate": 0.1})
            if step == 10:
                shown.expect(20)
    assert [line.split("  ")[0] for line in lines_of(capsys)] == [
        f"step {n}/20" for n in range(11, 20, 2)
    ] + ["step 20/20"]


def test_a_long_step_is_not_silent(quick, capsys):
    with progress.display("a.mrc", 2):
        time.sleep(0.5)
    lines = lines_of(capsys)
    assert lines
    assert {line.rpartition("  ")[0] for line in lines} == {"a.mrc 0/2"}


def test_a_command_without_steps_is_not_silent(quick, capsys):
    """But nothing is said beside a display, or after its end."""
    began = time.monotonic()
    with progress.alive("pick"):
        time.sleep(0.5)
    passed = time.monotonic() - began  # longer than asked for on a busy machine
    said = lines_of(capsys)
    assert said
    true = [f"pick: still working, {seconds} s so far" for seconds in range(round(passed) + 1)]
    assert set(said) <= set(true)
    with progress.alive("pick"), progress.display("b", 1):
        time.sleep(0.3)
    assert not any("still working" in line for line in lines_of(capsys))
    time.sleep(0.3)
    assert lines_of(capsys) == []
