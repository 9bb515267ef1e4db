"""Fits over a table: which rows, what intervals, what is refused, and the traps that published fits fell into."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flipscale.analysis.fitting import (
    Options,
    fit,
    fit_groups,
    fit_json,
    fit_text,
    frontier,
    isoflop,
    where,
    with_columns,
)
from flipscale.analysis.fitting.fit_records import checklist
from flipscale.analysis.fitting.fronts import bins_of, budgets_of, evened, has_budgets, is_isoflop, on_frontier
from flipscale.analysis.fitting.search import Problem, solve
from flipscale.analysis.fitting.uncertainty import interval, resamples, stretch
from flipscale.errors import ResultsError

POINT_ONLY = Options(draws=0, starts=6)


def chinchilla(noise: float = 0.0, seeds: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    n, d = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e7, 1e10, 6), np.geomspace(1e9, 3e11, 5)))
    n, d = np.repeat(n, seeds), np.repeat(d, seeds)
    loss = (1.69 + 406.4 * n**-0.34 + 410.7 * d**-0.28) * np.exp(rng.normal(0, noise, len(n)))
    return pd.DataFrame({"N": n, "D": d, "loss": loss, "seed": np.tile(range(seeds), len(n) // seeds)})


def line(**columns: object) -> pd.DataFrame:
    x = np.geomspace(1, 1000, 10)
    return pd.DataFrame({"x": x, "y": 3 * x**-0.2, **columns})


# Recovery within intervals


def test_noisy_runs_give_the_parameters_back_within_their_intervals() -> None:
    found = fit(chinchilla(0.01, seeds=3), "chinchilla", x=["N", "D"], y="loss", options=Options(draws=200, starts=6))
    truth = {"E": 1.69, "A": 406.4, "B": 410.7, "a": 0.34, "b": 0.28}
    for name, value in truth.items():
        low, high = found.intervals[name]
        assert low < value < high
        assert high - low < 4 * value
    low, high = found.band({"N": [1e11], "D": [1e12]})
    assert low[0] < 1.69 + 406.4 * 1e11**-0.34 + 410.7 * 1e12**-0.28 < high[0]


def test_equal_seeds_give_equal_fits_bit_by_bit() -> None:
    once, again = (
        json.dumps(fit_json(fit(chinchilla(0.01), x=["N", "D"], y="loss", options=Options(draws=20, starts=6))))
        for _ in "12"
    )
    assert once == again


def test_runs_that_differ_only_in_their_seed_are_drawn_together() -> None:
    found = fit(chinchilla(0.01, seeds=3), x=["N", "D"], y="loss", options=POINT_ONLY)
    assert (len(found.rows), found.groups) == (90, 30)
    for counts in resamples(found.rows.clusters, 5):
        drawn = np.repeat(np.arange(len(counts)), counts)
        assert (np.bincount(drawn, minlength=90)[::3] == np.bincount(drawn, minlength=90).reshape(30, 3).T).all()


def test_a_resample_that_lies_on_one_line_is_drawn_anew() -> None:
    """3 settings along N and 3 along D share a corner: without either arm an exponent is not determined."""
    rng = np.random.default_rng(0)
    n, d = np.array([1e6, 1e7, 1e8, 1e6, 1e6]), np.array([1e9, 1e9, 1e9, 1e10, 1e11])
    y = 40 * n**-0.1 * d**-0.15 * np.exp(rng.normal(0, 0.01, 5))
    found = fit(pd.DataFrame({"N": n, "D": d, "y": y}), "product", x=["N", "D"], y="y", options=Options(draws=200))
    on_a_line = [
        counts for counts in resamples(found.rows.clusters, 400) if not counts[1:3].any() or not counts[3:].any()
    ]
    assert len(on_a_line) > 40
    assert len(found.draws) == 200
    assert found.draws[:, 1] == pytest.approx(0.1, abs=0.03)
    assert found.draws[:, 2] == pytest.approx(0.15, abs=0.03)


def test_an_interval_is_moved_out_more_where_there_are_fewer_groups_and_is_none_where_there_are_too_few() -> None:
    assert stretch(1) is None
    assert stretch(7) > stretch(95) > 1
    draws = np.arange(1001.0)[:, None]
    # Student's t with 2 degrees of freedom at 95 and at 90 %, over z
    for coverage, reach in ((0.95, 475 * 4.302653 / 1.959964), (0.9, 450 * 2.919986 / 1.644854)):
        low, high = interval(draws, np.array([510.0]), 2, coverage)
        assert [low[0], high[0]] == pytest.approx([510 - reach, 510 + reach])


# Rows


def test_rows_that_cannot_be_used_are_left_out_by_name_with_their_reason() -> None:
    table = line(id=[f"run-{i}" for i in range(10)])
    table.loc[1, "y"] = np.nan
    table.loc[2, "x"] = np.nan
    table.loc[3, "y"] = 0
    found = fit(table, "power", x=["x"], y="y", options=POINT_ONLY)
    assert found.left_out == {"run-1": "no y", "run-2": "no x", "run-3": "y is 0, which has no logarithm"}
    assert found.used == tuple(f"run-{i}" for i in (0, 4, 5, 6, 7, 8, 9))
    assert found.parameters == pytest.approx({"A": 3, "a": 0.2})


def test_scores_of_0_and_1_have_no_odds() -> None:
    x = np.geomspace(1, 1000, 10)
    score = 1 / (1 + 2 * x**-0.4)
    table = pd.DataFrame({"x": [*x, 5.0, 6.0], "top1": [*score, 0.0, 1.0]})
    found = fit(table, x=["x"], y="top1", options=POINT_ONLY)
    assert found.law.name == "odds-power"
    assert found.parameters == pytest.approx({"A": 2, "a": 0.4})
    assert found.left_out == {"row 11": "top1 is 0, which has no odds", "row 12": "top1 is 1, which has no odds"}
    assert found.predict({"x": 10.0}) == pytest.approx(1 / (1 + 2 * 10**-0.4))


def test_a_column_may_be_arithmetic_over_columns() -> None:
    table = pd.DataFrame({"N": [1, 2], "D": [3, 4], "top1": [0.25, None]})
    computed = with_columns(table, ["6*N*D", "1 - top1", "N"])
    assert computed["6*N*D"].tolist() == [18, 48]
    assert computed["1 - top1"][0] == 0.75
    assert np.isnan(computed["1 - top1"][1])


def test_a_group_is_fitted_by_itself_and_one_that_cannot_be_is_named() -> None:
    table = pd.concat([line(set="a"), line(set="b").head(2)])
    fits, none = fit_groups(table, "power", x=["x"], y="y", group=["set"], options=POINT_ONLY)
    assert [dict(one.group) for one in fits] == [{"set": "a"}]
    assert none == {"set=b": "Cannot fit 'power' (2 parameters) to 2 different points: it takes 3 or more."}


def test_a_parameter_is_held_fast_or_tied() -> None:
    table = chinchilla()
    table["loss"] = 2 + 300 * table["N"] ** -0.3 + 500 * table["D"] ** -0.3
    options = Options(draws=50, starts=6, fixed={"E": 2.0}, tied={"b": "a"})
    found = fit(table, "chinchilla", x=["N", "D"], y="loss", options=options)
    assert found.parameters == pytest.approx({"E": 2, "A": 300, "B": 500, "a": 0.3, "b": 0.3})
    assert found.intervals["E"] is None
    assert found.free_count == 3
    without = Options(draws=0, starts=6, fixed={"E": 0.0})
    assert fit(line(), "power+floor", x=["x"], y="y", options=without).parameters == pytest.approx(
        {"E": 0, "A": 3, "a": 0.2}
    )


# What is refused, and what is said


def errors() -> list[tuple[str, pd.DataFrame, list[str], str, str]]:
    two = line().head(2)
    ladder = chinchilla()
    ladder = ladder.assign(D=20 * ladder["N"])
    fixed = chinchilla().assign(D=1e10)
    return [
        ("power", two, ["x"], "y", "Cannot fit 'power' (2 parameters) to 2 different points: it takes 3 or more."),
        ("power", line(), ["z"], "y", "The table has no column 'z': choices: x, y."),
        ("power", line(), ["x"], "yy", "The table has no column 'yy': did you mean 'y'? Choices: x, y."),
        ("power", line(), ["x", "y"], "y", "The law power takes 1 column for x; --x names 2: x, y."),
        ("power", line(y="high"), ["x"], "y",
         "row 1: y is 'high', which is not a number; leave it empty if it is missing."),
        ("chinchilla", ladder, ["N", "D"], "loss",
         "N and D move together in all rows (their ratio, or a power of it, is constant), so their exponents cannot be "
         "told apart. Vary one while the other stays, or fit a law of one of them."),
        ("chinchilla", fixed, ["N", "D"], "loss",
         "D is 1e+10 in all 30 rows, so its effect cannot be seen: vary it, or fit a law without it."),
    ]  # fmt: skip


@pytest.mark.parametrize(("law", "table", "x", "y", "says"), errors())
def test_what_cannot_be_fitted_is_refused_with_a_sentence(
    law: str, table: pd.DataFrame, x: list[str], y: str, says: str
) -> None:
    with pytest.raises(ResultsError) as told:
        fit(table, law, x=x, y=y, options=POINT_ONLY)
    assert str(told.value) == says


def test_a_floor_whose_interval_reaches_0_is_printed_as_0_to_its_upper_end() -> None:
    x = np.repeat(np.geomspace(1, 1e4, 12), 2)
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": x, "y": 3 * x**-0.2 * np.exp(rng.normal(0, 0.02, len(x)))})
    found = fit(table, "power+floor", x=["x"], y="y", options=Options(draws=200, starts=6))
    low, high = found.intervals["E"]
    assert low == 0 < high < 0.5
    assert "floor: the 95 % CI of E reaches 0, so the data does not determine a floor" in checklist(found)
    assert f"E          0 to {high:.4g}  not told from 0" in fit_text(found)
    held = table.assign(y=table["y"] + 1)
    assert not fit(held, "power+floor", x=["x"], y="y", options=Options(draws=200, starts=6)).reaches_0


def test_the_checklist_says_all_that_a_reader_must_know() -> None:
    table = chinchilla(0.01, seeds=2)
    table.loc[0, "loss"] = np.nan
    lines = checklist(fit(table, "chinchilla", x=["N", "D"], y="loss", options=Options(draws=100)))
    heads = [said.partition(":")[0] for said in lines]
    assert heads[:8] == [
        "form", "loss", "optimiser", "rows", "definitions", "conditioning", "intervals", "held out",
    ]  # fmt: skip
    assert "24 of 24 starts agree" in lines[2]
    assert lines[3] == "rows: 59 used, 30 different settings, 1 left out (row 1: no loss)"
    assert (
        lines[6]
        == "intervals: 95 % CI, 100 resamples of 30 settings, and the effect of 2 shared seeds (SD 0) by Student's t"
    )
    assert lines[7].startswith("held out: the 2 largest runs, 4 times larger than the rest: N=1e+10, D=3e+11 predicted")


def test_one_run_a_setting_is_said_to_hide_the_scatter_of_seeds() -> None:
    lines = checklist(fit(chinchilla(0.01), x=["N", "D"], y="loss", options=Options(draws=50, starts=6)))
    assert any("one run each, so the scatter of seeds is seen only as scatter about the law" in said for said in lines)


# Traps


def test_the_huber_loss_is_summed_so_that_the_search_does_not_stop_early() -> None:
    """Averaged over 240 points and stopped at usual tolerances it ends above the optimum: here it may not."""
    table = pd.concat([chinchilla(0.005, seeds=4)] * 2, ignore_index=True)
    options = replace(POINT_ONLY, delta=1e-3)
    found = fit(table, "chinchilla", x=["N", "D"], y="loss", options=options)
    twice = pd.concat([table] * 10, ignore_index=True)
    more = fit(twice, "chinchilla", x=["N", "D"], y="loss", options=options)
    assert more.solution.objective == pytest.approx(10 * found.solution.objective, rel=1e-9)
    assert more.parameters == pytest.approx(found.parameters, rel=1e-6)
    residuals = np.abs(found.residuals)
    huber = np.where(residuals <= 1e-3, residuals**2 / 2, 1e-3 * (residuals - 5e-4))
    assert found.solution.objective == pytest.approx(huber.sum(), rel=1e-9)


def test_parameters_times_tokens_beyond_an_int64_stay_what_they_are() -> None:
    table = pd.DataFrame({"N": [70_000_000_000, 280_000_000_000], "D": [1_400_000_000_000, 300_000_000_000]})
    assert (6 * table["N"] * table["D"]).abs().max() < 1e19  # what integers make of it
    assert with_columns(table, ["6*N*D"])["6*N*D"].tolist() == [5.88e23, 5.04e23]
    assert list(where(table, ["6*N*D > 5.5e23"]).index) == [0]


def test_a_floor_does_not_collapse_where_there_is_one() -> None:
    """Fitting ln(y - E) lets E run to 0; fitting ln y by a sum of terms does not."""
    x = np.geomspace(1, 1e4, 20)
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"x": x, "y": (0.5 + 2 * x**-0.4) * np.exp(rng.normal(0, 0.01, 20))})
    found = fit(table, "power+floor", x=["x"], y="y", options=Options(draws=200, starts=6))
    assert found.parameters["E"] == pytest.approx(0.5, abs=0.05)
    assert found.intervals["E"][0] > 0.3


def skewed_isoflops() -> pd.DataFrame:
    """Curves that are steeper at small sizes than at large, and more so at large budgets; the best size is C^0.6."""
    rows = []
    for place, budget in enumerate(np.geomspace(1e17, 1e20, 6)):
        steep = 0.4 + 0.15 * place
        for u in np.linspace(-3.4, 3.4, 14):
            loss = 2 + 0.1 * (np.exp(-steep * u) / steep + np.exp(0.2 * u) / 0.2)
            rows.append((budget, budget**0.6 / 1e3 * np.exp(u), loss))
    return pd.DataFrame(rows, columns=["C", "N", "loss"])


def test_isoflop_reads_the_minimum_near_the_minimum() -> None:
    table = skewed_isoflops()
    full = []
    for budget, part in table.groupby("C"):
        a, b, _ = np.polyfit(np.log(part["N"]), part["loss"], 2)
        full.append((np.log(budget), -b / (2 * a)))
    full_width = np.polyfit(*zip(*full, strict=True), 1)[0]
    found = isoflop(table, x="N", y="loss", budget="C", options=POINT_ONLY)
    assert found.parameters["a"] == pytest.approx(0.6, abs=0.006)
    assert abs(full_width - 0.6) > 5 * abs(found.parameters["a"] - 0.6)


def test_a_budget_whose_best_size_is_the_largest_tried_has_no_optimum() -> None:
    table = skewed_isoflops()
    first = table["C"].min()
    cut = table[(table["C"] > first) | (table["N"] < first**0.6 / 1e3)]
    found = isoflop(cut, x="N", y="loss", budget="C", options=Options(draws=20, starts=6))
    assert found.left_out == {
        "C 1e+17": "the best size tried is the smallest or the largest, so the optimum lies outside"
    }
    assert len(found.optima) == 5
    assert len(found.used) == len(cut)
    rows = f"rows: {len(cut)} used, {len(cut)} different settings, and the best sizes of 5 budgets fitted, by isoflop"
    assert checklist(found)[3].startswith(rows)
    with pytest.raises(ResultsError, match="0 of 1 budgets of C have an optimum, and a law takes 2"):
        isoflop(cut[cut["C"] == first], x="N", y="loss", budget="C", options=POINT_ONLY)


def test_budgets_that_creep_up_are_not_one() -> None:
    creeping = 1.05 ** np.arange(10)
    assert [len(rows) for rows in budgets_of(creeping)] == [2, 2, 2, 2, 2]
    assert has_budgets(np.tile([1.0, 2, 3], 2), np.repeat([1.0, 4.0], 3))
    assert not has_budgets(np.tile([1.0, 2], 3), np.repeat([1.0, 4.0, 16.0], 2))
    mixed = np.array([1, 2, 3, 1, 2, 3, 1.0]), np.array([1, 1, 1.02, 4, 4, 4, 9])
    assert (has_budgets(*mixed), is_isoflop(*mixed)) == (True, False)
    assert evened(mixed[1]) == pytest.approx([*[1.02 ** (1 / 3)] * 3, 4, 4, 4, 9])


# Fronts


def test_the_pareto_front_is_strict() -> None:
    cost, loss = np.array([1.0, 2, 2, 3, 4, 5]), np.array([5.0, 4, 3, 3, 2, 9])
    assert on_frontier(cost, loss).tolist() == [0, 2, 4]
    assert on_frontier(cost, 10 - loss, lower=False).tolist() == [0, 2, 4]


def test_the_binned_minimum_is_the_best_of_each_bin_of_cost() -> None:
    cost = np.geomspace(1, 2**12, 25)
    loss = np.where(np.arange(25) % 2, 1.0, 2.0)
    assert on_frontier(cost, loss, bins=bins_of(cost, 12)[0]).tolist() == [*range(1, 24, 2)]


@pytest.mark.parametrize("edges", [5, [1, 10, 100, 1e3, 1e4, 1e5]])
def test_the_best_of_each_bin_stands_at_the_middle_of_its_edges(edges: "int | list[float]") -> None:
    """As in arXiv 2212.07143: wherever in its bin the winner lies, a law of the middles is given back."""
    rng = np.random.default_rng(0)
    middles = 10 ** (0.5 + np.arange(5.0))
    best = pd.DataFrame({"x": middles * 10 ** rng.uniform(-0.4, 0.4, 5), "y": 40 * middles**-0.2})
    worse = pd.DataFrame({"x": 10 ** rng.uniform(0, 5, 60), "y": 60.0})
    ends = pd.DataFrame({"x": [1, 1e5], "y": 60.0})
    table = pd.concat([best, worse, ends], ignore_index=True)
    found = fit(table, "power", x=["x"], y="y", options=Options(draws=50, frontier="binned", bins=edges))
    assert found.parameters == pytest.approx({"A": 40, "a": 0.2}, rel=1e-6)
    assert found.rows.x[:, 0] == pytest.approx(middles)
    with pytest.raises(ResultsError, match=r"Bins are along one variable, such as --x 'N\*D'\."):
        fit(chinchilla(), "product", x=["N", "D"], y="loss", options=Options(frontier="binned"))


def test_a_front_is_fitted_and_found_anew_in_every_resample() -> None:
    rng = np.random.default_rng(2)
    x = np.geomspace(1, 1e4, 60)
    table = pd.DataFrame({"x": x, "y": 2 * x**-0.3 * np.exp(rng.exponential(0.2, len(x)))})
    found = fit(table, "power", x=["x"], y="y", options=Options(loss="squares", draws=200, frontier="pareto"))
    assert set(found.left_out.values()) == {"another is as cheap and better"}
    assert len(frontier(table, x="x", y="y")) == len(found.rows)
    assert found.parameters["a"] == pytest.approx(0.3, abs=0.05)
    drawn = table.iloc[np.repeat(np.arange(60), resamples(np.arange(60), 1)[0])]
    best = frontier(drawn, x="x", y="y")
    slope, height = np.polyfit(np.log(best["x"]), np.log(best["y"]), 1)
    assert found.draws[0] == pytest.approx([height, -slope], rel=1e-6)


# Noise


def test_the_scale_of_huber_s_loss_is_by_the_median_residual() -> None:
    rng = np.random.default_rng(1)
    x = np.geomspace(1, 1e4, 31)
    table = pd.DataFrame({"x": x, "y": 3 * x**-0.2 * np.exp(rng.normal(0, 0.02, 31))})
    found = fit(table, "power", x=["x"], y="y", options=Options(draws=0))
    sizes = np.sort(np.abs(np.log(found.predict({"x": x})) - np.log(table["y"])))
    # Two parameters make one residual small, which leaves 30: the median lies between two of them.
    assert found.delta == pytest.approx(1.345 * np.median(sizes[1:]) / 0.6745, rel=2e-3)


def test_runs_that_went_wrong_do_not_move_a_law() -> None:
    """3 of 30 runs are 20 % worse; by squares the forecast at three times the largest run is several percent off."""
    rng = np.random.default_rng(4)
    x = np.geomspace(1e17, 1e21, 30)
    y = (1.7 + 3000 * x**-0.2) * np.exp(rng.normal(0, 0.01, 30) + 0.2 * np.isin(np.arange(30), [5, 17, 26]))
    far, true = {"x": 3e21}, 1.7 + 3000 * 3e21**-0.2
    by = {
        loss: fit(pd.DataFrame({"x": x, "y": y}), "power+floor", x=["x"], y="y", options=Options(loss=loss, draws=0))
        for loss in ("huber", "squares")
    }
    off = {loss: abs(float(found.predict(far)[0]) / true - 1) for loss, found in by.items()}
    assert off["huber"] < 0.01 < off["squares"]
    # By a scatter of 0.01, whatever the few that went wrong; with them it is 0.06.
    assert 1.345 * 0.01 < (by["huber"].delta or 0) < 1.345 * 0.02


def test_a_law_that_few_starts_support_is_not_fitted() -> None:
    """Flip's odds law at a mask of 75 %: 0 of 24 starts agreed, and a of 1e-27 was printed."""
    table = pd.read_csv(Path(__file__).parents[2] / "results/flip/results.csv")
    table = table[table["mask_ratio"] == 0.75]
    x = ["flops_per_sample", "samples_seen"]
    with pytest.raises(ResultsError, match=r"^\d of 24 starts agree on the law odds, so these rows"):
        fit(table, "odds", x=x, y="zero_shot_top1", options=Options(draws=0))


def test_a_parameter_that_spans_a_factor_of_100_has_no_interval() -> None:
    x = np.geomspace(1e6, 3e6, 12)
    table = pd.DataFrame({"x": x, "y": 12 * x**-0.3 * np.exp(np.random.default_rng(0).normal(0, 0.15, 12))})
    found = fit(table, "power", x=["x"], y="y", options=Options(draws=200, starts=6))
    assert (found.intervals["A"], found.not_determined["A"][:10]) == (None, "its 95 % C")
    assert found.intervals["a"] is not None
    assert "not determined: its 95 % CI spans more than a factor of 100" in fit_text(found)


# The search


def test_nearly_all_starts_reach_the_optimum() -> None:
    table = chinchilla(0.01)
    found = fit(table, "chinchilla", x=["N", "D"], y="loss", options=POINT_ONLY)
    problem = Problem(found.law, found.rows.x, found.rows.z, 1e-3)
    assert solve(problem, starts=50, seed=7).agree >= 48
