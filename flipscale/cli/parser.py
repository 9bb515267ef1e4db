"""The arguments of every verb."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flipscale import __version__
from flipscale.cli import laws, verbs


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="flipscale",
        description="Scaling studies of language-image pre-training: one YAML file in, scaling curves and an honest "
        "comparison with the no-mask baseline out.",
        epilog="A first study: flipscale init study.yaml; flipscale run study.yaml",
    )
    top.add_argument("--version", action="version", version=f"flipscale {__version__}")
    top.set_defaults(command=lambda _: _print_help(top))
    commands = top.add_subparsers(title="commands", metavar="COMMAND")

    def verb(
        command: Callable[[argparse.Namespace], int], *, study: bool = True, data: bool = True, results: bool = True
    ) -> Any:
        says = (command.__doc__ or "").strip()
        one = commands.add_parser(command.__name__, help=says.splitlines()[0], description=says)
        one.set_defaults(command=command)
        if study:
            one.add_argument("study", metavar="STUDY", help="the study's YAML file")
        if data:
            one.add_argument("--json", action="store_true", help="print data for a program")
        if results:
            default = os.environ.get("FLIPSCALE_RESULTS", "results")
            where = "where runs and tables are (FLIPSCALE_RESULTS, or else results/)"
            one.add_argument("--results", type=Path, default=Path(default), help=where)
        return one

    def mirrors(one: Any) -> None:
        one.add_argument("--plots", type=Path, default=Path("plots"), help="where figures go (plots/)")
        where = "where MLflow keeps its runs (MLFLOW_TRACKING_URI, or else a SQLite file among the results)"
        one.add_argument("--tracking-uri", metavar="URI", help=where)
        one.add_argument(
            "--all-points", action="store_true", help="send whole curves to MLflow, not 100 points of each"
        )
        one.add_argument("--log-models", action="store_true", help="send trained weights to MLflow as well")
        look = "look at every run in MLflow, and mend what is not as it was written"
        one.add_argument("--check-mlflow", action="store_true", help=look)
        one.add_argument("--no-mlflow", action="store_true", help="write tables only")

    def launches(one: Any) -> None:
        one.add_argument(
            "--on", default="local", metavar="LAUNCHER", help="where to run: local (this machine), slurm or ray"
        )
        one.add_argument("--site", metavar="FILE", help="what the cluster is like (FLIPSCALE_SITE, if that is set)")
        where = "the Ray cluster, as HOST:PORT or http://HOST:PORT (RAY_ADDRESS, or else the Ray of this machine)"
        one.add_argument("--address", help=where)
        what = "start without a look at the data, checkpoints and programs that runs need (only local looks)"
        one.add_argument("--no-check", action="store_true", help=what)

    def direction(one: Any) -> None:
        """Which way of y is better; None is by its name."""
        better = one.add_mutually_exclusive_group()
        said = {"action": "store_const", "dest": "lower_is_better"}
        better.add_argument("--higher-is-better", const=False, **said, help="y is an accuracy, whatever its name")
        better.add_argument("--lower-is-better", const=True, **said, help="y is a loss or an error, whatever its name")

    def laws_of(one: Any) -> None:
        one.add_argument(
            "source", metavar="STUDY|TABLE", help="the study's YAML file, or a .csv, .tsv or .parquet table"
        )
        one.add_argument("--law", help="which law; by the kind of y if left out (docs/fits.md lists them)")
        columns = {"type": _names, "action": "extend", "default": [], "metavar": "COLUMN,..."}
        one.add_argument("--x", **columns, help="variables, in the law's order")
        one.add_argument("--y", metavar="COLUMN", help="what is fitted; the study's score if left out")
        one.add_argument("--group", **columns, help="a law for each of its values")
        one.add_argument("--where", action="append", default=[], metavar="COLUMN=VALUE", help="only these rows")
        one.add_argument("--frontier", choices=["pareto", "binned"], help="fit what is best for its cost only")
        one.add_argument("--fix", action="append", default=[], metavar="NAME=VALUE", help="hold a parameter fast")
        one.add_argument("--tie", action="append", default=[], metavar="NAME=OTHER", help="make two parameters one")
        loss = "of residuals; huber for losses and errors, squares for straight lines and odds if left out"
        one.add_argument("--loss", choices=["huber", "squares"], help=loss)
        one.add_argument("--linear", action="store_true", help="residuals in y itself, not in its logarithm")
        direction(one)
        cluster = "its equal values are resampled together; rows of equal x are if left out"
        one.add_argument("--cluster", metavar="COLUMN", help=cluster)
        one.add_argument("--draws", type=int, default=1000, metavar="N", help="resamples for intervals (1000)")
        one.add_argument("--seed", type=int, default=0, metavar="N", help="of the resamples (0)")

    one = verb(verbs.init, study=False, data=False)
    one.add_argument("file", nargs="?", default="study.yaml", help="the file to write (study.yaml)")
    one.add_argument("--schema", action="store_true", help="print the JSON Schema of study files instead")
    one = verb(verbs.plan)
    one.add_argument("--check", action="store_true", help="look at the data, checkpoints and programs that runs need")
    one = verb(verbs.submit, data=False)
    launches(one)
    one.add_argument("--dry-run", action="store_true", help="print what would be sent; send nothing")
    one.add_argument("--detach", action="store_true", help="return at once; the runs go on without this terminal")
    one.add_argument("--retry-diverged", action="store_true", help="also start runs again whose loss diverged")
    one = verb(verbs.status)
    one.add_argument("--watch", action="store_true", help=argparse.SUPPRESS)
    one = verb(verbs.watch, data=False)
    one.add_argument("--plain", action="store_true", help="add lines and rewrite none, as where there is no terminal")
    one = verb(verbs.logs, study=False, data=False)
    one.add_argument("id", metavar="ID", help="a run's id, or its beginning, or its hash")
    one.add_argument("-f", "--follow", action="store_true", help="go on printing until the run has ended")
    one = verb(verbs.cancel)
    one.add_argument("ids", metavar="ID", nargs="*", help="only these runs")
    mirrors(verb(verbs.collect))
    one = verb(verbs.plot)
    one.add_argument("--plots", type=Path, default=Path("plots"), help="where figures go (plots/)")
    one.add_argument(
        "--references", type=Path, metavar="FILE", help="others' results to show beside, as studies/references.csv"
    )
    one = verb(verbs.compare, study=False)
    one.add_argument("study", metavar="STUDY|TABLE", help="the study's YAML file, or any .csv, .tsv or .parquet")
    score = "what to compare in a study, into comparison-SCORE.json and .md; the study's own score if left out"
    one.add_argument("--score", help=score)
    of = one.add_argument_group("of a table, by the names of its columns")
    of.add_argument(
        "--baseline", metavar="COLUMN=VALUE", action="append", default=[], help="the rows to compare with; several by ,"
    )
    of.add_argument("--x", metavar="COLUMN", help="what is spent: hours, FLOPs; several by ,")
    of.add_argument("--y", metavar="COLUMN", help="what it buys: an accuracy")
    of.add_argument(
        "--series", metavar="COLUMN", action="append", default=[], help="what makes separate curves; several by ,"
    )
    of.add_argument("--at", metavar="COLUMN", help="what twins share, such as epochs; found if left out")
    direction(of)
    what = "what each setting of the baseline's columns gains over it, alone and jointly; needs no --x"
    of.add_argument("--deltas", action="store_true", help=what)
    one = verb(laws.fit, study=False)
    laws_of(one)
    one.add_argument("--budget", metavar="COLUMN", help="IsoFLOP: find the best x at each budget, and its law")
    one.add_argument("--isoflop", default="akima", choices=["akima", "parabola"], help="the curve of a budget (akima)")
    one.add_argument("--through", metavar="COLUMN", help="two steps: x to this loss, and this loss to y")
    one.add_argument("--out", type=Path, metavar="FILE", help="write the fits there as well (results/NAME/fits.json)")
    one = verb(laws.forecast, study=False)
    laws_of(one)
    at = "the run to foresee: settings of a study, as model=ViT-H-14,samples=12.8B, or columns of a table"
    one.add_argument("--at", metavar="NAME=VALUE", action="append", default=[], help=at)
    one.add_argument("--force", action="store_true", help="show a forecast that is refused")
    verb(verbs.report).add_argument("--plots", type=Path, default=Path("plots"), help="where figures are (plots/)")
    one = verb(verbs.export, data=False)
    one.add_argument("--to", choices=["csv", "parquet", "latex"], required=True, help="the form: csv, parquet or latex")
    one.add_argument("--out", metavar="FILE", type=Path, help="the file to write; what is text goes to stdout without")
    one.add_argument("--score", help="what the LaTeX table shows; the study's score if left out")
    one = verb(verbs.run, data=False)
    launches(one)
    mirrors(one)
    one = verb(verbs.why, study=False)
    one.add_argument("id", metavar="ID", help="a run's id, or its beginning, or its hash")
    one.add_argument("other", metavar="ID", nargs="?", help="another run, to see the difference")
    one = verb(verbs.train, study=False, data=False)
    one.add_argument("folders", metavar="RUN", nargs="+", help="run folders")
    one.add_argument("--profile", action="store_true", help="say where their time goes instead; trains nothing")
    one = verb(verbs.data, study=False, data=False, results=False)
    one.add_argument("kind", metavar="KIND", choices=["icons"], help="which: icons")
    one.add_argument("folder", metavar="DIR", type=Path, help="where the shards go")
    one.add_argument("--from", dest="source", metavar="PATH", type=Path, help="the npm package, a folder or a .tgz")
    one.add_argument("--size", type=int, default=32, help="side of a picture in pixels (32)")
    one.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that draw (one a core)")
    return top


def _print_help(top: argparse.ArgumentParser) -> int:
    """What the bare command does, as gh and cargo do it: the help, and exit code 0."""
    top.print_help()
    return 0


def _names(text: str) -> list[str]:
    """Column names, with commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()]
