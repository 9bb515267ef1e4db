"""Settings against a reference row: what each cell gains, alone and on top of others, and how joint settings interact.

FLIP's Table 8 (arXiv 2212.00794) is read this way: model, data and schedule are scaled one by one and together from one
baseline, and the interaction of a joint step is its delta minus the sum of the deltas of its single steps. A number
that needs a missing cell is absent, and the cell is named.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import pandas as pd

from flipscale import scores
from flipscale.analysis.comparing.columns import Baseline, labels, settings_words
from flipscale.analysis.comparing.estimates import Estimate, mean_of, nothing
from flipscale.analysis.comparing.points import plain
from flipscale.analysis.comparing.tables import check_baseline, numbers, seeds_of
from flipscale.analysis.fitting.rows import need, open_settings
from flipscale.errors import ResultsError
from flipscale.words import listed, short


@dataclass(frozen=True)
class Step:
    """One setting changed while the others stay where the cell has them."""

    axis: str
    value: object
    onto: str
    """The cell that the step starts from, named by its differences from the reference row."""
    delta: Estimate


@dataclass(frozen=True)
class CellDelta:
    """One combination of settings against the reference row."""

    name: str
    """Differences from the reference row, as 'model=H, data=2B'."""
    settings: Baseline
    changed: tuple[str, ...]
    score: float
    """Mean over seeds."""
    delta: Estimate
    """Over the reference row, positive where better."""
    singles: Estimate
    """Sum of the deltas of its changed settings, each alone."""
    interaction: Estimate
    """delta minus that sum: above 0 where the whole is more than the sum of its parts."""
    steps: tuple[Step, ...]
    """Each changed setting on top of the others."""


@dataclass(frozen=True)
class Deltas:
    """Every cell of a table against its reference row."""

    baseline: Baseline
    y: str
    reference: float
    """Score of the reference row, mean over seeds."""
    cells: tuple[CellDelta, ...]
    left_out: Mapping[str, str]
    """Rows that were left out, and why."""

    def to_dict(self) -> dict[str, object]:
        """All of it in JSON types; the keys are in docs/compare.md."""
        return {
            "baseline": dict(self.baseline),
            "y": self.y,
            "reference": self.reference,
            "cells": [
                {
                    "name": cell.name,
                    "cell": dict(cell.settings),
                    "changed": list(cell.changed),
                    "score": cell.score,
                    **_number("delta", cell.delta),
                    "sum_of_singles": None if len(cell.changed) < 2 else _number("delta", cell.singles),
                    "interaction": None if len(cell.changed) < 2 else _number("value", cell.interaction),
                    "on_top_of_others": [
                        {"axis": step.axis, "value": step.value, "onto": step.onto, **_number("delta", step.delta)}
                        for step in cell.steps
                    ],
                }
                for cell in self.cells
            ],
            "left_out": dict(self.left_out),
        }


def deltas(table: pd.DataFrame, *, baseline: Baseline, y: str, lower_is_better: bool | None = None) -> Deltas:
    """The gain in `y` of every combination of the baseline's columns over the baseline's row.

    `lower_is_better` says whether a lower `y` is better; None goes by its name. Rows are paired by the column `seed` if
    there is one; without it, repeats of a cell are paired in the order of rows.

    Raises ResultsError for a missing column or baseline, and if rows of one cell differ in a setting that the baseline
    does not name: their mean would mix that setting in.
    """
    need(table, [*baseline, y])
    lower = scores.lower_is_better(y) if lower_is_better is None else lower_is_better
    table = table.reset_index(drop=True)
    table = table.assign(**{y: numbers(table, y)})
    check_baseline(table, baseline)
    axes = list(baseline)
    _check_alike(table[table[y].notna()], axes)
    runs, left_out = _runs(table, axes, y)
    reference = tuple(plain(value) for value in baseline.values())
    if reference not in runs:
        raise ResultsError(f"No row of {settings_words(baseline)} has {y}.")
    effects = _Effects(axes, reference, runs, -1 if lower else 1)
    places = {cell: (len(changed := effects.changed(cell)), changed, place) for place, cell in enumerate(runs)}
    # Single steps first, each in the order of rows.
    return Deltas(
        baseline={name: plain(value) for name, value in baseline.items()},
        y=y,
        reference=fmean(runs[reference].values()),
        cells=tuple(effects.cell(cell) for cell in sorted(runs, key=places.__getitem__) if cell != reference),
        left_out=left_out,
    )


def _check_alike(table: pd.DataFrame, axes: Sequence[str]) -> None:
    """ResultsError where rows of one cell differ in a setting that the axes leave open."""
    keys = labels(table, axes)
    for name, values in open_settings(table, axes).items():
        within = table.groupby(keys)[name].nunique(dropna=False)
        if (within > 1).any():
            said = listed([*map(short, values)], 3)
            raise ResultsError(
                f"Rows of {within.idxmax()} differ in {name} ({said}), which the baseline does not name, so their mean "
                f"would mix them. Add {name}=VALUE to the baseline."
            )


_Settings = tuple[object, ...]

_CellRuns = dict[_Settings, dict[int, float]]


def _runs(table: pd.DataFrame, axes: Sequence[str], y: str) -> tuple[_CellRuns, dict[str, str]]:
    """Scores by settings and seed, and the rows that are left out, with the reason."""
    key = labels(table, axes)
    seeds = seeds_of(table)
    if seeds is None:
        seeds = table.groupby(key).cumcount()
    runs: _CellRuns = {}
    left_out: dict[str, str] = {}
    for i, settings in enumerate(zip(*(table[axis] for axis in axes), strict=True)):
        cell, seed, score = tuple(map(plain, settings)), int(seeds[i]), table[y][i]
        if pd.isna(score):
            left_out[f"row {i + 1}"] = f"no {y}"
        elif seed in runs.get(cell, {}):
            left_out[f"row {i + 1}"] = f"a second row of {key[i]} at seed {seed}"
        else:
            runs.setdefault(cell, {})[seed] = float(score)
    return runs, left_out


@dataclass(frozen=True)
class _Effects:
    """Scores by settings and seed, and the sums taken over them."""

    axes: Sequence[str]
    reference: _Settings
    runs: Mapping[_Settings, Mapping[int, float]]
    sign: int

    def changed(self, cell: _Settings) -> list[int]:
        return [i for i, value in enumerate(cell) if value != self.reference[i]]

    def cell(self, cell: _Settings) -> CellDelta:
        changed = self.changed(cell)
        singles = [self.only(cell, [i]) for i in changed]
        steps = []
        for i in changed if len(changed) > 1 else ():
            onto = self.only(cell, [other for other in changed if other != i])
            steps.append(Step(self.axes[i], cell[i], self.name(onto), self.sum([(1, cell), (-1, onto)])))
        return CellDelta(
            name=self.name(cell),
            settings=dict(zip(self.axes, cell, strict=True)),
            changed=tuple(self.axes[i] for i in changed),
            score=fmean(self.runs[cell].values()),
            delta=self.sum([(1, cell), (-1, self.reference)]),
            singles=self.sum([*((1, single) for single in singles), (-len(singles), self.reference)]),
            # (cell - reference) minus the sum of (single - reference).
            interaction=self.sum(
                [(1, cell), *((-1, single) for single in singles), (len(singles) - 1, self.reference)]
            ),
            steps=tuple(steps),
        )

    def only(self, cell: _Settings, axes: Sequence[int]) -> _Settings:
        """The cell with all but these axes at the reference."""
        return tuple(value if i in axes else self.reference[i] for i, value in enumerate(cell))

    def name(self, cell: _Settings) -> str:
        return ", ".join(f"{self.axes[i]}={short(cell[i])}" for i in self.changed(cell)) or "the reference row"

    def sum(self, terms: Sequence[tuple[int, _Settings]]) -> Estimate:
        """A sum of scores, seed by seed, over the seeds that all of these cells have."""
        for _, cell in terms:
            if cell not in self.runs:
                return nothing(f"there is no row of {self.name(cell)}")
        seeds = sorted(set.intersection(*(set(self.runs[cell]) for _, cell in terms)))
        if not seeds:
            return nothing("its cells have no seed in common")
        return mean_of([self.sign * sum(factor * self.runs[cell][seed] for factor, cell in terms) for seed in seeds])


def _number(name: str, estimate: Estimate) -> dict[str, object]:
    return {name: estimate.mean, "n": estimate.n, "interval": estimate.interval, "why": estimate.why}
