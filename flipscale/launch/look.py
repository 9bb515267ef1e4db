"""The state of runs: by their folders, and if these leave it open, by their launchers' answers about jobs."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from flipscale.launch.launcher import Whereabouts, launcher_named
from flipscale.plan import Run
from flipscale.run import Job, RunFolder, State


def states(runs: Iterable[Run | RunFolder], results: Path) -> dict[str, State]:
    """The state of each run by id, in the order of the runs. Each launcher is asked once for all of its jobs."""
    return {run_id: look.state for run_id, look in Looker(results).look(runs).items()}


def run_folder(results: Path, run_id: str) -> RunFolder:
    return RunFolder(f"{results}/runs/{run_id}")


ANSWER_SHARE = 1 / 20
"""Asking a launcher takes at most this share of the time."""

JOBS_A_SECOND = 100
"""An answer stays valid for at least a second per this many jobs that wait or run."""

LONGEST_PAUSE_SECONDS = 300.0


def _pause(least: float, jobs: int, took: float) -> float:
    """Seconds for which a launcher's answer stays valid.

    jobs: how many it knows. took: seconds that its answer took.
    """
    if not least:  # Asking costs nothing, as on this machine.
        return 0.0
    return max(least, min(LONGEST_PAUSE_SECONDS, max(jobs / JOBS_A_SECOND, took / ANSWER_SHARE)))


class Look(NamedTuple):
    """The observed state of a run."""

    state: State
    where: Whereabouts
    files: frozenset[str]
    """The names of the files in its folder."""
    is_stopping: bool = False
    """Whether it runs, but somebody has cancelled it, so it is on its way to stop."""
    problem: str = ""
    """The damaged file because of which its job is unknown, in a sentence."""

    @property
    def says(self) -> str:
        """A remark on where it is, or why it waits."""
        return "stopping, as it was cancelled" if self.is_stopping else self.where.says


class Looker:
    """Looks at run folders, and asks launchers if files leave it open.

    An answer is valid for the launcher's poll_seconds, and for longer if its queue is long or it answers slowly, to
    spare a busy controller.
    """

    def __init__(self, results: Path):
        self.results = results
        self.answers: dict[str, tuple[float, dict[str, Whereabouts]]] = {}
        """By launcher: until when (monotonic) an answer is valid, and the answer."""

    def look(self, runs: Iterable[Run | RunFolder], *, closely: bool = False) -> dict[str, Look]:
        """The state of each run, and what its launcher says, by id. A launcher is asked once for all of its jobs."""
        found: dict[str, Look] = {}
        jobs: dict[str, list[Job]] = {}
        for run in runs:
            glance = run_folder(self.results, run.id).glance()
            found[run.id] = Look(
                glance.state(), Whereabouts(None, glance.problem), glance.files, problem=glance.problem
            )
            # The launcher's answer matters if the files leave it open: 'lost' means 'unless it knows'. It may also
            # know the place of a running run.
            if glance.job is not None and found[run.id].state in (State.LOST, State.RUNNING):
                jobs.setdefault(glance.job.launcher, []).append(glance.job)
        for name, asked in jobs.items():
            for job, where in self._ask(name, asked, closely):
                found[job.run_id] = self._look_again(job, where, found[job.run_id])
        return found

    def _look_again(self, job: Job, where: Whereabouts, before: Look) -> Look:
        """The state of a run after its launcher's answer."""
        if before.state is State.RUNNING:
            return Look(State.RUNNING, where, before.files, is_stopping=job.cancelled is not None)
        if where.state is State.WAITING:
            return Look(State.WAITING, where, before.files)
        # Its folder again: a job may have finished its run after the first look, and be gone by now.
        glance = run_folder(self.results, job.run_id).glance()
        return Look(glance.state(where.state), where, glance.files)

    def _ask(self, name: str, jobs: Sequence[Job], closely: bool) -> Iterator[tuple[Job, Whereabouts]]:
        launcher = launcher_named(name, self.results)
        never: tuple[float, Mapping[str, Whereabouts]] = (-float("inf"), {})
        until, answers = self.answers.get(name, never)
        if time.monotonic() > until or any(job.run_id not in answers for job in jobs):
            began = time.monotonic()
            answers = launcher.poll(jobs, closely=closely)
            took = time.monotonic() - began
            stands = _pause(launcher.poll_seconds, sum(where.state is not None for where in answers.values()), took)
            self.answers[name] = (time.monotonic() + stands, dict(answers))
        return ((job, answers[job.run_id]) for job in jobs)
