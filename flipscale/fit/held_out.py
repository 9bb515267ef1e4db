"""The largest runs, predicted from all smaller ones: how far that was, and how well it went."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class HeldOutSetting:
    """The runs of one setting, predicted from smaller ones."""

    at: Mapping[str, float]
    """Its variables."""
    runs: int
    predicted: float
    """The law's prediction for it, in the units of y."""
    measured: float
    """The mean of its runs."""
    low: float | None = None
    """Lower end of the interval of that mean, at a level at which the intervals cover all settings in 95 % of cases;
    None: not asked for."""
    high: float | None = None

    @property
    def error(self) -> float:
        """Predicted minus measured, in the units of y."""
        return self.predicted - self.measured

    @property
    def inside(self) -> bool | None:
        """Whether the measured mean is inside the interval."""
        return None if self.low is None or self.high is None else self.low <= self.measured <= self.high


@dataclass(frozen=True)
class HeldOutRuns:
    """The largest runs, predicted from all smaller ones."""

    runs: tuple[str, ...] = ()
    settings: tuple[HeldOutSetting, ...] = ()
    extrapolation: float | None = None
    """How many times larger they are than the largest run that was fitted."""
    sharpness: float | None = None
    """Width of the widest interval as a share of the range of all that was measured, on the law's own scale."""
    why: str | None = None
    """The reason why it is missing."""

    @property
    def rms(self) -> float | None:
        """Root mean square of the settings' errors, in the units of y."""
        return float(np.sqrt(np.mean([setting.error**2 for setting in self.settings]))) if self.settings else None

    @property
    def inside(self) -> bool | None:
        """Whether every setting is inside its interval; None without intervals."""
        verdicts = [setting.inside for setting in self.settings]
        return None if not verdicts or None in verdicts else all(verdicts)
