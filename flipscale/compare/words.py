"""The verdicts of a comparison on each arm: one sentence per claim, in no stronger words than its intervals allow."""

from collections.abc import Sequence

from flipscale.compare.claims import Claim, SpeedupClaim
from flipscale.compare.columns import Baseline, settings_words
from flipscale.compare.comparison import Comparison
from flipscale.compare.estimates import Effect, Finding
from flipscale.compare.parts import Curve, Miss, Pair
from flipscale.words import (
    count,
    fixed,
    interval,
    joined,
    margin_words,
    ratio_interval,
    score_value,
    short,
    signed,
    times,
)


def verdicts(comparison: Comparison) -> list[str]:
    """One sentence for each series and arm."""
    return [verdict(comparison, claim) for claim in comparison.claims]


def verdict(comparison: Comparison, claim: Claim) -> str:
    """The sentence of a claim."""
    # Without a curve, the gain alone is the sentence.
    clauses = [_speedup_clause(comparison, claim)] if claim.curve.target is not None or claim.pair is None else []
    if claim.pair and claim.gain:
        clauses.append(_gain_clause(comparison, claim.pair, claim.gain))
    return f"{name_of(claim.series, claim.arm)}: {'; '.join(clauses)}."


def nothing_to_compare(baseline: Baseline, score: str) -> str:
    """The sentence of a comparison without arms."""
    if not baseline:
        return "The study names no baseline, so there is nothing to compare."
    return f"Every run with {score} is the baseline {settings_words(baseline)}, so there is nothing to compare it with."


def name_of(series: str, arm: str) -> str:
    """'model=ViT-B-16, mask_ratio=0.5', or the arm alone where there is one series."""
    return f"{series}, {arm}" if series else arm


def score_words(comparison: Comparison, score: float) -> str:
    """A score as a reader knows it: a fraction in percent."""
    return score_value(score, comparison.fraction)


# Speed-ups


def speed_words(factor: float) -> str:
    """'1.53x faster', '1.20x slower'."""
    return f"{times(factor)}x faster" if factor >= 1 else f"{times(1 / factor)}x slower"


def reach_words(comparison: Comparison, speedup: SpeedupClaim) -> str:
    """The score at which a speed-up is read, as '78.6 %, the highest both reach'."""
    which = "the baseline's best" if speedup.at_best else f"the {_best(comparison)} both reach"
    return f"{score_words(comparison, speedup.score)}, {which}"


def speedup_words(found: Finding, cost: str, spread: str = "") -> str:
    """'1.53x faster in gpu_hours (95 % CI 1.07 to 2.0, 2 seeds)', or that there is no significant difference."""
    speed = f"{'at least ' if found.at_least else ''}{speed_words(found.value)} in {cost}"
    if found.effect is Effect.TOO_FEW_SEEDS:
        return f"{Effect.NOT_SIGNIFICANT} in {cost} ({speed_words(found.value)}; {seeds_are_too_few(found.seeds)})"
    if found.interval is None:
        return f"{speed} ({spread}{Effect.ONE_SEED})"
    low, high = found.interval
    ci = ratio_interval(low, high, found.family, found.seeds)
    with_value = f"speed-up {times(found.value)}x, {ci}"
    if not found.significant:
        return f"{Effect.NOT_SIGNIFICANT} in {cost} ({with_value})"
    return f"{speed} ({ci if found.value >= 1 else with_value})"


def _speedup_clause(comparison: Comparison, claim: Claim) -> str:
    curve = claim.curve
    if curve.target is None:
        return f"no speed-up in {curve.x} ({curve.why})"
    best = f"the baseline's best {comparison.score} ({score_words(comparison, curve.target)})"
    missed = _missed_words(curve.missed, best)
    if len(claim.speedups) == 2:
        return missed + _range_words(comparison, claim)
    if not claim.speedups:
        return f"{missed}no score lies on both curves"
    (speedup,) = claim.speedups
    words = speedup_words(speedup.finding, curve.x, _spread(comparison, curve))
    significant = speedup.finding.effect not in (Effect.NOT_SIGNIFICANT, Effect.TOO_FEW_SEEDS)
    if curve.missed is Miss.ABOVE:
        return f"{missed}{'' if significant else 'there is '}{words}"
    if speedup.at_best:
        return f"reaches {best} {'' if significant else 'with '}{words}"
    return f"{missed}to {reach_words(comparison, speedup)}, {'it is' if significant else 'there is'} {words}"


def _missed_words(missed: Miss | None, best: str) -> str:
    """The sentence on an arm without a speed-up at the baseline's best; '' for one that has it."""
    if missed is None:
        return ""
    words = {
        Miss.BELOW: f"never reaches {best}",
        Miss.ABOVE: f"is better than {best} already at its shortest schedule",
        Miss.NO_COST: f"has no speed-up at {best}, as a cost is 0",
    }
    return f"{words[missed]}; "


def _range_words(comparison: Comparison, claim: Claim) -> str:
    """One shift is rejected, so the speed-up is a range over scores."""
    shift, found = claim.curve.one_shift, [speedup.finding for speedup in claim.speedups]
    assert shift is not None
    assert shift.p is not None
    p = "p < 0.001" if shift.p < 0.001 else f"p = {shift.p:.2g}"
    levels = []
    for speedup in claim.speedups:
        ends = speedup.finding.interval
        unsure = "" if speedup.finding.significant else ", not significant"
        ci = ratio_interval(*ends) if ends else seeds_are_too_few(speedup.finding.seeds)
        score = score_words(comparison, speedup.score)
        levels.append(f"{times(speedup.finding.value)}x to {score} ({ci}{unsure})")
    corrected = f"corrected for {found[0].family} comparisons, " if found[0].family > 1 else ""
    return (
        f"its speed-up in {claim.curve.x} depends on the score (one shift is rejected, {p}): {joined(levels)}, "
        f"{corrected}{found[0].seeds} seeds"
    )


def _spread(comparison: Comparison, curve: Curve) -> str:
    """How the speed-up varies with the score, where there is no test whether one number is enough."""
    speedups = [level.speedup.mean for level in curve.speedup_at if level.speedup.mean is not None]
    if not speedups or max(speedups) < 1.05 * min(speedups):
        return ""
    first, last = (score_words(comparison, curve.speedup_at[i].score) for i in (0, -1))
    return f"{times(min(speedups))}x to {times(max(speedups))}x between {first} and {last}; "


def _best(comparison: Comparison) -> str:
    return "lowest" if comparison.lower_is_better else "highest"


# Gains


def gain_words(comparison: Comparison, gain: Finding) -> str:
    """'7.2 points worse (95 % CI -9.2 to -5.2)', or that there is no significant difference, or that they are level."""
    size = size_words(comparison, abs(gain.value)).lstrip("+")
    better = f"{size} {'better' if gain.value >= 0 else 'worse'}"
    if gain.effect is Effect.TOO_FEW_SEEDS:
        return f"{Effect.NOT_SIGNIFICANT} ({size_words(comparison, gain.value)}; {seeds_are_too_few(gain.seeds)})"
    if gain.interval is None:
        return f"{better} ({Effect.ONE_SEED})"
    ci = gain_interval(comparison, gain.interval, gain.family)
    if gain.significant:
        return f"{better} ({ci})"
    if gain.effect is Effect.LEVEL:
        assert comparison.margin is not None
        margin = margin_words(comparison.margin, comparison.fraction)
        return f"level within {margin} ({size_words(comparison, gain.value)}, {ci})"
    return f"{Effect.NOT_SIGNIFICANT} ({size_words(comparison, gain.value)}, {ci})"


def gain_interval(comparison: Comparison, ends: Sequence[float], family: int = 1) -> str:
    """'95 % CI -9.2 to -5.2, corrected for 20 comparisons' of a gain."""
    low, high = (size_words(comparison, end).removesuffix(" points") for end in ends)
    return interval(low, high, family)


def seeds_are_too_few(seeds: int) -> str:
    """'2 seeds are too few for a CI'."""
    return f"{count(seeds, 'seed')} {'is' if seeds == 1 else 'are'} too few for a CI"


def _gain_clause(comparison: Comparison, pair: Pair, gain: Finding) -> str:
    at = f"at equal {comparison.at} " if comparison.at else ""
    at += f"({short(pair.at)}) " if pair.at is not None else ""
    it_is = "" if gain.effect in (Effect.NOT_SIGNIFICANT, Effect.TOO_FEW_SEEDS) else "it is "
    return f"{at}{it_is}{gain_words(comparison, gain)}{_cost_words(comparison, pair)}"


def _cost_words(comparison: Comparison, pair: Pair) -> str:
    """How the costs of twins compare, where they were measured and are not equal within their own interval."""
    x = comparison.costs[0]
    ratio = pair.ratios[x]
    ends = ratio.interval
    if x == comparison.at or ratio.mean in (None, 1) or (ends and ends[0] <= 1 <= ends[1]):
        return ""
    return f", and {speed_words(1 / ratio.mean)} in {x}"


def size_words(comparison: Comparison, gain: float) -> str:
    """A gain in words: '+0.8 points', '-0.021'."""
    return f"{fixed(100 * gain, sign=True)} points" if comparison.fraction else signed(gain)
