"""What each verb does, in the order of a study's life: parse, one call, print."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from flipscale.cli.laws import fit_study_of
from flipscale.cli.output import print_json, print_table, say
from flipscale.cli.steps import (
    asked_of,
    baseline_of,
    check_runs,
    collect_all,
    launcher_of,
    mirror,
    one_of,
    plan_of,
    refuse_unready,
    run_folder,
    say_cost,
    say_folder,
    say_warnings,
    study_of,
    total_of,
    where,
    write_plan,
)
from flipscale.errors import FlipscaleError
from flipscale.run import RunFolder, State
from flipscale.words import hours, rounded

WATCH_SECONDS = 2.0


def init(args: argparse.Namespace) -> int:
    """Write a commented study file to start from, and its JSON Schema for the editor."""
    from importlib.resources import files

    from flipscale.study.schema import study_schema

    schema = json.dumps(study_schema(), indent=1) + "\n"
    if args.schema:
        print(schema, end="")
        return 0
    path = Path(args.file)
    if path.exists():
        raise FlipscaleError(f"{path}: is there already; give another name: flipscale init NAME.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name("study.schema.json")
    beside.write_text(schema, encoding="utf-8")
    template = files("flipscale.study").joinpath("template.yaml").read_text(encoding="utf-8")
    path.write_text(template, encoding="utf-8")
    say(f"wrote {path} and {beside}. Next: flipscale plan {path}")
    return 0


def plan(args: argparse.Namespace) -> int:
    """Show every run of a study and what it will cost; trains nothing."""
    from flipscale.run import as_json

    study, planned = plan_of(args)
    write_plan(args, planned)
    say_warnings(planned)
    checked = check_runs(study, planned.runs) if args.check else None
    if args.json:
        with_check = {"check": checked.to_dict()} if checked else {}
        print(as_json(planned.to_dict() | with_check, rows="runs"))
        return 1 if checked and checked.problems else 0
    rows = [
        (
            run.id,
            rounded(run.cost.params),
            rounded(run.cost.flops_per_sample),
            rounded(run.cost.samples),
            f"{run.cost.steps:,}",
            f"{run.cost.train_flops:.2e}",
            f"{run.cost.memory_bytes / 2**30:.2f}",
            hours(run.cost.gpu_hours),
        )
        for run in planned.runs
    ]
    print_table(("run", "params", "FLOPs/sample", "samples", "steps", "FLOPs", "GiB/device", planned.hours_unit), rows)
    print(total_of(planned))
    if checked:
        checked.raise_if_any()
        say(str(checked))
    return 0


def submit(args: argparse.Namespace) -> int:
    """Start every run of a study that is not finished yet."""
    from flipscale import launch

    # The site file is read first: what is wrong with it is said before anything is written.
    launcher = launcher_of(args)
    study, planned = plan_of(args)
    planned.check_budget()
    if args.dry_run:
        print(launch.preview(planned.runs, args.results, launcher, retry_diverged=args.retry_diverged), end="")
        return 0
    write_plan(args, planned)
    say_cost(planned)
    check = partial(refuse_unready, study) if args.on == "local" and not args.no_check else None
    submission = launch.submit(planned.runs, args.results, launcher, retry_diverged=args.retry_diverged, check=check)
    say(submission.summary())
    if args.detach:
        if submission.jobs:
            say(f"they go on without this terminal; see flipscale watch {where(args)}")
        return 0
    ended = launch.wait(submission, args.results)
    unfinished = len(planned.runs) - ended.count(State.FINISHED)
    if unfinished:
        say(f"{unfinished} of {len(planned.runs)} runs are not finished; see flipscale status {where(args)}")
    return 1 if unfinished else 0


def status(args: argparse.Namespace) -> int:
    """Say in which state every run of a study is, and how far."""
    from flipscale import launch

    if args.watch:
        raise FlipscaleError(f"status --watch has become a command of its own: flipscale watch {where(args)}")
    _, planned = plan_of(args)
    say_folder(args, planned)
    seen = next(launch.watch(planned.runs, args.results))
    if args.json:
        counts = {str(state): seen.count(state) for state in State if seen.count(state)}
        runs = [
            {
                "id": one.id,
                "state": str(one.state),
                "detail": one.detail,
                "failures": list(one.failures),
                "images_per_second": one.images_per_second if one.state is State.RUNNING else None,
                "seconds_since_step": one.seconds_since_step,
            }
            for one in seen.runs
        ]
        print_json({"runs": runs, "counts": counts})
    else:
        rows = [(one.id, str(one.state), one.detail) for one in seen.runs]
        print_table(("run", "state", "how it goes"), rows, numbers=False)
        print(seen)
    return 0


def watch(args: argparse.Namespace) -> int:
    """Watch a study until nothing of it runs any more; Ctrl-C leaves it, and the runs go on."""
    from flipscale import launch

    study, planned = plan_of(args)
    looks = launch.watch(planned.runs, args.results, every=WATCH_SECONDS)
    seen = next(looks)
    if args.plain or not launch.rewritable(sys.stdout):
        voice = launch.Voice(sys.stdout, plain=True)
        if seen.active:  # Where nothing is, the voice says it as its last words.
            voice.say(str(seen))
        voice.follow(seen, args.results)
        for seen in looks:
            voice.follow(seen, args.results)
        return 0
    try:
        with launch.Screen(sys.stdout, study.name, unit=planned.hours_unit, score=study.score) as screen:
            screen.draw(seen)
            for seen in looks:
                screen.draw(seen)
    except KeyboardInterrupt:
        print(f"{seen}\nThe runs go on; flipscale cancel {where(args)} stops them.")
        raise
    print(seen)
    return 0


def logs(args: argparse.Namespace) -> int:
    """Print the log of a run, named by its id or the beginning of it."""
    from flipscale import launch

    folder = RunFolder(run_folder(args, args.id))
    path = folder.path / "log.txt"
    at = 0
    said = ""
    looker = launch.Looker(args.results)
    while True:
        # Asked before the log is read, so that its last lines are not missed.
        look = looker.look([folder])[folder.id]
        goes_on = args.follow and look.state in launch.ACTIVE
        if not path.exists() and look.where.says and look.where.says != said:
            said = look.where.says
            say(f"{folder.id} has written no log yet; {said}")
        if path.exists():
            with open(path, encoding="utf-8", errors="replace") as file:
                file.seek(at)
                print(file.read(), end="", flush=True)
                at = file.tell()
        if not goes_on:
            break
        time.sleep(WATCH_SECONDS / 4)
    if not path.exists():
        raise FlipscaleError(_no_log(folder))
    return 0


def _no_log(folder: "RunFolder") -> str:
    from flipscale.launch import Job

    job = Job.read(folder)
    said = job is not None and Path(job.log).exists()
    where = f"what its job said is in {job.log}" if job and said else "flipscale status says where it is"
    return f"{folder.id} has written no log yet; {where}."


def cancel(args: argparse.Namespace) -> int:
    """Stop the runs of a study, or some of them; what they have done stays, and `submit` goes on from it."""
    from flipscale import launch

    _, planned = plan_of(args)
    wanted = {one_of(name, [run.id for run in planned.runs]) for name in args.ids}
    runs = [run for run in planned.runs if not wanted or run.id in wanted]
    cancelled = launch.cancel(runs, args.results)
    if args.json:
        print_json({"cancelled": cancelled})
    else:
        say(f"cancelled {launch.count(len(cancelled), 'run')}" if cancelled else "nothing was waiting or running")
    return 0


def collect(args: argparse.Namespace) -> int:
    """Gather finished runs into results.csv, curves.parquet and MLflow."""
    study, planned = plan_of(args)
    found = collect_all(args, planned)
    mirrored = mirror(args, study, found)
    if args.json:
        print_json(
            {
                "files": [str(path) for path in found.files],
                "rows": found.rows,
                "counts": found.states,
                "problems": found.problems,
                "torn_lines": found.torn_lines,
                "mlflow": mirrored,
            }
        )
    return 0


def plot(args: argparse.Namespace) -> int:
    """Draw the figures of a study from its results.csv."""
    from flipscale.collect import read_curves, read_results
    from flipscale.compare import measured_scores, pick_score
    from flipscale.plot import plot_all, read_references

    study = study_of(args)
    folder = args.results / study.name
    results = read_results(folder / "results.csv")
    scores = [pick_score(results, study.score)] if measured_scores(results) else []
    drawn = plot_all(
        results,
        read_curves(folder / "curves.parquet", metrics=("loss", *scores)),
        study=study.name,
        baseline=baseline_of(study),
        out=args.plots / study.name,
        figures=study.figures,
        score=study.score,
        references=read_references(args.references) if args.references else None,
    )
    for name, reason in drawn.skipped.items():
        say(f"{name} is not drawn: {reason}")
    if args.json:
        print_json({"figures": [str(path) for path in drawn.files], "skipped": drawn.skipped})
    else:
        say(f"wrote {len(drawn.files)} files to {args.plots / study.name}/")
    return 0


def compare(args: argparse.Namespace) -> int:
    """Say what the masked runs of a study gain over their no-mask twins; or compare the rows of any table."""
    from flipscale.collect import is_table, read_results
    from flipscale.compare import compare as compare_results
    from flipscale.compare import comparison_json, comparison_markdown, comparison_text, measured_scores
    from flipscale.run import replacing, write_json

    if is_table(args.study):
        return _compare_table(args)
    if args.baseline or args.x or args.y or args.series or args.at or args.lower_is_better is not None or args.deltas:
        raise FlipscaleError(
            f"{args.study} is a study, which says itself what is compared with what; --baseline, --x, --y and what "
            "goes with them are of tables (.csv, .tsv, .parquet)."
        )
    study = study_of(args)
    folder = args.results / study.name
    results = read_results(folder / "results.csv")
    comparison = compare_results(
        results,
        baseline=baseline_of(study),
        axes=[axis.name for axis in study.axes],
        score=args.score or study.score,
    )
    # The study's comparison is of its own score, which report and MLflow show; another has files of its own.
    own = study.score or next(iter(measured_scores(results)), None)
    name = "comparison" if comparison.score == own else f"comparison-{comparison.score}"
    write_json(folder / f"{name}.json", comparison_json(comparison))
    with replacing(folder / f"{name}.md") as file:
        file.write(f"# {study.question or study.name}\n\n{comparison_markdown(comparison)}".encode())
    if args.json:
        print_json(comparison_json(comparison))
    else:
        print(comparison_text(comparison))
    say(f"wrote {folder / name}.json and {folder / name}.md")
    return 0


def export(args: argparse.Namespace) -> int:
    """Give a study's results to another program as CSV or Parquet, or to a paper as a LaTeX table."""
    from flipscale.collect import read_results
    from flipscale.export import exported
    from flipscale.run import replacing

    study = study_of(args)
    if args.to == "parquet" and args.out is None:
        raise FlipscaleError("Parquet is no text for a terminal; say where it goes: --out FILE.parquet")
    data = exported(
        read_results(args.results / study.name / "results.csv"),
        args.to,
        study=study.name,
        question=study.question,
        baseline=baseline_of(study),
        score=args.score or study.score,
    )
    if args.out is None:
        print(data.decode(), end="")
        return 0
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(args.out) as file:
        file.write(data)
    say(f"wrote {args.out}")
    return 0


def _compare_table(args: argparse.Namespace) -> int:
    from flipscale.collect import read_table
    from flipscale.compare import (
        baseline_from,
        columns_from,
        compare_table,
        comparison_json,
        comparison_text,
        deltas,
        deltas_text,
    )

    needed = {"--baseline": args.baseline, "--y": args.y} | ({} if args.deltas else {"--x": args.x})
    if lacking := [option for option, value in needed.items() if not value]:
        raise FlipscaleError(
            f"{args.study}: a table is compared by its columns, and {', '.join(lacking)} is not given; write "
            f"flipscale compare {args.study} --baseline COLUMN=VALUE --x COLUMN --y COLUMN."
        )
    table = read_table(Path(args.study))
    baseline = baseline_from(table, args.baseline)
    if args.deltas:
        of_cells = deltas(table, baseline=baseline, y=args.y, lower_is_better=args.lower_is_better)
        if args.json:
            print_json(of_cells.to_dict())
        else:
            print(deltas_text(of_cells))
        return 0
    comparison = compare_table(
        table,
        baseline=baseline,
        x=columns_from(table, args.x),
        y=args.y,
        series=[name for names in args.series for name in columns_from(table, names)],
        at=args.at,
        lower_is_better=args.lower_is_better,
    )
    for note in comparison.notes:
        say(note)
    if args.json:
        print_json(comparison_json(comparison))
    else:
        print(comparison_text(comparison))
    return 0


def report(args: argparse.Namespace) -> int:
    """Write a study as one HTML page that opens offline, with interactive figures and a table of all runs."""
    from flipscale.report import write_report

    study, planned = plan_of(args)
    written = write_report(study, planned, Path(args.study), args.results, args.plots)
    if args.json:
        print_json({"file": str(written.path), "bytes": written.size})
    else:
        say(f"wrote {written.path} ({written.size / 1e6:.1f} MB); open it in a browser")
    return 0


def run(args: argparse.Namespace) -> int:
    """Do all of it, in order: plan, submit, wait, collect, fit, plot, compare, report."""
    args.detach = args.retry_diverged = args.json = args.dry_run = False
    args.score = args.references = args.x = args.y = args.at = None
    args.baseline, args.series, args.lower_is_better, args.deltas = [], [], None, False
    failed = submit(args)
    study, planned = plan_of(args)
    found = collect_all(args, planned)
    if not found.rows:
        raise FlipscaleError(f"No run of {args.study} has finished; see flipscale status {where(args)}.")
    fits = fit_study_of(args, study, found.results)
    folder = args.results / study.name
    plotted = _unless_impossible(plot, args, "no figure is drawn")
    compared = _unless_impossible(compare, args, "nothing is compared")
    if not compared:
        for name in ("comparison.json", "comparison.md"):
            (folder / name).unlink(missing_ok=True)  # an old comparison would pass for that of these runs
    report(args)
    mirrored = mirror(args, study, found)
    print(f"\ntable        {found.files[0]}   ({found.rows} of {len(planned.cells)} runs)")
    print(f"figures      {f'{args.plots / study.name}/' if plotted else 'none can be drawn of these runs'}")
    print(f"comparison   {folder / 'comparison.md' if compared else 'these runs cannot be compared'}")
    print(f"laws         {fits or 'none can be fitted to these runs'}")
    print(f"report       {args.plots / study.name / 'report.html'}")
    print(f"MLflow       {mirrored['look'] if mirrored else 'not written'}")
    return failed


def _unless_impossible(verb: Callable[[argparse.Namespace], int], args: argparse.Namespace, none: str) -> bool:
    """Whether the results allowed this step of `run`; if they do not, the reason is said and `run` goes on."""
    from flipscale.errors import ResultsError

    try:
        verb(args)
    except ResultsError as error:
        say(f"{none}: {error}")
        return False
    return True


def why(args: argparse.Namespace) -> int:
    """Explain a run's id by the settings that make it, or in which settings two runs differ."""
    from flipscale.plan import differences, identity, show_setting

    asked = [asked_of(args, name) for name in (args.id, args.other) if name is not None]
    if len(asked) == 1:
        settings = identity(asked[0]["settings"])
        if args.json:
            print_json({"id": asked[0]["id"], "recipe": asked[0]["recipe"], "identity": settings})
            return 0
        print(f"{asked[0]['id']} is recipe {asked[0]['recipe']} with these settings; all others are at their defaults:")
        print_table(("setting", "value"), [(name, show_setting(asked[0]["settings"][name])) for name in settings])
        return 0
    found = differences(asked[0]["settings"], asked[1]["settings"])
    if args.json:
        print_json(
            {"ids": [one["id"] for one in asked], "differences": {name: list(two) for name, two in found.items()}}
        )
    elif not found:
        print("the same run")
    else:
        rows = [(name, show_setting(one), show_setting(two)) for name, (one, two) in found.items()]
        print_table(("setting", asked[0]["id"], asked[1]["id"]), rows)
    return 0


def train(args: argparse.Namespace) -> int:
    """Train the runs of these folders, one after the other: what a job calls."""
    if args.profile:
        from flipscale.train.profile import profile

        for folder in args.folders:
            print(profile(Path(folder)))
        return 0
    from flipscale.train import train as train_folders

    return train_folders([Path(folder) for folder in args.folders])


def data(args: argparse.Namespace) -> int:
    """Build a data set: icons, some 350,000 captioned pictures from the npm package @iconify/json, as tar shards."""
    from flipscale.train.data.icons import build_icons

    build_icons(args.folder, args.source, args.size, args.workers, say)
    return 0
