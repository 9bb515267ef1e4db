"""The curves of runs in MLflow while they run. Collecting writes each of them anew from its record, and deletes these.

Here a run is an entry with the name and parameters that it will have and with the kind `live`. A curve has a point for
each hundredth of the schedule. A run takes two calls when it begins, one when it ends, and between them one whenever it
has new points, at most one every LIVE_SECONDS.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from flipscale.collecting.points import read_points
from flipscale.planning.runs import Run
from flipscale.run import RunFolder, State
from flipscale.scores import is_score
from flipscale.track.content import MOST_CURVE_POINTS, params_of, points_of
from flipscale.track.experiment import LIVE, MLFLOW_BATCH, Experiment, open_experiment
from flipscale.track.rows import TableRow, row_of_plan, run_name
from flipscale.track.source import MirrorSource

_ENDED = {State.FINISHED: "FINISHED", State.FAILED: "FAILED", State.CANCELLED: "KILLED", State.LOST: "FAILED"}

_GONE = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")
"""What MLflow says about a run that was deleted, as by collecting meanwhile."""


@dataclass
class _Sent:
    """What MLflow has of a running run."""

    mlflow_id: str = ""
    size: int = 0
    """Bytes of metrics.jsonl that were read."""
    parts: dict[str, int] = field(default_factory=dict)
    """By metric, the last hundredth of the schedule that has a point."""
    ended: bool = False


@dataclass
class LiveCurves:
    """Writes what is new of the runs of a study."""

    source: MirrorSource
    runs: Sequence[Run]
    folder: Path
    """The folder of run folders."""
    tracking_uri: str
    artifact_root: Path
    _sent: dict[str, _Sent] = field(default_factory=dict)
    _began: bool = False

    def send(self, states: Mapping[str, State]) -> int:
        """Write the new points of running runs, and the end of those that ended. Returns how many runs had news.

        Raises FlipscaleError if MLflow cannot be reached or refuses; what was not sent is sent the next time.
        """
        news = [each for run in self.runs if (each := self._news_of(run, states.get(run.id))) is not None]
        if not news:
            return 0
        with open_experiment(self.source, self.tracking_uri, self.artifact_root) as experiment:
            if not self._began:
                _make_room(experiment)
                self._began = True
            for each in news:
                self._write(experiment, each)
        return len(news)

    def _news_of(self, run: Run, state: State | None) -> "_News | None":
        """What is to be written of a run; None where there is nothing."""
        sent = self._sent.get(run.id, _Sent())
        if sent.ended or (run.id not in self._sent and state is not State.RUNNING):
            return None
        ended = None if state is None else _ENDED.get(state)
        folder = RunFolder(self.folder / run.id)
        try:
            size = (folder.path / "metrics.jsonl").stat().st_size
        except OSError:
            size = 0
        points = list(_new_points(folder, run, sent)) if size != sent.size else []
        return _News(run, sent, points, size, ended) if points or (ended and sent.mlflow_id) else None

    def _write(self, experiment: Experiment, news: "_News") -> None:
        run, sent, points, size, ended = news
        client = experiment.client
        row = row_of_plan(run, self.source.study)
        params = []
        try:
            if not sent.mlflow_id:
                sent.mlflow_id = self._create(experiment, row, points[0].timestamp)
                params = [Param(name, value) for name, value in params_of(row).items()]
            at_once = MLFLOW_BATCH - len(params)
            for start in range(0, len(points), at_once):
                client.log_batch(sent.mlflow_id, points[start : start + at_once], params if start == 0 else ())
            if ended:
                client.set_terminated(sent.mlflow_id, ended)
        except MlflowException as error:
            if error.error_code not in _GONE:
                raise
            self._sent.pop(run.id, None)  # It is created again if it still runs.
            return
        sent.size = size
        sent.ended = ended is not None
        for point in points:
            sent.parts[point.key] = max(sent.parts.get(point.key, -1), _part(point.step, run))
        self._sent[run.id] = sent

    def _create(self, experiment: Experiment, row: TableRow, started: int) -> str:
        tags = {"flipscale.id": row.id, "flipscale.kind": LIVE, "flipscale.study": self.source.study}
        tags |= self.source.source_tags | self.source.user_tag(row.id)
        name = run_name(row, self.source)
        run = experiment.client.create_run(experiment.id, start_time=started, tags=tags, run_name=name)
        return str(run.info.run_id)


class _News(NamedTuple):
    """What is to be written of a run."""

    run: Run
    sent: _Sent
    points: list[Metric]
    size: int
    ended: str | None
    """MLflow's word for how it ended; None while it runs."""


def _make_room(experiment: Experiment) -> None:
    """Delete what an earlier watch left, and have the next collecting look at all runs."""
    for runs in experiment.runs().values():
        for run in runs:
            if run.data.tags.get("flipscale.kind") == LIVE:
                experiment.client.delete_run(run.info.run_id)
            elif run.data.tags.get("flipscale.kind") == "study":
                experiment.client.set_tag(run.info.run_id, "flipscale.digest", "")


def _new_points(folder: RunFolder, run: Run, sent: _Sent) -> Iterator[Metric]:
    """The points that lie in a hundredth of the schedule that has none yet, and all scores, as collecting has them."""
    reached = dict(sent.parts)
    for name, value, time, step in points_of(read_points(folder)[0].to_pandas(), 0.0):
        part = _part(step, run)
        if part > (sent.parts if is_score(name) else reached).get(name, -1):
            reached[name] = part
            yield Metric(name, value, time, step)


def _part(step: int, run: Run) -> int:
    """Which hundredth of the run's schedule a step is in."""
    return MOST_CURVE_POINTS * step // max(int(run.whole_cost.samples_seen), 1)
