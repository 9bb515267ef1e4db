"""The answer of a study in plain words, which claim no more than the comparison's intervals."""

from collections.abc import Sequence

from flipscale.compare import Comparison, Pair
from flipscale.report.charts import score_words
from flipscale.report.evidence import Evidence
from flipscale.report.markup import count, details, joined, listed, text

FEW_ARMS = 4
"""Arms up to here get a sentence each at the top; of more the counts are said, and the verdicts are folded away."""


def answer(evidence: Evidence) -> str:
    """The section's HTML: what may still change, the answer arm by arm, and compare's verdicts."""
    comparison = evidence.comparison
    if comparison is None:
        return f"<p>{text(evidence.why_no_comparison)}</p>"
    unfinished = len(evidence.planned.cells) - len(evidence.results)
    parts = []
    if unfinished:
        parts.append(
            f'<p class="note">{count(unfinished, "run")} of {len(evidence.planned.cells)} not in the table yet: '
            "what follows may change.</p>"
        )
    if evidence.uncollected:
        parts.append(
            f'<p class="note">{count(evidence.uncollected, "run")} finished since the results were collected; '
            f"<code>flipscale collect</code> adds them.</p>"
        )
    parts.append(f'<div class="lead">{_lead(evidence, comparison)}</div>')
    verdicts = listed([text(verdict) for verdict in comparison.verdicts])
    many = len({pair.arm for pair in comparison.pairs}) > FEW_ARMS
    if comparison.verdicts:
        parts.append(details("Every arm in words", verdicts) if many else f"<h3>In detail</h3>\n{verdicts}")
    baseline = text(evidence.arm_names[0]) if evidence.arm_names else "the baseline"
    parts.append(
        f'<p class="small">A gain is the difference in {text(score_words(comparison.score))} to the run of the same '
        f"seed and settings that differs in the arm alone ({baseline}). Better or worse is said where the 95 % interval"
        " over seeds leaves out 0; with few seeds it is wide.</p>"
    )
    return "\n".join(parts)


def _lead(evidence: Evidence, comparison: Comparison) -> str:
    """The answer in plain words: what was seen at equal samples, arm by arm where they are few."""
    by_arm: dict[str, list[Pair]] = {}
    for pair in comparison.pairs:
        by_arm.setdefault(pair.arm, []).append(pair)
    if not by_arm:
        return "<p>No run has a twin among the baseline's, so nothing can be said at equal samples.</p>"
    words = evidence.arm_words
    if len(by_arm) <= FEW_ARMS:
        return "\n".join(
            f"<p><strong>{text(words.get(arm, arm))}</strong>: {text(_seen(comparison, pairs))}</p>"
            for arm, pairs in by_arm.items()
        )
    every = [pair for pairs in by_arm.values() for pair in pairs]
    told = [pair for pair in every if pair.gain.mean is not None]
    best, worst = (pick(told, key=lambda pair: pair.gain.mean or 0.0) for pick in (max, min))
    cells = len({pair.cell for pair in every})
    return (
        f"<p>{len(by_arm)} arms at equal samples{f' in {cells} cells' if cells > 1 else ''}: "
        f"{text(_seen(comparison, every))}</p>\n"
        f"<p>Best: <strong>{text(words.get(best.arm, best.arm))}</strong>, {text(_size(comparison, best))}. "
        f"Worst: <strong>{text(words.get(worst.arm, worst.arm))}</strong>, {text(_size(comparison, worst))}.</p>"
    )


def _seen(comparison: Comparison, pairs: Sequence[Pair]) -> str:
    """'at equal samples worse in 2 of 5 comparisons (by 0.8 to 10.6 points), no difference shown in 3.'"""
    sure = [pair for pair in pairs if pair.gain.low is not None and pair.gain.high is not None]
    better = [pair for pair in sure if pair.gain.low is not None and pair.gain.low > 0]
    worse = [pair for pair in sure if pair.gain.high is not None and pair.gain.high < 0]
    open_ones = len(sure) - len(better) - len(worse)
    alone = len(pairs) - len(sure)
    said = [
        *([f"better in {len(better)}{_span(comparison, better)}"] if better else []),
        *([f"worse in {len(worse)}{_span(comparison, worse)}"] if worse else []),
        *([f"no difference shown in {open_ones}"] if open_ones else []),
        *([f"one seed only, so no interval, in {alone}"] if alone else []),
    ]
    return f"of {count(len(pairs), 'comparison')} at equal {comparison.at or 'samples'}, {joined(said)}."


def _span(comparison: Comparison, pairs: Sequence[Pair]) -> str:
    sizes = sorted(abs(pair.gain.mean) for pair in pairs if pair.gain.mean is not None)
    first, last = _amount(comparison, sizes[0]), _amount(comparison, sizes[-1])
    unit = " points" if comparison.fraction else ""
    return f" (by {first}{unit})" if first == last else f" (by {first} to {last}{unit})"


def _size(comparison: Comparison, pair: Pair) -> str:
    gain = pair.gain
    if gain.mean is None:
        return "not measured"
    unit = " points" if comparison.fraction else ""
    text_of = f"{'+' if gain.mean > 0 else '−'}{_amount(comparison, abs(gain.mean))}{unit}"
    if gain.low is not None and gain.high is not None:
        scale = 100 if comparison.fraction else 1
        text_of += f" (95 % interval {scale * gain.low:+.3g} to {scale * gain.high:+.3g})"
    return text_of


def _amount(comparison: Comparison, size: float) -> str:
    return f"{100 * size:.1f}" if comparison.fraction else f"{size:.2g}"
