"""A failure by its kind, which says what may be done about it, and a sentence for a person."""

import errno
import re
import sys
import time
import traceback
from dataclasses import dataclass

import torch

from flipscale.errors import DataError, Diverged, FlipscaleError, LeaseLost, printable
from flipscale.run import FailureKind, Fault, Lease, NodeFault, RunFolder, fault_in, node_name

TALK_SECONDS = 10.0
"""While a run trains, a line of progress goes to its log this often."""


@dataclass(frozen=True)
class Cause:
    """Why a run failed. It can travel from the process that failed to the one that writes the folder."""

    kind: str
    """A FailureKind."""
    reason: str
    """A sentence."""
    trace: str = ""
    """The traceback, for the log; empty where the sentence says it all."""
    node: str | None = None
    """The node at fault, where it may be one."""


class Failed(Exception):
    """A failure that all processes of a run know of: they stand at the same point and can go on to the next run."""

    def __init__(self, failure: Cause):
        self.failure = failure
        super().__init__(failure.reason)


def why(error: Exception) -> Cause:
    """The cause of a failure that raised this error."""
    first_line = printable((str(error).splitlines() or [""])[0])
    match error:
        case Failed():
            return error.failure
        case Diverged():
            return Cause(FailureKind.DIVERGED, str(error))
        case DataError():
            return Cause(FailureKind.DATA, str(error))
        case NodeFault():
            return Cause(FailureKind.NODE, str(error), node=error.node)
        case FlipscaleError():
            return Cause(FailureKind.CODE, str(error))
    if is_out_of_memory(error):
        return Cause(FailureKind.OOM, f"Out of memory; lower batch_size or raise mask_ratio. {first_line}".rstrip())
    if _disk_is_full(error):
        return Cause(FailureKind.DISK, f"The disk or the quota is full; make room and submit again. {first_line}")
    what = ": ".join(filter(None, [type(error).__name__, first_line.rstrip(".")]))
    trace = "".join(traceback.format_exception(error))
    reason = f"{what}. The traceback is in its log (flipscale logs ID)."
    if fault := _fault(error):
        return Cause(fault.kind, reason, trace, node_name() if fault.is_here else None)
    return Cause(FailureKind.CODE, reason, trace)


def is_fault_here(error: BaseException) -> bool:
    """Whether CUDA or NCCL tells of a fault of this machine or its GPU."""
    fault = _fault(error)
    return fault is not None and fault.is_here


def _fault(error: BaseException) -> Fault | None:
    return fault_in(str(error)) if isinstance(error, RuntimeError) else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the machine or of a GPU.

    PyTorch's allocator has an exception for it. CUDA itself, cuBLAS, cuDNN and NCCL allocate beside it and fail with a
    RuntimeError in their own words, most often where another program shares the GPU. The on-chip memory that a Triton
    kernel runs out of is something else: a smaller batch does not help there.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_MEMORY_WORDS.search(str(error)))


_MEMORY_WORDS = re.compile(
    r"out of memory|can't allocate memory|(CUBLAS|CUDNN|CUSOLVER)_STATUS_ALLOC_FAILED|Failed to (CUDA|Cuda) (m|c)alloc",
    re.IGNORECASE,
)


def record(run: RunFolder, lease: Lease, failure: Cause) -> None:
    """Write error.json, and the traceback into the log. On a full disk, at least say it."""
    try:
        lease.fence()
        run.write_error(FailureKind(failure.kind), failure.reason, seconds=time.time() - lease.taken, node=failure.node)
        if failure.trace:
            with run.open_log() as log:
                log.write(failure.trace)
        say(run, f"failed ({failure.kind}): {failure.reason}")
    except (OSError, LeaseLost) as second:
        print(
            f"{run.id}: failed ({failure.kind}): {failure.reason} This could not be recorded: {second}",
            file=sys.stderr,
        )


def record_stop(run: RunFolder, signal: str, failure: Cause) -> None:
    """Log what a signal broke off. It is not a failure of the run, which goes on when it is submitted again."""
    with run.open_log() as log:
        log.write(failure.trace)
    say(run, f"stopped by {signal}, which interrupted something: {failure.reason}")


def say(run: RunFolder, line: str) -> None:
    """A line of talk, to the run's log.txt and to stderr."""
    with run.open_log() as log:
        log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
    print(f"{run.id}: {line}", file=sys.stderr, flush=True)


def _disk_is_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind the error: torch wraps what its file raised into an error of its own."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        error = error.__cause__ or error.__context__
    return False
