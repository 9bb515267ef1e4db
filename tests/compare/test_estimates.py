import numpy as np
import pytest
from scipy.stats import t as student
from scipy.stats import ttest_rel

from flipscale.compare.estimates import corrected, draws_of_the_mean, either, mean_of, ratio_of, same_at_every_level


def test_p_is_below_5_percent_just_when_0_is_outside_the_interval():
    shown, not_shown = mean_of([1.0, 2.0, 3.0, 4.0]), mean_of([-1.0, 2.0, 3.0, 4.0])
    assert shown.p is not None
    assert not_shown.p is not None
    assert (shown.low > 0, shown.p < 0.05) == (True, True)
    assert (not_shown.low > 0, not_shown.p < 0.05) == (False, False)


def test_a_ratio_is_a_geometric_mean_so_2_and_a_half_cancel():
    ratio = ratio_of([np.log(2), np.log(0.5)])
    assert ratio.mean == pytest.approx(1)
    assert ratio.low * ratio.high == pytest.approx(1)
    assert ratio.p == pytest.approx(1)


def test_seeds_that_agree_to_the_last_digit_are_certain_and_none_is_0():
    assert mean_of([0.1, 0.1, 0.1]).p == 0
    assert mean_of([0.0, 0.0]).p == 1


def of_p(p, n=5, mean=1.0):
    """An estimate with this p: a mean and the spread that gives it."""
    spread = mean * np.sqrt(n) / student.ppf(1 - p / 2, n - 1)
    values = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    return mean_of(list(mean + spread * values / np.std(values, ddof=1)))


def test_holm_s_correction_is_the_textbook_s():
    # p times 4, 3, 2, 1 in order, and never less than the one before.
    found = corrected([of_p(p) for p in (0.01, 0.04, 0.03, 0.005)])
    assert [e.corrected.p for e in found] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [e.corrected.significant for e in found] == [True, False, False, True]
    assert {e.corrected.of for e in found} == {4}


def test_a_corrected_interval_leaves_0_out_just_when_the_claim_is_shown():
    for ps in ((0.01, 0.04, 0.03, 0.005), (0.013, 0.02, 0.024, 0.2), (0.04, 0.5), (0.001, 0.002, 0.003)):
        for e in corrected([of_p(p) for p in ps]):
            assert (e.corrected.low > 0) == e.corrected.significant
            assert e.corrected.low <= e.low + 1e-12


def test_one_claim_is_not_corrected_and_one_seed_claims_nothing():
    one, alone = corrected([of_p(0.04), mean_of([1.0])])
    assert (one.corrected.low, one.corrected.high) == pytest.approx((one.low, one.high))
    assert one.corrected.of == 1
    assert alone.corrected is None


def test_two_levels_are_compared_as_the_paired_t_test_does():
    values = np.array([[1.0, 2.5], [2.0, 2.0], [1.5, 3.5], [3.0, 4.5]])
    assert same_at_every_level(values) == pytest.approx(ttest_rel(values[:, 0], values[:, 1]).pvalue)


def test_levels_that_are_equal_in_every_seed_are_one():
    assert same_at_every_level(np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]])) == 1
    assert same_at_every_level(np.array([[1.0, 1.5, 2.0], [2.0, 2.5, 3.0]])) == 0


def test_draws_of_the_mean_are_student_t_at_every_level():
    values = np.array([[1.0, 10.0], [2.0, 30.0], [4.0, 20.0]])
    draws = draws_of_the_mean(values, 200_000)
    for level in (0, 1):
        e = mean_of(list(values[:, level]))
        assert np.percentile(draws[:, level], [2.5, 97.5]) == pytest.approx([e.low, e.high], rel=0.03)


def test_of_two_ways_to_read_the_interval_holds_what_either_leaves_possible():
    one, other = ratio_of([0.5, 0.6, 0.7]), ratio_of([0.6, 0.7, 0.8])
    both = either(one, other)
    assert (both.mean, both.low, both.high) == (one.mean, one.low, other.high)
    assert both.p == one.p > other.p
    (among, _) = corrected([both, of_p(0.5)])
    assert among.corrected.low < both.low < both.high < among.corrected.high


def test_two_ways_that_disagree_on_the_sign_show_nothing():
    both = either(mean_of([1.0, 1.1, 1.2]), mean_of([-1.0, -1.1, -1.2]))
    assert both.p == 1
    (one,) = corrected([both])
    assert one.corrected.low < 0 < one.corrected.high
    assert not one.corrected.significant
