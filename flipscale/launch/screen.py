"""A study as a screenful that rich redraws in place, for `watch` at a terminal."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flipscale.errors import printable
from flipscale.launch.progress import RunProgress, StudyProgress
from flipscale.run import State
from flipscale.scores import is_fraction, lower_is_better, set_and_score
from flipscale.words import duration, hours, hours_or_seconds

LATELY = 20
"""Number of runs finished during the watch that are remembered."""

MOST_BAD = 3
"""Number of badly ended runs that get a line each."""

MOST_RUNNING = 100
"""Number of running runs that are drawn, more than a terminal has lines."""


class Screen:
    """Draws how a study goes in place while the block runs; afterwards the terminal is as it was before."""

    def __init__(self, stream: TextIO, study: str, *, unit: str = "GPU-hours", score: str | None = None):
        """score: the one to show for each run; None shows an accuracy, or another score where no run has one."""
        self.study, self.unit, self.score = study, unit, score
        self.lately: deque[RunProgress] = deque(maxlen=LATELY)
        self._before: dict[str, State] = {}
        self._live = Live(
            console=Console(file=stream),
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def draw(self, progress: StudyProgress) -> None:
        """Show this look in place of the one before."""
        ended = [run for run in progress.runs if run.state is State.FINISHED and run.id in self._before]
        self.lately.extendleft(run for run in ended if self._before[run.id] is not State.FINISHED)
        self._before = {run.id: run.state for run in progress.runs}
        drawn = screenful(progress, study=self.study, unit=self.unit, score=self.score, lately=self.lately)
        self._live.update(drawn, refresh=True)


def screenful(
    progress: StudyProgress,
    *,
    study: str,
    unit: str = "GPU-hours",
    score: str | None = None,
    lately: Sequence[RunProgress] = (),
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
        _text(f"{of_score}Ctrl-C leaves; the runs go on.", "dim"),
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
    speed, source = progress.samples_per_second, "a probe" if progress.is_timed else "the cost model"
    name, factor = hours_or_seconds(progress.hours)
    spent, total = hours(progress.hours_done * factor), hours(progress.hours * factor)
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
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _text(text: str, style: str = "") -> Text:
    """The text as it is, without markup: nothing that a log or a launcher says steers the terminal."""
    return Text(" ".join(printable(text).split()), style)
