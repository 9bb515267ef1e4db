"""How far a forecast can be trusted: by how far and how sharply its law was tested, and how far away the run is.

The test is the largest rung, held out and predicted from the rest. It says nothing where its interval is as wide as
the range of all measurements, and little about a run that is many times farther from the data than the rung was. Other
forms that fit the same runs say how much the choice of the form matters there.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from flipscale.fit.fitted import Forecast

FARTHEST = 3.0
"""A forecast may reach this many times as far as its law was tested, in the logarithm of size."""

BLUNT = 1.0
"""A test whose interval is wider than this share of the range of all that was measured tests nothing. At half of it,
runs of which a tenth went wrong had 34 % of the forecasts refused that held the truth; so, 9 %."""

FORMS_APART = 3.0
"""Other forms may lie apart by this many widths of the forecast's interval."""


class Grade(StrEnum):
    """How far a forecast can be trusted."""

    GOOD = "good"
    FAIR = "fair"
    POOR = "poor"


class Doubt(StrEnum):
    """Objections to a forecast."""

    UNTESTED = "untested"
    MISSED = "missed"
    BLUNT = "blunt"
    TOO_FAR = "too far"
    FORMS_APART = "forms apart"
    FARTHER = "farther than tested"
    FORMS_OUTSIDE = "forms outside"


_POOR = (Doubt.UNTESTED, Doubt.MISSED, Doubt.BLUNT, Doubt.TOO_FAR, Doubt.FORMS_APART)


@dataclass(frozen=True)
class Graded:
    """The grade of a forecast, and the objections to it."""

    grade: Grade
    doubts: tuple[Doubt, ...]

    @property
    def refused(self) -> bool:
        """Whether the forecast should not be used."""
        return self.grade is Grade.POOR


def graded(forecast: Forecast) -> Graded:
    """The grade of a forecast: good without doubts, poor with one of _POOR, else fair."""
    doubts = (*_of_test(forecast), *_of_forms(forecast))
    if any(doubt in _POOR for doubt in doubts):
        return Graded(Grade.POOR, doubts)
    return Graded(Grade.FAIR if doubts else Grade.GOOD, doubts)


def distance(forecast: Forecast) -> float | None:
    """How far a forecast reaches over how far its law was tested, in log size; 0 inside the data; None: no test."""
    tested = forecast.held_out.extrapolation
    if tested is None or tested <= 1:
        return None
    return max(math.log(forecast.extrapolation), 0.0) / math.log(tested)


def _of_test(forecast: Forecast) -> tuple[Doubt, ...]:
    held = forecast.held_out
    if held.inside is None:
        return (Doubt.UNTESTED,)
    far = distance(forecast)
    found = (
        (not held.inside, Doubt.MISSED),
        (held.sharpness is not None and held.sharpness > BLUNT, Doubt.BLUNT),
        (far is None or far > FARTHEST, Doubt.TOO_FAR),
        (far is not None and 1 < far <= FARTHEST, Doubt.FARTHER),
    )
    return tuple(doubt for applies, doubt in found if applies)


def _of_forms(forecast: Forecast) -> tuple[Doubt, ...]:
    if not forecast.as_good or forecast.low is None or forecast.high is None:
        return ()
    values = [forecast.value, *(forecast.forms[name] for name in forecast.as_good)]
    low, high = min(values), max(values)
    if high - low > FORMS_APART * (forecast.high - forecast.low):
        return (Doubt.FORMS_APART,)
    return () if forecast.low <= low and high <= forecast.high else (Doubt.FORMS_OUTSIDE,)
