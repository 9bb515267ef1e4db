"""Paths of everything: only this module knows the names of folders and files that stages hand to each other.

    Workspace().study("mask").results      results/mask/results.csv
    Workspace().run("r-0123456789")        results/runs/r-0123456789

The files inside a run's folder belong to `flipscale.run`, those inside a launcher's folder to that launcher.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

RUNS_FOLDER = "runs"
"""The folder of all runs, below the results root. Studies share it."""

LAUNCHERS = {
    "local": "flipscale.launch.local:LocalLauncher",
    "slurm": "flipscale.launch.slurm:SlurmLauncher",
    "ray": "flipscale.launch.ray:RayLauncher",
}
"""Each launcher by name, as module:class; the class takes the results folder and the site. Imported on first use. The
files of its jobs are in a folder of its name below the results root."""

RESERVED = {RUNS_FOLDER, "cache", *LAUNCHERS, "mlartifacts", "mlflow.db", "timings.json"}
"""Names below the results root that no study may have."""

RESULTS_TABLE = "results.csv"
RECORD = "results.json"
CURVES_TABLE = "curves.parquet"


def usual_results() -> Path:
    """The results root where none is named: FLIPSCALE_RESULTS, or else results/."""
    return Path(os.environ.get("FLIPSCALE_RESULTS", "results"))


USUAL_PLOTS = Path("plots")


@dataclass(frozen=True)
class StudyFiles:
    """The files of one study. None of them needs to exist."""

    folder: Path
    """Its tables: results/NAME."""
    figures: Path
    """Its figures and its page: plots/NAME."""

    @property
    def plan(self) -> Path:
        return self.folder / "plan.json"

    @property
    def results(self) -> Path:
        return self.folder / RESULTS_TABLE

    @property
    def record(self) -> Path:
        """What a reader of results.csv has to know of the study."""
        return self.folder / RECORD

    @property
    def curves(self) -> Path:
        return self.folder / CURVES_TABLE

    @property
    def fits(self) -> Path:
        return self.folder / "fits.json"

    @property
    def tune(self) -> Path:
        """What its sweep found, if it has one."""
        return self.folder / "tune.json"

    @property
    def archive(self) -> Path:
        """The finished runs of the study in one file."""
        return self.folder / "runs.tar.bz2"

    @property
    def report(self) -> Path:
        return self.figures / "report.html"

    def comparison(self, suffix: str, score: str = "") -> Path:
        """comparison.json or .md; a score other than the study's own adds its name."""
        return self.folder / (f"comparison-{score}{suffix}" if score else f"comparison{suffix}")


@dataclass(frozen=True)
class Workspace:
    """The two roots under which flipscale writes."""

    results: Path = field(default_factory=usual_results)
    plots: Path = USUAL_PLOTS

    @property
    def runs(self) -> Path:
        return self.results / RUNS_FOLDER

    def run(self, run_id: str) -> Path:
        return self.runs / run_id

    def study(self, name: str) -> StudyFiles:
        return StudyFiles(self.results / name, self.plots / name)

    def plans(self) -> list[Path]:
        """plan.json of every study that was planned here, even if it is a link that leads nowhere."""
        return sorted(path for folder in self.results.glob("*") if os.path.lexists(path := folder / "plan.json"))

    @property
    def timings(self) -> Path:
        """The measurements of probes here, at all sites. All studies share them."""
        return self.results / "timings.json"

    @property
    def cache(self) -> Path:
        """Indexes and decoded images of data sets. All runs share them."""
        return self.results / "cache"

    @classmethod
    def of_run(cls, folder: Path) -> "Workspace":
        """The workspace that a run's folder is in."""
        return cls(folder.resolve().parent.parent)

    @property
    def artifacts(self) -> Path:
        """The files that MLflow keeps of runs if its database is a file among the results."""
        return self.results / "mlartifacts"
