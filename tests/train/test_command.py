"""Programs of the user's own, run for real: what they leave in the folder, how they end, and how they are stopped."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flipscale.errors import FlipscaleError, LeaseLost
from flipscale.run import RunFolder, State, birth, machine
from flipscale.train import train
from flipscale.train.failure import Failed, why
from flipscale.train.machine import peak_resident_memory
from flipscale.train.stop import Stop
from flipscale.train.trainers.program import process
from flipscale.train.trainers.program.command import run_command
from tests.patience import wait_until

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs" / "trainers.md"

OUTCOME = """
import json, os, sys
folder = sys.argv[1]
open(folder + "/outcome.json", "w").write(json.dumps({"scores": {"zero_shot_top1": 0.5}}))
"""

USE_MEMORY = """
import json, sys, time
folder, mebibytes = sys.argv[2], int(sys.argv[1])
used = bytearray(b"1") * (mebibytes << 20)
def peak():
    try:
        return json.load(open(folder + "/program.json"))["attempts"]["peak_memory_bytes"]
    except (FileNotFoundError, ValueError):
        return None
while not peak():
    time.sleep(0.01)
open(folder + "/outcome.json", "w").write(json.dumps({"scores": {"zero_shot_top1": 0.5}}))
"""
"""Ends when flipscale has looked at the memory that it uses."""


@pytest.fixture
def asked(run: Callable[..., RunFolder], tmp_path: Path) -> Callable[..., RunFolder]:
    """A run whose command is this Python program."""

    def ask(program: str, *arguments: str, name: str = "run", **changes: Any) -> RunFolder:
        script = tmp_path / f"{name}.py"
        script.write_text(program)
        trainer = {"command": {"arguments": [sys.executable, str(script), *arguments], "name": None}}
        return run(name, trainer=trainer, **{"tuning": None, "inference": "full", **changes})

    return ask


def finish(folder: RunFolder, stop: Stop | None = None) -> bool:
    with folder.hold() as lease:
        assert lease is not None
        return run_command(folder, lease, stop or Stop())


def failure(folder: RunFolder) -> tuple[str, str]:
    with pytest.raises(Failed) as caught:
        finish(folder)
    assert folder.result() is None
    return caught.value.failure.kind, caught.value.failure.reason


def log(folder: RunFolder) -> str:
    return (folder.path / "log.txt").read_text()


def wait_for(path: Path) -> None:
    wait_until(path.exists, path.name, every=0.01)


def stop_once(stop: Stop, path: Path, signum: int) -> threading.Thread:
    """Note the signal, as the handler of `train` does, once the file is there."""

    def wait() -> None:
        wait_for(path)
        stop.note(signum)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_program_that_writes_an_outcome_gives_a_finished_run(asked):
    folder = asked(OUTCOME)
    assert finish(folder) is True
    assert folder.state() is State.FINISHED
    assert sorted(path.name for path in folder.path.iterdir()) == ["lease.lock", "log.txt", "result.json", "run.json"]
    result = folder.result()
    assert result.scores == {"zero_shot_top1": 0.5}
    assert [getattr(result, name) for name in ("samples_seen", "steps", "attempts", "device", "unique_pairs")] == [
        640,
        20,
        1,
        "cpu",
        None,
    ]
    assert result.train_seconds > 0
    assert result.cpu_seconds > 0
    assert result.gpu_hours == result.cpu_seconds / 3600
    assert result.images_per_second == 640 / result.train_seconds
    # Missing where the program has ended before anybody looked.
    assert (result.peak_memory_bytes or 1e7) > 1e6
    assert result.finished >= result.started


def test_the_code_is_written_down_where_it_trains_and_once_more_where_it_has_changed(asked):
    seen = 'open(folder + "/seen", "w").write(str(os.path.exists(folder + "/code.json")))\n'
    folder = asked(OUTCOME + seen)
    assert train([folder.path]) == 0
    assert (folder.path / "seen").read_text() == "True"  # before the program began
    (first,) = folder.codes()
    assert {name: content.size for name, content in first.files.items()} == {"run.py": len(OUTCOME + seen)}
    for program in (OUTCOME + seen, OUTCOME):
        (folder.path / "result.json").unlink()
        asked(program)
        assert train([folder.path]) == 0
    _, second = folder.codes()
    sizes = f"{len(OUTCOME + seen):,} bytes, today {len(OUTCOME):,}"
    assert first.differences(second) == [f"run.py with other content ({sizes})"]


@pytest.mark.parametrize("is_large", [False, True])
def test_the_memory_of_a_program_is_not_that_of_the_process_that_started_it(asked, is_large):
    """Linux counts what its starter held as a program's peak. Only a larger program's peak is its own."""
    ballast = torch.ones(32 << 20)
    mebibytes = (peak_resident_memory() >> 20) + 50 if is_large else 0
    folder = asked(USE_MEMORY, str(mebibytes))
    assert finish(folder)
    peak = folder.result().peak_memory_bytes >> 20
    assert (mebibytes < peak < mebibytes + 50) if is_large else (1 < peak < 100 < ballast.nbytes >> 20)


def test_what_the_program_measured_itself_stands(asked):
    facts = '"train_seconds": 2.0, "unique_pairs": 64, "params": 9, "versions": {"jax": "1"}, "batteries": "included"'
    folder = asked(OUTCOME.replace('"scores"', f'**{{{facts}}}, "scores"'))
    finish(folder)
    result = folder.result()
    names = ("train_seconds", "unique_pairs", "repeats", "images_per_second", "params")
    assert [getattr(result, name) for name in names] == [2.0, 64, 10.0, 320.0, 9]
    assert result.more == {"batteries": "included"}
    assert result.versions["jax"] == "1"
    assert "flipscale" in result.versions


def test_unique_pairs_are_the_data_size_asked_for(asked):
    folder = asked(OUTCOME, data_size=160)
    finish(folder)
    assert (folder.result().unique_pairs, folder.result().repeats) == (160, 4.0)


def test_a_result_that_the_program_wrote_itself_is_completed(asked):
    folder = asked(OUTCOME.replace("outcome.json", "result.json"))
    assert finish(folder) is True
    assert folder.result().scores == {"zero_shot_top1": 0.5}
    assert folder.result().steps == 20


def test_final_loss_is_the_mean_of_the_last_records(asked):
    program = """
with open(sys.argv[1] + "/metrics.jsonl", "a") as metrics:
    for step, loss in [(10, 9.0), (19, 8.0), (20, 3.0)]:
        print(json.dumps({"step": step, "loss": loss}), file=metrics)
"""
    folder = asked(OUTCOME + program)
    finish(folder)
    assert folder.result().final_loss == 3.0


def test_the_folder_is_an_argument_and_in_the_environment(asked):
    program = "\nprint('ARGUMENTS', sys.argv[1:], os.environ['FLIPSCALE_RUN'])"
    last = asked(OUTCOME + program, name="last")
    finish(last)
    assert f"ARGUMENTS ['{last.path}'] {last.path}" in log(last)
    named = asked(
        (OUTCOME + program).replace("folder = sys.argv[1]", "folder = sys.argv[1][5:]"), "--to={folder}", "-q"
    )
    finish(named)
    assert f"ARGUMENTS ['--to={named.path}', '-q'] {named.path}" in log(named)


def test_python_is_the_one_that_runs_flipscale(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    (tmp_path / "which.py").write_text(OUTCOME + "print('PREFIX', sys.prefix)")
    arguments = ["python", str(tmp_path / "which.py")]
    folder = run(trainer={"command": {"arguments": arguments, "name": None}}, tuning=None, inference="full")
    finish(folder)
    assert f"PREFIX {sys.prefix}\n" in log(folder)


def test_all_that_the_program_says_is_in_the_log(asked):
    folder = asked(OUTCOME + "print('to stdout'); print('to stderr', file=sys.stderr); print('10 %\\r20 %\\rbar done')")
    finish(folder)
    assert "to stdout\n" in log(folder)
    assert "to stderr\n" in log(folder)
    assert "bar done\n" in log(folder)
    assert "10 %" not in log(folder)


@pytest.mark.parametrize(
    ("ending", "kind", "words"),
    [
        (
            "sys.exit(3)",
            "code",
            "exit code 3. All of its output is in its log (flipscale logs ID). It printed nothing.",
        ),
        ("print('one'); print('two'); sys.exit(1)", "code", "Its last output: one | two"),
        ("raise ValueError('a wrong shape')", "code", "ValueError: a wrong shape"),
        ("raise MemoryError()", "oom", "MemoryError"),
        ("sys.exit('torch.OutOfMemoryError: CUDA out of memory. Tried ...')", "oom", "CUDA out of memory"),
        ("sys.exit('CUDA error: uncorrectable ECC error encountered')", "node", "uncorrectable ECC error"),
        ("raise OSError(28, 'No space left on device')", "disk", "No space left"),
        ("os.kill(os.getpid(), 9)", "oom", "was killed by SIGKILL, which is what the system does"),
        ("os.kill(os.getpid(), 15)", "code", "was killed by SIGTERM"),
    ],
)
def test_a_program_that_fails_is_an_error_of_its_kind_that_quotes_it(asked, ending, kind, words):
    folder = asked("import os, sys\n" + ending)
    found = failure(folder)
    assert found[0] == kind
    assert words in found[1]
    assert "\n" not in found[1]


def test_a_program_may_say_itself_why_it_failed(asked):
    said = """import json, sys
open(sys.argv[1] + "/error.json", "w").write(json.dumps({"kind": "diverged", "reason": "loss is nan at step 7"}))
sys.exit(1)"""
    assert failure(asked(said)) == ("diverged", "loss is nan at step 7")


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (None, "outcome.json is missing"),
        ("{", "outcome.json: not JSON"),
        ("[]", "outcome.json: holds no JSON object"),
        ('{"scores": 3}', 'outcome.json holds no object "scores"'),
        ('{"scores": {"top1": "high"}}', "gives scores.top1 as 'high', which is not a number"),
        ('{"scores": {}, "train_seconds": "long"}', "gives train_seconds as 'long', which is not a number"),
        ('{"scores": {}, "versions": 3}', '"versions" that are not an object'),
    ],
)
def test_an_outcome_that_cannot_be_read_is_an_error_that_says_what_is_right(asked, outcome, words):
    write = f"import sys; open(sys.argv[1] + '/outcome.json', 'w').write({outcome!r})" if outcome else ""
    folder = asked(write)
    with pytest.raises(FlipscaleError, match=re.escape(words)) as caught:
        finish(folder)
    assert 'write {"scores": {"zero_shot_top1": 0.41}} there' in str(caught.value)
    assert folder.result() is None


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ({"scores": {"zero_shot_top1": 41.0}}, "scores.zero_shot_top1 as 41.0; write a fraction from 0 to 1, 0.41 for"),
        ({"scores": {"sketch.linear_probe_top1": -0.1}}, "linear_probe_top1 as -0.1; write a fraction from 0 to 1."),
        ({"scores": {}, "train_seconds": -5}, "gives train_seconds as -5; write a number from 0 on, or leave it out"),
        ({"scores": {}, "samples_seen": 607}, "gives samples_seen as 607; 640 were asked for, give or take a batch"),
        ({"scores": {}, "steps": 22}, "gives steps as 22; 20 were asked for, give or take a batch"),
    ],
)
def test_an_outcome_that_cannot_be_right_is_a_failure_of_the_program(asked, outcome, words):
    folder = asked(f"import sys; open(sys.argv[1] + '/result.json', 'w').write({json.dumps(outcome)!r})")
    with pytest.raises(FlipscaleError, match=re.escape(words)) as caught:
        finish(folder)
    assert why(caught.value).kind == "code"
    assert folder.result() is None


def test_losses_other_scores_and_a_batch_more_or_less_are_taken(asked):
    outcome = {
        "scores": {"held_out_loss": 2.5, "coco.held_out_loss": 3.0, "fid": 12.0},
        "samples_seen": 608,
        "steps": 21,
        "final_loss": -0.5,
    }
    folder = asked(f"import sys; open(sys.argv[1] + '/outcome.json', 'w').write({json.dumps(outcome)!r})")
    assert finish(folder) is True
    result = folder.result()
    assert (result.samples_seen, result.steps, result.final_loss) == (608, 21, -0.5)
    assert result.scores == outcome["scores"]


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("{", "error.json: not JSON (Expecting"),
        ("[]", "error.json: "),
        ('{"kind": "oom"}', "The program's error.json gives no reason."),
    ],
)
def test_a_programs_error_that_cannot_be_read_is_named(asked, said, what):
    kind, reason = failure(asked(f"import sys; open(sys.argv[1] + '/error.json', 'w').write({said!r}); sys.exit(1)"))
    assert kind == ("oom" if "oom" in said else "code")
    assert what in reason


def test_a_score_that_is_not_finite_is_a_divergence(asked):
    folder = asked(OUTCOME.replace("0.5", "float('nan')"))
    kind, reason = failure(folder)
    assert kind == "diverged"
    assert "zero_shot_top1 as nan" in reason


def test_the_outcome_of_an_earlier_attempt_does_not_count(asked):
    folder = asked("")
    (folder.path / "outcome.json").write_text('{"scores": {"top1": 1.0}}')
    with pytest.raises(FlipscaleError, match=r"outcome\.json is missing"):
        finish(folder)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such-program"], "no-such-program: there is no such program"),
        (["./no/such/program"], "./no/such/program: there is no such program"),
        (["/etc/hostname"], "/etc/hostname: cannot be started"),
    ],
)
def test_a_program_that_cannot_be_started_is_an_error_that_names_it(run, arguments, words):
    folder = run(trainer={"command": {"arguments": arguments, "name": None}}, tuning=None, inference="full")
    with pytest.raises(FlipscaleError, match=re.escape(words)):
        finish(folder)


STOPPABLE = """
import json, os, signal, sys, time
folder = sys.argv[1]
if os.path.exists(folder + "/checkpoint.pt"):
    open(folder + "/outcome.json", "w").write(json.dumps({"scores": {"resumed": 1}}))
    sys.exit()
def end(signum, frame):
    open(folder + "/checkpoint.pt", "w").write(str(signum))
    print("wrote a checkpoint")
    sys.exit(5)
for signum in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(signum, end)
open(folder + "/ready", "w")
time.sleep(60)
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_passed_on_and_the_run_goes_on_from_what_the_program_kept(asked, signum):
    folder, stop = asked(STOPPABLE), Stop()
    thread = stop_once(stop, folder.path / "ready", signum)
    assert finish(folder, stop) is False
    thread.join()
    assert (folder.path / "checkpoint.pt").read_text() == str(int(signum))
    assert "wrote a checkpoint\n" in log(folder)
    assert folder.state() is State.PLANNED
    assert finish(folder) is True
    assert folder.result().scores == {"resumed": 1}
    assert folder.result().attempts == 2
    assert not (folder.path / "checkpoint.pt").exists()


def test_time_counts_over_all_attempts(asked):
    folder, stop = asked(STOPPABLE), Stop()
    thread = stop_once(stop, folder.path / "ready", signal.SIGTERM)
    finish(folder, stop)
    thread.join()
    first = json.loads((folder.path / "program.json").read_text())["attempts"]
    finish(folder)
    assert folder.result().train_seconds > first["seconds"] > 0
    assert folder.result().cpu_seconds > first["cpu_seconds"] > 0
    assert folder.result().started == first["started"]


def test_a_program_that_finishes_although_it_was_told_to_stop_has_finished(asked):
    program = OUTCOME.replace("folder =", "import signal; signal.signal(15, lambda *_: None)\nfolder =")
    program += 'open(folder + "/ready", "w"); signal.pause()'
    folder, stop = asked(program), Stop()
    thread = stop_once(stop, folder.path / "ready", signal.SIGTERM)
    assert finish(folder, stop) is True
    thread.join()
    assert folder.state() is State.FINISHED


def test_a_program_that_does_not_heed_the_signal_is_killed_with_its_children(asked, monkeypatch):
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.2)
    program = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "3600"])
open(sys.argv[1] + "/ready", "w").write(str(child.pid))
time.sleep(60)
"""
    folder, stop = asked(program), Stop()
    thread = stop_once(stop, folder.path / "ready", signal.SIGTERM)
    assert finish(folder, stop) is False
    thread.join()
    assert birth(int((folder.path / "ready").read_text())) is None
    assert folder.error() is None


def test_what_a_program_leaves_running_ends_with_it(asked):
    program = """
import subprocess
child = subprocess.Popen(["sleep", "3600"])
open(folder + "/child", "w").write(str(child.pid))
"""
    folder = asked(OUTCOME + program)
    assert finish(folder) is True
    pid = int((folder.path / "child").read_text())
    wait_until(lambda: birth(pid) is None, "the child to end")


def test_a_program_left_over_from_a_killed_flipscale_is_ended_first(asked):
    folder = asked(OUTCOME)
    environment = {**os.environ, "FLIPSCALE_RUN": str(folder.path.resolve())}
    leftover = subprocess.Popen(["sleep", "3600"], env=environment, start_new_session=True)
    known = {
        "machine": machine(),
        "pid": leftover.pid,
        "born": birth(leftover.pid),
        "attempts": {"started": 5.0, "attempts": 1, "seconds": 100.0, "cpu_seconds": 50.0, "peak_memory_bytes": None},
    }
    (folder.path / "program.json").write_text(json.dumps(known))
    assert finish(folder) is True
    assert leftover.wait() == -signal.SIGKILL
    result = folder.result()
    assert (result.attempts, result.started) == (2, 5.0)
    assert result.train_seconds > 100


def test_a_run_that_someone_else_has_taken_over_is_left_to_them(asked, monkeypatch):
    monkeypatch.setattr(process, "HEARTBEAT_SECONDS", 0.1)
    program = "import os, sys, time\nopen(sys.argv[1] + '/ready', 'w').write(str(os.getpid()))\ntime.sleep(60)"
    folder = asked(program)

    def take() -> None:
        wait_for(folder.path / "ready")
        (folder.path / "lease.json").write_text('{"token": "theirs"}')

    thread = threading.Thread(target=take)
    thread.start()
    with pytest.raises(LeaseLost):
        finish(folder)
    thread.join()
    assert birth(int((folder.path / "ready").read_text())) is None
    assert folder.result() is None


def example() -> str:
    found = re.search(r"<!-- example -->\n\n```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert found
    return found[1]


def test_the_example_of_the_docs_trains_and_goes_on_from_its_checkpoint(asked):
    program = (
        example()
        .replace("step % 100 == 0", "step == 10")
        .replace("rename(checkpoint)", "rename(checkpoint); sys.exit(1)")
    )
    run = asked(program, name="run", lr=0.05)
    assert failure(run)[0] == "code"
    (run.path.parents[1] / "run.py").write_text(example())
    assert finish(run) is True
    records = run.records()[0]
    assert [record["step"] for record in records] == [10, 20]
    assert run.result().scores == {"held_out_loss": records[-1]["loss"]}
    assert (run.result().params, run.result().attempts) == (9, 2)


def test_a_command_is_run_without_loading_open_clip(asked):
    folder = asked(OUTCOME)
    code = (
        "import sys; from pathlib import Path; from flipscale.train import train\n"
        "code = train([Path(sys.argv[1])])\n"
        "print(code, 'torch' in sys.modules, 'open_clip' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, folder.path], capture_output=True, text=True, check=True)
    assert done.stdout == "0 True False\n"
    assert folder.result().scores == {"zero_shot_top1": 0.5}
