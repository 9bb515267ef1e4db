"""Variances shrunk towards the median cell's, against numbers worked out by hand."""

import numpy as np
import pytest
from scipy.stats import chi2, t

from flipscale.analysis.stats import PRIOR_DF, Differences, Moments, ScoreKind, shrink_variances


def cells(*values: list[float], unit: float = 1.0) -> dict[int, Differences]:
    return {i: Differences(of_cell, unit) for i, of_cell in enumerate(values)}


def test_the_unit_is_p_times_1_minus_p_of_a_fraction_and_a_loss_itself() -> None:
    assert ScoreKind(fraction=True, lower=False).noise_unit(0.8) == pytest.approx(0.16)
    assert ScoreKind(fraction=False, lower=True).noise_unit(2.5) == 2.5
    assert ScoreKind(fraction=False, lower=True).noise_unit(-2.5) == 1
    assert ScoreKind(fraction=False, lower=False).noise_unit(72.4) == 1


def test_a_variance_is_the_mean_of_its_own_and_the_median_s_weighted_by_degrees_of_freedom() -> None:
    # Variances 1, 4 and 9 of two degrees of freedom, whose median of chi-squared over df is log 4 / 2.
    noise = shrink_variances(cells([-1, 0, 1], [-2, 0, 2], [-3, 0, 3]))
    prior = 4 / (chi2.ppf(0.5, 2) / 2)
    assert noise.prior_sd == pytest.approx(prior**0.5)
    for i, own in enumerate((1, 4, 9)):
        moments = noise.moments[i]
        assert moments.df == PRIOR_DF + 2
        assert moments.error**2 * 3 == pytest.approx((4 * prior + 2 * own) / 6)


def test_units_take_part_in_the_comparison_of_variances_and_not_in_the_difference() -> None:
    noise = shrink_variances({"low": Differences([0.01, 0.03], 0.1), "high": Differences([0.05, 0.15], 0.5)})
    assert noise.moments["low"].mean == pytest.approx(0.02)
    assert noise.moments["high"].error == pytest.approx(5 * noise.moments["low"].error)


def test_an_interval_is_the_raw_mean_plus_and_minus_t_standard_errors() -> None:
    moments = shrink_variances(cells([1, 2, 3, 4], [0, 0, 1, 1])).moments[0]
    low, high = moments.interval().low, moments.interval().high
    assert (low + high) / 2 == pytest.approx(2.5)
    assert (high - low) / 2 == pytest.approx(t.ppf(0.975, 7) * moments.error)


def test_a_cell_that_is_far_noisier_keeps_its_own_variance() -> None:
    rng = np.random.default_rng(0)
    quiet = [rng.normal(0, 1, 5).tolist() for _ in range(7)]
    noise = shrink_variances(cells(*quiet, [-30, 10, 20, 5, -5]))
    assert noise.noisy == (7,)
    assert noise.moments[7].df == 4
    assert noise.moments[7].error ** 2 * 5 == pytest.approx(np.var([-30, 10, 20, 5, -5], ddof=1))


def test_one_cell_alone_has_its_own_variance_and_one_seed_has_none() -> None:
    alone = shrink_variances(cells([1, 3]))
    assert (alone.moments[0].df, alone.moments[0].error, alone.prior_sd) == (1, 1, None)
    assert shrink_variances(cells([1.0])).moments == {}


def test_a_cell_of_one_seed_borrows_no_variance() -> None:
    assert set(shrink_variances(cells([-1, 1], [-1, 1], [0.5])).moments) == {0, 1}


def test_a_cell_has_its_own_variance_from_8_seeds_on_and_a_shrunken_one_below() -> None:
    rng = np.random.default_rng(0)
    others = [rng.normal(0, 1, 15).tolist() for _ in range(7)]
    quiet = rng.normal(0, 0.25, 15)
    own = shrink_variances(cells(*others, quiet[:8].tolist()))
    assert own.moments[7] == Moments(pytest.approx(quiet[:8].mean()), pytest.approx(quiet[:8].std(ddof=1) / 8**0.5), 7)
    assert own.noisy == ()
    assert shrink_variances(cells(*others, quiet[:7].tolist())).moments[7].df == PRIOR_DF + 6


def test_a_cell_at_an_end_of_the_scale_has_no_interval() -> None:
    noise = shrink_variances(
        {"floor": Differences([0.0, 0.0], 0.0), "a": Differences([1, 2], 1), "b": Differences([1, 3], 1)}
    )
    assert "floor" not in noise.moments


def test_seeds_that_agree_to_the_last_digit_are_certain() -> None:
    noise = shrink_variances(cells([1, 1, 1], [2, 2, 2]))
    assert [moments.p for moments in noise.moments.values()] == [0, 0]
