"""Who works on a run: one process at a time holds its lease, shows with it that it is alive, and writes through it."""

import contextlib
import enum
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, NamedTuple

from flipscale.errors import DamagedFile, LeaseLost
from flipscale.guard import locked, make_folder
from flipscale.kinds import JsonObject, record_of
from flipscale.plain_files import is_fresh, name_of_temporary, open_plain, or_none, read_bytes, read_json, replacing
from flipscale.run.code import CodeIdentity
from flipscale.run.codec import read_codes, read_scores, result_as_json, write_record
from flipscale.run.files import (
    EARLIER,
    FOLDER_SCHEMA,
    RUN_FILES,
    SCORES_FILE,
    SCORING_FILE,
    FileUse,
    as_json,
    is_finished,
    storable,
    write_json,
)
from flipscale.run.processes import birth, is_alive, is_ours, machine
from flipscale.run.records import Hits, Measured, MetricsRecord, Result

HEARTBEAT_SECONDS = 5.0
"""A living process touches its lease this often."""

LEASE_GRACE_SECONDS = 60.0
"""A lease untouched for this long, on a host whose processes cannot be seen from here, counts as dropped."""

LOOK_SECONDS = 2.5 * HEARTBEAT_SECONDS
"""How long a lease of another host that is stale by the clock is watched before it is taken from its holder."""

MOST_SKEW_SECONDS = 86_400.0
"""The most by which clocks of hosts that share a folder are taken to differ."""

LIFE_SECONDS = 1.0
"""A process that makes progress shows it at most this often."""

STACKS_SIGNAL = signal.SIGQUIT
"""A process that works for a launcher writes the stacks of its threads to the run's log.txt at this signal. Schedulers
send any of the others that can be handled as a request to stop."""

CONNECT = "FLIPSCALE_CONNECT"
"""The environment variable with the seconds that the processes of a run may take to connect."""

JOB, ATTEMPT, NODE = "FLIPSCALE_JOB", "FLIPSCALE_ATTEMPT", "FLIPSCALE_NODE"
"""Environment variables by which a launcher tells a worker its job, how often that job was started before, and what the
scheduler calls the machine."""


_WRITTEN_BY_OTHERS = ("run.json", "job.json", "error.json")
"""Files of a run folder that a process without its lease may be writing."""

LAST_HOLDER = "last_holder.json"
"""The lease of a job's worker that released the run before it was over, see `let_go`."""


class Doing(enum.StrEnum):
    """The current activity of a run's holder. The time that it may go without a sign of life depends on it."""

    STARTING = "starting"
    TRAINING = "training"
    PROGRAM = "program"
    """Somebody else's program trains; it shows life only by its records and its output."""
    EVALUATING = "evaluating"


@dataclass(frozen=True)
class _Shown:
    """life.json."""

    doing: Doing


class Life(NamedTuple):
    """The last sign of life of a run's holder."""

    doing: Doing
    time: float
    """Unix time of the last step, record, checkpoint, or batch of an evaluation."""


@dataclass(frozen=True)
class Holder:
    """Who holds a run: lease.json, and whether that process still lives, as far as is known."""

    host: str
    pid: int
    alive: bool
    token: str | None = None
    born: str | None = None
    """`birth` of the pid."""
    job: str | None = None
    """The job it works for, if a launcher started it."""
    attempt: int = 0
    """How often that job was started before."""
    node: str = ""
    """The scheduler's name of the machine; '' if unknown."""
    taken: float = 0.0
    """When it took the run, in Unix time."""
    machine: str = ""
    """`machine` of its process."""

    @property
    def is_here(self) -> bool:
        """Whether its process is one that is seen from here."""
        return self.machine == machine()

    def may_be_signalled(self, folder: Path) -> bool:
        """Whether its process is here and does the run of this folder for the job that the lease names. A lease is a
        file, which may name any process."""
        return (
            self.is_here
            and self.job is not None
            and is_ours(self.pid, self.born, argument=str(folder.resolve()), variable=JOB, values=[self.job])
        )


def holder_of(folder: Path, name: str = "lease.json") -> Holder | None:
    """The holder of the run of this folder; or its last holder, with the name LAST_HOLDER."""
    path = folder / name
    if (written := or_none(read_json, path, JsonObject)) is None:
        return None
    known = {name: value for name, value in written.items() if value is not None}
    try:
        holder = record_of(Holder, {**known, "taken": known.get("time", 0.0), "alive": False}, leniently=True)
        # Signalling process 0 would signal a group of processes.
        return replace(holder, alive=_lives(holder, path)) if holder.pid > 0 else None
    except (FileNotFoundError, ValueError):
        return None  # A file that names no process is no lease: nobody would ever drop it.


def life_of(folder: Path) -> Life | None:
    """The last sign of life of the holder of this folder's run; None if it gives none."""
    if (shown := or_none(read_json, folder / "life.json", _Shown)) is None:
        return None
    times = [0.0]
    for name in ("life.json", "metrics.jsonl", "checkpoint.pt"):
        with contextlib.suppress(FileNotFoundError):
            times.append((folder / name).stat().st_mtime)
    return Life(shown.doing, max(times))


class Lease:
    """The right to write into a run folder, held by one process at a time.

    `fence` raises LeaseLost once somebody else holds the run; everything that matters is written through here, after
    that check. A thread touches the lease while it is held, so that other hosts can tell a dead holder from a slow one.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.token = uuid.uuid4().hex
        self.taken = 0.0
        """Unix time."""
        self._file = folder / "lease.json"
        self._done = threading.Event()
        self._doing: Doing | None = None
        self._lived = 0.0

    def take(self) -> bool:
        """Take the lease unless a living process holds it. A lock on lease.lock lets one process try at a time.

        A later attempt of the same job takes it from an earlier one, living or not: the scheduler has given that one
        up, and a copy may run on for a while on a node that the scheduler lost.
        """
        job = os.environ.get(JOB)
        attempt = int(os.environ.get(ATTEMPT, "0"))
        make_folder(self.folder)
        with locked(self.folder / "lease.lock"):
            holder = holder_of(self.folder)
            given_up = holder and job and holder.job == job and attempt > holder.attempt
            if holder and not given_up and (holder.alive or _beats(self.folder, holder)):
                return False
            for path in self.folder.glob(".*.tmp"):  # of attempts that were killed
                if name_of_temporary(path.name) not in ("", *_WRITTEN_BY_OTHERS):
                    path.unlink(missing_ok=True)
            if holder:
                let_go(self.folder, of_job=holder.job is not None)
            pid = os.getpid()
            self.taken = time.time()
            write_json(
                self._file,
                {
                    "token": self.token,
                    "host": socket.gethostname(),
                    "machine": machine(),
                    "pid": pid,
                    "born": birth(pid),
                    "time": self.taken,
                    "job": job,
                    "attempt": attempt,
                    "node": os.environ.get(NODE, socket.gethostname()),
                },
            )
        self.live(Doing.STARTING)
        _held.add(self)
        threading.Thread(target=self._beat, daemon=True).start()
        return True

    def drop(self) -> None:
        self._done.set()
        _held.discard(self)
        if self._mine():
            (self.folder / "life.json").unlink(missing_ok=True)
            let_go(self.folder, of_job=JOB in os.environ)

    def live(self, doing: Doing | None = None) -> None:
        """Give a sign of life: the run has made progress. `doing` is its activity from now on, None for the same."""
        new = doing is not None and doing is not self._doing
        now = time.monotonic()
        if not (new or now - self._lived > LIFE_SECONDS):
            return
        self._lived = now
        # A process that has lost the lease must not give signs of life for its new holder.
        if self._mine():
            path = self.folder / "life.json"
            if new:
                write_record(path, {"doing": doing}, flush=False)
                self._doing = doing
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.utime(path)

    def fence(self) -> None:
        if not self._mine():
            raise LeaseLost(f"{self.folder}: another process has taken over this run; stopped without writing.")

    def append(self, records: Sequence[MetricsRecord]) -> None:
        """Append records to metrics.jsonl in one write. Numbers that are not finite are written as null."""
        self.fence()
        data = b"".join(json.dumps(storable(dict(record))).encode() + b"\n" for record in records)
        descriptor = open_plain(str(self.folder / "metrics.jsonl"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            # A write at a full quota is short without an error, so what was not written is written again, which raises.
            while data:
                data = data[os.write(descriptor, data) :]
        finally:
            os.close(descriptor)

    def mend_records(self) -> None:
        """End a torn last line, so that a resumed run does not append to it."""
        self.fence()
        path = self.folder / "metrics.jsonl"
        if path.exists() and path.stat().st_size and not read_bytes(path, tail=1).endswith(b"\n"):
            with open(path, "ab", opener=open_plain) as file:
                file.write(b"\n")

    def note_code(self, code: CodeIdentity, trunk: Path | None = None) -> None:
        """Add to code.json which code trains the run from now on, after that of the attempts that it resumes.

        An attempt that left nothing to resume has no part in the result, so its code is dropped. trunk: the folder of
        the run from whose trunk it goes on where there is nothing to resume.
        """
        self.fence()
        resumes = _has_progress(self.folder)
        source = self.folder if resumes else trunk
        # An unreadable record is no reason not to train.
        before = (or_none(read_codes, source) if source else None) or []
        codes = before if before[-1:] == [code] else [*before, code]
        if not resumes or codes != before:
            write_record(self.folder / "code.json", storable({"codes": codes}))

    def write_hits(self, hits: Mapping[str, Hits]) -> None:
        """Write hits.json; before the result, whose presence means that everything else is there."""
        self.fence()
        path = self.folder / "hits.json"
        if hits:
            write_record(path, storable({"hits": hits}))
        else:
            path.unlink(missing_ok=True)  # They would pass for the hits of this result.

    def write_scores(self, new: Sequence[Measured]) -> None:
        """Write scores that were measured after training; one replaces that of the same definition."""
        taken = [(record.measure, record.what) for record in new]
        kept = [record for record in read_scores(self.folder) if (record.measure, record.what) not in taken]
        with self.replace(SCORES_FILE) as file:
            file.write(
                as_json({"schema": FOLDER_SCHEMA, "records": storable(list(map(vars, [*kept, *new])))}).encode() + b"\n"
            )

    def write_result(self, result: Result) -> None:
        with self.replace("result.json") as file:
            file.write(as_json({"schema": FOLDER_SCHEMA, **result_as_json(result)}).encode() + b"\n")

    @contextlib.contextmanager
    def replace(self, name: str) -> Iterator[IO[bytes]]:
        """A file to write whole (a checkpoint): it takes the place of `name` when the block ends without an error."""
        self.fence()
        # Flushing takes seconds on a busy file server, and a later attempt may take the run over meanwhile.
        with replacing(self.folder / name, at_last=self.fence) as file:
            yield file

    def _mine(self) -> bool:
        return (or_none(read_json, self._file, JsonObject) or {}).get("token") == self.token

    def _beat(self) -> None:
        while not self._done.wait(HEARTBEAT_SECONDS):
            if not self._mine():
                return
            with contextlib.suppress(FileNotFoundError):
                os.utime(self._file)


def _beats(folder: Path, holder: Holder) -> bool:
    """Whether a lease of another host that looks stale is touched while we look: clocks of hosts may differ, so its age
    alone is not enough."""
    touched = _touched(folder)
    if holder.is_here or time.time() - touched > MOST_SKEW_SECONDS:
        return False
    until = time.monotonic() + LOOK_SECONDS
    while _touched(folder) == touched:
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_SECONDS / 10)
    return True


def _touched(folder: Path) -> float:
    with contextlib.suppress(OSError, DamagedFile), open(folder / "lease.json", "rb", opener=open_plain) as file:
        return os.fstat(file.fileno()).st_mtime
    return 0.0


def _has_progress(folder: Path) -> bool:
    """Whether an earlier attempt left something to resume: a checkpoint, weights, or files of a program's own."""
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")} - {EARLIER}
    return any(RUN_FILES.get(name) in (None, FileUse.CHECKPOINT, FileUse.WEIGHTS) for name in names)


def let_go(folder: Path, *, of_job: bool) -> None:
    """Drop the lease of the run of this folder.

    If a worker of a job stops or dies before the run is over, last_holder.json names it. Its attendant may be killed
    before it notes the interruption, and the next attempt of the job then notes it instead; or another worker may take
    the run up before its attendant looks.
    """
    lease = folder / "lease.json"
    last = folder / LAST_HOLDER
    present = {name for name in ("result.json", SCORING_FILE, "error.json") if (folder / name).exists()}
    if "error.json" in present or is_finished(present) or not of_job:
        lease.unlink(missing_ok=True)
        last.unlink(missing_ok=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            lease.replace(last)


_held: set[Lease] = set()
"""The leases that this process holds."""


def show_life() -> None:
    """Give a sign of life for the run that this process holds; long work calls it whenever it makes progress."""
    for lease in tuple(_held):
        lease.live()


def _lives(holder: Holder, lease: Path) -> bool:
    if holder.is_here:
        return is_alive(holder.pid, holder.born)
    return is_fresh(lease, LEASE_GRACE_SECONDS)
