"""Where runs run. A launcher starts workers, says which jobs it still knows, and stops them; it knows no models.

Success is in the run folder, never in what a launcher says. Every worker is `python -m flipscale train FOLDER...`, and
the lease in each folder decides who does a run, so handing a run out twice wastes a process at most, never a training.
`submit`, `states` and `cancel` are the same for every launcher, and so is what is done about a failure (policy.py).

launcher.py   what a launcher is; Request, Job, Whereabouts
site.py       the site file of a cluster
local/        this machine
slurm/        SLURM
ray/          Ray
pack.py       which runs belong together
memory.py     how much main memory a run needs
policy.py     what is done about a failure, by its kind
attend.py     sees a list of runs through inside a job
stall.py      when a run counts as stalled, and how it is ended
tree.py       a process and all that it started
progress.py   how far runs are, and how that is said
screen.py     the same as a screenful, for who watches
"""

import contextlib
import fcntl
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

from flipscale.errors import LaunchError
from flipscale.launch.attend import answer_failure
from flipscale.launch.launcher import LAUNCHERS, Job, Launcher, Request, Whereabouts, launcher_named
from flipscale.launch.local import gpus_here
from flipscale.launch.policy import resources_after
from flipscale.launch.progress import ACTIVE, PACE_SECONDS, RunProgress, StudyProgress, Voice, rewritable, run_progress
from flipscale.launch.screen import Screen
from flipscale.launch.site import Site, read_site
from flipscale.run import FailureKind, RunFolder, State
from flipscale.words import count
from flipscale.workspace import RUNS_FOLDER

if TYPE_CHECKING:
    from flipscale.plan import Run

__all__ = [
    "ACTIVE",
    "LAUNCHERS",
    "Job",
    "Launcher",
    "Looker",
    "Request",
    "RunProgress",
    "Screen",
    "Site",
    "StudyProgress",
    "Submission",
    "Voice",
    "Whereabouts",
    "cancel",
    "count",
    "gpus_here",
    "hand_over",
    "launcher_named",
    "preview",
    "read_site",
    "rewritable",
    "run_progress",
    "states",
    "submit",
    "wait",
    "watch",
]

STOPPING = "stopping, as it was cancelled"

LOOK_SECONDS = 0.5
"""While somebody watches, the run folders are looked at this often."""


# Submit


@dataclass(frozen=True)
class Submission:
    """What one submit did."""

    runs: tuple["Run", ...]
    """All it was given, in that order."""
    jobs: tuple[Job, ...]
    """What it started, the costliest run first."""
    skipped: Mapping[State, int]
    """How many runs it left alone, by their state."""
    stopping: int = 0
    """How many of the running ones somebody has cancelled, and are on their way to stop."""
    unanswered: str = ""
    """Why a launcher could not be asked about runs that were submitted before; empty if it could."""

    def summary(self) -> str:
        """'submitted 6 runs to local, left alone 2 finished, 1 running'."""
        to = f" to {self.jobs[0].launcher}" if self.jobs else ""
        # Of the failed, only diverged runs are left alone.
        more = {State.FAILED: " (diverged; --retry-diverged starts them again)"}
        if self.stopping:
            more[State.RUNNING] = f" ({self.stopping} still stopping, as cancelled; submit again when that is over)"
        if self.unanswered:
            more[State.WAITING] = f" as far as is known ({self.unanswered})"
        alone = ", ".join(f"{number} {state}{more.get(state, '')}" for state, number in self.skipped.items())
        return f"submitted {count(len(self.jobs), 'run')}{to}" + (f", left alone {alone}" if alone else "")


def submit(
    runs: Iterable["Run"],
    results: Path,
    launcher: str | Launcher,
    *,
    retry_diverged: bool = False,
    check: Callable[[Sequence["Run"]], None] | None = None,
) -> Submission:
    """Hand the runs that nobody does and that are not done to the launcher.

    Planned, lost, cancelled and failed runs go out; finished, running and waiting ones are left alone. A diverged run
    diverges again, so it is left alone too unless `retry_diverged`. LaunchError where nothing can be submitted, as the
    launcher of runs that were submitted before cannot be asked about them.

    check: is shown the runs that are to go out before anything is written; what it raises leaves all as it was.
    """
    if isinstance(launcher, str):
        launcher = launcher_named(launcher, results)
    once = {run.id: run for run in runs}
    with _submit_lock(results):
        to_do, alone = _to_do(once, results, retry_diverged)
        unanswered = _unanswered(to_do, alone)
        if check is not None:
            check([run for run, _ in to_do])
        requests = [_asked_again(run, results, where) for run, where in to_do]
        jobs = _hand_out(requests, launcher)
    stopping = sum(look.where.says == STOPPING for look in alone)
    counted = Counter(look.state for look in alone)
    return Submission(tuple(once.values()), tuple(jobs), dict(counted), stopping, unanswered)


def preview(runs: Iterable["Run"], results: Path, launcher: str | Launcher, *, retry_diverged: bool = False) -> str:
    """What `submit` would send to the launcher, for a person to read. Nothing is sent or written."""
    if isinstance(launcher, str):
        launcher = launcher_named(launcher, results)
    to_do, alone = _to_do({run.id: run for run in runs}, results, retry_diverged)
    _unanswered(to_do, alone)
    requests = []
    for run, _ in to_do:
        folder, asked = _folder(results, run.id), run.to_dict()
        requests.append(Request(folder, {**asked, "resources": resources_after(asked, folder.failures())}))
    return launcher.preview(requests) if requests else "There is nothing to submit.\n"


def hand_over(folders: Iterable[RunFolder], results: Path, launcher: Launcher) -> list[Job]:
    """Hand runs that a job has in hand, and that are neither over nor cancelled, to the launcher once more.

    LaunchError if it takes them not: then they are that job's as before.
    """
    with _submit_lock(results):
        requests = [
            Request(folder, asked)
            for folder in folders
            if not folder.is_over() and (asked := folder.asked()) is not None
        ]
        jobs = {request.id: Job.read(request.folder) for request in requests}
        try:
            return _hand_out(requests, launcher)
        except LaunchError:
            for request in requests:
                if (job := jobs[request.id]) and request.folder.job() is None:
                    job.write(request.folder)
            raise


def _to_do(
    runs: Mapping[str, "Run"], results: Path, retry_diverged: bool
) -> tuple[list[tuple["Run", Whereabouts]], list["Look"]]:
    """The runs to start, each with what its last launcher says of it, and what was seen of those to be left alone.

    The costliest comes first, so that no long run is left to one worker at the end.
    """
    ahead = _flops_ahead(runs)
    by_cost = sorted(runs.values(), key=lambda run: -ahead[run.id])
    found = Looker(results).look(by_cost, closely=True)
    to_do, alone = [], []
    for run in by_cost:
        look = found[run.id]
        if _is_to_do(_folder(results, run.id), look.state, retry_diverged):
            to_do.append((run, look.where))
        else:
            alone.append(look)
    return to_do, alone


def _unanswered(to_do: Sequence[object], alone: Sequence["Look"]) -> str:
    """Why a launcher could not be asked about some of the runs. LaunchError where so no run is left to do."""
    silent = [look.where.says for look in alone if look.state is State.WAITING and not look.where.answered]
    if silent and not to_do:
        raise LaunchError(
            f"Nothing is submitted: whether {count(len(silent), 'run')} that {'was' if len(silent) == 1 else 'were'} "
            f"submitted before still will be done is not known. {silent[0].rstrip('.')}. Submit again when that works."
        )
    return silent[0] if silent else ""


def _asked_again(run: "Run", results: Path, where: Whereabouts) -> Request:
    """The run, asked for in its folder. What ended it before goes to its failures, and what that taught is kept."""
    folder, asked = _folder(results, run.id), run.to_dict()
    error = folder.error()
    if error is not None and error.get("kind") in set(FailureKind) and not error.get("noted"):
        answer_failure(folder, FailureKind(error["kind"]), error.get("reason", ""))
    elif error is None and where.kind is not None:
        answer_failure(folder, where.kind, where.says)
    asked["resources"] = resources_after(asked, folder.failures())
    # Thousands of runs may be asked for, and each flush takes milliseconds: what a crash undoes is submitted again.
    folder.ask(asked, flush=False)
    folder.clear_for_retry()
    return Request(folder, asked)


def _hand_out(requests: Sequence[Request], launcher: Launcher) -> list[Job]:
    folders = {request.id: request.folder for request in requests}
    jobs = []
    for job in launcher.submit(requests) if requests else ():
        job.write(folders[job.run_id], flush=False)
        jobs.append(job)
    return jobs


def _flops_ahead(runs: Mapping[str, "Run"]) -> dict[str, float]:
    """What is to be computed from the start of each run to the end of the longest line of runs that start from it.

    A parent so comes before its children, and as early as its longest line needs. `runs` has parents before children.
    """
    ahead: dict[str, float] = {}
    for run in reversed(list(runs.values())):
        # An evaluation costs no training, yet its parent is to come before it.
        ahead[run.id] = ahead.get(run.id, 0) + run.cost.train_flops + 1
        for parent in run.parents:
            ahead[parent] = max(ahead.get(parent, 0), ahead[run.id])
    return ahead


def _is_to_do(folder: RunFolder, state: State, retry_diverged: bool) -> bool:
    if state is State.FAILED:
        error = folder.error()
        return retry_diverged or error is None or error.get("kind") != FailureKind.DIVERGED
    return state in (State.PLANNED, State.LOST, State.CANCELLED)


# Look, and stop


def states(runs: Iterable["Run"], results: Path) -> dict[str, State]:
    """The state of each run by id, in the order of the runs. Each launcher is asked once for all of its jobs."""
    return {run_id: look.state for run_id, look in Looker(results).look(runs).items()}


class Look(NamedTuple):
    """What was seen of a run."""

    state: State
    where: Whereabouts
    files: frozenset[str]
    """The names of the files in its folder."""


class Looker:
    """Looks at run folders, and asks launchers where files leave it open. What one said stands for its poll_seconds."""

    def __init__(self, results: Path):
        self.results = results
        self.answers: dict[str, tuple[float, dict[str, Whereabouts]]] = {}

    def look(self, runs: Iterable["Run | RunFolder"], *, closely: bool = False) -> dict[str, "Look"]:
        """The state of each run, and what its launcher says, by id. A launcher is asked once for all of its jobs."""
        found: dict[str, Look] = {}
        jobs: dict[str, list[Job]] = {}
        for run in runs:
            folder = _folder(self.results, run.id)
            glance = folder.glance()
            found[run.id] = Look(glance.state(), Whereabouts(None), glance.files)
            # Where the files leave it open it matters what the launcher says: 'lost' means 'unless it knows'. Of a run
            # that runs, the launcher may know where.
            if found[run.id].state in (State.LOST, State.RUNNING) and (job := Job.read(folder, glance.job)):
                jobs.setdefault(job.launcher, []).append(job)
        for name, asked in jobs.items():
            stopping = {job.run_id for job in asked if job.cancelled}
            for run_id, where in self._ask(name, asked, closely).items():
                if found[run_id].state is State.RUNNING:
                    says = STOPPING if run_id in stopping else where.says
                    found[run_id] = Look(State.RUNNING, Whereabouts(where.state, says), found[run_id].files)
                elif where.state == "waiting":
                    found[run_id] = Look(State.WAITING, where, found[run_id].files)
                else:
                    # Looked at again: a job may have finished its run after the first look, and be gone by now.
                    glance = _folder(self.results, run_id).glance()
                    found[run_id] = Look(glance.state(where.state), where, glance.files)
        return found

    def _ask(self, name: str, jobs: Sequence[Job], closely: bool) -> dict[str, Whereabouts]:
        launcher = launcher_named(name, self.results)
        when, answers = self.answers.get(name, (-float("inf"), {}))
        if time.monotonic() - when > launcher.poll_seconds or any(job.run_id not in answers for job in jobs):
            answers = launcher.poll(jobs, closely=closely)
            self.answers[name] = (time.monotonic(), answers)
        return {job.run_id: answers[job.run_id] for job in jobs}


def cancel(runs: Iterable["Run"], results: Path) -> list[str]:
    """Stop the runs that wait or run, and only those: their ids. `submit` goes on from their checkpoints."""
    jobs: dict[str, list[Job]] = {}
    with _submit_lock(results):
        for run_id, state in states(runs, results).items():
            folder = _folder(results, run_id)
            job = Job.read(folder)
            if state in (State.WAITING, State.RUNNING) and job is not None:
                # Marked before it is stopped, or another worker of the same list would take it up meanwhile.
                job = replace(job, cancelled=time.time())
                job.write(folder)
                jobs.setdefault(job.launcher, []).append(job)
        for name, cancelled in jobs.items():
            launcher_named(name, results).cancel(cancelled)
    return [job.run_id for cancelled in jobs.values() for job in cancelled]


# Watch


def watch(runs: Sequence["Run"], results: Path, *, every: float = LOOK_SECONDS) -> Iterator[StudyProgress]:
    """How the study goes, again and again, until no run waits or runs; what it yields last is how it ended."""
    flops = {run.id: run.cost.train_flops for run in runs}
    hours = {run.id: run.cost.gpu_hours for run in runs}
    ended: dict[str, RunProgress] = {}
    looker = Looker(results)
    at_first: float | None = None
    paced_from = 0.0
    while True:
        # What has ended is not looked at again: a study may have thousands of runs.
        found = looker.look([run for run in runs if run.id not in ended])
        seen = dict(ended)
        for run in runs:
            if run.id in found:
                state, where, files = found[run.id]
                seen[run.id] = run_progress(_folder(results, run.id), state, run.cost.samples, where.says, files)
        ended = {run_id: run for run_id, run in seen.items() if run.state in (State.FINISHED, State.FAILED)}

        done = sum(flops[run_id] * run.done for run_id, run in seen.items())
        to_come = sum(flops[run_id] * (1 - run.done) for run_id, run in seen.items() if run.state in ACTIVE)
        if at_first is None:
            began = time.monotonic()
        elapsed = time.monotonic() - began
        if at_first is None or done < at_first:  # A resumed run begins at its checkpoint, before its last record.
            at_first, paced_from = done, elapsed
        paced = elapsed - paced_from
        pace = (done - at_first) / paced if done > at_first else 0.0  # FLOPs a second
        speed = sum(
            (run.images_per_second or 0.0) * flops[run_id] / run.total
            for run_id, run in seen.items()
            if run.state is State.RUNNING and run.total
        )
        # Evaluations and starts are in the pace only, so it is right in the end; until then the recorded speed is.
        per_second = pace if pace and (paced >= PACE_SECONDS or not speed) else speed
        running = [run for run in seen.values() if run.state is State.RUNNING]
        if running and all(run.quiet for run in running):
            per_second = 0.0  # What was done before says nothing of when they will be.
        progress = StudyProgress(
            runs=tuple(seen[run.id] for run in runs),
            done=done / (sum(flops.values()) or 1),
            elapsed=elapsed,
            left=to_come / per_second if per_second else None,
            hours=sum(hours.values()),
            hours_done=sum(hours[run_id] * run.done for run_id, run in seen.items()),
        )
        yield progress
        if not progress.active:
            return
        time.sleep(every)


def wait(
    submission: Submission, results: Path, stream: TextIO | None = None, *, every: float = LOOK_SECONDS
) -> StudyProgress:
    """Say on `stream` (stderr) how all runs of the submission's study go until none waits or runs: how they ended.

    Ctrl-C on this machine's runs cancels those that this submission handed out, not those that somebody else had:
    KeyboardInterrupt is raised when each has written its checkpoint. A second Ctrl-C leaves at once; the runs stop by
    themselves. A cluster's runs go on.
    """
    voice = Voice(stream or sys.stderr)
    try:
        for progress in watch(submission.runs, results, every=every):
            voice.follow(progress, results)
        return progress
    except KeyboardInterrupt:
        if not submission.jobs:
            voice.say("Nothing was started here, so nothing is stopped; `flipscale cancel` stops what others started.")
            raise
        if not launcher_named(submission.jobs[0].launcher, results).ends_with_the_watcher:
            voice.say("The runs go on; `flipscale status` looks at them again, `flipscale cancel` stops them.")
            raise
        voice.say("Stopping. Each run writes a checkpoint first.")
        mine = {job.run_id for job in submission.jobs}
        stopped = cancel([run for run in submission.runs if run.id in mine], results)
        voice.say(f"Cancelled {count(len(stopped), 'run')}; `flipscale submit` goes on from their checkpoints.")
        raise


def _folder(results: Path, run_id: str) -> RunFolder:
    return RunFolder(f"{results}/{RUNS_FOLDER}/{run_id}")


@contextlib.contextmanager
def _submit_lock(results: Path) -> Iterator[None]:
    """Nobody else submits or cancels in this results folder while the block runs; who comes second waits."""
    results.mkdir(parents=True, exist_ok=True)
    with open(results / ".submit.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
