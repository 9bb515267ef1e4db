"""What a study could run next: what is asked of it, and the runs that tell most about that."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from flipscale.analysis.comparing import Comparison, Curve, Verdict, pick_score
from flipscale.analysis.comparing.roles import settings_named
from flipscale.analysis.fitting import Fit, Options, allocate, column, forecast, group_name, in_groups, isoflop
from flipscale.analysis.fitting import fit as fit_law
from flipscale.analysis.fitting.fronts import has_budgets
from flipscale.analysis.fitting.isoflop import with_error
from flipscale.analysis.fitting.study_laws import BUDGET, SAMPLES, SIZE, groups_of, model_sizes, variables_of
from flipscale.collecting import axis_values, is_setting
from flipscale.errors import ResultsError, did_you_mean
from flipscale.next_runs import Proposal, Rung, further_values, propose
from flipscale.next_runs.quantities import Question, claim_of, forecast_of, parameter_of, speedup_of
from flipscale.planning.runs import plan_at
from flipscale.run import read_timings
from flipscale.settings.declarations import Settings
from flipscale.study.expression import plain_value
from flipscale.workflow.compared import compare_study
from flipscale.workflow.fitted import variables_at
from flipscale.workflow.opened import OpenStudy
from flipscale.workflow.results import study_results

HOW = "write 'speedup of ARM', 'forecast SETTING=VALUE,...', 'PARAMETER of SETTING=VALUE,...', or the name of a claim"


def next_runs(
    opened: OpenStudy,
    budget: float,
    of: str | None,
    more: Mapping[str, Sequence[Any]],
    effect: float | None = None,
) -> Proposal:
    """The runs to add to a study for `of`, or else for its undecided claims. ResultsError where nothing is asked.

    effect: a difference that matters, in points or percent; by default the margin that the study file gives.
    """
    ids = set(study_results(opened).table["id"])
    finished: dict[str, Settings] = {run.id: run.settings for run in opened.plan.runs if run.id in ids}
    asked = _named(opened, of) if of else _undecided(compare_study(opened))
    timings = read_timings(opened.workspace.timings).at(opened.site)
    wider = further_values(opened.study, more)
    effect = opened.study.effect if effect is None else effect
    return propose(opened.study, asked, finished, budget, more=wider, timings=timings, effect=effect)


def next_rung(opened: OpenStudy, flops: float, more: Mapping[str, Sequence[Any]]) -> Rung:
    """The best model and samples for a budget of training FLOPs, by the law whose forecast of the score is best.

    ResultsError where no law of the study is one of size and samples.
    """
    results = model_sizes(study_results(opened).table)
    y = pick_score(results, opened.study.score)
    rungs = []
    why = []
    models = dict.fromkeys([*(cell.model for cell in opened.study.cells), *more.get("model", ())])
    for values, part in in_groups(results, groups_of(results, opened.axes)):
        try:
            law = fit_law(part, x=variables_of(part, y), y=y, group=values)
            size, ends, source = _best_size(part, law, y, flops)
            at = {SIZE: size, SAMPLES: flops / size}
            score = forecast(part, law.law.name, x=law.x, y=y, at=at, group=values)
        except ResultsError as error:
            why.append(f"{group_name(values)}: {error}")
            continue
        settings = {name: value for name, value in _usual(opened).items() if name not in ("model", "samples")}
        settings |= axis_values(opened.study, values)
        sizes = {
            model: plan_at(opened.study, settings | {"model": model, "samples": 1000}).cells[0].cost.flops_per_sample
            for model in models
        }
        name = settings_named(opened.study.labels)(values)
        rungs.append(Rung(name, settings, flops, size, ends, source, score, sizes))
    if not rungs:
        raise ResultsError(" ".join(["No law of this study says how a budget is best spent.", *why]))
    lower = not rungs[0].forecast.fit.rows.response.accuracy
    return (min if lower else max)(rungs, key=lambda rung: rung.forecast.value)


def _best_size(part: pd.DataFrame, law: Fit, y: str, flops: float) -> tuple[float, tuple[float, float] | None, str]:
    """The best FLOPs a sample for a budget, its CI, and what it was read from: the best sizes of smaller budgets where
    the runs have budgets, or else the law."""
    if not has_budgets(column(part, SIZE), column(part, BUDGET)):
        best = allocate(law, flops)
        return best.size, best.size_interval, f"the law {law.law.name}"
    rows, error, options = with_error(part, y, Options())
    growth = isoflop(rows, x=SIZE, y=error, budget=BUDGET, options=options)
    low, high = growth.band({BUDGET: [flops]})
    return float(growth.predict({BUDGET: [flops]})[0]), (float(low[0]), float(high[0])), "the best sizes of its budgets"


def _undecided(comparison: Comparison) -> list[Question]:
    """The undecided claims of a study; of one without claims, the speed-ups of its arms."""
    questions = list[Question]()
    why = list[str]()
    claims = comparison.stated
    asked: list[Callable[[], Question]]
    if claims:
        asked = [partial(claim_of, claim, claims) for claim in claims.claims if claim.verdict is Verdict.UNDECIDED]
    else:
        curves = _curves(comparison)
        asked = [partial(speedup_of, curve, name) for name, curve in curves.items() if curve.speedup]
        lacking = dict.fromkeys(curve.why for curve in curves.values() if not curve.speedup)
        why = [f"No speed-up: {reason}." for reason in lacking if reason]
    for quantity in asked:
        try:
            questions.append(quantity())
        except ResultsError as error:
            why.append(str(error))
    if not questions:
        raise ResultsError(" ".join(["Nothing is open to further runs.", *why, f"For something else, --for: {HOW}."]))
    return questions


def _curves(comparison: Comparison) -> dict[str, Curve]:
    """The curves along the first cost, by their names in comparison.json: those of the series and of the arm."""
    curves = (curve for curve in comparison.curves if curve.x == comparison.costs[0])
    return {", ".join(filter(None, (curve.series, curve.arm))): curve for curve in curves}


def _named(opened: OpenStudy, of: str) -> list[Question]:
    word, _, rest = of.partition(" ")
    claims = [claim.name for claim in opened.study.claims]
    if word == "forecast":
        return [_forecast(opened, _settings(rest))]
    if of.startswith("speedup of "):
        curves = _curves(compare_study(opened))
        arm = of.removeprefix("speedup of ")
        chosen = {name: curve for name, curve in curves.items() if arm in (name, curve.arm)}
        if len(chosen) > 1:
            raise ResultsError(f"{arm} is an arm of {len(chosen)} series: name one of {'; '.join(chosen)}.")
        if not chosen:
            raise ResultsError(f"There is no arm {arm!r}: {did_you_mean(arm, curves)}.")
        return [speedup_of(curve, name) for name, curve in chosen.items()]
    if of in claims and (judged := compare_study(opened).stated):
        return [claim_of(claim, judged) for claim in judged.claims if claim.claim.name == of]
    if rest.startswith("of "):
        return [_parameter(opened, word, _settings(rest.removeprefix("of ")))]
    raise ResultsError(f"--for {of!r}: {did_you_mean(of, claims) + '; or ' if claims else ''}{HOW}.")


def _settings(text: str) -> dict[str, object]:
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    return {name.strip(): plain_value(value.strip()) for name, _, value in pairs}


def _group(opened: OpenStudy, at: Mapping[str, object]) -> tuple[dict[str, object], Any, str]:
    """The one group of runs, with a law of its own, that these settings name: its values, rows and score."""
    results = model_sizes(study_results(opened).table)
    groups = list(in_groups(results, groups_of(results, opened.axes)))
    wanted = {**_usual(opened), **at}
    chosen = [
        (dict(values), part)
        for values, part in groups
        if all(is_setting(wanted[name], value) for name, value in values.items())
    ]
    if len(chosen) != 1:
        names = "; ".join(group_name(values) for values, _ in groups)
        raise ResultsError(f"These settings name {len(chosen)} laws of the study, not one; the laws are of {names}.")
    return *chosen[0], pick_score(results, opened.study.score)


def _usual(opened: OpenStudy) -> dict[str, object]:
    """The values of the axes at the base, or of the first cell where no cell has the base's."""
    usual = {}
    for name in opened.axes:
        values = [getattr(cell, name) for cell in opened.study.cells]
        of_base = opened.study.base.get(name)
        usual[name] = of_base if of_base in values else values[0]
    return {name: value for name, value in usual.items() if name != "seed"}


def _parameter(opened: OpenStudy, name: str, at: Mapping[str, object]) -> Question:
    values, part, y = _group(opened, at)
    law: Fit = fit_law(part, x=variables_of(part, y), y=y, group=values)
    return parameter_of(law, name, f", {group_name(values)}")


def _forecast(opened: OpenStudy, at: Mapping[str, object]) -> Question:
    values, part, y = _group(opened, at)
    where = variables_at(opened, {**_usual(opened), **at})
    predicted = forecast(part, x=variables_of(part, y), y=y, at=where, group=values)
    return forecast_of(predicted, " at " + ", ".join(f"{name}={value}" for name, value in at.items()))
