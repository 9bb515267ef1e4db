"""Cells in which some runs take off and others do not."""

import numpy as np
import pytest
from scipy.stats import permutation_test

from flipscale.stats import failed_runs, sign_flip_p


def test_runs_below_half_of_the_best_have_failed_where_an_arm_has_both_kinds() -> None:
    assert failed_runs([0.10, 0.90, 0.12], [0.91, 0.93, 0.92]) == (2, 0)
    assert failed_runs([0.88, 0.90, 0.10], [0.11, 0.93, 0.10]) == (1, 2)


def test_an_arm_all_of_whose_runs_are_low_is_worse_and_has_not_failed() -> None:
    assert failed_runs([0.85, 0.86, 0.87], [0.30, 0.31, 0.32]) is None
    assert failed_runs([0.02, 0.021], [0.018, 0.02]) is None


def test_five_pairs_decide_nothing() -> None:
    assert sign_flip_p([0.1, 0.2, 0.3, 0.4, 0.5]) == 2 / 2**5
    assert sign_flip_p([0.1]) == 1


def test_p_is_that_of_scipy_s_permutation_of_signs() -> None:
    values = np.random.default_rng(0).normal(0.4, 1, 9)
    expected = permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flip_p(values.tolist()) == pytest.approx(expected)


def test_p_of_many_pairs_is_drawn() -> None:
    rng = np.random.default_rng(0)
    assert sign_flip_p(rng.normal(1, 1, 40).tolist()) < 0.001
    assert sign_flip_p(rng.normal(0, 1, 40).tolist()) > 0.05
