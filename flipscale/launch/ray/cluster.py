"""Which Ray is meant, and what its Jobs API is asked. Nothing here knows of runs."""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flipscale.errors import LaunchError

ANSWER_SECONDS = 10.0
"""A cluster that is there answers within."""

START_SECONDS = 120
"""A local Ray is up within; on an idle machine it takes ten."""

_ALIVE = ("PENDING", "RUNNING")

_ADDRESSES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
"""Ray lets these environment variables win over what it is told, where we mean what was typed or written down."""


class Unreachable(LaunchError):
    """Ray gives no answer."""


@dataclass(frozen=True)
class Answer:
    """What Ray says of a job."""

    name: str
    status: str | None
    """PENDING, RUNNING, STOPPED, SUCCEEDED, FAILED; None where it knows none of that name."""
    message: str = ""

    @property
    def lives(self) -> bool:
        return self.status in _ALIVE

    def __str__(self) -> str:
        """'Ray job NAME runs', 'Ray job NAME FAILED: its driver was killed'."""
        if self.status is None:
            return "Ray knows its job no more"
        said = f": {first}" if self.message and (first := self.message.strip().splitlines()[0][:300]) else ""
        match self.status:
            case "RUNNING":
                return f"Ray job {self.name} runs"
            case "PENDING":
                return f"Ray job {self.name} waits{said}"
        return f"Ray job {self.name} {self.status}{said}"


class Cluster:
    """A Ray cluster by the URL of its dashboard, where the Jobs API listens."""

    def __init__(self, url: str):
        self.url = url.rstrip("/")

    @classmethod
    def find(cls, address: str | None) -> "Cluster":
        """The cluster of this address, else of RAY_ADDRESS, else of this machine, where one is started if need be."""
        address = address or os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS") or ""
        if address.startswith(("http://", "https://")):
            return cls(address)
        if address not in ("", "auto", "local"):
            return cls(_dashboard_of(address.removeprefix("ray://")))
        here = address_file()
        if here.exists() and (local := here.read_text(encoding="utf-8").strip()):
            # The file stays where a machine went down with its Ray.
            with contextlib.suppress(Unreachable):
                return cls(_dashboard_of(local))
        return cls(_dashboard_of(_start_here()))

    def submit(self, name: str, entrypoint: str) -> None:
        with self._client() as client:
            client.submit_job(entrypoint=entrypoint, submission_id=name)

    def ask(self, name: str) -> Answer:
        try:
            with self._client() as client:
                info = client.get_job_info(name)
        except Unreachable:
            raise
        except LaunchError as error:
            if "does not exist" in str(error):
                return Answer(name, None)
            raise Unreachable(str(error)) from None
        return Answer(name, str(info.status.value), info.message or "")

    def stop(self, name: str) -> None:
        with self._client() as client:
            client.stop_job(name)

    @contextlib.contextmanager
    def _client(self) -> Iterator[Any]:
        """Ray's client. What goes wrong with it is a LaunchError, Unreachable where Ray does not answer."""
        if not _listens(self.url):
            raise Unreachable(f"Nobody answers at {self.url}. Is that Ray's dashboard, and does it run?")
        from ray.job_submission import JobSubmissionClient

        with _without(*_ADDRESSES):
            try:
                yield JobSubmissionClient(self.url)
            except (ConnectionError, OSError) as error:
                raise Unreachable(f"{self.url}: {_first_line(error)}") from None
            except RuntimeError as error:
                raise LaunchError(f"{self.url}: Ray says no: {_first_line(error)}") from None


def address_file() -> Path:
    """Where `ray start` notes the address of this machine's head."""
    return Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray" / "ray_current_cluster"


def _start_here() -> str:
    """Start a Ray on this machine that outlives this process: HOST:PORT of its head."""
    host, (port, dashboard, client, agent) = _loopback(), _free_ports(4)
    options: Mapping[str, Any] = {
        "node-ip-address": host,
        "port": port,
        "dashboard-host": "127.0.0.1",
        "dashboard-port": dashboard,
        "ray-client-server-port": client,
        "dashboard-agent-listen-port": agent,
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--disable-usage-stats"]
    command += [f"--{name}={value}" for name, value in options.items()]
    environment = {name: value for name, value in os.environ.items() if name not in _ADDRESSES}
    print("starting a Ray on this machine; `ray stop` ends it", file=sys.stderr, flush=True)
    try:
        # A session of its own: Ctrl-C of who submits is not for it.
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=START_SECONDS,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LaunchError(f"Ray did not start on this machine in {START_SECONDS} s.") from None
    if done.returncode:
        last = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()][-1:]
        raise LaunchError(f"Ray did not start on this machine: {' '.join(last)}")
    return f"{host}:{port}"


def _dashboard_of(address: str) -> str:
    """The dashboard's URL of a cluster by HOST:PORT, of its head or of the dashboard itself."""
    if not _listens(f"http://{address}"):
        raise Unreachable(f"Nobody answers at {address}. Is that the head of a Ray cluster, and does it run?")
    with (
        contextlib.suppress(OSError, ValueError, http.client.HTTPException),
        urllib.request.urlopen(f"http://{address}/api/version", timeout=ANSWER_SECONDS),
    ):
        return f"http://{address}"
    from ray.job_submission import JobSubmissionClient

    with _without(*_ADDRESSES):
        try:
            return str(JobSubmissionClient(address).get_address())
        except Exception as error:
            raise Unreachable(f"{address}: no Ray cluster that flipscale understands: {_first_line(error)}") from None


def _listens(url: str) -> bool:
    """Whether somebody takes connections there: Ray's own clients wait for minutes where nobody does."""
    scheme, _, rest = url.partition("://")
    host, _, port = rest.partition("/")[0].rpartition(":")
    if not host:
        host, port = port, "443" if scheme == "https" else "80"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS):
            return True
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def _without(*names: str) -> Iterator[None]:
    """The environment without these variables while the block runs."""
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


def _loopback() -> str:
    """An address that does not leave the machine. Ray takes 127.0.0.1 for the one that others see."""
    with contextlib.suppress(OSError), socket.socket() as probe:
        probe.bind(("127.0.0.2", 0))
        return "127.0.0.2"
    return "127.0.0.1"


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens at. Those from 10002 to 19999 are Ray's workers'."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__
