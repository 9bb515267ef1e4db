"""One row per finished run: run folders in, results.csv and curves.parquet out.

    results.csv      one row per finished run, in the order of the plan; its columns are COLUMNS, missing is empty
    curves.parquet   every point of every finished run's metrics.jsonl: id, step, samples, seconds, metric, value, time

The same run folders give byte-identical files: nothing here reads a clock, and floats are written as their shortest
decimal that reads back the same. A folder that cannot be read is left out by name, never in silence.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from flipscale.errors import FlipscaleError, ResultsError, RunFolderError
from flipscale.plan import dataset_name, differences, show_setting
from flipscale.run import SCHEMA, RunFolder, State, replacing

Kind = Literal["str", "int", "float"]

DTYPES: dict[Kind, str] = {"str": "str", "int": "Int64", "float": "float64"}
"""How a column is held by pandas. Int64 is the integer that can be missing."""


class Column(NamedTuple):
    """One column of results.csv."""

    kind: Kind
    unit: str
    meaning: str


COLUMNS: dict[str, Column] = {
    "id": Column("str", "", "the run: readable settings and a digest of all of them; its folder is results/runs/ID"),
    "study": Column("str", "", "the study the run was planned by"),
    "cell": Column(
        "str", "", "values of the study's axes but the baseline's and the seed; a run and its twins share it"
    ),
    # Settings: what was asked.
    "model": Column("str", "", "open_clip model, or ViT-w{width}d{depth}-{patch}"),
    "image_size": Column("int", "pixels", "side of the square image"),
    "text_length": Column("int", "tokens", "tokens of text fed"),
    "data": Column("str", "", "training data: shapes, fashion, or the name of a web data set"),
    "data_size": Column("int", "pairs", "unique pairs allowed; empty: all there is"),
    "crop": Column("float", "fraction", "least share of the area of a random crop; empty: the middle square"),
    "flip": Column("str", "", "true where images are mirrored at random"),
    "normalization": Column("str", "", "mean and deviation of pixels: imagenet or openai"),
    "samples": Column("int", "samples", "schedule length asked for"),
    "mask_ratio": Column("float", "fraction", "share of image patches left out in training"),
    "mask_shape": Column("str", "", "which patches are kept: random, grid or block"),
    "text_mask_ratio": Column("float", "fraction", "share of text tokens left out in training"),
    "text_mask": Column("str", "", "which tokens are left out: prioritised (padding first) or random"),
    "reconstruction": Column("str", "", "options of the decoder that reconstructs; empty: none"),
    "batch_size": Column("int", "samples", "samples a step"),
    "lr": Column("float", "", "peak learning rate"),
    "warmup": Column("int", "samples", "linear warm-up"),
    "schedule": Column("str", "", "of the learning rate: cosine or constant"),
    "cooldown": Column("int", "samples", "fall of a constant learning rate at the end"),
    "weight_decay": Column("float", "", "AdamW weight decay"),
    "beta1": Column("float", "", "AdamW decay of the mean gradient"),
    "beta2": Column("float", "", "AdamW decay of the mean squared gradient"),
    "eps": Column("float", "", "AdamW epsilon"),
    "grad_clip": Column("float", "", "largest gradient norm; empty: not clipped"),
    "precision": Column("str", "", "fp32, bf16 or fp16"),
    "init": Column("str", "", "checkpoint started from; empty: random weights"),
    "tuning": Column("str", "", "options of the unmasked tuning after the schedule; empty: none"),
    "inference": Column("str", "", "patches seen at evaluation: full, masked or ensemble"),
    "trainer": Column("str", "", "what trained: flipscale, open_clip or a command"),
    "seed": Column("int", "", "seed of initialisation, data order and masks"),
    # Facts: what happened.
    "parent": Column("str", "", "run that this one started from; empty: none"),
    "samples_seen": Column("int", "samples", "samples really seen, steps x batch_size, and those of its parents"),
    "steps": Column("int", "steps", "optimiser steps of the run itself"),
    "unique_pairs": Column("int", "pairs", "different pairs seen, by it and its parents"),
    "repeats": Column("float", "", "samples_seen / unique_pairs"),
    "params": Column("int", "", "trained parameters"),
    "flops_per_sample": Column("float", "FLOPs", "forward and backward, one sample, of the run itself, predicted"),
    "train_flops": Column("float", "FLOPs", "flops_per_sample x samples seen, and those of its parents"),
    "train_seconds": Column("float", "s", "wall time of training and its parents', without evaluation and imports"),
    "cpu_seconds": Column("float", "s", "processor time of the training steps and its parents'"),
    "evaluation_seconds": Column("float", "s", "wall time of evaluation"),
    "images_per_second": Column("float", "1/s", "samples_seen / train_seconds"),
    "devices": Column("int", "", "GPUs used, or CPU cores where there is none"),
    "device": Column("str", "", "name of the GPU, or cpu"),
    "gpu_hours": Column(
        "float", "h", "train_seconds x devices / 3600; of a cpu core-hours, cpu_seconds / 3600; with its parents'"
    ),
    "gpu_hours_predicted": Column("float", "h", "what the plan said"),
    "memory_bytes_predicted": Column("int", "bytes", "what the plan said"),
    "peak_memory_bytes": Column("int", "bytes", "most memory held: of the GPU, or of the process on a CPU"),
    "final_loss": Column("float", "nats", "mean training loss of the last 5 % of steps"),
    "zero_shot_top1": Column("float", "fraction", "zero-shot classification, top 1"),
    "zero_shot_top5": Column("float", "fraction", "zero-shot classification, top 5"),
    "image_retrieval_r1": Column("float", "fraction", "text -> image recall at 1"),
    "image_retrieval_r5": Column("float", "fraction", "text -> image recall at 5"),
    "image_retrieval_r10": Column("float", "fraction", "text -> image recall at 10"),
    "text_retrieval_r1": Column("float", "fraction", "image -> text recall at 1"),
    "text_retrieval_r5": Column("float", "fraction", "image -> text recall at 5"),
    "text_retrieval_r10": Column("float", "fraction", "image -> text recall at 10"),
    "linear_probe_top1": Column("float", "fraction", "linear classifier on frozen image features, top 1"),
    "held_out_loss": Column("float", "nats", "unmasked contrastive loss of held-out pairs in batches of 64"),
    "attempts": Column("int", "", "times the run was started"),
    "corrupt_samples": Column("int", "samples", "samples that could not be read and were passed over"),
    "started": Column("float", "unix s", "when the first attempt began"),
    "finished": Column("float", "unix s", "when result.json was written"),
}
"""Every column of results.csv, in order: the only list of them. docs/results.md is made from it."""

_NAMES = list(COLUMNS)

SETTINGS: tuple[str, ...] = tuple(_NAMES[_NAMES.index("model") : _NAMES.index("seed") + 1])
"""The columns that were asked for; the others but id, study and cell were measured or predicted."""

SCORES: tuple[str, ...] = tuple(_NAMES[_NAMES.index("zero_shot_top1") : _NAMES.index("held_out_loss") + 1])
"""The score columns. All are fractions but held_out_loss, which is the only one where lower is better.

A set that evaluation.sets names has columns of its own, NAME.zero_shot_top1 and so on, behind all others.
"""


def is_score(name: str) -> bool:
    """Whether a column is a score, of the main evaluation or of a set."""
    of_set, dot, score = name.rpartition(".")
    return score in SCORES and bool(of_set) == bool(dot)


PlannedRun = Mapping[str, Any]
"""What collect must know of a run of the plan: id, study, cell, settings, parents and cost."""


@dataclass(frozen=True)
class Collected:
    """What was found, and what was not."""

    results: pd.DataFrame
    """One row per finished run, columns as COLUMNS."""
    curves: pd.DataFrame
    """One row per point: id, step, samples, seconds (of training so far), metric, value, time (unix)."""
    states: dict[str, int]
    """Runs of the plan by state, `unreadable` among them; the counts add up to the plan."""
    torn_lines: int
    """Lines of metrics.jsonl left out because they were cut off."""
    problems: dict[str, str]
    """Run id -> the sentence that says why its folder could not be read."""
    unknown_scores: tuple[str, ...]
    """Scores in some result.json that have no column; their points are in the curves."""
    files: tuple[Path, ...]
    """What was written."""


def collect(runs: Sequence[PlannedRun], results_root: Path, out: Path) -> Collected:
    """Read the folder of every run, and write out/results.csv and out/curves.parquet whole.

    A folder that is torn or foreign is named in `problems`. Raises RunFolderError for one written by a newer
    flipscale: its row would be silently missing from every later collect as well.
    """
    rows: list[dict[str, Any]] = []
    points: list[_Points] = []
    states = dict.fromkeys((*map(str, State), "unreadable"), 0)
    problems: dict[str, str] = {}
    planned = {run["id"]: run for run in runs}
    named: set[str] = set()
    torn_lines = 0
    for run in planned.values():
        folder = RunFolder(results_root / "runs" / run["id"])
        try:
            row, scores = _row(run, folder, planned)
            # No launcher is asked here, so a job that nobody works on counts as waiting; `status` finds the lost ones.
            state = State.FINISHED if row is not None else folder.state("waiting")
            if row is not None:
                run_points, torn = _points(folder)
        except RunFolderError as error:
            if _is_newer(folder):
                raise
            states["unreadable"] += 1
            problems[run["id"]] = str(error)
            continue
        states[state] += 1
        # A parent that is no cell of the study is no row of its own: it is counted in its children's.
        if row is None or run["cell"] is None:
            continue
        named |= scores - set(SCORES)
        torn_lines += torn
        rows.append(row)
        points.append(run_points)

    of_sets = sorted(filter(is_score, named))
    kinds = {name: column.kind for name, column in COLUMNS.items()} | dict.fromkeys(of_sets, "float")
    results = pd.DataFrame(
        {name: pd.Series([row.get(name) for row in rows], dtype=DTYPES[kind]) for name, kind in kinds.items()}
    )
    curves = _curves([row["id"] for row in rows], points)
    out.mkdir(parents=True, exist_ok=True)
    files = (out / "results.csv", out / "curves.parquet")
    with replacing(files[0]) as file:
        results.to_csv(file, index=False, lineterminator="\n")
    with replacing(files[1]) as file:
        curves.to_parquet(file, engine="pyarrow", index=False)
    return Collected(results, curves, states, torn_lines, problems, tuple(sorted(named.difference(of_sets))), files)


def read_results(path: Path) -> pd.DataFrame:
    """The table of results.csv with the dtypes of COLUMNS; what is missing stays missing.

    Columns it lacks are there and empty, so that a file of an older flipscale reads; columns it has besides stay.
    """
    try:
        # An empty cell is the only missing value: a model or a study may be called NA.
        table = pd.read_csv(path, dtype="str", keep_default_na=False, na_values=[""])
        _check_whole(path)
    except FileNotFoundError as error:
        raise ResultsError(f"{path}: there is no such file. Make it with `flipscale collect`.") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise ResultsError(f"{path}: not a table of results ({error}). Make it with `flipscale collect`.") from error
    if "id" not in table:
        raise ResultsError(
            f"{path}: has no column 'id', so it is no table of results. Make it with `flipscale collect`."
        )
    columns: dict[str, pd.Series[Any]] = {}
    for name, column in COLUMNS.items():
        text = table[name] if name in table else pd.Series([None] * len(table), dtype="str")
        try:
            columns[name] = _parsed(text, column.kind)
        except ValueError as error:
            raise ResultsError(f"{path}: column {name!r} must hold {column.kind} values ({error}).") from error
    columns["cell"] = columns["cell"].fillna("")  # a study whose only axis is the baseline's has one cell, named ''
    for name in map(str, table.columns):
        if name not in COLUMNS:
            columns[name] = _parsed(table[name], "float") if is_score(name) else table[name]
    return pd.DataFrame(columns)


def is_table(path: str | Path) -> bool:
    """Whether a file is a table by its name; a study is not."""
    return Path(path).suffix.lower() in (".csv", ".tsv", ".parquet")


def read_table(path: Path) -> pd.DataFrame:
    """Somebody's table, a .csv, .tsv or .parquet file. Raises ResultsError if it cannot be read or has no rows."""
    try:
        if path.suffix.lower() == ".parquet":
            table = pd.read_parquet(path, engine="pyarrow")
        else:
            table = pd.read_csv(path, sep="\t" if path.suffix.lower() == ".tsv" else ",", skipinitialspace=True)
    except FileNotFoundError as error:
        raise ResultsError(f"{path}: there is no such file.") from error
    except (ValueError, OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"{path}: cannot be read as a table ({str(error).strip()}).") from error
    if table.empty:
        raise ResultsError(f"{path}: has no rows.")
    return table


def read_curves(path: Path) -> pd.DataFrame:
    """The table of curves.parquet; empty if there is none, as results.csv alone is enough for most figures."""
    if not path.exists():
        return _curves([], [])
    try:
        curves = pd.read_parquet(path, engine="pyarrow")
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path}: cannot be read ({error}). Make it with `flipscale collect`.") from error
    if lacking := [name for name in _curves([], []) if name not in curves]:
        raise ResultsError(f"{path}: has no column {lacking[0]!r}. Make it with `flipscale collect`.")
    return curves


def columns_as_markdown() -> str:
    """COLUMNS as a Markdown table, for docs/results.md."""
    lines = ["| column | kind | unit | meaning |", "|---|---|---|---|"]
    lines += [f"| `{name}` | {c.kind} | {c.unit} | {c.meaning} |" for name, c in COLUMNS.items()]
    return "\n".join(lines) + "\n"


def _check_whole(path: Path) -> None:
    """ValueError for a row with fewer cells than the header: pandas takes what was cut off for missing."""
    with open(path, newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        columns = len(next(lines))
        for row in lines:
            if row and len(row) < columns:
                raise ValueError(f"line {lines.line_num} has {len(row)} of {columns} cells, so it was cut off")


def _parsed(text: "pd.Series[Any]", kind: Kind) -> "pd.Series[Any]":
    if kind == "str":
        return text
    # Python's own int and float: pandas reads integers above 2**53 and last digits of floats inexactly by default.
    convert = int if kind == "int" else float
    values = [None if pd.isna(value) else convert(value) for value in text]
    return pd.Series(values, dtype=DTYPES[kind])


# Rows


def _row(
    run: PlannedRun, folder: RunFolder, planned: Mapping[str, PlannedRun]
) -> tuple[dict[str, Any] | None, set[str]]:
    """The run's row and the names of its scores; no row if it has not finished."""
    result = folder.result()
    if result is None:
        return None, set()
    _check_same_run(run, folder)
    settings, cost, scores = run["settings"], run["cost"], result.get("scores", {})
    if not isinstance(scores, dict):
        raise RunFolderError(f"{folder.path / 'result.json'}: 'scores' must be an object of names and numbers.")
    found: dict[str, Any] = {
        **{name: setting_value(name, settings.get(name)) for name in SETTINGS},
        **{name: value for name, value in result.items() if name in COLUMNS and name not in SETTINGS},
        **{name: scores.get(name) for name in SCORES},
        "id": run["id"],
        "study": run["study"],
        "cell": run["cell"],
        "parent": next(iter(run["parents"]), None),
        # result.json says `samples` for what was seen; in the table that word is the schedule length asked for.
        "samples_seen": result.get("samples"),
        "flops_per_sample": cost.get("flops_per_sample"),
        "train_flops": cost.get("train_flops"),
        "gpu_hours_predicted": cost.get("gpu_hours"),
        "memory_bytes_predicted": cost.get("memory_bytes"),
    }
    _add_parents(found, run, folder, result.get("parent") or {}, planned)
    row = {name: _checked(found.get(name), COLUMNS[name].kind, name, folder) for name in COLUMNS}
    of_sets = {name: _checked(value, "float", name, folder) for name, value in scores.items() if is_score(name)}
    return of_sets | row, set(scores)


def setting_value(name: str, value: Any) -> Any:
    """A setting's value as its column holds it: a data set by its name, options as text."""
    if name == "data" and value is not None:
        return dataset_name(value)
    return show_setting(value) if isinstance(value, dict | bool) else value


def _add_parents(
    found: dict[str, Any],
    run: PlannedRun,
    folder: RunFolder,
    parent: Mapping[str, Any],
    planned: Mapping[str, PlannedRun],
) -> None:
    """Count what the run started from with what it took itself: a tuned model costs its training and its tuning.

    What was measured is the parent's word in the child's result, which holds its own parent's too; what was predicted
    is the plan's. What one of them lacks is missing in the sum.
    """
    if not run["parents"]:
        return
    for name, theirs in (
        ("samples_seen", "samples"),
        ("train_seconds", "train_seconds"),
        ("cpu_seconds", "cpu_seconds"),
        ("gpu_hours", "gpu_hours"),
    ):
        found[name] = _sum(found.get(name), parent.get(theirs))
    found["unique_pairs"] = _unique_pairs(found.get("unique_pairs"), run, folder, planned)
    found["repeats"] = _quotient(found.get("samples_seen"), found["unique_pairs"])
    ancestors = list(run["parents"])
    while ancestors:
        ancestor = planned.get(ancestors.pop())
        cost = ancestor["cost"] if ancestor else {}
        ancestors += ancestor["parents"] if ancestor else []
        found["train_flops"] = _sum(found["train_flops"], cost.get("train_flops"))
        found["gpu_hours_predicted"] = _sum(found["gpu_hours_predicted"], cost.get("gpu_hours"))
    found["images_per_second"] = _quotient(found.get("samples_seen"), found.get("train_seconds"))


def _unique_pairs(own: int | None, run: PlannedRun, folder: RunFolder, planned: Mapping[str, PlannedRun]) -> int | None:
    """The different pairs that the run or its parents saw: all begin with the same pairs, so the most that one saw."""
    seen = [] if own is None else [own]
    while run["parents"]:
        (parent,) = run["parents"]
        result = RunFolder(folder.path.parent / parent).result() or {}
        if not _is_number(result.get("unique_pairs")) and result.get("samples") != 0:
            return None
        seen.append(result.get("unique_pairs") or 0)
        run = planned.get(parent, {"parents": []})
    return max(seen, default=None) or None


def _quotient(one: Any, other: Any) -> float | None:
    return one / other if _is_number(one) and _is_number(other) and other > 0 else None


def _sum(one: Any, other: Any) -> Any:
    return one + other if _is_number(one) and _is_number(other) else None


def _check_same_run(run: PlannedRun, folder: RunFolder) -> None:
    """Raise RunFolderError if the folder was made for another run: copied, renamed, or edited by hand.

    What is no part of an id may differ: where data lies, and settings added since then, which mean 'as before'.
    """
    asked = folder.asked()
    if asked is None:
        raise RunFolderError(
            f"{folder.path}: has result.json and no run.json, so what was asked for is not known. "
            f"Delete the folder and submit again."
        )
    if asked.get("id") != run["id"]:
        raise RunFolderError(
            f"{folder.path}: its run.json is of {asked.get('id')!r}, so the folder was renamed or copied."
        )
    try:
        other = ", ".join(differences(asked["settings"], run["settings"]))
    except (FlipscaleError, KeyError, TypeError, ValueError, AttributeError):
        other = "set of settings, which cannot be read,"
    if other:
        raise RunFolderError(
            f"{folder.path}: its run.json was asked with another {other} than the plan, "
            f"so it was changed by hand. Delete the folder and submit again."
        )


def _checked(value: Any, kind: Kind, name: str, folder: RunFolder) -> Any:
    """The value as its column holds it. None stays None."""
    if value is None:
        return None
    if kind == "str" and isinstance(value, str):
        return value
    if kind != "str" and _is_number(value):
        return round(value) if kind == "int" else float(value)
    raise RunFolderError(
        f"{folder.path}: {name!r} is {value!r}, where {'text' if kind == 'str' else 'a number'} is right."
    )


def _is_newer(folder: RunFolder) -> bool:
    for name in ("run.json", "result.json", "job.json"):
        try:
            if json.loads((folder.path / name).read_text()).get("schema", SCHEMA) > SCHEMA:
                return True
        except (OSError, ValueError, AttributeError, TypeError):
            continue
    return False


# Curves


class _Points(NamedTuple):
    """The points of one run, one list a column: a study has millions of them, too many for a dict each."""

    step: list[int]
    samples: list[float]
    seconds: list[float]
    metric: list[str]
    value: list[float]
    time: list[float]


_NOT_METRICS = {"step", "samples", "seconds", "time", "scores", "evaluation_seconds"}


def _points(folder: RunFolder) -> tuple[_Points, int]:
    """All points of metrics.jsonl and the count of its torn lines. A value that is null or no number is no point."""
    records, torn = folder.records()
    points = _Points([], [], [], [], [], [])
    for record in records:
        scores = record.get("scores")
        values = {name: value for name, value in record.items() if name not in _NOT_METRICS}
        values |= scores if isinstance(scores, dict) else {}
        for name, value in values.items():
            if _is_number(value) and isinstance(record["step"], int):
                points.step.append(record["step"])
                points.samples.append(_number(record.get("samples")))
                points.seconds.append(_number(record.get("seconds")))
                points.metric.append(name)
                points.value.append(value)
                points.time.append(_number(record.get("time")))
    return points, torn


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any) -> float:
    return value if _is_number(value) else np.nan


def _curves(ids: list[str], points: list[_Points]) -> pd.DataFrame:
    def column(name: str, dtype: str) -> "np.ndarray[Any, Any]":
        arrays = [np.asarray(getattr(of_run, name), dtype=dtype) for of_run in points]
        return np.concatenate(arrays) if arrays else np.empty(0, dtype=dtype)

    metrics = sorted({name for of_run in points for name in of_run.metric})
    number = {name: i for i, name in enumerate(metrics)}
    runs = np.repeat(np.arange(len(ids)), [len(of_run.step) for of_run in points])
    codes = np.asarray([number[name] for of_run in points for name in of_run.metric], dtype=np.int32)
    return pd.DataFrame(
        {
            "id": pd.Categorical.from_codes(runs, categories=pd.Index(ids, dtype="str")),
            "step": column("step", "int64"),
            "samples": column("samples", "float64"),
            "seconds": column("seconds", "float64"),
            "metric": pd.Categorical.from_codes(codes, categories=pd.Index(metrics, dtype="str")),
            "value": column("value", "float64"),
            "time": column("time", "float64"),
        }
    )
