"""The identity of a run or a study, and its changes since: why."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from flipscale.cli.arguments import add_json, add_results, workspace_of
from flipscale.cli.names import asked_of
from flipscale.cli.output import print_json, print_table
from flipscale.errors import FlipscaleError
from flipscale.words import count

if TYPE_CHECKING:
    from flipscale.code import CodeChanges
    from flipscale.run import Asked, CodeIdentity
    from flipscale.settings import Settings
    from flipscale.workflow.earlier import Change, EarlierRuns
    from flipscale.workflow.opened import OpenStudy
    from flipscale.workspace import Workspace

VALUES_SHOWN = 6
"""At most this many values of a setting are listed."""


def why_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    add_results(parser)
    what = "a run's id, or its beginning, or its hash; or a study's YAML file"
    parser.add_argument("id", metavar="ID|STUDY", help=what)
    parser.add_argument("other", metavar="ID", nargs="?", help="another run, to see the difference")


def why(args: argparse.Namespace) -> int:
    """Explain a run's id, how two runs differ, or what has changed in a study since earlier runs.

    A run's id is its settings; the code that trained it is shown beside it. For a study: which finished runs belong to
    earlier versions of its file, and in which settings they differ from its plan now.
    """
    workspace = workspace_of(args)
    named = [name for name in (args.id, args.other) if name is not None]
    if any(name.endswith((".yaml", ".yml")) for name in named):
        if len(named) > 1:
            raise FlipscaleError("why compares two runs, or a study with its past: give two ids, or one study file.")
        return _why_study(args.id, workspace, as_json=args.json)
    asked = [asked_of(workspace, name) for name in named]
    if len(asked) == 1:
        _print_identity(asked[0], workspace, as_json=args.json)
    else:
        _print_differences(*((run.id, run.settled) for run in asked), as_json=args.json)
    return 0


# A run


def _print_identity(asked: "Asked", workspace: "Workspace", *, as_json: bool) -> None:
    from flipscale.code import CodeToday
    from flipscale.identity import identity, show_setting
    from flipscale.run import EARLIER, RunFolder, code_as_json

    settings = asked.settled
    named = identity(settings)
    folder = RunFolder(workspace.run(asked.id))
    codes = folder.codes()
    today = CodeToday(workspace).of(settings) if codes else None
    differences = list(dict.fromkeys(phrase for code in codes if today for phrase in code.differences(today)))
    if as_json:
        recorded = [code_as_json(code) for code in codes]
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
    from flipscale.identity import differences, show_setting

    (first_id, first), (second_id, second) = runs
    found = differences(first, second)
    if as_json:
        values = {name: list(both) for name, both in found.items()}
        print_json({"ids": [first_id, second_id], "differences": values})
    elif not found:
        print("the same run")
    else:
        rows = [(name, show_setting(getattr(first, name)), show_setting(getattr(second, name))) for name in found]
        print_table(("setting", first_id, second_id), rows)


# A study


def _why_study(file: str, workspace: "Workspace", *, as_json: bool) -> int:
    from flipscale.code import code_changes
    from flipscale.workflow.earlier import earlier_runs, rows_without_folder
    from flipscale.workflow.opened import open_study

    opened = open_study(Path(file), workspace)
    earlier = earlier_runs(opened)
    code = code_changes(opened.plan.runs, workspace.results)
    rows = rows_without_folder(opened)
    if as_json:
        print_json({**_study_as_json(opened, earlier, code), "rows_without_folder": rows})
        return 0
    print(f"{code.finished} of {count(len(opened.plan.runs), 'run')} of {file} as it is now are finished.")
    for sentence in code.sentences():
        print(sentence)
    if rows:
        planned = len({run.id for run in opened.plan.runs}.intersection(rows))
        where = f"{opened.files.results} has {count(len(rows), 'row')} of runs whose folders are not here"
        print(f"{where}; {planned} of them belong to the file as it is now.")
    number = sum(len(group.ids) for group in earlier)
    if not earlier:
        print(f"No finished run in {workspace.runs} belongs to an earlier version of the file.")
        return 0
    belong = "finished run belongs" if number == 1 else "finished runs belong"
    print(f"{number} more {belong} to an earlier version of it, in {workspace.runs}. What has changed since:")
    print_table(("runs", "setting", "then", "today"), _change_rows(earlier), numbers=False)
    return 0


def _change_rows(earlier: "list[EarlierRuns]") -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for group in earlier:
        runs = str(len(group.ids))
        if not group.changes:
            rows.append((runs, "none alone", "these values together", "each, but not together"))
        for change in group.changes:
            rows.append((runs, change.name, _some(change.then), _some(change.today)))
            runs = ""
    return rows


def _some(values: "tuple[str, ...]") -> str:
    more = f" and {len(values) - VALUES_SHOWN} more" if len(values) > VALUES_SHOWN else ""
    return ", ".join(values[:VALUES_SHOWN]) + more


def _study_as_json(opened: "OpenStudy", earlier: "list[EarlierRuns]", code: "CodeChanges") -> dict[str, object]:
    def changed(changes: "tuple[Change, ...]") -> object:
        return {change.name: {"then": list(change.then), "today": list(change.today)} for change in changes}

    return {
        "study": opened.study.name,
        "planned": len(opened.plan.runs),
        "finished": code.finished,
        "code_differences": {run_id: list(phrases) for run_id, phrases in code.differing.items()},
        "earlier": [{"ids": list(group.ids), "changes": changed(group.changes)} for group in earlier],
    }
