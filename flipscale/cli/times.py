"""How long runs took: status --spent."""

import argparse
from typing import TYPE_CHECKING, Any

from flipscale.cli.arguments import workspace_of
from flipscale.cli.output import print_json, print_table
from flipscale.words import count, exact, hours, hours_or_seconds, percent, times

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flipscale.collecting.ledger import Accuracy, LedgerSum


def print_spent(args: argparse.Namespace) -> None:
    """Sum predicted and spent hours by study, arm and state, failed and stopped work included."""
    from flipscale.collecting.ledger import accuracy_of, grouped_by
    from flipscale.workflow.accounts import ledger_of

    entries = ledger_of(workspace_of(args), args.study)
    rows = grouped_by(entries, lambda entry: (entry.study, entry.arm, str(entry.state), entry.unit))
    totals = grouped_by(entries, lambda entry: (entry.unit,))
    accuracy = accuracy_of(entries)
    if args.json:
        print_json(
            {
                "rows": [
                    dict(zip(("study", "arm", "state", "unit"), key, strict=True)) | _sum_as_json(total)
                    for key, total in rows.items()
                ],
                "totals": [{"unit": unit} | _sum_as_json(total) for (unit,), total in totals.items()],
                "predictions": accuracy and vars(accuracy),
            }
        )
        return
    head = ("study", "arm", "state", "runs", "predicted", "spent", "evaluation", "lost", "taken / predicted", "")
    scales = {unit: hours_or_seconds(max(total.predicted, total.spent)) for (unit,), total in totals.items()}
    listed = [(*key[:3], *_sum_row(total, key[3], scales)) for key, total in rows.items()]
    listed += [("all", "", "", *_sum_row(total, unit, scales)) for (unit,), total in totals.items()]
    print_table(head, listed)
    for line in _said(totals, accuracy):
        print(line)


def _sum_row(total: "LedgerSum", unit: str, scales: "Mapping[str, tuple[str, float]]") -> tuple[str, ...]:
    """scales: for each kind of hours, the unit in which they are shown and its number per hour."""
    spent = (total.predicted, total.spent, total.evaluation, total.lost)
    name, factor = scales[unit]
    return (
        str(total.runs),
        *(hours(each * factor) if each else "" for each in spent),
        times(total.ratio) if total.ratio else "",
        f"{unit.removesuffix('hours')}{name}",
    )


def _sum_as_json(total: "LedgerSum") -> dict[str, Any]:
    return {**vars(total), "spent": total.spent}


def _said(totals: "dict[tuple[str, ...], LedgerSum]", accuracy: "Accuracy | None") -> list[str]:
    """Notes below a table: how good predictions were, and the hours that are not counted."""
    said = []
    if planned := sum(total.planned_samples for total in totals.values()):
        samples, flops, planned_flops = (
            sum(getattr(total, name) for total in totals.values()) for name in ("samples", "flops", "planned_flops")
        )
        said.append(
            f"Trained {exact(samples)} of {exact(planned)} planned samples ({percent(samples / planned, 3)}), "
            f"{flops:.3g} of {planned_flops:.3g} FLOPs; samples of a trunk count once."
        )
    if accuracy is not None:
        within = f", {accuracy.within} of {accuracy.ranged} within the range given" if accuracy.ranged else ""
        said.append(
            f"Training took {times(accuracy.median)} times the prediction in the median of "
            f"{count(accuracy.runs, 'finished run')}, at worst {times(accuracy.worst)} times more or less{within}."
        )
    if untimed := sum(total.untimed for total in totals.values()):
        said.append(
            f"{count(untimed, 'failed attempt')} recorded no time, so spent and lost are too low by "
            f"{'that one' if untimed == 1 else 'those'}."
        )
    return said
