"""A real MLflow server, on a real PostgreSQL or on SQLite, for tests and benchmarks, for this machine alone."""

import contextlib
import glob
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.patience import PATIENCE


def missing() -> str:
    """What is missing for PostgreSQL, and how to get it; '' if nothing is."""
    if not _programs():
        return "initdb of PostgreSQL; apt-get install postgresql"
    if importlib.util.find_spec("psycopg2") is None:
        return "psycopg2; pip install psycopg2-binary"
    if os.geteuid() == 0 and not (shutil.which("runuser") and _has_user("postgres")):
        return "a user postgres, as PostgreSQL does not run as root"
    return ""


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """Start a PostgreSQL of its own; yields its address, with a password. Its folder is removed afterwards."""
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    # Not below pytest's folders, which only their owner can enter.
    with tempfile.TemporaryDirectory(prefix="flipscale-postgresql-") as name:
        home = Path(name)
        (home / "password").write_text("hunter2")
        if as_user:
            for path in (home, home / "password"):
                shutil.chown(path, "postgres")
        port, programs = free_port(), _programs()
        words = ["-U", "flipscale", "--pwfile", home / "password", "-A", "md5"]
        _run([*as_user, f"{programs}/initdb", "-D", home / "data", *words])
        control = [*as_user, f"{programs}/pg_ctl", "-D", home / "data"]
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200"
        _run([*control, "-l", home / "data" / "log", "-w", "-o", options, "start"])
        try:
            # SQLAlchemy 2.1 takes a bare postgresql:// for psycopg 3, an older one for psycopg2.
            yield f"postgresql+psycopg2://flipscale:hunter2@127.0.0.1:{port}/postgres"
        finally:
            _run([*control, "-m", "immediate", "stop"])


@contextlib.contextmanager
def mlflow_server(folder: Path, store: str, *, workers: int = 1, port: int | None = None) -> Iterator[str]:
    """Start a server with this store; yields its address."""
    port = port or free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", str(workers), "--artifacts-destination", str(folder / "server-artifacts")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment["MLFLOW_BACKEND_STORE_URI"] = store
    log = folder / "server.log"
    with open(log, "wb") as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=said, env=environment, cwd=folder, start_new_session=True
        )
    try:
        ends = time.monotonic() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < ends, log.read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _programs() -> str | None:
    """The folder of PostgreSQL's programs, which Debian keeps off the PATH."""
    found = shutil.which("initdb")
    places = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))  # noqa: PTH207
    return str(Path(found or places[-1]).parent) if found or places else None


def _has_user(name: str) -> bool:
    import pwd

    return name in {one.pw_name for one in pwd.getpwall()}


def _run(command: list[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
