"""The answer of a study in plain words, which claim no more than the comparison's intervals."""

from collections.abc import Sequence

from flipscale.compare import Comparison, Curve, Estimate, Pair
from flipscale.report.charts import LOSS, scores_of
from flipscale.report.evidence import Evidence
from flipscale.report.markup import details, listed, text
from flipscale.scores import is_fraction, lower_is_better, score_label
from flipscale.words import count, joined, score_value, times

FEW_ARMS = 4
"""Arms up to here get a sentence each at the top; of more the counts are said, and the verdicts are folded away."""

FEW_SERIES = 2
"""Series up to here have their speed-ups told one by one, of more it is counted how many are faster."""

FEW_VERDICTS = 3
"""Verdicts up to here stand unfolded."""

NOT_SHOWN, ONE_SEED = "no difference shown", "one seed, so no interval,"


def answer(evidence: Evidence) -> str:
    """The section's HTML: what may still change, the answer arm by arm, and compare's verdicts."""
    comparison = evidence.comparison
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
    if comparison is None or not comparison.arms:
        why = evidence.why_no_comparison if comparison is None else " ".join(comparison.notes)
        return "\n".join([*parts, f'<div class="lead">{_scores(evidence)}<p>{text(why)}</p></div>'])
    parts.append(f'<div class="lead">{_lead(evidence, comparison)}</div>')
    verdicts = listed([text(verdict) for verdict in comparison.verdicts])
    # Without twins the words on the curves are all there is to say, so they are not folded away.
    many = bool(comparison.pairs) and len(comparison.verdicts) > FEW_VERDICTS
    if comparison.verdicts:
        parts.append(details("Every series and arm in words", verdicts) if many else f"<h3>In detail</h3>\n{verdicts}")
    if not comparison.pairs:
        return "\n".join(parts)
    baseline = text(evidence.arm_names[0]) if evidence.arm_names else "the baseline"
    parts.append(
        f'<p class="small">A gain is the difference in {text(score_label(comparison.score))} to the run of the same '
        f"seed and settings that differs in the arm alone ({baseline}). Better or worse is said where the 95 % interval"
        f" over seeds leaves out 0; with few seeds it is wide.{_together(comparison)}</p>"
    )
    return "\n".join(parts)


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
        of = f"mean of {n:.0f} runs" if n > 1 else "one run"
        return f"{value} ({text(f'{where}; {of}' if where else of)})"

    if len(ordered) == 1:
        return f"<p><strong>{text(name)}</strong>: {said(0)}.</p>\n"
    return f"<p><strong>{text(name)}</strong>: best {said(0)}, worst {said(-1)}, of {len(ordered)} cells.</p>\n"


def _together(comparison: Comparison) -> str:
    """What is done about many claims at once."""
    judged = [pair.gain for pair in _longest(comparison.pairs) if _ends(pair.gain)]
    return f" Intervals are corrected for {len(judged)} claims at once (Holm)." if len(judged) > 1 else ""


def _lead(evidence: Evidence, comparison: Comparison) -> str:
    """The answer in plain words: what was seen at equal samples, arm by arm where they are few."""
    by_arm: dict[str, list[Pair]] = {}
    for pair in _longest(comparison.pairs):
        by_arm.setdefault(pair.arm, []).append(pair)
    if not by_arm:
        along = " What the curves along the schedule say:" if comparison.verdicts else ""
        return f"<p>No run has a twin among the baseline's, so nothing can be said at equal samples.{along}</p>"
    words = evidence.arm_words
    if len(by_arm) <= FEW_ARMS:
        return "\n".join(
            f"<p><strong>{text(words.get(arm, arm).capitalize())}</strong>: {text(_seen(comparison, pairs))}"
            f"{text(_in_time(comparison, arm))}</p>"
            for arm, pairs in by_arm.items()
        )
    every = [pair for pairs in by_arm.values() for pair in pairs]
    best, worst = (pick(every, key=lambda pair: pair.gain.mean or 0.0) for pick in (max, min))
    return (
        f"<p>{len(by_arm)} arms, {text(_seen(comparison, every))}</p>\n"
        f"<p>Best: <strong>{text(words.get(best.arm, best.arm))}</strong>, {text(_size(comparison, best))}. "
        f"Worst: <strong>{text(words.get(worst.arm, worst.arm))}</strong>, {text(_size(comparison, worst))}.</p>"
    )


def _longest(pairs: Sequence[Pair]) -> list[Pair]:
    """Of each series and arm the longest schedule: what compare's verdicts speak of, so that both say the same."""
    longest: dict[tuple[str, str], Pair] = {}
    for pair in pairs:
        before = longest.get((pair.series, pair.arm))
        if pair.gain.mean is not None and (before is None or (pair.at or 0) > (before.at or 0)):
            longest[pair.series, pair.arm] = pair
    return list(longest.values())


def _ends(estimate: Estimate) -> tuple[float, float] | None:
    """The interval to judge by: of one claim among several the one that is corrected for that, if there is one."""
    judged = estimate.corrected or estimate
    low, high = judged.low, judged.high
    return None if low is None or high is None else (low, high)


def _side(estimate: Estimate, none: float, less: str, more: str) -> str:
    """On which side of `none` the interval lies."""
    ends = _ends(estimate)
    if ends is None:
        return ONE_SEED
    return more if ends[0] > none else less if ends[1] < none else NOT_SHOWN


def _seen(comparison: Comparison, pairs: Sequence[Pair]) -> str:
    """'at equal samples, in 5 comparisons: worse in 2 (by 9.2 to 10.6 points) and no difference shown in 3 (...).'"""
    sides: dict[str, list[Pair]] = {"better": [], "worse": [], NOT_SHOWN: [], ONE_SEED: []}
    for pair in pairs:
        sides[_side(pair.gain, 0.0, "worse", "better")].append(pair)
    at = f"at equal {comparison.at or 'samples'}"
    there = {side: of_side for side, of_side in sides.items() if of_side}
    if len(pairs) == 1:
        return f"{at}, {next(iter(there))}: {_size(comparison, pairs[0])}."
    said = [
        f"{side} in {len(of_side)}{(_span if side in ('better', 'worse') else _means)(comparison, of_side)}"
        for side, of_side in there.items()
    ]
    longest = " (at the longest schedule)" if len({pair.at for pair in comparison.pairs}) > 1 else ""
    return f"{at}{longest}, in {count(len(pairs), 'comparison')}: {joined(said)}."


def _in_time(comparison: Comparison, arm: str) -> str:
    """What the arm does to training time at equal score, series by series if they are few; '' where no curve tells."""
    curves = [
        (curve, *told)
        for curve in comparison.curves
        if curve.arm == arm and curve.x != "train_flops" and (told := _told(curve)) is not None
    ]
    if len(curves) > FEW_SERIES:
        sides = [_side(speedup, 1.0, "slower", "faster") for _, _, _, speedup in curves]
        said = [f"{words} in {sides.count(words)}" for words in dict.fromkeys(sides)]
        return f" In training time to equal score, in {len(curves)} series: {joined(said)}."
    said = []
    for curve, score, best, speedup in curves:
        at = score_value(score, comparison.fraction)
        where = f"With {curve.series} it" if curve.series else "It"
        said.append(f" {where} reaches {at}, {best}, {_factor(speedup)}.")
    return "".join(said)


def _told(curve: Curve) -> tuple[float, str, Estimate] | None:
    """The score at which the speed-up is told, which score that is, and the speed-up: at the baseline's best if every
    seed gets there, else at the best that all have."""
    if curve.target is not None and curve.speedup.n and curve.speedup.n == len(curve.seeds):
        return curve.target, "the baseline's best score", curve.speedup
    if curve.speedup_at and curve.speedup_at[-1].speedup.mean is not None:
        return curve.speedup_at[-1].score, "the best score that both have", curve.speedup_at[-1].speedup
    return None


def _factor(speedup: Estimate) -> str:
    """'1.53 times faster in training time (95 % interval 1.43 to 1.63)'."""
    mean, ends = speedup.mean or 1.0, _ends(speedup)
    said = f"{times(mean)} times faster" if mean >= 1 else f"{times(1 / mean)} times slower"
    if ends is None:
        return f"{said} in training time (one seed, so no interval)"
    interval = f"95 % interval {times(ends[0])} to {times(ends[1])}"
    if ends[0] <= 1 <= ends[1]:
        return f"with no difference in training time shown (speed-up {times(mean)}, {interval})"
    return f"{said} in training time ({interval if mean >= 1 else f'speed-up {times(mean)}, {interval}'})"


def _means(comparison: Comparison, pairs: Sequence[Pair]) -> str:
    """' (means of −38.8 to −5.4 points)'."""
    scale, digits, unit = (100, ".1f", " points") if comparison.fraction else (1, ".2g", "")
    ends = [f"{scale * pick(p.gain.mean or 0.0 for p in pairs):+{digits}}".replace("-", "−") for pick in (min, max)]
    return f" (mean {ends[0]}{unit})" if ends[0] == ends[1] else f" (means {ends[0]} to {ends[1]}{unit})"


def _span(comparison: Comparison, pairs: Sequence[Pair]) -> str:
    sizes = sorted(abs(pair.gain.mean) for pair in pairs if pair.gain.mean is not None)
    first, last = _amount(comparison, sizes[0]), _amount(comparison, sizes[-1])
    unit = " points" if comparison.fraction else ""
    where = f", {pairs[0].series}" if len(pairs) == 1 and pairs[0].series else ""
    return f" (by {first}{unit}{where})" if first == last else f" (by {first} to {last}{unit})"


def _size(comparison: Comparison, pair: Pair) -> str:
    mean, ends = pair.gain.mean or 0.0, _ends(pair.gain)
    scale, unit = (100, " points") if comparison.fraction else (1, "")
    size = f"{'+' if mean > 0 else '−'}{_amount(comparison, abs(mean))}{unit}"
    if ends is None:
        return size
    low, high = (f"{scale * end:+.3g}".replace("-", "−") for end in ends)
    return f"{size} (95 % interval {low} to {high})"


def _amount(comparison: Comparison, size: float) -> str:
    return f"{100 * size:.1f}" if comparison.fraction else f"{size:.2g}"
