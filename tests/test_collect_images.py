"""What run folders say of test images, and what tables say of guessing."""

from pathlib import Path

import pandas as pd

from flipscale.analysis.rows import chance_level, items_of
from flipscale.data.shapes import SHAPE_CLASSES
from flipscale.run import Hits
from tests.test_collect import collect, planned, write_run


def test_a_row_says_how_many_items_each_of_its_scores_was_taken_over(tmp_path: Path) -> None:
    run = planned("a")
    folder = write_run(tmp_path, run)
    with folder.hold() as lease:
        assert lease is not None
        lease.write_hits({name: Hits("x", 8, b"\xfe") for name in ("zero_shot_top1", "not_a_score_of_the_run")})
    (row,) = collect([run], tmp_path, tmp_path / "mask").results.to_dict("records")
    assert row["items"] == "zero_shot_top1=8"


def test_a_score_has_a_number_of_items_where_all_runs_agree_on_it() -> None:
    table = pd.DataFrame({"items": ["top1=8, top5=9", "top1=8", None], "top1": [0.5, 0.6, None], "top5": 0.9})
    assert items_of(table, "top1") == 8
    assert items_of(table, "top5") is None  # One of its runs does not say.
    assert items_of(table.assign(items=["top1=8", "top1=7", None]), "top1") is None
    assert items_of(table.assign(items=[1, 2, 3]), "top1") is None


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
