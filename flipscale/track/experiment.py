"""Bringing an experiment up to date: its content, its missing runs, and its changed ones.

MLflow cannot change a parameter, and keeps an old point beside a new one at the same step. A changed run is therefore
written anew and the old one deleted there: it can be restored in MLflow, and never exists twice.
"""

import fcntl
import hashlib
import logging
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

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
from requests.exceptions import RequestException
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from flipscale.collect import read_results
from flipscale.collect.curves import open_curves
from flipscale.errors import FlipscaleError, missing_package
from flipscale.guard import plain_file
from flipscale.run import WEIGHTS_FILE
from flipscale.track.address import is_server, may_hold, without_secrets
from flipscale.track.content import MOST_CURVE_POINTS, Content, contents
from flipscale.track.last_mirror import MIRROR_VERSION
from flipscale.track.models import delete_lost_models, delete_models_of, output_ids
from flipscale.track.rows import milliseconds
from flipscale.track.source import MirrorOptions, MirrorSource, lies_in
from flipscale.track.writing import THREADS, ByBatches, Writer

_DATABASES = ("postgresql", "mysql", "sqlite", "mssql")
"""Databases that MLflow can be: what an address begins with."""


LIVE = "live"
"""The kind of a run that was written while it ran: collecting writes it anew, as a run (live.py)."""

CODE_DIFFERS = "flipscale.code_differs"
"""Tag of the study's run: how many of its runs were trained by other code than today's."""


@dataclass(frozen=True)
class UpToDate:
    """The changes, in runs, and the present content of MLflow."""

    created: int
    updated: int
    unchanged: int
    experiment_id: str
    study_run: str
    """The id of the study's run."""
    digest: str
    """Its tag `flipscale.digest`."""
    refused: str = ""
    """Where MLflow wanted artifacts that were not sent there."""


def bring_up_to_date(
    source: MirrorSource, artifacts: Sequence[Path], tracking_uri: str, artifact_root: Path, options: MirrorOptions
) -> UpToDate | None:
    """See `flipscale.track.mirror`. None where there is no row to mirror."""
    results = read_results(source.results)
    if results.empty:
        return None
    whole = _digest_of_all(source, artifacts, options)
    with open_experiment(source, tracking_uri, artifact_root) as experiment:
        client = experiment.client
        studies = experiment.study_runs()
        if not options.thoroughly and len(studies) == 1 and studies[0].data.tags.get("flipscale.digest") == whole:
            return UpToDate(0, 0, len(results), experiment.id, studies[0].info.run_id, whole)
        for study in studies:
            # Until everything is there, it must not say so.
            client.set_tag(study.info.run_id, "flipscale.digest", "")
        rows = _mirror_rows(experiment, results, options)
        times = milliseconds(results["started"].min()), milliseconds(results["finished"].max())
        study_run = _mirror_study(experiment, studies, artifacts, times)
        experiment.delete_lost_runs()
        # The digest goes last: with it, all of the study is there.
        client.set_tag(study_run, "flipscale.digest", whole)
        return UpToDate(
            rows.created, rows.updated, rows.unchanged, experiment.id, study_run, whole, ", ".join(experiment.refused)
        )


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
class _MirroredRun:
    """A run that MLflow has."""

    run_id: str
    kind: str | None
    digest: str | None
    parent: str | None
    model: str | None


@dataclass(frozen=True)
class Experiment:
    """The study's experiment."""

    client: MlflowClient
    id: str
    source: MirrorSource
    artifact_root: Path
    refused: set[str] = field(default_factory=set)
    """Where MLflow wanted artifacts, outside of its store."""
    writer: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Names this mirroring, see `delete_lost_runs`."""

    def keeps_at(self, location: str) -> bool:
        """Whether artifacts may go to this location of MLflow's; one that may not is noted."""
        may = may_hold(location, self.client.tracking_uri, self.artifact_root)
        if not may:
            self.refused.add(without_secrets(location))
        return may

    @property
    def marks(self) -> Mapping[str, str]:
        """Tags of each run that this mirroring creates through MLflow's client."""
        return {"flipscale.writer": self.writer}

    @property
    def study_key(self) -> str:
        return f"study {self.source.study}"  # a run id has no space

    def study_runs(self) -> Sequence[Run]:
        """The study's own run; several where two machines made it at once."""
        found: Sequence[Run] = self.client.search_runs(
            [self.id], f"tags.`flipscale.id` = '{self.study_key}'", max_results=10
        )
        return found

    def runs(self) -> dict[str, list[_MirroredRun]]:
        """All others by their flipscale id: read once, as one look-up by tag costs 50 ms."""
        found: dict[str, list[_MirroredRun]] = {}
        for run in self._all_runs():
            tags = run.data.tags
            key = tags.get("flipscale.id")
            if key and key != self.study_key:
                kind, digest, model = (tags.get(f"flipscale.{name}") for name in ("kind", "digest", "model"))
                parent = tags.get("mlflow.parentRunId")
                found.setdefault(key, []).append(_MirroredRun(run.info.run_id, kind, digest, parent, model))
        return found

    def _all_runs(self) -> Iterator[Run]:
        token = None
        while True:
            page = self.client.search_runs(
                [self.id], run_view_type=ViewType.ACTIVE_ONLY, max_results=1000, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def delete_lost_runs(self) -> None:
        """Delete the runs that MLflow created for this mirroring although their ids never arrived.

        MLflow's client repeats a call whose answer was lost, and creating a run twice makes two runs. All runs whose
        id arrived are FINISHED by now, so any that is still RUNNING is such a run.
        """
        query = f"attributes.status = 'RUNNING' and tags.`flipscale.writer` = '{self.writer}'"
        for run in self.client.search_runs([self.id], query, run_view_type=ViewType.ACTIVE_ONLY):
            self.client.delete_run(run.info.run_id)


# What is written


def _mirror_rows(experiment: Experiment, results: pd.DataFrame, options: MirrorOptions) -> "_RowMirror":
    """Write the runs of cells and rows that MLflow lacks or has with other content."""
    source, client = experiment.source, experiment.client
    with ExitStack() as stack:
        writer = stack.enter_context(closing(_writer(experiment)))
        curves = stack.enter_context(open_curves(source.curves)) if source.curves.exists() else None
        rows = _RowMirror(client, writer, experiment.runs())
        for content in contents(results, curves, about=source.about, all_points=options.all_points):
            rows.bring(content)
        writer.flush()
        if writer.models:
            delete_lost_models(client, experiment.id, experiment.marks, writer.models)
    # The old ones go last: if this is cut short, runs exist twice until the next time.
    superfluous = list(rows.superfluous())
    for run_id in superfluous:
        client.delete_run(run_id)
    delete_models_of(client, experiment.id, superfluous)
    if options.models and source.runs is not None:
        for key, model in rows.models.items():
            _mirror_model(experiment, source.runs / key, rows.run_ids[key], model)
    return rows


def _writer(experiment: Experiment) -> Writer:
    """The fastest writer available."""
    client = experiment.client
    if is_server(client.tracking_uri):
        return ByBatches(client, experiment.id, threads=THREADS, marks=experiment.marks)
    # A client of a server needs no database, and this import loads one's code.
    from flipscale.track.tables import by_tables

    return by_tables(client, experiment.id) or ByBatches(client, experiment.id, 1, experiment.marks)


@dataclass
class _RowMirror:
    """Goes through what MLflow is to have, and writes what it lacks."""

    client: MlflowClient
    writer: Writer
    known: dict[str, list[_MirroredRun]]
    """What MLflow has and has not been matched yet, by key."""
    run_ids: dict[str, str] = field(default_factory=dict)
    """Key to the id of its run in MLflow."""
    models: dict[str, str | None] = field(default_factory=dict)
    """By the key of each row, which of its weights MLflow has."""
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    _replaced: list[str] = field(default_factory=list)

    def bring(self, content: Content) -> None:
        """Have MLflow hold this run, under its parent."""
        parent_id = self.run_ids.get(content.parent or "")
        old = self.known.pop(content.key, [])
        same = next((run for run in old if run.digest == content.digest), None)
        if same is None:
            self.run_ids[content.key] = self.writer.add(content, parent_id)
        else:
            self.run_ids[content.key] = same.run_id
            self._move(same, parent_id)
        self._replaced += [run.run_id for run in old if run is not same]
        if content.kind == "run":
            self.models[content.key] = same.model if same else None
            self._count(same is not None, bool(old))

    def _move(self, run: _MirroredRun, parent_id: str | None) -> None:
        if parent_id and run.parent != parent_id:
            self.client.set_tag(run.run_id, "mlflow.parentRunId", parent_id)
        elif run.parent and not parent_id:
            self.client.delete_tag(run.run_id, "mlflow.parentRunId")

    def _count(self, same: bool, had_one: bool) -> None:
        if same:
            self.unchanged += 1
        elif had_one:
            self.updated += 1
        else:
            self.created += 1

    def superfluous(self) -> Iterable[str]:
        """Runs that others have replaced, cells without a row, and what was written while runs ran.

        Rows that are gone stay.
        """
        yield from self._replaced
        yield from (run.run_id for runs in self.known.values() for run in runs if run.kind in ("cell", LIVE))


def _mirror_model(experiment: Experiment, folder: Path, run_id: str, known: str | None) -> None:
    """The run's weights as an artifact of its model, unless they are there; a run that has none is skipped."""
    weights = folder / WEIGHTS_FILE
    if not lies_in(weights, [folder]):
        return
    found = weights.stat()
    identity = f"{found.st_size}-{found.st_mtime_ns}"
    if known == identity:
        return
    client = experiment.client
    models = [client.get_logged_model(model_id) for model_id in output_ids(client, run_id)]
    if not all(experiment.keeps_at(str(model.artifact_location)) for model in models):
        return
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
        tags |= {**_note_tags(experiment.source), **experiment.source.about.source_tags, **experiment.marks}
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


def _digest_of_all(source: MirrorSource, artifacts: Sequence[Path], options: MirrorOptions) -> str:
    """Digest of everything that is mirrored for the study."""
    facts = [MIRROR_VERSION, MOST_CURVE_POINTS, options.all_points, options.models]
    digest = hashlib.sha256(repr([*facts, *source.facts]).encode())
    for file in (source.results, source.curves, *artifacts):
        if file.is_file():
            digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


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
