"""A real SLURM cluster for tests: slurm.sh, started and stopped from Python. Fixtures are in tests/conftest.py."""

import os
import random
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tests.patience import PATIENCE, wait_until

SCRIPT = Path(__file__).with_name("slurm.sh")

PORTS = 30
"""How many ports in a row a cluster may use; slurm.sh says which."""


def missing() -> str:
    """Why this machine cannot run a cluster, and what to type; empty if it can."""
    done = subprocess.run([SCRIPT, "check"], capture_output=True, text=True)
    return done.stderr.strip() if done.returncode else ""


class SlurmCluster:
    """Nodes n1 to n4, partitions main, preempt, preempt0 and short. It stops when this process ends, even by kill -9.

    A keeper process holds it: `slurm.sh run`, which waits for a line or the end of its standard input. The pipe's other
    end is here, so it comes with `stop()` and with the death of this process. The keeper has a session of its own, so
    Ctrl-C does not reach it. As one process starts and stops it, an interrupted start leaves no daemon behind.
    """

    def __init__(self, folder: Path, keeper: subprocess.Popen[str], settings: Mapping[str, str]) -> None:
        self.folder = folder
        self.env: Mapping[str, str] = MappingProxyType({"SLURM_CONF": str(folder / "etc" / "slurm.conf")})
        """What a process needs in its environment to talk to this cluster."""
        self.accounting_port = int(settings["BASEPORT"]) + 19
        self._keeper = keeper
        self._settings = settings
        self.nodes = ("n1", "n2", "n3", "n4")

    @classmethod
    def start(cls, folder: Path | None = None, base_port: int | None = None, **knobs: object) -> "SlurmCluster":
        """Start it, by default in a new folder below /tmp on free ports; the folder is removed at the end.

        `knobs` are environment variables of slurm.sh, as in `start(ACCOUNTING=0, CGROUP=0)`. Several may run at once.
        """
        # Not below pytest's folder: paths of sockets have to be short, and this one outlives a session that is killed.
        folder = Path(tempfile.mkdtemp(prefix="flipscale-slurm-", dir="/tmp")) if folder is None else folder
        base_port = free_ports() if base_port is None else base_port
        settings = {
            "FLIPSCALE_SLURM": str(folder),
            "BASEPORT": str(base_port),
            "DBPORT": str(base_port + 16),
            **{name: str(value) for name, value in knobs.items()},
        }
        # The folder stays after a failure: its logs say why.
        command = ["bash", "-c", '"$0" run && rm -rf "$1" "$1.log"', str(SCRIPT), str(folder)]
        with open(f"{folder}.log", "w") as log:
            keeper = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | settings,
                start_new_session=True,
            )
        cluster = cls(folder, keeper, settings)
        assert keeper.stdout is not None
        if not keeper.stdout.readline():  # the export line comes when all nodes are up
            keeper.communicate()
            raise cluster._failure("start")
        return cluster

    def stop(self) -> None:
        """End its jobs and daemons and remove its folder. A second call does nothing."""
        if self._keeper.returncode is None:
            # A line, and not only the end of the pipe: a process that was forked from this one may hold it open.
            self._keeper.communicate("\n", timeout=PATIENCE)
            if self._keeper.returncode:
                raise self._failure("stop")

    def kill_node(self, name: str) -> None:
        """Kill its slurmd: after 12 to 18 s SLURM marks the node DOWN and starts its jobs elsewhere, or ends them.

        The old copies run on meanwhile, until `start_node` has them killed.
        """
        self._script("kill-node", name)

    def start_node(self, name: str) -> None:
        self._script("start-node", name)

    def kill_controller(self) -> None:
        """Kill slurmctld: until start_controller no command is answered; jobs run on."""
        self._script("kill-controller")

    def start_controller(self) -> None:
        self._script("start-controller")

    def restart_controller(self) -> None:
        self._script("restart-controller")

    def ask(self, *command: str) -> str:
        """What a command of SLURM prints, as in `ask("squeue", "-h")`."""
        return subprocess.run(
            command, env=os.environ | self.env, stdout=subprocess.PIPE, text=True, check=True, timeout=PATIENCE
        ).stdout.strip()

    def submit(self, command: str, *options: str) -> str:
        """The id of a job that runs this shell command. It writes no log; `options` are those of sbatch."""
        return self.ask("sbatch", "--parsable", "--output=/dev/null", *options, "--wrap", command)

    def states(self) -> dict[str, str]:
        """The state of each node: idle, mixed, allocated, completing, down; with a * if it does not answer."""
        return dict(line.split() for line in self.ask("sinfo", "-h", "-N", "-p", "main", "-o", "%N %T").splitlines())

    def settle(self) -> None:
        """Bring it back to its first state: controller and nodes up, an empty queue, all nodes idle."""
        if not self._alive("slurmctld"):
            self.start_controller()
        for name in self.nodes:
            if not self._alive(f"slurmd-{name}"):
                self.start_node(name)
        if self.ask("squeue", "-h"):
            self.ask("scancel", "--user=root")
            wait_until(lambda: not self.ask("squeue", "-h"), "an empty queue")
        # A node marked down by mistake comes back by itself. One that was drained, by a test or because a job
        # would not end, does not.
        drained = [name for name, state in self.states().items() if state.startswith(("drain", "down"))]
        if drained:
            self.ask("scontrol", "update", f"nodename={','.join(drained)}", "state=resume")
        wait_until(lambda: self.states() == dict.fromkeys(self.nodes, "idle"), "idle nodes")

    def _alive(self, daemon: str) -> bool:
        try:
            pid = int((self.folder / "run" / f"{daemon}.pid").read_text())
            return b"slurm" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return False

    def _script(self, *command: str) -> None:
        done = subprocess.run([SCRIPT, *command], env=os.environ | self._settings, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"slurm.sh {' '.join(command)}: {done.stderr}")

    def _failure(self, verb: str) -> RuntimeError:
        said = Path(f"{self.folder}.log").read_text()
        return RuntimeError(f"the SLURM cluster did not {verb}; look into {self.folder}/log\n{said}")


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
