"""The smallest effect that a number of seeds can detect."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy.special import nctdtrinc

from flipscale.stats.student import ALPHA, t_limit

POWER = 0.8
"""The chance of finding a difference as large as the detectable one."""

MOST_SEEDS = 1000
"""The search for a number of seeds ends here: nobody trains more."""


@dataclass(frozen=True)
class Design:
    """What decides how small a difference can be found: the scatter of differences, and the number of tests."""

    sd: float
    """Standard deviation of the differences between twins from seed to seed."""
    df: Callable[[int], float]
    """Degrees of freedom of that many seeds."""
    comparisons: int = 1
    """Tests of the family; the detectable difference is that of the test which Holm judges first."""

    def detectable(self, seeds: int) -> float | None:
        """The smallest difference that this many seeds find with a chance of POWER. None for too few seeds."""
        df = self.df(seeds)
        if df <= 0 or seeds < 1:
            return None
        limit = t_limit(df, ALPHA / self.comparisons)
        return float(nctdtrinc(df, 1 - POWER, limit)) * self.sd / math.sqrt(seeds)

    def seeds_for(self, difference: float) -> int | None:
        """The fewest seeds that find a difference; None above MOST_SEEDS."""
        for seeds in range(2, MOST_SEEDS + 1):
            found = self.detectable(seeds)
            if found is not None and found <= abs(difference):
                return seeds
        return None
