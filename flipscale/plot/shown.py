"""The results as figures read them: runs with a score, each with its arm and its cell, and the words for both."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd

from flipscale.cell import read_cell
from flipscale.compare import (
    Comparison,
    arms_of,
    compare,
    is_baseline,
    labels,
    measured_scores,
    pick_score,
    series_of,
    varying_axes,
)
from flipscale.errors import ResultsError
from flipscale.scores import lower_is_better
from flipscale.words import percent, short

SCALES = ("model", "data_size", "samples")
"""The scaling axes, as FLIP's Fig 4."""

MOST_ARMS = 8
"""Lines that colour, marker and dashes still tell apart, the baseline's among them."""

NO_MASK: Mapping[str, Any] = {"mask_ratio": 0}
"""The baseline where none is named."""

_OWN = ("arm", "series", "time", "model_flops", "error")
"""Columns that figures add."""

AXIS_WORDS = {"model": "model size", "data_size": "unique pairs", "samples": "samples seen"}


_READ = (
    *("id", "cell", "model", "data_size", "samples", "mask_ratio", "seed", "device", "finished"),
    *("samples_seen", "unique_pairs", "repeats", "params", "flops_per_sample", "train_flops", "gpu_hours"),
    *("train_seconds", "cpu_seconds", "gpu_hours_predicted", "memory_bytes_predicted", "peak_memory_bytes"),
)
"""Columns that figures and `compare` read, beside the baseline's and the score."""


class Undrawable(ResultsError):
    """The results cannot fill this figure; the message is the reason."""


@dataclass(frozen=True)
class Shown:
    """The results as figures read them: runs with a score, each with its arm and its cell."""

    rows: pd.DataFrame
    """Results with `arm` (0 is the baseline), `cell`, and data_size filled in where it was all there is."""
    curves: pd.DataFrame
    study: str
    baseline: dict[str, Any]
    score: str
    arms: tuple[str, ...]
    """Arm number to its name in the legend."""
    axes: tuple[str, ...]
    """Axes of the cells that have more than one value, as the study names them; a scale only if every row has it."""
    references: pd.DataFrame | None = None
    """Rows of other people's results, drawn apart; never fitted and in no comparison."""
    unscored: bool = False
    """Whether no run has a score, so that the training loss stands in its place."""

    @property
    def lower_is_better(self) -> bool:
        return bool(lower_is_better(self.score))

    def compared(self, rows: pd.DataFrame | None = None) -> Comparison:
        """What `flipscale compare` says of these rows, of all if none are given: a large study's take seconds.

        Raises Undrawable where it says that nothing can be compared.
        """
        rows = self.rows if rows is None else rows
        try:
            return compare(rows.drop(columns=[*_OWN], errors="ignore"), baseline=self.baseline, score=self.score)
        except ResultsError as reason:
            raise Undrawable(str(reason).rstrip(".")) from reason

    @cached_property
    def arm_numbers(self) -> dict[str, int]:
        """The arms of a comparison ('mask_ratio=0.5', '' for the baseline) to their numbers here."""
        return dict(zip(arms_of(self.rows, self.baseline), self.rows["arm"], strict=True))

    def of(self, rows: pd.DataFrame, references: pd.DataFrame | None = None) -> "Shown":
        """The same of other rows, and other references if given."""
        return replace(self, rows=rows, references=self.references if references is None else references)


def shown(
    results: pd.DataFrame,
    curves: pd.DataFrame | None = None,
    *,
    study: str = "",
    baseline: Mapping[str, Any] = NO_MASK,
    score: str | None = None,
    references: pd.DataFrame | None = None,
    or_loss: bool = False,
) -> Shown:
    """Prepare a table of results for all figures. Raises ResultsError if no run has a score.

    With `or_loss` the training loss stands in where no run has any, for figures that need no score.
    """
    unscored = or_loss and not measured_scores(results)
    score = pick_score(results, "final_loss" if unscored else score)
    rows = results[results[score].notna()].reset_index(drop=True)
    if "cell" in rows:
        # Of some 70 columns a figure reads a third, and cutting rows out is what takes time where rows are many.
        rows = rows[[name for name in rows if name in (*_READ, *baseline, score)]]
    baseline = {name: value for name, value in baseline.items() if name in rows} or dict(baseline)
    if "cell" not in rows:
        rows["cell"] = labels(rows, varying_axes(rows, baseline))
    rows["cell"] = rows["cell"].fillna("")
    keys = [name for name in baseline if name in rows]
    rows = rows.assign(_base=~is_baseline(rows, baseline)).sort_values(["_base", *keys], kind="stable")
    names = arms_of(rows, baseline)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    # Without a run of the baseline its number, and with it the black line, stays free.
    without = 0 if "" in numbers else 1
    rows["arm"] = [numbers[name] + without for name in names]
    words = [arm_words(row, baseline) for row in rows.drop_duplicates("arm")[keys].to_dict("records")]
    if "unique_pairs" in rows and "data_size" in rows:
        rows["data_size"] = rows["data_size"].fillna(rows["unique_pairs"])
    parts = [cell_parts(cell) for cell in rows["cell"].drop_duplicates()]
    axes = dict.fromkeys(name for part in parts for name in part)
    several = (name for name in axes if len({part.get(name) for part in parts}) > 1)
    varied = tuple(name for name in several if name not in SCALES or rows[name].notna().all())
    return Shown(
        rows.drop(columns="_base").sort_index(),
        NO_CURVES if curves is None else curves,
        study,
        dict(baseline),
        score,
        tuple([arm_words(dict(baseline), baseline)] * without + words),
        varied,
        references,
        unscored,
    )


NO_CURVES = pd.DataFrame({name: [] for name in ("id", "step", "samples", "metric", "value")})


def cell_parts(cell: str) -> dict[str, str]:
    """The values of a cell by the names of its axes."""
    return {axis: value for axis, value in read_cell(cell) if axis}


def one_value(s: Shown, axis: str, needs: str = "") -> Undrawable:
    """Why a figure along this axis cannot be drawn."""
    return Undrawable(f"{axis} has one value{'; ' if needs else ''}{needs}")


def few_arms(s: Shown) -> None:
    """Raises Undrawable for more arms than a figure of lines can tell apart."""
    if len(s.arms) > MOST_ARMS:
        raise Undrawable(
            f"{len(s.arms)} arms are too many to tell apart in one figure; gains shows them, or make studies of fewer"
        )


def best_slice(s: Shown, axis: str) -> pd.DataFrame:
    """The rows at those values of the other axes at which this one is varied most; of equals, that trained longest."""
    fixed = series_of(s.rows, axis)
    groups = s.rows.groupby(fixed)
    order = pd.DataFrame({"n": groups[axis].nunique(), "f": groups["train_flops"].mean()}).sort_values(["n", "f"])
    rows: pd.DataFrame = s.rows[fixed == order.index[-1]]
    return rows


def model_flops(rows: pd.DataFrame) -> "pd.Series[float]":
    """The size of each row's model: training FLOPs per sample where nothing is masked, or the least is.

    Not its parameters: in a small model most of them are the vocabulary's, and B/32 and B/16 have the same.
    """
    return rows.groupby("model")["flops_per_sample"].transform("max").astype(float)


# Words


def arm_words(settings: Mapping[Any, Any], baseline: Mapping[str, Any]) -> str:
    """An arm in words: in what it differs from the baseline; the baseline by its mask, or by all its settings."""
    other = {name: value for name, value in settings.items() if short(value) != short(baseline[name])}
    if not other and len(settings) > 1:
        other = {name: value for name, value in settings.items() if name == "mask_ratio"} or dict(settings)
    return ", ".join(setting_words(str(name), value) for name, value in (other or settings).items()) or "all runs"


def setting_words(name: str, value: Any) -> str:
    """A setting as a reader says it: 'mask 50 %', 'batch size 128', 'tuning 1.6k'."""
    if name == "mask_ratio" and isinstance(value, int | float) and not pd.isna(value):
        return "no mask" if value == 0 else f"mask {percent(value)}"
    if name == "text_mask_ratio" and isinstance(value, int | float) and not pd.isna(value):
        return f"text mask {percent(value)}"
    return f"{name.replace('_', ' ')} {value_words(value)}"


def value_words(value: Any) -> str:
    """A value in words; options as '(samples=1.6k, lr=0.0001)' without their parentheses."""
    text = short(value)
    return "none" if text == "null" else text.removeprefix("(").removesuffix(")").replace("=", " ")


def cell_words(cell: str) -> str:
    """A cell in words: 'ViT-B-16, 60k pairs, 32k samples'. A data_size of null is all the data there is."""
    return ", ".join(part_words(name, value) for name, value in cell_parts(cell).items())


def part_words(name: str, value: str) -> str:
    """One axis of a cell in words."""
    if name == "model":
        return value
    if name == "data_size":
        return "all data" if value == "null" else f"{value} pairs"
    return f"{value} samples" if name == "samples" else f"{name.replace('_', ' ')} {value}"
