"""Bringing an experiment up to date: what is there, what is not, and what has changed.

MLflow cannot change a parameter, and keeps an old point beside a new one at the same step. So a run that has changed is
written anew and the old one is deleted there: it can be restored in MLflow, and is never there twice.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

# MLflow reads these when it is imported or first called. Its own choice is 7 tries, which is minutes of silence when
# there is no server; and a line on stdout for each run that is written to one.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from requests.exceptions import RequestException
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from flipscale.collect import read_results
from flipscale.collect.curves import open_curves
from flipscale.errors import FlipscaleError
from flipscale.track import Mirrored, Source, lies_in
from flipscale.track.address import is_server, without_secrets
from flipscale.track.content import POINTS, contents, milliseconds
from flipscale.track.noted import FORMAT
from flipscale.track.writing import THREADS, ByBatches, Writer


def bring_up_to_date(
    source: Source,
    files: Sequence[Path],
    *,
    tracking_uri: str,
    artifact_root: Path,
    all_points: bool,
    models: bool,
    thoroughly: bool,
) -> tuple[Mirrored, str, str]:
    """See `flipscale.track.mirror`; `files` are the artifacts. Also the id of the study's run, and its digest."""
    results = read_results(source.results)
    if results.empty:
        return Mirrored(0, 0, 0, None), "", ""
    whole = _digest_of_all(source, files, all_points, models)
    with _quietly(), _one_at_a_time(artifact_root), _saying_what_failed(tracking_uri):
        _knock(tracking_uri)
        client = MlflowClient(tracking_uri)
        experiment_id = _experiment(client, source, tracking_uri, artifact_root)
        study_key = f"study {source.study}"  # a run id has no space
        studies = client.search_runs([experiment_id], f"tags.`flipscale.id` = '{study_key}'", max_results=10)
        if not thoroughly and len(studies) == 1 and studies[0].data.tags.get("flipscale.digest") == whole:
            return Mirrored(0, 0, len(results), experiment_id), studies[0].info.run_id, whole
        for study in studies:
            # From here on it does not say that all is there, until it is.
            client.set_tag(study.info.run_id, "flipscale.digest", "")
        there = _runs_there(client, experiment_id)
        there.pop(study_key, None)
        counts = _mirror_runs(client, experiment_id, source, results, there, all_points=all_points, models=models)
        times = milliseconds(results["started"].min()), milliseconds(results["finished"].max())
        study_run = _mirror_study(client, experiment_id, source, studies, study_key, files, times, whole)
        return Mirrored(*counts, experiment_id), study_run, whole


# What is there


def _knock(tracking_uri: str) -> None:
    """Raise at once where a database cannot be reached: MLflow would try 15 times, which took 100 s."""
    if tracking_uri.partition(":")[0].partition("+")[0] in DATABASE_ENGINES:
        engine = create_engine(tracking_uri)
        try:
            engine.connect().close()
        finally:
            engine.dispose()


def _experiment(client: MlflowClient, source: Source, tracking_uri: str, artifact_root: Path) -> str:
    study = source.study
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        # Without a location a database puts artifacts into ./mlruns of wherever the command happened to run.
        location = None if is_server(tracking_uri) else (artifact_root.absolute() / study).as_uri()
        try:
            return str(client.create_experiment(study, artifact_location=location, tags=_note(source)))
        except MlflowException as error:
            # Another machine was quicker, or the answer to a first try was lost.
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or not (
                experiment := client.get_experiment_by_name(study)
            ):
                raise
    if experiment.lifecycle_stage != "active":
        raise FlipscaleError(
            f"MLflow: experiment {study!r} was deleted there. Bring it back with "
            f"`mlflow experiments restore --experiment-id {experiment.experiment_id}`, or name the study otherwise."
        )
    return str(experiment.experiment_id)


def _note(source: Source) -> dict[str, str]:
    """What MLflow shows above an experiment."""
    return {"mlflow.note.content": source.question} if source.question else {}


class _There(NamedTuple):
    """A run in MLflow."""

    run_id: str
    kind: str | None
    digest: str | None
    parent: str | None
    model: str | None


def _runs_there(client: MlflowClient, experiment_id: str) -> dict[str, list[_There]]:
    """All runs of the experiment by their flipscale id: read once, as one look-up by tag costs 50 ms."""
    runs: dict[str, list[_There]] = {}
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], run_view_type=ViewType.ACTIVE_ONLY, max_results=1000, page_token=token
        )
        for run in page:
            tags = run.data.tags
            if key := tags.get("flipscale.id"):
                kind, digest, model = (tags.get(f"flipscale.{name}") for name in ("kind", "digest", "model"))
                one = _There(run.info.run_id, kind, digest, tags.get("mlflow.parentRunId"), model)
                runs.setdefault(key, []).append(one)
        token = page.token
        if not token:
            return runs


# What is written


def _mirror_runs(
    client: MlflowClient,
    experiment_id: str,
    source: Source,
    results: pd.DataFrame,
    there: dict[str, list[_There]],
    *,
    all_points: bool,
    models: bool,
) -> tuple[int, int, int]:
    """Write what is not there as it is to be; how many runs are new, changed, and as they were."""
    ids: dict[str, str] = {}
    superfluous: list[str] = []
    to_model: list[tuple[str, str, str | None]] = []
    created = updated = unchanged = 0
    with contextlib.ExitStack() as stack:
        write = stack.enter_context(contextlib.closing(_writer(client, experiment_id)))
        curves = stack.enter_context(open_curves(source.curves)) if source.curves.exists() else None
        for content in contents(results, curves, baseline=source.baseline, runs=source.runs, all_points=all_points):
            parent_id = ids.get(content.parent or "")
            old = there.pop(content.key, [])
            found = next((one for one in old if one.digest == content.digest), None)
            if found is None:
                ids[content.key] = write.add(content, parent_id)
            else:
                ids[content.key] = found.run_id
                if found.parent != parent_id and parent_id:
                    client.set_tag(found.run_id, "mlflow.parentRunId", parent_id)
                elif found.parent and not parent_id:
                    client.delete_tag(found.run_id, "mlflow.parentRunId")
            superfluous += [one.run_id for one in old if one is not found]
            if content.kind == "run":
                unchanged += found is not None
                updated += found is None and bool(old)
                created += not old
                to_model.append((content.key, ids[content.key], found.model if found else None))
        write.flush()
    # The old ones go last: what is cut short here is there twice, and once again after the next time.
    superfluous += [one.run_id for left in there.values() for one in left if one.kind == "cell"]
    for run_id in superfluous:
        client.delete_run(run_id)
    if models and source.runs is not None:
        for key, run_id, known in to_model:
            _mirror_model(client, experiment_id, source.runs, key, run_id, known)
    return created, updated, unchanged


def _writer(client: MlflowClient, experiment_id: str) -> Writer:
    """The quickest way that there is."""
    if not is_server(client.tracking_uri):
        # A server's client needs no database, and this loads one's.
        from flipscale.track.tables import ByTables, are_known

        if are_known(store := client._tracking_client.store):
            return ByTables(store, experiment_id)
        return ByBatches(client, experiment_id, threads=1)
    return ByBatches(client, experiment_id, threads=THREADS)


def _mirror_model(
    client: MlflowClient, experiment_id: str, runs: Path, key: str, run_id: str, known: str | None
) -> None:
    """The run's weights as a model of its own, unless they are there; a run that has none is passed over."""
    weights = runs / key / "model.pt"
    if not lies_in(weights, [runs / key]):
        return
    found = weights.stat()
    identity = f"{found.st_size}-{found.st_mtime_ns}"
    if known == identity:
        return
    name = "".join("_" if character in "/:.%\"'" else character for character in key)
    model = client.create_logged_model(experiment_id, name=name, source_run_id=run_id, model_type="open_clip")
    client.log_model_artifact(model.model_id, str(weights))
    client.finalize_logged_model(model.model_id, "READY")
    client.set_tag(run_id, "flipscale.model", identity)


def _mirror_study(
    client: MlflowClient,
    experiment_id: str,
    source: Source,
    old: Sequence[Run],
    key: str,
    files: Sequence[Path],
    times: tuple[int, int],
    whole: str,
) -> str:
    """The study's own run, with its artifacts; its id. Its digest goes last: with it, all of the study is there."""
    if old:
        run_id, tags = str(old[0].info.run_id), old[0].data.tags
    else:
        run = client.create_run(
            experiment_id,
            start_time=times[0],
            tags={"flipscale.id": key, "flipscale.kind": "study", "flipscale.study": source.study, **_note(source)},
            run_name=source.study,
        )
        run_id, tags = str(run.info.run_id), {}
    for other in old[1:]:
        client.delete_run(other.info.run_id)
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    if tags.get("flipscale.files") != digest.hexdigest():
        for file in files:
            client.log_artifact(run_id, str(file))
        client.set_tag(run_id, "flipscale.files", digest.hexdigest())
    client.set_terminated(run_id, "FINISHED", times[1])
    client.set_tag(run_id, "flipscale.digest", whole)
    return run_id


def _digest_of_all(source: Source, files: Sequence[Path], all_points: bool, models: bool) -> str:
    """Of everything that is mirrored of the study."""
    told = hashlib.sha256(repr([FORMAT, POINTS, all_points, models, source.question, [*source.baseline]]).encode())
    for file in (source.results, source.curves, *files):
        if file.exists():
            told.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return told.hexdigest()


# How it is done


@contextmanager
def _one_at_a_time(artifact_root: Path) -> Iterator[None]:
    try:
        artifact_root.mkdir(parents=True, exist_ok=True)
        lock = open(artifact_root / "mirror.lock", "w", encoding="utf-8")  # noqa: SIM115  it is closed by the with below
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
        shown = without_secrets(tracking_uri)
        reason = without_secrets(str(error), tracking_uri).strip().partition("\n")[0].rstrip(".")
        # The error itself has the address in its words, and whoever catches ours may print its cause.
        raise FlipscaleError(
            f"MLflow at {shown} cannot be reached or refused: {reason}. The results on disk are complete; "
            f"check the tracking address and collect again."
        ) from None
