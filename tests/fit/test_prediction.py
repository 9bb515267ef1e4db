"""Forecasts: right where the law is, refused where it would have missed what is known, and honest about the rest."""

import numpy as np
import pandas as pd
import pytest

from flipscale.errors import ResultsError
from flipscale.fit import Options, forecast, forecast_json, forecast_text

pytestmark = pytest.mark.slow

QUICK = Options(draws=100, starts=6)


def ladder(noise: float = 0.02, steps: int = 6) -> pd.DataFrame:
    """Accuracies that follow the odds law, two seeds each."""
    rng = np.random.default_rng(11)
    g, s = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e9, 1e12, steps), np.geomspace(1e8, 3e10, steps)))
    g, s = np.repeat(g, 2), np.repeat(s, 2)
    return pd.DataFrame({"g": g, "s": s, "top1": truth(g, s, rng.normal(0, noise, len(g)))})


def truth(g, s, noise=0.0):
    odds = (30 * np.asarray(g) ** -0.25 + 200 * np.asarray(s) ** -0.3) ** 0.9 * np.exp(noise)
    return 1 / (1 + odds)


def test_a_law_that_holds_foresees_a_run_ten_times_larger() -> None:
    at = {"g": 3e12, "s": 1e11}
    found = forecast(ladder(), x=["g", "s"], y="top1", at=at, options=QUICK)
    assert found.refused is None
    assert found.fit.law.name == "odds"
    assert found.low < truth(**at) < found.high
    assert found.value == pytest.approx(truth(**at), abs=0.01)
    assert found.extrapolation == pytest.approx(10)
    assert found.held_out.inside
    assert set(found.forms) == {"odds, c = 1", "odds-product", "chinchilla"}
    assert found.spread[0] <= found.value <= found.spread[1]
    said = forecast_text(found)
    assert "extrapolation: 10 times the largest run" in said
    assert "held out: the 2 largest runs, 3.1 times larger than the rest, were predicted" in said


def test_a_law_that_would_have_missed_the_largest_runs_is_refused_unless_forced() -> None:
    table = ladder(noise=0.002)
    size = table["g"] * table["s"]
    table.loc[size == size.max(), "top1"] -= 0.2  # as where the largest diverged half way, or data ran out
    found = forecast(table, x=["g", "s"], y="top1", at={"g": 3e12, "s": 1e11}, options=QUICK)
    assert found.held_out.inside is False
    assert found.refused.startswith("fitted to all smaller runs, the law says 0.8")
    assert "forecast:" not in forecast_text(found)
    assert "refused: fitted to all smaller runs" in forecast_text(found)
    assert "forecast: top1 0." in forecast_text(found, forced=True)
    assert "forced, although fitted to all smaller runs" in forecast_text(found, forced=True)


def test_without_enough_runs_to_hold_some_out_it_is_refused_too() -> None:
    x = np.array([1.0, 10, 100])
    table = pd.DataFrame({"x": x, "loss": 3 * x**-0.1})
    found = forecast(table, "power", x=["x"], y="loss", at={"x": 1e3}, options=QUICK)
    assert found.refused == (
        "the law cannot be held to account: without the largest rung: "
        "Cannot fit 'power' (2 parameters) to 2 different points: it takes 3 or more."
    )
    assert found.value == pytest.approx(3 * 1e3**-0.1)


def test_runs_of_about_one_size_cannot_be_held_out() -> None:
    table = pd.DataFrame({"x": np.linspace(1, 1.9, 12), "loss": np.linspace(2, 1.8, 12)})
    found = forecast(table, "power", x=["x"], y="loss", at={"x": 10}, options=QUICK)
    assert found.refused == "the law cannot be held to account: all runs are within a factor of 2 of the largest"


def test_a_variable_that_is_missing_is_named() -> None:
    with pytest.raises(ResultsError, match="The law odds needs s beside g"):
        forecast(ladder(), x=["g", "s"], y="top1", at={"g": 1e12}, options=QUICK)


def test_the_spread_between_forms_grows_with_the_distance() -> None:
    def spread(times: float) -> float:
        at = {"g": 1e12 * times, "s": 3e10}
        low, high = forecast(ladder(), x=["g", "s"], y="top1", at=at, options=Options(draws=0, starts=6)).spread
        return high - low

    assert spread(1000) > 2 * spread(1)


def test_json_has_everything_that_the_text_says() -> None:
    data = forecast_json(forecast(ladder(), x=["g", "s"], y="top1", at={"g": 3e12, "s": 1e11}, options=QUICK))
    assert {"value", "interval", "extrapolation", "held_out", "forms", "spread", "refused", "fit", "at"} <= set(data)
    assert data["held_out"]["inside"] is True
    assert data["interval"][0] < data["value"] < data["interval"][1]
