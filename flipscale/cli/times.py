"""How long runs take, and took: probe, ledger."""

import argparse
from typing import TYPE_CHECKING, Any

from flipscale.cli.arguments import add_json, add_results, add_study, open_study_of, workspace_of
from flipscale.cli.jobs import add_launcher, launcher_of
from flipscale.cli.output import print_json, print_table
from flipscale.words import count, hours, hours_or_seconds, times
from flipscale.workflow.talk import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flipscale.ledger import Accuracy, LedgerSum
    from flipscale.workflow.opened import OpenStudy
    from flipscale.workflow.probed import TimedShape


def probe_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    add_json(parser)
    add_results(parser)
    add_launcher(parser)
    parser.add_argument("--detach", action="store_true", help="return at once; the probe goes on without this terminal")


def probe(args: argparse.Namespace) -> int:
    """Time a few steps of each shape of a study where it will run; plan, watch and budgets then use these times."""
    from flipscale.workflow.probed import finish_probe, shapes_of, start_probe
    from flipscale.workflow.submitted import refuse_unready

    launcher = launcher_of(args)
    opened = open_study_of(args, launcher.site_name)
    if args.on == "local" and not args.no_check:
        refuse_unready(opened.study, opened.plan.runs)
    submission = start_probe(opened, launcher)
    if args.detach:
        say(f"it goes on without this terminal; see flipscale logs {submission.runs[0].id}")
        return 0
    timed = finish_probe(opened, submission)
    if timed is None:
        return 1
    shapes = list(shapes_of(timed))
    if args.json:
        print_json(_as_json(timed, shapes))
    else:
        head = ("shape", "runs", "samples/s", "ms/step", "range", "s/evaluation", "s to start")
        print_table(head, [_row(timed, shape) for shape in shapes])
    return 0


def _row(opened: "OpenStudy", shape: "TimedShape") -> tuple[str, ...]:
    step, evaluation = shape.step, shape.evaluation
    name, batch = _name(opened, shape), shape.run.settings.batch_size
    speed = ("", "", "not timed" if shape.run.cost.samples_seen else "")
    if step is not None:
        low, high = 1000 * step.seconds / step.spread, 1000 * step.seconds * step.spread
        speed = (f"{batch / step.seconds:,.0f}", f"{1000 * step.seconds:.3g}", f"{low:.3g} to {high:.3g}")
    scoring = f"{evaluation.seconds:.2f}" if evaluation else ""
    start = f"{step.opening_seconds + step.warming_seconds:.2f}" if step else ""
    return (name, str(shape.runs), *speed, scoring, start)


def _name(opened: "OpenStudy", shape: "TimedShape") -> str:
    """The values that tell the shape from the others: those of the axes that times depend on."""
    from flipscale.identity import show_setting
    from flipscale.timing import STEP_SETTINGS

    settings = shape.run.settings
    named = [*opened.axes, *(["tuning"] if settings.tuning else [])]
    names = [name for name in (*STEP_SETTINGS, "tuning") if name in named]
    return ", ".join(f"{name}={show_setting(getattr(settings, name))}" for name in names) or settings.model


def _as_json(opened: "OpenStudy", shapes: "list[TimedShape]") -> dict[str, Any]:
    return {
        "study": opened.study.name,
        "site": opened.site,
        "shapes": [
            {
                "name": _name(opened, shape),
                "runs": shape.runs,
                "step": shape.step and vars(shape.step),
                "evaluation": shape.evaluation and vars(shape.evaluation),
            }
            for shape in shapes
        ],
        "gpu_hours": opened.plan.total.gpu_hours,
    }


def ledger_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    add_results(parser)
    parser.add_argument(
        "studies", metavar="STUDY", nargs="*", help="only these studies; default: all in the results folder"
    )


def ledger(args: argparse.Namespace) -> int:
    """Sum predicted and spent hours by study, arm and state, failed and stopped work included."""
    from flipscale.ledger import accuracy_of, grouped_by
    from flipscale.workflow.accounts import ledger_of

    entries = ledger_of(workspace_of(args), args.studies)
    rows = grouped_by(entries, lambda entry: (entry.study, entry.arm, str(entry.state), entry.unit))
    totals = grouped_by(entries, lambda entry: (entry.unit,))
    accuracy = accuracy_of(entries)
    if args.json:
        print_json(
            {
                "rows": [
                    dict(zip(("study", "arm", "state", "unit"), key, strict=True)) | _sum_as_json(found)
                    for key, found in rows.items()
                ],
                "totals": [{"unit": unit} | _sum_as_json(found) for (unit,), found in totals.items()],
                "predictions": accuracy and vars(accuracy),
            }
        )
        return 0
    head = ("study", "arm", "state", "runs", "predicted", "spent", "evaluation", "lost", "taken / predicted", "")
    scales = {unit: hours_or_seconds(max(found.predicted, found.spent)) for (unit,), found in totals.items()}
    listed = [(*key[:3], *_sum_row(found, key[3], scales)) for key, found in rows.items()]
    listed += [("all", "", "", *_sum_row(found, unit, scales)) for (unit,), found in totals.items()]
    print_table(head, listed)
    for line in _said(totals, accuracy):
        print(line)
    return 0


def _sum_row(found: "LedgerSum", unit: str, scales: "Mapping[str, tuple[str, float]]") -> tuple[str, ...]:
    """scales: for each kind of hours, the unit in which they are shown and its number per hour."""
    spent = (found.predicted, found.spent, found.evaluation, found.lost)
    name, factor = scales[unit]
    return (
        str(found.runs),
        *(hours(each * factor) if each else "" for each in spent),
        times(found.ratio) if found.ratio else "",
        f"{unit.removesuffix('hours')}{name}",
    )


def _sum_as_json(found: "LedgerSum") -> dict[str, Any]:
    return {**vars(found), "spent": found.spent}


def _said(totals: "dict[tuple[str, ...], LedgerSum]", accuracy: "Accuracy | None") -> list[str]:
    """Notes below a table: how good predictions were, and the hours that are not counted."""
    said = []
    if accuracy is not None:
        within = f", {accuracy.within} of {accuracy.ranged} within the range given" if accuracy.ranged else ""
        said.append(
            f"Training took {times(accuracy.median)} times the prediction in the median of "
            f"{count(accuracy.runs, 'finished run')}, at worst {times(accuracy.worst)} times more or less{within}."
        )
    if untimed := sum(found.untimed for found in totals.values()):
        said.append(
            f"{count(untimed, 'failed attempt')} recorded no time, so spent and lost are too low by {_these(untimed)}."
        )
    return said


def _these(number: int) -> str:
    return "that one" if number == 1 else "those"
