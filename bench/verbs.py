"""Runs a verb of flipscale on a synthetic study as a user does, from Python's start to its end, and measures it."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def run_verb(verb: str, folder: Path, *options: str) -> dict[str, Any]:
    """What `flipscale VERB study.yaml` took in a folder that has study.yaml, results/ and plots/; and what it said."""
    command = [sys.executable, "-m", "flipscale", verb, folder / "study.yaml", "--results", folder / "results"]
    if verb in ("plot", "report"):
        command += ["--plots", folder / "plots"]
    with tempfile.TemporaryFile("w+") as said:
        began = time.perf_counter()
        process = subprocess.Popen([*command, *options], stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    assert process.returncode == 0, text
    return {
        "wall_seconds": wall,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_memory_bytes": used.ru_maxrss * 1024,  # ru_maxrss is in KiB
        "said": text.strip().rpartition("\n")[2],
    }


def took(runs: Sequence[Mapping[str, float]]) -> list[str]:
    """What a verb took, as cells of a table: the least wall seconds, the least CPU seconds, the most MiB."""
    wall, cpu = (min(run[name] for run in runs) for name in ("wall_seconds", "cpu_seconds"))
    return [f"{wall:.2f}", f"{cpu:.2f}", f"{max(run['peak_memory_bytes'] for run in runs) / 2**20:.0f}"]
