"""Published runs whose answers are published too. They lie beside the project where they are at all."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flipscale.fit import Options, fit, isoflop

HERE = Path(__file__).parents[3] / "shared" / "data" / "known_answers"

pytestmark = pytest.mark.skipif(not HERE.is_dir(), reason="the published runs are not beside the project")

ANSWERS = {answer["id"]: answer for answer in json.loads((HERE / "answers.json").read_text())} if HERE.is_dir() else {}


@pytest.mark.parametrize("name", [name for name in ANSWERS if name.startswith("porian")])
def test_porian_et_al_isoflop_exponents(name: str) -> None:
    """arXiv 2406.19146, table of exponents of the best size against compute."""
    points = pd.read_csv(HERE / "porian_isoflop_points.csv")
    columns = ("dataset", "hparams", "warmup", "decay", "param_count", "val")
    for column, value in zip(columns, name.split("_")[1:], strict=True):
        points = points[points[column] == value]
    found = isoflop(points, x="n", y="loss", budget="flops", options=Options(draws=100))
    expect, tolerance = ANSWERS[name]["expect"], ANSWERS[name]["tol"]
    assert found.parameters["a"] == pytest.approx(expect["own_unweighted"], abs=tolerance["own_abs"])
    assert found.parameters["a"] == pytest.approx(expect["published"], abs=tolerance["published_abs"])
    low, high = found.intervals["a"]
    assert low < expect["published"] < high


def gadre(dataset: str) -> pd.DataFrame:
    """The five small runs of arXiv 2403.08540 that its laws are fitted to."""
    runs = pd.read_csv(HERE / "gadre2024_runs.csv")
    runs = runs[(runs["dataset"] == dataset) & runs["model"].str.startswith("d=")]
    smallest = runs["model"].str.startswith("d=96_")
    return runs[(runs["cc_mult"] == 1) | (smallest & (runs["cc_mult"] == 16))]


def gadre_law(dataset: str) -> Any:
    options = Options(loss="squares", linear=True, tied={"b": "a"}, draws=0)
    return fit(gadre(dataset), "chinchilla", x=["N", "20*cc_mult*N"], y="loss_c4_val", options=options)


@pytest.mark.parametrize("dataset", ["c4_original", "rpj", "rw_original"])
def test_gadre_et_al_parameters(dataset: str) -> None:
    found = gadre_law(dataset).parameters
    # Theirs is b 6^(-a/2) (M N)^-a with M tokens a parameter.
    theirs = {"a": found["A"], "b": found["B"] * 6 ** (found["a"] / 2), "eta2": found["a"], "E": found["E"]}
    answer = ANSWERS["gadre_params"]
    assert theirs == pytest.approx(answer["expect"][dataset], rel=answer["tol"]["rel"])


def test_gadre_et_al_extrapolate_loss_and_error_to_larger_runs() -> None:
    runs = pd.read_csv(HERE / "gadre2024_runs.csv")
    runs = runs[runs["dataset"] == "rpj"]
    runs = runs.set_index("name", drop=False)
    at = {"open_lm_1b_M640": ("open_lm_1b", 32), "open_lm_7b_M20": ("open_lm_7b", 1)}
    large = pd.concat([runs[(runs["model"] == model) & (runs["cc_mult"] == cc)] for model, cc in at.values()])
    law = gadre_law("rpj")
    loss = law.predict({"N": large["N"], "20*cc_mult*N": 20 * large["cc_mult"] * large["N"]})
    error = 100 * np.abs(loss - large["loss_c4_val"]) / large["loss_c4_val"]
    answer = ANSWERS["gadre_rpj"]
    assert error.tolist() == pytest.approx(
        [answer["expect"]["loss_rel_err_pct"][name] for name in at], abs=answer["tol"]["abs"]
    )
    seen = pd.concat([gadre("rpj"), runs[(runs["model"] == "open_lm_1b") & (runs["cc_mult"] == 1)]])
    second = fit(seen, "exponential", x=["loss_c4_val"], y="err_avg17", options=Options(draws=0))
    top1 = 100 * np.abs(second.predict({"loss_c4_val": loss}) - large["err_avg17"]) / large["err_avg17"]
    assert top1.tolist() == pytest.approx(
        [answer["expect"]["err_rel_err_pct"][name] for name in at], abs=answer["tol"]["abs"]
    )
