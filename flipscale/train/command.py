"""A training command of the user's own: any program that works on a run's folder can train, beside flipscale's trainer.

    trainer: {command: {arguments: [python, train.py]}}

The program is started with the run's folder as its last argument, or wherever {folder} stands in the arguments, and
with FLIPSCALE_RUN set to the folder. It

    reads    run.json       what is asked: "settings", complete
    appends  metrics.jsonl  a JSON object a line with "step" and what was seen, if there is something to say
    writes   outcome.json   {"scores": {name: number, ...}} and whatever else it measured, at the end, then exits with 0
    may keep checkpoint.pt  and go on from it: when it is stopped by a signal it is started again, in the same folder
    may write model.pt      weights as open_clip loads them, where runs are to start from this one
    may write error.json    {"kind": "diverged", "reason": "..."} before it exits with another code

What it prints goes to log.txt. flipscale adds what it measured itself and writes result.json, whose presence means
finished; a program may write a whole result.json instead. All that `run_program` knows of is files and processes.
"""

import contextlib
import importlib.metadata
import json
import math
import os
import queue
import re
import resource
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any, NoReturn

import torch

from flipscale.cost import steps_of
from flipscale.errors import FlipscaleError
from flipscale.inputs.program import FOLDER, no_such_program, not_started, search_path
from flipscale.plan import stage
from flipscale.run import HEARTBEAT_SECONDS, Doing, Failure, FailureKind, Lease, Result, RunFolder, birth, is_alive
from flipscale.run.codec import result_from_json, with_samples_seen
from flipscale.scores import is_fraction
from flipscale.train.failure import Failed
from flipscale.train.stop import Stop
from flipscale.train.task import line_of, parent_of

GRACE_SECONDS = 45.0
"""A program that was sent a signal may go on for so long, to write a checkpoint. A local worker is given 60 seconds."""

TAIL = 4
"""So many of the program's last lines are quoted when it fails."""

_IDLE_TALK = re.compile(r"I\d{4} \d\d:")
"""What torch logs at the end of a process whose logging is at INFO. It would hide why the process failed."""

KINDS = (FailureKind.OOM, FailureKind.DISK, FailureKind.DATA, FailureKind.DIVERGED, FailureKind.CODE)
"""What a program may say in error.json that it failed of."""

NUMBERS = (
    "samples_seen", "samples", "steps", "unique_pairs", "repeats", "train_seconds", "cpu_seconds", "evaluation_seconds",
    "images_per_second", "attempts", "devices", "gpu_hours", "peak_memory_bytes", "final_loss", "params",
    "corrupt_samples", "started", "finished",
)  # fmt: skip
"""What result.json holds as numbers, beside the scores. A program may measure any of them itself."""

Say = Callable[[str], None]


def run_command(run: RunFolder, lease: Lease, stop: Stop, say: Say) -> bool:
    """Let the run's command train: True if it finished, False if a signal stopped it on the way.

    Raises Failed, by kind, if the program ends otherwise, and FlipscaleError if it cannot be started or leaves no
    outcome.
    """
    asked = run.asked()
    assert asked is not None
    command = asked.settings["trainer"]["command"]["arguments"]
    # What an attempt before left behind must not pass for the outcome of this one.
    (run.path / "outcome.json").unlink(missing_ok=True)
    ended = run_program(with_folder(command, run), run, lease, stop, say)
    name = " ".join(command)
    if ended.stopped and _own_error(run) is None and (ended.code != 0 or _found(run) is None):
        say(f"stopped by {stop.name}; {name} is started again in this folder when the run goes on")
        return False
    ended.raise_failure(name, run)
    lease.write_result(complete(_outcome(run, name), run, ended.attempts))
    for leftover in ("outcome.json", "program.json", "checkpoint.pt"):
        (run.path / leftover).unlink(missing_ok=True)
    say(f"finished, {ended.attempts.seconds:.1f} s of {name}")
    return True


def with_folder(arguments: Sequence[str], run: RunFolder) -> list[str]:
    """The arguments with the run's folder in place of {folder}, or after them."""
    folder = str(run.path.resolve())
    if any(FOLDER in argument for argument in arguments):
        return [argument.replace(FOLDER, folder) for argument in arguments]
    return [*arguments, folder]


# The program


@dataclass
class Attempts:
    """What is known of a run's program over all its attempts; program.json while it trains."""

    started: float
    attempts: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int | None = None


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    code: int
    """Its exit code; less than 0 for the signal that killed it."""
    stopped: bool
    """Whether it was asked to stop."""
    attempts: Attempts
    tail: Sequence[str] = field(default=())
    """Its last lines."""

    def raise_failure(self, name: str, run: RunFolder) -> None:
        """Raise Failed unless the program ended well, with the kind that it gave itself or that its end shows."""
        said = _own_error(run)
        if self.code == 0 and said is None:
            return
        if said is not None:
            raise Failed(said)
        text = "\n".join(self.tail)
        # A shell that ran the program reports its death by a signal as 128 and the signal.
        killed = self.code in (-signal.SIGKILL, 128 + signal.SIGKILL)
        if killed or any(word in text for word in ("MemoryError", "OutOfMemoryError", "out of memory")):
            kind = FailureKind.OOM
        elif "No space left on device" in text or "Disk quota exceeded" in text:
            kind = FailureKind.DISK
        else:
            kind = FailureKind.CODE
        if self.code < 0:
            end = f"was killed by {signal.Signals(-self.code).name}"
        else:
            end = f"ended with exit code {self.code}"
        hint = ", which is what the system does where memory is short" if killed else ""
        quoted = f"It said last: {' | '.join(self.tail)}" if self.tail else "It said nothing."
        raise Failed(Failure(kind, f"{name} {end}{hint}. All of its output is in log.txt. {quoted}"))


class Program:
    """A program at work. It leads a session of its own, so that its children are signalled and counted with it."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]):
        self.began = time.monotonic()
        try:
            self._process = subprocess.Popen(
                arguments,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except (FileNotFoundError, NotADirectoryError):
            raise no_such_program(arguments[0]) from None
        except OSError as error:
            raise not_started(arguments[0], error.strerror) from error
        self.pid = self._process.pid
        self.born = birth(self.pid)
        self.usage: resource.struct_rusage | None = None
        # Read from the moment it starts: a program whose output nobody takes stands still.
        self.lines: queue.SimpleQueue[tuple[float, str]] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def code(self) -> int | None:
        """The exit code once the program has ended and what it wrote has been read; None before that."""
        if self.usage is None:
            # wait4 tells, unlike Popen's poll, what the program and the children it waited for have used.
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
            if not pid:
                return None
            self.usage, self._process.returncode = used, os.waitstatus_to_exitcode(status)
            # What outlives the program holds its output open, and would write into a folder that is no longer its own.
            self.signal(signal.SIGKILL)
            self._reader.join(timeout=5)
        return self._process.returncode

    def signal(self, signum: int) -> None:
        """Send a signal to the program and its children."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signum)

    def end(self) -> None:
        """Leave nothing of it alive."""
        while self.code() is None:
            self.signal(signal.SIGKILL)
            time.sleep(0.01)

    def _read(self, output: IO[bytes]) -> None:
        with output:
            for line in output:
                self.lines.put((time.monotonic(), line.decode(errors="replace").rstrip("\r\n").rpartition("\r")[2]))


def run_program(
    arguments: Sequence[str],
    run: RunFolder,
    lease: Lease,
    stop: Stop,
    say: Say,
    *,
    environment: Mapping[str, str | None] | None = None,
    heed: Callable[[str, float, Program], None] | None = None,
) -> Ended:
    """Start a program on the run and stay with it until it has ended.

    Its output goes to log.txt, and each line of it is a sign of life. A signal that comes here is passed on to it and
    its children; after GRACE_SECONDS they are killed. They are killed too when the lease is lost or `heed` raises:
    nothing goes on without flipscale.

    environment: what is set for the program, or with None taken from it.
    heed: is called with each line of the output, the time (monotonic) it came and the program.
    """
    lease.mend_records()
    _end_leftover(run, say)
    attempts = known_attempts(run)
    before = Attempts(**asdict(attempts))
    attempts.attempts += 1
    say(f"attempt {attempts.attempts}: {' '.join(arguments)}")
    program = Program(arguments, _environment(run, environment or {}))
    tail: deque[str] = deque(maxlen=TAIL)
    deadline: float | None = None
    looked, recorded = -math.inf, run.tail("metrics.jsonl", 64)
    try:
        with run.open_log() as log:
            while True:
                code = program.code()
                for when, line in _waiting(program.lines, seconds=0.1 if code is None else 0.001):
                    log.write(f"{line}\n")
                    lease.live()
                    if line.strip() and not _IDLE_TALK.match(line):
                        tail.append(line.strip())
                    if heed is not None:
                        heed(line, when, program)
                log.flush()
                if code is not None or time.monotonic() - looked > HEARTBEAT_SECONDS:
                    looked = time.monotonic()
                    lease.fence()
                    if (last := run.tail("metrics.jsonl", 64)) != recorded:
                        recorded = last
                        lease.live(Doing.PROGRAM)
                    _count(attempts, before, program)
                    _write(lease, attempts, program)
                if code is not None:
                    return Ended(code, deadline is not None, attempts, tuple(tail))
                if stop.signal is not None and deadline is None:
                    say(f"passing {stop.name} on to process {program.pid}, which has {GRACE_SECONDS:.0f} s to end")
                    program.signal(stop.signal)
                    deadline = time.monotonic() + GRACE_SECONDS
                if deadline is not None and time.monotonic() > deadline:
                    program.signal(signal.SIGKILL)
    finally:
        program.end()


def _waiting(lines: queue.SimpleQueue[tuple[float, str]], seconds: float) -> Iterator[tuple[float, str]]:
    """The lines that are there, or the first that comes within so many seconds."""
    with contextlib.suppress(queue.Empty):
        yield lines.get(timeout=seconds)
        # No more than were there at first: a program that never stops talking must not keep us from all else.
        for _ in range(lines.qsize()):
            yield lines.get_nowait()


def _environment(run: RunFolder, changes: Mapping[str, str | None]) -> dict[str, str]:
    environment: dict[str, str | None] = {
        **os.environ,
        "FLIPSCALE_RUN": str(run.path.resolve()),
        "PYTHONUNBUFFERED": "1",
        "PATH": search_path(),
        **changes,
    }
    return {name: value for name, value in environment.items() if value is not None}


def known_attempts(run: RunFolder) -> Attempts:
    """What is known of the attempts so far; a beginning, if there was none."""
    try:
        return Attempts(**json.loads((run.path / "program.json").read_text(encoding="utf-8"))["attempts"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return Attempts(started=time.time())


def _end_leftover(run: RunFolder, say: Say) -> None:
    """End the program of an attempt whose flipscale was killed: it may still live, and write."""
    try:
        known = json.loads((run.path / "program.json").read_text(encoding="utf-8"))
        host, pid, born = known["host"], int(known["pid"]), str(known["born"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return
    if host == socket.gethostname() and born and is_alive(pid, born):
        say(f"ending process {pid}, left over from an attempt whose flipscale was killed")
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        while is_alive(pid, born):
            time.sleep(0.05)


def _write(lease: Lease, attempts: Attempts, program: Program) -> None:
    known = {
        "schema": 1,
        "host": socket.gethostname(),
        "pid": program.pid,
        "born": program.born,
        "attempts": asdict(attempts),
    }
    with lease.replace("program.json") as file:
        file.write(json.dumps(known, indent=1).encode())


def _count(attempts: Attempts, before: Attempts, program: Program) -> None:
    """Bring what is known of the program up to date."""
    attempts.seconds = before.seconds + program.seconds
    if program.usage is None:
        cpu, memory = usage(program.pid)
    else:
        cpu, memory = program.usage.ru_utime + program.usage.ru_stime, 1024 * program.usage.ru_maxrss
    # Children that it did not wait for were seen while they lived, and are not in what it used at its end.
    attempts.cpu_seconds = max(attempts.cpu_seconds, before.cpu_seconds + cpu)
    attempts.peak_memory_bytes = max(attempts.peak_memory_bytes or 0, memory) or None


def usage(session: int) -> tuple[float, int]:
    """CPU seconds of all processes of a session so far, and the peak memory of one in bytes; 0 without /proc."""
    ticks, memory = 0, 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == session:
                # Its own time and that of the children it has waited for.
                ticks += sum(map(int, fields[11:15]))
                peak = (
                    (stat.parent / "status")
                    .read_text(encoding="utf-8", errors="replace")
                    .partition("VmHWM:")[2]
                    .split()
                )
                memory = max(memory, 1024 * int(peak[0])) if peak else memory
    return ticks / os.sysconf("SC_CLK_TCK"), memory


# The outcome


def _found(run: RunFolder) -> str | None:
    """The file that the program left its outcome in."""
    return next((name for name in ("outcome.json", "result.json") if (run.path / name).exists()), None)


def _outcome(run: RunFolder, name: str) -> dict[str, Any]:
    """What the program says of its training, checked. Raises FlipscaleError for what is missing or cannot be right."""
    path = run.path / (_found(run) or "outcome.json")

    def refuse(what: str, right: str = 'write {"scores": {"zero_shot_top1": 0.41}} there at its end') -> NoReturn:
        # result.json means finished, and a run with such an outcome is not.
        (run.path / "result.json").unlink(missing_ok=True)
        raise FlipscaleError(f"{name} ended with exit code 0, but {path.name} {what}; {right}.")

    try:
        outcome = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        refuse("is missing")
    except ValueError as error:
        refuse(f"is not JSON ({error})")
    scores = outcome.get("scores") if isinstance(outcome, dict) else None
    if not isinstance(scores, dict):
        refuse('holds no object "scores"')
    if not isinstance(outcome.get("versions", {}), dict):
        refuse('holds "versions" that are no object')
    told = {f"scores.{score}": value for score, value in scores.items()}
    told |= {number: outcome[number] for number in NUMBERS if number in outcome}
    for what, value in told.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            refuse(f"gives {what} as {value!r}, which is no number")
    for score, value in scores.items():
        if value is not None and not math.isfinite(value):
            (run.path / "result.json").unlink(missing_ok=True)
            raise Failed(
                Failure(FailureKind.DIVERGED, f"{name} gives {score} as {value}; lower lr or lengthen warmup.")
            )
    for what, value in told.items():
        if value is not None and (right := _right_range(what, value)):
            refuse(f"gives {what} as {value}", right)
    for what, wanted, slack in _asked_amounts(run):
        if (value := outcome.get(what)) is not None and abs(value - wanted) > slack:
            refuse(f"gives {what} as {value}", f"asked for were {wanted}, give or take a batch: train for so many")
    return {**with_samples_seen(outcome), "scores": scores}


def _right_range(what: str, value: float) -> str | None:
    """What would be right in place of a number that cannot be."""
    if is_fraction(what.removeprefix("scores.")) and not 0 <= value <= 1:
        return "write a fraction from 0 to 1" + (f", {value / 100:g} for {value:g} %" if 1 < value <= 100 else "")
    if not what.startswith("scores.") and what != "final_loss" and not 0 <= value < math.inf:
        return "write a number from 0 on, or leave it out"
    return None


def _asked_amounts(run: RunFolder) -> list[tuple[str, int, int]]:
    """Names, what was asked for, and how far from that the program may have ended: a batch of its own rounding."""
    asked = run.asked()
    assert asked is not None
    settings = stage(asked.settings)
    steps, batch_size = steps_of(settings), settings["batch_size"]
    seen = [(name, steps * batch_size, batch_size) for name in ("samples_seen", "samples")]
    return [*seen, ("steps", steps, 1)]


def _own_error(run: RunFolder) -> Failure | None:
    """What the program itself wrote into error.json."""
    try:
        said = json.loads((run.path / "error.json").read_text(encoding="utf-8"))
        return Failure(FailureKind(said["kind"]) if said["kind"] in KINDS else FailureKind.CODE, str(said["reason"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        what = f"is no JSON ({error})" if isinstance(error, ValueError) else "holds no kind and reason"
        return Failure(
            FailureKind.CODE,
            f'The program failed, and its error.json {what}; have it write {{"kind": "diverged", "reason": "..."}}, '
            f"where the kind is {', '.join(KINDS[:-1])} or {KINDS[-1]}. All of its output is in log.txt.",
        )


def complete(outcome: Mapping[str, Any], run: RunFolder, attempts: Attempts) -> Result:
    """The outcome, and where it is silent what flipscale measured or what was asked for."""
    asked = run.asked()
    assert asked is not None
    settings, resources = stage(asked.settings), asked.resources
    on_gpu = torch.cuda.is_available()
    steps = steps_of(settings)
    found: dict[str, Any] = {
        "steps": steps,
        "samples_seen": steps * settings["batch_size"],
        "unique_pairs": None,
        "repeats": None,
        "train_seconds": attempts.seconds,
        "cpu_seconds": attempts.cpu_seconds or None,
        "evaluation_seconds": None,
        "attempts": attempts.attempts,
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "devices": (resources.get("gpus") or 1) if on_gpu else torch.get_num_threads(),
        "peak_memory_bytes": None if on_gpu else attempts.peak_memory_bytes,
        "started": attempts.started,
        "finished": time.time(),
        "final_loss": final_loss(run, steps),
        "params": None,
        "corrupt_samples": None,
        "versions": {},
        **outcome,
    }
    seconds, cpu_seconds, unique = found["train_seconds"], found["cpu_seconds"], found["unique_pairs"]
    if settings["data_size"] is not None and "unique_pairs" not in outcome:
        unique = found["unique_pairs"] = min(settings["data_size"], found["samples_seen"])
    if unique and found["repeats"] is None:
        found["repeats"] = found["samples_seen"] / unique
    if seconds:
        found.setdefault("images_per_second", found["samples_seen"] / seconds)
    # As in flipscale's own trainer: on a CPU a device is a core, and its hours are those it worked.
    hours = seconds * found["devices"] / 3600 if on_gpu and seconds else (cpu_seconds or seconds or 0) / 3600
    found.setdefault("gpu_hours", hours or None)
    found["versions"] = {"flipscale": _version(), **found["versions"]}
    return replace(result_from_json(found, run.path), parent=line_of(parent_of(run)))


def final_loss(run: RunFolder, steps: int) -> float | None:
    """The mean of the losses recorded over the last 5 % of the steps; None if there are none."""
    records = run.records()[0]
    losses = [record["loss"] for record in records if record["step"] > 0.95 * steps and record.get("loss") is not None]
    return sum(losses) / len(losses) if losses else None


def _version() -> str | None:
    try:
        return importlib.metadata.version("flipscale")
    except importlib.metadata.PackageNotFoundError:
        return None
