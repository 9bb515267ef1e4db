"""Writing runs into MLflow through its client, which takes about 5,000 values a second; tables.py is faster."""

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from mlflow import MlflowClient
from mlflow.entities import Param, RunTag

from flipscale.track.content import Content
from flipscale.track.models import finish_model, log_model, metrics_of

MLFLOW_BATCH = 1000
"""Metrics, parameters and tags in one call; MLflow refuses more."""


THREADS = 4
"""Calls to a server at once. A call waits for the server and its database most of its time."""

AHEAD = 16
"""The most runs that wait for a thread, so that a study need not fit into memory."""


class Writer(Protocol):
    """Two ways to write a run that is not there yet: ByBatches here, ByTables in tables.py."""

    def add(self, content: Content, parent_id: str | None) -> str:
        """Take a run to be written under another one. Returns its id in MLflow."""

    def flush(self) -> None:
        """Return when everything taken is written. Raises what went wrong with any of it."""

    def close(self) -> None:
        """Stop writing."""

    @property
    def models(self) -> Sequence[str]:
        """The ids of the models that were made through MLflow's client, where a call may make one without an answer."""


class ByBatches:
    """Through MLflow's client: 7 calls a run with up to 900 points, 3 a cell, and one more for each 1,000 points."""

    def __init__(self, client: MlflowClient, experiment_id: str, threads: int, marks: Mapping[str, str]):
        """marks: tags that each run gets as it is created, beside its own."""
        self.client, self.experiment_id, self.marks = client, experiment_id, marks
        self._pool = ThreadPoolExecutor(threads)
        self._waiting: deque[Future[None]] = deque()
        self.models: list[str] = []

    def add(self, content: Content, parent_id: str | None) -> str:
        tags = {**tags_of(content, parent_id), **self.marks}
        run = self.client.create_run(self.experiment_id, start_time=content.started, tags=tags, run_name=content.name)
        run_id = str(run.info.run_id)
        self._waiting.append(self._pool.submit(self._fill, run_id, content))
        if len(self._waiting) > AHEAD:
            self._waiting.popleft().result()
        return run_id

    def _fill(self, run_id: str, content: Content) -> None:
        model_id = log_model(self.client, self.experiment_id, run_id, content, self.marks) if content.finals else None
        if model_id is not None:
            self.models.append(model_id)
        metrics = metrics_of(content, model_id)
        params = [Param(name, value) for name, value in content.params.items()]
        last = MLFLOW_BATCH - len(params) - 1
        for start in range(last, len(metrics), MLFLOW_BATCH):
            self.client.log_batch(run_id, metrics[start : start + MLFLOW_BATCH])
        self.client.set_terminated(run_id, "FINISHED", content.finished)
        if model_id is not None:
            finish_model(self.client, model_id)
        # The digest comes with the last of it: a run that was cut short has none, and is written anew next time.
        self.client.log_batch(run_id, metrics[:last], params, [RunTag("flipscale.digest", content.digest)])

    def flush(self) -> None:
        while self._waiting:
            self._waiting.popleft().result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def tags_of(content: Content, parent_id: str | None) -> dict[str, str]:
    tags = {"flipscale.id": content.key, "flipscale.kind": content.kind, **content.tags}
    tags |= {"mlflow.user": content.user} if content.user else {}
    return tags | ({"mlflow.parentRunId": parent_id} if parent_id else {})
