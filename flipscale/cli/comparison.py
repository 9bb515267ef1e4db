"""The effects of settings: compare one study, two studies, or any table."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from flipscale.cli.arguments import add_direction, add_json, add_results, add_where, open_study_of, workspace_of
from flipscale.cli.output import print_json, terminal_width
from flipscale.errors import FlipscaleError
from flipscale.words import joined
from flipscale.workflow.messages import say

_Found = TypeVar("_Found", contravariant=True)


class _Text(Protocol[_Found]):
    def __call__(self, found: _Found, /, *, full: bool, width: int) -> str: ...


def compare_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    parser.add_argument("--full", action="store_true", help="show every cell, curve, claim and note")
    add_results(parser)
    parser.add_argument("study", metavar="STUDY|TABLE", help="the study's YAML file, or any .csv, .tsv or .parquet")
    new = "a second study: compare its runs with those of the first that have equal settings and seed"
    parser.add_argument("new", metavar="NEW", nargs="?", help=new)
    score = "the score of a study to compare, written to comparison-SCORE.json and .md; default: the study's score"
    parser.add_argument("--score", help=score)
    table = parser.add_argument_group("for a table, by the names of its columns")
    table.add_argument(
        "--baseline",
        metavar="COLUMN=VALUE",
        action="append",
        default=[],
        help="the rows to compare with; separate several columns with commas",
    )
    table.add_argument("--x", metavar="COLUMN", help="what is spent: hours or FLOPs; separate several with commas")
    table.add_argument("--y", metavar="COLUMN", help="what it buys: an accuracy")
    table.add_argument(
        "--series",
        metavar="COLUMN",
        action="append",
        default=[],
        help="columns whose values make separate curves; separate several with commas",
    )
    table.add_argument("--at", metavar="COLUMN", help="the column that twins share, such as epochs")
    add_where(table)
    add_direction(table)
    what = "show what each setting of the baseline's columns gains over it, alone and combined; needs no --x"
    table.add_argument("--deltas", action="store_true", help=what)


def compare(args: argparse.Namespace) -> int:
    """Compare the masked runs of a study with their unmasked twins, or two studies, or the rows of any table.

    Two studies are compared run by run: runs of equal settings and seed are paired, whatever else differs.
    """
    from flipscale.collecting import is_table

    if args.new is not None:
        return _compare_two(args)
    if not is_table(args.study):
        return _compare_study(args)
    needed = {"--baseline": args.baseline, "--y": args.y} | ({} if args.deltas else {"--x": args.x})
    if lacking := [option for option, value in needed.items() if not value]:
        verb = "is" if len(lacking) == 1 else "are"
        raise FlipscaleError(
            f"{args.study}: a table is compared by its columns, and {joined(lacking)} {verb} not given; write "
            f"flipscale compare {args.study} --baseline COLUMN=VALUE --x COLUMN --y COLUMN."
        )
    return _deltas(args) if args.deltas else _compare_table(args)


def _refuse_table_options(args: argparse.Namespace) -> None:
    """Raise FlipscaleError for options that only tables take."""
    of_tables = (args.baseline, args.x, args.y, args.series, args.at, args.where, args.deltas)
    if any(of_tables) or args.lower_is_better is not None:
        raise FlipscaleError(
            f"{args.study} is a study, which already defines its comparison; --baseline, --x, --y and the "
            "options beside them are only for tables (.csv, .tsv, .parquet)."
        )


def _compare_two(args: argparse.Namespace) -> int:
    from flipscale.collecting import is_table
    from flipscale.comparing import study_pair_json, study_pair_text
    from flipscale.workflow.two_studies import open_two, write_study_pair

    if tables := [name for name in (args.study, args.new) if is_table(name)]:
        raise FlipscaleError(
            f"{tables[0]} is a table; two studies are compared by their YAML files. For tables, put both into one with "
            f"a column that tells them apart: flipscale compare TABLE --baseline COLUMN=VALUE --x COLUMN --y COLUMN."
        )
    _refuse_table_options(args)
    opened = open_two(args.study, args.new, workspace_of(args))
    return _print(args, write_study_pair(opened, args.score), study_pair_json, study_pair_text)


def _compare_study(args: argparse.Namespace) -> int:
    from flipscale.comparing import comparison_json, comparison_text
    from flipscale.workflow.compared import compare_study
    from flipscale.workflow.to_score import say_other_data

    _refuse_table_options(args)
    opened = open_study_of(args)
    say_other_data(opened)
    return _print(args, compare_study(opened, args.score).comparison, comparison_json, comparison_text)


def _compare_table(args: argparse.Namespace) -> int:
    from flipscale.collecting import read_table
    from flipscale.comparing import baseline_from, columns_from, compare_table, comparison_json, comparison_text
    from flipscale.fitting import where

    table = where(read_table(Path(args.study)), args.where)
    comparison = compare_table(
        table,
        baseline=baseline_from(table, args.baseline),
        x=columns_from(table, args.x),
        y=args.y,
        series=[name for names in args.series for name in columns_from(table, names)],
        at=args.at,
        lower_is_better=args.lower_is_better,
    )
    for note in comparison.notes:
        say(note)
    return _print(args, comparison, comparison_json, comparison_text)


def _deltas(args: argparse.Namespace) -> int:
    from flipscale.collecting import read_table
    from flipscale.comparing import baseline_from, deltas, deltas_text
    from flipscale.fitting import where

    table = where(read_table(Path(args.study)), args.where)
    found = deltas(table, baseline=baseline_from(table, args.baseline), y=args.y, lower_is_better=args.lower_is_better)
    return _print(args, found, lambda found: found.to_dict(), deltas_text)


def _print(
    args: argparse.Namespace,
    found: _Found,
    as_json: Callable[[_Found], object],
    as_text: _Text[_Found],
) -> int:
    """Print what was found, as JSON if asked. Returns exit code 0."""
    if args.json:
        print_json(as_json(found))
    else:
        print(as_text(found, full=args.full, width=terminal_width()))
    return 0
