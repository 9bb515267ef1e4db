import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import warnings
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from flipscale import track
from flipscale.collect import COLUMNS, DTYPES
from flipscale.errors import FlipscaleError
from flipscale.track import mirror, ui_command

pytestmark = [
    # MLflow 3.17 on SQLAlchemy 2.1, and its server's client: theirs to mend.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
]


def table(*rows):
    return pd.DataFrame(
        {
            name: pd.Series([row.get(name) for row in rows], dtype=DTYPES[column.kind])
            for name, column in COLUMNS.items()
        }
    )


def row(run_id, **facts):
    return {
        "id": run_id,
        "study": "mask",
        "cell": "samples=1000",
        "model": "ViT-w48d3-4",
        "samples": 1000,
        "mask_ratio": 0.5,
        "seed": 0,
        "samples_seen": 1024,
        "zero_shot_top1": 0.625,
        "train_seconds": 12.5,
        "images_per_second": 82.0,
        "device": "cpu",
        "started": 1700000000.0,
        "finished": 1700000100.0,
        **facts,
    }


def curve(run_id, n=250):
    points = [
        {
            "id": run_id,
            "samples": 4 * (i + 1),
            "seconds": i / 10,
            "metric": "loss",
            "value": 4 - i / n,
            "time": 1.7e9 + i,
        }
        for i in range(n)
    ]
    points += [
        {"id": run_id, "samples": samples, "metric": "zero_shot_top1", "value": value, "time": 1.7e9 + samples}
        for samples, value in ((512, 0.4), (1024, 0.625))
    ]
    return pd.DataFrame(points)


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    """A database with MLflow's tables and nothing in them: making those takes 4 s, copying the file none."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def where(tmp_path, empty_database):
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return {"tracking_uri": f"sqlite:///{tmp_path}/mlflow.db", "artifact_root": tmp_path / "artifacts"}


def runs_there(where, done):
    return {
        run.data.tags["flipscale.id"]: run
        for run in MlflowClient(where["tracking_uri"]).search_runs([done.experiment_id])
    }


def test_every_run_is_there_once_under_a_parent(where, tmp_path):
    figure = tmp_path / "speedup.svg"
    figure.write_text("<svg/>")
    results = table(row("a-1"), row("a-2", seed=1, zero_shot_top1=None))
    done = mirror(results, curve("a-1"), "mask", **where, files=[figure])
    assert (done.created, done.updated, done.unchanged) == (2, 0, 0)
    runs = runs_there(where, done)
    assert set(runs) == {"study mask", "a-1", "a-2"}
    parent = runs["study mask"].info
    assert parent.run_name == "mask"
    assert parent.artifact_uri.startswith((tmp_path / "artifacts" / "mask").as_uri())
    assert [f.path for f in MlflowClient(where["tracking_uri"]).list_artifacts(parent.run_id)] == ["speedup.svg"]
    run = runs["a-1"]
    assert run.info.run_name == "a-1"
    assert run.info.status == "FINISHED"
    assert (run.info.start_time, run.info.end_time) == (1700000000000, 1700000100000)
    assert run.data.params == {"model": "ViT-w48d3-4", "samples": "1000", "mask_ratio": "0.5", "seed": "0"}
    assert run.data.tags["mlflow.parentRunId"] == parent.run_id
    assert run.data.metrics["zero_shot_top1"] == 0.625
    assert run.data.metrics["train_seconds"] == 12.5
    assert "zero_shot_top1" not in runs["a-2"].data.metrics


def test_curves_are_thinned_and_timed_by_the_record(where):
    done = mirror(table(row("a-1")), curve("a-1"), "mask", **where)
    client, run_id = MlflowClient(where["tracking_uri"]), runs_there(where, done)["a-1"].info.run_id
    loss = client.get_metric_history(run_id, "train/loss")
    assert len(loss) == 100
    assert [(p.step, p.timestamp) for p in (loss[0], loss[-1])] == [(4, 1700000000000), (1000, 1700000249000)]
    scores = client.get_metric_history(run_id, "zero_shot_top1")
    assert len(scores) == 2
    assert {(p.step, p.value) for p in scores} == {(512, 0.4), (1024, 0.625)}


def test_collecting_twice_changes_nothing(where, monkeypatch):
    tables = (table(row("a-1"), row("a-2")), pd.concat([curve("a-1"), curve("a-2")]))
    first = mirror(*tables, "mask", **where)
    before = {run_id: run.to_dictionary() for run_id, run in runs_there(where, first).items()}
    for name in ("create_run", "log_batch", "set_tag", "set_terminated", "log_artifact", "delete_run"):
        monkeypatch.setattr(MlflowClient, name, None)  # a call would fail
    second = mirror(*tables, "mask", **where)
    assert (second.created, second.updated, second.unchanged) == (0, 0, 2)
    assert {run_id: run.to_dictionary() for run_id, run in runs_there(where, second).items()} == before


def test_a_changed_row_is_written_anew_and_not_twice(where):
    mirror(table(row("a-1"), row("a-2")), curve("a-1"), "mask", **where)
    done = mirror(table(row("a-1", zero_shot_top1=0.7, samples=2000), row("a-2")), curve("a-1"), "mask", **where)
    assert (done.created, done.updated, done.unchanged) == (0, 1, 1)
    client, run = MlflowClient(where["tracking_uri"]), runs_there(where, done)["a-1"]
    assert len(client.search_runs([done.experiment_id])) == 3
    assert run.data.params["samples"] == "2000"
    assert [p.value for p in client.get_metric_history(run.info.run_id, "zero_shot_top1") if p.step == 1024] == [0.7]


def test_a_changed_figure_replaces_the_old_one(where, tmp_path):
    figure = tmp_path / "here" / "speedup.svg"
    figure.parent.mkdir()
    for text in ("old", "new"):
        figure.write_text(text)
        done = mirror(table(row("a-1")), curve("a-1"), "mask", **where, files=[figure])
    parent = runs_there(where, done)["study mask"].info
    client = MlflowClient(where["tracking_uri"])
    got = client.download_artifacts(parent.run_id, "speedup.svg", str(tmp_path))
    assert Path(got).read_text() == "new"
    assert len(client.search_runs([done.experiment_id])) == 2


def test_a_run_cut_short_by_a_crash_is_written_anew(where, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", None)
        with pytest.raises(TypeError):
            mirror(table(row("a-1")), curve("a-1"), "mask", **where)
    done = mirror(table(row("a-1")), curve("a-1"), "mask", **where)
    assert len(MlflowClient(where["tracking_uri"]).search_runs([done.experiment_id])) == 2
    assert runs_there(where, done)["a-1"].info.status == "FINISHED"


def test_two_mirrors_at_once_give_one_run(where):
    mirror(table(row("a-0")), curve("a-0"), "mask", **where)
    tables = (table(row("a-0"), row("a-1")), curve("a-1"))
    done = []
    threads = [threading.Thread(target=lambda: done.append(mirror(*tables, "mask", **where))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(d.created for d in done) == [0, 0, 1]
    assert len(MlflowClient(where["tracking_uri"]).search_runs([done[0].experiment_id])) == 3


def test_a_curve_of_many_metrics_goes_in_more_than_one_batch(where):
    points = pd.DataFrame(
        [
            {"id": "a-1", "samples": s, "seconds": 1.0, "metric": f"m{m}", "value": 1.0, "time": 1.7e9 + s}
            for m in range(15)
            for s in range(100)
        ]
    )
    done = mirror(table(row("a-1")), points, "mask", **where)
    client, run_id = MlflowClient(where["tracking_uri"]), runs_there(where, done)["a-1"].info.run_id
    assert all(len(client.get_metric_history(run_id, f"train/m{m}")) == 100 for m in range(15))


def test_no_rows_make_no_experiment(where):
    done = mirror(table(), curve("a-1").iloc[:0], "mask", **where)
    assert done == track.Mirrored(0, 0, 0, None)


def test_a_deleted_experiment_is_named_with_the_command_that_restores_it(where):
    done = mirror(table(row("a-1")), curve("a-1"), "mask", **where)
    MlflowClient(where["tracking_uri"]).delete_experiment(done.experiment_id)
    with pytest.raises(FlipscaleError, match="mlflow experiments restore"):
        mirror(table(row("a-1")), curve("a-1"), "mask", **where)


def test_an_unreachable_server_is_one_sentence_without_the_password(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(FlipscaleError, match=rf"MLflow at http://127\.0\.0\.1:{port} cannot be reached") as caught:
        mirror(
            table(row("a-1")),
            curve("a-1"),
            "mask",
            tracking_uri=f"http://me:secret@127.0.0.1:{port}",
            artifact_root=tmp_path / "artifacts",
        )
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_database_that_cannot_be_opened_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FlipscaleError, match="cannot be reached or refused"):
        mirror(
            table(row("a-1")),
            curve("a-1"),
            "mask",
            tracking_uri=f"sqlite:///{tmp_path}/file/mlflow.db",
            artifact_root=tmp_path / "artifacts",
        )


def test_ui_command_can_be_pasted(monkeypatch):
    said = "ui --backend-store-uri 'sqlite:////a b/mlflow.db' --host 127.0.0.1 --workers 1"
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert ui_command("sqlite:////a b/mlflow.db") == f"mlflow {said}"
    monkeypatch.setenv("PATH", "")
    assert ui_command("sqlite:////a b/mlflow.db") == f"{sys.executable} -m mlflow {said}"
    assert ui_command("http://127.0.0.1:5000") == "http://127.0.0.1:5000"


@pytest.fixture
def server(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db"]
    command += ["--artifacts-destination", str(tmp_path / "server-artifacts")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with open(tmp_path / "server.log", "wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, cwd=tmp_path, start_new_session=True
        )
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (tmp_path / "server.log").read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


@pytest.mark.slow
def test_a_real_server_takes_the_same(server, tmp_path):
    figure = tmp_path / "speedup.svg"
    figure.write_text("<svg/>")
    where = {"tracking_uri": server, "artifact_root": tmp_path / "artifacts"}
    tables = (table(row("a-1"), row("a-2")), curve("a-1"))
    first = mirror(*tables, "mask", **where, files=[figure])
    second = mirror(*tables, "mask", **where, files=[figure])
    assert (first.created, second.unchanged) == (2, 2)
    runs = runs_there(where, second)
    assert set(runs) == {"study mask", "a-1", "a-2"}
    assert [p.path for p in MlflowClient(server).list_artifacts(runs["study mask"].info.run_id)] == ["speedup.svg"]
    assert (tmp_path / "server-artifacts").exists()
