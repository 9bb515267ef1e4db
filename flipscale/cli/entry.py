"""From the words of a command to its exit code."""

import os
import sys
from collections.abc import Sequence

from flipscale.cli.parser import parse
from flipscale.errors import FlipscaleError, missing_package, use_utf8


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    if arguments is None:
        use_utf8()
    args = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        code: int = args.command(args)
        _flush()
        return code
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] == "flipscale":
            raise
        print(missing_package(error.name), file=sys.stderr)
        return 1
    except FlipscaleError as error:
        print(error, file=sys.stderr)
        return 1
    except RuntimeError as error:
        if "Symlink loop" not in str(error):
            raise
        path = str(error).partition(" from ")[2].strip("'")
        print(f"{path}: is a link that leads to itself; delete it.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"{where}{error.strerror or error}. Free space or fix the permissions, then run this again.",
            file=sys.stderr,
        )
        return 1


def _flush() -> None:
    if sys.stdout is not None:  # It was closed before we began.
        sys.stdout.flush()
