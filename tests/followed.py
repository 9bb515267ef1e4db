"""A page that is followed: the files that it shows are written, and its commands run in order, in a folder."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from tests.commands import flipscale

BLOCK = re.compile(r"(?:<!-- not run: (.+?) -->\n\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """What stands between fences: a file if its first line names it (`# mask.yaml`), else commands if it is bash."""

    language: str
    text: str
    why_not: str

    @property
    def file(self) -> str:
        named = re.match(r"# (\w+\.\w+)\n", self.text)
        return named[1] if named else ""


class Done(NamedTuple):
    """A line of a shell, and what it printed."""

    line: str
    stdout: str
    stderr: str


def blocks(page: Path) -> list[Block]:
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [Block(language, text, why_not) for why_not, language, text in found]


def small(text: str, seeds: int | None = None) -> str:
    """The study with a 40th of its samples, few images to evaluate on, and this number of seeds; or the site, whose
    jobs do many runs each: a job more is a process, which takes longer to start than such runs take.
    """
    text = re.sub(r"(?<=[ \[])(\d+)k\b", lambda match: str(25 * int(match[1])), text)
    text = text.replace("images: 1000", "images: 100")
    if re.search(r"^axes:", text, re.MULTILINE) and "evaluation:" not in text:
        text += "evaluation: {images: 100}\n"
    if re.search(r"^partition:", text, re.MULTILINE):
        text += "pack: {time: 5m}\n"
    return text if seeds is None else re.sub(r"^seeds: \d+$", f"seeds: {seeds}", text, flags=re.MULTILINE)


def follow(page: Path, folder: Path, environment: Mapping[str, str], seeds: int | None = None) -> list[Done]:
    """Do all that the page says, in the folder; each line of its commands with what it printed."""
    environment = {**environment, "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}"}
    for name in ("FLIPSCALE_RESULTS", "FLIPSCALE_SITE", "FLIPSCALE_DATA"):
        environment.pop(name, None)
    done = []
    for block in blocks(page):
        if block.file:
            (folder / block.file).write_text(small(block.text, seeds), encoding="utf-8")
        elif block.language == "bash" and not block.why_not:
            done += [_run(line, folder, environment) for line in block.text.splitlines()]
    return done


def _run(line: str, folder: Path, environment: dict[str, str]) -> Done:
    """Run a line of a shell there."""
    program, *arguments = shlex.split(line)
    if program == "export":
        name, _, value = arguments[0].partition("=")
        environment[name] = value.replace("$PWD", str(folder))
        return Done(line, "", "")
    if program == "flipscale":
        with mock.patch.dict(os.environ, environment, clear=True):
            done = flipscale(*arguments, cwd=folder)
    else:
        command = ["bash", "-c", line]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return Done(line, done.stdout, done.stderr)
