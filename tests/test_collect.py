import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from flipscale import collecting as collect_room
from flipscale.collecting import COLUMNS, columns_as_markdown, points, read_curves, read_results
from flipscale.cost.arithmetic import Cost
from flipscale.door.columns import SETTING_COLUMNS, TRUNK_COLUMNS
from flipscale.errors import ResultsError, RunFolderError
from flipscale.planning.runs import Plan, Run, Trunk
from flipscale.planning.timing import RunTime, TimingPlace
from flipscale.run import FailureKind, Job, Lease, RunFolder, RunRequest
from flipscale.scores import SCORES
from flipscale.settings.declarations import Resources, plain
from flipscale.study.settings import read_settings

SETTINGS_OF_A = {
    "model": "ViT-w48d3-4",
    "image_size": 28,
    "text_length": 16,
    "data": {"shapes": {"pairs": 0.3, "seed": 0}},
    "data_size": None,
    "crop": None,
    "flip": False,
    "normalization": "imagenet",
    "samples": 1000,
    "mask_ratio": 0,
    "mask_shape": "random",
    "text_mask_ratio": 0.0,
    "text_mask": "prioritised",
    "reconstruction": None,
    "batch_size": 64,
    "lr": 1e-06,
    "warmup": 100,
    "schedule": "cosine",
    "cooldown": 0,
    "cooldown_shape": "linear",
    "average": 0.0,
    "loss_function": "softmax",
    "weight_decay": 0.2,
    "beta1": 0.9,
    "beta2": 0.95,
    "eps": 1e-08,
    "grad_clip": None,
    "precision": "fp32",
    "init": None,
    "stages": None,
    "tuning": None,
    "fine_tuning": None,
    "trainer": {"flipscale": {}},
    "seed": 0,
    "evaluation": {"data": None, "images": 2000, "at": [1.0], "templates": None},
}
COST = Cost(
    params=7,
    image_flops=0,
    text_flops=0,
    loss_flops=0,
    flops_per_sample=123456789,
    samples_seen=1024,
    steps=16,
    train_flops=5.0e21,
    memory_bytes=1 << 30,
    gpu_hours=0.25,
)
RESULT = {
    "scores": {"zero_shot_top1": 0.625, "held_out_loss": 1.5},
    "samples_seen": 1024,
    "steps": 16,
    "unique_pairs": 1024,
    "repeats": 1.0,
    "train_seconds": 0.1 + 0.2,
    "devices": 2,
    "device": "cpu",
    "started": 1700000000.5,
    "finished": 1700000100.25,
    "params": 414000,
    "versions": {"torch": "2.13"},
}
RECORDS = [
    {"step": 8, "samples_seen": 512, "loss": 4.0, "lr": 1e-6, "seconds": 1.0, "time": 1700000050.0},
    {"step": 16, "samples_seen": 1024, "loss": 3.5, "lr": 0.0, "seconds": 2.0, "time": 1700000090.0},
    {
        "step": 16,
        "samples_seen": 1024,
        "scores": {"zero_shot_top1": 0.625},
        "evaluation_seconds": 3.0,
        "time": 1700000095.0,
    },
]


def planned(run_id: str, **settings) -> Run:
    return Run(run_id, read_settings({**SETTINGS_OF_A, **settings}), (), COST, (("samples", "1000"),), Resources())


def collect(runs, root: Path, out: Path, **more):
    return collect_room.collect(Plan("mask", tuple(runs), {}), root, out, **more)


def write_run(root: Path, run, result=RESULT, records=RECORDS) -> RunFolder:
    folder = RunFolder(root / "runs" / run.id)
    folder.ask(RunRequest(run.id, plain(run.settings), cost=run.cost, recipe=1))
    with folder.hold() as lease:
        assert isinstance(lease, Lease)
        lease.append(records)
        if result is not None:
            (folder.path / "result.json").write_text(json.dumps(result))
    return folder


@pytest.fixture
def two_runs(tmp_path):
    runs = [planned("b-1"), planned("a-2", mask_ratio=0.5, seed=1)]
    for run in runs:
        write_run(tmp_path, run)
    return runs


def test_a_finished_run_becomes_one_row_in_plan_order(tmp_path, two_runs):
    found = collect(two_runs, tmp_path, tmp_path / "mask")
    assert found.results["id"].tolist() == ["b-1", "a-2"]
    row = found.results.iloc[1]
    assert row["mask_ratio"] == 0.5
    assert row["samples"] == 1000
    assert row["samples_seen"] == 1024
    assert row["zero_shot_top1"] == 0.625
    assert row["data"] == "shapes"
    assert row["train_flops"] == 5.0e21
    assert row["gpu_hours_predicted"] == 0.25
    assert found.states["finished"] == 2


def timed(run: Run, hours: float, device: str = "cpu") -> Run:
    """The run as a plan has it whose shape a probe has timed on this device."""
    time = RunTime(TimingPlace("local", device, device), 0.0, 60.0, 0.0, hours, 0.0, 1.1)
    return replace(run, timed=time, cost=run.cost.taking(time.hours))


def test_hours_of_a_probe_stand_beside_what_was_measured_where_the_device_is_the_same(tmp_path, two_runs):
    first, second = two_runs
    of_probe = [timed(first, 0.5), timed(second, 0.25, device="NVIDIA H100")]
    rows = collect(of_probe, tmp_path, tmp_path / "mask").results
    assert rows["gpu_hours_probed"].fillna(-1).tolist() == [0.5, -1]


def test_a_probe_after_collecting_makes_rows_anew(tmp_path, two_runs):
    assert collect(two_runs, tmp_path, tmp_path / "mask").results["gpu_hours_probed"].isna().all()
    again = collect([timed(run, 0.5) for run in two_runs], tmp_path, tmp_path / "mask")
    assert again.results["gpu_hours_probed"].tolist() == [0.5, 0.5]


def test_a_branchs_hours_of_a_probe_count_its_trunk(tmp_path):
    branch = timed(planned("branch"), 0.5)
    branch = replace(branch, trunk=Trunk("trunk", 3 * branch.cost.samples_seen))
    write_run(tmp_path, branch)
    assert collect([branch], tmp_path, tmp_path / "mask").results["gpu_hours_probed"].tolist() == [2.0]


def test_a_childs_hours_of_a_probe_count_its_parents(tmp_path):
    parent = timed(planned("parent"), 0.5)
    child = timed(replace(planned("child", tuning={"samples": 100}), parents=("parent",)), 0.25)
    result = {**RESULT, "parent": {"id": "parent"}}
    write_run(tmp_path, parent)
    write_run(tmp_path, child, result)
    rows = collect([parent, child], tmp_path, tmp_path / "mask").results
    assert rows["gpu_hours_probed"].tolist() == [0.5, 0.75]
    untimed = collect([replace(parent, timed=None), child], tmp_path, tmp_path / "mask").results
    assert untimed["gpu_hours_probed"].isna().tolist() == [True, True]


def test_csv_columns_are_the_documented_table(tmp_path, two_runs):
    collect(two_runs, tmp_path, tmp_path / "mask")
    header = (tmp_path / "mask" / "results.csv").read_text().splitlines()[0]
    assert header.split(",") == [name for name, column in COLUMNS.items() if column.default is None]


def test_a_column_of_a_later_setting_is_written_where_a_run_has_another_value_and_read_at_its_default(tmp_path):
    shapes = [("a-1", "linear"), ("b-1", "1-sqrt")]
    runs = [planned(name, schedule="constant", cooldown=100, cooldown_shape=shape) for name, shape in shapes]
    write_run(tmp_path, runs[0])
    assert collect(runs, tmp_path, tmp_path / "mask").results["cooldown_shape"].tolist() == ["linear"]
    assert "cooldown_shape" not in (tmp_path / "mask" / "results.csv").read_text()
    write_run(tmp_path, runs[1])
    assert collect(runs, tmp_path, tmp_path / "mask").results["cooldown_shape"].tolist() == ["linear", "1-sqrt"]
    documented = [line.split("`")[1] for line in columns_as_markdown().splitlines()[2:]]
    assert documented == [*COLUMNS, *TRUNK_COLUMNS]


def test_settings_and_scores_are_the_contract_s():
    names = list(COLUMNS)
    assert SETTING_COLUMNS[0] == "model"
    assert set(SETTING_COLUMNS) == set(SETTINGS_OF_A) - {"evaluation"}
    first, last = names.index("zero_shot_top1"), names.index("held_out_loss")
    assert (
        tuple(names[first : last + 1])
        == tuple(SCORES)
        == (
            "zero_shot_top1",
            "zero_shot_top5",
            "image_retrieval_r1",
            "image_retrieval_r5",
            "image_retrieval_r10",
            "text_retrieval_r1",
            "text_retrieval_r5",
            "text_retrieval_r10",
            "linear_probe_top1",
            "fine_tune_top1",
            "held_out_loss",
        )
    )


def test_a_child_s_row_counts_what_its_parents_took(tmp_path):
    tuning = {"samples": 128, "lr": None, "warmup": None, "batch_size": None, "mask_ratio": 0.0}
    parent = planned("p", mask_ratio=0.5)
    child = replace(planned("c", mask_ratio=0.5, tuning=tuning), parents=("p",))
    masked = replace(planned("e", mask_ratio=0.5, tuning=tuning, inference="masked"), parents=("c",))
    child = replace(child, cost=replace(COST, train_flops=1.0e21, gpu_hours=0.05))
    masked = replace(masked, cost=replace(COST, train_flops=0, gpu_hours=0.0))
    write_run(tmp_path, parent, {**RESULT, "train_seconds": 8.0, "cpu_seconds": 7.0, "gpu_hours": 2.0})
    first = {"id": "p", "samples_seen": 1024, "train_seconds": 8.0, "cpu_seconds": 7.0, "gpu_hours": 2.0}
    own = {"samples_seen": 128, "train_seconds": 1.0, "cpu_seconds": 0.5, "gpu_hours": 0.25}
    write_run(tmp_path, child, {**RESULT, **own, "parent": first})
    both = {"id": "c", "samples_seen": 1152, "train_seconds": 9.0, "cpu_seconds": 7.5, "gpu_hours": 2.25}
    nothing = {"samples_seen": 0, "train_seconds": 0.0, "cpu_seconds": 0.0, "gpu_hours": 0.0}
    write_run(tmp_path, masked, {**RESULT, **nothing, "parent": both})
    found = collect([parent, child, masked], tmp_path, tmp_path / "mask").results.set_index("id")
    assert found["parent"].fillna("").tolist() == ["", "p", "c"]
    assert found["tuning"].fillna("").tolist() == ["", "128", "128"]
    assert found["samples_seen"].tolist() == [1024, 1152, 1152]
    assert found["train_seconds"].tolist() == [8.0, 9.0, 9.0]
    assert found["cpu_seconds"].tolist() == [7.0, 7.5, 7.5]
    assert found["gpu_hours"].tolist() == [2.0, 2.25, 2.25]
    assert found["train_flops"].tolist() == [5.0e21, 6.0e21, 6.0e21]
    assert found["gpu_hours_predicted"].tolist() == pytest.approx([0.25, 0.3, 0.3])
    assert found["images_per_second"].iloc[1:].tolist() == [128.0, 128.0]


def test_a_child_s_pairs_are_those_of_its_line(tmp_path):
    parent = planned("p")
    child = replace(planned("c"), parents=("p",))
    evaluation = replace(planned("e", mask_ratio=0.5, inference="masked"), parents=("c",))
    write_run(tmp_path, parent)
    unknown = replace(planned("u", mask_ratio=0.5, seed=1), parents=("p",))
    spent = {"train_seconds": 1.0, "cpu_seconds": 1.0, "gpu_hours": 1.0}
    before = {"id": "p", "samples_seen": 1024, **spent}
    own = {"samples_seen": 256, "unique_pairs": 256, "repeats": 1.0, "parent": {**before, "unique_pairs": 1024}}
    write_run(tmp_path, child, {**RESULT, **own})
    line = {"id": "c", "samples_seen": 1280, "unique_pairs": 1280, **spent}
    nothing = {"samples_seen": 0, "unique_pairs": None, "repeats": None, "parent": line}
    write_run(tmp_path, evaluation, {**RESULT, **nothing})
    write_run(tmp_path, unknown, {**RESULT, **own, "parent": before})
    found = collect([parent, child, evaluation, unknown], tmp_path, tmp_path / "mask").results
    assert found["unique_pairs"].fillna(-1).tolist() == [1024, 1280, 1280, -1]
    assert found["repeats"].fillna(-1).tolist() == [1.0, 1.0, 1.0, -1]


def test_a_parent_that_no_cell_asks_for_has_no_row(tmp_path):
    parent = replace(planned("p"), cell=None)
    child = replace(planned("c"), parents=("p",))
    for run in (parent, child):
        write_run(tmp_path, run)
    found = collect([parent, child], tmp_path, tmp_path / "mask")
    assert found.results["id"].tolist() == ["c"]
    assert found.states["finished"] == 2


@pytest.mark.parametrize(
    "evaluation",
    [
        {"data": {"fashion": {"folder": "moved"}}, "images": 2000, "at": [1.0], "templates": None},
        {"data": {"fashion": {"folder": None}}, "images": 2000, "at": [1.0, 1.0], "templates": None, "sets": {}},
    ],
)
def test_what_is_no_part_of_an_id_may_differ(tmp_path, evaluation):
    asked = {"data": {"fashion": {"folder": "data"}}, "images": 2000, "at": [1.0], "templates": None}
    run = planned("a", evaluation=asked)
    write_run(tmp_path, planned("a", evaluation=evaluation))
    found = collect([run], tmp_path, tmp_path / "mask")
    assert (len(found.results), found.problems) == (1, {})


def test_what_a_parent_took_is_missing_where_its_result_does_not_say(tmp_path):
    child = replace(planned("c"), parents=("p",))
    write_run(tmp_path, child)
    row = collect([child], tmp_path, tmp_path / "mask").results.iloc[0]
    assert all(pd.isna(row[name]) for name in ("samples_seen", "train_seconds", "train_flops", "gpu_hours_predicted"))


def test_a_set_of_the_evaluation_has_columns_of_its_own(tmp_path):
    one, two = planned("one"), planned("two", seed=1)
    write_run(tmp_path, one, {**RESULT, "scores": {"zero_shot_top1": 0.5, "sketch.zero_shot_top1": 0.25}})
    write_run(tmp_path, two)
    found = collect([one, two], tmp_path, tmp_path / "mask")
    read = read_results(found.files[0])
    pd.testing.assert_frame_equal(read, found.results)
    assert list(read.columns) == [*COLUMNS, "sketch.zero_shot_top1"]
    assert read["sketch.zero_shot_top1"][0] == 0.25
    assert pd.isna(read["sketch.zero_shot_top1"][1])
    assert found.unknown_scores == ()


def test_missing_stays_missing(tmp_path, two_runs):
    found = collect(two_runs, tmp_path, tmp_path / "mask")
    for table in (found.results, read_results(tmp_path / "mask" / "results.csv")):
        for name in ("image_retrieval_r1", "data_size", "grad_clip", "cpu_seconds", "attempts"):
            assert table[name].isna().all()
    assert b",," in (tmp_path / "mask" / "results.csv").read_bytes()


def test_csv_reads_back_as_it_was_written(tmp_path, two_runs):
    found = collect(two_runs, tmp_path, tmp_path / "mask")
    read = read_results(tmp_path / "mask" / "results.csv")
    pd.testing.assert_frame_equal(read, found.results)
    assert read["train_seconds"][0] == 0.1 + 0.2
    assert str(read["seed"].dtype) == "Int64"
    assert str(read["mask_ratio"].dtype) == "float64"


def test_the_same_folders_give_byte_identical_files(tmp_path, two_runs):
    first = [file.read_bytes() for file in collect(two_runs, tmp_path, tmp_path / "mask").files]
    second = [file.read_bytes() for file in collect(two_runs, tmp_path, tmp_path / "mask").files]
    assert first == second
    assert sorted(path.name for path in (tmp_path / "mask").iterdir()) == ["curves.parquet", "results.csv"]


def test_curves_hold_every_point_and_no_missing_value(tmp_path, two_runs):
    found = collect(two_runs, tmp_path, tmp_path / "mask")
    curves = read_curves(tmp_path / "mask" / "curves.parquet")
    pd.testing.assert_frame_equal(curves, found.curves)
    assert list(curves.columns) == ["id", "step", "samples", "seconds", "metric", "value", "time"]
    of_b = curves[curves["id"] == "b-1"]
    assert of_b["metric"].tolist() == ["loss", "lr", "loss", "lr", "zero_shot_top1"]
    assert of_b["value"].tolist() == [4.0, 1e-6, 3.5, 0.0, 0.625]
    assert of_b["seconds"].tolist()[:4] == [1.0, 1.0, 2.0, 2.0]
    assert of_b["seconds"].isna().tolist() == [False] * 4 + [True]


def test_a_loss_that_is_not_finite_is_no_point(tmp_path):
    run = planned("a-1")
    record = {"step": 1, "samples_seen": 64, "loss": float("nan"), "lr": 0.1, "seconds": 1.0, "time": 5.0}
    write_run(tmp_path, run, records=[record])
    assert collect([run], tmp_path, tmp_path / "mask").curves["metric"].tolist() == ["lr"]


def test_unfinished_runs_are_counted_by_state_and_have_no_row(tmp_path):
    runs = [planned(name) for name in ("done", "failed", "planned", "waiting", "cancelled", "running")]
    write_run(tmp_path, runs[0])
    write_run(tmp_path, runs[1], result=None).write_error(FailureKind.OOM, "out of memory")
    write_run(tmp_path, runs[3], result=None).write_job(Job("x", "local", "1", 0.0, ""))
    write_run(tmp_path, runs[4], result=None).write_job(Job("x", "local", "2", 0.0, "", cancelled=1.0))
    with write_run(tmp_path, runs[5], result=None).hold():
        found = collect(runs, tmp_path, tmp_path / "mask")
    assert found.results["id"].tolist() == ["done"]
    assert {state: n for state, n in found.states.items() if n} == dict.fromkeys(
        ("finished", "failed", "planned", "waiting", "cancelled", "running"), 1
    )


def test_nothing_finished_gives_a_header_and_no_rows(tmp_path):
    found = collect([planned("a-1")], tmp_path, tmp_path / "mask")
    assert len(read_results(found.files[0])) == 0
    assert len(read_curves(found.files[1])) == 0
    assert found.states["planned"] == 1


def test_torn_lines_are_counted_and_the_rest_is_kept(tmp_path):
    run = planned("a-1")
    folder = write_run(tmp_path, run)
    with open(folder.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 17, "lo')
    found = collect([run], tmp_path, tmp_path / "mask")
    assert found.torn_lines == 1
    assert len(found.curves) == 5


def test_a_look_reads_points_again_only_where_a_run_has_written_since(tmp_path, two_runs, monkeypatch):
    out = tmp_path / "mask"
    collect(two_runs, tmp_path, out)
    read = []
    kept = points.read_points
    monkeypatch.setattr(points, "read_points", lambda folder: (read.append(folder.path.name), kept(folder))[1])
    collect(two_runs, tmp_path, out, trust_curves=True)
    assert read == []
    collect(two_runs[:1], tmp_path, out, trust_curves=True)
    assert read == ["b-1"]
    read.clear()
    with open(tmp_path / "runs" / "b-1" / "metrics.jsonl", "a") as file:
        file.write('{"step": 18, "loss": 1.5, "time": 3.0}\n')
    found = collect(two_runs[:1], tmp_path, out, trust_curves=True)
    assert read == ["b-1"]
    assert 18 in set(found.curves["step"])


def test_a_folder_that_cannot_be_read_is_named_and_not_fatal(tmp_path, two_runs):
    (tmp_path / "runs" / "b-1" / "result.json").write_text('{"scores"')
    found = collect(two_runs, tmp_path, tmp_path / "mask")
    assert found.results["id"].tolist() == ["a-2"]
    assert found.states["unreadable"] == 1
    assert "result.json: not JSON" in found.problems["b-1"]


def test_a_copied_folder_is_foreign(tmp_path, two_runs):
    (tmp_path / "runs" / "a-2" / "run.json").write_bytes((tmp_path / "runs" / "b-1" / "run.json").read_bytes())
    assert "its run.json is of 'b-1'" in collect(two_runs, tmp_path, tmp_path / "mask").problems["a-2"]


def test_an_edited_folder_is_foreign(tmp_path, two_runs):
    runs = [replace(two_runs[0], settings=replace(two_runs[0].settings, lr=0.1))]
    assert "another lr than the plan" in collect(runs, tmp_path, tmp_path / "mask").problems["b-1"]


def test_a_setting_added_since_then_does_not_make_a_folder_foreign(tmp_path, two_runs):
    path = tmp_path / "runs" / "b-1" / "run.json"
    asked = json.loads(path.read_text())
    del asked["settings"]["crop"]
    path.write_text(json.dumps(asked))
    assert collect(two_runs, tmp_path, tmp_path / "mask").states["finished"] == 2


def test_a_fact_of_the_wrong_kind_is_named(tmp_path):
    run = planned("a-1")
    write_run(tmp_path, run, result={**RESULT, "train_seconds": "fast"})
    assert "'train_seconds' is 'fast'" in collect([run], tmp_path, tmp_path / "mask").problems["a-1"]


def test_a_newer_folder_is_an_error_that_names_it(tmp_path, two_runs):
    path = tmp_path / "runs" / "b-1" / "result.json"
    path.write_text(json.dumps({**RESULT, "schema": 99}))
    with pytest.raises(RunFolderError, match=r"b-1/result\.json: schema 99 is newer"):
        collect(two_runs, tmp_path, tmp_path / "mask")


def test_a_score_without_a_column_is_named(tmp_path):
    run = planned("a-1")
    write_run(tmp_path, run, result={**RESULT, "scores": {"zero_shot_top1": 0.5, "my_score": 1.0}})
    assert collect([run], tmp_path, tmp_path / "mask").unknown_scores == ("my_score",)


def test_a_web_data_set_goes_by_its_name(tmp_path):
    runs = [planned("a-1", data={"webdataset": {"urls": "x/{0..9}.tar", "name": "laion400m"}})]
    runs.append(planned("a-2", data={"webdataset": {"urls": "x/{0..9}.tar", "name": None}}))
    for run in runs:
        write_run(tmp_path, run)
    assert collect(runs, tmp_path, tmp_path / "mask").results["data"].tolist() == ["laion400m", "x"]


def test_a_large_count_reads_back_exactly(tmp_path):
    run = planned("a-1")
    write_run(tmp_path, run, result={**RESULT, "peak_memory_bytes": 2**53 + 1})
    collect([run], tmp_path, tmp_path / "mask")
    assert read_results(tmp_path / "mask" / "results.csv")["peak_memory_bytes"][0] == 2**53 + 1


def test_a_table_that_is_not_there_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(ResultsError, match="flipscale collect"):
        read_results(tmp_path / "results.csv")
    (tmp_path / "other.csv").write_text("x,y\n1,2\n")
    with pytest.raises(ResultsError, match="no column 'id'"):
        read_results(tmp_path / "other.csv")


def test_curves_of_some_metrics_are_the_rows_of_these(tmp_path, two_runs):
    path = collect(two_runs, tmp_path, tmp_path / "mask").files[1]
    all_of_them = read_curves(path)
    some = read_curves(path, metrics=("loss", "no such thing"))
    assert 0 < len(some) < len(all_of_them)
    pd.testing.assert_frame_equal(
        some.astype({"metric": "str"}),
        all_of_them[all_of_them["metric"] == "loss"].astype({"metric": "str"}).reset_index(drop=True),
    )


def test_an_unfinished_folder_that_cannot_be_read_is_named_and_not_fatal(tmp_path, two_runs):
    (tmp_path / "runs" / "b-1" / "result.json").unlink()
    (tmp_path / "runs" / "b-1" / "job.json").write_text("{")
    found = collect(two_runs, tmp_path, tmp_path / "mask")
    assert (found.states["finished"], found.states["unreadable"]) == (1, 1)
    assert "job.json: not JSON" in found.problems["b-1"]


def test_a_table_of_hundreds_of_gigabytes_and_curves_of_somebody_else_are_refused(tmp_path):
    with open(tmp_path / "results.csv", "wb") as file:
        file.truncate(200 * 2**30)
    with pytest.raises(ResultsError, match=r"results.csv: holds 214,748,364,800 bytes, where at most"):
        read_results(tmp_path / "results.csv")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "curves.parquet")
    for metrics in (None, ["loss"]):
        with pytest.raises(ResultsError, match=r"curves\.parquet: has no column 'id'"):
            read_curves(tmp_path / "curves.parquet", metrics=metrics)
