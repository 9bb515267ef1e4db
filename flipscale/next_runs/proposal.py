"""The runs that a study could add, those of them that tell most about what is asked, and a study file with these."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import yaml

from flipscale.analysis.fitting.study_laws import SAMPLES, SIZE
from flipscale.cell import setting_words
from flipscale.collecting import is_setting, setting_value
from flipscale.errors import PlanError
from flipscale.kinds import Compute, PartOfRun
from flipscale.next_runs.choice import Candidate, choose
from flipscale.next_runs.quantities import FURTHER_SEEDS, Question, of_seed, share_left
from flipscale.planning.identity import show_setting
from flipscale.planning.runs import Plan, Run, plan, setting_read
from flipscale.planning.timing import NOT_TIMED, Timings
from flipscale.settings.declarations import Settings, plain
from flipscale.study import Axis, Study, cells
from flipscale.study.document import Complaints
from flipscale.tables import Part, PrintedTable
from flipscale.words import count, joined

ROWS = 8
"""Rows of a table; the rest is counted."""


@dataclass(frozen=True)
class ChosenRuns:
    """Runs of one cell, or of the cells of one contrast, in the order of choice."""

    asked: Question
    runs: tuple[Run, ...]
    seeds: tuple[int, ...]
    hours: float
    share: float
    """The width of its 95 % CI once these and all steps before have run, as a share of that now."""


@dataclass(frozen=True)
class Proposal:
    """The runs to add."""

    study: Study
    steps: tuple[ChosenRuns, ...]
    budget: float
    """Device-hours."""
    unit: str
    """core-hours or GPU-hours."""
    instead: tuple[str, ...]
    """What would take more than the budget, and what could be asked in its place."""

    @property
    def runs(self) -> list[Run]:
        return list({run.id: run for step in self.steps for run in step.runs}.values())

    @property
    def hours(self) -> float:
        return sum(step.hours for step in self.steps)


def propose(
    study: Study,
    asked: Sequence[Question],
    finished: Mapping[str, Settings],
    budget: float,
    *,
    more: Mapping[str, Sequence[Any]] = {},
    timings: Timings = NOT_TIMED,
    effect: float | None = None,
) -> Proposal:
    """The runs that narrow what is asked most for their cost.

    finished: the settings of runs that have finished, by id. more: further values of axes. budget: in device-hours, as
    `timings` measured them or else as predicted. effect: a difference that matters, in points or percent. Candidates
    are further seeds of each cell, cells of the study that have not run, and twice the longest schedule.
    """
    possible = plan(extended(study, more), timings)
    runs = {run.id: run for run in possible.runs}
    costs = {run.id: run.cost.gpu_hours for run in possible.runs}
    candidates = [
        replace(candidate, runs=_with_missing(candidate.runs, runs, finished))
        for place, each in enumerate(asked)
        for candidate in (
            _of_contrast(place, each, possible, finished) if each.contrast else _of_law(place, each, runs, finished)
        )
    ]
    chosen, _ = choose([each.quantity for each in asked], candidates, costs, budget)
    steps = _steps(asked, chosen, runs, costs)
    # A seed that some cells have already is cheaper than the others.
    a_seed: dict[int, float] = {}
    for each in candidates:
        a_seed[each.quantity] = max(sum(costs[run] for run in each.runs), a_seed.get(each.quantity, 0.0))
    instead = [
        words
        for place, each in enumerate(asked)
        if (words := _instead(each, a_seed.get(place), possible.hours_unit, budget, effect))
    ]
    return Proposal(study, tuple(steps), budget, possible.hours_unit, tuple(instead))


def extended(study: Study, more: Mapping[str, Sequence[Any]]) -> Study:
    """The study with further seeds (none of its sweep's), twice its longest schedule, and further values of axes, in
    each of its grids."""

    def longer(axis: Axis) -> Axis:
        values = [*axis.values, *more.get(axis.name, ())]
        if axis.name == "samples" and all(isinstance(value, int) for value in values):
            values.append(2 * max(values))
        if axis.name == "seed":
            free = (seed for seed in itertools.count(max(values) + 1) if seed not in of_sweep)
            values += itertools.islice(free, FURTHER_SEEDS)
        return replace(axis, values=tuple(dict.fromkeys(values)))

    of_sweep = study.sweep.seeds if study.sweep else ()
    grids = {name: tuple(map(longer, _with_seeds(axes, study))) for name, axes in study.grids.items()}
    wider = replace(study, grids=grids, axes=tuple(map(longer, _with_seeds(study.axes, study))))
    return replace(wider, cells=tuple(cells(wider)))


def further_values(study: Study, more: Mapping[str, Sequence[object]]) -> dict[str, list[object]]:
    """Further values of axes, as the study reads them. PlanError for a name that is no axis, or an impossible value."""
    read: dict[str, list[object]] = {}
    for name, values in more.items():
        with_it = {grid: axes for grid, axes in study.grids.items() if any(axis.name == name for axis in axes)}
        if not with_it:
            names = ", ".join(axis.name for axis in study.axes)
            raise PlanError(f"--add {name}: {study.name} has no such axis; it varies {names}.")
        read[name] = [setting_read(name, value, study.record) for value in values]
        for value in read[name]:
            only = Axis(name, (value,))
            complaints = Complaints()
            grids = {g: tuple(only if axis.name == name else axis for axis in axes) for g, axes in with_it.items()}
            if not cells(replace(study, grids=grids), complaints):
                what = "; ".join(what for _, what in complaints.found)
                raise PlanError(f"--add {name}={show_setting(value)} gives no cell: {what}.")
    return read


def _with_seeds(axes: Sequence[Axis], study: Study) -> tuple[Axis, ...]:
    if any(axis.name == "seed" for axis in axes):
        return tuple(axes)
    return (*axes, Axis("seed", (study.cells[0].seed,)))


def _with_missing(ids: Sequence[str], runs: Mapping[str, Run], finished: Mapping[str, Settings]) -> tuple[str, ...]:
    """These runs, and those they start from that have not finished."""
    needed = dict.fromkeys(ids)
    for before in (runs[run].after for run in ids):
        needed |= dict.fromkeys(_with_missing([run for run in before if run not in finished], runs, finished))
    return tuple(needed)


def _of_contrast(place: int, asked: Question, possible: Plan, finished: Mapping[str, Settings]) -> list[Candidate]:
    """A further seed of all cells of a contrast."""
    assert asked.contrast is not None
    wanted = {_seedless(finished[run]) for run in asked.contrast.runs if run in finished}
    by_seed: dict[int, list[str]] = {}
    for run in possible.cells:
        if _seedless(run.settings) in wanted:
            by_seed.setdefault(run.settings.seed, []).append(run.id)
    variance = asked.contrast.design.sd**2
    return [
        Candidate(place, np.ones(1), variance, missing)
        for ids in by_seed.values()
        if len(ids) == len(wanted) and (missing := tuple(run for run in ids if run not in finished))
    ]


def _of_law(place: int, asked: Question, runs: Mapping[str, Run], finished: Mapping[str, Settings]) -> list[Candidate]:
    """A run of the law's group, at any size and length that its variables cover."""
    assert asked.fit is not None
    fit = asked.fit
    candidates = []
    fitted = {finished[run].seed for run in fit.used if run in finished}
    further = sorted({run.settings.seed for run in runs.values()} - fitted)
    seeds = [*sorted(fitted), *further[:FURTHER_SEEDS]]
    for run in runs.values():
        if run.cell is None or run.id in finished or not _in_group(run.settings, fit.group):
            continue
        variables = variables_of_run(run, runs)
        x = np.array([[variables[name] for name in fit.x]])
        jacobian = fit.law.evaluate(fit.solution.theta, x)[1][0]
        if fit.whole_seeds:
            if run.settings.seed not in seeds:
                continue
            jacobian = of_seed(jacobian, seeds.index(run.settings.seed), fit.whole_seeds + FURTHER_SEEDS)
        candidates.append(Candidate(place, jacobian, fit.spread**2, (run.id,)))
    return candidates


def _in_group(settings: Settings, group: Mapping[str, object]) -> bool:
    return all(is_setting(getattr(settings, name), value) for name, value in group.items())


def _seedless(settings: Settings) -> str:
    return repr(replace(settings, seed=0))


def _steps(
    asked: Sequence[Question], chosen: Sequence[Candidate], runs: Mapping[str, Run], costs: Mapping[str, float]
) -> list[ChosenRuns]:
    """Choices of the same cells together, in the order in which the first of each was chosen."""
    now = {place: each.quantity for place, each in enumerate(asked)}
    groups: dict[tuple[int, tuple[str, ...]], list[Candidate]] = {}
    for candidate in chosen:
        cells_of = tuple(sorted({_seedless(runs[run].settings) for run in candidate.runs}))
        groups.setdefault((candidate.quantity, cells_of), []).append(candidate)
    steps = []
    paid = set[str]()
    added: dict[int, list[list[float]]] = {}
    for (place, _), group in groups.items():
        hours = 0.0
        fit = asked[place].fit
        for candidate in group:
            now[place] = now[place].after(candidate.gradient, candidate.variance)
            hours += sum(costs[run] for run in candidate.runs if run not in paid)
            paid.update(candidate.runs)
            if fit is not None:
                variables = variables_of_run(runs[candidate.runs[0]], runs)  # The others are those it starts from.
                added.setdefault(place, []).append([variables[name] for name in fit.x])
        of_group = tuple(runs[run] for candidate in group for run in candidate.runs)
        seeds = tuple(sorted({run.settings.seed for run in of_group}))
        share = share_left(asked[place], now[place], np.array(added.get(place, [])))
        steps.append(ChosenRuns(asked[place], of_group, seeds, hours, share))
    return steps


def _instead(asked: Question, a_seed: float | None, unit: str, budget: float, effect: float | None) -> str:
    """What finding the effect in a contrast takes, or else what as many seeds again would find; '' where the budget and
    the further seeds are enough.

    a_seed: device-hours of one further seed; None where the study has no further one.
    """
    contrast = asked.contrast
    if contrast is None or a_seed is None:
        return ""

    def price(seeds: int | None) -> str:
        if seeds is None:
            return "more than 1,000 seeds"
        more = seeds - contrast.seeds
        return f"about {count(seeds, 'seed')}" + (f", {more * a_seed:.2g} {unit} more" if more > 0 else "")

    if contrast.margin is None:
        effect = None  # It is no ratio.
    needed = 2 * contrast.seeds if effect is None else contrast.design.seeds_for(effect)
    further = None if needed is None else needed - contrast.seeds
    if further is not None and further <= FURTHER_SEEDS and further * a_seed <= budget:
        return ""
    if effect is None:
        size = contrast.design.detectable(2 * contrast.seeds)
        assert size is not None
        again = f"as many seeds again, {contrast.seeds * a_seed:.2g} {unit} more, would find {asked.amount(size)}"
        said = f"{asked.name}: {again} with a chance of 80 %"
    else:
        said = f"{asked.name}: to find {asked.amount(effect)} takes {price(needed)}"
    if contrast.margin is None:
        return f"{said}; {contrast.seeds} have run"
    level = price(contrast.design.seeds_for_level(contrast.margin))
    return f"{said}; to show both level (within {contrast.margin:g}), if they are, {level}; {contrast.seeds} have run"


# As people read it


def proposal_parts(proposal: Proposal) -> list[Part]:
    """For each question the runs, their cost, and its interval now and as expected; then what the budget cannot do."""
    if not proposal.steps:
        within = f"{proposal.budget:.3g} {proposal.unit}"
        return [f"No run that the study allows would tell more within {within}.", *proposal.instead]
    head = ("runs", proposal.unit, "95 % CI now", "expected CI")
    tables: list[Part] = []
    for name in dict.fromkeys(step.asked.name for step in proposal.steps):
        steps = [step for step in proposal.steps if step.asked.name == name]
        rows = tuple(
            (
                _run_words(step, proposal.study),
                f"{step.hours:.2g}",
                step.asked.interval(),
                step.asked.interval(step.share),
            )
            for step in steps[:ROWS]
        )
        unit = f", {steps[0].asked.unit}" if steps[0].asked.unit else ""
        more = (f"and {count(len(steps) - ROWS, 'further row')} in the study file",) if steps[ROWS:] else ()
        tables.append(PrintedTable(f"{name}{unit}", head, rows, more))
    once = ", those of several rows once" if sum(len(step.runs) for step in proposal.steps) > len(proposal.runs) else ""
    total = f"{count(len(proposal.runs), 'run')}{once}, {proposal.hours:.2g} {proposal.unit}."
    return [*tables, total, *proposal.instead]


def _run_words(step: ChosenRuns, study: Study) -> str:
    """'seeds 5 to 9 of 2 cells', or 'mask 75 %, samples 16k, seeds 5 to 9'."""
    ranges = [list(each) for _, each in itertools.groupby(step.seeds, lambda seed: seed - step.seeds.index(seed))]
    listed = joined(f"{each[0]} to {each[-1]}" if len(each) > 1 else f"{each[0]}" for each in ranges)
    seeds = f"seed{'s' if len(step.seeds) > 1 else ''} {listed}"
    if step.asked.contrast is not None:
        return f"{seeds} of {count(len({_seedless(run.settings) for run in step.runs}), 'cell')}"
    settings = step.runs[0].settings
    base = study.base
    named = [
        axis.name
        for axis in study.axes
        if axis.name not in ("seed", *step.asked.group)
        and (axis.name == "samples" or base.get(axis.name, ...) != getattr(settings, axis.name))
    ]
    words = [setting_words(name, setting_value(getattr(settings, name)), study.labels) for name in named]
    return ", ".join([*words, seeds])


# As a study file


def study_with(proposal: Proposal) -> str:
    """The text of the study file with these runs beside its own: a grid for each cell that has more seeds."""
    names = [axis.name for axis in proposal.study.axes if axis.name != "seed"]
    seeds: dict[str, set[int]] = {}
    values: dict[str, Mapping[str, Any]] = {}
    for run in proposal.runs:
        at = {name: getattr(run.settings, name) for name in names}
        seeds.setdefault(repr(at), set()).add(run.settings.seed)
        values[repr(at)] = at
    added = [{name: [value] for name, value in at.items()} | {"seed": sorted(seeds[key])} for key, at in values.items()]
    words = f"{count(len(proposal.runs), 'run')} more, {proposal.hours:.2g} {proposal.unit}"
    return with_grids(proposal.study, added, words)


def with_grids(study: Study, added: Sequence[Mapping[str, list[Any]]], words: str) -> str:
    """The text of the study file with further grids beside its own. words: what they are, for its first line."""
    data = dict(study.document.data)
    grids: dict[str, Mapping[str, list[Any]]] = {
        name: {axis.name: [_plain(value) for value in axis.values] for axis in _with_seeds(axes, study)}
        for name, axes in study.grids.items()
    }
    free = (name for number in itertools.count(1) if (name := f"next {number}") not in study.grids)
    for name, grid in zip(free, added, strict=False):
        grids[name] = {each: [_plain(value) for value in values] for each, values in grid.items()}
    axes: dict[str, list[Any]] = {}
    for grid in grids.values():
        for name, of_axis in grid.items():
            axes[name] = [*axes.get(name, []), *(value for value in of_axis if value not in axes.get(name, []))]
    data.pop("seeds", None)
    data |= {"axes": axes, "design": {"grids": grids}}
    dumper = type("Dumper", (yaml.SafeDumper,), {"ignore_aliases": lambda *_: True})
    body = yaml.dump(data, Dumper=dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
    return f"# {study.name}.yaml and {words}\n{body}"


def _plain(value: object) -> Any:
    """A value of a setting as a study file holds it."""
    if isinstance(value, Compute | PartOfRun):
        return str(value)
    written = plain(value)
    return {key: item for key, item in written.items() if item is not None} if isinstance(written, dict) else written


def variables_of_run(run: Run, runs: Mapping[str, Run]) -> dict[str, float]:
    """What a planned run has of FLOPs per sample and samples seen, those of its parents included.

    runs: by id, its parents among them.
    """
    line = [run]
    seen = 0
    while line:
        seen += line[-1].whole_cost.samples_seen
        line.extend(runs[parent] for parent in line.pop().parents)
    return {SIZE: float(run.cost.flops_per_sample), SAMPLES: float(seen)}
