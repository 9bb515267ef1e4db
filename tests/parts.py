"""Real parts that tests need: where one is missing, CI fails and a laptop skips and says why."""

import os

import pytest


def need(present: bool, what: str) -> None:
    """Go on if the part is present; else fail in CI, and skip elsewhere. `what` says what it is and how to get it."""
    if not present:
        if os.environ.get("CI"):
            pytest.fail(f"needs {what}")
        pytest.skip(f"needs {what}", allow_module_level=True)
