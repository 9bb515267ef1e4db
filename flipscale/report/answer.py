"""The answer of a study: what `compare` shows on its screen."""

from flipscale.compare import answer_table, notes_of, warnings
from flipscale.report.charts import LOSS, scores_of
from flipscale.report.evidence import Evidence
from flipscale.scores import is_fraction, lower_is_better, score_label
from flipscale.tables import as_html
from flipscale.tables import escaped as text
from flipscale.words import count, score_value


def answer(evidence: Evidence) -> str:
    """The section's HTML: what may still change, then what `compare` shows on its screen."""
    comparison = evidence.comparison
    parts = _unfinished(evidence)
    if comparison is None or not comparison.arms:
        why = evidence.why_no_comparison if comparison is None else " ".join(comparison.notes)
        return "\n".join([*parts, f'<div class="lead">{_scores(evidence)}<p>{text(why)}</p></div>'])
    table, left_out = answer_table(comparison)
    more = [f"The tables below have {left_out} more."] if left_out else []
    parts.append(f'<div class="effects">{as_html([table, *notes_of(comparison), *more])}</div>')
    return "\n".join([*parts, *(f'<p class="note">{text(line)}</p>' for line in warnings(comparison))])


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
