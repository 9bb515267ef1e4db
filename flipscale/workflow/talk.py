"""How the steps speak: on stderr, as stdout is for data."""

import sys


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
