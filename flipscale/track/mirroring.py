"""Bringing MLflow up to date, without even loading it, which takes some seconds, where nothing has changed.

    .mirrored   beside results.csv: what was sent, and the SQLite file that had all of it then

The file may be deleted at any time: MLflow is then asked.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from flipscale.collecting.run_folders import file_stamp
from flipscale.plain_files import or_none, read_json
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
    files = [[str(file.absolute()), file_stamp(file)] for file in (source.results, source.curves, *artifacts)]
    facts = json.dumps([MIRROR_VERSION, source.facts, all_points, models, files])
    sent, database = hashlib.sha256(facts.encode()).hexdigest(), Path(tracking_uri.removeprefix("sqlite:///"))
    note = source.results.with_name(LAST_MIRROR_FILE)
    if not thoroughly and tracking_uri.startswith("sqlite:///"):
        known: _LastMirror | None = or_none(read_json, note, _LastMirror)
        if known and (known.sent, known.database) == (sent, file_stamp(database)):
            return Mirrored(0, 0, known.rows, known.experiment, left_out)
    from flipscale.track.experiment import bring_up_to_date

    done, refused = bring_up_to_date(
        source, artifacts, tracking_uri, artifact_root, all_points=all_points, models=models, thoroughly=thoroughly
    )
    if done.experiment_id is not None:
        rows = done.created + done.updated + done.unchanged
        write_json(note, vars(_LastMirror(sent, file_stamp(database), rows, done.experiment_id)))
    if refused:
        outside = "its server" if is_server(tracking_uri) else artifact_root
        left_out += (f"MLflow got no artifacts: it keeps them at {refused}, outside of {outside}",)
    return Mirrored(done.created, done.updated, done.unchanged, done.experiment_id, left_out)
