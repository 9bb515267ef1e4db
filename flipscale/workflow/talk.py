"""How the steps speak: on stderr, as stdout is for data."""

import sys

from flipscale.errors import printable


def say(sentence: str) -> None:
    print(printable(sentence), file=sys.stderr, flush=True)
