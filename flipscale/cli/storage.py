"""What runs leave on the disk: archive, merge, gc."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flipscale.cli.arguments import add_json, add_results, add_study, open_study_of, workspace_of
from flipscale.cli.output import print_json, print_table
from flipscale.errors import FlipscaleError
from flipscale.words import count, memory
from flipscale.workflow.messages import say

if TYPE_CHECKING:
    from flipscale.storage import Cleared, Merged, StudyRuns


def archive_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    what = "the file to write (results/NAME/runs.tar.bz2)"
    parser.add_argument("file", metavar="FILE", nargs="?", type=Path, help=what)
    add_results(parser)


def archive(args: argparse.Namespace) -> int:
    """Pack the finished runs of a study into one file, without weights; merge unpacks it anywhere."""
    from flipscale.storage import write_archive

    opened = open_study_of(args)
    written = write_archive(opened.finished_plan, args.results, args.file or opened.files.archive)
    for run, why in written.left_out.items():
        say(f"{run} is left out: {why}")
    if written.dropped:
        say(f"dropped {count(len(written.dropped), 'run')} that the study no longer asks for")
    say(f"wrote {written.file} ({written.runs} of {written.planned} runs, {written.size / 1e6:.2f} MB)")
    return 0


def merge_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="what flipscale archive wrote")
    add_results(parser)


def merge(args: argparse.Namespace) -> int:
    """Unpack archives of finished runs into a results folder; runs that are there already stay as they are."""
    from flipscale.storage import merge as merge_archives

    failed = False
    for of_file in merge_archives(args.files, args.results):
        failed |= of_file.failed
        for problem in of_file.problems:
            say(problem)
        if of_file.is_archive:
            say(f"{of_file.file}: {_merged_in_words(of_file)}")
    return int(failed)


def _merged_in_words(merged: "Merged") -> str:
    """'63 runs: 60 merged, 2 present, 1 underway'."""
    from flipscale.storage import MergeOutcome

    counted = [f"{number} {outcome}" for outcome in MergeOutcome if (number := merged.count(outcome))]
    return f"{count(len(merged.outcomes), 'run')}{': ' if counted else ''}{', '.join(counted)}"


def gc_arguments(parser: argparse.ArgumentParser) -> None:
    what = "study files to keep runs for, besides those that the results folder knows"
    parser.add_argument("studies", metavar="STUDY", nargs="*", type=Path, help=what)
    parser.add_argument(
        "--only", action="store_true", help="keep runs only for the studies given, not for those that the folder knows"
    )
    parser.add_argument("--remove", action="store_true", help="remove what is listed")
    add_json(parser)
    add_results(parser)


def gc(args: argparse.Namespace) -> int:
    """List runs that no study asks for, and checkpoints and weights that nothing needs; --remove removes them.

    It also says what takes space.
    """
    from flipscale.storage import find_unneeded, remove_unneeded, usage
    from flipscale.workflow.submitted_plans import known_studies

    taken = usage(args.results)
    say(f"{args.results} holds {', '.join(f'{memory(size)} of {kind}' for kind, size in taken.items()) or 'nothing'}")
    studies = known_studies(workspace_of(args), args.studies, only=args.only)
    if not studies:
        raise FlipscaleError(
            f"{args.results}: lists no study, so every run would count as unneeded. "
            "Name the study files: flipscale gc STUDY..."
        )
    say("keeping what these studies need: " + ", ".join(f"{study.name} ({study.source})" for study in studies))
    show = (lambda cleared: None) if args.json else _print_unneeded
    cleared = remove_unneeded(args.results, studies, show) if args.remove else find_unneeded(args.results, studies)
    for run, why in cleared.left_alone.items():
        say(f"{run} is left alone: {why}")
    if args.json:
        print_json({"usage": taken} | _cleared_as_json(cleared, studies, removed=args.remove))
    elif not args.remove:
        _print_unneeded(cleared)
    if args.remove:
        say(f"removed {_things(cleared)}")
    else:
        say(f"could remove {_things(cleared)}" + ("; add --remove to remove them" if cleared.found else ""))
    return 0


def _print_unneeded(cleared: "Cleared") -> None:
    rows = [(memory(thing.size), thing.what, thing.run or thing.path.name, thing.why) for thing in cleared.found]
    if rows:
        print_table(("size", "what", "run", "why"), rows, numbers=False)
        sys.stdout.flush()


def _things(cleared: "Cleared") -> str:
    """'2 runs, 14 weights (1.2 GB)'."""
    kinds = [thing.what for thing in cleared.found]
    counted = [count(kinds.count(what), what.removesuffix("s")) for what in dict.fromkeys(kinds)]
    return f"{', '.join(counted)} ({memory(cleared.size)})" if counted else "nothing"


def _cleared_as_json(cleared: "Cleared", studies: "list[StudyRuns]", *, removed: bool) -> dict[str, object]:
    return {
        "studies": [{"name": study.name, "source": str(study.source)} for study in studies],
        "removed": removed,
        "bytes": cleared.size,
        "found": [
            {"what": thing.what, "run": thing.run, "path": str(thing.path), "bytes": thing.size, "why": thing.why}
            for thing in cleared.found
        ],
        "left_alone": dict(cleared.left_alone),
    }
