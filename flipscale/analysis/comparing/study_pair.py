"""Study against study: the runs that two studies share except for what differs between them, as one comparison.

Two runs are a pair where the settings that either study varies have equal values in both, and the seeds are equal. All
other settings may differ, and the comparison is about those that do; a run that both studies have is not a pair. The
first study is the baseline and the second the arm, so estimates, intervals and corrections are build.py's.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from flipscale.analysis.comparing.answer import comparison_markdown, comparison_text
from flipscale.analysis.comparing.as_json import comparison_json
from flipscale.analysis.comparing.build import compare
from flipscale.analysis.comparing.columns import is_baseline, labels, measured_scores
from flipscale.analysis.comparing.comparison import Comparison
from flipscale.analysis.comparing.of_study import base_cell
from flipscale.collecting import SETTING_COLUMNS, baseline_of
from flipscale.errors import ResultsError, did_you_mean
from flipscale.planning.identity import differences, show_setting
from flipscale.planning.runs import Plan
from flipscale.study import Study
from flipscale.tables import Part, PrintedTable, as_markdown, as_text
from flipscale.words import count, joined, listed

STUDY = "study"
"""The column that tells the two studies apart."""

FEW_LISTED = 4
"""Values of a setting, and cells of one study, that are listed."""


@dataclass(frozen=True)
class RunsOfStudy:
    """A study with the rows of its finished runs, as results.csv has them."""

    name: str
    """Its name next to that of the other study."""
    study: Study
    plan: Plan
    rows: pd.DataFrame


@dataclass(frozen=True)
class SettingChange:
    """A setting that differs within pairs."""

    name: str
    values: tuple[tuple[str, str], ...]
    """Its values in the first study and in the second, as a person writes them."""
    pairs: int
    """The number of pairs that it differs in."""


@dataclass(frozen=True)
class SameCells:
    """What two studies have in common, and what only one has."""

    names: tuple[str, str]
    axes: tuple[str, ...]
    """The settings that a pair shares beside the seed: those that either study varies."""
    pairs: tuple[tuple[str, str], ...]
    """Ids of runs, the first study's first."""
    same_runs: tuple[str, ...]
    """Ids of runs that both studies have."""
    only: tuple[Mapping[str, int], Mapping[str, int]]
    """For each study, the cells of its runs that are in no pair, with the number of those runs."""
    changes: tuple[SettingChange, ...]


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
    sides = [replace(side, rows=side.rows[side.rows[score].notna()].reset_index(drop=True)) for side in (first, second)]
    same = same_cells(sides[0], sides[1])
    if not same.pairs:
        raise ResultsError(_no_pair(same, sides))
    rows = _paired_rows(sides, same)
    comparison = compare(
        rows,
        baseline={STUDY: first.name},
        score=score,
        base_cell=_base_cell(sides, rows),
        margin=min(side.study.margin for side in sides) / 100,
        looks=max(side.study.looks for side in sides),
    )
    return StudyPair(same, comparison)


def _score_of_both(first: RunsOfStudy, second: RunsOfStudy, score: str | None) -> str:
    """The score that both are compared by."""
    of_both = [name for name in measured_scores(first.rows) if name in measured_scores(second.rows)]
    if not of_both:
        raise ResultsError(f"{first.name} and {second.name} have measured no score in common.")
    if score is None:
        return next((name for name in (first.study.score, second.study.score) if name in of_both and name), of_both[0])
    if score not in of_both:
        raise ResultsError(
            f"{first.name} and {second.name} have not both measured {score!r}; {did_you_mean(score, of_both)}."
        )
    return score


def same_cells(first: RunsOfStudy, second: RunsOfStudy) -> SameCells:
    """The pairs of two studies. Raises ResultsError where runs of one study cannot be told apart by its columns."""
    names = dict.fromkeys(axis.name for side in (first, second) for axis in side.study.axes)
    axes = tuple(name for name in names if name != "seed" and name in SETTING_COLUMNS)
    cells = list(labels(pd.concat([first.rows[[*axes]], second.rows[[*axes]]], ignore_index=True), axes))
    places = [_places(first, cells[: len(first.rows)]), _places(second, cells[len(first.rows) :])]
    both = [(run, places[1][key]) for key, run in places[0].items() if key in places[1]]
    pairs = tuple((old, new) for old, new in both if old != new)
    old_settings, new_settings = ({run.id: run.settings for run in side.plan.cells} for side in (first, second))
    changed: dict[str, list[tuple[str, str]]] = {}
    for old, new in pairs:
        before, after = old_settings[old], new_settings[new]
        for name in differences(before, after):
            changed.setdefault(name, []).append(
                (show_setting(getattr(before, name)), show_setting(getattr(after, name)))
            )
    return SameCells(
        names=(first.name, second.name),
        axes=axes,
        pairs=pairs,
        same_runs=tuple(old for old, new in both if old == new),
        only=(
            Counter(cell for cell, seed in places[0] if (cell, seed) not in places[1]),
            Counter(cell for cell, seed in places[1] if (cell, seed) not in places[0]),
        ),
        changes=tuple(
            SettingChange(name, tuple(dict.fromkeys(values)), len(values)) for name, values in changed.items()
        ),
    )


def _places(side: RunsOfStudy, cells: Sequence[str]) -> dict[tuple[str, int], str]:
    """The run of each cell and seed."""
    places: dict[tuple[str, int], str] = {}
    for run, cell, seed in zip(side.rows["id"].map(str), cells, side.rows["seed"], strict=True):
        if places.setdefault((cell, int(seed)), run) != run:
            raise ResultsError(
                f"{side.name} has two runs of {cell or 'its only cell'} at seed {seed}, so it is unclear which "
                "of them to compare with the other study's."
            )
    return places


def _no_pair(same: SameCells, sides: Sequence[RunsOfStudy]) -> str:
    """Why two studies have no pair, as a sentence."""
    first, second = same.names
    if same.same_runs:
        runs = count(len(same.same_runs), "run")
        return f"{first} and {second} have {runs} in common, which are identical runs, and no other pair."
    for axis in same.axes:
        values = [[word.partition("=")[2] for word in dict.fromkeys(labels(side.rows, [axis]))] for side in sides]
        if not set(values[0]) & set(values[1]):
            said = [listed(of_side, FEW_LISTED) for of_side in values]
            return (
                f"{first} and {second} have no cell in common: {axis} is {said[0]} in {first} and {said[1]} in "
                f"{second}. Runs are paired by what either study varies ({', '.join(same.axes)}) and by seed; a "
                "setting that is to be compared must not be an axis."
            )
    shared = joined([*same.axes, "seed"])
    return f"{first} and {second} have no cell in common: no two of their runs have the same {shared}."


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
        of_base = rows[
            (rows["own_cell"] == base) & (rows[STUDY] == side.name) & is_baseline(rows, baseline_of(side.study))
        ]
        if base is not None and len(of_base):
            return str(of_base["cell"].iloc[0])
    return None


# For people and programs


def study_pair_text(pair: StudyPair, *, full: bool = False, width: int = 80) -> str:
    """What the two share and what differs, then their comparison, for a terminal."""
    return f"{as_text(_parts(pair.same), width)}\n\n{comparison_text(pair.comparison, full=full, width=width)}"


def study_pair_markdown(pair: StudyPair) -> str:
    """The same as Markdown."""
    return f"{as_markdown(_parts(pair.same))}\n\n{comparison_markdown(pair.comparison)}"


def study_pair_json(pair: StudyPair) -> dict[str, object]:
    """The same in JSON's types; docs/compare.md lists the keys."""
    same = pair.same
    return {
        "schema": 1,
        "studies": list(same.names),
        "paired_by": [*same.axes, "seed"],
        "pairs": [list(ids) for ids in same.pairs],
        "differences": {
            change.name: {"values": [list(both) for both in change.values], "pairs": change.pairs}
            for change in same.changes
        },
        "same_runs": list(same.same_runs),
        "only": {name: dict(cells) for name, cells in zip(same.names, same.only, strict=True)},
        "comparison": comparison_json(pair.comparison),
    }


def _parts(same: SameCells) -> list[Part]:
    first, second = same.names
    shared = joined([*same.axes, "seed"])
    parts: list[Part] = [f"{second} against {first}: {count(len(same.pairs), 'pair')} of runs with the same {shared}."]
    rows = []
    for change in same.changes:
        more = ", ..." if len(change.values) > FEW_LISTED else ""
        both = [", ".join(values) + more for values in zip(*change.values[:FEW_LISTED], strict=True)]
        rows.append((change.name, *both, str(change.pairs)))
    parts.append(PrintedTable("What differs within pairs", ("setting", first, second, "pairs"), tuple(rows)))
    if same.same_runs:
        runs = count(len(same.same_runs), "run")
        parts.append(f"{runs} belong to both studies, so there is nothing to compare there.")
    for name, cells in zip(same.names, same.only, strict=True):
        listed = [
            f"{cell or 'its only cell'} ({count(runs, 'run')})" for cell, runs in list(cells.items())[:FEW_LISTED]
        ]
        more = f"; and {len(cells) - FEW_LISTED} more" if len(cells) > FEW_LISTED else ""
        if cells:
            parts.append(f"Only in {name}: {count(sum(cells.values()), 'run')}: {'; '.join(listed)}{more}.")
    return parts
