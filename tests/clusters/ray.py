"""A real Ray cluster for tests: ray.sh, started from Python and stopped with it. Fixtures are in tests/conftest.py."""

import contextlib
import ipaddress
import json
import sys
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from tests.clusters.kept import Cluster
from tests.patience import PATIENCE, wait_until


class RayCluster(Cluster):
    """A head without room for trials, and workers, which run on the Python of the tests."""

    name = "Ray"
    script = Path(__file__).with_name("ray.sh")
    nodes = ("w1", "w2")

    @staticmethod
    def settings(folder: Path, port: int) -> dict[str, str]:
        return {"FLIPSCALE_RAY": str(folder), "PORT": str(port), "PYTHON": sys.executable}

    @staticmethod
    def environment(folder: Path, port: int) -> dict[str, str]:
        return {"RAY_ADDRESS": f"http://127.0.0.1:{port + 1}"}

    @property
    def url(self) -> str:
        return self.env["RAY_ADDRESS"]

    def kill_node(self, name: str) -> None:
        """Kill all its processes at once, training included, as when a machine loses power."""
        self._script("kill-node", name)

    def processes(self) -> set[int]:
        """The processes of all nodes, and what they have started."""
        return with_descendants(self._processes(""))

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
            if name not in self.alive() or not self._processes(f"{name}/"):
                self._script("kill-node", name)
                self.start_node(name)
        wait_until(lambda: not {"PENDING", "RUNNING"} & set(self.jobs().values()), "the end of all jobs", every=0.25)

    def _processes(self, of: str) -> set[int]:
        """The processes that Ray has started on this node, as in "w1/", or on all nodes."""
        found = set()
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if f"FLIPSCALE_RAY_NODE={self.folder}/{of}".encode() in environ.read_bytes():
                    found.add(int(environ.parent.name))
        return found

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE) as answer:
            return json.load(answer)


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
