"""`make test-gpu`: the tests of this folder, then the figures of bench/gpu.py, in under 8 minutes together.

The figures come first, as they are what nobody knows; the tests take the time that is left, and what did not fit is
said. Where there is no GPU it says so in one sentence and ends with 0. A GPU that torch cannot use is an error.
"""

import subprocess
import sys
import time

from bench.gpu import missing, torch_cannot_use

SECONDS = 460.0
"""For all of it."""

FIGURE_SECONDS = 270.0
"""After this time no further figure is begun; the longest takes under a minute."""


def main() -> int:
    began = time.monotonic()
    if reason := missing():
        print(f"no GPU here: {reason}; skipped")
        return 1 if torch_cannot_use(reason) else 0
    figures = [sys.executable, "-m", "bench.gpu", "--seconds", f"{FIGURE_SECONDS:.0f}"]
    failed = _within("the figures", figures, FIGURE_SECONDS + 60)
    left = SECONDS - (time.monotonic() - began)
    tests = [sys.executable, "-m", "pytest", "-m", "gpu", "--durations=10", "tests/gpu"]
    return _within("the tests", tests, left) or failed


def _within(what: str, command: list[str], seconds: float) -> int:
    """The exit code of a command, which is stopped after this time."""
    try:
        return subprocess.run(command, timeout=seconds, check=False).returncode
    except subprocess.TimeoutExpired:
        print(f"{what} took more than {seconds:.0f} s and were stopped; what did not run is not tested")
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
