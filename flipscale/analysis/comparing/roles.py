"""The roles of a table's columns: the score, the rows of the baseline, and the arm, cell and series of each row."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from flipscale.analysis.stats import ScoreKind
from flipscale.cell import SettingLabels, arm_words, read_cell, without, write_cell
from flipscale.door.columns import SETTING_COLUMNS
from flipscale.errors import ResultsError, did_you_mean
from flipscale.scores import PREFERRED, is_declared, is_fraction, is_score, lower_is_better
from flipscale.words import joined, short, times

Baseline = Mapping[str, object]
"""Column -> value, as the rows of the baseline or of an arm have it."""


def settings_named(labels: SettingLabels) -> Callable[[Baseline], str]:
    """How settings are named, without those that are none: 'mask 50 %, then 1.6k unmasked'."""

    def name_of(settings: Baseline) -> str:
        present = {name: value for name, value in settings.items() if short(value) not in ("null", "nan")}
        return arm_words(present, dict.fromkeys(present, math.nan), labels)

    return name_of


def settings_words(settings: Baseline) -> str:
    """'mask_ratio=0, tuning=null'."""
    return ", ".join(f"{name}={short(value)}" for name, value in settings.items())


def pick_score(results: pd.DataFrame, score: str | None) -> str:
    """`score` if a run has it; without one, the first of `measured_scores`. Raises ResultsError if no run has it."""
    if results.empty:
        raise ResultsError("No run of these results has finished; `flipscale status STUDY` says how far each run is.")
    measured = measured_scores(results)
    listed = f"Measured: {', '.join(measured) or 'none'}."
    if score is not None:
        if score not in results:
            near = did_you_mean(score, measured) if measured else "none was measured"
            raise ResultsError(f"No run has the score {score!r}; {near}.")
        if not pd.api.types.is_numeric_dtype(results[score]):
            raise ResultsError(f"{score!r} is not a score. {listed}")
        if results[score].isna().all():
            raise ResultsError(f"No run has the score {score!r}. {listed}")
        return score
    if not measured:
        raise ResultsError(
            "No run of these results has a score, so there is nothing to compare; `evaluation` in the study file says "
            "what is measured (docs/study.md)."
        )
    return measured[0]


def kind_of(score: str) -> ScoreKind:
    """What its name says of a score."""
    return ScoreKind(is_fraction(score), bool(lower_is_better(score)), is_declared(score))


def varying_axes(results: pd.DataFrame, baseline: Baseline) -> list[str]:
    """The settings that define a cell: those that vary, unless the baseline's settings and earlier axes determine them.

    The mask ratio determines a batch size coupled to it, and the schedule a warm-up: neither defines a cell.
    """
    axes: list[str] = []
    for name in SETTING_COLUMNS:
        if name in (*baseline, "seed") or name not in results or results[name].nunique(dropna=False) < 2:
            continue
        settled_by = [*(key for key in baseline if key in results), *axes]
        if not settled_by or (results.groupby(settled_by, dropna=False)[name].nunique(dropna=False) > 1).any():
            axes.append(name)
    return axes


def is_baseline(results: pd.DataFrame, baseline: Baseline) -> "pd.Series[bool]":
    """Which rows have the baseline's settings."""
    mask = pd.Series(True, index=results.index)
    for name, value in baseline.items():
        mask &= results[name].isna() if value is None else (results[name] == value).fillna(False).astype(bool)
    return mask


def arms_of(results: pd.DataFrame, baseline: Baseline) -> "pd.Series[str]":
    """The arm of each row: how it differs from the baseline, as 'mask_ratio=0.5'; '' for the baseline itself."""
    parts = pd.DataFrame(
        {
            name: labels(results, [name]).mask(is_baseline(results, {name: value}), "")
            for name, value in baseline.items()
            if name in results
        },
        index=results.index,
        dtype="str",
    )
    text = [", ".join(filter(None, row)) for row in parts.to_numpy().tolist()]
    return pd.Series(text, index=results.index, dtype="str")


def labels(table: pd.DataFrame, names: Sequence[str]) -> "pd.Series[str]":
    """'model=ViT-B-16, samples=400M' for each row."""
    columns = [[f"{name}={word}" for word in _words(table[name])] for name in names]
    text = [", ".join(row) for row in zip(*columns, strict=True)] if names else [""] * len(table)
    return pd.Series(text, index=table.index, dtype="str")


def _words(column: "pd.Series[Any]") -> list[str]:
    """Each value as a person writes it, or in full where two values would look the same."""
    words = {value: short(value) for value in column.dropna().unique()}
    alike = {word for word, n in pd.Series(list(words.values()), dtype="str").value_counts().items() if n > 1}
    return [
        "null" if pd.isna(value) else str(value) if words[value] in alike else words[value] for value in column.tolist()
    ]


def series_of(table: pd.DataFrame, along: str = "samples") -> "pd.Series[str]":
    """The cell of each row without the axis that its curve runs along: without its schedule length."""
    cells = ["" if pd.isna(cell) else str(cell) for cell in table["cell"]]
    kept = [write_cell(without(read_cell(cell), along)) for cell in cells]
    return pd.Series(kept, index=table.index, dtype="str")


def measured_scores(results: pd.DataFrame) -> list[str]:
    """The scores that any run has, the preferred ones first."""
    names = dict.fromkeys((*PREFERRED, *filter(is_score, map(str, results.columns))))
    return [name for name in names if name in results and results[name].notna().any()]


UNLIKE_LOAD = 1.25
"""Wall time over CPU time of one arm may be this many times another's. Arms that ran side by side are within 1.17 in
the committed studies; those of the icons study, which ran one after the other, are 1.9 apart."""

FEW_ARMS = 4
"""With more arms, only those of the least and the most load are named."""

PROBED = "Hours are those of a probe, which timed the shapes of all arms in turns, and not what the runs took."


class FairHours(NamedTuple):
    """A table whose `gpu_hours` are those that claims go by."""

    rows: pd.DataFrame
    note: str
    """A sentence on them; '' where there is nothing to say."""


def fair_hours(rows: pd.DataFrame, arms: "pd.Series[str]") -> FairHours:
    """The rows with the hours that claims go by. arms: the arm of each row; '' is the baseline.

    If a probe has timed the shape of every run, hours are the probe's: shapes were timed in turns, under one load.
    Otherwise they are the runs' own, with a note if the load differed between arms: on a shared CPU even processor time
    grows when neighbours compete for caches, and arms that ran one after the other had different neighbours.
    """
    if {"gpu_hours", "gpu_hours_probed"} <= set(rows):
        measured = rows["gpu_hours"].notna()
        if measured.any() and rows["gpu_hours_probed"][measured].notna().all():
            return FairHours(rows.assign(gpu_hours=rows["gpu_hours_probed"].where(measured)), PROBED)
    return FairHours(rows, _unlike_load(rows, arms))


def _unlike_load(rows: pd.DataFrame, arms: "pd.Series[str]") -> str:
    """How the load differed between arms; '' where it did not, or where that is unknown, as on a GPU."""
    if not {"train_seconds", "cpu_seconds", "device"} <= set(rows):
        return ""
    on_cpu = rows[(rows["device"] == "cpu") & (rows["cpu_seconds"] > 0)]
    # With several threads or processes more CPU time is spent than time passes, in all arms alike.
    load = (on_cpu["train_seconds"] / on_cpu["cpu_seconds"]).groupby(arms[on_cpu.index], sort=True).median().dropna()
    if len(load) < 2 or load.max() <= UNLIKE_LOAD * load.min():
        return ""
    many = len(load) > FEW_ARMS
    named = load.sort_values().iloc[[0, -1]] if many else load
    said = joined(f"{times(value)} {f'with {arm}' if arm else 'in the baseline'}" for arm, value in named.items())
    return (
        f"The arms ran under unlike load (wall time over CPU time is {'between ' if many else ''}{said}), so gains and "
        "speed-ups along hours may owe part of it to that; `flipscale probe` times all arms alike."
    )
