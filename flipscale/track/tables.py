"""Writing runs straight into the tables of MLflow's database, where that is at hand.

It takes several times as many values a second as MLflow's client, and a run is there whole or not at all. The tables
are no public interface of MLflow. So only versions of MLflow are written this way whose tables are known here, and only
where they are found as they are known; in all other cases it is the client that writes, and MLflow gets the same.
"""

import importlib
import re
import uuid
from typing import Any

import mlflow
from mlflow import MlflowClient
from sqlalchemy import insert, inspect

from flipscale.track.content import Content
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
}
"""The columns of the tables that are written, by the names of MLflow's classes for them."""

Table = dict[str, object]
"""A row of a table: values by column."""


def by_tables(client: MlflowClient, experiment_id: str) -> "ByTables | None":
    """The writer into the client's database; None where `why_not` has a reason."""
    return None if why_not(client) else ByTables(client, experiment_id)


def why_not(client: MlflowClient) -> str:
    """Why the client has to write; '' where the tables of this MLflow are known, and as they are known."""
    return unknown_version() or changed_tables(client)


def unknown_version() -> str:
    numbers = tuple(int(number) for number in re.findall(r"\d+", mlflow.__version__)[:2])
    return "" if OLDEST <= numbers <= NEWEST else f"the tables of MLflow {mlflow.__version__} are not known"


def changed_tables(client: MlflowClient) -> str:
    """What is not as it is known of the client's database, whatever the version of MLflow."""
    try:
        if not isinstance(_store(client), _private("store.tracking.sqlalchemy_store").SqlAlchemyStore):
            return "no database is at hand"
        models = _private("store.tracking.dbmodels.models")
        for name, words in _COLUMNS_KNOWN.items():
            columns = {column.name for column in inspect(getattr(models, name)).columns}
            if different := columns ^ set(words.split()):
                return f"{name} has other columns: {', '.join(sorted(different))}"
    except (ImportError, AttributeError) as error:
        return f"MLflow {mlflow.__version__} is built otherwise: {error}"
    return ""


def _private(module: str) -> Any:
    """A module of MLflow that is no public interface: it is imported where it is used, as it may be gone."""
    return importlib.import_module(f"mlflow.{module}")


def _store(client: MlflowClient) -> Any:
    return client._tracking_client.store


class ByTables:
    """Into the tables of MLflow's database, many runs in one transaction."""

    def __init__(self, client: MlflowClient, experiment_id: str):
        self.store, self.experiment_id = _store(client), experiment_id
        self.location = str(client.get_experiment(experiment_id).artifact_location)
        self._rows: dict[str, list[Table]] = {name: [] for name in _COLUMNS_KNOWN}

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
                "user_id": "unknown",
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
        if len(self._rows["SqlRun"]) >= RUNS_AT_ONCE or len(self._rows["SqlMetric"]) >= VALUES_AT_ONCE:
            self.flush()
        return run_id

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
