"""Launchers start workers, report which jobs they still know, and stop them; they know nothing about models.

Success is in the run folder, never in a launcher's answer. Every worker is `python -m flipscale train FOLDER...`, and
the lease in each folder decides who does a run, so handing a run out twice wastes a process at most, never a training.
`submit`, `states`, `cancel` and the policy for failures are the same for every launcher.

    launcher.py, local/, slurm/, ray/            the interface of launchers, and each of them
    submit.py, order.py, pack.py                 which runs go out, in which order, and together
    attend.py, workers.py, stall.py              in a job: its runs are seen through, and hangs found
    policy.py, breaker.py                        the answer to a failure, and to one that all runs share
    states.py, progress.py, watch.py, screen.py  the state of runs, how far they are, and a display of both
    site.py, memory.py, probing.py               what a cluster is like, memory to ask it for, and probes

CONTRIBUTING.md tells what happens when a node dies.
"""

from flipscale.launch.launcher import Launcher, launcher_named
from flipscale.launch.local import gpus_here
from flipscale.launch.order import wall_clock
from flipscale.launch.probing import open_probes, submit_probe
from flipscale.launch.progress import ACTIVE, RunProgress, StudyProgress, rewritable, run_progress
from flipscale.launch.site import price_at, read_site
from flipscale.launch.states import RunState, StateReader, states
from flipscale.launch.submit import NO_REDO, Redo, Submission, cancel, held_back, preview, submit, submit_lock
from flipscale.launch.watch import wait, watch

__all__ = [
    "ACTIVE",
    "NO_REDO",
    "Launcher",
    "Redo",
    "RunProgress",
    "RunState",
    "StateReader",
    "StudyProgress",
    "Submission",
    "cancel",
    "gpus_here",
    "held_back",
    "launcher_named",
    "open_probes",
    "preview",
    "price_at",
    "read_site",
    "rewritable",
    "run_progress",
    "states",
    "submit",
    "submit_lock",
    "submit_probe",
    "wait",
    "wall_clock",
    "watch",
]
