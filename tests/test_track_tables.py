"""MLflow's tables are not a public interface: they are written where they are known, and elsewhere by its client."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from flipscale.track import tables
from tests.parts import need
from tests.test_track import bring, curve, empty_database, row, runs_there, table, where

__all__ = ["empty_database", "where"]  # fixtures

ROOT = Path(__file__).parents[1]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
]

SAME_CONTENT = "tests/test_track.py::test_tables_and_batches_give_the_same"


def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "install", "--quiet", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def newer_packages() -> dict[str, str] | None:
    """What pip would install today for a newer MLflow, by name; None where pip reaches no index."""
    (wanted,) = (text for text in importlib.metadata.requires("flipscale") or [] if re.match(r"mlflow\b", text))
    done = pip("--dry-run", "--upgrade", "--report", "-", wanted)
    if done.returncode:
        return None
    found = (package["metadata"] for package in json.loads(done.stdout)["install"])
    return {package["name"]: package["version"] for package in found}


def test_the_newest_mlflow_that_pip_gives_has_the_tables_that_are_known(tmp_path):
    newer = newer_packages()
    need(newer is not None, "a package index that pip can ask for the newest MLflow")
    newest = newer.get("mlflow", mlflow.__version__)
    if newer:  # Or else the tests of this session have it.
        writes_the_same(tmp_path, newer, newest)
    numbers = tuple(int(number) for number in newest.split(".")[:2])
    if numbers > tables.NEWEST:
        pytest.skip(f"MLflow {newest} has the tables that are known, but NEWEST is {tables.NEWEST}: raise it")


def writes_the_same(place: Path, newer: Mapping[str, str], newest: str) -> None:
    """With these packages in the place of those that are installed, tables and batches give the same."""
    parts = [f"{name}=={version}" for name, version in newer.items()]
    done = pip("--no-deps", "--target", str(place / "newest"), *parts)
    assert done.returncode == 0, done.stderr
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(place / "newest"), str(ROOT)])}
    version = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "import mlflow; print(mlflow.__version__)"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert version.stdout.split() == [newest]
    options = ["-q", "-p", "no:cacheprovider", "-o", "filterwarnings=default", f"--basetemp={place / 'inner'}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, SAME_CONTENT],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"MLflow {newest} has other tables than flipscale/track/tables.py:\n{done.stdout}"


def test_the_document_says_which_versions_are_known():
    oldest, newest = (".".join(map(str, version)) for version in (tables.OLDEST, tables.NEWEST))
    words = " ".join((ROOT / "docs/mlflow.md").read_text(encoding="utf-8").split())
    assert f"MLflow {oldest} to {newest}" in words


def gone(module: str) -> None:
    raise ImportError(f"No module named 'mlflow.{module}'")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("NEWEST", (3, 10), r"the tables of MLflow [\d.]+ are not known"),
        ("OLDEST", (99, 0), r"the tables of MLflow [\d.]+ are not known"),
        ("_COLUMNS_KNOWN", {"SqlTag": "key value"}, "SqlTag has other columns: run_uuid"),
        ("_COLUMNS_KNOWN", {"SqlGone": "key"}, "is built differently: .* no attribute 'SqlGone'"),
        ("_private", gone, r"is built differently: No module named 'mlflow\.store"),
    ],
)
def test_where_tables_are_not_as_known_the_client_writes(where, monkeypatch, name, value, reason):
    monkeypatch.setattr(tables, "unknown_version", lambda: "") if name.startswith("_") else None
    monkeypatch.setattr(tables, name, value)
    assert re.search(reason, tables.why_not(MlflowClient(where["tracking_uri"])))
    monkeypatch.setattr(tables.ByTables, "add", None)  # a call would fail
    done = bring(table(row("a-1"), row("a-2", seed=1)), curve("a-1"), **where)
    assert done.created == 2
    runs = runs_there(where, done)
    assert len(runs) == 4
    assert runs["a-1"].data.metrics["zero_shot_top1"] == 0.625
