"""What run folders say of test images, and what guessing gives, recorded or declared."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flipscale.collect import chance_level, hits_of
from flipscale.data.classes import SHAPE_CLASSES, SHAPES, classes_of
from flipscale.plan import Run, plan
from flipscale.run import Hits, Result, RunFolder
from flipscale.settings import FolderSet, ShardSet
from flipscale.study import read_study
from tests.asked import settings_of
from tests.launch.contract import NO_COST

ROOT = Path(__file__).parents[1]


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


# Chance


def runs_of(**values: Any) -> list[Run]:
    settings = [settings_of(seed=seed, **values) for seed in (0, 1)]
    return [Run(f"s{one.seed}", one, (), NO_COST, None, None) for one in settings]  # type: ignore[arg-type]


def test_what_a_run_recorded_stands_before_what_is_declared(tmp_path: Path) -> None:
    runs = runs_of(data="fashion")
    assert chance_level(runs, tmp_path, "zero_shot_top1") == 0.1
    finish(tmp_path, "s1", {}, chance={"zero_shot_top1": 0.125})
    assert chance_level(runs, tmp_path, "zero_shot_top1") == 0.125
    assert chance_level(runs, tmp_path, "zero_shot_top5") == 0.5


def test_runs_of_different_chance_have_no_level_in_common(tmp_path: Path) -> None:
    runs = [*runs_of(data="fashion"), *runs_of(data="shapes")]
    assert chance_level(runs, tmp_path, "zero_shot_top1") is None


@pytest.mark.parametrize(
    ("score", "chance"),
    [
        ("zero_shot_top1", 1 / 80),
        ("zero_shot_top5", 5 / 80),
        ("linear_probe_top1", 1 / 80),
        ("image_retrieval_r10", 0.005),
        ("held_out_loss", 4.158883),
        ("final_loss", None),
        ("train_flops", None),
        ("elsewhere.zero_shot_top1", None),
    ],
)
def test_shapes_have_80_classes_2000_scenes_and_batches_of_64(tmp_path: Path, score: str, chance: float | None) -> None:
    found = chance_level(runs_of(data="shapes"), tmp_path, score)
    assert found == (None if chance is None else pytest.approx(chance, rel=1e-6))


def test_what_a_command_scores_is_not_known(tmp_path: Path) -> None:
    runs = runs_of(data="fashion", trainer={"command": ["mine"]})
    assert chance_level(runs, tmp_path, "zero_shot_top1") is None


def test_classes_are_counted_without_an_image(tmp_path: Path) -> None:
    for name in ("cat", "dog", "eel"):
        (tmp_path / "set" / name).mkdir(parents=True)
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    assert classes_of(FolderSet(str(tmp_path / "set"), None, None, None)) == 3
    assert classes_of(FolderSet(str(tmp_path / "gone"), None, None, None)) is None
    assert classes_of(ShardSet("s.tar", None, str(tmp_path / "names.txt"), None)) == 2
    assert classes_of(ShardSet("s.tar", None, str(tmp_path / "gone.txt"), None)) is None
    assert classes_of(ShardSet("s.tar", None, "imagenet", None)) == 1000
    assert classes_of(ShardSet("s.tar", None, None, None)) is None


@pytest.mark.parametrize(
    ("study", "score", "chance"),
    [
        ("fashion", "zero_shot_top1", 0.1),
        ("isoflop", "zero_shot_top1", 0.1),
        ("recipe", "zero_shot_top1", 0.1),
        ("icons", "image_retrieval_r10", None),
    ],
)
def test_without_run_folders_chance_is_known_where_the_study_declares_the_choices(
    study: str, score: str, chance: float | None
) -> None:
    runs = plan(read_study(ROOT / "studies" / f"{study}.yaml")).runs
    assert chance_level(runs, ROOT / "nowhere", score) == chance


def test_shapes_have_the_classes_that_are_drawn() -> None:
    shapes = pytest.importorskip("flipscale.data.shapes")
    assert tuple(shapes.OUTLINES) == SHAPES
    assert (len(SHAPE_CLASSES), SHAPE_CLASSES[:2], SHAPE_CLASSES[-1]) == (
        80,
        ("big red circle", "big red ring"),
        "small yellow bowtie",
    )
