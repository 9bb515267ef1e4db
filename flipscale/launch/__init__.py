"""Launchers start workers, report which jobs they still know, and stop them; they know nothing about models.

Success is in the run folder, never in a launcher's answer. Every worker is `python -m flipscale train FOLDER...`, and
the lease in each folder decides who does a run, so handing a run out twice wastes a process at most, never a training.
`submit`, `states`, `cancel` and the policy for failures (policy.py) are the same for every launcher.

submit.py     hands runs to a launcher, and stops them
order.py      the order in which runs go out: twins side by side
probing.py    a probe: a folder in which shapes are timed
look.py       in which state runs are
watch.py      follows a study to its end
redo.py       which runs are trained anew
wallclock.py  the wall-clock time of runs on a number of workers
launcher.py   the interface of launchers; Request, Whereabouts, Attempt
site.py       the site file of a cluster
local/        this machine
slurm/        SLURM
ray/          Ray
pack.py       which runs belong together
memory.py     how much main memory a run needs
policy.py     the answer to a failure, by its kind
attend.py     sees a list of runs through inside a job
workers.py    the workers of an attendant, and why one died
answers.py    an attendant's answers to failures
breaker.py    stops a submission whose first runs all fail at once
stall.py      when a run counts as stalled, and how it is ended
tree.py       a process and all its descendants
progress.py   the progress of runs, and its words
screen.py     the same as a screenful, for `watch`
"""

from flipscale.launch.launcher import LAUNCHERS, Launcher, Request, Whereabouts, launcher_named
from flipscale.launch.local import gpus_here
from flipscale.launch.look import Look, Looker, states
from flipscale.launch.probing import open_probes, probe_of, submit_probe
from flipscale.launch.progress import ACTIVE, RunProgress, StudyProgress, Voice, rewritable, run_progress
from flipscale.launch.redo import NO_REDO, Redo
from flipscale.launch.screen import Screen
from flipscale.launch.site import Site, price_at, read_site
from flipscale.launch.submit import Submission, cancel, hand_over, preview, submit, submit_lock
from flipscale.launch.wallclock import WallClock, wall_clock
from flipscale.launch.watch import wait, watch

__all__ = [
    "ACTIVE",
    "LAUNCHERS",
    "NO_REDO",
    "Launcher",
    "Look",
    "Looker",
    "Redo",
    "Request",
    "RunProgress",
    "Screen",
    "Site",
    "StudyProgress",
    "Submission",
    "Voice",
    "WallClock",
    "Whereabouts",
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
