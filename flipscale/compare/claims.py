"""The claims of a comparison about each series and arm: gain at its longest schedule, and speed-up at equal score.

Only this module decides the claims and their intervals. Verdicts, tables, figures and the report state them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flipscale.compare.estimates import Effect, Estimate, Finding, corrected, finding
from flipscale.compare.parts import Curve, Level, Miss, Pair

SAME = 1.1
"""Speed-ups within this factor count as equal where the range of a curve's speed-ups is claimed."""


@dataclass(frozen=True)
class SpeedupClaim:
    """A speed-up at one score."""

    score: float
    at_best: bool
    """Whether that is the baseline's best score. Else it is one that both curves pass through."""
    finding: Finding


@dataclass(frozen=True)
class Claim:
    """Everything that is claimed about one arm in one series."""

    series: str
    arm: str
    curve: Curve
    """Along the first cost."""
    pair: Pair | None
    """The twins of its longest schedule; None where no run has one."""
    gain: Finding | None
    """Their gain."""
    speedups: tuple[SpeedupClaim, ...]
    """Along the first cost. Two where one shift is rejected, as one number is then not enough."""

    @property
    def effect(self) -> Effect | None:
        """The effect that its speed-ups agree on. None if there is no speed-up, or if two disagree."""
        effects = {speedup.finding.effect for speedup in self.speedups}
        return effects.pop() if len(effects) == 1 else None


def corrected_curves(curves: Sequence[Curve], cost: str) -> tuple[Curve, ...]:
    """Curves whose claimed speed-ups are corrected for all of them: one family."""
    levels = [
        ((curve.series, curve.arm), level) for curve in curves if curve.x == cost for level in claimed_levels(curve)
    ]
    speedups: dict[tuple[str, str], dict[float, Estimate]] = {}
    for (key, level), speedup in zip(levels, corrected([level.speedup for _, level in levels]), strict=True):
        speedups.setdefault(key, {})[level.score] = speedup
    return tuple(
        _with_speedups(curve, speedups.get((curve.series, curve.arm), {})) if curve.x == cost else curve
        for curve in curves
    )


def claims_of(pairs: Sequence[Pair], curves: Sequence[Curve], cost: str) -> tuple[Claim, ...]:
    """The claims of corrected pairs and curves, one for each series and arm."""
    longest = _longest(pairs)
    claims = []
    for curve in curves:
        if curve.x != cost:
            continue
        pair = longest.get((curve.series, curve.arm))
        at_best = curve.missed in (None, Miss.ABOVE)
        speedups = tuple(
            SpeedupClaim(level.score, at_best and level.score == curve.target, finding(level.speedup))
            for level in claimed_levels(curve)
        )
        gain = finding(pair.gain) if pair else None
        claims.append(Claim(curve.series, curve.arm, curve, pair, gain, speedups))
    return tuple(claims)


def leading(claims: Sequence[Claim]) -> Claim | None:
    """The strongest claim of a speed-up: significant first, then at the baseline's best, then the fastest."""

    def says(claim: Claim) -> tuple[bool, bool, float]:
        found = claim.speedups
        return (
            any(speedup.finding.significant for speedup in found),
            any(speedup.at_best for speedup in found),
            max(speedup.finding.value for speedup in found),
        )

    return max((claim for claim in claims if claim.speedups), key=says, default=None)


def claimed_levels(curve: Curve) -> tuple[Level, ...]:
    """The scores at which a speed-up is claimed: the baseline's best, or the best score that both reach.

    If one shift is rejected there are two: the ends of the speed-up curve, or its smallest and its largest value if
    it goes beyond its ends by more than SAME.
    """
    if curve.target is None:
        return ()
    best = (Level(curve.target, curve.speedup),) if curve.speedup.mean is not None else curve.speedup_at[-1:]
    if curve.one_shift is None or not curve.one_shift.rejected:
        return best
    # The score of the last level is the target if the arm reaches it.
    levels = (*curve.speedup_at[:-1], *best)
    low, high = (pick(levels, key=_speedup) for pick in (min, max))
    first, last = levels[0], levels[-1]
    within = min(map(_speedup, (first, last))) <= SAME * _speedup(low)
    if within and _speedup(high) <= SAME * max(map(_speedup, (first, last))):
        return first, last
    return low, high


def _longest(pairs: Sequence[Pair]) -> dict[tuple[str, str], Pair]:
    """The pair of the longest schedule of each series and arm."""
    longest: dict[tuple[str, str], Pair] = {}
    for pair in pairs:
        before = longest.get((pair.series, pair.arm))
        if before is None or (pair.at or 0) > (before.at or 0):
            longest[pair.series, pair.arm] = pair
    return longest


def _with_speedups(curve: Curve, speedups: dict[float, Estimate]) -> Curve:
    """The curve with these speed-ups, by score, in place of its own."""
    at = tuple(Level(level.score, speedups.get(level.score, level.speedup)) for level in curve.speedup_at)
    best = curve.speedup
    if curve.target is not None and best.mean is not None:
        best = speedups.get(curve.target, best)
    return replace(curve, speedup=best, speedup_at=at)


def _speedup(level: Level) -> float:
    assert level.speedup.mean is not None
    return level.speedup.mean
