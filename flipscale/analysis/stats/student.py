"""Student's t: the mean of few values, its interval and its p."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

Array = NDArray[np.float64]

ALPHA = 0.05
"""One minus the nominal coverage of every interval; the chance of any error that a family of claims may have."""

NO_ERROR = 1e-12
"""Standard errors below this share of the estimate are rounding."""


class Interval(NamedTuple):
    """Ends of an interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Moments:
    """An estimate with its standard error: all that Student's t needs."""

    mean: float
    error: float
    """Standard error of the mean."""
    df: float
    """Degrees of freedom; infinite for the normal distribution."""

    @property
    def p(self) -> float:
        """Two-sided p of the hypothesis that the truth is 0."""
        if self.error <= NO_ERROR * max(1.0, abs(self.mean)):
            return 0.0 if abs(self.mean) > NO_ERROR else 1.0
        return 2 * t_below(-abs(self.mean) / self.error, self.df)

    def interval(self, level: float = ALPHA) -> Interval:
        """The interval that misses the truth with probability `level`."""
        half = t_limit(self.df, level) * self.error
        return Interval(self.mean - half, self.mean + half)

    def p_within(self, low: float, high: float) -> float:
        """p of the hypothesis that the truth lies outside low to high: two one-sided tests (Schuirmann 1987)."""
        if self.error <= NO_ERROR * max(1.0, abs(self.mean)):
            return 0.0 if low < self.mean < high else 1.0
        return max(t_below((low - self.mean) / self.error, self.df), t_below((self.mean - high) / self.error, self.df))


def moments(values: Sequence[float]) -> Moments | None:
    """Moments of one value per seed; None if there are fewer than two."""
    if len(values) < 2:
        return None
    n = len(values)
    return Moments(float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(n), n - 1)


def t_limit(df: float, level: float = ALPHA) -> float:
    """The Student t whose absolute value is exceeded with probability `level`."""
    return float(ndtri(1 - level / 2) if math.isinf(df) else stdtrit(df, 1 - level / 2))


def t_below(t: float, df: float) -> float:
    """The probability that a Student t is below this one."""
    return float(ndtr(t) if math.isinf(df) else stdtr(df, t))
