"""The state of runs: by their folders, and if these leave it open, by their launchers' answers about jobs."""

import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from flipscale.launch.launcher import JobState, launcher_named
from flipscale.planning.runs import Run
from flipscale.run import Job, RunFolder, State

LONGEST_POLL_SECONDS = 60.0


def states(runs: Iterable[Run | RunFolder], results: Path) -> dict[str, State]:
    """The state of each run by id, in the order of the runs. Each launcher is asked once for all of its jobs."""
    return {run_id: run.state for run_id, run in StateReader(results).read(runs).items()}


def run_folder(results: Path, run_id: str) -> RunFolder:
    return RunFolder(f"{results}/runs/{run_id}")


class RunState(NamedTuple):
    """The observed state of a run."""

    state: State
    job: JobState
    files: frozenset[str]
    """The names of the files in its folder."""
    is_stopping: bool = False
    """Whether it runs, but somebody has cancelled it, so it is on its way to stop."""
    problem: str = ""
    """The damaged file because of which its job is unknown, in a sentence."""

    @property
    def says(self) -> str:
        """A remark on where it is, or why it waits."""
        if self.is_stopping:
            return "stopping, as it was cancelled"
        if self.state is State.LOST and not self.problem:
            return ", ".join(filter(None, [self.job.says, "`submit` resumes it"]))
        return self.job.says


class StateReader:
    """Reads run folders, and asks launchers if files leave the state open.

    An answer is valid for the launcher's poll_seconds, and for twice as long each time that nothing has changed, up to
    a minute. Whoever watches also rests for a multiple of what reading took.
    """

    def __init__(self, results: Path):
        self.results = results
        self.polls: dict[str, _Poll] = {}
        """The last one by launcher."""

    def read(self, runs: Iterable[Run | RunFolder], *, closely: bool = False) -> dict[str, RunState]:
        """The state of each run, and what its launcher says, by id. A launcher is asked once for all of its jobs."""
        states: dict[str, RunState] = {}
        jobs: dict[str, dict[Job, State]] = {}
        for run in runs:
            glance = run_folder(self.results, run.id).glance()
            state = glance.state()
            states[run.id] = RunState(state, JobState(None, glance.problem), glance.files, problem=glance.problem)
            # The launcher's answer matters if the files leave it open: 'lost' means 'unless it knows'. It may also
            # know the place of a running run.
            if glance.job is not None and state in (State.LOST, State.RUNNING):
                jobs.setdefault(glance.job.launcher, {})[glance.job] = state
        for name, of_launcher in jobs.items():
            answers = self._ask(name, of_launcher, closely)
            for job in of_launcher:
                states[job.run_id] = self._with_answer(job, answers[job.run_id], states[job.run_id])
        return states

    def _with_answer(self, job: Job, answer: JobState, before: RunState) -> RunState:
        """The state of a run after its launcher's answer."""
        if before.state is State.RUNNING:
            return before._replace(job=answer, is_stopping=job.cancelled is not None)
        if answer.state is State.WAITING:
            return before._replace(state=State.WAITING, job=answer)
        # Its folder again: a job may have finished its run after the first look, and be gone by now.
        glance = run_folder(self.results, job.run_id).glance()
        return RunState(glance.state(answer.state), answer, glance.files)

    def _ask(self, name: str, jobs: Mapping[Job, State], closely: bool) -> Mapping[str, JobState]:
        launcher = launcher_named(name, self.results)
        last = self.polls.get(name, _Poll())
        pause = last.pause if jobs == last.jobs else launcher.poll_seconds
        if time.monotonic() <= last.time + pause and all(job.run_id in last.answers for job in jobs):
            return last.answers
        answers = launcher.poll(list(jobs), closely=closely)
        is_quiet = jobs == last.jobs and answers == last.answers
        pause = min(2 * last.pause, LONGEST_POLL_SECONDS) if is_quiet else launcher.poll_seconds
        self.polls[name] = _Poll(time.monotonic(), pause, jobs, answers)
        return answers


class _Poll(NamedTuple):
    """A launcher's answer about jobs."""

    time: float = -math.inf
    pause: float = 0.0
    """Seconds for which it is valid."""
    jobs: Mapping[Job, State] = {}
    """The jobs that were asked about, with the states of their runs by their files."""
    answers: Mapping[str, JobState] = {}
