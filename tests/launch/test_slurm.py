"""The SLURM launcher on real daemons, with real training. What it sends, counts and decides is tested without them."""

import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from flipscale.errors import LaunchError
from flipscale.launch import StateReader, cancel, states, submit
from flipscale.launch.launcher import TRAIN
from flipscale.launch.site import DEFAULTS
from flipscale.launch.slurm import SlurmLauncher, scheduler
from flipscale.launch.slurm.arrays import JobArray
from flipscale.launch.slurm.scheduler import job_name
from flipscale.planning.timing import RunTime, TimingPlace
from flipscale.run import FailedAttempt, FailureKind, RunRequest, State, is_alive, read_scores
from flipscale.settings.declarations import Resources
from flipscale.workflow.opened import open_study
from flipscale.workflow.submitted import Guards, train_study
from flipscale.workspace import Workspace
from tests.launch.contract import WORKER, LauncherContract, StandInRun, begun, folder, wait_for
from tests.launch.real import (
    SHORT_TOGETHER,
    SLOWLY,
    SLOWLY_OFTEN,
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
from tests.patience import PATIENCE, wait_until
from tests.torture.checks import check, writers
from tests.torture.submitter import TRAINER
from tests.torture.trainer import steps_of

pytestmark = pytest.mark.slow

SITE: dict[str, Any] = {**DEFAULTS, "partition": "main", "time": 600, "warning": 20, "memory_per_process": "1G"}


@pytest.fixture(autouse=True)
def on_a_cluster(slurm: Any) -> Any:
    return slurm


def send(runs: Sequence[Any], results: Path, command: Sequence[str] = TRAIN, **site: Any) -> None:
    submit(runs, results, SlurmLauncher(results, {**SITE, **site}, command=command))


def assert_undisturbed(runs: Sequence[StandInRun], results: Path) -> None:
    """What TRAINER did came out as if nothing had happened: once, in a turn of each training, with the same losses."""
    assert check(results, {run.id: steps_of(run.seconds) for run in runs}, "here").findings == []


def fill(nodes: int = 4, seconds: int = 3) -> None:
    """A job in the partition that may pre-empt others, on all nodes."""
    wrap = f"--wrap=sleep {seconds}"
    command = ["sbatch", "--partition=main", "--exclusive", f"--nodes={nodes}", "--time=1", "--output=/dev/null", wrap]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.second
class TestSlurm(LauncherContract):
    def launcher(self, results: Path) -> SlurmLauncher:
        return SlurmLauncher(results, SITE, command=WORKER)

    def narrow_launcher(self, results: Path) -> SlurmLauncher:
        return SlurmLauncher(results, {**SITE, "throttle": 2}, command=WORKER)

    def shortest(self, how: str) -> StandInRun:
        return StandInRun(how, first_seconds=600, deaf=how == "out-of-time")

    def end(self, run: StandInRun, results: Path) -> None:
        """SLURM itself ends the job: its script is killed, or its time is over before the run has heard of it."""
        name, _, task = folder(results, run).job().id.partition("/")
        submission, _, number = name.rpartition("-")
        array = JobArray.read(results / "slurm" / submission / f"{number}.json")
        if run.id == "killed":
            os.kill(pid_of_script(job_name(array.name), task), signal.SIGKILL)
        elif run.id == "out-of-time":
            update = ["scontrol", "update", f"jobid={array.slurm_id}_{task}", "TimeLimit=1"]
            subprocess.run(update, check=True)
        else:
            super().end(run, results)


def pid_of_script(name: str, task: str) -> int:
    """The process of the batch script of this task of an array."""
    for process in psutil.process_iter(["cmdline"]):
        if "slurm_script" in " ".join(process.info["cmdline"] or ()):
            environment = process.environ()
            if (environment["SLURM_JOB_NAME"], environment["SLURM_ARRAY_TASK_ID"]) == (name, task):
                return process.pid
    raise AssertionError(f"no script of {name} runs")


# Several processes


def test_two_nodes_of_two_processes_each_give_the_losses_of_one_process(tmp_path, alone):
    # With AdamW's usual eps a gradient of almost 0 moves a weight by lr one way or the other, as it is rounded.
    (run,) = runs_of(tmp_path, "resources: {processes: 4}", eps=1e-3)
    send([run], tmp_path / "results", processes_per_node=2)
    expected = alone([run])
    assert end([run], tmp_path / "results") == {run.id: State.FINISHED}, logs(tmp_path / "results")
    assert_close(run, tmp_path / "results", expected, losses_within=1e-5, weights_within=1e-5)
    assert folder(tmp_path / "results", run).result().devices == 4
    assert "on n[1-2]" in logs(tmp_path / "results")


# Pre-emption, time limits, nodes


def test_a_pre_empted_run_goes_on_exactly_where_it_was(tmp_path, alone, slurm):
    """With 20 s of grace SLURM passes its warning on, and a checkpoint is written."""
    results = tmp_path / "results"
    (run,) = runs_of(tmp_path)
    send([run], results, SLOWLY, partition="preempt")
    with frozen(folder(results, run)) as (_, lease):
        fill()
        wait_until(lambda: is_signalled(lease))
    wait_until(lambda: states([run], results)[run.id] is State.WAITING)
    expected = alone([run])
    assert end([run], results) == {run.id: State.FINISHED}, logs(results)
    assert [failure.kind for failure in folder(results, run).failures()] == ["preempted"]
    assert folder(results, run).result().attempts == 2
    (array,) = map(JobArray.read, results.glob("slurm/*/*.json"))
    ended = ("squeue", "--noheader", "--states=all", f"--name={job_name(array.name)}", "--format=%T")
    wait_until(lambda: slurm.ask(*ended) == "COMPLETED", "the end of its job")
    assert re.findall(r"attempt (\d+) of job", logs(results)) == ["1", "2"], "a finished job was started once more"
    assert "goes on after step" in (folder(results, run).path / "log.txt").read_text()
    assert_same(run, results, expected)


def test_a_run_that_is_pre_empted_without_grace_is_killed_and_goes_on_from_its_checkpoint(tmp_path):
    results = tmp_path / "results"
    run = StandInRun("run", seconds=10)
    send([run], results, TRAINER, partition="preempt0")
    with frozen(folder(results, run), once="checkpoint.pt") as (_, lease):
        fill()
        wait_until(lambda: is_signalled(lease))
    wait_until(lambda: states([run], results)["run"] is State.WAITING)
    assert end([run], results) == {"run": State.FINISHED}, logs(results)
    assert [failure.kind for failure in folder(results, run).failures()] == ["preempted"]
    assert_undisturbed([run], results)
    assert len(writers(folder(results, run))) == 2


def test_a_run_longer_than_the_limit_is_done_in_several_jobs_exactly(tmp_path):
    results = tmp_path / "results"
    run = StandInRun("run", seconds=10)
    send([run], results, TRAINER, partition="short", time=60)
    with frozen(folder(results, run)) as (_, lease):
        wait_until(lambda: is_signalled(lease))
    assert end([run], results) == {"run": State.FINISHED}, logs(results)
    kinds = [failure.kind for failure in folder(results, run).failures()]
    assert set(kinds) == {"timeout"}
    assert_undisturbed([run], results)
    assert len(writers(folder(results, run))) == len(kinds) + 1


@pytest.mark.second
def test_a_run_on_a_node_that_is_lost_goes_on_elsewhere_and_has_one_writer(tmp_path, alone, slurm):
    """Though its old copy wakes up there, when the new one is at work."""
    results = tmp_path / "results"
    (run,) = runs_of(tmp_path)
    send([run], results, SLOWLY_OFTEN)
    here = folder(results, run)
    with frozen(here, once="checkpoint.pt") as (_, first):
        slurm.kill_node(first.node)
        again = wait_until(lambda: (lease := here.holder()) and lease.attempt == 1 and lease)
        assert again.node != first.node
        expected = alone([run])
    assert end([run], results) == {run.id: State.FINISHED}, logs(results)
    (failure,) = here.failures()
    assert (failure.kind, failure.node) == ("node", first.node)
    wait_until(lambda: not is_alive(first.pid, first.born))
    assert "goes on after step" in (here.path / "log.txt").read_text()
    assert_same(run, results, expected)


def test_what_a_killed_process_left_is_sent_anew_without_its_node(tmp_path):
    results = tmp_path / "results"
    run = StandInRun("run", first_seconds=60)
    send([run], results, WORKER)
    wait_for([run], results, State.RUNNING)
    wait_until(lambda: folder(results, run).records()[0])
    first, lease = folder(results, run).job().id, folder(results, run).holder()
    os.kill(lease.pid, 9)
    assert end([run], results) == {"run": State.FINISHED}
    again = folder(results, run).job().id
    assert first != again
    script = results / "slurm" / again.rpartition("-")[0] / "0.sh"
    assert f"#SBATCH --exclude={lease.node}\n" in script.read_text()


def test_a_requeue_keeps_the_limit_that_a_probe_gave(tmp_path, slurm):
    run = StandInRun("run", first_seconds=60, timed=RunTime(TimingPlace("slurm", "cpu", "x"), 0, 30, 0, 0, 0, 1.1))
    send([run], tmp_path, WORKER, time=3600)
    wait_for([run], tmp_path, State.RUNNING)
    assert limits(slurm) == {"16:00"}
    (array,) = map(JobArray.read, tmp_path.glob("slurm/*/*.json"))
    slurm.ask("scontrol", "requeue", f"{array.slurm_id}_0")
    wait_until(lambda: states([run], tmp_path)["run"] is State.WAITING)
    assert limits(slurm) == {"16:00"}
    assert end([run], tmp_path) == {"run": State.FINISHED}, logs(tmp_path)


def limits(slurm: Any) -> set[str]:
    """The time limits of all jobs."""
    return set(slurm.ask("squeue", "--noheader", "--format=%l").split())


def test_what_partitions_give_a_job_is_read_from_real_answers():
    main, short = scheduler.room_in(None), scheduler.room_in("short")
    assert (main.seconds, short.seconds) == (math.inf, 120)
    assert scheduler.room_in("short,main").seconds == math.inf
    assert 2**30 < main.memory == short.memory < 2**40


# Memory


def test_where_jobs_get_little_memory_by_default_runs_have_what_they_need(tmp_path, alone, slurm):
    """200 MB a CPU, in which torch does not even start. And children come out as on this machine alone."""
    assert "DefMemPerCPU            = 200\n" in slurm.ask("scontrol", "show", "config")
    results = tmp_path / "results"
    axes = "axes: {tuning: [null, {samples: 512, batch_size: 512}]}"
    runs = runs_of(tmp_path, axes, model="ViT-w64d2-4", mask_ratio=0, samples=64)
    site = {key: value for key, value in SITE.items() if key != "memory_per_process"}
    submit(runs, results, SlurmLauncher(results, {**DEFAULTS, **site}))
    assert set(end(runs, results).values()) == {State.FINISHED}, logs(results)
    assert [failure for run in runs for failure in folder(results, run).failures()] == []
    expected = alone(runs)
    for run in runs:
        assert_same(run, results, expected)


def test_a_run_out_of_memory_goes_on_with_half_the_micro_batch_and_comes_out_the_same(tmp_path, alone):
    results = tmp_path / "results"
    (run,) = runs_of(tmp_path, model="ViT-w64d2-4", mask_ratio=0, batch_size=1024, samples=2048, eps=1e-3)
    send([run], results, memory_per_process="900M")  # 1.0 GB are needed, and 0.8 with half the micro-batch.
    expected = alone([run])
    assert end([run], results) == {run.id: State.FINISHED}, logs(results)
    here = folder(results, run)
    failures = here.failures()
    assert {failure.kind for failure in failures} == {"oom"}
    assert here.asked().resources.accumulate == failures[-1].accumulate == 2 ** len(failures)
    assert here.asked().settings["batch_size"] == 1024
    assert_close(run, results, expected, losses_within=1e-4, weights_within=1e-4)


# Faults of a person


def test_an_unknown_partition_is_refused_before_anything_is_written_of_jobs(tmp_path):
    (run,) = runs_of(tmp_path)
    with pytest.raises(LaunchError, match=r"0\.sh: SLURM refused it\. .*[Ii]nvalid partition") as refused:
        send([run], tmp_path / "results", partition="nowhere", sbatch=["--comment=mine"])
    assert "Partitions here: main, preempt, preempt0, short." in str(refused.value)
    for asked in ("partition=nowhere", "time=0-00:10:00", "comment=mine"):
        assert asked in str(refused.value)
    assert states([run], tmp_path / "results") == {run.id: State.PLANNED}


def test_a_run_under_which_all_nodes_failed_is_sent_all_the_same_without_the_users_secrets(
    tmp_path, slurm, monkeypatch
):
    monkeypatch.setenv("A_SECRET", "token")
    run = StandInRun("run")
    folder(tmp_path, run).ask(RunRequest.of(run))
    for node in slurm.nodes:
        folder(tmp_path, run).note_failure(FailedAttempt(FailureKind.NODE, "it was lost", node=node))
    seen = f"open({str(tmp_path / 'seen')!r}, 'w').write(str('A_SECRET' in os.environ))"
    code = f"import os, runpy, sys; {seen}; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    send([run], tmp_path, (sys.executable, "-c", code, WORKER[1]), export="PATH,HOME,PYTHONPATH,LANG")
    (array,) = map(JobArray.read, tmp_path.glob("slurm/*/*.json"))
    assert array.avoid == ()
    assert end([run], tmp_path) == {"run": State.FINISHED}, logs(tmp_path)
    assert (tmp_path / "seen").read_text() == "False"


def test_a_job_that_somebody_cancels_by_hand_counts_as_cancelled_and_is_submitted_again(tmp_path):
    results = tmp_path / "results"
    run = StandInRun("run", first_seconds=60)
    send([run], results, WORKER)
    wait_for([run], results, State.RUNNING)
    wait_until(lambda: folder(results, run).records()[0])
    subprocess.run(["scancel", "--user=root"], check=True)
    wait_for([run], results, State.CANCELLED)
    assert "CANCELLED" in StateReader(results).read([run])["run"].job.says
    send([run], results, WORKER)
    assert end([run], results) == {"run": State.FINISHED}


# The controller


def test_while_the_controller_is_away_nothing_is_lost_and_a_submit_waits_for_it(tmp_path, slurm):
    results = tmp_path / "results"
    running, waiting = StandInRun("running", until=begun("waiting", "late")), StandInRun("waiting")
    send([running], results, WORKER)
    wait_for([running], results, State.RUNNING)
    send([waiting], results, WORKER, sbatch=("--begin=now+3600",))
    slurm.kill_controller()
    look = StateReader(results).read([running, waiting])
    assert (look["running"].state, look["waiting"].state) == (State.RUNNING, State.WAITING)
    assert "SLURM cannot be asked" in look["waiting"].job.says
    late = StandInRun("late")
    code = (
        "import sys, time; from pathlib import Path\n"
        "from tests.launch.test_slurm import StandInRun, WORKER, send\n"
        "sleep = time.sleep\n"
        "def pause(seconds):\n"
        "    Path(sys.argv[1], 'it was refused').touch()\n"
        "    sleep(seconds)\n"
        "time.sleep = pause\n"
        "send([StandInRun('late')], Path(sys.argv[1]), WORKER, max_array_size=1000)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, results], stderr=subprocess.PIPE, text=True) as submitting:
        wait_until((results / "it was refused").exists)
        slurm.start_controller()
        _, said = submitting.communicate(timeout=PATIENCE)
    assert submitting.returncode == 0, said
    arrays = map(JobArray.read, results.glob("slurm/*/*.json"))
    (number,) = [array.slurm_id for array in arrays if array.tasks == {0: ("waiting",)}]
    slurm.ask("scontrol", "update", f"jobid={number}", "StartTime=now")
    runs = [running, waiting, late]
    assert set(end(runs, results).values()) == {State.FINISHED}
    assert [sum("start" in record for record in folder(results, run).records()[0]) for run in runs] == [1, 1, 1]


def test_a_look_asks_for_this_users_jobs_alone_and_a_cancel_ends_what_the_study_has_here(tmp_path, slurm, monkeypatch):
    """Though no record names it, and though sbatch gave no number."""
    later = ("--begin=now+3600",)

    def sent(results: Path, study: str, name: str) -> StandInRun:
        launcher = SlurmLauncher(results, {**SITE, "sbatch": later}, command=WORKER)
        launcher.study = study
        submit([run := StandInRun(name)], results, launcher)
        return run

    here = tmp_path / "here"
    lost = sent(here, "my study", "lost")
    (folder(here, lost).path / "job.json").unlink()
    others = [
        (here, sent(here, "my study2", "other")),
        (tmp_path / "copy", sent(tmp_path / "copy", "my study", "copy")),
    ]
    assert [states([run], results)[run.id] for results, run in others] == [State.WAITING] * 2
    slurm.ask("sdiag", "--reset")
    with monkeypatch.context() as patched:
        # squeue takes root, user 0, for no user; anybody else's jobs alone are asked for.
        patched.setattr(os, "getuid", lambda: 65534)
        assert scheduler.queue() == {}
    asked = set(re.findall(r"REQUEST_\w+", slurm.ask("sdiag")))
    assert "REQUEST_JOB_USER_INFO" in asked
    assert "REQUEST_JOB_INFO" not in asked
    (ended,) = cancel([lost], here, "my study")
    assert ended.startswith("my study-")
    left = f"flipscale-{ended.partition('/')[0]}"
    wait_until(lambda: left not in slurm.ask("squeue", "--noheader", "--format=%j"))
    for results, run in others:
        assert states([run], results) == {run.id: State.WAITING}
        assert cancel([run], results) == [run.id]


# Children and packing


def test_runs_beside_each_other_on_a_node_have_their_own_gpus(tmp_path):
    results = tmp_path / "results"
    runs = [StandInRun(name, until=begun("one", "two"), resources=Resources(gpus=2)) for name in ("one", "two")]
    send(runs, results, WORKER, gpus_per_node=4, pack={**DEFAULTS["pack"], "time": 600, "whole_nodes": True})
    assert set(end(runs, results).values()) == {State.FINISHED}, logs(results)
    assert len(list(results.glob("slurm/*/*.log"))) == 1
    assert sorted(folder(results, run).result().more["CUDA_VISIBLE_DEVICES"] for run in runs) == ["0,1", "2,3"]


# A whole study


def study_of_24() -> list[StandInRun]:
    """12 runs, two of them long, and a child of each."""
    parents = [StandInRun(f"run-{number:02}", seconds=10 if number < 2 else 0.3) for number in range(12)]
    return [*parents, *(StandInRun(f"child-of-{run.id}", seconds=0.3, parents=(run.id,)) for run in parents)]


def test_a_study_of_24_runs_with_children_is_finished_once_each_while_a_node_dies_and_the_controller_restarts(
    tmp_path, slurm
):
    """And its results are those of an undisturbed study. Real children are trained in the tests of memory above."""
    results = tmp_path / "results"
    runs = study_of_24()
    send(runs, results, TRAINER, pack={**DEFAULTS["pack"], "time": 4})
    arrays = [json.loads(path.read_text()) for path in results.glob("slurm/*/*.json")]
    assert sorted(len(task) for array in arrays for task in array["tasks"].values()) == [1, 1, 1, 1, 8, 12]
    # It stands still, as do the machines that die. That an old copy may go on is another test.
    with frozen(*(folder(results, run) for run in runs[:2])) as (lost, lease):
        slurm.kill_node(lease.node)
        slurm.restart_controller()
        assert set(end(runs, results).values()) == {State.FINISHED}, logs(results)
    assert [(failure.kind, failure.node) for failure in lost.failures()] == [("node", lease.node)]
    assert_undisturbed(runs, results)
    for run in runs:
        for parent in run.parents:
            ended = (results / "runs" / parent / "result.json").stat().st_mtime
            assert folder(results, run).records()[0][0]["time"] > ended
    kinds = {failure.kind for run in runs for failure in folder(results, run).failures()}
    assert kinds == {"node"}


@pytest.mark.second
def test_stages_and_trunks_survive_kills(tmp_path, alone):
    survives_kills(tmp_path, lambda results, command: SlurmLauncher(results, SITE, command=command), alone)


def test_a_probe_times_shapes_in_a_job(tmp_path):
    runs_of(tmp_path, "axes: {mask_ratio: [0, 0.5]}")
    (tmp_path / "hall.yaml").write_text("schema: 1\npartition: main\nwarning: 20s\nmemory_per_process: 1G\n")
    command = [sys.executable, "-m", "flipscale", "probe", "small.yaml", "--on", "slurm", "--site", "hall.yaml"]
    probed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert probed.returncode == 0, probed.stderr
    assert [line.split()[:2] for line in probed.stdout.splitlines()[1:]] == [
        ["mask_ratio=0", "1"],
        ["mask_ratio=0.5", "1"],
    ]


def test_finished_weights_are_scored_in_one_job_by_two_processes_and_not_trained(tmp_path, alone):
    runs, results = to_be_scored(tmp_path, alone)
    kept = [folder(results, run).result() for run in runs]
    submit(runs, results, SlurmLauncher(results, SITE), to_score=dict.fromkeys((run.id for run in runs), 1.0))
    assert len({job.id for run in runs if (job := folder(results, run).job())}) == 1
    wait_for(runs, results, State.FINISHED)
    assert [[record.measure for record in read_scores(folder(results, run).path)] for run in runs] == [["", "more"]] * 2
    assert [folder(results, run).result() for run in runs] == kept


def test_the_comparison_follows_the_sweep(tmp_path):
    file, results = tuned_study(tmp_path), tmp_path / "results"
    opened = open_study(file, Workspace(results))
    launcher = SlurmLauncher(results, {**SITE, "pack": SHORT_TOGETHER})
    assert train_study(opened, launcher, guards=Guards(inputs=False))[1] == 0, logs(results)
    assert_tuned(file, results)


def test_a_detached_study_goes_on_by_itself(tmp_path, slurm):
    """A small job waits for those of the sweep, and sends the runs that follow."""
    site = {"partition": "main", "time": "10m", "warning": "20s", "memory_per_process": "1G"}
    results = assert_goes_on_by_itself(tmp_path, "slurm", **site)
    (sender,) = map(JobArray.read, results.glob("slurm/*/rest.json"))
    assert slurm.ask("squeue", "--noheader", "--states=all", f"--jobs={sender.slurm_id}", "--format=%T") == "COMPLETED"
