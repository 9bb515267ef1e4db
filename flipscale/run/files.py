"""How files are written: whole or not at all, and JSON that a person can read."""

import base64
import enum
import json
import math
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from flipscale.errors import printable
from flipscale.plain_files import file_system_now, open_file, replacing

FOLDER_SCHEMA = 1
"""Version of the run folder. A reader accepts this and older ones; a newer one is an error."""

EARLIER = "earlier"
"""The folder inside a run's folder that keeps all of it from before a restart. It is a run's folder too."""

SCORES_FILE = "scores.json"
SCORING_FILE = "scoring.json"

PROBE_FILE = "probe.json"

WEIGHTS_FILE = "model.pt"
"""A run's finished weights, as open_clip loads them."""

AVERAGED_FILE = "averaged.pt"
"""The mean of the weights of its last steps, in the same form, for a run with `average`."""

TRUNK_FILE = "trunk.pt"
"""A run's checkpoint from where its constant rate ends: longer runs of the same schedule go on from there."""


class FileUse(enum.StrEnum):
    """The purpose of a file of a run folder: it decides whether an archive takes it, and when gc may remove it."""

    RECORD = "records"
    """The request and its outcome: small, and equally useful on any machine."""
    METRICS = "metrics"
    WEIGHTS = "weights"
    CHECKPOINT = "checkpoints"
    LOG = "logs"
    JOB = "jobs"
    """Which process works on the run now. Worthless on another machine."""


RUN_FILES: Mapping[str, FileUse] = {
    "run.json": FileUse.RECORD,
    "job.json": FileUse.JOB,
    "lease.json": FileUse.JOB,
    "lease.lock": FileUse.JOB,
    "last_holder.json": FileUse.JOB,
    "life.json": FileUse.JOB,
    "metrics.jsonl": FileUse.METRICS,
    "checkpoint.pt": FileUse.CHECKPOINT,
    TRUNK_FILE: FileUse.CHECKPOINT,
    WEIGHTS_FILE: FileUse.WEIGHTS,
    AVERAGED_FILE: FileUse.WEIGHTS,
    "code.json": FileUse.RECORD,
    "hits.json": FileUse.RECORD,
    SCORES_FILE: FileUse.RECORD,
    SCORING_FILE: FileUse.JOB,
    "result.json": FileUse.RECORD,
    "error.json": FileUse.JOB,
    "failures.jsonl": FileUse.RECORD,
    "log.txt": FileUse.LOG,
    "outcome.json": FileUse.JOB,
    "program.json": FileUse.JOB,
    "evaluation_program.json": FileUse.JOB,
    PROBE_FILE: FileUse.JOB,
}
"""Every file that flipscale puts into a run folder. A file that is added here as a record or as metrics is archived."""

ARCHIVED_FILES = tuple(sorted(name for name, use in RUN_FILES.items() if use in (FileUse.RECORD, FileUse.METRICS)))
"""The files of a finished run that an archive takes: all that collect, compare, plot and report read.

Weights are too large. Logs are left out as they name paths and machines, and no table or figure reads those of a
finished run.
"""


def is_finished(files: Iterable[str]) -> bool:
    """Whether a run whose folder has these files is finished. One that was trained and is to be scored is not."""
    names = set(files)
    return "result.json" in names and SCORING_FILE not in names


def copy(source: Path, target: Path) -> None:
    """Copy a file, as `replacing` writes."""
    with open_file(source) as content, replacing(target) as file:
        shutil.copyfileobj(content, file)


def clock_ahead(folder: Path) -> float:
    """Seconds by which the clock that dates the files of a folder is ahead of this machine's: a file server has its
    own. 0 where nothing can be written there."""
    try:
        ahead = file_system_now(folder) / 1e9 - time.time()
    except OSError:
        return 0.0
    # The kernel dates files by its last tick.
    return ahead if abs(ahead) > 1 else 0.0


def write_json(path: Path, data: Mapping[str, Any], *, rows: str | None = None, flush: bool = True) -> None:
    """Write `data` to `path` whole: a reader sees the old file or the new one, never half of one.

    `rows` names a key under which there is a long list, see `as_json`.
    """
    with replacing(path, flush=flush) as file:
        file.write(as_json(data, rows=rows).encode() + b"\n")


def as_json(data: Any, *, rows: str | None = None) -> str:
    """JSON that a person can read: indented, or with each element of the list under the key `rows` on one line.

    json's fast encoder, in C, cannot indent: for thousands of runs it takes a tenth of the time of the one in Python.
    """
    if rows is None:
        return json.dumps(data, indent=1)
    listed = ",\n  ".join(json.dumps(element) for element in data[rows])
    parts = (json.dumps(value) if key != rows else f"[\n  {listed}\n ]" for key, value in data.items())
    return "{\n" + ",\n".join(f" {json.dumps(key)}: {part}" for key, part in zip(data, parts, strict=True)) + "\n}"


def storable(value: Any) -> Any:
    """The value as any reader of JSON takes it. At every depth NaN and infinities are None, as missing is missing; text
    is text that UTF-8 can hold; bytes are in base64; and a record has the fields that are neither None nor False."""
    if is_dataclass(value):
        value = {name: held for name, held in vars(value).items() if held is not None and held is not False}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, dict):
        return {key: storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    if isinstance(value, str):
        return printable(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
