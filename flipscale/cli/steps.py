"""What several verbs do with their arguments: read the study, plan it, collect it, find a run by a part of its id."""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flipscale.cli.output import say
from flipscale.cli.owner import check_owner, note_owner
from flipscale.errors import FlipscaleError
from flipscale.words import count, hours

if TYPE_CHECKING:
    from flipscale.collect import Collected
    from flipscale.inputs.check import Checked
    from flipscale.launch import Launcher
    from flipscale.plan import Plan, Run
    from flipscale.study import Study


def study_of(args: argparse.Namespace) -> "Study":
    """The study, whose results are in no other study's folder."""
    from flipscale.study import read_study

    study = read_study(args.study)
    check_owner(args.results / study.name, Path(args.study))
    return study


def where(args: argparse.Namespace) -> str:
    """What another command needs to be told to look at the same runs."""
    usual = args.results == Path(os.environ.get("FLIPSCALE_RESULTS", "results"))
    return args.study if usual else f"{args.study} --results {args.results}"


def plan_of(args: argparse.Namespace) -> "tuple[Study, Plan]":
    from flipscale.plan import plan as plan_study

    study = study_of(args)
    return study, plan_study(study)


def check_runs(study: "Study", runs: "Sequence[Run]") -> "Checked":
    """What came of looking at all that these runs read."""
    from flipscale import launch
    from flipscale.inputs.check import check

    return check(study, runs, on_gpu=bool(launch.gpus_here()))


def refuse_unready(study: "Study", runs: "Sequence[Run]") -> None:
    """Raise InputsError, with every problem, where something that these runs read is missing or wrong."""
    checked = check_runs(study, runs)
    checked.raise_if_any("Nothing was started. Correct this, or add --no-check to start anyway.")


def launcher_of(args: argparse.Namespace) -> "Launcher":
    """The launcher that was asked for. FLIPSCALE_SITE describes the cluster where none is described."""
    from flipscale import launch

    site = args.site or (os.environ.get("FLIPSCALE_SITE") if args.on != "local" else None)
    described = launch.read_site(site) if site else None
    return launch.launcher_named(args.on, args.results, described, address=args.address)


def write_plan(args: argparse.Namespace, planned: "Plan") -> None:
    """Write plan.json, and say where."""
    from flipscale.run import write_json

    say_folder(args, planned)
    folder = args.results / planned.study
    folder.mkdir(parents=True, exist_ok=True)
    note_owner(folder, Path(args.study))
    write_json(folder / "plan.json", planned.to_dict(), rows="runs")


def say_folder(args: argparse.Namespace, planned: "Plan") -> None:
    """Name the results folder in use: from another working directory it is another one."""
    folder = (args.results / planned.study).resolve()
    new = "" if folder.exists() else " (new; --results or FLIPSCALE_RESULTS names another)"
    say(f"results folder: {folder}{new}")


def total_of(planned: "Plan") -> str:
    """What a plan costs, in a line."""
    total = planned.total
    runs = count(total["runs"], "run")
    return f"{runs}, {total['train_flops']:.2e} FLOPs, {hours(total['gpu_hours'])} {planned.hours_unit}"


def say_cost(planned: "Plan") -> None:
    """Say what is about to start: the plan's cost and its warnings."""
    say(f"plan: {total_of(planned)}")
    say_warnings(planned)


def say_warnings(planned: "Plan") -> None:
    for warning in planned.warnings:
        say(f"warning: {warning}")


def collect_all(args: argparse.Namespace, planned: "Plan") -> "Collected":
    from flipscale.collect import collect as collect_runs

    folder: Path = args.results / planned.study
    found = collect_runs(planned, args.results, folder)
    note_owner(folder, Path(args.study))
    for name, problem in found.problems.items():
        say(f"{name} is left out: {problem}")
    for name in found.unknown_scores:
        say(f"the score {name} has no column in results.csv; its points are in curves.parquet")
    torn = f", {found.torn_lines} torn lines left out" if found.torn_lines else ""
    unreadable = f", {len(found.problems)} unreadable" if found.problems else ""
    rows = f"{found.rows} of {len(planned.cells)} runs{unreadable}{torn}"
    if found.written:
        say(f"wrote {found.files[0]} ({rows}; {found.read} read, the others have not changed)")
    else:
        say(f"{found.files[0]} is as it was ({rows}; none has changed)")
    return found


def mirror(args: argparse.Namespace, study: "Study", found: "Collected") -> dict[str, Any] | None:
    """Bring MLflow up to date; what was done, or None where nothing was."""
    if args.no_mlflow or not found.rows:
        return None
    from flipscale import track

    folder, plots = args.results / study.name, args.plots / study.name
    tables = [found.files[0], *(folder / name for name in ("comparison.md", "comparison.json", "fits.json"))]
    files = [Path(args.study), *tables, *sorted(plots.glob("*.png")), *sorted(plots.glob("*.html"))]
    source = track.MirrorSource(
        study=study.name,
        results=found.files[0],
        question=study.question,
        baseline=tuple(study.baseline),
        files=[path for path in files if path.exists()],
        roots=[Path(args.study), folder, plots],
        runs=args.results / "runs",
    )
    try:
        uri = track.settled(args.tracking_uri, args.results)
        done = track.mirror(
            source,
            tracking_uri=uri,
            artifact_root=args.results / "mlartifacts",
            all_points=args.all_points,
            models=args.log_models,
            thoroughly=args.check_mlflow,
        )
    except FlipscaleError as error:
        # The mirror can always be made again from the files, so a server that is away costs nothing.
        say(f"MLflow was not written: {error}")
        return None
    for left_out in done.left_out:
        say(left_out)
    say(f"MLflow: {done.created} runs new, {done.updated} changed, {done.unchanged} as they were")
    counts = {"created": done.created, "updated": done.updated, "unchanged": done.unchanged}
    return {"uri": track.without_secrets(uri), **counts, "look": track.ui_command(uri)}


def baseline_of(study: "Study") -> dict[str, Any]:
    """The study's baseline as results.csv holds it."""
    from flipscale.collect import setting_value

    return {name: setting_value(name, value) for name, value in study.baseline.items()}


def run_folder(args: argparse.Namespace, name: str) -> Path:
    runs: Path = args.results / "runs"
    return runs / one_of(name, sorted(path.name for path in runs.iterdir()) if runs.is_dir() else [])


def asked_of(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """What was asked of a run: from its folder, or from the plan of any study that was submitted or planned here."""
    from flipscale.run import RunFolder

    known: dict[str, dict[str, Any]] = {}
    for path in sorted(args.results.glob("*/plan.json")):
        try:
            known |= {one["id"]: one for one in json.loads(path.read_text(encoding="utf-8"))["runs"]}
        except (ValueError, TypeError, KeyError) as error:
            raise FlipscaleError(f"{path}: is no plan; delete it, `flipscale plan` writes it again.") from error
    for path in sorted(args.results.glob("runs/*/run.json")):
        asked = RunFolder(path.parent).asked()
        if asked:
            known[path.parent.name] = asked
    return known[one_of(name, sorted(known))]


def one_of(name: str, ids: Sequence[str]) -> str:
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
