"""A real Ray cluster for tests: ray.sh, started from Python and stopped with it. Fixtures are in tests/conftest.py."""

import contextlib
import ipaddress
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.clusters.slurm import free_ports
from tests.patience import PATIENCE, wait_until

SCRIPT = Path(__file__).with_name("ray.sh")


def missing() -> str:
    """Why this machine cannot run a cluster, and what to type; empty if it can."""
    done = subprocess.run([SCRIPT, "check"], env=os.environ | _python(), capture_output=True, text=True)
    return done.stderr.strip() if done.returncode else ""


class RayCluster:
    """A head without room for trials and workers w1 and w2. It stops when this process ends, even by kill -9.

    A keeper process holds it: `ray.sh run`, which waits for a line or the end of its standard input.
    """

    nodes = ("w1", "w2")

    def __init__(self, folder: Path, keeper: subprocess.Popen[str], settings: Mapping[str, str]) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{int(settings['PORT']) + 1}"
        self.head = f"127.0.0.1:{settings['PORT']}"
        self.env: Mapping[str, str] = MappingProxyType({"RAY_ADDRESS": self.url})
        """What a process needs in its environment to find this cluster."""
        self._keeper = keeper
        self._settings = settings

    @classmethod
    def start(cls, **knobs: object) -> "RayCluster":
        """Start it in a new folder below /tmp on free ports; `knobs` are environment variables of ray.sh."""
        # Not below pytest's folder: paths of sockets have to be short, and this one outlives a session that is killed.
        folder = Path(tempfile.mkdtemp(prefix="flipscale-ray-", dir="/tmp"))
        settings = {
            "FLIPSCALE_RAY": str(folder),
            "PORT": str(free_ports()),
            **_python(),
            **{name: str(value) for name, value in knobs.items()},
        }
        # The folder stays after a failure: its logs say why.
        # A process that was killed may end its last write a moment later.
        clean = 'for again in 1 2 3; do rm -rf "$1" && break; sleep 1; done && rm -f "$1.log"'
        command = ["bash", "-c", f'"$0" run && {clean}', str(SCRIPT), str(folder)]
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
        """End its jobs and processes and remove its folder. A second call does nothing."""
        if self._keeper.returncode is None:
            self._keeper.communicate("\n", timeout=PATIENCE)
            if self._keeper.returncode:
                raise self._failure("stop")

    def kill_node(self, name: str) -> None:
        """Kill all its processes at once, training included, as when a machine loses power."""
        self._script("kill-node", name)

    def start_node(self, name: str, **knobs: object) -> None:
        self._script("start-node", name, **knobs)

    def processes(self) -> set[int]:
        """The processes of all nodes, and what they have started."""
        found = set()
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if f"FLIPSCALE_RAY_NODE={self.folder}/".encode() in environ.read_bytes():
                    found.add(int(environ.parent.name))
        return with_descendants(found)

    def jobs(self) -> dict[str, str]:
        """The status of each job by its submission's name."""
        return {job["submission_id"]: job["status"] for job in self._get("/api/jobs/") if job["submission_id"]}

    def alive(self) -> set[str]:
        """The workers that Ray considers alive."""
        nodes = self._get("/nodes?view=summary")["data"]["summary"]
        return {node["raylet"]["nodeName"] for node in nodes if node["raylet"].get("state") == "ALIVE"} & {*self.nodes}

    def settle(self) -> None:
        """Bring it back to its first state: nodes are up, no job runs."""
        for name, status in self.jobs().items():
            if status in ("PENDING", "RUNNING"):
                request = urllib.request.Request(f"{self.url}/api/jobs/{name}/stop", method="POST")
                urllib.request.urlopen(request, timeout=PATIENCE).close()
        for name in self.nodes:
            if name not in self.alive() or not self._processes(name):
                self._script("kill-node", name)
                self.start_node(name)
        wait_until(lambda: not {"PENDING", "RUNNING"} & set(self.jobs().values()), "the end of all jobs", every=0.25)

    def _processes(self, name: str) -> bool:
        marker = f"FLIPSCALE_RAY_NODE={self.folder}/{name}/".encode()
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                if marker in environ.read_bytes():
                    return True
            except OSError:
                continue
        return False

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE) as answer:
            return json.load(answer)

    def _script(self, *command: str, **knobs: object) -> None:
        settings = self._settings | {name: str(value) for name, value in knobs.items()}
        done = subprocess.run([SCRIPT, *command], env=os.environ | settings, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"ray.sh {' '.join(command)}: {done.stderr}")

    def _failure(self, verb: str) -> RuntimeError:
        said = Path(f"{self.folder}.log").read_text()
        return RuntimeError(f"the Ray cluster did not {verb}; look into {self.folder}/log\n{said}")


def with_descendants(pids: set[int]) -> set[int]:
    """These processes and their living descendants; orphans are not found."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = set(pids)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def addresses_listened_at(pids: set[int]) -> Counter[str]:
    """The addresses of all TCP sockets at which these processes take connections, as `ss -ltnp` shows them."""
    by_socket = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A":
                raw = bytes.fromhex(local.partition(":")[0])
                words = [raw[at : at + 4][::-1] for at in range(0, len(raw), 4)]
                by_socket[f"socket:[{inode}]"] = ipaddress.ip_address(b"".join(words))
    found: Counter[str] = Counter()
    for pid in pids:
        with contextlib.suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if address := by_socket.get(str(descriptor.readlink())):
                        found[str(getattr(address, "ipv4_mapped", None) or address)] += 1
    return found


def _python() -> dict[str, str]:
    """Ray's nodes run on the Python of the tests."""
    return {"PYTHON": sys.executable}
