"""What run folders say of test images, and what tables say of guessing."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flipscale.collecting import chance_level, hits_of
from flipscale.data.shapes import SHAPE_CLASSES
from flipscale.run import Hits, Result, RunFolder
from tests.test_collect import collect, planned, write_run


def finish(results: Path, name: str, hits: dict[str, Hits], **result: Any) -> None:
    with RunFolder(results / "runs" / name).hold() as lease:
        assert lease is not None
        lease.write_hits(hits)
        lease.write_result(Result(**result))


def test_hits_are_those_of_the_runs_asked_for_and_what_has_none_is_named(tmp_path: Path) -> None:
    packed = Hits("fashion, images 9", 9, bytes([0b10110000, 0b10000000]))
    finish(tmp_path, "a", {"zero_shot_top1": packed})
    finish(tmp_path, "loss", {"zero_shot_top5": packed})
    finish(tmp_path, "old", {})
    finish(tmp_path, "torn", {})
    (tmp_path / "runs" / "torn" / "hits.json").write_text("{")
    found = hits_of(tmp_path, ["a", "loss", "old", "torn", "gone"], "zero_shot_top1")
    assert list(found.runs) == ["a"]
    assert found.runs["a"].items == "fashion, images 9"
    assert found.runs["a"].hits.dtype == np.bool_
    assert found.runs["a"].hits.tolist() == [True, False, True, True, False, False, False, False, True]
    torn = found.missing.pop("torn") if isinstance(found.missing, dict) else ""
    assert "hits.json: not JSON" in torn
    assert found.missing == {
        "loss": "its hits.json has no zero_shot_top1",
        "old": "its run folder has no hits.json",
        "gone": "its run folder is gone",
    }


def test_runs_are_paired_where_their_items_have_the_same_words_and_number(tmp_path: Path) -> None:
    for name, items, count in (("a", "x", 8), ("b", "x", 8), ("other", "y", 8), ("fewer", "x", 7)):
        finish(tmp_path, name, {"zero_shot_top1": Hits(items, count, b"\xfe")})
    runs = hits_of(tmp_path, ["a", "b", "other", "fewer"], "zero_shot_top1").runs
    pairs = {name: runs["a"].is_of_same_items(runs[name]) for name in runs}
    assert pairs == {"a": True, "b": True, "other": False, "fewer": False}


def test_a_row_says_how_many_items_each_of_its_scores_was_taken_over(tmp_path: Path) -> None:
    run = planned("a")
    folder = write_run(tmp_path, run)
    with folder.hold() as lease:
        assert lease is not None
        lease.write_hits({name: Hits("x", 8, b"\xfe") for name in ("zero_shot_top1", "not_a_score_of_the_run")})
    (row,) = collect([run], tmp_path, tmp_path / "mask").results.to_dict("records")
    assert row["items"] == "zero_shot_top1=8"


# Chance


def test_a_table_says_what_guessing_gives_for_each_score_of_its_runs() -> None:
    both = "zero_shot_top1=0.125, zero_shot_top5=0.625"
    table = pd.DataFrame({"chance": [both, both, None], "zero_shot_top1": [0.5, 0.6, None], "zero_shot_top5": 0.9})
    assert chance_level(table, "zero_shot_top1") == 0.125
    assert chance_level(table, "zero_shot_top5") is None  # One of its runs does not say.
    assert chance_level(table.assign(chance=[both, "zero_shot_top1=0.1", None]), "zero_shot_top1") is None
    assert chance_level(table.drop(columns="chance"), "zero_shot_top1") is None


def test_shapes_have_the_classes_that_are_drawn() -> None:
    assert (len(SHAPE_CLASSES), SHAPE_CLASSES[:2], SHAPE_CLASSES[-1]) == (
        80,
        ("big red circle", "big red ring"),
        "small yellow bowtie",
    )
