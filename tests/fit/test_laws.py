"""Every law: its Jacobian is its derivative, and noise-free runs give its parameters back to six digits."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from flipscale.analysis.fitting import LAWS, Options, fit, law_named
from flipscale.analysis.stats import Array
from flipscale.errors import ResultsError

pytestmark = pytest.mark.slow

POINT_ONLY = Options(draws=0)

G, S = np.geomspace(1e9, 1e12, 5), np.geomspace(1e8, 3e10, 5)
N, D = np.geomspace(1e7, 1e10, 5), np.geomspace(1e9, 3e11, 5)
X = np.geomspace(1e2, 1e7, 25)

TRUTH: dict[str, tuple[dict[str, float], list[Array]]] = {
    "power": ({"A": 12.0, "a": 0.31}, [X]),
    "product": ({"A": 12.0, "a": 0.11, "b": 0.23}, [N, D]),
    "growth": ({"A": 0.3, "a": 0.49}, [X]),
    "power+floor": ({"E": 0.4, "A": 12.0, "a": 0.31}, [X]),
    "chinchilla": ({"E": 1.69, "A": 406.4, "B": 410.7, "a": 0.34, "b": 0.28}, [N, D]),
    "chinchilla-k": ({"E": 1.69, "A": 406.4, "B": 410.7, "a": 0.51, "b": 0.42, "k": 0.66}, [N, D]),
    "odds": ({"A": 30.0, "B": 200.0, "a": 0.25, "b": 0.3, "c": 0.9}, [G, S]),
    "odds-power": ({"A": 30.0, "a": 0.25}, [G]),
    "odds-product": ({"A": 30.0, "a": 0.1, "b": 0.15}, [G, S]),
    "exponential": ({"E": 0.86, "k": 4.0, "g": 0.9}, [np.linspace(2, 6, 15)]),
}


def true_table(name: str) -> pd.DataFrame:
    """The law's own y on a grid of its variables, as a person would compute it from the formula."""
    p, axes = TRUTH[name]
    columns = [column.ravel() for column in np.meshgrid(*axes, indexing="ij")]
    table = pd.DataFrame(dict(zip(LAWS[name].roles, columns, strict=True)))
    table["y"] = FORMULAS[name](p, *columns)
    return table


def error_of(odds: Array) -> Array:
    return odds / (1 + odds)


FORMULAS: dict[str, Any] = {
    "power": lambda p, x: p["A"] * x ** -p["a"],
    "product": lambda p, n, d: p["A"] * n ** -p["a"] * d ** -p["b"],
    "growth": lambda p, x: p["A"] * x ** p["a"],
    "power+floor": lambda p, x: p["E"] + p["A"] * x ** -p["a"],
    "chinchilla": lambda p, n, d: p["E"] + p["A"] * n ** -p["a"] + p["B"] * d ** -p["b"],
    "chinchilla-k": lambda p, n, d: p["E"] + (p["A"] * n ** -p["a"] + p["B"] * d ** -p["b"]) ** p["k"],
    "odds": lambda p, g, s: 1 - error_of((p["A"] * g ** -p["a"] + p["B"] * s ** -p["b"]) ** p["c"]),
    "odds-power": lambda p, x: 1 - error_of(p["A"] * x ** -p["a"]),
    "odds-product": lambda p, g, s: 1 - error_of(p["A"] * g ** -p["a"] * s ** -p["b"]),
    "exponential": lambda p, x: p["E"] - p["k"] * np.exp(-p["g"] * x),
}


def test_every_law_is_tried_here() -> None:
    assert set(TRUTH) == set(LAWS) == set(FORMULAS)


@pytest.mark.parametrize("name", LAWS)
def test_noise_free_runs_give_the_parameters_back_to_six_digits(name: str) -> None:
    accuracy = name.startswith("odds")
    found = fit(
        true_table(name), name, x=LAWS[name].roles, y="y", options=Options(draws=0, accuracy=accuracy, starts=6)
    )
    assert found.parameters == pytest.approx(TRUTH[name][0], rel=1e-6)
    assert found.solution.at_bounds == ()


@pytest.mark.parametrize("name", LAWS)
def test_the_jacobian_is_the_derivative(name: str) -> None:
    law, rng = LAWS[name], np.random.default_rng(0)
    x = np.exp(rng.uniform(2, 12, (30, len(law.roles))))
    if name == "exponential":
        x = rng.uniform(2, 5, (30, 1))
    for theta in law.starts(rng, x, rng.uniform(-2, 0, 30), 5):
        jacobian = law.evaluate(theta, x)[1]
        for i in range(len(theta)):
            step = np.zeros_like(theta)
            step[i] = 1e-6
            numeric = (law.evaluate(theta + step, x)[0] - law.evaluate(theta - step, x)[0]) / 2e-6
            assert jacobian[:, i] == pytest.approx(numeric, rel=1e-4, abs=1e-6 * (1 + np.abs(numeric).max()))


def test_an_unknown_law_is_told_the_nearest() -> None:
    with pytest.raises(ResultsError, match=r"There is no law 'powr': did you mean 'power'\?"):
        law_named("powr")
