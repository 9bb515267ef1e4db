"""A run's folder: its state is which files exist, one process holds it at a time, and no reader sees half a file."""

import ast
import json
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from flipscale.door.run_states import Hours
from flipscale.errors import LeaseLost, RunFolderError
from flipscale.plain_files import replacing
from flipscale.run import (
    FailedAttempt,
    Failure,
    FailureKind,
    Hits,
    Job,
    Result,
    RunFolder,
    RunRequest,
    Spent,
    State,
    lacks_weights,
    write_json,
)
from flipscale.settings.declarations import Resources
from flipscale.train.requests import spent_before
from tests.launch.contract import NO_COST
from tests.patience import PATIENCE

JOB_OF_IT = Job("ViT-w16d1-4_shapes_1k_m0_s0_0123456789", "local", "1", 0.0, "")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "ViT-w16d1-4_shapes_1k_m0_s0_0123456789")
    folder.ask(RunRequest(folder.id, {"seed": 0}))
    return folder


def test_state_follows_from_the_files(folder: RunFolder) -> None:
    assert folder.state() is State.PLANNED
    folder.write_job(JOB_OF_IT)
    assert folder.state(State.WAITING) is State.WAITING
    assert folder.state(None) is State.LOST
    folder.write_job(replace(JOB_OF_IT, cancelled=1.0))
    assert folder.state(None) is State.CANCELLED
    with folder.hold() as lease:
        assert lease is not None
        assert folder.state(None) is State.RUNNING
        folder.write_error(FailureKind.DIVERGED, "the loss is not a number")
        assert folder.state(State.WAITING) is State.FAILED
        lease.write_result(Result())
        assert folder.state(State.WAITING) is State.FINISHED


def test_what_was_asked_again_is_what_stands(folder: RunFolder) -> None:
    folder.ask(RunRequest(folder.id, {"seed": 0, "data": {"fashion": {"folder": "there"}}}))
    asked = folder.asked()
    assert asked is not None
    assert asked.settings["data"] == {"fashion": {"folder": "there"}}


def test_what_is_asked_again_unchanged_is_not_written_again(folder: RunFolder) -> None:
    before = (folder.path / "run.json").stat().st_ino
    asked = folder.asked()
    assert asked is not None
    folder.ask(asked)
    assert (folder.path / "run.json").stat().st_ino == before


def test_a_retry_forgets_the_failure_and_keeps_the_record(folder: RunFolder) -> None:
    with folder.hold() as lease:
        assert lease is not None
        lease.append([{"step": 1, "loss": 2.0}])
        with lease.replace("checkpoint.pt") as file:
            file.write(b"weights")
    folder.write_error(FailureKind.OOM, "out of memory")
    folder.clear_for_retry()
    assert folder.state() is State.PLANNED
    assert folder.records() == ([{"step": 1, "loss": 2.0}], 0)
    assert (folder.path / "checkpoint.pt").read_bytes() == b"weights"


def test_second_holder_in_one_process_or_another_gets_nothing(folder: RunFolder) -> None:
    script = (
        "import sys; from flipscale.run import RunFolder\n"
        "with RunFolder(sys.argv[1]).hold() as lease: print(lease is None)"
    )
    with folder.hold() as first:
        assert first is not None
        with folder.hold() as second:
            assert second is None
        done = subprocess.run([sys.executable, "-c", script, folder.path], capture_output=True, text=True, check=True)
        assert done.stdout == "True\n"
    done = subprocess.run([sys.executable, "-c", script, folder.path], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_lease_of_a_killed_process_is_free_at_once(folder: RunFolder) -> None:
    script = (
        "import sys, time; from flipscale.run import RunFolder\n"
        "with RunFolder(sys.argv[1]).hold() as lease: print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, folder.path], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert folder.state() is State.RUNNING
        holder.send_signal(signal.SIGKILL)
    assert folder.state() is State.PLANNED
    with folder.hold() as lease:
        assert lease is not None


def test_lease_on_another_host_counts_until_it_is_untouched_for_long(folder: RunFolder) -> None:
    lease = folder.path / "lease.json"
    lease.write_text(json.dumps({"token": "x", "host": "elsewhere", "pid": 1, "born": "1"}))
    with folder.hold() as held:
        assert held is None
    long_ago = time.time() - 3600
    os.utime(lease, (long_ago, long_ago))
    with folder.hold() as held:
        assert held is not None


def test_who_has_lost_the_lease_writes_nothing(folder: RunFolder) -> None:
    with folder.hold() as lease:
        assert lease is not None
        (folder.path / "lease.json").write_text(json.dumps({"token": "other", "host": "elsewhere", "pid": 1}))
        with pytest.raises(LeaseLost):
            lease.append([{"step": 1}])
        with pytest.raises(LeaseLost):
            lease.write_result(Result())
        with pytest.raises(LeaseLost), lease.replace("checkpoint.pt"):
            pass
    assert sorted(path.name for path in folder.path.iterdir()) == ["lease.json", "lease.lock", "life.json", "run.json"]


def _take(path: Path, together: "multiprocessing.synchronize.Barrier", taken: "multiprocessing.Queue[bool]") -> None:
    together.wait(PATIENCE)
    with RunFolder(path).hold() as lease:
        taken.put(lease is not None)
        together.wait(PATIENCE)  # Nobody drops it before all have tried.


def test_who_loses_the_lease_while_a_result_is_flushed_does_not_finish_the_run(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two copies of a job may have finished the run meanwhile."""

    def slow(descriptor: int) -> None:
        (folder.path / "lease.json").write_text(json.dumps({"token": "other", "host": "elsewhere", "pid": 1}))

    with folder.hold() as lease:
        assert lease is not None
        monkeypatch.setattr(os, "fsync", slow)
        with pytest.raises(LeaseLost):
            lease.write_result(Result())
    assert not (folder.path / "result.json").exists()


def test_of_many_takers_at_once_one_gets_the_lease(folder: RunFolder) -> None:
    context = multiprocessing.get_context("fork")
    taken, together = context.Queue(), context.Barrier(8)
    takers = [context.Process(target=_take, args=(folder.path, together, taken)) for _ in range(8)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()
    assert sorted(taken.get() for _ in takers) == [False] * 7 + [True]


def test_records_of_a_resumed_run_stand_once_and_torn_lines_are_counted(folder: RunFolder) -> None:
    with folder.hold() as lease:
        assert lease is not None
        lease.append(
            [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}, {"step": 2, "scores": {"zero_shot_top1": 0.5}}]
        )
        with open(folder.path / "metrics.jsonl", "a") as file:
            file.write('{"step": 3, "lo')
        lease.mend_records()
        lease.append([{"step": 2, "loss": 1.5}, {"step": 3, "loss": float("nan")}])
    records, torn = folder.records()
    assert torn == 1
    assert records == [
        {"step": 1, "loss": 3.0},
        {"step": 2, "loss": 1.5},
        {"step": 2, "scores": {"zero_shot_top1": 0.5}},
        {"step": 3, "loss": None},
    ]


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"old")

    def write() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_device_is_written_to_and_stays_one(tmp_path):
    """`--out /dev/null` of root once made a plain file of it, for every program of the machine."""
    null = tmp_path / "null"
    try:
        os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")
    with replacing(null) as file:
        file.write(b"gone")
    assert null.is_char_device()
    assert os.listdir(tmp_path) == ["null"]


def test_readers_never_see_half_a_file(folder: RunFolder) -> None:
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            folder.write_job(Job(folder.id, "local", str(number), 0.0, log="x" * (number % 5000)))
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = [folder.job() for _ in range(500)]
    finally:
        stop.set()
        writer.join()
    assert all(job is None or job.launcher == "local" for job in seen)
    assert len(seen) == 500


def test_folder_of_a_newer_flipscale_is_refused_in_words(folder: RunFolder) -> None:
    (folder.path / "run.json").write_text('{"schema": 2, "id": "x"}')
    with pytest.raises(
        RunFolderError, match=r"run\.json: schema 2 is newer than this flipscale, which reads up to 1\."
    ):
        folder.asked()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("\xff", "not JSON"),
        ("[]", "holds no JSON object"),
        ("7", "holds no JSON object"),
    ],
)
def test_torn_or_foreign_json_is_named(folder: RunFolder, text: str, what: str) -> None:
    (folder.path / "result.json").write_text(text)
    with pytest.raises(RunFolderError, match=rf"result\.json: {what}"):
        folder.result()


def test_what_was_asked_and_never_reached_the_disk_was_not_asked(folder: RunFolder) -> None:
    for name in ("run.json", "job.json"):
        (folder.path / name).write_text("")
    assert (folder.asked(), folder.job(), folder.state()) == (None, None, State.PLANNED)


def test_a_later_attempt_of_the_same_job_takes_the_lease_of_one_that_still_lives(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIPSCALE_JOB", "slurm/a-0/7")
    with folder.hold() as first:
        assert first is not None
        with folder.hold() as same:
            assert same is None
        monkeypatch.setenv("FLIPSCALE_ATTEMPT", "1")
        with folder.hold() as second:
            assert second is not None
            assert folder.holder().attempt == 1
            with pytest.raises(LeaseLost):
                first.fence()
            monkeypatch.setenv("FLIPSCALE_JOB", "slurm/b-0/7")
            monkeypatch.setenv("FLIPSCALE_ATTEMPT", "2")
            with folder.hold() as other_job:
                assert other_job is None


def test_failures_are_kept_in_order_and_torn_ones_are_left_out(folder: RunFolder) -> None:
    assert folder.failures() == []
    folder.note_failure(FailedAttempt(FailureKind.OOM, "Too big.", "again"))
    with open(folder.path / "failures.jsonl", "a") as file:
        file.write('{"kind": "timeout", "reas\n{"kind": "weather"}\n')
    folder.note_failure(FailedAttempt(FailureKind.TIMEOUT, "Late.", "resumed"))
    assert [one.kind for one in folder.failures()] == ["oom", "timeout"]
    assert folder.failures()[0].time > 0


@pytest.mark.parametrize("text", ["", "null", "[1]", "{}", '{"host": "elsewhere"}', '{"host": "here", "pid": "x"}'])
def test_a_lease_that_names_no_process_is_none(folder: RunFolder, text: str) -> None:
    (folder.path / "lease.json").write_text(text)
    assert folder.state() is State.PLANNED
    with folder.hold() as held:
        assert held is not None


def test_a_schema_that_is_no_number_is_named(folder: RunFolder) -> None:
    (folder.path / "result.json").write_text('{"schema": "1"}')
    with pytest.raises(RunFolderError, match=r"result\.json: schema '1' is not a number"):
        folder.result()


def test_a_record_without_a_step_that_counts_is_a_torn_line(folder: RunFolder) -> None:
    (folder.path / "metrics.jsonl").write_text('{"step": 1}\n{"step": "2"}\n{"step": null}\n{"step": true}\n')
    assert folder.records() == ([{"step": 1}], 3)


# Records


def test_a_cost_that_one_of_the_parents_did_not_measure_is_unknown_for_all(folder: RunFolder) -> None:
    own = Result(samples_seen=640, train_seconds=10.0, cpu_seconds=None, gpu_hours=0.5)
    with folder.hold() as lease:
        assert lease is not None
        lease.write_result(own)
        assert spent_before(folder, 64) == Spent(folder.id, 640, 10.0, None, 0.5, 64)
        lease.write_result(
            replace(own, parent=Spent("grandparent", samples_seen=60, train_seconds=None, gpu_hours=1.5))
        )
    assert spent_before(folder, None) == Spent(folder.id, 700, None, None, 2.0, None)


COST = replace(NO_COST, params=7, samples_seen=640, steps=20, gpu_hours=0.5)


def test_what_is_written_is_what_is_read(folder: RunFolder) -> None:
    cell = (("model", "ViT-B-16"), ("tuning", "(samples=1.6k, lr=0.0001)"))
    asked = RunRequest(folder.id, {"seed": 0}, ("parent",), Resources(gpus=8), COST, cell, recipe=1)
    folder.ask(asked)
    folder.write_job(replace(JOB_OF_IT, cancelled=1.0))
    result = Result({"zero_shot_top1": 0.5}, samples_seen=640, device="cpu", parent=Spent("parent", samples_seen=64))
    with folder.hold() as lease:
        assert lease is not None
        lease.write_result(result)
    folder.write_error(FailureKind.OOM, "Too big.", seconds=2.5, noted=True)
    assert folder.asked() == asked
    assert folder.job() == replace(JOB_OF_IT, cancelled=1.0)
    assert folder.result() == result
    error = folder.error()
    assert error is not None
    assert error.time is not None
    assert replace(error, time=None) == Failure(FailureKind.OOM, "Too big.", seconds=2.5, noted=True)


def test_hours_of_older_versions_have_no_range(folder: RunFolder) -> None:
    cost = {name: value for name, value in vars(COST).items() if not name.startswith("gpu_hours_")}
    written = {"schema": 1, "id": folder.id, "settings": {}, "parents": [], "cost": cost}
    (folder.path / "run.json").write_text(json.dumps(written))
    asked = folder.asked()
    assert asked is not None
    assert asked.cost == replace(COST, gpu_hours_low=None, gpu_hours_high=None)
    assert asked.cost.hours == Hours(0.5, 0.5, 0.5)


def test_a_cost_that_an_older_version_did_not_predict_whole_is_not_known(folder: RunFolder) -> None:
    (folder.path / "run.json").write_text('{"schema": 1, "id": "x", "settings": {}, "cost": {"params": 7}}')
    asked = folder.asked()
    assert asked is not None
    assert asked.cost is None


def test_a_failure_of_a_kind_that_is_not_known_is_one_of_code(folder: RunFolder) -> None:
    (folder.path / "error.json").write_text('{"kind": "weather", "reason": "It rains."}')
    assert folder.error() == Failure(FailureKind.CODE, "It rains.")


def test_what_a_program_of_the_users_own_wrote_beside_the_results_is_kept(folder: RunFolder) -> None:
    (folder.path / "result.json").write_text('{"scores": {}, "steps": 20.0, "final_loss": NaN, "colour": "blue"}')
    assert folder.result() == Result(steps=20, more={"colour": "blue"})


def _hits_file(entry: object) -> str:
    return json.dumps({"hits": {"zero_shot_top1": entry}})


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("run.json", '{"schema": 1, "id": "x"}', "has no 'settings'"),
        ("run.json", '{"id": "x", "settings": {}, "resources": {"gpus": "a"}}', "'resources': 'a' is not a count"),
        ("result.json", '{"steps": "many"}', "'steps' is 'many'"),
        ("result.json", '{"steps": 1.5}', "'steps' is 1.5"),
        ("result.json", f'{{"steps": {2**63}}}', "'steps' is 9223372036854775808"),
        ("result.json", '{"device": 3}', "'device' is 3"),
        ("result.json", '{"scores": [0.5]}', "'scores' is a list of 1"),
        ("result.json", '{"parent": 3}', "'parent' is 3"),
        ("result.json", '{"chance": {"zero_shot_top1": "a tenth"}}', r"'chance\.zero_shot_top1' is 'a tenth'"),
        ("job.json", '{"id": "1", "submitted": 0, "log": ""}', "has no 'launcher'"),
        ("job.json", '{"launcher": "local", "id": "../..", "submitted": 0, "log": ""}', r"'id' is '\.\./\.\.'"),
        ("hits.json", _hits_file({"items": "", "count": 9, "bits": "sA=="}), "has 1 bytes for 9 items, where 2 are"),
        ("hits.json", _hits_file({"items": "", "count": 9, "bits": "!"}), "bits'"),
        ("hits.json", _hits_file({"items": "", "bits": "sA=="}), r"has no 'hits\.zero_shot_top1\.count'"),
        ("hits.json", _hits_file("sA=="), r"'hits\.zero_shot_top1' is 'sA=='"),
        ("hits.json", "{}", "has no 'hits'"),
        ("code.json", '{"codes": [{"files": {"x": {}}}]}', r"has no 'codes\.0\.files\.x\.size'"),
    ],
)
def test_a_damaged_record_is_named_with_its_entry(folder: RunFolder, name: str, text: str, what: str) -> None:
    (folder.path / name).write_text(text)
    read = {"run": folder.asked, "result": folder.result, "job": folder.job, "hits": folder.hits, "code": folder.codes}
    with pytest.raises(RunFolderError, match=rf"{name}: .*{what}.*Delete it"):
        read[name.removesuffix(".json")]()


def test_hits_are_read_as_they_were_written(folder: RunFolder) -> None:
    assert folder.hits() == {}
    hits = {"zero_shot_top1": Hits("fashion, images 9", 9, bytes([0b10110000, 0b10000000]))}
    with folder.hold() as lease:
        assert lease is not None
        lease.write_hits(hits)
        assert folder.state() is State.RUNNING
    assert folder.hits() == hits
    assert json.loads((folder.path / "hits.json").read_text()) == {
        "schema": 1,
        "hits": {"zero_shot_top1": {"items": "fashion, images 9", "count": 9, "bits": "sIA="}},
    }


def test_hits_of_an_earlier_result_do_not_pass_for_those_of_one_that_has_none(folder: RunFolder) -> None:
    with folder.hold() as lease:
        assert lease is not None
        lease.write_hits({"zero_shot_top1": Hits("", 1, b"\x80")})
        lease.write_hits({})
    assert not (folder.path / "hits.json").exists()


def test_chance_is_optional_in_a_result(folder: RunFolder) -> None:
    write_json(folder.path / "result.json", {"scores": {"zero_shot_top1": 0.5}})
    assert folder.result() == Result(scores={"zero_shot_top1": 0.5})
    write_json(folder.path / "result.json", {"scores": {}, "chance": {"zero_shot_top1": 0.1, "held_out_loss": None}})
    assert folder.result() == Result(chance={"zero_shot_top1": 0.1, "held_out_loss": None})


def test_a_run_lacks_weights_where_it_is_finished_and_they_are_not_here(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert not lacks_weights(run), "they are to come"
    (tmp_path / "result.json").write_text("{}")
    assert lacks_weights(run)
    (tmp_path / "model.pt").touch()
    assert not lacks_weights(run)


def test_the_name_of_the_file_of_weights_is_written_once() -> None:
    package = Path(__file__).parents[1] / "flipscale"
    named = [
        file.name
        for file in package.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and node.value == "model.pt"
    ]
    assert named == ["files.py"]
