"""From the words of a command to its exit code."""

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from flipscale.cli.parser import parse
from flipscale.errors import FlipscaleError, missing_package, printable, use_utf8

TRACEBACK = "FLIPSCALE_TRACEBACK"
"""The environment variable with which an error that nobody foresaw shows its traceback."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    if arguments is None:
        use_utf8()
    args = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        code: int = args.command(args)
        _flush()
        return code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        print(_message(error), file=sys.stderr)
        return 2 if vars(args).get("gate") else 1  # A gate that fails says 1.


def _message(error: Exception) -> str:
    """What went wrong, in a sentence. Where nobody foresaw it, the variable asks for the traceback."""
    if isinstance(error, FlipscaleError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] != "flipscale":
        return missing_package(error.name)
    if isinstance(error, OSError) and error.errno is None:  # A library that the system is too old for.
        return f"{error}."
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}. Free space or fix the permissions, then run this again."
    if {TRACEBACK, "FLIPSCALE_JOB"} & os.environ.keys():  # The log of a job keeps it.
        raise error
    last = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {printable(str(error))}. A file may be "
        f"damaged, or flipscale has a fault; {TRACEBACK}=1 in the environment shows the traceback."
    )


def _flush() -> None:
    if sys.stdout is not None:  # It was closed before we began.
        sys.stdout.flush()
