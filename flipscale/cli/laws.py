"""The verb `fit`: laws fitted to a study's results or to any table, and forecasts by them."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from flipscale.cli.arguments import add_direction, add_json, add_results, add_where, column_names, workspace_of
from flipscale.cli.output import print_json, terminal_width
from flipscale.errors import FlipscaleError
from flipscale.workflow.messages import Steps, say

if TYPE_CHECKING:
    import pandas as pd

    from flipscale.fitting import Fit, Forecast, Options
    from flipscale.fitting.of_study import StudyFits
    from flipscale.workflow.results import StudyResults
    from flipscale.workflow.study import OpenStudy


def fit_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    add_results(parser)
    parser.add_argument(
        "source",
        metavar="STUDY|TABLE",
        help="the study's YAML file, or a table: .csv, .tsv (also .gz), .parquet, or - for CSV on stdin",
    )
    parser.add_argument("--law", help="the law (docs/fits.md lists them); default: by the kind of y")
    _add_columns(parser, "--x", "variables, in the law's order")
    parser.add_argument("--y", metavar="COLUMN", help="the column to fit; default: the study's score")
    _add_columns(parser, "--group", "fit a law for each value of these columns")
    add_where(parser)
    parser.add_argument(
        "--frontier", choices=["pareto", "binned"], help="fit only the runs that are best for their cost"
    )
    bins = "bins of cost for --frontier binned: how many, or their edges; a row stands at the middle of its bin (12)"
    parser.add_argument("--bins", default="12", metavar="N|EDGE,...", help=bins)
    parser.add_argument("--weights", metavar="COLUMN", help="inverse variances: how much each row counts")
    parser.add_argument("--fix", action="append", default=[], metavar="NAME=VALUE", help="fix a parameter at a value")
    loss = "loss of the residuals (huber)"
    parser.add_argument("--loss", choices=["huber", "squares"], default="huber", help=loss)
    delta = "residual at which the Huber loss turns from a square to a line; default: 1.345 sd, by the median residual"
    parser.add_argument("--delta", type=float, metavar="SIZE", help=delta)
    add_direction(parser)
    parser.add_argument("--draws", type=int, default=1000, metavar="N", help="resamples for intervals (1000)")
    parser.add_argument(
        "--budget", metavar="COLUMN", help="IsoFLOP: find the best x at each budget, and fit a law to it"
    )
    allocate = "find the best size and samples for this budget, from a law of both: flops=1e21"
    parser.add_argument("--allocate", action="append", default=[], metavar="flops=FLOPS", help=allocate)
    out = "also write the fits to this file (a study's default: results/NAME/fits.json)"
    parser.add_argument("--out", type=Path, metavar="FILE", help=out)
    run = (
        "predict this run, and say how far to trust it: settings of a study, such as model=ViT-H-14,samples=12.8B, "
        "columns of a table, or a table of such runs"
    )
    parser.add_argument("--forecast", metavar="NAME=VALUE|TABLE", action="append", default=[], help=run)
    optimum = "find the best value of this setting, such as lr, in each sweep of it, and fit a power law of --x to them"
    parser.add_argument("--optimum", metavar="SETTING", help=optimum)
    parser.add_argument("--force", action="store_true", help="show forecasts that are refused")
    parser.add_argument("--full", action="store_true", help="show each law with its parameters and checklist")


def _add_columns(parser: argparse.ArgumentParser, flag: str, what: str) -> None:
    parser.add_argument(flag, type=column_names, action="extend", default=[], metavar="COLUMN,...", help=what)


def fit(args: argparse.Namespace) -> int:
    """Fit scaling laws to a study's results, or any table of runs; --forecast predicts a larger run by them."""
    from flipscale.workflow.fitted import write_fits

    _check_source(args.source)
    if args.forecast:
        return _forecast(args)
    if args.optimum:
        return _optimum(args)
    budgets = _budgets(args)
    found, source, out, results = _fitted(args)
    found = replace(found, budgets=budgets)
    if args.json:
        print_json(found.to_dict(source))
    else:
        print(found.text(full=args.full, width=terminal_width()))
    _say_none("not fitted", found.not_fitted)
    if out := args.out or out:
        write_fits(out, found, source, None if args.out else results)
    return 0


def _fitted(args: argparse.Namespace) -> "tuple[StudyFits, dict[str, str], Path | None, StudyResults | None]":
    """The laws of the study or table that the arguments name, what that is, where they go, and the study's results."""
    from flipscale.collecting import is_table
    from flipscale.comparing.columns import settings_named
    from flipscale.fitting.of_study import StudyFits, fit_study

    if is_table(args.source):
        return StudyFits(*_fits(args, _table(args), args.y)), {"table": str(args.source)}, None, None
    opened, study, y = _results(args)
    results = study.table
    if args.x or args.frontier or args.budget:
        found = StudyFits(*_fits(args, results, y))
    else:
        with Steps("fitting laws") as steps:
            options = _options(args)
            found = fit_study(results, axes=opened.axes, y=y, law=args.law, options=options, progress=steps)
    found = replace(found, question=opened.study.question, name_of=settings_named(opened.study.labels))
    return found, {"study": opened.study.name}, opened.files.fits, study


def _check_source(source: str) -> None:
    """Raise FlipscaleError for a name of neither a study nor a table: errors about the content would not help."""
    from flipscale.collecting import is_table

    if not is_table(source) and Path(source).suffix.lower() not in (".yaml", ".yml"):
        raise FlipscaleError(
            f"{source} is neither a study (.yaml) nor a table (.csv, .tsv, .csv.gz, .tsv.gz, .parquet, or - for CSV on "
            f"stdin)."
        )


def _budgets(args: argparse.Namespace) -> tuple[float, ...]:
    """The budgets of --allocate, in FLOPs."""
    found = [
        (name, _number(name, value)) for text in args.allocate for name, value in _pairs([text], "--allocate").items()
    ]
    for name, _ in found:
        if name != "flops":
            raise FlipscaleError(f"--allocate {name}: a budget is a number of FLOPs; write --allocate flops=1e21.")
    return tuple(value for _, value in found)


def _say_none(what: str, none: Mapping[str, str]) -> None:
    """Say which fits are missing, one line per reason."""
    from flipscale.words import by_reason

    for line in by_reason(none):
        say(f"{what}: {line}")


def _forecast(args: argparse.Namespace) -> int:
    """Predict runs by a law; exit code 1 where a forecast is refused."""
    from flipscale.collecting import is_table
    from flipscale.fitting import forecast_json, forecast_text

    if of_fits := [option for option, value in (("--budget", args.budget), ("--allocate", args.allocate)) if value]:
        raise FlipscaleError(f"{of_fits[0]} is for fits; leave it out of a forecast.")
    found = _of_table(args) if is_table(args.source) else _of_study(args, _pairs(args.forecast, "--forecast"))
    if args.json:
        print_json({"schema": 1, "forecasts": [forecast_json(forecast) for forecast in found], "forced": args.force})
    else:
        print("\n\n".join(forecast_text(forecast, forced=args.force) for forecast in found))
    refused = [forecast for forecast in found if forecast.refused]
    if refused and not args.force:
        say(f"{len(refused)} of {len(found)} refused; --force shows them anyway")
        return 1
    return 0


def _optimum(args: argparse.Namespace) -> int:
    """Print the law of a setting's best value for each group, with its line for a study."""
    from flipscale.collecting import is_table
    from flipscale.fitting import in_groups, optimum_law
    from flipscale.tables import as_text

    table, y = (_table(args), args.y) if is_table(args.source) else _swept_table(args)
    if not args.x or not y:
        raise _needs_columns(args.source, table)
    laws = [optimum_law(part, args.optimum, x=args.x, y=y, group=at) for at, part in in_groups(table, args.group)]
    if args.json:
        print_json(
            {
                "schema": 1,
                "laws": [
                    asdict(law) | {"intervals": [ends._asdict() for ends in law.intervals], "couple": law.rule}
                    for law in laws
                ],
            }
        )
    else:
        print("\n\n".join(as_text(law.parts(), terminal_width(), "\n") for law in laws))
    return 0


def _swept_table(args: argparse.Namespace) -> "tuple[pd.DataFrame, str]":
    """The runs of a study's sweep and the score that chooses; of a study without `tune`, its results and its score."""
    from flipscale.workflow.study import open_study, swept_table

    opened = open_study(args.source, workspace_of(args))
    if opened.sweep:
        return swept_table(opened), opened.sweep.sweep.by
    _, results, y = _results(args)
    return results.table, y


def _of_table(args: argparse.Namespace) -> "list[Forecast]":
    from flipscale.fitting import forecast_groups

    table = _table(args)
    if not args.x or not args.y:
        raise _needs_columns(args.source, table)
    points, options = _points(args), _options(args)
    return forecast_groups(table, args.law, x=args.x, y=args.y, points=points, group=args.group, options=options)


def _points(args: argparse.Namespace) -> list[dict[str, float]]:
    """The runs that --forecast names: one by its columns, or one for each row of a table."""
    from flipscale.collecting import is_table, read_table
    from flipscale.fitting import column

    points: list[dict[str, float]] = []
    for text in args.forecast:
        if is_table(text):
            rows = read_table(Path(text))
            columns = {name: column(rows, name) for name in args.x}
            points += [{name: float(values[i]) for name, values in columns.items()} for i in range(len(rows))]
    at = {
        name: _number(name, value)
        for name, value in _pairs([t for t in args.forecast if not is_table(t)], "--forecast").items()
    }
    return [*points, at] if at else points


def _of_study(args: argparse.Namespace, at: Mapping[str, str]) -> "list[Forecast]":
    """A forecast for each group of the study's axes that `at` leaves open, at the cost of the run that it names."""
    from flipscale.collecting import axis_values, is_setting
    from flipscale.errors import ResultsError
    from flipscale.fitting import forecast as forecast_one
    from flipscale.fitting import group_name, in_groups
    from flipscale.fitting.of_study import groups_of, model_sizes, variables_of, variables_of_run
    from flipscale.planning import plan_at
    from flipscale.study.expression import plain_value

    opened, of_study, y = _results(args)
    study, results = opened.study, model_sizes(of_study.table)
    asked = {name: plain_value(value) for name, value in at.items()}
    found: list[Forecast] = []
    none: dict[str, str] = {}
    for values, part in in_groups(results, groups_of(results, opened.axes)):
        settings = axis_values(study, values)
        if any(name in asked and not is_setting(settings[name], asked[name]) for name in settings):
            continue
        planned = plan_at(study, {**settings, **asked})
        where = variables_of_run(planned.cells[0], {run.id: run for run in planned.runs})
        try:
            x = args.x or variables_of(part, y)
            found.append(forecast_one(part, args.law, x=x, y=y, at=where, group=values, options=_options(args)))
        except ResultsError as error:
            none[group_name(values)] = str(error)
    _say_none("no forecast", none)
    if not found:
        raise ResultsError("No forecast can be made.")
    return found


def _fits(args: argparse.Namespace, table: "pd.DataFrame", y: str | None) -> "tuple[tuple[Fit, ...], dict[str, str]]":
    """The fits that the options ask for, by columns of a table."""
    from flipscale.errors import ResultsError
    from flipscale.fitting import fit_groups, group_name, in_groups, isoflop

    if not args.x or not y:
        raise _needs_columns(args.source, table)
    options = _options(args)
    if args.budget and args.law:
        raise FlipscaleError(f"--budget fits a power law to the best sizes; leave out --law {args.law}")
    if args.budget:
        fits: list[Fit] = []
        none: dict[str, str] = {}
        for values, part in in_groups(table, args.group):
            try:
                fits.append(isoflop(part, x=args.x[0], y=y, budget=args.budget, group=values, options=options))
            except ResultsError as error:
                none[group_name(values)] = str(error)
        if not fits:
            raise ResultsError("\n".join(none.values()))
        return tuple(fits), none
    fits, none = fit_groups(table, args.law, x=args.x, y=y, group=args.group, options=options)
    return tuple(fits), none


def _needs_columns(source: str, table: "pd.DataFrame") -> FlipscaleError:
    columns = ", ".join(map(str, table.columns))
    return FlipscaleError(
        f"which columns of {source}? Write: flipscale fit {source} --x COLUMN[,COLUMN] --y COLUMN. It has: {columns}."
    )


def _results(args: argparse.Namespace) -> "tuple[OpenStudy, StudyResults, str]":
    """The study, its results, and which score is meant."""
    from flipscale.comparing import pick_score
    from flipscale.fitting import where
    from flipscale.workflow.results import study_results
    from flipscale.workflow.study import open_study

    opened = open_study(args.source, workspace_of(args))
    found = study_results(opened)
    results = replace(found, table=where(found.table, args.where))
    return opened, results, args.y or pick_score(results.table, opened.study.score)


def _table(args: argparse.Namespace) -> "pd.DataFrame":
    from flipscale.collecting import read_table
    from flipscale.fitting import where

    return where(read_table(Path(args.source)), args.where)


def _options(args: argparse.Namespace) -> "Options":
    from flipscale.fitting import Options

    edges = [_number("--bins", text) for text in args.bins.split(",")]
    if min(edges) <= 0 or (len(edges) == 1 and edges[0] % 1) or (args.delta is not None and not args.delta > 0):
        raise FlipscaleError("--bins and --delta must be above 0, and a number of bins is whole.")
    fixed = {name: _number(name, value) for name, value in _pairs(args.fix, "--fix").items()}
    return Options(
        loss=args.loss,
        frontier=args.frontier,
        fixed=fixed,
        accuracy=None if args.lower_is_better is None else not args.lower_is_better,
        bins=edges if len(edges) > 1 else int(edges[0]),
        weights=args.weights,
        delta=args.delta,
        draws=args.draws,
    )


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """{"model": "ViT-H-14"} from ["model=ViT-H-14"]; each text is one pair, or several separated by commas."""
    found = {}
    for part in (part.strip() for text in texts for part in text.split(",") if part.strip()):
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise FlipscaleError(f"{option} {part}: write NAME=VALUE.")
        found[name.strip()] = value.strip()
    return found


def _number(name: str, text: str) -> float:
    from flipscale.run import is_number
    from flipscale.study.expression import plain_value

    number = plain_value(text)
    if not is_number(number):
        raise FlipscaleError(f"{name}={text}: {text!r} is not a number. Write 400M, 4e8 or 0.5.")
    return float(number)
