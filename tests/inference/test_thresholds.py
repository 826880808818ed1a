"""The threshold of labels follows from the probabilities of the tomogram."""

import dataclasses
import math

import numpy as np
import pytest

from cryojax_seg import core, inference
from cryojax_seg.core import Tomogram
from cryojax_seg.inference.planning import plan
from cryojax_seg.inference.thresholds import expected_threshold, patches_of, thresholds_for
from cryojax_seg.io import ModelCard
from cryojax_seg.segmenters import GlobalThreshold

CARD = ModelCard(
    voxel_size=(10.0, 10.0, 10.0),
    contrast="bright",
    patch=16,
    thresholds=(0.3,),
    provenance={"built_in": True},
)
MODEL = inference.Model(GlobalThreshold(1.0, softness=0.5), CARD)


def dice(labels, truth):
    return 2 * (labels & truth).sum() / (labels.sum() + truth.sum())


@pytest.mark.parametrize("sharpness", [1.0, 4.0])
def test_the_threshold_gives_the_best_dice_with_a_truth_drawn_from_the_probabilities(sharpness):
    rng = np.random.default_rng(0)
    probability = 1 / (1 + np.exp(-sharpness * (rng.normal(size=200_000) - 1.5)))
    truth = rng.random(200_000) < probability
    threshold, expected = expected_threshold(probability)
    found = dice(probability >= threshold, truth)
    best = max(dice(probability >= t, truth) for t in np.linspace(0.02, 0.98, 97))
    # Of 27,000 voxels of truth: the standard error of a Dice is about 0.002.
    assert found == pytest.approx(best, abs=0.005) and found == pytest.approx(expected, abs=0.01)
    assert threshold == pytest.approx(expected / 2, abs=0.01)  # Lipton et al. 2014


def tomogram(noise):
    """Return a volume with a bright slab in noise of this standard deviation."""
    volume = noise * np.random.default_rng(0).normal(size=(32, 32, 32)).astype(np.float32)
    volume[10:16] += 3.0
    return Tomogram(volume, (10.0, 10.0, 10.0))


def test_a_built_in_model_takes_a_threshold_of_its_own_for_each_tomogram():
    clear, weak = (plan(MODEL, tomogram(n)).postprocess.thresholds[0] for n in (0.3, 3.0))
    assert clear != 0.3 and weak != 0.3 and 0.1 <= weak < clear <= 0.9


def test_what_is_given_comes_first_and_other_models_keep_that_of_their_card():
    assert plan(MODEL, tomogram(0.3), threshold=0.7).postprocess.thresholds == (0.7,)
    own = inference.Model(MODEL.segmenter, dataclasses.replace(CARD, provenance={}))
    assert plan(own, tomogram(0.3)).postprocess.thresholds == (0.3,)


def test_a_tomogram_with_hardly_any_structure_takes_that_of_the_card():
    empty = np.full((16, 16, 16, 1), -9.0)
    assert thresholds_for([empty], ["membrane"], (0.3,)) == (0.3,)
    assert thresholds_for([empty], ["membrane"]) == (0.5,)
    nothing = inference.Model(GlobalThreshold(50.0, softness=0.5), CARD)
    assert plan(nothing, tomogram(0.3)).postprocess.thresholds == (0.3,)


def test_each_class_has_a_threshold_of_its_own():
    """Of actin, which the model is never sure of, labels appear; of what is not there, none do."""
    rng = np.random.default_rng(0)
    odds = np.full((40, 40, 40, 4), -6.0)  # background, membrane, actin, macromolecule
    odds[..., 0] = 0.0
    odds[:10, ..., 1] = 3.0 + rng.normal(size=(10, 40, 40))
    odds[20:25, ..., 2] = -1.0 + 0.5 * rng.normal(size=(5, 40, 40))
    odds[..., 3] = -4.5 + 0.5 * rng.normal(size=(40, 40, 40))
    membrane, actin, other = thresholds_for(
        [odds[:20], odds[20:]], ["membrane", "actin", "macromolecule"], (0.4, 0.5, 0.6)
    )
    assert membrane > 0.4 and 0.1 <= actin < 0.3 and other == 0.6
    found = np.asarray(core.labels(odds, (membrane, actin, other)))
    assert (found[20:25] == 2).mean() > 0.6 and not (found == 3).any()
    assert (np.asarray(core.labels(odds))[20:25] == 2).mean() < 0.1


def test_the_file_states_the_threshold_that_was_used(tmp_path):
    from cryojax_seg.io import read_label_card, write_mrc

    volume = np.asarray(tomogram(0.3).density)
    write_mrc(tmp_path / "t.mrc", volume, voxel_size=10.0)
    inference.segment_file(MODEL, tmp_path / "t.mrc", tmp_path / "l.mrc")
    card, planned = read_label_card(tmp_path / "l.mrc"), plan(MODEL, tmp_path / "t.mrc")
    assert card is not None
    assert card.thresholds == pytest.approx(planned.postprocess.thresholds, abs=1e-4)


def test_the_patches_are_a_small_part_of_a_large_volume():
    assert patches_of((500, 1000, 1000), 32) * 32**3 < 0.003 * math.prod((500, 1000, 1000))


def test_probabilities_of_nothing_are_refused():
    with pytest.raises(ValueError, match="no voxel has any probability"):
        expected_threshold(np.zeros(4))
