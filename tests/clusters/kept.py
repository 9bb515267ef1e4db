"""A real cluster for tests, held by a shell script that is started from Python and stopped with it."""

import os
import random
import socket
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Self

from tests.patience import PATIENCE

PORTS = 30
"""How many ports in a row a cluster may use; its script says which."""


class Cluster(ABC):
    """It stops when this process ends, even by kill -9.

    A keeper process holds it: `script run`, which waits for a line or the end of its standard input. The pipe's other
    end is here, so it comes with `stop()` and with the death of this process. The keeper has a session of its own, so
    Ctrl-C does not reach it. As one process starts and stops it, an interrupted start leaves no daemon behind.
    """

    name: ClassVar[str]
    script: ClassVar[Path]
    nodes: ClassVar[tuple[str, ...]]

    def __init__(self, folder: Path, port: int, knobs: Mapping[str, object]) -> None:
        self.folder = folder
        self._settings = {**self.settings(folder, port), **{name: str(value) for name, value in knobs.items()}}
        self.env: Mapping[str, str] = MappingProxyType(self.environment(folder, port))
        """What a process needs in its environment to find this cluster."""
        # The folder stays after a failure: its logs say why.
        # A process that was killed may end its last write a moment later.
        clean = 'for again in 1 2 3; do rm -rf "$1" && break; sleep 1; done && rm -f "$1.log"'
        with open(f"{folder}.log", "w") as log:
            self._keeper = subprocess.Popen(
                ["bash", "-c", f'"$0" run && {clean}', str(self.script), str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | self._settings,
                start_new_session=True,
            )
        assert self._keeper.stdout is not None
        if not self._keeper.stdout.readline():  # the export line comes when all nodes are up
            self._keeper.communicate()
            raise self._failure("start")

    @staticmethod
    @abstractmethod
    def settings(folder: Path, port: int) -> dict[str, str]:
        """The environment variables of the script."""

    @staticmethod
    @abstractmethod
    def environment(folder: Path, port: int) -> dict[str, str]:
        """The environment variables by which the cluster is found."""

    @classmethod
    def missing(cls) -> str:
        """Why this machine cannot run it, and what to type; empty if it can."""
        env = os.environ | cls.settings(Path(), 0)
        done = subprocess.run([cls.script, "check"], env=env, capture_output=True, text=True)
        return done.stderr.strip() if done.returncode else ""

    @classmethod
    def start(cls, folder: Path | None = None, **knobs: object) -> Self:
        """Start it on free ports, by default in a new folder below /tmp; the folder is removed at the end.

        `knobs` are environment variables of the script, as in `start(ACCOUNTING=0)`. Several may run at once.
        """
        # Not below pytest's folder: paths of sockets have to be short, and this one outlives a session that is killed.
        folder = folder or Path(tempfile.mkdtemp(prefix=f"flipscale-{cls.name.lower()}-", dir="/tmp"))
        return cls(folder, free_ports(), knobs)

    def stop(self) -> None:
        """End its jobs and processes and remove its folder. A second call does nothing."""
        if self._keeper.returncode is None:
            # A line, and not only the end of the pipe: a process that was forked from this one may hold it open.
            self._keeper.communicate("\n", timeout=PATIENCE)
            if self._keeper.returncode:
                raise self._failure("stop")

    def start_node(self, name: str, **knobs: object) -> None:
        self._script("start-node", name, **knobs)

    def _script(self, *command: str, **knobs: object) -> None:
        settings = self._settings | {name: str(value) for name, value in knobs.items()}
        done = subprocess.run([self.script, *command], env=os.environ | settings, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{self.script.name} {' '.join(command)}: {done.stderr}")

    def _failure(self, verb: str) -> RuntimeError:
        said = Path(f"{self.folder}.log").read_text()
        return RuntimeError(f"the {self.name} cluster did not {verb}; look into {self.folder}/log\n{said}")


def free_ports() -> int:
    """The first of PORTS ports in a row on which nobody listens, below the kernel's ephemeral ports."""
    for _ in range(100):
        first = random.randrange(20000, 32000, PORTS)
        if all(_is_free(port) for port in range(first, first + PORTS)):
            return first
    raise RuntimeError("no free range of ports between 20000 and 32000")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
