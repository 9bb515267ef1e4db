"""A study as a screenful that is redrawn in place, for `watch` at a terminal.

It uses plain escape sequences that every terminal since the VT100 knows, in one write a refresh: nothing flickers over
ssh, and the terminal's earlier content comes back at the end.
"""

import os
import signal
import textwrap
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Self, TextIO

from flipscale.launch.progress import RunProgress, StudyProgress
from flipscale.run import State
from flipscale.scores import is_fraction, lower_is_better, set_and_score
from flipscale.words import duration, hours, hours_or_seconds

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""To the terminal's alternate screen without a cursor, and back."""

LATELY = 20
"""Number of runs finished during the watch that are remembered."""

MOST_BAD = 3
"""Number of badly ended runs that get a line each, unless there is room for more."""

LEAST_ID = 18
"""Columns kept for the end of an id (mask ratio, seed and digest); other columns are dropped to make room for it."""

SMALLEST = 20
"""The smallest number of columns with a layout: below it, longer lines are cut off."""


class ScreenLine(NamedTuple):
    """A line of the screen, and the SGR code of its style ('' for plain)."""

    text: str
    style: str = ""


BOLD, DIM, RED = "1", "2", "31"


class Screen:
    """Draws how a study goes in place while the block runs; afterwards the terminal is as it was before."""

    def __init__(self, stream: TextIO, study: str, *, unit: str = "GPU-hours", score: str | None = None):
        """score: the one to show for each run; None shows an accuracy, or another score where no run has one."""
        self.stream = stream
        self.study, self.unit, self.score = study, unit, score
        self.lately: deque[RunProgress] = deque(maxlen=LATELY)
        self._before: dict[str, State] | None = None
        self._shown: StudyProgress | None = None
        self._resized = signal.SIG_DFL

    def __enter__(self) -> Self:
        self._resized = signal.signal(signal.SIGWINCH, lambda *_: self._write())  # type: ignore[assignment]
        self._send(ENTER)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGWINCH, self._resized)
        self._send(LEAVE)

    def draw(self, progress: StudyProgress) -> None:
        """Show this look in place of the one before."""
        if self._before is not None:
            before = self._before
            self.lately.extendleft(
                run for run in progress.runs if run.state is State.FINISHED and before.get(run.id) is not State.FINISHED
            )
        self._before = {run.id: run.state for run in progress.runs}
        self._shown = progress
        self._write()

    def _write(self) -> None:
        if self._shown is None:
            return
        columns, rows = os.get_terminal_size(self.stream.fileno())
        lines = screenful(
            self._shown, columns, rows, study=self.study, unit=self.unit, score=self.score, lately=self.lately
        )
        colour = "NO_COLOR" not in os.environ
        drawn = (f"\x1b[{line.style}m{line.text}\x1b[0m" if line.style and colour else line.text for line in lines)
        self._send("\x1b[H" + "\x1b[K\r\n".join(drawn) + "\x1b[K\x1b[J")

    def _send(self, text: str) -> None:
        # Past the stream's buffer, which a signal must not find half filled.
        data = text.encode(self.stream.encoding or "ascii", errors="replace")
        while data:
            data = data[os.write(self.stream.fileno(), data) :]


def screenful(
    progress: StudyProgress,
    columns: int,
    rows: int,
    *,
    study: str,
    unit: str = "GPU-hours",
    score: str | None = None,
    lately: Sequence[RunProgress] = (),
) -> list[ScreenLine]:
    """At most `rows` lines of at most `columns`: the counts, the pace, then the runs that matter most now.

    Running runs come first, then badly ended ones and the reasons why others wait, then those that finished `lately`.
    """
    width = max(columns - 1, SMALLEST)  # a full last column wraps on some terminals
    of_state: dict[State, list[RunProgress]] = {state: [] for state in State}
    for run in progress.runs:
        of_state[run.state].append(run)
    head = _head(progress, width, study, unit)
    room = rows - len(head) - 1

    bad = of_state[State.FAILED] + of_state[State.LOST]
    why = Counter(run.says for run in of_state[State.WAITING] if run.says).most_common(1)
    waits = [ScreenLine(f"{number} waiting: {says}") for says, number in why]
    shown = score or _best_known(*of_state[State.RUNNING], *lately)
    kept = len(waits) + min(len(bad), MOST_BAD, max(1, room // 4))
    body = _running(of_state[State.RUNNING], room - kept, width, shown)
    body += waits[: room - len(body)]
    body += _some([_bad(run) for run in reversed(bad)], room - len(body), "that failed or were lost", RED)
    body += _some([_finished(run, shown) for run in lately], room - len(body), "")
    of_score = f"score is {shown}. " if shown else ""
    foot = ScreenLine(f"{of_score}Ctrl-C leaves; the runs go on.", DIM)
    lines = [*head, *body[: max(room, 0)], foot][:rows]
    return [ScreenLine(_cut(line.text, min(width, columns)), line.style) for line in lines]


def _head(progress: StudyProgress, width: int, study: str, unit: str) -> list[ScreenLine]:
    speed, source = progress.samples_per_second, "a probe" if progress.is_timed else "the cost model"
    name, factor = hours_or_seconds(progress.hours)
    spent, total = hours(progress.hours_done * factor), hours(progress.hours * factor)
    said = [
        f"{speed:,.0f} samples/s" if speed else "",
        f"{spent} of {total} {unit.removesuffix('hours')}{name} by {source}",
        progress.time_left,
    ]
    share = f" {progress.done:4.0%} of the FLOPs"
    size = max(width - len(share) - 2, 5)
    full = round(size * progress.done)
    watched = f"watched {duration(progress.elapsed)}"
    return [
        ScreenLine(f"{study}{watched.rjust(width - len(study)) if len(study) + len(watched) < width else ''}", BOLD),
        *map(ScreenLine, textwrap.wrap(progress.counts, width)),
        ScreenLine(f"[{'#' * full}{'-' * (size - full)}]{share}"),
        *map(ScreenLine, textwrap.wrap(", ".join(filter(None, said)), width)),
    ]


def _running(runs: Sequence[RunProgress], room: int, width: int, score: str | None) -> list[ScreenLine]:
    """The running runs as a table with a head, at most `room` lines; columns that do not fit are left out."""
    if not runs or room < 2:
        return []
    listed = runs if len(runs) < room else runs[: room - 2]
    columns = {name: [show(run) for run in listed] for name, show in _columns(runs, score).items()}
    widths = _fitting({name: max(map(len, (name, *cells))) for name, cells in columns.items()}, width - LEAST_ID)
    left = width - _total(widths)
    lines = [ScreenLine("  ".join([*(name.rjust(size) for name, size in widths.items()), "run"]), DIM)]
    for number, run in enumerate(listed):
        row = [columns[name][number].rjust(size) for name, size in widths.items()]
        lines.append(ScreenLine("  ".join([*row, _end(run.id, left)])))
    if len(listed) < len(runs):
        lines.append(ScreenLine(f"and {len(runs) - len(listed)} more running", DIM))
    return lines


def _columns(runs: Sequence[RunProgress], score: str | None) -> dict[str, Callable[[RunProgress], str]]:
    """The cells of each running run, the most important first."""
    columns: dict[str, Callable[[RunProgress], str]] = {
        "done": lambda run: f"{run.done:.0%}",
        "loss": lambda run: "" if run.loss is None else f"{run.loss:.4f}",
    }
    if score and any(score in run.scores for run in runs):
        columns["score"] = lambda run: _score(run, score)
    columns["samples/s"] = lambda run: "" if run.images_per_second is None else f"{run.images_per_second:,.0f}"
    if any(run.quiet for run in runs):
        columns["silence"] = lambda run: run.quiet
    else:
        columns["samples"] = lambda run: f"{run.samples_seen:,} of {run.total:,}"
    return columns


def _fitting(widths: Mapping[str, int], room: int) -> dict[str, int]:
    """The first of these columns, as many as there is room for, and at least two."""
    kept = dict(widths)
    while len(kept) > 2 and _total(kept) > room:
        kept.popitem()
    return kept


def _total(widths: Mapping[str, int]) -> int:
    """The width of the columns, each with two spaces after it."""
    return sum(widths.values()) + 2 * len(widths)


def _some(lines: Sequence[str], room: int, rest: str, style: str = "") -> list[ScreenLine]:
    """As many of the lines as fit; the last then says how many more there are, if `rest` says what they are."""
    if len(lines) <= room or not rest:
        return [ScreenLine(line, style) for line in lines[: max(room, 0)]]
    shown = max(room - 1, 0)
    number = f"and {len(lines) - shown} more" if shown else str(len(lines))
    more = [ScreenLine(f"{number} {rest}", style)] if room > 0 else []
    return [*(ScreenLine(line, style) for line in lines[:shown]), *more]


def _bad(run: RunProgress) -> str:
    return f"{run.id} {run.state}: {run.says}" if run.says else f"{run.id} {run.state}"


def _best_known(*runs: RunProgress) -> str | None:
    """The score to show where none is named: accuracy where there is one, a loss only where there is nothing else."""
    names = {name: None for run in runs for name in run.scores}
    return min(
        names, key=lambda name: (bool(lower_is_better(name)), set_and_score(name)[1] != "zero_shot_top1"), default=None
    )


def _finished(run: RunProgress, score: str | None) -> str:
    said = f"{_score(run, score)}  " if score and score in run.scores else ""
    return f"finished  {said}{run.id}"


def _score(run: RunProgress, score: str) -> str:
    """A score for a person: a fraction in percent, a loss as it is."""
    value = run.scores.get(score)
    if not isinstance(value, int | float):
        return ""
    return f"{value:.1%}" if is_fraction(score) else f"{value:.4f}"


def _end(text: str, width: int) -> str:
    return text if len(text) <= width else ".." + text[len(text) - max(width - 2, 0) :]


def _cut(text: str, columns: int) -> str:
    """The text as one line of at most this number of columns; a log line in it cannot control the terminal."""
    kept, used = [], 0
    for letter in _printable(text):
        used += 2 if unicodedata.east_asian_width(letter) in "WF" else 0 if unicodedata.combining(letter) else 1
        if used > columns:
            break
        kept.append(letter)
    return "".join(kept)


def _printable(text: str) -> Iterable[str]:
    return (letter if letter.isprintable() else " " for letter in text)
