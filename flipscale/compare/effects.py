"""Settings against a reference row: what each cell gains, alone and on top of others, and how joint settings interact.

FLIP's Table 8 (arXiv 2212.00794) is read so: model, data and schedule are scaled one by one and together from one
baseline, and the interaction of a joint step is its delta minus the sum of the deltas of its single steps. A number
that a missing cell would be needed for is absent, with that cell's name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from flipscale import scores
from flipscale.compare.columns import labels, need
from flipscale.compare.estimates import Estimate, mean_of, nothing
from flipscale.compare.layout import AsTable, aligned, markdown
from flipscale.compare.points import plain
from flipscale.compare.tables import check_baseline, numbers, seeds_of
from flipscale.words import short, signed


@dataclass(frozen=True)
class Step:
    """One setting changed while the others stay where the cell has them."""

    axis: str
    value: Any
    onto: str
    """The cell that it is a step from, by what that differs in from the reference row."""
    delta: Estimate


@dataclass(frozen=True)
class Cell:
    """One combination of settings against the reference row."""

    name: str
    """What differs from the reference row, as 'model=H, data=2B'."""
    settings: dict[str, Any]
    changed: tuple[str, ...]
    score: float
    """Mean over seeds."""
    delta: Estimate
    """Over the reference row, positive where better."""
    singles: Estimate
    """Sum of the deltas of its changed settings, each alone."""
    interaction: Estimate
    """delta minus that sum: above 0 where the whole is more than its parts."""
    steps: tuple[Step, ...]
    """Each changed setting on top of the others."""


@dataclass(frozen=True)
class Deltas:
    """Every cell of a table against its reference row."""

    baseline: dict[str, Any]
    y: str
    reference: float
    """Score of the reference row, mean over seeds."""
    cells: tuple[Cell, ...]
    left_out: dict[str, str]
    """Rows that took no part, and why."""

    def to_dict(self) -> dict[str, Any]:
        """All of it in JSON types; the keys are in docs/compare.md."""
        return {
            "baseline": self.baseline,
            "y": self.y,
            "reference": self.reference,
            "cells": [
                {
                    "name": cell.name,
                    "cell": cell.settings,
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
            "left_out": self.left_out,
        }

    def table(self) -> str:
        """All of it as text for a terminal."""
        return self._text(aligned)

    def markdown(self) -> str:
        """All of it as Markdown."""
        return self._text(markdown)

    def _text(self, as_table: AsTable) -> str:
        where = ", ".join(f"{name}={short(value)}" for name, value in self.baseline.items())
        rows = [
            [
                cell.name,
                f"{cell.score:.4g}",
                _cell(cell.delta),
                _cell(cell.singles) if len(cell.changed) > 1 else "",
                _cell(cell.interaction) if len(cell.changed) > 1 else "",
            ]
            for cell in self.cells
        ]
        parts = [f"{self.y} is {self.reference:.4g} at {where}. From there:"]
        parts.append(as_table(["cell", self.y, "delta", "sum of singles", "interaction"], rows))
        steps = [
            [f"{step.axis}={short(step.value)}", step.onto, _cell(step.delta)]
            for cell in self.cells
            for step in cell.steps
            if step.delta.mean is not None
        ]
        if steps:
            parts += ["One more setting on top of others:", as_table(["setting", "on top of", "delta"], steps)]
        absent = {
            f"- {cell.name}: no interaction, as {cell.interaction.why}"
            for cell in self.cells
            if len(cell.changed) > 1 and cell.interaction.mean is None
        }
        parts += ["\n".join(sorted(absent))] if absent else []
        estimates = [cell.delta for cell in self.cells]
        if any(e.interval for e in estimates):
            parts.append("Brackets are 95 % intervals over seeds, each for itself.")
        if any(e.n == 1 for e in estimates):
            parts.append("A number without brackets is of one seed, which gives no interval.")
        if self.left_out:
            parts.append("Left out: " + "; ".join(f"{row}: {why}" for row, why in self.left_out.items()))
        return "\n\n".join(parts) + "\n"


def deltas(table: pd.DataFrame, *, baseline: Mapping[str, Any], y: str, lower_is_better: bool | None = None) -> Deltas:
    """What every combination of the baseline's columns gains in `y` over the baseline's row.

    Less of `y` is better if `lower_is_better`; None goes by its name. Rows are paired by the column `seed` if there is
    one; without it repeats of a cell are paired in the order of rows.

    Raises ResultsError for a column or a baseline that is not there.
    """
    need(table, [*baseline, y])
    lower = scores.lower_is_better(y) if lower_is_better is None else lower_is_better
    table = table.reset_index(drop=True)
    table = table.assign(**{y: numbers(table, y)})
    check_baseline(table, baseline)
    axes = list(baseline)
    key = labels(table, axes)
    seeds = seeds_of(table)
    table["_seed"] = table.groupby(key).cumcount() if seeds is None else seeds
    runs: dict[tuple[Any, ...], dict[int, float]] = {}
    left_out: dict[str, str] = {}
    for i, row in enumerate(table.to_dict("records")):
        cell = tuple(plain(row[axis]) for axis in axes)
        if pd.isna(row[y]):
            left_out[f"row {i + 1}"] = f"no {y}"
        elif int(row["_seed"]) in runs.get(cell, {}):
            left_out[f"row {i + 1}"] = f"a second row of {key[i]} at seed {int(row['_seed'])}"
        else:
            runs.setdefault(cell, {})[int(row["_seed"])] = float(row[y])
    reader = _Reader(axes, tuple(plain(value) for value in baseline.values()), runs, -1 if lower else 1)
    reference = runs.get(reader.reference, {})
    if not reference:
        check_baseline(table[table[y].notna()], baseline)
    mean = sum(reference.values()) / len(reference)
    cells = tuple(reader.cell(cell) for cell in sorted(runs, key=reader.order) if cell != reader.reference)
    return Deltas({name: plain(value) for name, value in baseline.items()}, y, mean, cells, left_out)


_Settings = tuple[Any, ...]


@dataclass(frozen=True)
class _Reader:
    """Scores by settings and seed, and the sums that are taken of them."""

    axes: Sequence[str]
    reference: _Settings
    runs: Mapping[_Settings, Mapping[int, float]]
    sign: int

    def order(self, cell: _Settings) -> tuple[int, list[int]]:
        """Single steps first, each in the order of rows."""
        changed = self.changed(cell)
        return len(changed), [*changed, list(self.runs).index(cell)]

    def changed(self, cell: _Settings) -> list[int]:
        return [i for i, value in enumerate(cell) if value != self.reference[i]]

    def cell(self, cell: _Settings) -> Cell:
        changed = self.changed(cell)
        singles = [self.only(cell, [i]) for i in changed]
        several = len(changed) > 1
        scores = self.runs[cell].values()
        return Cell(
            name=self.name(cell),
            settings=dict(zip(self.axes, cell, strict=True)),
            changed=tuple(self.axes[i] for i in changed),
            score=sum(scores) / len(scores),
            delta=self.sum([(1, cell), (-1, self.reference)]),
            singles=self.sum([*((1, one) for one in singles), (-len(singles), self.reference)]),
            # The joint delta minus the single ones: the reference row counts once for each, and back once.
            interaction=self.sum([(1, cell), *((-1, one) for one in singles), (len(singles) - 1, self.reference)]),
            steps=tuple(self.step(cell, i) for i in changed) if several else (),
        )

    def step(self, cell: _Settings, axis: int) -> Step:
        onto = self.only(cell, [i for i in self.changed(cell) if i != axis])
        return Step(self.axes[axis], cell[axis], self.name(onto), self.sum([(1, cell), (-1, onto)]))

    def only(self, cell: _Settings, axes: Sequence[int]) -> _Settings:
        """The cell with all but these axes at the reference."""
        return tuple(value if i in axes else self.reference[i] for i, value in enumerate(cell))

    def name(self, cell: _Settings) -> str:
        return ", ".join(f"{self.axes[i]}={short(cell[i])}" for i in self.changed(cell)) or "the reference row"

    def sum(self, terms: Sequence[tuple[int, _Settings]]) -> Estimate:
        """A sum of scores, seed by seed; of the seeds that all of these cells have."""
        for _, cell in terms:
            if cell not in self.runs:
                return nothing(f"there is no row of {self.name(cell)}")
        seeds = sorted(set.intersection(*(set(self.runs[cell]) for _, cell in terms)))
        if not seeds:
            return nothing("its cells have no seed in common")
        return mean_of([self.sign * sum(factor * self.runs[cell][seed] for factor, cell in terms) for seed in seeds])


def _number(name: str, e: Estimate) -> dict[str, Any]:
    return {name: e.mean, "n": e.n, "interval": e.interval, "why": e.why}


def _cell(e: Estimate) -> str:
    """As many digits as say something: a sum of decimals ends in float dust."""
    if e.mean is None:
        return "-"
    mean, *ends = (signed(round(value, 10)) for value in (e.mean, *(e.interval or [])))
    return f"{mean} [{', '.join(ends)}]" if ends else mean
