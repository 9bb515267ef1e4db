"""Every column of results.csv: the only list of them. Nothing heavy is needed to know it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from flipscale.kinds import Option, holds, is_number
from flipscale.planning.identity import dataset_name, show_setting
from flipscale.scores import FINAL_LOSS, SCORES, is_score
from flipscale.settings.declarations import DataSet, Settings, plain
from flipscale.study import SETTINGS, Study

ColumnKind = Literal["str", "int", "float"]

MOST_NUMBER = 1e50
"""No column holds a larger number: the FLOPs of the largest trainings are below 1e30. A variance of variances of larger
ones is infinite."""

MAKE_AGAIN = "Make the table again with `flipscale collect`."
"""The end of a complaint about a table that collect wrote."""

ResultRow = dict[str, str | int | float | None]
"""A row of results.csv: values by column. Missing ones are None."""

COLUMN_DTYPES: dict[ColumnKind, str] = {"str": "str", "int": "Int64", "float": "float64"}
"""How a column is held by pandas. Int64 is the integer that can be missing."""


class Column(NamedTuple):
    """One column of results.csv."""

    kind: ColumnKind
    unit: str
    meaning: str
    default: str | None = None
    """What a table without the column has in it, as text: one that has nothing else in it is written without."""


SETTING_COLUMNS: tuple[str, ...] = tuple(name for name in SETTINGS if name != "evaluation")
"""The columns that were asked for; the others identify the run, or were measured or predicted."""


def _of_setting(setting: Option) -> Column:
    kind: ColumnKind = "int" if holds(setting.type, int) else "float" if holds(setting.type, float) else "str"
    default = "" if setting.default is None else str(setting.default)
    return Column(kind, setting.unit, setting.says, default if setting.late else None)


COLUMNS: dict[str, Column] = {
    "id": Column("str", "", "the run: readable settings and a digest of all of them; its folder is results/runs/ID"),
    "study": Column("str", "", "the study the run was planned by"),
    "cell": Column(
        "str", "", "values of the study's axes but the baseline's and the seed; a run and its twins share it"
    ),
    "recipe": Column(
        "int",
        "",
        "version of what training does with the same settings (docs/recipes.md)",
    ),
    # What was asked.
    **{name: _of_setting(SETTINGS[name]) for name in SETTING_COLUMNS},
    # What happened.
    "parent": Column("str", "", "run that this one started from; empty: none"),
    "samples_seen": Column("int", "samples", "samples really seen, steps x batch_size, and those of its parents"),
    "steps": Column("int", "steps", "optimiser steps of the run itself"),
    "unique_pairs": Column("int", "pairs", "different pairs seen, by it and its parents"),
    "repeats": Column("float", "", "samples_seen / unique_pairs"),
    "params": Column("int", "", "trained parameters"),
    "patches": Column("int", "patches", "patches of an image that the run itself shows to the image tower in training"),
    "flops_per_sample": Column("float", "FLOPs", "forward and backward, one sample, of the run itself, predicted"),
    "train_flops": Column("float", "FLOPs", "flops_per_sample x samples seen, and those of its parents"),
    "train_seconds": Column(
        "float", "s", "wall time of training, including its parents', without evaluation and imports"
    ),
    "cpu_seconds": Column("float", "s", "processor time of the training steps, including its parents'"),
    "evaluation_seconds": Column("float", "s", "wall time of evaluation"),
    "images_per_second": Column("float", "1/s", "samples_seen / train_seconds"),
    "devices": Column("int", "", "GPUs used, or CPU cores without a GPU"),
    "device": Column("str", "", "name of the GPU, or cpu"),
    "gpu_hours": Column(
        "float", "h", "train_seconds x devices / 3600; on a CPU core-hours, cpu_seconds / 3600; including its parents'"
    ),
    "gpu_hours_predicted": Column("float", "h", "predicted by the plan"),
    "gpu_hours_probed": Column(
        "float", "h", "predicted by the probe of its shape on that device, including its parents'; empty: not probed"
    ),
    "memory_bytes_predicted": Column("int", "bytes", "predicted by the plan"),
    "peak_memory_bytes": Column(
        "int", "bytes", "most memory held: of the GPU, or on a CPU by the process beyond what it held before the run"
    ),
    "final_loss": Column("float", FINAL_LOSS.unit, FINAL_LOSS.meaning),
    **{name: Column("float", score.unit, score.meaning) for name, score in SCORES.items()},
    "chance": Column("str", "", "what guessing gives for each score of the run, on the same items: SCORE=LEVEL, ..."),
    "items": Column("str", "", "how many items each score that is a share of them was taken over: SCORE=N, ...", ""),
    "attempts": Column("int", "", "how often the run was started"),
    "corrupt_samples": Column("int", "samples", "samples that could not be read and were skipped"),
    "started": Column("float", "unix s", "when the first attempt began"),
    "finished": Column("float", "unix s", "when result.json was written"),
}
"""Every column of results.csv, in order: the only list of them. docs/results.md is made from it."""

TRUNK_COLUMNS: dict[str, Column] = {
    "own_samples_seen": Column(
        "int",
        "samples",
        "samples_seen that it trained itself, in tables with trunks or stages alone; empty: all of them",
    ),
    "own_gpu_hours": Column(
        "float", "h", "gpu_hours that it took itself, in tables with trunks or stages alone; empty: all of them"
    ),
}
"""Further columns of tables in which a run goes on from another: what it trained itself."""


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


def parameter_columns(names: Iterable[str]) -> list[str]:
    """The columns of a table of results that are a study's own parameters."""
    known = {*COLUMNS, *TRUNK_COLUMNS}
    return [name for name in names if name.isidentifier() and name not in known and not is_score(name)]


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


def is_table(path: str) -> bool:
    """Whether a file is a table by its name, or `-`, CSV on stdin; a study is not."""
    return path == "-" or path.lower().endswith((".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet"))
