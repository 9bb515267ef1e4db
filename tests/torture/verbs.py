"""Runs a verb of the command line in this process: what it printed, and whether it ended as it should.

Starting Python 2,000 times would take half an hour. A case therefore runs in a worker that is forked from a process
with everything imported. An alarm ends a case after SECONDS; if that does not help, the worker is killed.
"""

import contextlib
import io
import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from flipscale.cli import main
from tests.torture.counts import Counts

SECONDS = 30
"""A case that takes longer counts as a hang."""

PATIENCE = 400
"""A worker that reports nothing for longer is killed, because the alarm could not end its case."""

MEMORY = 2 * 2**30
"""Bytes that a case may take on top of what its worker has."""


class TimeIsOver(BaseException):
    """A BaseException, so that no `except Exception` in the code catches it."""


@dataclass(frozen=True)
class Outcome:
    """How a case ended."""

    code: int | str
    said: str
    wrong: str = ""
    """One of KINDS, or '' if it ended as it should."""


def ran(arguments: Sequence[str], seconds: float = SECONDS) -> Outcome:
    """Run one command here, with captured output."""
    return judged(lambda: main(list(arguments)), seconds)


def judged(do: Callable[[], Any], seconds: float = SECONDS) -> Outcome:
    """Call `do` with captured output. It may return an exit code, or raise SystemExit, as argparse does."""
    said = io.StringIO()
    code: int | str = "raised"

    began = last = time.process_time()

    def over(signum: int, frame: Any) -> None:
        nonlocal last
        now, before = time.process_time(), last
        # On a busy machine a case gets part of the CPU: it hangs if it has used its seconds, or hardly any for long.
        if now - began >= 0.8 * seconds or now - before < 0.02 * seconds:
            raise TimeIsOver
        last = now
        signal.setitimer(signal.ITIMER_REAL, seconds)

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                code = do() or 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            except MemoryError:
                return Outcome(code, traceback.format_exc(), "over_memory")
            except Exception:
                return Outcome(code, traceback.format_exc(), "tracebacks")
    except TimeIsOver:
        return Outcome(code, f"{said.getvalue()[-300:]}\n{''.join(traceback.format_exc())}", "hangs")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    text = said.getvalue()
    return Outcome(code, text, "tracebacks" if "Traceback (most recent call last)" in text else "")


@dataclass(frozen=True)
class Case:
    """Something to do in a worker; `name` is enough to reproduce it."""

    name: str
    do: Callable[[], Outcome]


def count(cases: Iterable[Case], workers: int = 0, say: Callable[[str], None] = lambda line: None) -> Counts:
    """Do the cases in forked workers, and count what went wrong."""
    listed = list(cases)
    workers = workers or max(1, min(len(os.sched_getaffinity(0)), 4))
    counts = Counts()
    shares = [listed[first::workers] for first in range(workers)]
    running = [_Share(share) for share in shares if share]
    said = time.monotonic()
    while running:
        for share in list(running):
            counts.add(share.look())
            if share.is_over:
                running.remove(share)
        if time.monotonic() > said + 15:
            said = time.monotonic()
            say(f"  {counts.cases:,} of {len(listed):,} cases")
    return counts


class _Share:
    """The cases of a worker, which is restarted after a case that ended it."""

    def __init__(self, cases: Sequence[Case]):
        self.cases = list(cases)
        self.done = 0
        self.is_over = False
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(self.cases[self.done :], theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.heard = time.monotonic()

    def look(self) -> Counts:
        counts = Counts()
        if self.pipe.poll(0.05):
            try:
                outcome = self.pipe.recv()
            except EOFError:
                self._ended(counts)
                return counts
            self.heard = time.monotonic()
            self._note(outcome, counts)
        elif time.monotonic() > self.heard + PATIENCE:
            self.process.kill()
            self.process.join()
            self._note(Outcome("killed", "it did not end at its time limit", "hangs"), counts)
            if not self.is_over:
                self._start()
        return counts

    def _ended(self, counts: Counts) -> None:
        self.process.join()
        if self.done < len(self.cases):
            what = f"its worker ended with code {self.process.exitcode}"
            self._note(Outcome("died", what, "tracebacks"), counts)
        if self.done < len(self.cases):
            self._start()
        else:
            self.is_over = True

    def _note(self, outcome: Outcome, counts: Counts) -> None:
        case = self.cases[self.done]
        self.done += 1
        counts.cases += 1
        if outcome.wrong:
            counts.report(outcome.wrong, f"{case.name}: {outcome.said}")
        self.is_over = outcome.code == "killed" and self.done == len(self.cases)


def _end_of(said: str) -> str:
    """The first and the last lines of a text, in one line."""
    lines = [line.strip() for line in said.strip().splitlines() if line.strip("^~ ")]
    return " / ".join([*(line[:300] for line in lines[:1]), *lines[1:][-4:]])[-900:]


def _work(cases: Sequence[Case], pipe: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    limit = _address_space() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for case in cases:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            outcome = case.do()
        except BaseException:
            outcome = Outcome("raised", traceback.format_exc(), "tracebacks")
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if not outcome.wrong and (after - before) * 1024 > MEMORY:
            outcome = Outcome(outcome.code, f"{(after - before) / 2**20:.1f} GB", "over_memory")
        pipe.send(Outcome(outcome.code, _end_of(outcome.said), outcome.wrong))
    pipe.close()
    sys.stdout.flush()
    os._exit(0)


def _address_space() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
