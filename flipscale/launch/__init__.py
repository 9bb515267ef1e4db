"""Launchers start workers, report which jobs they still know, and stop them; they know nothing about models.

Success is in the run folder, never in a launcher's answer. Every worker is `python -m flipscale train FOLDER...`, and
the lease in each folder decides who does a run, so handing a run out twice wastes a process at most, never a training.
`submit`, `states`, `cancel` and the policy for failures (policy.py) are the same for every launcher.

launcher.py   the interface of launchers; Request, JobState, Attempt
site.py       the site file of a cluster
submit.py     hands runs to a launcher, trains runs anew, sends probes, and stops runs
order.py      the order in which runs go out, and their wall time in it
states.py     in which state runs are
pack.py       which runs share a job or a device
memory.py     how much main memory a run needs
policy.py     the answer to a failure, by its kind
attend.py     sees a list of runs through inside a job; stops a submission whose first runs all fail
workers.py    the workers of an attendant, and why one died
stall.py      when a run counts as stalled, and how its processes are ended
progress.py   the progress of runs, and its words
watch.py      follows a study to its end
screen.py     the same as a screenful
local/        this machine
slurm/        SLURM
ray/          Ray
"""

from flipscale.launch.launcher import JobState, Launcher, Request, launcher_named
from flipscale.launch.local import gpus_here
from flipscale.launch.order import WallClock, wall_clock
from flipscale.launch.progress import ACTIVE, RunProgress, StudyProgress, Voice, rewritable, run_progress
from flipscale.launch.site import Site, price_at, read_site
from flipscale.launch.states import RunState, StateReader, states
from flipscale.launch.submit import (
    NO_REDO,
    Redo,
    Submission,
    cancel,
    hand_over,
    open_probes,
    preview,
    probe_of,
    submit,
    submit_lock,
    submit_probe,
)
from flipscale.launch.watch import wait, watch

__all__ = [
    "ACTIVE",
    "NO_REDO",
    "JobState",
    "Launcher",
    "Redo",
    "Request",
    "RunProgress",
    "RunState",
    "Site",
    "StateReader",
    "StudyProgress",
    "Submission",
    "Voice",
    "WallClock",
    "cancel",
    "gpus_here",
    "hand_over",
    "launcher_named",
    "open_probes",
    "preview",
    "price_at",
    "probe_of",
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
