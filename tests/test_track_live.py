"""Curves in MLflow while runs run, and that collecting leaves what it would have left without them."""

import json

import pandas as pd
import pytest
from mlflow import MlflowClient

from flipscale.cli import main
from flipscale.collecting.points import read_points
from flipscale.errors import FlipscaleError
from flipscale.planning.runs import plan
from flipscale.run import RunFolder, State
from flipscale.study import read_study
from flipscale.track import MirrorSource
from flipscale.track.live import LiveCurves
from tests.test_track import all_there, bring, empty_database, row, table

__all__ = ["empty_database"]  # a fixture

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
]

STUDY = """\
schema: 1
base: {data: shapes, model: ViT-w16d1-4, text_length: 16, batch_size: 32, lr: 1e-3, samples: 32000}
axes: {mask_ratio: [0, 0.5]}
baseline: {mask_ratio: 0}
"""

OWN = """\
schema: 1
parameters: {depth: 8, norm: rms}
base: {trainer: {command: python train.py}}
scores: {val_loss: lower}
"""

STARTED = 1_700_000_000.0


@pytest.fixture
def uri(tmp_path, empty_database) -> str:
    (tmp_path / "mlflow.db").write_bytes(empty_database.read_bytes())
    return f"sqlite:///{tmp_path}/mlflow.db"


class Training:
    """A study whose runs write records."""

    def __init__(self, folder, uri, name, study=STUDY):
        file = folder / f"{name}.yaml"
        file.write_text(study)
        self.runs = plan(read_study(file)).cells
        self.folders = folder / "results" / "runs"
        self.where = {"tracking_uri": uri, "artifact_root": folder / name / "artifacts"}
        self.source = MirrorSource(name, folder / "results.csv", baseline={"mask_ratio": 0.0})
        self.live = LiveCurves(self.source, self.runs, self.folders, **self.where)
        self.name = name

    def record(self, run, first, last) -> None:
        """Steps of a run; a thousand make its schedule."""
        path = self.folders / run.id / "metrics.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            for step in range(first, last + 1):
                facts = {"step": step, "samples_seen": 32 * step, "seconds": step / 10, "time": STARTED + step}
                file.write(json.dumps({**facts, "loss": 4 - step / 1000}) + "\n")
            evaluated = {**facts, "scores": {"zero_shot_top1": last / 2000}}
            file.write(json.dumps(evaluated) + "\n")

    def there(self):
        client = MlflowClient(self.where["tracking_uri"])
        experiment = client.get_experiment_by_name(self.name)
        return client, client.search_runs([experiment.experiment_id]) if experiment else []

    def collected(self):
        """What collecting leaves."""
        points = {run.id: read_points(RunFolder(self.folders / run.id))[0] for run in self.runs}
        curves = pd.concat(table.to_pandas().assign(id=run_id) for run_id, table in points.items())
        rows = [
            row(run.id, study="mask", seed=0, samples_seen=32000, mask_ratio=run.settings.mask_ratio, started=STARTED)
            for run in self.runs
        ]
        done = bring(table(*rows), curves, self.name, **self.where)
        return all_there(self.where, done, self.name)


def test_a_curve_grows_while_its_run_runs(uri, tmp_path):
    study = Training(tmp_path, uri, "grows")
    first, second = study.runs
    states = {first.id: State.RUNNING, second.id: State.WAITING}
    assert study.live.send(states) == 0
    assert study.there()[1] == []
    study.record(first, 1, 200)
    assert study.live.send(states) == 1
    client, (run,) = study.there()
    assert (run.info.status, run.data.tags["flipscale.id"]) == ("RUNNING", first.id)
    assert run.info.run_name.startswith("no mask, ")
    assert run.data.params["mask_ratio"] == "0.0" or run.data.params["mask_ratio"] == "0"
    loss = client.get_metric_history(run.info.run_id, "train/loss")
    assert len(loss) == 21  # a point in each hundredth of the schedule that was reached
    assert (loss[0].step, loss[0].timestamp) == (32, 1_700_000_001_000)
    assert study.live.send(states) == 0
    study.record(first, 201, 1000)
    assert study.live.send({first.id: State.FINISHED, second.id: State.WAITING}) == 1
    client, (run,) = study.there()
    assert run.info.status == "FINISHED"
    loss = client.get_metric_history(run.info.run_id, "train/loss")
    assert len(loss) == 101
    assert [p.value for p in client.get_metric_history(run.info.run_id, "zero_shot_top1")] == [0.1, 0.5]
    assert study.live.send({first.id: State.FINISHED, second.id: State.WAITING}) == 0


def test_what_a_users_own_program_records_grows_by_its_steps(uri, tmp_path):
    study = Training(tmp_path, uri, "own", OWN)
    (run,) = study.runs
    path = study.folders / run.id / "metrics.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"step": 1, "tokens": 512, "loss": 4.0}\n{"step": 2, "tokens": 1024, "loss": 3.5}\n')
    assert study.live.send({run.id: State.RUNNING}) == 1
    client, (sent,) = study.there()
    assert {name: sent.data.params[name] for name in ("depth", "norm")} == {"depth": "8", "norm": "rms"}
    loss = client.get_metric_history(sent.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in loss] == [(1, 4.0), (2, 3.5)]


def test_collecting_leaves_what_it_leaves_without_live_curves(uri, tmp_path):
    collect_beside_live_curves(uri, tmp_path)


def collect_beside_live_curves(uri, tmp_path):
    """Collect what was watched, and what was not; both must be the same in MLflow. Servers have a test of this too."""
    live, alone = Training(tmp_path, uri, "watched"), Training(tmp_path, uri, "alone")
    running = dict.fromkeys((run.id for run in live.runs), State.RUNNING)
    for first, last in ((1, 300), (301, 1000)):
        for run in live.runs:
            live.record(run, first, last)
        assert live.live.send(running) == 2
    live.live.send(dict.fromkeys(running, State.FINISHED))
    assert {run.data.tags["flipscale.kind"] for run in live.there()[1]} == {"live"}
    assert live.collected() == alone.collected()
    assert {run.data.tags["flipscale.kind"] for run in live.there()[1]} == {"run", "study"}
    # Once more after something was written live beside what was collected: as for runs that are trained anew.
    again = LiveCurves(live.source, live.runs, live.folders, **live.where)
    again.send(running)
    assert live.collected() == alone.collected()


def test_a_run_that_was_deleted_meanwhile_is_made_anew(uri, tmp_path):
    study = Training(tmp_path, uri, "deleted")
    run = study.runs[0]
    study.record(run, 1, 100)
    study.live.send({run.id: State.RUNNING})
    client, (there,) = study.there()
    client.delete_run(there.info.run_id)
    study.record(run, 101, 200)
    for _ in range(2):
        study.live.send({run.id: State.RUNNING})
    client, (there,) = study.there()
    assert len(client.get_metric_history(there.info.run_id, "train/loss")) == 21


def test_a_second_watch_replaces_what_the_first_wrote(uri, tmp_path):
    study = Training(tmp_path, uri, "second")
    run = study.runs[0]
    study.record(run, 1, 100)
    study.live.send({run.id: State.RUNNING})
    again = LiveCurves(study.source, study.runs, study.folders, **study.where)
    again.send({run.id: State.RUNNING})
    assert len(study.there()[1]) == 1


def test_mlflow_that_is_away_loses_no_point(tmp_path, empty_database):
    study = Training(tmp_path, "sqlite:////nowhere/mlflow.db", "away")
    run = study.runs[0]
    study.record(run, 1, 500)
    with pytest.raises(FlipscaleError, match="cannot be reached, or refused the request"):
        study.live.send({run.id: State.RUNNING})
    (tmp_path / "mlflow.db").write_bytes(empty_database.read_bytes())
    study.live.tracking_uri = study.where["tracking_uri"] = f"sqlite:///{tmp_path}/mlflow.db"
    assert study.live.send({run.id: State.RUNNING}) == 1
    client, (there,) = study.there()
    assert len(client.get_metric_history(there.info.run_id, "train/loss")) == 51


def test_watch_writes_curves_while_runs_train(tmp_path, monkeypatch, capsys, empty_database):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flipscale.workflow.live_curves.LIVE_SECONDS", 0.2)
    (tmp_path / "mlflow.db").write_bytes(empty_database.read_bytes())
    small = STUDY.replace("samples: 32000", "samples: 6400").replace("[0, 0.5]", "[0.5]")
    (tmp_path / "small.yaml").write_text(small.replace("baseline: {mask_ratio: 0}\n", "evaluation: {images: 20}\n"))
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert main(["submit", "small.yaml", "--detach"]) == 0
    assert main(["watch", "small.yaml", "--mlflow"]) == 0
    assert "MLflow: curves are sent while runs train" in capsys.readouterr().err
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    assert (run.data.tags["flipscale.kind"], run.info.status) == ("live", "FINISHED")
    assert client.get_metric_history(run.info.run_id, "train/loss")
    assert main(["collect", "small.yaml"]) == 0
    (kind,) = {r.data.tags["flipscale.kind"] for r in client.search_runs([run.info.experiment_id])} - {"study"}
    assert kind == "run"
