"""`flipscale fit` and `forecast` as their users meet them: real processes on tables and on committed studies."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flipscale.cli import main
from tests.commands import flipscale

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A table of 30 runs of two sets, whose loss is a law with a little scatter."""
    rng = np.random.default_rng(0)
    n, d = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 1e11, 3)))
    parts = []
    for name, floor in (("c4", 1.7), ("rw", 1.9)):
        loss = (floor + 400 * n**-0.34 + 410 * d**-0.28) * np.exp(rng.normal(0, 0.003, len(n)))
        parts.append(pd.DataFrame({"set": name, "N": n.astype(int), "D": d.astype(int), "loss": loss.round(5)}))
    pd.concat(parts).to_csv(tmp_path / "runs.csv", index=False)
    return tmp_path


def test_a_table_is_fitted_by_its_column_names_a_law_a_group(runs: Path) -> None:
    arguments = [
        "fit",
        "runs.csv",
        "--law",
        "chinchilla",
        "--x",
        "N,D",
        "--y",
        "loss",
        "--group",
        "set",
    ]
    done = flipscale(*arguments, "--draws", "30", "--json", "--out", "fits.json", cwd=runs)
    data = json.loads(done.stdout)
    assert [fit["group"] for fit in data["fits"]] == [{"set": "c4"}, {"set": "rw"}]
    for fit, floor in zip(data["fits"], (1.7, 1.9), strict=True):
        low, high = fit["intervals"]["E"]
        assert low < floor < high
        assert fit["n"] == 15
        assert fit["checklist"][0].startswith("form: y = E + A N^-a + B D^-b")
    assert json.loads((runs / "fits.json").read_text()) == data
    assert done.stderr == "wrote fits.json (2 fits, 30 runs used, 0 left out)\n"
    shown = flipscale(*arguments, "--draws", "0", "--full", cwd=runs).stdout
    assert shown.count("chinchilla") == 2
    held_out = "held out: the largest run, 3.2 times larger than the rest: N=1e+09, D=1e+11 predicted"
    assert held_out in " ".join(shown.split())


def test_fronts_and_budgets(runs: Path) -> None:
    def fits(*arguments: str) -> list[dict[str, object]]:
        done = flipscale("fit", "runs.csv", *arguments, "--draws", "20", "--json", cwd=runs)
        return list(json.loads(done.stdout)["fits"])

    (front,) = fits("--law", "power", "--frontier", "pareto", "--x", "6*N*D", "--y", "loss")
    assert (front["law"], front["frontier"]) == ("power", "pareto")
    table = pd.read_csv(runs / "runs.csv")
    table["C"] = np.repeat([1, 2, 3, 4, 5, 6], 5)
    table["best"] = np.tile([1.0, 0.9, 0.8, 0.9, 1.0], 6)
    table["size"] = np.tile([1.0, 2, 4, 8, 16], 6) * table["C"]
    table.to_csv(runs / "runs.csv", index=False)
    (sizes,) = fits("--x", "size", "--y", "best", "--budget", "C", "--lower-is-better")
    assert sizes["parameters"] == pytest.approx({"A": 4, "a": 1}, rel=0.01)
    assert [optimum["size"] for optimum in sizes["optima"]] == pytest.approx([4, 8, 12, 16, 20, 24], rel=0.02)


def test_arithmetic_conditions_and_held_parameters(runs: Path) -> None:
    arguments = ["fit", "runs.csv", "--law", "power+floor", "--x", "6*N*D", "--y", "loss", "--where", "set == 'rw'"]
    fit = json.loads(flipscale(*arguments, "--fix", "E=1.5", "--draws", "0", "--json", cwd=runs).stdout)["fits"][0]
    assert (fit["n"], fit["parameters"]["E"], fit["fixed"]) == (15, 1.5, {"E": 1.5})
    assert fit["checklist"][6] == "intervals: none, as no resamples were drawn, so there are no intervals"


NUMBERS = ["fit", "runs.csv", "--x", "N", "--y", "loss"]
BUDGETS = ["fit", "runs.csv", "--x", "N", "--y", "loss", "--budget", "D"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([*BUDGETS, "--law", "power", "--fix", "a=0.5"], "best sizes, by squares; leave out --law and --fix"),
        (
            ["fit", "runs.csv"],
            "which columns of runs.csv? Write: flipscale fit runs.csv --x COLUMN[,COLUMN] --y COLUMN. It has: set, N",
        ),
        (["fit", "none.csv", "--x", "N", "--y", "loss"], "none.csv: there is no such file."),
        (
            ["fit", "runs.csv", "--x", "n", "--y", "loss"],
            "The table has no column 'n': did you mean 'N'? Choices: set, N, D, loss.",
        ),
        ([*NUMBERS, "--law", "powr"], "There is no law 'powr': did you mean 'power'?"),
        (["fit", "runs.csv", "--x", "N,D", "--y", "set"], "row 1: set is 'c4', which is not a number"),
        ([*NUMBERS[:-1], "set", "--budget", "D"], "row 1: set is 'c4', which is not a number"),
        ([*NUMBERS, "--where", "set == 'c5'"], "No row has set == 'c5'; set is one of c4, rw."),
        ([*NUMBERS, "--fix", "E=x"], "E=x: 'x' is not a number. Write 400M, 4e8 or 0.5."),
        ([*NUMBERS, "--forecast", "N=1B", "--budget", "D"], "--budget is for fits; leave it out of a forecast."),
        (
            ["fit", "runs.csv", "--x", "N,D", "--y", "loss", "--forecast", "N=1B"],
            "The law chinchilla needs D besides N.",
        ),
    ],
)
def test_mistakes_are_met_with_a_sentence(
    runs: Path, arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runs)
    assert main(arguments) == 1
    assert says in capsys.readouterr().err


def test_a_table_is_forecast_and_counts_are_written_short(runs: Path) -> None:
    arguments = ["fit", "runs.csv", "--x", "N,D", "--y", "loss", "--where", "set == 'c4'", "--draws", "20"]
    data = json.loads(flipscale(*arguments, "--forecast", "N=3B,D=300B", "--json", cwd=runs).stdout)
    (found,) = data["forecasts"]
    assert found["at"] == {"N": 3e9, "D": 3e11}
    assert found["value"] == pytest.approx(1.7 + 400 * 3e9**-0.34 + 410 * 3e11**-0.28, rel=0.02)
    assert found["interval"][0] < found["value"] < found["interval"][1]
    assert found["extrapolation"] == pytest.approx(9)
    assert (found["refused"], found["grade"]) == (False, "fair")


def test_a_refused_forecast_is_an_error_and_shows_its_number_only_if_forced(runs: Path) -> None:
    table = pd.read_csv(runs / "runs.csv")
    table = table[(table["set"] == "c4") & (table["D"] == table["D"].max())].copy()
    table.loc[table["N"] == table["N"].max(), "loss"] += 5
    table.to_csv(runs / "runs.csv", index=False)
    law = ["fit", "runs.csv", "--law", "power", "--x", "N", "--y", "loss"]
    arguments = [*law, "--draws", "20", "--forecast", "N=3B"]
    refused = flipscale(*arguments, cwd=runs, code=1)
    assert "fitted to all smaller runs, the law misses the largest" in refused.stdout
    assert "forecast: loss" not in refused.stdout
    assert refused.stderr == "1 of 1 refused; --force shows them anyway\n"
    assert "forecast: loss" in flipscale(*arguments, "--force", cwd=runs).stdout


def test_a_study_has_a_law_an_arm_and_one_along_its_unique_pairs(tmp_path: Path) -> None:
    done = flipscale("fit", "studies/fashion.yaml", "--draws", "10", "--json", "--out", str(tmp_path / "fits.json"))
    data = json.loads(done.stdout)
    ratios = (0.0, 0.5, 0.75)
    assert [(fit["law"], fit["group"].get("mask_ratio"), fit["x"][-1]) for fit in data["fits"]] == [
        *(("odds-product", ratio, "samples_seen") for ratio in ratios),
        *(("odds-power", ratio, "unique_pairs") for ratio in ratios),
    ]
    assert "not fitted: data_size=250, mask_ratio=0.0 and 8 others: all runs have the same" in done.stderr


def test_a_study_of_equal_flops_has_the_law_of_the_best_size(tmp_path: Path) -> None:
    out = str(tmp_path / "fits.json")
    done = flipscale("fit", "studies/isoflop.yaml", "--draws", "10", "--json", "--out", out)
    fits = json.loads(done.stdout)["fits"]
    assert [(fit["law"], fit["group"]) for fit in fits] == [
        *(("odds", {"mask_ratio": ratio}) for ratio in (0.0, 0.5)),
        *(("growth", {"mask_ratio": ratio}) for ratio in (0.0, 0.5)),
    ]
    for fit in fits[2:]:
        without_optimum = [float(group.removeprefix("train_flops ")) for group in fit["left_out"]]
        budgets = [*without_optimum, *(best["budget"] for best in fit["optima"])]
        assert sorted(round(budget / 1e10) for budget in budgets) == [10, 25, 60, 150]
        assert len(fit["used"]) == 72
    assert f"wrote {out} (4 fits, 144 runs used, 1 left out)" in done.stderr


def test_a_study_is_forecast_at_settings_by_the_cost_of_the_run_they_name() -> None:
    done = flipscale(
        "fit", "studies/fashion.yaml", "--forecast", "model=ViT-w64d4-4,samples=64k,data_size=60k", "--draws", "10",
        "--json", "--force",
    )  # fmt: skip
    found = json.loads(done.stdout)["forecasts"]
    assert [one["group"]["mask_ratio"] for one in found] == [0.0, 0.5, 0.75]
    flops = [one["at"]["flops_per_sample"] for one in found]
    assert flops[0] > flops[1] > flops[2]
    assert {one["at"]["samples_seen"] for one in found} == {64000}
    assert all(set(one["forms"]) >= {"chinchilla"} for one in found)
    assert "no forecast" not in done.stderr


@pytest.mark.parametrize(
    ("at", "says"),
    [
        ("modle=ViT-H-14", "There is no setting 'modle': did you mean 'model'?"),
        ("samples=lots", "samples: 'lots' is not a count; write 400M, 4e8 or 400000000."),
        ("model=ViT-H-15,samples=1M", "ViT-H-15"),
        ("samples", "--forecast samples: write NAME=VALUE."),
    ],
)
def test_a_run_that_cannot_be_had_is_named(
    at: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["fit", "studies/fashion.yaml", "--forecast", at]) == 1
    assert says in capsys.readouterr().err
