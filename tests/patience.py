"""How tests wait: for events, with a limit that a busy machine keeps. Nothing else is needed."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

PATIENCE = 600.0
"""Seconds until a test gives up waiting for what should come within a few."""


def wait_until(look: Callable[[], Found], what: object = "what should have come", every: float = 0.05) -> Found:
    """Look until there is something, and return it; fail after PATIENCE and say what was waited for."""
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} s: {what}"
        time.sleep(every)
    return found
