"""Points a second into MLflow: flipscale's mirror against MLflow's own calls, on the same runs in one go.

    python -m bench.mirror --out mirror

Ways      log_metric: mlflow.log_metric, one point a call. log_batch: MlflowClient.create_run, log_batch and
          set_terminated. flipscale: flipscale.track.mirror with everything that it does, its search and its cells too.
Places    SQLite, PostgreSQL, and an MLflow server on PostgreSQL, each of them real and on this machine.

Each way writes runs of its own: 4 curves of 100 points, 40 scores and 19 facts each. log_metric writes only --points
points, because all runs would take it an hour. Ways take turns, and the best of --repeats is printed.
"""

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import run_folders
from bench.report import leave, limit, machine, machine_words, table
from tests.clusters.mlflow_server import missing, mlflow_server, postgresql

os.environ["MLFLOW_ENABLE_ASYNC_LOGGING"] = "false"

WAYS = ("log_metric", "log_batch", "flipscale")

LIMITS = {"log_metric": 5.0, "log_batch": 0.25}
"""At least this many times the points per second of this way, which makes no models and data sets."""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and print; the facts that --out writes are returned."""
    parser = argparse.ArgumentParser(prog="python -m bench.mirror", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=60, help="runs that log_batch and flipscale write in one go")
    parser.add_argument("--points", type=int, default=200, help="points that log_metric writes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--places", nargs="+", choices=PLACES, default=list(PLACES))
    parser.add_argument("--out", metavar="NAME", help="keep the result in bench/results/NAME.json, or in a path .json")
    asked = parser.parse_args(arguments)
    facts: dict[str, Any] = {
        "benchmark": "mirror",
        "machine": machine(),
        "runs": asked.runs,
        "repeats": asked.repeats,
        "places": {},
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = collected(folder, asked.runs)
        for place in asked.places:
            (folder / place).mkdir()
            with PLACES[place](folder / place) as uri:
                facts["places"][place] = measure(uri, source, folder / place, asked.points, asked.repeats)
        facts["limits"] = limits(facts)
        leave(asked.out, facts, as_markdown(facts))
    return facts


@contextlib.contextmanager
def _sqlite(folder: Path) -> Iterator[str]:
    yield f"sqlite:///{folder}/mlflow.db"


@contextlib.contextmanager
def _postgresql(folder: Path) -> Iterator[str]:
    assert not missing(), missing()
    with postgresql() as uri:
        yield uri


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[str]:
    assert not missing(), missing()
    with postgresql() as uri, mlflow_server(folder, uri, workers=2) as server:
        yield server


PLACES: dict[str, Callable[[Path], contextlib.AbstractContextManager[str]]] = {
    "SQLite": _sqlite,
    "PostgreSQL": _postgresql,
    "server on PostgreSQL": _server,
}


def collected(folder: Path, runs: int) -> Any:
    """What is mirrored: a study's runs, collected."""
    from flipscale.collecting import collect
    from flipscale.track import MirrorSource

    planned = run_folders.write_study(folder, runs)
    run_folders.fill(folder / "results", planned, 200)
    found = collect(planned, folder / "results", folder / "results/study")
    return MirrorSource("study", found.files[0], baseline={"mask_ratio": 0.0})


def measure(uri: str, source: Any, folder: Path, points: int, repeats: int) -> dict[str, list[dict[str, float]]]:
    """Points and seconds of each way, in turns. The first turn is not counted: MLflow creates its tables in it."""
    from dataclasses import replace

    from mlflow import MlflowClient

    from flipscale.collecting import read_curves, read_results
    from flipscale.track import mirror
    from flipscale.track.content import contents

    all_of_it = contents(read_results(source.results), read_curves(source.curves), source)
    runs = [one for one in all_of_it if one.kind == "run"]
    values = sum(len(run.points) for run in runs)
    client = MlflowClient(uri)
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for repeat in range(repeats + 1):
        names = {way: f"{way}-{repeat}" for way in found}
        for way in ("log_metric", "log_batch"):
            client.create_experiment(names[way], artifact_location=(folder / names[way]).as_uri())
        seen = {}
        began = time.perf_counter()
        fluent(uri, names["log_metric"], runs[0], points)
        seen["log_metric"] = {"points": points, "seconds": time.perf_counter() - began}
        began = time.perf_counter()
        batches(uri, names["log_batch"], runs)
        seen["log_batch"] = {"points": values, "seconds": time.perf_counter() - began}
        began = time.perf_counter()
        done = mirror(replace(source, study=names["flipscale"]), tracking_uri=uri, artifact_root=folder / "artifacts")
        seen["flipscale"] = {"points": values, "seconds": time.perf_counter() - began}
        assert done.created == len(runs)
        began = time.perf_counter()
        mirror(replace(source, study=names["flipscale"]), tracking_uri=uri, artifact_root=folder / "artifacts")
        seen["flipscale"]["again_seconds"] = time.perf_counter() - began
        if repeat:
            for way, one in seen.items():
                found[way].append(one)
    return found


def fluent(uri: str, experiment: str, run: Any, points: int) -> None:
    """One run by mlflow's fluent calls, a point a call."""
    import mlflow

    mlflow.set_tracking_uri(uri)
    try:
        mlflow.set_experiment(experiment)
        with mlflow.start_run(run_name=run.name):
            for name, value, _, step in run.points[:points]:
                mlflow.log_metric(name, value, step=step)
    finally:
        mlflow.set_tracking_uri(None)  # it is also in the environment, which child processes inherit


def batches(uri: str, experiment: str, runs: Sequence[Any]) -> None:
    """Runs by MLflow's client: parameters and points of a run in one call."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient(uri)
    experiment_id = client.get_experiment_by_name(experiment).experiment_id
    for run in runs:
        there = client.create_run(experiment_id, run_name=run.name, tags=dict(run.tags))
        metrics = [Metric(name, value, at, step) for name, value, at, step in run.points]
        client.log_batch(there.info.run_id, metrics, [Param(name, value) for name, value in run.params.items()])
        client.set_terminated(there.info.run_id)


def rate(runs: Sequence[Mapping[str, float]]) -> float:
    return max(run["points"] / run["seconds"] for run in runs)


def limits(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    """The limits at each place, and whether they hold."""
    found = []
    for place, ways in facts["places"].items():
        for way, least in LIMITS.items():
            times = rate(ways["flipscale"]) / rate(ways[way])
            found.append(limit(f"{place}: flipscale against {way}", f"{least:g}x", f"{times:.2f}x", times >= least))
    return found


def as_markdown(facts: Mapping[str, Any]) -> str:
    rows = []
    for place, ways in facts["places"].items():
        again = min(run["again_seconds"] for run in ways["flipscale"])
        rows.append([place, *(f"{rate(ways[way]):,.0f}" for way in WAYS), f"{again:.2f}"])
    return (
        table(["points a second", *WAYS, "again, nothing changed, s"], rows)
        + f"\nThe best of {facts['repeats']}, {facts['runs']} runs a turn.\n\n"
        + table(["limit", "at least", "measured", ""], [list(one.values()) for one in facts["limits"]])
        + f"\n{machine_words(facts['machine'])}"
    )


if __name__ == "__main__":
    main()
