"""What a comparison states about each series and arm: its gain at the longest schedule, and its speed-up.

Only this module decides that. Verdicts, tables, figures and the report repeat it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flipscale.compare.estimates import Finding, corrected, finding
from flipscale.compare.parts import Curve, Pair


@dataclass(frozen=True)
class Claim:
    """What is stated about one arm in one series."""

    series: str
    arm: str
    curve: Curve
    """Along the first cost."""
    pair: Pair | None
    """The twins of its longest schedule; None where no run has one."""

    @property
    def gain(self) -> Finding | None:
        """The gain of those twins."""
        return finding(self.pair.gain) if self.pair else None

    @property
    def speedup(self) -> Finding | None:
        """To the baseline's mean at its last but one length; None where there is none."""
        found = self.curve.speedup
        return None if found is None or found.speedup.mean is None else finding(found.speedup)


def corrected_curves(curves: Sequence[Curve], cost: str) -> tuple[Curve, ...]:
    """Curves whose speed-ups along the first cost are corrected for all of them: one family."""
    family = [curve.speedup.speedup for curve in curves if curve.x == cost and curve.speedup]
    judged = iter(corrected(family))
    return tuple(
        replace(curve, speedup=replace(curve.speedup, speedup=next(judged)))
        if curve.x == cost and curve.speedup
        else curve
        for curve in curves
    )


def claims_of(pairs: Sequence[Pair], curves: Sequence[Curve], cost: str) -> tuple[Claim, ...]:
    """The claims of corrected pairs and curves, one for each series and arm."""
    longest: dict[tuple[str, str], Pair] = {}
    for pair in pairs:
        before = longest.get((pair.series, pair.arm))
        if before is None or (pair.at or 0) > (before.at or 0):
            longest[pair.series, pair.arm] = pair
    return tuple(
        Claim(curve.series, curve.arm, curve, longest.get((curve.series, curve.arm)))
        for curve in curves
        if curve.x == cost
    )


def leading(claims: Sequence[Claim]) -> Claim | None:
    """The strongest speed-up: significant first, then a number before a bound, then the fastest."""

    def rank(claim: Claim) -> tuple[bool, bool, float]:
        found = claim.speedup
        assert found is not None
        return found.significant, not found.at_least, found.value

    return max((claim for claim in claims if claim.speedup), key=rank, default=None)
