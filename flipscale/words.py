"""How numbers, counts, times and intervals are written for people. No other module decides this."""

import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from numbers import Real

SUFFIXES = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k"))
"""Powers of a thousand and their letters, as papers write sizes of models and data."""

TIME_UNITS = (("seconds", 3600, 1 / 60), ("minutes", 60, 2.0), ("hours", 1, math.inf))
"""Units of time: how many make an hour, and the number of hours below which the unit is used."""


# Numbers


def short(value: object) -> str:
    """A value of a table: 16k, 400M, 12.8B, 0.75; a missing one is null."""
    if isinstance(value, str):
        return value
    if not isinstance(value, Real) or isinstance(value, bool):
        return "null" if value is None or str(value) in ("<NA>", "NaT") else str(value)
    number = float(value)
    return "null" if math.isnan(number) else rounded(number, 4)


def rounded(number: float, digits: int = 3) -> str:
    """A number with few digits and its suffix: 12.8B. 999,960 is 1M."""
    return _scaled(number, digits, SUFFIXES, "")


def _scaled(number: float, digits: int, units: Sequence[tuple[float, str]], unit: str) -> str:
    """The number in the largest of these units that it fills once it is rounded; `unit` is that of 1."""
    size = abs(float(f"{number:.{digits}g}"))
    if size >= 1e15:
        return f"{number:.{digits}g}{unit}".replace("e+", "e")
    scale, unit = next((known for known in units if size >= known[0]), (1, unit))
    return f"{number / scale:.{digits}g}{unit}"


def exact(number: int) -> str:
    """A whole number in full, with a suffix where that is shorter: 12.8B, 16k, 65,536 as 65536."""
    for scale, suffix in SUFFIXES:
        if number >= scale and number % (scale // 1000) == 0:
            whole, rest = divmod(number, scale)
            decimals = f"{rest:0{len(str(scale)) - 1}}".rstrip("0")
            return min(f"{whole}.{decimals}".rstrip(".") + suffix, str(number), key=len)
    return str(number)


def times(factor: float) -> str:
    """A factor: 3.7, and below 2 with two decimals, 1.06."""
    return f"{factor:.2f}" if factor < 2 else f"{factor:.1f}" if factor < 1000 else f"{factor:,.0f}"


def bound(factor: float) -> str:
    """A factor that is a lower bound, rounded down: 2.46 is 2.4."""
    steps = 100 if factor < 2 else 10
    return times(math.floor(factor * steps) / steps)


def signed(value: float) -> str:
    """A difference with its sign: +0.9, -12, -145."""
    return f"{value:+.2g}" if abs(value) < 99.5 else f"{value:+.0f}"


def fixed(value: float, digits: int = 1, *, sign: bool = False) -> str:
    """A number with fixed decimals, half rounded away from zero: 88.85 is 88.9, as is 88.849999999999994.

    Means of equal scores differ in their last bits by the order of summation, so these are rounded off first.
    """
    form = "+" if sign else ""
    if not abs(value) < 1e15:
        return f"{value:{form}.{digits}f}"
    return f"{Decimal(f'{value:.12g}').quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):{form}f}"


def percent(share: float, digits: int = 3) -> str:
    """A share as it stands on an axis: 50 %, 67.5 %."""
    return f"{100 * share:.{digits}g} %"


def score_value(score: float, fraction: bool) -> str:
    """A score in a sentence: 78.6 % for a fraction, else its number."""
    return f"{fixed(100 * score)} %" if fraction else f"{score:.4g}"


def margin_words(margin: float, fraction: bool) -> str:
    """A margin in words: '1 point', '0.02'."""
    if not fraction:
        return f"{margin:.3g}"
    points = 100 * margin
    return f"{points:.3g} point{'' if points == 1 else 's'}"


# Counts


def with_article(noun: str) -> str:
    """'a choice', 'an evaluation set'."""
    return f"an {noun}" if noun[0] in "aeio" else f"a {noun}"


def count(number: int, noun: str) -> str:
    """'1 run', '1,000 runs'."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(words: Sequence[str], most: int, between: str = ", ") -> str:
    """'a, b, c', and '...' in place of those beyond `most`."""
    return between.join([*words[:most], *["..."] * (len(words) > most)])


def joined(parts: Iterable[str]) -> str:
    """'a, b and c'."""
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def names_by_reason(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """Reason -> the names that it holds for."""
    names: dict[str, list[str]] = {}
    for name, why in reasons.items():
        names.setdefault(why, []).append(name)
    return names


def by_reason(reasons: Mapping[str, str]) -> list[str]:
    """One line per reason: 'data_size=250 and 8 others: all runs have the same ...'."""
    more = {1: "", 2: " and another"}
    return [
        f"{names[0]}{more.get(len(names), f' and {len(names) - 1} others')}: {why}"
        for why, names in names_by_reason(reasons).items()
    ]


# Times


def duration(seconds: float) -> str:
    """A time on the clock: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def hours(hours: float) -> str:
    """A number of device-hours: 0.0123, 12.3, 1,234."""
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"


def hours_or_seconds(longest: float) -> tuple[str, float]:
    """The unit for device times of at most this many hours, and how many of them make an hour.

    Below 18 seconds the unit is the second: 11 seconds says more than 0.00304 hours.
    """
    return ("seconds", 3600.0) if 0 < longest < 0.005 else ("hours", 1.0)


def predicted(about: float, low: float, high: float) -> str:
    """A prediction with the range it is likely in, if it has one: 'about 1,200 (820 to 1,900)'.

    Two significant digits, as ranges are wide; three if the range is under a tenth either way.
    """
    digits = 2 if high > 1.2 * low else 3
    number, least, most = (_significant(value, digits) for value in (about, low, high))
    return f"about {number}" if least == most else f"about {number} ({least} to {most})"


def _significant(value: float, digits: int) -> str:
    """A number rounded to `digits` significant digits, written in full from 1 on: 230,000, 12, 0.012."""
    rounded_off = float(f"{value:.{digits}g}")
    return f"{rounded_off:,.0f}" if rounded_off >= 10 ** (digits - 1) else f"{rounded_off:.{digits}g}"


def device_hours(device: str, unit: str = "hours") -> str:
    """The unit of device time: core-hours of a CPU, else GPU-hours; 'minutes' gives core-minutes."""
    return f"{'core' if device == 'cpu' else 'GPU'}-{unit}"


def time_unit(longest: float) -> tuple[str, float]:
    """The unit for times of at most this many hours, and how many of them make an hour."""
    return next((unit, number) for unit, number, below in TIME_UNITS if longest < below)


# Memory


def memory(size: float) -> str:
    """A size in bytes: 512 MB, 24 GB."""
    return _scaled(size, 3, ((1e12, " TB"), (1e9, " GB"), (1e6, " MB"), (1e3, " kB")), " B")
