"""Forecasts: right where the law is, graded by what it says of what is known, and refused where that was missed."""

import numpy as np
import pandas as pd
import pytest

from flipscale.analysis.fitting import (
    Doubt,
    Grade,
    Options,
    forecast,
    forecast_groups,
    forecast_json,
    forecast_text,
)
from flipscale.errors import ResultsError

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
    assert found.fit.law.name == "odds"
    assert found.interval.low < truth(**at) < found.interval.high
    assert found.value == pytest.approx(truth(**at), abs=0.01)
    assert found.extrapolation == pytest.approx(10)
    assert found.held_out.inside
    assert set(found.forms) == {"odds, c = 1", "odds-product", "chinchilla"}
    assert found.spread[0] <= found.value <= found.spread[1]
    # The largest rung is 3.1 times the rest: 10 times is twice as far in the logarithm.
    assert not found.refused
    assert Doubt.FARTHER in found.doubts
    said = forecast_text(found)
    assert "extrapolation: 10 times the largest run" in said
    assert "held out: the 2 largest runs, 3.1 times larger than the rest: g=1e+12, s=3e+10 predicted" in said
    assert "- farther than tested: 10 times the largest run, tested at 3.1 times" in said


def test_a_law_that_holds_is_good_as_far_as_it_was_tested_and_poor_far_beyond() -> None:
    x = np.geomspace(1, 1000, 13).repeat(2)
    table = pd.DataFrame({"x": x, "loss": 3 * x**-0.2 * np.exp(np.random.default_rng(2).normal(0, 0.02, len(x)))})
    points = [{"x": 1500.0}, {"x": 2e5}, {"x": 1e13}]
    near, far, absurd = forecast_groups(table, "power", x=["x"], y="loss", points=points, group=[], options=QUICK)
    assert (near.grade, near.doubts) == (Grade.GOOD, ())
    assert far.extrapolation == pytest.approx(200)
    assert (far.grade, absurd.grade) == (Grade.POOR, Grade.POOR)
    assert Doubt.TOO_FAR in far.doubts
    assert "- too far: 200 times the largest run, tested at 3.2 times" in forecast_text(far)


def test_a_law_that_would_have_missed_the_largest_runs_is_refused_unless_forced() -> None:
    table = ladder(noise=0.002)
    size = table["g"] * table["s"]
    table.loc[size == size.max(), "top1"] -= 0.2  # as where the largest diverged half way, or data ran out
    found = forecast(table, x=["g", "s"], y="top1", at={"g": 3e12, "s": 1e11}, options=QUICK)
    assert found.held_out.inside is False
    assert found.held_out.rms == pytest.approx(0.2, abs=0.01)
    assert found.refused
    assert "forecast:" not in forecast_text(found)
    assert "fitted to all smaller runs, the law misses the largest: g=1e+12, s=3e+10 predicted 0.8" in forecast_text(
        found
    )
    assert "forecast: top1 0." in forecast_text(found, forced=True)
    assert "grade: poor, forced" in forecast_text(found, forced=True)


def test_a_test_whose_interval_holds_nearly_everything_tests_nothing() -> None:
    rng = np.random.default_rng(3)
    x = np.geomspace(1, 300, 12)
    table = pd.DataFrame({"x": x, "top1": 1 / (1 + np.exp(1.5 - 0.05 * np.log(x) + rng.normal(0, 0.5, 12)))})
    found = forecast(table, "odds-power", x=["x"], y="top1", at={"x": 350}, options=QUICK)
    assert found.held_out.inside
    assert found.held_out.sharpness > 0.5
    assert Doubt.BLUNT in found.doubts
    assert found.refused


def test_held_out_errors_are_by_setting_and_do_not_cancel() -> None:
    x = np.geomspace(1, 16, 5).repeat(2)
    x = np.append(x, [30, 30, 40, 40])
    loss = 3 * x**-0.2
    loss[-4:-2] *= 1.1
    loss[-2:] *= 0.9
    table = pd.DataFrame({"x": x, "loss": loss})
    held = forecast(table, "power", x=["x"], y="loss", at={"x": 50}, options=QUICK).held_out
    assert [(one.at, one.runs) for one in held.settings] == [({"x": 30}, 2), ({"x": 40}, 2)]
    errors = [-0.1 * 3 * 30**-0.2, 0.1 * 3 * 40**-0.2]
    assert [one.error for one in held.settings] == pytest.approx(errors)
    assert held.rms == pytest.approx(np.sqrt(np.mean(np.square(errors))))


def test_without_enough_runs_to_hold_some_out_it_is_refused_too() -> None:
    x = np.array([1.0, 10, 100])
    table = pd.DataFrame({"x": x, "loss": 3 * x**-0.1})
    found = forecast(table, "power", x=["x"], y="loss", at={"x": 1e3}, options=QUICK)
    assert found.doubts == (Doubt.UNTESTED,)
    assert (
        "- the law is not tested: without the largest rung: "
        "Cannot fit 'power' (2 parameters) to 2 different points: it takes 3 or more."
    ) in forecast_text(found)
    assert found.value == pytest.approx(3 * 1e3**-0.1)


def test_runs_of_about_one_size_cannot_be_held_out() -> None:
    table = pd.DataFrame({"x": np.linspace(1, 1.9, 12), "loss": np.linspace(2, 1.8, 12)})
    found = forecast(table, "power", x=["x"], y="loss", at={"x": 10}, options=QUICK)
    assert "- the law is not tested: all runs are within a factor of 2 of the largest" in forecast_text(found)


def test_a_variable_that_is_missing_is_named() -> None:
    with pytest.raises(ResultsError, match="The law odds needs s besides g"):
        forecast(ladder(), x=["g", "s"], y="top1", at={"g": 1e12}, options=QUICK)


def test_the_spread_between_forms_grows_with_the_distance() -> None:
    def spread(times: float) -> float:
        at = {"g": 1e12 * times, "s": 3e10}
        low, high = forecast(ladder(), x=["g", "s"], y="top1", at=at, options=Options(draws=0, starts=6)).spread
        return high - low

    assert spread(1000) > 2 * spread(1)


def test_json_has_everything_that_the_text_says() -> None:
    data = forecast_json(forecast(ladder(), x=["g", "s"], y="top1", at={"g": 3e12, "s": 1e11}, options=QUICK))
    keys = {
        "value",
        "interval",
        "extrapolation",
        "held_out",
        "forms",
        "spread",
        "grade",
        "doubts",
        "refused",
        "fit",
        "at",
    }
    assert keys <= set(data)
    assert (data["refused"], data["held_out"]["inside"]) == (False, True)
    assert data["held_out"]["settings"][0]["at"] == {"g": 1e12, "s": 3e10}
    assert data["interval"][0] < data["value"] < data["interval"][1]
