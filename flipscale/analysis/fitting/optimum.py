"""The law of the best value of a setting, such as a learning rate: a power of samples, model, batch or FLOPs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from flipscale.analysis.fitting.rows import column, group_name, in_groups, is_lower_better
from flipscale.analysis.stats import Interval, Moments
from flipscale.errors import ResultsError
from flipscale.planning.sweeps import vertex
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
    for name in x:
        if not (column(table, name) > 0).all():
            raise ResultsError(f"{name} is 0 or less in some rows, and has no power there; leave it out of --x.")
    sign = 1 if is_lower_better(y, accuracy) else -1
    points, left_out = [], {}
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
    ones = np.column_stack([np.ones(len(points)), np.log([place for place, _ in points])])
    logs = np.log([value for _, value in points])
    theta, _, rank, _ = np.linalg.lstsq(ones, logs, rcond=None)
    if rank < ones.shape[1]:
        raise ResultsError(f"{', '.join(x)} vary together, or do not vary, so their powers cannot be told apart.")
    df = len(points) - ones.shape[1]
    variance = float(np.sum((logs - ones @ theta) ** 2)) / df
    errors = np.sqrt(variance * np.diag(np.linalg.inv(ones.T @ ones)))
    ends = tuple(Moments(float(m), float(e), df).interval() for m, e in zip(theta[1:], errors[1:], strict=True))
    scale, exponents = float(np.exp(theta[0])), tuple(map(float, theta[1:]))
    name = group_name(group) if group else ""
    return OptimumLaw(over, name, tuple(x), scale, exponents, ends, variance**0.5, tuple(points), left_out)
