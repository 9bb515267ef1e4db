"""Tables of an older recipe: their runs have other ids than the plan's of today, and are the same settings."""

from collections.abc import Iterable
from dataclasses import replace

import pandas as pd

from flipscale.collect import SETTING_COLUMNS, setting_value
from flipscale.identity import RECIPE
from flipscale.plan import Plan


def older_recipe(table: pd.DataFrame) -> int | None:
    """The recipe that all rows of a table were trained under, where it is not today's; None for any other table."""
    recipes = {int(recipe) for recipe in table.get("recipe", pd.Series(dtype="Int64")).fillna(1)}
    return recipes.pop() if len(recipes) == 1 and RECIPE not in recipes else None


def named_as_in(table: pd.DataFrame, planned: Plan) -> Plan:
    """The plan with the ids that a table of an older recipe has for runs of the same settings and seed.

    The plan is unchanged if the table is of today's recipe. Runs that the table lacks keep their ids.
    """
    if older_recipe(table) is None:
        return planned
    columns = [name for name in SETTING_COLUMNS if name in table]
    rows = {_key(row): str(name) for name, *row in table[["id", *columns]].itertuples(index=False)}
    keys = {run.id: _key(setting_value(getattr(run.settings, name)) for name in columns) for run in planned.cells}
    names = {run_id: rows[key] for run_id, key in keys.items() if key in rows}
    return replace(
        planned,
        runs=tuple(
            replace(
                run,
                id=names.get(run.id, run.id),
                parents=tuple(names.get(parent, parent) for parent in run.parents),
            )
            for run in planned.runs
        ),
    )


def _key(values: Iterable[str | int | float | None]) -> tuple[str | int | float | None, ...]:
    return tuple(None if pd.isna(value) else value for value in values)
