"""How tests wait: for events, with a limit that a busy machine keeps. Nothing else is needed."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

PATIENCE = 600.0
"""Seconds until a test gives up waiting for what should come within a few."""

RESTRAINT, LONGEST_REST = 4.0, 0.5
"""A look at a cluster costs CPU here and there, so a waiting test rests four times as long as the look took, but at
most half a second, as some states do not last."""


def wait_until(look: Callable[[], Found], what: object = "what should have come", every: float = 0.05) -> Found:
    """Look until there is something, and return it; fail after PATIENCE and say what was waited for."""
    deadline = time.monotonic() + PATIENCE
    while True:
        began = time.monotonic()
        if found := look():
            return found
        assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} s: {what}"
        rest(began, every)


def rest(began: float, every: float = 0.05) -> None:
    """Sleep between two looks, of which the first began then: `every` seconds, or longer if that look took long."""
    time.sleep(max(every, min(LONGEST_REST, RESTRAINT * (time.monotonic() - began))))
