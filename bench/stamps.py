"""Runs a Python program as `python -m` would, and records the time of each of its optimizer steps.

    python bench/stamps.py STAMPS.json SKIP STEPS MODULE [ARGUMENT ...]

The program is not changed: torch calls a hook after every step of any optimizer. Two programs are timed by the same
clocks at the same place in their loops. After step number STEPS, STAMPS.json gets the CPU seconds of the process, all
its threads, and the wall clock at each step, and the peak memory up to there. On a GPU, only steps SKIP and STEPS are
waited for, so a program that lets the GPU work asynchronously keeps that gain.
"""

import json
import resource
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


def note_steps(path: Path, skip: int, steps: int) -> None:
    """Record this process's optimizer steps from now on, and write the record after `steps` of them."""
    cpu: list[float] = []
    wall: list[float] = []

    def note(*_: Any) -> None:
        on_gpu = torch.cuda.is_available()
        if on_gpu and len(cpu) + 1 in (skip, steps):
            torch.cuda.synchronize()
        cpu.append(time.process_time())
        wall.append(time.perf_counter())
        if len(cpu) >= steps:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # ru_maxrss is in KiB
            peak_gpu = torch.cuda.max_memory_allocated() if on_gpu else None
            noted = {"cpu": cpu, "wall": wall, "peak_memory_bytes": peak, "peak_gpu_memory_bytes": peak_gpu}
            path.write_text(json.dumps(noted))

    register_optimizer_step_post_hook(note)


if __name__ == "__main__":
    noted, skipped, all_steps, module = sys.argv[1:5]
    note_steps(Path(noted), int(skipped), int(all_steps))
    # As under `python -m`: the working folder comes first on the path, and the arguments are the program's own.
    sys.path[0] = ""
    sys.argv = sys.argv[4:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
