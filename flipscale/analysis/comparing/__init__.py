"""Gains of masking over its baseline: paired at equal samples, and read off curves at equal accuracy and cost.

    at equal samples        a run against its twin: same cell, same seed, the baseline's settings           twins.py
    at equal accuracy       the cost to the baseline's mean at its last but one length, over the arm's      speedups.py
    at equal cost           the difference after the same hours or FLOPs                                    speedups.py
    any table               groups of rows without curves: Welch, twins, or one run against several         groups.py

A curve is the finished runs of one series: cells that differ only in schedule length. Each point is a whole schedule,
never the middle of a longer one. Between points it is a monotone cubic against log cost; beside the speed-up stands the
one that is straight in hours, as FLIP's 3.7x was read (arXiv 2212.00794, Fig 1). Outside the points nothing is read,
and the reason is given in words. docs/how-computed.md has the formulas.

Gains are positive if masking is better, also for a loss. Ratios are masked over baseline, speed-ups baseline over
masked. Data in, data out: nothing here touches a disk.

    roles.py       which score, baseline, arm, cell, series and hours; their words
    any_table.py   any table: roles of its columns as the user names them
    points.py      from rows to runs                  estimates.py   seeds to intervals; pairs and curves as data
    twins.py       twins, and their gains judged by the noise of the whole study
    speedups.py    curves, their noise and readings   head.py        arms over all cells, slopes, power
    stated.py      whether a study's claims hold      comparison.py  what is claimed; the comparison as data
    best.py        the best of several cells; slopes
    build.py       from a table to a comparison       study_comparison.py    a study's, finished or planned
    groups.py      groups of rows, without curves     groups_answer.py  the same for people and programs
    answer.py      a comparison for people: one screen, and all of it
    as_json.py     a comparison for programs
"""

from flipscale.analysis.comparing.answer import (
    answer_table,
    claim_count,
    claims_table,
    comparison_markdown,
    comparison_text,
    everything,
    gain_words,
    notes_of,
    screen,
    speed_cell,
    warnings,
)
from flipscale.analysis.comparing.any_table import baseline_from, columns_from
from flipscale.analysis.comparing.as_json import comparison_json
from flipscale.analysis.comparing.build import compare, compare_table
from flipscale.analysis.comparing.comparison import Comparison
from flipscale.analysis.comparing.estimates import Curve, Effect, Estimate, Pair
from flipscale.analysis.comparing.groups import Groups, compare_groups
from flipscale.analysis.comparing.groups_answer import groups_json, groups_text
from flipscale.analysis.comparing.roles import (
    Baseline,
    arms_of,
    fair_hours,
    is_baseline,
    labels,
    measured_scores,
    pick_score,
    series_of,
    varying_axes,
)
from flipscale.analysis.comparing.stated import JudgedClaim, StudyClaims, Verdict, judge_claims
from flipscale.analysis.comparing.study_comparison import (
    compare_finished,
    compare_study,
    judge_study,
    planned_sensitivity,
    with_guessing,
)

__all__ = [
    "Baseline",
    "Comparison",
    "Curve",
    "Effect",
    "Estimate",
    "Groups",
    "JudgedClaim",
    "Pair",
    "StudyClaims",
    "Verdict",
    "answer_table",
    "arms_of",
    "baseline_from",
    "claim_count",
    "claims_table",
    "columns_from",
    "compare",
    "compare_finished",
    "compare_groups",
    "compare_study",
    "compare_table",
    "comparison_json",
    "comparison_markdown",
    "comparison_text",
    "everything",
    "fair_hours",
    "gain_words",
    "groups_json",
    "groups_text",
    "is_baseline",
    "judge_claims",
    "judge_study",
    "labels",
    "measured_scores",
    "notes_of",
    "pick_score",
    "planned_sensitivity",
    "screen",
    "series_of",
    "speed_cell",
    "varying_axes",
    "warnings",
    "with_guessing",
]
