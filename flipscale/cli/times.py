"""How long runs took: status --spent."""

import argparse

from flipscale.cli.arguments import workspace_of
from flipscale.cli.output import print_json, print_table
from flipscale.words import hours, hours_or_seconds


def print_spent(args: argparse.Namespace) -> None:
    """Sum predicted and spent hours by study and state, failed and stopped work included."""
    from flipscale.collecting.ledger import grouped_by
    from flipscale.workflow.accounts import ledger_of

    entries = ledger_of(workspace_of(args), args.study)
    rows = grouped_by(entries, lambda entry: (entry.study, str(entry.state), entry.unit))
    totals = grouped_by(entries, lambda entry: (entry.unit,))
    if args.json:
        names = ("study", "state", "unit")
        print_json(
            {
                "rows": [dict(zip(names, key, strict=True)) | vars(total) for key, total in rows.items()],
                "totals": [{"unit": unit} | vars(total) for (unit,), total in totals.items()],
            }
        )
        return
    listed = []
    for (study, state, unit), total in [*rows.items(), *((("all", "", *key), total) for key, total in totals.items())]:
        whole = totals[unit,]
        name, factor = hours_or_seconds(max(whole.predicted, whole.spent))
        amounts = [hours(each * factor) if each else "" for each in (total.predicted, total.spent)]
        listed.append((study, state, str(total.runs), *amounts, f"{unit.removesuffix('hours')}{name}"))
    print_table(("study", "state", "runs", "predicted", "spent", ""), listed)
