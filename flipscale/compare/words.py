"""The verdicts of a comparison on each arm: one sentence per claim, in no stronger words than its intervals allow."""

from collections.abc import Sequence

from flipscale.compare.claims import Claim
from flipscale.compare.columns import Baseline, settings_words
from flipscale.compare.comparison import Comparison
from flipscale.compare.estimates import Effect, Finding
from flipscale.compare.parts import Miss, Pair, Speedup
from flipscale.words import (
    count,
    fixed,
    interval,
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
    clauses = [_speedup_clause(comparison, claim)] if claim.curve.speedup or claim.pair is None else []
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


def target_words(comparison: Comparison, speedup: Speedup) -> str:
    """The score at which a speed-up is read, as '83.1 %, the baseline's mean at 16k'."""
    at = "its last but one length" if speedup.at is None else short(speedup.at)
    return f"{score_words(comparison, speedup.score)}, the baseline's mean at {at}"


def speedup_words(found: Finding, cost: str) -> str:
    """'1.53x faster in gpu_hours (95 % CI 1.07 to 2.0, 2 seeds)', or that there is no significant difference."""
    speed = f"{'at least ' if found.at_least else ''}{speed_words(found.value)} in {cost}"
    if found.interval is None:
        return f"{speed} ({found.effect})"
    low, high = found.interval
    ci = ratio_interval(low, high, found.family, found.seeds)
    with_value = f"speed-up {times(found.value)}x, {ci}"
    if not found.significant:
        return f"{Effect.NOT_SIGNIFICANT} in {cost} ({with_value})"
    return f"{speed} ({ci if found.value >= 1 else with_value})"


def split_words(speedup: Speedup) -> str:
    """'4.7x cheaper a sample, 1.65x as many samples', each with its CI; '' where samples are unknown."""
    cheaper, samples = speedup.cheaper, speedup.samples
    if cheaper.mean is None or samples.mean is None:
        return ""

    def ci(ends: tuple[float, float] | None) -> str:
        return "" if ends is None or ends[1] - ends[0] < 0.005 * ends[1] else f" ({ratio_interval(*ends)})"

    price = f"{times(cheaper.mean)}x cheaper" if cheaper.mean >= 1 else f"{times(1 / cheaper.mean)}x dearer"
    many = f"{'at most ' if speedup.missed else ''}{times(samples.mean)}x as many samples"
    return f"{price} a sample{ci(cheaper.interval)}, {many}{'' if speedup.missed else ci(samples.interval)}"


def _speedup_clause(comparison: Comparison, claim: Claim) -> str:
    curve, found = claim.curve, claim.speedup
    if curve.speedup is None:
        return f"no speed-up in {curve.x} ({curve.why})"
    target = target_words(comparison, curve.speedup)
    if found is None:
        return f"no speed-up in {curve.x} to {target}: it {curve.speedup.speedup.why}"
    split = split_words(curve.speedup)
    is_it = "" if found.effect is Effect.NOT_SIGNIFICANT else "it is "
    already = ", as its shortest schedule is better already" if curve.speedup.missed is Miss.ABOVE else ""
    return f"to {target}, {is_it}{speedup_words(found, curve.x)}{already}{f': {split}' if split else ''}"


# Gains


def gain_words(comparison: Comparison, gain: Finding) -> str:
    """'7.2 points worse (95 % CI -9.2 to -5.2)', or that there is no significant difference, or that they are level."""
    size = size_words(comparison, abs(gain.value)).lstrip("+")
    better = f"{size} {'better' if gain.value >= 0 else 'worse'}"
    if gain.failures is not None:
        theirs, ours = gain.failures
        exact = f"fails in {ours} of {count(gain.seeds, 'run')}, the baseline in {theirs}; exact p = {gain.p or 1:.2g}"
        return f"{better} ({exact})" if gain.significant else f"{Effect.NOT_SIGNIFICANT} ({better}; {exact})"
    if gain.interval is None:
        return f"{better} ({gain.effect})"
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


def _gain_clause(comparison: Comparison, pair: Pair, gain: Finding) -> str:
    at = f"at equal {comparison.at} " if comparison.at else ""
    at += f"({short(pair.at)}) " if pair.at is not None else ""
    it_is = "" if gain.effect is Effect.NOT_SIGNIFICANT else "it is "
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
