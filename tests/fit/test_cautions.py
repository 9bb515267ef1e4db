"""Numbers that used to be wrong without a word: each is now right, refused, or noted at the top of the fit."""

import re

import numpy as np
import pandas as pd
import pytest

from flipscale.analysis.fitting import LAWS, Options, fit, fit_text
from flipscale.analysis.fitting.fit_records import checklist, notes
from flipscale.cli import main
from flipscale.errors import ResultsError

POINT_ONLY = Options(draws=0, starts=6)


def line(**columns: object) -> pd.DataFrame:
    x = np.geomspace(1, 1000, 12)
    return pd.DataFrame({"x": x, "y": 3 * x**-0.2, **columns})


def test_a_cost_below_1_counts_as_size() -> None:
    table = line(hours=np.linspace(0.1, 0.9, 12))
    found = fit(table, "product", x=["x", "hours"], y="y", options=POINT_ONLY)
    assert found.rows.size == pytest.approx(table["x"] * table["hours"])


def test_a_parameter_at_a_bound_is_a_note_above_the_parameters() -> None:
    x = np.geomspace(1, 10, 12)
    found = fit(pd.DataFrame({"x": x, "loss": 0.5 + x**-6.0}), "power+floor", x=["x"], y="loss", options=POINT_ONLY)
    assert found.parameters["a"] == pytest.approx(4)
    assert found.not_determined == {"a": "at the end of its range", "A": "a is not determined"}
    note = "a at the bound of the search: the rows do not determine it"
    assert note in notes(found)
    assert fit_text(found).startswith(f"NOTE: {note}")


@pytest.mark.parametrize("law", ["power", "power+floor"])
def test_an_accuracy_that_rises_with_size_is_noted_under_a_law_of_losses(law: str) -> None:
    x = np.geomspace(1, 1000, 12)
    table = pd.DataFrame({"x": x, "top1": 1 / (1 + 2 * x**-0.4)})
    said = notes(fit(table, law, x=["x"], y="top1", options=POINT_ONLY))
    assert any("top1 rises with size" in note for note in said)
    assert notes(fit(table, "odds-power", x=["x"], y="top1", options=POINT_ONLY)) == []


def test_rows_that_differ_in_a_setting_nobody_named_are_noted() -> None:
    table = line(mask_ratio=[0.0, 0.5] * 6, params=np.geomspace(1, 1000, 12).round())
    (note,) = notes(fit(table, "power", x=["x"], y="y", options=POINT_ONLY))
    assert note.startswith("one law goes through rows that differ in mask_ratio (0, 0.5), which no option names")
    assert notes(fit(table[table["mask_ratio"] == 0], "power", x=["x"], y="y", options=POINT_ONLY)) == []


def test_a_column_of_another_table_is_no_setting() -> None:
    assert notes(fit(line(set=["a", "b"] * 6), "power", x=["x"], y="y", options=POINT_ONLY)) == []


def test_percent_has_no_odds_and_the_fraction_is_named() -> None:
    with pytest.raises(ResultsError, match=r"which has no odds; if it is in percent, write top1/100"):
        fit(line(top1=np.linspace(20, 70, 12)), "odds-power", x=["x"], y="top1", options=POINT_ONLY)


def test_odds_of_a_score_whose_direction_nobody_said_are_refused() -> None:
    with pytest.raises(ResultsError, match=r"Is more of y better\? Write --higher-is-better or --lower-is-better"):
        fit(line(), "odds-power", x=["x"], y="y", options=POINT_ONLY)


def test_a_table_of_others_keeps_its_own_definitions() -> None:
    table = line().rename(columns={"x": "samples_seen"})
    definitions = "definitions: x is samples_seen: as in the table"
    assert definitions in checklist(fit(table, "power", x=["samples_seen"], y="y", options=POINT_ONLY))
    collected = table.assign(id=[f"r{i}" for i in range(12)], study="s", cell="")
    lines = checklist(fit(collected, "power", x=["samples_seen"], y="y", options=POINT_ONLY))
    assert any("steps x batch_size, and those of its parents" in said for said in lines)


@pytest.mark.parametrize("name", LAWS)
def test_every_parameter_is_in_the_formula(name: str) -> None:
    law = LAWS[name]
    assert set(law.values(np.full(len(law.parameters), 0.5))) <= set(re.findall(r"\b[A-Za-z]\b", law.formula))


@pytest.mark.parametrize("at", ["x=0", "x=-3"])
def test_a_forecast_where_the_law_has_no_value_is_an_error(at: str, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    line().to_csv("runs.csv", index=False)
    assert main(["fit", "runs.csv", "--law", "power", "--x", "x", "--y", "y", "--forecast", at, "--draws", "20"]) == 1
    said = capsys.readouterr()
    assert f"The law power has no prediction there: x is {at[2:]}, which has no logarithm." in said.err
    assert "nan" not in said.out
