"""Every column of results.csv with what it means, and how settings stand there."""

from collections.abc import Iterable, Mapping, Sequence

from flipscale.door.columns import (
    MEASURED_COLUMNS,
    RUN_COLUMNS,
    SETTING_COLUMNS,
    TRUNK_COLUMNS,
    Column,
    ColumnKind,
    parameter_columns,
)
from flipscale.kinds import Option, holds, is_number
from flipscale.planning.identity import dataset_name, show_setting
from flipscale.settings.declarations import DataSet, Settings, plain
from flipscale.study import SETTINGS, Study

ResultRow = dict[str, str | int | float | None]
"""A row of results.csv: values by column. Missing ones are None."""


def _of_setting(setting: Option) -> Column:
    kind: ColumnKind = "int" if holds(setting.type, int) else "float" if holds(setting.type, float) else "str"
    default = "" if setting.default is None else str(setting.default)
    return Column(kind, setting.unit, setting.says, default if setting.late else None)


COLUMNS: dict[str, Column] = {
    **RUN_COLUMNS,
    **{name: _of_setting(SETTINGS[name]) for name in SETTING_COLUMNS},
    **MEASURED_COLUMNS,
}
"""Every column of results.csv, in order. docs/results.md is made from it."""


def setting_value(value: object) -> str | int | float | None:
    """A setting's value as its column holds it: a data set by its name, options as text."""
    if value is None or isinstance(value, str) or is_number(value):
        return value
    if isinstance(value, DataSet):
        return dataset_name(value)
    return show_setting(value)


def setting_values(settings: Settings) -> dict[str, str | int | float | None]:
    """The settings of a run, and its parameters, by their columns. Those that no CLIP has given are missing."""
    given = plain(settings) if not settings.is_clip else SETTINGS
    known = {name: getattr(settings, name) if name in given else None for name in SETTING_COLUMNS}
    known |= {name: getattr(settings, name) for name in settings.parameter_names}
    return {name: setting_value(value) for name, value in known.items()}


def is_setting(value: object, in_table: object) -> bool:
    """Whether a table holds this value of a setting: none is missing there."""
    held = setting_value(value)
    return bool(held == in_table) or (held is None and in_table != in_table)


def axis_values(study: Study, in_table: Mapping[str, object]) -> dict[str, object]:
    """The values of axes that a table of the study holds as these."""
    axes = {axis.name: axis.values for axis in study.axes}
    return {
        name: next((choice for choice in axes[name] if is_setting(choice, held)), held)
        for name, held in in_table.items()
    }


def baseline_of(study: Study) -> dict[str, str | int | float | None]:
    """The study's baseline as results.csv holds it."""
    return {name: setting_value(value) for name, value in study.baseline.items()}


def kept_columns(columns: Mapping[str, Sequence[object]]) -> list[str]:
    """The columns of a table that results.csv keeps. One of runs that train no CLIP has no empty ones."""
    names = [name for name in columns if not is_left_out(name, columns[name])]
    if not parameter_columns(columns) or any(value is not None for value in columns["text_length"]):
        return names
    return [name for name in names if name == "cell" or any(value is not None for value in columns[name])]


def is_left_out(name: str, values: Iterable[object]) -> bool:
    """Whether results.csv leaves a column out: that of a later setting, which all runs have at its default."""
    default = COLUMNS[name].default if name in COLUMNS else None
    return default is not None and {"" if value is None else str(value) for value in values} <= {default}


def columns_as_markdown() -> str:
    """COLUMNS as a Markdown table, for docs/results.md."""
    lines = ["| column | kind | unit | meaning |", "|---|---|---|---|"]
    lines += [f"| `{name}` | {c.kind} | {c.unit} | {c.meaning} |" for name, c in (COLUMNS | TRUNK_COLUMNS).items()]
    return "\n".join(lines) + "\n"
