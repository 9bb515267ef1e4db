"""Numbers that used to be wrong without a word: each is now right, refused, or noted at the top of the fit."""

import re

import numpy as np
import pandas as pd
import pytest

from flipscale.cli import main
from flipscale.errors import ResultsError
from flipscale.fit import LAWS, Options, fit, fit_text
from flipscale.fit.words import checklist

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
    assert note in found.notes
    assert f"NOTE: {note}" in "\n".join(fit_text(found).splitlines()[2:5])


@pytest.mark.parametrize("law", ["power", "power+floor"])
def test_an_accuracy_that_rises_with_size_is_noted_under_a_law_of_losses(law: str) -> None:
    x = np.geomspace(1, 1000, 12)
    table = pd.DataFrame({"x": x, "top1": 1 / (1 + 2 * x**-0.4)})
    assert any("top1 rises with size" in note for note in fit(table, law, x=["x"], y="top1", options=POINT_ONLY).notes)
    assert fit(table, "odds-power", x=["x"], y="top1", options=POINT_ONLY).notes == ()


def test_rows_that_differ_in_a_column_nobody_named_are_noted() -> None:
    table = line(set=["a", "b"] * 6, params=np.geomspace(1, 1000, 12).round())
    (note,) = fit(table, "power", x=["x"], y="y", options=POINT_ONLY).notes
    assert note.startswith("one law goes through rows that differ in set (a, b), which no option names")
    assert fit(table[table["set"] == "a"], "power", x=["x"], y="y", options=POINT_ONLY).notes == ()


def test_a_column_that_the_variables_settle_is_no_setting_of_its_own() -> None:
    table = pd.concat([line(model=[f"model-{i}" for i in range(12)])] * 2)
    assert fit(table, "power", x=["x"], y="y", options=POINT_ONLY).notes == ()


def test_percent_and_fractions_in_one_column_are_refused() -> None:
    top1 = [0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 72, 75, 0.77, 0.8, 0.81, 0.82]
    with pytest.raises(
        ResultsError, match=r"top1 is 0\.77 in row 9 and 72 in row 7, which is no larger: some rows are"
    ):
        fit(line(top1=top1), x=["x"], y="top1", options=POINT_ONLY)
    ladder = [0.2, 0.5, 0.9, 2.0, 4, 8, 15, 25, 40, 55, 65, 70]  # all percent: the smallest runs are near chance
    assert fit(line(top1=ladder), x=["x"], y="top1", options=POINT_ONLY).rows.response.percent


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
