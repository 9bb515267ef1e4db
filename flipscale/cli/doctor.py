"""What is missing on this machine, or for a study: doctor."""

import argparse
import textwrap
from typing import TYPE_CHECKING

from flipscale.cli.arguments import add_json, add_results, workspace_of
from flipscale.cli.output import print_json

if TYPE_CHECKING:
    from flipscale.workflow.diagnosis import Diagnosis

WIDTH = 110


def doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", metavar="STUDY", nargs="?", help="a study's YAML file, to check what it needs")
    add_json(parser)
    add_results(parser)


def doctor(args: argparse.Namespace) -> int:
    """Check this machine and what a study needs; list what is missing and how to fix it.

    Exits with 1 if something that runs need is missing.
    """
    from flipscale.workflow.diagnosis import Health
    from flipscale.workflow.machine_health import machine_health

    workspace = workspace_of(args)
    found = []
    for diagnosis in machine_health(workspace.results):
        found.append(diagnosis)
        _print(diagnosis, quiet=args.json)
    if args.study is not None:
        from flipscale.workflow.study_health import study_health

        for diagnosis in study_health(args.study, workspace):
            found.append(diagnosis)
            _print(diagnosis, quiet=args.json)
    if args.json:
        print_json([diagnosis.to_dict() for diagnosis in found])
    return 1 if any(diagnosis.health is Health.PROBLEM for diagnosis in found) else 0


def _print(diagnosis: "Diagnosis", *, quiet: bool) -> None:
    """Print what was found and what to do about it, wrapped."""
    if quiet:
        return
    joined = "; " if diagnosis.health == "ok" else ". To do: "
    text = joined.join(filter(None, (diagnosis.found, diagnosis.advice)))
    head = f"{diagnosis.health:<8} {diagnosis.subject:<15} "
    for number, line in enumerate(textwrap.wrap(text, WIDTH - len(head), break_long_words=False) or [""]):
        print((head if number == 0 else " " * len(head)) + line, flush=True)
