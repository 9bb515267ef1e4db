"""What is asked of Ray, and in which order runs are handed out, without a cluster."""

import contextlib
import os
import re
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from flipscale.errors import LaunchError
from flipscale.launch import states, submit
from flipscale.launch.launcher import Attempt, Request, launcher_named
from flipscale.launch.ray import RayLauncher
from flipscale.launch.ray.cluster import Answer, Unreachable, check_address, find
from flipscale.launch.ray.trials import Task, Trials, bundle_of, job_id, tasks_of
from flipscale.launch.site import DEFAULTS, read_site
from flipscale.run import FailedAttempt, FailureKind, Job, Result, RunFolder, RunRequest, State
from flipscale.settings.declarations import Resources
from tests.launch.contract import WORKER, StandInRun
from tests.patience import wait_until

DOCS = Path(__file__).parents[2] / "docs"


def site(**keys):
    pack = {**DEFAULTS["pack"], **keys.pop("pack", {})}
    return {**DEFAULTS, **keys, "pack": pack}


def requests(results, *runs):
    return [Request(RunFolder(results / "runs" / run.id), RunRequest.of(run)) for run in runs]


# What a run asks for


@pytest.mark.parametrize(
    ("resources", "share", "keys", "bundle"),
    [
        (Resources(), 1, {}, {"CPU": 1}),
        (Resources(processes=2), 1, {"cpus_per_process": 3}, {"CPU": 3}),
        (Resources(gpus=2), 1, {"cpus_per_process": 8}, {"CPU": 8, "GPU": 1}),
        (Resources(gpus=1), 4, {}, {"CPU": 1, "GPU": 0.25}),
        (Resources(gpus=1), 3, {}, {"CPU": 1, "GPU": 0.3333}),
        (Resources(gpus=1, processes=2), 1, {}, {"CPU": 1, "GPU": 0.5}),
        (Resources(gpus=1), 1, {"gpu_type": "H100"}, {"CPU": 1, "GPU": 1, "accelerator_type:H100": 0.001}),
        (Resources(), 2, {"memory_per_process": "predicted"}, {"CPU": 1}),
        (Resources(), 2, {"memory_per_process": None}, {"CPU": 1}),
        (Resources(), 2, {"memory_per_process": "2G"}, {"CPU": 1, "memory": 2 * 1024**3}),
    ],
)
def test_each_process_of_a_run_asks_for_a_bundle(resources, share, keys, bundle):
    cores = keys.get("cpus_per_process", 1)
    assert bundle_of(Task(("run",), resources, share, cores), site(**keys)) == bundle


def test_by_itself_a_run_is_a_trial_and_a_child_another(tmp_path):
    asked = requests(tmp_path, StandInRun("parent"), StandInRun("other"), StandInRun("child", parents=("parent",)))
    assert [task.runs for task in tasks_of(asked, site())] == [("parent",), ("other",), ("child",)]


def test_short_runs_share_a_trial_as_far_as_the_sites_time_goes(tmp_path):
    runs = [StandInRun(f"run-{number}", seconds=20) for number in range(5)]
    long, child = StandInRun("long", seconds=50), StandInRun("child", seconds=20, parents=("run-0",))
    other = StandInRun("other", seconds=20, resources=Resources(processes=2))
    tasks = tasks_of(requests(tmp_path, long, *runs, child, other), site(pack={"time": 45}))
    assert [task.runs for task in tasks] == [
        ("long",), ("run-0", "child"), ("run-1", "run-2"), ("run-3", "run-4"), ("other",),
    ]  # fmt: skip


def test_as_many_runs_share_a_gpu_as_fit_by_their_predicted_memory(tmp_path):
    (asked,) = requests(tmp_path, StandInRun("run", resources=Resources(gpus=1)))
    needy = replace(asked.asked, cost=replace(asked.asked.cost, memory_bytes=20 * 1024**3))
    assert tasks_of([replace(asked, asked=needy)], site(pack={"share": 8, "device_memory": "80G"}))[0].share == 3


# Refusals


def test_what_ray_cannot_follow_in_a_site_file_is_refused(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text("schema: 1\npartition: gpu\nsrun: [--cpu-bind=cores]\npack: {whole_nodes: true}\n")
    with pytest.raises(LaunchError) as error:
        launcher_named("ray", tmp_path, read_site(path))
    assert str(error.value) == (
        "This site file is not for --on ray: Ray cannot follow partition, srun, pack.whole_nodes. Leave that out."
    )


def test_an_address_is_for_ray_alone(tmp_path):
    with pytest.raises(LaunchError, match="An address names a Ray cluster; give it together with --on ray"):
        launcher_named("local", tmp_path, address="10.0.0.1:6379")


# Looks


def sent(results, *runs, url="http://127.0.0.1:9"):
    """A submission as it is written down, to a cluster that is gone."""
    tasks = tuple(Task((run.id,), run.resources, 1) for run in runs)
    trials = Trials("NAME", tasks, url, site(), str(results / "runs"), WORKER, str(results))
    trials.write(results / "ray")
    for index, run in enumerate(runs):
        folder = RunFolder(results / "runs" / run.id)
        folder.ask(RunRequest.of(run))
        folder.write_job(Job(run.id, "ray", job_id("NAME", index), 0.0, log=""))
    return trials, trials.path(results / "ray")


def test_where_ray_cannot_be_asked_a_run_is_lost_only_when_its_driver_shows_no_life(tmp_path):
    run = StandInRun("run")
    _, path = sent(tmp_path, run)
    assert states([run], tmp_path) == {"run": State.WAITING}
    os.utime(path, (0, 0))
    assert states([run], tmp_path) == {"run": State.LOST}


def test_where_no_ray_can_be_had_no_job_is_written(tmp_path):
    with pytest.raises(LaunchError, match="Nothing answers"):
        submit([StandInRun("run")], tmp_path, RayLauncher(tmp_path, address="http://127.0.0.1:9", command=WORKER))
    assert RunFolder(tmp_path / "runs" / "run").job() is None


def test_a_ray_that_only_a_file_names_is_not_asked(tmp_path, monkeypatch):
    """Ray's client would send it the user's token."""
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    strangers = "http://ray.example.org:8265"
    with pytest.raises(Unreachable, match=f"set RAY_ADDRESS={strangers} if that is your cluster"):
        check_address(strangers, None)
    for here in ("http://127.0.0.1:8265", "http://localhost:1", "http://[::1]:8265"):
        check_address(here, None)
    check_address(strangers, "ray.example.org:6379")
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.setenv(name, "http://RAY.example.org:1")
        check_address(strangers, None)
        monkeypatch.delenv(name)


def test_status_shows_the_end_of_rays_message_where_the_reason_is():
    said = "Job entrypoint command failed with exit code 2, last available logs (truncated to 20,000 chars):\n"
    failed = Answer("NAME", "FAILED", f"{said}Traceback (most recent call last):\nModuleNotFoundError: flipscale\n\n")
    assert str(failed) == "Ray job NAME FAILED: ModuleNotFoundError: flipscale"
    assert str(Answer("NAME", "STOPPED", "Job was stopped.")) == "Ray job NAME STOPPED: Job was stopped."


def test_a_ray_of_this_machine_counts_only_if_this_user_or_root_began_it(tmp_path, monkeypatch):
    """Anybody can write to a temporary folder, and Ray's client would send a token and the job."""
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    address = tmp_path / "ray" / "ray_current_cluster"
    address.parent.mkdir()
    address.write_text("127.0.0.1:9")
    with pytest.raises(Unreachable, match=r"Nothing answers at 127\.0\.0\.1:9"):
        find(None)
    if os.getuid() == 0:
        os.chown(address, 54321, 54321)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(LaunchError, match="No Ray of yours runs on this machine"):
        find(None)


# The order of trials


@pytest.fixture
def queue(tmp_path):
    from flipscale.launch.ray.driver import TrialQueue

    runs = StandInRun("child", parents=("parent",)), StandInRun("parent"), StandInRun("other")
    trials, path = sent(tmp_path, *runs)
    return TrialQueue(path, trials)


def names(queue, *trial_ids):
    """Which runs are handed out to these trials."""
    handed_out = []
    for trial_id in trial_ids:
        config = queue.suggest(trial_id)
        handed_out.append(queue.trials.tasks[config["task"]].runs[0] if isinstance(config, dict) else config)
    return handed_out


def finish(run):
    with run.hold() as lease:
        lease.write_result(Result())


def test_a_child_is_handed_out_when_its_parent_is_over(queue):
    assert names(queue, "a", "b", "c") == ["parent", "other", None]
    finish(queue.trials.run("parent"))
    queue.on_trial_complete("a", {"again": False})
    assert names(queue, "d") == ["child"]


def test_what_has_to_leave_its_node_comes_again_and_avoids_it(queue):
    assert names(queue, "a", "b") == ["parent", "other"]
    queue.trials.run("parent").note_failure(FailedAttempt(FailureKind.NODE, "", "resumed", node="10.0.0.7"))
    queue.on_trial_complete("a", {"again": True})
    config = queue.suggest("c")
    assert (queue.trials.tasks[config["task"]].runs, config["avoid"]) == (("parent",), "10.0.0.7")


def test_nothing_more_is_handed_out_when_the_rest_is_cancelled_or_asked_of_another_submission(queue):
    assert names(queue, "a") == ["parent"]
    for run, job in (("other", {"cancelled": 1.0}), ("child", {"id": "ANOTHER/0"})):
        folder = queue.trials.run(run)
        folder.write_job(replace(folder.job(), **job))
    assert names(queue, "b") == [None]
    finish(queue.trials.run("parent"))
    queue.on_trial_complete("a", {"again": False})
    assert names(queue, "c") == ["FINISHED"]


def test_nothing_more_is_handed_out_when_the_submission_was_stopped(queue):
    queue.path.with_name("stopped.json").write_text("{}")
    assert names(queue, "a") == ["FINISHED"]


def test_a_driver_says_what_a_trial_waits_for_and_ends_when_all_is_cancelled_meanwhile(queue):
    from flipscale.launch.ray.driver import Watch

    assert names(queue, "a") == ["parent"]
    watch = Watch(queue)
    trials = [SimpleNamespace(status="PENDING", config={"task": queue.out["a"]})]
    waits = queue.path.with_name(f"{queue.out['a']}.waits")
    watch.on_step_begin(0, trials)
    assert waits.read_text() == "1 x {'CPU': 1}"
    trials[0].status = "RUNNING"
    watch._next = 0
    watch.on_step_begin(0, trials)
    assert not waits.exists()
    trials[0].status = "PENDING"
    for run in ("parent", "other", "child"):
        folder = queue.trials.run(run)
        folder.write_job(replace(folder.job(), cancelled=1.0))
    watch._next = 0
    with pytest.raises(SystemExit):
        watch.on_step_begin(1, trials)


# Trials that Ray Tune gives up


def test_the_run_of_a_trial_whose_restarts_are_used_up_fails_with_the_last_line_of_its_exception(queue, tmp_path):
    from flipscale.launch.ray.driver import Watch

    error = "Failure # 11\nray::Trial()\n\x1b[36mModuleNotFoundError\x1b[0m: No module named 'flipscale'\n"
    assert names(queue, "a") == ["parent"]
    index = queue.out["a"]
    queue.on_trial_complete("a", error=True)
    file = tmp_path / "error.txt"
    file.write_text(error)
    Watch(queue).on_trial_error(0, [], SimpleNamespace(config={"task": index}, error_file=str(file)))
    assert index not in queue.waiting
    error = queue.trials.run("parent").error()
    assert (error.kind, error.noted) == ("node", True)
    assert error.reason == "Ray Tune gave up its trial: ModuleNotFoundError: No module named 'flipscale'"


# Processes

TRAINS = """
import signal, sys, time
def stop(*_):
    open(sys.argv[1] + "/checkpoint.pt", "w").close()
    raise SystemExit(0)
signal.signal(signal.SIGTERM, stop)
open(sys.argv[1] + "/begun", "w").close()
time.sleep(120)
"""


@pytest.fixture
def training(tmp_path):
    """A worker at work."""
    (tmp_path / "run").mkdir()
    command = (sys.executable, "-c", TRAINS)
    trials = Trials("NAME", (), "", site(), str(tmp_path), command, str(tmp_path))
    from flipscale.launch.ray.trial import TrialWorker

    worker = TrialWorker(
        trials, Task(("run",), Resources(), 1), [tmp_path / "run"], tmp_path / "log", Attempt("ray/NAME/0", 0, "n1")
    )
    wait_until((tmp_path / "run" / "begun").exists, "the worker's begin")
    yield worker
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker.leader.pid, signal.SIGKILL)


def test_a_training_that_is_killed_itself_has_ended_at_once(training):
    training.leader.kill()
    wait_until(lambda: training.poll() is not None, "the worker's end")
    assert training.returncode == -signal.SIGKILL


# Documents


@pytest.mark.parametrize("cluster", re.findall(r"```yaml\n(.*?)```", (DOCS / "ray.md").read_text(), re.DOTALL))
def test_the_cluster_files_of_the_documents_are_such_as_ray_takes(cluster):
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(yaml.safe_load(cluster)))


def test_open_clips_program_gets_one_bundle_with_all_gpus_and_cores(tmp_path):
    asked = RunRequest("run", {"trainer": "open_clip"}, (), Resources(gpus=8))
    (task,) = tasks_of([Request(RunFolder(tmp_path / "run"), asked)], site(cpus_per_process=12))
    assert bundle_of(task, site(cpus_per_process=12)) == {"CPU": 96, "GPU": 8}


# What is said


def test_a_preview_counts_runs_and_trials_and_what_each_asks_for(tmp_path):
    runs = [StandInRun("a"), StandInRun("b"), StandInRun("c", resources=Resources(processes=2))]
    said = RayLauncher(tmp_path, site(throttle=2)).preview(requests(tmp_path, *runs))
    assert said.splitlines()[:3] == [
        "# a Ray job: 3 runs in 3 trials of Ray Tune, at most 2 at once",
        "# 2 trials ask for 1 x {'CPU': 1}",
        "# 1 trial asks for 2 x {'CPU': 1}",
    ]


@pytest.mark.parametrize(
    ("status", "message", "says"),
    [
        ("RUNNING", "", "Ray job NAME runs"),
        ("PENDING", "Job has not started yet.", "Ray job NAME waits: Job has not started yet."),
        (None, "", "Ray no longer knows its job"),
    ],
)
def test_what_ray_says_of_a_job_fits_a_line(status, message, says):
    assert str(Answer("NAME", status, message)) == says


def test_where_no_ray_is_the_command_that_starts_one_is_said(tmp_path, monkeypatch):
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(LaunchError, match=r"No Ray of yours runs on this machine, .*: export .*; ray start --head"):
        find(None)
