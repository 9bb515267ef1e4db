"""Curves that level off: how far from the truth a speed-up is read, without any noise.

A cubic between points cannot know that a curve has levelled off within one step of the schedule, so the baseline's best
score is read too early on the arm's curve, or too late.
"""

import math
from collections.abc import Sequence
from functools import partial
from itertools import product

from flipscale.compare.curves import DrawCounts, curves_of
from flipscale.compare.points import Point

CEILING = 0.9
SHIFTS = (1.5, 2.5)
"""True speed-ups."""

LEVELS = (8.0, 16.0, 32.0, 64.0)
"""Costs at which a curve has covered 63 % of the way to the ceiling; schedules are 8 to 64."""


def saturating(cost: float, level: float) -> float:
    return CEILING * (1 - math.exp(-cost / level))


def speedup_biases(schedules: Sequence[float]) -> list[dict[str, float]]:
    """The speed-up that is read over the true one, less 1, for each `shift` and `level` of saturation."""
    found = []
    for shift, level in product(SHIFTS, LEVELS):
        truth = partial(saturating, level=level)
        points = [
            Point(f"{arm}{cost}", f"{cost}", "saturating", cost, arm, 0, "", truth(cost * faster), {"hours": cost})
            for arm, faster in (("", 1.0), ("arm", shift))
            for cost in schedules
        ]
        (curve,) = curves_of(
            points, ["arm"], ["hours"], fraction=True, lower=False, draws=DrawCounts(claims=10, others=10)
        )
        if curve.speedup.mean is not None and not curve.speedup.at_least:
            found.append({"shift": shift, "level": level, "bias": curve.speedup.mean / shift - 1})
    return found
