"""Bringing MLflow up to date, without even loading it, which takes some seconds, where nothing has changed.

    .mirrored   beside results.csv: what was sent, and the SQLite file that had all of it then

The file may be deleted at any time: MLflow is then asked.
"""

import contextlib
import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from flipscale.plain_files import open_file, or_none, read_json
from flipscale.run import write_json
from flipscale.track.address import is_server
from flipscale.track.source import MIRROR_VERSION, Mirrored, MirrorSource

LAST_MIRROR_FILE = ".mirrored"


@dataclass(frozen=True)
class _LastMirror:
    """What was mirrored last, and how the database was then."""

    sent: str
    """The digest of what was sent."""
    database: list[int]
    rows: int
    experiment: str


def mirror(
    source: MirrorSource,
    *,
    tracking_uri: str,
    artifact_root: Path,
    all_points: bool = False,
    models: bool = False,
    thoroughly: bool = False,
) -> Mirrored:
    """Bring the study's experiment up to date with the collected tables.

    artifact_root: where artifacts go if MLflow is a database; a server keeps them where it was told to.
    all_points: send every point of the curves, rather than a hundred of each.
    models: send the weights of each run that has some.
    thoroughly: look at every run in MLflow, even if the study's own run says that all of them are up to date.

    One mirror works at a time on an artifact_root: MLflow would let two create the same run. Runs that two mirrors on
    different machines created twice exist only once after the next one that has something to write.
    Raises FlipscaleError if MLflow cannot be reached or refuses.
    """
    artifacts, left_out = source.artifacts()
    digest = hashlib.sha256(json.dumps([MIRROR_VERSION, source.facts, all_points, models]).encode())
    for file in (source.results, source.curves, *artifacts):
        with contextlib.suppress(FileNotFoundError), open_file(file) as content:
            digest.update(file.name.encode() + b"\0" + hashlib.file_digest(content, "sha256").digest())
    sent = digest.hexdigest()
    database = Path(tracking_uri.removeprefix("sqlite:///"))
    note = source.results.with_name(LAST_MIRROR_FILE)
    if not thoroughly and tracking_uri.startswith("sqlite:///"):
        known: _LastMirror | None = or_none(read_json, note, _LastMirror)
        if known and (known.sent, known.database) == (sent, _stamp(database)):
            return Mirrored(0, 0, known.rows, known.experiment, left_out)
    from flipscale.track.experiment import bring_up_to_date

    done, refused = bring_up_to_date(
        source,
        artifacts,
        sent,
        tracking_uri,
        artifact_root,
        all_points=all_points,
        models=models,
        thoroughly=thoroughly,
    )
    if done.experiment_id is not None:
        rows = done.created + done.updated + done.unchanged
        write_json(note, vars(_LastMirror(sent, _stamp(database), rows, done.experiment_id)))
    if refused:
        outside = "its server" if is_server(tracking_uri) else artifact_root
        left_out += (f"MLflow got no artifacts: it keeps them at {refused}, outside of {outside}",)
    return replace(done, left_out=left_out)


def _stamp(file: Path) -> list[int]:
    """Size, times and inode of a file; empty if it is missing."""
    with contextlib.suppress(OSError):
        stat = file.stat()
        return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    return []
