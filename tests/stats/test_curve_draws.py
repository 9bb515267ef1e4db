"""Draws of mean curves: their spread, what they share, and the p of what is read off them."""

import numpy as np
import pytest
from scipy.stats import norm, t

from flipscale.stats import Draws, run_noise

SEEDS = range(3)


def runs(seed_effect: float = 0.0, curve_effect: float = 0.0, cells: int = 200) -> dict:
    """Runs of one series, two arms and many cells, of variance 1 but for what the seed adds."""
    rng = np.random.default_rng(0)
    both = seed_effect * np.array([1.0, -1.0, 0.0])
    alone = {"": curve_effect * np.array([1.0, -1.0, 0.0]), "arm": curve_effect * np.array([1.0, 1.0, -2.0]) / 3**0.5}
    return {
        ("s", f"{cell}", arm): {s: float(both[s] + alone[arm][s] + rng.standard_normal()) for s in SEEDS}
        for cell in range(cells)
        for arm in ("", "arm")
    }


def test_a_point_of_a_mean_curve_is_drawn_as_student_t_of_its_moderated_variance():
    noise = run_noise(runs())
    key = ("s", "7", "arm")
    ((steps,),) = (noise.steps([[key]], seeds=3, draws=400_000, stream=0),)
    error = (noise.variances[key] / 3) ** 0.5
    limits = t(noise.df[key]).ppf([0.025, 0.1, 0.975])
    assert np.quantile(steps[:, 0], [0.025, 0.1, 0.975]) == pytest.approx(error * limits, rel=0.02)
    assert steps.mean() == pytest.approx(0, abs=1e-12)  # each step has its opposite


def test_runs_that_share_nothing_are_drawn_apart_and_a_seed_s_effect_moves_its_runs_together():
    keys = [[("s", "1", ""), ("s", "2", "")], [("s", "1", "arm"), ("s", "2", "arm")]]
    for effect in (0.0, 1.0):
        noise = run_noise(runs(seed_effect=effect))
        base, ours = noise.steps(keys, seeds=3, draws=40_000, stream=0)
        shared = noise.shared.seed
        assert shared == pytest.approx(0.0 if not effect else 0.5, abs=0.1)
        assert np.corrcoef(base[:, 0], ours[:, 1])[0, 1] == pytest.approx(shared, abs=0.02)


def test_an_effect_of_one_arm_s_seeds_is_shared_along_its_curve_only():
    shared = run_noise(runs(curve_effect=1.0)).shared
    assert shared.curve == pytest.approx(0.5, abs=0.05)
    assert shared.seed < 0.05
    assert shared.curve + shared.seed + shared.twins + shared.rest == pytest.approx(1)


def test_the_same_study_has_the_same_draws_in_any_order_of_its_runs():
    found = [
        run_noise(dict(order)).steps([[("s", "1", "")]], seeds=3, draws=100, stream=0)[0]
        for order in (list(runs(cells=5).items()), list(runs(cells=5).items())[::-1])
    ]
    assert found[0] == pytest.approx(found[1])


def test_one_seed_learns_from_the_other_cells_and_nobody_knows_where_all_have_one():
    several = {**runs(cells=10), ("s", "new", ""): {0: 1.0}}
    assert run_noise(several).variances["s", "new", ""] == pytest.approx(1, rel=0.5)
    assert run_noise({("s", "1", ""): {0: 1.0}, ("s", "1", "arm"): {0: 2.0}}) is None


def test_seeds_that_agree_to_the_last_digit_leave_no_step():
    noise = run_noise({("s", f"{cell}", ""): {0: 1.0, 1: 1.0} for cell in range(3)})
    assert not noise.steps([[("s", "1", "")]], seeds=2, draws=10, stream=0)[0].any()


def test_p_is_at_most_a_level_just_if_the_interval_at_that_level_excludes_no_effect():
    normal = norm.ppf((np.arange(19_999) + 0.5) / 19_999)
    for mean in (1.5, 1.9, 2.0, 2.1, 3.0, -2.5):
        draws = Draws.of(mean + normal)
        assert draws.p() == pytest.approx(2 * norm.sf(abs(mean)), abs=3e-4)
        for level in (0.1, 0.05, 0.01, 0.05 / 14):
            assert (draws.p() <= level) is not draws.interval(level).holds(0)


def test_two_ways_to_read_leave_possible_what_either_does_and_infinite_draws_open_an_end():
    steps = np.linspace(-1, 1, 1001)
    both = Draws.of(steps, 3 + steps)
    assert (both.interval().low, both.interval().high) == pytest.approx((-0.95, 3.95), abs=0.01)
    assert both.p(1.5) == 1
    missed = Draws.of(np.append(steps, np.full(50, np.inf)))
    assert missed.interval().high == np.inf
    assert np.isfinite(missed.interval().low)
    assert Draws.of(steps).interval(1e-4).low == -np.inf  # a thousand draws do not know
