"""From size to loss, and from loss to a score: what runs too small to have a useful score say about larger ones.

The loss falls smoothly where a score is still at chance, so each step is fitted where it can be (arXiv 2403.08540). The
first step needs no score and the second no size: each takes the rows that have what it needs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from numpy.typing import ArrayLike

from flipscale.fit.fitted import Fit
from flipscale.fit.fitting import Options, fit
from flipscale.stats import Array


@dataclass(frozen=True)
class TwoStep:
    """Two laws in a row."""

    first: Fit
    """Size to loss."""
    second: Fit
    """Loss to score."""

    @property
    def steps(self) -> tuple[Fit, Fit]:
        return self.first, self.second

    def predict(self, values: Mapping[str, ArrayLike]) -> Array:
        """The score [n] at values of the first step's columns."""
        return self.second.predict({self.second.x[0]: self.first.predict(values)})


def two_step(
    table: pd.DataFrame,
    law: str | None = None,
    *,
    x: Sequence[str],
    through: str,
    y: str,
    second: str = "exponential",
    options: Options | None = None,
) -> TwoStep:
    """Fit `law` (by the number of variables if left out) to the loss `through`, and `second` from that loss to y.

    `fixed` and `tied` of the options are the first step's. Raises ResultsError as `fit` does.
    """
    options = options or Options()
    first = fit(table, law, x=x, y=through, options=replace(options, accuracy=False))
    after = replace(options, fixed=None, tied=None, linear=False, loss=None, frontier=None)
    return TwoStep(first, fit(table, second, x=[through], y=y, options=after))
