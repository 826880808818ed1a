"""Prevalences are found, and logits corrected by Bayes' rule."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from scipy.stats import norm

from cryojax_seg.segmenters import fit_prevalence, prior_correction

MEANS = np.array([0.0, 2.0, -2.0])


def logits_of(x, shares):
    """Return the logits of normal distributions of three classes with these prevalences."""
    return norm.logpdf(x[:, None], MEANS) + np.log(shares)


def test_corrected_logits_are_those_of_the_other_prevalence():
    x = np.linspace(-4, 4, 9)
    before, after = (0.4, 0.3, 0.3), (0.9, 0.06, 0.04)
    corrected = prior_correction(before, after)(logits_of(x, before))
    assert softmax(corrected, -1) == pytest.approx(softmax(logits_of(x, after), -1), abs=1e-12)
    one = prior_correction((0.5, 0.5), (0.99, 0.01))(np.zeros((1, 1)))
    assert expit(one).item() == pytest.approx(0.01)


def test_the_prevalence_of_three_classes_is_found():
    rng = np.random.default_rng(0)
    shares = np.array([0.93, 0.05, 0.02])
    x = MEANS[rng.choice(3, 50_000, p=shares)] + rng.normal(size=50_000)
    found = fit_prevalence(logits_of(x, (0.4, 0.3, 0.3)), (0.4, 0.3, 0.3))
    # The error of a share of 0.02 with this overlap is about 0.003.
    assert found == pytest.approx(shares, abs=0.01)


def test_a_class_that_is_absent_gets_hardly_any_share():
    rng = np.random.default_rng(1)
    x = rng.normal(size=20_000)
    found = fit_prevalence(logits_of(x, (0.4, 0.3, 0.3)), (0.4, 0.3, 0.3))
    assert found[0] > 0.98


def test_bad_shares_are_refused():
    with pytest.raises(ValueError, match="trained must hold the positive shares"):
        prior_correction((0.5, 0.6), (0.5, 0.5))
    with pytest.raises(ValueError, match="wanted has 3"):
        prior_correction((0.5, 0.5), (0.5, 0.25, 0.25))
    with pytest.raises(ValueError, match="rows of 2 classes"):
        fit_prevalence(np.zeros((4, 3)), (0.5, 0.5))
    with pytest.raises(ValueError, match="finite"):
        fit_prevalence(np.full((4, 1), np.nan), (0.5, 0.5))
