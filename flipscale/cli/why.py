"""The identity of a run: status --why."""

import argparse
from typing import TYPE_CHECKING

from flipscale.cli.arguments import workspace_of
from flipscale.cli.names import request_of
from flipscale.cli.output import print_json, print_table

if TYPE_CHECKING:
    from flipscale.run import CodeIdentity, RunRequest
    from flipscale.settings.declarations import Settings
    from flipscale.workspace import Workspace


def print_why(args: argparse.Namespace) -> None:
    """Explain the id of a run, and which code trained it; or how two runs differ."""
    workspace = workspace_of(args)
    asked = [request_of(workspace, name) for name in args.why]
    if len(asked) == 1:
        _print_identity(asked[0], workspace, as_json=args.json)
    elif len(asked) == 2:
        _print_differences(*((run.id, run.settled) for run in asked), as_json=args.json)
    else:
        args.parser.error("--why explains one run, or how two differ")


def _print_identity(asked: "RunRequest", workspace: "Workspace", *, as_json: bool) -> None:
    from flipscale.data.code_changes import CodeToday
    from flipscale.planning.identity import identity, show_setting
    from flipscale.run import EARLIER, RunFolder, storable

    settings = asked.settled
    named = identity(settings)
    folder = RunFolder(workspace.run(asked.id))
    codes = folder.codes()
    today = CodeToday().of(settings) if codes else None
    differences = list(dict.fromkeys(phrase for code in codes if today for phrase in code.differences(today)))
    if as_json:
        recorded = storable(codes)
        print_json(
            {
                "id": asked.id,
                "recipe": asked.recipe,
                "identity": named,
                "code": recorded,
                "code_differences": differences,
            }
        )
        return
    print(f"{asked.id} is recipe {asked.recipe} with these settings; all others are at their defaults:")
    print_table(("setting", "value"), [(name, show_setting(getattr(settings, name))) for name in named], numbers=False)
    _print_codes(codes, differences)
    if EARLIER in folder.glance().files:
        print(f"it was retrained; its earlier results are in {folder.path / EARLIER}")


def _print_codes(codes: "list[CodeIdentity]", differences: list[str]) -> None:
    if not codes:
        print("\nThe code that trains it is recorded when its training begins.")
        return
    print(f"\ntrained by {codes[0]}")
    for code in codes[1:]:
        print(f"resumed by {code}")
    if differences:
        print("today's code differs: " + "; ".join(differences))
    else:
        print("today's code is the same, as far as is known")


def _print_differences(*runs: "tuple[str, Settings]", as_json: bool) -> None:
    from flipscale.planning.identity import differences, show_setting

    (first_id, first), (second_id, second) = runs
    changed = differences(first, second)
    if as_json:
        values = {name: list(both) for name, both in changed.items()}
        print_json({"ids": [first_id, second_id], "differences": values})
    elif not changed:
        print("the same run")
    else:
        rows = [(name, show_setting(getattr(first, name)), show_setting(getattr(second, name))) for name in changed]
        print_table(("setting", first_id, second_id), rows)
