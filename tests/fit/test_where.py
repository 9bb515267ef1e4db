"""Conditions that choose rows, tables from everywhere, and files that are not tables."""

import gzip
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import flipscale
from flipscale.analysis.fitting import fit, where, with_columns
from flipscale.cli import main
from flipscale.errors import ResultsError

TABLE = pd.DataFrame(
    {
        "set": ["c4", "c4", "rw", "pile", None],
        "N": [1e6, 4e8, 8e8, 2e9, 4e9],
        "D": [1.0, 2, 3, 4, np.nan],
        "top@1": [0.1, 0.2, 0.3, 0.6, 0.7],
        "masked": [True, False, True, False, False],
    }
)
PACKAGE = Path(flipscale.__file__).parent


@pytest.mark.parametrize(
    ("conditions", "rows"),
    [
        (["set == 'c4'"], [0, 1]),
        (["set in ['c4', 'rw']"], [0, 1, 2]),
        (["set != 'c4'"], [2, 3, 4]),
        (["set.isnull()"], [4]),
        (["N > 4e8"], [2, 3, 4]),
        (["N >= 4e8", "N < 2e9"], [1, 2]),
        (["N >= 4e8 and set == 'c4'"], [1]),
        (["N * D > 1e9"], [2, 3]),
        (["`top@1` > 0.5"], [3, 4]),
        (["masked"], [0, 2]),
        (["masked == False and D < 4"], [1]),
    ],
)
def test_conditions_choose_rows(conditions: list[str], rows: list[int]) -> None:
    assert list(where(TABLE, conditions).index) == rows


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("set", "--where set: this does not say which rows; write a condition such as set == 'c4' and N > 4e8"),
        ("set == 'c5'", "No row has set == 'c5'; set is one of c4, rw, pile, "),
        ("N > 'big'", "--where N > 'big': Invalid comparison between dtype=float64 and str. Columns: set, N, D,"),
        (
            "M > 1",
            "The table has no column 'M': choices: set, N, D, top@1, masked. Write a condition such as",
        ),
        ("`top@5` > 1", "The table has no column 'top@5': did you mean 'top@1'? Choices: set, N, D, top@1, masked."),
        (
            "set=c4",
            "The table has no column 'c4': choices: set, N, D, top@1, masked. Write a condition such as set == 'c4'",
        ),
        ("N=4e8", "--where N=4e8: this computes no column; write a condition such as set == 'c4' and N > 4e8"),
        ("N > 400M", "--where N > 400M: invalid syntax"),
        ("N >", "--where N >: invalid syntax"),
        ("N > @limit", "--where N > @limit: local variable 'limit' is not defined"),
    ],
)
def test_a_condition_that_cannot_be_met_is_answered_by_a_sentence_with_the_columns(condition: str, says: str) -> None:
    with pytest.raises(ResultsError) as told:
        where(TABLE, [condition])
    assert says in str(told.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("6*M*D", "The table has no column 'M': choices: set, N, D"),
        ("1-`top@5`", "The table has no column 'top@5': did you mean 'top@1'?"),
        ("1-'top@1'", "1-'top@1': unsupported operand type(s)"),
        ("2*3", "2*3: this computes no column; write a column, or arithmetic such as 6*N*D."),
        ("set.isnull", "set.isnull: this computes no column"),
        ("set.str.upper()", "set.str.upper(): this is no number"),
    ],
)
def test_arithmetic_that_cannot_be_computed_is_answered_by_a_sentence(text: str, says: str) -> None:
    with pytest.raises(ResultsError) as told:
        with_columns(TABLE, [text])
    assert says in str(told.value)


def test_only_text_of_the_command_line_is_computed_as_pandas_can_run_code() -> None:
    """A study file may be somebody else's. `fit` and its kind take its names as names of columns."""
    callers = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if re.search(r"(\w\.eval|\.query|\bwith_columns|(?<!\.)(?<!def )\bwhere)\(", path.read_text())
        and "import torch" not in path.read_text()
    ]
    assert sorted(callers) == ["analysis/fitting/chosen_rows.py", "cli/compare.py", "cli/fit.py"]
    for text in ("N.__class__", "N*D"):
        with pytest.raises(ResultsError, match="The table has no column"):
            fit(TABLE, "power", x=[text], y="D")


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
    (alone,) = fits(capsys, "weighed.csv", *law, "--where", "w == 1")
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
    assert "Best use of 1e20 FLOPs (6 x N x D), by chinchilla" in capsys.readouterr().out
    assert main(["fit", *law[:-1], "hours=3", "--draws", "0"]) == 1
    assert "--allocate hours=3: a budget is a number of FLOPs; write --allocate flops=1e21." in capsys.readouterr().err
    assert main(["fit", *law[:-1], "2e20", "--draws", "0"]) == 1
    assert "write --allocate flops=2e20." in capsys.readouterr().err


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


def test_a_name_with_signs_stands_in_backticks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn: a recall whose column is called image_retrieval_recall@5, and a size from training FLOPs and samples."""
    monkeypatch.chdir(tmp_path)
    n = np.geomspace(1e7, 1e9, 8)
    table = pd.DataFrame({"Training FLOP": 6 * n * 2e10, "Model Size": n, "image_retrieval_recall@5": 1 - 9 * n**-0.2})
    table.to_csv("runs.csv", index=False)
    columns = ["--x", "`Training FLOP`/(6*2e10)", "--y", "1-`image_retrieval_recall@5`"]
    (found,) = fits(capsys, "runs.csv", "--law", "power", *columns)
    assert found["parameters"] == pytest.approx({"A": 9, "a": 0.2}, rel=1e-6)
    assert main(["fit", "runs.csv", "--law", "power", "--x", "6*`Model size`", "--y", "Model Size"]) == 1
    assert "The table has no column 'Model size': did you mean 'Model Size'?" in capsys.readouterr().err


def test_a_product_is_forecast_from_its_parts(runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.read_csv("runs.csv").assign(loss=lambda rows: 9 * (rows["N"] * rows["D"]) ** -0.1)
    table.to_csv("runs.csv", index=False)
    law = ["fit", "runs.csv", "--law", "power", "--x", "N*D", "--y", "loss", "--draws", "20", "--json", "--force"]
    assert main([*law, "--forecast", "N=2e9,D=1e11"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["forecasts"]
    assert (found["at"], found["value"]) == ({"N*D": 2e20}, pytest.approx(9 * 2e20**-0.1))
    assert main([*law, "--forecast", "N=2e9"]) == 1
    assert "The table has no column 'D': choices: N." in capsys.readouterr().err
