"""The training loop: FLIP's recipe on a schedule counted in samples, with exact resumption.

Nothing in a step depends on when or where it runs: batches and masks follow from the seed and the step, so weights,
optimizer state and `Progress` are all that a checkpoint needs. On a CPU, a run that was killed and resumed gives the
same losses, bit by bit, as one that was not.
"""

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from flipscale.cost.arithmetic import scored_steps, steps_of
from flipscale.data.pairs import Data
from flipscale.errors import Diverged
from flipscale.kinds import JsonObject
from flipscale.run import TRUNK_FILE, Doing, Lease, RunFolder
from flipscale.scores import is_averaged
from flipscale.settings.declarations import Settings
from flipscale.settings.devices import LOADERS
from flipscale.train.distributed import Group
from flipscale.train.evaluate import Evaluated, check_scores
from flipscale.train.failure import TALK_SECONDS
from flipscale.train.metrics import Record, ScoreRecord, StepRecord, scores_in_words
from flipscale.train.schedule import learning_rate
from flipscale.train.trainers.builtin.checkpoints import CHECKPOINT_FILE, FIRST_SECONDS, CheckpointWriter, interval
from flipscale.train.trainers.builtin.loaders import load
from flipscale.train.trainers.builtin.training import Training

LOSS_RECORDS = 200
"""Approximate number of loss records of a run."""


def fit(
    training: Training,
    data: Data,
    lease: Lease | None,
    *,
    score: Callable[[Group], Evaluated] | None,
    stopping: Callable[[], int],
    say: Callable[[str], None],
    checkpoint_seconds: float | None = None,
    kept_step: int = 0,
) -> int:
    """Train to the end of the schedule: 0; or until `stopping` gives something else: that, with a checkpoint written.

    All processes of the run call it; the one with the lease writes. metrics.jsonl gets about 200 records of the loss
    and one of each evaluation. In them `loss` is the mean since the record before, and `logit_scale` is the parameter
    itself, a logarithm. `score` evaluates the model at the fractions of the schedule in settings.evaluation.at
    and at the end, or is None on all processes; its time is not training time. Raises Diverged when the loss or a score
    is no longer a number. After `kept_step` the state is kept for runs that go on from there. checkpoint_seconds: the
    training between two checkpoints; None: as `interval` of checkpoints.py has it.
    """
    settings = training.settings
    progress = training.progress
    steps = training.steps
    score_at = scored_steps(settings)
    clock = _Clock(training, data)
    talked = time.monotonic()
    recorded = recorded_steps(settings)
    stop = 0
    training.group.settle()  # A run before that diverged left flags.
    with contextlib.closing(_RunWriter(training, lease, clock, checkpoint_seconds)) as writer:
        for images, tokens in batches(data, training, steps):
            stop, due = training.group.agree_later(int(stopping()), int(writer.asks_for_checkpoint()))
            if stop or due:
                writer.checkpoint()
            if stop:
                break
            lr = training.lr
            training.step(images, tokens)
            writer.live(Doing.TRAINING)
            if progress.step in recorded:
                record = _record(training, clock, lr)
                writer.add(record)
                if time.monotonic() - talked > TALK_SECONDS:
                    talked = time.monotonic()
                    speed = record.images_per_second
                    say(f"step {progress.step} of {steps}, loss {record.loss:.4f}, {speed:.0f} images/s")
            if progress.step in score_at and score is not None:
                writer.live(Doing.EVALUATING)
                writer.add(_score(training, clock, score))
                say(f"step {progress.step} of {steps}, {scores_in_words(progress.scores)}")
            if progress.step == kept_step:
                writer.keep_trunk()
        training.group.settle()
    if not stop:
        clock.settle()
    return stop


def recorded_steps(settings: Settings) -> set[int]:
    """The steps after which the loss is recorded: about 200, and those that are scored."""
    steps = steps_of(settings)
    return {*range(0, steps + 1, max(1, round(steps / LOSS_RECORDS)))} - {0} | scored_steps(settings)


def records_of_trunk(training: Training, trunk: RunFolder) -> list[JsonObject]:
    """The records that a run which goes on from a trunk would have written had it trained that part itself. Only their
    times differ: they go by the mean pace of the trunk."""
    progress = training.progress
    batch_size = training.settings.batch_size
    reached = training.progress.step
    scores = {record["step"]: dict(record) for record in trunk.records()[0] if "scores" in record}
    score_at = scored_steps(training.settings)
    records = list[JsonObject]()
    for step in sorted(recorded_steps(training.settings)):
        if step > reached:
            break
        record = StepRecord(
            step=step,
            samples_seen=step * batch_size,
            loss=training.loss_of(progress.recorded_step, step),
            lr=learning_rate(training.settings, step - 1),
            logit_scale=float(training.history[step - 1, 1]),
            images_per_second=reached * batch_size / progress.seconds,
            seconds=progress.seconds * step / reached,
        )
        progress.recorded_step = step
        progress.recorded_seconds = record.seconds
        records.append(record.to_dict())
        if step in scores and step in score_at:
            # A trunk that ends there has the scores of its mean weights too.
            measured = {name: value for name, value in scores[step]["scores"].items() if not is_averaged(name)}
            records.append({**scores[step], "scores": measured})
    return records


def batches(data: Data, training: Training, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """This process's rows of the batches from the training's step up to `steps`, in order.

    They are made ahead where that helps, and go to a GPU while it computes: from pinned memory. Data that is read as it
    is needed is read by other processes, on a GPU or if the study asks for them; else by LOADERS threads.
    """
    on_gpu = training.device.type == "cuda"
    start = training.progress.step
    if data.reopen is not None and training.loaders:
        rows = training.own_rows
        loaders = training.loaders
        for loaded in load(data, data.reopen, rows, range(start, steps), loaders=loaders, pin=on_gpu):
            training.loading_seconds += loaded.cpu_seconds
            yield loaded.images, loaded.tokens
        return

    def batch(step: int) -> tuple[Tensor, Tensor]:
        images, tokens = map(torch.from_numpy, training.batch(data, step))
        return (images.pin_memory(), tokens.pin_memory()) if on_gpu else (images, tokens)

    # A CPU has no threads for data in memory: they would take the time of the training. The words are unknown only for
    # data that is read as it is needed.
    loaders = LOADERS if on_gpu or data.vocabulary is None else 0
    if not loaders:
        yield from map(batch, range(start, steps))
        return
    with ThreadPoolExecutor(loaders) as pool:
        ahead = deque(pool.submit(batch, step) for step in range(start, min(start + 2 * loaders, steps)))
        try:
            for step in range(start + 2 * loaders, steps + 2 * loaders):
                yield ahead.popleft().result()
                if step < steps:
                    ahead.append(pool.submit(batch, step))
        finally:
            for waiting in ahead:
                waiting.cancel()


class _Clock:
    """Training seconds, wall and CPU, and what the data found corrupt, counted into `progress`."""

    def __init__(self, training: Training, data: Data):
        self.training = training
        self.data = data
        self.worked, self.corrupt = 0.0, data.corrupt()
        self.restart()

    def restart(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> None:
        wall = self.wall
        cpu = self.cpu
        self.restart()
        self.training.progress.seconds += self.wall - wall
        self.worked += self.cpu - cpu + self.training.loading_seconds
        self.training.loading_seconds = 0.0

    def settle(self) -> None:
        """Read, and sum up over the processes what each has worked and found: they all come here."""
        self.read()
        corrupt = self.data.corrupt()
        worked, unreadable = self.training.group.total(self.worked, corrupt - self.corrupt)
        self.training.progress.cpu_seconds += worked
        self.training.progress.corrupt += round(unreadable)
        self.worked = 0.0
        self.corrupt = corrupt


class _RunWriter:
    """The files that the lease's holder writes while it trains: records, checkpoints, signs of life. Others write none.

    Records go to metrics.jsonl once a second: on a network file system opening a file takes milliseconds, as long as a
    small model's step.
    """

    def __init__(self, training: Training, lease: Lease | None, clock: _Clock, checkpoint_seconds: float | None):
        self.training = training
        self.lease = lease
        self.clock = clock
        self.checkpoints = CheckpointWriter(lease) if lease is not None else None
        self.checkpoint_seconds = checkpoint_seconds
        self.interval = FIRST_SECONDS if checkpoint_seconds is None else checkpoint_seconds
        self.waiting: list[Record] = []
        self.written = self.saved = time.monotonic()
        self.saved_step = training.progress.step
        self.asked = False

    def live(self, doing: Doing) -> None:
        if self.lease is not None:
            self.lease.live(doing)

    def add(self, record: Record) -> None:
        self.waiting.append(record)
        if time.monotonic() - self.written > 1:
            self.flush()

    def flush(self) -> None:
        waiting = self.waiting
        self.waiting = []
        self.written = time.monotonic()
        if waiting and self.lease is not None:
            self.lease.append([record.to_dict() for record in waiting])

    def close(self) -> None:
        """Write what waits; the last checkpoint is on the disk afterwards, or the reason why not is raised."""
        try:
            self.flush()
        finally:
            if self.checkpoints is not None:
                self.checkpoints.close()

    def asks_for_checkpoint(self) -> bool:
        """Whether a checkpoint is due. It is said once, as all processes write the checkpoint a step later."""
        if self.checkpoints is None or self.checkpoints.is_writing or self.asked:
            self.asked = False
            return False
        waited = time.monotonic() - self.saved > self.interval and self.training.progress.step > self.saved_step
        self.asked = self.checkpoints.has_failed or waited
        return self.asked

    def keep_trunk(self) -> None:
        """Keep a checkpoint for runs that go on from here."""
        self.flush()
        self.clock.settle()
        if self.checkpoints is not None:
            self.checkpoints.write(self.training.state(is_trunk=True), TRUNK_FILE)

    def checkpoint(self) -> None:
        began = time.monotonic()
        self.flush()
        self.clock.settle()
        if self.checkpoints is not None:
            self.checkpoints.write(self.training.state(), CHECKPOINT_FILE)
        self.saved = time.monotonic()
        self.saved_step = self.training.progress.step
        if self.checkpoint_seconds is None:
            self.interval = interval(self.saved - began, self.training.group.size)


def _record(training: Training, clock: _Clock, lr: float) -> StepRecord:
    """Mean loss and speed since the last record. Reading the loss waits for the device."""
    progress = training.progress
    batch_size = training.settings.batch_size
    steps = progress.step - progress.recorded_step
    loss = training.loss_of(progress.recorded_step, progress.step)
    clock.read()
    if not math.isfinite(loss):
        raise Diverged(
            f"The training loss is {loss} at step {progress.step} of {training.steps}, where lr is {lr:.3g}; "
            f"lower lr, lengthen warmup or set grad_clip."
        )
    seconds = progress.seconds - progress.recorded_seconds
    progress.recorded_step = progress.step
    progress.recorded_seconds = progress.seconds
    return StepRecord(
        step=progress.step,
        samples_seen=progress.step * batch_size,
        loss=loss,
        lr=lr,
        logit_scale=training.logit_scale,
        images_per_second=steps * batch_size / seconds,
        seconds=progress.seconds,
    )


def _score(training: Training, clock: _Clock, score: Callable[[Group], Evaluated]) -> ScoreRecord:
    """Evaluate, with the clock of the training stopped: all processes encode, and process 0 has the scores."""
    progress = training.progress
    group = training.group
    clock.read()
    began = time.perf_counter()
    evaluated = score(group)
    if group.rank == 0:
        training.evaluated = evaluated
        progress.scores = evaluated.scores
        check_scores(progress.scores, f"step {progress.step} of {training.steps}")
    group.said()  # that they are numbers
    seconds = time.perf_counter() - began
    progress.evaluation_seconds += seconds
    clock.restart()
    samples = progress.step * training.settings.batch_size
    return ScoreRecord(progress.step, samples, progress.scores, seconds)
