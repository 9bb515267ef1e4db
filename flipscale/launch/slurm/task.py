"""A job: `python -m flipscale.launch.slurm.task ARRAY.json`, as the batch script calls it.

An attendant sees the runs of the task through. Afterwards an interrupted job is requeued, and the remaining runs of a
failed node go to a job elsewhere. The job always ends with 0: success is in the run folders, and children are to start
either way.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from flipscale.errors import FlipscaleError, LaunchError, use_utf8
from flipscale.launch.attend import Attendant, Ending
from flipscale.launch.breaker import Breaker
from flipscale.launch.launcher import STOP_SECONDS, Attempt, Request, threads
from flipscale.launch.slurm import scheduler
from flipscale.launch.slurm.arrays import JobArray
from flipscale.launch.slurm.batch import worker_command
from flipscale.launch.slurm.launcher import SlurmLauncher
from flipscale.launch.submit import hand_over
from flipscale.launch.workers import ASKED_TO_STOP, Workers
from flipscale.run import ATTEMPT, CONNECT, JOB, NODE, FailureKind, RunFolder

EARLY_SECONDS = 90.0
"""SLURM looks at limits once a minute, so a warning may come that much earlier than it was asked for."""


LATE_SECONDS = 60.0
"""How long a node may take to see the array's record, as over a network file system."""


def main(path: Path, code: int | None = None) -> int:
    """See the runs of this task through; or handle a script whose setup ended it with `code`, or whose attendant was
    killed."""
    array = read_record(path)
    launcher = SlurmLauncher(Path(array.runs).parent, array.site, command=array.command)
    index = int(os.environ["SLURM_ARRAY_TASK_ID"])
    submission = path.parent.name
    launcher.study = submission.rsplit("-", 4)[0]
    attempt = Attempt(
        job=f"slurm/{array.name}/{index}",
        number=int(os.environ.get("SLURM_RESTART_COUNT", "0")),
        node=os.environ.get("SLURMD_NODENAME", socket.gethostname()),
    )
    attendant = Attendant(
        [RunFolder(Path(array.runs) / run_id) for run_id in array.tasks[index]],
        attempt,
        Workers(
            partial(_start, array, attempt),
            array.log(launcher.home, index),
            lanes=array.lanes,
            stop_seconds=max(STOP_SECONDS, array.site["warning"]),
        ),
        Breaker(path.parent, partial(launcher.runs_of, submission), stop=partial(launcher.stop, submission)),
        node_failed=scheduler.node_is_lost,
        stalled=array.site["stalled"],
    )
    if code is None:
        _see_through(attendant, array, launcher)
    elif code == 128 + signal.SIGKILL:
        why = "Its attendant, or a line of the site file's setup, was killed for an unknown reason."
        attendant.take_over(why)
        _requeue(attendant, launcher, why)
    elif code in (128 + signal.SIGUSR2, 128 + signal.SIGTERM):  # a signal during the setup
        attendant.note(code - 128)
        _after_a_signal(attendant, array, launcher)
    else:
        attendant.give_up(f"A line of the site file's setup ended the job with code {code} before training began.")
    return 0


def read_record(path: Path) -> JobArray:
    """The array's record. LaunchError if this node does not see it in time."""
    until = time.monotonic() + LATE_SECONDS
    while time.monotonic() < until:
        with contextlib.suppress(FileNotFoundError):
            return JobArray.read(path)
        time.sleep(1.0)
    raise LaunchError(
        f"{path}: {socket.gethostname()} does not see this record, {LATE_SECONDS:.0f} s after the job began; check "
        "that the node mounts the results folder, then submit again."
    )


def _see_through(attendant: Attendant, array: JobArray, launcher: SlurmLauncher) -> None:
    for signum in ASKED_TO_STOP:
        signal.signal(signum, attendant.note)
    attempt = attendant.attempt
    _say(f"attempt {attempt.number + 1} of job {_job_id()} on {os.environ.get('SLURM_JOB_NODELIST', attempt.node)}")
    # A parent that was handed to another job is not over when the job that children waited for is.
    if _wait_for_parents(attendant.left, launcher):
        _say("the remaining runs continue after their parents")
        _hand_over(attendant, launcher)
        return
    ending = attendant.work()
    if ending is Ending.STOPPED:
        _after_a_signal(attendant, array, launcher)
    elif ending is Ending.AWAY and scheduler.is_running(_job_id()) is False:
        _say("SLURM has removed the job from this node, and restarts it elsewhere")
    elif ending is Ending.AWAY:
        _say("the remaining runs continue on other nodes")
        _hand_over(attendant, launcher)


def _after_a_signal(attendant: Attendant, array: JobArray, launcher: SlurmLauncher) -> None:
    """Have the job started again, unless it was cancelled."""
    left = float(os.environ.get("SLURM_JOB_END_TIME", "inf")) - time.time()
    kind = FailureKind.PREEMPTED
    reason = "Its job was pre-empted."
    if attendant.signal == signal.SIGUSR2 and left <= array.site["warning"] + EARLY_SECONDS:
        kind = FailureKind.TIMEOUT
        reason = "The time limit of its job was near."
    elif attendant.signal != signal.SIGUSR2 and scheduler.is_running(_job_id()) is False:
        # If SLURM starts the job again, the next attempt notes the interruption.
        _say("stopped, as the job was cancelled or SLURM has removed it from its node")
        return
    attendant.note_interruption(kind, reason)
    if attendant.left and scheduler.starts_again_by_itself(_job_id()):
        _say(f"{reason} SLURM starts it again.")
        return
    _requeue(attendant, launcher, reason)


def _requeue(attendant: Attendant, launcher: SlurmLauncher, reason: str) -> None:
    """Have the job started again for the runs that are left, or hand them to another."""
    if not attendant.left:
        return
    _say(f"{reason} Asking for a requeue.")
    try:
        scheduler.requeue(_job_id())
    except LaunchError as error:
        _say(f"{error}; the remaining runs go to another job")
        _hand_over(attendant, launcher)


def _hand_over(attendant: Attendant, launcher: SlurmLauncher) -> None:
    """Hand the remaining runs to new jobs; if none can be had, do them here."""
    try:
        hand_over(attendant.left, launcher.results, launcher)
    except LaunchError as error:
        _say(f"{error} The remaining runs stay here")
        attendant.stay()
        attendant.work()


def _wait_for_parents(runs: Sequence[RunFolder], launcher: SlurmLauncher) -> bool:
    """Whether a run is here before its parent is done, in another job that goes on."""
    requests = [Request(run, asked, run.is_trained) for run in runs if (asked := run.asked())]
    with contextlib.suppress(LaunchError):
        return bool(launcher.parents_under_way(requests))
    return False


def _start(array: JobArray, attempt: Attempt, runs: Sequence[RunFolder], lane: int) -> "subprocess.Popen[bytes]":
    """A worker on these runs: it prints to the job's log."""
    environment = {
        **os.environ,
        **threads(array.site["cpus_per_process"]),
        JOB: attempt.job,
        ATTEMPT: str(attempt.number),
        NODE: attempt.node,
        CONNECT: str(array.site["connect"]),
    }
    if array.resources.devices > 1:
        # Process 0 is on this node, whose name in SLURM need not resolve to it.
        environment.setdefault("MASTER_ADDR", socket.gethostname() if array.nodes > 1 else "127.0.0.1")
    command = worker_command(array, [run.path for run in runs], _gpus_of(array, lane))
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)


def _gpus_of(array: JobArray, lane: int) -> str | None:
    """The GPUs of a lane, where the job has more than one run needs; None where it has all of the job's."""
    needed = array.resources.gpus
    visible = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    if not needed or len(visible) <= needed:
        return None
    first = lane * needed % (len(visible) // needed * needed)
    return ",".join(visible[first : first + needed])


def _job_id() -> str:
    """As scontrol takes it: ARRAY_TASK."""
    return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"


def _say(line: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    use_utf8()
    try:
        raise SystemExit(main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
    except FlipscaleError as error:
        raise SystemExit(str(error)) from None
