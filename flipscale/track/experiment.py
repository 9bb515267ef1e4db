"""Bringing an experiment up to date: its content, its missing runs, and its changed ones.

MLflow cannot change a parameter, and keeps an old point beside a new one at the same step. A changed run is therefore
written anew and the old one deleted there: it can be restored in MLflow, and never exists twice.

Each run has a model, an entry with its parameters and results, to which its weights are added by choice: MLflow ranks
models by a score. MLflow reads all points of a model each time, so curves stay with the run.
"""

import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
from flipscale.guard import is_name, is_plain, locked, make_folder
from flipscale.run import WEIGHTS_FILE, copy
from flipscale.track.address import is_server, may_hold, without_secrets
from flipscale.track.content import Content, DataSetUsed, contents
from flipscale.track.rows import milliseconds, model_name
from flipscale.track.source import Mirrored, MirrorSource

_DATABASES = ("postgresql", "mysql", "sqlite", "mssql")
"""Databases that MLflow can be: what an address begins with."""

MLFLOW_BATCH = 1000
"""Metrics, parameters and tags in one call; MLflow refuses more."""

LIVE = "live"
"""The kind of a run that was written while it ran: collecting writes it anew, as a run (live.py)."""

CODE_DIFFERS = "flipscale.code_differs"
"""Tag of the study's run: how many of its runs were trained by other code than today's."""


def bring_up_to_date(
    source: MirrorSource,
    artifacts: Sequence[Path],
    digest: str,
    tracking_uri: str,
    artifact_root: Path,
    *,
    all_points: bool,
    models: bool,
    thoroughly: bool,
) -> tuple[Mirrored, str]:
    """See `flipscale.track.mirror`. Also returns where MLflow wanted artifacts that were not sent there.

    digest: of all that is to be there.
    """
    results = read_results(source.results)
    if results.empty:
        return Mirrored(0, 0, 0, None), ""
    with open_experiment(source, tracking_uri, artifact_root) as experiment:
        client = experiment.client
        studies = experiment.study_runs()
        is_there = len(studies) == 1 and studies[0].data.tags.get("flipscale.digest") == digest
        if is_there and not thoroughly:
            return Mirrored(0, 0, len(results), experiment.id), ""
        for study in studies:
            # Until everything is there, it must not say so.
            client.set_tag(study.info.run_id, "flipscale.digest", "")
        all_of_it = contents(results, read_curves(source.curves), source, all_points=all_points)
        ids, counts = _mirror_rows(experiment, all_of_it)
        if models and source.runs is not None:
            for key, run_id in ids.items():
                _mirror_model(experiment, source.runs / key, run_id)
        times = milliseconds(results["started"].min()), milliseconds(results["finished"].max())
        ids[experiment.study_key] = _mirror_study(experiment, studies, artifacts, times)
        experiment.sweep(ids)
        # The digest goes last: with it, all of the study is there.
        client.set_tag(ids[experiment.study_key], "flipscale.digest", digest)
        done = Mirrored(counts["created"], counts["updated"], counts["unchanged"], experiment.id)
        return done, ", ".join(experiment.refused)


@contextmanager
def open_experiment(source: MirrorSource, tracking_uri: str, artifact_root: Path) -> Iterator["Experiment"]:
    """The study's experiment, to be written by nobody else meanwhile. Raises FlipscaleError if MLflow is away."""
    for name in ("mlflow", "alembic"):  # They log every table they make; what matters is raised.
        logging.getLogger(name).setLevel(logging.ERROR)
    with ExitStack() as stack:
        try:
            make_folder(artifact_root)
            stack.enter_context(locked(artifact_root / "mirror.lock"))
        except OSError as error:
            raise FlipscaleError(
                f"{artifact_root}: MLflow's artifacts cannot be kept there ({error.strerror})."
            ) from error
        stack.enter_context(_saying_what_failed(tracking_uri))
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
        location = None if is_server(tracking_uri) else (artifact_root.resolve() / study).as_uri()
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

    def keep(self, files: Sequence[Path], location: str, place: Sequence[str], upload: Callable[[str], None]) -> bool:
        """Put files where MLflow keeps those of a run or a model. False where it names a location that it should not,
        which is noted.

        place: where they are below the study's folder, in a database. upload: sends one to a server.
        """
        uri = self.client.tracking_uri
        root = self.artifact_root.resolve()
        folder = root.joinpath(self.source.study, *place)
        if not (all(map(is_name, place)) and may_hold(location, uri, folder)):
            self.refused.add(without_secrets(location))
            return False
        for file in files:
            if is_server(uri):
                upload(str(file))
            else:
                make_folder(folder, root)
                copy(file, folder / file.name)
        return True

    @property
    def study_key(self) -> str:
        return f"study {self.source.study}"  # a run id has no space

    def study_runs(self) -> list[Run]:
        """The study's own run; several where two machines made it at once."""
        return list(_all_of(self.client.search_runs, [self.id], f"tags.`flipscale.id` = '{self.study_key}'"))

    def runs(self) -> dict[str, list[Run]]:
        """All runs by their flipscale id: read once, as one look-up by tag costs 50 ms."""
        by_key: dict[str, list[Run]] = {}
        for run in _all_of(self.client.search_runs, [self.id], max_results=1000):
            if key := run.data.tags.get("flipscale.id"):
                by_key.setdefault(key, []).append(run)
        return by_key

    def sweep(self, ids: Mapping[str, str]) -> None:
        """Delete what stands beside the runs of these ids, by flipscale id: runs that they replace, what is left of
        cells and live curves, and what MLflow made twice, as its client repeats a call whose answer was lost. Models go
        with their runs. Rows that are gone stay."""
        kept = set()
        for key, runs in self.runs().items():
            wanted = ids.get(key)
            here = [run.info.run_id for run in runs]
            for run in runs:
                is_left = wanted is None and run.data.tags.get("flipscale.kind") in ("cell", LIVE)
                # Where another machine has deleted ours, its own is the one to keep.
                if is_left or (wanted in here and wanted != run.info.run_id):
                    self.client.delete_run(run.info.run_id)
                else:
                    kept.add(run.info.run_id)
        for model in list(_all_of(self.client.search_logged_models, [self.id])):
            is_whole = model.source_run_id in kept and model.status == LoggedModelStatus.READY
            if "flipscale.id" in model.tags and not is_whole:
                self.client.delete_logged_model(model.model_id)


def _all_of(search: Callable[..., Any], *given: Any, **more: Any) -> Iterator[Any]:
    """What a search finds, page by page."""
    token = None
    while token != "":
        page = search(*given, page_token=token, **more)
        yield from page
        token = page.token or ""


# What is written


def _mirror_rows(experiment: Experiment, all_of_it: Iterable[Content]) -> tuple[dict[str, str], dict[str, int]]:
    """Write the runs of cells and rows that MLflow lacks or has with other content. Returns the ids in MLflow, and how
    many rows were created, updated and unchanged."""
    known = experiment.runs()
    ids: dict[str, str] = {}
    counts = {"created": 0, "updated": 0, "unchanged": 0}
    for content in all_of_it:
        old = known.get(content.key, [])
        same = next((run for run in old if run.data.tags.get("flipscale.digest") == content.digest), None)
        parent = {"mlflow.parentRunId": ids[content.parent]} if content.parent else {}
        if same is None:
            ids[content.key] = _create(experiment, content, parent)
            _fill(experiment, ids[content.key], content)
        else:
            ids[content.key] = same.info.run_id
            _move(experiment.client, same, parent.get("mlflow.parentRunId"))
        if content.kind == "run":
            counts["unchanged" if same else "updated" if old else "created"] += 1
    return ids, counts


def _move(client: MlflowClient, run: Run, parent: str | None) -> None:
    before = run.data.tags.get("mlflow.parentRunId")
    if parent and before != parent:
        client.set_tag(run.info.run_id, "mlflow.parentRunId", parent)
    elif before and not parent:
        client.delete_tag(run.info.run_id, "mlflow.parentRunId")


def _create(experiment: Experiment, content: Content, parent: dict[str, str]) -> str:
    tags = {"flipscale.id": content.key, "flipscale.kind": content.kind, **content.tags, **parent}
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
        tags={"flipscale.id": content.key, **tags},
        params=dict(content.params),
        model_type="open_clip",
    )
    model_id = str(model.model_id)
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
    weights = folder / WEIGHTS_FILE
    client = experiment.client
    if not is_plain(weights):
        return
    stat = weights.stat()
    identity = f"{stat.st_size}-{stat.st_mtime_ns}"
    if client.get_run(run_id).data.tags.get("flipscale.model") == identity:
        return
    models = [client.get_logged_model(model_id) for model_id in _output_ids(client, run_id)]
    kept = [
        experiment.keep(
            [weights],
            str(model.artifact_location),
            ("models", model.model_id, "artifacts"),
            functools.partial(client.log_model_artifact, model.model_id),
        )
        for model in models
    ]
    if all(kept):
        client.set_tag(run_id, "flipscale.model", identity)


def _mirror_study(experiment: Experiment, old: Sequence[Run], artifacts: Sequence[Path], times: tuple[int, int]) -> str:
    """Write the study's own run, with its artifacts. Returns its id. It has no digest yet."""
    client = experiment.client
    source = experiment.source
    if old:
        run = old[0]
    else:
        tags = {"flipscale.id": experiment.study_key, "flipscale.kind": "study", "flipscale.study": source.study}
        tags |= _note_tags(source) | source.source_tags
        run = client.create_run(experiment.id, start_time=times[0], tags=tags, run_name=source.study)
    run_id = str(run.info.run_id)
    upload = functools.partial(client.log_artifact, run_id)
    if artifacts:
        experiment.keep(artifacts, str(run.info.artifact_uri), (run_id, "artifacts"), upload)
    if source.code:
        client.set_tag(run_id, CODE_DIFFERS, source.code)
    elif CODE_DIFFERS in run.data.tags:
        client.delete_tag(run_id, CODE_DIFFERS)
    client.set_terminated(run_id, "FINISHED", times[1])
    return run_id


@contextmanager
def _saying_what_failed(tracking_uri: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:  # the driver of the address's database
        raise FlipscaleError(missing_package(error.name or str(error))) from None
    except (MlflowException, RequestException, SQLAlchemyError, OSError, ValueError, OverflowError) as error:
        address = without_secrets(tracking_uri)
        reason = without_secrets(str(error), tracking_uri).strip().partition("\n")[0].rstrip(".")
        # The error's message contains the address, and a handler of ours may print its cause.
        raise FlipscaleError(
            f"MLflow at {address} cannot be reached, or refused the request: {reason}. The results on disk are "
            "complete; check the tracking address and collect again."
        ) from None
