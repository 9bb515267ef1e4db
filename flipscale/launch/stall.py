"""When a run counts as stalled, and how it is ended: with the stacks of its threads in its log.

A run shows life with every step, record, checkpoint and batch of an evaluation (`RunFolder.life`). It is stalled when
it has shown none for MULTIPLE of its own steps, or of its own time between records where another program trains, and
for FLOOR_SECONDS at least: waiting for a busy machine or a slow disk is not a stall. A start and an evaluation may take
START_SECONDS. `stalled` in a study's resources or in a site file replaces the first two.
"""

import contextlib
import os
import signal
import statistics
import time
from dataclasses import dataclass
from itertools import pairwise

from flipscale.run import STACKS_SIGNAL, Doing, RunFolder, RunRequest
from flipscale.words import duration

FLOOR_SECONDS = 600.0
"""No run counts as stalled earlier than this, unless its study or its site says so."""

MULTIPLE = 20
"""A run is stalled after this many of its steps, or times between records, without a sign of life."""

START_SECONDS = 7200.0
"""Before the first step data may be fetched and decoded, and a model compiled; each part shows no life while it lasts.
The same holds for parts of an evaluation, such as the linear probe's fits."""

QUIET_SECONDS = 60.0
QUIET_MULTIPLE = 5
"""`status` and `watch` report silence after this time, well before it is a stall."""

STACKS_SECONDS = 5.0
"""How long a process has to write its stacks. It does so in its signal handler, whatever else it does."""

TAIL_BYTES = 16384
LAST_RECORDS = 20
"""Number of records at the end of metrics.jsonl from which the time of its steps is taken."""


@dataclass(frozen=True)
class Silence:
    """How long a run has shown no life."""

    doing: Doing
    seconds: float
    unit: float | None
    """Seconds that it takes from one sign of life to the next, by its record; None if unknown."""

    @property
    def is_quiet(self) -> bool:
        """Whether its last recorded speed no longer holds."""
        return self.seconds > max(QUIET_SECONDS, QUIET_MULTIPLE * (self.unit or 0))

    @property
    def says(self) -> str:
        """'no step for 12 min'."""
        return f"no {_MISSED[self.doing]} for {duration(self.seconds)}"


_MISSED = {
    Doing.STARTING: "first step",
    Doing.TRAINING: "step",
    Doing.PROGRAM: "record",
    Doing.EVALUATING: "progress of its evaluation",
}


def silence(run: RunFolder, *, ahead: float = 0.0) -> Silence | None:
    """The silence of a run that is in hand; None where it gives no signs of life.

    ahead: seconds by which the clock that dates its files is ahead of this machine's.
    """
    life = run.life()
    if life is None:
        return None
    seconds = max(0.0, time.time() + ahead - life.time)
    return Silence(life.doing, seconds, _unit(run, life.doing) if seconds > 1 else None)


def limit(silent: Silence, asked: RunRequest, site: int | str | None = None) -> float | None:
    """Seconds of silence after which the run is stalled; None if it never is.

    site: what its site says, which counts where its study says nothing.
    """
    of_study = asked.resources.stalled
    set_to = site if of_study is None else of_study
    if set_to == "never":
        return None
    seconds = None if set_to is None else float(set_to)
    if silent.doing is Doing.STARTING and asked.runs_a_command:
        # A user's own program need not write anything before its end.
        return seconds if seconds is not None or silent.unit is None else START_SECONDS
    if silent.doing in (Doing.STARTING, Doing.EVALUATING):
        return max(START_SECONDS, seconds or 0.0)
    return max(FLOOR_SECONDS, MULTIPLE * (silent.unit or 0.0)) if seconds is None else seconds


def why_stalled(run: RunFolder, site: int | str | None = None, *, ahead: float = 0.0) -> str | None:
    """A sentence on the stall of a run that is in hand; None if it has not stalled."""
    silent = silence(run, ahead=ahead)
    if silent is None:
        return None
    most = limit(silent, run.asked() or RunRequest(run.id, {}), site)
    if most is None or silent.seconds <= most:
        return None
    usual = f", where one takes {silent.unit:.2g} s" if silent.unit else ""
    said = silent.says
    return f"{said[:1].upper()}{said[1:]}{usual}; the limit is {duration(most)}."


def end_stalled(run: RunFolder, pid: int, why: str) -> None:
    """Have the process on this machine that holds the run write its stacks into the run's log, then kill its tree."""
    run.say(f"{why} Its stacks follow, then it is killed.")
    log = run.path / "log.txt"
    size = log.stat().st_size
    for process in tree(pid):
        if process == pid or _is_worker(process):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, STACKS_SIGNAL)
                os.kill(process, signal.SIGCONT)  # A stopped process would not write them.
    until = time.monotonic() + STACKS_SECONDS
    while time.monotonic() < until and log.stat().st_size == size:
        time.sleep(0.1)
    time.sleep(1)  # Other processes write theirs; longer, and a process that was stopped would train on.
    kill_tree(pid)


def _is_worker(pid: int) -> bool:
    """Whether it is another process of the same run, which writes its stacks as the first does."""
    import psutil

    with contextlib.suppress(psutil.Error):
        return " -m flipscale train " in " ".join(psutil.Process(pid).cmdline())
    return False


def _unit(run: RunFolder, doing: Doing) -> float | None:
    """The median time from one sign of life to the next, over the last records: of a step, or between two records."""
    seen: list[tuple[int, float]] = []
    for record in run.last_records(TAIL_BYTES):
        with contextlib.suppress(ValueError, TypeError, KeyError):
            if "scores" not in record:
                seen.append((record["step"], float(record["time"])))
    spans = [
        (then - before) / (1 if doing is Doing.PROGRAM else last - first)
        for (first, before), (last, then) in pairwise(seen[-LAST_RECORDS - 1 :])
        if last > first and then >= before
    ]
    return statistics.median(spans) if spans else None


def tree(pid: int) -> list[int]:
    """The pids of a process and of all that came from it, its own first; none where it is gone."""
    import psutil  # A machine that only plans and reads results may lack it.

    try:
        process = psutil.Process(pid)
        return [pid, *(child.pid for child in process.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def kill_tree(pid: int) -> None:
    """Kill the process and all that came from it. Stopped ones are killed as well."""
    doomed: set[int] = set()
    while new := set(tree(pid)) - doomed:  # It may start others until it is dead.
        doomed |= new
        for process in new:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)
