"""The columns of results.csv that both halves know: nothing of how a run came about is needed to read them."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from flipscale.scores import FINAL_LOSS, SCORES, is_score

ColumnKind = Literal["str", "int", "float"]

MOST_NUMBER = 1e50
"""No column holds a larger number: the FLOPs of the largest trainings are below 1e30. A variance of variances of larger
ones is infinite."""

MAKE_AGAIN = "Make the table again with `flipscale collect`."
"""The end of a complaint about a table that collect wrote."""

COLUMN_DTYPES: dict[ColumnKind, str] = {"str": "str", "int": "Int64", "float": "float64"}
"""How a column is held by pandas. Int64 is the integer that can be missing."""


class Column(NamedTuple):
    """One column of results.csv."""

    kind: ColumnKind
    unit: str
    meaning: str
    default: str | None = None
    """What a table without the column has in it, as text: one that has nothing else in it is written without."""


RUN_COLUMNS: dict[str, Column] = {
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
}
"""The run."""

SETTING_COLUMNS: tuple[str, ...] = (
    "model",
    "image_size",
    "text_length",
    "data",
    "data_size",
    "crop",
    "flip",
    "normalization",
    "samples",
    "mask_ratio",
    "mask_shape",
    "text_mask_ratio",
    "text_mask",
    "reconstruction",
    "loss_function",
    "batch_size",
    "lr",
    "warmup",
    "schedule",
    "cooldown",
    "cooldown_shape",
    "average",
    "weight_decay",
    "beta1",
    "beta2",
    "eps",
    "grad_clip",
    "precision",
    "init",
    "stages",
    "tuning",
    "fine_tuning",
    "trainer",
    "seed",
)
"""What was asked: flipscale's settings, in their order. A study's own parameters stand behind the measured columns."""

MEASURED_COLUMNS: dict[str, Column] = {
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
"""What happened, and what the plan foresaw."""

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


def parameter_columns(names: Iterable[str]) -> list[str]:
    """The columns of a table of results that are a study's own parameters."""
    known = {*RUN_COLUMNS, *SETTING_COLUMNS, *MEASURED_COLUMNS, *TRUNK_COLUMNS}
    return [name for name in names if name.isidentifier() and name not in known and not is_score(name)]


def is_table(path: str) -> bool:
    """Whether a file is a table by its name, or `-`, CSV on stdin; a study is not."""
    return path == "-" or path.lower().endswith((".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet"))
