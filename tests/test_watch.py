"""`flipscale watch` at a real terminal of a given size, beside real training."""

import codecs
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Self

import pytest

from tests.commands import flipscale
from tests.patience import PATIENCE
from tests.small_study import STUDY

pytestmark = pytest.mark.slow

ENTER, LEAVE = "\x1b[?1049h\x1b[H\x1b[?25l", "\x1b[?25h\x1b[?1049l"


class Terminal:
    """A pseudo-terminal of a size, and a command that runs at it."""

    def __init__(self, cwd: Path, columns: int, rows: int, *arguments: str, term: str = "xterm"):
        self.shown, child = pty.openpty()
        self.resize(columns, rows)
        self.text = ""
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        command = [sys.executable, "-m", "flipscale", *arguments]
        # A session of its own, whose terminal this is: so Ctrl-C comes as it does to a person.
        # xdist sets the width of its own terminal for its workers.
        environment = {**os.environ, "TERM": term}
        environment.pop("COLUMNS", None)
        environment.pop("LINES", None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
             "os.execv(sys.argv[1], sys.argv[1:])", *command],
            cwd=cwd, stdin=child, stdout=child, stderr=child, start_new_session=True, env=environment,
        )  # fmt: skip
        os.close(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.shown)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.shown, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read_until(self, pattern: str, seconds: float = PATIENCE) -> None:
        end = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            assert time.monotonic() < end, self.text[-3000:]
            if select.select([self.shown], [], [], 0.2)[0]:
                try:
                    self.text += self._decode(os.read(self.shown, 65536))
                except OSError:  # the other side is closed
                    assert re.search(pattern, self.text), self.text[-3000:]

    def frames(self) -> list[list[str]]:
        """What stood on the screen at each look, without colours."""
        drawn = self.text.partition(ENTER)[2].partition(LEAVE)[0].split("\x1b[H")[1:]
        return [re.sub(r"\x1b\[([\d;]*m|K|J)", "", frame).replace("\r", "").split("\n") for frame in drawn]

    def end(self) -> int:
        """The exit code, when the command has ended and all it wrote is read."""
        self.read_until(re.escape(LEAVE))
        code = self.process.wait(PATIENCE)
        while select.select([self.shown], [], [], 0.2)[0]:
            try:
                self.text += self._decode(os.read(self.shown, 65536))
            except OSError:
                break
        return code


def test_watch_draws_a_study_in_place_until_it_has_ended(tmp_path: Path) -> None:
    (tmp_path / "mask.yaml").write_text(STUDY.replace("[320, 640]", "[9600]"))
    flipscale("submit", "mask.yaml", "--detach", cwd=tmp_path)
    with (
        Terminal(tmp_path, 80, 24, "watch", "mask.yaml") as wide,
        Terminal(tmp_path, 40, 10, "watch", "mask.yaml") as small,
        Terminal(tmp_path, 80, 24, "watch", "mask.yaml", term="dumb") as dumb,
    ):
        piped = flipscale("watch", "mask.yaml", cwd=tmp_path)
        assert [wide.end(), small.end()] == [0, 0]
        dumb.read_until("4 of 4 finished, 100%.*\n")
        assert dumb.process.wait(PATIENCE) == 0

    for terminal, columns, rows in ((wide, 80, 24), (small, 40, 10)):
        frames = terminal.frames()
        assert len(frames) > 1
        assert all(len(frame) <= rows and max(map(len, frame)) <= columns for frame in frames)
        assert frames[0][0].startswith("mask")
        assert any("Ctrl-C leaves; the runs go on." in line for line in frames[0])
    # What was on the terminal before is there again, and below it how the study ended.
    assert "4 of 4 finished, 100% of the FLOPs" in wide.text.partition(LEAVE)[2]

    for text in (piped.stdout, dumb.text):
        assert "\x1b" not in text
        lines = text.splitlines()
        assert re.match(r"\d of 4 finished, ", lines[0])
        assert lines[-1].startswith("4 of 4 finished, 100% of the FLOPs")
        assert sum(": finished" in line for line in lines) >= 1


def test_ctrl_c_leaves_the_terminal_as_it_was_and_the_runs_go_on(tmp_path: Path) -> None:
    (tmp_path / "mask.yaml").write_text(STUDY.replace("[320, 640]", "[256k]").replace("seeds: 2", "seeds: 1"))
    flipscale("submit", "mask.yaml", "--detach", cwd=tmp_path)
    try:
        with Terminal(tmp_path, 80, 24, "watch", "mask.yaml") as terminal:
            terminal.read_until(r"samples/s, ")
            terminal.read_until(r"\d%  \d\.\d{4} .*\([0-9a-f]{10}\)")
            before = len(terminal.frames())
            terminal.resize(40, 10)
            terminal.read_until(rf"(?s)(\x1b\[H.*){{{before + 2}}}")
            os.write(terminal.shown, b"\x03")
            assert terminal.end() == 130
        assert "Traceback" not in terminal.text
        # It follows the width, 80 before. The terminal itself writes ^C where the cursor is, behind a full line.
        assert max(len(line.replace("^C", "").rstrip()) for line in terminal.frames()[-1]) <= 40
        assert "The runs go on; flipscale cancel mask.yaml stops them." in terminal.text.partition(LEAVE)[2]
        counts = json.loads(flipscale("status", "mask.yaml", "--json", cwd=tmp_path).stdout)["counts"]
        assert counts.get("running")
    finally:
        flipscale("cancel", "mask.yaml", cwd=tmp_path)


def test_watch_of_a_study_that_nobody_runs_says_so_and_ends(tmp_path: Path) -> None:
    (tmp_path / "mask.yaml").write_text(STUDY)
    done = flipscale("watch", "mask.yaml", cwd=tmp_path)
    assert done.stdout.startswith("0 of 8 finished, 8 planned, 0% of the FLOPs")
    assert len(done.stdout.splitlines()) == 1
