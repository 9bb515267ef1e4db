"""Study against study: the runs that two studies share except for what differs between them, as one comparison.

The first study is the baseline and the second the arm. Estimates, intervals and the correction for all cells are
therefore those of any other comparison (build.py), and one rule says what is significant.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from flipscale.collect import HitsOfRun, baseline_of
from flipscale.compare.build import compare, with_images
from flipscale.compare.columns import is_baseline, labels, measured_scores
from flipscale.compare.comparison import Comparison
from flipscale.compare.of_study import base_cell
from flipscale.compare.same_cells import RunsOfStudy, SameCells, no_pair_words, same_cells
from flipscale.errors import ResultsError, did_you_mean

STUDY = "study"
"""The column that tells the two studies apart."""


@dataclass(frozen=True)
class StudyPair:
    """Two studies, compared run by run."""

    same: SameCells
    comparison: Comparison
    """Its baseline is the first study, its arm the second."""


def compare_runs(first: RunsOfStudy, second: RunsOfStudy, score: str | None = None) -> StudyPair:
    """Compare the finished runs of two studies. score: if left out, the first study's or else the second's, if both
    measured it.

    Raises ResultsError where they have no pair or no score that both measured.
    """
    score = _score_of_both(first, second, score)
    sides = [_with_score(side, score) for side in (first, second)]
    same = same_cells(sides[0], sides[1])
    if not same.pairs:
        raise ResultsError(no_pair_words(same, sides[0], sides[1]))
    rows = _paired_rows(sides, same)
    comparison = compare(
        rows,
        baseline={STUDY: first.name},
        score=score,
        base_cell=_base_cell(sides, rows),
        margin=min(side.study.margin for side in sides) / 100,
    )
    return StudyPair(same, comparison)


def with_hits(pair: StudyPair, hits: Mapping[str, HitsOfRun]) -> StudyPair:
    """The pair with the sampling error of its test images, by which runs got which right."""
    return replace(pair, comparison=with_images(pair.comparison, hits))


def _score_of_both(first: RunsOfStudy, second: RunsOfStudy, score: str | None) -> str:
    """The score that both are compared by."""
    of_both = [name for name in measured_scores(first.rows) if name in measured_scores(second.rows)]
    if not of_both:
        raise ResultsError(f"{first.name} and {second.name} have measured no score in common.")
    if score is None:
        return next(
            (name for name in (first.study.score, second.study.score) if name is not None and name in of_both),
            of_both[0],
        )
    if score not in of_both:
        raise ResultsError(
            f"{first.name} and {second.name} have not both measured {score!r}; {did_you_mean(score, of_both)}."
        )
    return score


def _with_score(side: RunsOfStudy, score: str) -> RunsOfStudy:
    rows = side.rows[side.rows[score].notna()].reset_index(drop=True)
    return RunsOfStudy(side.name, side.study, side.plan, rows)


def _paired_rows(sides: Sequence[RunsOfStudy], same: SameCells) -> pd.DataFrame:
    """The rows of both that are in pairs, the first study's first, with the columns `study` and `cell` for `compare`.

    A cell is named by the settings that pairs share and that differ between cells.
    """
    paired = [
        side.rows.set_index(side.rows["id"].map(str)).loc[[pair[number] for pair in same.pairs]].assign(study=side.name)
        for number, side in enumerate(sides)
    ]
    rows = pd.concat(paired, ignore_index=True)
    varied = [axis for axis in same.axes if rows[axis].nunique(dropna=False) > 1]
    return rows.assign(own_cell=rows["cell"], cell=labels(rows, varied))


def _base_cell(sides: Sequence[RunsOfStudy], rows: pd.DataFrame) -> str | None:
    """The cell that heads the answer: the base of either study, at its baseline. None where no pair has it."""
    for side in sides:
        base = base_cell(side.study, side.plan)
        found = rows[
            (rows["own_cell"] == base) & (rows[STUDY] == side.name) & is_baseline(rows, baseline_of(side.study))
        ]
        if base is not None and len(found):
            return str(found["cell"].iloc[0])
    return None
