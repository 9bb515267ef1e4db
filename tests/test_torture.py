"""The torture's short form, and its checks held to runs that are wrong."""

import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flipscale.run import Result, RunFolder, RunRequest
from tests.launch.contract import StandInRun
from tests.patience import wait_until
from tests.torture import kills, trainer
from tests.torture.checks import check, check_logs
from tests.torture.counts import Counts
from tests.torture.processes import left_over, with_folder

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def wrong_of(counts: Counts) -> dict[str, int]:
    return {kind: number for kind, number in counts.wrong.items() if number}


@pytest.fixture
def finished(tmp_path: Path) -> RunFolder:
    """A run that the trainer of the torture has done."""
    run = RunFolder(tmp_path / "results" / "runs" / "run")
    run.ask(RunRequest.of(StandInRun("run", seconds=0.2)))
    trainer.main([str(run.path)])
    assert wrong_of(check_finished(run)) == {}
    return run


def check_finished(run: RunFolder) -> Counts:
    return check(run.path.parents[1], {"run": 4}, "here")


def test_a_run_that_two_trainings_wrote_in_turns_or_finished_twice_is_reported(finished: RunFolder) -> None:
    records = finished.path / "metrics.jsonl"
    first, *others = records.read_text().splitlines()
    other = json.dumps({**json.loads(first), "by": "somebody else"})
    records.write_text("\n".join([first, other, *others]) + "\n")
    assert wrong_of(check_finished(finished)) == {"doubled": 1}
    records.write_text("\n".join([first, *others, others[-1]]) + "\n")
    assert wrong_of(check_finished(finished)) == {"doubled": 1}


def test_a_run_that_is_lost_and_one_with_other_losses_are_reported(finished: RunFolder) -> None:
    records = finished.path / "metrics.jsonl"
    records.write_text("".join(f"{line}\n" for line in records.read_text().splitlines()[1:]))
    assert wrong_of(check_finished(finished)) == {"differing": 1}
    (finished.path / "result.json").unlink()
    assert wrong_of(check_finished(finished)) == {"lost": 1}


def test_a_run_of_the_real_trainer_that_differs_is_reported(finished: RunFolder, tmp_path: Path) -> None:
    other = RunFolder(tmp_path / "other" / "runs" / "run")
    other.ask(RunRequest.of(StandInRun("run")))
    with other.hold() as lease:
        assert lease is not None
        lease.append([{"step": 1, "loss": 1.0}])
        lease.write_result(Result())
    runs = [StandInRun("run")]
    assert wrong_of(kills.compare(runs, finished.path.parents[1], tmp_path / "other", "here")) == {"differing": 1}
    assert wrong_of(kills.compare(runs, tmp_path / "none", tmp_path / "other", "here")) == {"lost": 1}


def test_a_process_that_stays_and_a_log_with_a_traceback_are_reported(finished: RunFolder) -> None:
    results = finished.path.parents[1]
    assert left_over(results, seconds=0) == []
    with subprocess.Popen([sys.executable, "-c", "input()", str(results)], stdin=subprocess.PIPE) as stays:
        (process,) = wait_until(lambda: left_over(results, seconds=0))
        assert process.startswith(str(stays.pid))
        stays.communicate(b"\n")
    (results / "local" / "S").mkdir(parents=True)
    (results / "local" / "S" / "worker-0.log").write_text("Traceback (most recent call last):\n  ValueError: 7\n")
    assert wrong_of(check_logs(results, "here")) == {"tracebacks": 1}


def test_kills_find_the_processes_of_a_study_by_what_they_do(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(trainer.__file__)), str(tmp_path / "runs" / "run")]
    run = RunFolder(tmp_path / "runs" / "run")
    run.ask(RunRequest.of(StandInRun("run", seconds=600)))
    with subprocess.Popen(command) as process:
        wait_until(lambda: run.records()[0])
        wait_until(lambda: with_folder(tmp_path) == {process.pid: "trainer"})
        assert not kills.LOCAL["attendant"](tmp_path, random.Random(1))
        assert kills.LOCAL["trainer"](tmp_path, random.Random(1))
        assert process.wait() == -signal.SIGKILL


@pytest.mark.clusters
def test_the_short_form_finds_nothing() -> None:
    """Half of it ends with 0. Its seed is fixed: CI looks for what broke, the whole form seeks."""
    command = [sys.executable, "-m", "tests.torture", "--short", "--share", "0.5", "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    if os.environ.get("CI") == "true":  # There all real parts are there.
        assert not re.findall(r"^(?:full_disk|twos|kills): no .*", done.stderr, re.MULTILINE), done.stderr
