"""A stand-in for `flipscale train`: it keeps the contract of a worker and does no training.

A run's settings say what happens in it: `seconds` of sleep, in steps of 50 ms, or `first_seconds` at the first
attempt; then more of it until the files of `until` are there, as seen from the folder of all runs, for two minutes at
most; then `fail` with a kind, if it is there. A `deaf` one does not stop when it is asked to. One that `hangs` does no
more after ten steps, in that many of its first attempts. metrics.jsonl counts the starts (records with "start") so
that a test can tell whether a run was done twice.
"""

import faulthandler
import itertools
import os
import signal
import sys
import time
from pathlib import Path

# As a script it does not see the repository, where flipscale need not be installed.
sys.path.insert(0, str(Path(__file__).parents[2]))

from flipscale.run import JOB, STACKS_SIGNAL, Doing, FailureKind, Result, RunFolder

STOP = False
STEP_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 600
"""How long a run waits for the files of `until` before it fails."""


def main(paths):
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGUSR2, stop)
    # Where a run has several processes, they act as one: no other than the first takes runs of its own.
    took = os.environ.get("SLURM_PROCID", "0") == "0"
    while took and not STOP:
        for path in paths:
            took = not STOP and do(RunFolder(path))
            if took and JOB in os.environ and RunFolder(path).error():
                return 1  # What is done about it is decided before anything else begins.
            if took:
                break
    return 0


def do(run):
    if is_over(run):
        return False
    with run.hold() as lease:
        # Again with the lease in hand: it may have been finished or cancelled meanwhile.
        if lease is None or is_over(run):
            return False
        settings = run.asked().settings
        starts = sum("start" in record for record in run.records()[0])
        first = not starts
        seconds = settings["first_seconds"] if first and settings["first_seconds"] else settings["seconds"]
        lease.append([{"step": time.monotonic_ns(), "start": os.getpid()}])
        steps = round(seconds / STEP_SECONDS)
        for step in itertools.count(1):
            lease.live(Doing.TRAINING)
            if step > 10 and starts < (settings.get("hangs") or 0):
                hang(run)
            absent = [name for name in settings["until"] if not (run.path.parent / name).exists()]
            if step > steps and not absent:
                break
            if step > steps + LONGEST_WAIT_SECONDS / STEP_SECONDS:
                run.write_error(FailureKind.CODE, f"Still absent after {LONGEST_WAIT_SECONDS} s: {', '.join(absent)}.")
                return True
            time.sleep(STEP_SECONDS)
            record = {
                "step": step,
                "samples_seen": step,
                "loss": 1 / step,
                "images_per_second": 20.0,
                "time": time.time(),
            }
            lease.append([record])
            if STOP and not settings["deaf"]:
                (run.path / "checkpoint.pt").write_text(str(step))
                return True
        if settings["fail"]:
            run.write_error(FailureKind(settings["fail"]), "The settings say so.")
        else:
            seen = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "FLIPSCALE_JOB")}
            facts = {"session": os.getsid(0), "pid": os.getpid(), "ended": time.monotonic_ns(), **seen}
            lease.write_result(Result(more=facts))
        return True


def hang(run):
    """As `train` does where a thread waits for ever: signals are handled, and the heartbeat goes on."""
    with open(run.path / "log.txt", "a") as log:
        faulthandler.register(STACKS_SIGNAL, file=log, all_threads=True)
        while True:
            time.sleep(60)


def is_over(run):
    return run.result() or run.error() or run.is_cancelled


def stop(signum, frame):
    global STOP
    STOP = True


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
