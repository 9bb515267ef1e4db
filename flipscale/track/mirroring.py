"""Bringing MLflow up to date, without even loading it where it has everything already."""

from dataclasses import dataclass
from pathlib import Path

from flipscale.track.address import is_server, without_secrets
from flipscale.track.last_mirror import LastMirror, fingerprint, read_last_mirror, still_there, write_last_mirror
from flipscale.track.source import MirrorOptions, MirrorSource


@dataclass(frozen=True)
class Mirrored:
    """The changes of mirroring, in runs; those of cells and of the study are not counted."""

    created: int
    """Runs that MLflow did not have."""
    updated: int
    """Runs whose row or curves had changed."""
    unchanged: int
    """Runs that were there as they are: no call was made for them."""
    experiment_id: str | None
    """The study's experiment; None where there was no row to mirror."""
    left_out: tuple[str, ...] = ()
    """Files that are not artifacts, and why."""


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
    all_points, models, thoroughly: see MirrorOptions.

    One mirror works at a time on an artifact_root: MLflow would let two create the same run. Runs that two mirrors on
    different machines created twice exist only once after the next one that has something to write.
    Raises FlipscaleError if MLflow cannot be reached or refuses.
    """
    options = MirrorOptions(all_points, models, thoroughly)
    artifacts, left_out = source.artifacts()
    to_send = fingerprint([*source.facts, all_points, models], [source.results, source.curves, *artifacts])
    folder = source.results.parent
    last = read_last_mirror(folder)
    if not thoroughly and last is not None and last.fingerprint == to_send and still_there(last, tracking_uri):
        return Mirrored(0, 0, last.rows, last.experiment_id, left_out)
    # It loads MLflow, which takes longer than all of collecting where nothing has changed.
    from flipscale.track.experiment import bring_up_to_date

    done = bring_up_to_date(source, artifacts, tracking_uri, artifact_root, options)
    if done is None:
        return Mirrored(0, 0, 0, None, left_out)
    rows = done.created + done.updated + done.unchanged
    address = without_secrets(tracking_uri)
    write_last_mirror(folder, LastMirror(to_send, address, done.experiment_id, done.study_run, done.digest, rows))
    if done.refused:
        outside = "its server" if is_server(tracking_uri) else artifact_root
        left_out += (f"MLflow got no artifacts: it keeps them at {done.refused}, outside of {outside}",)
    return Mirrored(done.created, done.updated, done.unchanged, done.experiment_id, left_out)
