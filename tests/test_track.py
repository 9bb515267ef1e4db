import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from flipscale import track
from flipscale.collecting import COLUMNS
from flipscale.collecting.points import POINTS_SCHEMA, write_curves
from flipscale.door.columns import COLUMN_DTYPES
from flipscale.errors import FlipscaleError
from flipscale.run import CodeIdentity, Result, RunFolder
from flipscale.track import MirrorSource, mirror, tracking_address, ui_command, without_secrets

pytestmark = [
    pytest.mark.slow,
    # MLflow 3.17 on SQLAlchemy 2.1, and its server's client: theirs to mend.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
]


def table(*rows):
    return pd.DataFrame(
        {
            name: pd.Series([row.get(name) for row in rows], dtype=COLUMN_DTYPES[column.kind])
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
            "step": i + 1,
            "samples": 4 * (i + 1),
            "seconds": i / 10,
            "metric": "loss",
            "value": 4 - i / n,
            "time": 1.7e9 + i,
        }
        for i in range(n)
    ]
    points += [
        {
            "id": run_id,
            "step": samples // 4,
            "samples": samples,
            "metric": "zero_shot_top1",
            "value": value,
            "time": 1.7e9 + samples,
        }
        for samples, value in ((512, 0.4), (1024, 0.625))
    ]
    return pd.DataFrame(points)


def bring(results, curves, study="mask", *, artifact_root, baseline=None, files=(), **how):
    """Mirror these tables, the curves by a file as collect leaves it."""
    artifact_root.parent.mkdir(exist_ok=True)
    path = artifact_root.parent / "curves.parquet"
    ids = curves["id"].unique() if len(curves) else []
    write_curves(path, iter([(run_id, points_of(curves[curves["id"] == run_id])) for run_id in ids]))
    results.to_csv(path.with_name("results.csv"), index=False)
    given = {name: how.pop(name) for name in ("runs", "question", "code", "evaluations", "file") if name in how}
    source = MirrorSource(
        study,
        path.with_name("results.csv"),
        baseline=baseline or {"mask_ratio": 0.0},
        files=files,
        **given,
    )
    return mirror(source, artifact_root=artifact_root, **how)


def points_of(curve):
    columns = curve.reindex(columns=POINTS_SCHEMA.names).items()
    return pa.table([pa.array(of.to_numpy(), POINTS_SCHEMA.field(name).type) for name, of in columns], POINTS_SCHEMA)


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


def inputs_of(run):
    return run.inputs.dataset_inputs if run.inputs else []


def model_facts(client, output):
    """What a model has that does not name its run or when it was made."""
    model = client.get_logged_model(output.model_id)
    metrics = [(m.key, m.value, m.timestamp, m.step, m.dataset_name, m.dataset_digest) for m in model.metrics]
    tags = {name: value for name, value in model.tags.items() if name not in ("flipscale.writer", "flipscale.study")}
    about = (model.name, str(model.status), model.model_type, output.step)
    place = model.artifact_location.replace(model.model_id, "ID").partition("/models/")[2]
    return about, model.params, tags, sorted(metrics, key=str), place


def runs_there(where, done):
    return {
        run.data.tags["flipscale.id"]: run
        for run in MlflowClient(where["tracking_uri"]).search_runs([done.experiment_id])
    }


def test_every_run_is_there_once_under_a_parent(where, tmp_path):
    figure = tmp_path / "speedup.svg"
    figure.write_text("<svg/>")
    results = table(row("a-1"), row("a-2", seed=1, zero_shot_top1=None))
    done = bring(results, curve("a-1"), "mask", **where, files=[figure])
    assert (done.created, done.updated, done.unchanged) == (2, 0, 0)
    runs = runs_there(where, done)
    cell = next(key for key in runs if key.startswith("cell "))
    assert set(runs) == {"study mask", cell, "a-1", "a-2"}
    parent = runs["study mask"].info
    assert parent.run_name == "mask"
    assert parent.artifact_uri.startswith((tmp_path / "artifacts" / "mask").as_uri())
    assert [f.path for f in MlflowClient(where["tracking_uri"]).list_artifacts(parent.run_id)] == ["speedup.svg"]
    run = runs["a-1"]
    assert run.info.run_name == "mask 50 %, 1000 samples, seed 0, a-1"  # the arm first: MLflow's page cuts names off
    assert run.info.status == "FINISHED"
    assert (run.info.start_time, run.info.end_time) == (1700000000000, 1700000100000)
    assert run.data.params == {"model": "ViT-w48d3-4", "samples": "1000", "mask_ratio": "0.5", "seed": "0"}
    assert run.data.tags["mlflow.parentRunId"] == runs[cell].info.run_id
    assert runs[cell].info.run_name == "mask 50 %, 1000 samples"
    assert runs[cell].data.params == {}  # MLflow's page groups by them, and would count the cell's runs once more
    assert (runs[cell].data.metrics["zero_shot_top1"], runs[cell].data.metrics["variation/seeds"]) == (0.625, 2)
    assert run.data.metrics["zero_shot_top1"] == 0.625
    assert run.data.metrics["used/train_seconds"] == 12.5
    assert "zero_shot_top1" not in runs["a-2"].data.metrics


def test_curves_are_thinned_and_timed_by_the_record(where):
    done = bring(table(row("a-1")), curve("a-1"), "mask", **where)
    client, run_id = MlflowClient(where["tracking_uri"]), runs_there(where, done)["a-1"].info.run_id
    loss = client.get_metric_history(run_id, "train/loss")
    assert len(loss) == 100
    assert [(p.step, p.timestamp) for p in (loss[0], loss[-1])] == [(4, 1700000000000), (1000, 1700000249000)]
    scores = client.get_metric_history(run_id, "zero_shot_top1")
    assert len(scores) == 2
    assert {(p.step, p.value) for p in scores} == {(512, 0.4), (1024, 0.625)}


def test_collecting_twice_changes_nothing(where, monkeypatch):
    tables = (table(row("a-1"), row("a-2")), pd.concat([curve("a-1"), curve("a-2")]))
    first = bring(*tables, "mask", **where)
    before = {run_id: run.to_dictionary() for run_id, run in runs_there(where, first).items()}
    for name in ("create_run", "log_batch", "set_tag", "set_terminated", "log_artifact", "delete_run"):
        monkeypatch.setattr(MlflowClient, name, None)  # a call would fail
    second = bring(*tables, "mask", **where)
    assert (second.created, second.updated, second.unchanged) == (0, 0, 2)
    assert {run_id: run.to_dictionary() for run_id, run in runs_there(where, second).items()} == before


def test_a_changed_row_is_written_anew_and_not_twice(where):
    bring(table(row("a-1"), row("a-2")), curve("a-1"), "mask", **where)
    done = bring(table(row("a-1", zero_shot_top1=0.7, samples=2000), row("a-2")), curve("a-1"), "mask", **where)
    assert (done.created, done.updated, done.unchanged) == (0, 1, 1)
    client, run = MlflowClient(where["tracking_uri"]), runs_there(where, done)["a-1"]
    assert len(client.search_runs([done.experiment_id])) == 3  # the study and two runs, each alone in its cell
    assert run.data.params["samples"] == "2000"
    assert [p.value for p in client.get_metric_history(run.info.run_id, "zero_shot_top1") if p.step == 1024] == [0.7]


@pytest.mark.parametrize(
    ("cut", "calls"),
    [
        *(("create_run", 2), ("log_batch", 2), ("set_terminated", 0), ("set_tag", 2), ("delete_run", 0)),
        *(("create_logged_model", 2), ("log_inputs", 0), ("log_outputs", 0), ("finalize_logged_model", 2)),
        ("delete_logged_model", 0),
    ],
)
def test_a_mirror_that_was_cut_short_is_finished_by_the_next(where, monkeypatch, cut, calls):
    old = (table(row("a-1"), row("a-2")), curve("a-1", 20))
    new = (table(row("a-1", zero_shot_top1=0.7), row("a-2"), row("a-3", samples=2000)), curve("a-1", 20))
    bring(*old, **where)
    done = []
    right = getattr(MlflowClient, cut)

    def fails(*arguments, **named):
        done.append(cut)
        if len(done) > calls:
            raise MlflowException("the server is gone")
        return right(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, cut, fails)
        with contextlib.suppress(FlipscaleError):
            bring(*new, **where)
    last = bring(*new, **where)
    runs = MlflowClient(where["tracking_uri"]).search_runs([last.experiment_id])
    keys = [run.data.tags["flipscale.id"] for run in runs if run.data.tags["flipscale.kind"] != "cell"]
    assert sorted(keys) == ["a-1", "a-2", "a-3", "study mask"]
    assert len(runs) == 5
    assert {run.info.status for run in runs} == {"FINISHED"}
    of = {run.data.tags["flipscale.id"]: run.data.metrics.get("zero_shot_top1") for run in runs}
    assert (of["a-1"], of["a-2"], of["a-3"]) == (0.7, 0.625, 0.625)
    models = MlflowClient(where["tracking_uri"]).search_logged_models([last.experiment_id])
    ids = {run.info.run_id for run in runs if run.data.tags["flipscale.kind"] == "run"}
    # A run that was deleted may leave its model where deleting that is what was cut short.
    assert ids <= {model.source_run_id for model in models}
    assert len(models) == 3 or cut in ("delete_logged_model", "delete_run")
    assert bring(*new, **where).unchanged == 3


def all_there(where, done, study):
    """All that MLflow has of a study, but for what names an entry, or was given by the writer."""
    client = MlflowClient(where["tracking_uri"])
    runs = runs_there(where, done)
    ids = {run.info.run_id: key for key, run in runs.items()}
    found = {}
    for key, run in runs.items():
        info = {k: v for k, v in run.to_dictionary()["info"].items() if k not in ("run_id", "run_uuid")}
        info = {k: v for k, v in info.items() if k not in ("experiment_id", "artifact_uri", "run_name")}
        named = ("flipscale.digest", "flipscale.writer")
        tags = {k: v for k, v in run.data.tags.items() if k not in named and study not in v}
        tags["mlflow.parentRunId"] = ids.get(tags.get("mlflow.parentRunId"))
        history = {m: sorted(map(str, client.get_metric_history(run.info.run_id, m))) for m in run.data.metrics}
        history = {m: [re.sub("run_id='[^']*'", "", point) for point in points] for m, points in history.items()}
        place = run.info.artifact_uri.replace(run.info.run_id, "ID").replace(study, "STUDY")
        place = re.sub(r"mlflow-artifacts:/\d+", "mlflow-artifacts:/STUDY", place)
        used = [(i.dataset.name, i.dataset.digest, i.dataset.source, i.tags[0].value) for i in inputs_of(run)]
        models = [model_facts(client, output) for output in run.outputs.model_outputs] if run.outputs else []
        facts = (info, place, tags, run.data.params, run.data.metrics, sorted(used), models)
        found[key.replace(study, "STUDY")] = (*facts, history)
    return found


def test_a_tuning_and_its_evaluation_are_under_the_cell_of_what_they_started_from(where):
    rows = [
        row("a", inference="full"),
        row("b", seed=1, zero_shot_top1=0.875, inference="full"),
        row("t", tuning="1.6k", parent="a", zero_shot_top1=0.9, inference="full", cell="samples=1000, tuning=1.6k"),
        row("e", tuning="1.6k", parent="t", zero_shot_top1=0.1, inference="masked", cell="samples=1000, tuning=1.6k"),
        row("other", mask_ratio=0.0, inference="full"),
    ]
    runs = runs_there(where, bring(table(*rows), curve("a"), **where))
    cells = {run.info.run_id: run for run in runs.values() if run.data.tags["flipscale.kind"] == "cell"}
    of = {key: cells[runs[key].data.tags["mlflow.parentRunId"]].info.run_name for key in ("a", "b", "t", "e")}
    cell = "mask 50 %, 1000 samples"
    assert of == dict.fromkeys(("a", "b", "t", "e"), cell)
    assert "mlflow.parentRunId" not in runs["other"].data.tags
    metrics = runs["a"].data.tags["mlflow.parentRunId"]
    assert cells[metrics].data.metrics["zero_shot_top1"] == 0.75
    assert cells[metrics].data.metrics["variation/zero_shot_top1_sd"] == pytest.approx(0.1767767)
    assert cells[metrics].data.metrics["variation/seeds"] == 2
    assert runs["t"].data.tags["flipscale.parent"] == "a"


def test_a_cell_s_curve_is_the_mean_of_its_seeds_where_they_saw_the_same_samples(where):
    lower = curve("a-2").assign(value=lambda points: points["value"] - 1)
    other = curve("a-1").iloc[::2].assign(metric="lr")
    tables = (table(row("a-1"), row("a-2", seed=1)), pd.concat([curve("a-1"), other, lower, lower.assign(metric="lr")]))
    runs = runs_there(where, bring(*tables, **where))
    client = MlflowClient(where["tracking_uri"])
    (cell,) = [run.info.run_id for key, run in runs.items() if key.startswith("cell ")]
    mean, one = (client.get_metric_history(run, "train/loss") for run in (cell, runs["a-1"].info.run_id))
    assert [(p.step, p.value) for p in mean] == [(p.step, pytest.approx(p.value - 0.5)) for p in one]
    assert len(mean) == 100
    assert client.get_metric_history(runs["a-1"].info.run_id, "train/lr")
    assert client.get_metric_history(cell, "train/lr") == []


def test_a_seed_that_comes_later_joins_its_cell(where):
    first = runs_there(where, bring(table(row("a-1")), curve("a-1"), **where))
    assert set(first) == {"study mask", "a-1"}  # one run alone is not put under another that says the same
    done = bring(table(row("a-1"), row("a-2", seed=1)), curve("a-1"), **where)
    runs = MlflowClient(where["tracking_uri"]).search_runs([done.experiment_id])
    (cell,) = [run for run in runs if run.data.tags["flipscale.kind"] == "cell"]
    assert cell.data.metrics["variation/seeds"] == 2
    parents = [run.data.tags.get("mlflow.parentRunId") for run in runs if run.data.tags["flipscale.kind"] == "run"]
    assert parents == [cell.info.run_id] * 2
    assert (done.created, done.unchanged) == (1, 1)


def test_what_was_made_twice_is_there_once_after_the_next_time(where):
    """As two mirrors on two machines make it, or a call whose answer was lost and that was sent again."""
    tables = (table(row("a-1"), row("a-2")), curve("a-1"))
    done = bring(*tables, **where)
    client = MlflowClient(where["tracking_uri"])
    for key in ("a-1", "study mask"):
        client.create_run(done.experiment_id, tags={"flipscale.id": key, "flipscale.kind": "run"})
    again = bring(*tables, **where, thoroughly=True)
    assert (again.created, again.updated, again.unchanged) == (0, 0, 2)
    keys = [run.data.tags["flipscale.id"] for run in client.search_runs([done.experiment_id])]
    assert len(keys) == len(set(keys)) == 4


def test_what_was_deleted_in_mlflow_comes_back_when_it_is_looked_at(where):
    tables = (table(row("a-1"), row("a-2")), curve("a-1"))
    done = bring(*tables, **where)
    client = MlflowClient(where["tracking_uri"])
    client.delete_run(runs_there(where, done)["a-1"].info.run_id)
    assert bring(*tables, **where).unchanged == 2  # the study's run says that all is there, and is believed
    again = bring(*tables, **where, thoroughly=True)
    assert (again.created, again.unchanged) == (1, 1)
    assert "a-1" in runs_there(where, again)


@pytest.fixture
def noted(where, tmp_path):
    """A study that was mirrored, and how to mirror it once more without touching a file of it."""
    bring(table(row("a-1"), row("a-2")), curve("a-1"), **where)
    source = MirrorSource("mask", tmp_path / "results.csv", baseline={"mask_ratio": 0.0})
    mirror(source, **where)
    return lambda **more: mirror(source, **where, **more)


def test_what_is_noted_as_there_needs_no_mlflow(noted, where, tmp_path):
    assert (tmp_path / ".mirrored").exists()
    script = (
        "import sys; from pathlib import Path; from flipscale.track import MirrorSource, mirror\n"
        "source = MirrorSource('mask', Path('results.csv'), baseline={'mask_ratio': 0.0})\n"
        f"done = mirror(source, tracking_uri={where['tracking_uri']!r}, artifact_root=Path('artifacts'))\n"
        "print(done.unchanged, done.experiment_id, sorted({'mlflow', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "2 1 []\n"


@pytest.mark.parametrize("gone", ["database", "study's run", "experiment", "note", "torn note"])
def test_a_note_is_not_believed_where_mlflow_has_lost_the_study(noted, where, tmp_path, gone, empty_database):
    client = MlflowClient(where["tracking_uri"])
    if gone == "database":
        shutil.copy(empty_database, tmp_path / "mlflow.db")
        assert noted().created == 2
    elif gone == "study's run":
        (study,) = client.search_runs(["1"], "tags.`flipscale.kind` = 'study'")
        client.delete_run(study.info.run_id)
        assert noted().unchanged == 2
        assert len(client.search_runs(["1"], "tags.`flipscale.kind` = 'study'")) == 1
    elif gone == "experiment":
        client.delete_experiment("1")
        with pytest.raises(FlipscaleError, match="mlflow experiments restore"):
            noted()
    else:
        (tmp_path / ".mirrored").write_text('{"fingerprint"') if gone == "torn note" else (
            tmp_path / ".mirrored"
        ).unlink()
        assert noted().unchanged == 2


def test_all_points_by_choice(where):
    done = bring(table(row("a-1")), curve("a-1"), **where, all_points=True)
    client, run_id = MlflowClient(where["tracking_uri"]), runs_there(where, done)["a-1"].info.run_id
    assert len(client.get_metric_history(run_id, "train/loss")) == 250
    again = bring(table(row("a-1")), curve("a-1"), **where)
    run_id = runs_there(where, again)["a-1"].info.run_id
    assert len(client.get_metric_history(run_id, "train/loss")) == 100


def test_odd_names_of_metrics_and_long_values_lose_no_point(where):
    names = ["a$b", "a_b", "../x", "/x", "a//b", "x" * 300, "ü", "a b", "."]
    points = pd.DataFrame(
        [
            {"id": "a-1", "step": 1, "samples": 4, "seconds": 1.0, "metric": name, "value": i, "time": 1.7e9}
            for i, name in enumerate(names)
        ]
    )
    done = bring(table(row("a-1", tuning="x" * 7000)), points, **where)
    data = runs_there(where, done)["a-1"].data
    assert data.params["tuning"] == "x" * 6000
    curves = {name: value for name, value in data.metrics.items() if name.startswith("train/")}
    assert sorted(curves.values()) == [float(i) for i in range(len(names))]
    assert {"train/a_b": 1.0, "train/ü": 6.0, "train/a b": 7.0}.items() <= curves.items()


def test_versions_and_device_are_tags(where, tmp_path):
    folder = tmp_path / "runs" / "a-1"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text('{"versions": {"torch": "2.13", "open_clip": "3.1"}}')
    done = bring(table(row("a-1")), curve("a-1"), **where, runs=tmp_path / "runs")
    tags = runs_there(where, done)["a-1"].data.tags
    assert (tags["flipscale.version.torch"], tags["flipscale.version.open_clip"]) == ("2.13", "3.1")
    assert tags["flipscale.device"] == "cpu"


def test_the_code_of_a_run_is_a_tag_and_the_studys_run_says_where_it_differs(where, tmp_path):
    folder = RunFolder(tmp_path / "runs" / "a-1")
    for number in (1, 2):  # It was resumed with other code, which ended it.
        with folder.hold() as lease:
            lease.note_code(CodeIdentity(source=str(number) * 64, commit=str(number) * 40))
            (folder.path / "checkpoint.pt").touch()
            lease.write_result(Result())
    tables = (table(row("a-1")), curve("a-1"))
    done = bring(*tables, **where, runs=tmp_path / "runs", code="1 of 1 finished run was trained by other code")
    tags = runs_there(where, done)["a-1"].data.tags
    assert tags["flipscale.data.code"] == "flipscale at commit 2222222222"
    assert tags["mlflow.source.git.commit"] == "2" * 40
    study = runs_there(where, done)["study mask"].data.tags
    assert study["flipscale.code_differs"] == "1 of 1 finished run was trained by other code"
    done = bring(*tables, **where, runs=tmp_path / "runs")
    assert (done.updated, done.unchanged) == (0, 1)
    assert "flipscale.code_differs" not in runs_there(where, done)["study mask"].data.tags


def scored(*scores):
    """A run for each of these accuracies."""
    rows = [row(f"a-{n}", seed=n, zero_shot_top1=score, mask_ratio=n / 4) for n, score in enumerate(scores)]
    return table(*rows), curve("a-0")


def test_models_are_ranked_by_a_score_and_found_by_a_parameter(where):
    evaluations = {f"a-{n}": "1,000 images" for n in range(3)}
    done = bring(*scored(0.5, 0.75, 0.625), evaluations=evaluations, **where)
    client = MlflowClient(where["tracking_uri"])
    by_score = [{"field_name": "metrics.zero_shot_top1", "ascending": False}]
    best = client.search_logged_models([done.experiment_id], order_by=by_score)
    assert [model.tags["flipscale.id"] for model in best] == ["a-1", "a-2", "a-0"]
    first = best[0]
    assert first.name == "mask 25 percent, 1000 samples, seed 1, a-1"  # MLflow takes no % in it
    assert first.params == {"model": "ViT-w48d3-4", "samples": "1000", "mask_ratio": "0.25", "seed": "1"}
    (score,) = [metric for metric in first.metrics if metric.key == "zero_shot_top1"]
    assert (score.value, score.step, score.dataset_name) == (0.75, 1024, "unknown (held out)")
    assert {metric.key for metric in first.metrics} >= {"used/train_seconds"}
    assert not [metric for metric in first.metrics if metric.key.startswith("train/")]  # curves are the run's
    (masked,) = client.search_logged_models([done.experiment_id], filter_string="params.mask_ratio = '0.5'")
    assert masked.tags["flipscale.id"] == "a-2"
    on = [{"dataset_name": score.dataset_name, "dataset_digest": score.dataset_digest}]
    above = client.search_logged_models([done.experiment_id], "metrics.zero_shot_top1 > 0.6", datasets=on)
    assert {model.tags["flipscale.id"] for model in above} == {"a-1", "a-2"}
    run = client.get_run(first.source_run_id)
    assert [output.model_id for output in run.outputs.model_outputs] == [first.model_id]
    used = {(i.dataset.name, i.tags[0].value): i.dataset.source for i in run.inputs.dataset_inputs}
    assert used == {
        ("unknown", "training"): "all pairs of unknown",
        ("unknown (held out)", "evaluation"): "1,000 images",
    }


def test_scores_of_a_set_are_linked_to_it_and_other_evaluations_are_other_sets(where):
    named = [row("a-1"), row("a-2", seed=1)]
    results = table(*named).assign(**{"cars.zero_shot_top1": [0.25, 0.5]})
    done = bring(results, curve("a-1"), evaluations={"a-1": "1,000 images", "a-2": "2,000 images"}, **where)
    models = MlflowClient(where["tracking_uri"]).search_logged_models([done.experiment_id])
    of = {
        (model.tags["flipscale.id"], metric.key): (metric.dataset_name, metric.dataset_digest)
        for model in models
        for metric in model.metrics
    }
    assert of["a-1", "cars.zero_shot_top1"][0] == "cars"
    assert of["a-1", "zero_shot_top1"][0] == of["a-2", "zero_shot_top1"][0]
    assert of["a-1", "zero_shot_top1"][1] != of["a-2", "zero_shot_top1"][1]
    assert of["a-1", "used/train_seconds"] == (None, None)


def test_source_user_and_commit_are_mlflow_s_own_tags(where, tmp_path):
    folder = RunFolder(tmp_path / "runs" / "a-1")
    with folder.hold() as lease:
        lease.note_code(CodeIdentity(source="1" * 64, commit="1" * 40))
        lease.write_result(Result())
    done = bring(table(row("a-1")), curve("a-1"), **where, runs=tmp_path / "runs", file="mask.yaml")
    runs = runs_there(where, done)
    run = runs["a-1"]
    tags = {name.removeprefix("mlflow."): value for name, value in run.data.tags.items() if name.startswith("mlflow.")}
    assert tags == {
        "runName": "mask 50 %, 1000 samples, seed 0, a-1",
        "user": folder.path.owner(),
        "source.name": "mask.yaml",
        "source.type": "JOB",
        "source.git.commit": "1" * 40,
    }
    assert run.info.user_id == folder.path.owner()
    assert runs["study mask"].data.tags["mlflow.source.name"] == "mask.yaml"
    (model,) = MlflowClient(where["tracking_uri"]).search_logged_models([done.experiment_id])
    assert model.tags["mlflow.source.git.commit"] == "1" * 40


def test_weights_by_choice_once_each(where, tmp_path):
    for name in ("a-1", "a-2"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    (tmp_path / "runs/a-1/model.pt").write_bytes(b"weights")
    (tmp_path / "secret").write_text("x")
    (tmp_path / "runs/a-2/model.pt").symlink_to(tmp_path / "secret")
    tables = (table(row("a-1"), row("a-2")), curve("a-1"))
    done = bring(*tables, **where, runs=tmp_path / "runs")
    client = MlflowClient(where["tracking_uri"])
    there = {model.tags["flipscale.id"]: model for model in client.search_logged_models([done.experiment_id])}
    place = Path(there["a-1"].artifact_location.removeprefix("file://"))
    assert not place.exists()
    for thoroughly in (False, True):
        bring(*tables, **where, runs=tmp_path / "runs", models=True, thoroughly=thoroughly)
    assert {model.model_id for model in client.search_logged_models([done.experiment_id])} == {
        model.model_id for model in there.values()
    }
    assert str(there["a-1"].status) == "READY"
    assert there["a-1"].source_run_id == runs_there(where, done)["a-1"].info.run_id
    assert [path.name for path in place.rglob("*.pt")] == ["model.pt"]
    assert not Path(there["a-2"].artifact_location.removeprefix("file://")).exists()


def test_artifacts_are_plain_files(where, tmp_path):
    plots, outside = tmp_path / "plots", tmp_path / "outside"
    plots.mkdir()
    outside.mkdir()
    (outside / "passwd").write_text("secret")
    (plots / "good.png").write_text("x")
    (plots / "link.png").symlink_to(outside / "passwd")
    (plots / "folder.png").mkdir()
    os.mkfifo(plots / "pipe.png")
    files = [plots / f"{name}.png" for name in ("good", "link", "folder", "pipe", "gone")]
    done = bring(table(row("a-1")), curve("a-1"), **where, files=files)
    run = runs_there(where, done)["study mask"].info.run_id
    sent = [one.path for one in MlflowClient(where["tracking_uri"]).list_artifacts(run)]
    assert sent == ["good.png"]
    assert len(done.left_out) == 4
    assert all("is not a plain file, so it is not sent to MLflow" in said for said in done.left_out)


def test_two_mirrors_at_once_give_one_run(where, tmp_path):
    bring(table(row("a-0")), curve("a-0"), "mask", **where)
    table(row("a-0"), row("a-1")).to_csv(tmp_path / "results.csv", index=False)
    source = MirrorSource("mask", tmp_path / "results.csv", baseline={"mask_ratio": 0.0})
    done = []
    threads = [threading.Thread(target=lambda: done.append(mirror(source, **where))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(d.created for d in done) == [0, 0, 1]
    assert len(MlflowClient(where["tracking_uri"]).search_runs([done[0].experiment_id])) == 4


def test_a_curve_of_many_metrics_goes_in_more_than_one_batch(where):
    points = pd.DataFrame(
        [
            {"id": "a-1", "step": s, "samples": s, "seconds": 1.0, "metric": f"m{m}", "value": 1.0, "time": 1.7e9 + s}
            for m in range(15)
            for s in range(100)
        ]
    )
    done = bring(table(row("a-1")), points, "mask", **where)
    client, run_id = MlflowClient(where["tracking_uri"]), runs_there(where, done)["a-1"].info.run_id
    assert all(len(client.get_metric_history(run_id, f"train/m{m}")) == 100 for m in range(15))


def test_no_rows_make_no_experiment(where):
    done = bring(table(), curve("a-1").iloc[:0], "mask", **where)
    assert done == track.Mirrored(0, 0, 0, None)


def test_a_deleted_experiment_is_named_with_the_command_that_restores_it(where):
    done = bring(table(row("a-1")), curve("a-1"), "mask", **where)
    MlflowClient(where["tracking_uri"]).delete_experiment(done.experiment_id)
    with pytest.raises(FlipscaleError, match="mlflow experiments restore"):
        bring(table(row("a-1")), curve("a-1"), "mask", **where)


def test_an_unreachable_server_is_one_sentence_without_the_password(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(FlipscaleError, match=rf"MLflow at http://\*\*\*@127\.0\.0\.1:{port} cannot") as caught:
        bring(
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
    with pytest.raises(FlipscaleError, match="cannot be reached, or refused the request"):
        bring(
            table(row("a-1")),
            curve("a-1"),
            "mask",
            tracking_uri=f"sqlite:///{tmp_path}/file/mlflow.db",
            artifact_root=tmp_path / "artifacts",
        )


SECRETS = [
    ("postgresql://me:hunter2@db:5432/ml", "postgresql://***@db:5432/ml"),
    ("postgresql://me:hun/t@er2@db/ml", "postgresql://***@db/ml"),
    ("mysql+pymysql://me@db/ml", "mysql+pymysql://***@db/ml"),
    ("https://tok:x@server/mlflow?a=1", "https://***@server/mlflow?a=1"),
    ("postgresql://db/ml?user=me&password=hunter2&x=1", "postgresql://db/ml?user=me&password=***&x=1"),
    ("https://server/?access_token=abc", "https://server/?access_token=***"),
    ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    ("sqlite:////a b/mlflow.db", "sqlite:////a b/mlflow.db"),
]


@pytest.mark.parametrize(("uri", "shown"), SECRETS)
def test_an_address_is_shown_without_its_secrets(uri, shown):
    assert without_secrets(uri) == shown
    assert without_secrets(f"cannot open '{uri}' (http://a/b)") == f"cannot open '{shown}' (http://a/b)"
    said = ui_command(uri)
    assert "hunter2" not in said
    assert "abc" not in said
    assert uri.startswith("http") or "--host 127.0.0.1" in said


def test_a_password_is_taken_out_wherever_it_is_quoted():
    uri = "postgresql://me:p%40ss@db/ml"
    assert without_secrets('role me, password "p@ss" or p%40ss', uri) == 'role me, password "***" or ***'


def test_where_mlflow_is_follows_the_variable_and_the_results(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_address(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there")
    assert tracking_address(tmp_path) == "http://there"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///here.db")
    assert tracking_address(tmp_path) == f"sqlite:///{tmp_path}/here.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://a@b/c")
    assert tracking_address(tmp_path) == "postgresql://a@b/c"


def test_ui_command_can_be_pasted(monkeypatch):
    said = "ui --backend-store-uri 'sqlite:////a b/mlflow.db' --host 127.0.0.1 --workers 1"
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert ui_command("sqlite:////a b/mlflow.db") == f"mlflow {said}"
    monkeypatch.setenv("PATH", "")
    assert ui_command("sqlite:////a b/mlflow.db") == f"{sys.executable} -m mlflow {said}"
    assert ui_command("http://127.0.0.1:5000") == "http://127.0.0.1:5000"


def test_a_changed_figure_replaces_the_old_one(where, tmp_path):
    figure = tmp_path / "here" / "speedup.svg"
    figure.parent.mkdir()
    for text in ("old", "new"):
        figure.write_text(text)
        done = bring(table(row("a-1")), curve("a-1"), "mask", **where, files=[figure])
    parent = runs_there(where, done)["study mask"].info
    client = MlflowClient(where["tracking_uri"])
    got = client.download_artifacts(parent.run_id, "speedup.svg", str(tmp_path))
    assert Path(got).read_text() == "new"
    assert len(client.search_runs([done.experiment_id])) == 2
