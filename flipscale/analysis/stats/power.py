"""The smallest effect that a number of seeds can detect."""

import math
from dataclasses import dataclass

from scipy.special import nctdtrinc

from flipscale.analysis.stats.student import ALPHA, Moments, t_limit
from flipscale.analysis.stats.variance import OWN_SEEDS, PRIOR_DF

POWER = 0.8
"""The chance of finding a difference as large as the detectable one."""

MOST_SEEDS = 1000
"""The search for a number of seeds ends here: nobody trains more."""


def detectable(error: float, df: float, level: float) -> float:
    """The smallest difference that a test at this level finds with a chance of POWER, by its standard error."""
    return float(nctdtrinc(df, 1 - POWER, t_limit(df, level))) * error


def provable_margin(error: float, df: float, level: float) -> float:
    """The smallest margin within which a difference of 0 is shown to be.

    Two one-sided tests (Schuirmann 1987): both succeed with a chance of POWER.
    """
    return (t_limit(df, 2 * level) + t_limit(df, 1 - POWER)) * error


@dataclass(frozen=True)
class Design:
    """What decides how small a difference can be found: the scatter of differences, and the number of tests."""

    sd: float
    """Standard deviation of the differences between twins from seed to seed."""
    prior_df: float
    """Degrees of freedom that the other cells add to those of fewer than OWN_SEEDS seeds. Those of a reading off curves
    are more than PRIOR_DF, and are added to any number of seeds."""
    comparisons: int = 1
    """Tests of the family; the detectable difference is that of the test which Holm judges first."""
    looks: int = 1
    """At the results, by each of which 5 % is divided."""

    def detectable(self, seeds: int) -> float | None:
        """The smallest difference that this many seeds find with a chance of POWER. None for too few seeds."""
        if seeds < 2:
            return None
        return detectable(self.sd / math.sqrt(seeds), self._df(seeds), ALPHA / self.comparisons / self.looks)

    def seeds_for(self, difference: float) -> int | None:
        """The fewest seeds that find a difference; None above MOST_SEEDS."""
        sizes = ((seeds, self.detectable(seeds)) for seeds in range(2, MOST_SEEDS + 1))
        return next((seeds for seeds, size in sizes if size is not None and size <= abs(difference)), None)

    def seeds_for_level(self, margin: float) -> int | None:
        """The fewest seeds that show a difference of 0 to be within a margin; None above MOST_SEEDS."""
        for seeds in range(2, MOST_SEEDS + 1):
            error = self.sd / math.sqrt(seeds)
            if provable_margin(error, self._df(seeds), ALPHA / self.comparisons / self.looks) <= margin:
                return seeds
        return None

    def _df(self, seeds: int) -> float:
        is_shrunk = seeds < OWN_SEEDS or self.prior_df > PRIOR_DF
        return seeds - 1 + (self.prior_df if is_shrunk else 0)


def design_by(moments: Moments, seeds: int, comparisons: int = 1, looks: int = 1) -> Design:
    """The design of a difference over these seeds, by its standard error: its cell may have kept its own variance."""
    prior_df = min(PRIOR_DF, moments.df - (seeds - 1))
    return Design(moments.error * math.sqrt(seeds), prior_df, comparisons, looks)


@dataclass(frozen=True)
class Sensitivity:
    """How small a difference the seeds of a study can detect, at the base cell and corrected for all comparisons."""

    seeds: int
    detectable: float | None
    """In the score's own unit, with a chance of 80 %. None with too few seeds."""
    with_twice: float | None
    """The same with as many seeds again."""
    comparisons: int
    """Gains that all of this is corrected for."""
    effect: float | None
    """A difference that matters, and ..."""
    seeds_for_effect: int | None
    """... how many seeds detect it. None beyond a thousand."""


def sensitivity_of(design: Design, seeds: int, effect: float | None) -> Sensitivity:
    """What these seeds detect, and what more would."""
    return Sensitivity(
        seeds=seeds,
        detectable=design.detectable(seeds),
        with_twice=design.detectable(2 * seeds),
        comparisons=design.comparisons,
        effect=effect,
        seeds_for_effect=None if effect is None else design.seeds_for(effect),
    )
