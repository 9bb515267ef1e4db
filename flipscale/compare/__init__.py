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

    columns.py     which score, baseline, arm, cell and series; their words
    tables.py      any table: roles of its columns as the user names them
    points.py      from rows to runs                  parts.py       pairs and curves as data
    curves.py      curves, their noise and readings   gains.py       gains judged by the noise of the whole study
    estimates.py   seeds to intervals                 claims.py      what is stated about each arm
    head.py        arms over all cells, slopes, power stated.py      whether a study's claims hold
    hours.py       which hours claims go by           test_images.py the effect of other test images
    build.py       from a table to a comparison       comparison.py  the comparison as data
    of_study.py    a study's comparison               planned.py     detectable effects of a plan
    study_pair.py  study against study                as_json.py     a comparison for programs
    answer.py      a comparison for people: one screen, and all of it
"""

from flipscale.compare.answer import (
    answer_table,
    arm_name,
    claim_count,
    claims_table,
    comparison_markdown,
    comparison_text,
    deltas_text,
    everything,
    gain_words,
    gains_table,
    notes_of,
    screen,
    speed_cell,
    warnings,
)
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
from flipscale.compare.comparison import Comparison, ScoredBy
from flipscale.compare.curves import first_reach
from flipscale.compare.effects import Deltas, deltas
from flipscale.compare.estimates import Effect, Estimate, Finding, finding
from flipscale.compare.head import ArmHead, AxisSlope, Head
from flipscale.compare.hours import fair_hours
from flipscale.compare.of_study import base_cell, compare_study, judge_study, with_guessing
from flipscale.compare.parts import Curve, Pair, Speedup
from flipscale.compare.planned import planned_sensitivity
from flipscale.compare.stated import JudgedClaim, StudyClaims, Verdict, judge_claims
from flipscale.compare.study_pair import (
    RunsOfStudy,
    SameCells,
    SettingChange,
    StudyPair,
    compare_runs,
    study_pair_json,
    study_pair_markdown,
    study_pair_text,
    with_hits,
)
from flipscale.compare.tables import baseline_from, columns_from

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
    "ScoredBy",
    "SettingChange",
    "Speedup",
    "StudyClaims",
    "StudyPair",
    "Verdict",
    "answer_table",
    "arm_name",
    "arms_of",
    "base_cell",
    "baseline_from",
    "claim_count",
    "claims_table",
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
    "everything",
    "fair_hours",
    "finding",
    "first_reach",
    "gain_words",
    "gains_table",
    "is_baseline",
    "judge_claims",
    "judge_study",
    "labels",
    "leading",
    "measured_scores",
    "notes_of",
    "pick_score",
    "planned_sensitivity",
    "screen",
    "series_of",
    "speed_cell",
    "study_pair_json",
    "study_pair_markdown",
    "study_pair_text",
    "varying_axes",
    "warnings",
    "with_guessing",
    "with_hits",
    "with_images",
]
