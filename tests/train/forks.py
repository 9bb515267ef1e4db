"""Processes that train, forked from one that has loaded torch and open_clip: to load both takes longer than to train.

Processes that they start themselves, for runs of several, are interpreters, as for users.
"""

import os
from unittest import mock

from tests.commands import Process
from tests.patience import PATIENCE

SLOWLY = """
import time
from flipscale.train.trainers.builtin.training import Training
step = Training.step
def slowly(*arguments):
    time.sleep(0.2)
    step(*arguments)
Training.step = slowly
"""
"""Code with which a run of 20 steps takes long enough to be disturbed."""


class Forked(Process):
    """A process that runs `code`, as much of a Popen as tests need."""

    def __init__(self, code: str, **environment: str) -> None:
        with mock.patch.dict(os.environ, {"OMP_NUM_THREADS": "1", **environment}):
            super().__init__(run, code)
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def communicate(self) -> tuple[None, str]:
        """Wait for its end; what it said on stderr. A test calls this or `wait`, once."""
        self._process.join(PATIENCE)
        assert self.returncode is not None, "it has not ended"
        said = self._said[1].read_text(encoding="utf-8")
        self._folder.cleanup()
        return None, said

    def wait(self) -> None:
        self.communicate()


def run(code: str) -> None:
    """In the forked process."""
    exec(code, {"__name__": "__main__"})
