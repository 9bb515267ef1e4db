"""Fixtures of the tests of launchers."""

from pathlib import Path

import pytest

from tests.launch.real import Alone


@pytest.fixture(scope="session")
def alone(shared: Path) -> Alone:
    """`alone(runs)` has the runs trained by themselves, and gives the results folder where they are."""
    return Alone(shared / "alone")
