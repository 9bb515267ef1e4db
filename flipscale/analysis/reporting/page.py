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
from flipscale.analysis.comparing.columns import settings_named
from flipscale.analysis.fitting import kind_parts, kinds_of
from flipscale.analysis.fitting.answer import fit_parts
from flipscale.analysis.plotting.page import newest_run
from flipscale.analysis.reporting.charts import LOSS, chart_data, in_order, scores_of, training_time_unit
from flipscale.analysis.reporting.evidence import Evidence, FailedRun, axes_of, gather
from flipscale.errors import ResultsError
from flipscale.guard import make_folder
from flipscale.plain_files import replacing
from flipscale.planning.identity import dataset_name
from flipscale.planning.runs import Plan, Run
from flipscale.planning.sweeps import SweepOutcome, sweep_parts
from flipscale.run import State
from flipscale.scores import is_fraction, lower_is_better, score_label
from flipscale.settings.devices import Hours, total_hours
from flipscale.study import Study
from flipscale.tables import PrintedTable, escaped
from flipscale.words import by_reason, count, device_hours, fixed, hours_or_seconds, joined, score_value, short, times
from flipscale.words import hours as hours_words
from flipscale.workspace import Workspace

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


def write_report(
    study: Study, planned: Plan, study_file: Path, results: Path, plots: Path, sweep: SweepOutcome | None = None
) -> Report:
    """Write plots/NAME/report.html from the files in `results` and `plots`; the page names missing ones."""
    evidence = replace(gather(study, planned, study_file, results, plots), sweep=sweep)
    data = page(evidence).encode()
    path = Workspace(results, plots).study(study.name).report
    make_folder(path.parent)
    with replacing(path) as file:
        file.write(data)
    return Report(path, len(data), evidence)


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
            "curves": "Inside the runs" if evidence.curves else "",
            "comparison": "Comparison with the baseline",
            "tune": "Settings chosen for each arm" if evidence.sweep else "",
            "fits": "Fits",
            "runs": "Runs",
            "failures": "Failures",
            "cost": "Cost",
            "drawn": "Figures as drawn",
            "study": "The study file",
        },
        evidence=evidence,
        study=evidence.study,
        comparison=comparison,
        code=evidence.code,
        laws=list(map(_law, evidence.laws.fits)),
        not_fitted=by_reason(evidence.laws.not_fitted),
        answering=next((figures[name] for name in ANSWERING if name in figures), None),
        asked=_asked(evidence),
        newest=newest_run(evidence.results),
        missing=0 if evidence.results.empty else len(evidence.planned.cells) - len(evidence.results),
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
    cells = evidence.planned.cells
    if not cells:
        return ""
    names = dict.fromkeys([*axes_of(evidence), *evidence.study.baseline])
    varied = []
    for name in names:
        values = in_order([getattr(run.settings, name) for run in cells])
        if len(values) > 1:
            some = ", ".join(values) if len(values) <= FEW_VALUES else f"{len(values)} values"
            varied.append(f"{name} ({some})")
    seeds = len({run.settings.seed for run in cells})
    along = f" vary {joined(varied)}," if varied else ""
    data = ", ".join(dict.fromkeys(dataset_name(run.settings.data) for run in cells if run.settings.is_clip))
    on = f" on {data}" if data else ""
    seeded = f" with {count(seeds, 'seed')} each" if len(cells) > 1 else ""
    return f"{count(len(cells), 'run')}{on}{along}{seeded}."


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
        low, high = cells["mean"].min(), cells["mean"].max()
        span = f"{low:.4g}" if len(cells) == 1 else f"{low:.4g} to {high:.4g} in {len(cells)} cells"
        masked = evidence.results["mask_ratio"].nunique() > 1
        unlike = " Losses at different mask ratios are not comparable: masked runs see fewer patches." if masked else ""
        return name, f"{span}.{unlike}"
    ordered = cells.sort_values("mean", ascending=bool(lower_is_better(score)), kind="stable")

    def said(number: int) -> str:
        (cell, arm), (mean, n) = ordered.index[number], ordered.iloc[number]
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
    score, percent = scores[0], is_fraction(scores[0])
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
    planned, spent = evidence.planned, sum(evidence.own_hours.values())
    unit, factor = hours_or_seconds(max(planned.total.gpu_hours, spent))
    unit = device_hours(planned.device, unit)
    others = "(runs of the sweep)", "(parents of others)"
    tried = {each.run.id for each in planned.swept}
    groups: dict[str, list[Run]] = {arm: [] for arm in (*evidence.arm_names, *others)}
    for run in planned.runs:
        groups[evidence.arms.get(run.id, others[run.id not in tried])].append(run)
    unfinished = [run for run in planned.runs if evidence.runs[run.id].state is not State.FINISHED]
    under_way = sum(run.cost.gpu_hours * evidence.runs[run.id].done for run in unfinished)
    money = ""
    if planned.price is not None and planned.money is not None:
        paid = planned.price.of(Hours(spent, spent, spent), planned.device)
        measured = f"; the measured runs cost {paid.about:,.2f} {paid.currency}" if paid and spent else ""
        money = f"{planned.money}{measured}"
    counts = Counter(run.state for run in evidence.runs.values())
    facts = [
        f"{counts[State.FINISHED]:,} of {count(len(evidence.runs), 'run')} finished",
        *(f"{counts[state]:,} {state}" for state in State if state is not State.FINISHED and counts[state]),
        f"{hours_words(spent * factor)} {unit} measured" if spent else "",
        f"{planned.total.hours * factor} {unit} predicted" if planned.total.gpu_hours else "",
        f"{planned.money} predicted" if planned.money else "",
        f"newest run finished {newest}" if (newest := newest_run(evidence.results)) else "",
    ]
    return {
        "facts": " · ".join(filter(None, facts)),
        "unit": unit,
        "costs": PrintedTable(
            f"Predicted and measured, in {unit}",
            ("arm", "runs", "FLOPs", "predicted", "measured", "predicted for these", "measured / predicted"),
            (
                *(_cost_row(arm, runs, evidence, factor) for arm, runs in groups.items() if runs),
                _cost_row("all", planned.runs, evidence, factor),
            ),
        ).without_empty(),
        "checked": evidence.own_hours and planned.total.gpu_hours,
        "unfinished": len(unfinished),
        "under_way": hours_words(under_way * factor) if under_way else "",
        "money": money,
        "limits": ", ".join(
            f"{key} {value:g}" for key, value in vars(evidence.study.budget).items() if value is not None
        ),
    }


def _cost_row(name: str, runs: Sequence[Run], evidence: Evidence, factor: float) -> tuple[str, ...]:
    """`factor` is the number of the table's units in an hour."""
    hours = evidence.own_hours
    measured = [run for run in runs if run.id in hours]
    spent, foreseen = sum(hours[run.id] for run in measured), sum(run.cost.gpu_hours for run in measured)
    return (
        name,
        str(len(runs)),
        short(flops) if (flops := sum(run.cost.train_flops for run in runs)) else "",
        str(total_hours(run.cost.hours for run in runs) * factor) if any(run.is_priced for run in runs) else "",
        f"{hours_words(spent * factor)} ({count(len(measured), 'run')})" if measured else "",
        str(total_hours(run.cost.hours for run in measured) * factor) if foreseen else "",
        times(spent / foreseen) if foreseen else "",
    )
