"""Fits and forecasts for programs, in JSON's types; docs/fits.md lists the keys."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from flipscale.fit.allocation import Allocation
from flipscale.fit.fitted import Fit, Forecast, HeldOutRuns
from flipscale.fit.grade import graded
from flipscale.fit.words import checklist, doubt_words, title


def fit_json(fit: Fit) -> dict[str, Any]:
    """All of it in JSON types."""
    return {
        "law": fit.law.name,
        "title": title(fit),
        "formula": fit.law.formula,
        "group": _group(fit),
        "x": list(fit.x),
        "y": fit.y,
        "parameters": {name: _finite(value) for name, value in fit.parameters.items()},
        "intervals": {name: None if ends is None else [*map(_finite, ends)] for name, ends in fit.intervals.items()},
        "not_determined": dict(fit.not_determined),
        "n": len(fit.rows),
        "points": fit.rows.points,
        "loss": fit.loss,
        "delta": fit.delta,
        "residuals": "linear" if fit.linear else fit.law.link,
        "spread": fit.spread,
        "objective": fit.solution.objective,
        "starts": fit.solution.starts,
        "agree": fit.solution.agree,
        "at_bounds": list(fit.solution.at_bounds),
        "condition": _finite(fit.solution.condition),
        "draws": len(fit.draws),
        "frontier": fit.frontier,
        "seed_effect": None if fit.seeds is None else {"sd": fit.seeds.sd, "seeds": fit.seeds.seeds},
        "weights": fit.weights,
        "fixed": dict(fit.fixed),
        "tied": dict(fit.tied),
        "optima": [vars(optimum) for optimum in fit.optima],
        "held_out": held_out_json(fit.held_out),
        "used": list(fit.used),
        "left_out": dict(fit.left_out),
        "notes": list(fit.notes),
        "checklist": checklist(fit),
    }


def held_out_json(held: HeldOutRuns) -> dict[str, Any]:
    """The test of a law on the largest runs, in JSON's types."""
    return {
        "runs": list(held.runs),
        "settings": [
            {
                "at": dict(setting.at),
                "runs": setting.runs,
                "predicted": setting.predicted,
                "measured": setting.measured,
                "error": setting.error,
                "interval": None if setting.low is None else [setting.low, setting.high],
                "inside": setting.inside,
            }
            for setting in held.settings
        ],
        "rms_error": held.rms,
        "inside": held.inside,
        "sharpness": None if held.sharpness is None else _finite(held.sharpness),
        "extrapolation": held.extrapolation,
        "why": held.why,
    }


def allocation_json(allocation: Allocation) -> dict[str, Any]:
    """All of it in JSON types."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(allocation).items()}


def forecast_json(forecast: Forecast) -> dict[str, Any]:
    """All of it in JSON types."""
    found = graded(forecast)
    return {
        "group": _group(forecast.fit),
        "law": forecast.fit.law.name,
        "y": forecast.fit.y,
        "at": dict(forecast.at),
        "value": forecast.value,
        "interval": None if forecast.low is None else [forecast.low, forecast.high],
        "extrapolation": forecast.extrapolation,
        "held_out": held_out_json(forecast.held_out),
        "forms": dict(forecast.forms),
        "spread": list(forecast.spread),
        "grade": str(found.grade),
        "doubts": {str(doubt): doubt_words(doubt, forecast) for doubt in found.doubts},
        "refused": found.refused,
        "fit": fit_json(forecast.fit),
    }


def _group(fit: Fit) -> dict[str, object]:
    return {name: _plain(value) for name, value in fit.group.items()}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    return None if isinstance(value, Sequence) is False and value != value else value
