"""Which Ray is meant, and what its Jobs API is asked. Nothing here knows of runs."""

import contextlib
import os
import secrets
import shlex
import socket
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flipscale.errors import DamagedFile, LaunchError, require
from flipscale.plain_files import open_plain

RAY_ANSWER_SECONDS = 10.0
"""Time within which a cluster that is there answers."""

RAY_START_SECONDS = 300
"""Time within which a cluster begins a job."""

_ADDRESSES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
"""Environment variables that Ray prefers over its arguments, although a typed or written value should win."""

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
        # A message begins with what ended, and ends with why.
        said = f": {_lines(self.message)[-1][-300:]}" if self.message and self.status != "RUNNING" else ""
        return f"Ray job {self.name} {words}{said}"


def find(address: str | None) -> str:
    """The URL of the dashboard, where the Jobs API listens, of the cluster of this address; else of
    RAY_API_SERVER_ADDRESS or RAY_ADDRESS, else of this machine."""
    require("ray")
    named = (address, os.environ.get("RAY_API_SERVER_ADDRESS"), os.environ.get("RAY_ADDRESS"), _address_here())
    chosen = next((each for each in named if each not in (None, "", "auto", "local")), None)
    if chosen is None:
        raise LaunchError(
            "No Ray of yours runs on this machine, and neither --address nor RAY_ADDRESS names one. To try it here "
            "alone: export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0; ray start --head --node-ip-address=127.0.0.1"
        )
    with _client(chosen) as client:
        return str(client.get_address()).rstrip("/")


def check_shared(url: str, path: Path) -> None:
    """LaunchError where Ray's head does not see this file. A job looks for it: the head of a local address may be the
    other end of a tunnel."""
    look = f"look-{secrets.token_hex(8)}"
    until = time.monotonic() + RAY_START_SECONDS
    with _client(url) as client:
        client.submit_job(entrypoint=f"test -f {shlex.quote(str(path))}", submission_id=look)
        while not (status := client.get_job_status(look)).is_terminal() and time.monotonic() < until:
            time.sleep(0.1)
    if status.value != "SUCCEEDED":
        raise LaunchError(
            f"Ray at {url} does not see {path} (a job there looked: {status.value}). All nodes must share the results "
            "folder: submit from one of them, or write --results FOLDER with a folder that they share."
        )


def submit(url: str, name: str, entrypoint: str) -> None:
    _chosen.add(_host_of(url))
    with _client(url) as client:
        client.submit_job(entrypoint=entrypoint, submission_id=name)


def ask(url: str, name: str) -> Answer:
    try:
        with _client(url) as client:
            info = client.get_job_info(name)
    except Unreachable:
        raise
    except LaunchError as error:
        if "does not exist" in str(error):
            return Answer(name, None)
        raise Unreachable(str(error)) from None
    return Answer(name, str(info.status.value), info.message or "")


@contextlib.contextmanager
def _client(address: str) -> Iterator[Any]:
    """Ray's client of its Jobs API. Its errors are LaunchErrors, Unreachable if Ray does not answer."""
    url = urllib.parse.urlsplit(address if "://" in address else f"//{address}")
    try:  # Ray's own client waits for minutes where nothing listens.
        port = url.port or {"https": 443}.get(url.scheme, 80)
        socket.create_connection((url.hostname or "", port), timeout=RAY_ANSWER_SECONDS).close()
    except (OSError, ValueError):
        raise Unreachable(f"Nothing answers at {address}. Is that a Ray cluster, and is it running?") from None
    from ray.job_submission import JobSubmissionClient

    before = {name: os.environ.pop(name) for name in _ADDRESSES if name in os.environ}
    try:
        yield JobSubmissionClient(address)
    except OSError as error:
        raise Unreachable(f"{address}: {_lines(error)[0]}") from None
    except Exception as error:
        raise LaunchError(f"{address}: Ray refused: {_lines(error)[0]}") from None
    finally:
        os.environ.update(before)


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


def _address_here() -> str:
    """The address of the Ray that `ray start` began on this machine. The file stays where one goes down."""
    folder = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray"
    with (
        contextlib.suppress(FileNotFoundError, DamagedFile),
        os.fdopen(open_plain(folder / "ray_current_cluster"), encoding="utf-8") as file,
    ):
        # Anybody can write to a temporary folder, and the Ray that it names gets the user's token and code.
        if os.fstat(file.fileno()).st_uid in (0, os.getuid()):
            return file.read().strip()
    return ""


def _lines(said: object) -> list[str]:
    """The lines of a message, or the name of its type where it has none."""
    lines = [line.strip() for line in str(said).splitlines() if line.strip()]
    return lines or [type(said).__name__]
