"""Whether MLflow already has all of a study, found out without loading MLflow, which takes some seconds.

    .mirrored   beside results.csv: what was sent, where to, and which run of MLflow says that all of it is there

The file may be deleted at any time: MLflow is then asked in full.
"""

import contextlib
import hashlib
import json
import sqlite3
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from flipscale.collect.cache import stat_key
from flipscale.errors import DamagedFile
from flipscale.plain_files import read_json, record_of
from flipscale.run import write_json
from flipscale.track.address import is_server, without_secrets

LAST_MIRROR_FILE = ".mirrored"

MIRROR_VERSION = 3
"""Version of the content written into MLflow: a new one mirrors every run again."""

_ANSWER_LIMIT = 5
"""Seconds that a server may take to answer; then it is asked in full, with tries."""


@dataclass(frozen=True)
class LastMirror:
    """The content that was sent, and its destination."""

    fingerprint: str
    address: str
    """Without its secrets."""
    experiment_id: str
    study_run: str
    """The id of the study's run in MLflow."""
    digest: str
    """That run's tag `flipscale.digest` if all of the study is there."""
    rows: int


def fingerprint(facts: object, files: Sequence[Path]) -> str:
    """One digest for the content to send: the files as they are, by size, times and inode."""
    keys = [[str(file.absolute()), stat_key(str(file))] for file in files]
    return hashlib.sha256(json.dumps([MIRROR_VERSION, facts, keys]).encode()).hexdigest()


def read_last_mirror(folder: Path) -> LastMirror | None:
    try:
        return record_of(LastMirror, read_json(folder / LAST_MIRROR_FILE))
    except (OSError, DamagedFile, ValueError):
        return None


def write_last_mirror(folder: Path, last: LastMirror) -> None:
    write_json(folder / LAST_MIRROR_FILE, asdict(last))


def still_there(last: LastMirror, tracking_uri: str) -> bool:
    """Whether the study's run is in MLflow and says that all is there. False where that is uncertain."""
    if last.address != without_secrets(tracking_uri):
        return False
    if is_server(tracking_uri):
        return _digest_of_server(last, tracking_uri) == last.digest
    if tracking_uri.startswith("sqlite:///"):
        return _digest_of_sqlite(last, tracking_uri.removeprefix("sqlite:///")) == last.digest
    return False


def _digest_of_server(last: LastMirror, tracking_uri: str) -> str | None:
    """The digest that the study's run has, by MLflow's REST interface."""
    address = f"{tracking_uri.rstrip('/')}/api/2.0/mlflow/runs/get?run_id={quote(last.study_run)}"
    # An address with a user in it, and any other trouble, is left to MLflow's own client.
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        with urllib.request.urlopen(address, timeout=_ANSWER_LIMIT) as answer:
            run = json.load(answer)["run"]
        if run["info"]["lifecycle_stage"] == "active":
            return next((str(tag["value"]) for tag in run["data"]["tags"] if tag["key"] == "flipscale.digest"), None)
    return None


def _digest_of_sqlite(last: LastMirror, path: str) -> str | None:
    """The same, from MLflow's tables. It only reads; tables of another form give None."""
    question = (
        "SELECT tags.value FROM tags JOIN runs USING (run_uuid) "
        "WHERE run_uuid = ? AND key = 'flipscale.digest' AND lifecycle_stage = 'active'"
    )
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as database,
    ):
        found = database.execute(question, [last.study_run]).fetchone()
        return None if found is None else str(found[0])
    return None
