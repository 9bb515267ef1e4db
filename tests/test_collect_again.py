"""Collecting again: the tables are those of the folders as they are now, and stay where nothing has changed."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from flipscale.collecting.points import read_points
from flipscale.run import RunFolder
from tests.test_collect import RECORDS, RESULT, collect, planned, write_run


def tables(root: Path) -> list[bytes]:
    return [(root / "mask" / name).read_bytes() for name in ("results.csv", "curves.parquet")]


def cold(runs, root: Path) -> list[bytes]:
    """The tables as they are when everything is read."""
    shutil.rmtree(root / "mask")
    collect(runs, root, root / "mask")
    return tables(root)


@pytest.fixture
def runs(tmp_path):
    """Six finished runs, collected once."""
    made = [planned(f"r-{number}", seed=number) for number in range(6)]
    for number, run in enumerate(made):
        write_run(tmp_path, run, {**RESULT, "scores": {"zero_shot_top1": number / 8}}, RECORDS[: 2 + number % 2])
    collect(made, tmp_path, tmp_path / "mask")
    return made


def test_nothing_changed_writes_nothing(tmp_path, runs):
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "mask").iterdir()}
    found = collect(runs, tmp_path, tmp_path / "mask")
    assert (found.rows, found.changed, found.written, found.states["finished"]) == (6, 0, False, 6)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "mask").iterdir()} == before
    assert found.results["zero_shot_top1"].tolist() == [0.0, 0.125, 0.25, 0.375, 0.5, 0.625]


def test_rows_that_are_new_or_changed_are_counted(tmp_path, runs):
    (tmp_path / "runs/r-2/result.json").write_text(json.dumps({**RESULT, "scores": {"zero_shot_top1": 0.75}}))
    more = planned("r-6", seed=6)
    write_run(tmp_path, more)
    found = collect([*runs, more], tmp_path, tmp_path / "mask")
    assert (found.changed, found.new, found.written) == (2, 1, True)
    assert found.results["zero_shot_top1"].tolist()[:6] == [0.0, 0.125, 0.75, 0.375, 0.5, 0.625]
    assert tables(tmp_path) == cold([*runs, more], tmp_path)


def test_a_run_that_went_on_has_its_new_points(tmp_path, runs):
    with open(tmp_path / "runs/r-4/metrics.jsonl", "a") as file:
        file.write('{"step": 32, "samples_seen": 2048, "loss": 1.5}\n{"step": 33, "lo')
    found = collect(runs, tmp_path, tmp_path / "mask")
    assert (found.changed, found.written, found.torn_lines) == (0, True, 1)
    assert found.curves[found.curves["id"] == "r-4"]["value"].tolist()[-1] == 1.5
    assert collect(runs, tmp_path, tmp_path / "mask").torn_lines == 1
    assert tables(tmp_path) == cold(runs, tmp_path)


def test_a_deleted_folder_s_row_goes_and_comes_back(tmp_path, runs):
    shutil.move(tmp_path / "runs/r-1", tmp_path / "aside")
    found = collect(runs, tmp_path, tmp_path / "mask")
    assert (found.rows, found.states["planned"]) == (5, 1)
    assert tables(tmp_path) == cold(runs, tmp_path)
    shutil.move(tmp_path / "aside", tmp_path / "runs/r-1")
    assert collect(runs, tmp_path, tmp_path / "mask").rows == 6
    assert tables(tmp_path) == cold(runs, tmp_path)


def test_a_changed_plan_changes_rows(tmp_path, runs):
    dearer = [runs[0], replace(runs[1], cost=replace(runs[1].cost, gpu_hours=0.5)), *runs[2:]]
    found = collect(dearer, tmp_path, tmp_path / "mask")
    assert (found.changed, found.new, found.written) == (1, 0, True)
    assert found.results["gpu_hours_predicted"].tolist() == [0.25, 0.5, 0.25, 0.25, 0.25, 0.25]
    found = collect(dearer[::-1], tmp_path, tmp_path / "mask")
    assert found.results["id"].tolist() == ["r-5", "r-4", "r-3", "r-2", "r-1", "r-0"]
    assert collect(dearer[:2], tmp_path, tmp_path / "mask").rows == 2
    assert tables(tmp_path) == cold(dearer[:2], tmp_path)


@pytest.mark.parametrize("name", ["results.csv", "curves.parquet"])
@pytest.mark.parametrize("harm", ["deleted", "torn", "edited"])
def test_a_table_that_was_harmed_is_written_anew(tmp_path, runs, name, harm):
    before = tables(tmp_path)
    path = tmp_path / "mask" / name
    text = path.read_bytes()
    path.unlink()
    if harm == "torn":
        path.write_bytes(text[: len(text) // 2])
    if harm == "edited":
        path.write_bytes(text.replace(b"0.25", b"0.75") + b"\n")
    found = collect(runs, tmp_path, tmp_path / "mask")
    assert found.written
    assert tables(tmp_path) == before
    assert not collect(runs, tmp_path, tmp_path / "mask").written


@pytest.mark.parametrize("name", ["result.json", "run.json", "metrics.jsonl"])
def test_a_folder_in_place_of_a_file_is_named(tmp_path, runs, name):
    (tmp_path / "runs/r-2" / name).unlink()
    (tmp_path / "runs/r-2" / name).mkdir()
    found = collect(runs, tmp_path, tmp_path / "mask")
    assert (list(found.problems), found.rows) == (["r-2"], 5)


def test_a_number_that_is_not_finite_is_missing(tmp_path):
    run = planned("a-1")
    folder = write_run(tmp_path, run)
    (folder.path / "result.json").write_text(
        '{"scores": {"zero_shot_top1": NaN}, "steps": NaN, "final_loss": Infinity}'
    )
    found = collect([run], tmp_path, tmp_path / "mask").results
    assert found[["zero_shot_top1", "steps", "final_loss"]].isna().all().all()


# Points


def test_records_of_another_kind_are_read_as_far_as_they_are_points(tmp_path):
    """Value, samples and metric of each point; torn lines."""
    of = {
        b"": ([], 0),
        b'{"step": 1}\n': ([], 0),
        b'{"step": 1, "loss": 1, "samples": 2}\n': ([("loss", 1.0, None), ("samples", 2.0, None)], 0),
        b'{"step": 1, "loss": 1, "samples_seen": 4}\n': ([("loss", 1.0, 4.0)], 0),
        b'{"step": 1, "a": 1}\n{"step": 1, "a": 2}\n': ([("a", 2.0, None)], 0),
        b'{"step": 2, "a": 1}\n{"step": 1, "a": 2}\n': ([("a", 2.0, None), ("a", 1.0, None)], 0),
        b'{"step": 1, "a": NaN}\n{"step": 2, "a": 1e999}\n{"step": 3, "a": null}\n': ([], 0),
        b'{"step": 1, "a": true, "b": "x", "time": "y"}\n': ([], 0),
        b'{"step": 1, "scores": {"a": 1, "b": null}}\n{"step": 2, "scores": 5}\n': ([("a", 1.0, None)], 0),
        b'{"step": 1.0, "a": 3}\n{"a": 3}\n[1]\n7\n{"step": true, "a": 1}\n': ([], 5),
        b'{"step": 99999999999999999999, "a": 3}\n{"step": 1, "a": 1}\n': ([("a", 1.0, None)], 1),
        b'{"step": 1, "a": 1' + b"0" * 400 + b"}\n": ([], 0),
        b'{"step": 1, "a": 1}\r\n{"step": 2, "a": 2}': ([("a", 1.0, None), ("a", 2.0, None)], 0),
        b'{"step": 1, "a": 1}\n{"step": 2, "lo': ([("a", 1.0, None)], 1),
        b'{"step": 1, "a": "\xff"}\n{"step": 2, "a": 1}\n': ([("a", 1.0, None)], 1),
        b'{"step": 1, "x\\ud800": 1}\n{"step": 2, "a": 1}\n': ([("a", 1.0, None)], 1),
    }
    for text, (right, torn) in of.items():
        (tmp_path / "metrics.jsonl").write_bytes(text)
        found, count = read_points(RunFolder(tmp_path))
        points = [
            (point["metric"], point["value"], None if math.isnan(point["samples"]) else point["samples"])
            for point in found.to_pylist()
        ]
        assert (points, count) == (right, torn), text
