"""What a comparison states about each series and arm: its gain at the longest schedule, and its speed-up.

Only this module decides that. Verdicts, tables, figures and the report repeat it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from flipscale.compare.estimates import Finding, corrected, finding
from flipscale.compare.parts import Curve, Pair
from flipscale.compare.stated import TIME, StudyClaims
from flipscale.study import Expectation


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


def corrected_curves(curves: Sequence[Curve], cost: str, stated: StudyClaims | None, looks: int) -> tuple[Curve, ...]:
    """Curves whose speed-ups along the first cost are those of claims, or corrected for all others: one family."""
    decided = [_of_claims(curve, stated) if stated and curve.x == TIME == cost else curve for curve in curves]
    speedups = [curve.speedup.speedup if curve.speedup and curve.x == cost else None for curve in decided]
    judged = iter(corrected([found for found in speedups if found and not found.corrected], looks))
    return tuple(
        replace(curve, speedup=replace(curve.speedup, speedup=next(judged)))
        if curve.speedup and found and not found.corrected
        else curve
        for curve, found in zip(decided, speedups, strict=True)
    )


def _of_claims(curve: Curve, stated: StudyClaims) -> Curve:
    """The curve with the speed-up, and the samples, of claims about the same reading."""
    found = curve.speedup
    if found is None or curve.sides is None:
        return curve
    faster, fewer = (
        stated.factor(expect, curve.sides, found.at) for expect in (Expectation.FASTER, Expectation.FEWER_SAMPLES)
    )
    if fewer and fewer.low is not None and fewer.high is not None and fewer.high < math.inf:
        found = replace(found, samples=replace(found.samples, low=1 / fewer.high, high=1 / fewer.low))
    return replace(curve, speedup=replace(found, speedup=faster or found.speedup))


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
