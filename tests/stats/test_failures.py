"""Cells in which some runs take off and others do not."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import permutation_test

from flipscale.analysis.rows import above_chance
from flipscale.analysis.stats import failed_runs, sign_flip_p


def test_a_run_at_chance_has_failed_while_another_of_its_cell_of_either_arm_takes_off() -> None:
    assert failed_runs([0.5, 90.0, 1.2], [91.0, 93.0, 92.0]) == (2, 0, 3)
    assert failed_runs([90.0, 91.0], [0.1, -2.0]) == (0, 2, 2)
    assert failed_runs([90.0, 91.0], [3.1, 9.0]) is None
    assert failed_runs([1.0, 9.9], [-1.0, 2.0]) is None


def test_where_chance_is_unknown_only_a_missing_score_is_a_failure() -> None:
    table = pd.DataFrame({"acc": [0.9, 0.01, None]})
    assert failed_runs(above_chance(table, "acc"), [math.inf] * 3) == (1, 0, 3)


def test_a_table_says_how_far_scores_are_above_chance() -> None:
    table = pd.DataFrame(
        {
            "acc": [0.10, 0.13, 0.13, None],
            "chance": ["top5=0.5, acc=0.1"] * 4,
            "items": ["acc=10000, top5=10000", "acc=10000", None, "acc=10000"],
        }
    )
    # One standard error of 10,000 items is 0.3 points.
    assert above_chance(table, "acc") == pytest.approx([0, 10, math.inf, math.nan], nan_ok=True)


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
