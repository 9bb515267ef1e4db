"""The SLURM launcher on the fake SLURM beside this file: the contract of all launchers, and what is asked how often."""

import contextlib
import io
import json
import math
import os
import re
import shlex
import signal
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from flipscale.cli import main
from flipscale.errors import DamagedFile, LaunchError
from flipscale.launch import StateReader, cancel, preview, states, submit, wait
from flipscale.launch.screen import Display
from flipscale.launch.site import DEFAULTS
from flipscale.launch.slurm import SlurmLauncher, scheduler, task
from flipscale.launch.slurm import launcher as slurm_launcher
from flipscale.launch.slurm.arrays import JobArray
from flipscale.planning.timing import RunTime, TimingPlace
from flipscale.run import State
from flipscale.workflow.opened import open_study
from flipscale.workflow.submitted import Guards, train_study
from flipscale.workspace import Workspace
from tests.launch import fake_slurm
from tests.launch.contract import WORKER, StandInRun, folder, starts, wait_for
from tests.patience import wait_until

pytestmark = pytest.mark.slow

SITE = {**DEFAULTS, "partition": "main", "time": 600, "warning": 20}


@pytest.fixture(autouse=True)
def long_sent(monkeypatch):
    """Jobs count as sent more than a minute ago."""
    monkeypatch.setattr(slurm_launcher, "JUST_SENT_SECONDS", 0)


class Cluster:
    """A fake SLURM that the tests find in their PATH, and what it was asked since `mark`."""

    def __init__(self, place: Path, monkeypatch, **options):
        self.folder = place / "cluster"
        self.monkeypatch = monkeypatch
        self.place = place
        for name, value in fake_slurm.install(self.folder, **options).items():
            monkeypatch.setenv(name, value)
        self.marked = 0

    def mark(self):
        self.marked = len(fake_slurm.calls(self.folder))

    def asked(self) -> dict[str, int]:
        """How often each program was called."""
        return dict(Counter(call["program"] for call in fake_slurm.calls(self.folder)[self.marked :]))

    def arguments(self, program: str) -> list[list[str]]:
        return [
            call["arguments"] for call in fake_slurm.calls(self.folder)[self.marked :] if call["program"] == program
        ]

    def replace(self, program: str, script: str) -> Path:
        """Another program in place of one; $REAL is the one."""
        path = self.place / "instead" / program
        path.parent.mkdir(exist_ok=True)
        real = shlex.quote(str(self.folder / "bin" / program))
        path.write_text(f"#!/bin/sh\nREAL={real}\n{script}\n")
        path.chmod(0o755)
        self.monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
        return path


@pytest.fixture
def install(tmp_path_factory, monkeypatch):
    """Makes a cluster."""
    there = []

    def install(**options) -> Cluster:
        there.append(Cluster(tmp_path_factory.mktemp("slurm"), monkeypatch, **options))
        return there[-1]

    yield install
    for cluster in there:
        fake_slurm.stop(cluster.folder)


@pytest.fixture
def cluster(install):
    return install()


@pytest.fixture
def idle(install):
    """A cluster that takes jobs and starts none, and of arrays ten tasks."""
    return install(execute=False, max_array_size=10)


def send(runs, results, **keys):
    return submit(runs, results, SlurmLauncher(results, {**SITE, **keys}, command=WORKER))


def several(count, **settings):
    return [StandInRun(f"run-{number:02}", **settings) for number in range(count)]


def finish(results, runs):
    """As their jobs would."""
    for run in runs:
        (folder(results, run).path / "result.json").write_text('{"schema": 1}')


def says(results, run):
    return StateReader(results).read([run])[run.id].job.says


def arrays(results):
    return [JobArray.read(path) for path in sorted((results / "slurm").glob("*/*.json")) if path.stem.isdigit()]


def until_begun(results, run):
    wait_until(lambda: starts(results, run), "it does not begin")


# How often SLURM is asked


def test_runs_are_sent_in_as_few_arrays_as_the_cluster_takes(tmp_path, idle):
    submission = send(several(25), tmp_path)
    assert idle.asked() == {"scontrol": 1, "sinfo": 1, "sbatch": 3}
    assert idle.arguments("scontrol") == [["show", "config"]]
    assert [len(array.tasks) for array in arrays(tmp_path)] == [10, 10, 5]
    assert [array.slurm_id for array in arrays(tmp_path)] == ["1", "2", "3"]
    assert len(submission.jobs) == 25
    assert submission.summary() == "submitted 25 runs to slurm"


def test_memory_is_predicted_where_the_cluster_counts_it_and_else_not_asked_for(tmp_path, idle):
    """Where it is not counted, nodes need not say how much they have, and SLURM refuses any request for memory."""
    from tests.launch.real import runs_of  # It has torch, for which other processes of these tests would wait.

    (run,) = runs_of(tmp_path / "study")
    assert len(asked_memory(tmp_path / "counted", run)) == 1
    assert idle.asked() == {"scontrol": 1, "sinfo": 1}
    for line in ("SelectTypeParameters    = CR_CORE", "SelectTypeParameters    = (null)"):
        idle.replace("scontrol", f'"$REAL" "$@" | sed "s/^SelectTypeParameters.*/{line}/"')
        assert asked_memory(tmp_path / "not", run) == []
        assert asked_memory(tmp_path / "not", run, memory_per_process="2G") == ["#SBATCH --mem=2G"]


def asked_memory(results, run, **keys):
    """The lines of the script that ask for memory."""
    script = preview([run], results, SlurmLauncher(results, {**SITE, **keys}, command=WORKER))
    return [line for line in script.splitlines() if "--mem" in line]


def test_submitting_again_asks_once_where_runs_wait_and_never_where_all_are_finished(tmp_path, idle):
    runs = several(25)
    send(runs, tmp_path)
    idle.mark()
    assert send(runs, tmp_path).skipped == {State.WAITING: 25}
    assert idle.asked() == {"squeue": 1}

    finish(tmp_path, runs)
    idle.mark()
    assert send(runs, tmp_path).skipped == {State.FINISHED: 25}
    assert idle.asked() == {}


def test_who_watches_asks_after_5_s_and_in_a_quiet_hour_at_most_100_times_for_the_users_own_jobs(
    tmp_path, idle, monkeypatch
):
    now = 0.0
    monkeypatch.setattr(scheduler.time, "monotonic", lambda: now)
    runs = several(3)
    send(runs, tmp_path)
    idle.mark()
    reader = StateReader(tmp_path)
    asked_at: list[float] = []
    while now < 3600:
        before = len(asked_at)
        reader.read(runs)
        asked_at += [now] * (idle.asked().get("squeue", 0) - before)
        now += 0.5
    assert asked_at[:7] == [0, 5.5, 16, 36.5, 77, 137.5, 198]
    assert len(asked_at) <= 100
    assert {"--states=all", f"--user={os.getuid()}"} < set(idle.arguments("squeue")[-1])

    finish(tmp_path, runs[:1])
    reader.read(runs)
    calls = idle.asked()["squeue"]
    now += 6
    reader.read(runs)
    assert idle.asked()["squeue"] == calls + 1


def test_all_runs_are_cancelled_in_one_call(tmp_path, idle):
    runs = several(25)
    send(runs, tmp_path)
    idle.mark()
    assert sorted(cancel(runs, tmp_path)) == [run.id for run in runs]
    assert idle.asked() == {"squeue": 2, "scancel": 1}
    (words,) = idle.arguments("scancel")
    assert len(words) == 25

    idle.mark()
    assert set(states(runs, tmp_path).values()) == {State.CANCELLED}
    assert cancel(runs, tmp_path) == []
    assert idle.asked() == {}


def test_some_runs_are_cancelled_by_their_tasks_in_one_call(tmp_path, idle):
    runs = several(25)
    send(runs, tmp_path)
    idle.mark()
    cancel([*runs[1:3], *runs[20:]], tmp_path)
    assert idle.asked() == {"squeue": 2, "scancel": 1}
    (words,) = idle.arguments("scancel")
    assert sorted(words) == ["1_1", "1_2", *(f"3_{task}" for task in range(5))]
    by_run = states(runs, tmp_path)
    assert Counter(by_run.values()) == {State.WAITING: 18, State.CANCELLED: 7}


def test_nothing_is_cancelled_of_a_job_that_others_share(tmp_path, idle):
    runs = several(6)
    send(runs, tmp_path, pack={**SITE["pack"], "share": 3})
    assert [dict(array.tasks) for array in arrays(tmp_path)] == [
        {0: ("run-00", "run-01", "run-02"), 1: ("run-03", "run-04", "run-05")}
    ]
    idle.mark()
    cancel([runs[0], *runs[3:]], tmp_path)
    assert idle.arguments("scancel") == [["1_1"]]
    cancel(runs[1:3], tmp_path)
    assert idle.arguments("scancel") == [["1_1"], ["1_0"]]


# What is sent


def test_a_preview_sends_nothing_and_writes_nothing(tmp_path, idle):
    runs = [*several(11), StandInRun("child", parents=("run-00",))]
    results = tmp_path / "results"
    text = preview(runs, results, SlurmLauncher(results, SITE, command=WORKER))
    assert idle.asked() == {"scontrol": 1, "sinfo": 1}
    assert not results.exists()
    headings = [line for line in text.splitlines() if line.startswith("# sbatch")]
    assert [line.rpartition("/")[2] for line in headings] == [
        "0.sh: 10 runs in 10 jobs",
        "1.sh: 1 run in 1 job",
        "2.sh: 1 run in 1 job",
    ]
    assert text.count("#!/bin/bash") == 3
    assert "#SBATCH --dependency='aftercorr:NUMBER-OF-" in text
    assert preview([], results, SlurmLauncher(results, SITE)) == "There is nothing to submit.\n"


def test_children_are_sent_after_the_array_of_their_parents_or_the_job_of_one_under_way(tmp_path, idle):
    costly, parent = StandInRun("costly", seconds=9), StandInRun("parent")
    runs = [costly, parent, StandInRun("child", parents=("parent",))]
    send(runs, tmp_path)
    assert [(dict(array.tasks), array.after) for array in arrays(tmp_path)] == [
        ({0: ("costly",), 1: ("parent",)}, None),
        ({1: ("child",)}, arrays(tmp_path)[0].name),
    ]
    (script,) = (tmp_path / "slurm").glob("*/1.sh")
    assert "#SBATCH --array=1\n" in script.read_text()
    assert "#SBATCH --dependency='aftercorr:1?afterany:1'\n" in script.read_text()

    idle.mark()
    send([*runs, StandInRun("late", parents=("parent",))], tmp_path)
    assert idle.asked() == {"scontrol": 1, "sinfo": 1, "squeue": 2, "sbatch": 1}
    late = next(array for array in arrays(tmp_path) if array.tasks == {0: ("late",)})
    assert late.after_jobs == ("1_1",)
    assert "#SBATCH --dependency=afterany:1_1\n" in late.path(tmp_path / "slurm").with_suffix(".sh").read_text()
    assert says(tmp_path, parent) == "job 1_1 waits (None)"


@pytest.mark.parametrize(
    ("reason", "why"),
    [("launch failed requeued held", ", as SLURM failed to start it"), ("JobHeldUser", " by its user")],
)
def test_what_frees_a_held_job_is_said(reason, why):
    entry = scheduler.QueueEntry("68_3", "PENDING", reason, "")
    assert str(entry) == f"job 68_3 is held{why}; `scontrol release 68_3` frees it"


@pytest.mark.parametrize(
    "said",
    [
        "sbatch: error: AssocMaxSubmitJobLimit",
        "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates "
        "accounting/QOS policy (job submit limit, user's size and/or time limits)",
    ],
)
def test_a_refusal_over_the_number_of_jobs_names_what_makes_them_fewer(tmp_path, idle, said):
    idle.replace("sbatch", f'echo "{said}" >&2; exit 1')
    with pytest.raises(LaunchError) as refused:
        send(several(9), tmp_path)
    assert "This array has 9 jobs. Write a smaller max_array_size into the site file" in str(refused.value)
    assert "share a job with pack" in str(refused.value)


def test_runs_without_a_place_go_out_as_others_end(tmp_path, idle, monkeypatch):
    """At most four jobs at once, in arrays of two."""
    runs, results = several(9), tmp_path / "results"
    refuse = 'echo "sbatch: error: AssocMaxSubmitJobLimit" >&2; exit 1'
    open_runs = f"n=$(ls {results}/runs/*/job.json | wc -l); m=$(ls {results}/runs/*/result.json 2>/dev/null | wc -l)"
    idle.replace("sbatch", f'{open_runs}; [ $((n - m)) -le 4 ] || {{ {refuse}; }}; exec "$REAL" "$@"')
    launcher = SlurmLauncher(results, {**SITE, "max_array_size": 2}, command=WORKER)
    submission = submit(runs, results, launcher)
    assert (len(submission.jobs), len(submission.unsent)) == (4, 5)
    assert submission.summary() == (
        "submitted 4 runs to slurm, 5 go out as others end, or with another submit: there is no place for more jobs"
    )
    most = []

    def end_two(lines, progress, results):
        most.append(progress.count(State.WAITING))
        finish(results, [run for run in runs if states([run], results)[run.id] is State.WAITING][:2])

    monkeypatch.setattr(Display, "follow", end_two)
    ended = wait(submission, results, io.StringIO(), every=0.01, launcher=launcher)
    assert ended.count(State.FINISHED) == 9
    assert max(most) == 4


def test_weights_without_a_place_are_scored_as_others_end(tmp_path, idle, monkeypatch):
    """At most four jobs at once, in arrays of two."""

    class Settings(dict):
        evaluation = ()
        is_clip = True

    class Trained(StandInRun):
        settings = Settings()

    runs, results = [Trained(run.id) for run in several(9)], tmp_path / "results"
    for run in runs:
        folder(results, run).path.mkdir(parents=True)
    finish(results, runs)
    idle.replace(
        "sbatch",
        f"n=$(ls {results}/runs/*/job.json | wc -l); "
        '[ $n -le 4 ] || { echo "sbatch: error: AssocMaxSubmitJobLimit" >&2; exit 1; }; exec "$REAL" "$@"',
    )
    launcher = SlurmLauncher(results, {**SITE, "max_array_size": 2}, command=WORKER)
    submission = submit(runs, results, launcher, to_score=dict.fromkeys([run.id for run in runs], 3600.0))
    assert (submission.scored, len(submission.unsent)) == (4, 5)
    scored = set()

    def end_all(lines, progress, results):
        for run in runs:
            if states([run], results)[run.id] is State.WAITING:
                scored.add(run.id)
                folder(results, run).drop_request()

    monkeypatch.setattr(Display, "follow", end_all)
    ended = wait(submission, results, io.StringIO(), every=0.01, launcher=launcher)
    assert ended.count(State.FINISHED) == len(scored) == 9


def test_sbatch_does_not_take_the_environment_of_another_job_or_of_the_user_for_options(tmp_path, idle, monkeypatch):
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "300")  # As in a shell on a compute node.
    monkeypatch.setenv("SBATCH_PARTITION", "short")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    idle.replace("sbatch", f'env > {tmp_path}/seen; "$REAL" "$@"')
    send(several(1), tmp_path)
    seen = [line for line in (tmp_path / "seen").read_text().splitlines() if line.startswith(("SLURM", "SBATCH"))]
    assert seen == ["SLURM_CONF=/etc/slurm/slurm.conf"]


@pytest.mark.parametrize("program", ["squeue", "scancel", "scontrol"])
def test_programs_that_ask_do_not_take_the_users_variables_for_options(tmp_path, idle, monkeypatch, program):
    for name in ("SQUEUE_ACCOUNT", "SQUEUE_PARTITION", "SCANCEL_ACCOUNT", "SINFO_PARTITION"):
        monkeypatch.setenv(name, "others")
    monkeypatch.setenv("SLURM_CLUSTERS", "")
    idle.replace(program, f'env > {tmp_path}/seen; "$REAL" "$@"')
    runs = several(1)
    send(runs, tmp_path)
    cancel(runs, tmp_path)
    seen = (tmp_path / "seen").read_text()
    assert not re.findall(r"^(?:SQUEUE|SCANCEL|SINFO|SLURM_CLUSTERS).*", seen, re.MULTILINE)


def test_a_job_asks_its_own_cluster_without_its_name_and_a_login_node_by_it(tmp_path, idle, monkeypatch):
    idle.replace("sbatch", 'echo "$("$REAL" "$@");west"')
    runs = several(2)
    send(runs, tmp_path, cluster="west")
    (array,) = arrays(tmp_path)
    assert "#SBATCH --clusters=west\n" in array.path(tmp_path / "slurm").with_suffix(".sh").read_text()
    assert set(states(runs, tmp_path).values()) == {State.WAITING}
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "west")
    assert set(states(runs, tmp_path).values()) == {State.WAITING}
    assert [words[0] for words in idle.arguments("squeue")] == ["--clusters=west", "--states=all"]
    assert idle.arguments("scontrol") == [["--clusters=west", "show", "config"]]


def test_runs_whose_attendant_is_killed_go_on_in_the_jobs_next_attempt(tmp_path, cluster):
    run = StandInRun("run", first_seconds=60)
    send([run], tmp_path)
    until_begun(tmp_path, run)
    worker = folder(tmp_path, run).holder().pid
    attendant = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
    assert b"flipscale.launch.slurm.task" in Path(f"/proc/{attendant}/cmdline").read_bytes()
    os.kill(attendant, signal.SIGKILL)
    wait_for([run], tmp_path, State.FINISHED)
    (failure,) = folder(tmp_path, run).failures()
    assert (failure.kind, failure.attempt) == ("node", 0)
    assert failure.reason.startswith("Its attendant, or a line of the site file's setup, was killed")


@pytest.fixture
def record(tmp_path, idle):
    """The record of an array, and what a job of it finds there."""
    send(several(1), tmp_path)
    (array,) = arrays(tmp_path)
    path = array.path(tmp_path / "slurm")
    kept = path.rename(tmp_path / "kept")
    return path, kept


def test_a_node_that_sees_the_record_late_waits_for_it_but_not_for_ever(record, monkeypatch):
    path, kept = record
    monkeypatch.setattr(task.time, "sleep", lambda seconds: kept.rename(path))
    assert task.read_record(path).tasks == {0: ("run-00",)}
    path.unlink()
    monkeypatch.setattr(task, "LATE_SECONDS", 0)
    with pytest.raises(LaunchError, match="check that the node mounts the results folder, then submit again"):
        task.main(path)


PREEMPTED = "Partition=main QOS=cheap\n PreemptTime=2026-11-30T05:51:05"


@pytest.mark.parametrize(
    ("job", "kind", "partition", "qos", "again"),
    [
        (PREEMPTED, "partition_prio", "REQUEUE", "", True),
        (PREEMPTED, "partition_prio", "CANCEL", "requeue", False),
        (PREEMPTED.replace("2026-11-30T05:51:05", "None"), "partition_prio", "REQUEUE", "", False),
        (PREEMPTED, "qos", "REQUEUE", "cancel", False),
        (PREEMPTED, "qos", "CANCEL", "requeue", True),
        (PREEMPTED, "qos", "CANCEL", "cluster", True),
    ],
)
def test_slurm_starts_a_pre_empted_job_again_by_the_mode_of_its_partition_or_qos(
    monkeypatch, job, kind, partition, qos, again
):
    """A qos that leaves it to the cluster has the cluster's mode."""
    answers = {
        "job": job,
        "config": f"PreemptMode             = REQUEUE\nPreemptType             = preempt/{kind}\n",
        "partition": f"PartitionName=main OverTimeLimit=NONE PreemptMode={partition}",
        "qos": f"{qos}\n",
    }
    monkeypatch.setattr(scheduler, "ask", lambda *words: next(text for word, text in answers.items() if word in words))
    assert scheduler.starts_again_by_itself("7_0") is again


def test_no_job_is_lost_within_a_minute_of_its_sbatch(tmp_path, idle, monkeypatch):
    monkeypatch.setattr(slurm_launcher, "JUST_SENT_SECONDS", 60)
    runs = several(2)
    send(runs, tmp_path)
    idle.replace("squeue", "exit 0")
    assert set(states(runs, tmp_path).values()) == {State.WAITING}
    assert "sent within the last minute" in says(tmp_path, runs[0])
    assert send(runs, tmp_path).skipped == {State.WAITING: 2}
    earlier = folder(tmp_path, runs[0]).job()
    folder(tmp_path, runs[0]).write_job(replace(earlier, submitted=earlier.submitted - 61))
    assert states(runs, tmp_path) == {"run-00": State.LOST, "run-01": State.WAITING}


def test_a_line_of_setup_that_ends_the_job_fails_its_run_and_says_so(tmp_path, cluster):
    run = StandInRun("run")
    send([run], tmp_path, setup=["cd /nowhere || exit 3"])
    wait_for([run], tmp_path, State.FAILED)
    assert folder(tmp_path, run).error().reason == (
        "A line of the site file's setup ended the job with code 3 before training began. "
        "Given up: it would fail again."
    )


def test_a_warning_during_setup_has_the_job_started_again(tmp_path, cluster):
    run = StandInRun("run")
    marker = tmp_path / "second"
    send([run], tmp_path, setup=[f"[ -e {marker} ] || {{ touch {marker}; kill -USR2 $$; sleep 60; }}"], time=60)
    wait_for([run], tmp_path, State.FINISHED)
    assert folder(tmp_path, run).failures() == []
    assert starts(tmp_path, run) == 1


def test_what_was_sent_before_a_refusal_stays_sent(tmp_path, idle):
    refuse = 'case "$2" in */1.sh) echo "sbatch: error: Job violates accounting/QOS policy" >&2; exit 1;; esac'
    idle.replace("sbatch", f'{refuse}; exec "$REAL" "$@"')
    runs = several(25)
    with pytest.raises(LaunchError, match=r"1\.sh: SLURM refused it\. .* Job violates accounting/QOS policy"):
        send(runs, tmp_path)
    assert Counter(states(runs, tmp_path).values()) == {State.WAITING: 10, State.PLANNED: 15}
    with pytest.raises(LaunchError):
        send(runs, tmp_path)
    assert Counter(states(runs, tmp_path).values()) == {State.WAITING: 20, State.PLANNED: 5}


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [("infinite", math.inf), ("2:00", 120), ("30", 30), ("1:00:00", 3600), ("2-00:00:00", 172800), ("n/a", math.inf)],
)
def test_limits_of_partitions_are_read_as_sinfo_has_them(monkeypatch, limit, seconds):
    monkeypatch.setattr(scheduler, "ask", lambda *command, patient: f"banner | more | x\ngpu*|{limit}|64000\n")
    assert scheduler.room_in(None) == scheduler.room_in("gpu") == (seconds, 64000 * 2**20)
    assert scheduler.room_in("cpu") == (math.inf, math.inf)


def test_jobs_of_timed_runs_ask_for_little_time_and_at_most_the_partitions(tmp_path, idle):
    timed = RunTime(TimingPlace("slurm", "cpu", "x"), 10.0, 80.0, 5.0, 0.1, 5.0, 1.1)
    runs = [StandInRun("run", timed=timed)]

    def asks_for(**keys):
        text = preview(runs, tmp_path, SlurmLauncher(tmp_path, {**SITE, **keys}, command=WORKER))
        return re.findall("^#SBATCH --time=(.*)$", text, re.MULTILINE)

    assert asks_for(time=86400) == ["0-00:18:20"]
    assert asks_for(time=600) == ["0-00:10:00"]
    assert asks_for(time=None) == ["0-00:18:20"]
    assert asks_for(time=None, partition="short") == ["0-00:02:00"]
    assert asks_for(time=None, partition="short,main") == ["0-00:18:20"]
    assert asks_for(time=86400, time_limit="site") == ["1-00:00:00"]


# What is known before jobs are sent


ONE_CORE = "a GPU will wait for the one core that decodes its images; write cpus_per_process into the site file"


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({}, []),
        (
            {"partition": "short", "warning": 120, "time": None},
            [
                "partition short ends jobs after 2 min 0 s, and the site file's warning comes 2 min 0 s before "
                "the end, so no run would begin; lower warning"
            ],
        ),
        ({"partition": "short", "time": None}, []),
        ({"partition": "short,main", "warning": 120}, []),
        ({"partition": None}, []),
        (
            {"memory_per_process": "70G"},
            [
                "jobs ask for 75.2 GB of memory on a node, and the largest node of partition main has 67.1 GB; choose "
                "another partition, or write memory_per_process"
            ],
        ),
        ({"memory_per_process": "62G"}, []),
        (
            {"container": {"mounts": ["/elsewhere"]}},
            ["the container mounts no folder with /data/laion/{00..09}.tar; add one to container.mounts"],
        ),
        ({"container": {"mounts": ["/elsewhere", "/disk:/data"]}}, []),
        ({"gpus": 1}, [ONE_CORE]),
        ({"gpus": 1, "cpus_per_process": 2}, []),
    ],
)
def test_submit_and_a_dry_run_say_what_will_go_wrong_with_jobs_a_line_each(
    tmp_path, idle, monkeypatch, capsys, keys, says
):
    from tests.launch.real import runs_of  # It has torch, for which other processes of these tests would wait.

    monkeypatch.setenv("FLIPSCALE_DATA", "/data")
    keys = dict(keys)
    resources = f"resources: {{gpus: {keys.pop('gpus', 0)}}}"
    data = {"webdataset": {"urls": "laion/{00..09}.tar", "name": "laion"}}
    runs = runs_of(tmp_path, resources, data=data, samples=64, evaluation={"data": {"fashion": None}})
    container = {"image": "flip.sqsh", "runtime": "pyxis", "arguments": [], **keys.pop("container", {})}
    site = {**SITE, "memory_per_process": None, "container": container if "mounts" in container else None, **keys}
    launcher = SlurmLauncher(tmp_path / "results", site, command=WORKER)
    preview(runs, tmp_path / "results", launcher)
    assert capsys.readouterr().err.splitlines() == [f"warning: {each}" for each in says]
    opened = open_study(tmp_path / "small.yaml", Workspace(tmp_path / "results"))
    train_study(opened, launcher, wait=False)
    said = [line for line in capsys.readouterr().err.splitlines() if any(each in line for each in says)]
    assert said == [f"warning: {each}" for each in says]


def test_what_will_go_wrong_is_said_though_slurm_refuses_the_jobs(tmp_path, idle, capsys):
    from tests.launch.real import runs_of

    runs_of(tmp_path)
    idle.replace("sbatch", 'echo "sbatch: error: Memory specification can not be satisfied" >&2; exit 1')
    launcher = SlurmLauncher(tmp_path / "results", {**SITE, "memory_per_process": "70G"}, command=WORKER)
    opened = open_study(tmp_path / "small.yaml", Workspace(tmp_path / "results"))
    with pytest.raises(LaunchError, match="SLURM refused it"):
        train_study(opened, launcher, guards=Guards(inputs=False), wait=False)
    assert "warning: jobs ask for 75.2 GB of memory on a node" in capsys.readouterr().err


@pytest.mark.parametrize(("output", "is_said"), [(None, True), ("", True), ("attempt 1 of job 1_0 on n1\n", False)])
def test_a_job_that_ended_before_its_first_line_of_log_names_sacct(tmp_path, idle, output, is_said):
    (run,) = several(1)
    send([run], tmp_path)
    log = arrays(tmp_path)[0].log(tmp_path / "slurm", 0)
    if output is not None:
        log.write_text(output)
    (name,) = subprocess.run(["squeue", "--format=%j", "--noheader"], capture_output=True, text=True).stdout.split()
    where = (
        "it ended before its first line of log; `sacct -j 1_0` may say why" if is_said else f"its output is in {log}"
    )
    idle.replace("squeue", f"echo '1|0|NODE_FAIL|None|n1|{name}'")
    assert says(tmp_path, run) == f"job 1_0 NODE_FAIL on n1; {where}"
    idle.replace("squeue", "exit 0")
    assert says(tmp_path, run) == f"SLURM no longer knows its job 1_0; {where}"


# SLURM away, slow or forgetful


LOST = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr(scheduler, "PAUSES", (0.01, 0.01))


def test_an_array_whose_answer_is_lost_is_not_sent_twice(tmp_path, idle, no_pauses):
    idle.replace("sbatch", f'"$REAL" "$@" >/dev/null; echo "{LOST}" >&2; exit 1')
    runs = several(25)
    assert len(send(runs, tmp_path).jobs) == 25
    assert idle.asked() == {"scontrol": 1, "sinfo": 1, "sbatch": 3, "squeue": 3}
    assert [array.slurm_id for array in arrays(tmp_path)] == ["1", "2", "3"]
    assert set(states(runs, tmp_path).values()) == {State.WAITING}


MAY_HAVE = (
    ". SLURM may have taken {} all the same: submit again in a minute, when its queue shows what it has, and nothing "
    "is sent twice."
)


@pytest.mark.parametrize(
    ("sbatch", "says", "calls"),
    [
        (f'echo "{LOST}" >&2; exit 1', f"SLURM cannot be asked, sbatch says: {LOST}", 3),
        ("exec sleep 60", "sbatch did not answer within 0.2 s; try again when SLURM responds", 1),
        ("echo 4711 is down", "sbatch did not answer with a number alone. It said: 4711 is down", 1),
    ],
    ids=["away", "late", "numberless"],
)
def test_what_slurm_may_have_taken_is_not_called_refused_and_not_sent_again_within_a_minute(
    tmp_path, idle, no_pauses, monkeypatch, sbatch, says, calls
):
    monkeypatch.setattr(scheduler, "SLURM_SECONDS", 0.2)
    monkeypatch.setattr(slurm_launcher, "JUST_SENT_SECONDS", 60)
    runs = several(3)
    monkeypatch.setattr(SlurmLauncher, "_configuration", lambda launcher: scheduler.Configuration())
    idle.replace("sbatch", f"echo x >>{tmp_path}/sbatch-calls; {sbatch}")
    idle.replace("squeue", "exit 0")
    with pytest.raises(LaunchError) as unknown:
        send(runs, tmp_path)
    (script,) = (tmp_path / "slurm").glob("*/*.sh")
    assert str(unknown.value) == says + MAY_HAVE.format(script)
    assert len((tmp_path / "sbatch-calls").read_text().split()) == calls
    assert set(states(runs, tmp_path).values()) == {State.WAITING}
    assert send(runs, tmp_path).skipped == {State.WAITING: 3}
    monkeypatch.setattr(slurm_launcher, "JUST_SENT_SECONDS", 0)
    assert set(states(runs, tmp_path).values()) == {State.LOST}


@pytest.mark.parametrize(
    "sbatch",
    [
        '"$REAL" "$@" >/dev/null; exec sleep 60',
        '"$REAL" "$@" >/dev/null',
        'echo 4711; "$REAL" "$@"',
        '"$REAL" "$@"; echo "Node 4711 is down"',
    ],
    ids=["late", "numberless", "banner", "words"],
)
def test_an_array_without_a_clear_answer_of_sbatch_is_found_by_its_name(tmp_path, idle, monkeypatch, sbatch):
    runs = several(3)
    monkeypatch.setattr(scheduler, "PAUSES", (0.01, 0.01, 0.01))
    monkeypatch.setattr(slurm_launcher, "JUST_SENT_SECONDS", 60)
    idle.replace("sbatch", sbatch)
    real = scheduler._run
    late = {"sbatch": 1.0}

    def run(command, environment=None):
        monkeypatch.setattr(scheduler, "SLURM_SECONDS", late.get(command[0], 120))
        return real(command, environment)

    monkeypatch.setattr(scheduler, "_run", run)
    assert len(send(runs, tmp_path).jobs) == 3
    assert [array.slurm_id for array in arrays(tmp_path)] == ["1"]
    assert idle.asked()["sbatch"] == 1
    assert set(states(runs, tmp_path).values()) == {State.WAITING}


def test_a_cancel_ends_all_arrays_of_its_study_here_and_none_of_another_or_of_another_folder(tmp_path, idle):
    def sent(results, study, *names):
        launcher = SlurmLauncher(results, SITE, command=WORKER)
        launcher.study = study
        runs = [StandInRun(name) for name in names]
        submit(runs, results, launcher)
        return runs

    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    unnamed = sent(here, "mask", "a", "b")
    for run in unnamed:
        (folder(here, run).path / "job.json").unlink()
    for record in (here / "slurm").glob("*/0.json"):
        record.unlink()
    named = sent(here, "mask", "c")
    for results, study in ((here, "mask2"), (here, "a-mask"), (elsewhere, "mask"), (here, "mask-00000000")):
        sent(results, study, f"of-{study}")
    idle.mark()
    assert cancel(named, here) == ["c"]
    assert idle.arguments("scancel") == [["2_0"]]
    assert len(cancel([*unnamed, *named], here, "mask")) == 2
    assert [sorted(words) for words in idle.arguments("scancel")][1:] == [["1_0", "1_1"]]
    assert cancel([*unnamed, *named], here, "mask") == []
    names = subprocess.run(["squeue", "--format=%j", "--noheader"], capture_output=True, text=True).stdout.split()
    assert [re.sub(r"-[0-9a-f]{8}-\d{8}-.*", "", name) for name in names] == [
        "flipscale-mask2",
        "flipscale-a-mask",
        "flipscale-mask",
        "flipscale-mask-00000000",
    ]


AWAY = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"


def test_a_submit_that_cannot_ask_about_runs_in_the_queue_says_so(tmp_path, idle, no_pauses):
    runs = several(3)
    send(runs, tmp_path)
    idle.replace("squeue", f'echo "{AWAY}" >&2; exit 1')
    for submit_or_preview in (send, lambda runs, results: preview(runs, results, SlurmLauncher(results, SITE))):
        with pytest.raises(LaunchError) as refused:
            submit_or_preview(runs, tmp_path)
        assert str(refused.value) == (
            "Nothing was submitted: it is not known whether 3 runs submitted before will still be done. SLURM "
            f"cannot be asked, squeue says: {AWAY}. Submit again when that works."
        )
    finish(tmp_path, runs[:2])
    with pytest.raises(LaunchError, match=r"^Nothing was submitted: it is not known whether 1 run submitted before "):
        send(runs, tmp_path)
    finish(tmp_path, runs)
    assert send(runs, tmp_path).skipped == {State.FINISHED: 3}


BANNER = """
*************************************************************************
** Maintenance on Monday: all nodes down, job 4711 and 4712 requeued   **
Submitted batch job 4711
slurm: Job is pending, Socket timed out, try again
*************************************************************************
"""


def test_a_refusal_below_a_banner_is_said_without_it_and_at_once(tmp_path, idle, monkeypatch):
    monkeypatch.setattr(scheduler, "PAUSES", (1e6,))  # As if it were away, it would be asked again.
    (tmp_path / "banner").write_text(BANNER)
    idle.replace("sbatch", f'cat {tmp_path}/banner >&2; "$REAL" "$@"')
    with pytest.raises(LaunchError, match=r"sh: SLURM refused it\. sbatch refused: sbatch: error: invalid partition"):
        send(several(1), tmp_path, partition="nix")


def test_a_submission_is_stopped_by_its_name_and_never_by_a_number_that_is_a_strangers(tmp_path, idle):
    stranger = subprocess.run(["sbatch", "--parsable", "--array=0-3", "/dev/null"], capture_output=True, text=True)
    send(several(3), tmp_path)
    (array,) = arrays(tmp_path)
    replace(array, slurm_id=stranger.stdout.strip()).write(tmp_path / "slurm")
    SlurmLauncher(tmp_path, SITE).stop(array.name.rpartition("-")[0])
    assert idle.arguments("scancel") == [["--state=PENDING", "2_0", "2_1", "2_2"]]


def test_runs_are_looked_at_from_where_no_slurm_is_and_are_never_lost(tmp_path, idle, monkeypatch):
    runs = several(3)
    send(runs, tmp_path)
    finish(tmp_path, runs[:1])
    idle.replace("squeue", "exit 127")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list(states(runs, tmp_path).values()) == [State.FINISHED, State.WAITING, State.WAITING]


def test_of_a_job_that_slurm_has_forgotten_the_log_is_named_and_its_run_goes_out_again(tmp_path, cluster):
    runs = [StandInRun("good"), StandInRun("bad", fail="disk")]
    send(runs, tmp_path)
    assert wait_for(runs, tmp_path, State.FINISHED, State.FAILED) == {"good": State.FINISHED, "bad": State.FAILED}
    wait_until(lambda: "job 1_0 COMPLETED" in says(tmp_path, gone(tmp_path, "good")), "its job does not end")
    fake_slurm.forget(cluster.folder)
    log = arrays(tmp_path)[0].log(tmp_path / "slurm", 0)
    assert says(tmp_path, runs[0]) == f"SLURM no longer knows its job 1_0; its output is in {log}"
    assert sorted(job.run_id for job in send(runs, tmp_path).jobs) == ["bad", "good"]
    wait_for(runs[:1], tmp_path, State.FINISHED)


def gone(results, run_id):
    """The run as if its job had ended without a word."""
    run = StandInRun(run_id)
    (folder(results, run).path / "result.json").unlink(missing_ok=True)
    return run


# What happens to jobs


def test_a_slurm_that_cannot_be_asked_is_no_reason_to_leave_a_run(tmp_path, cluster):
    run = StandInRun("run", first_seconds=60)
    cluster.replace("squeue", 'echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1')
    send([run], tmp_path)
    until_begun(tmp_path, run)
    os.kill(folder(tmp_path, run).holder().pid, signal.SIGKILL)
    wait_until(lambda: starts(tmp_path, run) == 2, "it does not go on")
    wait_for([run], tmp_path, State.FINISHED)


def test_what_cannot_be_cancelled_at_slurm_is_stopped_by_the_job_itself(tmp_path, cluster, no_pauses):
    run = StandInRun("run", seconds=60)
    send([run], tmp_path)
    until_begun(tmp_path, run)
    cluster.replace("scancel", 'echo "scancel: error: Unable to contact slurm controller" >&2; exit 1')
    with contextlib.suppress(LaunchError):  # Where the job has not ended by itself before scancel is called.
        cancel([run], tmp_path)
    wait_for([run], tmp_path, State.CANCELLED)
    assert (folder(tmp_path, run).path / "checkpoint.pt").exists()


# What a cluster says no to, and what it cannot say


def test_a_dry_run_shows_the_script_where_slurm_is_away_too(tmp_path, idle):
    idle.replace("scontrol", "echo 'scontrol: error: no configuration' >&2; exit 1")
    said = preview([StandInRun("run")], tmp_path, SlurmLauncher(tmp_path, SITE, command=WORKER))
    assert "0.sh: 1 run in 1 job" in said
    with pytest.raises(LaunchError, match="no configuration"):
        send([StandInRun("run")], tmp_path)


def test_jobs_for_the_default_partition_are_said_so(tmp_path, idle, monkeypatch, capsys):
    from tests.launch.real import runs_of

    runs_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["submit", "small.yaml", "--on", "slurm", "--dry-run"]) == 0
    assert "no site file names a partition, so jobs go to SLURM's default" in capsys.readouterr().err
    Path("site.yaml").write_text("schema: 1\npartition: debug\n")
    assert main(["submit", "small.yaml", "--on", "slurm", "--dry-run", "--site", "site.yaml"]) == 0
    assert "partition" not in capsys.readouterr().err


def test_a_lost_task_says_where_it_was_last(tmp_path, idle):
    run = StandInRun("run")
    send([run], tmp_path)
    idle.replace("squeue", "exit 0")
    lease = {"token": "t", "host": "elsewhere", "pid": 1, "born": "1", "job": "slurm/x/0", "node": "n3", "time": 1.0}
    (folder(tmp_path, run).path / "last_holder.json").write_text(json.dumps(lease))
    log = arrays(tmp_path)[0].log(tmp_path / "slurm", 0)
    log.write_text("slurmstepd: error: killed\n")
    assert says(tmp_path, run).endswith(f"; it was last on n3; its output is in {log}")
    assert "1_0" in says(tmp_path, run)


# Banners, questions that fail once, and jobs that cannot go elsewhere


def test_what_a_site_has_its_programs_say_besides_is_no_answer(tmp_path, idle):
    for program in ("squeue", "sinfo", "scontrol"):
        idle.replace(program, f'cat {tmp_path}/banner; cat {tmp_path}/banner >&2; exec $REAL "$@"')
    (tmp_path / "banner").write_text(BANNER)
    runs = several(2)
    send(runs, tmp_path)
    assert says(tmp_path, runs[1]) == "job 1_1 waits (None)"
    assert send(runs, tmp_path).skipped == {State.WAITING: 2}
    assert scheduler.node_is_lost("n1") is False
    assert scheduler.is_running("1_0") is False
    assert scheduler.configuration() == scheduler.Configuration(10, counts_memory=True)
    fake_slurm.fail_node(idle.folder, "n1")
    assert scheduler.node_is_lost("n1") is True


def test_a_controller_that_comes_back_while_a_submit_asks_is_no_reason_to_leave_runs_alone(tmp_path, idle, no_pauses):
    runs = several(3)
    send(runs, tmp_path)
    finish(tmp_path, runs[:2])
    subprocess.run(["scancel", "1"], check=True)
    idle.replace("squeue", f'[ -e "$0.asked" ] && exec "$REAL" "$@"; touch "$0.asked"; echo "{AWAY}" >&2; exit 1')
    assert [job.run_id for job in send(runs, tmp_path).jobs] == ["run-02"]


def test_what_a_submit_could_not_ask_about_it_says_beside_what_it_has_sent(tmp_path, idle, no_pauses):
    runs = several(5)
    send(runs[:3], tmp_path)
    idle.replace("squeue", f'echo "{AWAY}" >&2; exit 1')
    assert send(runs, tmp_path).summary() == (
        "submitted 2 runs to slurm, left alone 3 waiting as far as is known (SLURM cannot be asked, squeue says: "
        f"{AWAY})"
    )


def test_a_preview_needs_no_cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    text = preview(several(3), tmp_path / "results", SlurmLauncher(tmp_path / "results", SITE, command=WORKER))
    assert "3 runs in 3 jobs" in text
    assert "#SBATCH --array=0-2\n" in text


def test_a_submission_is_stopped_though_its_waiting_jobs_cannot_be_called_off(tmp_path, idle):
    send(several(3), tmp_path)
    (array,) = arrays(tmp_path)
    idle.replace("scancel", 'echo "scancel: error: Unable to contact slurm controller" >&2; exit 1')
    SlurmLauncher(tmp_path, SITE).stop(array.name.rpartition("-")[0])


def test_the_record_of_another_array_is_refused(tmp_path, idle):
    send(several(1), tmp_path)
    (array,) = arrays(tmp_path)
    path = array.path(tmp_path / "slurm")
    path.write_text(path.read_text().replace(array.name, "another-0"))
    with pytest.raises(DamagedFile, match="is the record of another array"):
        JobArray.read(path)


def test_a_run_that_slurm_takes_nowhere_else_goes_on_where_it_is_and_can_be_cancelled(tmp_path, cluster):
    run = StandInRun("run", seconds=60)
    once = '[ -e "$0.once" ] && { echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1; }; touch "$0.once"'
    cluster.replace("sbatch", f'{once}; exec "$REAL" "$@"')
    send([run], tmp_path)
    until_begun(tmp_path, run)
    os.kill(folder(tmp_path, run).holder().pid, signal.SIGKILL)
    wait_until(lambda: starts(tmp_path, run) == 2, "it does not go on")
    assert cancel([run], tmp_path) == ["run"]
    wait_for([run], tmp_path, State.CANCELLED)


def test_a_child_waits_for_the_new_job_of_its_parent_whose_worker_was_killed(tmp_path, cluster):
    seen = tmp_path / "the child waits again"
    run = StandInRun("run", first_seconds=60, until=(str(seen),))
    child = StandInRun("child", parents=("run",))
    send([run, child], tmp_path)
    until_begun(tmp_path, run)
    lease = folder(tmp_path, run).holder()
    sent = folder(tmp_path, child).job().id
    os.kill(lease.pid, signal.SIGKILL)
    wait_until(lambda: folder(tmp_path, child).is_over() or folder(tmp_path, child).job().id != sent, "no new job")
    assert starts(tmp_path, child) == 0
    seen.touch()
    wait_for([run, child], tmp_path, State.FINISHED)
    (moved,) = [array for array in arrays(tmp_path) if array.avoid]
    assert (dict(moved.tasks), moved.avoid) == ({0: ("run",)}, (lease.node,))
    assert folder(tmp_path, run).job().id == f"{moved.name}/0"


def test_the_size_of_an_array_is_not_asked_where_the_site_says_it(tmp_path, idle):
    send(several(4), tmp_path, max_array_size=2, memory_per_process=None)
    assert [len(array.tasks) for array in arrays(tmp_path)] == [2, 2]
    assert "scontrol" not in idle.asked()
