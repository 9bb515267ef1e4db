"""What a job does: `python -m flipscale.launch.slurm.task ARRAY.json`, as the batch script calls it.

An attendant sees the runs of the task through. Afterwards the job is requeued where it was interrupted, what is left is
handed to a job elsewhere where the node failed, and in any case it ends with 0: success is in the run folders, and
children are to start either way.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from flipscale.errors import LaunchError, use_utf8
from flipscale.launch import hand_over
from flipscale.launch.attend import Attendant, Breaker, Ending, Place
from flipscale.launch.launcher import STOP_SECONDS, Request, threads
from flipscale.launch.slurm import SlurmLauncher, scheduler
from flipscale.launch.slurm.arrays import Array, shape_of
from flipscale.launch.slurm.batch import worker_command
from flipscale.run import ATTEMPT, JOB, NODE, FailureKind, RunFolder

LATE_SECONDS = 90.0
"""SLURM looks at limits once a minute, so a warning may come that much earlier than it was asked for."""

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)


def main(path: Path, setup_code: int | None = None) -> int:
    """See the runs of this task through; or do what is due where `setup_code` ended the script in the site's setup."""
    array = Array.read(path)
    index = int(os.environ["SLURM_ARRAY_TASK_ID"])
    launcher = SlurmLauncher(Path(array.runs).parent, array.site, command=array.command)
    submission = path.parent.name
    place = Place(
        job=f"slurm/{array.name}/{index}",
        attempt=int(os.environ.get("SLURM_RESTART_COUNT", "0")),
        node=os.environ.get("SLURMD_NODENAME", socket.gethostname()),
    )
    attendant = Attendant(
        [RunFolder(Path(array.runs) / run_id) for run_id in array.tasks[index]],
        place,
        start=partial(_start, array, place),
        log=array.log(launcher.home, index),
        breaker=Breaker(path.parent, partial(_call_off, launcher, submission), partial(launcher.runs_of, submission)),
        lanes=array.lanes,
        stop_seconds=max(STOP_SECONDS, array.site["warning"]),
        node_failed=scheduler.node_is_lost,
        stalled=array.site.get("stalled"),
    )
    if setup_code in (128 + signal.SIGUSR2, 128 + signal.SIGTERM):
        attendant.note(setup_code - 128)
        _after_a_signal(attendant, array, launcher)
        return 0
    if setup_code is not None:
        attendant.give_up(f"A line of the site file's setup ended the job, with code {setup_code}, before it began.")
        return 0
    limit = _limit()
    if limit is not None and limit <= array.site["warning"]:
        attendant.give_up(
            f"The limit of its job, {limit:.0f} s, is no longer than the warning before it, {array.site['warning']} s; "
            f"set time in the site file, or lower warning."
        )
        return 0
    for signum in SIGNALS:
        signal.signal(signum, attendant.note)
    _say(f"attempt {place.attempt + 1} of job {_job_id()} on {os.environ.get('SLURM_JOB_NODELIST', place.node)}")
    # A parent that was handed to another job is not over when the job that children waited for is.
    waits = _parents_under_way(attendant.left, launcher)
    ending = Ending.AWAY if waits else attendant.work()
    if ending is Ending.STOPPED:
        _after_a_signal(attendant, array, launcher)
    elif ending is Ending.AWAY and not waits and scheduler.is_running(_job_id()) is False:
        _say("SLURM has taken the job off this node, and starts it elsewhere")
    elif ending is Ending.AWAY:
        _say(f"what is left goes on {'after its parents' if waits else 'on other nodes'}")
        _hand_over(attendant, launcher)
    return 0


def _limit() -> float | None:
    """The time limit of this job in seconds; None where there is none, or SLURM does not say."""
    began, ends = (os.environ.get(f"SLURM_JOB_{name}_TIME") for name in ("START", "END"))
    return float(ends) - float(began) if began and ends else None


def _after_a_signal(attendant: Attendant, array: Array, launcher: SlurmLauncher) -> None:
    """Have the job started again, unless it was cancelled."""
    kind, reason = _interruption(attendant.signal or 0, array.site["warning"])
    if kind is None:
        _say("stopped, as the job was cancelled")
        return
    attendant.note_interruption(kind, reason)
    if not attendant.left:
        return
    _say(f"{reason} Asking for a requeue.")
    try:
        scheduler.requeue(_job_id())
    except LaunchError as error:
        _say(f"{error}. So what is left goes to another job")
        _hand_over(attendant, launcher)


def _hand_over(attendant: Attendant, launcher: SlurmLauncher) -> None:
    """Hand what is left to new jobs, and where no others can be had, do it here."""
    try:
        hand_over(attendant.left, launcher.results, launcher)
    except LaunchError as error:
        _say(f"{error} So it stays here")
        attendant.stay()
        attendant.work()


def _interruption(signum: int, warning: int) -> tuple[FailureKind | None, str]:
    """What a signal means; None as a kind where somebody cancelled the job."""
    if signum == signal.SIGUSR2:
        left = float(os.environ.get("SLURM_JOB_END_TIME", "inf")) - time.time()
        if left <= warning + LATE_SECONDS:
            return FailureKind.TIMEOUT, "The time limit of its job was near."
        return FailureKind.PREEMPTED, "Its job was pre-empted."
    if scheduler.is_running(_job_id()) is False:
        return None, ""
    return FailureKind.PREEMPTED, "Its job was pre-empted."


def _call_off(launcher: SlurmLauncher, submission: str) -> None:
    """Stop what of the submission has not begun. What cannot be stopped finds out itself when it begins."""
    try:
        launcher.stop(submission)
    except LaunchError as error:
        _say(f"the jobs that wait could not be called off: {error}")


def _parents_under_way(runs: Sequence[RunFolder], launcher: SlurmLauncher) -> bool:
    """Whether a run is here before its parent is done, in another job that goes on."""
    try:
        return bool(launcher.parents_under_way([Request(run, run.asked() or {}) for run in runs]))
    except LaunchError as error:
        _say(f"whether parents are under way is not known: {error}")
        return False


def _start(array: Array, place: Place, runs: Sequence[RunFolder], lane: int) -> "subprocess.Popen[bytes]":
    """A worker on these runs: it prints to the job's log."""
    shape = shape_of(array.resources, 1, array.site)
    environment = {
        **os.environ,
        **threads(shape.cpus_per_task),
        JOB: place.job,
        ATTEMPT: str(place.attempt),
        NODE: place.node,
    }
    if shape.nodes * shape.tasks_per_node > 1:
        # Process 0 is on this node, which its name in SLURM need not lead to.
        environment.setdefault("MASTER_ADDR", socket.gethostname() if shape.nodes > 1 else "127.0.0.1")
    command = worker_command(array, [run.path for run in runs], _gpus_of(array, lane))
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)


def _gpus_of(array: Array, lane: int) -> str | None:
    """The GPUs of a lane, where the job has more than one run needs; None where it has all of the job's."""
    needed = array.resources.get("gpus") or 0
    visible = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
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
    raise SystemExit(main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
