"""The machine a run is trained on: its memory, its devices, the version of flipscale."""

import contextlib
import ctypes
import gc
import importlib.metadata
import resource
from collections.abc import Iterator
from pathlib import Path

import torch


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def keep_freed_memory() -> None:
    """Have glibc keep what is freed instead of giving it back to the system and asking for it at the next step.

    On a CPU the tensors of a step are freed and wanted again; the page faults of it took 5 % of a step of ViT-w64d4-4
    and 11 % of ViT-w128d4-4 at batch 64. Other C libraries have no mallopt, and stay as they are.
    """
    mmap_threshold, trim_threshold = -3, -1
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


def forget_peak_memory(device: torch.device) -> None:
    """Start the high-water mark anew, as several runs share a process. Where the system has no such thing, it stays."""
    if device.type == "cuda":
        # A compiled model is part of a cycle, and so are errors with their frames: without this their memory on the GPU
        # stays taken while the next run trains, as Python collects cycles by their number and not by their size.
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak_memory_of(device: torch.device) -> int:
    """Peak bytes: of the GPU's memory in tensors, or of the process on a CPU (ru_maxrss is in KiB)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def version() -> str | None:
    try:
        return importlib.metadata.version("flipscale")
    except importlib.metadata.PackageNotFoundError:
        return None
