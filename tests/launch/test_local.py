import json
import os
import signal
import subprocess
import sys
import time

import pytest

from flipscale.errors import LaunchError
from flipscale.launch import cancel, states, submit
from flipscale.launch.local import LocalLauncher
from flipscale.launch.local import launcher as local_launcher
from flipscale.launch.local.launcher import slots_for
from flipscale.run import State, birth
from flipscale.settings.declarations import Resources
from tests.launch.contract import WORKER, LauncherContract, StandInRun, begun, folder, starts, wait_for
from tests.launch.real import survives_kills
from tests.patience import wait_until

pytestmark = pytest.mark.slow


class TestLocal(LauncherContract):
    def launcher(self, results):
        return LocalLauncher(results, command=WORKER)


def hand_out(runs, results):
    return submit(runs, results, LocalLauncher(results, command=WORKER))


def until_started(results, run):
    while not starts(results, run):
        time.sleep(0.02)


def workers(results, job):
    return json.loads((results / "local" / job.id / "workers.json").read_text())["workers"]


@pytest.fixture
def cores(monkeypatch):
    """Give the machine this number of cores and no GPU."""

    def give(count):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(count)))

    return give


@pytest.fixture
def gpus(monkeypatch, tmp_path):
    """Give the machine this number of GPUs, as nvidia-smi lists them."""

    def give(count, visible=None):
        lines = [f"GPU {gpu}: NVIDIA H100 80GB HBM3 (UUID: GPU-5c3c7a0e-{gpu:04})" for gpu in range(count)]
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "nvidia-smi").write_text("#!/bin/sh\ncat <<END\n" + "\n".join(lines) + "\nEND\n")
        (folder / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return give


# What a worker is


def test_a_worker_has_one_thread_and_a_session_of_its_own(tmp_path):
    run = StandInRun("run")
    (job,) = hand_out([run], tmp_path).jobs
    wait_for([run], tmp_path, State.FINISHED)
    result = folder(tmp_path, run).result().more
    assert result["OMP_NUM_THREADS"] == "1"
    assert result["FLIPSCALE_JOB"] == f"local/{job.id}/0"
    assert result["session"] == result["pid"]


def test_there_are_no_more_workers_than_cores_or_runs(tmp_path, cores):
    cores(3)
    two, many = ([StandInRun(f"{name}-{number}") for number in range(count)] for name, count in [("a", 2), ("b", 5)])
    assert len(workers(tmp_path, hand_out(two, tmp_path).jobs[0])) == 2
    assert len(workers(tmp_path, hand_out(many, tmp_path).jobs[0])) == 3
    wait_for([*two, *many], tmp_path, State.FINISHED)


def test_what_a_worker_that_cannot_start_said_is_why_its_run_failed(tmp_path):
    run = StandInRun("run")
    (job,) = submit([run], tmp_path, LocalLauncher(tmp_path, command=[sys.executable, "-m", "no_such_module"])).jobs
    wait_for([run], tmp_path, State.FAILED)
    assert "No module named no_such_module" in folder(tmp_path, run).error().reason
    assert "no_such_module" in (tmp_path / "local" / job.id / "worker-0.log").read_text()


def test_workers_outlive_the_terminal_they_were_started_from(tmp_path):
    script = (
        "import sys, time; from pathlib import Path\n"
        "from flipscale.launch import submit; from flipscale.launch.local import LocalLauncher\n"
        "from tests.launch.contract import WORKER, StandInRun\n"
        "results = Path(sys.argv[1])\n"
        "submit([StandInRun('run', seconds=1)], results, LocalLauncher(results, command=WORKER))\n"
        "print('submitted', flush=True); time.sleep(60)\n"
    )
    terminal = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with terminal:
        assert terminal.stdout.readline() == "submitted\n"
        os.killpg(terminal.pid, signal.SIGHUP)
        os.killpg(terminal.pid, signal.SIGKILL)
    run = StandInRun("run")
    wait_for([run], tmp_path, State.FINISHED)
    assert starts(tmp_path, run) == 1


def test_who_leaves_workers_at_work_hears_no_complaint_of_it(tmp_path):
    script = (
        "import sys; from pathlib import Path\n"
        "from flipscale.launch import submit; from flipscale.launch.local import LocalLauncher\n"
        "from tests.launch.contract import WORKER, StandInRun\n"
        "results = Path(sys.argv[1])\n"
        "submit([StandInRun('run', seconds=60)], results, LocalLauncher(results, command=WORKER))\n"
    )
    strict = [sys.executable, "-W", "error::ResourceWarning", "-c", script, tmp_path]
    assert subprocess.run(strict, capture_output=True, text=True, check=True).stderr == ""
    assert cancel([StandInRun("run")], tmp_path) == ["run"]


def test_the_runs_of_a_killed_pool_are_lost_and_submit_goes_on_from_their_checkpoints(tmp_path, cores):
    cores(2)
    runs = [StandInRun("one", first_seconds=60), StandInRun("two", first_seconds=60), StandInRun("waiting")]
    (job, *_) = hand_out(runs, tmp_path).jobs
    wait_for(runs[:2], tmp_path, State.RUNNING)
    for worker in workers(tmp_path, job):
        os.kill(worker["pid"], signal.SIGKILL)
    assert set(wait_for(runs, tmp_path, State.LOST).values()) == {State.LOST}
    assert [(folder(tmp_path, run).path / "checkpoint.pt").exists() for run in runs] == [True, True, False]
    assert len(hand_out(runs, tmp_path).jobs) == 3
    wait_for(runs, tmp_path, State.FINISHED)
    assert [starts(tmp_path, run) for run in runs] == [2, 2, 1]


def test_the_core_of_a_killed_worker_is_not_given_out_before_its_training_has_ended(tmp_path, cores):
    cores(1)
    seen = tmp_path / "seen"
    deaf, other = StandInRun("deaf", deaf=True, until=(str(seen),)), StandInRun("other")
    (job,) = hand_out([deaf], tmp_path).jobs
    until_started(tmp_path, deaf)
    (worker,) = workers(tmp_path, job)
    os.kill(worker["pid"], signal.SIGKILL)
    hand_out([other], tmp_path)
    time.sleep(1)
    assert states([deaf, other], tmp_path) == {"deaf": State.RUNNING, "other": State.WAITING}
    seen.touch()
    wait_for([deaf, other], tmp_path, State.FINISHED)
    (start,) = [record["step"] for record in folder(tmp_path, other).records()[0] if "start" in record]
    assert start > folder(tmp_path, deaf).result().more["ended"]


# The queue


def test_a_second_submission_waits_for_the_cores_of_the_first(tmp_path, cores):
    cores(1)
    first, second = StandInRun("first", seconds=0.5), StandInRun("second")
    hand_out([first], tmp_path)
    hand_out([second], tmp_path)
    wait_for([first, second], tmp_path, State.FINISHED)
    (start,) = [record["step"] for record in folder(tmp_path, second).records()[0] if "start" in record]
    assert start > folder(tmp_path, first).result().more["ended"]


def test_the_workers_of_another_host_are_not_seen_so_their_waiting_runs_are_lost(tmp_path):
    run = StandInRun("run", seconds=0.1)
    (job,) = hand_out([run], tmp_path).jobs
    wait_for([run], tmp_path, State.FINISHED)
    wait_until(lambda: folder(tmp_path, run).holder() is None, "the run's process to end")
    (folder(tmp_path, run).path / "result.json").unlink()
    path = tmp_path / "local" / job.id / "workers.json"
    here = json.loads(path.read_text())
    alive = {"pid": os.getpid(), "born": birth(os.getpid()), "slots": []}
    path.write_text(json.dumps({**here, "workers": [alive]}))
    assert states([run], tmp_path) == {"run": State.WAITING}
    path.write_text(json.dumps({**here, "workers": [alive], "machine": "elsewhere"}))
    assert states([run], tmp_path) == {"run": State.LOST}


# Stopping


def test_the_only_worker_goes_on_where_a_run_of_its_list_is_cancelled(tmp_path, cores):
    cores(1)
    long, short = StandInRun("long", seconds=60), StandInRun("short")
    (job, _) = hand_out([long, short], tmp_path).jobs
    until_started(tmp_path, long)
    assert cancel([long], tmp_path) == ["long"]
    assert folder(tmp_path, long).holder() is None
    assert len(workers(tmp_path, job)) == 1
    wait_for([short], tmp_path, State.FINISHED)
    assert states([long], tmp_path) == {"long": State.CANCELLED}
    assert starts(tmp_path, long) == 1


def test_a_run_that_does_not_stop_is_killed_and_its_worker_goes_on_with_the_others(tmp_path, cores, monkeypatch):
    cores(1)
    monkeypatch.setattr(local_launcher, "STOP_SECONDS", 1.0)
    deaf, other = StandInRun("deaf", seconds=60, deaf=True), StandInRun("other")
    hand_out([deaf, other], tmp_path)
    until_started(tmp_path, deaf)
    cancel([deaf], tmp_path)
    wait_for([other], tmp_path, State.FINISHED)
    assert states([deaf], tmp_path) == {"deaf": State.CANCELLED}
    assert folder(tmp_path, other).failures() == []


@pytest.mark.clusters  # As those of SLURM and Ray, with which it shares the runs to compare with.
def test_stages_and_trunks_survive_kills(tmp_path, alone):
    survives_kills(tmp_path, lambda results, command: LocalLauncher(results, command=command), alone)


# GPUs


@pytest.mark.parametrize(
    ("there", "visible", "each", "shares"),
    [
        (2, None, 0, [["0"], ["1"]]),
        (2, None, 1, [["0"], ["1"]]),
        (4, None, 2, [["0", "1"], ["2", "3"]]),
        (5, None, 2, [["0", "1"], ["2", "3"]]),
        (4, "3,1", 1, [["3"], ["1"]]),
        (4, "2,-1,3", 1, [["2"]]),
    ],
)
def test_gpus_are_shared_out_as_a_run_needs_them(gpus, there, visible, each, shares):
    gpus(there, visible)
    assert slots_for(each) == [tuple(f"gpu-{gpu}" for gpu in share) for share in shares]


def test_each_worker_has_its_own_gpus(tmp_path, gpus):
    gpus(4)
    # Until every worker has one.
    runs = [StandInRun(name, until=begun("one", "two"), resources=Resources(gpus=2)) for name in ("one", "two")]
    hand_out(runs, tmp_path)
    wait_for(runs, tmp_path, State.FINISHED)
    assert sorted(folder(tmp_path, run).result().more["CUDA_VISIBLE_DEVICES"] for run in runs) == ["0,1", "2,3"]


def test_runs_that_need_more_gpus_than_there_are_are_refused(tmp_path, gpus):
    gpus(2)
    with pytest.raises(LaunchError, match=r"needs resources.gpus: 4, and this machine shows 2"):
        hand_out([StandInRun("run", resources=Resources(gpus=4))], tmp_path)
    assert not (tmp_path / "local").exists()


# Submissions beside each other


def test_a_second_submission_takes_a_free_core(tmp_path, cores):
    cores(2)
    first, second = StandInRun("first", first_seconds=60), StandInRun("second")
    (one,) = hand_out([first], tmp_path).jobs
    (two,) = hand_out([second], tmp_path).jobs
    assert [worker["slots"] for worker in workers(tmp_path, one) + workers(tmp_path, two)] == [["core-0"], ["core-1"]]
    wait_for([second], tmp_path, State.FINISHED)
    cancel([first], tmp_path)


def test_runs_of_two_sizes_share_the_gpus(tmp_path, gpus):
    gpus(2)
    runs = [StandInRun("both", resources=Resources(gpus=2)), StandInRun("one", resources=Resources(gpus=1))]
    hand_out(runs, tmp_path)
    wait_for(runs, tmp_path, State.FINISHED)
    assert folder(tmp_path, runs[0]).result().more["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert folder(tmp_path, runs[1]).result().more["CUDA_VISIBLE_DEVICES"] in ("0", "1")
