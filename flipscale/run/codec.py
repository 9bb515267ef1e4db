"""Reads and writes the records of a run folder as JSON."""

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeGuard, cast

from flipscale.cell import write_cell
from flipscale.errors import DamagedFile, NewerFolder, RunFolderError
from flipscale.guard import is_plain
from flipscale.kinds import JsonObject, is_number, record_of
from flipscale.plain_files import AnyPath, Held, parsed, read_json
from flipscale.run.code import CodeIdentity
from flipscale.run.files import FOLDER_SCHEMA, SCORES_FILE, storable, write_json
from flipscale.run.records import (
    FailedAttempt,
    Failure,
    FailureKind,
    Hits,
    Measured,
    MetricsRecord,
    Reached,
    Result,
    RunRequest,
)
from flipscale.settings.declarations import KeepWeights

NOT_FLUSHED = ("run.json", "job.json")
"""Files that may be in place and empty, if the machine went down before their content was on the disk. They count as
missing: submitting again writes them."""

_REMEDY = {
    "hits.json": "Delete it; nothing then says how many items a score was taken over.",
    "code.json": "Delete it; which code trained the run is then not known.",
    "probe.json": "Delete the folder, and probe again.",
    SCORES_FILE: "Delete it and submit the study again, which scores the weights anew.",
}
"""What to do about a damaged file; about any other, delete it and submit again."""


# Reading


def read_object(folder: AnyPath, name: str) -> JsonObject | None:
    """The JSON object in a file of a run folder; None if there is no such file. RunFolderError states its fault."""
    path = f"{os.fspath(folder)}/{name}"
    try:
        data = read_json(path, JsonObject)
    except FileNotFoundError:
        return None
    except DamagedFile as error:
        if name in NOT_FLUSHED and is_plain(path) and not Path(path).stat().st_size:
            return None
        raise RunFolderError(f"{error} {_remedy(name)}") from error
    _check_schema(data.get("schema", FOLDER_SCHEMA), path)
    return data


def read_record(kind: type[Held], folder: AnyPath, name: str, **known: Any) -> Held | None:
    """The record in a file of a run folder, as `read_object` reads it. known: entries that the file need not have."""
    data = read_object(folder, name)
    return None if data is None else record_in(kind, {**data, **known}, folder, name)


def record_in(kind: type[Held], data: JsonObject, folder: AnyPath, name: str) -> Held:
    """The record in the content of a file of a run folder, in which unknown values are null or left out."""
    try:
        return record_of(kind, {key: value for key, value in data.items() if value is not None})
    except ValueError as error:
        raise RunFolderError(f"{Path(folder, name)}: {error}. {_remedy(name)}") from error


def _remedy(name: str) -> str:
    return _REMEDY.get(name, "Delete it and submit again.")


def _check_schema(schema: object, path: str) -> None:
    if not isinstance(schema, int):
        raise RunFolderError(f"{path}: schema {schema!r} is not a number. Delete it and submit again.")
    if schema > FOLDER_SCHEMA:
        raise NewerFolder(
            f"{path}: schema {schema} is newer than this flipscale, which reads up to {FOLDER_SCHEMA}. Upgrade "
            f"flipscale, or choose another results folder with --results."
        )


def read_result(folder: str) -> Result | None:
    data = read_object(folder, "result.json")
    return None if data is None else result_from_json(data, folder)


def result_from_json(data: JsonObject, folder: AnyPath) -> Result:
    """The result of the run of that folder, from the content of its result.json. Numbers that are not finite are
    missing."""
    more = {name: value for name, value in data.items() if name not in _RESULT}
    try:
        known = storable({name: value for name, value in data.items() if name in _RESULT})
    except RecursionError:
        raise RunFolderError(f"{Path(folder, 'result.json')}: nested too deeply. {_remedy('result.json')}") from None
    return record_in(Result, {**known, "more": more}, folder, "result.json")


_RESULT = {"schema", *(field.name for field in dataclasses.fields(Result))}


def read_hits(folder: AnyPath) -> dict[str, Hits]:
    """The content of hits.json, by score; empty if there is none."""
    content = read_record(_HitsFile, folder, "hits.json")
    return content.hits if content else {}


def read_scores(folder: AnyPath) -> list[Measured]:
    """The records of scores.json; none if there is no such file."""
    content = read_record(_ScoresFile, folder, SCORES_FILE)
    return content.records if content else []


def read_codes(folder: AnyPath) -> list[CodeIdentity]:
    """The codes of code.json, oldest first; none if there is no such file."""
    content = read_record(_CodeFile, folder, "code.json")
    return content.codes if content else []


@dataclasses.dataclass(frozen=True)
class _HitsFile:
    hits: dict[str, Hits]


@dataclasses.dataclass(frozen=True)
class _ScoresFile:
    records: list[Measured]


@dataclasses.dataclass(frozen=True)
class _CodeFile:
    codes: list[CodeIdentity]


def read_failure(folder: str) -> Failure | None:
    """The content of error.json. A failure of an unknown kind counts as one of code, and so does an unreadable file,
    with that as its reason."""
    try:
        data = read_object(folder, "error.json")
        return None if data is None else record_of(Failure, _flat(data), leniently=True)
    except RunFolderError as error:
        return Failure(FailureKind.CODE, str(error))


def _flat(data: JsonObject) -> JsonObject:
    """The entries that a failure can have: printable texts and finite numbers, not lists, which may have any depth."""
    values = {name: value for name, value in data.items() if not isinstance(value, dict | list) and value is not None}
    return cast(JsonObject, storable(values))


def read_failed_attempts(lines: Iterable[bytes]) -> list[FailedAttempt]:
    """The failed attempts in failures.jsonl, without torn lines and failures of an unknown kind."""
    failed = []
    for line in lines:
        with contextlib.suppress(ValueError):
            data = parsed(line)
            if isinstance(data, dict):
                failed.append(record_of(FailedAttempt, _flat(data), leniently=True))
    return failed


def read_records(lines: Iterable[bytes]) -> tuple[list[MetricsRecord], int]:
    """The records of metrics.jsonl in the order of their steps, and the number of torn lines left out.

    A run that was killed and resumed from its checkpoint writes some steps again; of records with the same step and
    the same keys the later one stands.
    """
    torn = 0
    lines = list(lines)
    kept: dict[tuple[int, frozenset[str]], JsonObject] = {}
    try:
        records = parsed(b"[%s]" % b",".join(lines))  # faster than one by one, which torn lines need
    except ValueError:
        records = map(_parsed_line, lines)
    for record in records:
        if not _is_record(record):
            torn += 1
        else:
            kept[record["step"], frozenset(record)] = record
    return sorted(kept.values(), key=itemgetter("step")), torn


def read_last_records(lines: Iterable[bytes]) -> list[MetricsRecord]:
    """The records of some lines of metrics.jsonl, in the order in which they were written."""
    return [record for line in lines if (record := _record(line)) is not None]


def _record(line: bytes) -> JsonObject | None:
    """The record of a line; None for a torn one, and for one whose step is not a whole number."""
    record = _parsed_line(line)
    return record if _is_record(record) else None


def _parsed_line(line: bytes) -> Any:
    """The JSON in a line; None for a torn one."""
    try:
        return parsed(line)
    except ValueError:
        return None


def _is_record(value: object) -> TypeGuard[JsonObject]:
    return isinstance(value, dict) and type(value.get("step")) is int


def read_reached(lines: Sequence[bytes], *, scores: bool = True) -> Reached:
    """How far a run is, by the last lines of its metrics.jsonl, the first and the last of which may be torn.

    Without `scores` none are looked for: their lines are the long ones, and there may be thousands of runs.
    """
    evaluation = _last_with("scores", lines).get("scores") if scores else None
    known = storable(evaluation) if isinstance(evaluation, dict) else {}
    numbers = {name: value for name, value in known.items() if is_number(value)}
    began = b'"start"'  # A record of a start is no progress.
    last = _last_with("loss", lines) or _last_with("step", [line for line in lines if began not in line])
    return record_of(Reached, {**last, "scores": numbers}, leniently=True)


def _last_with(name: str, lines: Sequence[bytes]) -> JsonObject:
    """The last of the records that have a value of that name; empty if none has."""
    quoted = f'"{name}"'.encode()  # Most lines need not be parsed.
    records = (_record(line) for line in reversed(lines) if quoted in line)
    return next((record for record in records if record and name in record), {})


# Writing


def write_record(path: Path, data: JsonObject, *, flush: bool = True) -> None:
    """Write a JSON object of a run folder, whole or not at all."""
    write_json(path, {"schema": FOLDER_SCHEMA, **data}, flush=flush)


def request_as_json(asked: RunRequest) -> JsonObject:
    kept = {} if asked.keep_weights is KeepWeights.ALWAYS else {"keep_weights": str(asked.keep_weights)}
    return kept | {
        "id": asked.id,
        "parents": list(asked.parents),
        "settings": asked.settings,
        "cost": None if asked.cost is None else dict(vars(asked.cost)),
        "cell": None if asked.cell is None else write_cell(asked.cell),
        "recipe": asked.recipe,
        "resources": dict(vars(asked.resources)),
        **({} if asked.seconds is None else {"seconds": asked.seconds}),
        **({} if asked.trunk is None else {"trunk": dict(vars(asked.trunk))}),
    }


def result_as_json(result: Result) -> JsonObject:
    if_any = ("missing_scores", "digests", "parent", "trunk")
    values = {name: value for name, value in vars(result).items() if name != "more" and (value or name not in if_any)}
    return cast(JsonObject, storable({**values, **result.more}))


def failed_attempt_as_json(failed: FailedAttempt) -> JsonObject:
    return {**storable(failed), "given_up": failed.given_up}
