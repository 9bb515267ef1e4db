"""From the evidence to the page, by the template page.html: the question, the answer, then the evidence."""

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from flipscale.analysis.comparing import answer_table, claims_table, everything, notes_of, warnings
from flipscale.analysis.comparing.roles import settings_named
from flipscale.analysis.fitting import kind_parts, kinds_of
from flipscale.analysis.fitting.law_words import fit_parts
from flipscale.analysis.plotting.layout import newest_run
from flipscale.analysis.reporting.charts import LOSS, chart_data, in_order, scores_of, training_time_unit
from flipscale.analysis.reporting.evidence import Evidence, FailedRun
from flipscale.door.run_states import RunRecord, State, total_hours
from flipscale.door.sweep import sweep_parts
from flipscale.errors import ResultsError
from flipscale.scores import is_fraction, lower_is_better, score_label
from flipscale.tables import PrintedTable, escaped
from flipscale.words import by_reason, count, device_hours, fixed, hours_or_seconds, joined, score_value, short, times
from flipscale.words import hours as hours_words

FEW_VALUES = 6
"""Up to this many values of an axis are listed."""

FEW_KINDS = 5
"""With up to this many kinds and reasons, failures are unfolded; with more, only their counts are shown at first."""

ANSWERING = ("speedup", "gains", "claims", "accuracy_vs_hours", "accuracy_vs_samples")
"""The first of these figures that was drawn stands beside the answer."""

MOST_CODES = 10
"""The most versions of the code that are listed."""

MOST_MEANS = 400
"""The most rows that the table of means lists."""


@dataclass(frozen=True)
class Report:
    """The files that were written."""

    path: Path
    size: int
    """Bytes."""
    evidence: Evidence


def page(evidence: Evidence) -> str:
    """The whole page. Equal evidence gives equal bytes. What is no Markup is escaped."""
    style, script, plotly = (_file(name) for name in ("page.css", "page.js", "plotly-basic.min.js"))
    # The browser runs these two scripts and no other, and loads nothing from anywhere.
    hashes = " ".join(f"'sha256-{_sha256(code)}'" for code in (plotly, script))
    comparison = evidence.comparison
    figures = {figure.name: figure for figure in evidence.figures if figure.svg is not None}
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, finalize=_as_text
    )
    environment.filters |= {
        "base64": lambda data: base64.b64encode(data).decode(),
        "count": count,
    }
    return environment.from_string(_file("page.html")).render(
        policy=Markup(f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {hashes}"),
        style=Markup(style),
        script=Markup(script),
        plotly=Markup(plotly),
        data=Markup(chart_data(evidence)),
        sections={
            "answer": "Answer",
            "claims": "Claims" if comparison and comparison.stated else "",
            "figures": "Figures",
            "comparison": "Comparison with the baseline",
            "curves": "Inside the runs" if evidence.curves else "",
            "tune": "Settings chosen for each arm" if evidence.sweep else "",
            "fits": "Fits",
            "runs": "Runs",
            "failures": "Failures",
            "cost": "Cost",
            "drawn": "Figures as drawn",
            "study": "The study file",
        },
        evidence=evidence,
        study=evidence.record,
        comparison=comparison,
        code=evidence.code,
        laws=list(map(_law, evidence.laws.fits)),
        not_fitted=by_reason(evidence.laws.not_fitted),
        answering=next((figures[name] for name in ANSWERING if name in figures), None),
        asked=_asked(evidence),
        where=_where(evidence),
        newest=newest_run(evidence.results),
        missing=0 if evidence.results.empty else len(evidence.cells) - len(evidence.results),
        claims=[claims_table(comparison.stated)] if comparison and comparison.stated else [],
        tuned=sweep_parts(evidence.sweep) if evidence.sweep else [],
        compared=everything(replace(comparison, stated=None)) if comparison else [],
        example=f"{scores[0]}>0.5" if (scores := scores_of(evidence)) else "gpu_hours_predicted>1",
        failures=_failures(evidence),
        retried=int((evidence.results["attempts"].fillna(1) > 1).sum()) if "attempts" in evidence.results else 0,
        too_large=", ".join(figure.file for figure in evidence.figures if figure.svg is None),
        drawn_runs=len({curve.run for curve in evidence.curves}),
        FEW_KINDS=FEW_KINDS,
        MOST_CODES=MOST_CODES,
        **_answer(evidence),
        **_means(evidence),
        **_cost(evidence),
    )


def _file(name: str) -> str:
    return files("flipscale.analysis.reporting").joinpath(name).read_text(encoding="utf-8")


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _as_text(value: Any) -> Markup:
    return value if isinstance(value, Markup) else Markup(escaped(value))


def _asked(evidence: Evidence) -> str:
    """The varied settings, in one sentence; '' while a sweep has chosen no value."""
    cells = evidence.cells
    if not cells:
        return ""
    names = dict.fromkeys([*evidence.axes, *evidence.record.baseline])
    varied = []
    for name in names:
        values = in_order([run.settings[name] for run in cells])
        if len(values) > 1:
            some = ", ".join(values) if len(values) <= FEW_VALUES else f"{len(values)} values"
            varied.append(f"{name} ({some})")
    seeds = len({run.seed for run in cells})
    along = f" vary {joined(varied)}," if varied else ""
    on = f" on {', '.join(evidence.data)}" if evidence.data else ""
    seeded = f" with {count(seeds, 'seed')} each" if len(cells) > 1 else ""
    return f"{count(len(cells), 'run')}{on}{along}{seeded}."


def _where(evidence: Evidence) -> str:
    """On what the finished runs were trained: 'Trained on 8 x H100 (3 runs).'; '' where none has said it."""
    table = evidence.results
    if not {"device", "devices"} <= set(table):
        return ""
    known = table.dropna(subset=["device", "devices"])
    machines = Counter(zip(known["devices"], known["device"], strict=True))
    listed = [f"{devices} x {device} ({count(runs, 'run')})" for (devices, device), runs in machines.most_common()]
    return f"Trained on {', '.join(listed)}." if listed else ""


def _answer(evidence: Evidence) -> dict[str, Any]:
    """What `compare` shows on its screen; without a comparison, why there is none, and the scores."""
    comparison = evidence.comparison
    if comparison is None or not comparison.arms:
        why = evidence.why_no_comparison if comparison is None else " ".join(comparison.notes)
        return {"answer": [], "why": why, "scores": _scores(evidence), "notes": [], "warnings": []}
    if comparison.laws:
        laws = comparison.laws
        *answer, note = kind_parts(kinds_of(laws)[0], laws, settings_named(comparison.labels))
        notes = [note]
    else:
        table, noun, total = answer_table(comparison)
        left_out = total - len(table.rows)
        answer = [replace(table, title="The answer at a glance")]
        notes = [*notes_of(comparison)]
        notes += [f"The tables below have {count(left_out, noun)} more."] if left_out else []
    return {"answer": answer, "why": "", "scores": None, "notes": notes, "warnings": warnings(comparison)}


def _scores(evidence: Evidence) -> tuple[str, str] | None:
    """A score and its best and worst cell, by their means over seeds."""
    scores = scores_of(evidence)
    if not scores:
        return None
    score = scores[0]
    rows = evidence.results[evidence.results[score].notna()].assign(cell=lambda rows: rows["cell"].fillna(""))
    cells = rows.groupby(["cell", "arm"], sort=False)[score].agg(["mean", "count"]).astype({"mean": float})
    name = score_label(score).capitalize()
    if score == LOSS:
        low = cells["mean"].min()
        high = cells["mean"].max()
        span = f"{low:.4g}" if len(cells) == 1 else f"{low:.4g} to {high:.4g} in {len(cells)} cells"
        masked = evidence.results["mask_ratio"].nunique() > 1
        unlike = " Losses at different mask ratios are not comparable: masked runs see fewer patches." if masked else ""
        return name, f"{span}.{unlike}"
    ordered = cells.sort_values("mean", ascending=bool(lower_is_better(score)), kind="stable")

    def said(number: int) -> str:
        cell, arm = ordered.index[number]
        mean, n = ordered.iloc[number]
        several = evidence.results["arm"].nunique() > 1
        where = ", ".join(filter(None, (cell, arm if several else "")))
        runs = f"mean of {n:.0f} runs" if n > 1 else "one run"
        return f"{score_value(mean, is_fraction(score))} ({f'{where}; {runs}' if where else runs})"

    if len(ordered) == 1:
        return name, f"{said(0)}."
    return name, f"best {said(0)}, worst {said(-1)}, of {len(ordered)} cells."


def _means(evidence: Evidence) -> dict[str, Any]:
    """The table of means over seeds."""
    scores = scores_of(evidence)
    if not scores:
        return {"means": None, "more_means": 0}
    rows = evidence.results.assign(cell=evidence.results["cell"].fillna(""))
    unit, factor = training_time_unit(evidence)
    score = scores[0]
    percent = is_fraction(scores[0])
    scale, digits = (100, 1) if percent else (1, 4)
    spent = [name for name in ("samples", "train_flops") if name in rows]
    listed = []
    for (cell, arm), group in rows.groupby(["cell", "arm"], sort=False):
        values = group[score].dropna().astype(float)
        listed.append(
            (
                str(cell or "all"),
                str(arm),
                str(len(group)),
                fixed(scale * values.mean(), digits) if len(values) else "",
                fixed(scale * values.std(), digits) if len(values) > 1 else "",
                *(short(group[name].mean()) if group[name].notna().any() else "" for name in spent),
                f"{factor * group['gpu_hours'].mean():.3g}" if group["gpu_hours"].notna().any() else "",
            )
        )
    words = ("FLOPs" if name == "train_flops" else name for name in spent)
    head = ("cell", "arm", "runs", f"{score}{' %' if percent else ''}", "sd", *words, unit)
    table = PrintedTable(f"Means of {score_label(score)}", head, tuple(listed[:MOST_MEANS])).without_empty()
    return {"means": table, "more_means": max(0, len(listed) - MOST_MEANS)}


def _law(record: Mapping[str, Any]) -> dict[str, Any]:
    """A law of fits.json as `fit --full` shows it, and its runs."""
    try:
        *notes, table, checklist = fit_parts(record)
        return {
            "parts": [table, *notes],
            "checklist": checklist,
            "used": record["used"],
            "left_out": record["left_out"],
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ResultsError(
            f"fits.json: a law of it cannot be read ({error!r}). Make it again with `flipscale fit`, or delete it."
        ) from error


def _failures(evidence: Evidence) -> dict[tuple[str, str], list[tuple[int, FailedRun]]]:
    """The failures by kind and reason, each with its number."""
    alike: dict[tuple[str, str], list[tuple[int, FailedRun]]] = {}
    for number, failure in enumerate(evidence.failures):
        alike.setdefault((failure.kind, failure.reason), []).append((number, failure))
    return alike


def _cost(evidence: Evidence) -> dict[str, Any]:
    """Predicted and measured cost, in the unit that suits them, and the line of facts at the top."""
    hours = evidence.hours
    spent = evidence.spent
    unit, factor = hours_or_seconds(max(hours.about, spent))
    unit = device_hours(evidence.device, unit)
    others = "(runs of the sweep)", "(parents of others)"
    groups: dict[str, list[RunRecord]] = {arm: [] for arm in (*evidence.arm_names, *others)}
    for run in evidence.runs:
        groups[run.arm or others[not run.tried]].append(run)
    unfinished = [run for run in evidence.runs if run.state is not State.FINISHED]
    under_way = sum(run.hours.about * run.done for run in unfinished)
    measured = f"; the measured runs cost {evidence.money_spent}" if evidence.money_spent else ""
    counts = Counter(run.state for run in evidence.runs)
    facts = [
        f"{counts[State.FINISHED]:,} of {count(len(evidence.runs), 'run')} finished",
        *(f"{counts[state]:,} {state}" for state in State if state is not State.FINISHED and counts[state]),
        f"{hours_words(spent * factor)} {unit} measured" if spent else "",
        f"{hours * factor} {unit} predicted" if hours.about else "",
        f"{evidence.money} predicted" if evidence.money else "",
        f"newest run finished {newest}" if (newest := newest_run(evidence.results)) else "",
    ]
    return {
        "facts": " · ".join(filter(None, facts)),
        "unit": unit,
        "costs": PrintedTable(
            f"Predicted and measured, in {unit}",
            ("arm", "runs", "FLOPs", "predicted", "measured", "predicted for these", "measured / predicted"),
            (
                *(_cost_row(arm, runs, factor) for arm, runs in groups.items() if runs),
                _cost_row("all", evidence.runs, factor),
            ),
        ).without_empty(),
        "checked": spent and hours.about,
        "unfinished": len(unfinished),
        "under_way": hours_words(under_way * factor) if under_way else "",
        "money": f"{evidence.money}{measured}" if evidence.money else "",
        "limits": evidence.limits,
    }


def _cost_row(name: str, runs: Sequence[RunRecord], factor: float) -> tuple[str, ...]:
    """`factor` is the number of the table's units in an hour."""
    measured = [run for run in runs if run.measured is not None]
    spent = sum(run.measured or 0.0 for run in measured)
    foreseen = sum(run.hours.about for run in measured)
    return (
        name,
        str(len(runs)),
        short(flops) if (flops := sum(run.flops for run in runs)) else "",
        str(total_hours(run.hours for run in runs) * factor) if any(run.is_priced for run in runs) else "",
        f"{hours_words(spent * factor)} ({count(len(measured), 'run')})" if measured else "",
        str(total_hours(run.hours for run in measured) * factor) if foreseen else "",
        times(spent / foreseen) if foreseen else "",
    )
