"""Curves between their points, against scipy's monotone cubic."""

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from flipscale.compare.lines import Lines, first_reach


def curves(points: int, rising: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(points)
    xs = np.cumsum(rng.uniform(0.2, 2, (20, points)), axis=1)
    steps = rng.uniform(0.1, 1, xs.shape) if rising else rng.normal(size=xs.shape)
    return xs, np.cumsum(steps, axis=1)


@pytest.mark.parametrize("points", [3, 4, 7])
@pytest.mark.parametrize("rising", [True, False])
def test_scores_between_points_are_those_of_scipy_s_monotone_cubic(points, rising):
    xs, ys = curves(points, rising)
    for x, y in zip(xs, ys, strict=True):
        at = np.linspace(x[0], x[-1], 30)
        assert Lines(x[None], y[None]).scores_at(at)[0] == pytest.approx(PchipInterpolator(x, y)(at))


def test_a_cost_is_where_the_curve_has_the_score():
    xs, ys = curves(5, rising=True)
    targets = ys[:, :1] + np.linspace(0.01, 0.99, 9) * (ys[:, -1:] - ys[:, :1])
    lines = Lines(xs, ys)
    for i, costs in enumerate(lines.costs_to(targets)):
        assert PchipInterpolator(xs[i], ys[i])(costs) == pytest.approx(targets[i])


def test_many_curves_are_read_as_each_alone():
    xs, ys = curves(4, rising=False)
    costs, targets = np.linspace(1, 4, 7), np.array([[0.3, -0.2]])
    scores, reached = Lines(xs, ys).scores_at(costs), Lines(xs, ys).costs_to(targets)
    for i in range(len(xs)):
        alone = Lines(xs[i : i + 1], ys[i : i + 1])
        assert alone.scores_at(costs)[0] == pytest.approx(scores[i])
        assert alone.costs_to(targets)[0] == pytest.approx(reached[i])


def test_a_score_that_is_never_reached_or_passed_before_the_first_point_is_infinitely_far():
    lines = Lines(np.array([[0.0, 1.0, 2.0]]), np.array([[1.0, 3.0, 2.0]]))
    assert lines.costs_to(np.array([[0.5, 1.0, 3.0, 3.5]]))[0].tolist() == [-np.inf, 0.0, 1.0, np.inf]


def test_straight_lines_are_straight_and_first_reach_reads_them():
    lines = Lines(np.array([[0.0, 2.0, 4.0]]), np.array([[0.0, 4.0, 5.0]])).straightened()
    assert lines.scores_at(np.array([1.0, 3.0]))[0].tolist() == [2.0, 4.5]
    assert first_reach([0, 2, 4], [0, 4, 5], 4.5) == 3
    assert first_reach([0, 2, 4], [1, 4, 5], 0.5) is None
    assert first_reach([0, 2, 4], [0, 4, 5], 6) is None
