"""Which Ray is meant, and what its Jobs API is asked. Nothing here knows of runs."""

import contextlib
import os
import socket
import tempfile
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flipscale.errors import LaunchError

RAY_ANSWER_SECONDS = 10.0
"""Time within which a cluster that is there answers."""

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
        said = f": {_first_line(self.message)[:300]}" if self.message and self.status != "RUNNING" else ""
        return f"Ray job {self.name} {words}{said}"


class Cluster:
    """A Ray cluster by the URL of its dashboard, where the Jobs API listens."""

    def __init__(self, url: str):
        self.url = url.rstrip("/")

    @classmethod
    def find(cls, address: str | None) -> "Cluster":
        """The cluster of this address, else of RAY_API_SERVER_ADDRESS or RAY_ADDRESS, else of this machine."""
        address = address or os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS") or ""
        if address.startswith(("http://", "https://")):
            return cls(address)
        if address in ("", "auto", "local") and not (address := _address_here()):
            raise LaunchError(
                "No Ray runs on this machine, and neither --address nor RAY_ADDRESS names one. To try it here alone: "
                "export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0; ray start --head --node-ip-address=127.0.0.1"
            )
        return cls(_dashboard_of(address.removeprefix("ray://")))

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


def _address_here() -> str:
    """The address of the Ray that `ray start` began on this machine. The file stays where one goes down."""
    folder = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray"
    with contextlib.suppress(FileNotFoundError):
        return (folder / "ray_current_cluster").read_text(encoding="utf-8").strip()
    return ""


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


def _first_line(said: object) -> str:
    lines = [line for line in str(said).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(said).__name__
