"""Finished runs into tables, and the same rows into MLflow."""

import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flipscale import track
from flipscale.collecting import Collected, setting_value
from flipscale.collecting import collect as collect_runs
from flipscale.collecting.record import write_record
from flipscale.data.code_changes import code_changes
from flipscale.errors import FlipscaleError
from flipscale.plain_files import or_none, read_text
from flipscale.planning.identity import show_setting
from flipscale.run import copy
from flipscale.words import count
from flipscale.workflow.messages import Steps, say
from flipscale.workflow.opened import OpenStudy, check_choice, finished_here, write_plan_file
from flipscale.workflow.owner import note_owner
from flipscale.workflow.to_score import say_other_data
from flipscale.workflow.tuned import write_sweep
from flipscale.workspace import StudyFiles


def collect_study(opened: OpenStudy, *, only_news: bool = False) -> Collected:
    """Bring results.csv and curves.parquet up to date with the study's runs.

    They stay as they are where the study would lose rows: where the folders of its runs are elsewhere.

    only_news: say nothing where nothing has changed.
    """
    check_choice(opened)
    plan = opened.finished_plan
    files = opened.files
    before = _ids_in(files.results)
    elsewhere = before - finished_here(opened.workspace, before)
    asked = {run.id for run in plan.cells}
    stays = bool(elsewhere & asked or (elsewhere and not finished_here(opened.workspace, asked)))
    if elsewhere and not stays:
        kept = _copy_aside(files).name
        had = f"{files.results} had rows of runs whose folders are not here, and is copied to {kept}."
        say(had + _how_to_merge(opened))
    with Steps("reading runs") as steps:
        rows = len(before) if stays else None
        collected = collect_runs(
            plan, opened.workspace.results, files.folder, kept_rows=rows, trust_curves=only_news, progress=steps
        )
    note_owner(files.folder, opened.file)
    _write_record(opened, stays=stays)
    if opened.sweep:
        write_sweep(opened.sweep, files.tune)
    if collected.written:
        write_plan_file(plan, files)  # `gc` asks it which runs are needed.
    elif only_news:
        return collected
    for name, problem in collected.problems.items():
        say(f"{name} is left out: {problem}")
    for name in collected.unknown_scores:
        which = "the study names none like it under evaluation.sets, see docs/trainers.md"
        say(f"the score {name} has no column in results.csv ({which}); its points are in curves.parquet")
    torn = f", {count(collected.torn_lines, 'torn line')} left out" if collected.torn_lines else ""
    unreadable = f", {len(collected.problems)} unreadable" if collected.problems else ""
    of_plan = f"{collected.rows:,} of {count(len(plan.cells), 'run')}{unreadable}{torn}"
    if stays:
        lacking = f"the folders of {count(len(elsewhere), 'run')} are not here"
        say(f"kept {collected.files[0]} as it is: {lacking}.{_how_to_merge(opened)}")
    elif collected.written:
        say(f"wrote {collected.files[0]} ({of_plan}, {_news(collected)})")
    else:
        say(f"{collected.files[0]} is up to date ({of_plan})")
    if not only_news:
        say_other_data(opened)
    return collected


def _write_record(opened: OpenStudy, *, stays: bool) -> None:
    """Write results.json, which stays as it is where the table does."""
    files = opened.files
    if not stays:
        write_record(files.record, opened.study, opened.plan, opened.workspace, next(_rows_in(files.results), []))


def _ids_in(table: Path) -> set[str]:
    """The ids of the rows of a results.csv; none where it cannot be read."""
    try:
        rows = _rows_in(table)
        place = next(rows, []).index("id")
        return {row[place] for row in rows if len(row) > place}
    except (ValueError, csv.Error):
        return set()


def _rows_in(table: Path) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(or_none(read_text, table) or "", newline=""))


def _news(collected: Collected) -> str:
    """'24 new', '3 new, 1 changed'."""
    counted = ((collected.new, "new"), (collected.changed - collected.new, "changed"))
    return ", ".join(f"{number} {what}" for number, what in counted if number) or "none new"


def _how_to_merge(opened: OpenStudy) -> str:
    """' `flipscale merge ARCHIVE` unpacks them.', where the archive is here."""
    archive = opened.files.archive
    return f" `flipscale merge {archive}` unpacks them." if archive.exists() else ""


def _copy_aside(files: StudyFiles) -> Path:
    """Copy both tables beside themselves, as results.without_runs.csv; where that is taken, under the next number."""
    names = itertools.chain(["without_runs"], (f"without_runs_{number}" for number in itertools.count(2)))
    name = next(name for name in names if not files.results.with_suffix(f".{name}.csv").exists())
    for path in filter(Path.exists, (files.results, files.curves)):
        copy(path, path.with_suffix(f".{name}{path.suffix}"))
    return files.results.with_suffix(f".{name}.csv")


@dataclass(frozen=True)
class Tracking:
    """How MLflow is brought up to date: where MLFLOW_TRACKING_URI says, or else in a SQLite file among the results."""

    all_points: bool = False
    """Send whole curves, not 100 points of each."""
    models: bool = False
    """Send trained weights as well."""
    thoroughly: bool = False
    """Look at every run in MLflow, and mend differences from the written content."""


@dataclass(frozen=True)
class Mirroring:
    """The changes in MLflow."""

    uri: str
    created: int
    """Runs."""
    updated: int
    unchanged: int
    look: str
    """How to see them: the address of the runs' page, after the command that serves it where no server runs."""


def mirror_study(opened: OpenStudy, collected: Collected, tracking: Tracking) -> Mirroring | None:
    """Bring MLflow up to date; None if there is nothing to mirror, or MLflow cannot be reached, which is reported."""
    if not collected.rows:
        return None
    results = opened.workspace.results
    try:
        uri = track.tracking_address(results)
        with Steps("writing to MLflow"):
            done = track.mirror(
                mirror_source(opened),
                tracking_uri=uri,
                artifact_root=opened.workspace.artifacts,
                all_points=tracking.all_points,
                models=tracking.models,
                thoroughly=tracking.thoroughly,
            )
    except FlipscaleError as error:
        # The mirror can always be made again from the files, so a server that is away costs nothing.
        say(f"MLflow was not written: {error}")
        return None
    for left_out in done.left_out:
        say(left_out)
    say(f"MLflow: {count(done.created, 'run')} new, {done.updated} changed, {done.unchanged} unchanged")
    page = track.runs_page(uri, done.experiment_id)
    command = track.ui_command(uri)
    look = page if page.startswith(command) else f"{command}   # then open {page}"
    return Mirroring(track.without_secrets(uri), done.created, done.updated, done.unchanged, look)


def mirror_source(opened: OpenStudy) -> track.MirrorSource:
    """What is mirrored of a study."""
    study = opened.study
    files = opened.files
    tables = [files.results, files.record, files.tune, files.comparison(".md"), files.comparison(".json"), files.fits]
    pictures: Sequence[Path] = [*sorted(files.figures.glob("*.svg")), *sorted(files.figures.glob("*.html"))]
    return track.MirrorSource(
        study=study.name,
        results=files.results,
        question=study.question,
        baseline={name: setting_value(value) for name, value in study.baseline.items()},
        labels=study.labels,
        names={run.id: run.name for run in opened.plan.runs},
        files=[path for path in (opened.file, *tables, *pictures) if path.exists()],
        runs=opened.workspace.runs,
        code=code_changes(opened.plan.runs, opened.workspace.results).summary,
        evaluations={run.id: show_setting(run.settings.evaluation) for run in opened.plan.cells},
        file=opened.file.name,
    )
