"""Two groups of independent runs: their means, one run against several, and what more runs would find."""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from flipscale.analysis.stats.power import MOST_SEEDS, detectable
from flipscale.analysis.stats.student import Moments, moments

SizeOf = Callable[[float, float, float], float]
"""What a standard error, its degrees of freedom and a level find."""

FEW_COUNT_MORE = 4
"""In a family, a variance weighs ((n + 1) / (n - 1)) to this power in the degrees of freedom. A group of three that
scatters little by luck lent its test those of a baseline of ten, and at Holm's levels families of three arms erred in
.11, now in .06 or less for 3 to 10 runs. Groups of equal size are those of Satterthwaite."""


@dataclass(frozen=True)
class TwoGroups:
    """The runs of a baseline and of an arm. A group of one run has the variance of the other."""

    baseline: tuple[float, ...]
    arm: tuple[float, ...]
    paired: bool = False
    """Whether the k-th of both are twins."""
    in_family: bool = False
    """Whether it is judged among others, at stricter levels."""

    @property
    def differences(self) -> list[float]:
        """Of twins, arm minus baseline."""
        return [ours - base for base, ours in zip(self.baseline, self.arm, strict=True)]

    @property
    def moments(self) -> Moments | None:
        """The difference of the means; None of one run each."""
        if self.paired:
            return moments(self.differences)
        return self.with_more(0)

    def with_more(self, runs: int) -> Moments | None:
        """The same difference if each group had this many more runs, or there were this many more pairs.

        Welch's t with the degrees of freedom of Satterthwaite (1946). With one run in a group its standard error is
        s sqrt(1 + 1/n), that of a prediction.
        """
        if self.paired:
            found = moments(self.differences)
            n = len(self.arm)
            more = n + runs
            return found and Moments(found.mean, found.error * math.sqrt(n / more), more - 1)
        spread = [np.var(group, ddof=1) for group in (self.baseline, self.arm) if len(group) > 1]
        if not spread:
            return None
        sizes = [len(self.baseline) + runs, len(self.arm) + runs]
        parts = [float(spread[0]) / sizes[0], float(spread[-1]) / sizes[1]]
        mean = float(np.mean(self.arm) - np.mean(self.baseline))
        df = float(max(sizes) - 1)
        if min(sizes) > 1 and sum(parts) > 0:
            power = FEW_COUNT_MORE if self.in_family else 0
            known = [part * ((size + 1) / (size - 1)) ** power for part, size in zip(parts, sizes, strict=True)]
            df = sum(known) ** 2 / sum(part**2 / (size - 1) for part, size in zip(known, sizes, strict=True))
        return Moments(mean, math.sqrt(sum(parts)), df)

    def smallest_found(self, more: int, level: float) -> float | None:
        """The smallest difference that this many more runs would find."""
        found = self.with_more(more)
        return detectable(found.error, found.df, level) if found else None

    def more_for(self, size: float, level: float, size_of: SizeOf = detectable) -> int | None:
        """The fewest more runs in each group that find a difference of this size; None above MOST_SEEDS.

        size_of: `provable_margin` for those that show a difference of 0 to be within it.
        """

        def is_enough(more: int) -> bool:
            found = self.with_more(more)
            return found is not None and size_of(found.error, found.df, level) <= size

        more = bisect_left(range(MOST_SEEDS), True, key=is_enough)
        return more if more < MOST_SEEDS else None
