"""The results of a study to mirror, and which files may be sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flipscale.errors import FlipscaleError

SOURCE_NAME, SOURCE_TYPE = "mlflow.source.name", "mlflow.source.type"
"""MLflow's own tags for the source of a run, which its page shows."""


@dataclass(frozen=True)
class About:
    """What is known about a study's runs beyond its table."""

    baseline: Sequence[str] = ()
    """Settings that tell the arms of a comparison apart; names begin with them."""
    runs: Path | None = None
    """The folder of run folders, for facts that have no column."""
    evaluations: Mapping[str, str] = field(default_factory=dict)
    """By the id of a run, what it is evaluated on, in words."""
    file: str = ""
    """The name of the study's file."""

    @property
    def source_tags(self) -> dict[str, str]:
        """What MLflow's page shows as the source of a run."""
        return {SOURCE_NAME: self.file, SOURCE_TYPE: "JOB"} if self.file else {}

    def user(self, run_id: str) -> str:
        """Whose the run's folder is; '' where that is not known."""
        if self.runs is None:
            return ""
        try:
            return (self.runs / run_id).owner()
        except (OSError, KeyError, NotImplementedError):
            return ""


@dataclass(frozen=True)
class MirrorSource:
    """The results of a study to mirror."""

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
    code: str = ""
    """The remark on runs whose code differs from today's. It holds nothing that every edit of the code would change, or
    everything would be sent again each time."""

    evaluations: Mapping[str, str] = field(default_factory=dict)
    """By the id of a run, what it is evaluated on, in words: MLflow tells data sets apart by it."""
    file: str = ""
    """The name of the study's file, which MLflow shows as the source of a run."""

    @property
    def about(self) -> About:
        """What is known about its runs beyond the table."""
        return About(self.baseline, self.runs, self.evaluations, self.file)

    @property
    def facts(self) -> list[object]:
        """Everything in it that is not a file, in JSON's types."""
        return [self.study, self.question, [*self.baseline], self.code, sorted(self.evaluations.items()), self.file]

    @property
    def curves(self) -> Path:
        return self.results.with_name("curves.parquet")

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
class MirrorOptions:
    """How much is sent, and how closely MLflow is looked at."""

    all_points: bool = False
    """Every point of the curves, rather than a hundred of each."""
    models: bool = False
    """The weights of each run that has some."""
    thoroughly: bool = False
    """Look at every run in MLflow, even if the study's own run says that all of them are up to date."""


def lies_in(file: Path, roots: Sequence[Path]) -> bool:
    """Whether the file, links followed, is one that lies in these folders, or is one of these files."""
    try:
        real = file.resolve(strict=True)
    except OSError:
        return False
    allowed = [root.resolve() for root in roots]
    return real.is_file() and any(real == root or root in real.parents for root in allowed)
