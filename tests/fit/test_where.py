"""Conditions that choose rows, tables from everywhere, and files that are not tables."""

import gzip
import io
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flipscale.cli import main
from flipscale.errors import ResultsError
from flipscale.fitting import where

TABLE = pd.DataFrame(
    {"set": ["c4", "c4", "rw", "pile", None], "N": [1e6, 4e8, 8e8, 2e9, 4e9], "D": [1.0, 2, 3, 4, np.nan]}
)


@pytest.mark.parametrize(
    ("conditions", "rows"),
    [
        (["set=c4"], [0, 1]),
        (["set=c4,rw"], [0, 1, 2]),
        (["set!=c4"], [2, 3, 4]),
        (["set!=c4,rw"], [3, 4]),
        (["set=null"], [4]),
        (["N>400M"], [2, 3, 4]),
        (["N>=400M", "N<2B"], [1, 2]),
        (["N>=400M,set=c4"], [1]),
        (["D<=2"], [0, 1]),
        (["N*D>1e9"], [2, 3]),
        (["N=400M,1e6"], [0, 1]),
    ],
)
def test_conditions_choose_rows(conditions: list[str], rows: list[int]) -> None:
    assert list(where(TABLE, conditions).index) == rows


def test_a_truth_and_a_missing_value_are_named_as_a_baseline_names_them() -> None:
    table = pd.DataFrame({"masked": [True, False, True], "tuning": ["1.6k", None, "3k"]})
    for condition, rows in (
        ("masked=true", [0, 2]),
        ("masked=no", [1]),
        ("masked=1", [0, 2]),
        ("tuning=none", [1]),
        ("tuning!=null", [0, 2]),
    ):
        assert list(where(table, [condition]).index) == rows


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("set", "--where set: write COLUMN=VALUE"),
        ("set=c5", "No row has set=c5; set is one of c4, rw, pile, nan."),
        ("N>big", "--where N>big: 'big' is not a number. Write 400M, 4e8 or 0.5."),
        ("M>1", "The table has no column 'M'"),
    ],
)
def test_a_condition_that_cannot_be_met_is_answered(condition: str, says: str) -> None:
    with pytest.raises(ResultsError) as told:
        where(TABLE, [condition])
    assert says in str(told.value)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The text of a table of 30 runs; it lies in the working directory as runs.csv."""
    rng = np.random.default_rng(0)
    n, d = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e7, 1e9, 6), np.geomspace(1e9, 1e11, 5)))
    loss = (1.7 + 400 * n**-0.34 + 410 * d**-0.28) * np.exp(rng.normal(0, 0.003, len(n)))
    table = pd.DataFrame({"N": n, "D": d, "loss": loss, "w": 1.0, "err": 0.86 - 4 * np.exp(-0.9 * loss)})
    monkeypatch.chdir(tmp_path)
    text = str(table.to_csv(index=False))
    Path("runs.csv").write_text(text)
    return text


def fits(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
    assert main(["fit", *arguments, "--json", "--draws", "0"]) == 0
    return list(json.loads(capsys.readouterr().out)["fits"])


def test_compressed_tables_and_stdin_are_read(
    runs: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("runs.csv.gz").write_bytes(gzip.compress(runs.encode()))
    monkeypatch.setattr(sys, "stdin", io.StringIO(runs))
    law = ["--law", "product", "--x", "N,D", "--y", "loss"]
    plain, packed, piped = (fits(capsys, source, *law) for source in ("runs.csv", "runs.csv.gz", "-"))
    assert plain[0]["parameters"] == packed[0]["parameters"] == piped[0]["parameters"]


def test_a_file_of_an_unknown_kind_is_one_line(runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs.txt").write_text(runs)
    assert main(["fit", "runs.txt", "--x", "N", "--y", "loss"]) == 1
    said = capsys.readouterr().err
    assert "runs.txt is neither a study (.yaml) nor a table (.csv, .tsv, .csv.gz" in said
    assert len(said.strip().splitlines()) == 1


def test_weights_delta_and_bins(runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.read_csv("runs.csv")
    table.loc[:14, "w"], table.loc[:14, "loss"] = 1e-9, table.loc[:14, "loss"] * 2
    table.to_csv("weighed.csv", index=False)
    law = ["--law", "product", "--x", "N,D", "--y", "loss"]
    (weighed,) = fits(capsys, "weighed.csv", *law, "--weights", "w")
    (alone,) = fits(capsys, "weighed.csv", *law, "--where", "w=1")
    assert weighed["parameters"] == pytest.approx(alone["parameters"], rel=1e-4)
    assert "weighted by w" in weighed["checklist"][1]
    huber = [*law, "--loss", "huber", "--delta"]
    (narrow,), (wide,) = (fits(capsys, "runs.csv", *huber, delta) for delta in ("1e-4", "10"))
    (squares,) = fits(capsys, "runs.csv", *law, "--loss", "squares")
    assert wide["parameters"] == pytest.approx(squares["parameters"], rel=1e-4)
    assert narrow["parameters"] != pytest.approx(squares["parameters"], rel=1e-4)
    assert "delta 0.0001" in narrow["checklist"][1]
    front = ["runs.csv", "--law", "power", "--frontier", "binned", "--x", "N*D", "--y", "loss"]
    assert [fits(capsys, *front, "--bins", bins)[0]["n"] for bins in ("3", "6")] == [3, 6]


def test_a_budget_is_allocated(runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    law = ["runs.csv", "--law", "chinchilla", "--x", "N,D", "--y", "loss", "--allocate", "flops=1e20"]
    (allocation,) = fits(capsys, *law)[0]["allocations"]
    assert 6 * allocation["size"] * allocation["samples"] == pytest.approx(1e20)
    assert main(["fit", *law, "--draws", "20"]) == 0
    assert "Best use of 1e+20 FLOPs (6 x N x D), by chinchilla" in capsys.readouterr().out
    assert main(["fit", *law[:-1], "hours=3", "--draws", "0"]) == 1
    assert "--allocate hours: a budget is a number of FLOPs; write --allocate flops=1e21." in capsys.readouterr().err


def test_a_table_of_points_is_forecast(runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("points.csv").write_text("N,D\n2e9,2e11\n1e9,2e11\n")
    arguments = [
        "fit",
        "runs.csv",
        "--law",
        "product",
        "--x",
        "N,D",
        "--draws",
        "20",
        "--forecast",
        "points.csv",
        "--json",
        "--force",
    ]
    assert main([*arguments, "--y", "loss"]) == 0
    found = json.loads(capsys.readouterr().out)["forecasts"]
    assert [one["at"] for one in found] == [{"N": 2e9, "D": 2e11}, {"N": 1e9, "D": 2e11}]


def test_a_name_with_signs_is_quoted_in_an_expression(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn: a recall whose column is called image_retrieval_recall@5, and a size from training FLOPs and samples."""
    monkeypatch.chdir(tmp_path)
    n = np.geomspace(1e7, 1e9, 8)
    table = pd.DataFrame({"Training FLOP": 6 * n * 2e10, "Model Size": n, "image_retrieval_recall@5": 1 - 9 * n**-0.2})
    table.to_csv("runs.csv", index=False)
    columns = ["--x", '"Training FLOP"/(6*2e10)', "--y", '1-"image_retrieval_recall@5"']
    (found,) = fits(capsys, "runs.csv", "--law", "power", *columns)
    assert found["parameters"] == pytest.approx({"A": 9, "a": 0.2}, rel=1e-6)
    assert main(["fit", "runs.csv", "--law", "power", "--x", '6*"Model size"', "--y", "Model Size"]) == 1
    assert "The table has no column 'Model size': did you mean 'Model Size'?" in capsys.readouterr().err


def test_a_product_is_forecast_from_its_parts(runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.read_csv("runs.csv").assign(loss=lambda rows: 9 * (rows["N"] * rows["D"]) ** -0.1)
    table.to_csv("runs.csv", index=False)
    law = ["fit", "runs.csv", "--law", "power", "--x", "N*D", "--y", "loss", "--draws", "20", "--json", "--force"]
    assert main([*law, "--forecast", "N=2e9,D=1e11"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["forecasts"]
    assert (found["at"], found["value"]) == ({"N*D": 2e20}, pytest.approx(9 * 2e20**-0.1))
    assert main([*law, "--forecast", "N=2e9"]) == 1
    assert "The law power needs N*D besides" in capsys.readouterr().err
