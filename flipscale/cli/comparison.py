"""The effects of settings: compare one study, two studies, or any table."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from flipscale.cli.arguments import add_direction, add_json, add_results, add_where, open_study_of, workspace_of
from flipscale.cli.output import print_json, terminal_width
from flipscale.errors import FlipscaleError
from flipscale.words import joined
from flipscale.workflow.messages import say

_Comparison = TypeVar("_Comparison")


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

    if args.new is None and is_table(args.study):
        return _compare_table(args)
    if tables := [name for name in (args.study, args.new) if name and is_table(name)]:
        raise FlipscaleError(
            f"{tables[0]} is a table; two studies are compared by their YAML files. For tables, put both into one with "
            f"a column that tells them apart: flipscale compare TABLE --baseline COLUMN=VALUE --x COLUMN --y COLUMN."
        )
    of_tables = (args.baseline, args.x, args.y, args.series, args.at, args.where, args.deltas)
    if any(of_tables) or args.lower_is_better is not None:
        raise FlipscaleError(
            f"{args.study} is a study, which already defines its comparison; --baseline, --x, --y and the "
            "options beside them are only for tables (.csv, .tsv, .parquet)."
        )
    return _compare_study(args) if args.new is None else _compare_two(args)


def _compare_study(args: argparse.Namespace) -> int:
    from flipscale.analysis.comparing import comparison_json, comparison_text
    from flipscale.workflow.compared import compare_study
    from flipscale.workflow.to_score import say_other_data

    opened = open_study_of(args)
    say_other_data(opened)
    return _print(args, compare_study(opened, args.score), comparison_json, comparison_text)


def _compare_two(args: argparse.Namespace) -> int:
    from flipscale.analysis.comparing import study_pair_json, study_pair_text
    from flipscale.workflow.two_studies import open_two, write_study_pair

    opened = open_two(args.study, args.new, workspace_of(args))
    return _print(args, write_study_pair(opened, args.score), study_pair_json, study_pair_text)


def _compare_table(args: argparse.Namespace) -> int:
    from flipscale import comparing
    from flipscale.analysis.fitting import where
    from flipscale.collecting import read_table

    needed = {"--baseline": args.baseline, "--y": args.y} | ({} if args.deltas else {"--x": args.x})
    if lacking := [option for option, value in needed.items() if not value]:
        verb = "is" if len(lacking) == 1 else "are"
        raise FlipscaleError(
            f"{args.study}: a table is compared by its columns, and {joined(lacking)} {verb} not given; write "
            f"flipscale compare {args.study} --baseline COLUMN=VALUE --x COLUMN --y COLUMN."
        )
    table = where(read_table(Path(args.study)), args.where)
    baseline, lower = comparing.baseline_from(table, args.baseline), args.lower_is_better
    if args.deltas:
        deltas = comparing.deltas(table, baseline=baseline, y=args.y, lower_is_better=lower)
        return _print(args, deltas, lambda deltas: deltas.to_dict(), comparing.deltas_text)
    comparison = comparing.compare_table(
        table,
        baseline=baseline,
        x=comparing.columns_from(table, args.x),
        y=args.y,
        series=[name for names in args.series for name in comparing.columns_from(table, names)],
        at=args.at,
        lower_is_better=lower,
    )
    for note in comparison.notes:
        say(note)
    return _print(args, comparison, comparing.comparison_json, comparing.comparison_text)


def _print(
    args: argparse.Namespace,
    comparison: _Comparison,
    as_json: Callable[[_Comparison], object],
    as_text: Callable[..., str],
) -> int:
    """Print a comparison, as JSON if asked. Returns exit code 0."""
    if args.json:
        print_json(as_json(comparison))
    else:
        print(as_text(comparison, full=args.full, width=terminal_width()))
    return 0
