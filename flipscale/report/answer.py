"""The answer of a study in plain words, which claim no more than the comparison's intervals."""

from collections.abc import Sequence

from flipscale.compare import Claim, Comparison, Effect, Finding, gain_words, reach_words, speedup_words, verdicts
from flipscale.report.charts import LOSS, scores_of
from flipscale.report.evidence import Evidence
from flipscale.report.markup import details, listed, text
from flipscale.scores import is_fraction, lower_is_better, score_label
from flipscale.words import count, joined, score_value

FEW_ARMS = 4
"""Arms up to here get a sentence each at the top; of more the counts are said, and the verdicts are folded away."""

FEW_SERIES = 2
"""Series up to here have their speed-ups told one by one, of more it is counted how many are faster."""

FEW_VERDICTS = 3
"""Verdicts up to here stand unfolded."""

GAINS = {
    Effect.AHEAD: "better",
    Effect.BEHIND: "worse",
    Effect.NOT_SIGNIFICANT: str(Effect.NOT_SIGNIFICANT),
    Effect.ONE_SEED: "one seed, so no interval,",
}
"""What the gain of an arm is, by its effect."""

SPEEDS: dict[Effect | None, str] = {
    Effect.NOT_SIGNIFICANT: GAINS[Effect.NOT_SIGNIFICANT],
    Effect.ONE_SEED: GAINS[Effect.ONE_SEED],
    Effect.AHEAD: "faster",
    Effect.BEHIND: "slower",
    None: "different at different scores",
}
"""What the speed-up of an arm is."""


def answer(evidence: Evidence) -> str:
    """The section's HTML: what may still change, the answer arm by arm, and compare's verdicts."""
    comparison = evidence.comparison
    parts = _unfinished(evidence)
    if comparison is None or not comparison.arms:
        why = evidence.why_no_comparison if comparison is None else " ".join(comparison.notes)
        return "\n".join([*parts, f'<div class="lead">{_scores(evidence)}<p>{text(why)}</p></div>'])
    parts.append(f'<div class="lead">{_lead(evidence, comparison)}</div>')
    if sentences := verdicts(comparison):
        in_words = listed([text(sentence) for sentence in sentences])
        # Without twins the words on the curves are all there is to say, so they are not folded away.
        many = bool(comparison.pairs) and len(sentences) > FEW_VERDICTS
        parts.append(details("Every series and arm in words", in_words) if many else f"<h3>In detail</h3>\n{in_words}")
    if comparison.pairs:
        parts.append(_meaning(evidence, comparison))
    return "\n".join(parts)


def _unfinished(evidence: Evidence) -> list[str]:
    """Notes on runs that are not in the results yet."""
    unfinished = len(evidence.planned.cells) - len(evidence.results)
    parts = []
    if unfinished and not evidence.results.empty:
        parts.append(
            f'<p class="note">{unfinished} of {count(len(evidence.planned.cells), "run")} are not in results.csv yet, '
            "so what follows may change.</p>"
        )
    if evidence.uncollected:
        parts.append(
            f'<p class="note">{count(evidence.uncollected, "run")} finished since the results were collected; '
            f"<code>flipscale collect</code> adds them.</p>"
        )
    return parts


def _meaning(evidence: Evidence, comparison: Comparison) -> str:
    """What a gain is, and when it is called better or worse."""
    baseline = text(evidence.arm_names[0]) if evidence.arm_names else "the baseline"
    claims = comparison.gains_claimed
    together = f" CIs are corrected for {claims} comparisons (Holm)." if claims > 1 else ""
    return (
        f'<p class="small">A gain is the difference in {text(score_label(comparison.score))} to the run of the same '
        f"seed and settings that differs in the arm alone ({baseline}). It is better or worse where the 95 % CI over "
        f"seeds excludes 0; with few seeds the CI is wide.{together}</p>"
    )


def _scores(evidence: Evidence) -> str:
    """The scores of a study without a comparison: the best cell and the worst, by their means over seeds."""
    scores = scores_of(evidence)
    if not scores:
        return ""
    score = scores[0]
    rows = evidence.results[evidence.results[score].notna()].assign(cell=lambda rows: rows["cell"].fillna(""))
    cells = rows.groupby(["cell", "arm"], sort=False)[score].agg(["mean", "count"]).astype({"mean": float})
    name = score_label(score).capitalize()
    if score == LOSS:
        low, high = cells["mean"].min(), cells["mean"].max()
        span = f"{low:.4g}" if len(cells) == 1 else f"{low:.4g} to {high:.4g} in {len(cells)} cells"
        masked = evidence.results["mask_ratio"].nunique() > 1
        unlike = " Losses at different mask ratios are not comparable: masked runs see fewer patches." if masked else ""
        return f"<p><strong>{text(name)}</strong>: {span}.{unlike}</p>\n"
    lower = bool(lower_is_better(score))
    ordered = cells.sort_values("mean", ascending=lower, kind="stable")

    def said(number: int) -> str:
        (cell, arm), (mean, n) = ordered.index[number], ordered.iloc[number]
        value = score_value(mean, is_fraction(score))
        several = evidence.results["arm"].nunique() > 1
        where = ", ".join(filter(None, (cell, arm if several else "")))
        runs = f"mean of {n:.0f} runs" if n > 1 else "one run"
        return f"{value} ({text(f'{where}; {runs}' if where else runs)})"

    if len(ordered) == 1:
        return f"<p><strong>{text(name)}</strong>: {said(0)}.</p>\n"
    return f"<p><strong>{text(name)}</strong>: best {said(0)}, worst {said(-1)}, of {len(ordered)} cells.</p>\n"


def _lead(evidence: Evidence, comparison: Comparison) -> str:
    """The answer in plain words: the gain at equal samples, arm by arm where they are few."""
    by_arm: dict[str, list[Claim]] = {}
    for claim in comparison.claims:
        if claim.gain is not None:
            by_arm.setdefault(claim.arm, []).append(claim)
    if not by_arm:
        along = " What the curves along the schedule say:" if comparison.claims else ""
        return f"<p>No run has a twin among the baseline's, so nothing can be said at equal samples.{along}</p>"
    words = evidence.arm_words
    if len(by_arm) <= FEW_ARMS:
        return "\n".join(
            f"<p><strong>{text(words.get(arm, arm).capitalize())}</strong>: {text(_gains(comparison, claims))}"
            f"{text(_in_time(comparison, arm))}</p>"
            for arm, claims in by_arm.items()
        )
    every = [claim for claims in by_arm.values() for claim in claims]
    best, worst = (
        f"<strong>{text(words.get(claim.arm, claim.arm))}</strong>, {text(gain_words(comparison, _gain(claim)))}"
        for pick in (max, min)
        for claim in [pick(every, key=lambda claim: _gain(claim).value)]
    )
    return f"<p>{len(by_arm)} arms, {text(_gains(comparison, every))}</p>\n<p>Best: {best}. Worst: {worst}.</p>"


def _gain(claim: Claim) -> Finding:
    assert claim.gain is not None
    return claim.gain


def _gains(comparison: Comparison, claims: Sequence[Claim]) -> str:
    """'at equal samples, in 5 comparisons: worse in 2 (by 9.2 to 10.6 points) and no significant difference in 3.'"""
    at = f"at equal {comparison.at or 'samples'}"
    if len(claims) == 1:
        return f"{at}: {gain_words(comparison, _gain(claims[0]))}."
    by_effect = {effect: [claim for claim in claims if _gain(claim).effect is effect] for effect in Effect}
    counts = [
        f"{GAINS[effect]} in {len(of_effect)}"
        f"{(_span if _gain(of_effect[0]).significant else _means)(comparison, of_effect)}"
        for effect, of_effect in by_effect.items()
        if of_effect
    ]
    longest = " (at the longest schedule)" if len({pair.at for pair in comparison.pairs}) > 1 else ""
    return f"{at}{longest}, in {count(len(claims), 'comparison')}: {joined(counts)}."


def _in_time(comparison: Comparison, arm: str) -> str:
    """What the arm does to training time at equal score, series by series if they are few; '' where no curve says."""
    claims = [claim for claim in comparison.claims if claim.arm == arm and claim.speedups]
    if len(claims) > FEW_SERIES:
        effects = [SPEEDS[claim.effect] for claim in claims]
        counts = [f"{words} in {effects.count(words)}" for words in dict.fromkeys(effects)]
        return f" In training time to equal score, in {len(claims)} series: {joined(counts)}."
    sentences = []
    for claim in claims:
        where = f"With {claim.series} it" if claim.series else "It"
        reached = [
            f"reaches {reach_words(comparison, speedup)}, {_with(speedup.finding)}"
            f"{speedup_words(speedup.finding, 'training time')}"
            for speedup in claim.speedups
        ]
        sentences.append(f" {where} {joined(reached)}.")
    return "".join(sentences)


def _with(found: Finding) -> str:
    return "with " if found.effect is Effect.NOT_SIGNIFICANT else ""


def _means(comparison: Comparison, claims: Sequence[Claim]) -> str:
    """' (means of −38.8 to −5.4 points)'."""
    scale, digits, unit = (100, ".1f", " points") if comparison.fraction else (1, ".2g", "")
    values = [_gain(claim).value for claim in claims]
    ends = [f"{scale * value:+{digits}}".replace("-", "−") for value in (min(values), max(values))]
    return f" (mean {ends[0]}{unit})" if ends[0] == ends[1] else f" (means {ends[0]} to {ends[1]}{unit})"


def _span(comparison: Comparison, claims: Sequence[Claim]) -> str:
    """' (by 9.2 to 10.6 points)'."""
    sizes = sorted(abs(_gain(claim).value) for claim in claims)
    first, last = _amount(comparison, sizes[0]), _amount(comparison, sizes[-1])
    unit = " points" if comparison.fraction else ""
    where = f", {claims[0].series}" if len(claims) == 1 and claims[0].series else ""
    return f" (by {first}{unit}{where})" if first == last else f" (by {first} to {last}{unit})"


def _amount(comparison: Comparison, size: float) -> str:
    return f"{100 * size:.1f}" if comparison.fraction else f"{size:.2g}"
