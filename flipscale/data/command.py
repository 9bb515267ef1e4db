"""A program of the user's own, which trains or scores: which one a command starts, and whether that is there."""

import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from flipscale.data.inspection import Look
from flipscale.errors import FlipscaleError
from flipscale.settings.declarations import CommandSet

FOLDER_ARGUMENT = "{folder}"
"""Stands for the run's folder in the arguments; without it, the folder becomes the last argument."""

_INTERPRETER = re.compile(r"(python|pypy)[\d.]*|bash|sh|zsh|perl|Rscript|julia|ruby|node")

_SWITCHES = re.compile(r"-[uOBEIsSvbq]+")
"""Python's options without a value: the script comes after them."""


def check(data: CommandSet, look: Look, probe: bool) -> None:
    """Look for the program, if the set has one of its own."""
    if data.arguments is not None:
        look.once(check_program, data.arguments, f"{'.'.join(map(str, look.path))}.arguments")


def content(data: CommandSet, probe: bool) -> None:
    """Unknown: the program finds its data itself."""


def held_out(data: CommandSet, form: object, scoring: object) -> None:
    """None: the program opens what it reads."""


def search_path() -> str:
    """The search path of programs: `python` is the one that runs flipscale, its environment activated or not."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def check_program(arguments: Sequence[str], where: str = "trainer.command.arguments") -> None:
    """Raise FlipscaleError unless the program can be executed and the script that it is to run exists.

    where: the key of the study that names it.
    """
    name = arguments[0]
    if FOLDER_ARGUMENT in name:
        return
    if shutil.which(name, path=search_path()) is None:
        if "/" in name and Path(name).is_file():
            raise not_started(name, "Permission denied")
        raise no_such_program(name, where)
    script = _script(arguments)
    if script is not None and not Path(script).exists():
        raise FlipscaleError(
            f"{script}: there is no such script for {name}, looked for from {Path.cwd()}; correct it in {where}."
        )


def _script(arguments: Sequence[str]) -> str | None:
    """The file that an interpreter is to run; None if it cannot be told from the arguments."""
    name, *rest = arguments
    program = Path(name).name
    if not _INTERPRETER.fullmatch(program):
        return None
    if program.startswith("py"):
        rest = [argument for argument in rest if not _SWITCHES.fullmatch(argument)]
    # What follows any other option may be its value, and what -m and -c name is not a file.
    return rest[0] if rest and not rest[0].startswith("-") and FOLDER_ARGUMENT not in rest[0] else None


def named_files(arguments: Sequence[str]) -> list[str]:
    """The files among the words of a command, its script first: words and values of --option=value that are files.

    Interpreters and programs found in PATH are left out.
    """
    name, *rest = arguments
    script = _script(arguments)
    words = [] if "/" not in name or _INTERPRETER.fullmatch(Path(name).name) else [name]
    words += [script] if script else []
    words += [part for word in rest for part in (word, word.partition("=")[2])]
    return [word for word in dict.fromkeys(words) if word and FOLDER_ARGUMENT not in word and _is_file(word)]


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except (OSError, ValueError):  # too long for a name, or with a null byte
        return False


def runs_in_this_environment(arguments: Sequence[str]) -> bool:
    """Whether the program is one of the environment that runs flipscale, so that its packages are those it uses."""
    program = shutil.which(arguments[0], path=search_path())
    return program is not None and Path(program).absolute().parent == Path(sys.executable).absolute().parent


def no_such_program(name: str, where: str = "arguments") -> FlipscaleError:
    return FlipscaleError(
        f"{name}: there is no such program, looked for from {Path.cwd()} and in PATH; give its full path in {where}."
    )


def not_started(name: str, reason: str | None) -> FlipscaleError:
    return FlipscaleError(
        f"{name}: cannot be started ({reason}); make it executable, or name what runs it first, as in "
        f"[python, train.py]."
    )
