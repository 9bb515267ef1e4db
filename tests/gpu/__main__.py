"""`make test-gpu`: the tests of this folder, then the figures of bench/gpu.py, in under 8 minutes together.

Where there is no GPU it says so in one sentence and ends with 0. A GPU that torch cannot use is an error.
"""

import subprocess
import sys
import time

from bench.gpu import missing, torch_cannot_use

SECONDS = 450.0
"""For all of it."""

TEST_SECONDS = 300.0
"""The most of that time for the tests; the rest is for the figures."""


def main() -> int:
    began = time.monotonic()
    if reason := missing():
        print(f"no GPU here: {reason}; skipped")
        return 1 if torch_cannot_use(reason) else 0
    tests = [sys.executable, "-m", "pytest", "-m", "gpu", "--durations=10", "tests/gpu"]
    try:
        failed = subprocess.run(tests, timeout=TEST_SECONDS, check=False).returncode
    except subprocess.TimeoutExpired:
        print(f"the tests took more than {TEST_SECONDS:.0f} s and were stopped")
        failed = 1
    left = SECONDS - (time.monotonic() - began)
    figures = [sys.executable, "-m", "bench.gpu", "--seconds", f"{left - 45:.0f}"]
    try:
        return failed or subprocess.run(figures, timeout=left, check=False).returncode
    except subprocess.TimeoutExpired:
        print(f"the figures took more than {left:.0f} s and were stopped")
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
