"""The Ray launcher on a real cluster of a head and two workers, with real training."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from flipscale.launch import StateReader, cancel, submit
from flipscale.launch.launcher import TRAIN
from flipscale.launch.ray import RayLauncher
from flipscale.launch.site import DEFAULTS
from flipscale.run import Doing, RunFolder, State, read_scores
from flipscale.settings.declarations import Resources
from flipscale.workflow.opened import open_study
from flipscale.workflow.submitted import Guards, train_study
from flipscale.workspace import Workspace
from tests.launch.contract import WAYS_TO_END, WORKER, LauncherContract, Scenario, StandInRun, begun, folder, wait_for
from tests.launch.real import (
    IN_LINES,
    LONG,
    SHORT_TOGETHER,
    SLOWLY,
    SLOWLY_OFTEN,
    STUDY_OF_24,
    assert_close,
    assert_goes_on_by_itself,
    assert_same,
    assert_tuned,
    end,
    frozen,
    is_signalled,
    logs,
    runs_of,
    survives_kills,
    to_be_scored,
    tuned_study,
)
from tests.patience import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def on_a_cluster(ray: Any) -> Any:
    return ray


def send(runs: Sequence[Any], results: Path, command: Sequence[str] = TRAIN, **site: Any) -> None:
    submit(runs, results, RayLauncher(results, {**DEFAULTS, **site}, command=command))


@pytest.mark.second
class TestRay(LauncherContract):
    """Some scenarios share their submissions: each is a driver, its supervisor and a process of Ray's, 7 s of CPU."""

    at_once = 1
    """Each run more at a time would be a process of Ray's, and to start one takes as long as a few runs."""

    test_every_run_is_finished_as_asked_was_started_once_and_cannot_be_cancelled_then = None
    test_a_run_is_known_from_submit_to_result_and_submitting_again_starts_nothing = None
    test_a_finished_run_begins_anew_when_asked_and_what_it_gave_is_kept = None
    test_a_failed_run_takes_no_neighbour_along_and_is_tried_again_if_diverged_only_when_asked = None
    test_the_run_of_a_killed_process_goes_on_by_itself = None
    test_a_run_that_hangs_is_killed_with_its_stacks_in_the_log_and_resumed = None
    test_cancelled_runs_write_a_checkpoint_and_submit_goes_on_with_them = None
    test_cancelling_some_leaves_the_others_to_finish = None
    test_the_longer_lengths_of_a_trunk_finish_though_the_shortest_ends_early = None

    def launcher(self, results: Path) -> RayLauncher:
        return RayLauncher(results, {**DEFAULTS, "throttle": self.at_once}, command=WORKER)

    def killed(self, results: Path) -> Scenario:
        yield from super().killed(results)
        first, second = nodes_of(results, StandInRun("killed"))
        assert first != second

    def test_runs_that_finish_begin_anew_fail_diverge_hang_or_are_killed_or_cancelled_do_so_beside_each_other(
        self, tmp_path
    ):
        self.at_once = 2  # Two of the runs wait for this process, which looks after one scenario at a time.
        first = (self.cancelled, self.some_cancelled)  # Their runs take a place until they are cancelled.
        then = (self.killed, self.known, self.failed, self.hanging, self.begun_anew, self.all_finish)
        self.play(tmp_path, *(scenario(tmp_path) for scenario in (*first, *then)))

    def test_the_longer_lengths_of_trunks_finish_though_the_shortest_end_early(self, tmp_path):
        self.at_once = len(WAYS_TO_END)
        self.play(tmp_path, *(self.trunk(tmp_path, how) for how in WAYS_TO_END))


def nodes_of(results: Path, run: Any) -> list[str]:
    """The node of each attempt."""
    name, _, index = folder(results, run).job().id.partition("/")
    written = (results / "ray" / name / f"{index}.starts").read_text()
    return [json.loads(line)["node"] for line in written.splitlines()]


# Several processes, parts of a GPU


def test_processes_in_bundles_of_their_own_give_the_losses_of_one_process_though_a_driver_is_killed(tmp_path, alone):
    results = tmp_path / "results"
    # With AdamW's usual eps a gradient of almost 0 moves a weight by lr one way or the other, as it is rounded.
    (run,) = runs_of(tmp_path, "resources: {processes: 3}", eps=1e-3, batch_size=48, samples=960)
    here = folder(results, run)
    # A node has 4 cores, so that the third process has to be on the other one.
    send([run], results, SLOWLY, cpus_per_process=2)
    with frozen(here) as (_, lease):
        kill_driver(results)
        wait_until(lambda: is_signalled(lease))
    wait_for([run], results, State.LOST)
    assert (here.failures(), here.error()) == ([], None)
    assert (here.path / "checkpoint.pt").exists()
    send([run], results, cpus_per_process=2)
    expected = alone([run])
    assert end([run], results) == {run.id: State.FINISHED}, logs(results)
    assert_close(run, results, expected, losses_within=1e-5, weights_within=1e-5)
    assert (here.failures(), here.result().attempts, here.result().devices) == ([], 2, 6)
    for submission in results.glob("ray/*"):
        assert len(list(submission.glob("0-[12].log"))) == 2


def test_runs_share_gpus_by_the_sites_share(tmp_path):
    results = tmp_path / "results"
    together = begun("run-0", "run-1")
    runs = [StandInRun(f"run-{number}", until=together, resources=Resources(gpus=1)) for number in range(2)]
    send(runs, results, WORKER, exclude=["w2"], pack={**DEFAULTS["pack"], "share": 2})
    assert set(end(runs, results).values()) == {State.FINISHED}, logs(results)
    # Half a GPU each is the first one of four of the node.
    assert [folder(results, run).result().more["CUDA_VISIBLE_DEVICES"] for run in runs] == ["0"] * 2
    assert [nodes_of(results, run) for run in runs] == [["w1"]] * 2


# Nodes and drivers


def kill_driver(results: Path) -> None:
    (submission,) = results.glob("ray/*/submission.json")
    for process in psutil.process_iter(["cmdline"]):
        if (process.info["cmdline"] or [])[-1:] == [str(submission)]:
            process.kill()


@contextlib.contextmanager
def frozen_in(attempt: int, run: RunFolder) -> Iterator[Any]:
    """The lease of that attempt when it trains; its process stands still meanwhile."""

    def trains() -> bool:
        lease, life = run.holder(), run.life()
        return bool(lease and lease.attempt == attempt and life and life.doing is Doing.TRAINING)

    wait_until(trains)
    with frozen(run) as (_, lease):
        assert lease.attempt == attempt
        yield lease


def test_a_run_goes_on_exactly_after_the_loss_of_its_node_of_its_process_and_of_its_driver(tmp_path, alone, ray):
    results = tmp_path / "results"
    (run,) = runs_of(tmp_path)
    here = folder(results, run)
    send([run], results, SLOWLY_OFTEN)
    with frozen(here, once="checkpoint.pt") as (_, lease):
        lost = lease.node
        ray.kill_node(lost)
    with frozen_in(1, here) as lease:
        assert lease.node != lost
        os.kill(lease.pid, signal.SIGTERM)  # As the system asks before a shutdown.
    with frozen_in(2, here):
        assert [failure.kind for failure in here.failures()] == ["node", "preempted"]
        kill_driver(results)
    wait_for([run], results, State.LOST)
    assert [(failure.kind, failure.node) for failure in here.failures()][:1] == [("node", lost)]
    assert len(here.failures()) == 2
    assert "FAILED" in StateReader(results).read([run])[run.id].job.says
    assert (here.path / "checkpoint.pt").exists()
    send([run], results)
    expected = alone([run])
    assert end([run], results) == {run.id: State.FINISHED}, logs(results)
    assert here.result().attempts == 4
    assert_same(run, results, expected)


# What does not run


def test_a_machine_that_does_not_share_the_results_folder_sends_nothing(tmp_path, ray):
    """It is this machine with a file system of its own at the folder."""
    if subprocess.run(["unshare", "-Urm", "true"], check=False).returncode:
        pytest.skip("no mount namespaces here")
    runs_of(tmp_path)
    (tmp_path / "results").mkdir()
    before = set(ray.jobs())
    submit_it = f"{sys.executable} -m flipscale submit small.yaml --on ray --detach"
    apart = f"mount -t tmpfs none results && cd results/.. && {submit_it}; echo code $?; find results -name job.json"
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", apart], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "code 1\n", done.stderr
    assert f"Ray at {ray.url} does not see {tmp_path}/results/ray/" in done.stderr
    assert "All nodes must share the results folder" in done.stderr
    assert {name.partition("-")[0] for name in set(ray.jobs()) - before} == {"look"}


def test_what_no_node_can_take_waits_and_cancelling_it_ends_the_driver(tmp_path, ray):
    results = tmp_path / "results"
    run = StandInRun("run", resources=Resources(gpus=1))
    send([run], results, WORKER, cpus_per_process=64)
    wait_until(lambda: list(results.glob("ray/*/0.waits")), "that a trial of Tune waits")
    look = StateReader(results).read([run])["run"]
    assert look.state is State.WAITING
    assert look.says.endswith(" runs; it waits for 1 x {'CPU': 64, 'GPU': 1.0}")
    assert cancel([run], results) == ["run"]
    name = next(results.glob("ray/*")).name
    wait_until(lambda: ray.jobs()[name] == "SUCCEEDED", every=0.5)


# A whole study


@pytest.mark.second
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


def test_stages_and_trunks_survive_kills(tmp_path, alone, ray):
    survives_kills(
        tmp_path,
        lambda results, command: RayLauncher(results, {**DEFAULTS, "pack": IN_LINES}, command=command),
        alone,
    )


def test_the_comparison_follows_the_sweep(tmp_path):
    file, results = tuned_study(tmp_path), tmp_path / "results"
    opened = open_study(file, Workspace(results))
    launcher = RayLauncher(results, {**DEFAULTS, "pack": SHORT_TOGETHER})
    assert train_study(opened, launcher, guards=Guards(inputs=False))[1] == 0, logs(results)
    assert_tuned(file, results)


def test_a_detached_study_goes_on_by_itself(tmp_path):
    """The driver of the sweep sends the runs that follow."""
    results = assert_goes_on_by_itself(tmp_path, "ray")
    assert len(list(results.glob("ray/*/submission.json"))) == 2


def test_a_probe_times_shapes_in_a_trial(tmp_path, ray):
    runs_of(tmp_path, "axes: {mask_ratio: [0, 0.5]}")
    command = [sys.executable, "-m", "flipscale", "probe", "small.yaml", "--on", "ray"]
    probed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert probed.returncode == 0, probed.stderr
    assert [line.split()[:2] for line in probed.stdout.splitlines()[1:]] == [
        ["mask_ratio=0", "1"],
        ["mask_ratio=0.5", "1"],
    ]


def test_finished_weights_are_scored_in_one_trial_by_two_processes_and_not_trained(tmp_path, alone):
    runs, results = to_be_scored(tmp_path, alone)
    kept = [folder(results, run).result() for run in runs]
    submit(runs, results, RayLauncher(results), to_score=dict.fromkeys((run.id for run in runs), 1.0))
    assert len({folder(results, run).job().id for run in runs}) == 1
    wait_for(runs, results, State.FINISHED)
    assert [[record.measure for record in read_scores(folder(results, run).path)] for run in runs] == [["", "more"]] * 2
    assert [folder(results, run).result() for run in runs] == kept
