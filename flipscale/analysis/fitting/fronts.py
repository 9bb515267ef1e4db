"""The best for its cost: the Pareto front, the best of each bin, and the best size at each budget (IsoFLOP).

A law through the front says how much compute can buy; a law through the best sizes says how to spend it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import scipy  # loads scipy.interpolate where it is first used: `plan` does without
from numpy.typing import NDArray

from flipscale.analysis.fitting.chosen_rows import column, need
from flipscale.analysis.stats import Array
from flipscale.errors import ResultsError
from flipscale.words import count

Frontier = Literal["pareto", "binned"]

BINS = 12
"""The default number of bins of cost, equally wide in its logarithm."""

SAME_BUDGET = 1.1
"""Budgets within this factor count as equal: steps are whole numbers, so equal budgets are only nearly equal."""

_CURVE = 3  # sizes that a minimum needs

_DUST = 1e-9  # of the height of a curve

_FINER = 25  # points of the interpolated curve between two that were measured


def on_frontier(cost: Array, y: Array, *, lower: bool = True, bins: NDArray[np.intp] | None = None) -> NDArray[np.intp]:
    """The places of the rows on the front, from the cheapest: no row costs as little and is as good.

    With the bin of each row they are the best of each bin.
    """
    sign = 1.0 if lower else -1.0
    if bins is not None:
        best = [min(np.flatnonzero(bins == b), key=lambda i: (sign * y[i], cost[i])) for b in np.unique(bins)]
        return np.array(best, dtype=np.intp)
    order = np.lexsort((sign * y, cost))
    ordered = sign * y[order]
    cheaper = np.concatenate([[np.inf], np.minimum.accumulate(ordered)[:-1]])  # the best of all that cost no more
    return order[ordered < cheaper]


def bins_of(cost: Array, bins: int | Sequence[float]) -> tuple[NDArray[np.intp], Array]:
    """The bin of each row, and the middle of that bin in the logarithm of cost.

    Bins are so many between the cheapest row and the costliest, or lie between these edges; -1: outside of all.
    """
    edges = np.geomspace(cost.min(), cost.max(), bins + 1) if isinstance(bins, int) else np.sort(bins)
    last = len(edges) - 2
    place = np.searchsorted(edges, cost, side="right") - 1
    place = np.where(cost <= edges[-1] * (1 + 1e-12), np.minimum(place, last), -1)
    middles = np.sqrt(edges[:-1] * edges[1:])
    return place.astype(np.intp), middles[np.maximum(place, 0)]


def frontier(table: pd.DataFrame, *, x: str, y: str, lower_is_better: bool = True) -> pd.DataFrame:
    """The rows of the front of y against the cost x, from the cheapest."""
    cost = column(table, x)
    value = column(table, y)
    usable = np.flatnonzero(np.isfinite(cost) & np.isfinite(value) & (cost > 0))
    if not len(usable):
        raise ResultsError(f"No row has both {x} and {y}.")
    return table.iloc[usable[on_frontier(cost[usable], value[usable], lower=lower_is_better)]]


def best_rows(table: pd.DataFrame, over: Sequence[str], *, by: Sequence[str], y: str, lower: bool) -> pd.DataFrame:
    """The row of the best y at each value of the columns `by`; the columns `over` are those it is the best of."""
    need(table, [*over, *by])
    scores = column(table, y) * (1 if lower else -1)
    known = table.assign(_score=scores)[np.isfinite(scores)]
    places = known.groupby(list(by), dropna=False, sort=False)["_score"].idxmin()
    return table.loc[places]


@dataclass(frozen=True)
class Optimum:
    """The best size at one budget."""

    budget: float
    size: float
    y: float
    """The curve's value there."""
    n: int
    """Sizes that were tried."""


def budgets_of(budget: Array) -> list[NDArray[np.intp]]:
    """The places of the rows of each budget, from the smallest."""
    order = np.argsort(budget, kind="stable")
    starts: list[int] = []
    for i, spent in enumerate(budget[order].tolist()):
        if not starts or spent > SAME_BUDGET * budget[order[starts[-1]]]:
            starts.append(i)
    return np.split(order, starts[1:]) if starts else []


def evened(budget: Array) -> Array:
    """The budget of each row, replaced by the mean of those that differ from it by parts of a batch only."""
    even = np.empty(len(budget))
    for rows in budgets_of(budget):
        even[rows] = np.exp(np.log(budget[rows]).mean())
    return even


def has_budgets(size: Array, budget: Array) -> bool:
    """Whether at least two budgets were each spent on enough sizes for a minimum."""
    return sum(_enough(size, budget)) > 1


def is_isoflop(size: Array, budget: Array) -> bool:
    """Whether all budgets, two or more, were each spent on enough sizes for a minimum: equal budgets were intended."""
    enough = _enough(size, budget)
    return len(enough) > 1 and all(enough)


def _enough(size: Array, budget: Array) -> list[bool]:
    return [len(np.unique(size[rows])) >= _CURVE for rows in budgets_of(budget)]


def optima(size: Array, y: Array, budget: Array, *, lower: bool = True) -> tuple[list[Optimum], dict[float, str]]:
    """The best size of every budget, and the budgets that have none, with the reason.

    The curve of log y against log size is Akima's through all points. A parabola over the full width is not offered:
    curves are steeper at small sizes than at large ones, and it gave an exponent of .698 where .602 was right.
    """
    bests: list[Optimum] = []
    none: dict[float, str] = {}
    for curve in _curves(size, budget):
        if len(curve.sizes) < _CURVE:
            none[curve.budget] = f"{count(len(curve.sizes), 'size')}, and a minimum takes {_CURVE}"
            continue
        best, height = (float(value[0]) for value in curve.lowest(np.log(y)[None], lower=lower))
        if np.isnan(best):
            none[curve.budget] = "the best size tried is the smallest or the largest, so the optimum lies outside"
            continue
        bests.append(Optimum(curve.budget, float(np.exp(best)), float(np.exp(height)), len(curve.sizes)))
    return bests, none


def best_sizes(size: Array, logs: Array, budget: Array, *, lower: bool = True) -> Array:
    """The logarithm of the best size [m, budgets] for m measurements of log y [m, n]; NaN where a budget has none."""
    sizes = np.full((len(logs), len(budgets_of(budget))), np.nan)
    for i, curve in enumerate(_curves(size, budget)):
        if len(curve.sizes) >= _CURVE:
            sizes[:, i] = curve.lowest(logs, lower=lower)[0]
    return sizes


@dataclass(frozen=True)
class _Curve:
    """The sizes that were tried at one budget."""

    budget: float
    sizes: Array
    rows: NDArray[np.intp]
    places: NDArray[np.intp]
    """Which of the sizes each of the rows has."""

    def lowest(self, logs: Array, *, lower: bool) -> tuple[Array, Array]:
        """log size and log y of the lowest (or highest) point of the curves of log y [m, n]; NaN where it is an end."""
        # Seeds of one size are one point.
        mean = (self.places[:, None] == np.arange(len(self.sizes))) / np.bincount(self.places)
        heights = logs[:, self.rows] @ mean
        at, height = _akima(np.log(self.sizes), heights if lower else -heights)
        return at, height if lower else -height


def _curves(size: Array, budget: Array) -> list[_Curve]:
    """One for each budget, from the smallest."""
    curves = []
    for rows in budgets_of(budget):
        at = float(budget[rows[0]]) if np.ptp(budget[rows]) == 0 else float(np.exp(np.log(budget[rows]).mean()))
        sizes, places = np.unique(size[rows], return_inverse=True)
        curves.append(_Curve(at, sizes, rows, places.reshape(-1)))
    return curves


def _akima(x: Array, y: Array) -> tuple[Array, Array]:
    """The lowest points [m] of Akima's curves through y [m, k]; NaN where that is one of its ends."""
    grid = np.linspace(x[0], x[-1], (len(x) - 1) * _FINER)
    curve = scipy.interpolate.Akima1DInterpolator(x, y, axis=1)(grid)
    lowest = curve.min(axis=1)
    # The middle of those that are equally low up to rounding, which would otherwise decide anew in every resample.
    best = curve <= (lowest + _DUST * np.ptp(curve, axis=1))[:, None]
    outside = best[:, 0] | best[:, -1]
    return np.where(outside, np.nan, best @ grid / best.sum(axis=1)), np.where(outside, np.nan, lowest)
