import numpy as np
import pytest
from scipy.stats import norm

from flipscale.analysis.comparing.estimates import corrected, drawn, mean_of, ratio_of


def test_p_is_below_5_percent_just_when_0_is_outside_the_interval():
    shown, not_shown = mean_of([1.0, 2.0, 3.0, 4.0]), mean_of([-1.0, 2.0, 3.0, 4.0])
    assert shown.p is not None
    assert not_shown.p is not None
    assert (shown.interval.low > 0, shown.p < 0.05) == (True, True)
    assert (not_shown.interval.low > 0, not_shown.p < 0.05) == (False, False)


def test_a_ratio_is_a_geometric_mean_so_2_and_a_half_cancel():
    ratio = ratio_of([np.log(2), np.log(0.5)])
    assert ratio.mean == pytest.approx(1)
    assert ratio.interval.low * ratio.interval.high == pytest.approx(1)
    assert ratio.p == pytest.approx(1)


def test_seeds_that_agree_to_the_last_digit_are_certain_and_none_is_0():
    assert mean_of([0.1, 0.1, 0.1]).p == 0
    assert mean_of([0.0, 0.0]).p == 1


def of_p(p, mean=1.0, draws=200_000):
    """A reading with this p: normal draws around its mean, as wide as that takes."""
    quantiles = norm.ppf((np.arange(draws) + 0.5) / draws)
    return drawn(mean, mean + mean * quantiles / norm.ppf(1 - p / 2), seeds=5)


def test_holm_s_correction_is_the_textbook_s():
    # p times 4, 3, 2, 1 in order, and never less than the one before.
    found = corrected([of_p(p) for p in (0.01, 0.04, 0.03, 0.005)], 1)
    assert [e.corrected.p for e in found] == pytest.approx([0.03, 0.06, 0.06, 0.02], rel=1e-2)
    assert [e.corrected.p <= 0.05 for e in found] == [True, False, False, True]
    assert {e.corrected.of for e in found} == {4}


def test_a_corrected_interval_leaves_0_out_just_when_the_claim_is_shown():
    for ps in ((0.01, 0.04, 0.03, 0.005), (0.013, 0.02, 0.024, 0.2), (0.04, 0.5), (0.001, 0.002, 0.003)):
        for e in corrected([of_p(p) for p in ps], 1):
            assert (e.corrected.interval.low > 0) == (e.corrected.p <= 0.05)
            assert e.corrected.interval.low <= e.interval.low + 1e-12


def test_one_claim_is_not_corrected_and_one_seed_claims_nothing():
    one, alone = corrected([of_p(0.04), mean_of([1.0])], 1)
    assert (one.corrected.interval.low, one.corrected.interval.high) == pytest.approx(
        (one.interval.low, one.interval.high)
    )
    assert one.corrected.of == 1
    assert alone.corrected is None


def test_a_ratio_that_is_a_bound_has_an_interval_without_upper_end():
    log_ratios = np.log(1.5) + 0.1 * norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    bound = drawn(np.log(1.5), log_ratios, seeds=3, ratio=True, at_least=True)
    assert bound.interval == (pytest.approx(1.5 * np.exp(-0.196), rel=1e-3), np.inf)
    (alone,) = corrected([bound], 1)
    assert (alone.corrected.interval.low, alone.corrected.interval.high) == (bound.interval.low, np.inf)


def test_an_interval_of_few_draws_leaves_0_out_just_when_p_is_at_most_its_level():
    rng = np.random.default_rng(0)
    for _ in range(200):
        found = drawn(0.2, 0.2 + 0.1 * rng.standard_normal(200), seeds=3)
        assert (found.interval.low > 0) == (found.p <= 0.05)
