"""A worker of this machine: `python -m flipscale.launch.local.task SUBMISSION NUMBER LOCK,LOCK COMMAND...`.

It waits for the locks of its GPUs or its core, given as inherited descriptors, then an attendant sees the runs of the
submission through beside the other workers. Its children hold the locks too, so if the worker is killed they are not
given out again before the training, which the kernel then asks to stop, has ended.
"""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from flipscale.launch.attend import Attendant
from flipscale.launch.breaker import Breaker
from flipscale.launch.launcher import Attempt
from flipscale.launch.local.launcher import LocalQueue, worker_log
from flipscale.launch.workers import ASKED_TO_STOP, Workers, ends_with_this_process
from flipscale.run import JOB


def main(path: Path, number: int, locks: Sequence[int], command: Sequence[str]) -> int:
    for lock in locks:
        fcntl.flock(lock, fcntl.LOCK_EX)
    queue = LocalQueue.read(path)
    assert queue is not None, "it is written before its workers are started"
    runs = queue.folders(path)
    workers = Workers(
        lambda runs, _: subprocess.Popen(
            ends_with_this_process([*command, *(str(run.path) for run in runs)]),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=locks,
        ),
        worker_log(path, number),
    )
    # The machine has no name that a scheduler would know, and is not to be avoided.
    attempt = Attempt(os.environ[JOB], number=0, node="")
    attendant = Attendant(runs, attempt, workers, Breaker(path, lambda: runs), elsewhere=False)
    for signum in ASKED_TO_STOP:
        signal.signal(signum, attendant.note)
    attendant.work()
    return 0


if __name__ == "__main__":
    raise SystemExit(
        main(Path(sys.argv[1]), int(sys.argv[2]), [int(lock) for lock in sys.argv[3].split(",")], sys.argv[4:])
    )
