"""The fake SLURM does what SLURM 24.11.5 was seen to do, in what flipscale asks of it."""

import fcntl
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.launch import fake_slurm
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow


class Cluster:
    """A fake SLURM in a folder, and its programs as a shell would call them."""

    def __init__(self, folder: Path, **options):
        self.folder = folder
        self.environment = {**os.environ, "SLURM_BITSTR_LEN": "0", **fake_slurm.install(folder / "slurm", **options)}
        self.state = folder / "slurm"

    def call(self, *words) -> subprocess.CompletedProcess:
        return subprocess.run(
            [str(word) for word in words], env=self.environment, cwd=self.folder, capture_output=True, text=True
        )

    def __call__(self, *words) -> str:
        done = self.call(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def submit(self, script: str, *options) -> str:
        """The id of a job of this script."""
        path = self.folder / "job.sh"
        path.write_text(f"#!/bin/bash\n{script}\n")
        return self("sbatch", "--parsable", "--open-mode=append", "--output=%A_%a.out", *options, path)

    def queue(self, states: str = "all", fields: str = "%F|%K|%T", **options) -> list[str]:
        more = [f"--{key}={text}" for key, text in options.items()]
        return sorted(self("squeue", "--noheader", f"--states={states}", f"--format={fields}", *more).splitlines())

    def until(self, *lines: str, fields: str = "%F|%K|%T") -> None:
        end = time.monotonic() + PATIENCE
        while (now := self.queue(fields=fields)) != sorted(lines):
            assert time.monotonic() < end, f"still {now}"
            time.sleep(0.02)

    def said(self, name: str, *words: str) -> str:
        """What a job wrote, once the words are in it."""
        path, end = self.folder / name, time.monotonic() + PATIENCE
        while not path.exists() or not all(word in path.read_text() for word in words):
            assert time.monotonic() < end, path.read_text() if path.exists() else f"no {name}"
            time.sleep(0.02)
        return path.read_text()


@pytest.fixture
def cluster(tmp_path):
    cluster = Cluster(tmp_path)
    yield cluster
    fake_slurm.stop(cluster.state)


@pytest.fixture
def idle(tmp_path):
    """A cluster that only records."""
    return Cluster(tmp_path, execute=False)


SLEEP = "sleep 60"
DEAF = "trap 'echo asked' TERM; echo up $SLURM_RESTART_COUNT; while true; do sleep 0.02; done"


# Submission


def test_options_come_from_the_file_too_and_the_command_line_wins(idle):
    (idle.folder / "job.sh").write_text("#!/bin/sh\n#SBATCH --job-name='a name' --array=0-2\n#SBATCH --time=1\ntrue\n")
    assert idle("sbatch", "job.sh") == "Submitted batch job 1"
    assert idle("sbatch", "--parsable", "--array=1,5,7-9%2", "job.sh") == "2"
    assert idle.queue(fields="%j|%F|%K|%T|%r|%N|%i") == [
        "a name|1|0-2|PENDING|None||1_[0-2]",
        "a name|2|1,5,7-9%2|PENDING|None||2_[1,5,7-9%2]",
    ]


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("--array=0-1001", "Batch job submission failed: Invalid job array specification"),
        ("--array=a", "Batch job submission failed: Invalid job array specification"),
        ("--dependency=afterok:9", "Batch job submission failed: Job dependency problem"),
        (
            "--partition=nix",
            "invalid partition specified: nix\n"
            "sbatch: error: Batch job submission failed: Invalid partition name specified",
        ),
    ],
)
def test_what_slurm_refuses_is_refused_in_its_words(idle, option, why):
    (idle.folder / "job.sh").write_text("#!/bin/sh\n")
    refused = idle.call("sbatch", option, "job.sh")
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", f"sbatch: error: {why}\n")
    assert idle.queue() == []


def test_ten_arrays_of_a_thousand_are_recorded_and_every_call_is_counted(idle):
    for _ in range(10):
        idle.submit("true", "--array=0-999%50")
    assert set(idle.queue()) == {f"{job}|0-999%50|PENDING" for job in range(1, 11)}
    assert len(fake_slurm.calls(idle.state, "sbatch")) == 10
    assert [call["program"] for call in fake_slurm.calls(idle.state)][-1] == "squeue"
    assert not (idle.state / "scheduler.log").exists()


def test_a_bit_string_has_steps_from_six_on_and_is_cut_at_64_unless_told_otherwise(idle):
    idle.submit("true", "--array=0-12:2")
    idle.submit("true", "--array=0-10:2")
    idle.submit("true", "--array=" + ",".join(str(3 * number) for number in range(34)) + ",100")
    del idle.environment["SLURM_BITSTR_LEN"]
    long = "0,3,6,9,12,15,18,21,24,27,30,33,36,39,42,45,48,51,54,57,60,6..."
    assert idle.queue(fields="%K") == ["0,2,4,6,8,10", long, "0-12:2"]


# Running


def test_a_task_knows_its_ids_its_node_and_its_end(cluster):
    job = cluster.submit("env; ls / >&2", "--array=3-4", "--time=1:30", "--exclude=n[1-3]")
    cluster.until(f"{job}|3|COMPLETED|n4", f"{job}|4|COMPLETED|n4", fields="%F|%K|%T|%N")
    seen = dict(line.split("=", 1) for line in cluster.said("1_3.out", "tmp").splitlines() if line.startswith("SLURM"))
    assert seen["SLURM_ARRAY_JOB_ID"] == job
    assert seen["SLURM_ARRAY_TASK_ID"] == "3"
    assert seen["SLURM_JOB_ID"] == "2"
    assert "SLURM_JOB_ID=1\n" in cluster.said("1_4.out", "tmp"), "the last one has the array's id"
    assert seen["SLURMD_NODENAME"] == seen["SLURM_JOB_NODELIST"] == "n4"
    assert int(seen["SLURM_JOB_END_TIME"]) - int(seen["SLURM_JOB_START_TIME"]) in (90, 91)
    assert "SLURM_RESTART_COUNT" not in seen


def test_the_array_has_its_limit_and_what_waits_is_one_line(cluster):
    job = cluster.submit(SLEEP, "--array=0-9%2")
    other = cluster.submit(SLEEP, "--array=0-3")
    cluster.until(
        *(f"{job}|{place}|RUNNING|None" for place in (0, 1)),
        *(f"{other}|{place}|RUNNING|None" for place in (0, 1)),
        f"{job}|2-9%2|PENDING|JobArrayTaskLimit",
        f"{other}|2-3|PENDING|Resources",
        fields="%F|%K|%T|%r",
    )
    assert cluster.queue("pending", jobs=f"{job},{other}") == [f"{job}|2-9%2|PENDING", f"{other}|2-3|PENDING"]
    assert cluster.queue("running", jobs=f"{job}_1") == [f"{job}|1|RUNNING"]


def test_exit_codes_are_kept_and_the_finished_are_shown_until_they_are_forgotten(cluster):
    job = cluster.submit("((SLURM_ARRAY_TASK_ID == 2)) && kill -9 $$; exit $SLURM_ARRAY_TASK_ID", "--array=0-2")
    cluster.until(f"{job}|0|COMPLETED", f"{job}|1|FAILED", f"{job}|2|FAILED")
    said = cluster("sacct", "-D", "-X", "-n", "-P", "-j", job, "-o", "JobID,State,ExitCode,NodeList")
    assert said.splitlines() == [f"{job}_0|COMPLETED|0:0|n1", f"{job}_1|FAILED|1:0|n2", f"{job}_2|FAILED|0:9|n3"]
    assert cluster.queue("running,pending") == []
    fake_slurm.forget(cluster.state)
    assert cluster.queue() == []
    gone = cluster.call("squeue", f"--jobs={job}")
    assert (gone.returncode, gone.stderr) == (1, "slurm_load_jobs error: Invalid job id specified\n")


def test_five_hundred_tasks_run(tmp_path):
    cluster = Cluster(tmp_path, slots=40)
    for _ in range(2):
        cluster.submit("true", "--array=0-249")
    end = time.monotonic() + PATIENCE
    while cluster.queue("pending,running,completing"):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert cluster.queue(fields="%T") == ["COMPLETED"] * 500
    fake_slurm.stop(cluster.state)


# Dependencies


def test_each_kind_of_dependency_waits_for_what_it_names(cluster):
    first = cluster.submit("until [ -e go ]; do sleep 0.02; done; exit $SLURM_ARRAY_TASK_ID", "--array=0-1")
    strict = ("--kill-on-invalid-dep=yes", "--array=0-1")
    each = cluster.submit("true", f"--dependency=aftercorr:{first}", *strict)
    every = cluster.submit("true", f"--dependency=afterok:{first}", *strict)
    one = cluster.submit("true", f"--dependency=afterok:{first}_0", *strict)
    ended = cluster.submit("true", f"--dependency=afterany:{first}:{each}", "--array=0")
    never = cluster.submit("true", f"--dependency=afterok:{first}")
    waiting = [*(f"{job}|0-1|PENDING|Dependency" for job in (each, every, one)), f"{ended}|0|PENDING|Dependency"]
    running = [f"{first}|{place}|RUNNING|None" for place in (0, 1)]
    cluster.until(*running, *waiting, f"{never}|N/A|PENDING|Dependency", fields="%F|%K|%T|%r")
    (cluster.folder / "go").touch()
    cluster.until(
        f"{first}|0|COMPLETED|None",
        f"{first}|1|FAILED|NonZeroExitCode",
        f"{each}|0|COMPLETED|None",
        f"{each}|1|CANCELLED|DependencyNeverSatisfied",
        f"{every}|0-1|CANCELLED|DependencyNeverSatisfied",
        f"{one}|0|COMPLETED|None",
        f"{one}|1|COMPLETED|None",
        f"{ended}|0|COMPLETED|None",
        f"{never}|N/A|PENDING|DependencyNeverSatisfied",
        fields="%F|%K|%T|%r",
    )


# Ends


def test_waiting_tasks_of_an_array_vanish_when_they_are_cancelled(idle):
    job = idle.submit("true", "--array=0-9")
    idle("scancel", f"{job}_0", f"{job}_[2-3,9]")
    assert idle.queue() == [f"{job}|1,4-8|PENDING"]
    assert idle.call("squeue", f"--jobs={job}_3").returncode == 1
    idle("scancel", "--state=PENDING", job)
    assert idle.queue() == [f"{job}|N/A|CANCELLED"]
    idle("scancel", job, "99")


def test_a_cancelled_task_is_asked_with_all_its_children_and_has_time_to_end(cluster):
    child = (
        "trap 'until [ -e seen ]; do sleep 0.02; done; echo saved; exit' TERM; echo up; while true; do sleep 0.02; done"
    )
    job = cluster.submit(f'bash -c "{child}" & wait', "--array=0-1")
    cluster.said("1_0.out", "up")
    cluster("scancel", "--state=PENDING", job)
    cluster("scancel", f"{job}_0")
    assert f"{job}|0|COMPLETING" in cluster.queue()
    assert cluster.queue("running") == [f"{job}|1|RUNNING"]
    (cluster.folder / "seen").touch()
    cluster.until(f"{job}|0|CANCELLED", f"{job}|1|RUNNING")
    assert "saved" in cluster.said("1_0.out")


def test_what_a_script_leaves_behind_ends_with_it(cluster):
    job = cluster.submit("(trap '' TERM; sleep 60) & echo $!")
    cluster.until(f"{job}|N/A|COMPLETED")
    assert not Path(f"/proc/{cluster.said('1_None.out').strip()}").exists()


def test_a_requeued_task_keeps_its_id_and_counts_its_starts(cluster):
    job = cluster.submit(f"echo $SLURM_JOB_ID:$SLURM_RESTART_COUNT; {SLEEP}", "--array=0-1")
    cluster.said("1_0.out", "2:")
    restarts, waits = 0, cluster.call("scontrol", "requeue", f"{job}_0")
    while waits.returncode == 0:  # On a busy machine it has begun again before it is asked.
        restarts += 1
        cluster.until(f"{job}|0|PENDING|BeginTime", f"{job}|1|RUNNING|None", fields="%F|%K|%T|%r")
        waits = cluster.call("scontrol", "requeue", f"{job}_0")
    assert (waits.returncode, waits.stderr) == (1, f"{job}_0: Job is pending execution\n")
    assert cluster.said("1_0.out", f"2:{restarts}").startswith("2:\n")
    shown = cluster("scontrol", "show", "job", f"{job}_0")
    assert f"JobState=RUNNING Reason=None\n   Requeue=1 Restarts={restarts}" in shown
    rows = cluster("sacct", "-D", "-X", "-n", "-P", "-j", f"{job}_0", "-o", "JobID,State").splitlines()
    assert rows == [*[f"{job}_0|REQUEUED"] * restarts, f"{job}_0|RUNNING"]


def test_a_preempted_task_has_its_grace_and_comes_back(cluster):
    job = cluster.submit(DEAF)
    cluster.said("1_None.out", "up")
    fake_slurm.preempt(cluster.state, job, 2)
    assert cluster.queue() == [f"{job}|N/A|COMPLETING"]
    assert [word for word in cluster.said("1_None.out", "up 1").split() if word != "Terminated"] == [
        "up",
        "asked",
        "up",
        "1",
    ]


def test_a_failed_node_loses_its_tasks_to_another_one(cluster):
    job = cluster.submit(DEAF)
    cluster.until(f"{job}|RUNNING|n1", fields="%F|%T|%N")
    cluster.said("1_None.out", "up")
    fake_slurm.fail_node(cluster.state, "n1")
    cluster.until(f"{job}|RUNNING|n2", fields="%F|%T|%N")
    assert cluster.said("1_None.out", "up 1") == "up\nup 1\n"
    assert cluster("sinfo", "--noheader", "--nodes=n1", "--format=%T") == "down"
    assert cluster("sinfo", "--noheader", "--nodes=n2", "--format=%T") == "idle"


def test_the_time_limit_warns_the_script_and_ends_all(cluster):
    script = "trap 'echo warned' USR2; sleep 60 & while true; do wait; done"
    job = cluster.submit(f"echo up; {script}", "--time=0.01", "--signal=B:USR2@0.4")
    cluster.until(f"{job}|TIMEOUT|TimeLimit", fields="%F|%T|%r")
    assert cluster.said("1_None.out").split()[:2] == ["up", "warned"]


# Signals and steps


def test_a_signal_goes_to_the_script_or_to_its_step(cluster):
    step = "trap 'echo step' USR2; echo up; while true; do sleep 0.02; done"
    job = cluster.submit(f"trap 'echo script' USR2; srun --ntasks=1 bash -c \"{step}\" & while true; do wait; done")
    cluster.said("1_None.out", "up")
    cluster("scancel", "--signal=USR2", job)
    cluster.said("1_None.out", "step")
    cluster("scancel", "--signal=USR2", "--batch", job)
    assert cluster.said("1_None.out", "script").split() == ["up", "step", "script"]


def test_srun_starts_ranks_and_answers_the_first_exit_code_that_is_not_zero(cluster):
    one = cluster("srun", "--ntasks=1", "sh", "-c", "echo $SLURM_STEP_ID $SLURM_PROCID $SLURM_STEP_NUM_TASKS")
    assert one == "0 0 1"
    ranks = cluster.call(
        "srun", "--ntasks=3", "sh", "-c", "echo $SLURM_PROCID; sleep 0.$SLURM_PROCID; exit $SLURM_PROCID"
    )
    assert (ranks.returncode, sorted(ranks.stdout.split())) == (1, ["0", "1", "2"])


# The cluster


def test_the_configuration_says_how_long_an_array_may_be(tmp_path):
    cluster = Cluster(tmp_path, max_array_size=11, accounting=False, execute=False)
    assert cluster("scontrol", "show", "config").splitlines() == [
        "MaxArraySize            = 11",
        "SelectTypeParameters    = CR_CORE_MEMORY",
        "SLURM_VERSION           = 24.11.5",
    ]
    assert cluster.submit("true", "--array=10") == "1"
    sacct = cluster.call("sacct", "-X", "-j", "1", "-o", "State")
    assert (sacct.returncode, sacct.stderr) == (1, "Slurm accounting storage is disabled\n")


def test_the_scheduler_goes_when_nothing_is_left_and_comes_again(cluster):
    cluster.submit("true")
    cluster.until("1|COMPLETED", fields="%F|%T")
    with open(cluster.state / "scheduler.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
    job = cluster.submit("true")
    cluster.until("1|COMPLETED", f"{job}|COMPLETED", fields="%F|%T")
    assert (cluster.state / "scheduler.log").read_text() == ""


def test_stop_leaves_no_process(cluster):
    job = cluster.submit("sleep 60 & echo $! $$; wait")
    pids = cluster.said(f"{job}_None.out", " ").split()
    fake_slurm.stop(cluster.state)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
