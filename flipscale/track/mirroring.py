"""Bringing MLflow up to date, without even loading it, which takes some seconds, where nothing has changed.

    .mirrored   beside results.csv: what was sent, and the SQLite file that had all of it then

The file may be deleted at any time: MLflow is then asked.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flipscale.collect.collecting import file_stamp
from flipscale.errors import DamagedFile, FlipscaleError
from flipscale.plain_files import read_json
from flipscale.run import write_json
from flipscale.track.address import is_server

MIRROR_VERSION = 4
"""Version of the content written into MLflow: a new one mirrors every run again."""

LAST_MIRROR_FILE = ".mirrored"


@dataclass(frozen=True)
class MirrorSource:
    """The results of a study to mirror."""

    study: str
    """Its name, which is the experiment's."""
    results: Path
    """results.csv, with its curves.parquet beside it, if there is one."""
    question: str = ""
    baseline: Sequence[str] = ()
    """Settings that tell the arms of a comparison apart; names begin with them."""
    files: Sequence[Path] = ()
    """Artifacts of the study's run: figures, study file, comparison."""
    roots: Sequence[Path] = ()
    """Folders and files that artifacts may lie in; a link that leads out of them is not followed."""
    runs: Path | None = None
    """Run folders, for facts that have no column, and for models."""
    code: str = ""
    """The remark on runs whose code differs from today's. It holds nothing that every edit of the code would change, or
    everything would be sent again each time."""
    evaluations: Mapping[str, str] = field(default_factory=dict)
    """By the id of a run, what it is evaluated on, in words: MLflow tells data sets apart by it."""
    file: str = ""
    """The name of the study's file."""

    @property
    def curves(self) -> Path:
        return self.results.with_name("curves.parquet")

    @property
    def facts(self) -> list[object]:
        """Everything in it that is not a file, in JSON's types."""
        return [self.study, self.question, [*self.baseline], self.code, sorted(self.evaluations.items()), self.file]

    @property
    def source_tags(self) -> dict[str, str]:
        """What MLflow's page shows as the source of a run."""
        return {"mlflow.source.name": self.file, "mlflow.source.type": "JOB"} if self.file else {}

    def user_tag(self, run_id: str) -> dict[str, str]:
        """Whose the run's folder is, for MLflow's page; nothing where that is not known."""
        with contextlib.suppress(OSError, KeyError, NotImplementedError):
            return {"mlflow.user": (self.runs / run_id).owner()} if self.runs else {}
        return {}

    def artifacts(self) -> tuple[list[Path], tuple[str, ...]]:
        """The files that may be sent, and remarks on the others."""
        if self.study in (".", "..") or "/" in self.study or "\\" in self.study:
            raise FlipscaleError(
                f"{self.study!r} cannot name a folder of artifacts; give the study's file another name."
            )
        sent = [file for file in self.files if lies_in(file, self.roots)]
        others = [file for file in self.files if file not in sent]
        return sent, tuple(f"{file} leads out of the study's folders, so it is not sent to MLflow" for file in others)


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
        with contextlib.suppress(OSError, DamagedFile, ValueError, TypeError, KeyError):
            known = read_json(note)
            if (known["sent"], known["database"]) == (sent, file_stamp(database)):
                return Mirrored(0, 0, int(known["rows"]), str(known["experiment"]), left_out)
    from flipscale.track.experiment import bring_up_to_date

    done, refused = bring_up_to_date(
        source, artifacts, tracking_uri, artifact_root, all_points=all_points, models=models, thoroughly=thoroughly
    )
    if done.experiment_id is not None:
        rows = done.created + done.updated + done.unchanged
        there = {"database": file_stamp(database), "rows": rows, "experiment": done.experiment_id}
        write_json(note, {"sent": sent, **there})
    if refused:
        outside = "its server" if is_server(tracking_uri) else artifact_root
        left_out += (f"MLflow got no artifacts: it keeps them at {refused}, outside of {outside}",)
    return Mirrored(done.created, done.updated, done.unchanged, done.experiment_id, left_out)


def lies_in(file: Path, roots: Sequence[Path]) -> bool:
    """Whether the file, links followed, is one that lies in these folders, or is one of these files."""
    try:
        real = file.resolve(strict=True)
    except OSError:
        return False
    allowed = [root.resolve() for root in roots]
    return real.is_file() and any(real == root or root in real.parents for root in allowed)
