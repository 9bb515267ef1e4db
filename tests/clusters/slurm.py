"""A real SLURM cluster for tests: slurm.sh, started and stopped from Python. Fixtures are in tests/conftest.py."""

import os
import subprocess
from pathlib import Path

from tests.clusters.kept import Cluster
from tests.patience import PATIENCE, wait_until


class SlurmCluster(Cluster):
    """Partitions main, preempt, preempt0 and short."""

    name = "SLURM"
    script = Path(__file__).with_name("slurm.sh")
    nodes = ("n1", "n2", "n3", "n4")

    @staticmethod
    def settings(folder: Path, port: int) -> dict[str, str]:
        return {"FLIPSCALE_SLURM": str(folder), "BASEPORT": str(port), "DBPORT": str(port + 16)}

    @staticmethod
    def environment(folder: Path, port: int) -> dict[str, str]:
        return {"SLURM_CONF": str(folder / "etc" / "slurm.conf")}

    def kill_node(self, name: str) -> None:
        """Kill its slurmd: after 12 to 18 s SLURM marks the node DOWN and starts its jobs elsewhere, or ends them.

        The old copies run on meanwhile, until `start_node` has them killed.
        """
        self._script("kill-node", name)

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
