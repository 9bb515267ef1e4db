"""The output of open_clip's program while it trains, read into records."""

import contextlib
import math
import re
import time

from flipscale.data.decode import CORRUPT_COUNT, CORRUPT_SHARE
from flipscale.data.open_clip_flags import ProgramJob
from flipscale.errors import DataError, Diverged
from flipscale.plain_files import or_none, parsed, read_bytes, read_json
from flipscale.run import Lease, RunFolder, write_json
from flipscale.train.failure import TALK_SECONDS, say
from flipscale.train.metrics import ScoreRecord, StepRecord
from flipscale.train.trainers.program.process import Program, usage

_EPOCH_LINE = re.compile(r"\| INFO \| Start epoch (\d+)")
_STEP_LINE = re.compile(
    r"Train Epoch: \d+ \[\s*(?P<samples>\d+)/.*Logit Scale: (?P<scale>\S+) .*\bLoss: (?P<loss>\S+) \(\S+\)\s*$"
)
_UNREADABLE = "Handling webdataset error"


class ProgramOutput:
    """Reads the program's output: its steps become records, and time spent on training is separated from the rest."""

    def __init__(self, job: ProgramJob, run: RunFolder, lease: Lease, done: int):
        self.job = job
        self.lease = lease
        self.run = run
        self.epoch = done
        self.step = done * job.steps_per_epoch
        self.times: dict[str, tuple[float, float]]
        self.times = or_none(read_json, job.folder / "times.json", dict[str, tuple[float, float]]) or {}
        # The first part of an epoch that is done again is not counted, as with flipscale's own trainer.
        self.seconds, self.cpu_seconds = self.times.get(str(done), (0.0, 0.0))
        self.mark = 0.0
        self.cpu_mark = 0.0
        self.recorded_step = self.step
        self.recorded_seconds = self.seconds
        self.unreadable = 0
        self.scores: dict[str, float] = {}
        self.said = time.monotonic()

    def heed(self, line: str, when: float, program: Program) -> None:
        if _UNREADABLE in line:
            self.unreadable += 1
            if self.unreadable > max(CORRUPT_COUNT, CORRUPT_SHARE * self.job.steps * self.job.settings.batch_size):
                raise DataError(
                    f"{self.job.shards.urls}: {self.unreadable} samples could not be read, the last one because of "
                    f"{line.partition(_UNREADABLE)[2].strip(' ()').removesuffix('). Ignoring.')}; "
                    f"at most {CORRUPT_COUNT}, or {CORRUPT_SHARE:.0%}, are skipped. Write the shards again."
                )
        elif start := _EPOCH_LINE.search(line):
            self.read_results()
            self.epoch, self.mark, self.cpu_mark = int(start[1]), when, usage(program.pid)[0]
        elif step := _STEP_LINE.search(line):
            self._record(step, when, program)

    def _record(self, step: re.Match[str], when: float, program: Program) -> None:
        job = self.job
        in_epoch = int(step["samples"]) // job.settings.batch_size
        self.step = self.epoch * job.steps_per_epoch + in_epoch
        self.seconds += when - self.mark
        self.mark = when
        loss = float(step["loss"])
        lr = job.lr(self.step - 1)
        if not math.isfinite(loss):
            raise Diverged(
                f"The training loss is {loss} at step {self.step} of {job.steps}, where lr is {lr:.3g}; "
                f"lower lr, lengthen warmup or set grad_clip."
            )
        samples = (self.step - self.recorded_step) * job.settings.batch_size
        speed = samples / max(self.seconds - self.recorded_seconds, 1e-9)
        self.recorded_step = self.step
        self.recorded_seconds = self.seconds
        record = StepRecord(
            step=self.step,
            samples_seen=self._samples,
            loss=loss,
            lr=lr,
            logit_scale=math.log(float(step["scale"])),
            images_per_second=speed,
            seconds=self.seconds,
        )
        self.lease.append([record.to_dict()])
        if time.monotonic() - self.said > TALK_SECONDS:
            self.said = time.monotonic()
            say(self.run, f"step {self.step} of {job.steps}, loss {loss:.4f}, {speed:.0f} images/s")
        if in_epoch == job.steps_per_epoch:
            self.cpu_seconds += max(0.0, usage(program.pid)[0] - self.cpu_mark)
            self.times[str(self.epoch + 1)] = self.seconds, self.cpu_seconds
            self.lease.fence()
            write_json(job.folder / "times.json", self.times)

    @property
    def _samples(self) -> int:
        return self.step * self.job.settings.batch_size

    def read_results(self) -> None:
        """The program's own latest evaluation, if `arguments` ask for one: the last line of its results.jsonl."""
        path = self.job.checkpoints / "results.jsonl"
        lines = or_none(read_bytes, path) or b""
        results: object = None
        with contextlib.suppress(ValueError):
            results = parsed(lines.rstrip().rpartition(b"\n")[2])
        if isinstance(results, dict):
            scores = {
                f"open_clip.{re.sub(r'[^A-Za-z0-9_]', '_', name)}": value
                for name, value in results.items()
                if isinstance(value, int | float) and name != "epoch"
            }
            if scores != self.scores:
                self.scores = scores
                self.lease.append([ScoreRecord(self.step, self._samples, scores).to_dict()])
