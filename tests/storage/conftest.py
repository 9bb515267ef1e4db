"""A study of six finished runs, two of them trained, and four children of each kind, filled as training fills them."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bench import run_folders
from flipscale.planning.runs import Plan
from flipscale.run import RunFolder, write_json

STUDY = """\
schema: 1
base: {model: ViT-w16d1-4, data: shapes, samples: 3200, batch_size: 32, warmup: 0, mask_ratio: 0.5}
axes:
  tuning: [null, 320]
  fine_tuning: [null, {samples: 320, batch_size: 32}]
seeds: 2
"""

WEIGHTS = b"weights" * 1000


class Results:
    """A results folder with the study in it."""

    def __init__(self, folder: Path, text: str = STUDY):
        self.folder = folder
        self.file = folder / "study.yaml"
        self.root = folder / "results"
        self.plan: Plan = run_folders.planned_study(folder, text)

    def fill(self) -> None:
        """Finish every run."""
        run_folders.fill(self.root, self.plan, records=5)
        for run in self.plan.runs:
            path = self.run(run.id)
            write_json(path / "hits.json", {"schema": 1, "hits": {}})
            (path / "log.txt").write_text("a log\n")
            if run.settings.fine_tuning is None:
                (path / "model.pt").write_bytes(WEIGHTS)

    def run(self, run_id: str) -> Path:
        return self.root / "runs" / run_id

    def folder_of(self, **settings: Any) -> RunFolder:
        """The folder of the first run with these settings; `tuning` and `fine_tuned` say whether it has one."""
        tuned, fine_tuned = settings.pop("tuning", False), settings.pop("fine_tuned", None)
        (run, *_) = [
            run
            for run in self.plan.runs
            if all(getattr(run.settings, name) == value for name, value in settings.items())
            and (run.settings.tuning is not None) == tuned
            and fine_tuned in (None, run.settings.fine_tuning is not None)
        ]
        return RunFolder(self.run(run.id))

    def files(self) -> Mapping[str, bytes]:
        """The content of every file below the runs, by its path."""
        runs = self.root / "runs"
        return {str(path.relative_to(runs)): path.read_bytes() for path in sorted(runs.rglob("*")) if path.is_file()}


@pytest.fixture
def here(tmp_path: Path) -> Results:
    """The study with all runs finished."""
    results = Results(tmp_path / "here")
    results.fill()
    return results


@pytest.fixture
def there(tmp_path: Path) -> Results:
    """The same study in another folder, with no run yet."""
    return Results(tmp_path / "there")


@pytest.fixture
def draw() -> random.Random:
    return random.Random(16)
