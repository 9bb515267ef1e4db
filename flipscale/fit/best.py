"""What is best for its cost: the Pareto front, the best of each bin, and the best size at each budget (IsoFLOP).

Through the front goes the law of what compute can buy; through the best sizes goes the law of how to spend it.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import Akima1DInterpolator

from flipscale.stats import Array
from flipscale.words import count

Frontier = Literal["pareto", "binned"]
Method = Literal["akima", "parabola"]

BINS = 12
"""Bins of cost, equally wide in its logarithm, of the binned minimum, unless another number is asked for."""

SAME_BUDGET = 1.1
"""Budgets within this factor are one: steps are whole numbers, so equal budgets are only nearly equal."""

_CURVE = 3  # sizes that a minimum takes

_DUST = 1e-9  # of the height of a curve

_FINER = 25  # points of the interpolated curve between two that were measured


def on_frontier(cost: Array, y: Array, kind: Frontier, *, lower: bool = True, bins: int = BINS) -> NDArray[np.intp]:
    """The places of the rows on the front, from the cheapest.

    `pareto`: no row costs as little and is as good. `binned`: the best row of each bin of cost.
    """
    sign = 1.0 if lower else -1.0
    order = np.lexsort((sign * y, cost))
    if kind == "binned":
        logs = np.log(cost)
        width = (logs.max() - logs.min()) / bins
        place = np.minimum(((logs - logs.min()) / width).astype(int), bins - 1) if width > 0 else np.zeros(len(y), int)
        best = [min(np.flatnonzero(place == b), key=lambda i: (sign * y[i], cost[i])) for b in np.unique(place)]
        return np.array(best, dtype=np.intp)
    ordered = sign * y[order]
    cheaper = np.concatenate([[np.inf], np.minimum.accumulate(ordered)[:-1]])  # the best of all that cost no more
    return order[ordered < cheaper]


@dataclass(frozen=True)
class Optimum:
    """The best size at one budget."""

    budget: float
    size: float
    y: float
    """What the curve says is reached there."""
    n: int
    """Sizes that were tried."""


def budgets_of(budget: Array) -> list[NDArray[np.intp]]:
    """The places of the rows of each budget, from the smallest."""
    order = np.argsort(budget, kind="stable")
    starts: list[int] = []
    for i, spent in enumerate(budget[order].tolist()):
        if not starts or spent > SAME_BUDGET * budget[order[starts[-1]]]:
            starts.append(i)
    return np.split(order, starts[1:])


def evened(budget: Array) -> Array:
    """The mean budget of each row's like: what parts of a batch make of one budget is one again."""
    even = np.empty(len(budget))
    for rows in budgets_of(budget):
        even[rows] = np.exp(np.log(budget[rows]).mean())
    return even


def has_budgets(size: Array, budget: Array) -> bool:
    """Whether two budgets or more were each spent on sizes enough for a minimum."""
    return sum(_enough(size, budget)) > 1


def is_isoflop(size: Array, budget: Array) -> bool:
    """Whether all runs are so: equal budgets were intended."""
    enough = _enough(size, budget)
    return len(enough) > 1 and all(enough)


def _enough(size: Array, budget: Array) -> list[bool]:
    return [len(np.unique(size[rows])) >= _CURVE for rows in budgets_of(budget)]


def optima(
    size: Array, y: Array, budget: Array, method: Method, *, lower: bool = True
) -> tuple[list[Optimum], dict[float, str]]:
    """The best size of every budget, and the budgets that have none, with the reason.

    The curve of log y against log size is Akima's through all points, or a parabola through the best point and its two
    neighbours. A parabola over the full width is not offered: curves are steeper at small sizes than at large ones, and
    it gave an exponent of .698 where .602 was right.
    """
    found: list[Optimum] = []
    none: dict[float, str] = {}
    for rows in budgets_of(budget):
        at = float(np.exp(np.log(budget[rows]).mean()))
        at = float(budget[rows[0]]) if np.ptp(budget[rows]) == 0 else at
        sizes, places = np.unique(size[rows], return_inverse=True)
        # Seeds of one size are one point.
        logs = np.array([np.log(y[rows][places == i]).mean() for i in range(len(sizes))])
        if len(sizes) < _CURVE:
            none[at] = f"{count(len(sizes), 'size')}, and a minimum takes {_CURVE}"
            continue
        best = (_parabola if method == "parabola" else _akima)(np.log(sizes), logs if lower else -logs)
        if best is None:
            none[at] = "the best size tried is the smallest or the largest, so the optimum lies outside"
            continue
        height = best[1] if lower else -best[1]
        found.append(Optimum(at, float(np.exp(best[0])), float(np.exp(height)), len(sizes)))
    return found, none


def _parabola(x: Array, y: Array) -> tuple[float, float] | None:
    """The lowest point of the parabola through the lowest point and its neighbours; None where it has but one."""
    best = int(np.argmin(y))
    if best in (0, len(x) - 1):
        return None
    near = slice(best - 1, best + 2)
    a, b, c = np.polyfit(x[near] - x[best], y[near], 2)
    at = -b / (2 * a)
    return float(x[best] + at), float(c + b * at + a * at * at)


def _akima(x: Array, y: Array) -> tuple[float, float] | None:
    """The lowest point of Akima's curve; None where that is one of its ends."""
    grid = np.linspace(x[0], x[-1], (len(x) - 1) * _FINER)
    curve = Akima1DInterpolator(x, y)(grid)
    # The middle of those that are equally low but for float dust, which would decide anew in every resample.
    best = np.flatnonzero(curve <= curve.min() + _DUST * np.ptp(curve))
    outside = best[0] == 0 or best[-1] == len(grid) - 1
    return None if outside else (float(grid[best].mean()), float(curve[best[0]]))
