"""The page of a study: what its files say, gathered, and the page written."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from flipscale.analysis.comparing import Comparison, compare_finished
from flipscale.analysis.plotting import FIGURES, number_arms
from flipscale.analysis.reporting import Report, page
from flipscale.analysis.reporting.evidence import DrawnFigure, Evidence, FailedRun, FittedLaws, RunCurve, TrainingCode
from flipscale.cell import write_cell
from flipscale.collecting import baseline_of, read_results, setting_values
from flipscale.collecting.record import results_of
from flipscale.data.code_changes import code_changes
from flipscale.door.columns import SETTING_COLUMNS
from flipscale.door.record import Results
from flipscale.door.run_states import Hours, RunRecord, Shown
from flipscale.door.sweep import SweepOutcome
from flipscale.errors import DamagedFile, ResultsError, missing_package
from flipscale.guard import make_folder
from flipscale.launch import RunProgress, StateReader, run_progress
from flipscale.plain_files import or_none, read_bytes, read_json, replacing
from flipscale.planning.identity import dataset_name, show_setting
from flipscale.planning.runs import Plan, Run
from flipscale.run import RunFolder, State
from flipscale.study import Study
from flipscale.workflow.messages import say
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


def write_report(
    study: Study, planned: Plan, study_file: Path, results: Path, plots: Path, sweep: SweepOutcome | None = None
) -> Report:
    """Write plots/NAME/report.html from the files in `results` and `plots`; the page names missing ones."""
    evidence = gather(study, planned, study_file, results, plots, sweep)
    data = page(evidence).encode()
    path = Workspace(results, plots).study(study.name).report
    make_folder(path.parent)
    with replacing(path) as file:
        file.write(data)
    return Report(path, len(data), evidence)


def gather(
    study: Study, planned: Plan, study_file: Path, results: Path, plots: Path, sweep: SweepOutcome | None = None
) -> Evidence:
    """Read what there is. Raises ResultsError for a damaged results.csv or fits.json."""
    workspace = Workspace(results, plots)
    files = workspace.study(study.name)
    table = read_results(files.results) if files.results.exists() else pd.DataFrame({"id": []})
    table = table[table["id"].isin([run.id for run in planned.cells])].reset_index(drop=True)
    progress = _progress(planned, workspace, set(table["id"]))
    arms = _arms(study, planned)
    table = table.assign(arm=[arms[run_id] for run_id in table["id"]])
    found = results_of(table, study, planned, files.record)
    comparison, why = _compared(found)
    laws = _laws(files.fits)
    if comparison and study.answer == "law":
        comparison = replace(comparison, laws=tuple(laws.fits))
    hours = _own_hours(planned, table, workspace)
    axes = _axes(study, planned)
    shown = dict.fromkeys([*axes, *study.baseline, study.x or "samples"])
    tried = {each.run.id for each in planned.swept}
    runs = tuple(
        _record(run, progress[run.id], arms.get(run.id), shown, hours.get(run.id), tried=run.id in tried)
        for run in planned.runs
    )
    bad = [progress[run.id] for run in planned.runs if progress[run.id].state in BAD]
    trained = code_changes(planned.runs, results)
    spent = sum(hours.values())
    paid = planned.price.of(Hours(spent, spent, spent), planned.device) if planned.price else None
    return Evidence(
        record=found.record,
        is_clip=study.record.is_clip,
        data=tuple(dict.fromkeys(dataset_name(run.settings.data) for run in planned.cells if run.settings.is_clip)),
        axes=tuple(axes),
        limits=", ".join(f"{key} {value:g}" for key, value in vars(study.budget).items() if value is not None),
        study_text=study_file.read_text(encoding="utf-8"),
        runs=runs,
        device=planned.device,
        hours=planned.total.hours,
        money=str(planned.money or ""),
        money_spent=f"{paid.about:,.2f} {paid.currency}" if paid and spent else "",
        results=table,
        arm_names=tuple(dict.fromkeys(arms.values())),
        comparison=comparison,
        why_no_comparison=why,
        failures=tuple(_failure(run, workspace) for run in bad[:MOST_FAILURES]),
        code=TrainingCode(tuple((str(code), runs) for code, runs in trained.codes), tuple(trained.sentences())),
        laws=laws,
        figures=_figures(files.figures),
        curves=tuple(_curves(progress, workspace)),
        sweep=sweep,
    )


def _arms(study: Study, planned: Plan) -> dict[str, str]:
    """The arm of each cell's run, in words, by id, in the order of the arms."""
    ids = [run.id for run in planned.cells]  # None while a sweep has chosen no value.
    names = [*SETTING_COLUMNS, *(name for name in study.record.parameter_names if name not in SETTING_COLUMNS)]
    settings = pd.DataFrame([setting_values(run.settings) for run in planned.cells], ids, names)
    cells, words = number_arms(settings, baseline_of(study), study.labels)
    return {str(run_id): words[number] for run_id, number in cells["arm"].items()}


def _axes(study: Study, planned: Plan) -> list[str]:
    """The settings that vary between cells, except for the baseline's and the seed."""
    names = dict.fromkeys(axis.name for axes in study.grids.values() for axis in axes)
    cells = planned.cells
    return [
        name
        for name in names
        if name not in study.baseline
        and name != "seed"
        and any(getattr(run.settings, name) != getattr(cells[0].settings, name) for run in cells)
    ]


def _record(
    run: Run,
    progress: RunProgress,
    arm: str | None,
    shown: Collection[str],
    measured: float | None,
    *,
    tried: bool,
) -> RunRecord:
    """The run as the page shows it, with these of its settings."""
    return RunRecord(
        id=run.id,
        cell=None if run.cell is None else write_cell(run.cell),
        arm=arm,
        tried=tried,
        settings={name: _shown(getattr(run.settings, name)) for name in shown},
        seed=run.settings.seed,
        state=progress.state,
        kind=_kind_of(progress) if progress.state in BAD else "",
        done=progress.done,
        why=progress.says or progress.story,
        flops=run.cost.train_flops,
        hours=run.cost.hours,
        is_priced=run.is_priced,
        measured=measured,
    )


def _shown(value: object) -> Shown:
    return Shown(value if isinstance(value, int | float) else None, show_setting(value))


def _progress(planned: Plan, workspace: Workspace, in_table: set[str]) -> dict[str, RunProgress]:
    """The progress of each run. A run with a row in the table has finished, even if its folder is gone."""
    looks = StateReader(workspace.results).read([run for run in planned.runs if run.id not in in_table])
    runs = {}
    for run in planned.runs:
        if run.id in looks:
            runs[run.id] = run_progress(run, workspace.results, looks[run.id])
        else:
            runs[run.id] = RunProgress(run.id, State.FINISHED, run.cost.samples_seen, run.cost.samples_seen)
    return runs


def _compared(results: Results) -> tuple[Comparison | None, str]:
    if results.table.empty:
        return None, "No finished run has been collected yet, so there is nothing to compare."
    try:
        return compare_finished(results), ""
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
        run.id,
        run.story,
        kind=_kind_of(run),
        reason=run.failure.reason if run.failure else run.says or "its process is gone",
        log="\n".join(line[:LOG_COLUMNS] for line in lines),
    )


def _kind_of(run: RunProgress) -> str:
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


def _laws(path: Path) -> FittedLaws:
    try:
        laws: FittedLaws = read_json(path, FittedLaws)
        return laws
    except FileNotFoundError:
        return FittedLaws()
    except DamagedFile as error:
        raise ResultsError(f"{error} Make it again with `flipscale fit`, or delete it.") from error


def _curves(runs: Mapping[str, RunProgress], workspace: Workspace) -> Iterator[RunCurve]:
    """The curves of runs whose metrics.jsonl is here."""
    try:
        from flipscale.collecting.points import read_points
    except ModuleNotFoundError as error:  # A small install has no pyarrow.
        say(f"the curves inside the runs are not drawn: {missing_package(str(error.name))}")
        return
    drawn = 0
    for run in sorted(runs.values(), key=lambda run: run.state is not State.RUNNING):
        folder = RunFolder(workspace.run(run.id))
        if not (folder.path / "metrics.jsonl").exists():
            continue
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
