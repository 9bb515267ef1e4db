"""Which Ray is meant, and what its Jobs API is asked. Nothing here knows of runs."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flipscale.errors import LaunchError
from flipscale.guard import locked
from flipscale.run import write_json

RAY_ANSWER_SECONDS = 10.0
"""Time within which a cluster that is there answers."""

RAY_START_SECONDS = 120
"""Time within which a local Ray is up; on an idle machine it takes ten seconds."""

_LIVING = ("PENDING", "RUNNING")

_ADDRESSES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
"""Environment variables that Ray prefers over its arguments, although a typed or written value should win."""

ONE_NODE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Keeps Ray at 127.0.0.1, as on macOS. On Linux it would replace that by a network card's address, and with any address
but 127.0.0.1 it listens on all interfaces."""


_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Unreachable(LaunchError):
    """Ray gives no answer."""


@dataclass(frozen=True)
class Answer:
    """What Ray says of a job."""

    name: str
    status: str | None
    """PENDING, RUNNING, STOPPED, SUCCEEDED, FAILED; None where it knows no job of that name."""
    message: str = ""

    @property
    def lives(self) -> bool:
        return self.status in _LIVING

    def __str__(self) -> str:
        """'Ray job NAME runs', 'Ray job NAME FAILED: its driver was killed'."""
        if self.status is None:
            return "Ray no longer knows its job"
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
        """The cluster of this address, else of RAY_API_SERVER_ADDRESS or RAY_ADDRESS, else of this machine.

        One is started on this machine if need be.
        """
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
        return cls(_our_ray())

    def submit(self, name: str, entrypoint: str) -> None:
        _chosen.add(_host_of(self.url))
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
        """Ray's client. Its errors are LaunchErrors, Unreachable if Ray does not answer."""
        if not _listens(self.url):
            raise Unreachable(f"Nothing answers at {self.url}. Is that Ray's dashboard, and is it running?")
        from ray.job_submission import JobSubmissionClient

        with _without(*_ADDRESSES):
            try:
                yield JobSubmissionClient(self.url)
            except (ConnectionError, OSError) as error:
                raise Unreachable(f"{self.url}: {_first_line(error)}") from None
            except RuntimeError as error:
                raise LaunchError(f"{self.url}: Ray refused: {_first_line(error)}") from None


_chosen: set[str] = set()
"""The hosts that this process has submitted to."""


def check_address(url: str, address: str | None) -> None:
    """Unreachable where a submission's record names a Ray that nobody here has chosen.

    The record is a file of the results folder, which may be a stranger's, and Ray's client sends its token along. So
    only this machine is asked, what RAY_ADDRESS or `address` name, and what this process has submitted to.
    """
    named = {address, *map(os.environ.get, _ADDRESSES)} - {None, ""}
    hosts = {*_LOOPBACK, *_chosen, *(_host_of(str(name)) for name in named)}
    if _host_of(url) not in hosts:
        raise Unreachable(
            f"the submission names {url}, which is not this machine; set RAY_ADDRESS={url} if that is your cluster"
        )


def _host_of(address: str) -> str:
    """The host of HOST:PORT, or of a URL."""
    where = address.partition("://")[2] or address
    return (urllib.parse.urlsplit(f"//{where}").hostname or "").lower()


def address_file() -> Path:
    """The file in which `ray start` notes the address of this machine's head."""
    return Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray" / "ray_current_cluster"


def _our_ray() -> str:
    """The dashboard of the Ray that flipscale runs on this machine for this user. Starts it if it is not running."""
    home = _home()
    with locked(home / "lock"):  # Two submits at once start one.
        with contextlib.suppress(OSError, ValueError, KeyError):
            url = str(json.loads((home / "running.json").read_text(encoding="utf-8"))["url"])
            if _is_dashboard(url):
                return url
        try:
            return _start_here(home)
        except LaunchError:
            # A node that takes over 30 s to come up, as on a busy machine, ends itself.
            return _start_here(home)


def _home() -> Path:
    """The folder of that Ray: its own files, and running.json with its address. Paths of sockets have to be short."""
    home = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / f"flip-ray-{os.getuid()}"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if home.stat().st_uid != os.getuid():
        raise LaunchError(f"{home} belongs to another user. Set RAY_TMPDIR to a folder of yours with a short path.")
    return home


def _start_here(home: Path) -> str:
    """Start a Ray on this machine that outlives this process: the URL of its dashboard.

    It listens on 127.0.0.1 alone, as it obeys every process that reaches it. `ray start --block` is the parent of all
    its processes: a signal to it ends them and, unlike `ray stop`, no other Ray.
    """
    port, dashboard, client, agent = _free_ports(4)
    options = {
        "node-ip-address": "127.0.0.1",
        "port": port,
        "dashboard-host": "127.0.0.1",
        "dashboard-port": dashboard,
        "ray-client-server-port": client,
        "dashboard-agent-listen-port": agent,
        "min-worker-port": 0,
        "max-worker-port": 0,
        "temp-dir": home,
    }
    command = [sys.executable, "-P", "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    command += [f"--{name}={value}" for name, value in options.items()]
    environment = {name: value for name, value in os.environ.items() if name not in _ADDRESSES} | ONE_NODE
    # By default Ray would ask for a token as soon as a file has one, and its clients would send none.
    environment.setdefault("RAY_AUTH_MODE", "disabled")
    up = home / "ray_current_cluster"  # Ray writes it when all is up.
    up.unlink(missing_ok=True)
    with open(home / "start.log", "wb") as log:
        # A session of its own: Ctrl-C in the submitting terminal is not for it.
        keeper = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    print(f"starting Ray on this machine; `kill {keeper.pid}` ends it", file=sys.stderr, flush=True)
    url = f"http://127.0.0.1:{dashboard}"
    until = time.monotonic() + RAY_START_SECONDS
    while not up.exists() or not _is_dashboard(url):
        if keeper.poll() is not None:
            raise LaunchError(f"Ray did not start on this machine; see {home / 'start.log'}.")
        if time.monotonic() > until:
            os.killpg(keeper.pid, signal.SIGKILL)
            raise LaunchError(f"Ray did not start on this machine in {RAY_START_SECONDS} s; see {home / 'start.log'}.")
        time.sleep(0.1)
    write_json(home / "running.json", {"schema": 1, "url": url, "process": keeper.pid})
    return url


def _dashboard_of(address: str) -> str:
    """The dashboard's URL of a cluster by HOST:PORT, of its head or of the dashboard itself."""
    if not _listens(f"http://{address}"):
        raise Unreachable(f"Nothing answers at {address}. Is that the head of a Ray cluster, and is it running?")
    if _is_dashboard(f"http://{address}"):
        return f"http://{address}"
    from ray.job_submission import JobSubmissionClient

    with _without(*_ADDRESSES):
        try:
            return str(JobSubmissionClient(address).get_address())
        except Exception as error:
            raise Unreachable(
                f"{address}: not a Ray cluster that flipscale understands: {_first_line(error)}"
            ) from None


def _is_dashboard(url: str) -> bool:
    """Whether the Jobs API of a Ray answers there."""
    try:
        with urllib.request.urlopen(f"{url}/api/version", timeout=RAY_ANSWER_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        return error.code in (401, 403)  # It wants a token, which Ray's own client sends.
    except (OSError, ValueError, http.client.HTTPException):
        return False


def _listens(url: str) -> bool:
    """Whether anything accepts connections there: Ray's own clients wait for minutes where nothing does."""
    scheme, _, rest = url.partition("://")
    host, _, port = rest.partition("/")[0].rpartition(":")
    if not host:
        host, port = port, "443" if scheme == "https" else "80"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=RAY_ANSWER_SECONDS):
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


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__
