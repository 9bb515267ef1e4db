"""Writing runs straight into the tables of MLflow's database, if it is accessible.

It writes several times as many values a second as MLflow's client, and a run exists whole or not at all. The tables are
not a public interface of MLflow. Only versions of MLflow with known tables are therefore written this way, and only if
the tables are as expected; in all other cases the client writes the same content.
"""

import importlib
import itertools
import re
import uuid
from collections.abc import Sequence
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from sqlalchemy import insert, inspect

from flipscale.track.content import Content, DataSetUsed
from flipscale.track.models import CONTEXT_TAG, DATA_SET_SOURCE, MODEL_TYPE, model_tags
from flipscale.track.rows import model_name
from flipscale.track.writing import tags_of

OLDEST, NEWEST = (3, 11), (3, 18)
"""Versions of MLflow whose tables are known. tests/test_track_tables.py asks pip for newer ones."""

RUNS_AT_ONCE, VALUES_AT_ONCE = 100, 50_000
"""The most runs of one transaction, and about the most values."""

_COLUMNS_KNOWN = {
    "SqlRun": (
        "run_uuid name source_type source_name entry_point_name user_id status start_time end_time deleted_time "
        "source_version lifecycle_stage artifact_uri experiment_id"
    ),
    "SqlTag": "key value run_uuid",
    "SqlParam": "key value run_uuid",
    "SqlMetric": "key value timestamp step is_nan run_uuid",
    "SqlLatestMetric": "key value timestamp step is_nan run_uuid",
    "SqlLoggedModel": (
        "model_id experiment_id name artifact_location creation_timestamp_ms last_updated_timestamp_ms status "
        "lifecycle_stage model_type source_run_id status_message"
    ),
    "SqlLoggedModelParam": "model_id experiment_id param_key param_value",
    "SqlLoggedModelTag": "model_id experiment_id tag_key tag_value",
    "SqlLoggedModelMetric": (
        "model_id metric_name metric_timestamp_ms metric_step metric_value experiment_id run_id dataset_uuid "
        "dataset_name dataset_digest"
    ),
    "SqlDataset": (
        "dataset_uuid experiment_id name digest dataset_source_type dataset_source dataset_schema dataset_profile"
    ),
    "SqlInput": "input_uuid source_type source_id destination_type destination_id step",
    "SqlInputTag": "input_uuid name value",
}
"""The columns of the tables that are written, by the names of MLflow's classes for them."""

Table = dict[str, object]
"""A row of a table: values by column."""


def by_tables(client: MlflowClient, experiment_id: str) -> "ByTables | None":
    """The writer into the client's database; None where `why_not` has a reason."""
    return None if why_not(client) else ByTables(client, experiment_id)


def why_not(client: MlflowClient) -> str:
    """Why the client has to write; '' where the tables of this MLflow are known, and are as expected."""
    return unknown_version() or changed_tables(client)


def unknown_version() -> str:
    numbers = tuple(int(number) for number in re.findall(r"\d+", mlflow.__version__)[:2])
    return "" if OLDEST <= numbers <= NEWEST else f"the tables of MLflow {mlflow.__version__} are not known"


def changed_tables(client: MlflowClient) -> str:
    """The differences of the client's database from the known one, whatever the version of MLflow."""
    try:
        if not isinstance(_store(client), _private("store.tracking.sqlalchemy_store").SqlAlchemyStore):
            return "no database is at hand"
        models = _private("store.tracking.dbmodels.models")
        for name, words in _COLUMNS_KNOWN.items():
            columns = {column.name for column in inspect(getattr(models, name)).columns}
            if different := columns ^ set(words.split()):
                return f"{name} has other columns: {', '.join(sorted(different))}"
    except (ImportError, AttributeError) as error:
        return f"MLflow {mlflow.__version__} is built differently: {error}"
    return ""


def _private(module: str) -> Any:
    """A module of MLflow that is not a public interface: it is imported where it is used, as it may be gone."""
    return importlib.import_module(f"mlflow.{module}")


def _store(client: MlflowClient) -> Any:
    return client._tracking_client.store


class ByTables:
    """Into the tables of MLflow's database, many runs in one transaction."""

    def __init__(self, client: MlflowClient, experiment_id: str):
        self.store, self.experiment_id = _store(client), experiment_id
        self.location = str(client.get_experiment(experiment_id).artifact_location)
        self._rows: dict[str, list[Table]] = {name: [] for name in _COLUMNS_KNOWN}
        self._data_sets = self._known_data_sets()
        self.models: Sequence[str] = ()

    def add(self, content: Content, parent_id: str | None) -> str:
        run_id = uuid.uuid4().hex
        artifacts = _private("utils.uri").append_to_uri_path(self.location, run_id, "artifacts")
        self._rows["SqlRun"].append(
            {
                "run_uuid": run_id,
                "name": content.name,
                "source_type": "UNKNOWN",
                "source_name": "",
                "entry_point_name": "",
                "user_id": content.user or "unknown",
                "status": "FINISHED",
                "start_time": content.started,
                "end_time": content.finished,
                "deleted_time": None,
                "source_version": "",
                "lifecycle_stage": "active",
                "artifact_uri": artifacts,
                "experiment_id": int(self.experiment_id),
            }
        )
        tags = {**tags_of(content, parent_id), "mlflow.runName": content.name, "flipscale.digest": content.digest}
        for name, words in (("SqlTag", tags), ("SqlParam", content.params)):
            self._rows[name] += [{"key": key, "value": value, "run_uuid": run_id} for key, value in words.items()]
        latest: dict[str, tuple[int, int, float]] = {}
        # A table takes no two equal points.
        for name, value, time, step in dict.fromkeys(content.points.rows()):
            self._rows["SqlMetric"].append(_metric(run_id, name, value, time, step))
            latest[name] = max(latest.get(name, (step, time, value)), (step, time, value))
        self._rows["SqlLatestMetric"] += [
            _metric(run_id, name, value, time, step) for name, (step, time, value) in latest.items()
        ]
        if content.finals:
            self._add_model(run_id, content)
        if len(self._rows["SqlRun"]) >= RUNS_AT_ONCE or len(self._rows["SqlMetric"]) >= VALUES_AT_ONCE:
            self.flush()
        return run_id

    def _add_model(self, run_id: str, content: Content) -> None:
        """The run's model with its parameters and results, and the data sets that the run used."""
        model_id, experiment_id = f"m-{uuid.uuid4().hex}", int(self.experiment_id)
        models = (self.location, "models", model_id, "artifacts")
        self._rows["SqlLoggedModel"].append(
            {
                "model_id": model_id,
                "experiment_id": experiment_id,
                "name": model_name(content.name),
                "artifact_location": _private("utils.uri").append_to_uri_path(*models),
                "creation_timestamp_ms": content.finished,
                "last_updated_timestamp_ms": content.finished,
                "status": LoggedModelStatus.READY.to_int(),
                "lifecycle_stage": "active",
                "model_type": MODEL_TYPE,
                "source_run_id": run_id,
                "status_message": None,
            }
        )
        of_model: Table = {"model_id": model_id, "experiment_id": experiment_id}
        self._rows["SqlLoggedModelParam"] += [
            {**of_model, "param_key": name, "param_value": value} for name, value in content.params.items()
        ]
        self._rows["SqlLoggedModelTag"] += [
            {**of_model, "tag_key": name, "tag_value": value} for name, value in model_tags(content).items()
        ]
        for name, value, time, step in itertools.islice(content.points.rows(), content.finals):
            used = content.tested_on.get(name)
            self._rows["SqlLoggedModelMetric"].append(
                {
                    **of_model,
                    "metric_name": name,
                    "metric_timestamp_ms": time,
                    "metric_step": step,
                    "metric_value": value,
                    "run_id": run_id,
                    "dataset_uuid": None,
                    "dataset_name": used.name if used else None,
                    "dataset_digest": used.digest if used else None,
                }
            )
        self._add_input("RUN_OUTPUT", run_id, "MODEL_OUTPUT", model_id, content.points.last_step)
        for used in content.data_sets:
            input_id = self._add_input("DATASET", self._data_set(used), "RUN", run_id)
            self._rows["SqlInputTag"].append({"input_uuid": input_id, "name": CONTEXT_TAG, "value": used.used_for})

    def _add_input(self, source_type: str, source: str, destination_type: str, destination: str, step: int = 0) -> str:
        input_id = uuid.uuid4().hex
        self._rows["SqlInput"].append(
            {
                "input_uuid": input_id,
                "source_type": source_type,
                "source_id": source,
                "destination_type": destination_type,
                "destination_id": destination,
                "step": step,
            }
        )
        return input_id

    def _known_data_sets(self) -> dict[tuple[str, str], str]:
        """The ids of the experiment's data sets, by name and digest."""
        data_set = _private("store.tracking.dbmodels.models").SqlDataset
        with self.store.ManagedSessionMaker(read_only=True) as session:
            found = session.query(data_set).filter(data_set.experiment_id == int(self.experiment_id)).all()
            return {(str(found_set.name), str(found_set.digest)): str(found_set.dataset_uuid) for found_set in found}

    def _data_set(self, used: DataSetUsed) -> str:
        """The id of a data set, which is made where the experiment has none."""
        key = (used.name, used.digest)
        if key not in self._data_sets:
            self._data_sets[key] = uuid.uuid4().hex
            self._rows["SqlDataset"].append(
                {
                    "dataset_uuid": self._data_sets[key],
                    "experiment_id": int(self.experiment_id),
                    "name": used.name,
                    "digest": used.digest,
                    "dataset_source_type": DATA_SET_SOURCE,
                    "dataset_source": used.about,
                    "dataset_schema": None,
                    "dataset_profile": None,
                }
            )
        return self._data_sets[key]

    def flush(self) -> None:
        models = _private("store.tracking.dbmodels.models")
        with self.store.ManagedSessionMaker(read_only=False) as session:
            for name, rows in self._rows.items():
                if rows:
                    session.execute(insert(getattr(models, name)), rows)
        for rows in self._rows.values():
            rows.clear()

    def close(self) -> None:
        """Nothing is under way."""


def _metric(run_id: str, name: str, value: float, time: int, step: int) -> Table:
    return {"key": name, "value": value, "timestamp": time, "step": step, "is_nan": False, "run_uuid": run_id}
