"""The results in MLflow: an experiment per study, a run for the study, one per cell, and under it one per row.

What was collected stays the record; MLflow is a view of it that can be thrown away and mirrored again. A run is
found again by its tag `flipscale.id`, and its tag `flipscale.digest` says what was mirrored of it, so collecting
twice changes nothing. Every timestamp comes from the record (docs/design.md, decision 12).

mirroring.py  bringing an experiment up to date
content.py    what is written
writing.py    how it gets there: by MLflow's client
tables.py     or into its database
noted.py      whether anything is to be done, without MLflow
address.py    where MLflow is, and what may be said of it
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flipscale.errors import FlipscaleError
from flipscale.track.address import settled, ui_command, without_secrets
from flipscale.track.noted import Note, fingerprint, is_there, read_note, write_note
from flipscale.workspace import CURVES_TABLE

__all__ = ["Mirrored", "Source", "mirror", "settled", "ui_command", "without_secrets"]


@dataclass(frozen=True)
class Mirrored:
    """What mirroring did, in runs; those of cells and of the study are not counted."""

    created: int
    """Runs that MLflow did not have."""
    updated: int
    """Runs whose row or curves had changed."""
    unchanged: int
    """Runs that were there as they are: no call was made for them."""
    experiment_id: str | None
    """The study's experiment; None where there was no row to mirror."""
    left_out: tuple[str, ...] = ()
    """Files that are no artifacts, and why."""


@dataclass(frozen=True)
class Source:
    """What is mirrored of a study."""

    study: str
    """Its name, which is the experiment's."""
    results: Path
    """results.csv, with its curves.parquet beside it, if there is one."""
    question: str = ""
    baseline: Sequence[str] = ()
    """Settings that tell the arms of a comparison apart; with the study's cell they name a cell in MLflow."""
    files: Sequence[Path] = ()
    """Artifacts of the study's run: figures, study file, comparison."""
    roots: Sequence[Path] = ()
    """Folders and files that artifacts may lie in; a link that leads out of them is not followed."""
    runs: Path | None = None
    """Run folders, for facts that have no column, and for models."""

    @property
    def curves(self) -> Path:
        return self.results.with_name(CURVES_TABLE)


def mirror(
    source: Source,
    *,
    tracking_uri: str,
    artifact_root: Path,
    all_points: bool = False,
    models: bool = False,
    thoroughly: bool = False,
) -> Mirrored:
    """Bring the study's experiment up to date with what was collected.

    artifact_root: where artifacts go if MLflow is a database; a server keeps them where it was told to.
    all_points: send every point of the curves, and not a hundred of each.
    models: send the weights of each run that has some.
    thoroughly: look at every run in MLflow, though the study's says that all of them are there as they are to be.

    One mirror works at a time on an artifact_root: MLflow would let two create the same run. What two mirrors on
    different machines made twice is there once again after the next one that has something to write.
    Raises FlipscaleError if MLflow cannot be reached or refuses.
    """
    sent, left_out = _artifacts(source)
    told = [source.study, source.question, [*source.baseline], all_points, models]
    mark = fingerprint(told, [source.results, source.curves, *sent])
    note = read_note(source.results.parent)
    if not thoroughly and note is not None and note.fingerprint == mark and is_there(note, tracking_uri):
        return Mirrored(0, 0, note.rows, note.experiment_id, left_out)
    # It loads MLflow, which takes longer than all of collecting where nothing has changed.
    from flipscale.track.mirroring import bring_up_to_date

    done, study_run, digest = bring_up_to_date(
        source,
        sent,
        tracking_uri=tracking_uri,
        artifact_root=artifact_root,
        all_points=all_points,
        models=models,
        thoroughly=thoroughly,
    )
    if done.experiment_id is not None:
        rows = done.created + done.updated + done.unchanged
        note = Note(mark, without_secrets(tracking_uri), done.experiment_id, study_run, digest, rows)
        write_note(source.results.parent, note)
    return Mirrored(done.created, done.updated, done.unchanged, done.experiment_id, left_out)


def _artifacts(source: Source) -> tuple[list[Path], tuple[str, ...]]:
    """The files that may be sent, and what is said of the others."""
    if source.study in (".", "..") or "/" in source.study or "\\" in source.study:
        raise FlipscaleError(
            f"{source.study!r} is no name for a folder of artifacts; give the study's file another name."
        )
    sent = [file for file in source.files if lies_in(file, source.roots)]
    others = [file for file in source.files if file not in sent]
    return sent, tuple(f"{file} leads out of the study's folders, so it is not sent to MLflow" for file in others)


def lies_in(file: Path, roots: Sequence[Path]) -> bool:
    """Whether the file, links followed, is one that lies in these folders, or is one of these files."""
    try:
        real = file.resolve(strict=True)
    except OSError:
        return False
    allowed = [root.resolve() for root in roots]
    return real.is_file() and any(real == root or root in real.parents for root in allowed)
