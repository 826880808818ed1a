"""Phantoms with their truth, which restorers learn from."""

import numpy as np
import pytest

from cryojax_seg.core import MissingWedge
from cryojax_seg.simulate import presets
from cryojax_seg.training import labelled, simulated
from cryojax_seg.training.phantoms import not_simulated

WEDGE = MissingWedge((-60.0, 60.0))


@pytest.fixture(scope="module")
def examples():
    ratios = (0.5, 0.5)
    kinds = (presets.vesicles, presets.crowded)
    return simulated(WEDGE, 10.0, 3, edge=40, snr=ratios, kinds=kinds, seed=3)


def test_the_truth_is_on_the_scale_of_the_volume(examples):
    """Inside the measured region the volume is the truth and noise that knows nothing of it."""
    for one in examples:
        measured = np.asarray(WEDGE.apply(one.truth - one.truth.mean()))
        slope = np.vdot(measured, one.volume - one.volume.mean()) / np.vdot(measured, measured)
        assert slope == pytest.approx(1.0, abs=0.03)
        assert one.truth.mean() == pytest.approx(one.volume.mean(), abs=1e-4)


def test_each_is_another_and_the_same_seed_gives_the_same(examples):
    first, *others = examples
    assert all(not np.allclose(first.truth, one.truth) for one in others)
    (again,) = simulated(WEDGE, 10.0, 1, edge=40, snr=(0.5, 0.5), kinds=(presets.vesicles,), seed=3)
    np.testing.assert_array_equal(again.volume, first.volume)
    (other,) = simulated(WEDGE, 10.0, 1, edge=40, snr=(0.5, 0.5), kinds=(presets.vesicles,), seed=4)
    assert not np.allclose(other.truth, first.truth)


@pytest.mark.parametrize(
    "arguments", [(10.0, 0), (0.0, 1), (float("nan"), 1)], ids=["count", "size", "nan"]
)
def test_what_is_not_positive_is_refused(arguments):
    with pytest.raises(ValueError, match="are positive, got"):
        simulated(WEDGE, *arguments)
    with pytest.raises(ValueError, match="are positive, got"):
        simulated(WEDGE, 10.0, 1, snr=(0.5, 0.1))


def test_labels_are_those_of_the_simulation_by_name():
    """The same scenes, labelled for other classes."""
    ratios, kinds = (5.0, 5.0), (presets.cytoskeleton,)
    names = ("background", "actin", "microtubule")
    (several,) = labelled(names, WEDGE, 10.0, 1, edge=40, snr=ratios, kinds=kinds)
    (single,) = labelled(("microtubule",), None, 10.0, 1, edge=40, snr=ratios, kinds=kinds)
    assert set(np.unique(several.labels)) == {0, 1, 2}
    np.testing.assert_array_equal(single.labels == 1, several.labels == 2)
    np.testing.assert_array_equal(single.volume, several.volume)  # 60 degrees where unknown
    assert several.wedge == WEDGE and single.wedge is None
    assert several.volume[several.labels > 0].mean() > 0.5 + several.volume.mean()


def test_a_class_that_is_not_simulated_is_refused():
    assert not_simulated(("background", "membrane", "ribosome", "lumen")) == ["ribosome"]
    assert not_simulated(("foreground",)) == ["foreground"]
    with pytest.raises(ValueError, match="ribosome: no such class of background, membrane"):
        next(labelled(("ribosome",), None, 10.0, 1))
