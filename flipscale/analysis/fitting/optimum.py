"""The law of the best value of a setting, such as a learning rate: a power of samples, model, batch or FLOPs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from flipscale.analysis.fitting.chosen_rows import (
    column,
    first_mixed,
    group_name,
    in_groups,
    is_collected,
    is_lower_better,
    may_be_settings,
    need,
)
from flipscale.analysis.fitting.uncertainty import DRAWS, interval, resamples
from flipscale.analysis.stats import Array, Interval, Moments
from flipscale.door.sweep import vertex
from flipscale.errors import ResultsError
from flipscale.words import count


@dataclass(frozen=True)
class OptimumLaw:
    """The best value = A x^a ..., by squares of logarithms."""

    over: str
    group: str
    x: tuple[str, ...]
    scale: float
    """A."""
    exponents: tuple[float, ...]
    intervals: tuple[Interval, ...]
    """95 % CIs of the exponents."""
    spread: float
    """Standard deviation of the best values about the law, in ln."""
    points: tuple[tuple[tuple[float, ...], float], ...]
    """Where the sweeps are, and their best values."""
    left_out: Mapping[str, str]

    @property
    def rule(self) -> str:
        """The law as a line under `couple`."""
        powers = [f"{name} ** {power:.3g}" for name, power in zip(self.x, self.exponents, strict=True)]
        return f"{self.over}: {' * '.join([f'{self.scale:.3g}', *powers])}"

    def parts(self) -> list[str]:
        """The law with its intervals, what it rests on, and the line to paste."""
        powers = [
            f"{name}^{power:.3g} (95 % CI {ends.low:.3g} to {ends.high:.3g})"
            for name, power, ends in zip(self.x, self.exponents, self.intervals, strict=True)
        ]
        of = f" of {self.group}" if self.group else ""
        sweeps = f"{count(len(self.points), 'sweep')}, {self.spread:.2g} of scatter in ln"
        said = f"The best {self.over}{of} varies as {' and '.join(powers)}: {sweeps}."
        return [said, f"couple: {{{self.rule}}}", *(f"left out: {at}: {why}" for at, why in self.left_out.items())]


def optimum_law(
    table: pd.DataFrame,
    over: str,
    *,
    x: Sequence[str],
    y: str,
    group: Mapping[str, object] | None = None,
    accuracy: bool | None = None,
) -> OptimumLaw:
    """The law of the best value of `over` by y against the columns x.

    Rows that are equal in x are a sweep. Its best value is the vertex of the parabola through the best three means,
    over log2; one at an edge is left out. ResultsError with fewer sweeps than parameters and one, and for an x of 0.
    accuracy: whether higher y is better; its name says it by default.
    """
    need(table, [over])
    for name in x:
        if not (column(table, name) > 0).all():
            raise ResultsError(f"{name} is 0 or less in some rows, and has no power there; leave it out of --x.")
    _check_alike(table, [*x, *(group or {}), over, y])
    sign = 1 if is_lower_better(y, accuracy) else -1
    points = []
    left_out = {}
    for at, rows in in_groups(table, list(x)):
        means = (sign * rows.groupby(over)[y].mean()).dropna().sort_index()
        best = int(np.argmin(means.to_numpy())) if len(means) else 0
        if not 0 < best < len(means) - 1:
            left_out[group_name(at)] = f"its best {over} is the lowest or highest of {count(len(means), 'value')}"
            continue
        near = slice(best - 1, best + 2)
        place = tuple(float(column(rows, name)[0]) for name in x)
        points.append((place, vertex([float(value) for value in means.index[near]], list(means.iloc[near]))))
    least = len(x) + 2
    if len(points) < least:
        why = "; ".join(f"{at}: {reason}" for at, reason in left_out.items())
        raise ResultsError(
            f"{count(len(points), 'sweep')} with a best {over}, and the law takes {least}. {why}".strip()
        )
    ones = _design([place for place, _ in points], x)
    logs = np.log([value for _, value in points])
    theta = np.linalg.lstsq(ones, logs, rcond=None)[0]
    df = len(points) - ones.shape[1]
    variance = float(np.sum((logs - ones @ theta) ** 2)) / df
    errors = np.sqrt(variance * np.diag(np.linalg.inv(ones.T @ ones)))
    ends = tuple(Moments(float(m), float(e), df).interval() for m, e in zip(theta[1:], errors[1:], strict=True))
    scale = float(np.exp(theta[0]))
    exponents = tuple(map(float, theta[1:]))
    name = group_name(group) if group else ""
    return OptimumLaw(over, name, tuple(x), scale, exponents, ends, variance**0.5, tuple(points), left_out)


def _design(places: Sequence[tuple[float, ...]], x: Sequence[str]) -> Array:
    """A constant and the logarithms of x [sweeps, 1 + x]. ResultsError where they cannot be told apart."""
    ones = np.column_stack([np.ones(len(places)), np.log(places)])
    if np.linalg.matrix_rank(ones) < ones.shape[1]:
        raise ResultsError(f"{', '.join(x)} vary together, or do not vary, so their powers cannot be told apart.")
    return ones


def _check_alike(table: pd.DataFrame, named: Sequence[str]) -> None:
    """ResultsError where runs of equal settings differ in a column of anybody's table that no option names."""
    if is_collected(table):
        return
    if found := first_mixed(table, may_be_settings(table, named), [table[name] for name in named[:-1]]):
        raise ResultsError(
            f"Runs of equal {', '.join(named[:-1])} differ in {found[0]}, so their mean would mix its values. Find the "
            f"best of both, --optimum {named[-2]},{found[0]}, or write --group {found[0]}, or hold it by --where."
        )


# Several settings at once

NEAR_BEST = 0.1
"""A parabola goes through the runs whose log loss is within this of the best: farther away it is no parabola."""


def joint_optimum(
    table: pd.DataFrame,
    over: Sequence[str],
    *,
    x: Sequence[str],
    y: str,
    group: Mapping[str, object] | None = None,
    accuracy: bool | None = None,
    draws: int = DRAWS,
) -> list[OptimumLaw]:
    """The laws of the best values of several settings, found together, by y against the columns x.

    At each place of x a full quadratic in the logarithms of the settings goes through log y (or y, if higher is better)
    of the runs near the best. Its vertex is the optimum, if it is a minimum within the values tried. Intervals resample
    the places.
    """
    need(table, [*over, *x])
    _check_alike(table, [*x, *(group or {}), *over, y])
    lower = is_lower_better(y, accuracy)
    columns = np.column_stack([column(table, name) for name in (*x, *over)])
    if not (columns > 0).all():
        raise ResultsError(f"{', '.join((*x, *over))} must be above 0 in all rows, as the law takes their logarithms.")
    measured = column(table, y)
    heights = np.log(measured) if lower else -measured
    places = []
    bests = []
    left_out = {}
    for at, rows in in_groups(table.assign(_row=np.arange(len(table))), list(x)):
        chosen = rows["_row"].to_numpy()
        chosen = chosen[np.isfinite(heights[chosen])]
        found = _vertex_of(np.log(columns[chosen][:, len(x) :]), heights[chosen])
        if isinstance(found, str):
            left_out[group_name(at)] = found
        else:
            places.append(tuple(map(float, columns[chosen[0], : len(x)])))
            bests.append(found)
    if len(places) < len(x) + 2:
        why = "; ".join(f"{at}: {reason}" for at, reason in left_out.items())
        raise ResultsError(f"{count(len(places), 'sweep')} with a best, and the law takes {len(x) + 2}. {why}".strip())
    ones = _design(places, x)
    logs = np.array(bests)
    theta = np.asarray(np.linalg.lstsq(ones, logs, rcond=None)[0], np.float64)
    drawn = _resampled_laws(ones, logs, draws)
    low, high = interval(drawn, theta, len(places) - ones.shape[1])
    spread = np.sqrt(((logs - ones @ theta) ** 2).sum(axis=0) / max(1, len(places) - ones.shape[1]))
    return [
        OptimumLaw(
            over=name,
            group=group_name(group) if group else "",
            x=tuple(x),
            scale=float(np.exp(theta[0, i])),
            exponents=tuple(map(float, theta[1:, i])),
            intervals=tuple(Interval(float(a), float(b)) for a, b in zip(low[1:, i], high[1:, i], strict=True)),
            spread=float(spread[i]),
            points=tuple((place, float(np.exp(best[i]))) for place, best in zip(places, bests, strict=True)),
            left_out=left_out,
        )
        for i, name in enumerate(over)
    ]


def _vertex_of(tried: Array, heights: Array) -> Array | str:
    """The minimum of the quadratic through the points near the lowest, in logarithms; or why there is none."""
    near = heights <= heights.min() + NEAR_BEST
    logs = tried[near]
    k = logs.shape[1]
    pairs = [(i, j) for i in range(k) for j in range(i, k)]
    terms = [logs[:, i] * logs[:, j] for i, j in pairs]
    design = np.column_stack([np.ones(len(logs)), logs, *terms])
    # One run more than there are terms, or the vertex has no scatter.
    if len(logs) <= design.shape[1] or np.linalg.matrix_rank(design) < design.shape[1]:
        return f"{count(len(logs), 'run')} near its best, and a quadratic takes {design.shape[1] + 1}"
    fitted = np.linalg.lstsq(design, heights[near], rcond=None)[0]
    curvature = np.zeros((k, k))
    for (i, j), value in zip(pairs, fitted[1 + k :], strict=True):
        curvature[i, j] += value
        curvature[j, i] += value
    if np.linalg.eigvalsh(curvature).min() <= 0:
        return "its quadratic has no minimum"
    best = np.linalg.solve(curvature, -fitted[1 : 1 + k])
    if (best < tried.min(axis=0)).any() or (best > tried.max(axis=0)).any():
        return "its best lies outside the values tried"
    return np.asarray(best)


def _resampled_laws(ones: Array, logs: Array, draws: int) -> Array:
    """The laws [draws, 1 + x, settings] of resampled places; those that cannot tell x apart are left out."""
    drawn = []
    for counts in resamples(np.arange(len(ones)), draws):
        rows = np.repeat(np.arange(len(ones)), counts)
        if np.linalg.matrix_rank(ones[rows]) == ones.shape[1]:
            drawn.append(np.linalg.lstsq(ones[rows], logs[rows], rcond=None)[0])
    return np.array(drawn)
