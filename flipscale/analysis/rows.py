"""What the rows of a table say of each other and of guessing."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flipscale.cell import read_cell
from flipscale.door.columns import SETTING_COLUMNS


def trunks_of(table: pd.DataFrame) -> NDArray[np.intp] | None:
    """The trunk of each row [n], numbered from 0, -1 where no other row shares it; None where none do.

    Lengths of one seed at a constant rate are one training up to where the shorter cools down, whether they were
    trained so or each alone: all their settings but length and cooldown are equal. A table of others may say so itself
    by a column `trunk`.
    """
    if "trunk" in table:
        names = ["trunk"]
        constant = table["trunk"].notna()
    elif "schedule" in table:
        names = [name for name in SETTING_COLUMNS if name in table and not name.startswith(("samples", "cooldown"))]
        constant = table["schedule"] == "constant"
    else:
        return None
    number = table.groupby(names, dropna=False, sort=False).ngroup()
    shared = constant & number.duplicated(keep=False)
    return np.where(shared, number, -1).astype(np.intp) if shared.any() else None


def chance_level(results: pd.DataFrame, score: str) -> float | None:
    """What guessing gives for a score by the column `chance`; None where it is unknown, or differs among runs."""
    return _shared(results, "chance", score)


def items_of(results: pd.DataFrame, score: str) -> int | None:
    """How many items a score is a share of by the column `items`; None where it is unknown, or differs among runs."""
    items = _shared(results, "items", score)
    return None if items is None else int(items)


def _shared(results: pd.DataFrame, column: str, score: str) -> float | None:
    """The number of a score that all runs with this score have in a column; None where one has none or another."""
    if column not in results:
        return None
    numbers = set(_of_score(results.loc[results[score].notna(), column], score))
    number = numbers.pop() if len(numbers) == 1 else np.nan
    return None if np.isnan(number) else float(number)


def above_chance(results: pd.DataFrame, score: str) -> NDArray[np.float64]:
    """How many standard errors each score is above what guessing gives [n]: binomial, over the items that it is taken
    over.

    Where the table says nothing of either, a score is infinitely far above chance, and a missing one below it.
    """
    scores = results[score].to_numpy(np.float64, na_value=np.nan)
    unknown = np.where(np.isnan(scores), -np.inf, np.inf)
    if not {"chance", "items"} <= set(results):
        return unknown
    chance = _of_score(results["chance"], score)
    items = _of_score(results["items"], score)
    with np.errstate(divide="ignore", invalid="ignore"):
        above = (scores - chance) / np.sqrt(chance * (1 - chance) / items)
    return np.where(np.isnan(chance * items), unknown, above)


def _of_score(texts: "pd.Series[Any]", score: str) -> NDArray[np.float64]:
    """The number of a score in each text 'SCORE=NUMBER, ...' of a column; NaN where it has none."""
    texts = texts.map(str)
    numbers = {text: float(dict(read_cell(text)).get(score, "nan")) for text in texts.unique()}
    return texts.map(numbers).to_numpy(np.float64)
