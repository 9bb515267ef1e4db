"""An attendant with plain processes for workers, and nothing of SLURM."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from flipscale.launch import attend
from flipscale.launch.attend import Attendant, Ending
from flipscale.launch.breaker import Breaker
from flipscale.launch.launcher import STOP_SECONDS, Attempt
from flipscale.launch.policy import nodes_to_avoid
from flipscale.launch.progress import run_progress
from flipscale.launch.stall import why_stalled
from flipscale.launch.states import StateReader
from flipscale.launch.workers import Started, Workers
from flipscale.run import (
    ATTEMPT,
    JOB,
    NODE,
    FailedAttempt,
    FailureKind,
    Job,
    RunRequest,
    State,
    birth,
    clock_ahead,
    files,
    lease,
    machine,
)
from flipscale.run.lease import let_go
from flipscale.settings.declarations import Resources
from tests.launch.contract import WORKER, StandInRun, begun, folder, starts, wait_for
from tests.patience import PATIENCE, wait_until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
JOB_ID = "slurm/20260101-000000-abc-0/0"

MISSING = (sys.executable, "-m", "no_such_module")

AGAIN = "started again without a checkpoint"

IN_HAND = """
import os, signal, sys, time
from flipscale.run import Result, RunFolder
run = RunFolder(sys.argv[1])
print("in hand", flush=True)
"""


def worker(code: str, *, leased: bool = True) -> tuple[str, ...]:
    """A worker that does this, with the first run of its list in hand or before it has begun."""
    then = f"with run.hold() as lease:\n  {code}" if leased else code
    return (sys.executable, "-c", f"{IN_HAND}\n{then}")


class Attended(threading.Thread):
    """An attendant at work in a thread, so that a test can do something to it meanwhile."""

    def __init__(
        self,
        results,
        runs,
        command=WORKER,
        *,
        job=JOB_ID,
        attempt=0,
        node="n1",
        breaker=None,
        lanes=1,
        stop_seconds=STOP_SECONDS,
        **around,
    ):
        super().__init__(daemon=True)
        self.results = results
        self.folders = [folder(results, run) for run in runs]
        for run, its_folder in zip(runs, self.folders, strict=True):
            if its_folder.asked() is None:
                its_folder.ask(RunRequest.of(run))
        self.command = command
        self.environment = {**os.environ, JOB: job, ATTEMPT: str(attempt), NODE: node}
        self.log = results / "job.log"
        self.lanes: list[int] = []
        """The lane of each worker that was started."""
        self.processes: list[subprocess.Popen] = []
        self.attendant = Attendant(
            self.folders,
            Attempt(job, attempt, node),
            Workers(self.start_worker, self.log, lanes=lanes, stop_seconds=stop_seconds),
            breaker or Breaker(results, lambda: self.folders),
            **around,
        )
        self.ending: Ending | None = None

    def start_worker(self, runs, lane):
        self.lanes.append(lane)
        with open(self.log, "ab") as log:
            paths = [str(run.path) for run in runs]
            process = subprocess.Popen(
                [*self.command, *paths],
                env=self.environment,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        self.processes.append(process)
        return process

    def run(self):
        self.ending = self.attendant.work()

    def end(self) -> Ending:
        self.join(PATIENCE)
        assert not self.is_alive(), f"it has started {len(self.lanes)} workers and goes on"
        return self.ending

    def stop(self):
        self.attendant.note(signal.SIGTERM)
        self.join(2)
        for process in self.processes:
            process.kill()
        self.join(PATIENCE)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(attend, "AROUND_SECONDS", 0.3)


@pytest.fixture
def attended(tmp_path):
    """Starts attendants."""
    there = []

    def begin(runs, *command_or_not, **options) -> Attended:
        there.append(Attended(tmp_path, runs, *command_or_not, **options))
        there[-1].start()
        return there[-1]

    yield begin
    for one in there:
        one.stop()


def noted(results, run):
    """What failures.jsonl has of a run: kind, and what was done about it."""
    return [(failure.kind, failure.then) for failure in folder(results, run).failures()]


def until_begun(results, *runs):
    wait_until(lambda: all(starts(results, run) for run in runs), "they do not begin")


def cancel(results, run):
    folder(results, run).write_job(Job(run.id, "slurm", "x", submitted=0, log="", cancelled=time.time()))


def leave_a_lease(results, run, *, attempt=0, node="n1", job=JOB_ID, taken=0.0):
    """What a job leaves that was killed with the run in hand."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    folder(results, run).path.mkdir(parents=True, exist_ok=True)
    lease = {"token": "t", "host": "h", "machine": machine(), "pid": gone.pid, "born": "1", "time": taken}
    path = folder(results, run).path / "lease.json"
    path.write_text(json.dumps({**lease, "job": job, "attempt": attempt, "node": node}))


# Seeing runs through


def test_runs_in_other_hands_are_left_alone(tmp_path, attended):
    held, free = StandInRun("held"), StandInRun("free")
    with folder(tmp_path, held).hold():
        both = attended([held, free])
        assert both.end() is Ending.DONE
        assert (starts(tmp_path, held), starts(tmp_path, free)) == (0, 1)
        again = attended([held])
        assert again.end() is Ending.DONE
        assert again.lanes == []
    assert [run.id for run in again.attendant.left] == ["held"]
    assert noted(tmp_path, held) == []


# Workers that die


def test_a_worker_killed_by_who_knows_whom_counts_as_a_failed_node(tmp_path, attended):
    run = StandInRun("run", seconds=60)
    job = attended([run])
    until_begun(tmp_path, run)
    os.kill(folder(tmp_path, run).holder().pid, signal.SIGKILL)
    assert job.end() is Ending.AWAY
    (failure,) = folder(tmp_path, run).failures()
    assert replace(failure, samples_seen=0, time=None, seconds=None) == FailedAttempt(
        FailureKind.NODE,
        "Its process was killed, for an unknown reason.",
        f"{AGAIN}, on another node if one takes it (1 of 3)",
        job=JOB_ID,
        attempt=0,
        node="n1",
    )
    assert failure.samples_seen < 600
    assert abs(failure.time - time.time()) < 60
    assert [run.id for run in job.attendant.left] == ["run"]
    assert job.lanes == [0]


def test_a_killed_run_that_another_worker_takes_up_at_once_has_the_failure(tmp_path, attended, monkeypatch):
    killed, free = StandInRun("killed", seconds=60), StandInRun("free")
    ended, taken = Workers.ended, folder(tmp_path, killed).path
    with subprocess.Popen(["sleep", "600"]) as other:

        def taken_up_before(workers):
            if gone := ended(workers):
                let_go(taken, of_job=True)  # as a worker does that takes it
                living_lease(tmp_path, killed, other, job="local/another/1")
            return gone

        monkeypatch.setattr(Workers, "ended", taken_up_before)
        job = attended([killed, free], elsewhere=False)
        until_begun(tmp_path, killed)
        os.kill(folder(tmp_path, killed).holder().pid, signal.SIGKILL)
        assert job.end() is Ending.DONE
        other.kill()
    assert (noted(tmp_path, killed), noted(tmp_path, free)) == ([("node", f"{AGAIN} (1 of 3)")], [])
    assert folder(tmp_path, free).state() is State.FINISHED


def test_another_machine_does_not_take_a_killed_worker_for_a_living_one(tmp_path, attended, monkeypatch):
    run = StandInRun("run", seconds=60)
    job = attended([run])
    until_begun(tmp_path, run)
    os.kill(folder(tmp_path, run).holder().pid, signal.SIGKILL)
    assert job.end() is Ending.AWAY
    # There, no process of this machine is seen, and a lease touched of late is one that somebody holds.
    monkeypatch.setattr("flipscale.run.lease.machine", lambda: "another")
    next_job = attended([run], ("true",), job="slurm/20260101-000000-def-0/0", node="n2")
    assert next_job.end() is Ending.DONE
    assert next_job.lanes == [0], "it leaves the run alone, and nobody does it"


def test_what_can_go_nowhere_else_stays(tmp_path, attended):
    run = StandInRun("run", first_seconds=60)
    job = attended([run])
    until_begun(tmp_path, run)
    os.kill(folder(tmp_path, run).holder().pid, signal.SIGKILL)
    assert job.end() is Ending.AWAY
    job.attendant.stay()
    assert job.attendant.work() is Ending.DONE
    assert folder(tmp_path, run).state() is State.FINISHED
    assert starts(tmp_path, run) == 2


def test_the_other_lane_stops_with_a_checkpoint_where_the_node_failed(tmp_path, attended):
    killed, other = StandInRun("killed", seconds=60), StandInRun("other", seconds=60)
    job = attended([killed, other], lanes=2)
    until_begun(tmp_path, killed, other)
    os.kill(folder(tmp_path, killed).holder().pid, signal.SIGKILL)
    assert job.end() is Ending.AWAY
    assert (folder(tmp_path, other).path / "checkpoint.pt").exists()
    assert (noted(tmp_path, killed), noted(tmp_path, other)) == (
        [("node", f"{AGAIN}, on another node if one takes it (1 of 3)")],
        [],
    )


def test_a_run_whose_nodes_fail_is_given_up_after_three(tmp_path, attended):
    run = StandInRun("run")
    for attempt in range(3):
        job = attended([run], worker("os.kill(os.getpid(), signal.SIGKILL)"), attempt=attempt, node=f"n{attempt}")
        assert job.end() is Ending.AWAY
    last = attended([run], worker("os.kill(os.getpid(), signal.SIGKILL)"), attempt=3)
    assert last.end() is Ending.DONE
    error = folder(tmp_path, run).error()
    assert (error.kind, error.noted) == ("node", True)
    assert error.reason == "Its process was killed, for an unknown reason. Given up after 3 times."
    assert [failure.node for failure in folder(tmp_path, run).failures()] == ["n0", "n1", "n2", "n1"]


OOM_KILL = "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0."
OOM = f"print({OOM_KILL!r}, flush=True), os.kill(os.getpid(), signal.SIGKILL)"


def test_a_run_out_of_memory_is_tried_with_smaller_parts_until_it_is_given_up(tmp_path, attended):
    run = StandInRun("run", resources=Resources(gpus=1))
    job = attended([run], worker(OOM))
    assert job.end() is Ending.DONE
    assert len(job.lanes) == 4
    assert noted(tmp_path, run) == [
        ("oom", "again with accumulate 2 (1 of 3)"),
        ("oom", "again with accumulate 4 (2 of 3)"),
        ("oom", "again with accumulate 8 (3 of 3)"),
        ("oom", "given up after 3 times; give it more memory (memory_per_process in a site file), or a smaller batch"),
    ]
    assert folder(tmp_path, run).asked() == replace(RunRequest.of(run), resources=Resources(gpus=1, accumulate=8))
    error = folder(tmp_path, run).error()
    assert (error.kind, error.noted) == ("oom", True)
    assert error.reason == (
        "It was killed because it used more memory than its job has. Given up after 3 times; give it more memory "
        "(memory_per_process in a site file), or a smaller batch."
    )


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        (
            'print("boom\\nsrun: error: n1: task 0: Exited with exit code 3", flush=True); os._exit(3)',
            "code",
            "Its process ended with code 3; it said: boom. See {log}. Given up: it would fail again.",
        ),
        (
            'print("boom.", flush=True); os._exit(3)',
            "code",
            "Its process ended with code 3; it said: boom. See {log}. Given up: it would fail again.",
        ),
        (
            "os.kill(os.getpid(), signal.SIGSEGV)",
            "code",
            "Its process was ended by SIGSEGV; it said: in hand. See {log}. Given up: it would fail again.",
        ),
    ],
)
def test_a_worker_that_ends_with_a_run_in_hand_fails_it_with_its_last_words(tmp_path, attended, code, kind, reason):
    run, other = StandInRun("run"), StandInRun("other")
    job = attended([run], worker(code))
    assert job.end() is Ending.DONE
    error = folder(tmp_path, run).error()
    assert (error.kind, error.reason, error.noted) == (kind, reason.format(log=job.log), True)
    assert folder(tmp_path, other).state() is State.PLANNED


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("error: Detected 1 oom-kill event(s) in StepId=7.batch", "oom"),
        ("srun: error: n1: task 0: Out Of Memory", "oom"),
        ("slurmstepd: error: Exceeded memory limit", "oom"),
        ("srun: error: Node failure on n1", "node"),
        ("JOB 7 ON n1 CANCELLED DUE TO NODE_FAIL", "node"),
        # The controller was killed and has forgotten the job; the next one knows it.
        ("srun: Check SLURM_JOB_ID environment variable. Expired or invalid job 71", "node"),
        ("srun: error: Unable to confirm allocation for job 71: Invalid job id specified", "node"),
        # A GPU, its node or the network, as CUDA, the driver, NCCL and `train` say it.
        ("RuntimeError: CUDA error: uncorrectable ECC error encountered", "node"),
        ("RuntimeError: CUDA error: hardware stack error", "node"),
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", "node"),
        ("Unable to determine the device handle for GPU 0000:3B:00.0: GPU is lost.", "node"),
        ("NVRM: Xid (PCI:0000:3b:00): 79, pid=71, GPU has fallen off the bus.", "node"),
        ("NVRM: Xid (PCI:0000:3b:00): 48, pid=71, Double Bit ECC Error", "node"),
        ("NVRM: Xid (PCI:0000:3b:00): 13, pid=71, Graphics Exception", "gpu"),
        ("CUDA error: an illegal memory access was encountered", "gpu"),
        ("CUDA error: unspecified launch failure", "gpu"),
        (
            "[rank3]:[E1130 ProcessGroupNCCL.cpp:683] [Rank 3] Watchdog caught collective operation timeout: "
            "WorkNCCL(SeqNum=7, OpType=ALLREDUCE) ran for 600010 milliseconds before timing out.",
            "node",
        ),
        (
            "[rank1]:[E1130] Process group watchdog thread terminated with exception: NCCL error: remote process "
            "exited or there was a network error, NCCL version 2.20.5",
            "node",
        ),
        ("NCCL error in: NCCLUtils.cpp:77, unhandled cuda error (run with NCCL_DEBUG=INFO for details)", "node"),
        ("NCCL error in: ProcessGroupNCCL.cpp:1191, unhandled system error, NCCL version 2.11.4", "node"),
        ("CUDA error: Invalid access of peer GPU memory over nvlink or a hardware error", "node"),
        ("CUDA error: device-side assert triggered", "code"),
        ("NCCL error: unhandled cuda error\nCuda failure 710 'device-side assert triggered'", "code"),
        ("2026-11-30 05:00:00 other: failed (gpu): CUDA error: an illegal memory access was encountered", "code"),
    ],
)
@pytest.mark.parametrize("code", [5, 134, -6])
def test_the_log_says_why_a_worker_died(tmp_path, said, kind, code):
    log = tmp_path / "job.log"
    log.write_text(f"{said}\n")
    worker = Started(SimpleNamespace(returncode=code), 0.0, {})
    assert Workers(lambda runs, lane: None, log).death(worker, did_something=lambda: True).kind == kind


WATCHDOG = "[rank1]:[E1130] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7, OpType=ALLREDUCE)"


def test_an_abort_of_nccls_watchdog_is_the_nodes_whichever_process_says_so(tmp_path, attended):
    run = StandInRun("run")
    beside = tmp_path / "job-1.log"
    beside.write_text("RuntimeError: CUDA error: unspecified launch failure\n")  # of an earlier worker
    code = f"print({WATCHDOG!r}, file=open({str(beside)!r}, 'a'), flush=True); os._exit(134)"
    job = attended([run], worker(code))
    assert job.end() is Ending.AWAY
    (failed,) = folder(tmp_path, run).failures()
    assert (failed.kind, failed.node) == ("node", "n1")
    assert failed.reason == f"Its process ended; the log says: {WATCHDOG}. See {job.log}."


def test_a_gpu_that_may_be_at_fault_is_left_once_and_no_reason_to_stop_the_rest(tmp_path, attended):
    run = StandInRun("run")
    code = "run.write_error('gpu', 'CUDA error: unspecified launch failure.', node='n7'); os._exit(1)"
    assert attended([run], worker(code)).end() is Ending.AWAY
    assert nodes_to_avoid(folder(tmp_path, run).failures()) == ["n7"]
    assert attended([run], worker(code), attempt=1, node="n2").end() is Ending.DONE
    assert folder(tmp_path, run).error().reason == (
        "CUDA error: unspecified launch failure. Given up after 1 time; it failed on another GPU too, so its code is "
        "to blame."
    )


def test_a_worker_that_says_which_node_is_at_fault_before_it_begins_has_it_avoided(tmp_path, attended):
    run = StandInRun("run")
    said = "The node n9 is at fault: its all-reduce did not end within 10 min."
    job = attended([run], worker(f"print({said!r}, flush=True); os._exit(1)", leased=False))
    assert job.end() is Ending.AWAY
    assert nodes_to_avoid(folder(tmp_path, run).failures()) == ["n9"]


SRUN_OF_A_KILLED_PROCESS = """\
srun: error: n17: task 130: {how}
srun: Terminating StepId=7.0
slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-11-26T06:00:00 ***
srun: error: n1: tasks 0-7: Killed"""


@pytest.mark.parametrize(
    ("how", "avoided"),
    [
        ("Killed", "n17"),
        ("Bus error", "n17"),
        # One that ended by itself, as it had lost the others, says nothing of its node.
        ("Exited with exit code 1", None),
    ],
)
def test_of_a_run_on_several_nodes_the_one_whose_process_was_killed_first_has_failed(tmp_path, how, avoided):
    log = tmp_path / "job.log"
    log.write_text(SRUN_OF_A_KILLED_PROCESS.format(how=how) + "\n" + "x" * 5000)
    ended = Started(SimpleNamespace(returncode=137), 0.0, {})
    assert Workers(lambda runs, lane: None, log).failed_node(ended) == avoided


def test_the_memory_that_one_run_of_a_worker_lacked_is_not_why_the_next_one_died(tmp_path, attended):
    """`train` fails a run in order and says so, in CUDA's words; what ends the process later is another matter."""
    said = "first: failed (oom): Out of memory; lower batch_size or raise mask_ratio. CUDA out of memory."
    run = StandInRun("run")
    attended([run], worker(f"print({said!r}, flush=True); os._exit(5)")).end()
    assert noted(tmp_path, run) == [("code", "given up: it would fail again")]


def test_what_an_earlier_worker_said_is_not_why_a_later_one_died(tmp_path, attended):
    (tmp_path / "job.log").write_text(f"{OOM_KILL}\n")
    run = StandInRun("run")
    attended([run], worker("os._exit(5)")).end()
    assert noted(tmp_path, run) == [("code", "given up: it would fail again")]


def test_a_worker_that_cannot_start_fails_its_first_run_with_its_last_words_and_does_not_loop(tmp_path, attended):
    first, second = StandInRun("first"), StandInRun("second")
    job = attended([first, second], MISSING)
    assert job.end() is Ending.DONE
    error = folder(tmp_path, first).error()
    assert error is not None, f"it has started {len(job.lanes)} workers, and left both runs as they were"
    assert (error.kind, error.noted) == ("code", True)
    assert "No module named no_such_module" in error.reason
    assert len(job.lanes) <= 2


def test_a_worker_that_does_nothing_of_what_is_left_is_not_started_for_ever(tmp_path, attended):
    idle = attended([StandInRun("run")], ("true",))
    assert idle.end() is Ending.DONE
    assert len(idle.lanes) == 1


def test_a_cancelled_run_in_the_list_does_not_have_idle_workers_started_for_ever(tmp_path, attended):
    cancelled, run = StandInRun("cancelled"), StandInRun("run")
    folder(tmp_path, cancelled).ask(RunRequest.of(cancelled))
    cancel(tmp_path, cancelled)
    job = attended([cancelled, run], ("true",))
    job.join(1.5)
    assert len(job.lanes) < 4
    assert job.end() is Ending.DONE


# Runs that fail


class Submission:
    """Jobs of one run each that share a breaker."""

    def __init__(self, results, attended, runs):
        self.results, self.attended, self.runs = results, attended, runs
        self.stops = 0
        folders = [folder(results, run) for run in runs]
        self.breaker = Breaker(results, lambda: folders, stop=self.stop)

    def stop(self):
        self.stops += 1

    def do(self, *runs):
        """The number of workers that were started for each."""
        jobs = [self.attended([run], job=f"slurm/x/{run.id}", breaker=self.breaker) for run in runs]
        assert [job.end() for job in jobs] == [Ending.DONE] * len(runs)
        return [len(job.lanes) for job in jobs]


def test_three_runs_that_fail_at_once_stop_their_submission(tmp_path, attended):
    runs = [StandInRun(f"run-{number}", fail="code", seconds=0) for number in range(5)]
    submission = Submission(tmp_path, attended, runs)
    assert submission.do(runs[0]) + submission.do(runs[1]) == [1, 1]
    assert (submission.stops, submission.breaker.tripped) == (0, False)
    assert submission.do(runs[2]) == [1]
    assert (submission.stops, submission.breaker.tripped) == (1, True)
    stopped = json.loads((tmp_path / "stopped.json").read_text())
    assert stopped.pop("time") == pytest.approx(time.time(), abs=60)
    assert stopped == {
        "schema": 1,
        "reason": "its first 3 runs failed within a minute of their start",
        "last": "run-2",
    }
    assert submission.do(runs[3], runs[4]) == [0, 0]
    assert submission.stops == 1


@pytest.mark.parametrize(
    ("kind", "seconds", "finished", "stops"),
    [
        ("code", 1.0, False, True),
        ("data", 1.0, False, True),
        ("data", 1.0, True, False),
        ("diverged", 1.0, False, False),
        ("code", 61.0, False, False),
    ],
)
def test_a_submission_stops_if_its_runs_may_share_the_reason_fail_within_a_minute_and_none_has_finished(
    tmp_path, kind, seconds, finished, stops
):
    folders = [folder(tmp_path, StandInRun(name)) for name in ("one", "two", "three", "other")]
    for run in folders:
        run.path.mkdir(parents=True)
    if finished:
        (folders[3].path / "result.json").write_text("{}")
    breaker = Breaker(tmp_path, lambda: folders)
    tripped = []
    for run in folders[:3]:
        run.write_error(FailureKind(kind), "It says so.", seconds=seconds, noted=True)
        breaker.look(run)
        tripped.append(breaker.tripped)
    assert tripped == [False, False, stops]


# Signals, and attempts after them


def test_a_signal_stops_the_worker_with_a_checkpoint_and_the_next_attempt_goes_on(tmp_path, attended):
    run, waiting = StandInRun("run", first_seconds=60), StandInRun("waiting")
    job = attended([run, waiting])
    until_begun(tmp_path, run)
    job.attendant.note(signal.SIGUSR2)
    assert job.end() is Ending.STOPPED
    assert job.attendant.signal == signal.SIGUSR2
    assert (folder(tmp_path, run).path / "checkpoint.pt").exists()
    assert [one.id for one in job.attendant.in_hand] == ["run"]

    job.attendant.note_interruption(FailureKind.PREEMPTED, "Its job was pre-empted.")
    (failure,) = folder(tmp_path, run).failures()
    assert (failure.kind, failure.reason) == ("preempted", "Its job was pre-empted.")
    assert (failure.then, failure.attempt, failure.node) == ("resumed", 0, "n1")
    assert noted(tmp_path, waiting) == []
    assert [one.id for one in job.attendant.left] == ["run", "waiting"]

    assert attended([run, waiting], attempt=1, node="n2").end() is Ending.DONE
    assert [folder(tmp_path, one).state() for one in (run, waiting)] == [State.FINISHED, State.FINISHED]
    assert len(folder(tmp_path, run).failures()) == 1, "the interruption is written down once"


def test_a_run_that_three_jobs_bring_no_further_is_given_up(tmp_path, attended):
    run = StandInRun("run", seconds=60)
    longer = "write time and time_limit: site into the site file"
    # It notes its start, and comes no further.
    stuck = worker("lease.append([{'step': time.monotonic_ns(), 'start': 1}]); time.sleep(60)")
    for attempt in range(3):
        job = attended([run], stuck, attempt=attempt)
        wait_until(lambda attempt=attempt: starts(tmp_path, run) == attempt + 1, "it does not begin")
        job.attendant.note(signal.SIGUSR2)
        assert job.end() is Ending.STOPPED
        job.attendant.note_interruption(FailureKind.TIMEOUT, "The time limit of its job was near.")
    assert noted(tmp_path, run) == [
        ("timeout", f"{AGAIN}; it made no progress: {longer}"),
        ("timeout", f"{AGAIN}; it made no progress: {longer}"),
        ("timeout", f"given up: it made no progress in 3 jobs, so the limit is too short; {longer}"),
    ]
    error = folder(tmp_path, run).error()
    assert (error.kind, error.noted) == ("timeout", True)
    assert error.reason == (
        "The time limit of its job was near. Given up: it made no progress in 3 jobs, so the limit is too short; "
        f"{longer}."
    )
    assert job.attendant.left == []


def test_a_worker_that_does_not_stop_is_terminated(tmp_path, attended):
    run = StandInRun("run", seconds=60)
    code = "signal.signal(signal.SIGUSR2, signal.SIG_IGN); lease.append([{'step': 1, 'start': 1}]); signal.pause()"
    job = attended([run], worker(code), stop_seconds=0.5)
    until_begun(tmp_path, run)
    job.attendant.note(signal.SIGUSR2)
    assert job.end() is Ending.STOPPED


@pytest.mark.parametrize(
    ("lost", "kind", "then", "reason"),
    [
        (
            ["n7"],
            "node",
            f"{AGAIN}, on another node if one takes it (1 of 3)",
            "In attempt 1 the node n7 was lost.",
        ),
        (
            [],
            "preempted",
            AGAIN,
            "In attempt 1 the job was removed from its node without warning.",
        ),
    ],
)
def test_what_an_earlier_attempt_left_was_lost_with_its_node_or_preempted(tmp_path, attended, lost, kind, then, reason):
    run, untouched = StandInRun("run"), StandInRun("untouched")
    leave_a_lease(tmp_path, run, node="n7")
    job = attended([run, untouched], attempt=1, node="n1", node_failed=lambda node: node in lost)
    assert job.end() is Ending.DONE
    (failure,) = folder(tmp_path, run).failures()
    assert (failure.kind, failure.then, failure.reason) == (kind, then, reason)
    assert (failure.attempt, failure.node) == (0, "n7")
    assert noted(tmp_path, untouched) == []
    assert [folder(tmp_path, one).state() for one in (run, untouched)] == [State.FINISHED] * 2


@pytest.mark.parametrize("code", [(), ("time.sleep(600)",)], ids=["in order", "killed"])
def test_an_interruption_that_nobody_lived_to_note_is_noted_by_the_next_attempt(tmp_path, attended, code):
    """As where SLURM kills an attendant whose worker has just stopped, in order or not."""
    run, untouched = StandInRun("run", first_seconds=60), StandInRun("untouched")
    stuck = (worker(f"lease.append([{{'step': 1, 'start': 1}}]); {code[0]}"),) if code else ()
    first = attended([run, untouched], *stuck, node="n7")
    until_begun(tmp_path, run)
    first.attendant.note(signal.SIGTERM)
    assert first.end() is Ending.STOPPED
    assert folder(tmp_path, run).holder() is None
    assert noted(tmp_path, run) == []
    assert attended([run, untouched], attempt=1).end() is Ending.DONE
    (failure,) = folder(tmp_path, run).failures()
    assert (failure.kind, failure.attempt, failure.node) == ("preempted", 0, "n7")
    assert noted(tmp_path, untouched) == []
    assert folder(tmp_path, run).last_holder() is None
    assert folder(tmp_path, run).state() is State.FINISHED


def test_a_failure_noted_before_the_last_start_in_an_attempt_is_not_that_of_its_end(tmp_path, attended):
    """As where a run went on in the same job after it was out of memory, and then the job was killed."""
    run = StandInRun("run")
    leave_a_lease(tmp_path, run, node="n7", taken=time.time() + 60)
    folder(tmp_path, run).note_failure(FailedAttempt(FailureKind.OOM, "", "again", job=JOB_ID, attempt=0))
    assert attended([run], attempt=1).end() is Ending.DONE
    assert noted(tmp_path, run) == [("oom", "again"), ("preempted", AGAIN)]


def test_an_attempt_that_said_itself_how_it_ended_has_no_second_failure(tmp_path, attended):
    run = StandInRun("run")
    leave_a_lease(tmp_path, run, node="n7")
    folder(tmp_path, run).note_failure(FailedAttempt(FailureKind.TIMEOUT, "", "resumed", job=JOB_ID, attempt=0))
    assert attended([run], attempt=1, node_failed=lambda node: True).end() is Ending.DONE
    assert noted(tmp_path, run) == [("timeout", "resumed")]


def test_what_was_lost_with_this_very_node_goes_elsewhere(tmp_path, attended):
    run = StandInRun("run")
    leave_a_lease(tmp_path, run, node="n1")
    job = attended([run], attempt=1, node="n1", node_failed=lambda node: True)
    assert job.end() is Ending.AWAY
    assert job.lanes == []


def test_the_lease_of_another_job_is_no_failure_of_this_one(tmp_path, attended):
    run = StandInRun("run")
    leave_a_lease(tmp_path, run, job="slurm/another/0")
    assert attended([run], attempt=1).end() is Ending.DONE
    assert noted(tmp_path, run) == []
    wait_for([run], tmp_path, State.FINISHED)


# Two jobs of one name, and clocks


def living_lease(results, run, process, **more):
    """The lease of a worker of the same job and attempt that lives."""
    named = {"token": "living", "host": "h", "machine": machine(), "pid": process.pid, "born": birth(process.pid)}
    path = folder(results, run).path / "lease.json"
    path.write_text(json.dumps({**named, "job": JOB_ID, "attempt": 0, "node": "n1", "time": time.time(), **more}))


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_an_array_that_was_sent_twice_leaves_the_lease_of_its_living_twin_alone(tmp_path, attended, node):
    """sbatch's answer was lost, so it was asked again: two jobs do the same runs under one name."""
    run = StandInRun("run")
    folder(tmp_path, run).ask(RunRequest.of(run))
    with subprocess.Popen(["sleep", "600"]) as twin:
        place = machine() if node == "n1" else "elsewhere"
        living_lease(tmp_path, run, twin, node=node, machine=place)
        assert attended([run], worker("pass", leased=False), node="n1").end() is Ending.DONE
        assert folder(tmp_path, run).holder().token == "living"
        assert folder(tmp_path, run).failures() == []
        assert folder(tmp_path, run).error() is None
        twin.kill()


def test_only_the_lease_that_was_judged_dead_is_released(tmp_path):
    run = StandInRun("run")
    folder(tmp_path, run).ask(RunRequest.of(run))
    with subprocess.Popen(["sleep", "600"]) as process:
        living_lease(tmp_path, run, process, token="dead", born="1")
        dead = folder(tmp_path, run).holder()
        living_lease(tmp_path, run, process)  # Somebody takes the run between the look and the release.
        folder(tmp_path, run).release(dead)
        assert folder(tmp_path, run).holder().token == "living"
        living = folder(tmp_path, run).holder()
        folder(tmp_path, run).release(living)  # Judged dead by mistake.
        assert folder(tmp_path, run).holder() == living
        process.kill()
    folder(tmp_path, run).release(living)
    assert folder(tmp_path, run).holder() is None


def test_a_lease_of_another_host_that_is_stale_by_our_clock_alone_is_left_alone(tmp_path, monkeypatch):
    run = folder(tmp_path, StandInRun("run"))
    run.ask(RunRequest.of(StandInRun("run")))
    path = run.path / "lease.json"
    path.write_text(json.dumps({"token": "x", "host": "elsewhere", "pid": 1, "born": "1"}))
    behind = [time.time() - 600]
    os.utime(path, (behind[0], behind[0]))
    monkeypatch.setattr(lease, "LOOK_SECONDS", 60.0)
    done = threading.Event()

    def beat():
        while not done.wait(0.05):
            behind[0] += 0.01
            os.utime(path, (behind[0], behind[0]))

    heart = threading.Thread(target=beat)
    heart.start()
    with run.hold() as held:
        assert held is None
    done.set()
    heart.join()
    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.2)
    with run.hold() as held:
        assert held is not None


def test_a_file_server_whose_clock_differs_makes_no_run_stalled_and_no_work_unseen(tmp_path, monkeypatch):
    """Its clock is an hour behind: to this machine every file is an hour old."""
    run = StandInRun("run")
    its_folder = folder(tmp_path, run)
    its_folder.ask(RunRequest.of(run))
    hour = 3600.0
    (its_folder.path / "life.json").write_text(json.dumps({"doing": "training"}))
    (its_folder.path / "metrics.jsonl").write_text("")
    for name in ("life.json", "metrics.jsonl"):
        os.utime(its_folder.path / name, (time.time() - hour, time.time() - hour))
    assert "no step for" in why_stalled(its_folder).lower()
    assert why_stalled(its_folder, ahead=-hour) is None
    claims = attend.Claims([its_folder], Attempt(JOB_ID, 0, "n1"), ahead=-hour)
    assert claims.begun_since(time.time() - 60) == [its_folder]
    assert attend.Claims([its_folder], Attempt(JOB_ID, 0, "n1")).begun_since(time.time() - 60) == []
    assert clock_ahead(tmp_path) == 0.0
    later = time.time() + hour
    monkeypatch.setattr(files.time, "time", lambda: later)
    assert -hour - 60 < clock_ahead(tmp_path) < -hour + 60
    assert clock_ahead(tmp_path / "missing") == 0.0


def test_a_run_that_was_given_up_and_submitted_again_is_not_said_to_be_given_up(tmp_path):
    run = StandInRun("run")
    its_folder = folder(tmp_path, run)
    its_folder.ask(RunRequest.of(run))
    attend.answer_failure(its_folder, FailureKind.CODE, "KeyError: 'urls'")
    assert its_folder.failures()[-1].given_up
    progress = run_progress(run, tmp_path, StateReader(tmp_path).read([run])["run"])
    assert progress.story == "earlier attempts that failed: 1 code"


def test_a_run_that_stays_as_no_other_node_can_be_had_is_not_said_to_go_elsewhere(tmp_path):
    run = StandInRun("run")
    its_folder = folder(tmp_path, run)
    its_folder.ask(RunRequest.of(run))
    breaker = Breaker(tmp_path, lambda: [its_folder])
    workers = Workers(lambda runs, lane: None, tmp_path / "job.log")
    staying = Attendant([its_folder], Attempt(JOB_ID, 0, "n1"), workers, breaker)
    staying.stay()
    staying.answer(its_folder, FailureKind.NODE, "it was killed")
    assert its_folder.failures()[0].then == f"{AGAIN} (1 of 3)"


# Lanes, and what ends the work early


@pytest.mark.parametrize(("count", "lanes", "started"), [(3, 1, [0]), (6, 2, [0, 1]), (2, 5, [0, 1])])
def test_lanes_share_the_list_and_every_run_is_started_once(tmp_path, attended, count, lanes, started):
    together = begun(*(f"run-{number}" for number in range(len(started))))
    runs = [StandInRun(f"run-{number}", until=together) for number in range(count)]
    job = attended(runs, lanes=lanes)
    assert job.end() is Ending.DONE
    assert [starts(tmp_path, run) for run in runs] == [1] * count
    assert sorted(job.lanes) == started


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_cancelled_run_is_stopped_with_a_checkpoint_or_never_begun_and_the_others_go_on(tmp_path, attended, lanes):
    beside = ("long/checkpoint.pt",)  # It ends when the long run has stopped.
    long, never = StandInRun("long", seconds=60), StandInRun("never")
    runs = [long, StandInRun("other", until=beside), never]
    job = attended(runs, lanes=lanes)
    until_begun(tmp_path, *runs[:lanes])
    cancel(tmp_path, never)
    cancel(tmp_path, long)
    assert job.end() is Ending.DONE
    assert (folder(tmp_path, long).path / "checkpoint.pt").exists()
    assert [folder(tmp_path, run).state() for run in runs] == [State.CANCELLED, State.FINISHED, State.CANCELLED]
    assert [starts(tmp_path, run) for run in runs] == [1, 1, 0]
    assert [noted(tmp_path, run) for run in runs] == [[], [], []]


def test_nothing_is_started_where_nothing_is_left_or_after_a_signal_of_which_the_first_counts(tmp_path, attended):
    done, cancelled, failed = StandInRun("done"), StandInRun("cancelled"), StandInRun("failed")
    for run in (done, cancelled, failed):
        folder(tmp_path, run).ask(RunRequest.of(run))
    (folder(tmp_path, done).path / "result.json").write_text('{"schema": 1}')
    cancel(tmp_path, cancelled)
    folder(tmp_path, failed).write_error(FailureKind.CODE, "It was so.", noted=True)
    nothing_left = attended([done, cancelled, failed])
    assert (nothing_left.end(), nothing_left.lanes) == (Ending.DONE, [])
    job = Attended(tmp_path, [StandInRun("run")])
    job.attendant.note(signal.SIGUSR2)  # As SLURM warns of the limit,
    job.attendant.note(signal.SIGTERM)  # and then ends the job.
    assert job.attendant.work() is Ending.STOPPED
    assert (job.attendant.signal, job.lanes) == (signal.SIGUSR2, [])
    job.attendant.note_interruption(FailureKind.TIMEOUT, "The time limit of its job was near.")
    assert noted(tmp_path, StandInRun("run")) == []


def test_a_worker_that_got_the_signal_first_tells_the_attendant_of_it(tmp_path, attended):
    job = attended([StandInRun("run")], worker("sys.exit(143)", leased=False))
    assert job.end() is Ending.STOPPED
    assert job.attendant.signal == signal.SIGTERM
    assert job.lanes == [0]


def test_a_run_finished_before_the_signal_has_no_failure(tmp_path, attended):
    done, run = StandInRun("done"), StandInRun("run", seconds=60)
    job = attended([done, run])
    until_begun(tmp_path, run)
    job.attendant.note(signal.SIGUSR2)
    job.end()
    job.attendant.note_interruption(FailureKind.TIMEOUT, "The time limit of its job was near.")
    assert (noted(tmp_path, done), noted(tmp_path, run)) == ([], [("timeout", "resumed")])


def test_what_runs_when_the_submission_stops_is_stopped_with_a_checkpoint(tmp_path, attended):
    long = StandInRun("long", seconds=60)
    job = attended([long])
    until_begun(tmp_path, long)
    (tmp_path / "stopped.json").write_text("{}")
    assert job.end() is Ending.DONE
    assert (folder(tmp_path, long).path / "checkpoint.pt").exists()
    assert (folder(tmp_path, long).error(), noted(tmp_path, long)) == (None, [])


def test_a_later_attempt_takes_a_run_over_and_the_earlier_one_ends_without_starting_anything(tmp_path, attended):
    seen = tmp_path / "the earlier one has ended"
    run = StandInRun("run", until=(str(seen),))
    stands_still = worker("lease.append([{'step': 1, 'start': 1}]); signal.pause()")
    earlier = attended([run], stands_still, node="n1")
    until_begun(tmp_path, run)
    later = attended([run], attempt=1, node="n2")
    assert (earlier.end(), earlier.lanes) == (Ending.DONE, [0])
    seen.touch()
    assert (later.end(), later.lanes) == (Ending.DONE, [0])
    assert folder(tmp_path, run).state() is State.FINISHED
    assert [kind for kind, _ in noted(tmp_path, run)] == ["preempted"]


def test_a_lack_of_memory_that_a_worker_itself_tells_of_is_answered_as_a_kill_is(tmp_path, attended):
    """As CUDA's is: the process lives, and `train` writes error.json."""
    run = StandInRun("run", fail="oom")
    assert attended([run]).end() is Ending.DONE
    assert starts(tmp_path, run) == 4
    assert folder(tmp_path, run).asked().resources == Resources(gpus=0, accumulate=8)
    assert [failure.accumulate for failure in folder(tmp_path, run).failures()] == [2, 4, 8, None]
    assert folder(tmp_path, run).error().kind == "oom"


def test_a_run_that_fits_when_it_is_halved_is_done_and_has_no_error(tmp_path, attended):
    run = StandInRun("run")
    fits = "from flipscale.run import Result; lease.write_result(Result())"
    job = attended([run], worker(f"exec({fits!r}) if run.asked().resources.accumulate == 2 else ({OOM})"))
    assert job.end() is Ending.DONE
    assert folder(tmp_path, run).state() is State.FINISHED
    assert noted(tmp_path, run) == [("oom", "again with accumulate 2 (1 of 3)")]
    assert folder(tmp_path, run).error() is None


@pytest.mark.parametrize(
    "ends",
    [
        "os._exit(137)",
        "run.write_error('node', 'A process of the run is gone.'); os._exit(1)",  # Process 0 has noticed.
    ],
)
def test_the_node_whose_process_was_killed_first_is_avoided_whoever_tells_of_it(tmp_path, attended, ends):
    run = StandInRun("run")
    said = SRUN_OF_A_KILLED_PROCESS.format(how="Killed")
    job = attended([run], worker(f"print({said!r}, flush=True); {ends}"))
    assert job.end() is Ending.AWAY
    (failed,) = folder(tmp_path, run).failures()
    assert (failed.kind, failed.node) == ("node", "n17")
    assert nodes_to_avoid([failed]) == ["n17"]


def test_where_the_last_attempt_failed_and_what_was_done_is_said(tmp_path):
    run = StandInRun("run")
    its_folder = folder(tmp_path, run)
    its_folder.ask(RunRequest.of(run))
    attend.answer_failure(its_folder, FailureKind.NODE, "it was lost", at=Attempt(JOB_ID, 0, "n1"))
    progress = run_progress(run, tmp_path, StateReader(tmp_path).read([run])["run"])
    then = f"{AGAIN}, on another node if one takes it (1 of 3)"
    assert progress.story == f"attempts that failed: 1 node; the last on n1: {then}"
