"""A run's folder: what was asked, what happened, and in which state it is."""

import contextlib
import functools
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, NamedTuple

from flipscale.door.run_states import State
from flipscale.errors import DamagedFile, RunFolderError
from flipscale.guard import check_folder, locked, make_folder
from flipscale.plain_files import open_plain, or_none, read_bytes
from flipscale.planning.identity import goes_on
from flipscale.run.code import CodeIdentity
from flipscale.run.codec import (
    failed_attempt_as_json,
    read_codes,
    read_failed_attempts,
    read_failure,
    read_hits,
    read_last_records,
    read_reached,
    read_record,
    read_records,
    read_result,
    read_scores,
    request_as_json,
    write_record,
)
from flipscale.run.files import EARLIER, PROBE_FILE, SCORING_FILE, TRUNK_FILE, WEIGHTS_FILE, is_finished, storable
from flipscale.run.lease import JOB, LAST_HOLDER, Holder, Lease, Life, holder_of, let_go, life_of
from flipscale.run.records import (
    FailedAttempt,
    Failure,
    FailureKind,
    Hits,
    Job,
    MetricsRecord,
    Reached,
    Result,
    RunRequest,
)
from flipscale.settings.declarations import Settings

MOST_METRICS_BYTES = 2**30
"""The most bytes of a metrics.jsonl (5 million records), or of another file of lines."""

LAST_RECORD_BYTES = 4096
"""The end of metrics.jsonl that is read for its last record. A record is about 200 bytes."""


class RunFolder:
    """One run's folder. Reading never fails for a file that is not there: it is None, or empty."""

    def __init__(self, path: str | os.PathLike[str]):
        # A Path is made only when asked for: for 10,000 runs, making Paths takes longer than reading the files.
        self._path = os.fspath(path)

    def __fspath__(self) -> str:
        return self._path

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @functools.cached_property
    def path(self) -> Path:
        return Path(self._path)

    @functools.cached_property
    def id(self) -> str:
        return os.path.basename(self._path) or self.path.name

    # What was asked

    def ask(self, asked: RunRequest, *, flush: bool = True) -> None:
        """Write run.json for a run that is to be started or restarted.

        What it asks of training never changes, or it would have another id; the place of its data and how a batch is
        computed may have been corrected since it failed. Without `flush` a crash of the machine may undo it: a
        caller with thousands of runs flushes once, at the end.
        """
        make_folder(self.path, self.path.parents[1])
        before = self.asked()
        now = request_as_json(asked)
        if before is None or request_as_json(before) != now:
            if before is None and self._aside.exists():
                self._finish_setting_aside()
            write_record(self.path / "run.json", now, flush=flush)

    def asked(self) -> RunRequest | None:
        return read_record(RunRequest, self._path, "run.json")

    def set_aside(self) -> None:
        """Move all of the folder into its `earlier`, so that the run starts over. No process may hold the run.

        The `earlier` of a previous redo moves along. If this is interrupted, the folder is kept as .ID.aside beside
        its place, and `ask` completes the move.
        """
        self.path.rename(self._aside)
        self._finish_setting_aside()

    def take_back(self) -> None:
        """Undo `set_aside`: the kept folder is the run's folder again. Files written since then are lost."""
        (self.path / EARLIER).rename(self._aside)
        shutil.rmtree(self.path)
        self._aside.rename(self.path)

    @property
    def _aside(self) -> Path:
        return self.path.with_name(f".{self.id}.aside")

    def _finish_setting_aside(self) -> None:
        make_folder(self.path)
        self._aside.rename(self.path / EARLIER)

    # Who does it

    def job(self) -> Job | None:
        return read_record(Job, self._path, "job.json", run_id=self.id)

    def write_job(self, job: Job, *, flush: bool = True) -> None:
        write_record(self.path / "job.json", storable(job), flush=flush)

    @property
    def is_cancelled(self) -> bool:
        """Whether a person has cancelled its job."""
        job = or_none(self.job)  # A damaged job.json cancels nothing.
        return job is not None and job.cancelled is not None

    def holder(self) -> Holder | None:
        """The process that holds the run, or that died while it held it."""
        return holder_of(self.path)

    def last_holder(self) -> Holder | None:
        """The process of a job that held the run last and released it before it was over."""
        return holder_of(self.path, LAST_HOLDER)

    def life(self) -> Life | None:
        """The last sign of life of the run's holder; None if it gives none.

        The heartbeat of the lease does not count: its thread goes on while the training hangs.
        """
        return life_of(self.path)

    def release(self, dead: Holder) -> None:
        """Drop the lease of a holder that was judged dead, so that another host need not wait until it is stale.

        A process that has taken the run since then keeps it.
        """
        with locked(self.path / "lease.lock"):
            now = self.holder()
            if now and now.token == dead.token and not (now.is_here and now.alive):
                let_go(self.path, of_job=dead.job is not None)

    @contextlib.contextmanager
    def hold(self) -> Iterator[Lease | None]:
        """Hold the run while the block runs; None if a living process holds it already.

        The lease is the work queue: workers given the same list of folders each take what nobody holds.
        """
        lease = Lease(self.path)
        if not lease.take():
            yield None
            return
        try:
            yield lease
        finally:
            lease.drop()

    # What happened

    def records(self) -> tuple[list[MetricsRecord], int]:
        """The records of metrics.jsonl and the number of torn lines left out."""
        return read_records(_lines(self.path / "metrics.jsonl"))

    def last_records(self, size: int = LAST_RECORD_BYTES) -> list[MetricsRecord]:
        """The records in the last `size` bytes of metrics.jsonl."""
        return read_last_records(self.tail("metrics.jsonl", size).splitlines())

    def reached(self, size: int = LAST_RECORD_BYTES, *, scores: bool = False) -> Reached:
        """How far it is, by the last `size` bytes of metrics.jsonl; with `scores`, also what it was last scored."""
        return read_reached(self.tail("metrics.jsonl", size).splitlines(), scores=scores)

    def tail(self, name: str, size: int) -> bytes:
        """The last `size` bytes of a file; b'' if there is no such file, or it cannot be read."""
        return or_none(read_bytes, f"{self._path}/{name}", tail=size) or b""

    def result(self) -> Result | None:
        return read_result(self._path)

    def hits(self) -> Mapping[str, Hits]:
        """Which test items it got right, by score; empty for a run of somebody's program."""
        later = {name: hits for record in read_scores(self._path) for name, hits in record.hits.items()}
        return {**read_hits(self._path), **later}

    def codes(self) -> list[CodeIdentity]:
        """The code that trained it, oldest first; several if it was resumed with other code, none if none was
        recorded. RunFolderError if code.json holds something else."""
        return read_codes(self._path)

    def error(self) -> Failure | None:
        return read_failure(self._path)

    def write_error(
        self,
        kind: FailureKind,
        reason: str,
        *,
        seconds: float | None = None,
        noted: bool = False,
        node: str | None = None,
    ) -> None:
        """Record a failure: `kind` says what may be done about it, `reason` is a sentence for a person."""
        failure = Failure(kind, reason, time.time(), os.environ.get(JOB), seconds, noted, node)
        write_record(self.path / "error.json", storable(failure))

    def failures(self) -> list[FailedAttempt]:
        """Failures of earlier attempts, oldest first."""
        return read_failed_attempts(or_none(_lines, self.path / "failures.jsonl") or [])

    def note_failure(self, failed: FailedAttempt) -> None:
        """Append to failures.jsonl, for a failure after which the run may go on; error.json is for one that ends it."""
        with open(self.path / "failures.jsonl", "a", encoding="utf-8", opener=open_plain) as file:
            file.write(json.dumps(failed_attempt_as_json(replace(failed, time=time.time()))) + "\n")

    def open_log(self) -> IO[str]:
        """log.txt, to append to. What UTF-8 cannot hold is escaped, so no text makes it raise."""
        return open(self.path / "log.txt", "a", encoding="utf-8", errors="backslashreplace", opener=open_plain)

    def say(self, line: str) -> None:
        """Add a line with the time to log.txt."""
        with self.open_log() as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    def clear_for_retry(self) -> None:
        """Delete the failure and the job; keep the checkpoint and the records, from which the next attempt goes on."""
        for name in ("error.json", "job.json"):
            (self.path / name).unlink(missing_ok=True)

    def clear_orders(self) -> None:
        """Delete every file that says what is to be done here: `submit` follows none that it did not write itself."""
        self.clear_for_retry()
        for name in (SCORING_FILE, PROBE_FILE):
            (self.path / name).unlink(missing_ok=True)

    def drop_request(self) -> None:
        """Ask for no more scores of a trained run: nothing is missing, or its weights are gone."""
        if self._has(SCORING_FILE):
            (self.path / SCORING_FILE).unlink(missing_ok=True)
            self.clear_for_retry()

    def is_over(self) -> bool:
        """Whether nothing is left to do: it is finished, has failed, or a person has cancelled its job."""
        return self.is_finished() or self._has("error.json") or self.is_cancelled

    @property
    def is_trained(self) -> bool:
        """Whether it has a result: what is left to do, if anything, is to score its weights."""
        return self._has("result.json")

    def is_finished(self) -> bool:
        """Whether it has a result, and nobody asks for more scores of its weights."""
        return is_finished(name for name in ("result.json", SCORING_FILE) if self._has(name))

    def _has(self, name: str) -> bool:
        """Whether there is a file of that name, be it damaged. It is opened, as network file systems are slow to list
        what another host has just written."""
        try:
            os.close(open_plain(f"{self._path}/{name}"))
        except FileNotFoundError:
            return False
        except DamagedFile:
            pass
        return True

    def state(self, whereabouts: State | None = None) -> State:
        """The state, from the files and what the launcher says of the job: waiting, cancelled, or None for gone."""
        return self.glance().state(whereabouts)

    def glance(self) -> "Glance":
        """A look at the folder. It opens only the files it needs, as `status` looks at thousands of folders."""
        try:
            check_folder(self._path)
            files = frozenset(os.listdir(self._path))
        except (FileNotFoundError, NotADirectoryError):
            files = frozenset()
        except RunFolderError as error:
            return Glance(frozenset(), None, None, str(error))
        if "result.json" in files and (problem := self._problem_of_result()):
            return Glance(files - {"result.json"}, None, None, problem)
        if is_finished(files) or "error.json" in files:
            return Glance(files, None, None)
        holder = self.holder() if "lease.json" in files else None
        try:
            return Glance(files, holder, self.job() if "job.json" in files else None)
        except RunFolderError as error:
            return Glance(files, holder, None, str(error))

    def _problem_of_result(self) -> str:
        """Why an empty result.json, as a full disk leaves one, says nothing; '' for one that holds something."""
        try:
            if not os.lstat(f"{self._path}/result.json").st_size:
                self.result()
        except RunFolderError as error:
            return str(error)
        except OSError:  # It is gone by now.
            pass
        return ""


class Glance(NamedTuple):
    """A look at a run's folder: its files, and the holder and job that they name."""

    files: frozenset[str]
    holder: Holder | None
    job: Job | None
    """Holder and job are not read if a result or an error decides the state."""
    problem: str = ""
    """Why its state is not known: result.json is empty, job.json cannot be read, or the folder is a link."""

    def state(self, whereabouts: State | None = None) -> State:
        """See `RunFolder.state`."""
        if is_finished(self.files):
            return State.FINISHED
        if "error.json" in self.files:
            return State.FAILED
        if self.holder and self.holder.alive:
            return State.RUNNING
        if self.problem:
            return State.LOST
        if self.job is None:
            return State.PLANNED
        if self.job.cancelled is not None:
            return State.CANCELLED
        return whereabouts or State.LOST


def lacks_weights(run: RunFolder, name: str = WEIGHTS_FILE) -> bool:
    """Whether the run has finished and its weights are not here, so that no run can start from them: archives and
    `keep_weights` leave them out, and a training command need not write any. name: or another file of it."""
    return (run.path / "result.json").exists() and not (run.path / name).is_file()


def lacking_for(child: Settings, parent: RunFolder) -> str:
    """The file of a finished parent that the child needs and that is not here; '' if none is lacking."""
    needed = (WEIGHTS_FILE, TRUNK_FILE) if goes_on(child) else (WEIGHTS_FILE,)
    return next((name for name in needed if lacks_weights(parent, name)), "")


def _lines(path: Path) -> list[bytes]:
    try:
        return read_bytes(path, most=MOST_METRICS_BYTES).splitlines()
    except FileNotFoundError:
        return []
