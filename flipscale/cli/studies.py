"""A study before it runs: init, plan."""

import argparse
import json
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from flipscale.cell import without_seed
from flipscale.cli.arguments import add_json, add_results, add_site, open_study_of
from flipscale.cli.output import print_json, print_table, refuse_existing
from flipscale.words import count, device_hours, hours_or_seconds, rounded
from flipscale.workflow.messages import say

if TYPE_CHECKING:
    from flipscale.planning.runs import Plan, Run
    from flipscale.workflow.machine_health import Diagnosis


_COSTS = ("params", "FLOPs/sample", "samples", "steps", "FLOPs", "GiB/device")
"""The columns of a plan's table that say what a run costs, before its time."""

WIDTH = 110
"""The most characters of a line about this machine."""


def init_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", default="study.yaml", help="the file to write (study.yaml)")
    parser.add_argument("--own", action="store_true", help="a study of a program of your own, of any kind")


def init(args: argparse.Namespace) -> int:
    """Write a commented study file to start from, and its JSON Schema for the editor."""
    from importlib.resources import files

    from flipscale.study.schema import study_schema

    path = Path(args.file)
    refuse_existing(path, "flipscale init NAME.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name("study.schema.json")
    beside.write_text(json.dumps(study_schema(), indent=1) + "\n", encoding="utf-8")
    written = "own.yaml" if args.own else "template.yaml"
    template = files("flipscale.study").joinpath(written).read_text(encoding="utf-8")
    path.write_text(template, encoding="utf-8")
    say(f"wrote {path} and {beside}. Next: flipscale plan {path}")
    return 0


def plan_arguments(parser: argparse.ArgumentParser) -> None:
    what = "the study's YAML file; without one, --check looks at this machine alone"
    parser.add_argument("study", metavar="STUDY", nargs="?", help=what)
    what = "lr=1e-3, seeds=5: plan the study with these changes, and write nothing"
    parser.add_argument("changes", metavar="KEY=VALUE", nargs="*", help=what)
    add_json(parser)
    add_results(parser)
    add_site(parser)
    parser.add_argument(
        "--check", action="store_true", help="check the data, checkpoints and programs that runs need, and this machine"
    )


def plan(args: argparse.Namespace) -> int:
    """Show the runs of a study and what they will cost; trains nothing.

    With --check it exits with 1 if something that runs need is missing.
    """
    if args.study is None:
        if not args.check:
            args.parser.error("name a study, or check this machine: flipscale plan --check")
        diagnoses = _machine(args)
        if args.json:
            print_json(list(map(vars, diagnoses)))
        return _exit_code(diagnoses)
    with tempfile.TemporaryDirectory() as folder:
        if args.changes:
            from flipscale.study import write_changed

            file = Path(args.study)
            args.study = write_changed(file, args.changes, f"{file.stem}-changed", Path(folder))
        return _plan(args)


def _plan(args: argparse.Namespace) -> int:
    from flipscale.data.code_changes import code_changes
    from flipscale.launch import held_back, wall_clock
    from flipscale.run import RunFolder, as_json
    from flipscale.workflow.opened import cost_in_words, say_power, say_warnings, sweep_words, write_plan
    from flipscale.workflow.submitted import check_runs, say_code
    from flipscale.workflow.to_score import say_to_score, to_score

    opened = open_study_of(args)
    planned = opened.plan
    try:
        if not args.changes:
            write_plan(opened)
    except OSError as error:  # a folder that this user may not write to
        say(f"plan.json was not written: {error.filename or opened.files.folder}: {error.strerror}")
    say_warnings(planned)
    unscored = to_score(opened)
    say_to_score(opened, unscored)
    say_code(opened, code_changes(planned.runs, args.results))
    untrained = [run for run in planned.runs if not RunFolder(opened.workspace.run(run.id)).is_trained]
    held, why = held_back(untrained, args.results)
    if held:
        say(f"{count(len(held), 'run')} cannot start: {why}")
    checked = check_runs(opened.study, planned.runs) if args.check else None
    if args.json:
        with_check: dict[str, object] = {}
        if checked:
            machine = _machine(args)
            with_check = {"check": checked.to_dict() | {"machine": list(map(vars, machine))}}
        print(as_json(planned.to_dict() | with_check, rows="runs"))
        return 1 if checked and (checked.problems or _exit_code(machine)) else 0
    _print_runs(planned)
    say_power(opened)
    clock = wall_clock(planned, args.results)
    lines = [
        cost_in_words(planned),
        sweep_words(opened) if opened.sweep else "",
        planned.sharing,
        unscored.words if unscored.runs else "",
        "" if unscored.runs and clock.done == clock.runs else str(clock),
    ]
    print("\n".join(filter(None, lines)))
    if checked:
        print()
        code = _exit_code(_machine(args))
        checked.raise_if_any()
        say(str(checked))
        return code
    return 0


def _machine(args: argparse.Namespace) -> "list[Diagnosis]":
    """What this machine has and lacks, printed line by line unless JSON is asked for."""
    from flipscale.workflow.machine_health import machine_health

    diagnoses = []
    for diagnosis in machine_health(args.results):
        diagnoses.append(diagnosis)
        if not args.json:
            _print_diagnosis(diagnosis)
    return diagnoses


def _exit_code(diagnoses: "list[Diagnosis]") -> int:
    return int(any(diagnosis.health == "problem" for diagnosis in diagnoses))


def _print_diagnosis(diagnosis: "Diagnosis") -> None:
    """Print what was found and what to do about it, wrapped."""
    joined = "; " if diagnosis.health == "ok" else ". To do: "
    text = joined.join(filter(None, (diagnosis.found, diagnosis.advice)))
    head = f"{diagnosis.health:<8} {diagnosis.subject:<15} "
    print(textwrap.fill(head + text, WIDTH, subsequent_indent=" " * len(head), break_long_words=False), flush=True)


def _print_runs(planned: "Plan") -> None:
    """Print a row for the seeds of a cell, or for each run with its id where no cell has several."""
    unit, factor = hours_or_seconds(max(run.cost.gpu_hours for run in planned.runs))
    cells: dict[tuple[str, ...], list[Run]] = {}
    for run in planned.runs:
        cells.setdefault((without_seed(run.name) or planned.study, *_cost_row(run, factor)), []).append(run)
    names = (*_COSTS, device_hours(planned.device, unit))
    first, *_ = cells
    varying = [number for number in range(1, len(first)) if len({row[number] for row in cells}) > 1]
    known = [(number, name) for number, name in enumerate(names, 1) if first[number]]
    if alike := [f"{name} {first[number]}" for number, name in known if number not in varying]:
        print(f"{'each run' if len(planned.runs) > 1 else 'the run'}: {', '.join(alike)}\n")
    several = len(cells) < len(planned.runs)
    head = ("each run of", "runs") if several else ("run",)
    rows = []
    for row, runs in cells.items():
        costs = [row[number] for number in varying]
        rows.append([row[0], str(len(runs)), *costs] if several else [row[0], *costs, runs[0].id])
    print_table([*head, *(names[number - 1] for number in varying), *([] if several else ["id"])], rows)


def _cost_row(run: "Run", factor: float) -> tuple[str, ...]:
    """The cost of a run in words; '' for what it has not. factor: units of time of the table in an hour."""
    cost = run.cost
    if not run.settings.is_clip:
        hours = str(cost.hours * factor) if run.is_priced else "unknown"
        return ("", "", "", "", f"{cost.train_flops:.2e}" if cost.train_flops else "unknown", "", hours)
    return (
        rounded(cost.params),
        rounded(cost.flops_per_sample),
        rounded(cost.samples_seen),
        f"{cost.steps:,}",
        f"{cost.train_flops:.2e}",
        f"{cost.memory_bytes / 2**30:.2f}{' too large' if run.fits_memory is False else ''}",
        str(cost.hours * factor),
    )
