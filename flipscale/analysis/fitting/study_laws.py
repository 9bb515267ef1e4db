"""The laws of a study's own results: score against FLOPs per sample and samples seen, a fit for each of its arms.

The size of a run is its FLOPs per sample, not its parameters: models with other patches, and all mask ratios of a
model, can have equal parameters and differ in cost.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from flipscale.analysis.fitting.allocation import FLOPS_PER, Allocation, allocate
from flipscale.analysis.fitting.chosen_rows import STANDS_FOR, column, group_name, in_groups
from flipscale.analysis.fitting.fit_records import allocation_json, fit_json
from flipscale.analysis.fitting.fitted_law import Fit, Options
from flipscale.analysis.fitting.fronts import has_budgets
from flipscale.analysis.fitting.isoflop import isoflop, with_error
from flipscale.analysis.fitting.law_words import Naming, allocation_text, fit_parts, law_screen
from flipscale.analysis.fitting.table import fit
from flipscale.errors import ResultsError
from flipscale.scores import is_open_ended
from flipscale.tables import as_text
from flipscale.words import by_reason, count

SIZE = "flops_per_sample"
SAMPLES = "samples_seen"
PAIRS = "unique_pairs"
BUDGET = "train_flops"

_SAME_MODEL = 1.1
"""Parameters within this factor are one model size: a patch embedding has more of them for larger patches. So
are patches of an image, as masks are rounded to whole ones."""

_VARIES = 1.05
"""A variable whose values are all within this factor is one value: realised samples differ by a part of a batch."""


@dataclass(frozen=True)
class StudyFits:
    """The laws of a study."""

    fits: tuple[Fit, ...]
    not_fitted: Mapping[str, str]
    """The laws that could not be fitted, and why."""
    budgets: tuple[float, ...] = ()
    """Budgets of training FLOPs; each law of size and samples gives their best use."""

    question: str = ""
    """What the study asks."""
    name_of: Naming = group_name
    """How a person names the settings of a law."""

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """Each law in JSON's types, as fits.json has it."""
        return [fit_json(fit) for fit in self.fits]

    @property
    def table(self) -> pd.DataFrame:
        """A row for each parameter of each law, with its 95 % CI, which is missing where it is not determined.

        Errors are in the unit of y, scatter is on the scale that the law is fitted on.
        """
        rows = []
        for record in self.records:
            ahead = record["next_rung"]
            for name, value in record["parameters"].items():
                low, high = record["intervals"][name] or (None, None)
                rows.append(
                    {
                        **record["group"],
                        "law": record["law"],
                        "x": ", ".join(record["x"]),
                        "y": record["y"],
                        "parameter": name,
                        "value": value,
                        "low (95 % CI)": low,
                        "high (95 % CI)": high,
                        "not determined": record["not_determined"].get(name, ""),
                        "held-out error (unit of y)": record["held_out"]["rms_error"],
                        "next rung (unit of y)": ahead["value"],
                        f"scatter ({record['residuals']} scale)": record["spread"],
                    }
                )
        return pd.DataFrame(rows)

    def text(self, *, full: bool = False, width: int = 80) -> str:
        """For a terminal: the screen that answers, or in `full` each law with its checklist; then budgets' best use."""
        best = [allocation_text(a, fit) for fit in self.fits for a in self._best(fit)]
        if not full:
            return "\n\n".join([law_screen(self.records, self.question, self.name_of, width), *best])
        question = [self.question] if self.question else []
        laws = [as_text(fit_parts(record), width, "\n") for record in self.records]
        return "\n\n".join([*question, *laws, *best])

    def _best(self, fit: Fit) -> list[Allocation]:
        """The best use of each budget; ResultsError where no law is one of size and samples."""
        if self.budgets and not any(fit.law.name in FLOPS_PER for fit in self.fits):
            allocate(self.fits[0], self.budgets[0])
        return [allocate(fit, flops) for flops in self.budgets] if fit.law.name in FLOPS_PER else []

    def to_dict(self, source: Mapping[str, str]) -> dict[str, Any]:
        """All of it in JSON types; `source` says what was fitted: {"study": NAME} or {"table": PATH}."""
        return {
            "schema": 1,
            **source,
            "fits": [
                record | ({"allocations": [allocation_json(a) for a in self._best(fit)]} if self.budgets else {})
                for fit, record in zip(self.fits, self.records, strict=True)
            ],
            "not_fitted": dict(self.not_fitted),
        }


def model_sizes(results: pd.DataFrame) -> pd.DataFrame:
    """The rows without controls: coarse patches and small images save tokens as a mask does, and are no model size.

    A control has fewer patches, before any mask, than another row of about as many parameters.
    """
    if not {"params", "model", "image_size", "patches", "mask_ratio"} <= set(results.columns):
        return results
    params = results["params"].to_numpy(dtype="float64")
    # A tuned run shows whole images under its parent's mask; the others of its model say how many patches there are.
    shown = (results["patches"] / (1 - results["mask_ratio"])).astype("float64")
    patches = shown.groupby([results["model"], results["image_size"]], dropna=False).transform("min").to_numpy()
    alike = np.abs(np.log(params[:, None] / params)) < np.log(_SAME_MODEL)
    fewer = patches[:, None] * _SAME_MODEL < patches
    sizes: pd.DataFrame = results[~(alike & fewer).any(axis=1)]
    return sizes


def groups_of(results: pd.DataFrame, axes: Iterable[str]) -> list[str]:
    """The axes whose values each have a law of their own: all but the seed and those that its variables stand for."""
    inside = (*STANDS_FOR, "seed")
    return [name for name in axes if name in results and name not in inside and results[name].nunique(dropna=False) > 1]


def variables_of(results: pd.DataFrame, y: str) -> list[str]:
    """Which of FLOPs per sample and samples seen vary among the rows that have the score. ResultsError if neither."""
    rows = results[results[y].notna()]
    names = []
    for name in (SIZE, SAMPLES):
        values = rows[name].dropna().astype("float64")
        if len(values) and values.max() > _VARIES * values.min():
            names.append(name)
    if not names:
        raise ResultsError(f"all runs have the same {SIZE} and {SAMPLES}, so there is no curve to fit.")
    return names


def fit_study(
    results: pd.DataFrame,
    *,
    axes: Sequence[str],
    y: str,
    law: str | None = None,
    options: Options | None = None,
    progress: Callable[[int, int, str], None] = lambda *_: None,
) -> StudyFits:
    """A law for every group of the study's axes, one along its unique pairs, and IsoFLOP's.

    That along unique pairs takes runs of equal size and schedule; that of the best size takes two budgets of FLOPs,
    each spent on three sizes. Raises ResultsError where nothing can be fitted, with the reasons.

    progress: called with the number of laws done, their total, and the next one.
    """
    if is_open_ended(y):
        raise ResultsError(
            f"No law can be fitted: more of {y} is better and it has no upper end, so it has no error to follow. Fit "
            f"another score with --y."
        )
    if "model" in results and results["model"].isna().all():
        raise ResultsError(
            "These laws are of a CLIP's size and samples, and the study's own program has neither. Name columns of its "
            f"table: flipscale fit results/NAME/results.csv --x COLUMN --y {y}."
        )
    fits: list[Fit] = []
    none: dict[str, str] = {}
    sizes = model_sizes(results)
    if controls := len(results) - len(sizes):
        none["coarse patches and small images"] = f"{count(controls, 'run')} of them: controls are no model size"
    results = sizes
    groups = groups_of(sizes, axes)
    to_fit = [(group_name(values), values, part, list[str]()) for values, part in in_groups(results, groups)]
    if "data_size" in groups and law is None:
        fixed = [*(name for name in groups if name != "data_size"), "model", "samples"]
        to_fit += [
            (f"along {PAIRS}, {group_name(values)}", values, part, [PAIRS])
            for values, part in in_groups(results, fixed)
            if part[PAIRS].nunique() > 2
        ]
    for number, (name, values, part, x) in enumerate(to_fit):
        progress(number, len(to_fit), name)
        try:
            fits.append(fit(part, law, x=x or variables_of(part, y), y=y, group=values, options=options))
        except ResultsError as error:
            none[name] = str(error)
    if law is None:
        for values, part in in_groups(results, groups):
            _add_best_sizes(fits, none, values, part, y, options or Options())
    if not fits:
        raise ResultsError("\n".join(["No law can be fitted:", *by_reason(none)]))
    return StudyFits(tuple(fits), none)


def _add_best_sizes(
    fits: list[Fit], none: dict[str, str], values: Mapping[str, object], part: pd.DataFrame, y: str, options: Options
) -> None:
    """Add the law of a group's best size at each budget, or the reason why there is none."""
    if not has_budgets(column(part, SIZE), column(part, BUDGET)):
        return
    rows, error_column, asked = with_error(part, y, options)
    try:
        fits.append(isoflop(rows, x=SIZE, y=error_column, budget=BUDGET, group=values, options=asked))
    except ResultsError as error:
        none[f"best size, {group_name(values)}"] = str(error)
