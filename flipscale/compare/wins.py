"""On how many of its named sets an arm is ahead of the baseline: FLIP's table 4 (arXiv 2212.00794) counts 22 of 25.

A set is won where the mean over seeds of its own metric is higher than that of the twins. It is a count, not a test: on
sets where nothing differs, an arm wins half of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from flipscale.compare.columns import Baseline, arms_of, series_of
from flipscale.settings import Evaluation
from flipscale.study.named_sets import own_score
from flipscale.words import joined

_SETS_NAMED = 5  # sets that are named in a sentence


@dataclass(frozen=True)
class SetWins:
    """An arm's differences on the sets of a cell, by their names."""

    cell: str
    arm: str
    ahead: tuple[str, ...]
    behind: tuple[str, ...]
    level: tuple[str, ...]
    missing: tuple[str, ...]
    """Sets for which no run and its twin both have the score."""


def set_wins(results: pd.DataFrame, baseline: Baseline, evaluation: Evaluation) -> tuple[SetWins, ...]:
    """One for each arm, at the longest schedule of each series; none where fewer than two sets have a metric."""
    columns = {
        name: column for name, declared in evaluation.sets.items() if (column := own_score(name, declared)) is not None
    }
    if len(columns) < 2 or "samples" not in results:
        return ()
    rows = results.assign(arm=arms_of(results, baseline), series=series_of(results))
    longest = rows[rows["samples"] == rows.groupby("series")["samples"].transform("max")]
    found = []
    for cell, of_cell in longest.groupby("cell", sort=False):
        twins = of_cell[of_cell["arm"] == ""].set_index("seed")
        for arm, of_arm in of_cell[of_cell["arm"] != ""].groupby("arm", sort=False):
            found.append(_wins(str(cell), str(arm), of_arm.set_index("seed"), twins, columns))
    return tuple(found)


def _wins(cell: str, arm: str, runs: pd.DataFrame, twins: pd.DataFrame, columns: Mapping[str, str]) -> SetWins:
    signs: dict[str, float | None] = {}
    for name, column in columns.items():
        gains = (runs[column] - twins[column]).dropna() if column in runs else pd.Series(dtype="float64")
        signs[name] = None if gains.empty else float(gains.mean())
    known = {name: gain for name, gain in signs.items() if gain is not None}
    missing = tuple(name for name in signs if name not in known)
    return SetWins(cell, arm, _of_sign(known, 1), _of_sign(known, -1), _of_sign(known, 0), missing)


def _of_sign(gains: Mapping[str, float], sign: int) -> tuple[str, ...]:
    return tuple(name for name, gain in gains.items() if (gain > 0) - (gain < 0) == sign)


def wins_words(wins: Sequence[SetWins]) -> list[str]:
    """'mask_ratio=0.5: ahead of the baseline on 22 of 25 sets, behind on 3 (gtsrb, pcam, pets)', one for each arm."""
    return [_sentence(found) for found in wins]


def _sentence(found: SetWins) -> str:
    where = f"{found.cell}, {found.arm}" if found.cell else found.arm
    sets = len(found.ahead) + len(found.behind) + len(found.level)
    parts = [f"ahead of the baseline on {len(found.ahead)} of {sets} sets"]
    for word, names in (("behind on", found.behind), ("level on", found.level), ("not measured on", found.missing)):
        if names:
            parts.append(f"{word} {len(names)}{f' ({joined(names)})' if len(names) <= _SETS_NAMED else ''}")
    return f"{where}: {', '.join(parts)}."
