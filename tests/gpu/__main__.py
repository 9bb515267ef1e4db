"""`make test-gpu`: the figures of bench/gpu.py, the tests of this folder and the table of bench/fed.py.

    python -m tests.gpu          within 20 minutes together; what did not fit is said
    python -m tests.gpu --dry    all of it on a CPU with a small model, to see that it runs; the tests skip

The figures come first, as they are what nobody knows. Where there is no GPU it says so in one sentence and ends with 0.
A GPU that torch cannot use is an error.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from bench.gpu import missing, torch_cannot_use

FIGURE_SECONDS = 270.0
"""After this time no further figure is begun."""

TEST_SECONDS = 180.0

FED_SECONDS = 540.0
"""After this time no further model and mask is begun."""

LAST_SECONDS = 90.0
"""For the figure, or the model and mask, that is begun last."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--dry", action="store_true", help="a small model, on a CPU if there is no GPU")
    asked = parser.parse_args(arguments)
    if not asked.dry and (reason := missing()):
        print(f"no GPU here: {reason}; skipped")
        return 1 if torch_cannot_use(reason) else 0
    dry = ["--dry"] * asked.dry
    codes = (
        _within(
            "the figures", ["bench.gpu", "--seconds", f"{FIGURE_SECONDS:.0f}", *dry], FIGURE_SECONDS + LAST_SECONDS
        ),
        _within("the tests", ["pytest", "-m", "gpu", "--durations=10", "tests/gpu"], TEST_SECONDS),
        _within("the table", ["bench.fed", "--seconds", f"{FED_SECONDS:.0f}", *dry], FED_SECONDS + LAST_SECONDS),
    )
    return max(codes)


def _within(what: str, module: list[str], seconds: float) -> int:
    """The exit code of `python -m` with these words, which is stopped after this time with all that it started."""
    child = subprocess.Popen([sys.executable, "-m", *module], start_new_session=True)
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        print(f"{what} took more than {seconds:.0f} s and were stopped; what did not run is not tested")
        return 1
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


if __name__ == "__main__":
    raise SystemExit(main())
