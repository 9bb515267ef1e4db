"""The same law in two studies: which exponents differ, and how certain that is.

The estimates of two studies are independent, so the end of the interval of a difference is as far from it as the two
half-widths that face that end, added in quadrature (G. Y. Zou and A. Donner 2008, Statistics in Medicine 27:1693).
A half-width at another level is that of 95 % times the ratio of Student's t, by the degrees of freedom of its fit. The
exponents of all laws that both studies have are one family (Holm). Where the studies share seeds, their estimates err
alike and the intervals are too wide, not too narrow.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import scipy  # loads scipy.optimize where it is first used

from flipscale.fit.fitted import Fit
from flipscale.fit.rows import group_name
from flipscale.fit.words import number, title
from flipscale.stats import ALPHA, Judged, holm, t_limit

_NO_EXPONENTS = {"BNSL": ("d", "f"), "exponential": ("k", "g")}
"""Parameters in small letters that are not exponents: where a break is and how sharp, and a rate."""

_LEAST_P = 1e-12


@dataclass(frozen=True)
class ExponentDifference:
    """An exponent of a law in two studies."""

    name: str
    first: float
    second: float
    interval: tuple[float, float] | None
    """95 % interval of `second - first`, uncorrected; None where `why` says so."""
    corrected: tuple[float, float] | None
    """The same at the level at which Holm decides: it contains 0 exactly when the difference is not significant."""
    judged: Judged | None
    why: str = ""
    """Why there is no interval."""

    @property
    def difference(self) -> float:
        return self.second - self.first

    @property
    def significant(self) -> bool:
        return self.judged is not None and self.judged.significant


@dataclass(frozen=True)
class LawInBoth:
    """A law that both studies have for the same variables and group."""

    first: Fit
    second: Fit
    exponents: tuple[ExponentDifference, ...]


@dataclass(frozen=True)
class StudyOfFits:
    """The fits of one study."""

    name: str
    fits: Sequence[Fit]
    constants: Mapping[str, object]
    """The settings that all its runs share. Its groups do not name them, but groups of the other study may."""


@dataclass(frozen=True)
class FitPair:
    """The laws of two studies."""

    names: tuple[str, str]
    laws: tuple[LawInBoth, ...]
    only: tuple[tuple[str, ...], tuple[str, ...]]
    """For each study, the titles of fits that the other lacks."""


def compare_exponents(first: StudyOfFits, second: StudyOfFits) -> FitPair:
    """The exponents of the laws that both studies have, judged together."""
    named = set().union(*(fit.group for fit in (*first.fits, *second.fits)))
    mine, other = ({_key(fit, study, named): fit for fit in study.fits} for study in (first, second))
    both = [(mine[key], other[key]) for key in mine if key in other]
    only = _titles_outside(mine, other), _titles_outside(other, mine)
    return FitPair((first.name, second.name), _judged_together(both), only)


def _judged_together(both: Sequence[tuple[Fit, Fit]]) -> tuple[LawInBoth, ...]:
    """The laws with the differences of their exponents, corrected for all of them."""
    raw = [_exponents(mine, other) for mine, other in both]
    judged = iter(holm([None if isinstance(found, str) else found.p for law in raw for found in law.values()]))
    return tuple(
        LawInBoth(
            mine, other, tuple(_difference(name, mine, other, found, next(judged)) for name, found in of_law.items())
        )
        for (mine, other), of_law in zip(both, raw, strict=True)
    )


def _titles_outside(
    fits: Mapping[tuple[object, ...], Fit], others: Mapping[tuple[object, ...], Fit]
) -> tuple[str, ...]:
    return tuple(title(fit) for key, fit in fits.items() if key not in others)


def constants_of(results: pd.DataFrame, names: Iterable[str]) -> dict[str, object]:
    """The columns among these that have one value in all rows, with it."""
    return {
        name: results[name].iloc[0]
        for name in names
        if name in results and len(results) and results[name].nunique(dropna=False) == 1
    }


def exponent_rows(pair: FitPair) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of exponents."""
    header = ["law", "exponent", *pair.names, "difference", "95 % CI", "corrected CI", "p, corrected", "verdict"]
    rows = []
    for law in pair.laws:
        name = title(law.first)
        for exponent in law.exponents:
            # An exponent at the end of its range, 0, differs from 0 in the last bits only.
            estimates = [number(round(value, 9), 3) for value in (exponent.first, exponent.second)]
            p = (
                "-"
                if exponent.judged is None
                else "< 0.001"
                if exponent.judged.p < 0.001
                else number(exponent.judged.p, 2)
            )
            ends = [_ends(exponent.interval), _ends(exponent.corrected)]
            rows.append(
                [name, exponent.name, *estimates, f"{round(exponent.difference, 9):+.3g}", *ends, p, verdict(exponent)]
            )
            name = ""
    return header, rows


def verdict(found: ExponentDifference) -> str:
    """The verdict on a difference."""
    if found.judged is None:
        return f"no CI: {found.why}"
    if not found.significant:
        return "no significant difference"
    return "larger" if found.difference > 0 else "smaller"


def fit_pair_notes(pair: FitPair) -> list[str]:
    """The notes below the table, one sentence each."""
    judged = [found for law in pair.laws for found in law.exponents if found.judged is not None]
    first, second = pair.names
    notes = [f"A difference is {second} minus {first}. Seeds that both share make its CI too wide, not too narrow."]
    if len(judged) > 1:
        notes.append(f"Corrected CIs and p values are for {len(judged)} comparisons (Holm).")
    for name, titles in zip(pair.names, pair.only, strict=True):
        notes += [f"Only in {name}: {of_fit}." for of_fit in titles]
    return notes


def fit_pair_json(pair: FitPair) -> dict[str, object]:
    """All of it in JSON's types."""
    return {
        "schema": 1,
        "studies": list(pair.names),
        "laws": [
            {
                "law": law.first.law.name,
                "title": title(law.first),
                "x": list(law.first.x),
                "y": law.first.y,
                "group": {name: _plain(value) for name, value in law.first.group.items()},
                "exponents": [_difference_json(found) for found in law.exponents],
            }
            for law in pair.laws
        ],
        "corrected": {
            "method": "Holm",
            "exponents": sum(found.judged is not None for law in pair.laws for found in law.exponents),
        },
        "only": {name: list(titles) for name, titles in zip(pair.names, pair.only, strict=True)},
    }


def _difference_json(found: ExponentDifference) -> dict[str, object]:
    return {
        "name": found.name,
        "first": found.first,
        "second": found.second,
        "difference": found.difference,
        "interval": found.interval and list(found.interval),
        "corrected": found.corrected and list(found.corrected),
        "p": None if found.judged is None else found.judged.p,
        "significant": found.significant,
        "why": found.why or None,
    }


# Which laws are the same


def _key(fit: Fit, study: StudyOfFits, named: Iterable[str]) -> tuple[object, ...]:
    """The key that fits of the same law in two studies share."""
    group = {name: fit.group.get(name, study.constants.get(name)) for name in sorted(named)}
    return fit.law.name, fit.x, fit.y, fit.frontier, group_name({name: _plain(value) for name, value in group.items()})


def _plain(value: object) -> object:
    """A value of a group in JSON's types; a missing one is None."""
    if value is None or value != value or str(value) == "<NA>":
        return None
    plain: object = value.item() if hasattr(value, "item") else value
    return int(plain) if isinstance(plain, float) and plain.is_integer() else plain


# How certain a difference is


@dataclass(frozen=True)
class _SideOfDifference:
    """An exponent of one fit: its estimate, the half-widths of its 95 % interval, and its degrees of freedom."""

    value: float
    below: float
    above: float
    df: float

    def half(self, width: float, level: float) -> float:
        return width * t_limit(self.df, level) / t_limit(self.df, ALPHA)


@dataclass(frozen=True)
class _TwoExponents:
    """An exponent of two fits."""

    first: _SideOfDifference
    second: _SideOfDifference

    def interval(self, level: float) -> tuple[float, float]:
        mine, other = self.first, self.second
        difference = other.value - mine.value
        low = math.hypot(other.half(other.below, level), mine.half(mine.above, level))
        high = math.hypot(other.half(other.above, level), mine.half(mine.below, level))
        return difference - low, difference + high

    @property
    def p(self) -> float:
        """The level at which the interval ends at 0."""
        difference = self.second.value - self.first.value
        if difference == 0:
            return 1.0

        def end(level: float) -> float:
            return self.interval(level)[0 if difference > 0 else 1]

        if (end(_LEAST_P) > 0) == (difference > 0):
            return _LEAST_P
        return float(scipy.optimize.brentq(end, _LEAST_P, 1.0, xtol=1e-14, rtol=1e-6))


def _exponents(first: Fit, second: Fit) -> dict[str, _TwoExponents | str]:
    """The exponents of a law: both sides of each, or why it has no interval."""
    no_exponents = _NO_EXPONENTS.get(first.law.name, ())
    found: dict[str, _TwoExponents | str] = {}
    for name in first.parameters:
        if name[0].isupper() or name in no_exponents or (name in first.fixed and name in second.fixed):
            continue
        sides = [_side(fit, name) for fit in (first, second)]
        mine, other = sides
        found[name] = mine if isinstance(mine, str) else other if isinstance(other, str) else _TwoExponents(mine, other)
    return found


def _side(fit: Fit, name: str) -> _SideOfDifference | str:
    value = fit.parameters[name]
    if name in fit.fixed:
        return _SideOfDifference(value, 0.0, 0.0, math.inf)
    if name in fit.solution.at_bounds:
        return "at the end of its range"
    ends = fit.intervals[name]
    if ends is None or not all(map(math.isfinite, (*ends, value))):
        return fit.no_interval if ends is None else "its own has no end"
    df = fit.freedom if fit.seeds is None else min(fit.freedom, fit.seeds.freedom)
    return _SideOfDifference(value, max(value - ends[0], 0.0), max(ends[1] - value, 0.0), df)


def _difference(
    name: str, first: Fit, second: Fit, found: _TwoExponents | str, judged: Judged | None
) -> ExponentDifference:
    values = first.parameters[name], second.parameters[name]
    if isinstance(found, str) or judged is None:
        return ExponentDifference(name, *values, None, None, None, str(found))
    return ExponentDifference(name, *values, found.interval(ALPHA), found.interval(judged.level), judged)


def _ends(ends: tuple[float, float] | None) -> str:
    return "-" if ends is None else f"{ends[0]:+.3g} to {ends[1]:+.3g}"
