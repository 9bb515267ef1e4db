"""What a comparison says of each arm: one sentence, in no stronger words than its intervals allow.

Where several arms are spoken of, the intervals are those corrected for all of them (estimates.corrected).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flipscale.compare.estimates import LEVEL, Estimate
from flipscale.compare.parts import Curve, Pair
from flipscale.words import score_value, short, signed, times

if TYPE_CHECKING:
    from flipscale.compare.comparison import Comparison


def verdict(comparison: "Comparison", curve: Curve) -> str:
    """The sentence of a series and arm."""
    key = (curve.series, curve.arm)
    longest = next((pair for pair in comparison.told_pairs if (pair.series, pair.arm) == key), None)
    # Where there is no curve at all, the gain alone is the sentence.
    speedup = [_speedup_words(comparison, curve)] if curve.target is not None or longest is None else []
    clauses = [*speedup, *([_gain_words(comparison, longest)] if longest else [])]
    return f"{name_of(*key)}: {'; '.join(clauses)}."


def nothing_to_compare(baseline: Mapping[str, Any], score: str) -> str:
    """The sentence of a comparison without arms."""
    if not baseline:
        return "The study names no baseline, so there is nothing to compare."
    settings = ", ".join(f"{name}={short(value)}" for name, value in baseline.items())
    return f"Every run with {score} is the baseline {settings}, so there is nothing to compare it with."


def name_of(series: str, arm: str) -> str:
    """'model=ViT-B-16, mask_ratio=0.5', or the arm alone where there is one series."""
    return f"{series}, {arm}" if series else arm


def score_words(comparison: "Comparison", value: float) -> str:
    """A score as it is shown: a fraction in percent."""
    return score_value(value, comparison.fraction)


def _speedup_words(comparison: "Comparison", curve: Curve) -> str:
    if curve.target is None:
        return f"no speed-up in {curve.x} can be read ({curve.why})"
    best = f"the baseline's best {comparison.score} ({score_words(comparison, curve.target)})"
    if len(curve.told) == 2:
        return _range_words(comparison, curve, best)
    if curve.speedup.mean is not None:
        return f"reaches {best} {_factor_words(comparison, curve, curve.speedup)}"
    seen = f"no speed-up is read at {best}, as {curve.speedup.why}"
    if not curve.told:
        return f"{seen}, and no score is passed by both"
    level = curve.told[0]
    at = f"{score_words(comparison, level.score)}, the best that both have,"
    return f"{seen}; reaches {at} {_factor_words(comparison, curve, level.speedup)}"


def _range_words(comparison: "Comparison", curve: Curve, best: str) -> str:
    """One shift is rejected, so the speed-up is a range over scores."""
    assert curve.one_shift is not None
    assert curve.one_shift.p is not None
    lost = "" if curve.speedup.mean is not None else f"no speed-up is read at {best}, as {curve.speedup.why}; "
    p = "p < 0.001" if curve.one_shift.p < 0.001 else f"p = {curve.one_shift.p:.2g}"
    of_levels, intervals, shown, note = [], [], [], ""
    for level in curve.told:
        low, high, note = _ends(level.speedup)
        assert level.speedup.mean is not None
        assert low is not None
        assert high is not None
        of_levels.append(f"{times(level.speedup.mean)} at {score_words(comparison, level.score)}")
        intervals.append(f"{times(low)} to {times(high)}")
        shown.append(not low <= 1 <= high)
    unsure = (
        ""
        if all(shown)
        else ", of which only one is shown to differ from 1"
        if any(shown)
        else ", neither shown to differ from 1"
    )
    return (
        f"{lost}its speed-up in {curve.x} is no one number (one shift is rejected, {p}) but goes from "
        f"{' to '.join(of_levels)} (95 % intervals {' and '.join(intervals)}{note}, {len(curve.seeds)} seeds){unsure}"
    )


def _factor_words(comparison: "Comparison", curve: Curve, s: Estimate) -> str:
    assert s.mean is not None
    factor = f"{times(s.mean)} times faster" if s.mean >= 1 else f"{times(1 / s.mean)} times slower"
    low, high, note = _ends(s)
    if low is None or high is None:
        return f"{factor} in {curve.x}{_spread(comparison, curve)}, in the one seed there is, which gives no interval"
    interval = f"95 % interval of the speed-up {times(low)} to {times(high)}{note}, {s.n} seeds"
    if low <= 1 <= high:
        own = _own(s, times(s.low or 0), times(s.high or 0))
        return f"with no difference in {curve.x} shown (speed-up {times(s.mean)}; {own}{interval})"
    return f"{factor} in {curve.x} ({interval})"


def _spread(comparison: "Comparison", curve: Curve) -> str:
    """How the speed-up goes with the score, where there is no test whether one number does."""
    speedups = [level.speedup.mean for level in curve.speedup_at if level.speedup.mean is not None]
    if not speedups or max(speedups) < 1.05 * min(speedups):
        return ""
    first, last = (score_words(comparison, curve.speedup_at[i].score) for i in (0, -1))
    return f" (a speed-up of {times(min(speedups))} to {times(max(speedups))} over {first} to {last})"


def _ends(e: Estimate) -> tuple[float | None, float | None, str]:
    """The interval to speak of, and what it is corrected for."""
    if e.corrected is None:
        return e.low, e.high, ""
    several = f", corrected for {e.corrected.of} comparisons" if e.corrected.of > 1 else ""
    return e.corrected.low, e.corrected.high, several


def _own(e: Estimate, low: str, high: str) -> str:
    """The interval that a claim could make if it were the only one, where it alone would show a difference."""
    return f"{low} to {high} by itself, but " if e.p is not None and e.p <= LEVEL else ""


def _gain_words(comparison: "Comparison", pair: Pair) -> str:
    g = pair.gain
    at = f"at equal {comparison.at} " if comparison.at else ""
    at += f"({short(pair.at)}) " if pair.at is not None else ""
    assert g.mean is not None
    size = f"{_gain(comparison, abs(g.mean)).lstrip('+')} {'better' if g.mean >= 0 else 'worse'}"
    cost = _cost_words(comparison, pair)
    low, high, note = _ends(g)
    if low is None or high is None:
        return f"{at}it is {size}{cost}, in the one seed there is"
    interval = f"{_gain(comparison, low).removesuffix(' points')} to {_gain(comparison, high)}{note}"
    if low <= 0 <= high:
        own = _own(g, *(_gain(comparison, end or 0.0).removesuffix(" points") for end in (g.low, g.high)))
        if comparison.fraction and low <= -1 and high >= 1:
            # Wider than shares can differ: the number would only puzzle.
            interval = f"wider than all differences there can be, as there are {g.n} seeds{note}"
        return f"{at}a difference is not shown ({_gain(comparison, g.mean)}; {own}95 % interval {interval}){cost}"
    return f"{at}it is {size} (95 % interval {interval}){cost}"


def _cost_words(comparison: "Comparison", pair: Pair) -> str:
    """How the costs of twins compare, where they were measured and are not equal within their own interval."""
    x = comparison.costs[0]
    ratio = pair.ratios[x]
    ends = ratio.interval
    if x == comparison.at or ratio.mean is None or (ends and ends[0] <= 1 <= ends[1]):
        return ""
    factor = f"{times(1 / ratio.mean)} times faster" if ratio.mean < 1 else f"{times(ratio.mean)} times slower"
    return f", and {factor} in {x}"


def _gain(comparison: "Comparison", value: float) -> str:
    return f"{100 * value:+.1f} points" if comparison.fraction else signed(value)
