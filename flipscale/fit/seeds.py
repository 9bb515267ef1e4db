"""The effect that runs of one seed share along the whole curve: measured, removed from a fit, and put into intervals.

A seed sets initialisation, data order and masks. If all settings use the same seeds, a lucky one lifts the whole curve.
That moves the level but not the exponents: the mean over S seeds is known to sd / sqrt(S), with Student's t of
S - 1 degrees of freedom (a block design whose blocks are seeds). Resampling 2, 3 or 5 seeds would give too narrow
intervals, and resampling settings does not see the effect at all. uncertainty.widened puts both together.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flipscale.fit.problem import Loss
from flipscale.stats import Array

LARGE = 0.03
"""A standard deviation of the seeds' effect, on the link scale, above which a fit notes it."""

_SWEEPS = 50  # at most, of the fit by settings and seeds; balanced tables take one


@dataclass(frozen=True)
class SharedSeedEffect:
    """The effect of seeds that most settings share, on the scale that a law is fitted on."""

    offsets: Array
    """The effect of each row's seed [n]; 0 on average over the seeds."""
    seeds: int
    """Seeds that most settings share."""
    deviation: float
    """Standard deviation of the offsets over these seeds, noise of single runs included."""
    noise: float
    """Variance of a run about the effects of its setting and its seed."""
    sd: float
    """The deviation without that noise: the effect of a seed itself."""

    @property
    def freedom(self) -> int:
        return self.seeds - 1

    def error(self, *, new_seed: bool) -> float:
        """Standard error of the mean of all seeds, or of what a new seed adds, on the scale of the offsets."""
        return self.deviation * float(np.sqrt(1 / self.seeds + new_seed))


def seed_effect(
    z: Array, settings: NDArray[np.intp], seeds: NDArray[np.intp] | None, loss: Loss
) -> SharedSeedEffect | None:
    """The effect of the seeds of rows [n] that are shared; None where fewer than two seeds are at half of all settings.

    z is fitted by a setting and a seed, by means for squares and by medians (Tukey's polish) for Huber's loss.
    """
    if seeds is None or not len(z):
        return None
    cells = _cells(z, settings, seeds)
    shared = np.isfinite(cells).sum(axis=0) * 2 >= len(cells)
    cells = cells[:, shared]
    counts = np.isfinite(cells).sum(axis=0)
    crossed = np.isfinite(cells).sum(axis=1) > 1
    freedom = int(np.isfinite(cells[crossed]).sum()) - int(crossed.sum()) - cells.shape[1] + 1
    if cells.shape[1] < 2 or freedom < 1:
        return None
    offsets, rest = _two_ways(cells[crossed], "median" if loss == "huber" else "mean")
    noise = float(np.nansum(rest**2)) / freedom
    deviation = float(np.std(offsets, ddof=1))
    # A median of normal noise has pi / 2 times the variance of a mean.
    of_mean = noise / float(counts.mean()) * (np.pi / 2 if loss == "huber" else 1)
    of_seed = np.zeros(len(shared))
    of_seed[shared] = offsets
    return SharedSeedEffect(
        offsets=np.where(seeds >= 0, of_seed[np.maximum(seeds, 0)], 0.0),
        seeds=len(offsets),
        deviation=deviation,
        noise=noise,
        sd=float(np.sqrt(max(deviation**2 - of_mean, 0.0))),
    )


def _cells(z: Array, settings: NDArray[np.intp], seeds: NDArray[np.intp]) -> Array:
    """The mean of each setting and seed [settings, seeds], NaN if a setting lacks the seed."""
    kinds = np.unique(settings, return_inverse=True)[1].reshape(-1)
    shape = (int(kinds.max()) + 1, max(int(seeds.max()) + 1, 1))
    total, n = np.zeros(shape), np.zeros(shape)
    known = seeds >= 0
    np.add.at(total, (kinds[known], seeds[known]), z[known])
    np.add.at(n, (kinds[known], seeds[known]), 1)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _two_ways(cells: Array, by: str) -> tuple[Array, Array]:
    """The offset of each column, 0 on average, and the residual of each cell after its row and its column."""
    middle = np.nanmedian if by == "median" else np.nanmean
    rest, offsets = cells.copy(), np.zeros(cells.shape[1])
    for _ in range(_SWEEPS):
        rest -= middle(rest, axis=1)[:, None]
        step = middle(rest, axis=0)
        rest -= step
        offsets += step
        if np.abs(step).max() <= 1e-12 * (1 + np.abs(offsets).max()):
            break
    return offsets - offsets.mean(), rest
