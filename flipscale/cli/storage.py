"""What runs leave on the disk: archive, merge."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from flipscale.cli.arguments import add_json, add_results, add_study, open_study_of
from flipscale.cli.output import print_json
from flipscale.words import count
from flipscale.workflow.talk import say

if TYPE_CHECKING:
    from flipscale.storage import Merged


def archive_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    what = "the file to write (results/NAME/runs.tar.bz2)"
    parser.add_argument("file", metavar="FILE", nargs="?", type=Path, help=what)
    add_json(parser)
    add_results(parser)


def archive(args: argparse.Namespace) -> int:
    """Pack the finished runs of a study into one file, without weights; merge unpacks it anywhere."""
    from flipscale.storage import write_archive

    opened = open_study_of(args)
    written = write_archive(opened.plan, args.results, args.file or opened.files.archive)
    for run, why in written.left_out.items():
        say(f"{run} is left out: {why}")
    if written.dropped:
        say(f"dropped {count(len(written.dropped), 'run')} that the study does not ask for any more")
    if args.json:
        print_json(
            {
                "file": str(written.file),
                "bytes": written.size,
                "runs": written.runs,
                "planned": written.planned,
                "left_out": dict(written.left_out),
                "dropped": list(written.dropped),
            }
        )
    say(f"wrote {written.file} ({written.runs} of {written.planned} runs, {written.size / 1e6:.2f} MB)")
    return 0


def merge_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="what flipscale archive wrote")
    add_json(parser)
    add_results(parser)


def merge(args: argparse.Namespace) -> int:
    """Unpack archives of finished runs into a results folder; what is there already stays as it is."""
    from flipscale.storage import merge as merge_archives

    merged = []
    for of_file in merge_archives(args.files, args.results):
        merged.append(of_file)
        for problem in of_file.problems:
            say(problem)
        if of_file.is_archive:
            say(f"{of_file.file}: {_merged_in_words(of_file)}")
    if args.json:
        print_json(
            [
                {"file": str(of.file), "study": of.study, "runs": dict(of.outcomes), "problems": list(of.problems)}
                for of in merged
            ]
        )
    return 1 if any(of_file.failed for of_file in merged) else 0


def _merged_in_words(merged: "Merged") -> str:
    """'63 runs: 60 merged, 2 present, 1 underway'."""
    from flipscale.storage import MergeOutcome

    counted = [f"{number} {outcome}" for outcome in MergeOutcome if (number := merged.count(outcome))]
    return f"{count(len(merged.outcomes), 'run')}: {', '.join(counted)}"
