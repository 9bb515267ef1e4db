"""A run's folder: what was asked, what happened, and in which state it is. The state is which files exist.

    run.json        what was asked: id, settings, parents, predicted cost          written once, by launch
    job.json        who was asked to do it: launcher and job                       written by launch
    lease.json      who is doing it now: one process at a time                     written by train
    life.json       what it is doing; touched whenever it comes further            written by train
    metrics.jsonl   what was seen on the way: one line a record, append-only       written by train
    checkpoint.pt   where to go on from                                            written by train
    model.pt        the finished weights, as open_clip loads them                  written by train
    result.json     scores and measured facts; its presence is what "finished" means, so it is written last
    error.json      why it failed, by kind                                         written by train or launch
    failures.jsonl  what went wrong before and what was done about it              written by launch
    log.txt         what the process said

Every file but the .jsonl and log.txt is written to a temporary name, flushed, then renamed, so a reader sees
the old file or the new one. This module knows files and nothing of models: a training command of the user's own
works under the same contract.

lease.py   who does a run, and signs of life
files.py   how files are written
"""

import contextlib
import enum
import fcntl
import functools
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from flipscale.errors import RunFolderError
from flipscale.run.files import SCHEMA, as_json, replacing, storable, write_json
from flipscale.run.lease import (
    ATTEMPT,
    HEARTBEAT_SECONDS,
    JOB,
    LEASE_GRACE_SECONDS,
    NODE,
    STACKS_SIGNAL,
    Doing,
    Lease,
    Life,
    birth,
    holder_lives,
    is_alive,
    show_life,
)

__all__ = [
    "ATTEMPT",
    "HEARTBEAT_SECONDS",
    "JOB",
    "LEASE_GRACE_SECONDS",
    "NODE",
    "SCHEMA",
    "STACKS_SIGNAL",
    "Doing",
    "FailureKind",
    "Glance",
    "Lease",
    "Life",
    "RunFolder",
    "State",
    "as_json",
    "birth",
    "is_alive",
    "replacing",
    "show_life",
    "write_json",
]

_NOT_FLUSHED = ("run.json", "job.json")
"""Files that may be renamed into place and empty, where the machine went down before what is in them was on the disk.
They are as good as not written: submitting again writes them."""


class State(enum.StrEnum):
    """The states a run can be in, in the order `status` counts them."""

    PLANNED = "planned"
    WAITING = "waiting"
    RUNNING = "running"
    LOST = "lost"
    CANCELLED = "cancelled"
    FAILED = "failed"
    FINISHED = "finished"


class FailureKind(enum.StrEnum):
    """Why a run failed, as error.json says it. What is done about it depends on the kind alone."""

    OOM = "oom"
    TIMEOUT = "timeout"
    PREEMPTED = "preempted"
    NODE = "node"
    STALLED = "stalled"
    DISK = "disk"
    DATA = "data"
    DIVERGED = "diverged"
    PARENT = "parent"
    CODE = "code"


class RunFolder:
    """One run's folder. Reading never fails for a file that is not there: it is None, or empty."""

    def __init__(self, path: str | os.PathLike[str]):
        # A Path is made when one is asked for: of 10,000 runs that are looked at, they take longer than their files.
        self._path = os.fspath(path)

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @functools.cached_property
    def path(self) -> Path:
        return Path(self._path)

    @functools.cached_property
    def id(self) -> str:
        return os.path.basename(self._path) or self.path.name

    # What was asked

    def ask(self, asked: Mapping[str, Any], *, flush: bool = True) -> None:
        """Write run.json (id, settings, parents, cost, resources, ...), for a run that is to be started, or again.

        What it asks of training never changes, or it would have another id; where its data lies and how a batch is
        computed may have been corrected since it failed. Without `flush` a crash of the machine may undo it: who asks
        for thousands of runs flushes once, at the end.
        """
        before = self.asked()
        if before is None or any(before.get(name) != value for name, value in asked.items()):
            self.path.mkdir(parents=True, exist_ok=True)
            self._write("run.json", asked, flush)

    def asked(self) -> dict[str, Any] | None:
        asked = self._read("run.json")
        if asked is not None and not isinstance(asked.get("settings"), dict):
            raise RunFolderError(
                f"{self.path / 'run.json'}: holds no settings, so it is not flipscale's; delete it and submit again."
            )
        return asked

    # Who does it

    def job(self) -> dict[str, Any] | None:
        return self._read("job.json")

    def write_job(self, job: Mapping[str, Any], *, flush: bool = True) -> None:
        self._write("job.json", job, flush)

    def lease(self) -> dict[str, Any] | None:
        """Who holds the run: host, pid, token, and `alive`, whether that process still lives, as far as is known."""
        try:
            holder = json.loads((self.path / "lease.json").read_text(encoding="utf-8"))
            touched = (self.path / "lease.json").stat().st_mtime
            # What names no process is no lease, as if it were torn: nobody would ever drop it.
            return {**holder, "alive": holder_lives(holder["host"], int(holder["pid"]), holder.get("born"), touched)}
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    def life(self) -> Life | None:
        """The last sign of life of who holds the run; None if it gives none.

        The heartbeat of the lease is none: a thread goes on with it while the training hangs.
        """
        try:
            doing = Doing(json.loads((self.path / "life.json").read_text(encoding="utf-8"))["doing"])
            times = [(self.path / "life.json").stat().st_mtime]
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None
        for name in ("metrics.jsonl", "checkpoint.pt"):
            with contextlib.suppress(FileNotFoundError):
                times.append((self.path / name).stat().st_mtime)
        return Life(doing, max(times))

    def release(self) -> None:
        """Drop the lease of a holder that is known to be dead, so that another host need not wait until it is stale."""
        holder = self.lease()
        with open(self.path / "lease.lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if holder and (self.lease() or {}).get("token") == holder.get("token"):
                (self.path / "lease.json").unlink(missing_ok=True)

    @contextlib.contextmanager
    def hold(self) -> Iterator["Lease | None"]:
        """Hold the run while the block runs; None if a living process holds it already.

        The lease is the work queue: workers given the same list of folders each take what nobody holds.
        """
        lease = Lease(self)
        if not lease.take():
            yield None
            return
        try:
            yield lease
        finally:
            lease.drop()

    # What happened

    def records(self) -> tuple[list[dict[str, Any]], int]:
        """The records of metrics.jsonl and the number of torn lines left out.

        A run that was killed and resumed from its checkpoint writes some steps again; of records with the same
        step and the same keys the later one stands.
        """
        lines = _lines(self.path / "metrics.jsonl")
        torn = 0
        kept: dict[tuple[Any, ...], dict[str, Any]] = {}
        for line in lines:
            try:
                record = json.loads(line)
                key = (record["step"], *sorted(record))
            except (ValueError, TypeError, KeyError):
                torn += 1
                continue
            if type(record["step"]) is not int:
                torn += 1
                continue
            kept[key] = record
        return sorted(kept.values(), key=lambda record: record["step"]), torn

    def tail(self, name: str, size: int) -> bytes:
        """The last `size` bytes of a file; none if there is no such file."""
        try:
            with open(f"{self._path}/{name}", "rb", buffering=0) as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - size))
                return file.read()
        except FileNotFoundError:
            return b""

    def result(self) -> dict[str, Any] | None:
        return self._read("result.json")

    def error(self) -> dict[str, Any] | None:
        error = self._read("error.json")
        return error and storable(error)

    def write_error(self, kind: FailureKind, reason: str, **more: Any) -> None:
        """Record a failure: `kind` says what may be done about it, `reason` is a sentence for a person."""
        job = {"job": os.environ[JOB]} if JOB in os.environ else {}
        self._write("error.json", storable({"kind": str(kind), "reason": reason, "time": time.time(), **job, **more}))

    def failures(self) -> list[dict[str, Any]]:
        """What went wrong in attempts before, the first of them first: `kind`, `reason`, `then` (what was done about
        it), `time`, and of the attempt `job`, `attempt`, `node`, `samples`, as far as is known."""
        found = []
        for line in _lines(self.path / "failures.jsonl"):
            with contextlib.suppress(ValueError):
                failure = json.loads(line)
                if isinstance(failure, dict) and failure.get("kind") in set(FailureKind):
                    found.append(storable(failure))
        return found

    def note_failure(self, failure: Mapping[str, Any]) -> None:
        """Append to failures.jsonl. The run may go on after it, where error.json is for one that does not."""
        with open(self.path / "failures.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({**failure, "time": time.time()}) + "\n")

    def open_log(self) -> IO[str]:
        """log.txt, to append to. What UTF-8 cannot hold is escaped, so no text makes it raise."""
        return open(self.path / "log.txt", "a", encoding="utf-8", errors="backslashreplace")

    def clear_for_retry(self) -> None:
        """Put the failure aside, keep the checkpoint and the record: the next attempt goes on."""
        for name in ("error.json", "job.json"):
            (self.path / name).unlink(missing_ok=True)

    def is_over(self) -> bool:
        """Whether nothing is to be done: it has a result, has failed, or a person has cancelled its job."""
        job = self.job()
        return bool(self.result() or self.error() or (job and job.get("cancelled")))

    def state(self, whereabouts: str | None = None) -> State:
        """The state, from the files and what the launcher says of the job: 'waiting', 'cancelled', or None for gone."""
        return self.glance().state(whereabouts)

    def glance(self) -> "Glance":
        """What a look at the folder shows. Thousands are looked at at once, so no file is opened that need not be."""
        try:
            files = frozenset(os.listdir(self._path))
        except (FileNotFoundError, NotADirectoryError):
            files = frozenset()
        if "result.json" in files or "error.json" in files:
            return Glance(files, None, None)
        lease = self.lease() if "lease.json" in files else None
        return Glance(files, lease, self.job() if "job.json" in files else None)

    # Files

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            with open(f"{self._path}/{name}", "rb", buffering=0) as file:
                text = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not text and name in _NOT_FLUSHED:
            return None
        try:
            data = json.loads(text)
        except ValueError as error:
            raise RunFolderError(
                f"{self.path / name}: not JSON ({error}). It was not written by flipscale, or the disk was full; "
                f"delete the file and submit again."
            ) from error
        if not isinstance(data, dict):
            raise RunFolderError(f"{self.path / name}: holds no JSON object; delete the file and submit again.")
        if not isinstance(data.get("schema", SCHEMA), int):
            raise RunFolderError(
                f"{self.path / name}: schema {data['schema']!r} is no number; delete the file and submit again."
            )
        if data.get("schema", SCHEMA) > SCHEMA:
            raise RunFolderError(
                f"{self.path / name}: schema {data['schema']} is newer than this flipscale, which reads up to "
                f"{SCHEMA}. Upgrade flipscale, or choose another results folder with --results."
            )
        return data

    def _write(self, name: str, data: Mapping[str, Any], flush: bool = True) -> None:
        write_json(self.path / name, {"schema": SCHEMA, **data}, flush=flush)


class Glance(NamedTuple):
    """What a look at a run's folder shows: which files there are, and what they say of who does it."""

    files: frozenset[str]
    lease: Mapping[str, Any] | None
    job: Mapping[str, Any] | None
    """Lease and job are left unread where a result or an error says it all."""

    def state(self, whereabouts: str | None = None) -> State:
        """See `RunFolder.state`."""
        if "result.json" in self.files:
            return State.FINISHED
        if "error.json" in self.files:
            return State.FAILED
        if self.lease and self.lease["alive"]:
            return State.RUNNING
        if self.job is None:
            return State.PLANNED
        if self.job.get("cancelled"):
            return State.CANCELLED
        return State.LOST if whereabouts is None else State(whereabouts)


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
