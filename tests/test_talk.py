"""How long work says how far it is."""

import io

import pytest

from flipscale.workflow.messages import CLEAR, Steps


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_one_line_is_rewritten_and_cleared_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "30")
    terminal, clock = Terminal(), iter([0.0, 1.0, 1.0, 1.05, 2.0, 2.0])
    with Steps("drawing figures", terminal, lambda: next(clock)) as steps:
        steps(1, 3, "gains")
        steps(2, 3, "too soon after the last")
        steps(3, 3, "a name that is longer than the terminal")
    written = terminal.getvalue()
    assert written.split(CLEAR)[1:] == [
        "drawing figures ...",
        "drawing figures: 1 of 3 (gains)"[:29],
        "drawing figures: 3 of 3 (a name"[:29],
        "",
    ]
    assert "\n" not in written


def test_elsewhere_a_line_every_few_seconds_and_none_for_quick_work() -> None:
    stream, clock = io.StringIO(), iter([0.0, 1.0, 6.0, 6.0, 7.0, 12.0, 12.0])
    with Steps("fitting laws", stream, lambda: next(clock)) as steps:
        for done in (1, 2, 3, 4):
            steps(done, 5)
    assert stream.getvalue() == "fitting laws: 2 of 5\nfitting laws: 4 of 5\n"
