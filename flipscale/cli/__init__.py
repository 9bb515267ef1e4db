"""The command line: parse, one call, print. Data on stdout, talk on stderr.

Exit codes: 0 done, 1 something a user can fix, 2 usage. Nothing heavy is imported before a command needs it.

parser.py    the arguments of every verb
verbs.py     what each verb does
steps.py     what several verbs do with their arguments
owner.py     whose results a folder holds
output.py    how all of them speak
"""

import os
import sys
from collections.abc import Sequence

from flipscale.cli.parser import parser
from flipscale.errors import FlipscaleError, use_utf8

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is the answer."""
    if arguments is None:
        use_utf8()
    args = parser().parse_args(arguments)
    try:
        code: int = args.command(args)
        sys.stdout.flush()
        return code
    except FlipscaleError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"{where}{error.strerror or error}. Free space or mend permissions, and run this again.", file=sys.stderr)
        return 1
