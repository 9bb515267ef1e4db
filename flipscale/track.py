"""The results in MLflow, each run once: an experiment per study, a parent run with figures and table, a child per run.

What was collected stays the record; MLflow is a view of it that can be thrown away and mirrored again. A run is
found again by its tag `flipscale.id`, and its tag `flipscale.digest` says what was mirrored of it, so collecting
twice changes nothing. Every timestamp comes from the record (DESIGN.md, decision 12).

MLflow cannot change a parameter, and keeps an old point beside a new one at the same step. So a run whose row has
changed is deleted there and written anew: it can be restored in MLflow, and is never there twice.
"""

import fcntl
import hashlib
import json
import logging
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# MLflow reads these when it is imported or first called. Its own choice is 7 tries, which is minutes of silence when
# there is no server.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from flipscale.collect import COLUMNS, SETTINGS, is_score
from flipscale.errors import FlipscaleError

POINTS = 100
"""At most so many points of one curve go to MLflow, which takes about 5,000 a second; all are in curves.parquet."""

FORMAT = 1
"""Version of what is written for a run, part of its digest: a new one mirrors every run again."""

_BATCH = 1000  # metrics in one log_batch; MLflow refuses more

_FACTS = tuple(
    name
    for name, column in COLUMNS.items()
    if column.kind != "str" and name not in (*SETTINGS, "started", "finished") and not is_score(name)
)


@dataclass(frozen=True)
class Mirrored:
    """What mirroring did, in runs."""

    created: int
    """Runs that MLflow did not have."""
    updated: int
    """Runs whose row or curves had changed."""
    unchanged: int
    """Runs that were there as they are: no call was made for them."""
    experiment_id: str | None
    """The study's experiment; None where there was no row to mirror."""


def mirror(
    results: pd.DataFrame,
    curves: pd.DataFrame,
    study: str,
    *,
    tracking_uri: str,
    artifact_root: Path,
    files: Sequence[Path] = (),
) -> Mirrored:
    """Bring the study's experiment up to date with the collected tables; `files` become artifacts of its parent run.

    `artifact_root` is where artifacts go if MLflow is a database; a server keeps them where it was told to.
    One mirror works at a time on an artifact_root: MLflow would let two create the same run.
    Raises FlipscaleError if MLflow cannot be reached or refuses.
    """
    if results.empty:
        return Mirrored(0, 0, 0, None)
    with _quietly(), _one_at_a_time(artifact_root), _saying_what_failed(tracking_uri):
        client = MlflowClient(tracking_uri)
        experiment_id = _experiment(client, study, tracking_uri, artifact_root)
        there = _runs_there(client, experiment_id)
        parent_id = _mirror_parent(client, experiment_id, there.pop(_parent_key(study), []), results, study, files)
        points_of = {str(run_id): points for run_id, points in curves.groupby("id", observed=True)}
        created = updated = unchanged = 0
        for record in results.to_dict("records"):
            row = {str(name): value for name, value in record.items()}
            old = there.get(row["id"], [])
            curve = _thinned(points_of.get(row["id"], curves.iloc[:0]))
            digest = _digest(row, curve)
            if len(old) == 1 and old[0].data.tags.get("flipscale.digest") == digest:
                unchanged += 1
                continue
            for run in old:
                client.delete_run(run.info.run_id)
            _write_run(client, experiment_id, parent_id, row, curve, digest)
            updated, created = (updated + 1, created) if old else (updated, created + 1)
    return Mirrored(created, updated, unchanged, experiment_id)


def ui_command(tracking_uri: str) -> str:
    """What to type to look at the experiments; for a server, its address to open.

    One worker is enough for one person: MLflow's own choice on a 2-core machine took 2.7 GB.
    """
    if _is_server(tracking_uri):
        return tracking_uri
    # In an environment that is not activated the shell does not know the command.
    mlflow = "mlflow" if shutil.which("mlflow") else f"{shlex.quote(sys.executable)} -m mlflow"
    return f"{mlflow} ui --backend-store-uri {shlex.quote(tracking_uri)} --host 127.0.0.1 --workers 1"


# What is there


def _experiment(client: MlflowClient, study: str, tracking_uri: str, artifact_root: Path) -> str:
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        # Without a location a database puts artifacts into ./mlruns of wherever the command happened to run.
        location = None if _is_server(tracking_uri) else (artifact_root.absolute() / study).as_uri()
        return str(client.create_experiment(study, artifact_location=location))
    if experiment.lifecycle_stage != "active":
        raise FlipscaleError(
            f"MLflow: experiment {study!r} was deleted there. Bring it back with "
            f"`mlflow experiments restore --experiment-id {experiment.experiment_id}`, or name the study otherwise."
        )
    return str(experiment.experiment_id)


def _runs_there(client: MlflowClient, experiment_id: str) -> dict[str, list[Run]]:
    """All runs of the experiment by their flipscale id: read once, as one look-up by tag costs 50 ms."""
    runs: dict[str, list[Run]] = {}
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], run_view_type=ViewType.ACTIVE_ONLY, max_results=1000, page_token=token
        )
        for run in page:
            if key := run.data.tags.get("flipscale.id"):
                runs.setdefault(key, []).append(run)
        token = page.token
        if not token:
            return runs


# What is written


def _parent_key(study: str) -> str:
    return f"study {study}"  # a run id has no space


def _mirror_parent(
    client: MlflowClient,
    experiment_id: str,
    old: list[Run],
    results: pd.DataFrame,
    study: str,
    files: Sequence[Path],
) -> str:
    """The id of the study's parent run, with its files as artifacts."""
    if old:
        parent_id, tags = str(old[0].info.run_id), old[0].data.tags
    else:
        key = _parent_key(study)
        run = client.create_run(
            experiment_id,
            start_time=_milliseconds(results["started"].min()),
            tags={"flipscale.id": key},
            run_name=study,
        )
        parent_id, tags = str(run.info.run_id), {}
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    digest.update(repr(results["finished"].max()).encode())
    if tags.get("flipscale.digest") != digest.hexdigest():
        for file in files:
            client.log_artifact(parent_id, str(file))
        client.set_terminated(parent_id, "FINISHED", _milliseconds(results["finished"].max()))
        client.set_tag(parent_id, "flipscale.digest", digest.hexdigest())
    return parent_id


def _write_run(
    client: MlflowClient, experiment_id: str, parent_id: str, row: dict[str, Any], curve: pd.DataFrame, digest: str
) -> None:
    run = client.create_run(
        experiment_id,
        start_time=_milliseconds(row["started"]),
        tags={"flipscale.id": row["id"], "mlflow.parentRunId": parent_id},
        run_name=row["id"],
    )
    run_id = run.info.run_id
    params = [Param(name, str(row[name])) for name in SETTINGS if not pd.isna(row[name])]
    tags = [
        RunTag(f"flipscale.{name}", str(row[name])) for name in ("study", "cell", "device") if not pd.isna(row[name])
    ]
    metrics = _metrics(row, curve)
    client.log_batch(run_id, metrics[:_BATCH], params, tags)
    for start in range(_BATCH, len(metrics), _BATCH):
        client.log_batch(run_id, metrics[start : start + _BATCH])
    client.set_terminated(run_id, "FINISHED", _milliseconds(row["finished"]))
    # The digest goes last: a run that was cut short has none, and is written anew next time.
    client.set_tag(run_id, "flipscale.digest", digest)


def _metrics(row: dict[str, Any], curve: pd.DataFrame) -> list[Metric]:
    """The row's scores and facts at its last sample, then its curves, step in samples.

    A training curve is named train/NAME, so that train/images_per_second and the run's own do not mix. A score's
    curve has the score's name, and its last point is the row's.
    """
    end = 0 if pd.isna(row["samples_seen"]) else int(row["samples_seen"])
    finished = _milliseconds(row["finished"])
    names = [*filter(is_score, row), *_FACTS]
    metrics = [Metric(name, float(row[name]), finished, end) for name in names if not pd.isna(row[name])]
    final = {metric.key for metric in metrics}
    for metric, samples, seconds, value, time in zip(
        curve["metric"], curve["samples"], curve["seconds"], curve["value"], curve["time"], strict=True
    ):
        if pd.isna(samples) or (is_score(metric) and metric in final and samples >= end):
            continue
        if pd.isna(time):
            time = row["started"] + (0.0 if pd.isna(seconds) else seconds)
        name = metric if is_score(metric) else f"train/{_name(metric)}"
        metrics.append(Metric(name, float(value), _milliseconds(time), int(samples)))
    return metrics


def _name(metric: str) -> str:
    """The metric's name in the letters that MLflow takes; a training command of the user's own may use others."""
    return re.sub(r"[^\w\-. /]", "_", metric)


def _thinned(points: pd.DataFrame) -> pd.DataFrame:
    """At most POINTS of each metric, evenly spread, the first and the last among them."""
    kept = [
        metric.iloc[np.unique(np.linspace(0, len(metric) - 1, POINTS).round().astype(int))]
        for _, metric in points.groupby("metric", observed=True)
    ]
    return pd.concat(kept) if kept else points


def _digest(row: dict[str, Any], curve: pd.DataFrame) -> str:
    """What is mirrored of a run, as one word."""
    facts = {name: None if pd.isna(row[name]) else str(row[name]) for name in (*COLUMNS, *filter(is_score, row))}
    digest = hashlib.sha256(json.dumps([FORMAT, POINTS, facts], sort_keys=True).encode())
    digest.update("\0".join(curve["metric"]).encode())
    digest.update(curve[["samples", "seconds", "value", "time"]].to_numpy(dtype="float64").tobytes())
    return digest.hexdigest()


def _milliseconds(seconds: float) -> int:
    return 0 if pd.isna(seconds) else round(seconds * 1000)


# How it is done


def _is_server(tracking_uri: str) -> bool:
    return tracking_uri.startswith(("http://", "https://"))


@contextmanager
def _one_at_a_time(artifact_root: Path) -> Iterator[None]:
    try:
        artifact_root.mkdir(parents=True, exist_ok=True)
        lock = open(artifact_root / "mirror.lock", "w")  # noqa: SIM115  it is closed by the with below
    except OSError as error:
        raise FlipscaleError(f"{artifact_root}: MLflow's artifacts cannot be kept there ({error.strerror}).") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _quietly() -> Iterator[None]:
    """MLflow and alembic tell of every table they make; what matters is raised."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _saying_what_failed(tracking_uri: str) -> Iterator[None]:
    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
        shown = re.sub(r"//[^/@]*@", "//", tracking_uri)  # a password may stand in the address
        reason = re.sub(r"//[^/@]*@", "//", str(error)).strip().partition("\n")[0].rstrip(".")
        raise FlipscaleError(
            f"MLflow at {shown} cannot be reached or refused: {reason}. The results on disk are complete; "
            f"check the tracking address and collect again."
        ) from error
