"""How tests wait: for events, with a limit that a busy machine keeps. Nothing else is needed."""

import time
from collections.abc import Callable

PATIENCE = 600.0
"""Seconds until a test gives up waiting for what should come within a few."""


def wait_until(true: Callable[[], object], what: object = "what should have come", every: float = 0.05) -> None:
    """Look until it is true; fail after PATIENCE and say what was waited for."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} s: {what}"
        time.sleep(every)
