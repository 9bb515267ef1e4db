"""The content of a study's report: its tables, the state of each run, logs of failures, fits and drawn figures."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from flipscale.analysis.comparing import Comparison, compare_finished
from flipscale.analysis.plotting import FIGURES, number_arms
from flipscale.collecting import baseline_of, read_results, setting_values
from flipscale.data.code import CodeChanges, code_changes
from flipscale.door.columns import SETTING_COLUMNS
from flipscale.errors import DamagedFile, ResultsError
from flipscale.kinds import JsonObject
from flipscale.launch import RunProgress, StateReader, run_progress
from flipscale.plain_files import or_none, read_bytes, read_json
from flipscale.planning.runs import Plan, Run
from flipscale.planning.sweeps import SweepOutcome
from flipscale.run import RunFolder, State
from flipscale.study import Study
from flipscale.workspace import LAUNCHERS, Workspace

LOG_BYTES, LOG_LINES, LOG_COLUMNS = 8192, 15, 400
"""How many bytes at the end of a log are read, how many of its lines the page shows, and how long each may be."""

MOST_FAILURES = 200
"""The most failures that the page lists with their logs. The table of runs has all, with kind and reason."""

FIGURE_BYTES = 2_000_000
"""Drawn figures are embedded in the page up to this total size; the others are named."""

MOST_CURVES, CURVE_POINTS = 60, 100
"""The most runs whose curves are drawn, and about how many points each curve has."""

BAD = (State.FAILED, State.LOST)


@dataclass(frozen=True)
class FailedRun:
    """A run that failed or was lost."""

    run: RunProgress
    kind: str
    """As error.json has it, or 'lost'."""
    reason: str
    log: str
    """The last lines of its log; '' where it has none."""


@dataclass(frozen=True)
class RunCurve:
    """A metric of a run by its steps, as far as it has come."""

    run: str
    metric: str
    steps: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True)
class DrawnFigure:
    """A figure that `flipscale plot` drew."""

    name: str
    about: str
    file: str
    """Its file, beside the page."""
    svg: bytes | None
    """None if it would make the page too large."""


@dataclass(frozen=True)
class Evidence:
    """Everything that the page shows, and in words why something is missing."""

    study: Study
    planned: Plan
    """Every run."""
    study_text: str
    results: pd.DataFrame
    """results.csv, with `arm` in words; empty without one."""
    runs: Mapping[str, RunProgress]
    """Every run of the plan by its id."""
    arms: Mapping[str, str]
    """The arm of each cell's run, in words, by id."""
    arm_names: tuple[str, ...]
    """The arms in the order that figures have them; the first is the baseline."""
    own_hours: Mapping[str, float]
    """Measured device-hours of a run itself, without its parents', by id; unknown ones are absent."""
    comparison: Comparison | None
    why_no_comparison: str
    failures: tuple[FailedRun, ...]
    """The first MOST_FAILURES at most."""
    code: CodeChanges
    """Which code trained the finished runs whose folders are here, and how it differs from today's."""
    laws: "FittedLaws"
    figures: tuple[DrawnFigure, ...]
    curves: tuple[RunCurve, ...] = ()
    """Of MOST_CURVES runs at most, those that run first."""
    sweep: SweepOutcome | None = None
    """What chose a setting for each arm."""

    @property
    def kinds_of_failure(self) -> Counter[str]:
        """How many runs failed in each way or are lost, of all runs."""
        return Counter(kind_of(run) for run in self.runs.values() if run.state in BAD)


def gather(study: Study, planned: Plan, study_file: Path, results: Path, plots: Path) -> Evidence:
    """Read what there is. Raises ResultsError for a damaged results.csv or fits.json."""
    workspace = Workspace(results, plots)
    files = workspace.study(study.name)
    baseline = baseline_of(study)
    table = read_results(files.results) if files.results.exists() else pd.DataFrame({"id": []})
    table = table[table["id"].isin([run.id for run in planned.cells])].reset_index(drop=True)
    runs = _runs(planned, workspace, set(table["id"]))
    ids = [run.id for run in planned.cells]  # None while a sweep has chosen no value.
    names = [*SETTING_COLUMNS, *(name for name in study.record.parameter_names if name not in SETTING_COLUMNS)]
    settings = pd.DataFrame([setting_values(run.settings) for run in planned.cells], ids, names)
    cells, words = number_arms(settings, baseline, study.labels)
    arms = {str(run_id): words[number] for run_id, number in cells["arm"].items()}
    table = table.assign(arm=[arms[run_id] for run_id in table["id"]])
    comparison, why = _compared(table, study, planned, workspace)
    laws = _laws(files.fits)
    if comparison and study.answer == "law":
        comparison = replace(comparison, laws=tuple(laws.fits))
    bad = [runs[run.id] for run in planned.runs if runs[run.id].state in BAD]
    return Evidence(
        study=study,
        planned=planned,
        study_text=study_file.read_text(encoding="utf-8"),
        results=table,
        runs=runs,
        arms=arms,
        arm_names=tuple(dict.fromkeys(arms.values())),
        own_hours=_own_hours(planned, table, workspace),
        comparison=comparison,
        why_no_comparison=why,
        failures=tuple(_failure(run, workspace) for run in bad[:MOST_FAILURES]),
        code=code_changes(planned.runs, results),
        laws=laws,
        figures=_figures(files.figures),
        curves=tuple(_curves(runs, workspace)),
    )


def _runs(planned: Plan, workspace: Workspace, in_table: set[str]) -> dict[str, RunProgress]:
    """The progress of each run. A run with a row in the table has finished, even if its folder is gone."""
    looks = StateReader(workspace.results).read([run for run in planned.runs if run.id not in in_table])
    runs = {}
    for run in planned.runs:
        if run.id in looks:
            runs[run.id] = run_progress(run, workspace.results, looks[run.id])
        else:
            runs[run.id] = RunProgress(run.id, State.FINISHED, run.cost.samples_seen, run.cost.samples_seen)
    return runs


def _compared(table: pd.DataFrame, study: Study, planned: Plan, workspace: Workspace) -> tuple[Comparison | None, str]:
    if table.empty:
        return None, "No finished run has been collected yet, so there is nothing to compare."
    try:
        return compare_finished(table, study, planned, workspace), ""
    except ResultsError as reason:
        return None, str(reason)


def _own_hours(planned: Plan, table: pd.DataFrame, workspace: Workspace) -> dict[str, float]:
    """The hours of each finished run itself. The table adds a parent's hours to its child's, so the child's own hours
    come from its folder, or else from subtracting the parent's row."""
    if table.empty:
        return {}
    rows = {str(name): float(hours) for name, hours in zip(table["id"], table["gpu_hours"], strict=True) if hours > 0}
    measured = {run.id: _hours_of(run, rows, workspace) for run in planned.runs}
    return {name: hours for name, hours in measured.items() if hours is not None}


def _hours_of(run: Run, rows: Mapping[str, float], workspace: Workspace) -> float | None:
    """The hours of a run itself; `rows` has the hours of the table."""
    if not run.after and run.id in rows:
        return rows[run.id]
    result = or_none(RunFolder(workspace.run(run.id)).result)  # `collect` names a damaged one.
    if result and result.own_gpu_hours is not None:
        return result.own_gpu_hours
    if run.id in rows and not run.trunk and all(parent in rows for parent in run.parents):
        return rows[run.id] - sum(rows[parent] for parent in run.parents)
    return None


def _failure(run: RunProgress, workspace: Workspace) -> FailedRun:
    folder = RunFolder(workspace.run(run.id))
    text = _log_of(folder, workspace.results)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.decode(errors="replace")).splitlines()[-LOG_LINES:]
    return FailedRun(
        run,
        kind=kind_of(run),
        reason=run.failure.reason if run.failure else run.says or "its process is gone",
        log="\n".join(line[:LOG_COLUMNS] for line in lines),
    )


def kind_of(run: RunProgress) -> str:
    """The kind of a run's failure, as error.json has it; the state of one that left none."""
    return str(run.failure.kind if run.failure else run.state)


def _log_of(folder: RunFolder, results: Path) -> bytes:
    """The end of its log, or else of its job's. job.json may name any file: one outside the results folder, or a link,
    is not a log."""
    text = folder.tail("log.txt", LOG_BYTES)
    job = None if text else or_none(folder.job)
    log = Path(job.log) if job else Path()
    is_ours = log.parent.parent in [results.resolve() / name for name in LAUNCHERS] and not log.parent.is_symlink()
    return RunFolder(log.parent).tail(log.name, LOG_BYTES) if is_ours and log.suffix == ".log" else text


def _curves(runs: Mapping[str, RunProgress], workspace: Workspace) -> Iterator[RunCurve]:
    """The curves of runs whose metrics.jsonl is here."""
    drawn = 0
    for run in sorted(runs.values(), key=lambda run: run.state is not State.RUNNING):
        folder = RunFolder(workspace.run(run.id))
        if not (folder.path / "metrics.jsonl").exists():
            continue
        from flipscale.collecting.curves import read_points  # A small install has no pyarrow, and no folders.

        read = or_none(read_points, folder)
        if read is None or not len(read[0]):
            continue
        for metric, points in read[0].to_pandas().groupby("metric", sort=False):
            every = -(-len(points) // CURVE_POINTS)
            kept = points[::-1][::every][::-1]  # The last point always.
            yield RunCurve(run.id, str(metric), kept["step"].tolist(), kept["value"].tolist())
        drawn += 1
        if drawn == MOST_CURVES:
            return


@dataclass(frozen=True)
class FittedLaws:
    """What fits.json says; nothing without the file."""

    fits: list[JsonObject] = field(default_factory=list)
    not_fitted: dict[str, str] = field(default_factory=dict)
    """Name of a law, and why it could not be fitted."""


def _laws(path: Path) -> FittedLaws:
    try:
        laws: FittedLaws = read_json(path, FittedLaws)
        return laws
    except FileNotFoundError:
        return FittedLaws()
    except DamagedFile as error:
        raise ResultsError(f"{error} Make it again with `flipscale fit`, or delete it.") from error


def _figures(folder: Path) -> tuple[DrawnFigure, ...]:
    """The drawn figures, in the order of `plot`; the first that fit go into the page."""
    files = {path.stem: path for path in sorted(folder.glob("*.svg"))}
    drawn = []
    room = FIGURE_BYTES
    for name in [*(name for name in FIGURES if name in files), *(name for name in files if name not in FIGURES)]:
        if (data := or_none(read_bytes, files[name])) is None:
            continue  # `plot` draws it anew.
        fits = len(data) <= room
        room -= len(data) if fits else 0
        about = FIGURES[name].about if name in FIGURES else name.replace("_", " ")
        drawn.append(DrawnFigure(name, about, files[name].name, data if fits else None))
    return tuple(drawn)


def axes_of(evidence: Evidence) -> list[str]:
    """The settings that vary between cells, except for the baseline's, which make the arm, and the seed."""
    names = dict.fromkeys(axis.name for axes in evidence.study.grids.values() for axis in axes)
    cells: tuple[Run, ...] = evidence.planned.cells
    return [
        name
        for name in names
        if name not in evidence.study.baseline
        and name != "seed"
        and any(getattr(run.settings, name) != getattr(cells[0].settings, name) for run in cells)
    ]
