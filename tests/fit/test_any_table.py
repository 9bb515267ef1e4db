"""Laws of tables that others made: several rows a run, two settings at once, standard errors."""

import json

import numpy as np
import pandas as pd
import pytest

from flipscale.analysis.fitting import Options, fit, joint_optimum, optimum_law
from flipscale.cli import main
from flipscale.errors import ResultsError
from flipscale.words import rounded


def sweep(noise=0.0005):
    """Losses over rate and batch, as Step Law's: the best rate is N^-0.7 D^0.3, the best batch D^0.57."""
    rng = np.random.default_rng(0)
    rows = []
    for n in (1e8, 3e8, 1e9):
        for d in (2e9, 8e9, 3e10):
            rate = 0.5 * n**-0.7 * d**0.3
            batch = 0.4 * d**0.57
            for i in range(-3, 4):
                for j in range(-3, 4):
                    lr = 2.0 ** round(np.log2(rate) + i)
                    bs = 2.0 ** round(np.log2(batch) + j)
                    away = np.log(lr / rate) - 0.3 * np.log(bs / batch)
                    loss = 2 + 20 * n**-0.3 + 30 * d**-0.3 + 0.02 * away**2 + 0.01 * np.log(bs / batch) ** 2
                    rows.append((n, d, lr, bs, loss * np.exp(noise * rng.normal())))
    return pd.DataFrame(rows, columns=["N", "D", "lr", "bs", "loss"])


def test_two_settings_have_their_best_values_together():
    rate, batch = joint_optimum(sweep(), ["lr", "bs"], x=["N", "D"], y="loss")
    assert (rate.over, batch.over, len(rate.points)) == ("lr", "bs", 9)
    assert rate.exponents == pytest.approx((-0.7, 0.3), abs=0.03)
    assert batch.exponents == pytest.approx((0, 0.57), abs=0.05)
    for law, truth in ((rate, (-0.7, 0.3)), (batch, (0, 0.57))):
        for ends, value in zip(law.intervals, truth, strict=True):
            assert ends.low < value < ends.high


def test_a_varied_column_that_nobody_named_is_refused_by_name():
    with pytest.raises(
        ResultsError, match=r"differ in bs, so their mean would mix.* --optimum lr,bs, or write --group bs"
    ):
        optimum_law(sweep(), "lr", x=["N", "D"], y="loss")


def test_a_best_at_the_edge_of_what_was_tried_is_left_out():
    table = sweep()
    cut = table[~((table["N"] == 1e8) & (table["lr"] > 0.7 * 0.5 * table["N"] ** -0.7 * table["D"] ** 0.3))]
    rate, _ = joint_optimum(cut, ["lr", "bs"], x=["N", "D"], y="loss")
    assert len(rate.points) == 6
    assert len(rate.left_out) == 3


def test_the_command_prints_both_laws_and_names_a_column_that_is_not_there(tmp_path, capsys):
    file = tmp_path / "steps.csv"
    sweep().to_csv(file, index=False)
    assert main(["fit", str(file), "--x", "N,D", "--y", "loss", "--optimum", "lr,bs"]) == 0
    out = capsys.readouterr().out
    assert "The best lr varies as N^-0.699 (95 % CI -0.7" in out
    assert "The best bs varies as" in out
    for asked in (["--optimum", "lrr"], ["--optimum", "lr,bss"], ["--best", "lrr"], ["--run", "rn"], ["--se", "er"]):
        assert main(["fit", str(file), "--x", "N,D", "--y", "loss", *asked]) == 1
        assert f"The table has no column {asked[1].split(',')[-1]!r}" in capsys.readouterr().err


def test_the_best_of_each_size_is_kept_before_a_law_is_fitted(tmp_path, capsys):
    file = tmp_path / "steps.csv"
    sweep().to_csv(file, index=False)
    assert main(["fit", str(file), "--x", "N,D", "--y", "loss", "--best", "lr,bs", "--law", "product", "--json"]) == 0
    (law,) = json.loads(capsys.readouterr().out)["fits"]
    assert law["n"] == 9


def checkpoints():
    """Six runs of ten checkpoints each, whose errors are those of their runs."""
    rng = np.random.default_rng(1)
    rows = []
    for run in range(6):
        luck = 0.02 * rng.normal()
        for step in range(10):
            d = 1e9 * 1.5**step
            rows.append((run, d * (1 + 0.01 * run), 40 * d**-0.15 * np.exp(luck + 0.001 * rng.normal())))
    return pd.DataFrame(rows, columns=["run", "D", "loss"])


def test_intervals_resample_runs_where_a_column_says_which_rows_are_of_one():
    rows = fit(checkpoints(), "power", x=["D"], y="loss", options=Options(draws=300))
    runs = fit(checkpoints(), "power", x=["D"], y="loss", options=Options(draws=300, run="run"))
    assert runs.parameters == rows.parameters
    assert (rows.groups, runs.groups) == (60, 6)

    level = [np.std(found.law.evaluate(found.draws, np.array([[1e10]]))[0]) for found in (rows, runs)]
    assert level[1] > 2 * level[0]


def test_a_point_with_a_large_standard_error_counts_less_and_one_without_as_the_median():
    x = np.array([1e8, 2e8, 4e8, 8e8, 1.6e9])
    y = 50 * x**-0.2
    y[-1] *= 1.2
    table = pd.DataFrame({"N": x, "loss": y, "se": [0.01, 0.01, 0, None, 10.0]})
    plain = fit(table, "power", x=["N"], y="loss", options=Options(loss="squares", draws=0))
    weighed = fit(table, "power", x=["N"], y="loss", options=Options(loss="squares", draws=0, se="se"))
    assert abs(plain.parameters["a"] - 0.2) > 0.01
    assert weighed.parameters["a"] == pytest.approx(0.2, abs=1e-3)
    assert list(weighed.rows.weights[2:4] > 0) == [True, True]


def test_each_budget_names_its_group(tmp_path, capsys):
    file = tmp_path / "two.csv"
    table = pd.concat([sweep().assign(arm=arm) for arm in "ab"])
    table.groupby(["N", "D", "arm"], as_index=False)["loss"].min().to_csv(file, index=False)
    options = ["--x", "N,D", "--y", "loss", "--group", "arm", "--law", "chinchilla", "--draws", "20"]
    main(["fit", str(file), *options, "--allocate", "flops=3e20"])
    out = capsys.readouterr().out
    assert "Best use of 3e20 FLOPs (6 x N x D) (arm=a), by chinchilla" in out
    assert "Best use of 3e20 FLOPs (6 x N x D) (arm=b), by chinchilla" in out


def test_large_numbers_have_no_letter():
    assert [rounded(value) for value in (3e20, 1e15, 2.5e14)] == ["3e20", "1e15", "250T"]
