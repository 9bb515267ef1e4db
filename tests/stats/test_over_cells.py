"""Means, slopes and seed effects over cells; what seeds detect; equivalence; many comparisons."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from flipscale.analysis.stats import Design, Moments, holm, mean_over, seed_effect_p, slope_of


def test_a_mean_over_cells_is_a_student_t_over_the_means_of_seeds() -> None:
    differences = np.random.default_rng(0).normal(1, 1, (10, 4))
    over = mean_over(differences)
    assert over is not None
    assert over.mean == pytest.approx(differences.mean())
    assert over.p == pytest.approx(ttest_1samp(differences.mean(axis=0), 0).pvalue)
    assert mean_over(differences[:1]) is None
    assert mean_over(differences[:, :1]) is None


def test_a_slope_has_the_variances_of_its_cells() -> None:
    x = np.array([0.0, 1.0, 2.0])
    found = slope_of([(x, [Moments(1 + 3 * at, 0.1, 8) for at in x])])
    assert found is not None
    assert found.slope == pytest.approx(3)
    # The ends alone tilt the line, each by half of its error; Satterthwaite adds their degrees of freedom.
    exact = Moments(3, 0.1 / 2**0.5, 16).interval()
    assert (found.interval.low, found.interval.high) == pytest.approx((exact.low, exact.high))
    assert found.bends_p == pytest.approx(1)


def test_lines_of_different_levels_share_a_slope_and_a_bend_is_seen() -> None:
    x = np.array([0.0, 1.0])
    lines = [(x, [Moments(level, 0.1, 8), Moments(level + 2, 0.1, 8)]) for level in (0.0, 50.0)]
    found = slope_of(lines)
    assert found is not None
    assert found.slope == pytest.approx(2)
    bent = slope_of([(np.array([0.0, 1.0, 2.0]), [Moments(y, 0.1, 8) for y in (0.0, 1.0, 0.0)])])
    assert bent is not None
    assert bent.bends_p is not None
    assert bent.bends_p < 0.001
    assert slope_of([(np.array([1.0]), [Moments(1, 0.1, 8)])]) is None


def test_a_seed_that_moves_all_cells_alike_is_found() -> None:
    rng = np.random.default_rng(0)
    alone = rng.normal(size=(10, 4))
    assert (seed_effect_p(alone) or 0) > 0.1
    assert (seed_effect_p(alone + 3 * rng.normal(size=4)) or 1) < 0.001
    assert seed_effect_p(alone[:1]) is None


def test_the_detectable_difference_is_found_in_80_percent_of_studies() -> None:
    design = Design(sd=1.0, prior_df=0.0)
    size = design.detectable(6)
    assert size is not None
    values = np.random.default_rng(0).normal(size, 1, (4000, 6))
    assert (ttest_1samp(values, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.02)
    assert design.seeds_for(size) == 6
    assert design.detectable(1) is None
    assert Design(1.0, 4.0).detectable(3) < Design(1.0, 0.0).detectable(3)  # type: ignore[operator]


@pytest.mark.parametrize(("low", "high", "p"), [(-1.0, 1.0, 0.0359), (-0.4, 2.0, 0.1587)])
def test_p_of_equivalence_is_the_larger_of_two_one_sided_tests(low: float, high: float, p: float) -> None:
    assert Moments(0.1, 0.5, float("inf")).p_within(low, high) == pytest.approx(p, abs=1e-4)


def test_equal_p_values_of_a_family_are_judged_at_one_level() -> None:
    first, second, third = holm([0.01, 0.01, 0.2])
    assert first is not None
    assert first == second
    assert (first.p, first.level) == (pytest.approx(0.03), pytest.approx(0.05 / 3))
    assert third is not None
    assert third.level == pytest.approx(0.05)
