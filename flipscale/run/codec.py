"""Reads and writes the records of a run folder as JSON."""

import base64
import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeGuard, cast

from flipscale.cell import read_cell, write_cell
from flipscale.cost import Cost
from flipscale.errors import DamagedFile, RunFolderError, printable
from flipscale.guard import is_name
from flipscale.plain_files import AnyPath, fits, parsed, read_bytes, record_of
from flipscale.plan import Trunk
from flipscale.run.code import CodeIdentity, FileContent
from flipscale.run.files import FOLDER_SCHEMA, SCORES_FILE, storable, write_json
from flipscale.run.records import (
    Asked,
    FailedAttempt,
    Failure,
    FailureKind,
    Hits,
    Job,
    Measured,
    MetricsRecord,
    Reached,
    Result,
    Spent,
)
from flipscale.settings import JsonObject, KeepWeights, Resources

NOT_FLUSHED = ("run.json", "job.json")
"""Files that may be in place and empty, if the machine went down before their content was on the disk. They count as
missing: submitting again writes them."""


# Reading


def read_object(folder: str, name: str) -> JsonObject | None:
    """The JSON object in a file of a run folder; None if there is no such file. RunFolderError states its fault."""
    try:
        text = read_bytes(f"{folder}/{name}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except DamagedFile as error:
        raise RunFolderError(f"{error} Delete it and submit again.") from error
    if not text and name in NOT_FLUSHED:
        return None
    try:
        # error.json is only shown, with halves escaped.
        data = parsed(text, halves=name == "error.json")
    except ValueError as error:
        what = f"not JSON ({error}). It was not written by flipscale, or the disk was full; delete the file and submit"
        raise RunFolderError(f"{Path(folder, name)}: {what} again.") from error
    if wrong := _what_is_wrong(data):
        raise RunFolderError(f"{Path(folder, name)}: {wrong}")
    return cast(JsonObject, data)


def _what_is_wrong(data: object) -> str | None:
    if not isinstance(data, dict):
        return "holds no JSON object; delete the file and submit again."
    schema = data.get("schema", FOLDER_SCHEMA)
    if not isinstance(schema, int):
        return f"schema {schema!r} is not a number; delete the file and submit again."
    if schema > FOLDER_SCHEMA:
        return (
            f"schema {schema} is newer than this flipscale, which reads up to {FOLDER_SCHEMA}. Upgrade flipscale, or "
            f"choose another results folder with --results."
        )
    return None


def read_asked(folder: str) -> Asked | None:
    """The content of run.json. RunFolderError if it has no settings."""
    data = read_object(folder, "run.json")
    return None if data is None else asked_in(data, folder)


def asked_in(data: JsonObject, folder: str) -> Asked:
    """The request in the content of run.json. Raises as `read_asked` does."""
    if not isinstance(data.get("settings"), dict):
        path = Path(folder, "run.json")
        raise RunFolderError(f"{path}: holds no settings, so it is not flipscale's; delete it and submit again.")
    try:
        return asked_from_json(data)
    except ValueError as error:
        path = Path(folder, "run.json")
        raise RunFolderError(f"{path}: {error}, so it was changed by hand; delete it and submit again.") from error


def asked_from_json(data: JsonObject) -> Asked:
    """The request, in the form of run.json and a plan's JSON. ValueError names a faulty entry."""
    # What is not known is null, or left out.
    said = {name: value for name, value in data.items() if value is not None}
    return record_of(
        Asked,
        said,
        id=printable(str(data.get("id"))),
        resources=record_of(Resources, _without_nulls(said.get("resources", {}))),
        cost=_cost(said.get("cost", {})),
        cell=read_cell(said["cell"]) if isinstance(said.get("cell"), str) else None,
        keep_weights=_keep_weights(data.get("keep_weights")),
        trunk=record_of(Trunk, trunk) if (trunk := data.get("trunk")) else None,
    )


def _without_nulls(data: object) -> object:
    return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


def _keep_weights(said: object) -> KeepWeights:
    """How long weights stay; an unknown word keeps them."""
    return next((keep for keep in KeepWeights if keep == said), KeepWeights.ALWAYS)


def _cost(data: object) -> Cost | None:
    known = data if isinstance(data, dict) else {}
    return record_of(Cost, known) if known.keys() >= _NEEDED_OF_COST else None


_NEEDED_OF_COST = {field.name for field in dataclasses.fields(Cost) if field.default is dataclasses.MISSING}


def read_job(folder: str) -> Job | None:
    """The content of job.json. RunFolderError if it does not name a launcher and its job."""
    data = read_object(folder, "job.json")
    if data is None:
        return None
    if not all(map(is_name, str(data.get("id") or "unknown").split("/"))):
        raise RunFolderError(
            f"{Path(folder, 'job.json')}: {data['id']!r} is not a job's id; delete it and submit again."
        )
    try:
        return record_of(Job, data, run_id=os.path.basename(folder) or Path(folder).name)
    except ValueError as error:
        path = Path(folder, "job.json")
        raise RunFolderError(f"{path}: {error}, so it is not flipscale's; delete it and submit again.") from error


def read_result(folder: str) -> Result | None:
    """The content of result.json. RunFolderError for a fact that is not a number, for example after an edit."""
    data = read_object(folder, "result.json")
    return None if data is None else result_from_json(data, folder)


def result_from_json(data: JsonObject, folder: AnyPath) -> Result:
    """The result of the run of that folder, from the content of its result.json."""
    scores = _object(data, "scores", "names and numbers", folder)
    parent = _object(data, "parent", "what its parents took", folder)
    levels = _object(data, "chance", "scores and numbers", folder)
    chance = {name: checked(level, "float", f"chance.{name}", folder) for name, level in levels.items()}
    versions = data.get("versions")
    trunk = _object(data, "trunk", "what the run of its trunk took", folder)
    return Result(
        **_facts(Result, data, folder),
        scores=scores,
        versions=versions if isinstance(versions, dict) else {},
        chance={name: level for name, level in chance.items() if level is not None},
        missing_scores=_texts(data, "missing_scores", "scores and reasons", folder),
        digests=_texts(data, "digests", "sets and digests", folder),
        parent=_spent(parent, folder),
        trunk=_spent(trunk, folder),
        more={name: value for name, value in data.items() if name not in _RESULT},
    )


def _spent(data: JsonObject, folder: AnyPath) -> Spent | None:
    return Spent(**{**_facts(Spent, data, folder), "id": str(data.get("id"))}) if data else None


def _object(data: JsonObject, name: str, holds: str, folder: AnyPath) -> JsonObject:
    """The object of that name; empty if there is none."""
    found = data.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise RunFolderError(f"{Path(folder, 'result.json')}: {name!r} must be an object of {holds}.")
    return found


def _texts(data: JsonObject, name: str, holds: str, folder: AnyPath) -> dict[str, str]:
    return {key: str(text) for key, text in _object(data, name, holds, folder).items()}


def _facts(record: type, data: JsonObject, folder: AnyPath) -> JsonObject:
    """The numbers and texts of a record, each checked."""
    return {name: checked(data.get(name), kind, name, folder) for name, kind in _FACT_KINDS[record].items()}


def read_hits(folder: str) -> dict[str, Hits]:
    """The content of hits.json, by score; empty if there is none. RunFolderError if it is not as flipscale wrote it."""
    data = read_object(folder, "hits.json")
    if data is None:
        return {}
    try:
        return hits_from_json(data["hits"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RunFolderError(
            f"{Path(folder, 'hits.json')}: holds no hits ({error}). Delete it; comparisons then leave out the sampling "
            "error of test images."
        ) from error


def hits_from_json(entries: JsonObject) -> dict[str, Hits]:
    """Hits by score. ValueError, or the error of a missing key, where they are not as flipscale wrote them."""
    return {str(name): _hits(str(name), entry) for name, entry in entries.items()}


def _hits(name: str, entry: JsonObject) -> Hits:
    found = Hits(str(entry["items"]), int(entry["count"]), base64.b64decode(entry["bits"], validate=True))
    if len(found.bits) != (right := -(-found.count // 8)):
        raise ValueError(f"{name!r} has {len(found.bits)} bytes for {found.count} items, where {right} are right")
    return found


def read_scores(folder: AnyPath) -> list[Measured]:
    """The records of scores.json; none if there is no such file. RunFolderError for any other content."""
    data = read_object(os.fspath(folder), SCORES_FILE)
    if data is None:
        return []
    try:
        return [
            Measured(**{**record, "hits": hits_from_json(record["hits"]), "scores": _numbers(record["scores"])})
            for record in data["records"]
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RunFolderError(
            f"{Path(folder, SCORES_FILE)}: holds no scores ({error}). Delete it and submit the study again, which "
            "scores the weights anew."
        ) from error


def _numbers(scores: Mapping[str, Any]) -> dict[str, float | None]:
    return {str(name): None if value is None else float(value) for name, value in scores.items()}


def read_codes(folder: str) -> list[CodeIdentity]:
    """The codes of code.json, oldest first; none if there is no such file. RunFolderError for any other
    content."""
    data = read_object(folder, "code.json")
    if data is None:
        return []
    try:
        return [_code(entry) for entry in data["codes"]]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RunFolderError(
            f"{Path(folder, 'code.json')}: holds no code identities ({error!r}). Delete it; which code trained the run "
            f"is then not known."
        ) from error


def _code(entry: JsonObject) -> CodeIdentity:
    return CodeIdentity(
        project=str(entry["project"]),
        source=entry.get("source"),
        commit=entry.get("commit"),
        changes=entry.get("changes"),
        versions={str(name): str(version) for name, version in entry.get("versions", {}).items()},
        files={
            str(name): FileContent(int(content["size"]), content.get("sha256"))
            for name, content in entry.get("files", {}).items()
        },
    )


def read_failure(folder: str) -> Failure | None:
    """The content of error.json. A failure of an unknown kind counts as one of code, and so does an unreadable file,
    with that as its reason."""
    try:
        data = read_object(folder, "error.json")
    except RunFolderError as error:
        return Failure(FailureKind.CODE, str(error))
    if data is None:
        return None
    data = _flat(data)
    kind = _kind(data.get("kind")) or FailureKind.CODE
    return record_of(Failure, data, leniently=True, kind=kind, reason=_text(data.get("reason")))


def _flat(data: JsonObject) -> JsonObject:
    """The entries that a failure can have: printable texts and finite numbers, not lists, which may have any depth."""
    return cast(
        JsonObject, storable({name: value for name, value in data.items() if not isinstance(value, dict | list)})
    )


def _text(said: object) -> str:
    return str(said) if said else ""


def read_failed_attempts(lines: Iterable[bytes]) -> list[FailedAttempt]:
    """The failed attempts in failures.jsonl, without torn lines and failures of an unknown kind."""
    found = []
    for line in lines:
        try:
            data = parsed(line, halves=True)
        except ValueError:
            continue
        if isinstance(data, dict) and (kind := _kind(data.get("kind"))):
            found.append(_failed_attempt(kind, _flat(data)))
    return found


def _failed_attempt(kind: FailureKind, data: JsonObject) -> FailedAttempt:
    known = {"kind": kind, "reason": _text(data.get("reason")), "then": _text(data.get("then"))}
    return record_of(FailedAttempt, data, leniently=True, **known)


def read_records(lines: Iterable[bytes]) -> tuple[list[MetricsRecord], int]:
    """The records of metrics.jsonl in the order of their steps, and the number of torn lines left out.

    A run that was killed and resumed from its checkpoint writes some steps again; of records with the same step and
    the same keys the later one stands.
    """
    torn = 0
    kept: dict[tuple[str, ...], JsonObject] = {}
    for line in lines:
        record = _record(line)
        if record is None:
            torn += 1
        else:
            kept[(str(record["step"]), *sorted(record))] = record
    return sorted(kept.values(), key=lambda record: cast(int, record["step"])), torn


def read_last_records(lines: Iterable[bytes]) -> list[MetricsRecord]:
    """The records of some lines of metrics.jsonl, in the order in which they were written."""
    return [record for line in lines if (record := _record(line)) is not None]


def _record(line: bytes) -> JsonObject | None:
    """The record of a line; None for a torn one, and for one whose step is not a whole number."""
    try:
        record = parsed(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and type(record.get("step")) is int else None


def read_reached(lines: Sequence[bytes], *, scores: bool = True) -> Reached:
    """How far a run is, by the last lines of its metrics.jsonl, the first and the last of which may be torn.

    Without `scores` none are looked for: their lines are the long ones, and there may be thousands of runs.
    """
    loss = _last_record(lines, "loss")
    evaluation = _last_record(lines, "scores").get("scores", {}) if scores else {}
    numbers = {name: number for name, value in evaluation.items() if (number := _finite(value)) is not None}
    return Reached(
        loss.get("samples_seen", 0), _finite(loss.get("loss")), _finite(loss.get("images_per_second")), numbers
    )


def _finite(value: object) -> float | None:
    return float(value) if fits(value, float) else None  # type: ignore[arg-type]  # it is a number


def _last_record(lines: Sequence[bytes], name: str) -> JsonObject:
    """The last of the records that have a value of that name; empty if none has."""
    quoted = f'"{name}"'.encode()
    for line in reversed(lines):
        if quoted not in line:
            continue  # Most lines need not be parsed.
        try:
            record = parsed(line)
        except ValueError:
            continue
        if isinstance(record, dict) and _is_usable(record, name):
            return record
    return {}


def _is_usable(record: JsonObject, name: str) -> bool:
    if name == "scores":
        return isinstance(record.get("scores"), dict)
    return name in record and type(record.get("samples_seen")) is int and fits(record["samples_seen"], int)


def _kind(said: object) -> FailureKind | None:
    return next((kind for kind in FailureKind if kind == said), None)


# Checking

FactKind = Literal["str", "int", "float"]


def checked(value: Any, kind: FactKind, name: str, folder: AnyPath) -> Any:
    """The value in the form of a record or a table. None stays None, and values that are not finite become None."""
    # Called for 100 values of each of 10,000 runs; nearly all of them return here.
    if value is None or (kind == "float" and type(value) is float and math.isfinite(value)):
        return value
    if kind == "int" and type(value) is int and abs(value) < 2**63:
        return value
    if not _is_right(value, kind):
        right = {"str": "one line of text", "int": "a whole number of 64 bits", "float": "a number"}[kind]
        raise RunFolderError(f"{Path(folder)}: {name!r} is {value!r}, but should be {right}.")
    return value if kind == "str" else _as_number(value, kind)


def _is_right(value: object, kind: FactKind) -> bool:
    if kind == "str":
        return isinstance(value, str) and value.isprintable()
    return is_number(value) and (kind == "float" or not math.isfinite(value) or abs(value) < 2**63)


def _as_number(value: float, kind: FactKind) -> float | int | None:
    if not math.isfinite(value):
        return None
    return float(value) if kind == "float" else round(value)


def is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, _INT_OR_FLOAT) and not isinstance(value, bool)


_INT_OR_FLOAT = (int, float)
"""`int | float` in the function would be built at each call, which takes as long as the check itself."""


_OF_TYPE: Mapping[Any, FactKind] = {str | None: "str", int | None: "int", float | None: "float"}

_FACT_KINDS: Mapping[type, Mapping[str, FactKind]] = {
    record: {field.name: kind for field in dataclasses.fields(record) if (kind := _OF_TYPE.get(field.type))}
    for record in (Result, Spent)
}
"""The fields of a record that hold a number or a text."""

_RESULT = {"schema", *(field.name for field in dataclasses.fields(Result))}


# Writing


def write_record(path: Path, data: JsonObject, *, flush: bool = True) -> None:
    """Write a JSON object of a run folder, whole or not at all."""
    write_json(path, {"schema": FOLDER_SCHEMA, **data}, flush=flush)


def asked_as_json(asked: Asked) -> JsonObject:
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
    found = {name: value for name, value in vars(result).items() if name not in ("more", "parent", "trunk")}
    for name in ("missing_scores", "digests"):
        if not found[name]:
            del found[name]
    before = {"parent": result.parent, "trunk": result.trunk}
    spent = {name: dict(vars(of)) for name, of in before.items() if of is not None}
    return cast(JsonObject, storable({**found, **spent, **result.more}))


def hits_as_json(hits: Mapping[str, Hits]) -> JsonObject:
    return {
        "hits": {
            name: {"items": of.items, "count": of.count, "bits": base64.b64encode(of.bits).decode("ascii")}
            for name, of in hits.items()
        }
    }


def scores_as_json(records: list[Measured]) -> JsonObject:
    """The content of scores.json."""
    return cast(JsonObject, storable({"records": [vars(record) | hits_as_json(record.hits) for record in records]}))


def code_as_json(code: CodeIdentity) -> JsonObject:
    files = {name: _said(content) for name, content in code.files.items()}
    return cast(JsonObject, storable({**_said(code), "files": files}))


def codes_as_json(codes: Iterable[CodeIdentity]) -> JsonObject:
    return {"codes": [code_as_json(code) for code in codes]}


def failure_as_json(failure: Failure) -> JsonObject:
    return cast(JsonObject, storable(_said(failure)))


def failed_attempt_as_json(failed: FailedAttempt) -> JsonObject:
    return cast(JsonObject, storable({**_said(failed), "given_up": failed.given_up}))


def failed_attempt_as_line(failed: FailedAttempt) -> str:
    return json.dumps(failed_attempt_as_json(failed)) + "\n"


def job_as_json(job: Job) -> JsonObject:
    return _said(job)


def _said(record: Any) -> JsonObject:
    """The fields of a record that are neither None nor False."""
    return {name: value for name, value in vars(record).items() if value is not None and value is not False}
