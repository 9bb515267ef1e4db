"""When a run counts as stalled, how that looks, and how a real training comes back from it on this machine."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console

from flipscale.cli import main
from flipscale.launch import submit, watch
from flipscale.launch.local import LocalLauncher
from flipscale.launch.screen import screenful
from flipscale.launch.stall import Silence, kill_tree, limit, silence, tree, why_stalled
from flipscale.run import Doing, RunFolder, RunRequest, State, is_alive
from flipscale.run.processes import birth
from flipscale.settings.declarations import Resources
from tests.launch.contract import StandInRun, folder
from tests.launch.real import SLOWLY, assert_same, end, frozen, is_stopped, logs, runs_of
from tests.patience import wait_until

pytestmark = pytest.mark.slow


def asked(stalled=None, trainer="flipscale"):
    return RunRequest("run", {"trainer": {trainer: {}}}, resources=Resources(stalled=stalled))


def silent(doing, seconds=0.0, unit=None):
    return Silence(Doing(doing), seconds, unit)


# The limit


@pytest.mark.parametrize(
    ("doing", "unit", "seconds"),
    [
        ("training", None, 600),
        ("training", 0.01, 600),
        ("training", 60.0, 1200),
        ("program", 3600.0, 72_000),
        ("starting", 0.01, 7200),
        ("evaluating", 0.01, 7200),
    ],
)
def test_a_stall_is_20_steps_or_records_and_at_least_10_minutes_and_2_hours_where_steps_say_nothing(
    doing, unit, seconds
):
    assert limit(silent(doing, unit=unit), asked()) == seconds


def test_what_a_study_says_goes_before_what_its_site_says():
    assert limit(silent("training"), asked(), 1800) == 1800
    assert limit(silent("training"), asked(60), 1800) == 60
    assert limit(silent("training"), asked("never"), 1800) is None
    assert limit(silent("training"), asked(60), "never") == 60
    assert limit(silent("training"), asked(), "never") is None


def test_a_short_limit_is_not_for_starts_and_evaluations_and_a_long_one_is():
    for doing in ("starting", "evaluating"):
        assert limit(silent(doing), asked(60)) == 7200
        assert limit(silent(doing), asked(86_400)) == 86_400


def test_a_program_that_never_said_anything_is_left_alone_unless_a_limit_is_set():
    assert limit(silent("starting"), asked(trainer="command")) is None
    assert limit(silent("starting", unit=5.0), asked(trainer="command")) == 7200
    assert limit(silent("starting"), asked(60, trainer="command")) == 60


# Signs of life


@pytest.fixture
def held(tmp_path):
    """A run in hand, whose last sign of life is as old as one says."""
    run = RunFolder(tmp_path / "runs" / "run")
    run.ask(asked())
    with run.hold() as lease:

        def age(seconds, doing="training", every=2.0):
            now = time.time() - seconds
            records = [
                {"step": 10 * n, "samples_seen": n, "loss": 1.0, "images_per_second": 423.0} for n in range(1, 31)
            ]
            lines = [
                json.dumps({**record, "time": now - every * (30 - n)}) for n, record in enumerate(records, start=1)
            ]
            (run.path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
            lease.live(Doing(doing))
            for name in ("life.json", "metrics.jsonl"):
                os.utime(run.path / name, (now, now))
            return run

        age.lease = lease
        yield age


def test_the_silence_of_a_run_is_measured_by_its_own_steps(held):
    quiet = silence(held(700))
    assert quiet.doing is Doing.TRAINING
    assert quiet.seconds == pytest.approx(700, abs=5)
    assert quiet.unit == pytest.approx(0.2)
    assert silence(held(700, "program")).unit == pytest.approx(2.0)


def test_a_heartbeat_is_no_sign_of_life_and_a_step_a_record_or_a_checkpoint_is(held):
    run = held(700)
    os.utime(run.path / "lease.json")
    assert why_stalled(run) == "No step for 11 min 40 s, where one takes 0.2 s; the limit is 10 min 0 s."
    for name in ("life.json", "metrics.jsonl", "checkpoint.pt"):
        held(700)
        (run.path / name).touch()
        assert why_stalled(run) is None
        (run.path / "checkpoint.pt").unlink(missing_ok=True)


def test_a_sign_of_life_is_given_at_most_once_a_second_and_not_by_who_has_lost_the_lease(held):
    run = held(700)
    held.lease._lived = time.monotonic()
    held.lease.live()
    assert silence(run).seconds > 600
    held.lease._lived -= 2
    held.lease.live()
    assert silence(run).seconds < 60
    held(700)
    held.lease._lived -= 2
    (run.path / "lease.json").write_text(json.dumps({"token": "other", "host": "elsewhere", "pid": 1}))
    held.lease.live()
    assert silence(run).seconds > 600


def test_a_long_evaluation_is_no_stall(held):
    assert why_stalled(held(3000, "evaluating")) is None
    assert why_stalled(held(3000, "training")) is not None
    assert why_stalled(held(8000, "evaluating")).startswith("No progress of its evaluation for 2 h 13 min")


def test_a_slow_run_is_no_stall(held):
    """Its steps take a minute, on a machine that is busy."""
    assert why_stalled(held(900, every=600.0)) is None


# How it looks


def test_who_looks_at_a_quiet_run_is_told_of_its_silence_and_of_no_speed_nor_time_left(held, tmp_path):
    run = StandInRun("run", seconds=50.0)
    held(30)
    (lively,) = (seen := next(watch([run], tmp_path))).runs
    assert lively.seconds_since_step == pytest.approx(30, abs=5)
    assert "423 images/s" in str(lively)
    assert seen.time_left

    held(720)
    seen = next(watch([run], tmp_path))
    (quiet,) = seen.runs
    assert str(quiet) == "run: running, 30 of 1,000 samples, loss 1.0000, no step for 12 min 0 s"
    assert (quiet.images_per_second, seen.left, seen.samples_per_second) == (None, None, None)
    assert "left" not in str(seen)
    console = Console(width=120, file=io.StringIO())
    console.print(screenful(seen, study="study"))
    screen = console.file.getvalue()
    assert "no step for 12 min 0 s" in screen
    assert "left" not in screen
    assert "423" not in screen


def test_a_long_step_of_a_slow_run_is_not_called_silence(held, tmp_path):
    held(120, every=1000.0)  # 100 s a step
    (seen,) = next(watch([StandInRun("run", seconds=50.0)], tmp_path)).runs
    assert "423 images/s" in str(seen)


def test_status_gives_the_seconds_since_the_last_step_as_json(tmp_path, capsys):
    (run,) = runs_of(tmp_path)
    here = folder(tmp_path / "results", run)
    here.ask(RunRequest.of(run))
    with here.hold() as lease:
        lease.append([{"step": 1, "samples_seen": 32, "loss": 1.0, "images_per_second": 423.0, "time": time.time()}])
        lease.live(Doing.TRAINING)
        ago = time.time() - 720
        for name in ("life.json", "metrics.jsonl"):
            os.utime(here.path / name, (ago, ago))
        arguments = ["status", str(tmp_path / "small.yaml"), "--results", str(tmp_path / "results")]
        assert main([*arguments, "--json"]) == 0
        (said,) = json.loads(capsys.readouterr().out)["runs"]
        assert said["seconds_since_step"] == pytest.approx(720, abs=60)
        assert (said["state"], said["images_per_second"]) == ("running", None)
        assert main(arguments) == 0
        text = capsys.readouterr().out
        assert re.search(r"no step for 1[23] min", text)
        assert "images/s" not in text
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["seconds_since_step"] is None


# Processes


def test_a_tree_is_killed_with_what_has_a_session_of_its_own_and_what_stands_still(tmp_path):
    inner = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    outer = (
        "import os, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {inner!r}], start_new_session=True)\n"
        "time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", outer], stdout=subprocess.PIPE, text=True)
    with process:
        child = int(process.stdout.readline())
        assert set(tree(process.pid)) == {process.pid, child}
        born = birth(child)
        os.kill(child, signal.SIGSTOP)
        wait_until(lambda: is_stopped(child))
        assert is_alive(child, born)
        kill_tree(process.pid)
        wait_until(lambda: not is_alive(child, born))
        assert process.wait() == -signal.SIGKILL


# Real training on this machine


def stalls(run):
    return [failure.then for failure in run.failures() if failure.kind == "stalled"]


def test_a_training_that_stands_still_is_killed_and_resumed_exactly(tmp_path, alone):
    results = tmp_path / "results"
    (run,) = runs_of(tmp_path, "resources: {stalled: 10s}")
    submit([run], results, LocalLauncher(results, command=SLOWLY))
    here = folder(results, run)
    with frozen(here):
        wait_until(lambda: stalls(here))
    assert end([run], results) == {run.id: State.FINISHED}, logs(results)
    (then,) = stalls(here)
    assert then.endswith(" (1 of 3)")  # Whether it had a checkpoint by then is a matter of time.
    assert here.failures()[0].reason.startswith("No step for 1")
    log = (here.path / "log.txt").read_text()
    assert re.search(r"Its stacks follow, then it is killed\.\n(.*\n)*?.*File .*loop\.py\", line \d+ in fit", log), log
    expected = alone([run])
    assert_same(run, results, expected)


HANGS = """
import json, pathlib, sys, time
run = pathlib.Path(sys.argv[1])
starts = len(run.joinpath("starts").read_text()) if run.joinpath("starts").exists() else 0
run.joinpath("starts").write_text("." * (starts + 1))
run.joinpath("metrics.jsonl").open("a").write(json.dumps({"step": starts, "loss": 1.0, "time": time.time()}) + "\\n")
if starts < int(sys.argv[2]):
    time.sleep(3600)
asked = json.loads(run.joinpath("run.json").read_text())
run.joinpath("outcome.json").write_text(json.dumps({"scores": {"zero_shot_top1": 0.5}}))
"""


def hanging(tmp_path, times, stalled):
    program = tmp_path / "train.py"
    program.write_text(HANGS)
    trainer = {"command": {"arguments": ["python", str(program), "{folder}", str(times)]}}
    (run,) = runs_of(tmp_path, f"resources: {{stalled: {stalled}}}", trainer=trainer)
    return run


def test_a_program_that_hangs_is_killed_and_resumed(tmp_path):
    results = tmp_path / "results"
    run = hanging(tmp_path, times=1, stalled="8s")
    submit([run], results, LocalLauncher(results))
    assert end([run], results) == {run.id: State.FINISHED}, logs(results)
    here = folder(results, run)
    assert stalls(here) == ["resumed (1 of 3)"]
    log = (here.path / "log.txt").read_text()
    assert "in run_program" in log
