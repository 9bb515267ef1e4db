"""What a setting buys: compare, of a study or of any table."""

import argparse
from pathlib import Path

from flipscale.cli.arguments import add_direction, add_json, add_results, add_where, open_study_of
from flipscale.cli.output import print_json
from flipscale.errors import FlipscaleError
from flipscale.workflow.talk import say


def compare_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    add_results(parser)
    parser.add_argument("study", metavar="STUDY|TABLE", help="the study's YAML file, or any .csv, .tsv or .parquet")
    score = "what to compare in a study, into comparison-SCORE.json and .md; the study's own score if left out"
    parser.add_argument("--score", help=score)
    table = parser.add_argument_group("of a table, by the names of its columns")
    table.add_argument(
        "--baseline", metavar="COLUMN=VALUE", action="append", default=[], help="the rows to compare with; several by ,"
    )
    table.add_argument("--x", metavar="COLUMN", help="what is spent: hours, FLOPs; several by ,")
    table.add_argument("--y", metavar="COLUMN", help="what it buys: an accuracy")
    table.add_argument(
        "--series", metavar="COLUMN", action="append", default=[], help="what makes separate curves; several by ,"
    )
    table.add_argument("--at", metavar="COLUMN", help="what twins share, such as epochs; found if left out")
    add_where(table)
    add_direction(table)
    what = "what each setting of the baseline's columns gains over it, alone and jointly; needs no --x"
    table.add_argument("--deltas", action="store_true", help=what)


def compare(args: argparse.Namespace) -> int:
    """Say what the masked runs of a study gain over their no-mask twins; or compare the rows of any table."""
    from flipscale.collect import is_table

    if not is_table(args.study):
        return _compare_study(args)
    needed = {"--baseline": args.baseline, "--y": args.y} | ({} if args.deltas else {"--x": args.x})
    if lacking := [option for option, value in needed.items() if not value]:
        raise FlipscaleError(
            f"{args.study}: a table is compared by its columns, and {', '.join(lacking)} is not given; write "
            f"flipscale compare {args.study} --baseline COLUMN=VALUE --x COLUMN --y COLUMN."
        )
    return _deltas(args) if args.deltas else _compare_table(args)


def _compare_study(args: argparse.Namespace) -> int:
    from flipscale.compare import comparison_json, comparison_text
    from flipscale.workflow.compared import compare_study

    of_tables = (args.baseline, args.x, args.y, args.series, args.at, args.where, args.deltas)
    if any(of_tables) or args.lower_is_better is not None:
        raise FlipscaleError(
            f"{args.study} is a study, which says itself what is compared with what; --baseline, --x, --y and what "
            "goes with them are of tables (.csv, .tsv, .parquet)."
        )
    compared = compare_study(open_study_of(args), args.score)
    if args.json:
        print_json(comparison_json(compared.comparison))
    else:
        print(comparison_text(compared.comparison))
    say(f"wrote {compared.json} and {compared.markdown}")
    return 0


def _compare_table(args: argparse.Namespace) -> int:
    from flipscale.collect import read_table
    from flipscale.compare import baseline_from, columns_from, compare_table, comparison_json, comparison_text
    from flipscale.fit import where

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
    if args.json:
        print_json(comparison_json(comparison))
    else:
        print(comparison_text(comparison))
    return 0


def _deltas(args: argparse.Namespace) -> int:
    from flipscale.collect import read_table
    from flipscale.compare import baseline_from, deltas, deltas_text
    from flipscale.fit import where

    table = where(read_table(Path(args.study)), args.where)
    found = deltas(table, baseline=baseline_from(table, args.baseline), y=args.y, lower_is_better=args.lower_is_better)
    if args.json:
        print_json(found.to_dict())
    else:
        print(deltas_text(found))
    return 0
