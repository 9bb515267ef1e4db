"""Families of stated claims, whose contrasts share runs: how often their intervals hold the truth.

A family has claims of three kinds over the cells of one study: a cell against the baseline, a cell against its
neighbour, and a difference of two such differences. All true effects are 0, so each significant claim is an error.
"""

from typing import Any

import numpy as np

from bench.scatter import SCATTERS, Scatter
from flipscale.stats import Array, holm, pool_variance

FAMILIES = (6, 12, 27)
"""Claims of a family; fewer than 8 with 2 seeds are not pooled."""

CLAIM_SCATTERS = SCATTERS[:4]
"""The effect of a seed on all runs of an arm is part of a claim: these scatter by run."""


def contrasts(claims: int) -> Array:
    """Weights of the study's cells in each claim [claims, cells]; the first cell is the baseline."""
    cells = max(4, claims // 2 + 2)
    weights = np.zeros((claims, cells))
    for i, row in enumerate(weights):
        here = 1 + i % (cells - 3)
        row[here] = 1
        if i % 3 == 0:
            row[0] = -1
        elif i % 3 == 1:
            row[here + 1] = -1
        else:
            row[[0, here + 1]] = -1
            row[here + 2] = 1
    return weights


def claims_fare(scatter: Scatter, claims: int, seeds: int, studies: int) -> dict[str, Any]:
    """How often the intervals of a family of claims hold the truth, judged by the noise pooled over the family."""
    rng = np.random.default_rng([3, claims, seeds, len(scatter.name)])
    weights = contrasts(claims)
    sizes = np.linspace(0, 1, weights.shape[1]).tolist()
    held, errors = np.zeros(claims), 0
    for _ in range(studies):
        differences = weights @ scatter.noise(rng, 1, sizes, seeds)[0]
        noise = pool_variance({(f"{k}", ""): row.tolist() for k, row in enumerate(differences)}, claims=True)
        found = [noise.moments[f"{k}", ""] for k in range(claims)]
        held += [moments.interval().holds(0.0) for moments in found]
        errors += any(judged is not None and judged.significant for judged in holm([moments.p for moments in found]))
    return {
        "scatter": scatter.name,
        "claims": claims,
        "seeds": seeds,
        "studies": studies,
        "cover": float(held.mean()) / studies,
        "worst": float(held.min()) / studies,
        "family_error": errors / studies,
    }
