"""The arguments of every verb."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flipscale.cli import verbs


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="flipscale",
        description="Scaling studies of language-image pre-training: one YAML file in, scaling curves and an honest "
        "comparison with the no-mask baseline out.",
        epilog="A first study: flipscale init study.yaml; flipscale run study.yaml",
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

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
            where = f"where runs and tables are ({default}/)"
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

    one = verb(verbs.init, study=False, data=False)
    one.add_argument("file", nargs="?", default="study.yaml", help="the file to write (study.yaml)")
    one.add_argument("--schema", action="store_true", help="print the JSON Schema of study files instead")
    verb(verbs.plan)
    one = verb(verbs.submit, data=False)
    launches(one)
    one.add_argument("--dry-run", action="store_true", help="print what would be sent; send nothing")
    one.add_argument("--detach", action="store_true", help="return at once; the runs go on without this terminal")
    one.add_argument("--retry-diverged", action="store_true", help="also start runs again whose loss diverged")
    one = verb(verbs.status)
    one.add_argument("--watch", action="store_true", help="show it again until nothing runs any more")
    one = verb(verbs.logs, study=False, data=False)
    one.add_argument("id", metavar="ID", help="a run's id, or its beginning, or its hash")
    one.add_argument("-f", "--follow", action="store_true", help="go on printing until the run has ended")
    one = verb(verbs.cancel)
    one.add_argument("ids", metavar="ID", nargs="*", help="only these runs")
    mirrors(verb(verbs.collect))
    verb(verbs.plot).add_argument("--plots", type=Path, default=Path("plots"), help="where figures go (plots/)")
    one = verb(verbs.compare)
    one.add_argument("--score", help="what to compare; the study's score if left out")
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
