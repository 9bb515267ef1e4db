"""Follows a study until none of its runs waits or runs."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from flipscale.launch.launcher import Launcher, NoPlace, launcher_named
from flipscale.launch.order import seconds_of_run
from flipscale.launch.progress import ACTIVE, PACE_SECONDS, RunProgress, StudyProgress, run_progress
from flipscale.launch.states import StateReader
from flipscale.launch.submit import Submission, cancel, submit
from flipscale.planning.runs import Run
from flipscale.run import State
from flipscale.words import count

LOOK_SHARE = 4
"""The pause between looks is this many times as long as the last look took."""

LONGEST_REST_SECONDS = 30.0

FOLLOW_SECONDS = 0.5
"""Seconds between looks at the run folders while somebody watches."""


def watch(
    runs: Sequence[Run],
    results: Path,
    *,
    every: float = FOLLOW_SECONDS,
    more: Callable[[StudyProgress], bool] = lambda progress: False,
) -> Iterator[StudyProgress]:
    """The study's progress, again and again, until no run waits or runs; the last one yielded is how it ended.

    more: is shown each, and whether others are still to be sent.
    """
    study = _Watched(runs, results)
    while True:
        began = time.monotonic()
        progress = study.look()
        took = time.monotonic() - began
        yield progress
        if not more(progress) and not progress.active:
            return
        # Thousands of folders on a shared disk take a while.
        time.sleep(max(every, min(LONGEST_REST_SECONDS, LOOK_SHARE * took)))


def _sender(submission: Submission, results: Path, launcher: Launcher | None) -> Callable[[StudyProgress], bool]:
    """A function that sends runs of the submission for which there was no place, if others have ended since it was
    called last, and says whether some were still to be sent.

    Raises NoPlace where no run is active and there is still no place: other jobs of the user hold all of them.
    """
    unsent = submission.unsent
    before = -1

    def send(progress: StudyProgress) -> bool:
        nonlocal unsent, before
        active = sum(map(progress.count, ACTIVE))
        if not unsent or launcher is None or progress.count(State.CANCELLED):
            return False
        if active < before:
            try:
                unsent = submit(unsent, results, launcher, to_score=submission.to_score).unsent
            except NoPlace:
                if not active:
                    raise
        before = active
        return True

    return send


class _Watched:
    """A study that is watched."""

    def __init__(self, runs: Sequence[Run], results: Path):
        self.runs = runs
        self.results = results
        self.flops = {run.id: run.cost.train_flops or 1 for run in runs}  # 1: a checkpoint is only scored.
        self.hours = {run.id: run.cost.gpu_hours for run in runs}
        self.is_timed = all(run.timed for run in runs)
        self.work = {run.id: seconds_of_run(run) for run in runs} if self.is_timed else self.flops
        """The work of each run, by which time is predicted: the seconds of a probe, or else FLOPs."""
        self.began = time.monotonic()
        self._start: tuple[float, float] | None = None
        """When the pace began to be measured, in seconds of watching, and how much work was done then."""
        self._reader = StateReader(results)
        self._ended: dict[str, RunProgress] = {}
        """Ended runs are not looked at again: a study may have thousands of runs."""

    def look(self) -> StudyProgress:
        looks = self._reader.read([run for run in self.runs if run.id not in self._ended])
        seen = tuple(
            run_progress(run, self.results, looks[run.id]) if run.id in looks else self._ended[run.id]
            for run in self.runs
        )
        self._ended = {run.id: run for run in seen if run.state in (State.FINISHED, State.FAILED)}
        elapsed = time.monotonic() - self.began
        return StudyProgress(
            runs=seen,
            done=_done(seen, self.flops) / (sum(self.flops.values()) or 1),
            elapsed=elapsed,
            left=self._left(seen, elapsed),
            hours=sum(self.hours.values()),
            is_timed=self.is_timed,
            hours_done=_done(seen, self.hours),
        )

    def _left(self, seen: Sequence[RunProgress], elapsed: float) -> float | None:
        """Seconds until the runs under way are done; None if unknown."""
        on_the_way = [run for run in seen if run.state in ACTIVE]
        running = [run for run in on_the_way if run.state is State.RUNNING]
        per_second = self._work_per_second(running, elapsed, _done(seen, self.work))
        if running and all(run.quiet for run in running):
            return None  # Past speed says nothing about when silent runs will end.
        return sum(self.work[run.id] * (1 - run.done) for run in on_the_way) / per_second if per_second else None

    def _work_per_second(self, running: Sequence[RunProgress], elapsed: float, done: float) -> float:
        """How fast the running runs are; 0 if unknown.

        Only the pace includes evaluations and starts, so it is the better guide later, and the recorded speed at first.
        """
        if self._start is None or done < self._start[1]:  # A resumed run begins at its checkpoint.
            self._start = elapsed, done
        since, before = self._start
        pace = (done - before) / (elapsed - since) if done > before else 0.0
        speed = sum(
            (run.images_per_second or 0.0) * self.work[run.id] / (run.total - run.on_trunk)
            for run in running
            if run.total
        )
        return (pace or speed) if elapsed - since >= PACE_SECONDS else (speed or pace)


def _done(runs: Sequence[RunProgress], work: Mapping[str, float]) -> float:
    """How much of this work of the runs is done."""
    return sum(work[run.id] * run.done for run in runs)


def wait(
    submission: Submission,
    results: Path,
    stream: TextIO | None = None,
    *,
    every: float = FOLLOW_SECONDS,
    launcher: Launcher | None = None,
    study: str = "runs",
    unit: str = "GPU-hours",
    score: str | None = None,
) -> StudyProgress:
    """Show on `stream` (stderr) how the submission's runs go until none waits or runs. Returns how they ended.

    launcher: gets what the submission had no place for, as places become free.

    Ctrl-C on this machine's runs cancels those that this submission handed out, not those that somebody else had:
    KeyboardInterrupt is raised when each has written its checkpoint. A second Ctrl-C leaves at once; the runs still
    stop. A cluster's runs go on.
    """
    from flipscale.launch.screen import Display  # It loads rich.

    job = submission.jobs[0] if submission.jobs else None
    are_stopped = job is not None and launcher_named(job.launcher, results).ends_with_the_watcher
    ctrl_c = "stops the runs; each writes a checkpoint first" if are_stopped else "leaves; the runs go on"
    display = Display(stream or sys.stderr, study, unit=unit, score=score, ctrl_c=ctrl_c)
    try:
        with display:
            for progress in watch(submission.runs, results, every=every, more=_sender(submission, results, launcher)):
                display.follow(progress, results)
        return progress
    except KeyboardInterrupt:
        if job is None:
            display.say(
                "Nothing was started here, so nothing is stopped; `flipscale cancel` stops what others started."
            )
            raise
        if not are_stopped:
            display.say("The runs go on; `flipscale status` looks at them again, `flipscale cancel` stops them.")
            raise
        display.say("Stopping. Each run writes a checkpoint first.")
        mine = {job.run_id for job in submission.jobs}
        stopped = cancel([run for run in submission.runs if run.id in mine], results)
        display.say(f"Cancelled {count(len(stopped), 'run')}; `flipscale submit` goes on from their checkpoints.")
        raise
