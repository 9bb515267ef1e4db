"""What can be asked of a study: each as a number with its 95 % CI, and what further runs would tell about it.

a claim, a speed-up     a contrast of cells over seeds; a further seed of all of its cells measures it once more
a law's parameter       runs of any size and length measure the law
a forecast              the law at a place that no run has
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from flipscale.analysis.comparing import Curve, Estimate, JudgedClaim, StudyClaims
from flipscale.analysis.fitting import Fit, Forecast
from flipscale.analysis.fitting.search import Problem
from flipscale.analysis.fitting.uncertainty import DRAWS, interval, resampled, widened
from flipscale.analysis.stats import Array, Design, Moments
from flipscale.errors import ResultsError, did_you_mean
from flipscale.next_runs.choice import Quantity

NORMAL = 1.96
"""Standard errors from the estimate to the end of a normal 95 % CI."""

MANY = 1e6
"""Degrees of freedom of a normal interval."""

FURTHER_SEEDS = 20
"""Further seeds of one cell that are considered: more are a question of patience, not of design."""

PRIOR_WIDTHS = 4.0
"""A parameter of a law is held to within a quarter of its range (standard deviation) before any run: without that,
parameters that the runs do not determine make every run look equally good."""


@dataclass(frozen=True)
class Question:
    """A quantity of a study."""

    name: str
    value: float
    """On the scale on which it is linear: the logarithm of a ratio, the link of a law."""
    ends: tuple[float, float]
    """Of its 95 % CI on that scale, the one that `compare` or `fit` prints."""
    quantity: Quantity
    words: Callable[[float], str]
    """A value of that scale as people read it."""
    unit: str = ""
    falls: bool = False
    """Whether a larger value on that scale is a smaller one to people."""
    contrast: "SeedContrast | None" = None
    fit: Fit | None = None
    """The law, where it is about one."""

    @property
    def group(self) -> Mapping[str, object]:
        """The settings that all runs of its law have."""
        return {} if self.fit is None else self.fit.group

    def amount(self, size: float) -> str:
        """A difference without its sign: '0.81 points', '1.2x'."""
        return f"{self.words(size).removeprefix('+')} {self.unit}".rstrip()

    def interval(self, share: float = 1.0) -> str:
        """The interval now, or when it is this share as wide."""
        ends = [self.words(self.value + share * (end - self.value)) for end in self.ends]
        return " to ".join(ends[:: -1 if self.falls else 1])


@dataclass(frozen=True)
class SeedContrast:
    """Cells compared seed by seed."""

    runs: frozenset[str]
    """Ids of the runs that were compared."""
    seeds: int
    design: Design
    margin: float | None = None
    """Within which sides count as level; None where no claim of level is possible."""


def claim_of(judged: JudgedClaim, claims: StudyClaims) -> Question:
    """A claim of the study. ResultsError where its runs gave no interval."""
    name = judged.claim.name
    estimate = judged.difference
    if estimate is None:
        raise ResultsError(f"The claim {name!r} is {judged.verdict}: {judged.why}.")
    moments = claims.noise.moments.get(name)
    margin = judged.margin if moments else None
    return _contrast(name, estimate, judged.runs, judged.unit, moments=moments, margin=margin)


def speedup_of(curve: Curve, name: str) -> Question:
    """The speed-up of an arm. ResultsError where its curves give none."""
    if curve.speedup is None or curve.sides is None:
        raise ResultsError(f"The speed-up of {name}: {curve.why}.")
    return _contrast(f"speed-up of {name}", curve.speedup.speedup, frozenset().union(*curve.sides), "x")


def _contrast(
    name: str,
    estimate: Estimate,
    runs: Iterable[str],
    unit: str,
    *,
    moments: Moments | None = None,
    margin: float | None = None,
) -> Question:
    """A difference or a ratio over seeds, by its corrected interval. ResultsError where it has none."""
    ends = estimate.decisive
    if estimate.mean is None or ends is None or estimate.interval is None:
        raise ResultsError(f"No interval of {name!r} to narrow: {estimate.why or 'an exact test decides it'}.")
    if not all(map(math.isfinite, (*ends, *estimate.interval))) or (estimate.ratio and min(ends) <= 0):
        raise ResultsError(f"The interval of {name!r} is open at one end; a longer or shorter schedule would close it.")
    value, low, high = (math.log(end) if estimate.ratio else end for end in (estimate.mean, *ends))
    if moments is None:  # A reading off curves, whose own interval is one of 95 % of its draws.
        own_low, own_high = (math.log(end) if estimate.ratio else end for end in estimate.interval)
        error = (own_high - own_low) / 2 / NORMAL
        prior_df = MANY
    else:
        error = moments.error
        prior_df = moments.df - (estimate.n - 1)

    def words(number: float) -> str:
        return f"{math.exp(number):.3g}x" if estimate.ratio else f"{number:+.2f}"

    sd = error * math.sqrt(estimate.n)
    contrast = SeedContrast(frozenset(runs), estimate.n, Design(sd, prior_df, *estimate.family), margin)
    quantity = Quantity(np.array([[error**2]]), np.ones(1))
    return Question(name, value, (low, high), quantity, words, "" if estimate.ratio else unit, contrast=contrast)


def law_covariance(fit: Fit) -> Array:
    """The covariance of a law's parameters by its runs and their scatter, with a wide prior.

    Where lengths share trunks each seed has a law of its own about the mean of all. What it differs by follows the
    parameters: of the seeds that were fitted, then of FURTHER_SEEDS more. Raises ResultsError with too few seeds.
    """
    rows = fit.rows
    jacobian = fit.law.evaluate(fit.solution.theta, fit.rows.x)[1]
    low, high = fit.law.bounds(rows.x, rows.z)
    prior = np.diag(PRIOR_WIDTHS**2 / (high - low) ** 2)
    mean = np.asarray(np.linalg.inv(jacobian.T @ jacobian / fit.spread**2 + prior), dtype=np.float64)
    if rows.trunks is None:
        return mean
    if not fit.whole_seeds or rows.seeds is None or fit.stretch is None:
        raise ResultsError(f"{fit.no_interval[0].upper()}{fit.no_interval[1:]}.")
    # The laws of seeds scatter about their mean, whose covariance is that of the draws.
    apart = np.linalg.inv(fit.whole_seeds * fit.stretch**2 * np.cov(fit.draws, rowvar=False) + mean)
    seeds = fit.whole_seeds + FURTHER_SEEDS
    numbers = np.unique(rows.seeds, return_inverse=True)[1].reshape(-1).tolist()
    of_seeds = np.stack([of_seed(row, seed, seeds) for row, seed in zip(jacobian, numbers, strict=True)])
    information = of_seeds.T @ of_seeds / fit.spread**2 + np.kron(np.eye(1 + seeds), apart)
    information[: len(prior), : len(prior)] += prior - apart
    return np.asarray(np.linalg.inv(information), dtype=np.float64)


def share_left(question: Question, after: Quantity, x: Array) -> float:
    """How wide the interval will be, as a share of that now, once runs at x [runs, roles] have been added.

    A law's interval is that of `fit`, from resamples of settings: many seeds of one setting are one setting. The added
    runs are made up, so that residuals stay as they are. A further seed of a setting repeats a run of that setting, and
    a new setting takes the residuals of all runs in turn.
    """
    fit = question.fit
    if fit is None or fit.stretch is None or fit.whole_seeds:
        return math.sqrt(after.variance / question.quantity.variance)
    rows = fit.rows
    theta = fit.solution.theta
    law = fit.law
    z = rows.z if fit.seeds is None else rows.z - fit.seeds.offsets
    residuals = z - law.evaluate(theta, rows.x)[0]
    repeated = []
    for number, point in enumerate(x):
        same = np.flatnonzero(np.isclose(rows.x, point).all(axis=1))
        repeated.append(residuals[same[number % len(same)] if len(same) else number % len(residuals)])
    added = law.evaluate(theta, x)[0] + np.array(repeated)
    return _width(question, np.concatenate([rows.x, x]), np.concatenate([z, added])) / _width(question, rows.x, z)


def _width(question: Question, x: Array, z: Array) -> float:
    """The width of the interval from resamples of the settings of these points."""
    fit = question.fit
    assert fit is not None
    theta = fit.solution.theta
    gradient = question.quantity.gradient[: len(theta)]
    settings = np.unique(x.round(6), axis=0, return_inverse=True)[1].reshape(-1)
    freedom = int(settings.max()) + 1 - fit.free_count
    problem = Problem(fit.law, x, z, delta=fit.delta or math.inf)
    value = float(theta @ gradient)
    ends = interval(resampled(problem, theta, settings, DRAWS, 0) @ gradient, value, freedom)
    if fit.seeds is not None and fit.slope_of_level is not None:
        error = abs(float(fit.slope_of_level @ gradient)) * fit.seeds.error(new_seed=False)
        ends = widened(ends, value, freedom, error, fit.seeds.freedom)
    return float(ends[1] - ends[0])


def of_seed(gradient: Array, seed: int, seeds: int) -> Array:
    """What a run measures, by the law's parameters and by how far each seed is from them."""
    return np.concatenate([gradient, np.kron(np.eye(seeds)[seed], gradient)])


def _of_all(gradient: Array, covariance: Array) -> Quantity:
    """A quantity of the law itself, whichever the seed."""
    return Quantity(covariance, np.pad(gradient, (0, len(covariance) - len(gradient))))


def parameter_of(fit: Fit, name: str, of: str) -> Question:
    """A parameter of a law. ResultsError where the law has none of that name."""
    if name not in fit.law.parameters:
        raise ResultsError(f"{fit.law.formula} has no {name!r}: {did_you_mean(name, fit.law.parameters)}.")
    place = fit.law.parameters.index(name)
    gradient = np.eye(len(fit.law.parameters))[place]
    quantity = _of_all(gradient, law_covariance(fit))
    theta = fit.solution.theta

    def words(value: float) -> str:
        return f"{fit.law.values(np.where(gradient > 0, value, theta))[name]:.3g}"

    ends = [fit.law.values(np.where(gradient > 0, end, theta))[name] for end in (theta[place], theta[place] + 1e-3)]
    asked = f"{name} of {fit.law.formula}{of}"
    value = float(theta[place])
    known = fit.theta_ends
    now = (float(known[0][place]), float(known[1][place])) if known else _normal(value, quantity)
    return Question(asked, value, now, quantity, words, falls=ends[1] < ends[0], fit=fit)


def forecast_of(forecast: Forecast, of: str) -> Question:
    """A law at a place without runs."""
    fit = forecast.fit
    x = np.array([[forecast.at[name] for name in fit.x]])
    value, jacobian = fit.law.evaluate(fit.solution.theta, x)
    quantity = _of_all(jacobian[0], law_covariance(fit))
    response = fit.rows.response

    def words(link: float) -> str:
        y = float(response.from_link(np.array([link]))[0])
        return f"{100 * y:.1f} %" if response.accuracy else f"{y:.4g}"

    falls = bool(response.accuracy) and response.link == "logit"
    doubts = f", refused by fit as {' and '.join(map(str, forecast.doubts))}" if forecast.refused else ""
    name = f"forecast of {fit.y}{of}{doubts}"
    now = _normal(float(value[0]), quantity)
    if fit.stretch is not None:
        low, high = sorted(float(response.to_link(end)[0]) for end in fit.band(forecast.at))
        now = low, high
    return Question(name, float(value[0]), now, quantity, words, falls=falls, fit=fit)


def _normal(value: float, quantity: Quantity) -> tuple[float, float]:
    """The ends of a linear law's interval by its runs' scatter, for runs of too few settings for that of `fit`."""
    half = NORMAL * math.sqrt(quantity.variance)
    return value - half, value + half
