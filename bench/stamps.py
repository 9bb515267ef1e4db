"""Runs a Python program as `python -m` would, and records the time of each of its optimizer steps.

    python bench/stamps.py STAMPS.json SKIP STEPS MODULE [ARGUMENT ...]

The program is not changed: torch calls a hook after every step of any optimizer. Two programs are timed by the same
clocks at the same place in their loops. After step number STEPS, STAMPS.json gets the CPU seconds of the process, all
its threads, the wall clock and the seconds waited for batches at each step, and the peak memory up to there. On a GPU,
only steps SKIP and STEPS are waited for, so a program that lets the GPU work asynchronously keeps that gain.

Waiting is the time that the training loop of a program takes to fetch its batches: flipscale's from `batches`, that of
another from a DataLoader of torch.
"""

import json
import resource
import runpy
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


def note_steps(path: Path, skip: int, steps: int, module: str) -> None:
    """Record this process's optimizer steps from now on, and write the record after `steps` of them."""
    cpu: list[float] = []
    wall: list[float] = []
    waits: list[float] = []
    waited: list[float] = []
    note_waits(module, waits)

    def note(*_: Any) -> None:
        on_gpu = torch.cuda.is_available()
        if on_gpu and len(cpu) + 1 in (skip, steps):
            torch.cuda.synchronize()
        cpu.append(time.process_time())
        wall.append(time.perf_counter())
        waited.append(sum(waits))
        if len(cpu) >= steps:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # ru_maxrss is in KiB
            peak_gpu = torch.cuda.max_memory_allocated() if on_gpu else None
            noted = {"cpu": cpu, "wall": wall, "waited": waited}
            noted |= {"peak_memory_bytes": peak, "peak_gpu_memory_bytes": peak_gpu}
            path.write_text(json.dumps(noted))

    register_optimizer_step_post_hook(note)


def note_waits(module: str, waits: list[float]) -> None:
    """Add to `waits` the seconds that each batch takes to come, from now on."""
    if module == "flipscale":
        from flipscale.train.trainers.builtin import loop

        made = loop.batches
        loop.batches = lambda *given: _timed(made(*given), waits)
        return
    from torch.utils.data import DataLoader

    begun = DataLoader.__iter__
    DataLoader.__iter__ = lambda loader: _timed(begun(loader), waits)


def _timed(batches: Iterator[Any], waits: list[float]) -> Iterator[Any]:
    while True:
        began = time.perf_counter()
        try:
            batch = next(batches)
        except StopIteration:
            return
        finally:
            waits.append(time.perf_counter() - began)
        yield batch


if __name__ == "__main__":
    noted, skipped, all_steps, module = sys.argv[1:5]
    note_steps(Path(noted), int(skipped), int(all_steps), module)
    # As under `python -m`: the working folder comes first on the path, and the arguments are the program's own.
    sys.path[0] = ""
    sys.argv = sys.argv[4:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
