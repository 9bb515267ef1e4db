"""Bringing an experiment up to date: its content, its missing runs, and its changed ones.

MLflow cannot change a parameter, and keeps an old point beside a new one at the same step. A changed run is therefore
written anew and the old one deleted there: it can be restored in MLflow, and never exists twice.

Each run has a model, an entry with its parameters and results, to which its weights are added by choice: MLflow ranks
models by a score. MLflow reads all points of a model each time, so curves stay with the run.
"""

import fcntl
import hashlib
import logging
import os
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

# MLflow reads these when it is imported or first called. Its own choice is 7 tries, which is minutes of silence when
# there is no server; and a line on stdout for each run that is written to one.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    Run,
    RunTag,
)
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from flipscale.collecting import read_curves, read_results
from flipscale.errors import FlipscaleError, missing_package
from flipscale.guard import plain_file
from flipscale.run import WEIGHTS_FILE
from flipscale.track.address import is_server, may_hold, without_secrets
from flipscale.track.content import Content, DataSetUsed, contents
from flipscale.track.rows import milliseconds, model_name
from flipscale.track.source import MIRROR_VERSION, Mirrored, MirrorSource, lies_in

_DATABASES = ("postgresql", "mysql", "sqlite", "mssql")
"""Databases that MLflow can be: what an address begins with."""

MLFLOW_BATCH = 1000
"""Metrics, parameters and tags in one call; MLflow refuses more."""

THREADS, AHEAD = 4, 16
"""Calls to a server at once, as each waits for the server most of its time, and the most runs that wait for one."""

LIVE = "live"
"""The kind of a run that was written while it ran: collecting writes it anew, as a run (live.py)."""

CODE_DIFFERS = "flipscale.code_differs"
"""Tag of the study's run: how many of its runs were trained by other code than today's."""


def bring_up_to_date(
    source: MirrorSource,
    artifacts: Sequence[Path],
    tracking_uri: str,
    artifact_root: Path,
    *,
    all_points: bool,
    models: bool,
    thoroughly: bool,
) -> tuple[Mirrored, str]:
    """See `flipscale.track.mirror`. Also returns where MLflow wanted artifacts that were not sent there."""
    results = read_results(source.results)
    if results.empty:
        return Mirrored(0, 0, 0, None), ""
    whole = hashlib.sha256(repr([MIRROR_VERSION, all_points, models, source.facts]).encode())
    for file in (source.results, source.curves, *artifacts):
        if file.is_file():
            whole.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    with open_experiment(source, tracking_uri, artifact_root) as experiment:
        client = experiment.client
        studies = experiment.study_runs()
        is_there = len(studies) == 1 and studies[0].data.tags.get("flipscale.digest") == whole.hexdigest()
        if is_there and not thoroughly:
            return Mirrored(0, 0, len(results), experiment.id), ""
        for study in studies:
            # Until everything is there, it must not say so.
            client.set_tag(study.info.run_id, "flipscale.digest", "")
        all_of_it = contents(results, read_curves(source.curves), source, all_points=all_points)
        done = _mirror_rows(experiment, all_of_it, models=models)
        times = milliseconds(results["started"].min()), milliseconds(results["finished"].max())
        study_run = _mirror_study(experiment, studies, artifacts, times)
        experiment.delete_lost()
        # The digest goes last: with it, all of the study is there.
        client.set_tag(study_run, "flipscale.digest", whole.hexdigest())
        return done, ", ".join(experiment.refused)


@contextmanager
def open_experiment(source: MirrorSource, tracking_uri: str, artifact_root: Path) -> Iterator["Experiment"]:
    """The study's experiment, to be written by nobody else meanwhile. Raises FlipscaleError if MLflow is away."""
    with _quietly(), _one_at_a_time(artifact_root), _saying_what_failed(tracking_uri):
        _make_store(tracking_uri)
        _knock(tracking_uri)
        client = MlflowClient(tracking_uri)
        experiment_id = _experiment_id(client, source, tracking_uri, artifact_root)
        yield Experiment(client, experiment_id, source, artifact_root)


# What MLflow has


def _make_store(tracking_uri: str) -> None:
    """Make a SQLite file that is missing beside its place and move it there: MLflow cannot mend a half-made one."""
    path = Path(tracking_uri.removeprefix("sqlite:///"))
    is_made = path.exists() and path.stat().st_size
    if is_made or not tracking_uri.startswith("sqlite:///") or not path.parent.is_dir():
        return
    new = path.with_name(f".{path.name}.new")
    for left in path.parent.glob(f"{new.name}*"):
        left.unlink()
    MlflowClient(f"sqlite:///{new}").search_experiments(max_results=1)
    new.replace(path)


def _knock(tracking_uri: str) -> None:
    """Raise at once where a database cannot be reached: MLflow would try 15 times, which took 100 s."""
    if tracking_uri.partition(":")[0].partition("+")[0] in _DATABASES:
        engine = create_engine(tracking_uri)
        try:
            engine.connect().close()
        finally:
            engine.dispose()


def _experiment_id(client: MlflowClient, source: MirrorSource, tracking_uri: str, artifact_root: Path) -> str:
    """The id of the study's experiment, which is created if missing."""
    study = source.study
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        # Without a location a database puts artifacts into ./mlruns of wherever the command happened to run.
        location = None if is_server(tracking_uri) else (artifact_root.absolute() / study).as_uri()
        try:
            return str(client.create_experiment(study, artifact_location=location, tags=_note_tags(source)))
        except MlflowException as error:
            # Another machine was quicker, or the answer to a first try was lost.
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or not (
                experiment := client.get_experiment_by_name(study)
            ):
                raise
    if experiment.lifecycle_stage != "active":
        raise FlipscaleError(
            f"MLflow: experiment {study!r} was deleted there. Bring it back with "
            f"`mlflow experiments restore --experiment-id {experiment.experiment_id}`, or rename the study."
        )
    return str(experiment.experiment_id)


def _note_tags(source: MirrorSource) -> dict[str, str]:
    """What MLflow shows above an experiment."""
    return {"mlflow.note.content": source.question} if source.question else {}


@dataclass(frozen=True)
class Experiment:
    """The study's experiment."""

    client: MlflowClient
    id: str
    source: MirrorSource
    artifact_root: Path
    refused: set[str] = field(default_factory=set)
    """Where MLflow wanted artifacts, outside of its store."""
    marks: dict[str, str] = field(default_factory=lambda: {"flipscale.writer": uuid.uuid4().hex})
    """Tags of each run and model that this mirroring creates, see `delete_lost`."""
    models: list[str] = field(default_factory=list)
    """The ids of the models that it created."""

    def keeps_at(self, location: str) -> bool:
        """Whether artifacts may go to this location of MLflow's; one that may not is noted."""
        may = may_hold(location, self.client.tracking_uri, self.artifact_root)
        if not may:
            self.refused.add(without_secrets(location))
        return may

    @property
    def study_key(self) -> str:
        return f"study {self.source.study}"  # a run id has no space

    def study_runs(self) -> list[Run]:
        """The study's own run; several where two machines made it at once."""
        return self._search(f"tags.`flipscale.id` = '{self.study_key}'")

    def runs(self) -> dict[str, list[Run]]:
        """All others by their flipscale id: read once, as one look-up by tag costs 50 ms."""
        found: dict[str, list[Run]] = {}
        for run in self._search(""):
            key = run.data.tags.get("flipscale.id")
            if key and key != self.study_key:
                found.setdefault(key, []).append(run)
        return found

    def _search(self, query: str) -> list[Run]:
        page = self.client.search_runs([self.id], query, max_results=1000)
        found = [*page]
        while page.token:
            page = self.client.search_runs([self.id], query, max_results=1000, page_token=page.token)
            found += page
        return found

    def delete_lost(self) -> None:
        """Delete the runs and models that MLflow created for this mirroring although their ids never arrived.

        MLflow's client repeats a call whose answer was lost, and creating a run twice makes two runs. All runs whose
        id arrived are FINISHED by now, so any that is still RUNNING is such a run.
        """
        ((tag, writer),) = self.marks.items()
        for run in self._search(f"attributes.status = 'RUNNING' and tags.`{tag}` = '{writer}'"):
            self.client.delete_run(run.info.run_id)
        self.delete_models(f"tags.`{tag}` = '{writer}'", but=self.models)

    def delete_models(self, query: str, but: Sequence[str] = ()) -> None:
        """Delete these models, but for some: MLflow would go on finding those of runs that are deleted."""
        page = self.client.search_logged_models([self.id], query, max_results=50)
        found = [*page]
        while page.token:
            page = self.client.search_logged_models([self.id], query, max_results=50, page_token=page.token)
            found += page
        for model in found:
            if model.model_id not in but:
                self.client.delete_logged_model(model.model_id)


# What is written


def _mirror_rows(experiment: Experiment, all_of_it: Iterable[Content], *, models: bool) -> Mirrored:
    """Write the runs of cells and rows that MLflow lacks or has with other content."""
    client, known = experiment.client, experiment.runs()
    ids: dict[str, str] = {}
    replaced: list[Run] = []
    counts = {"created": 0, "updated": 0, "unchanged": 0}
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(THREADS if is_server(client.tracking_uri) else 1) as pool:
        try:
            for content in all_of_it:
                old = known.pop(content.key, [])
                same = next((run for run in old if run.data.tags.get("flipscale.digest") == content.digest), None)
                parent = {"mlflow.parentRunId": ids[content.parent]} if content.parent else {}
                if same is None:
                    ids[content.key] = _create(experiment, content, parent)
                    waiting.append(pool.submit(_fill, experiment, ids[content.key], content))
                    if len(waiting) > AHEAD:
                        waiting.popleft().result()
                else:
                    ids[content.key] = same.info.run_id
                    _move(client, same, parent.get("mlflow.parentRunId"))
                replaced += [run for run in old if run is not same]
                if content.kind == "run":
                    counts["unchanged" if same else "updated" if old else "created"] += 1
            for writing in waiting:
                writing.result()
        finally:
            pool.shutdown(cancel_futures=True)
    # The old ones go last: if this is cut short, runs exist twice until the next time. Rows that are gone stay.
    left = [run for runs in known.values() for run in runs if run.data.tags.get("flipscale.kind") in ("cell", LIVE)]
    for run in [*replaced, *left]:
        client.delete_run(run.info.run_id)
        experiment.delete_models(f"source_run_id = '{run.info.run_id}'")
    if models and experiment.source.runs is not None:
        for key, run_id in ids.items():
            _mirror_model(experiment, experiment.source.runs / key, run_id)
    return Mirrored(counts["created"], counts["updated"], counts["unchanged"], experiment.id)


def _move(client: MlflowClient, run: Run, parent: str | None) -> None:
    before = run.data.tags.get("mlflow.parentRunId")
    if parent and before != parent:
        client.set_tag(run.info.run_id, "mlflow.parentRunId", parent)
    elif before and not parent:
        client.delete_tag(run.info.run_id, "mlflow.parentRunId")


def _create(experiment: Experiment, content: Content, parent: dict[str, str]) -> str:
    tags = {"flipscale.id": content.key, "flipscale.kind": content.kind, **content.tags, **parent, **experiment.marks}
    run = experiment.client.create_run(experiment.id, start_time=content.started, tags=tags, run_name=content.name)
    return str(run.info.run_id)


def _fill(experiment: Experiment, run_id: str, content: Content) -> None:
    """Write a run that was created: 6 calls with up to 900 points, 2 for a cell, and one for each 1,000 points more."""
    client = experiment.client
    model_id = _log_model(experiment, run_id, content) if content.finals else None
    metrics = []
    for number, (name, value, time, step) in enumerate(dict.fromkeys(content.points)):
        of_model = {"model_id": model_id} if model_id is not None and number < content.finals else {}
        if of_model and (used := content.tested_on.get(name)):
            of_model |= {"dataset_name": used.name, "dataset_digest": used.digest}
        metrics.append(Metric(name, value, time, step, **of_model))
    params = [Param(name, value) for name, value in content.params.items()]
    last = MLFLOW_BATCH - len(params) - 1
    for start in range(last, len(metrics), MLFLOW_BATCH):
        client.log_batch(run_id, metrics[start : start + MLFLOW_BATCH])
    client.set_terminated(run_id, "FINISHED", content.finished)
    if model_id is not None:
        client.finalize_logged_model(model_id, LoggedModelStatus.READY)
    # The digest comes with the last of it: a run that was cut short has none, and is written anew next time.
    client.log_batch(run_id, metrics[:last], params, [RunTag("flipscale.digest", content.digest)])


def _log_model(experiment: Experiment, run_id: str, content: Content) -> str:
    """Make the model of a run, and link it and the data sets to the run."""
    client = experiment.client
    kept = ("flipscale.study", "flipscale.cell", "mlflow.source.git.commit")
    tags = {name: content.tags[name] for name in kept if name in content.tags}
    model = client.create_logged_model(
        experiment.id,
        name=model_name(content.name),
        source_run_id=run_id,
        tags={"flipscale.id": content.key, **tags, **experiment.marks},
        params=dict(content.params),
        model_type="open_clip",
    )
    model_id = str(model.model_id)
    experiment.models.append(model_id)
    inputs = [_input(used) for used in content.data_sets]
    try:
        client.log_inputs(run_id, inputs)
    except MlflowException:
        # Two runs made the same data set at once, which MLflow refuses one of them; by now it is there.
        client.log_inputs(run_id, inputs)
    try:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, max(point.step for point in content.points))])
    except MlflowException:
        # MLflow refuses an output that is there: the answer to a first call was lost.
        if model_id not in _output_ids(client, run_id):
            raise
    return model_id


def _input(used: DataSetUsed) -> DatasetInput:
    # The kind of source is flipscale: its words are ours.
    data_set = Dataset(used.name, used.digest, "flipscale", used.about)
    return DatasetInput(data_set, [InputTag("mlflow.data.context", used.used_for)])


def _output_ids(client: MlflowClient, run_id: str) -> list[str]:
    """The models of a run."""
    outputs = client.get_run(run_id).outputs
    return [str(output.model_id) for output in outputs.model_outputs] if outputs else []


def _mirror_model(experiment: Experiment, folder: Path, run_id: str) -> None:
    """The run's weights as an artifact of its model, unless they are there; a run that has none is skipped."""
    weights, client = folder / WEIGHTS_FILE, experiment.client
    if not lies_in(weights, [folder]):
        return
    found = weights.stat()
    identity = f"{found.st_size}-{found.st_mtime_ns}"
    if client.get_run(run_id).data.tags.get("flipscale.model") == identity:
        return
    models = [client.get_logged_model(model_id) for model_id in _output_ids(client, run_id)]
    if all(experiment.keeps_at(str(model.artifact_location)) for model in models):
        for model in models:
            client.log_model_artifact(model.model_id, str(weights))
        client.set_tag(run_id, "flipscale.model", identity)


def _mirror_study(experiment: Experiment, old: Sequence[Run], artifacts: Sequence[Path], times: tuple[int, int]) -> str:
    """Write the study's own run, with its artifacts. Returns its id. It has no digest yet."""
    client, study = experiment.client, experiment.source.study
    if old:
        run, tags = old[0], old[0].data.tags
    else:
        tags = {"flipscale.id": experiment.study_key, "flipscale.kind": "study", "flipscale.study": study}
        tags |= {**_note_tags(experiment.source), **experiment.source.source_tags, **experiment.marks}
        run = client.create_run(experiment.id, start_time=times[0], tags=tags, run_name=study)
        tags = {}
    run_id = str(run.info.run_id)
    for other in old[1:]:
        client.delete_run(other.info.run_id)
    digest = hashlib.sha256()
    for file in artifacts:
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    if tags.get("flipscale.files") != digest.hexdigest() and experiment.keeps_at(str(run.info.artifact_uri)):
        for file in artifacts:
            client.log_artifact(run_id, str(file))
        client.set_tag(run_id, "flipscale.files", digest.hexdigest())
    if experiment.source.code:
        client.set_tag(run_id, CODE_DIFFERS, experiment.source.code)
    elif CODE_DIFFERS in tags:
        client.delete_tag(run_id, CODE_DIFFERS)
    client.set_terminated(run_id, "FINISHED", times[1])
    return run_id


# How it is done


@contextmanager
def _one_at_a_time(artifact_root: Path) -> Iterator[None]:
    try:
        artifact_root.mkdir(parents=True, exist_ok=True)
        lock = open(artifact_root / "mirror.lock", "ab", opener=plain_file)  # noqa: SIM115  it is closed by the with below
    except OSError as error:
        raise FlipscaleError(f"{artifact_root}: MLflow's artifacts cannot be kept there ({error.strerror}).") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _quietly() -> Iterator[None]:
    """MLflow and alembic log every table they make; what matters is raised."""
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
    except ModuleNotFoundError as error:  # the driver of the address's database
        raise FlipscaleError(missing_package(error.name or str(error))) from None
    except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
        address = without_secrets(tracking_uri)
        reason = without_secrets(str(error), tracking_uri).strip().partition("\n")[0].rstrip(".")
        # The error's message contains the address, and a handler of ours may print its cause.
        raise FlipscaleError(
            f"MLflow at {address} cannot be reached, or refused the request: {reason}. The results on disk are "
            "complete; check the tracking address and collect again."
        ) from None
