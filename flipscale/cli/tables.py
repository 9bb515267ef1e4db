"""Finished runs as tables, figures and a page: collect, plot, export, report."""

import argparse
from dataclasses import asdict
from pathlib import Path

from flipscale.cli.arguments import add_json, add_plots, add_results, add_site, add_study, open_study_of
from flipscale.cli.output import print_json
from flipscale.errors import FlipscaleError
from flipscale.words import count
from flipscale.workflow.messages import say


def add_tracking(parser: argparse.ArgumentParser) -> None:
    what = "write tables only, nothing to MLflow (MLFLOW_TRACKING_URI, or else a SQLite file among the results)"
    parser.add_argument("--no-mlflow", action="store_true", help=what)


def collect_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    add_json(parser)
    add_results(parser)
    add_plots(parser, written=False)
    add_tracking(parser)
    parser.add_argument("--all-points", action="store_true", help="send whole curves to MLflow, not 100 points of each")
    parser.add_argument("--log-models", action="store_true", help="send trained weights to MLflow as well")
    look = "check every run in MLflow, and rewrite those that differ"
    parser.add_argument("--check-mlflow", action="store_true", help=look)
    parser.add_argument("--to", choices=("wandb", "trackio"), help="send the rows and curves to this tracker as well")


def collect(args: argparse.Namespace) -> int:
    """Gather finished runs into results.csv, curves.parquet and MLflow."""
    from flipscale.workflow.collected import Tracking, collect_study, mirror_study

    opened = open_study_of(args)
    collected = collect_study(opened)
    tracking = Tracking(all_points=args.all_points, models=args.log_models, thoroughly=args.check_mlflow)
    mirrored = None if args.no_mlflow else mirror_study(opened, collected, tracking)
    if mirrored and not args.json:
        say(f"to see it: {mirrored.look}")
    if args.to and collected.rows:
        from flipscale.track.other_trackers import send

        sent = send(args.to, opened.study.name, opened.files.results, opened.files.curves)
        say(f"{args.to}: {count(sent.new, 'run')} new, {sent.updated} changed, {sent.unchanged} unchanged")
    if args.json:
        print_json(
            {
                "files": [str(path) for path in collected.files],
                "rows": collected.rows,
                "counts": collected.states,
                "problems": collected.problems,
                "torn_lines": collected.torn_lines,
                "mlflow": asdict(mirrored) if mirrored else None,
            }
        )
    return 0


def plot_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    add_json(parser)
    add_results(parser)
    add_plots(parser)
    parser.add_argument(
        "--references",
        type=Path,
        metavar="FILE",
        help="published results to show beside these, such as studies/references.csv",
    )
    parser.add_argument(
        "--format",
        action="append",
        default=[],
        choices=("png", "pdf"),
        help="draw each figure in this format too, beside SVG; may be repeated",
    )


def plot(args: argparse.Namespace) -> int:
    """Draw the figures of a study from its results.csv."""
    from flipscale.workflow.drawn import draw_study

    drawn = draw_study(open_study_of(args), args.references, args.format)
    if args.json:
        print_json({"figures": list(map(str, drawn.files)), "skipped": drawn.skipped})
    return 0


def export_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    add_results(parser)
    parser.add_argument(
        "--to", choices=["csv", "parquet", "latex"], required=True, help="the format: csv, parquet or latex"
    )
    parser.add_argument("--out", metavar="FILE", type=Path, help="the file to write; without it, text goes to stdout")
    parser.add_argument("--score", help="the score in the LaTeX table; default: the study's score")


def export(args: argparse.Namespace) -> int:
    """Export a study's results as CSV or Parquet for other programs, or as a LaTeX table for a paper."""
    from flipscale.analysis.export import exported
    from flipscale.collecting import baseline_of
    from flipscale.collecting.study_table import as_written
    from flipscale.plain_files import replacing
    from flipscale.workflow.results import study_results

    opened = open_study_of(args)
    study = opened.study
    if args.to == "parquet" and args.out is None:
        raise FlipscaleError("Parquet is not text for a terminal; say where it goes: --out FILE.parquet")
    data = exported(
        as_written(study_results(opened).table),
        args.to,
        study=study.name,
        question=study.question,
        baseline=baseline_of(study),
        score=args.score or study.score,
    )
    if args.out is None:
        print(data.decode(), end="")
        return 0
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(args.out) as file:
        file.write(data)
    say(f"wrote {args.out}")
    return 0


def report_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    add_results(parser)
    add_plots(parser, written=False)
    add_site(parser)


def report(args: argparse.Namespace) -> int:
    """Write a study as one HTML page that opens offline, with interactive figures and a table of all runs."""
    from flipscale.workflow.drawn import report_study

    report_study(open_study_of(args))
    return 0
