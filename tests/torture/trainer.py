"""A stand-in for `flipscale train` that resumes: python trainer.py RUN-FOLDER...

Each loss depends on the one before, a checkpoint is written every three steps, and every record names the lease that
wrote it. It loads no torch, so hundreds of kills take minutes.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

# As a script it does not see the repository, where flipscale need not be installed.
sys.path.insert(0, str(Path(__file__).parents[2]))

from flipscale.errors import LeaseLost
from flipscale.run import Doing, Lease, Result, RunFolder
from tests.torture.checks import following, loss_of

STOP = False
STEP_SECONDS = 0.05


def steps_of(seconds: float) -> int:
    return max(1, round(seconds / STEP_SECONDS))


def main(paths: list[str]) -> int:
    for signum in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(signum, stop)
    took = os.environ.get("SLURM_PROCID", "0") == "0"
    while took and not STOP:
        took = any(not STOP and do(RunFolder(path)) for path in paths)
    return 0


def do(run: RunFolder) -> bool:
    if run.is_over():
        return False
    try:
        with run.hold() as lease:
            if lease is None or run.is_over():
                return False
            train(run, lease)
    except LeaseLost as lost:
        print(lost, file=sys.stderr)
    return True


def train(run: RunFolder, lease: Lease) -> None:
    asked = run.asked()
    assert asked is not None
    steps, checkpoint = steps_of(asked.settings["seconds"]), run.path / "checkpoint.pt"
    step, state = json.loads(checkpoint.read_text()) if checkpoint.exists() else (0, run.id)
    lease.mend_records()
    while step < steps:
        lease.live(Doing.TRAINING)
        time.sleep(STEP_SECONDS)
        step, state = step + 1, following(state)
        seen = {"samples_seen": 32 * step, "time": time.time(), "images_per_second": 640.0}
        lease.append([{"step": step, "loss": loss_of(state), "by": lease.token, **seen}])
        if STOP or step % 3 == 0:
            with lease.replace("checkpoint.pt") as file:
                file.write(json.dumps([step, state]).encode())
        if STOP:
            return
    lease.write_result(Result(scores={"zero_shot_top1": loss_of(state)}))
    lease.append([{"step": steps, "finished": 1, "by": lease.token}])


def stop(signum: int, frame: Any) -> None:
    global STOP
    STOP = True


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
