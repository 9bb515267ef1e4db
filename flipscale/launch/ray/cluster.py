"""Which Ray is meant, and what its Jobs API is asked. Nothing here knows of runs."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flipscale.errors import LaunchError
from flipscale.guard import locked

RAY_ANSWER_SECONDS = 10.0
"""Time within which a cluster that is there answers."""

RAY_START_SECONDS = 120
"""Time within which a local Ray is up; on an idle machine it takes ten seconds."""

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
        return self.status in ("PENDING", "RUNNING")

    def __str__(self) -> str:
        """'Ray job NAME runs', 'Ray job NAME FAILED: its driver was killed'."""
        if self.status is None:
            return "Ray no longer knows its job"
        words = {"RUNNING": "runs", "PENDING": "waits"}.get(self.status, self.status)
        said = f": {_first_line(self.message)[:300]}" if self.message and self.status != "RUNNING" else ""
        return f"Ray job {self.name} {words}{said}"


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
        return cls(_dashboard_in(_temporary() / "ray") or _our_ray())

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

        with _without_addresses():
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
    named = filter(None, [address, *map(os.environ.get, _ADDRESSES)])
    if _host_of(url) not in {*_LOOPBACK, *_chosen, *map(_host_of, named)}:
        raise Unreachable(
            f"the submission names {url}, which is not this machine; set RAY_ADDRESS={url} if that is your cluster"
        )


def _host_of(address: str) -> str:
    """The host of HOST:PORT, or of a URL."""
    return (urllib.parse.urlsplit(f"//{address.partition('://')[2] or address}").hostname or "").lower()


def _temporary() -> Path:
    return Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())


def _our_ray() -> str:
    """The dashboard of the Ray that flipscale runs on this machine for this user. Starts it if it is not running."""
    home = _temporary() / f"flip-ray-{os.getuid()}"  # Paths of sockets have to be short.
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if home.stat().st_uid != os.getuid():
        raise LaunchError(f"{home} belongs to another user. Set RAY_TMPDIR to a folder of yours with a short path.")
    with locked(home / "lock"):  # Two submits at once start one.
        return _dashboard_in(home) or _start_here(home)


def _start_here(home: Path) -> str:
    """Start a Ray on this machine that outlives this process: the URL of its dashboard.

    It listens on 127.0.0.1 alone, as it obeys every process that reaches it. `ray start --block` is the parent of all
    its processes: a signal to it ends them and, unlike `ray stop`, no other Ray.
    """
    names = ("port", "dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port")
    options = {
        "node-ip-address": "127.0.0.1",
        "dashboard-host": "127.0.0.1",
        **dict(zip(names, _free_ports(len(names)), strict=True)),
        "min-worker-port": 0,
        "max-worker-port": 0,
        "temp-dir": home,
    }
    command = [sys.executable, "-P", "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    command += [f"--{name}={value}" for name, value in options.items()]
    environment = {name: value for name, value in os.environ.items() if name not in _ADDRESSES} | ONE_NODE
    # By default Ray would ask for a token as soon as a file has one, and its clients would send none.
    environment.setdefault("RAY_AUTH_MODE", "disabled")
    _address_in(home).unlink(missing_ok=True)
    with open(home / "start.log", "wb") as log:
        # A session of its own: Ctrl-C in the submitting terminal is not for it.
        keeper = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    print(f"starting Ray on this machine; `kill {keeper.pid}` ends it", file=sys.stderr, flush=True)
    until = time.monotonic() + RAY_START_SECONDS
    while keeper.poll() is None and time.monotonic() < until:
        if url := _dashboard_in(home):
            return url
        time.sleep(0.1)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(keeper.pid, signal.SIGKILL)
    raise LaunchError(f"Ray did not start on this machine in {RAY_START_SECONDS} s; see {home / 'start.log'}.")


def _address_in(folder: Path) -> Path:
    """The file in which Ray notes the address of its head when all is up. It stays where a machine goes down."""
    return folder / "ray_current_cluster"


def _dashboard_in(folder: Path) -> str | None:
    """The dashboard's URL of the Ray whose files are in that folder; None if it is not running."""
    with contextlib.suppress(FileNotFoundError, Unreachable):
        return _dashboard_of(_address_in(folder).read_text(encoding="utf-8").strip())
    return None


def _dashboard_of(address: str) -> str:
    """The dashboard's URL of a cluster by HOST:PORT, of its head or of the dashboard itself."""
    if not _listens(f"http://{address}"):
        raise Unreachable(f"Nothing answers at {address}. Is that the head of a Ray cluster, and is it running?")
    from ray.job_submission import JobSubmissionClient

    said = ""
    with _without_addresses():
        for form in (f"http://{address}", address):
            try:
                return str(JobSubmissionClient(form).get_address())
            except Exception as error:
                said = _first_line(error)
    raise Unreachable(f"{address}: not a Ray cluster that flipscale understands: {said}")


def _listens(url: str) -> bool:
    """Whether anything accepts connections there: Ray's own clients wait for minutes where nothing does."""
    try:
        where = urllib.parse.urlsplit(url)
        port = where.port or {"https": 443}.get(where.scheme, 80)
        with socket.create_connection((where.hostname or "", port), timeout=RAY_ANSWER_SECONDS):
            return bool(where.hostname)
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def _without_addresses() -> Iterator[None]:
    """The environment without Ray's addresses while the block runs."""
    before = {name: os.environ.pop(name) for name in _ADDRESSES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]


def _first_line(said: object) -> str:
    lines = [line for line in str(said).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(said).__name__
