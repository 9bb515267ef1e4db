"""The laws of a study's own results: score against FLOPs per sample and samples seen, a fit for each of its arms.

The size of a run is its FLOPs per sample: models of equal parameters and other patches, and all mask ratios of a model,
have equal parameters and spend differently.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from flipscale.errors import ResultsError
from flipscale.fit.fitted import Fit
from flipscale.fit.fitting import Options, fit
from flipscale.fit.rows import in_groups, is_accuracy

SIZE, SAMPLES, MASK = "flops_per_sample", "samples_seen", "mask_ratio"

_INSIDE = ("model", "image_size", "text_length", "samples", "seed")
"""Axes that FLOPs per sample and samples seen stand for, and seeds: they make no group."""

_JOINT = ("mask", "mask+floor")
"""Laws over all mask ratios."""

_VARIES = 1.05
"""A variable whose values are all within this factor is one value: realised samples differ by a part of a batch."""


@dataclass(frozen=True)
class StudyFits:
    """The laws of a study."""

    fits: tuple[Fit, ...]
    not_fitted: Mapping[str, str]
    """What could not be fitted, and why."""

    def to_dict(self) -> dict[str, Any]:
        return {"fits": [one.to_dict() for one in self.fits], "not_fitted": dict(self.not_fitted)}


def groups_of(results: pd.DataFrame, axes: Iterable[str]) -> list[str]:
    """The axes whose values each have a law of their own: all but those that its variables stand for."""
    return [
        name for name in axes if name in results and name not in _INSIDE and results[name].nunique(dropna=False) > 1
    ]


def variables_of(results: pd.DataFrame, y: str) -> list[str]:
    """Which of FLOPs per sample and samples seen vary among the rows that have the score. ResultsError if neither."""
    rows = results[results[y].notna()]
    found = []
    for name in (SIZE, SAMPLES):
        values = rows[name].dropna().astype("float64")
        if len(values) and values.max() > _VARIES * values.min():
            found.append(name)
    if not found:
        raise ResultsError(f"all runs have the same {SIZE} and {SAMPLES}, so there is no curve to fit.")
    return found


def fit_study(
    results: pd.DataFrame,
    *,
    axes: Sequence[str],
    y: str,
    law: str | None = None,
    options: Options | None = None,
) -> StudyFits:
    """A law for every group of the study's axes, and one over all mask ratios where three and two schedules allow it.

    Raises ResultsError where nothing can be fitted, with the reason of each group.
    """
    groups = groups_of(results, axes)
    fits: list[Fit] = []
    none: dict[str, str] = {}
    parts: list[tuple[str | None, Mapping[str, Any], pd.DataFrame, list[str] | None]] = [
        (law, values, part, None) for values, part in in_groups(results, groups) if law not in _JOINT
    ]
    if MASK in groups and law in (None, *_JOINT):
        joint = law or ("mask" if is_accuracy(y) else "mask+floor")
        others = [name for name in groups if name != MASK]
        parts += [(joint, values, part, [SIZE, SAMPLES, MASK]) for values, part in in_groups(results, others)]
    for form, values, part, x in parts:
        name = ", ".join(f"{key}={value}" for key, value in values.items()) or "all runs"
        try:
            fits.append(fit(part, form, x=x or variables_of(part, y), y=y, group=values, options=options))
        except ResultsError as error:
            none[f"{form}, {name}" if x else name] = str(error)
    if not fits:
        raise ResultsError("No law can be fitted:\n" + "\n".join(f"  {name}: {why}" for name, why in none.items()))
    return StudyFits(tuple(fits), none)
