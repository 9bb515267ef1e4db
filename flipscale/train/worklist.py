"""The runs of one call of `train`, done one after the other by the processes that find them free."""

import contextlib
import enum
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from flipscale.data.code_changes import CodeToday
from flipscale.errors import Diverged, FlipscaleError, LeaseLost, RunFolderError
from flipscale.run import (
    AVERAGED_FILE,
    JOB,
    WEIGHTS_FILE,
    FailureKind,
    Lease,
    NodeFault,
    RunFolder,
    asked_scores,
    read_probe,
)
from flipscale.settings.declarations import CommandTrainer, KeepWeights, OpenClipTrainer
from flipscale.train.distributed import Group, is_lost_connection, joined, start
from flipscale.train.failure import Cause, Failed, record, record_stop, why
from flipscale.train.machine import keep_freed_memory, loading_modules
from flipscale.train.meeting import without_cuda
from flipscale.train.parents import lacks_of_parent, waits
from flipscale.train.requests import kept_trunk, parent_of, request_of, trunk_run
from flipscale.train.stop import Stop, noting_signals, stacks_in_log

_JUDGED_HERE = (FailureKind.DIVERGED, FailureKind.PARENT)
"""Failures after which nothing is done in any case, and which other runs do not share."""

PARENT_SECONDS = 1.0
"""While another process trains a parent, a waiting child looks for it this often."""


def train(folders: Sequence[Path], *, checkpoint_seconds: float | None = None) -> int:
    """Do the runs of `folders` one after the other, parents before children, and return the exit code.

    A run that is finished, failed, cancelled, or held by a living process is skipped. Passes over the list are repeated
    until one finds nothing to do, so a run whose process died meanwhile is taken up. A child waits for a parent that
    another process holds. The code is 0 if nothing failed here, 1 if something did, and 128 + the signal (143, 130,
    ...) if one came: then the current run wrote a checkpoint. With a launcher (FLIPSCALE_JOB) it ends after a failure
    that its attendant handles, and is started again.
    """
    keep_freed_memory()
    with noting_signals() as stop, contextlib.closing(WorkList(folders, stop, checkpoint_seconds)) as worklist:
        if worklist.group.rank:
            return _follow(worklist.group, stop)
        worklist.work()
    if stop.signal:
        return 128 + stop.signal
    return 1 if worklist.failed else 0


class _Took(enum.Enum):
    YES, NO, LATER = range(3)


class WorkList:
    """The runs of one call of `train`, and the processes at hand for them: those this one was started with, or as many
    as a run asks for, started when it comes."""

    def __init__(self, folders: Sequence[Path], stop: Stop, checkpoint_seconds: float | None):
        self.folders = folders
        self.stop = stop
        self.checkpoint_seconds = checkpoint_seconds
        self.listed = {Path(folder).resolve() for folder in folders}
        self.failed: set[Path] = set()
        self.to_answer = False
        """Whether a run failed here and its attendant must answer before anything else begins."""
        self.broken = False
        """Whether the GPU no longer works for this process: the remaining runs need another process."""
        self.joined = joined()
        self.group = self.joined or Group()

    def work(self) -> None:
        runs = _parents_first([RunFolder(folder) for folder in self.folders])
        took = {_Took.YES}
        while took & {_Took.YES, _Took.LATER}:
            if _Took.YES not in took:
                time.sleep(PARENT_SECONDS)
            took = set()
            for run in runs:
                if self.stop.signal or self._is_lost or self.to_answer:
                    return
                if run.path not in self.failed:
                    took.add(self._take(run))

    def _take(self, run: RunFolder) -> _Took:
        """Do the run if it is free; says whether it was done. A failure is recorded and added to `failed`."""
        try:
            return self._take_if_free(run)
        except LeaseLost as error:
            print(error, file=sys.stderr)
            return _Took.YES
        except (FlipscaleError, OSError) as error:
            # The folder itself cannot be read or held, so nothing can be written into it either.
            self.failed.add(run.path)
            print(f"{run.id}: {error}", file=sys.stderr)
            return _Took.NO

    def _take_if_free(self, run: RunFolder) -> _Took:
        if run.is_over():
            run.result()  # One that cannot be read is named.
            return _Took.NO
        if run.asked() is None:
            raise FlipscaleError(f"{run.path}: there is no run.json, so nothing was asked for; submit the study first.")
        if waits(run, self._is_still_to_come):
            return _Took.LATER
        with run.hold() as lease:
            # Its holder may have finished it between the look above and the taking.
            if lease is None or run.is_over():
                return _Took.NO
            try:
                if lacks := lacks_of_parent(run):
                    raise Failed(Cause(FailureKind.PARENT, lacks))
                with stacks_in_log(run):
                    self._do(run, lease)
                _drop_weights(run)
            except LeaseLost:
                self.group.separate()
                raise
            except Exception as error:
                self._record(run, lease, self._end(error))
            return _Took.YES

    def _is_still_to_come(self, run: RunFolder) -> bool:
        return run.path.resolve() in self.listed and not run.is_over() and run.path not in self.failed

    def _do(self, run: RunFolder, lease: Lease) -> None:
        """Have the run's trainer do it. A trainer is imported when a run asks for it: a command needs no open_clip."""
        settings, resources = asked_scores(run) if run.is_trained else request_of(run)
        if not run.is_trained:
            lease.mend_records()
            if resources.gpus and not torch.cuda.is_available() and not isinstance(settings.trainer, CommandTrainer):
                gpus = resources.gpus
                raise NodeFault(f"the run asks for resources.gpus {gpus}, and torch has none: {without_cuda()}")
            # Here, not where it was submitted: another machine may have another checkout. Anew for each run, as a
            # training command is read when it is started.
            trunk = kept_trunk(run)
            lease.note_code(CodeToday().of(settings), trunk.path if trunk else None)
            if (probe := read_probe(run.path)) is not None:
                from flipscale.train.trainers.program.timing import time_programs

                if not time_programs(run, lease, self.stop, probe):
                    return
            elif settings.is_clip and not settings.samples:
                with loading_modules():
                    from flipscale.train.scoring import take_weights
                take_weights(run, lease, self.group.device)
                self._do(run, lease)  # What is left is to score them.
                return
            elif isinstance(settings.trainer, CommandTrainer):
                from flipscale.train.trainers.program.command import run_command

                run_command(run, lease, self.stop)
                return
            elif isinstance(settings.trainer, OpenClipTrainer):
                with loading_modules():
                    from flipscale.train.trainers.open_clip.program import run_open_clip
                run_open_clip(run, lease, self.stop)
                return
        group = self._group_of(resources.processes_on(gpu=torch.cuda.is_available()))
        group.hand_out(str(run.path.resolve()))
        _do_together(run, lease, group, self.stop, self.checkpoint_seconds)

    def _record(self, run: RunFolder, lease: Lease, failure: Cause) -> None:
        # A signal to the whole process group also ends what the run had at work, such as a compiler, and
        # that raises before the next step sees the signal. The last checkpoint is as good as ever.
        if self.stop.signal and (failure.trace or failure.kind == FailureKind.NODE):
            record_stop(run, self.stop.name, failure)
            return
        self.failed.add(run.path)
        record(run, lease, failure)
        self.to_answer = JOB in os.environ and failure.kind not in _JUDGED_HERE

    def _end(self, error: Exception) -> Cause:
        """Why a run failed, after which the other processes either go on to the next one, or are ended."""
        group = self.group
        failure = group.cause(error)
        group.report(failure)
        if not isinstance(error, Failed | Diverged):
            group.separate()
        if isinstance(error, RuntimeError) and group.is_broken:
            self.broken = True
            print("The GPU no longer works in this process; the remaining runs need another process.", file=sys.stderr)
        if group.apart and not self.joined:
            self.close()
        return failure

    def _group_of(self, processes: int) -> Group:
        if self.joined is None and not (self.group.size == processes and self.group.is_whole):
            self.close()
            if processes > 1:
                self.group = start(processes, self.folders)
        return self.group

    @property
    def _is_lost(self) -> bool:
        """Whether nothing more can be done here: the GPU no longer works, or processes that were started elsewhere no
        longer stand at the same point. Whoever started them must start them again.
        """
        return self.broken or (self.joined is not None and self.group.apart)

    def close(self) -> None:
        self.group.close()
        self.group = Group() if self.joined is None else self.group


def _follow(group: Group, stop: Stop) -> int:
    """Do the tasks that process 0 hands out, until none is left. Process 0's exit code says how they ended.

    A follower that was stopped ends before process 0 has written the checkpoint, and srun kills what is left of a step
    when one of its processes ends with anything but 0.
    """
    while task := group.next_task():
        try:
            run = RunFolder(task)
            with stacks_in_log(run):
                _do_together(run, None, group, stop)
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


def _do_together(
    run: RunFolder, lease: Lease | None, group: Group, stop: Stop, checkpoint_seconds: float | None = None
) -> None:
    """Score a run that is trained, time the shapes of a probe, or train: what all processes of a run do."""
    with loading_modules():
        from flipscale.train.scoring import score_weights
        from flipscale.train.trainers.builtin.pretrain import pretrain
        from flipscale.train.trainers.builtin.timing import time_shapes
    if run.is_trained:
        score_weights(run, lease, group, stop)
    elif read_probe(run.path) is not None:
        time_shapes(run, lease, group, stop)
    else:
        pretrain(run, lease, group, stop, checkpoint_seconds)


def _drop_weights(run: RunFolder) -> None:
    """Remove the weights of a finished run that nothing needs, whatever trained it."""
    asked = run.asked()
    if asked is None or not run.is_finished():
        return
    # Runs that already started from it are not counted here: gc removes what the last of them leaves.
    if asked.keep_weights is KeepWeights.NEVER:
        for name in (WEIGHTS_FILE, AVERAGED_FILE):
            (run.path / name).unlink(missing_ok=True)


def _parents_first(runs: Sequence[RunFolder]) -> list[RunFolder]:
    """The runs in their order, but none before its parent or its trunk. An unreadable one stays where it is."""
    by_path = {run.path.resolve(): run for run in runs}
    ordered: dict[Path, RunFolder] = {}

    def add(run: RunFolder) -> None:
        with contextlib.suppress(RunFolderError, OSError):
            parent = parent_of(run) or trunk_run(run)
            if parent is not None and parent.path.resolve() in by_path:
                add(by_path[parent.path.resolve()])
        ordered.setdefault(run.path.resolve(), run)

    for run in runs:
        add(run)
    return list(ordered.values())
