"""The state of runs: by their folders, and if these leave it open, by their launchers' answers about jobs."""

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from flipscale.launch.launcher import JobState, launcher_named
from flipscale.planning import Run
from flipscale.run import Job, RunFolder, State


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

    An answer is valid for the launcher's poll_seconds; whoever watches also rests for a multiple of what reading took.
    """

    def __init__(self, results: Path):
        self.results = results
        self.answers: dict[str, tuple[float, Mapping[str, JobState]]] = {}
        """By launcher: until when (monotonic) an answer is valid, and the answer."""

    def read(self, runs: Iterable[Run | RunFolder], *, closely: bool = False) -> dict[str, RunState]:
        """The state of each run, and what its launcher says, by id. A launcher is asked once for all of its jobs."""
        states: dict[str, RunState] = {}
        jobs: dict[str, list[Job]] = {}
        for run in runs:
            glance = run_folder(self.results, run.id).glance()
            state = glance.state()
            states[run.id] = RunState(state, JobState(None, glance.problem), glance.files, problem=glance.problem)
            # The launcher's answer matters if the files leave it open: 'lost' means 'unless it knows'. It may also
            # know the place of a running run.
            if glance.job is not None and state in (State.LOST, State.RUNNING):
                jobs.setdefault(glance.job.launcher, []).append(glance.job)
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

    def _ask(self, name: str, jobs: Sequence[Job], closely: bool) -> Mapping[str, JobState]:
        until, answers = self.answers.get(name, (-float("inf"), {}))
        if time.monotonic() > until or any(job.run_id not in answers for job in jobs):
            launcher = launcher_named(name, self.results)
            answers = launcher.poll(jobs, closely=closely)
            self.answers[name] = (time.monotonic() + launcher.poll_seconds, answers)
        return answers
