"""The results of a study to mirror, which files may be sent, and what came of it."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flipscale.cell import SettingLabels
from flipscale.guard import is_plain

MIRROR_VERSION = 4
"""Version of the content written into MLflow: a new one mirrors every run again."""


@dataclass(frozen=True)
class MirrorSource:
    """The results of a study to mirror."""

    study: str
    """Its name, which is the experiment's."""
    results: Path
    """results.csv, with its curves.parquet beside it, if there is one."""
    question: str = ""
    baseline: Mapping[str, object] = field(default_factory=dict)
    """The baseline's settings, as columns hold them: those that tell the arms of a comparison apart."""
    labels: SettingLabels = field(default_factory=dict)
    """The study's words for values of settings."""
    names: Mapping[str, str] = field(default_factory=dict)
    """The names of runs, by their ids."""
    files: Sequence[Path] = ()
    """Artifacts of the study's run: figures, study file, comparison."""
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
        words = [sorted(each.items()) for each in (self.names, self.evaluations)]
        return [self.study, self.question, self.code, self.file, *words]

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
        sent = [file for file in self.files if is_plain(file)]
        others = [file for file in self.files if file not in sent]
        return sent, tuple(f"{file} is not a plain file, so it is not sent to MLflow" for file in others)


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
