"""Tomograms without annotation teach beside annotated ones."""

import dataclasses
import logging
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cryojax_seg.core import MissingWedge, normalize
from cryojax_seg.errors import ParameterError
from cryojax_seg.restore import Gaussian
from cryojax_seg.segmenters import GlobalThreshold
from cryojax_seg.training import (
    Batch,
    Example,
    Examples,
    TrainConfig,
    TrainingError,
    fit_model,
    semi_supervised,
)

WEDGE = MissingWedge((-60.0, 60.0))
SIZE = (10.0, 10.0, 10.0)
QUICK: dict[str, Any] = {"method": "vote", "steps": 4, "patch": 8, "progress": False}


def example(seed=0, **changes):
    labels = np.zeros((16, 20, 20), np.int32)
    labels[:, 8:12] = 1
    noise = np.random.default_rng(seed).normal(size=labels.shape)
    volume = normalize((noise + 4 * labels).astype(np.float32), "bright")
    return Example(volume, **{"labels": labels, "wedge": WEDGE, "name": f"{seed}.mrc", **changes})


def more(**changes):
    return Examples((example(1, labels=None, **changes),), (), SIZE, "bright")


@pytest.fixture
def data():
    return Examples((example(),), ("wall",), SIZE, "bright", (-60.0, 60.0))


def test_each_objective_sees_its_own_patches(monkeypatch):
    """The supervised one those of the annotation and of phantoms, the equivariant one the rest."""

    def spy(factor):
        return lambda _, batch: factor * batch.volume.sum()

    monkeypatch.setattr(semi_supervised, "equivariant", lambda confidence: spy(1000.0))
    config = TrainConfig(batch=2, replay=1)
    objective, config = semi_supervised.consistent(spy(1.0), GlobalThreshold(0.5), config, 0.5)
    assert (config.batch, config.unannotated, config.replay) == (2, 2, 1)
    batch = Batch(jnp.asarray(10.0 ** np.arange(5, dtype=np.float32)).reshape(5, 1, 1, 1))
    assert float(objective(GlobalThreshold(0.5), batch)) == 10011 + 500 * 1100


def test_a_run_with_unlabelled_tomograms_resumes_to_the_same_parameters(data, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "cryojax_seg.training"):
        first: Any = fit_model(data, tmp_path / "run", unlabelled=more(), **QUICK)
    assert "81 % annotated, and 1 without labels: 4 steps of 2 patches 8x8x8, 2 without" in (
        caplog.text
    )
    assert first.config.unannotated == first.config.batch == 2
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000004")
    again: Any = fit_model(data, tmp_path / "run", unlabelled=more(), resume=True, **QUICK)
    for a, b in zip(jax.tree.leaves(first.operator), jax.tree.leaves(again.operator), strict=True):
        np.testing.assert_array_equal(a, b)
    other = dataclasses.replace(more(), examples=(example(2, labels=None),))
    with pytest.raises(TrainingError, match=r"data"):
        fit_model(data, tmp_path / "run", unlabelled=other, resume=True, **QUICK)
    alone: Any = fit_model(data, **QUICK)
    assert not np.array_equal(alone.operator.kernel, first.operator.kernel)


@pytest.mark.parametrize(
    ("unlabelled", "changes", "message", "parameters"),
    [
        (more(wedge=None), {}, "1.mrc: its tilt range is not known", ("tilt_range",)),
        (more(), {"consistency": 0.0}, "consistency is a positive weight", ("consistency",)),
        (
            dataclasses.replace(more(), voxel_size=(10.0, 23.0, 23.0)),
            {},
            "1.mrc: has voxels of 10 x 23 angstrom, more than twofold off the 10 angstrom",
            ("unlabelled", "voxel_size"),
        ),
        (
            more(),
            {"restorer": Gaussian(1.0)},
            "by the missing wedge, which a restorer fills",
            ("unlabelled", "restorer"),
        ),
    ],
    ids=["wedge", "weight", "voxel size", "restorer"],
)
def test_what_cannot_teach_is_refused(data, unlabelled, changes, message, parameters):
    with pytest.raises(ParameterError, match=message) as refused:
        fit_model(data, unlabelled=unlabelled, **changes, **QUICK)
    assert refused.value.parameters == parameters


def test_other_voxels_become_those_of_the_annotated_tomograms(data):
    fine = dataclasses.replace(more(), voxel_size=(5.0, 10.0, 10.0))
    (found,) = semi_supervised.beside(fine, data, 0.3)
    assert found.volume.shape == (8, 20, 20) and found.labels is None
    (same,) = semi_supervised.beside(more(), data, 0.3)
    assert same is not found and same.volume.shape == (16, 20, 20)


def test_the_annotated_tomograms_need_a_tilt_range_too(data):
    unknown = dataclasses.replace(data, examples=(example(wedge=None),))
    with pytest.raises(ParameterError, match=r"0.mrc: its tilt range is not known"):
        fit_model(unknown, unlabelled=more(), **QUICK)
