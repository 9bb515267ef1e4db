"""Means over named sets, and what a program measured: from result.json to results.csv, and what guessing gives."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flipscale.analysis.rows import chance_level
from flipscale.planning.identity import run_id
from flipscale.planning.runs import Run
from flipscale.scores import is_score
from tests.test_collect import RESULT, SETTINGS_OF_A, collect, planned, write_run

SETS: dict[str, Any] = {
    "pets": {"folder": {"path": "pets", "metric": "mean_per_class"}},
    "digits": {"idx": {"images": "i", "labels": "l", "classes": ["no", "yes"], "metric": "roc_auc"}},
    "vqa": {"command": {"arguments": ["x"], "scores": {"accuracy": "higher", "cider": "higher"}}},
}
SCORES = {
    "pets.mean_per_class": 0.3,
    "pets.zero_shot_top1": 0.1,
    "digits.roc_auc": 0.6,
    "vqa.accuracy": 0.9,
    "vqa.cider": 1.2,
}


def run_of(name: str, means: Any, **changes: Any) -> Run:
    return planned(name, evaluation={**SETTINGS_OF_A["evaluation"], "sets": SETS, "means": means}, **changes)


def scored(root: Path, run: Run, scores: Any, **more: Any) -> None:
    write_run(root, run, {**RESULT, "scores": scores, **more})


def test_a_mean_is_of_each_sets_own_metric(tmp_path: Path) -> None:
    run = run_of("a", {"vtab": ["pets", "digits"], "all": ["pets.zero_shot_top1", "vqa.accuracy"]})
    scored(tmp_path, run, SCORES)
    found = collect([run], tmp_path, tmp_path / "mask")
    (row,) = found.results.to_dict("records")
    assert row["vtab.mean"] == pytest.approx(0.45)
    assert row["all.mean"] == pytest.approx(0.5)
    assert {name: row[name] for name in SCORES} == SCORES
    assert all(found.results[name].dtype == "float64" and is_score(name) for name in (*SCORES, "vtab.mean"))
    assert found.unknown_scores == ()


@pytest.mark.parametrize("digits", [{}, {"digits.roc_auc": None}])
def test_a_mean_of_which_a_set_is_missing_is_missing(tmp_path: Path, digits: Any) -> None:
    run = run_of("a", {"vtab": ["pets", "digits"], "some": ["pets"]})
    scored(tmp_path, run, {"pets.mean_per_class": 0.3, **digits})
    (row,) = collect([run], tmp_path, tmp_path / "mask").results.to_dict("records")
    assert pd.isna(row["vtab.mean"])
    assert row["some.mean"] == 0.3


def test_a_mean_that_is_added_later_is_of_runs_that_are_over(tmp_path: Path) -> None:
    before, after = run_of("a", {}), run_of("a", {"vtab": ["pets", "digits"]})
    assert run_id(before.settings) == run_id(after.settings)
    scored(tmp_path, before, SCORES)
    assert "vtab.mean" not in collect([before], tmp_path, tmp_path / "mask").results
    assert collect([after], tmp_path, tmp_path / "mask").results["vtab.mean"].item() == pytest.approx(0.45)


def test_a_programs_score_that_the_study_does_not_declare_has_no_column(tmp_path: Path) -> None:
    run = run_of("a", {})
    scored(tmp_path, run, {"vqa.spice": 1.0, "open_clip.clip_val_loss": 2.0})
    found = collect([run], tmp_path, tmp_path / "mask")
    assert found.unknown_scores == ("open_clip.clip_val_loss", "vqa.spice")
    assert "vqa.spice" not in found.results


def test_guessing_gives_a_mean_the_mean_of_what_it_gives_each_set(tmp_path: Path) -> None:
    run = run_of("a", {"vtab": ["pets", "digits"], "all": ["pets", "vqa.accuracy"]})
    chance = {"pets.mean_per_class": 0.1, "digits.roc_auc": 0.5}
    scored(tmp_path, run, SCORES, chance=chance)
    table = collect([run], tmp_path, tmp_path / "mask").results
    levels = {name: chance_level(table, name) for name in ("vtab.mean", "all.mean", "vqa.accuracy")}
    assert levels == {"vtab.mean": pytest.approx(0.3), "all.mean": None, "vqa.accuracy": None}
    scored(tmp_path, run, SCORES, chance=chance | {"vqa.accuracy": 0.2})
    table = collect([run], tmp_path, tmp_path / "mask").results
    assert chance_level(table, "all.mean") == pytest.approx(0.15)


def test_a_result_of_before_has_no_means(tmp_path: Path) -> None:
    run = planned("a")
    write_run(tmp_path, run)
    asked = json.loads((tmp_path / "runs" / "a" / "run.json").read_text())
    assert asked["settings"]["evaluation"].pop("means") == {}
    (tmp_path / "runs" / "a" / "run.json").write_text(json.dumps(asked))
    assert collect([run], tmp_path, tmp_path / "mask").problems == {}
