"""A law fitted to some points: its predictions, how far it can be trusted, and what it was fitted to.

fit_records.py presents it to programs, law_words.py to people.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from flipscale.analysis.fitting.chosen_rows import Rows, why_not
from flipscale.analysis.fitting.fronts import BINS, Frontier, Optimum
from flipscale.analysis.fitting.laws import Law
from flipscale.analysis.fitting.search import Loss, Solution
from flipscale.analysis.fitting.uncertainty import COVERAGE, DRAWS, SharedSeedEffect, interval, stretch, widened
from flipscale.analysis.stats import Array, Interval
from flipscale.errors import ResultsError

FLOOR_REACHES_0 = 1e-2
"""A floor whose interval begins below this share of the smallest measurement is printed as 0 to its upper end."""

NO_FLOOR = 1e-6
"""A floor below this share of the smallest measurement is 0: how far below depends on the processor."""

STARTS = 24
"""Searches per fit. From starts drawn from the data nearly all end at one place; the checklist says how many did."""

SPANS = 100.0
"""A parameter is not determined where the ends of its interval differ by more than this factor."""


@dataclass(frozen=True)
class Options:
    """How a law is fitted, where the defaults are not wanted."""

    loss: Loss = "huber"
    linear: bool = False
    """Residuals in y itself instead of its logarithm."""
    frontier: Frontier | None = None
    """Fit the front only, and find it anew in every resample."""
    bins: int | Sequence[float] = BINS
    """Bins of cost of a front by bins: how many, or their edges."""
    fixed: Mapping[str, float] = field(default_factory=dict)
    """Parameter -> the value that it is held at."""
    tied: Mapping[str, str] = field(default_factory=dict)
    """Parameter -> the one it equals."""
    accuracy: bool | None = None
    """Whether higher y is better; None: as its name says."""
    weights: str | None = None
    """Column of inverse variances, by which rows are weighted."""
    se: str | None = None
    """Column of standard errors of y, by which rows are weighted; those without one count as the median of the rest."""
    run: str | None = None
    """Column of runs whose rows are resampled together."""
    delta: float | None = None
    """Residual at which Huber's loss turns from a square to a line; None: 1.345 standard deviations, by the MAD."""
    draws: int = DRAWS
    starts: int = STARTS
    seed: int = 0


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
    interval: Interval | None = None
    """That of that mean, at a level at which the intervals cover all settings in 95 % of cases; None: not asked for."""

    @property
    def error(self) -> float:
        """Predicted minus measured, in the units of y."""
        return self.predicted - self.measured

    @property
    def inside(self) -> bool | None:
        """Whether the measured mean is inside the interval."""
        return self.interval and self.interval.low <= self.measured <= self.interval.high


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


@dataclass(frozen=True)
class Fit:
    """A law through some rows."""

    law: Law
    rows: Rows
    options: Options
    solution: Solution
    draws: Array
    """Parameters of the resamples [draws, parameters]."""
    groups: int
    """Number of different settings that were resampled, those that trunks link as one; those of all rows if only the
    best were fitted."""
    freedom: int
    """Degrees of freedom of intervals: groups minus fitted parameters, whole seeds minus 1, or those of the noise that
    was resampled."""
    held_out: HeldOutRuns
    group: Mapping[str, object] = field(default_factory=dict)
    """The values of the columns that this fit's rows share."""
    optima: tuple[Optimum, ...] = ()
    """The best size of each budget, through which the law of an IsoFLOP fit goes."""
    among: tuple[str, ...] = ()
    """The runs among which an IsoFLOP fit found these optima."""
    delta: float | None = None
    """Residual at which Huber's loss turns from a square to a line; None for squares."""
    seeds: SharedSeedEffect | None = None
    """The effect of seeds on the whole curve, if settings share them; it was removed before the fit."""
    whole_seeds: int = 0
    """Seeds that intervals rest on, as lengths of each share a trunk; 0 where settings were resampled."""
    slope_of_level: Array | None = None
    """How much each parameter moves for each unit by which seeds move the whole curve; None where they share none."""

    @property
    def frontier(self) -> str | None:
        """How the rows were reduced to the best: pareto, binned, isoflop (akima)."""
        return "isoflop (akima)" if self.optima else self.options.frontier

    @property
    def x(self) -> tuple[str, ...]:
        """The columns of the variables, in the order of the law's roles."""
        return self.rows.columns

    @property
    def y(self) -> str:
        return self.rows.response.column

    @property
    def used(self) -> tuple[str, ...]:
        return self.among or self.rows.ids

    @property
    def left_out(self) -> Mapping[str, str]:
        return self.rows.left_out

    @property
    def free_count(self) -> int:
        """Parameters that were fitted."""
        return len(self.law.parameters) - len(self.options.fixed) - len(self.options.tied)

    @cached_property
    def parameters(self) -> dict[str, float]:
        """As in the formula."""
        values = self.law.values(self.solution.theta)
        if self._has_floor and values["E"] < NO_FLOOR * float(self.rows.y.min()):
            values["E"] = 0.0
        return values

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float] | None]:
        """95 % interval of each parameter; None for one that was fixed or is not determined, and with few settings."""
        intervals = {name: None if name in self.not_determined else ends for name, ends in self._ends.items()}
        if self.reaches_0 and (ends := intervals["E"]):
            intervals["E"] = 0.0, ends[1]
        return intervals

    @cached_property
    def not_determined(self) -> dict[str, str]:
        """The parameters whose values mean nothing, and why."""
        ranges = [self.law.values(bound) for bound in self.law.bounds(self.rows.x, self.rows.z)]
        reasons = {}
        for name, ends in self._ends.items():
            if name in self.options.fixed or (name == "E" and self._has_floor):
                continue
            if self.options.tied.get(name, name) in self.solution.at_bounds:
                reasons[name] = "at the end of its range"
            elif ends and min(values[name] for values in ranges) >= 0 and ends[1] > SPANS * max(ends[0], 0.0):
                reasons[name] = f"its 95 % CI spans more than a factor of {SPANS:g}"
        for name in self._ends:
            if needed := [other for other in self.law.needs(name) if other in reasons]:
                reasons.setdefault(name, f"{needed[0]} is not determined")
        return reasons

    @cached_property
    def _ends(self) -> dict[str, tuple[float, float] | None]:
        """The ends of the intervals of all parameters."""
        if self.theta_ends is None:
            return dict.fromkeys(self.parameters)
        low, high = map(self.law.values, self.theta_ends)
        return {
            name: None if name in self.options.fixed else (min(low[name], high[name]), max(low[name], high[name]))
            for name in self.parameters
        }

    @cached_property
    def theta_ends(self) -> tuple[Array, Array] | None:
        """The ends of all intervals on the scale on which parameters were fitted, as a coefficient spreads evenly in
        its logarithm; None where there is no interval."""
        if self.stretch is None:
            return None
        ends = interval(self.draws, self.solution.theta, self.freedom)
        if self.seeds is not None and self.slope_of_level is not None:
            error = np.abs(self.slope_of_level) * self.seeds.error(new_seed=False)
            ends = widened(ends, self.solution.theta, self.freedom, error, self.seeds.freedom)
        least, most = self.law.bounds(self.rows.x, self.rows.z)
        return np.clip(ends[0], least, most), np.clip(ends[1], least, most)

    @property
    def _has_floor(self) -> bool:
        return "E" in self.law.parameters and self.law.link == "log" and "E" not in self.options.fixed

    @property
    def stretch(self) -> float | None:
        """How far the ends of intervals are moved out; None where there is no interval."""
        return stretch(self.freedom) if len(self.draws) else None

    @property
    def reaches_0(self) -> bool:
        """Whether there is a floor whose interval reaches 0: the same runs allow a law without one."""
        ends = self._ends.get("E")
        return self._has_floor and ends is not None and ends[0] < FLOOR_REACHES_0 * float(self.rows.y.min())

    @property
    def residuals(self) -> Array:
        """Measured minus predicted on the scale they were taken on, without the offsets of seeds [n]."""
        predicted = self.law.evaluate(self.solution.theta, self.rows.x)[0]
        z = self.rows.z if self.seeds is None or self.frontier else self.rows.z - self.seeds.offsets
        return self._scaled(z) - self._scaled(predicted)

    @property
    def spread(self) -> float:
        """Standard deviation of the residuals, with the fitted parameters counted."""
        return float(np.sqrt((self.residuals**2).sum() / max(len(self.rows) - self.free_count, 1)))

    def predict(self, values: Mapping[str, ArrayLike]) -> Array:
        """y [n] at values of the columns x, in the units of y. Raises ResultsError for a column that is missing."""
        return self.rows.response.from_link(self.law.evaluate(self.solution.theta, self._at(values))[0])

    def band(self, values: Mapping[str, ArrayLike], *, one_run: bool = False) -> tuple[Array, Array]:
        """The 95 % interval of the law at these values: its low and high ends [n], in the units of y.

        With `one_run`, that of a run yet to be made, which adds the scatter of runs about the law. Raises
        ResultsError where there are too few runs for an interval.
        """
        if self.stretch is None:
            raise ResultsError(f"There is no band: {self.no_interval}.")
        x = self._at(values)
        says = self._says(x)
        ends = interval(self.sample(x, one_run=one_run), says, self.freedom)
        if self.seeds is not None and self.slope_of_level is not None:
            step = 1e-3 * self.slope_of_level
            slope = np.abs(self._says(x, self.solution.theta + step) - says) / 1e-3
            ends = widened(ends, says, self.freedom, slope * self.seeds.error(new_seed=one_run), self.seeds.freedom)
        return ends if self.options.linear else self._ordered(*ends)

    def sample(self, x: Array, *, one_run: bool) -> Array:
        """The prediction of every draw at x [n, roles], [draws, n], on the scale of residuals.

        With `one_run` the residual of a random run of the fitted seeds is added to each.
        """
        z = self._scaled(self.law.evaluate(self.draws, x)[0])
        if not one_run:
            return z
        wide = np.sqrt(len(self.rows) / max(len(self.rows) - self.free_count, 1))
        if self.whole_seeds:  # The law goes through the mean of what their runs have in common.
            wide = max(wide, np.sqrt(self.whole_seeds / self.freedom))
        return z + np.random.default_rng(1).choice(wide * self.residuals, size=z.shape)

    def mean_band(self, x: Array, coverage: float = COVERAGE) -> Interval:
        """The interval of the mean y of runs yet to be made at x [n, roles], of the seeds that were fitted."""
        assert self.stretch is not None
        draws = self.sample(x, one_run=True)
        says = self._says(x)
        if self.options.linear:
            return Interval(*map(float, interval(draws.mean(axis=1), float(says.mean()), self.freedom, coverage)))
        response = self.rows.response
        means = response.to_link(response.from_link(draws).mean(axis=1))
        mean = float(response.to_link(np.atleast_1d(response.from_link(says).mean()))[0])
        return Interval(*map(float, self._ordered(*interval(means, mean, self.freedom, coverage))))

    def _says(self, x: Array, theta: Array | None = None) -> Array:
        """The law's prediction at x [n, roles], on the scale of residuals."""
        return self._scaled(self.law.evaluate(self.solution.theta if theta is None else theta, x)[0])

    def _scaled(self, z: Array) -> Array:
        """From the link scale to that of residuals."""
        return self.rows.response.from_link(z) if self.options.linear else z

    def _ordered(self, low: Array, high: Array) -> tuple[Array, Array]:
        """Ends on the link scale as ends in the units of y: high odds of an error are a low accuracy."""
        ends = self.rows.response.from_link(low), self.rows.response.from_link(high)
        return np.minimum(*ends), np.maximum(*ends)

    @property
    def no_interval(self) -> str:
        """Why there are no intervals."""
        if self.rows.trunks is not None and self.options.draws:
            return "lengths of a seed share its luck: an interval takes 3 seeds, or 2 sizes more than parameters"
        if self.optima and self.freedom < 2:
            return "one run of each size and fewer than 4 budgets with an optimum leave nothing for an interval"
        if not len(self.draws):
            return "no resamples were drawn, so there are no intervals"
        return f"{self.groups} different settings and {self.free_count} parameters leave nothing for an interval"

    def _at(self, values: Mapping[str, ArrayLike]) -> Array:
        if missing := [name for name in self.x if name not in values]:
            raise ResultsError(
                f"The law {self.law.name} needs {', '.join(missing)} besides {', '.join(values) or 'none'}."
            )
        columns = np.broadcast_arrays(*(np.asarray(values[name], dtype=np.float64) for name in self.x))
        x = np.column_stack([np.atleast_1d(column) for column in columns])
        for row in x:
            if why := why_not(self.x, row, self.law):
                raise ResultsError(f"The law {self.law.name} has no prediction there: {why}.")
        return x
