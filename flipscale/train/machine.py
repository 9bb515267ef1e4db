"""The machine a run is trained on: its memory, its devices, the version of flipscale."""

import contextlib
import ctypes
import gc
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

FORWARD_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""The type of the forward pass by a run's precision; weights are always float32."""


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def keep_freed_memory() -> None:
    """Have glibc keep freed memory instead of giving it back to the system and asking for it at the next step.

    On a CPU the tensors of a step are freed and wanted again; the page faults of it took 5 % of a step of ViT-w64d4-4
    and 11 % of ViT-w128d4-4 at batch 64. Other C libraries have no mallopt, and stay as they are.
    """
    mmap_threshold = -3
    trim_threshold = -1
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)


@contextlib.contextmanager
def loading_modules() -> Iterator[None]:
    """Collect no garbage in the block. Modules stay, so Python finds none, and the search took a fifth of the CPU time
    that open_clip takes to load.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class PeakMemory:
    """The most memory that a run holds, from here on: of the GPU in tensors, or of this process on a CPU.

    Several runs share a process. On a CPU the process's memory at the start is not the run's: Python, torch and
    open_clip, 0.3 to 0.4 GB, and data kept from earlier runs. Memory that those runs freed and glibc kept goes back to
    the system first; otherwise this run's tensors would lie in it unseen.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._before: int | None = None
        _collect_garbage(device)
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            return
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        # Linux starts the high-water mark anew when a 5 is written here. It does not for ru_maxrss, which also holds
        # what the program that started this one had.
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
            held = psutil.Process().memory_info().rss
            peak = peak_resident_memory()
            if peak is not None and peak - held < _UNSURE:
                self._before = held

    def read(self) -> int | None:
        """Bytes; None on a CPU whose system does not say how much of the process's memory is the run's."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        peak = peak_resident_memory()
        return None if self._before is None or peak is None else max(peak - self._before, 0)


_UNSURE = 4 * 2**20
"""Bytes by which the system's two counts of one moment may differ, as it counts pages for each core separately."""


def _collect_garbage(device: torch.device) -> None:
    """Free what runs before left in cycles: compiled models, and errors with their frames.

    Python decides when to collect by the number of objects, not by their size.
    """
    # There is nothing to free before the first run, and going through the modules takes 0.4 s of a CPU: they are set
    # aside once, and are not gone through again.
    is_first = not gc.get_freeze_count()
    if device.type == "cuda" or not is_first:
        gc.collect()
    if is_first:
        gc.freeze()


def peak_resident_memory() -> int | None:
    """The most bytes of this process that were in main memory at a time; None where there is no /proc."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    words = status.partition("VmHWM:")[2].split()
    return 1024 * int(words[0]) if words else None


def allow_tf32(allowed: bool) -> None:
    """Whether a GPU multiplies and convolves fp32 tensors in TF32, which keeps 10 bits of 23, or exactly.

    open_clip's program allows it, so training in fp32 does too. Unless told, torch allows it in convolutions only.
    """
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


@contextlib.contextmanager
def exact_fp32() -> Iterator[None]:
    """In the block a GPU computes in fp32 as a CPU does; afterwards TF32 is as it was before."""
    products = torch.backends.cuda.matmul.allow_tf32
    convolutions = torch.backends.cudnn.allow_tf32
    allow_tf32(False)
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = products
        torch.backends.cudnn.allow_tf32 = convolutions


def versions() -> dict[str, str | None]:
    """Versions of the programs that train here."""
    return {
        "torch": torch.__version__,
        "open_clip": importlib.metadata.version("open_clip_torch"),
        "flipscale": version(),
    }


def version() -> str | None:
    try:
        return importlib.metadata.version("flipscale")
    except importlib.metadata.PackageNotFoundError:
        return None
