"""The display of a study that is followed: a screenful at a terminal, which rich redraws in place, or else lines."""

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flipscale.errors import printable
from flipscale.launch.progress import RunProgress, StudyProgress, rewritable
from flipscale.launch.states import run_folder
from flipscale.plain_files import or_none
from flipscale.run import State
from flipscale.scores import is_fraction, lower_is_better, set_and_score
from flipscale.words import count, duration, hours, hours_or_seconds

LINES_EVERY_SECONDS = 10.0
"""Seconds between lines on a study without a terminal; starts and ends are reported at once."""

LATELY = 20
"""Number of runs finished during the watch that are remembered."""

MOST_BAD = 3
"""Number of badly ended runs that get a line each."""

MOST_RUNNING = 100
"""Number of running runs that are drawn, more than a terminal has lines."""


class Display:
    """Shows how a study goes while the block runs: at a terminal a screenful that is redrawn in place, elsewhere a line
    every 10 s, and one for each run that starts or ends.

    Afterwards the terminal is as it was before, with a line for each bad end and one on the study.
    """

    def __init__(
        self,
        stream: TextIO,
        study: str,
        *,
        unit: str = "GPU-hours",
        score: str | None = None,
        ctrl_c: str = "leaves; the runs go on",
    ):
        """score: the one to show for each run; None shows an accuracy, or another score where no run has one."""
        self.stream = stream
        self.study = study
        self.unit = unit
        self.score = score
        self.ctrl_c = ctrl_c
        self.progress: StudyProgress | None = None
        """The latest look."""
        self.lately: deque[RunProgress] = deque(maxlen=LATELY)
        self._before: dict[str, State] = {}
        self._bad_ends: list[str] = []
        self._spoke = time.monotonic()
        self._live: Live | None = None
        if rewritable(stream):
            console = Console(file=stream)
            self._live = Live(
                console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
            )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
            for line in self._bad_ends:
                self.say(line)
            if self.progress:
                self.say(str(self.progress))

    def follow(self, progress: StudyProgress, results: Path) -> None:
        """Show this look in place of the one before."""
        if self.progress is None:
            # Finished runs, and those of no interest here, are in the counts of the study's line.
            self._before = {run.id: run.state for run in progress.runs if run.state is not State.RUNNING}
            if progress.active and not self._live:
                self.say(_study_line(progress))
        self.progress = progress
        self._note_changes(progress, results)
        if self._live:
            drawn = screenful(
                progress, study=self.study, unit=self.unit, score=self.score, lately=self.lately, ctrl_c=self.ctrl_c
            )
            self._live.update(drawn, refresh=True)
        elif not progress.active or time.monotonic() - self._spoke >= LINES_EVERY_SECONDS:
            self.say(_study_line(progress))

    def say(self, line: str) -> None:
        self.stream.write(f"{printable(line)}\n")
        self.stream.flush()
        self._spoke = time.monotonic()

    def _note_changes(self, progress: StudyProgress, results: Path) -> None:
        """A line for each run that has changed its state, and one for all that were cancelled together."""
        changed = [run for run in progress.runs if run.state is not self._before.get(run.id)]
        together = _cancelled_together(changed)
        for run in changed:
            if run.state is State.FINISHED:
                self.lately.appendleft(run)
            if run.state is not State.CANCELLED or run.says not in together:
                self._note(_ended_badly(run, results) or str(run), run.state)
        for says, number in together.items():
            self._note(f"{count(number, 'run')}: cancelled, {says}", State.CANCELLED)
        self._before = {run.id: run.state for run in progress.runs}

    def _note(self, line: str, state: State) -> None:
        if self._live is None:
            self.say(line)
        elif state in (State.FAILED, State.LOST, State.CANCELLED):
            self._bad_ends.append(line)


def _study_line(progress: StudyProgress) -> str:
    """The study and the first run that runs; where none does, why the first of them waits."""
    running = next((str(run) for run in progress.runs if run.state is State.RUNNING), "")
    more = running or next((run.says for run in progress.runs if run.says), "")
    return f"{progress}; {more}" if more and progress.active else str(progress)


def _cancelled_together(runs: Sequence[RunProgress]) -> dict[str, int]:
    """How many of the runs were cancelled for the same reason, where several were: their submission was stopped."""
    reasons = Counter(run.says for run in runs if run.state is State.CANCELLED and run.says)
    return {says: number for says, number in reasons.items() if number > 1}


def _ended_badly(run: RunProgress, results: Path) -> str | None:
    """The report on a run that did not end well."""
    if run.failure:
        return run.line(f"failed ({run.failure.kind}): {run.failure.reason}")
    # `says` already reports a damaged job.json.
    if run.state is State.LOST and (job := or_none(run_folder(results, run.id).job)):
        how = f" ({run.says})" if run.says else ""
        return run.line(f"lost, its process is gone{how}; its output is in {job.log}")
    return None


def screenful(
    progress: StudyProgress,
    *,
    study: str,
    unit: str = "GPU-hours",
    score: str | None = None,
    lately: Sequence[RunProgress] = (),
    ctrl_c: str = "leaves; the runs go on",
) -> Group:
    """The counts and the pace, why runs wait or ended badly, then running runs and those that finished `lately`.

    The terminal cuts off what it has no room for, so what matters most comes first.
    """
    running, waiting, failed, lost = (
        [run for run in progress.runs if run.state is state]
        for state in (State.RUNNING, State.WAITING, State.FAILED, State.LOST)
    )
    bad = failed + lost
    shown = score or _best_known([*running, *lately])
    bar = Table.grid(expand=True)  # A bar alone does not end its line.
    bar.add_row(ProgressBar(total=1.0, completed=progress.done))
    of_score = f"score is {shown}. " if shown else ""
    lines: list[RenderableType] = [
        _text(f"{study} watched {duration(progress.elapsed)}", "bold"),
        _text(progress.counts),
        bar,
        _text(_pace(progress, unit)),
        _text(f"{of_score}Ctrl-C {ctrl_c}.", "dim"),
    ]
    why = Counter(run.says for run in waiting if run.says).most_common(1)
    lines += [_line(f"{number} waiting: {says}") for says, number in why]
    lines += [
        _line(f"{_name(run)} {run.state}{f': {run.says}' if run.says else ''}", "red") for run in bad[::-1][:MOST_BAD]
    ]
    if len(bad) > MOST_BAD:
        lines.append(_line(f"and {len(bad) - MOST_BAD} more that failed or were lost", "red"))
    if running:
        lines.append(_table(running, shown))
    lines += [_line(f"finished {_score(run, shown)} {_name(run)}") for run in lately]
    return Group(*lines)


def _pace(progress: StudyProgress, unit: str) -> str:
    speed = progress.samples_per_second
    source = "a probe" if progress.is_timed else "the cost model"
    name, factor = hours_or_seconds(progress.hours)
    spent = hours(progress.hours_done * factor)
    total = hours(progress.hours * factor)
    said = [
        f"{progress.done:.0%} of the FLOPs",
        f"{speed:,.0f} samples/s" if speed else "",
        f"{spent} of {total} {unit.removesuffix('hours')}{name} by {source}",
        progress.time_left,
    ]
    return ", ".join(filter(None, said))


def _table(runs: Sequence[RunProgress], score: str | None) -> Table:
    columns: dict[str, Callable[[RunProgress], str]] = {
        "done": lambda run: f"{run.done:.0%}",
        "loss": lambda run: "" if run.loss is None else f"{run.loss:.4f}",
        "score": lambda run: _score(run, score),
        "samples/s": lambda run: "" if run.images_per_second is None else f"{run.images_per_second:,.0f}",
        "silence": lambda run: run.quiet,
    }
    table = Table(box=None, pad_edge=False, header_style="dim")
    shown = {name: cells for name, cell in columns.items() if any(cells := [cell(run) for run in runs[:MOST_RUNNING]])}
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("run", overflow="fold")
    for number, run in enumerate(runs[:MOST_RUNNING]):
        table.add_row(*(_text(cells[number]) for cells in shown.values()), _text(_name(run)))
    return table


def _name(run: RunProgress) -> str:
    """The name of a run, and the end of its id, by which `logs` knows it."""
    return f"{run.name} ({run.id.rpartition('_')[2]})" if run.name else run.id


def _best_known(runs: Sequence[RunProgress]) -> str | None:
    """The score to show where none is named: accuracy where there is one, a loss only where there is nothing else."""
    names = {name: None for run in runs for name in run.scores}
    return min(
        names, key=lambda name: (bool(lower_is_better(name)), set_and_score(name)[1] != "zero_shot_top1"), default=None
    )


def _score(run: RunProgress, score: str | None) -> str:
    """A score for a person: a fraction in percent, a loss as it is."""
    value = run.scores.get(score or "")
    if not isinstance(value, int | float):
        return ""
    return f"{value:.1%}" if is_fraction(str(score)) else f"{value:.4f}"


def _line(text: str, style: str = "") -> Text:
    """A text that is cut off at the end of its line."""
    line = _text(text, style)
    line.no_wrap = True
    line.overflow = "ellipsis"
    return line


def _text(text: str, style: str = "") -> Text:
    """The text as it is, without markup: nothing that a log or a launcher says steers the terminal."""
    return Text(" ".join(printable(text).split()), style)
