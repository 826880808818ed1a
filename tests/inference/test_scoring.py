"""Scores of files: what a recalibration would leave of the calibration error."""

import numpy as np
import pytest

from cryojax_seg import evaluate, inference, io


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def distorted(classes, shape, rng):
    """Calibrated probabilities with labels drawn from them, and the same at other temperature."""
    z = 2.0 * rng.normal(size=(*shape, classes))
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    labels = (rng.random((*shape, 1)) > np.cumsum(p, -1)).sum(-1)
    z = 2.5 * z + np.linspace(0, 1, classes)
    wrong = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    return labels, wrong[..., 1:]


@pytest.mark.parametrize("classes", [2, 3])
def test_the_error_after_recalibration(rng, tmp_path, classes):
    """It falls to that of the calibrated probabilities, without a look at the scored half."""
    labels, p = distorted(classes, (12, 40, 40), rng)
    io.write_mrc(tmp_path / "truth.mrc", labels.astype(np.int8), voxel_size=10.0)
    maps = [tmp_path / f"{c}.mrc" for c in range(classes - 1)]
    for number, path in enumerate(maps):
        io.write_mrc(path, p[..., number].astype(np.float32), voxel_size=10.0)
    truth = tmp_path / "truth.mrc"
    found = inference.score_files(truth, truth, probabilities=maps)
    assert found.calibration is not None and found.calibration.recalibrated is not None
    before, after = found.calibration.error, found.calibration.recalibrated[0]
    assert before is not None and after is not None
    assert before > 0.1 and after < 0.015  # chance leaves about 0.007 of 19,200 voxels
    told = found.as_dict()["calibration"]
    assert told["ECE recalibrated"] == after and told["ECE"] == before


def test_each_half_is_recalibrated_by_the_other(rng):
    """Where the halves differ, each gets the wrong correction, so that the error grows."""
    labels = (rng.random((10, 40, 40)) < np.repeat([0.2, 0.8], 5)[:, None, None]).astype(int)
    p = np.broadcast_to(np.repeat([0.2, 0.8], 5)[:, None, None, None], (10, 40, 40, 1))
    p = np.clip(p + rng.normal(0, 0.01, p.shape), 0.01, 0.99)
    found = inference.recalibrated_errors(p, labels, np.ones(labels.shape))
    before = evaluate.expected_calibration_error(p, labels)
    assert before is not None and before < 0.02
    assert found is not None and found[0] is not None and found[0] > 0.2


def test_too_little_annotation_to_recalibrate(rng):
    labels = np.zeros((4, 20, 20), int)
    labels[:, :2, :20] = 1  # 40 voxels a section, 80 a half
    p = np.full((4, 20, 20, 1), 0.5)
    assert inference.recalibrated_errors(p, labels, np.ones(labels.shape)) is None
    assert inference.recalibrated_errors(p, labels, np.zeros(labels.shape)) is None
