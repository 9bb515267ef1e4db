"""The screen of laws: what it says are the numbers of the records, and it fits a terminal."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flipscale.analysis.comparing.roles import settings_named
from flipscale.analysis.fitting import Options, fit_groups, fit_json, isoflop, law_screen, next_rung
from flipscale.analysis.fitting.study_laws import StudyFits, fit_study
from flipscale.collecting import read_results
from flipscale.words import rounded

RESULTS = Path(__file__).parents[2] / "results"
QUESTION = "Of a budget of training FLOPs, how much should go into the model and how much into samples?"


def records(study: str) -> list[dict]:
    return json.loads((RESULTS / study / "fits.json").read_text())["fits"]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("study", ["isoflop", "flip", "mosaic", "fashion", "icons", "joint"])
def test_the_screen_of_a_study_is_20_lines_of_the_terminal(study: str, width: int) -> None:
    lines = law_screen(records(study), QUESTION, settings_named({}), width).splitlines()
    assert len(lines) <= 20
    assert max(map(len, lines)) <= width


def test_the_best_size_of_a_budget_answers_before_other_laws() -> None:
    found = records("isoflop")
    lines = law_screen(found, QUESTION, settings_named({}), 200).splitlines()
    growth = [record for record in found if record["optima"]]
    for record, arm in zip(growth, ("no mask", "mask 50 %"), strict=True):
        low, high = record["intervals"]["a"]
        assert f"{record['parameters']['a']:.2g} ({low:.2g} to {high:.2g}) for {arm}" in lines[1]
    assert lines[-1] == f"and {len(found) - len(growth)} other laws: --full"


def test_saying_that_more_of_an_accuracy_is_better_changes_no_best_size() -> None:
    table = read_results(RESULTS / "isoflop/results.csv").query("mask_ratio == 0")
    of = {"axes": ("model", "samples"), "y": "zero_shot_top1"}
    found = [fit_study(table, **of, options=Options(draws=0, accuracy=said)).fits for said in (None, True)]
    plain, told = ([fit.solution.theta.tolist() for fit in fits if fit.optima] for fits in found)
    assert len(plain) == 1
    assert plain == told


def test_a_law_of_one_arm_names_it_where_others_have_laws_of_another_kind() -> None:
    found = [record for record in records("isoflop") if not record["optima"] or record["group"]["mask_ratio"] == 0.5]
    answer, _, masked, *_ = law_screen(found, QUESTION, settings_named({}), 200).splitlines()[1:]
    assert " for mask 50 %, and its samples as compute^" in answer
    assert masked.startswith("mask 50 %  ")


def line(seeds: int = 2) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x = np.geomspace(1e3, 1e6, 8).repeat(seeds)
    parts = [
        pd.DataFrame({"arm": arm, "x": x, "loss": a * x**-0.2 * np.exp(rng.normal(0, 0.01, len(x)))})
        for arm, a in (("one", 3), ("two", 4))
    ]
    return pd.concat(parts, ignore_index=True)


def test_a_table_has_a_row_for_each_parameter_with_its_interval() -> None:
    fits, _ = fit_groups(line(), "power", x=["x"], y="loss", group=["arm"], options=Options(draws=50, starts=4))
    table = StudyFits(tuple(fits), {}).table
    assert table[["arm", "parameter"]].to_numpy().tolist() == [[arm, name] for arm in ("one", "two") for name in "Aa"]
    for i, found in enumerate(fits):
        row = table.iloc[2 * i + 1]
        assert row["value"] == found.parameters["a"]
        assert (row["low (95 % CI)"], row["high (95 % CI)"]) == found.intervals["a"]
        assert row["held-out error (unit of y)"] == found.held_out.rms
        assert row["scatter (log scale)"] == found.spread


def test_the_next_rung_is_twice_the_largest_run() -> None:
    (found,), _ = fit_groups(line()[:16], "power", x=["x"], y="loss", group=[], options=Options(draws=50, starts=4))
    ahead = next_rung(found)
    assert ahead.at == {"x": 2e6}
    assert ahead.interval.low < 3 * 2e6**-0.2 < ahead.interval.high
    assert fit_json(found)["next_rung"]["value"] == ahead.value


def test_a_law_of_best_sizes_is_read_at_its_largest_budget() -> None:
    c, n = (grid.ravel() for grid in np.meshgrid([1e10, 1e11, 1e12], np.geomspace(1e3, 1e8, 11)))
    loss = 2 + np.log(n / c**0.5) ** 2 / 100
    table = pd.DataFrame({"train_flops": c, "flops_per_sample": n, "loss": loss})
    found = isoflop(table, x="flops_per_sample", y="loss", budget="train_flops", options=Options(draws=0))
    text = law_screen([fit_json(found)], width=120)
    a = found.parameters["a"]
    assert text.startswith(
        f"The compute-optimal model grows as compute^{a:.2g}, and its samples as compute^{1 - a:.2g}"
    )
    assert "1 TFLOPs" in text
    size = rounded(found.optima[-1].size)
    assert f"{size[:-1]} {size[-1]}FLOPs a sample" in text
