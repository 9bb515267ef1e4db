"""Published runs whose answers are published too."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flipscale.analysis.fitting import Options, fit, isoflop

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent / "known_answers"
"""Published runs; its README.md names their sources."""


@pytest.mark.parametrize(
    ("configuration", "published", "unweighted"),
    [
        ("rw_base_long_kaplan_kaplan_train", 0.8353, 0.8348),
        ("rw_base_long_kaplan_standard_val", 0.7065, 0.7003),
        ("rw_base_short_kaplan_standard_val", 0.602, 0.6055),
        ("rw_base_short_chinchilla_standard_val", 0.5715, 0.5715),
        ("rw_tuned_short_const_standard_val", 0.4969, 0.497),
    ],
)
def test_porian_et_al_isoflop_exponents(configuration: str, published: float, unweighted: float) -> None:
    """arXiv 2406.19146, exponents of the best size against compute: as published, and by a line without weights."""
    points = pd.read_csv(HERE / "porian_isoflop_points.csv")
    columns = ("dataset", "hparams", "warmup", "decay", "param_count", "val")
    for column, value in zip(columns, configuration.split("_"), strict=True):
        points = points[points[column] == value]
    found = isoflop(points, x="n", y="loss", budget="flops", options=Options(draws=100))
    assert found.parameters["a"] == pytest.approx(unweighted, abs=0.0005)
    assert found.parameters["a"] == pytest.approx(published, abs=0.015)
    low, high = found.intervals["a"]
    assert low < published < high


def gadre(dataset: str) -> pd.DataFrame:
    """The five small runs of arXiv 2403.08540 that its laws are fitted to."""
    runs = pd.read_csv(HERE / "gadre2024_runs.csv")
    runs = runs[(runs["dataset"] == dataset) & runs["model"].str.startswith("d=")]
    smallest = runs["model"].str.startswith("d=96_")
    return runs[(runs["cc_mult"] == 1) | (smallest & (runs["cc_mult"] == 16))]


def gadre_law(dataset: str) -> Any:
    options = Options(loss="squares", linear=True, tied={"b": "a"}, draws=0)
    table = gadre(dataset).assign(tokens=lambda runs: 20 * runs["cc_mult"] * runs["N"])
    return fit(table, "chinchilla", x=["N", "tokens"], y="loss_c4_val", options=options)


@pytest.mark.parametrize(
    ("dataset", "a", "b", "eta2", "E"),
    [
        ("c4_original", 113.7, 189.5, 0.2425, 1.5083),
        ("rpj", 166.2, 366.7, 0.2729, 1.8366),
        ("rw_original", 125.1, 246.2, 0.2544, 1.7345),
    ],
)
def test_gadre_et_al_parameters(dataset: str, a: float, b: float, eta2: float, E: float) -> None:  # noqa: N803
    """Their recipe on their runs, against another implementation of it; their b is in other units than ours."""
    found = gadre_law(dataset).parameters
    # Theirs is b 6^(-a/2) (M N)^-a with M tokens a parameter.
    theirs = {"a": found["A"], "b": found["B"] * 6 ** (found["a"] / 2), "eta2": found["a"], "E": found["E"]}
    assert theirs == pytest.approx({"a": a, "b": b, "eta2": eta2, "E": E}, rel=0.002)


def test_gadre_et_al_extrapolate_loss_and_error_to_larger_runs() -> None:
    runs = pd.read_csv(HERE / "gadre2024_runs.csv")
    runs = runs[runs["dataset"] == "rpj"]
    runs = runs.set_index("name", drop=False)
    # 1.4B parameters at 640 tokens each, 6.9B at 20.
    at = [("open_lm_1b", 32), ("open_lm_7b", 1)]
    large = pd.concat([runs[(runs["model"] == model) & (runs["cc_mult"] == cc)] for model, cc in at])
    law = gadre_law("rpj")
    loss = law.predict({"N": large["N"], "tokens": 20 * large["cc_mult"] * large["N"]})
    error = 100 * np.abs(loss - large["loss_c4_val"]) / large["loss_c4_val"]
    assert error.tolist() == pytest.approx([0.7103, 0.732], abs=0.002)
    seen = pd.concat([gadre("rpj"), runs[(runs["model"] == "open_lm_1b") & (runs["cc_mult"] == 1)]])
    second = fit(seen, "exponential", x=["loss_c4_val"], y="err_avg17", options=Options(loss="squares", draws=0))
    top1 = 100 * np.abs(second.predict({"loss_c4_val": loss}) - large["err_avg17"]) / large["err_avg17"]
    assert top1.tolist() == pytest.approx([3.6365, 0.0464], abs=0.002)


def test_exact_runs_of_eight_budgets_give_all_five_parameters_back() -> None:
    """The noise-free recovery of Open-Athena/vpnls: 16 sizes from a 16th to 16 times the best of each budget."""
    truth = {"E": 1.69, "A": 406.4, "B": 410.7, "a": 0.34, "b": 0.28}
    flops, u = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e17, 1e22, 8), np.geomspace(1 / 16, 16, 16)))
    scale = (truth["a"] * truth["A"] / (truth["b"] * truth["B"])) ** (1 / (truth["a"] + truth["b"]))
    n = u * scale * (flops / 6) ** (truth["b"] / (truth["a"] + truth["b"]))
    d = flops / (6 * n)
    loss = truth["E"] + truth["A"] * n ** -truth["a"] + truth["B"] * d ** -truth["b"]
    table = pd.DataFrame({"N": n, "D": d, "loss": loss})
    found = fit(table, "chinchilla", x=["N", "D"], y="loss", options=Options(draws=0))
    assert found.parameters == pytest.approx(truth, rel=1e-4)
