"""The memory of a run on a CPU is its own: not what the process held before, nor what runs before it freed."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from flipscale.run import RunFolder
from flipscale.train import machine
from flipscale.train.machine import PeakMemory, peak_resident_memory

CPU = torch.device("cpu")
MIB = 2**20

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")


def in_a_process(code: str) -> list[int]:
    """The numbers that the code prints, run by a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    return [int(word) for word in done.stdout.split()]


@pytest.mark.slow
def test_a_small_run_after_a_big_one_in_one_process_reports_its_own(run):
    small, big, after = (
        run("small", samples=96),
        run("big", samples=512, batch_size=512, model="ViT-w64d4-4", mask_ratio=0.0),
        run("after", samples=96),
    )
    folders = [str(folder.path) for folder in (small, big, after)]
    in_a_process(f"from flipscale.train import train; assert train({folders}) == 0")
    peaks = [RunFolder(folder).result().peak_memory_bytes for folder in folders]
    assert peaks[1] > 500 * MIB
    assert 2 * MIB < peaks[2] <= 1.2 * peaks[0] < peaks[1] / 4


def test_what_was_held_and_freed_before_does_not_count():
    code = (
        "import torch; from flipscale.train.machine import *; keep_freed_memory()\n"
        "held = torch.ones(20 << 20); before = [torch.ones(1 << 18) for _ in range(200)]; del before\n"
        "peak = PeakMemory(torch.device('cpu')); tensors = torch.ones(10 << 20); del tensors\n"
        "print(peak.read()); tensors = torch.ones(5 << 20); print(peak.read())"
    )
    first, second = in_a_process(code)
    assert 40 * MIB <= first < 44 * MIB
    # It is a peak: it does not fall. Whether the smaller tensor lies where the larger one was is glibc's affair.
    assert second >= first


def test_a_process_started_by_a_large_one_does_not_count_its_starter():
    ballast = torch.ones(64 << 20)
    (peak,) = in_a_process("from flipscale.train.machine import *; print(peak_resident_memory())")
    assert psutil.Process().memory_info().rss > ballast.nbytes
    assert peak < peak_resident_memory()


@pytest.mark.parametrize("why", ["no reset", "no effect"])
def test_where_the_system_does_not_tell_the_peak_is_missing(monkeypatch, why):
    def write_text(self: Path, text: str, encoding: str) -> int:
        if why == "no reset":
            raise PermissionError(self)
        return len(text)

    ballast = torch.ones(64 << 20)
    del ballast
    monkeypatch.setattr(machine.Path, "write_text", write_text)
    assert PeakMemory(CPU).read() is None
