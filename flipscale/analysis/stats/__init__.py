"""How sure a difference is: one engine for comparisons and claims.

Differences between twins are raw: those that a person computes from the table. Two or three seeds say little about how
far the runs of one cell scatter, so the variance of a cell of few seeds is shrunk towards that of the study's median
cell (Smyth 2004). docs/how-computed.md has the formulas.

    student.py     Student's t: intervals, p values, equivalence
    variance.py    one variance per cell, shrunk towards the median cell's
    failures.py    cells in which some runs do not take off: counts and an exact test
    families.py    many comparisons at once (Holm)
    over_cells.py  means and slopes over cells, and whether seeds move all cells alike
    power.py       the smallest detectable difference, and the seeds it takes
    two_groups.py  groups of independent runs (Welch), and a prediction for one run
    trunks.py      lengths that share a trunk are one unit
"""

from flipscale.analysis.stats.failures import TAKES_OFF, Failures, failed_runs, sign_flip_p
from flipscale.analysis.stats.families import Judged, holm
from flipscale.analysis.stats.over_cells import WARN_P, mean_over, seed_effect_p, slope_of
from flipscale.analysis.stats.power import MOST_SEEDS, Design, Sensitivity, design_by, provable_margin, sensitivity_of
from flipscale.analysis.stats.student import ALPHA, Array, Interval, Moments, moments
from flipscale.analysis.stats.trunks import linked, units_of
from flipscale.analysis.stats.two_groups import TwoGroups
from flipscale.analysis.stats.variance import OWN_SEEDS, PRIOR_DF, Differences, Noise, ScoreKind, shrink_variances

__all__ = [
    "ALPHA",
    "MOST_SEEDS",
    "OWN_SEEDS",
    "PRIOR_DF",
    "TAKES_OFF",
    "WARN_P",
    "Array",
    "Design",
    "Differences",
    "Failures",
    "Interval",
    "Judged",
    "Moments",
    "Noise",
    "ScoreKind",
    "Sensitivity",
    "TwoGroups",
    "design_by",
    "failed_runs",
    "holm",
    "linked",
    "mean_over",
    "moments",
    "provable_margin",
    "seed_effect_p",
    "sensitivity_of",
    "shrink_variances",
    "sign_flip_p",
    "slope_of",
    "units_of",
]
