"""Sees a list of runs through inside a job: starts `train` on what is left, and does about each failure what is due.

A scheduler knows when a job's time is over, and nothing of runs; `train` knows runs, and not why it was killed. An
attendant stands between them for as long as the job lives: it passes the scheduler's warning on, tells a run that ran
out of memory from one whose code is wrong, and starts again or gives up as policy.py says. It needs no torch.
"""

import contextlib
import enum
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from flipscale.launch.launcher import STOP_SECONDS
from flipscale.launch.policy import INSTANT_FAILURES, INSTANT_SECONDS, Decision, decide
from flipscale.launch.progress import last_records
from flipscale.launch.stall import end_stalled, why_stalled
from flipscale.run import FailureKind, RunFolder, write_json

LOOK_SECONDS = 0.1
"""Workers are looked at this often."""

AROUND_SECONDS = 2.0
"""Run folders are looked at this often, for what others did to them: there are some files to read for each run."""

AROUND_SHARE = 20
"""Of a list of thousands they are looked at less often, so that it takes at most one part in so many of the time."""

_ASKED_TO_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
"""`train` ends with 128 + one of these where it got it, with a checkpoint written."""

_CHATTER = re.compile(
    r"srun: (Terminating|Job step aborted|error: .*(Exited with exit code|Terminated|Killed)|.*--help)|Try \"srun"
)
"""What srun says after a worker's last words."""

STOP_SIGNAL = signal.SIGUSR2
"""Asks a worker to stop with a checkpoint. srun passes it on, where SIGTERM makes it kill what it started."""

_OUT_OF_MEMORY = re.compile(
    r"^(?!.*failed \(oom\): ).*(oom[-_ ]kill|exceeded .*memory limit|out of memory)", re.IGNORECASE | re.MULTILINE
)
"""What SLURM says where the kernel, or SLURM itself, killed for want of memory, and what CUDA says. What `train` says
of a run that it could fail in order is of another run."""

SAID_BYTES = 4096
"""The end of what a worker said, where the reason of its death is looked for."""


class Ending(enum.Enum):
    DONE = "nothing is left to do here"
    STOPPED = "a signal came; what is left goes on in another attempt"
    AWAY = "what is left goes on elsewhere, as this node failed"


@dataclass(frozen=True)
class Place:
    """Where an attendant works: the job as FLIPSCALE_JOB names it, how often it was started before, and the node."""

    job: str
    attempt: int
    node: str


class Process(Protocol):
    """A worker as far as an attendant cares: what Popen gives, or several processes that act as one."""

    @property
    def returncode(self) -> int:
        """As Popen has it, once `poll` has said that it ended."""

    def poll(self) -> int | None: ...
    def send_signal(self, signum: int) -> None: ...
    def terminate(self) -> None: ...


@dataclass
class _Worker:
    process: "Process | subprocess.Popen[bytes]"
    began: float
    said_from: int
    """Where in the log its own words begin."""


class Breaker:
    """Stops a submission whose first runs all fail at once: what they share is wrong, and the rest would fail too.

    All jobs of the submission share its folder: instant.jsonl has the failures, stopped.json says why it stopped.
    """

    def __init__(self, folder: Path, stop: Callable[[], None], runs: Callable[[], Iterable[RunFolder]]):
        """stop: calls off what has not begun. runs: all runs of the submission."""
        self.folder, self.stop, self.runs = folder, stop, runs

    def note(self, run: RunFolder, kind: FailureKind, reason: str) -> None:
        with open(self.folder / "instant.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"run": run.id, "kind": kind, "reason": reason}) + "\n")
        failed = {
            json.loads(line)["run"] for line in (self.folder / "instant.jsonl").read_text(encoding="utf-8").splitlines()
        }
        if len(failed) < INSTANT_FAILURES or self.tripped:
            return
        if any((one.path / "result.json").exists() for one in self.runs()):
            return
        why = f"its first {len(failed)} runs failed within a minute of their start"
        last = {"run": run.id, "kind": kind, "reason": reason}
        write_json(self.folder / "stopped.json", {"schema": 1, "reason": why, "last": last, "time": time.time()})
        self.stop()

    @property
    def tripped(self) -> bool:
        return (self.folder / "stopped.json").exists()


def why_stopped(folder: Path) -> str | None:
    """What a Breaker wrote into its folder, for a person; None where it has not stopped the submission."""
    try:
        written = json.loads((folder / "stopped.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return f"its submission was stopped, as {written['reason']}"


class Attendant:
    """Sees the runs of `folders` through. `work` does it; `note` takes the signals that the job gets."""

    def __init__(
        self,
        folders: Sequence[RunFolder],
        place: Place,
        *,
        start: Callable[[Sequence[RunFolder], int], Process | subprocess.Popen[bytes]],
        log: Path,
        breaker: Breaker,
        lanes: int = 1,
        stop_seconds: float = STOP_SECONDS,
        around_seconds: float | None = None,
        node_failed: Callable[[str], bool] = lambda node: False,
        elsewhere: bool = True,
        stalled: int | str | None = None,
    ):
        """start: a worker on these runs, in this lane. log: what workers say. lanes: workers at once, at most.

        stop_seconds: so long a worker may take to stop. around_seconds: how often run folders are looked at, None is
        AROUND_SECONDS. node_failed: whether the scheduler holds a node for lost. elsewhere: whether there are other
        nodes. stalled: what the site says of stalls, see stall.py.
        """
        self.folders = list(folders)
        self.place = place
        self.start = start
        self.log = log
        self.breaker = breaker
        self.lanes = lanes
        self.stop_seconds = stop_seconds
        self.around_seconds = AROUND_SECONDS if around_seconds is None else around_seconds
        self.node_failed = node_failed
        self.elsewhere = elsewhere
        self.stalled = stalled
        self.signal: int | None = None
        self.in_hand: list[RunFolder] = []
        """What workers had begun and not ended when `work` ended."""
        self.began = time.time()
        self._workers: dict[int, _Worker] = {}
        self._away = False
        self._stays = not elsewhere
        self._stopping: float | None = None
        self._nothing_to_start = False
        self._cancelled: set[str] = set()
        """Runs in hand that somebody cancelled, and that are on their way to stop."""
        self._stalls: dict[str, str] = {}
        """Runs whose process was killed here as it had stalled, and how that showed."""

    def note(self, signum: int, frame: Any = None) -> None:
        self.signal = self.signal or signum

    def work(self) -> Ending:
        """Until all is done, a signal came, or what is left has to go elsewhere."""
        self._take_stock()
        took = 0.0
        while True:
            if self.signal or self._away or self._superseded() or self.breaker.tripped:
                self._ask_to_stop()
            else:
                took = -time.monotonic()
                self._look_around()
                took += time.monotonic()
                self._start_workers()
            if not self._workers:
                break
            self._wait(max(self.around_seconds, AROUND_SHARE * took))
            for lane in [lane for lane, worker in self._workers.items() if worker.process.poll() is not None]:
                self._judge(self._workers.pop(lane))
        if self._superseded():
            return Ending.DONE
        self.in_hand = [run for run in self._begun_since(self.began) if not run.is_over()]
        for run in self.left:
            if self._is_mine(run):
                run.release()  # No worker is left. Another host could not know.
        if self.signal:
            return Ending.STOPPED
        return Ending.AWAY if self._away else Ending.DONE

    def stay(self) -> None:
        """Go on here after all: what is left can be done nowhere else."""
        self._stays, self._away, self._stopping = True, False, None

    def give_up(self, reason: str) -> None:
        """Fail what is left, as it cannot be done here at all."""
        for run in self.left:
            self._answer(run, FailureKind.CODE, reason, took=0.0)

    def note_interruption(self, kind: FailureKind, reason: str) -> None:
        """Write down that the runs in hand were interrupted, and give up those that never come any further."""
        for run in self.in_hand:
            self._answer(run, kind, reason)

    @property
    def left(self) -> list[RunFolder]:
        return [run for run in self.folders if not run.is_over()]

    # Workers

    def _start_workers(self) -> None:
        if len(self._workers) >= self.lanes:
            return
        left = self.left
        if self._nothing_to_start or all(self._held(run) for run in left):
            return
        while len(self._workers) < min(self.lanes, len(left)):
            lane = next(lane for lane in range(self.lanes) if lane not in self._workers)
            said = self.log.stat().st_size if self.log.exists() else 0
            self._workers[lane] = _Worker(self.start(left, lane), time.time(), said)

    def _ask_to_stop(self) -> None:
        if self._stopping is None:
            self._stopping = time.monotonic()
            for worker in self._workers.values():
                worker.process.send_signal(STOP_SIGNAL)
        elif time.monotonic() - self._stopping > self.stop_seconds:
            for worker in self._workers.values():
                worker.process.terminate()

    def _wait(self, seconds: float) -> None:
        """Until a worker ends or a signal comes, but not for long: others may have done something to the runs."""
        until = time.monotonic() + seconds
        before = self.signal
        while time.monotonic() < until and self.signal == before:
            if any(worker.process.poll() is not None for worker in self._workers.values()):
                return
            time.sleep(LOOK_SECONDS)

    def _look_around(self) -> None:
        """Stop the runs in hand that somebody has cancelled, and end those that have stalled.

        The worker ends with it, and another takes up the rest.
        """
        for run in self.folders:
            lease = run.lease()
            if not lease or not lease["alive"] or not self._is_of_this_attempt(lease):
                continue
            here = lease["host"] == socket.gethostname()
            if (run.job() or {}).get("cancelled"):
                self._cancelled.add(run.id)
                if here:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(lease["pid"], signal.SIGTERM)
                else:
                    for worker in self._workers.values():
                        worker.process.send_signal(STOP_SIGNAL)
            elif run.id not in self._stalls and (why := why_stalled(run, self.stalled)):
                self._stalls[run.id] = why
                if here:
                    end_stalled(run, lease["pid"], why)
                else:
                    for worker in self._workers.values():
                        worker.process.terminate()

    def _held(self, run: RunFolder) -> bool:
        """Whether somebody has the run in hand who is not to be replaced by this attempt."""
        lease = run.lease()
        if not lease or not lease["alive"]:
            return False
        return not (lease.get("job") == self.place.job and lease.get("attempt", 0) < self.place.attempt)

    def _is_mine(self, run: RunFolder) -> bool:
        """Whether a worker of this attempt has or had the run in hand: it leaves no lease where it ends in order."""
        lease = run.lease()
        return bool(lease and self._is_of_this_attempt(lease))

    def _is_of_this_attempt(self, lease: Mapping[str, Any]) -> bool:
        return (lease.get("job"), lease.get("attempt")) == (self.place.job, self.place.attempt)

    def _superseded(self) -> bool:
        """Whether a later attempt of the same job is at work: the scheduler has given this one up."""
        leases = [run.lease() or {} for run in self.folders]
        return any(one.get("job") == self.place.job and one.get("attempt", 0) > self.place.attempt for one in leases)

    # Failures

    def _take_stock(self) -> None:
        """What an attempt before this one had in hand when it ended without a word was lost with its node, or taken
        from it by a pre-emption without grace."""
        for run in self.left:
            lease = run.lease() or {}
            attempt = lease.get("attempt", 0)
            if lease.get("job") == self.place.job and attempt < self.place.attempt and not self._is_noted(run, attempt):
                node = lease.get("node") or ""
                failed = self.node_failed(node)
                kind = FailureKind.NODE if failed else FailureKind.PREEMPTED
                what = f"the node {node} was lost" if failed else "the job was taken off its node without a warning"
                self._answer(run, kind, f"In attempt {attempt + 1} {what}.", node, attempt)

    def _is_noted(self, run: RunFolder, attempt: int) -> bool:
        """Whether that attempt had the time to say how it ended, as one whose node SLURM alone has lost."""
        last = (run.failures() or [{}])[-1]
        return (last.get("job"), last.get("attempt")) == (self.place.job, attempt)

    def _judge(self, worker: _Worker) -> None:
        """What came of a worker that has ended."""
        if self._superseded():
            return
        # Where no worker is left, none of them can hold anything, whatever a lease from another host says.
        died = [run for run in self.left if self._is_mine(run) and not (self._workers and self._held(run))]
        failed = [(run, error) for run in self.folders if (error := run.error()) and self._is_to_be_answered(error)]
        for run, error in failed:
            kind = FailureKind(error["kind"]) if error.get("kind") in set(FailureKind) else FailureKind.CODE
            took = error.get("seconds", time.time() - worker.began)
            self._answer(run, kind, error.get("reason") or "", took=took, told=True)
        if self._stopping is not None:
            return
        cause, code = self._cause_of_death(worker), worker.process.returncode
        free = [run for run in self.left if not self._held(run)]
        if died:
            kind, reason = cause or (FailureKind.CODE, f"Its process ended with code {code}{self._last_words(worker)}")
            for run in died:
                if why := self._stalls.pop(run.id, None):
                    self._answer(run, FailureKind.STALLED, why)
                else:
                    self._answer(run, kind, reason, took=time.time() - worker.began)
        elif self._cancelled or self._stalls:
            # That is what it ended for, and what is left is as good as before.
            self._cancelled.clear()
            self._stalls.clear()
        elif failed or not free:
            return
        elif cause:
            kind, reason = cause
            if kind is FailureKind.OOM:
                # Smaller parts of a batch help nothing where the program alone does not fit.
                reason = f"{reason} It had not begun: raise memory_per_process in the site file."
                self._give_up(free[0], kind, reason, took=time.time() - worker.began)
            else:
                self._answer(free[0], kind, f"{reason} It had not begun.", took=time.time() - worker.began)
        elif _signal_of(code) in _ASKED_TO_STOP:
            self.note(_signal_of(code))  # The scheduler asked the worker to stop, and us a little later.
        else:
            self._nothing_to_start = True  # What is left is in other hands, or cannot be read: so it would be again.

    def _is_to_be_answered(self, error: Mapping[str, Any]) -> bool:
        """Whether a failure is that of a worker of this job, or of one that does not say whose it is."""
        return not error.get("noted") and error.get("job", self.place.job) == self.place.job

    def _begun_since(self, when: float) -> list[RunFolder]:
        """The runs that a worker of this attempt holds or did something to since then."""
        names = ("checkpoint.pt", "metrics.jsonl", "log.txt")
        files = [(run, run.path / name) for run in self.folders for name in names]
        ids = {run.id for run, path in files if path.exists() and path.stat().st_mtime >= when}
        return [run for run in self.folders if run.id in ids or self._is_mine(run)]

    def _cause_of_death(self, worker: _Worker) -> tuple[FailureKind, str] | None:
        """Why a worker died; None where it ended as it should. Who was killed says nothing: the log does."""
        code, said = worker.process.returncode, self._said(worker)
        if _OUT_OF_MEMORY.search(said):
            return FailureKind.OOM, "It was killed as it used more memory than its job has."
        if _signal_of(code) == signal.SIGKILL:
            return FailureKind.NODE, "Its process was killed, and nothing says by whom."
        if re.search("node failure|node_fail", said, re.IGNORECASE):
            return FailureKind.NODE, "A node of its job failed."
        if code == 0 or _signal_of(code) in _ASKED_TO_STOP:
            return None
        # With 1 `train` ends after a failure that it wrote down; of one that did nothing, something is wrong with it.
        if code == 1 and self._begun_since(worker.began):
            return None
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return FailureKind.CODE, f"Its process {how}{self._last_words(worker)}"

    def _said(self, worker: _Worker) -> str:
        try:
            with open(self.log, "rb") as file:
                file.seek(max(worker.said_from, os.fstat(file.fileno()).st_size - SAID_BYTES))
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def _last_words(self, worker: _Worker) -> str:
        lines = [line for line in self._said(worker).splitlines() if line.strip() and not _CHATTER.match(line)]
        said = f"; it said: {lines[-1].strip()[:300]}" if lines else ""
        return f"{said}. See {self.log}."

    def _answer(
        self,
        run: RunFolder,
        kind: FailureKind,
        reason: str,
        node: str | None = None,
        attempt: int | None = None,
        took: float | None = None,
        told: bool = False,
    ) -> None:
        """took: seconds from the start to the failure. told: whether the run's own error.json says so."""
        here = self.place.node
        decision = answer_failure(
            run,
            kind,
            reason,
            job=self.place.job,
            attempt=self.place.attempt if attempt is None else attempt,
            node=here if node is None else node,
            elsewhere=self.elsewhere,
        )
        if decision.again:
            asked = run.asked() or {}
            if decision.resources != (asked.get("resources") or {}):
                run.ask({**asked, "resources": dict(decision.resources)})
            (run.path / "error.json").unlink(missing_ok=True)  # From here on anybody may take it up.
            self._away = self._away or (decision.away and not self._stays and node in (None, here))
            self._nothing_to_start = False
            return
        if told and run.error() is None:
            return  # somebody has submitted it again meanwhile, and it is another job's
        self._give_up(run, kind, f"{_sentence(reason)} {_sentence(decision.says)}", took=took)

    def _give_up(self, run: RunFolder, kind: FailureKind, reason: str, took: float | None = None) -> None:
        run.write_error(kind, reason, noted=True)
        instant = took is not None and took < INSTANT_SECONDS
        if instant and kind in (FailureKind.CODE, FailureKind.DATA, FailureKind.OOM):
            self.breaker.note(run, kind, reason)


def answer_failure(
    run: RunFolder, kind: FailureKind, reason: str, *, elsewhere: bool = True, **attempt: Any
) -> Decision:
    """Decide what is done about a failure of the run, and write both down. attempt: its job, number and node."""
    asked, earlier = run.asked() or {"settings": {}}, run.failures()
    samples = (last_records(run)[0] or {}).get("samples", 0)
    decision = decide(kind, earlier, asked, samples, elsewhere=elsewhere)
    parts = decision.resources.get("accumulate")
    more = {"accumulate": parts} if kind is FailureKind.OOM and decision.again else {}
    run.note_failure({"kind": kind, "reason": reason, "then": decision.says, "samples": samples, **attempt, **more})
    return decision


def _signal_of(code: int) -> int:
    """The signal that an exit code stands for, as Popen gives it or as a shell does; below 1 if for none."""
    return -code if code < 0 else code - 128


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}{'' if words.endswith(('.', '!', '?')) else '.'}" if words else ""
