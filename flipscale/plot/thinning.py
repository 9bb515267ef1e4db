"""Fewer points where thousands would cover each other."""

from typing import Any

import numpy as np
import pandas as pd

MOST_DRAWN = 600
"""Points of one panel that are drawn one by one."""

_CELLS = 40  # per side of the grid in which each cell keeps one point, if there are more

FloatArray = np.ndarray[Any, Any]


def drawn_points(xs: FloatArray, ys: FloatArray) -> FloatArray:
    """Which points to draw on logarithmic axes: all, or if many, the first in each cell of a grid."""
    if len(xs) <= MOST_DRAWN:
        return np.ones(len(xs), dtype=bool)
    cells = [np.floor(_CELLS * (np.log(v) - np.log(v.min())) / (np.ptp(np.log(v)) or 1)) for v in (xs, ys)]
    first: FloatArray = ~pd.DataFrame(cells).T.duplicated().to_numpy()
    return first
