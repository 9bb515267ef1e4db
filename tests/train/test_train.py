import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

import flipscale.train.sources
import flipscale.train.trainers.builtin.pretrain
from flipscale.errors import DataError, Diverged, RunFolderError
from flipscale.planning.identity import RECIPE
from flipscale.run import FailureKind, RunFolder, RunRequest, State, birth, machine, write_json
from flipscale.train import train
from tests.patience import PATIENCE
from tests.train.conftest import SETTINGS
from tests.train.forks import SLOWLY, Forked

pytestmark = pytest.mark.slow

EVALUATED_ON_THE_WAY = {"evaluation": {"data": None, "images": 160, "at": [0.5], "templates": None}}


def losses(run: RunFolder) -> dict[int, float]:
    return {record["step"]: record["loss"] for record in run.records()[0] if "loss" in record}


def scores(run: RunFolder) -> dict[int, dict[str, float]]:
    return {record["step"]: record["scores"] for record in run.records()[0] if "scores" in record}


def started(*runs: RunFolder, before: str = "") -> Forked:
    """A process that trains these runs and writes a checkpoint as often as it can."""
    folders = [str(run.path) for run in runs]
    train = f"import sys\nfrom flipscale.train import train\nsys.exit(train({folders}, checkpoint_seconds=0))"
    return Forked(f"{before}\n{train}")


def wait_for_step(run: RunFolder, step: int, process: Forked) -> None:
    """Wait until a checkpoint and a record of that step or a later one are there."""
    deadline = time.monotonic() + PATIENCE
    while not ((run.path / "checkpoint.pt").exists() and max(losses(run), default=0) >= step):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_run_writes_its_result_and_weights_drops_its_checkpoint_and_is_passed_over_once_finished(run):
    folder = run()
    assert train([folder.path]) == 0
    assert folder.state() is State.FINISHED
    (code,) = folder.codes()
    assert (code.project, set(code.versions)) == ("flipscale", {"flipscale", "python", "torch", "open_clip"})
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "code.json",
        "hits.json",
        "lease.lock",
        "log.txt",
        "metrics.jsonl",
        "model.pt",
        "result.json",
        "run.json",
    ]
    result = folder.result()
    assert set(json.loads((folder.path / "result.json").read_text())) == {
        "schema", "scores", "samples_seen", "steps", "unique_pairs", "repeats", "train_seconds", "cpu_seconds",
        "evaluation_seconds", "images_per_second", "attempts", "device", "devices", "gpu_hours", "peak_memory_bytes",
        "started", "finished", "final_loss", "params", "corrupt_samples", "digests",
        "corrupt_evaluation_images", "versions", "chance",
    }  # fmt: skip
    facts = ("samples_seen", "steps", "unique_pairs", "repeats", "attempts", "device", "devices", "corrupt_samples")
    assert [getattr(result, fact) for fact in facts] == [640, 20, 640, 1.0, 1, "cpu", 1, 0]
    assert result.params == sum(value.numel() for value in torch.load(folder.path / "model.pt")["state_dict"].values())
    assert result.gpu_hours == result.cpu_seconds / 3600
    assert result.images_per_second == 640 / result.train_seconds
    assert result.final_loss == losses(folder)[20]
    assert result.scores == scores(folder)[20]
    assert result.scores["held_out_loss"] > 0
    assert result.chance.keys() == result.scores.keys()
    assert result.chance["zero_shot_top1"] == 1 / 80
    hits = folder.hits()["zero_shot_top1"]
    assert (hits.items, hits.count) == ("shapes, images 160", 160)
    bits = np.unpackbits(np.frombuffer(hits.bits, np.uint8), count=hits.count)
    assert bits.mean() == result.scores["zero_shot_top1"]
    assert 1e6 < result.peak_memory_bytes < 1e9
    assert result.versions["open_clip"] == open_clip.__version__
    assert "finished" in (folder.path / "log.txt").read_text()
    before = {path.name: path.stat().st_mtime_ns for path in folder.path.iterdir()}
    assert train([folder.path]) == 0
    assert {path.name: path.stat().st_mtime_ns for path in folder.path.iterdir()} == before


def test_samples_are_whole_batches_repeats_are_by_unique_pairs_and_seeds_differ(run):
    few, other = run("few", data_size=100, samples=650, seed=7), run("other", data_size=100, samples=650, seed=8)
    before = signal.getsignal(signal.SIGTERM)
    assert train([few.path, other.path]) == 0
    assert signal.getsignal(signal.SIGTERM) is before
    assert (few.result().samples_seen, few.result().steps) == (640, 20)
    assert (few.result().unique_pairs, few.result().repeats) == (100, 6.4)
    assert losses(few) != losses(other)
    assert json.loads((few.path / "run.json").read_text())["settings"]["seed"] == 7


def test_a_run_of_another_recipe_is_not_trained_under_its_old_id(tmp_path):
    folder = RunFolder(tmp_path / "runs" / "old")
    folder.ask(RunRequest("old", SETTINGS, recipe=RECIPE - 1))
    assert train([folder.path]) == 1
    assert f"was asked for under recipe {RECIPE - 1}, and this flipscale trains by recipe {RECIPE}" in (
        folder.error().reason
    )
    assert folder.error().kind == "code"
    assert not (folder.path / "metrics.jsonl").exists()


def test_a_failed_run_does_not_take_its_neighbours_along(run):
    runs = [
        run("sized", data_size=640, model="ViT-w16d1-5"),
        run("unknown", data={"pictures": {}}),
        run("hot", lr=1e30, warmup=0),
        run("good"),
    ]
    assert train([folder.path for folder in runs]) == 1
    assert [folder.state() for folder in runs] == [State.FAILED, State.FAILED, State.FAILED, State.FINISHED]
    assert [folder.error().kind for folder in runs[:3]] == ["code", "code", "diverged"]
    assert "image_size" in runs[0].error().reason
    assert "'pictures' is not a data set; choices: shapes, fashion, webdataset" in runs[1].error().reason
    assert "step 2 of 20" in runs[2].error().reason


def test_a_failed_run_is_passed_over_until_it_is_cleared(run):
    folder = run()
    folder.write_error(FailureKind.NODE, "the node went away")
    assert train([folder.path]) == 0
    assert not (folder.path / "log.txt").exists()
    folder.clear_for_retry()
    assert train([folder.path]) == 0
    assert folder.state() is State.FINISHED


def test_a_run_that_someone_else_does_is_passed_over(run):
    held, free = run("held"), run("free")
    with held.hold() as lease:
        assert lease
        assert train([held.path, free.path]) == 0
        assert held.state() is State.RUNNING
        assert not held.records()[0]
    assert free.state() is State.FINISHED


def test_a_run_whose_process_died_is_taken_up(run):
    folder = run()
    dead = subprocess.Popen(["true"])
    dead.wait()
    lease = {"token": "theirs", "host": "here", "machine": machine(), "pid": dead.pid, "born": "1", "time": 0}
    write_json(folder.path / "lease.json", lease)
    assert train([folder.path]) == 0
    assert folder.state() is State.FINISHED


def test_a_run_whose_process_dies_meanwhile_is_taken_up_before_the_end(run):
    """The first run's holder dies while the second is trained: a second pass finds it free."""
    first, second = run("first"), run("second")
    holder = subprocess.Popen(["sleep", "60"])
    try:
        born = birth(holder.pid)
        lease = {"token": "theirs", "host": "here", "machine": machine(), "pid": holder.pid, "born": born, "time": 0}
        write_json(first.path / "lease.json", lease)
        process = started(first, second, before=SLOWLY)
        wait_for_step(second, 3, process)
    finally:
        holder.kill()
        holder.wait()
    _, talk = process.communicate()
    assert process.returncode == 0, talk
    assert first.state() is State.FINISHED
    assert (first.result().started) > second.result().finished


def test_a_folder_without_a_run_is_an_error_and_stays_as_it_is(tmp_path, capsys):
    assert train([tmp_path / "nothing"]) == 1
    assert "there is no run.json" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()


def test_a_killed_run_goes_on_as_if_nothing_had_happened(run):
    whole, killed = run("whole", **EVALUATED_ON_THE_WAY), run("killed", **EVALUATED_ON_THE_WAY)
    assert train([whole.path]) == 0

    process = started(killed, before=SLOWLY)
    wait_for_step(killed, 3, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert killed.state() is State.PLANNED
    assert (killed.path / "checkpoint.pt").exists()
    assert not (killed.path / "result.json").exists()
    with open(killed.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 19, "lo')  # as a kill within a write leaves it
    process = started(killed)
    _, talk = process.communicate()
    assert process.returncode == 0, talk

    assert killed.hits() == whole.hits() != {}
    assert losses(killed) == losses(whole)
    assert sorted(losses(whole)) == list(range(1, 21))
    assert scores(killed) == scores(whole)
    assert sorted(scores(whole)) == [10, 20]
    assert killed.result().scores == whole.result().scores
    assert killed.result().final_loss == whole.result().final_loss
    assert (whole.result().attempts, killed.result().attempts) == (1, 2)
    assert killed.records()[1] == 1
    weights = [torch.load(folder.path / "model.pt")["state_dict"] for folder in (whole, killed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


WRITES_SLOWLY = """
import io, time, torch
save = torch.save
def slowly(state, file):
    content = io.BytesIO()
    save(state, content)
    for part in range(0, len(content.getvalue()), 100_000):
        file.write(content.getvalue()[part : part + 100_000])
        file.flush()
        time.sleep(0.01)
torch.save = slowly
"""


@pytest.mark.slow
def test_twenty_kills_while_a_checkpoint_is_written_lose_nothing(run):
    """Each kill comes a little later in the writing of the second checkpoint of its attempt."""
    whole, killed = run("whole", samples=25_600), run("killed", samples=25_600)
    assert train([whole.path]) == 0
    checkpoint, reached = killed.path / "checkpoint.pt", 0

    def writing(process: Forked) -> bool:
        assert process.poll() is None, process.communicate()[1]
        return any(path.stat().st_size for path in killed.path.glob(".checkpoint.pt.*.tmp"))

    for kill in range(20):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = started(killed, before=SLOWLY.replace("0.2", "0.01") + WRITES_SLOWLY)
        while not (checkpoint.exists() and checkpoint.stat().st_mtime_ns > before):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.002)
        with contextlib.suppress(FileNotFoundError):
            while not writing(process):
                time.sleep(0.002)
        time.sleep(kill / 500)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        step = torch.load(checkpoint)["progress"]["step"]
        assert step > reached
        reached = step
    assert train([killed.path]) == 0
    assert killed.result().attempts == 21
    assert losses(killed) == losses(whole)
    assert killed.result().final_loss == whole.result().final_loss
    weights = [torch.load(folder.path / "model.pt")["state_dict"] for folder in (whole, killed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(("signum", "code"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGUSR1", 138), ("SIGUSR2", 140)])
def test_a_signal_stops_a_run_with_a_checkpoint_and_without_an_error(run, signum, code):
    folder, never = run("stopped", samples=100_000), run("never")

    def send_at_the_second_checkpoint():
        checkpoints = set()
        while len(checkpoints) < 2:
            time.sleep(0.01)
            if (folder.path / "checkpoint.pt").exists():
                checkpoints.add((folder.path / "checkpoint.pt").stat().st_mtime_ns)
        os.kill(os.getpid(), signal.Signals[signum])

    thread = threading.Thread(target=send_at_the_second_checkpoint)
    thread.start()
    assert train([folder.path, never.path], checkpoint_seconds=0) == code
    thread.join()
    step = torch.load(folder.path / "checkpoint.pt")["progress"]["step"]
    assert f"stopped by {signum} after step {step} of 3125" in (folder.path / "log.txt").read_text()
    assert folder.error() is None
    assert folder.holder() is None
    assert folder.result() is None
    assert never.state() is State.PLANNED
    assert not (never.path / "log.txt").exists()


def test_what_a_signal_breaks_off_before_a_step_sees_it_is_no_failure(run, monkeypatch):
    """As with a SIGTERM to the whole process group while torch.compile has a compiler at work."""
    folder = run()

    def compile_for_a_signal(*arguments, **more):
        os.kill(os.getpid(), signal.SIGTERM)
        subprocess.run(["sh", "-c", "kill -TERM $$"], check=True)

    monkeypatch.setattr(flipscale.train.trainers.builtin.pretrain, "fit", compile_for_a_signal)
    assert train([folder.path]) == 143
    assert (folder.state(), folder.error()) == (State.PLANNED, None)
    log = (folder.path / "log.txt").read_text()
    assert "stopped by SIGTERM, which interrupted something: CalledProcessError: " in log
    assert "Traceback" in log
    monkeypatch.undo()
    assert train([folder.path]) == 0


def test_an_error_of_flipscales_own_stays_one_after_a_signal(run, monkeypatch):
    folder = run()

    def diverge(*arguments, **more):
        os.kill(os.getpid(), signal.SIGTERM)
        raise Diverged("The training loss is nan.")

    monkeypatch.setattr(flipscale.train.trainers.builtin.pretrain, "fit", diverge)
    assert train([folder.path]) == 143
    assert folder.error().kind == "diverged"


def test_evaluation_images_that_cannot_be_read_are_in_the_log_and_the_result(run, tmp_path):
    for number in range(20):
        path = tmp_path / "animals" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    path.write_bytes(b"nothing")
    animals = {"folder": {"path": str(tmp_path / "animals"), "classes": None, "templates": None, "train": None}}
    folder = run(evaluation={**SETTINGS["evaluation"], "sets": {"animals": animals}})
    assert train([folder.path]) == 0
    assert folder.result().corrupt_evaluation_images == 1
    said = "evaluation.sets.animals: 1 images are skipped, as they or their captions cannot be read\n"
    assert said in (folder.path / "log.txt").read_text()


def test_a_full_disk_is_told_from_a_fault_of_the_code(run):
    """A file may not grow beyond 1 MB, as at the end of a quota; the weights are larger."""
    folder = run()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        assert train([folder.path]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert folder.error().kind == "disk"
    assert not (folder.path / "model.pt").exists()
    assert not [path for path in folder.path.iterdir() if path.name.endswith(".tmp")]


def test_a_disk_too_full_for_a_word_is_said_on_stderr(run):
    folder = run()
    full = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))"
    code = f"{full}; from flipscale.train import train; sys.exit(train([{str(folder.path)!r}]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert folder.error() is None


def test_a_fault_of_the_code_leaves_a_sentence_in_error_json_and_the_traceback_in_the_log(run, monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(flipscale.train.sources, "open_data", broken)
    folder = run()
    assert train([folder.path]) == 1
    assert folder.error().kind == "code"
    reason = "ZeroDivisionError: division by zero. The traceback is in its log (flipscale logs ID)."
    assert folder.error().reason == reason
    assert "in broken" in (folder.path / "log.txt").read_text()


def allocation_error() -> Exception:
    try:
        torch.empty(1 << 50)
    except RuntimeError as error:
        return error
    raise AssertionError("a petabyte was there")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Diverged("nan"), "diverged"),
        (DataError("no such shard"), "data"),
        (MemoryError(), "oom"),
        (torch.OutOfMemoryError("CUDA out of memory."), "oom"),
        (allocation_error(), "oom"),
        (OSError(28, "No space left on device"), "disk"),
        (OSError(122, "Disk quota exceeded"), "disk"),
        (OSError(27, "File too large"), "disk"),
        (OSError(5, "Input/output error"), "code"),
        (RunFolderError("torn"), "code"),
        (KeyError("lr"), "code"),
    ],
)
def test_every_failure_has_its_kind_and_a_sentence(run, monkeypatch, error, kind):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(flipscale.train.sources, "open_data", fail)
    folder = run()
    assert train([folder.path]) == 1
    assert folder.error().kind == kind
    assert "\n" not in folder.error().reason
