"""What a job does: `train` takes the folders of runs and does each run that nobody else does and that is not done.

Open data, build the model, go on from a checkpoint, train, evaluate, write model.pt and last result.json. What goes
wrong in one run is written into its folder, by kind, and the next run is taken.
"""

import contextlib
import errno
import importlib.metadata
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import open_clip
import torch

from flipscale.errors import DataError, Diverged, FlipscaleError, LeaseLost
from flipscale.run import FailureKind, Lease, RunFolder
from flipscale.train.data import Data, open_data, open_held_out
from flipscale.train.evaluate import evaluate
from flipscale.train.loop import CHECKPOINT_SECONDS, Training, fit
from flipscale.train.model import save, tokenize

__all__ = ["train"]

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
"""What a scheduler sends ahead of a time limit or a preemption, and Ctrl-C."""


def train(folders: Sequence[Path], *, checkpoint_seconds: float = CHECKPOINT_SECONDS) -> int:
    """Do the runs of `folders` one after the other and return the exit code.

    A run that is finished, failed, cancelled, or held by a living process is passed over. The list is gone through
    until a pass finds nothing to do, so a run whose process died meanwhile is taken up. The code is 0 if nothing failed
    here, 1 if something did, and 128 + the signal (143, 130, ...) if one came: then the run in hand wrote a checkpoint.
    """
    runs = [RunFolder(folder) for folder in folders]
    failed: set[Path] = set()
    with _noting_signals() as stop:
        took = True
        while took:
            took = False
            for run in runs:
                if stop.signal is None and run.path not in failed:
                    took |= _take(run, failed, stop, checkpoint_seconds)
    if stop.signal:
        return 128 + stop.signal
    return 1 if failed else 0


def _take(run: RunFolder, failed: set[Path], stop: "_Stop", checkpoint_seconds: float) -> bool:
    """Do the run if it is there to be done: whether it was. A failure is recorded and added to `failed`."""
    try:
        if _is_over(run):
            return False
        if run.asked() is None:
            raise FlipscaleError(f"{run.path}: there is no run.json, so nothing was asked for; submit the study first.")
        with run.hold() as lease:
            # The one who held it may have finished it between the look above and the taking.
            if lease is None or _is_over(run):
                return False
            try:
                _train(run, lease, stop, checkpoint_seconds)
            except LeaseLost:
                raise
            except Exception as error:
                failed.add(run.path)
                _record_failure(run, lease, error)
            return True
    except LeaseLost as error:
        print(error, file=sys.stderr)
        return True
    except (FlipscaleError, OSError) as error:
        # The folder itself cannot be read or held, so nothing can be written into it either.
        failed.add(run.path)
        print(f"{run.id}: {error}", file=sys.stderr)
        return False


def _is_over(run: RunFolder) -> bool:
    """Whether nothing is to be done: it has a result, has failed, or a person has cancelled its job."""
    job = run.job()
    return bool(run.result() or run.error() or (job and job.get("cancelled")))


def _train(run: RunFolder, lease: Lease, stop: "_Stop", checkpoint_seconds: float) -> None:
    """One run, from what was asked to its result; or to a checkpoint, if a signal comes."""
    asked = run.asked()
    assert asked is not None
    settings = asked["settings"]
    say = partial(_say, run)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _forget_peak_memory(device)
    lease.mend_records()

    training = Training(settings, device)
    resumed = training.resume(run)
    say(
        f"attempt {training.progress.attempts}, process {os.getpid()}, on {_device_name(device)}, "
        + (f"goes on after step {training.progress.step} of {training.steps}" if resumed else f"{training.steps} steps")
    )

    shape: dict[str, Any] = {
        "image_size": settings["image_size"],
        "text_length": settings["text_length"],
        "tokenize": partial(tokenize, length=settings["text_length"]),
        # Beside results/runs, so all runs share what was decoded once.
        "cache": run.path.resolve().parent.parent / "cache",
    }
    samples = training.steps * settings["batch_size"]
    data = open_data(settings["data"], data_size=settings["data_size"], samples=samples, **shape)
    evaluation = settings["evaluation"]
    held_out = open_held_out(
        evaluation["data"] or settings["data"],
        trained_on=evaluation["data"] is None,
        images=evaluation["images"],
        templates=evaluation["templates"],
        **shape,
    )

    done = fit(
        training,
        data,
        lease,
        score=None if held_out is None else partial(evaluate, training.model, held_out),
        stopping=lambda: stop.signal is not None,
        say=say,
        checkpoint_seconds=checkpoint_seconds,
    )
    if not done:
        say(f"stopped by {stop.name} after step {training.progress.step} of {training.steps}, with a checkpoint")
        return

    with lease.replace("model.pt") as file:
        save(training.model, file)
    # result.json goes last: its presence is what "finished" means. The checkpoint is of no use after it.
    lease.write_result(_result(training, data, device))
    (run.path / "checkpoint.pt").unlink(missing_ok=True)
    say(f"finished, {training.progress.seconds:.1f} s of training")


def _result(training: Training, data: Data, device: torch.device) -> dict[str, Any]:
    """What result.json holds: the scores, and what it took."""
    progress = training.progress
    samples = training.steps * training.settings["batch_size"]
    unique_pairs = min(data.size, samples)
    # On a CPU a device is a core, and its hours are those it worked for us: the wall clock of a core shared with other
    # programs was seen to be up to twice as long, which would be read as a cost of the run.
    on_gpu = device.type == "cuda"
    devices = 1 if on_gpu else torch.get_num_threads()
    gpu_hours = (progress.seconds * devices if on_gpu else progress.cpu_seconds) / 3600
    return {
        "scores": progress.scores,
        "samples": samples,
        "steps": training.steps,
        "unique_pairs": unique_pairs,
        "repeats": samples / unique_pairs,
        "train_seconds": progress.seconds,
        "cpu_seconds": progress.cpu_seconds,
        "evaluation_seconds": progress.evaluation_seconds,
        "images_per_second": samples / progress.seconds,
        "attempts": progress.attempts,
        "device": _device_name(device),
        "devices": devices,
        "gpu_hours": gpu_hours,
        "peak_memory_bytes": _peak_memory(device),
        "started": progress.started,
        "finished": time.time(),
        "final_loss": training.final_loss,
        "params": sum(parameter.numel() for parameter in training.model.parameters()),
        "corrupt_samples": data.corrupt,
        "versions": {"torch": torch.__version__, "open_clip": open_clip.__version__, "flipscale": _version()},
    }


# Failures


def _record_failure(run: RunFolder, lease: Lease, error: Exception) -> None:
    """Write error.json, and for a fault of the code the traceback into the log. On a full disk, at least say it."""
    kind, reason = _why(error)
    try:
        lease.fence()
        run.write_error(kind, reason)
        if kind is FailureKind.CODE and not isinstance(error, FlipscaleError):
            with open(run.path / "log.txt", "a") as log:
                traceback.print_exception(error, file=log)
        _say(run, f"failed ({kind}): {reason}")
    except (OSError, LeaseLost) as second:
        print(f"{run.id}: failed ({kind}): {reason} This could not be written down: {second}", file=sys.stderr)


def _why(error: Exception) -> tuple[FailureKind, str]:
    """The kind of a failure, which says what may be done about it, and a sentence for a person."""
    first_line = (str(error).splitlines() or [""])[0]
    match error:
        case Diverged():
            return FailureKind.DIVERGED, str(error)
        case DataError():
            return FailureKind.DATA, str(error)
        case FlipscaleError():
            return FailureKind.CODE, str(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in first_line:
        return FailureKind.OOM, f"Out of memory; lower batch_size or raise mask_ratio. {first_line}".rstrip()
    if _disk_is_full(error):
        return FailureKind.DISK, f"The disk or the quota is full; make room and submit again. {first_line}"
    what = ": ".join(filter(None, [type(error).__name__, first_line.rstrip(".")]))
    return FailureKind.CODE, f"{what}. The traceback is in log.txt."


def _disk_is_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind the error: torch wraps what its file raised into an error of its own."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        error = error.__cause__ or error.__context__
    return False


# Signals


class _Stop:
    """The signal that asks this process to end, or None."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def name(self) -> str:
        return signal.Signals(self.signal).name if self.signal else ""

    def note(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = self.signal or signum


@contextlib.contextmanager
def _noting_signals() -> Iterator[_Stop]:
    """Note the first signal instead of ending on it: the run in hand stops at its next step. Ctrl-C twice ends at once.

    A handler takes the signal in the main thread only, so `train` is called there.
    """
    stop = _Stop()
    before = {signum: signal.signal(signum, stop.note) for signum in STOP_SIGNALS}
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


# The machine


def _say(run: RunFolder, line: str) -> None:
    """A line of talk, to the run's log.txt and to stderr."""
    with open(run.path / "log.txt", "a") as log:
        log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
    print(f"{run.id}: {line}", file=sys.stderr, flush=True)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _forget_peak_memory(device: torch.device) -> None:
    """Start the high-water mark anew, as several runs share a process. Where the system has no such thing, it stays."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory(device: torch.device) -> int:
    """Peak bytes: of the GPU's memory in tensors, or of the process on a CPU (ru_maxrss is in KiB)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _version() -> str | None:
    try:
        return importlib.metadata.version("flipscale")
    except importlib.metadata.PackageNotFoundError:
        return None
