"""The verb `fit`: laws fitted to a study's results or to any table, and forecasts by them."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flipscale.cli.arguments import (
    add_columns,
    add_direction,
    add_figure,
    add_json,
    add_results,
    add_where,
    workspace_of,
)
from flipscale.cli.output import print_json, terminal_width
from flipscale.errors import FlipscaleError
from flipscale.workflow.messages import say

if TYPE_CHECKING:
    import pandas as pd

    from flipscale.analysis.fitting import Forecast, Options
    from flipscale.analysis.fitting.study_laws import StudyFits
    from flipscale.workflow.opened import OpenStudy
    from flipscale.workflow.results import StudyResults


def fit_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    add_results(parser)
    parser.add_argument(
        "source",
        metavar="STUDY|TABLE",
        help="the study's YAML file, or a table: .csv, .tsv (also .gz), .parquet, or - for CSV on stdin",
    )
    parser.add_argument("--law", help="the law (docs/fits.md lists them); default: by the kind of y")
    add_columns(parser, "--x", "variables, in the law's order, or arithmetic over columns: 6*N*D, 1-`recall@5`")
    parser.add_argument("--y", metavar="COLUMN", help="the column to fit; default: the study's score")
    add_columns(parser, "--group", "fit a law for each value of these columns")
    add_where(parser)
    parser.add_argument(
        "--frontier", choices=["pareto", "binned"], help="fit only the runs that are best for their cost"
    )
    bins = "bins of cost for --frontier binned: how many, or their edges; a row stands at the middle of its bin (12)"
    parser.add_argument("--bins", default="12", metavar="N|EDGE,...", help=bins)
    parser.add_argument("--weights", metavar="COLUMN", help="inverse variances: how much each row counts")
    add_columns(parser, "--best", "keep the best row of these columns, such as lr,batch_size, at each --x and --group")
    run = "rows with equal values of this column are of one run: intervals resample runs"
    parser.add_argument("--run", metavar="COLUMN", help=run)
    se = "standard errors of y, by which rows are weighted; a blank or 0 is unknown"
    parser.add_argument("--se", metavar="COLUMN", help=se)
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
    optimum = (
        "find the best value of a setting, or of several together, in each sweep, and fit a power law of --x to it"
    )
    add_columns(parser, "--optimum", optimum)
    add_figure(parser)
    parser.add_argument("--force", action="store_true", help="show forecasts that are refused")
    parser.add_argument("--full", action="store_true", help="show each law with its parameters and checklist")


def fit(args: argparse.Namespace) -> int:
    """Fit scaling laws to a study's results, or any table of runs; --forecast predicts a larger run by them."""
    from flipscale.workflow.fitted import write_fits

    budgets = tuple(_number(name, value) for name, value in _budgets(args))
    source = _source(args)
    if args.plot and (args.optimum or args.forecast):
        raise FlipscaleError("--plot draws laws; leave out --optimum and --forecast.")
    if args.optimum:
        return _optimum(args, source)
    if args.forecast:
        return _forecast(args, source)
    fits = replace(_fits(args, source), budgets=budgets)
    of = {"study": source.study.study.name} if source.study else {"table": str(args.source)}
    if args.json:
        print_json(fits.to_dict(of))
    else:
        print(fits.text(full=args.full, width=terminal_width()))
    _say_none("not fitted", fits.not_fitted)
    if args.plot:
        from flipscale.analysis.plotting import plot_laws

        plot_laws(fits.fits, args.plot)
        say(f"wrote {args.plot}")
    if args.out:
        write_fits(args.out, fits, of, None)
    elif source.study:
        write_fits(source.study.files.fits, fits, of, source.results)
    return 0


class _Source(NamedTuple):
    """What laws are fitted to: a table, or the results of a study."""

    table: "pd.DataFrame"
    y: str
    study: "OpenStudy | None" = None
    results: "StudyResults | None" = None


def _source(args: argparse.Namespace) -> _Source:
    """What the arguments name. FlipscaleError for neither a study nor a table, and where columns must be named."""
    from flipscale.analysis.comparing import pick_score
    from flipscale.door.columns import is_table
    from flipscale.door.tables import read_table
    from flipscale.workflow.opened import open_study, swept_table
    from flipscale.workflow.results import study_results

    if is_table(args.source):
        source = _Source(_rows(args, read_table(Path(args.source))), args.y)
    elif Path(args.source).suffix.lower() not in (".yaml", ".yml"):
        raise FlipscaleError(
            f"{args.source} is neither a study (.yaml) nor a table (.csv, .tsv, .csv.gz, .tsv.gz, .parquet, or - for "
            f"CSV on stdin)."
        )
    else:
        opened = open_study(args.source, workspace_of(args))
        if args.optimum and opened.sweep:
            source = _Source(_rows(args, swept_table(opened)), opened.sweep.sweep.by, opened)
        else:
            finished = study_results(opened)
            kept = replace(finished.results, table=_rows(args, finished.table))
            results = replace(finished, results=kept)
            y = args.y or pick_score(results.table, opened.study.score)
            source = _Source(results.table, y, opened, results)
    by_columns = source.study is None or args.optimum or args.frontier or args.budget
    if by_columns and not (args.x and source.y):
        raise FlipscaleError(
            f"which columns of {args.source}? Write: flipscale fit {args.source} --x COLUMN[,COLUMN] --y COLUMN. "
            f"It has: {', '.join(map(str, source.table.columns))}."
        )
    return source


def _rows(args: argparse.Namespace, table: "pd.DataFrame") -> "pd.DataFrame":
    """The rows that --where keeps, with the columns that other options compute."""
    from flipscale.analysis.fitting import best_rows, is_lower_better, where, with_columns

    computed = [name for name in (*args.x, args.y, args.weights, args.budget) if name]
    table = with_columns(where(table, args.where), computed)
    if not args.best or not args.y:
        return table
    lower = is_lower_better(args.y, None if args.lower_is_better is None else not args.lower_is_better)
    return best_rows(table, args.best, by=[*args.x, *args.group], y=args.y, lower=lower)


def _fits(args: argparse.Namespace, source: _Source) -> "StudyFits":
    """A law for every group of a study's axes, or of the columns that the arguments name."""
    from flipscale.analysis.fitting import Fit, fit_groups, group_name, in_groups, isoflop
    from flipscale.analysis.fitting.study_laws import StudyFits
    from flipscale.errors import ResultsError
    from flipscale.words import joined
    from flipscale.workflow.fitted import fit_study, named

    options = _options(args)
    none = dict[str, str]()
    of_laws = ("law", "fix", "weights", "frontier", "delta", "run", "se")
    unused = [f"--{name}" for name in of_laws if getattr(args, name)]
    if args.budget and unused:
        raise FlipscaleError(f"--budget fits a power law to the best sizes, by squares; leave out {joined(unused)}")
    if source.results and source.study and not args.x:
        return fit_study(source.study, source.results, y=source.y, law=args.law, options=options)
    fits: list[Fit] = []
    if args.budget:
        for values, part in in_groups(source.table, args.group):
            try:
                fits.append(isoflop(part, x=args.x[0], y=source.y, budget=args.budget, group=values, options=options))
            except ResultsError as error:
                none[group_name(values)] = str(error)
        if not fits:
            raise ResultsError("\n".join(none.values()))
    else:
        fits, none = fit_groups(source.table, args.law, x=args.x, y=source.y, group=args.group, options=options)
    laws = StudyFits(tuple(fits), none)
    return named(source.study, laws) if source.study else laws


def _budgets(args: argparse.Namespace) -> list[tuple[str, str]]:
    """The budgets of --allocate, in FLOPs."""
    budgets = []
    for text in args.allocate:
        name, is_pair, value = text.partition("=")
        if name != "flops":
            right = "1e21" if is_pair else text
            raise FlipscaleError(f"--allocate {text}: a budget is a number of FLOPs; write --allocate flops={right}.")
        budgets.append((name, value))
    return budgets


def _say_none(what: str, none: Mapping[str, str]) -> None:
    """Say which fits are missing, one line per reason."""
    from flipscale.words import by_reason

    for line in by_reason(none):
        say(f"{what}: {line}")


def _optimum(args: argparse.Namespace, source: _Source) -> int:
    """Print the law of a setting's best value for each group, with its line for a study."""
    from flipscale.analysis.fitting import in_groups, joint_optimum, optimum_law
    from flipscale.tables import as_text

    accuracy = _options(args).accuracy
    laws = []
    for at, part in in_groups(source.table, args.group):
        if len(args.optimum) == 1:
            laws.append(optimum_law(part, args.optimum[0], x=args.x, y=source.y, group=at, accuracy=accuracy))
        else:
            laws += joint_optimum(part, args.optimum, x=args.x, y=source.y, group=at, accuracy=accuracy)
    if args.json:
        records = [
            asdict(law) | {"intervals": [ends._asdict() for ends in law.intervals], "couple": law.rule} for law in laws
        ]
        print_json({"schema": 1, "laws": records})
    else:
        print("\n\n".join(as_text(law.parts(), terminal_width(), "\n") for law in laws))
    return 0


def _forecast(args: argparse.Namespace, source: _Source) -> int:
    """Predict runs by a law; exit code 1 where a forecast is refused."""
    from flipscale.analysis.fitting import forecast_groups, forecast_json, forecast_text

    if of_fits := [option for option, value in (("--budget", args.budget), ("--allocate", args.allocate)) if value]:
        raise FlipscaleError(f"{of_fits[0]} is for fits; leave it out of a forecast.")
    if source.study:
        forecasts = _of_study(args, source, source.study)
    else:
        forecasts = forecast_groups(
            source.table,
            args.law,
            x=args.x,
            y=source.y,
            points=_points(args),
            group=args.group,
            options=_options(args),
        )
    if args.json:
        listed = [forecast_json(forecast) for forecast in forecasts]
        print_json({"schema": 1, "forecasts": listed, "forced": args.force})
    else:
        print("\n\n".join(forecast_text(forecast, forced=args.force) for forecast in forecasts))
    refused = sum(forecast.refused for forecast in forecasts)
    if refused and not args.force:
        say(f"{refused} of {len(forecasts)} refused; --force shows them anyway")
        return 1
    return 0


def _points(args: argparse.Namespace) -> list[dict[str, float]]:
    """The runs that --forecast names: one by its columns, and one for each row of a table."""
    from flipscale.analysis.fitting import column, point_with_columns, with_columns
    from flipscale.door.columns import is_table
    from flipscale.door.tables import read_table

    named = [text for text in args.forecast if not is_table(text)]
    at = {name: _number(name, value) for name, value in _pairs(named, "--forecast").items()}
    computed = [name for name in args.x if not name.isidentifier()]
    points = [point_with_columns(at, computed)] if at else []
    for table in [read_table(Path(text)) for text in args.forecast if is_table(text)]:
        rows = with_columns(table, computed)
        columns = [map(float, column(rows, name)) for name in args.x]
        points += [dict(zip(args.x, values, strict=True)) for values in zip(*columns, strict=True)]
    return points


def _of_study(args: argparse.Namespace, source: _Source, opened: "OpenStudy") -> "list[Forecast]":
    """A forecast for each group of the study's axes that --forecast leaves open, at the cost of the run it names."""
    from flipscale.analysis.fitting import forecast, group_name, in_groups, point_with_columns
    from flipscale.analysis.fitting.study_laws import groups_of, model_sizes, variables_of
    from flipscale.collecting import axis_values, is_setting
    from flipscale.errors import ResultsError
    from flipscale.study.expression import plain_value
    from flipscale.workflow.fitted import variables_at

    results = model_sizes(source.table)
    options = _options(args)
    asked = {name: plain_value(value) for name, value in _pairs(args.forecast, "--forecast").items()}
    forecasts: list[Forecast] = []
    none: dict[str, str] = {}
    for values, part in in_groups(results, groups_of(results, opened.axes)):
        settings = axis_values(opened.study, values)
        if any(name in asked and not is_setting(settings[name], asked[name]) for name in settings):
            continue
        variables = variables_at(opened, {**settings, **asked})
        try:
            at = point_with_columns(variables, args.x)
            x = args.x or variables_of(part, source.y)
            forecasts.append(forecast(part, args.law, x=x, y=source.y, at=at, group=values, options=options))
        except ResultsError as error:
            none[group_name(values)] = str(error)
    _say_none("no forecast", none)
    if not forecasts:
        raise ResultsError("No forecast can be made.")
    return forecasts


def _options(args: argparse.Namespace) -> "Options":
    from flipscale.analysis.fitting import Options

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
        se=args.se,
        run=args.run,
        delta=args.delta,
        draws=args.draws,
    )


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """{"model": "ViT-H-14"} from ["model=ViT-H-14"]; each text is one pair, or several separated by commas."""
    pairs = {}
    for part in (part.strip() for text in texts for part in text.split(",") if part.strip()):
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise FlipscaleError(f"{option} {part}: write NAME=VALUE.")
        pairs[name.strip()] = value.strip()
    return pairs


def _number(name: str, text: str) -> float:
    from flipscale.kinds import is_number
    from flipscale.study.expression import plain_value

    number = plain_value(text)
    if not is_number(number):
        raise FlipscaleError(f"{name}={text}: {text!r} is not a number. Write 400M, 4e8 or 0.5.")
    return float(number)
