"""Many comparisons at once: Holm's procedure, valid however the comparisons depend on each other."""

from collections.abc import Sequence
from dataclasses import dataclass

from flipscale.analysis.stats.student import ALPHA


@dataclass(frozen=True)
class Judged:
    """One test of a family, after correction."""

    family: int
    """Tests in the family."""
    p: float
    """Corrected: the chance of any such result in the family if no effect were real."""
    level: float
    """The level at which it was judged: an interval at this level excludes 0 exactly when the test is significant."""

    @property
    def significant(self) -> bool:
        """Whether the test is significant at 5 % after correction for its family."""
        return self.p <= ALPHA


def holm(ps: Sequence[float | None], looks: int = 1) -> list[Judged | None]:
    """Each p corrected for all (Holm 1979). A test that was not made (None) is not counted, and stays None.

    Ordered by p, the k-th of m is judged at 5 % / (m - k + 1) as long as all before it were significant; the rest at
    the level at which the first of them failed. Equal p values are judged at one level, that of the first of them. The
    chance that any claim of the family has the wrong sign is then at most 5 %. Of several looks at the results each has
    5 % / looks (Bonferroni).
    """
    order = sorted((p, i) for i, p in enumerate(ps) if p is not None)
    judged: list[Judged | None] = [None] * len(ps)
    m = len(order)
    worst = 0.0
    failed = False
    share = len(order)
    before = -1.0
    for k, (p, i) in enumerate(order):
        if not failed and p > before:
            share = m - k
        before = p
        worst = max(worst, min(1.0, looks * (m - k) * p))
        failed = failed or worst > ALPHA
        judged[i] = Judged(m, worst, ALPHA / share / looks)
    return judged
