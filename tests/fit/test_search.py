"""Many searches at once end where scipy's end one by one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flipscale.analysis.fitting import LAWS, with_columns
from flipscale.analysis.fitting.chosen_rows import rows_of
from flipscale.analysis.fitting.fronts import best_sizes, optima
from flipscale.analysis.fitting.search import Problem, descend, refits, search, solve, with_scale
from flipscale.analysis.fitting.uncertainty import resamples

X = np.stack(np.meshgrid(np.geomspace(1e7, 1e10, 6), np.geomspace(1e9, 1e11, 4), indexing="ij"), -1).reshape(-1, 2)
THETA = {
    "chinchilla": np.array([np.log(1.69), np.log(406.4), np.log(410.7), 0.34, 0.28]),
    "odds": np.array([np.log(30.0), np.log(200.0), 0.25, 0.3, 0.9]),
    "product": np.array([3.0, 0.1, 0.2]),
}


def problem(name: str, loss: str, **more: object) -> Problem:
    z = LAWS[name].evaluate(THETA[name], X)[0] + np.random.default_rng(0).normal(0, 0.02, len(X))
    return Problem(LAWS[name], X, z, 1e-3 if loss == "huber" else np.inf, **more)  # type: ignore[arg-type]


def objective_of(problem: Problem, theta: np.ndarray) -> float:
    """The summed loss, written down once more."""
    residuals = np.abs(problem.law.evaluate(theta, problem.x)[0] - problem.z)
    if np.isinf(problem.delta):
        return float((residuals**2).sum() / 2)
    within = residuals <= 1e-3
    return float((residuals[within] ** 2).sum() / 2 + 1e-3 * (residuals[~within] - 0.5e-3).sum())


@pytest.mark.parametrize(
    ("name", "loss"), [("chinchilla", "huber"), ("chinchilla", "squares"), ("odds", "squares"), ("product", "huber")]
)
@pytest.mark.parametrize("more", [{}, {"fixed": {"a": 0.3}}, {"tied": {"b": "a"}}])
def test_resamples_end_at_the_optimum_that_scipy_finds(name: str, loss: str, more: dict[str, object]) -> None:
    whole = problem(name, loss, **more)
    counts = resamples(np.arange(len(X)), 8).astype(float)
    found = refits(whole, THETA[name], counts)
    for theta, row in zip(found, counts, strict=True):
        drawn = np.repeat(np.arange(len(X)), row.astype(int))
        resample = replace(whole, x=X[drawn], z=whole.z[drawn])
        objective = search(resample, THETA[name][whole.free_places])[1]
        assert objective_of(resample, theta) == pytest.approx(objective, rel=1e-8)


def test_linear_residuals_and_weights_count_as_in_scipy() -> None:
    whole = problem("chinchilla", "squares", linear=True, weights=np.linspace(0.2, 1.8, len(X)))
    (ours,) = refits(whole, THETA["chinchilla"], np.ones((1, len(X))))
    assert ours == pytest.approx(search(whole, THETA["chinchilla"])[0], rel=1e-5)


def test_each_table_of_many_is_fitted_by_itself() -> None:
    whole = problem("product", "squares")
    both = replace(whole, z=whole.z + np.array([[0.0], [0.5]]))
    moved = refits(both, THETA["product"], np.ones((2, len(X))))
    assert moved[1] - moved[0] == pytest.approx([0.5, 0, 0], abs=1e-7)


def test_searches_stay_inside_the_bounds_and_end_at_the_best_of_them() -> None:
    """z rises with size, so exponents of a sum, which are 0 or more, end at 0."""
    law = LAWS["power+floor"]
    x = np.geomspace(1, 1e4, 20)[:, None]
    rising = Problem(law, x, np.linspace(0, 1, 20))
    parts, objectives = descend(rising, law.starts(np.random.default_rng(0), x, rising.z, 6))
    low, high = rising.bounds
    assert ((low <= parts) & (parts <= high)).all()
    # A constant is all that is left: the variance of z about its mean.
    assert objectives.min() == pytest.approx(0.5 * ((rising.z - 0.5) ** 2).sum(), rel=1e-6)


def test_a_search_that_cannot_begin_ends_where_it_is() -> None:
    whole = problem("chinchilla", "huber")
    broken = replace(whole, z=np.where(np.arange(len(X)) == 0, np.nan, whole.z))
    assert descend(broken, THETA["chinchilla"][None])[1] == [np.inf]


SIZES = ["flops_per_sample", "samples_seen"]


@pytest.mark.parametrize(
    ("study", "law", "x", "y"),
    [
        ("flip", "power+floor", ["train_flops"], "1-zero_shot_top1"),
        ("flip", "odds", SIZES, "zero_shot_top1"),
        ("isoflop", "odds", SIZES, "zero_shot_top1"),
    ],
)
def test_scipy_finds_nothing_lower_where_resamples_end_at_a_bound(study: str, law: str, x: list[str], y: str) -> None:
    """It did in 18, 67 and 25 of 80 resamples: steps that were cut off at a bound led uphill."""
    table = pd.read_csv(Path(__file__).parents[2] / f"results/{study}/results.csv")
    rows = rows_of(with_columns(table[table["mask_ratio"] == 0], [y]), LAWS[law], x, y)
    whole = with_scale(Problem(LAWS[law], rows.x, rows.z), starts=24)
    theta = solve(whole, starts=24).theta
    counts = resamples(np.unique(whole.x, axis=0, return_inverse=True)[1].reshape(-1), 40)
    lower = 0
    for end, row in zip(refits(whole, theta, counts.astype(float)), counts, strict=True):
        drawn = np.repeat(np.arange(len(whole.x)), row)
        resample = replace(whole, x=whole.x[drawn], z=whole.z[drawn])
        ours = float(resample.loss_of(resample.residuals(end)[0]).sum())
        lower += min(search(resample, theta)[1], search(resample, end)[1]) < ours * (1 - 1e-4)
    assert lower == 0


@pytest.mark.parametrize("lower", [True, False])
def test_best_sizes_of_many_measurements_are_those_of_each(lower: bool) -> None:
    rng = np.random.default_rng(1)
    size = np.tile(np.geomspace(1e6, 1e9, 7).repeat(2), 2)
    budget = np.repeat([1e17, 1e18], 14)
    y = np.exp((1 if lower else -1) * 0.02 * np.log(size / budget**0.6 * 1e3) ** 2 + rng.normal(0, 0.5, (20, 28)))
    many = best_sizes(size, np.log(y), budget, lower=lower)
    assert np.isfinite(many).any()
    assert np.isnan(many).any()
    for row, measured in zip(many, y, strict=True):
        found, none = optima(size, measured, budget, lower=lower)
        assert [np.log(optimum.size) for optimum in found] == pytest.approx(row[np.isfinite(row)])
        assert len(none) == np.isnan(row).sum()
