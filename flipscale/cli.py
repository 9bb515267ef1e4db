"""The command line: parse, one call, print. Data on stdout, talk on stderr.

Exit codes: 0 done, 1 something a user can fix, 2 usage. Nothing heavy is imported before a command needs it.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flipscale.errors import FlipscaleError
from flipscale.run import State

if TYPE_CHECKING:
    from flipscale.collect import Collected
    from flipscale.plan import Plan
    from flipscale.study import Study

WATCH_SECONDS = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is the answer."""
    args = _parser().parse_args(arguments)
    try:
        code: int = args.command(args)
        sys.stdout.flush()
        return code
    except FlipscaleError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        ends_runs = args.command in (submit, run)
        print("interrupted; `flipscale submit` goes on from here" if ends_runs else "interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"{where}{error.strerror or error}. Free space or mend permissions, and run this again.", file=sys.stderr)
        return 1


# The verbs, in the order of a study's life


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
    beside.write_text(schema)
    path.write_text(files("flipscale.study").joinpath("template.yaml").read_text())
    _say(f"wrote {path} and {beside}. Next: flipscale plan {path}")
    return 0


def plan(args: argparse.Namespace) -> int:
    """Show every run of a study and what it will cost; trains nothing."""
    study, planned = _plan(args)
    _write_plan(args, planned)
    if args.json:
        _print_json(planned.to_dict())
        return 0
    unit = "core-hours" if planned.runs[0].resources["device"] == "cpu" else "GPU-hours"
    rows = [
        (
            run.id,
            _si(run.cost.params),
            _si(run.cost.flops_per_sample),
            _si(run.cost.samples),
            f"{run.cost.steps:,}",
            f"{run.cost.train_flops:.2e}",
            f"{run.cost.memory_bytes / 2**30:.2f}",
            _hours(run.cost.gpu_hours),
        )
        for run in planned.runs
    ]
    _print_table(("run", "params", "FLOPs/sample", "samples", "steps", "FLOPs", "GiB/device", unit), rows)
    total = planned.total
    print(f"{total['runs']} runs, {total['train_flops']:.2e} FLOPs, {_hours(total['gpu_hours'])} {unit}")
    if study.score is None and not _is_evaluated(study):
        _say("no evaluation is declared for this data, so there will be no scores to compare; see `evaluation`")
    return 0


def submit(args: argparse.Namespace) -> int:
    """Start every run of a study that is not finished yet."""
    from flipscale import launch

    _, planned = _plan(args)
    planned.check_budget()
    _write_plan(args, planned)
    submission = launch.submit(planned.runs, args.results, args.on, retry_diverged=args.retry_diverged)
    _say(submission.summary())
    if args.detach:
        _say(f"they go on without this terminal; see flipscale status {args.study} --watch")
        return 0
    ended = launch.wait(submission, args.results)
    unfinished = len(planned.runs) - ended.count(State.FINISHED)
    if unfinished:
        _say(f"{unfinished} of {len(planned.runs)} runs are not finished; see flipscale status {args.study}")
    return 1 if unfinished else 0


def status(args: argparse.Namespace) -> int:
    """Say in which state every run of a study is, and how far."""
    from flipscale import launch

    _, planned = _plan(args)
    for seen in launch.watch(planned.runs, args.results, every=WATCH_SECONDS):
        if args.json:
            counts = {str(state): seen.count(state) for state in State if seen.count(state)}
            _print_json({"runs": [{"id": one.id, "state": str(one.state)} for one in seen.runs], "counts": counts})
        else:
            if args.watch and sys.stdout.isatty():
                print("\x1b[2J\x1b[H", end="")
            rows = [(one.id, str(one.state), one.seen) for one in seen.runs]
            _print_table(("run", "state", "seen"), rows)
            print(seen)
        sys.stdout.flush()
        if not args.watch:
            break
    return 0


def logs(args: argparse.Namespace) -> int:
    """Print the log of a run, named by its id or the beginning of it."""
    from flipscale.run import RunFolder

    folder = RunFolder(_run_folder(args, args.id))
    path = folder.path / "log.txt"
    if not path.exists() and not args.follow:
        raise FlipscaleError(f"{path.parent.name} has written no log yet; flipscale status says where it is.")
    at = 0
    while True:
        # Asked before the log is read, so that its last lines are not missed. A lost run counts as waiting.
        goes_on = args.follow and folder.state("waiting") in (State.WAITING, State.RUNNING)
        if path.exists():
            with open(path, errors="replace") as file:
                file.seek(at)
                print(file.read(), end="", flush=True)
                at = file.tell()
        if not goes_on:
            return 0
        time.sleep(WATCH_SECONDS / 4)


def cancel(args: argparse.Namespace) -> int:
    """Stop the runs of a study, or some of them; what they have done stays, and `submit` goes on from it."""
    from flipscale import launch

    _, planned = _plan(args)
    wanted = {_one_of(name, [run.id for run in planned.runs]) for name in args.ids}
    runs = [run for run in planned.runs if not wanted or run.id in wanted]
    cancelled = launch.cancel(runs, args.results)
    if args.json:
        _print_json({"cancelled": cancelled})
    else:
        _say(f"cancelled {len(cancelled)} runs" if cancelled else "nothing was waiting or running")
    return 0


def collect(args: argparse.Namespace) -> int:
    """Gather finished runs into results.csv, curves.parquet and MLflow."""
    study, planned = _plan(args)
    found = _collect(args, planned)
    mirrored = _mirror(args, study, found)
    if args.json:
        _print_json(
            {
                "files": [str(path) for path in found.files],
                "rows": len(found.results),
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
    from flipscale.plot import plot_all

    study = _study(args)
    folder = args.results / study.name
    drawn = plot_all(
        read_results(folder / "results.csv"),
        read_curves(folder / "curves.parquet"),
        study=study.name,
        baseline=study.baseline,
        out=args.plots / study.name,
        figures=study.figures,
        score=study.score,
    )
    for name, reason in drawn.skipped.items():
        _say(f"{name} is not drawn: {reason}")
    if args.json:
        _print_json({"figures": [str(path) for path in drawn.files], "skipped": drawn.skipped})
    else:
        _say(f"wrote {len(drawn.files)} files to {args.plots / study.name}/")
    return 0


def compare(args: argparse.Namespace) -> int:
    """Say what the masked runs gain over their no-mask twins, from a study's results.csv."""
    from flipscale.collect import read_results
    from flipscale.compare import compare as compare_results
    from flipscale.run import replacing, write_json

    study = _study(args)
    folder = args.results / study.name
    comparison = compare_results(
        read_results(folder / "results.csv"),
        baseline=study.baseline,
        axes=[axis.name for axis in study.axes],
        score=args.score or study.score,
    )
    write_json(folder / "comparison.json", comparison.to_dict())
    with replacing(folder / "comparison.md") as file:
        file.write(f"# {study.question or study.name}\n\n{comparison.markdown()}".encode())
    if args.json:
        _print_json(comparison.to_dict())
    else:
        print(comparison.table())
    _say(f"wrote {folder / 'comparison.json'} and {folder / 'comparison.md'}")
    return 0


def run(args: argparse.Namespace) -> int:
    """Do all of it, in order: plan, submit, wait, collect, plot, compare."""
    from flipscale import track

    args.detach = args.retry_diverged = args.json = False
    args.score = None
    failed = submit(args)
    study, planned = _plan(args)
    found = _collect(args, planned)
    if found.results.empty:
        raise FlipscaleError(f"No run of {args.study} has finished; see flipscale status {args.study}.")
    plot(args)
    compare(args)
    mirrored = _mirror(args, study, found)
    folder = args.results / study.name
    print(f"\ntable        {found.files[0]}   ({len(found.results)} of {len(planned.runs)} runs)")
    print(f"figures      {args.plots / study.name}/")
    print(f"comparison   {folder / 'comparison.md'}")
    print(f"MLflow       {track.ui_command(mirrored['uri']) if mirrored else 'not written'}")
    return failed


def why(args: argparse.Namespace) -> int:
    """Explain a run's id by the settings that make it, or in which settings two runs differ."""
    from flipscale.plan import differences, identity, show_setting

    asked = [_asked(args, name) for name in (args.id, args.other) if name is not None]
    if len(asked) == 1:
        settings = identity(asked[0]["settings"])
        if args.json:
            _print_json({"id": asked[0]["id"], "recipe": asked[0]["recipe"], "identity": settings})
            return 0
        print(f"{asked[0]['id']} is recipe {asked[0]['recipe']} with these settings; all others are at their defaults:")
        _print_table(("setting", "value"), [(name, show_setting(asked[0]["settings"][name])) for name in settings])
        return 0
    found = differences(asked[0]["settings"], asked[1]["settings"])
    if args.json:
        _print_json(
            {"ids": [one["id"] for one in asked], "differences": {name: list(two) for name, two in found.items()}}
        )
    elif not found:
        print("the same run")
    else:
        rows = [(name, show_setting(one), show_setting(two)) for name, (one, two) in found.items()]
        _print_table(("setting", asked[0]["id"], asked[1]["id"]), rows)
    return 0


def train(args: argparse.Namespace) -> int:
    """Train the runs of these folders, one after the other: what a job calls."""
    from flipscale.train import train as train_folders

    return train_folders([Path(folder) for folder in args.folders])


# What several verbs need


def _study(args: argparse.Namespace) -> "Study":
    from flipscale.study import read_study

    return read_study(args.study)


def _plan(args: argparse.Namespace) -> "tuple[Study, Plan]":
    from flipscale.plan import plan as plan_study

    study = _study(args)
    return study, plan_study(study)


def _write_plan(args: argparse.Namespace, planned: "Plan") -> None:
    from flipscale.run import write_json

    folder = args.results / planned.study
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "plan.json", planned.to_dict())


def _collect(args: argparse.Namespace, planned: "Plan") -> "Collected":
    from flipscale.collect import collect as collect_runs

    runs = [{"study": planned.study, **run.to_dict()} for run in planned.runs]
    found = collect_runs(runs, args.results, args.results / planned.study)
    for name, problem in found.problems.items():
        _say(f"{name} is left out: {problem}")
    for name in found.unknown_scores:
        _say(f"the score {name} has no column in results.csv; its points are in curves.parquet")
    torn = f", {found.torn_lines} torn lines left out" if found.torn_lines else ""
    _say(f"wrote {found.files[0]} ({len(found.results)} of {len(planned.runs)} runs{torn})")
    return found


def _mirror(args: argparse.Namespace, study: "Study", found: "Collected") -> dict[str, Any] | None:
    """Bring MLflow up to date; what was done, or None where nothing was."""
    from flipscale import track

    if args.no_mlflow or found.results.empty:
        return None
    folder, figures = args.results / study.name, sorted((args.plots / study.name).glob("*.png"))
    files = [Path(args.study), found.files[0], folder / "comparison.md", *figures]
    uri = _tracking_uri(args)
    try:
        done = track.mirror(
            found.results,
            found.curves,
            study.name,
            tracking_uri=uri,
            artifact_root=args.results / "mlartifacts",
            files=[path for path in files if path.exists()],
        )
    except FlipscaleError as error:
        # The mirror can always be made again from the files, so a server that is away costs nothing.
        _say(f"MLflow was not written: {error}")
        return None
    _say(f"MLflow: {done.created} runs new, {done.updated} changed, {done.unchanged} as they were")
    return {"uri": uri, "created": done.created, "updated": done.updated, "unchanged": done.unchanged}


def _tracking_uri(args: argparse.Namespace) -> str:
    return args.tracking_uri or f"sqlite:///{(args.results / 'mlflow.db').absolute()}"


def _is_evaluated(study: "Study") -> bool:
    evaluation = study.base["evaluation"]
    return evaluation["data"] is not None or "webdataset" not in study.base["data"]


def _run_folder(args: argparse.Namespace, name: str) -> Path:
    runs: Path = args.results / "runs"
    return runs / _one_of(name, sorted(path.name for path in runs.iterdir()) if runs.is_dir() else [])


def _asked(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """What was asked of a run: from its folder, or from the plan of any study that was submitted or planned here."""
    from flipscale.run import RunFolder

    known: dict[str, dict[str, Any]] = {}
    for path in sorted(args.results.glob("*/plan.json")):
        try:
            known |= {one["id"]: one for one in json.loads(path.read_text())["runs"]}
        except (ValueError, TypeError, KeyError) as error:
            raise FlipscaleError(f"{path}: is no plan; delete it, `flipscale plan` writes it again.") from error
    for path in sorted(args.results.glob("runs/*/run.json")):
        asked = RunFolder(path.parent).asked()
        if asked:
            known[path.parent.name] = asked
    return known[_one_of(name, sorted(known))]


def _one_of(name: str, ids: Sequence[str]) -> str:
    """The one id that is `name`, begins with it, or ends with it (the hash alone is enough)."""
    from flipscale.errors import did_you_mean

    name = Path(name).name
    found = [one for one in ids if one == name] or [one for one in ids if one.startswith(name) or one.endswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise FlipscaleError(
            f"'{name}' could be any of {len(found)} runs: {', '.join(found[:5])}, ... Give more of it."
        )
    raise FlipscaleError(
        f"no run '{name}'; {did_you_mean(name, ids)}" if ids else f"no run '{name}': none is here yet."
    )


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _print_json(data: object) -> None:
    print(json.dumps(data, indent=1))


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        # The first column is a name, the rest are mostly numbers.
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells).rstrip())


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"


def _si(number: float) -> str:
    """Three digits and a suffix: 12.8B."""
    for scale, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= scale:
            return f"{number / scale:.3g}{suffix}"
    return f"{number:g}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flipscale",
        description="Scaling studies of language-image pre-training: one YAML file in, scaling curves and an honest "
        "comparison with the no-mask baseline out.",
        epilog="A first study: flipscale init study.yaml; flipscale run study.yaml",
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def verb(command: Callable[[argparse.Namespace], int], *, study: bool = True, data: bool = True) -> Any:
        says = (command.__doc__ or "").strip()
        one = verbs.add_parser(command.__name__, help=says.splitlines()[0], description=says)
        one.set_defaults(command=command)
        if study:
            one.add_argument("study", metavar="STUDY", help="the study's YAML file")
        if data:
            one.add_argument("--json", action="store_true", help="print data for a program")
        default = os.environ.get("FLIPSCALE_RESULTS", "results")
        one.add_argument("--results", type=Path, default=Path(default), help=f"where runs and tables are ({default}/)")
        return one

    def mirrors(one: Any) -> None:
        one.add_argument("--plots", type=Path, default=Path("plots"), help="where figures go (plots/)")
        one.add_argument("--tracking-uri", help="where MLflow keeps its runs (a SQLite file among the results)")
        one.add_argument("--no-mlflow", action="store_true", help="write tables only")

    def launches(one: Any) -> None:
        one.add_argument("--on", default="local", metavar="LAUNCHER", help="where to run: local (this machine)")

    one = verb(init, study=False, data=False)
    one.add_argument("file", nargs="?", default="study.yaml", help="the file to write (study.yaml)")
    one.add_argument("--schema", action="store_true", help="print the JSON Schema of study files instead")
    verb(plan)
    one = verb(submit, data=False)
    launches(one)
    one.add_argument("--detach", action="store_true", help="return at once; the runs go on without this terminal")
    one.add_argument("--retry-diverged", action="store_true", help="also start runs again whose loss diverged")
    one = verb(status)
    one.add_argument("--watch", action="store_true", help="show it again until nothing runs any more")
    one = verb(logs, study=False, data=False)
    one.add_argument("id", metavar="ID", help="a run's id, or its beginning, or its hash")
    one.add_argument("-f", "--follow", action="store_true", help="go on printing until the run has ended")
    one = verb(cancel)
    one.add_argument("ids", metavar="ID", nargs="*", help="only these runs")
    mirrors(verb(collect))
    verb(plot).add_argument("--plots", type=Path, default=Path("plots"), help="where figures go (plots/)")
    one = verb(compare)
    one.add_argument("--score", help="what to compare; the study's score if left out")
    one = verb(run, data=False)
    launches(one)
    mirrors(one)
    one = verb(why, study=False)
    one.add_argument("id", metavar="ID", help="a run's id, or its beginning, or its hash")
    one.add_argument("other", metavar="ID", nargs="?", help="another run, to see the difference")
    one = verb(train, study=False, data=False)
    one.add_argument("folders", metavar="RUN", nargs="+", help="run folders")
    return parser
