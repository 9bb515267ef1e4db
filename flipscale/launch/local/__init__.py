"""Runs on this machine: one worker for each GPU, or for each core without GPUs, and one list of runs for all.

A worker is an attendant (task.py), which starts `train` on the whole list and sees it through as on a cluster. `train`
does runs that no other process holds, so the leases are the queue. Workers have their own sessions and outlive the
terminal.
A second submission waits for the first one's GPUs and cores: each has a lock, which a worker holds for life. A
submission is a folder, results/local/NAME:

    workers.json     the list of runs, and the workers: pid, birth, GPUs or core, log
    worker-K.log     the output of worker K
    stopped.json     why the whole submission stopped, if it did

launcher.py   the launcher, the workers of a submission, the GPUs and cores of this machine
task.py       the work of a worker
"""

from flipscale.launch.local.launcher import LocalLauncher, gpus_here

__all__ = ["LocalLauncher", "gpus_here"]
