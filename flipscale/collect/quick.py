"""What orjson does four to six times as fast as Python, with the same outcome."""

from collections.abc import Sequence
from typing import Any

import orjson

from flipscale import plain_files

_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)

_LONG = b"0" * 20
"""A whole number of more than 64 bits has 20 digits or more."""


def parsed(text: bytes) -> Any:
    """See `plain_files.parsed`."""
    # orjson makes a float of a longer whole number. What else it reads otherwise than json, such as NaN, it refuses.
    if _LONG not in text.translate(_DIGITS):
        try:
            return orjson.loads(text)
        except ValueError:
            pass
    return plain_files.parsed(text)


def texts_of(numbers: Sequence[float]) -> list[str]:
    """Each float as `str` writes it."""
    # Below and above, orjson has other exponents than Python, or none.
    quick = [number for number in numbers if 1e-4 <= abs(number) < 1e16]
    written = iter(orjson.dumps(quick)[1:-1].decode().split(","))
    return [next(written) if 1e-4 <= abs(number) < 1e16 else str(number) for number in numbers]
