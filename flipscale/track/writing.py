"""Writing runs into MLflow through its client, which takes about 5,000 values a second; tables.py has a quicker way."""

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from flipscale.track.content import Content

MLFLOW_BATCH = 1000
"""Metrics, parameters and tags in one call; MLflow refuses more."""


THREADS = 4
"""Calls to a server at once. A call waits for the server and its database most of its time."""

AHEAD = 16
"""Runs that may wait for a thread, so that a study need not fit into memory."""


class Writer(Protocol):
    """Two ways to write a run that is not there yet: ByBatches here, ByTables in tables.py."""

    def add(self, content: Content, parent_id: str | None) -> str:
        """Take a run to be written under another one; its id in MLflow."""

    def flush(self) -> None:
        """Return when all that was taken is there. Raises what went wrong with any of it."""

    def close(self) -> None:
        """Write nothing any more."""


class ByBatches:
    """Through MLflow's client, in as few calls as can be."""

    def __init__(self, client: MlflowClient, experiment_id: str, threads: int, marks: Mapping[str, str]):
        """marks: tags that each run gets as it is created, beside its own."""
        self.client, self.experiment_id, self.marks = client, experiment_id, marks
        self._pool = ThreadPoolExecutor(threads)
        self._waiting: deque[Future[None]] = deque()

    def add(self, content: Content, parent_id: str | None) -> str:
        tags = {**tags_of(content, parent_id), **self.marks}
        run = self.client.create_run(self.experiment_id, start_time=content.started, tags=tags, run_name=content.name)
        run_id = str(run.info.run_id)
        self._waiting.append(self._pool.submit(self._fill, run_id, content))
        if len(self._waiting) > AHEAD:
            self._waiting.popleft().result()
        return run_id

    def _fill(self, run_id: str, content: Content) -> None:
        metrics = [Metric(name, value, time, step) for name, value, time, step in content.points.rows()]
        params = [Param(name, value) for name, value in content.params.items()]
        last = MLFLOW_BATCH - len(params) - 1
        for start in range(last, len(metrics), MLFLOW_BATCH):
            self.client.log_batch(run_id, metrics[start : start + MLFLOW_BATCH])
        self.client.set_terminated(run_id, "FINISHED", content.finished)
        # The digest comes with the last of it: a run that was cut short has none, and is written anew next time.
        self.client.log_batch(run_id, metrics[:last], params, [RunTag("flipscale.digest", content.digest)])

    def flush(self) -> None:
        while self._waiting:
            self._waiting.popleft().result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def tags_of(content: Content, parent_id: str | None) -> dict[str, str]:
    tags = {"flipscale.id": content.key, "flipscale.kind": content.kind, **content.tags}
    return tags | ({"mlflow.parentRunId": parent_id} if parent_id else {})
