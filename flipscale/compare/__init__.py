"""Gains of masking over its baseline: paired at equal samples, and read off curves at equal accuracy and cost.

    at equal samples        a run against its twin: same cell, same seed, the baseline's settings           pairs.py
    at equal accuracy       the cost to the baseline's mean at its last but one length, over the arm's      curves.py
    at equal cost           the difference after the same hours or FLOPs                                    curves.py
    between settings        a cell against a reference cell: deltas, and their interaction                  effects.py

A curve is the finished runs of one series: cells that differ only in schedule length. Each point is a whole schedule,
never the middle of a longer one. Between points it is a monotone cubic against log cost; beside the speed-up stands the
one that is straight in hours, as FLIP's 3.7x was read (arXiv 2212.00794, Fig 1). Outside the points nothing is read,
and the reason is given in words. docs/how-computed.md has the formulas.

Gains are positive if masking is better, also for a loss. Ratios are masked over baseline, speed-ups baseline over
masked. Data in, data out: nothing here touches a disk.

    columns.py     which score, baseline, arm, cell and series          points.py     from rows to runs
    tables.py      any table: missing roles are found or asked for      parts.py      pairs and curves as data
    curve_columns.py   which columns tell curves apart                  curves.py     curves, their noise and readings
    gains.py       gains judged by the noise of the whole study         head.py       arms over all cells, slopes, power
    estimates.py   seeds to intervals; many speed-ups at once           claims.py     what is stated about each arm
    build.py       from a table to a comparison                         comparison.py the comparison as data
    of_study.py    a study's comparison                                 as_json.py    a comparison for programs
    planned.py     detectable effects of a plan                         head_text.py  the head of the answer, in 8 lines
    words.py       a sentence for each series and arm                   stated.py     whether a study's claims hold
    stated_text.py the same for people and programs                     test_images.py  the effect of other test images
    layout.py      a comparison for people: tables, then sentences      effects_text.py  deltas for people
    hours.py       which hours claims along time use                    same_cells.py   which runs of two studies pair
    study_pair.py  study against study                                  study_pair_text.py  for people and programs
"""

from flipscale.compare.as_json import comparison_json
from flipscale.compare.build import compare, compare_table, with_images
from flipscale.compare.claims import Claim, leading
from flipscale.compare.columns import (
    Baseline,
    arms_of,
    is_baseline,
    labels,
    measured_scores,
    pick_score,
    series_of,
    varying_axes,
)
from flipscale.compare.comparison import Comparison
from flipscale.compare.curves import first_reach
from flipscale.compare.effects import Deltas, deltas
from flipscale.compare.effects_text import deltas_text
from flipscale.compare.estimates import Effect, Estimate, Finding, finding
from flipscale.compare.head import ArmHead, AxisSlope, Head
from flipscale.compare.head_text import head_lines, opening, warnings
from flipscale.compare.hours import fair_hours
from flipscale.compare.layout import (
    claims_markdown,
    comparison_markdown,
    comparison_text,
    effect_table,
    effects_title,
    legend,
)
from flipscale.compare.of_study import base_cell, compare_study, judge_study, with_guessing
from flipscale.compare.parts import Curve, Pair, Speedup
from flipscale.compare.planned import planned_sensitivity
from flipscale.compare.same_cells import RunsOfStudy, SameCells, SettingChange, planned_runs, same_cells
from flipscale.compare.stated import JudgedClaim, StudyClaims, Verdict, judge_claims
from flipscale.compare.stated_text import claim_count, claim_number
from flipscale.compare.study_pair import StudyPair, compare_runs, with_hits
from flipscale.compare.study_pair_text import (
    same_cells_json,
    same_cells_text,
    study_pair_json,
    study_pair_markdown,
    study_pair_text,
)
from flipscale.compare.tables import baseline_from, columns_from
from flipscale.compare.words import gain_words, verdicts

__all__ = [
    "ArmHead",
    "AxisSlope",
    "Baseline",
    "Claim",
    "Comparison",
    "Curve",
    "Deltas",
    "Effect",
    "Estimate",
    "Finding",
    "Head",
    "JudgedClaim",
    "Pair",
    "RunsOfStudy",
    "SameCells",
    "SettingChange",
    "Speedup",
    "StudyClaims",
    "StudyPair",
    "Verdict",
    "arms_of",
    "base_cell",
    "baseline_from",
    "claim_count",
    "claim_number",
    "claims_markdown",
    "columns_from",
    "compare",
    "compare_runs",
    "compare_study",
    "compare_table",
    "comparison_json",
    "comparison_markdown",
    "comparison_text",
    "deltas",
    "deltas_text",
    "effect_table",
    "effects_title",
    "fair_hours",
    "finding",
    "first_reach",
    "gain_words",
    "head_lines",
    "is_baseline",
    "judge_claims",
    "judge_study",
    "labels",
    "leading",
    "legend",
    "measured_scores",
    "opening",
    "pick_score",
    "planned_runs",
    "planned_sensitivity",
    "same_cells",
    "same_cells_json",
    "same_cells_text",
    "series_of",
    "study_pair_json",
    "study_pair_markdown",
    "study_pair_text",
    "varying_axes",
    "verdicts",
    "warnings",
    "with_guessing",
    "with_hits",
    "with_images",
]
