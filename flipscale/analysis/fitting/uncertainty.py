"""Intervals that cover as often as they claim: resamples of settings, and the effect of seeds that settings share.

Rows that differ only in their seed are one setting, and settings are drawn with all of their runs: two seeds of one are
not independent evidence for the form of a law. The percentiles of a bootstrap over few settings are too narrow, as
normal tails are against Student's (T. C. Hesterberg 2015, The American Statistician 69:371). Each end is therefore as
far from the estimate as its percentile is from the median of the draws, times t / z.

A seed sets initialisation, data order and masks. If all settings use the same seeds, a lucky one lifts the whole curve.
That moves the level but not the exponents: the mean over S seeds is known to sd / sqrt(S), with Student's t of S - 1
degrees of freedom. Resampling settings does not see this effect, and there are too few seeds to resample. It is removed
before the fit and added to the ends of intervals. bench/coverage.py measures how often these then cover the truth.

Lengths on one trunk share its luck. Where rows have trunks, three seeds or more are left out in turn, each with all of
its runs (the jackknife by clusters, CV3 of J. G. MacKinnon, M. O. Nielsen and M. D. Webb 2023, Journal of Econometrics
232:272), with Student's t of S - 1 degrees of freedom: it holds however the runs of a seed go together. With fewer
seeds the settings that trunks link, say all lengths of a size, are resampled as one. A front is no smooth function of
its runs, so that leaving out seeds misjudges it (.85 of 95 % CIs held): there, and for the best sizes of budgets, new
seeds are drawn from the covariance of the seeds.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from flipscale.analysis.fitting.search import Problem, refits
from flipscale.analysis.stats import Array

DRAWS = 1000
"""Resamples: with 100 the ends of a 95 % interval are themselves uncertain by a fifth of its width."""

COVERAGE = 0.95
"""The share of intervals that should cover the truth."""

LARGE = 0.03
"""A standard deviation of the seeds' effect, on the link scale, above which a fit notes it."""

LEAST_SEEDS = 3
"""Seeds that are left out in turn: by two, Student's t is 12.7."""

_STEP = 1e-3  # on the link scale: above the tolerance of a search, and small enough for a law to be linear
_INFORMED = 1e-6  # least share of the information of all points that a resample has in every direction
_SWEEPS = 50  # at most, of the fit by settings and seeds; balanced tables take one


# Resamples


def resampled(
    problem: Problem,
    theta: Array,
    clusters: NDArray[np.intp],
    draws: int,
    seed: int,
    front: Callable[[NDArray[np.intp]], NDArray[np.intp]] | None = None,
) -> Array:
    """The parameters of resamples [draws, parameters] of a problem with this solution, whose settings are `clusters`.

    With `front` a law goes through a front, which is found anew: it gives the places of the best among drawn rows. A
    resample that does not determine the parameters is drawn anew, up to as often as there are draws.
    """
    drawn = resamples(clusters, 2 * draws, seed)
    if front is not None:
        rows_of = (np.repeat(np.arange(len(row)), row) for row in drawn)
        drawn = np.array([np.bincount(rows[front(rows)], minlength=drawn.shape[1]) for rows in rows_of])
    counts = drawn.astype(np.float64)
    return refits(problem, theta, counts[_determine(problem, theta, counts)][:draws])


def resamples(clusters: NDArray[np.intp], n: int, seed: int = 0) -> NDArray[np.intp]:
    """How often each of n resamples contains each row [n, rows]: each draws as many groups as there are, with repeats.

    `clusters` is the group of each row, numbered from 0; a group is drawn with all of its rows.
    """
    groups = int(clusters.max(initial=-1)) + 1
    drawn = np.random.default_rng(seed).integers(0, groups, (n, groups)) + groups * np.arange(n)[:, None]
    return np.bincount(drawn.ravel(), minlength=n * groups).reshape(n, groups)[:, clusters]


def without_each(problem: Problem, theta: Array, seeds: NDArray[np.intp], draws: int, seed: int) -> Array:
    """Normal draws of the parameters [draws, parameters], with the covariance of fits without each of the seeds."""
    each = np.unique(seeds)
    thetas = refits(problem, theta, (seeds != each[:, None]).astype(np.float64))
    apart = np.sqrt((len(each) - 1) / len(each)) * (thetas - thetas.mean(axis=0))
    return np.asarray(theta + np.random.default_rng(seed).standard_normal((draws, len(each))) @ apart)


def new_seeds(z: Array, cells: NDArray[np.intp], seeds: NDArray[np.intp], draws: int, seed: int) -> Array:
    """Measurements z [draws, n] of as many new seeds, whose runs move together as those of the seeds do.

    About the mean of its cell a new seed has the sum of the seeds' deviations, each times a normal number. A cell has
    runs of two seeds or more.
    """
    places = np.unique(cells, return_inverse=True)[1].reshape(-1)
    known = _cells(z, cells, seeds)
    means = np.nanmean(known, axis=1)
    apart = np.nan_to_num((known - means[:, None]) / np.sqrt(np.isfinite(known).sum(axis=1) - 1)[:, None])
    moved = apart @ np.random.default_rng(seed).standard_normal((draws, *2 * known.shape[1:]))
    return np.asarray(means[places] + moved[:, places, seeds])


def on_fronts(problem: Problem, theta: Array, z: Array, front: Callable[[Array], NDArray[np.intp]]) -> Array:
    """The parameters [m, parameters] of fits to measurements z [draws, n], each through its own front's places."""
    counts = np.zeros_like(z)
    for measured, row in zip(z, counts, strict=True):
        row[front(measured)] = 1
    whole = _determine(problem, theta, counts)
    return refits(replace(problem, z=z[whole]), theta, counts[whole])


def whole_seeds(
    trunks: NDArray[np.intp] | None, seeds: NDArray[np.intp] | None, cells: NDArray[np.intp] | None = None
) -> int:
    """How many seeds intervals rest on, as the lengths of each share its luck; 0 without trunks or with too few seeds.

    With `cells` each of these takes two seeds.
    """
    if trunks is None or seeds is None or (seeds < 0).any():
        return 0
    many = len(np.unique(seeds))
    alone = cells is not None and np.isfinite(_cells(seeds.astype(float), cells, seeds)).sum(axis=1).min() < 2
    return 0 if many < LEAST_SEEDS or alone else many


def _determine(problem: Problem, theta: Array, counts: Array) -> NDArray[np.bool_]:
    """Which resamples determine all parameters [m].

    In the direction that it knows least about, a resample has that share of the information of all points which is the
    smallest eigenvalue of Q' diag(counts) Q, with Q from the QR decomposition of the Jacobian. It is 0 where a resample
    has too few different points, or only points on one line.
    """
    basis = np.linalg.qr(problem.residuals(theta[problem.free_places])[1])[0]
    of_points = basis[:, :, None] * basis[:, None, :]  # [n, free, free]; their sum over all points is the identity
    shares = np.tensordot(counts, of_points, axes=1)
    return np.asarray(np.linalg.eigvalsh(shares)[:, 0] > _INFORMED)


# Intervals


def stretch(freedom: int, coverage: float = COVERAGE) -> float | None:
    """By how much the ends of a percentile interval are moved out: t / z; None with too few groups for an interval.

    `freedom` is the number of groups minus that of fitted parameters.
    """
    return None if freedom < 2 else float(stdtrit(freedom, (1 + coverage) / 2) / ndtri((1 + coverage) / 2))


def interval(draws: Array, estimate: Array | float, freedom: int, coverage: float = COVERAGE) -> tuple[Array, Array]:
    """The ends of the interval of each column of draws [n, ...] about its estimate, stretched for `freedom` >= 2."""
    by = stretch(freedom, coverage)
    assert by is not None
    low, middle, high = np.quantile(draws, [(1 - coverage) / 2, 0.5, (1 + coverage) / 2], axis=0)
    return estimate - by * (middle - low), estimate + by * (high - middle)


def widened(
    ends: tuple[Array, Array], estimate: Array | float, freedom: int, error: Array | float, seeds_freedom: int
) -> tuple[Array, Array]:
    """The ends of intervals about their estimates with an independent error on top, that of the seeds' mean.

    `ends` stand on a Student t with `freedom`, `error` has `seeds_freedom`. The new ends are as many standard errors
    away as the mean of both t, weighted by the variances (W. G. Cochran and G. M. Cox 1957, Experimental Designs,
    section 4.14), each end by itself.
    """
    tail = (1 + COVERAGE) / 2
    by_settings = float(stdtrit(freedom, tail))
    by_seeds = float(stdtrit(seeds_freedom, tail))

    def half(width: Array) -> Array:
        settings = (width / by_settings) ** 2
        seeds = np.asarray(error, dtype=np.float64) ** 2
        total = np.maximum(settings + seeds, 1e-300)
        return np.asarray((settings * by_settings + seeds * by_seeds) / np.sqrt(total))

    low, high = ends
    return estimate - half(np.asarray(estimate - low)), estimate + half(np.asarray(high - estimate))


# Seeds that settings share


@dataclass(frozen=True)
class SharedSeedEffect:
    """The effect of seeds that most settings share, on the scale that a law is fitted on."""

    offsets: Array
    """The effect of each row's seed [n]; 0 on average over the seeds."""
    seeds: int
    """Seeds that most settings share."""
    deviation: float
    """Standard deviation of the offsets over these seeds, noise of single runs included."""
    sd: float
    """The deviation without that noise: the effect of a seed itself."""

    @property
    def freedom(self) -> int:
        return self.seeds - 1

    def error(self, *, new_seed: bool) -> float:
        """Standard error of the mean of all seeds, or of what a new seed adds, on the scale of the offsets."""
        return self.deviation * float(np.sqrt(1 / self.seeds + new_seed))


def seed_effect(z: Array, settings: NDArray[np.intp], seeds: NDArray[np.intp] | None) -> SharedSeedEffect | None:
    """The effect of the seeds of rows [n] that are shared; None where fewer than two seeds are at half of all settings.

    z is fitted by a setting and a seed, by medians (Tukey's polish): one diverged run moves no other.
    """
    if seeds is None or not len(z):
        return None
    cells = _cells(z, settings, seeds)
    shared = np.isfinite(cells).sum(axis=0) * 2 >= len(cells)
    cells = cells[:, shared]
    crossed = np.isfinite(cells).sum(axis=1) > 1
    freedom = int(np.isfinite(cells[crossed]).sum()) - int(crossed.sum()) - cells.shape[1] + 1
    if cells.shape[1] < 2 or freedom < 1:
        return None
    offsets, rest = _two_ways(cells[crossed])
    deviation = float(np.std(offsets, ddof=1))
    # A median of normal noise has pi / 2 times the variance of a mean.
    of_median = np.pi / 2 * float(np.nansum(rest**2)) / freedom / float(np.isfinite(cells).sum(axis=0).mean())
    of_seed = np.zeros(len(shared))
    of_seed[shared] = offsets
    return SharedSeedEffect(
        offsets=np.where(seeds >= 0, of_seed[np.maximum(seeds, 0)], 0.0),
        seeds=len(offsets),
        deviation=deviation,
        sd=float(np.sqrt(max(deviation**2 - of_median, 0.0))),
    )


def slope_of_level(problem: Problem, theta: Array) -> Array:
    """How much each parameter moves for each unit by which all measurements move up [parameters]."""
    moved = replace(problem, z=problem.z + np.array([[0.0], [_STEP]]))
    thetas = refits(moved, theta, np.ones((2, len(problem.x))))
    slope: Array = (thetas[1] - thetas[0]) / _STEP
    return slope


def _cells(z: Array, settings: NDArray[np.intp], seeds: NDArray[np.intp]) -> Array:
    """The mean of each setting and seed [settings, seeds], NaN if a setting lacks the seed."""
    runs = pd.DataFrame({"z": z, "setting": settings, "seed": seeds})
    known = runs[runs["seed"] >= 0].groupby(["setting", "seed"])["z"].mean().unstack()
    return known.reindex(index=np.unique(settings), columns=range(max(int(seeds.max()) + 1, 1))).to_numpy(np.float64)


def _two_ways(cells: Array) -> tuple[Array, Array]:
    """The offset of each column, 0 on average, and the residual of each cell after its row and its column."""
    rest = cells.copy()
    offsets = np.zeros(cells.shape[1])
    for _ in range(_SWEEPS):
        rest -= np.nanmedian(rest, axis=1)[:, None]
        step = np.nanmedian(rest, axis=0)
        rest -= step
        offsets += step
        if np.abs(step).max() <= 1e-12 * (1 + np.abs(offsets).max()):
            break
    return offsets - offsets.mean(), rest
