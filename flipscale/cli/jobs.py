"""The runs of a study: submit, status, watch, logs, cancel."""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flipscale.cell import without_seed
from flipscale.cli.arguments import (
    add_changes,
    add_json,
    add_results,
    add_site,
    add_study,
    change_study,
    open_study_of,
    site_file_of,
    workspace_of,
)
from flipscale.cli.names import matching_run, run_folder
from flipscale.cli.output import print_json, print_table
from flipscale.errors import FlipscaleError, RunFolderError, printable
from flipscale.plain_files import open_plain
from flipscale.run import RunFolder, State, failed_attempt_as_json
from flipscale.workflow.messages import say

if TYPE_CHECKING:
    from flipscale.launch import Launcher, RunProgress, StudyProgress
    from flipscale.planning.runs import Run
    from flipscale.workflow.opened import OpenStudy

WATCH_SECONDS = 2.0


def add_launcher(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on", default="local", metavar="LAUNCHER", help="where to run: local (this machine), slurm or ray"
    )
    add_site(parser)
    where = "the Ray cluster, as HOST:PORT or http://HOST:PORT (RAY_ADDRESS, or else the Ray of this machine)"
    parser.add_argument("--address", help=where)
    what = "do not check the data, checkpoints and programs that runs need (only local runs are checked)"
    parser.add_argument("--no-check", action="store_true", help=what)


def add_force(parser: argparse.ArgumentParser) -> None:
    large = "start runs even if they are predicted to need over 1.5 times the memory of their device"
    parser.add_argument("--force", action="store_true", help=large)


def launcher_of(args: argparse.Namespace) -> "Launcher":
    """The launcher that was asked for. Without --site, FLIPSCALE_SITE describes the cluster.

    Local runs use only the price of a site file.
    """
    from flipscale import launch

    site = site_file_of(args)
    described = launch.read_site(site) if site else None
    if args.on == "slurm" and not (described and described["partition"]):
        say("no site file names a partition, so jobs go to SLURM's default; --site FILE describes a cluster")
    if described and args.on == "local":
        if not described["price"]:
            raise FlipscaleError(f"{site}: gives no price, and local runs use nothing else of a site file.")
        described = None
    return launch.launcher_named(args.on, args.results, described, address=args.address)


def submit_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    add_changes(parser)
    add_results(parser)
    add_launcher(parser)
    add_force(parser)
    parser.add_argument("--dry-run", action="store_true", help="print what would be sent; send nothing")
    what = "return at once; the runs go on without this terminal, on a cluster also those that can only be sent later"
    parser.add_argument("--detach", action="store_true", help=what)
    what = "send only runs that were never sent, and nothing if a run was cancelled"
    parser.add_argument("--rest", action="store_true", help=what)
    parser.add_argument("--retry-diverged", action="store_true", help="also restart runs whose loss diverged")
    what = "retrain these runs from scratch, and the runs that start from them; earlier results are kept"
    parser.add_argument("--redo", nargs="+", default=[], metavar="ID", help=what)
    what = "retrain finished runs whose code differs from today's; earlier results are kept"
    parser.add_argument("--stale", action="store_true", help=what)


def submit(args: argparse.Namespace) -> int:
    """Start every run of a study that is not finished yet."""
    if not args.dry_run:
        change_study(args)
        return _submit(args)
    with tempfile.TemporaryDirectory() as folder:
        change_study(args, Path(folder))
        return _submit(args)


def _submit(args: argparse.Namespace) -> int:
    from flipscale import launch
    from flipscale.workflow.opened import say_warnings
    from flipscale.workflow.submitted import Guards, train_study
    from flipscale.workflow.to_score import to_score

    # The site file is read first: its faults are reported before anything is written.
    launcher = launcher_of(args)
    opened = open_study_of(args, launcher.site_name)
    launcher.study = opened.study.name
    names = {run.id: run.name for run in opened.plan.runs}
    ids = frozenset(matching_run(text, names) for text in args.redo)
    redo = launch.Redo(ids, stale=args.stale, diverged=args.retry_diverged, only_new=args.rest)
    if args.dry_run:
        opened.plan.check_budget()
        say_warnings(opened.plan)
        unscored = to_score(opened).runs
        print(launch.preview(opened.plan.runs, args.results, launcher, redo=redo, to_score=unscored), end="")
        return 0
    guards = Guards(inputs=not args.no_check, memory=not args.force)
    rest = _rest_of(args) if args.detach else []
    _, unfinished = train_study(opened, launcher, guards=guards, redo=redo, wait=not args.detach, rest=rest)
    return 1 if unfinished else 0


def _rest_of(args: argparse.Namespace) -> list[str]:
    """The command that sends what this one cannot send yet."""
    from flipscale.launch.launcher import TRAIN

    command = [*TRAIN[:-1], "submit", str(args.study), f"--results={args.results}", f"--on={args.on}"]
    for name, value in (("site", site_file_of(args)), ("address", args.address)):
        command += [f"--{name}={value}"] if value else []
    return [*command, *(["--force"] if args.force else []), "--detach", "--rest"]


def status_arguments(parser: argparse.ArgumentParser) -> None:
    what = "the study's YAML file; --spent takes several, or none for all in the results folder"
    parser.add_argument("study", metavar="STUDY", nargs="*", help=what)
    add_json(parser)
    add_results(parser)
    about = parser.add_mutually_exclusive_group()
    what = "sum predicted and spent hours by study and state, failed and stopped work included"
    about.add_argument("--spent", action="store_true", help=what)
    what = "explain a run's id and which code trained it, or how two runs differ; an id's beginning or hash is enough"
    about.add_argument("--why", nargs="+", metavar="ID", help=what)


def status(args: argparse.Namespace) -> int:
    """Show the state and progress of a study's runs, the hours spent, or what a run's id says."""
    from flipscale.cli.times import print_spent
    from flipscale.cli.why import print_why

    if args.spent:
        print_spent(args)
    elif args.why:
        print_why(args)
    elif len(args.study) == 1:
        args.study = args.study[0]
        _print_states(args)
    else:
        args.parser.error("name one study; --spent takes several")
    return 0


def _print_states(args: argparse.Namespace) -> None:
    from flipscale import launch
    from flipscale.data.code_changes import code_changes
    from flipscale.workflow.opened import say_folder, sweep_words
    from flipscale.workflow.submitted import say_code

    opened = open_study_of(args)
    say_folder(opened)
    progress = next(launch.watch(opened.plan.runs, args.results))
    finished = {run.id: run.files for run in progress.runs if "result.json" in run.files}
    code = code_changes(opened.plan.runs, args.results, finished)
    if args.json:
        counts = {str(state): progress.count(state) for state in State if progress.count(state)}
        runs = [_as_json(run, code.differing.get(run.id, ())) for run in progress.runs]
        print_json({"runs": runs, "counts": counts})
    else:
        print_table(("run", "state", "progress", "id"), list(_rows(progress.runs)), numbers=False)
        print(progress)
        if opened.sweep:
            print(sweep_words(opened))
        if not progress.active:  # Otherwise the line above says it.
            clock = launch.wall_clock(opened.plan, args.results, finished)
            if clock.seconds:
                print(clock)
    say_code(opened, code)


def _rows(runs: "Sequence[RunProgress]") -> Iterator[tuple[str, ...]]:
    """A row for each run, but one for the seeds of a cell that are finished, or not begun, in the same way."""
    cells: dict[tuple[str, ...], list[RunProgress]] = {}
    for run in runs:
        is_alike = run.state is State.FINISHED or (run.state in (State.PLANNED, State.WAITING) and not run.samples_seen)
        its_own = "" if is_alike and not run.story else run.id
        total = f" of {run.total:,} {run.unit}" if run.total else ""
        cells.setdefault((without_seed(run.name), run.state, total, run.says, its_own), []).append(run)
    for (name, state, total, *_), seeds in cells.items():
        first = seeds[0]
        if len(seeds) == 1:
            yield first.name, state, first.detail, first.id
        else:
            yield (
                name,
                state,
                ", ".join(filter(None, [f"{len(seeds)} runs{total}", first.says])),
                "",
            )


def _as_json(run: "RunProgress", code: Sequence[str]) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": run.name,
        "state": str(run.state),
        "detail": run.detail,
        "failures": [failed_attempt_as_json(failed) for failed in run.failures],
        "images_per_second": run.images_per_second if run.state is State.RUNNING else None,
        "seconds_since_step": run.seconds_since_step,
        "code_differences": list(code),
    }


def watch_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    add_results(parser)
    what = "write curves to MLflow (MLFLOW_TRACKING_URI, or else results/mlflow.db) while watching"
    parser.add_argument("--mlflow", action="store_true", help=what)
    what = "also send runs that were never sent there, such as those that follow a sweep, and report line by line"
    parser.add_argument("--on", metavar="LAUNCHER", help=what)
    add_site(parser)
    parser.add_argument("--address", help="the Ray cluster, as `submit` takes it")


def watch(args: argparse.Namespace) -> int:
    """Watch a study until none of its runs is active; Ctrl-C leaves it, and the runs go on."""
    from flipscale import launch

    if args.on:
        from flipscale.workflow.submitted import train_study

        launcher = launcher_of(args)
        train_study(open_study_of(args, launcher.site_name), launcher, redo=launch.Redo(only_new=True))
        return 0
    opened = open_study_of(args)
    looks = launch.watch(opened.plan.runs, args.results, every=WATCH_SECONDS)
    if not args.mlflow:
        return _watch(args, opened, looks)
    from flipscale.workflow.live_curves import live_curves

    with live_curves(opened, looks) as looks:
        return _watch(args, opened, looks)


def _watch(args: argparse.Namespace, opened: "OpenStudy", looks: "Iterator[StudyProgress]") -> int:
    from flipscale.launch.screen import Display

    study = opened.study
    try:
        with Display(sys.stdout, study.name, unit=opened.plan.hours_unit, score=study.score) as display:
            for progress in looks:
                display.follow(progress, args.results)
    except KeyboardInterrupt:
        print(f"The runs go on; flipscale cancel {opened.arguments} stops them.")
        raise
    return 0


def logs_arguments(parser: argparse.ArgumentParser) -> None:
    add_results(parser)
    parser.add_argument("id", metavar="ID", help="a run's id, or its beginning, or its hash")
    parser.add_argument("-f", "--follow", action="store_true", help="keep printing until the run ends")


def logs(args: argparse.Namespace) -> int:
    """Print the log of a run, named by its id or the beginning of it."""
    from flipscale import launch

    folder = run_folder(workspace_of(args), args.id)
    path = folder.path / "log.txt"
    printed = 0
    reason = ""
    reader = launch.StateReader(args.results)
    while True:
        # Looks before it reads the log, so that the last lines are not missed.
        look = reader.read([folder])[folder.id]
        goes_on = args.follow and look.state in launch.ACTIVE
        if os.path.lexists(path):
            printed = _print_from(path, printed)
        elif look.says and look.says != reason:
            reason = look.says
            say(f"{folder.id} has written no log yet; {reason}")
        if not goes_on:
            break
        time.sleep(WATCH_SECONDS / 4)
    if not os.path.lexists(path):
        raise FlipscaleError(_no_log(folder))
    return 0


def _print_from(path: Path, start: int) -> int:
    """Print the file from this position on, and return the position of its end."""
    with os.fdopen(open_plain(path), encoding="utf-8", errors="replace") as file:
        file.seek(start)
        text = file.read()
        # Control characters in a log could change a terminal's title or hide lines.
        print(printable(text) if sys.stdout and sys.stdout.isatty() else text, end="", flush=True)
        return file.tell()


def _no_log(folder: RunFolder) -> str:
    where = "flipscale status shows its state."
    try:
        job = folder.job()
        if job and os.path.lexists(job.log):
            where = f"the output of its job is in {job.log}."
    except RunFolderError as error:
        where = str(error)
    return f"{folder.id} has written no log yet; {where}"


def cancel_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    add_results(parser)
    parser.add_argument("ids", metavar="ID", nargs="*", help="only these runs")


def cancel(args: argparse.Namespace) -> int:
    """Stop the runs and probes of a study, or some of them; `submit` resumes them from their checkpoints."""
    from flipscale import launch
    from flipscale.words import count

    plan = open_study_of(args).plan
    of_study: list[Run | RunFolder] = [*plan.runs, *launch.open_probes(plan.study, args.results)]
    names = {run.id: getattr(run, "name", "") for run in of_study}
    wanted = {matching_run(text, names) for text in args.ids}
    runs = [run for run in of_study if not wanted or run.id in wanted]
    cancelled = launch.cancel(runs, args.results, None if wanted else plan.study)
    say(f"cancelled {count(len(cancelled), 'run')}" if cancelled else "nothing was waiting or running")
    return 0
