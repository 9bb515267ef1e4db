"""Writing runs straight into the tables of MLflow's database, where that is at hand.

It takes several times as many values a second as MLflow's client, and a run is there whole or not at all. The tables
are no public interface: where they are not as they are known here, it is the client that writes.
"""

import uuid
from typing import Any

from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.uri import append_to_uri_path
from sqlalchemy import insert, inspect

from flipscale.track.content import Content
from flipscale.track.writing import tags_of

RUNS, VALUES = 100, 50_000
"""A transaction has at most so many runs, and not many more values than this."""

_KNOWN: dict[Any, str] = {
    SqlRun: (
        "run_uuid name source_type source_name entry_point_name user_id status start_time end_time deleted_time "
        "source_version lifecycle_stage artifact_uri experiment_id"
    ),
    SqlTag: "key value run_uuid",
    SqlParam: "key value run_uuid",
    SqlMetric: "key value timestamp step is_nan run_uuid",
    SqlLatestMetric: "key value timestamp step is_nan run_uuid",
}
"""The columns of the tables that are written."""


def are_known(store: Any) -> bool:
    """Whether it is a database, and its tables are as they are written here."""
    return isinstance(store, SqlAlchemyStore) and all(
        {column.name for column in inspect(table).columns} == set(words.split()) for table, words in _KNOWN.items()
    )


class ByTables:
    """Into the tables of MLflow's database, many runs in one transaction."""

    def __init__(self, store: SqlAlchemyStore, experiment_id: str):
        self.store, self.experiment_id = store, experiment_id
        self.location: str = store.get_experiment(experiment_id).artifact_location  # type: ignore[no-untyped-call]
        self._rows: dict[Any, list[dict[str, Any]]] = {table: [] for table in _KNOWN}

    def add(self, content: Content, parent_id: str | None) -> str:
        run_id = uuid.uuid4().hex
        place = append_to_uri_path(self.location, run_id, SqlAlchemyStore.ARTIFACTS_FOLDER_NAME)  # type: ignore[no-untyped-call]
        self._rows[SqlRun].append(
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
                "artifact_uri": place,
                "experiment_id": int(self.experiment_id),
            }
        )
        tags = {**tags_of(content, parent_id), "mlflow.runName": content.name, "flipscale.digest": content.digest}
        for table, words in ((SqlTag, tags), (SqlParam, content.params)):
            self._rows[table] += [{"key": key, "value": value, "run_uuid": run_id} for key, value in words.items()]
        latest: dict[str, tuple[int, int, float]] = {}
        # A table takes no two equal points.
        for name, value, time, step in dict.fromkeys(content.points.rows()):
            self._rows[SqlMetric].append(_metric(run_id, name, value, time, step))
            latest[name] = max(latest.get(name, (step, time, value)), (step, time, value))
        self._rows[SqlLatestMetric] += [
            _metric(run_id, name, value, time, step) for name, (step, time, value) in latest.items()
        ]
        if len(self._rows[SqlRun]) >= RUNS or len(self._rows[SqlMetric]) >= VALUES:
            self.flush()
        return run_id

    def flush(self) -> None:
        with self.store.ManagedSessionMaker(read_only=False) as session:
            for table, rows in self._rows.items():
                if rows:
                    session.execute(insert(table), rows)
        for rows in self._rows.values():
            rows.clear()

    def close(self) -> None:
        """Nothing is under way."""


def _metric(run_id: str, name: str, value: float, time: int, step: int) -> dict[str, Any]:
    return {"key": name, "value": value, "timestamp": time, "step": step, "is_nan": False, "run_uuid": run_id}
