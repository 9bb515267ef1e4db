"""The Ray launcher on a real cluster of a head and two workers, with real training."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flipscale.errors import LaunchError
from flipscale.launch import Looker, cancel, states, submit
from flipscale.launch.launcher import TRAIN
from flipscale.launch.ray import RayLauncher
from flipscale.launch.ray.cluster import ONE_NODE
from flipscale.launch.site import DEFAULTS
from flipscale.run import Asked, Result, RunFolder, State, is_alive
from flipscale.run.processes import birth
from flipscale.settings import Resources
from tests.clusters.ray import addresses_listened_at, with_descendants
from tests.launch.contract import WORKER, LauncherContract, StandInRun, begun, folder, starts, wait_for
from tests.launch.real import (
    AT_ONCE,
    LONG,
    OFTEN,
    SHORT_TOGETHER,
    STUDY_OF_24,
    assert_close,
    assert_same,
    end,
    frozen,
    is_signalled,
    logs,
    runs_of,
)
from tests.patience import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def on_a_cluster(ray: Any) -> Any:
    return ray


def send(runs: Sequence[Any], results: Path, command: Sequence[str] = TRAIN, **site: Any) -> None:
    submit(runs, results, RayLauncher(results, {**DEFAULTS, **site}, command=command))


@pytest.mark.second_ray
class TestRay(LauncherContract):
    def launcher(self, results: Path) -> RayLauncher:
        """One run at a time, as other tests have several: each more would be a process of Ray's, and to start one takes
        as long as a few runs.
        """
        return RayLauncher(results, {**DEFAULTS, "throttle": 1}, command=WORKER)


# Several processes, parts of a GPU


def test_processes_in_bundles_of_their_own_give_the_losses_of_one_process(tmp_path, alone):
    # With AdamW's usual eps a gradient of almost 0 moves a weight by lr one way or the other, as it is rounded.
    (run,) = runs_of(tmp_path, "resources: {processes: 3}", eps=1e-3, batch_size=48, samples=960)
    # A node has 4 cores, so that the third process has to be on the other one.
    send([run], tmp_path / "results", cpus_per_process=2)
    expected = alone([run])
    assert end([run], tmp_path / "results") == {run.id: State.FINISHED}, logs(tmp_path / "results")
    assert_close(run, tmp_path / "results", expected, losses_within=1e-5, weights_within=1e-5)
    assert folder(tmp_path / "results", run).result().devices == 6
    assert len(list((tmp_path / "results").glob("ray/*/0-[12].log"))) == 2


def test_runs_share_gpus_by_the_sites_share(tmp_path):
    results = tmp_path / "results"
    together = begun(*(f"run-{number}" for number in range(4)))
    runs = [StandInRun(f"run-{number}", until=together, resources=Resources(gpus=1)) for number in range(4)]
    send(runs, results, WORKER, cpus_per_process=2, pack={**DEFAULTS["pack"], "share": 2})
    assert set(end(runs, results).values()) == {State.FINISHED}, logs(results)
    # Two runs of two cores each fill a node, and half a GPU each is its first one.
    assert [folder(results, run).result().more["CUDA_VISIBLE_DEVICES"] for run in runs] == ["0"] * 4


# Nodes and drivers


def test_a_run_on_a_node_that_is_lost_goes_on_elsewhere_exactly(tmp_path, alone, ray):
    results = tmp_path / "results"
    (run,) = runs_of(tmp_path, samples=12_800)
    send([run], results, OFTEN)
    here = folder(results, run)
    with frozen(here, once="checkpoint.pt") as (_, lease):
        lost = lease.node
        ray.kill_node(lost)
    again = wait_until(lambda: (lease := here.holder()) and lease.attempt == 1 and lease)
    assert again.node != lost
    expected = alone([run])
    assert end([run], results) == {run.id: State.FINISHED}, logs(results)
    (failure,) = here.failures()
    assert (failure.kind, failure.node) == ("node", lost)
    assert here.result().attempts == 2
    assert_same(run, results, expected)


def test_what_a_killed_process_left_goes_on_on_another_node(tmp_path):
    results = tmp_path / "results"
    seen = tmp_path / "seen"
    run = StandInRun("run", first_seconds=60, until=(str(seen),))
    send([run], results, WORKER)
    wait_until(lambda: folder(results, run).records()[0])
    first = folder(results, run).holder()
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: starts(results, run) == 2)
    again = folder(results, run).holder()
    seen.touch()
    assert (again.attempt, again.job) == (1, first.job)
    assert again.node != first.node
    assert end([run], results) == {"run": State.FINISHED}


def test_a_run_whose_process_the_system_asks_to_stop_goes_on_by_itself(tmp_path):
    results = tmp_path / "results"
    (run,) = runs_of(tmp_path, samples=12_800)
    send([run], results)
    with frozen(folder(results, run)) as (_, lease):
        os.kill(lease.pid, signal.SIGTERM)
    assert end([run], results) == {run.id: State.FINISHED}, logs(results)
    assert [failure.kind for failure in folder(results, run).failures()] == ["preempted"]
    assert folder(results, run).result().attempts == 2


def test_a_killed_driver_is_lost_and_submit_goes_on_from_the_checkpoint(tmp_path, alone):
    results = tmp_path / "results"
    (run,) = runs_of(tmp_path, samples=12_800)
    send([run], results)
    here = folder(results, run)
    with frozen(here):
        (written,) = results.glob("ray/*/driver.json")
        os.kill(json.loads(written.read_text())["process"], signal.SIGKILL)
    wait_for([run], results, State.LOST)
    assert here.failures() == []
    assert "FAILED" in Looker(results).look([run])[run.id].where.says
    assert (here.path / "checkpoint.pt").exists()
    send([run], results)
    expected = alone([run])
    assert end([run], results) == {run.id: State.FINISHED}, logs(results)
    assert here.result().attempts == 2
    assert_same(run, results, expected)


def test_a_killed_driver_leaves_a_checkpoint_of_a_run_in_several_processes_and_no_failure(tmp_path):
    results = tmp_path / "results"
    (run,) = runs_of(tmp_path, "resources: {processes: 2}", batch_size=48, samples=19_200)
    send([run], results, cpus_per_process=3)  # The second one has to be on the other node.
    here = folder(results, run)
    with frozen(here) as (_, lease):
        (written,) = results.glob("ray/*/driver.json")
        os.kill(json.loads(written.read_text())["process"], signal.SIGKILL)
        wait_until(lambda: is_signalled(lease))
    wait_for([run], results, State.LOST)
    assert (here.failures(), here.error()) == ([], None)
    assert (here.path / "checkpoint.pt").exists()
    send([run], results, cpus_per_process=3)
    assert end([run], results) == {run.id: State.FINISHED}, logs(results)
    assert (here.failures(), here.result().attempts) == ([], 2)


def test_no_run_is_lost_where_20_nodes_die_just_after_a_short_run_on_them_has_ended(tmp_path, ray):
    """Tune keeps the process of a trial that has ended, and starts the next one in it though its node has died."""
    results, kills = tmp_path / "results", 20
    # This process holds the parent of each run but the first one, which is over only when a node has died.
    gates = [folder(results, StandInRun(f"gate-{kill}")) for kill in range(kills)]
    runs = [StandInRun("run-0", until=(str(tmp_path / "0"),))]
    runs += [StandInRun(f"run-{n}", until=(str(tmp_path / f"{n}"),), parents=(f"gate-{n - 1}",)) for n in range(1, 21)]
    with contextlib.ExitStack() as held, ThreadPoolExecutor(1) as beside:
        for gate in gates:
            gate.ask(Asked.of(StandInRun(gate.id)))
        leases = [held.enter_context(gate.hold()) for gate in gates]
        send(runs, results, WORKER)
        started = None
        for kill in range(kills):
            run = folder(results, runs[kill])
            holder = wait_until(lambda run=run: (holder := run.holder()) and holder.alive and holder)
            (tmp_path / f"{kill}").touch()
            wait_until(run.result)
            if started:
                started.result()
            time.sleep(kill % 5 / 4)  # Tune hears of the end in the meantime, or does not.
            ray.kill_node(holder.node)
            started = beside.submit(ray.start_node, holder.node)
            leases[kill].write_result(Result())
        (tmp_path / f"{kills}").touch()
        assert set(end(runs, results).values()) == {State.FINISHED}, logs(results)
    assert {failure.kind for run in runs for failure in folder(results, run).failures()} <= {"node"}


# Failures by kind

PLAIN = (
    sys.executable,
    "-c",
    "import sys, torch; from pathlib import Path; from flipscale.train import train\n"
    "torch.backends.mkldnn.set_flags(False)\n"
    "raise SystemExit(train(list(map(Path, sys.argv[1:]))))",
)
"""`flipscale train` without oneDNN, which says of a lack of memory that it "could not create a primitive"."""


def test_a_run_out_of_memory_goes_on_with_half_the_micro_batch_and_comes_out_the_same(tmp_path, alone):
    results = tmp_path / "results"
    (run,) = runs_of(tmp_path, model="ViT-w64d2-4", mask_ratio=0, batch_size=2048, samples=4096, eps=1e-3)
    send([run], results, PLAIN, setup=["ulimit -d 1400000"])
    expected = alone([run])
    # Between `train`, which says that it failed, and the attendant, which starts it again, it counts as failed.
    wait_until(lambda: states([run], results)[run.id] is State.FINISHED, every=0.5)
    here = folder(results, run)
    failures = here.failures()
    assert {failure.kind for failure in failures} == {"oom"}
    assert here.asked().resources.accumulate == failures[-1].accumulate == 2 ** len(failures)
    assert_close(run, results, expected, losses_within=1e-4, weights_within=1e-4)


def test_what_is_wrong_with_all_runs_stops_the_submission_and_a_diverged_one_only_itself(tmp_path):
    results, other = tmp_path / "results", tmp_path / "other"
    runs = [StandInRun(f"run-{number}", fail="data") for number in range(10)]
    hot, good = StandInRun("hot", fail="diverged"), StandInRun("good")
    send(runs, results, WORKER, throttle=2)
    send([hot, good], other, WORKER)
    ended = end(runs, results)
    failed = [run for run in runs if ended[run.id] is State.FAILED]
    assert 3 <= len(failed) <= 5
    assert set(ended.values()) == {State.FAILED, State.CANCELLED}
    assert {folder(results, run).error().kind for run in failed} == {"data"}
    (says,) = {look.where.says for look in Looker(results).look(runs).values() if look.state is State.CANCELLED}
    assert says == "its submission was stopped, as its first 3 runs failed within a minute of their start"
    assert end([hot, good], other) == {hot.id: State.FAILED, good.id: State.FINISHED}
    (failure,) = folder(other, hot).failures()
    assert (failure.kind, failure.then) == ("diverged", "given up: it would diverge again")


def test_what_no_node_can_take_waits_and_cancelling_it_ends_the_driver(tmp_path, ray):
    results = tmp_path / "results"
    run = StandInRun("run", resources=Resources(gpus=1))
    send([run], results, WORKER, cpus_per_process=64)
    wait_until(lambda: list(results.glob("ray/*/driver.json")))
    time.sleep(3)
    assert states([run], results) == {"run": State.WAITING}
    assert cancel([run], results) == ["run"]
    name = next(results.glob("ray/*")).name
    wait_until(lambda: ray.jobs()[name] == "SUCCEEDED", every=0.5)


# A whole study


@pytest.mark.second_ray
def test_a_study_of_24_runs_with_children_is_finished_once_each_while_a_node_dies(tmp_path, alone, ray):
    """And its results are those of this machine alone."""
    results = tmp_path / "results"
    runs = runs_of(tmp_path, STUDY_OF_24)
    assert len(runs) == 24
    send(runs, results, pack=SHORT_TOGETHER)
    long = [folder(results, run) for run in runs if run.settings.samples == LONG and not run.parents]
    with frozen(*long) as (lost, lease):
        ray.kill_node(lease.node)
    expected = alone(runs)
    assert set(end(runs, results).values()) == {State.FINISHED}, logs(results)
    for run in runs:
        assert_same(run, results, expected)
        assert (folder(results, run).path / "log.txt").read_text().count(" finished, ") == 1
        for parent in run.parents:
            ended = RunFolder(results / "runs" / parent).result().finished
            assert folder(results, run).result().started > ended
    assert [(failure.kind, failure.node) for failure in lost.failures()] == [("node", lease.node)]
    assert {failure.kind for run in runs for failure in folder(results, run).failures()} == {"node"}


# The command line


@pytest.mark.second_ray
def test_the_command_line_sends_a_study_and_returns(tmp_path, ray, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setenv(*next(iter(ONE_NODE.items())))  # Or else Ray looks for the head at a network card's address.
    runs = runs_of(tmp_path, "seeds: 2", trainer=AT_ONCE)

    def flipscale(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "flipscale", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    on_ray = ["--on", "ray", "--address", ray.head]
    preview = flipscale("submit", "small.yaml", *on_ray, "--dry-run")
    assert "# a Ray job: 2 runs in 2 trials of Ray Tune\n# 2 trials ask for 1 x {'CPU': 1}\n" in preview.stdout
    assert not (tmp_path / "results").exists()
    sent = flipscale("submit", "small.yaml", *on_ray, "--detach")
    assert "submitted 2 runs to ray\n" in sent.stderr, sent.stderr
    assert "Ray job " in flipscale("status", "small.yaml").stdout
    wait_until(lambda: all(folder(tmp_path / "results", run).result() for run in runs), "two results", every=0.2)
    assert "2 of 2 finished" in flipscale("status", "small.yaml").stdout
    assert "submitted 0 runs, left alone 2 finished\n" in flipscale("submit", "small.yaml", *on_ray).stderr


@pytest.mark.second_ray
def test_a_probe_times_shapes_in_a_trial(tmp_path, ray, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setenv(*next(iter(ONE_NODE.items())))  # Or else Ray looks for the head at a network card's address.
    runs_of(tmp_path, "axes: {mask_ratio: [0, 0.5]}")
    command = [sys.executable, "-m", "flipscale", "probe", "small.yaml", "--on", "ray", "--address", ray.head, "--json"]
    probed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert probed.returncode == 0, probed.stderr
    found = json.loads(probed.stdout)
    assert found["site"] == "ray"
    assert [shape["step"]["steps"] > 0 for shape in found["shapes"]] == [True, True]


@pytest.mark.second_ray
def test_without_an_address_a_ray_is_started_here_on_loopback_and_ends_by_itself_alone_with_checkpoints(
    tmp_path, ray, monkeypatch
):
    monkeypatch.delenv("RAY_ADDRESS")
    home = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # Paths of sockets have to be short.
    monkeypatch.setenv("RAY_TMPDIR", str(home))
    keeper, results = None, tmp_path / "results"
    try:
        said = []
        for seeds in (1, 2):
            runs = runs_of(tmp_path, f"seeds: {seeds}", samples=12_800)
            command = [sys.executable, "-m", "flipscale", "submit", "small.yaml", "--on", "ray", "--detach"]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            said.append(done.stderr)
            first = re.search(r"starting Ray on this machine; `kill (\d+)` ends it\nsubmitted 1 run to ray\n", said[0])
            keeper = int(first[1])
        assert "\nsubmitted 1 run to ray, left alone 1 " in said[1]
        with frozen(*(folder(results, run) for run in runs)) as (at_work, lease):
            processes = {pid: birth(pid) for pid in with_descendants({keeper})}
            assert lease.pid in processes
            found = addresses_listened_at(processes)
            os.kill(keeper, signal.SIGTERM)
            wait_until(lambda: is_signalled(lease))
        assert set(found) == {"127.0.0.1"}
        assert found.total() >= 8
        wait_until(lambda: not any(is_alive(pid, born) for pid, born in processes.items()))
        assert (at_work.path / "checkpoint.pt").exists()
        assert at_work.failures() == []
        assert ray.alive() == {"w1", "w2"}
        keeper = None
    finally:
        if keeper is not None:
            os.killpg(keeper, signal.SIGKILL)
        shutil.rmtree(home, ignore_errors=True)


def test_where_no_ray_answers_nothing_is_written_of_jobs(tmp_path):
    run = StandInRun("run")
    with pytest.raises(LaunchError, match=r"Nothing answers at 127\.0\.0\.1:9\. Is that the head of a Ray cluster"):
        submit([run], tmp_path, RayLauncher(tmp_path, address="127.0.0.1:9", command=WORKER))
    assert states([run], tmp_path) == {"run": State.PLANNED}
