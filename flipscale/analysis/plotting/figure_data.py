"""The results as figures read them: runs with a score, each with its arm and its cell."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd

from flipscale.analysis.comparing import (
    Comparison,
    StudyClaims,
    arms_of,
    compare,
    is_baseline,
    measured_scores,
    pick_score,
    series_of,
    varying_axes,
)
from flipscale.analysis.comparing import labels as settings_in_words
from flipscale.analysis.plotting.cell_words import axis_values
from flipscale.analysis.rows import chance_level
from flipscale.cell import SettingLabels, arm_words
from flipscale.door.statements import LOOKS
from flipscale.door.sweep import SweepOutcome
from flipscale.errors import ResultsError
from flipscale.scores import is_fraction, lower_is_better, score_label

SCALES = ("model", "data_size", "samples")
"""The scaling axes, as FLIP's Fig 4."""

MOST_ARMS = 8
"""The most lines, with the baseline's, that colour, marker and dashes tell apart."""

NO_MASK: Mapping[str, object] = {"mask_ratio": 0}
"""The baseline where none is named."""

NO_CURVES = pd.DataFrame({name: [] for name in ("id", "step", "samples", "metric", "value")})


class Undrawable(ResultsError):
    """The results cannot fill this figure; the message is the reason."""


@dataclass(frozen=True)
class FigureData:
    """The results as figures read them: runs with a score, each with its arm and its cell."""

    rows: pd.DataFrame
    """Results with `arm` (0 is the baseline), `cell`, and data_size filled in where a run used all pairs."""
    curves: pd.DataFrame
    study: str
    baseline: Mapping[str, object]
    score: str
    arms: tuple[str, ...]
    """The name of each arm in the legend, by its number."""
    axes: tuple[str, ...]
    """Axes on which cells differ, as the study names them; a scaling axis only if every row has it."""
    references: pd.DataFrame | None = None
    """Rows of other people's results, drawn apart; never fitted and in no comparison."""
    unscored: bool = False
    """Whether no run has a score, so that the training loss stands in its place."""
    stated: StudyClaims | None = None
    """The claims that the study states, judged."""
    looks: int = LOOKS
    """Looks at the results, for which intervals are corrected."""
    chance: float | None = None
    """Chance level of the score; None if unknown."""
    sweep: SweepOutcome | None = None
    """The sweep that chose a setting of the study."""
    x: str | None = None
    """The setting along which the study's curves are drawn."""

    @property
    def chance_of_error(self) -> float | None:
        """The same for the error: 1 - the score, or a loss itself."""
        return self.chance if self.chance is None or self.lower_is_better else 1 - self.chance

    @property
    def lower_is_better(self) -> bool:
        return bool(lower_is_better(self.score))

    @property
    def score_words(self) -> str:
        return score_label(self.score)

    @property
    def scale(self) -> float:
        """The unit of gains on an axis: 100 for points of a fraction."""
        return 100 if self.comparison.fraction else 1

    @property
    def gain_words(self) -> str:
        return "gain over the baseline" + (", points" if self.comparison.fraction else "")

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the highest value that the score can have."""
        return (0.0, 1.0) if is_fraction(self.score) else (-math.inf, math.inf)

    @property
    def scales(self) -> list[str]:
        """The scaling axes that have more than one value."""
        return [axis for axis in SCALES if axis in self.axes]

    @cached_property
    def comparison(self) -> Comparison:
        """The comparison of all rows, so that figures of some rows use its noise and its corrections.

        Raises Undrawable if nothing can be compared.
        """
        try:
            stated = self.stated
            looks = self.looks
            return compare(self.rows, baseline=self.baseline, score=self.score, stated=stated, looks=looks)
        except ResultsError as reason:
            raise Undrawable(str(reason).rstrip(".")) from reason

    @cached_property
    def arm_numbers(self) -> dict[str, int]:
        """The arms of a comparison ('mask_ratio=0.5', '' for the baseline) to their numbers here."""
        return dict(zip(arms_of(self.rows, self.baseline), self.rows["arm"], strict=True))

    def with_rows(self, rows: pd.DataFrame, references: pd.DataFrame | None = None) -> "FigureData":
        """The same of other rows, and other references if given."""
        return replace(self, rows=rows, references=self.references if references is None else references)


def figure_data(
    results: pd.DataFrame,
    curves: pd.DataFrame | None = None,
    *,
    study: str = "",
    baseline: Mapping[str, object] = NO_MASK,
    score: str | None = None,
    references: pd.DataFrame | None = None,
    or_loss: bool = False,
    stated: StudyClaims | None = None,
    labels: SettingLabels | None = None,
    looks: int = LOOKS,
    x: str | None = None,
) -> FigureData:
    """Prepare a table of results for all figures. Raises ResultsError if no run has a score.

    With `or_loss` the training loss stands in if no run has a score, for figures that need none.
    """
    unscored = or_loss and not measured_scores(results)
    score = pick_score(results, "final_loss" if unscored else score)
    rows = results[results[score].notna()].reset_index(drop=True)
    baseline = {name: value for name, value in baseline.items() if name in rows} or dict(baseline)
    if "cell" not in rows:
        rows["cell"] = settings_in_words(rows, varying_axes(rows, baseline))
    rows["cell"] = rows["cell"].fillna("")
    rows, arms = number_arms(rows, baseline, labels)
    if "unique_pairs" in rows and "data_size" in rows:
        rows["data_size"] = rows["data_size"].fillna(rows["unique_pairs"])
    return FigureData(
        rows.sort_index(),
        NO_CURVES if curves is None else curves,
        study,
        baseline,
        score,
        arms,
        _varied_axes(rows),
        references,
        unscored,
        stated,
        looks,
        chance_level(results, score),
        x=x if x in rows else None,
    )


def number_arms(
    rows: pd.DataFrame, baseline: Mapping[str, object], labels: SettingLabels | None = None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows with `arm`, the number of each row's arm, and the words of the arms in the order of their numbers."""
    settings = [name for name in baseline if name in rows]
    rows = rows.assign(_base=~is_baseline(rows, baseline)).sort_values(["_base", *settings], kind="stable")
    names = arms_of(rows, baseline)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    # Without a run of the baseline, its number and so its black line stay unused.
    first = 0 if "" in numbers else 1
    rows["arm"] = [numbers[name] + first for name in names]
    records = rows.drop_duplicates("arm")[settings].to_dict("records") if settings else [{}]
    words = [arm_words({str(name): value for name, value in record.items()}, baseline, labels) for record in records]
    return rows.drop(columns="_base"), tuple([arm_words(baseline, baseline, labels)] * first + words)


def _varied_axes(rows: pd.DataFrame) -> tuple[str, ...]:
    """The axes on which cells differ, without scaling axes that some row lacks."""
    cells = [axis_values(cell) for cell in rows["cell"].drop_duplicates()]
    names = dict.fromkeys(name for cell in cells for name in cell)
    several = (name for name in names if len({cell.get(name) for cell in cells}) > 1)
    return tuple(name for name in several if name not in SCALES or rows[name].notna().all())


def one_value(axis: str, needs: str = "") -> Undrawable:
    """Why a figure along this axis cannot be drawn."""
    return Undrawable(f"{axis} has one value{'; ' if needs else ''}{needs}")


def check_arms(data: FigureData) -> None:
    """Raises Undrawable for more arms than a figure of lines can tell apart."""
    if len(data.arms) > MOST_ARMS:
        raise Undrawable(
            f"{len(data.arms)} arms are too many to tell apart in one figure; gains shows them, or make studies of "
            "fewer"
        )


def best_slice(data: FigureData, axis: str) -> pd.DataFrame:
    """The rows at those values of the other axes at which this one varies most; among equals, those trained longest."""
    fixed = series_of(data.rows, axis)
    groups = data.rows.groupby(fixed)
    order = pd.DataFrame({"n": groups[axis].nunique(), "f": groups["train_flops"].mean()}).sort_values(["n", "f"])
    rows: pd.DataFrame = data.rows[fixed == order.index[-1]]
    return rows


def model_flops(rows: pd.DataFrame) -> "pd.Series[float]":
    """The size of each row's model: training FLOPs per sample at its lowest mask ratio.

    Not its parameters: in a small model most of them are the vocabulary's, and B/32 and B/16 have the same.
    """
    return rows.groupby("model")["flops_per_sample"].transform("max").astype(float)
