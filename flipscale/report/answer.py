"""The answer of a study: the comparison's own sentences and its table of effects."""

from flipscale.compare import (
    Comparison,
    effect_table,
    effects_title,
    legend,
    opening,
    verdicts,
    warnings,
)
from flipscale.report.charts import LOSS, scores_of
from flipscale.report.evidence import Evidence
from flipscale.report.markup import details, listed, table, text
from flipscale.scores import is_fraction, lower_is_better, score_label
from flipscale.words import count, score_value

FEW_VERDICTS = 3
"""Up to this many verdicts are shown unfolded."""


BESIDE = ("seeds", "95 % CI")
"""Columns of the table of effects that come after those that the verdict uses."""


def answer(evidence: Evidence) -> str:
    """The section's HTML: what may still change, two sentences, the table of effects, and compare's verdicts."""
    comparison = evidence.comparison
    parts = _unfinished(evidence)
    if comparison is None or not comparison.arms:
        why = evidence.why_no_comparison if comparison is None else " ".join(comparison.notes)
        return "\n".join([*parts, f'<div class="lead">{_scores(evidence)}<p>{text(why)}</p></div>'])
    parts.append(f'<div class="lead">{_lead(comparison)}</div>')
    if comparison.pairs:
        parts.append(_effects(comparison))
    if sentences := verdicts(comparison):
        in_words = listed([text(sentence) for sentence in sentences])
        # Without twins the sentences on the curves are the whole answer, so they are not folded away.
        many = bool(comparison.pairs) and len(sentences) > FEW_VERDICTS
        parts.append(details("Every series and arm in words", in_words) if many else f"<h3>In detail</h3>\n{in_words}")
    return "\n".join(parts)


def _lead(comparison: Comparison) -> str:
    """The head of the comparison; without twins, a sentence that says so."""
    if sentences := opening(comparison):
        return "\n".join(f"<p>{text(sentence)}</p>" for sentence in sentences)
    along = " What the curves along the schedule say:" if comparison.claims else ""
    return f"<p>No run has a twin among the baseline's, so nothing can be said at equal samples.{along}</p>"


def _effects(comparison: Comparison) -> str:
    """The table of effects, and what its columns are."""
    names, rows = effect_table(comparison)
    # The decisive columns come first.
    costs = comparison.pairs[0].ratios
    order = sorted(range(len(names)), key=lambda column: (names[column] in costs, names[column] in BESIDE))
    header = [names[column] for column in order]
    cells = [[text(row[column]) for column in order] for row in rows]
    words = [header.index(name) for name in ("cell", "arm", "effect") if name in header]
    meaning = (
        f"A gain is the difference in {score_label(comparison.score)} from the baseline's run of the same cell and "
        "seed. It is better or worse where the corrected CI excludes 0."
    )
    small = "".join(f'\n<p class="small">{text(line)}</p>' for line in (meaning, *legend(comparison)))
    notes = "".join(f'\n<p class="note">{text(line)}</p>' for line in warnings(comparison))
    shown = table(effects_title(comparison), list(map(text, header)), cells, words=words)
    return f'<div class="effects">{shown}</div>{notes}{small}'


def _unfinished(evidence: Evidence) -> list[str]:
    """Notes on runs that are not in the results yet."""
    unfinished = len(evidence.planned.cells) - len(evidence.results)
    parts = []
    if unfinished and not evidence.results.empty:
        parts.append(
            f'<p class="note">{unfinished} of {count(len(evidence.planned.cells), "run")} are not in results.csv yet, '
            "so what follows may change.</p>"
        )
    return parts


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
