"""Sees a list of runs through inside a job: starts `train` on the remaining runs and handles each failure by policy.py.

A scheduler knows when a job's time is over, but nothing about runs; `train` knows its runs, but not why it was killed.
An attendant works between them for as long as the job lives: it passes the scheduler's warning on, distinguishes a run
that ran out of memory from one whose code is wrong, and restarts or gives up as policy.py says. It needs no torch.
"""

import contextlib
import enum
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flipscale.launch.breaker import Breaker
from flipscale.launch.launcher import Attempt
from flipscale.launch.policy import answer_failure
from flipscale.launch.stall import end_stalled, why_stalled
from flipscale.launch.workers import ASKED_TO_STOP, STOP_SIGNAL, Death, Started, Workers
from flipscale.run import FailureKind, Holder, RunFolder, clock_ahead

AROUND_SECONDS = 1.0
"""How often run folders are checked for what others did to them. Each check reads several files per run."""


class Ending(enum.Enum):
    DONE = "nothing is left to do here"
    STOPPED = "a signal came; the remaining runs continue in another attempt"
    AWAY = "this node failed; the remaining runs continue elsewhere"


@dataclass(frozen=True)
class Claims:
    """Which runs an attempt of a job holds, and which are in other hands."""

    folders: Sequence[RunFolder]
    attempt: Attempt
    ahead: float = 0.0
    """Seconds by which the clock that dates the runs' files is ahead of this machine's."""

    def is_held(self, run: RunFolder) -> bool:
        """Whether another process holds the run and this attempt must not replace it."""
        holder = run.holder()
        return holder is not None and holder.alive and not self.is_of_an_earlier_one(holder)

    def is_mine(self, run: RunFolder) -> bool:
        """Whether a worker of this attempt has the run in hand or died with it: an orderly end leaves no lease."""
        holder = run.holder()
        return holder is not None and self.is_of_this_attempt(holder)

    def is_of_this_attempt(self, holder: Holder) -> bool:
        """Compares nodes too: if sbatch sent an array twice as its first answer was lost, two jobs have one name."""
        of_job = (holder.job, holder.attempt) == (self.attempt.job, self.attempt.number)
        return of_job and (not self.attempt.node or holder.node in (self.attempt.node, ""))

    def dead_holder(self, run: RunFolder) -> Holder | None:
        """The dead worker of this attempt whose lease is still in the run's folder, once no worker is left.

        A holder that lives on this machine belongs to the other job of the same name.
        """
        holder = run.holder()
        if holder is None or not self.is_of_this_attempt(holder) or (holder.is_here and holder.alive):
            return None
        return holder

    def is_of_an_earlier_one(self, holder: Holder) -> bool:
        return holder.job == self.attempt.job and holder.attempt < self.attempt.number

    @property
    def are_superseded(self) -> bool:
        """Whether a later attempt of the same job is at work: the scheduler has given this one up."""
        holders = [holder for run in self.folders if (holder := run.holder())]
        return any(holder.job == self.attempt.job and holder.attempt > self.attempt.number for holder in holders)

    def begun_since(self, when: float) -> list[RunFolder]:
        """The runs that a worker of this attempt holds or has written to since then, by this machine's clock."""
        names = ("checkpoint.pt", "metrics.jsonl", "log.txt")
        files = [(run, run.path / name) for run in self.folders for name in names]
        ids = {run.id for run, path in files if path.exists() and path.stat().st_mtime >= when + self.ahead}
        return [run for run in self.folders if run.id in ids or self.is_mine(run)]


class Attendant:
    """Sees the runs of `folders` through. `work` does it; `note` receives the signals that the job gets."""

    def __init__(
        self,
        folders: Sequence[RunFolder],
        attempt: Attempt,
        workers: Workers,
        breaker: Breaker,
        *,
        node_failed: Callable[[str], bool] = lambda node: False,
        elsewhere: bool = True,
        stalled: int | str | None = None,
    ):
        """attempt: the attempt of the job in which it works. node_failed: whether the scheduler considers a node lost.
        elsewhere: whether there are other nodes. stalled: the site's limits for stalls, see stall.py."""
        self.folders = list(folders)
        self.attempt = attempt
        self.claims = Claims(self.folders, attempt, clock_ahead(breaker.folder))
        self.workers = workers
        self.breaker = breaker
        self.node_failed = node_failed
        self.stalled = stalled
        self.is_away = False
        """Whether the remaining runs have to go to another node."""
        self._stays = not elsewhere
        self._is_idle = False
        """Whether a worker has found nothing to begin with, and no run has become free again since."""
        self.signal: int | None = None
        self.in_hand: list[RunFolder] = []
        """Runs that workers had begun and not ended when `work` ended."""
        self.began = time.time()
        self._cancelled: set[str] = set()
        """Runs in hand that somebody cancelled, and that are on their way to stop."""
        self._stalls: dict[str, str] = {}
        """Runs whose process was killed here because it had stalled, and the evidence."""

    def note(self, signum: int, frame: Any = None) -> None:
        self.signal = self.signal or signum

    def work(self) -> Ending:
        """Work until all runs are done, a signal comes, or the remaining runs have to go elsewhere."""
        self._take_stock()
        while True:
            if self._is_to_stop():
                self.workers.ask_to_stop()
            else:
                self._look_around()
                if self.workers.has_room and not self._is_idle and not all(map(self.claims.is_held, left := self.left)):
                    self.workers.fill(left)
            if not self.workers:
                break
            # Not for long: a signal may have come, or others may have done something to the runs.
            self.workers.wait(AROUND_SECONDS)
            for worker in self.workers.ended():
                self._judge(worker)
        return self._end()

    def stay(self) -> None:
        """Continue here after all: the remaining runs can be done nowhere else."""
        self._stays = True
        self.is_away = False
        self.workers.stopping_since = None

    def give_up(self, reason: str) -> None:
        """Fail the remaining runs, as they cannot be done here at all."""
        for run in self.left:
            self.answer(run, FailureKind.CODE, reason, took=0.0)

    def note_interruption(self, kind: FailureKind, reason: str) -> None:
        """Write down that the runs in hand were interrupted, and give up those that never make progress."""
        for run in self.in_hand:
            self.answer(run, kind, reason)

    def take_over(self, reason: str) -> None:
        """Note that the attendant before this one in the same attempt ended without a word: for the runs that it had in
        hand, else for the one that it would have begun with."""
        self.in_hand = [run for run in self.left if self.claims.is_mine(run)] or self.left[:1]
        self.note_interruption(FailureKind.NODE, reason)

    @property
    def left(self) -> list[RunFolder]:
        return [run for run in self.folders if not run.is_over()]

    # The work

    def _is_to_stop(self) -> bool:
        return bool(self.signal or self.is_away or self.claims.are_superseded or self.breaker.tripped)

    def _end(self) -> Ending:
        """How the work ended, with the leases of this attempt dropped."""
        if self.claims.are_superseded:
            return Ending.DONE
        begun = self.claims.begun_since(self.began)
        dead = {run.id: holder for run in self.left if (holder := self.claims.dead_holder(run))}
        self.in_hand = [run for run in begun if not run.is_over() and (run.id in dead or not self.claims.is_held(run))]
        for run in self.left:
            if run.id in dead:
                run.release(dead[run.id])  # No worker is left. Another host could not know.
        if self.signal:
            return Ending.STOPPED
        return Ending.AWAY if self.is_away else Ending.DONE

    def _look_around(self) -> None:
        """Stop the runs in hand that somebody has cancelled, and end those that have stalled.

        The worker ends with it, and another takes up the rest.
        """
        for run in self.folders:
            holder = run.holder()
            if not holder or not holder.alive or not self.claims.is_of_this_attempt(holder):
                continue
            if run.is_cancelled:
                self._stop(run, holder)
            elif run.id not in self._stalls and (why := why_stalled(run, self.stalled, ahead=self.claims.ahead)):
                self._end_stalled(run, holder, why)

    def _stop(self, run: RunFolder, holder: Holder) -> None:
        self._cancelled.add(run.id)
        if not holder.may_be_signalled(run.path):
            self.workers.send_signal(STOP_SIGNAL)
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(holder.pid, signal.SIGTERM)

    def _end_stalled(self, run: RunFolder, holder: Holder, why: str) -> None:
        self._stalls[run.id] = why
        if holder.may_be_signalled(run.path):
            end_stalled(run, holder.pid, why)
        else:
            self.workers.terminate()

    # Failures

    def answer(
        self,
        run: RunFolder,
        kind: FailureKind,
        reason: str,
        *,
        at: Attempt | None = None,
        took: float | None = None,
        by_its_error: bool = False,
        node: str | None = None,
    ) -> None:
        """Make the run free for another start, or give it up.

        at: the attempt that failed, None for this one. took: seconds from the start to the failure. by_its_error:
        whether the run's own error.json says so. node: the one that failed; None is the attempt's first node.
        """
        at = at or self.attempt
        failed_at = replace(at, node=node or at.node)
        decision = answer_failure(run, kind, reason, at=failed_at, elsewhere=not self._stays, took=took)
        if decision.again:
            asked = run.asked()
            if asked is not None and decision.resources != asked.resources:
                run.ask(replace(asked, resources=decision.resources))
            (run.path / "error.json").unlink(missing_ok=True)  # From here on anybody may take it up.
            self.is_away = self.is_away or (decision.away and not self._stays and at.node == self.attempt.node)
            self._is_idle = False
            return
        if by_its_error and run.error() is None:
            return  # somebody has submitted it again meanwhile, and it is another job's
        self._fail(run, kind, f"{_sentence(reason)} {_sentence(decision.says)}", took=took)

    def _fail(self, run: RunFolder, kind: FailureKind, reason: str, *, took: float | None = None) -> None:
        run.write_error(kind, reason, seconds=took, noted=True)
        self.breaker.look(run)

    def _take_stock(self) -> None:
        """Note the interruption of runs that an earlier attempt held when it ended without a trace: its node was lost,
        or it was pre-empted without grace. Its worker may still have stopped in order."""
        for run in self.left:
            before = run.holder() or run.last_holder()
            if not before or not self.claims.is_of_an_earlier_one(before) or self._is_noted(run, before):
                continue
            kind = FailureKind.PREEMPTED
            what = "the job was removed from its node without warning"
            if self.node_failed(before.node):
                kind = FailureKind.NODE
                what = f"the node {before.node} was lost"
            at = replace(self.attempt, number=before.attempt, node=before.node)
            self.answer(run, kind, f"In attempt {before.attempt + 1} {what}.", at=at)

    def _is_noted(self, run: RunFolder, before: Holder) -> bool:
        """Whether the attempt of `before` has noted its own end, as on a node that only SLURM considers lost."""
        return any(
            (failed.job, failed.attempt) == (before.job, before.attempt)
            and (failed.time is None or failed.time >= before.taken)
            for failed in run.failures()
        )

    def _was_lost(self, run: RunFolder) -> bool:
        """Whether a worker of this attempt held the run before its holder, and its end is not noted."""
        last = run.last_holder()
        return last is not None and self.claims.is_of_this_attempt(last) and not self._is_noted(run, last)

    def _judge(self, worker: Started) -> None:
        """Handle the end of a worker."""
        if self.claims.are_superseded:
            return
        died = self._died()
        any_failed = self._answer_errors(worker)
        if self.workers.stopping_since is not None:
            return
        death = self.workers.death(worker, did_something=lambda: bool(self.claims.begun_since(worker.began)))
        if not died and death:  # Another attendant's worker may have taken the run up before this look.
            died = [*filter(self._was_lost, self.left)]
        if died:
            self._answer_deaths(died, worker, death)
        elif self._cancelled or self._stalls:
            # It ended for that reason, and the remaining runs are unaffected.
            self._cancelled.clear()
            self._stalls.clear()
        elif not any_failed and (free := [run for run in self.left if not self.claims.is_held(run)]):
            self._judge_idle(free[0], worker, death)

    def _died(self) -> list[RunFolder]:
        """The runs that workers of this attempt left behind as they died."""
        # Where no worker is left, none of them can hold anything, whatever a lease from another host says.
        if not self.workers:
            return [run for run in self.left if self.claims.dead_holder(run)]
        return [run for run in self.left if self.claims.is_mine(run) and not self.claims.is_held(run)]

    def _answer_errors(self, worker: Started) -> bool:
        """Handle the failures recorded in error.json files. Returns whether there were any."""
        failed = [(run, error) for run in self.folders if (error := run.error()) and not error.noted]
        # They are of workers of this job, or do not say whose they are.
        failed = [(run, error) for run, error in failed if error.job in (None, self.attempt.job)]
        for run, error in failed:
            took = time.time() - worker.began if error.seconds is None else error.seconds
            node = error.node or self.workers.failed_node(worker)
            self.answer(run, error.kind, error.reason, took=took, by_its_error=True, node=node)
        return bool(failed)

    def _answer_deaths(self, died: Sequence[RunFolder], worker: Started, death: Death | None) -> None:
        """Handle the failures of runs that a worker had in hand when it died."""
        if death is None:
            last_words = self.workers.last_words(worker)
            death = Death(FailureKind.CODE, f"Its process ended with code {worker.code}{last_words}")
        for run in died:
            holder = run.holder()  # Its lease says when it took the run: it may have done others before.
            took = time.time() - (holder.taken if holder and self.claims.is_of_this_attempt(holder) else worker.began)
            if why := self._stalls.pop(run.id, None):
                self.answer(run, FailureKind.STALLED, why, took=took)
            else:
                self.answer(run, death.kind, death.reason, took=took, node=self.workers.failed_node(worker))

    def _judge_idle(self, first: RunFolder, worker: Started, death: Death | None) -> None:
        """Handle the end of a worker that did nothing: `first` is the run that it would have begun with."""
        took = time.time() - worker.began
        if death is None and worker.signal in ASKED_TO_STOP:
            self.note(worker.signal)  # The scheduler asked the worker to stop, and us a little later.
        elif death is None:
            # What is left is in other hands, or cannot be read: another worker would do no better.
            self._is_idle = True
        elif death.kind is FailureKind.OOM:
            # Splitting the batch does not help where the program alone does not fit.
            reason = f"{death.reason} It had not started: raise memory_per_process in the site file."
            self._fail(first, death.kind, reason, took=took)
        else:
            node = self.workers.failed_node(worker)
            self.answer(first, death.kind, f"{death.reason} It had not started.", took=took, node=node)


def _sentence(words: str) -> str:
    """With a capital and a full stop; a path, id or setting that comes first stays as it is."""
    if not words:
        return ""
    first = words.split(maxsplit=1)[0]
    begun = f"{words[:1].upper()}{words[1:]}" if first.strip(",;").isalpha() else words
    return f"{begun}{'' if words.endswith(('.', '!', '?')) else '.'}"
