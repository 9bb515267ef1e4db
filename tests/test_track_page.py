"""MLflow's own page, in a real browser: a study is there as cells, with their curves, and can be grouped by an axis."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from flipscale.study import read_study
from flipscale.track import MirrorSource, mirror, runs_page
from tests.clusters.mlflow_server import mlflow_server
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[1]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

PATIENCE_MS = 1000 * PATIENCE
"""The page is 10 MB of scripts, and other work may go on beside it."""


def test_the_page_shows_cells_and_groups_by_an_axis(tmp_path: Path, browser: Any) -> None:
    study = read_study(ROOT / "studies/fashion.yaml")
    shutil.copytree(ROOT / "results/fashion", tmp_path / "fashion")
    source = MirrorSource("fashion", tmp_path / "fashion/results.csv", study.question, study.baseline)
    store = f"sqlite:///{tmp_path}/mlflow.db"
    done = mirror(source, tracking_uri=store, artifact_root=tmp_path / "artifacts")
    with mlflow_server(tmp_path, store) as uri:
        page = browser.new_page(viewport={"width": 1600, "height": 1200})
        page.set_default_timeout(PATIENCE_MS)
        page.goto(runs_page(uri, done.experiment_id))
        page.get_by_text("Run Name", exact=True).first.wait_for()
        page.get_by_text("mask 75 %, ViT-w16d1-4, 60k pairs, 32k samples", exact=True).first.wait_for()
        page.goto(f"{runs_page(uri, done.experiment_id)}?compareRunsMode=CHART")
        page.get_by_text("train/loss", exact=True).first.wait_for()
        assert page.get_by_text(study.question).count() == 1
        page.get_by_text("Group by", exact=True).first.click()
        page.keyboard.type("mask_ratio")
        page.get_by_text("mask_ratio", exact=True).last.click()
        for value in ("0.0", "0.5", "0.75"):
            page.get_by_text(f"Group: {value}", exact=True).first.wait_for()
        page.close()
