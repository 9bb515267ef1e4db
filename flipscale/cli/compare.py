"""The effects of settings: compare a study, or any table."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from flipscale.cli.arguments import (
    add_columns,
    add_direction,
    add_figure,
    add_json,
    add_results,
    add_where,
    open_study_of,
    positive,
)
from flipscale.cli.output import print_json, terminal_width
from flipscale.errors import FlipscaleError
from flipscale.words import joined
from flipscale.workflow.messages import say

if TYPE_CHECKING:
    import pandas as pd

    from flipscale.analysis.comparing import Baseline, Groups

_Comparison = TypeVar("_Comparison")


def compare_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    parser.add_argument("--full", action="store_true", help="show every cell, curve, claim and note")
    add_results(parser)
    what = "the study's YAML file, the folder of its results, or tables (.csv, .tsv or .parquet)"
    parser.add_argument("study", metavar="STUDY|FOLDER|TABLE", nargs="*", help=what)
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
    table.add_argument("--y", metavar="COLUMN", help="the score: an accuracy or a loss, or arithmetic: 1-`val/acc`")
    for flag, what in (
        ("--at", "compare at equal values of this column, such as tokens"),
        ("--by", "compare within each value of these columns, and over all"),
        ("--ignore", "rows may differ in these columns"),
    ):
        add_columns(table, flag, what)
    table.add_argument("--seed", metavar="COLUMN", help="rows with equal values of this column are twins")
    margin = "differences up to this size count as level"
    table.add_argument("--margin", type=positive, metavar="SIZE", help=margin)
    effect = "a difference that matters: say how many more runs would find it"
    table.add_argument("--effect", type=positive, metavar="SIZE", help=effect)
    gate = (
        "exit with 0 if this arm, default every arm, is better (with --margin: not worse), with 1 if not, and with 2 "
        "for an error; with --by the rows over all decide"
    )
    table.add_argument("--gate", nargs="?", const=EVERY, metavar="ARM", help=gate)
    add_figure(table)
    what = "compare curves of y against what is spent, hours or FLOPs; separate several with commas"
    table.add_argument("--x", metavar="COLUMN", help=what)
    add_columns(table, "--series", "with --x: columns whose values make separate curves")
    add_where(table)
    add_direction(table)
    table.add_argument("--deltas", action="store_true", help=argparse.SUPPRESS)


EVERY = "every arm"

OF_TABLES = ("baseline", "x", "y", "series", "at", "by", "ignore", "seed", "margin", "effect", "gate", "plot", "where")


def compare(args: argparse.Namespace) -> int:
    """Compare the runs of a study with their baseline's twins, or groups or curves of rows of any table."""
    from flipscale.door.columns import is_table

    if args.gate and is_table(args.gate):
        args.study.append(args.gate)
        args.gate = EVERY
    if not args.study:
        args.parser.error("name a study, the folder of its results, or tables")
    if args.deltas:
        raise FlipscaleError("--deltas is gone: leave it and --x out, and each arm is compared with the baseline.")
    if all(map(is_table, args.study)):
        return _compare_table(args)
    if len(args.study) > 1:
        raise FlipscaleError(
            "Two studies are compared by their tables: flipscale compare results/OLD/results.csv "
            "results/NEW/results.csv --baseline study=OLD --y SCORE --seed seed."
        )
    args.study = args.study[0]
    if any(vars(args)[name] for name in OF_TABLES) or args.lower_is_better is not None:
        raise FlipscaleError(
            f"{args.study} is a study, which already defines its comparison; --baseline, --x, --y and the "
            "options beside them are only for tables (.csv, .tsv, .parquet)."
        )
    return _compare_study(args)


def _compare_study(args: argparse.Namespace) -> int:
    from flipscale.analysis.comparing import comparison_json, comparison_text
    from flipscale.workflow.compared import compare_folder, compare_study
    from flipscale.workflow.to_score import say_other_data

    if Path(args.study).is_dir():
        return _print(args, compare_folder(Path(args.study), args.score), comparison_json, comparison_text)
    opened = open_study_of(args)
    say_other_data(opened)
    return _print(args, compare_study(opened, args.score), comparison_json, comparison_text)


def _compare_table(args: argparse.Namespace) -> int:
    from flipscale.analysis import comparing
    from flipscale.analysis.fitting import where, with_columns
    from flipscale.door.tables import read_tables

    needed = {"--baseline": args.baseline, "--y": args.y}
    if lacking := [option for option, value in needed.items() if not value]:
        verb = "is" if len(lacking) == 1 else "are"
        raise FlipscaleError(
            f"{args.study[0]}: a table is compared by its columns, and {joined(lacking)} {verb} not given; write "
            f"flipscale compare {args.study[0]} --baseline COLUMN=VALUE --y COLUMN."
        )
    rows = read_tables(map(Path, args.study))
    table = where(rows, args.where)
    costs = comparing.columns_from(table, args.x) if args.x else []
    table = with_columns(table, [args.y, *costs])
    baseline = comparing.baseline_from(table, args.baseline)
    if not args.x:
        return _compare_groups(args, table, baseline, len(rows) - len(table))
    if unused := [f"--{name}" for name in ("by", "seed", "margin", "effect", "gate") if vars(args)[name]]:
        raise FlipscaleError(f"{joined(unused)}: only for groups, without --x.")
    comparison = comparing.compare_table(
        table,
        baseline=baseline,
        x=costs,
        y=args.y,
        series=args.series,
        at=",".join(args.at) or None,
        ignore=args.ignore,
        lower_is_better=args.lower_is_better,
    )
    for note in comparison.notes:
        say(note)
    _print(args, comparison, comparing.comparison_json, comparing.comparison_text)
    if args.plot:
        from flipscale.analysis.plotting import plot_curves

        plot_curves(comparison, args.plot)
        say(f"wrote {args.plot}")
    return 0


def _compare_groups(args: argparse.Namespace, table: "pd.DataFrame", baseline: "Baseline", not_kept: int) -> int:
    from flipscale.analysis import comparing

    groups = comparing.compare_groups(
        table,
        baseline=baseline,
        y=args.y,
        seed=args.seed,
        at=args.at,
        by=args.by,
        ignore=args.ignore,
        margin=args.margin,
        effect=args.effect,
        lower_is_better=args.lower_is_better,
    )
    _print(args, replace(groups, not_kept=not_kept), comparing.groups_json, comparing.groups_text)
    if args.plot:
        from flipscale.analysis.plotting import plot_groups

        plot_groups(groups, args.plot)
        say(f"wrote {args.plot}")
    return _gate(groups, args.gate) if args.gate else 0


def _gate(groups: "Groups", name: str) -> int:
    """Say which arms pass, or whether the one of this name does. Returns the exit code."""
    arms = {arm: passes for arm, passes in groups.gate.items() if name in (EVERY, arm, arm.partition("=")[2])}
    if not arms:
        raise FlipscaleError(f"--gate: no arm is {name!r}; there is {joined(groups.gate)}.")
    for word, passes in (("passed", True), ("not passed", False)):
        if named := [arm for arm in arms if arms[arm] is passes]:
            say(f"gate {word}: {joined(named)}")
    return 0 if all(arms.values()) else 1


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
