"""What a job does: `train` takes the folders of runs and does each run that nobody else does and that is not done.

A run whose settings name another trainer is handed to it, an evaluation of a finished run is evaluated, and all others
are trained here, by one process or several. What goes wrong in one run is written into its folder, by kind, and the
next run is taken.
"""

import contextlib
import enum
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from flipscale.errors import Diverged, FlipscaleError, LeaseLost, RunFolderError
from flipscale.plan import processes_of
from flipscale.run import JOB, Failure, FailureKind, Lease, RunFolder
from flipscale.train.command import run_command
from flipscale.train.failure import Failed, record, record_stop, say, why
from flipscale.train.loop import CHECKPOINT_SECONDS
from flipscale.train.open_clip_command import run_open_clip
from flipscale.train.processes import Group, is_lost_connection, joined, start
from flipscale.train.stop import STOP_SIGNALS, Stop, noting_signals, stacks_in_log
from flipscale.train.task import asked_of, keep_freed_memory, parent_of, pretrain, score_parent

__all__ = ["STOP_SIGNALS", "train"]

_JUDGED_HERE = (FailureKind.DIVERGED, FailureKind.PARENT)
"""Failures after which nothing is done in any case, and which other runs do not share."""

ANSWER_SECONDS = 10.0
"""An attendant that lives has answered a failure after so long."""

LOOK_SECONDS = 1.0
"""While a parent is trained by another process, it is looked for this often."""


def train(folders: Sequence[Path], *, checkpoint_seconds: float = CHECKPOINT_SECONDS) -> int:
    """Do the runs of `folders` one after the other, parents before children, and return the exit code.

    A run that is finished, failed, cancelled, or held by a living process is passed over. The list is gone through
    until a pass finds nothing to do, so a run whose process died meanwhile is taken up. A child whose parent is held by
    another process is waited for. The code is 0 if nothing failed here, 1 if something did, and 128 + the signal (143,
    130, ...) if one came: then the run in hand wrote a checkpoint. With a launcher (FLIPSCALE_JOB) it ends after a
    failure of which its attendant decides what is done, and is started again.
    """
    keep_freed_memory()
    with noting_signals() as stop, contextlib.closing(_Crew(folders)) as crew:
        if crew.group.rank:
            return _follow(crew.group, stop)
        queue = _Queue(folders, stop, crew, checkpoint_seconds)
        queue.work()
    if stop.signal:
        return 128 + stop.signal
    return 1 if queue.failed else 0


class _Crew:
    """The processes at hand: those this one was started with, or as many as a run asks for, started when it comes."""

    def __init__(self, folders: Sequence[Path]):
        self.folders = folders
        self.joined = joined()
        self.broken = False
        """Whether the GPU does nothing for this process any more: what is left needs another process."""
        self.group = self.joined or Group()

    def of(self, processes: int) -> Group:
        if self.joined is None and not (self.group.size == processes and self.group.is_whole):
            self.close()
            if processes > 1:
                self.group = start(processes, self.folders)
        return self.group

    @property
    def is_lost(self) -> bool:
        """Whether nothing more can be done here: the GPU is of no use any more, or processes that were started
        elsewhere went apart. Whoever started them must do so again.
        """
        return self.broken or (self.joined is not None and self.group.apart)

    def close(self) -> None:
        self.group.close()
        self.group = Group() if self.joined is None else self.group


class _Took(enum.Enum):
    YES, NO, LATER = range(3)


class _Queue:
    """The runs of one call of `train`."""

    def __init__(self, folders: Sequence[Path], stop: Stop, crew: _Crew, checkpoint_seconds: float):
        self.runs = _parents_first([RunFolder(folder) for folder in folders])
        self.listed = {run.path.resolve() for run in self.runs}
        self.failed: set[Path] = set()
        self.attended = JOB in os.environ
        self.to_answer = False
        """Whether something failed here of which the attendant decides what is done before anything else begins."""
        self.stop = stop
        self.crew = crew
        self.checkpoint_seconds = checkpoint_seconds

    def work(self) -> None:
        found = {_Took.YES}
        while found & {_Took.YES, _Took.LATER}:
            if _Took.YES not in found:
                time.sleep(LOOK_SECONDS)
            found = set()
            for run in self.runs:
                if self.stop.signal or self.crew.is_lost or self.to_answer:
                    return
                if run.path not in self.failed:
                    found.add(self._take(run))

    def _take(self, run: RunFolder) -> _Took:
        """Do the run if it is there to be done: whether it was. A failure is recorded and added to `failed`."""
        try:
            if run.is_over():
                return _Took.NO
            if run.asked() is None:
                raise FlipscaleError(
                    f"{run.path}: there is no run.json, so nothing was asked for; submit the study first."
                )
            trouble = self._trouble_with_parent(run)
            if trouble is None:
                return _Took.LATER
            with run.hold() as lease:
                # The one who held it may have finished it between the look above and the taking.
                if lease is None or run.is_over():
                    return _Took.NO
                try:
                    if trouble:
                        raise Failed(Failure(FailureKind.PARENT, trouble))
                    with stacks_in_log(run):
                        self._do(run, lease)
                except LeaseLost:
                    self.crew.group.separate()
                    raise
                except Exception as error:
                    failure = self._end(error)
                    # A signal to the whole process group ends what the run had at work as well, a compiler say, and
                    # that raises before the next step sees the signal. The last checkpoint is as good as ever.
                    if self.stop.signal and (failure.trace or failure.kind == FailureKind.NODE):
                        record_stop(run, self.stop.name, failure)
                    else:
                        self.failed.add(run.path)
                        record(run, lease, failure)
                        self.to_answer = self.attended and failure.kind not in _JUDGED_HERE
                return _Took.YES
        except LeaseLost as error:
            print(error, file=sys.stderr)
            return _Took.YES
        except (FlipscaleError, OSError) as error:
            # The folder itself cannot be read or held, so nothing can be written into it either.
            self.failed.add(run.path)
            print(f"{run.id}: {error}", file=sys.stderr)
            return _Took.NO

    def _do(self, run: RunFolder, lease: Lease) -> None:
        lease.mend_records()
        settings, resources = asked_of(run)
        (trainer,) = settings["trainer"]
        if settings["inference"] != "full":
            score_parent(run, lease, self.crew.group.device)
        elif trainer == "flipscale":
            group = self.crew.of(processes_of(resources, torch.cuda.is_available()))
            group.hand_out(str(run.path.resolve()))
            pretrain(run, lease, group, self.stop, self.checkpoint_seconds)
        else:
            others = {"command": run_command, "open_clip": run_open_clip}
            others[trainer](run, lease, self.stop, partial(say, run))

    def _end(self, error: Exception) -> Failure:
        """Why a run failed, after which the other processes either go on to the next one, or are ended."""
        group = self.crew.group
        failure = group.cause(error)
        group.report(failure)
        if not isinstance(error, Failed | Diverged):
            group.separate()
        if isinstance(error, RuntimeError) and group.is_broken:
            self.crew.broken = True
            print("The GPU does nothing more for this process; the runs that are left need another.", file=sys.stderr)
        if group.apart and not self.crew.joined:
            self.crew.close()
        return failure

    def _trouble_with_parent(self, run: RunFolder) -> str | None:
        """Why the run's parent cannot give it weights: '' if it can, None if it is to be waited for."""
        parent = parent_of(run)
        if parent is None:
            return ""
        if not (parent.result() or parent.error()):
            holder = parent.holder()
            if holder and holder.alive:
                return None
            if parent.path.resolve() in self.listed and not parent.is_over() and parent.path not in self.failed:
                return None
        again = f"delete its result.json, do flipscale train {parent.path}, then submit this run again"
        # Looked at again: who held it above may have finished it since.
        if parent.result():
            if (parent.path / "model.pt").exists():
                return ""
            if "command" in asked_of(run)[0]["trainer"]:
                return (
                    f"Its parent {parent.id} is trained by a command, which wrote no model.pt, and a tuning or another "
                    f"evaluation starts from that. Have it write one (docs/trainers.md), {again}."
                )
            return f"Its parent {parent.id} has no model.pt to start from; {again}."
        if error := parent.error():
            if error.job and not error.noted and time.time() - (error.time or 0) < ANSWER_SECONDS:
                return None  # It may be resumed.
            return f"Its parent {parent.id} failed ({error.kind}): {error.reason} Submit both again."
        if parent.is_cancelled:
            return f"Its parent {parent.id} was cancelled; `flipscale submit` of the study starts both again."
        return (
            f"Its parent {parent.id} is not finished, and nobody is doing it; do flipscale train {parent.path}, then "
            f"submit this run again."
        )


def _follow(group: Group, stop: Stop) -> int:
    """Do what process 0 hands out, until there is no more. What comes of it, process 0's exit code says.

    A follower that was stopped ends before process 0 has written the checkpoint, and srun kills what is left of a step
    when one of its processes ends with anything but 0.
    """
    while task := group.next_task():
        try:
            run = RunFolder(task)
            with stacks_in_log(run):
                pretrain(run, None, group, stop, checkpoint_seconds=0)
        except (Failed, Diverged):
            # All processes know of it and stand at the same point.
            continue
        except Exception as error:
            # The others wait for this one: they learn why, and that it is gone.
            if not is_lost_connection(error):
                group.report(why(error))
            sys.stderr.flush()
            os._exit(1)
    return 0


def _parents_first(runs: Sequence[RunFolder]) -> list[RunFolder]:
    """The runs in their order, but none before its parent. What cannot be read stays where it is."""
    by_path = {run.path.resolve(): run for run in runs}
    found: dict[Path, RunFolder] = {}

    def add(run: RunFolder) -> None:
        with contextlib.suppress(RunFolderError, OSError):
            parent = parent_of(run)
            if parent is not None and parent.path.resolve() in by_path:
                add(by_path[parent.path.resolve()])
        found.setdefault(run.path.resolve(), run)

    for run in runs:
        add(run)
    return list(found.values())
