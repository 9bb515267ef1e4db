"""How a budget of compute is best spent: the size and the samples at which a law of both is lowest.

With C = k N D the sum A N^-a + B D^-b is lowest at N = G (C / k)^(b / (a + b)), G = (a A / (b B))^(1 / (a + b)), and
D = C / (k N) (Hoffmann et al. 2022, arXiv 2203.15556, equation 4). A floor and an exponent around the sum change
nothing.
"""

from dataclasses import dataclass

import numpy as np

from flipscale.analysis.fitting.fitted_law import Fit
from flipscale.analysis.fitting.uncertainty import interval
from flipscale.analysis.stats import Array
from flipscale.errors import ResultsError

FLOPS_PER = {"chinchilla": 6.0, "chinchilla-k": 6.0, "odds": 1.0}
"""Law -> training FLOPs per unit of size times samples: 6 per parameter and token (arXiv 2001.08361), or 1 where the
size is FLOPs per sample."""


@dataclass(frozen=True)
class Allocation:
    """The best use of a budget, according to a law. Intervals are 95 % CIs.

    They are None where there are too few runs or an exponent is not determined.
    """

    flops: float
    flops_per: float
    """k of C = k N D."""
    size: float
    size_interval: tuple[float, float] | None
    samples: float
    samples_interval: tuple[float, float] | None
    exponent: float
    """The best size grows as the budget to this power, b / (a + b)."""
    exponent_interval: tuple[float, float] | None
    y: float
    """The law's prediction for this run."""
    extrapolation: float
    """How many times larger the run is than the largest that was fitted."""


def allocate(fit: Fit, flops: float) -> Allocation:
    """The best size and number of samples for a budget of training FLOPs, from a two-variable law that FLOPS_PER has.

    Raises ResultsError for other laws, and where an exponent is 0, as then there is no optimum.
    """
    if fit.law.name not in FLOPS_PER:
        laws = ", ".join(FLOPS_PER)
        raise ResultsError(f"A budget is allocated by a law in size and samples ({laws}); this one is {fit.law.name}.")
    if not (np.isfinite(flops) and flops > 0):
        raise ResultsError(f"A budget is a number of FLOPs above 0, not {flops:g}.")
    a = fit.parameters["a"]
    b = fit.parameters["b"]
    if not (a > 0 and b > 0):
        raise ResultsError(f"a = {a:.3g} and b = {b:.3g}: without a gain in both variables there is no best size.")
    per = FLOPS_PER[fit.law.name]
    product = float(np.log(flops / per))
    place = {name: i for i, name in enumerate(fit.law.parameters)}
    best = _best(fit.solution.theta[None], place, product)[0]
    sizes = exponents = None
    if fit.stretch is not None and not {"a", "b", fit.law.outer} & set(fit.not_determined):
        drawn = _best(fit.draws, place, product)
        low, high = interval(drawn[np.isfinite(drawn).all(axis=1)], best, fit.freedom)
        sizes = float(np.exp(low[0])), float(np.exp(high[0]))
        exponents = max(float(low[1]), 0.0), min(float(high[1]), 1.0)
    size = float(np.exp(best[0]))
    samples = float(np.exp(product)) / size
    point = np.array([[size, samples]])
    return Allocation(
        flops=flops,
        flops_per=per,
        size=size,
        size_interval=sizes,
        samples=samples,
        samples_interval=sizes and (float(np.exp(product)) / sizes[1], float(np.exp(product)) / sizes[0]),
        exponent=float(best[1]),
        exponent_interval=exponents,
        y=float(fit.predict(dict(zip(fit.x, point[0], strict=True)))[0]),
        extrapolation=float(fit.rows.size_of(point)[0] / fit.rows.size.max()),
    )


def _best(thetas: Array, place: dict[str, int], product: float) -> Array:
    """log N and its exponent for each theta [n, parameters] at this log of N D [n, 2]; not finite: no optimum."""
    log_a, log_b, a, b = (thetas[:, place[name]] for name in ("A", "B", "a", "b"))
    with np.errstate(divide="ignore", invalid="ignore"):
        log_g = (np.log(a) + log_a - np.log(b) - log_b) / (a + b)
        exponent = b / (a + b)
        return np.column_stack([log_g + exponent * product, exponent])
