"""A study that somebody works with: what its file says, its plan, and where its results and figures are."""

import contextlib
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from flipscale.collecting import setting_values
from flipscale.collecting.record import planned_pairs, results_of
from flipscale.cost.arithmetic import trunk_steps
from flipscale.door.sweep import SweepOutcome
from flipscale.errors import DamagedFile, ResultsError
from flipscale.guard import check_folder, make_folder
from flipscale.plain_files import or_none, read_bytes, replacing
from flipscale.planning.identity import RECIPE
from flipscale.planning.runs import NO_TRUNKS, KeptTrunks, Plan
from flipscale.planning.runs import plan as plan_study
from flipscale.run import TRUNK_FILE, RunFolder, all_timings, as_json, read_timings
from flipscale.settings.declarations import Resources, Settings
from flipscale.settings.devices import INTERCONNECT, Price
from flipscale.study import Study, read_study
from flipscale.words import count, device_hours, hours_or_seconds
from flipscale.workflow.messages import say
from flipscale.workflow.owner import check_owner, note_owner
from flipscale.workflow.tuned import with_sweep
from flipscale.workspace import StudyFiles, Workspace, usual_results

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class OpenStudy:
    """A study, the file it was read from, and the workspace that its results are in."""

    file: Path
    study: Study
    workspace: Workspace = field(default_factory=Workspace)
    site: str | None = None
    """The site of its runs (`Launcher.site_name`); None if unknown."""
    price: Price | None = None
    """The price of time at the site of its runs, if known."""
    interconnect: float = INTERCONNECT
    """Gigabits a second between nodes there, for each device."""
    sweep: SweepOutcome | None = None
    """What chooses a setting for its arms; the study has the choice once all of its runs have ended."""

    @cached_property
    def plan(self) -> Plan:
        """Every run of the study with its cost: by what a probe has timed at its site, or else where one ran last."""
        timings = read_timings(self.workspace.timings).at(self.site)
        trunks = kept_trunks(self.workspace) if any(map(trunk_steps, self.study.cells)) else NO_TRUNKS
        return replace(plan_study(self.study, timings, trunks), price=self.price, interconnect=self.interconnect)

    @cached_property
    def finished_plan(self) -> Plan:
        """The plan for tables of finished runs, with the times of the place, this machine or another, at which a probe
        has timed most of the runs (the latest of several). An archive therefore gives the same table everywhere."""
        timings = all_timings(self.workspace.timings)
        timed = (plan_study(self.study, timings.measured_at(place)) for place in timings.places())
        plans = [plan_study(self.study), *timed]
        return max(plans, key=lambda plan: sum(run.timed is not None for run in plan.runs))

    @property
    def files(self) -> StudyFiles:
        return self.workspace.study(self.study.name)

    @property
    def axes(self) -> list[str]:
        return [axis.name for axis in self.study.axes]

    @property
    def arguments(self) -> str:
        """The arguments with which another command looks at the same runs."""
        if self.workspace.results == usual_results():
            return str(self.file)
        return f"{self.file} --results {self.workspace.results}"


def kept_trunks(workspace: Workspace) -> KeptTrunks:
    """The trunks that finished runs have kept. A damaged folder has none, which `status` of its study says."""
    runs: dict[str, tuple[Settings, Resources]] = {}
    begun: dict[str, str | None] = {}
    for path in workspace.runs.iterdir() if workspace.runs.is_dir() else ():
        folder = RunFolder(path)
        with contextlib.suppress(DamagedFile, OSError):
            if (asked := folder.asked()) is None:
                continue
            begun[folder.id] = asked.trunk.run if asked.trunk else None
            if folder.is_finished() and (path / TRUNK_FILE).is_file() and asked.recipe in (None, RECIPE):
                runs[folder.id] = asked.settled, asked.resources
    return KeptTrunks(runs, begun)


def open_study(
    file: str | Path,
    workspace: Workspace,
    site: str | None = None,
    *,
    price: Price | None = None,
    interconnect: float = INTERCONNECT,
) -> OpenStudy:
    """Read a study. FlipscaleError where another study's results are in its folder.

    site: where its runs go, as `Launcher.site_name` names it. price, interconnect: what time costs
        there, and its network, by its site file.
    """
    opened = OpenStudy(Path(file), read_study(file), workspace, site, price, interconnect)
    for folder in (workspace.runs, opened.files.folder):
        check_folder(folder)
    check_owner(opened.files.folder, opened.file)
    study, sweep = with_sweep(opened.study, workspace)
    return replace(opened, study=study, sweep=sweep)


def sweep_words(opened: OpenStudy) -> str:
    """Where the sweep stands, in a sentence or two; '' for a study without one."""
    sweep = opened.sweep
    number = len(opened.plan.following)
    if sweep is None:
        return ""
    if not opened.study.awaits_choice:
        return sweep.words
    following = count(number, "run")
    over = sweep.sweep.over
    if sweep.due:
        runs = count(len({each.run.id for each in opened.plan.swept}), "run")
        added = sum(map(len, opened.study.further.values()))
        more = f", {count(added, 'value')} added at an edge" if added else ""
        ended = f"{len(sweep.scores) + sweep.unscored} of {runs} of the sweep have ended{more}"
        if sweep.unscored:
            ended += f", {sweep.unscored} of them not scored yet, which flipscale submit does"
        return f"{ended}; {following} {'follows' if number == 1 else 'follow'} with the {over} that it chooses."
    stay = f"{following} {'does' if number == 1 else 'do'} not start"
    return f"The sweep chose no {over}, so {stay}. {'. '.join(sweep.refusals)}."


def swept_table(opened: OpenStudy) -> "pd.DataFrame":
    """A row for each ended run of the study's sweep: its settings, FLOPs and score."""
    import pandas as pd

    assert opened.sweep is not None
    scores = opened.sweep.scores
    return pd.DataFrame(
        {
            **setting_values(run.settings),
            "flops_per_sample": run.cost.flops_per_sample,
            "train_flops": run.whole_cost.train_flops,
            opened.sweep.sweep.by: scores[run.id],
        }
        for run in {each.run.id: each.run for each in opened.plan.swept}.values()
        if run.id in scores
    )


def check_choice(opened: OpenStudy) -> None:
    """Raise ResultsError where the sweep has not chosen yet, so that no run of the study itself can have finished."""
    if opened.study.awaits_choice:
        raise ResultsError(sweep_words(opened))


def write_plan(opened: OpenStudy) -> None:
    """Write plan.json, and say where."""
    say_folder(opened)
    files = opened.files
    make_folder(files.folder)
    note_owner(files.folder, opened.file)
    write_plan_file(opened.plan, files)


def write_plan_file(plan: Plan, files: StudyFiles) -> None:
    """Write plan.json if it has changed."""
    text = as_json(plan.to_dict(), rows="runs").encode() + b"\n"
    if or_none(read_bytes, files.plan) != text:
        with replacing(files.plan) as file:
            file.write(text)


def finished_here(workspace: Workspace, ids: Iterable[str]) -> set[str]:
    """Those of these runs that have finished and whose folders are here."""
    return {run_id for run_id in ids if os.path.exists(f"{workspace.runs}/{run_id}/result.json")}  # noqa: PTH110


def say_folder(opened: OpenStudy) -> None:
    """Name the results folder in use: from another working directory it is another one."""
    folder = opened.files.folder.resolve()
    new = "" if folder.exists() else " (new; --results or FLIPSCALE_RESULTS names another)"
    say(f"results folder: {folder}{new}")


def say_power(opened: OpenStudy) -> None:
    """Say the smallest difference that the plan's seeds detect; nothing for a study without twins."""
    from flipscale.analysis.sensitivity import planned_words, unknown_words  # It loads scipy.

    pairs = planned_pairs(opened.study, opened.plan)
    sensitivity = None
    if pairs and opened.files.results.exists():
        from flipscale.analysis.comparing import planned_sensitivity
        from flipscale.collecting import read_results

        with contextlib.suppress(ResultsError):  # `compare` reports the fault.
            table = read_results(opened.files.results)
            sensitivity = planned_sensitivity(results_of(table, opened.study, opened.plan))
    if pairs:
        say(planned_words(sensitivity) if sensitivity else unknown_words(pairs))


def cost_in_words(plan: Plan) -> str:
    """The cost of a plan, in a line."""
    total = plan.total
    runs = count(total.runs, "run")
    if plan.following:
        runs += f" ({len(plan.following)} of them after the sweep)"
    money = f", {plan.money}" if plan.money else ""
    unit, factor = hours_or_seconds(total.gpu_hours)
    time = f"{total.hours * factor} {device_hours(plan.device, unit)}{_timed_in_words(plan)}"
    if not all(run.is_priced for run in plan.runs):
        time = f"unknown {device_hours(plan.device)}"
    flops = f"{total.train_flops:.2e}" if total.train_flops or plan.runs[0].settings.is_clip else "unknown"
    return f"{runs}, {flops} FLOPs, {time}{money}"


def _timed_in_words(plan: Plan) -> str:
    """', timed at local': which runs a probe has timed, and where; '' where it has none."""
    timed = [run.timed for run in plan.runs if run.timed is not None]
    if not timed:
        return ""
    which = "" if len(timed) == len(plan.runs) else f" for {len(timed)} of them"
    return f", timed{which} at {timed[0].place.site}"


def say_warnings(plan: Plan, *, but: Collection[str] = ()) -> None:
    """Report warnings before anything starts, except those that are reported elsewhere."""
    for warning in plan.warnings:
        if warning not in but:
            say(f"warning: {warning}")
