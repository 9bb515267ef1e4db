"""Fixtures of the tests of launchers."""

import os

import pytest

from tests.launch.real import Alone


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """`alone(runs)` has the runs trained by themselves, and gives the results folder where they are."""
    base = tmp_path_factory.getbasetemp()
    # The workers of pytest-xdist have folders of their own in one of the session.
    return Alone((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "alone")
