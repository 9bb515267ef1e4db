"""Collecting again: only what has changed is read, and what is written is what reading everything would write."""

import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flipscale.collect import points, reading
from flipscale.collect.cache import FinishedRun
from flipscale.errors import RunFolderError
from flipscale.plan import Plan
from flipscale.run import RunFolder
from tests.test_collect import RECORDS, RESULT, collect, planned, write_run

OPENED: list[str] = []
"""Files opened by any library since it was last emptied: an audit hook sees every one."""


def _note(event, arguments):
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        OPENED.append(os.fsdecode(arguments[0]))


sys.addaudithook(_note)


def opened_by_collect(runs, root: Path):
    """What collect found, and the files of run folders that it opened, as ID/FILE."""
    OPENED.clear()
    found = collect(runs, root, root / "mask")
    inside = [Path(path) for path in OPENED if "runs" in Path(path).parts]
    return found, sorted(f"{path.parent.name}/{path.name}" for path in inside)


def tables(root: Path) -> list[bytes]:
    return [(root / "mask" / name).read_bytes() for name in ("results.csv", "curves.parquet")]


def cold(runs, root: Path) -> list[bytes]:
    """The tables as they are when everything is read."""
    shutil.rmtree(root / "mask")
    collect(runs, root, root / "mask")
    return tables(root)


def settle():
    """Let a file system's clock tick: a file that is newer is not trusted to show its next write."""
    time.sleep(0.08)


@pytest.fixture
def runs(tmp_path):
    """Six finished runs, collected once, and settled."""
    made = [planned(f"r-{number}", seed=number) for number in range(6)]
    for number, run in enumerate(made):
        write_run(tmp_path, run, {**RESULT, "scores": {"zero_shot_top1": number / 8}}, RECORDS[: 2 + number % 2])
    settle()
    collect(made, tmp_path, tmp_path / "mask")
    return made


def test_an_audit_hook_sees_what_is_read(tmp_path, runs):
    (tmp_path / "mask" / ".collected").unlink()
    _, opened = opened_by_collect(runs, tmp_path)
    assert opened == sorted(f"r-{n}/{name}" for n in range(6) for name in ("metrics.jsonl", "result.json", "run.json"))


def test_nothing_changed_opens_no_file_of_a_run_and_writes_nothing(tmp_path, runs):
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "mask").iterdir()}
    found, opened = opened_by_collect(runs, tmp_path)
    assert opened == []
    assert (found.rows, found.read, found.written, found.states["finished"]) == (6, 0, False, 6)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "mask").iterdir()} == before
    assert found.results["zero_shot_top1"].tolist() == [0.0, 0.125, 0.25, 0.375, 0.5, 0.625]


def test_nothing_changed_loads_no_pandas(tmp_path, runs):
    (tmp_path / "plan.pickle").write_bytes(pickle.dumps(Plan("mask", tuple(runs), {})))
    script = (
        "import pickle, sys; from pathlib import Path; from flipscale.collect import collect\n"
        "found = collect(pickle.loads(Path('plan.pickle').read_bytes()), Path('.'), Path('mask'))\n"
        "print(found.rows, found.written, sorted({'pandas', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "6 False []"


def test_a_changed_folder_alone_is_read_again(tmp_path, runs):
    (tmp_path / "runs/r-2/result.json").write_text(json.dumps({**RESULT, "scores": {"zero_shot_top1": 0.75}}))
    found, opened = opened_by_collect(runs, tmp_path)
    assert opened == ["r-2/metrics.jsonl", "r-2/result.json", "r-2/run.json"]
    assert (found.read, found.written) == (1, True)
    assert found.results["zero_shot_top1"].tolist() == [0.0, 0.125, 0.75, 0.375, 0.5, 0.625]
    assert tables(tmp_path) == cold(runs, tmp_path)


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path, runs):
    path = tmp_path / "runs/r-2/result.json"
    stat = path.stat()
    text = path.read_text()
    assert "0.25" in text
    with open(path, "r+") as file:  # in place, so the inode stays as well
        file.write(text.replace('"zero_shot_top1": 0.25', '"zero_shot_top1": 0.75'))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns, path.stat().st_ino) == (
        stat.st_size,
        stat.st_mtime_ns,
        stat.st_ino,
    )
    found = collect(runs, tmp_path, tmp_path / "mask")
    assert found.results["zero_shot_top1"][2] == 0.75


def test_a_file_as_new_as_the_reading_of_it_is_read_again(tmp_path):
    """Its next write could come within the same tick of the file system's clock, and would not show."""
    run = planned("a-1")
    folder = write_run(tmp_path, run)
    future = time.time_ns() + 10**9
    os.utime(folder.path / "metrics.jsonl", ns=(future, future))
    for _ in range(2):
        found = collect([run], tmp_path, tmp_path / "mask")
        assert (found.read, found.written) == (1, True)


def test_a_run_that_went_on_is_read_again(tmp_path, runs):
    with open(tmp_path / "runs/r-4/metrics.jsonl", "a") as file:
        file.write('{"step": 32, "samples_seen": 2048, "loss": 1.5}\n{"step": 33, "lo')
    found, opened = opened_by_collect(runs, tmp_path)
    assert {path.partition("/")[0] for path in opened} == {"r-4"}
    assert found.torn_lines == 1
    assert found.curves[found.curves["id"] == "r-4"]["value"].tolist()[-1] == 1.5
    assert collect(runs, tmp_path, tmp_path / "mask").torn_lines == 1
    assert tables(tmp_path) == cold(runs, tmp_path)


def test_a_deleted_folder_s_row_goes_and_comes_back(tmp_path, runs):
    shutil.move(tmp_path / "runs/r-1", tmp_path / "aside")
    found, opened = opened_by_collect(runs, tmp_path)
    assert (found.rows, found.states["planned"], opened) == (5, 1, [])
    assert tables(tmp_path) == cold(runs, tmp_path)
    shutil.move(tmp_path / "aside", tmp_path / "runs/r-1")
    assert collect(runs, tmp_path, tmp_path / "mask").rows == 6
    assert tables(tmp_path) == cold(runs, tmp_path)


def test_folders_that_changed_names_are_foreign_both(tmp_path, runs):
    (tmp_path / "runs/r-0").rename(tmp_path / "runs/aside")
    (tmp_path / "runs/r-1").rename(tmp_path / "runs/r-0")
    (tmp_path / "runs/aside").rename(tmp_path / "runs/r-1")
    found = collect(runs, tmp_path, tmp_path / "mask")
    assert set(found.problems) == {"r-0", "r-1"}
    assert found.states["unreadable"] == 2
    assert tables(tmp_path) == cold(runs, tmp_path)


def test_a_replaced_folder_is_read_again(tmp_path, runs):
    """A copy of it with all its times, as tar and rsync make one."""
    shutil.copytree(tmp_path / "runs/r-3", tmp_path / "runs/copy")
    shutil.rmtree(tmp_path / "runs/r-3")
    (tmp_path / "runs/copy").rename(tmp_path / "runs/r-3")
    _, opened = opened_by_collect(runs, tmp_path)
    assert {path.partition("/")[0] for path in opened} == {"r-3"}


def test_a_changed_plan_reads_what_it_changes(tmp_path, runs):
    dearer = [runs[0], replace(runs[1], cost=replace(runs[1].cost, gpu_hours=0.5)), *runs[2:]]
    found, opened = opened_by_collect(dearer, tmp_path)
    assert {path.partition("/")[0] for path in opened} == {"r-1"}
    assert found.results["gpu_hours_predicted"].tolist() == [0.25, 0.5, 0.25, 0.25, 0.25, 0.25]
    found, opened = opened_by_collect(dearer[::-1], tmp_path)
    assert opened == []
    assert found.results["id"].tolist() == ["r-5", "r-4", "r-3", "r-2", "r-1", "r-0"]
    assert tables(tmp_path) == cold(dearer[::-1], tmp_path)
    found, opened = opened_by_collect(dearer[:2], tmp_path)
    assert (found.rows, opened) == (2, [])
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


@pytest.mark.parametrize("harm", ["deleted", "torn", "edited", "foreign", "pipe", "sparse"])
def test_what_was_read_before_is_not_believed_if_it_was_harmed(tmp_path, runs, harm):
    path = tmp_path / "mask" / ".collected"
    text = path.read_bytes()
    path.unlink()
    if harm == "torn":
        path.write_bytes(text[: text.rindex(b"\n", 0, -1) + 1])
    if harm == "edited":
        assert b'"zero_shot_top1":"0.25"' in text
        path.write_bytes(text.replace(b'"zero_shot_top1":"0.25"', b'"zero_shot_top1":"0.75"'))
    if harm == "foreign":
        path.write_bytes(b'{"a": 1}\n')
    if harm == "pipe":
        os.mkfifo(path)
    if harm == "sparse":
        with open(path, "wb") as file:
            file.truncate(200 * 2**30)
    (tmp_path / "runs/r-5/result.json").write_text(json.dumps({**RESULT, "scores": {"zero_shot_top1": 0.875}}))
    found = collect(runs, tmp_path, tmp_path / "mask")
    assert found.read == 6
    assert found.results["zero_shot_top1"].tolist() == [0.0, 0.125, 0.25, 0.375, 0.5, 0.875]


def test_problems_and_unknown_scores_are_said_again(tmp_path, runs):
    (tmp_path / "runs/r-2/result.json").write_text('{"scores"')
    (tmp_path / "runs/r-3/result.json").write_text(json.dumps({**RESULT, "scores": {"my_score": 1.0}}))
    settle()
    first = collect(runs, tmp_path, tmp_path / "mask")
    second, opened = opened_by_collect(runs, tmp_path)
    assert (second.written, opened) == (False, [])
    assert set(first.problems) == {"r-2"}
    assert first.unknown_scores == ("my_score",)
    assert (second.problems, second.states, second.unknown_scores) == (
        first.problems,
        first.states,
        first.unknown_scores,
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("result.json", b"\xff\xfe"),
        ("result.json", b"[" * 100_000),
        ("result.json", b"[1, 2]"),
        ("result.json", b'{"scores": [1]}'),
        ("result.json", b'{"parent": 3}'),
        ("result.json", b'{"train_seconds": 1' + b"0" * 400 + b"}"),
        ("result.json", b'{"params": 1e300}'),
        ("result.json", b'{"device": "a\\nb"}'),
        ("run.json", b""),
        ("run.json", b'{"settings": 3}'),
        ("run.json", b"not mine"),
    ],
)
def test_whatever_a_foreign_file_holds_it_is_named(tmp_path, runs, name, text):
    (tmp_path / "runs/r-2" / name).write_bytes(text)
    found = collect(runs, tmp_path, tmp_path / "mask")
    assert list(found.problems) == ["r-2"]
    assert (found.rows, found.states["finished"], found.states["unreadable"]) == (5, 5, 1)
    assert "r-2" in found.problems["r-2"]


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


def as_they_are(folder: Path, text: bytes):
    folder.mkdir(exist_ok=True)
    (folder / "metrics.jsonl").write_bytes(text)
    return RunFolder(folder)


def same(one: points.CurvePoints, other: points.CurvePoints) -> bool:
    facts = all(np.array_equal(one.each(name), other.each(name), equal_nan=True) for name in ("step", *points.FACTS))
    return facts and one.values.tolist() == other.values.tolist() and named(one) == named(other)


def named(curve: points.CurvePoints) -> list[str]:
    """The metric of each point."""
    return [curve.metrics[code] for code in curve.metric]


ODD = [
    b"",
    b"\n\n",
    b'{"step": 1}\n',
    b'{"step": 1, "loss": 1, "samples_seen": 2}\n{"step": 2, "loss": 0.5, "samples_seen": 4}\n',
    b'{"step": 1, "loss": 1, "samples_seen": 2}\n{"step": 2, "loss": 0.5, "samples_seen": 4}\n',
    b'{"step": 1, "loss": 1, "samples_seen": 2}\n{"step": 1, "loss": 0.5, "samples_seen": 2}\n',
    b'{"step": 1, "scores": {"a": 1, "samples_seen": 2}, "samples_seen": 4}\n',
    b'{"step": 1, "loss": 1}\n{"step": 1, "loss": 2}\n',
    b'{"step": 2, "loss": 1}\n{"step": 1, "loss": 2}\n',
    b'{"step": 1, "a": 1, "b": 2}\n{"step": 1, "b": 3, "a": 4}\n',
    b'{"step": 1, "a": 1}\n{"step": 1, "b": 2}\n{"step": 1, "a": 3}\n',
    b'{"step": 1, "loss": null}\n{"step": 2, "loss": 2}\n',
    b'{"step": 1, "loss": NaN}\n{"step": 2, "loss": 1e999}\n{"step": 3, "loss": 1}\n',
    b'{"step": 1, "loss": true, "name": "x", "seconds": "y", "time": null}\n',
    b'{"step": 1, "scores": {"a": 1, "b": null}}\n{"step": 2, "scores": {"b": 2}}\n{"step": 2, "scores": 5}\n',
    b'{"step": 1, "loss": 3, "scores": {"loss": 1, "time": 2}}\n',
    b'{"step": 1, "scores": {"a": 1, "b": 2}}\n{"step": 2, "scores": {"b": 3, "a": 4}}\n',
    b'{"step": 1.0, "loss": 3}\n{"loss": 3}\n[1]\n7\n{"step": true, "loss": 1}\n',
    b'{"step": 1, "loss": 3},{"step": 2, "loss": 3}\n{"step": 3,\n"loss": 3}\n',
    b'{"step": 99999999999999999999, "loss": 3}\n{"step": 1, "loss": 99999999999999999999}\n',
    b'{"step": 1, "loss": 1' + b"0" * 400 + b"}\n",
    b'{"step": 1, "loss": 1}\r\n{"step": 2, "loss": 2}',
    b'{"step": 1, "loss": 1}\n{"step": 2, "lo',
    b'{"step": 1, "loss": "\xff"}\n{"step": 2, "loss": 1}\n',
    b'{"step": 1, "x\\ud800": 1}\n{"step": 2, "loss": 1}\n',
]


@pytest.mark.parametrize("text", ODD)
def test_columns_and_records_give_the_same_points(tmp_path, text):
    folder = as_they_are(tmp_path / "a", text)
    found, torn = points.read_points(folder)
    right, torn_right = points.points_by_records(folder)
    assert same(found, right)
    assert torn == torn_right


def test_columns_and_records_agree_on_files_drawn_at_random(tmp_path):
    draw = random.Random(0)
    texts = [*ODD, *ODD]
    known = ["loss", "lr", "samples", "samples_seen", "time", "seconds", "evaluation_seconds"]
    for _ in range(400):
        lines, step = [], 0
        for _ in range(draw.randrange(6)):
            step += draw.choice([0, 1, 1, 1, 1, -1] if draw.random() < 0.3 else [1])
            keys = draw.sample(known, draw.choice([2, 2, 4]))
            record = {"step": step} | {key: draw.choice([1, 0.5, -2.0, 3e-7]) for key in keys}
            if draw.random() < 0.3:
                record["scores"] = {name: draw.random() for name in draw.sample(["a", "b", "loss"], 2)}
            lines.append(json.dumps(record))
        texts.append("\n".join(lines).encode())
    draw.shuffle(texts)
    by_columns = 0
    while texts:
        together = [texts.pop() for _ in range(min(len(texts), draw.choice([1, 2, 5, 25])))]
        for text, quick in zip(together, points.quick_points(together), strict=True):
            right, torn = points.points_by_records(as_they_are(tmp_path / "a", text))
            assert quick is None or (same(quick, right) and torn == 0), text.decode(errors="replace")
            by_columns += quick is not None
    assert by_columns > 100


def test_what_training_writes_is_read_by_columns(tmp_path, runs):
    for run in runs:
        text = (tmp_path / "runs" / run.id / "metrics.jsonl").read_bytes()
        assert points.quick_points([text]) != [None]


def test_points_of_many_row_groups_are_taken_from_before(tmp_path, monkeypatch):
    monkeypatch.setattr("flipscale.collect.curves.RUNS_IN_A_GROUP", 2)
    made = [planned(f"r-{number}", seed=number) for number in range(7)]
    for number, run in enumerate(made):
        record = {"step": 1, "samples_seen": 64, f"metric{number % 3}": number / 7, "loss": 0.1}
        write_run(tmp_path, run, records=[record] * (number != 3))
    settle()
    first = collect(made, tmp_path, tmp_path / "mask")
    assert first.curves["metric"].cat.categories.tolist() == ["loss", "metric0", "metric1", "metric2"]
    assert first.curves["id"].cat.categories.tolist() == [f"r-{number}" for number in range(7)]
    found, opened = opened_by_collect(made[::-2], tmp_path)
    assert (found.rows, opened) == (4, [])
    assert tables(tmp_path) == cold(made[::-2], tmp_path)


@pytest.fixture
def two_readers(monkeypatch):
    """Two processes read, however few runs there are, and two runs at a time."""
    monkeypatch.setattr(reading, "MANY_TO_READ", 1)
    monkeypatch.setattr(reading, "_RUNS_A_TASK", 2)


def test_two_readers_write_the_bytes_of_one(tmp_path, runs, two_readers):
    by_one = tables(tmp_path)
    shutil.rmtree(tmp_path / "mask")
    found, opened = opened_by_collect(runs, tmp_path)
    assert opened == [], "this process reads nothing"
    assert (found.read, found.rows) == (6, 6)
    assert tables(tmp_path) == by_one


def test_two_readers_read_what_has_changed_alone(tmp_path, runs, two_readers):
    for name, score in (("r-1", 0.625), ("r-4", 0.875)):
        (tmp_path / f"runs/{name}/result.json").write_text(json.dumps({**RESULT, "scores": {"zero_shot_top1": score}}))
    found, _ = opened_by_collect(runs, tmp_path)
    assert found.read == 2
    assert found.results["zero_shot_top1"].tolist() == [0.0, 0.625, 0.25, 0.375, 0.875, 0.625]
    assert tables(tmp_path) == cold(runs, tmp_path)


@pytest.mark.parametrize("runs_a_task", [1, 3, 25])
def test_bytes_do_not_depend_on_which_runs_are_read_together(tmp_path, monkeypatch, two_readers, runs_a_task):
    monkeypatch.setattr("flipscale.collect.curves.RUNS_IN_A_GROUP", 2)
    made = [planned(f"r-{number}", seed=number) for number in range(7)]
    for number, run in enumerate(made):
        metric = {"loss": "nan" if number == 2 else 0.1, f"metric{number}": number / 7}
        write_run(tmp_path, run, records=[{"step": 1, **metric}] * (number != 3))
    (tmp_path / "runs/r-4/run.json").write_text("{}")
    alone = collect(made, tmp_path, tmp_path / "mask")
    assert (alone.rows, list(alone.problems)) == (6, ["r-4"])
    by_two = tables(tmp_path)
    monkeypatch.setattr(reading, "MANY_TO_READ", 1000)
    monkeypatch.setattr(reading, "_RUNS_A_TASK", runs_a_task)
    assert cold(made, tmp_path) == by_two


def test_large_files_are_not_in_memory_together(monkeypatch):
    monkeypatch.setattr(reading, "_RUNS_A_TASK", 3)
    monkeypatch.setattr(reading, "_BYTES_A_TASK", 100)
    sizes = [1, 2, 3, 4, 500, None, 99, 1, 1]
    looks = [("r", FinishedRun("", [None, None, None if size is None else [size, 0, 0, 0]])) for size in sizes]
    assert [sizes[task] for task in reading._tasks(looks)] == [[1, 2, 3], [4, 500], [None, 99, 1], [1]]


def test_two_readers_name_what_they_cannot_read(tmp_path, runs, two_readers):
    (tmp_path / "runs/r-2/result.json").write_text('{"scores"')
    found = collect(runs, tmp_path, tmp_path / "mask")
    assert list(found.problems) == ["r-2"]
    (tmp_path / "runs/r-3/result.json").write_text('{"schema": 99}')
    with pytest.raises(RunFolderError, match="newer than this flipscale"):
        collect(runs, tmp_path, tmp_path / "mask")


def test_curves_are_written_without_pandas(tmp_path):
    """To import it takes as long as to read 150 runs."""
    code = (
        "import sys; from pathlib import Path; from flipscale.collect.curves import write_curves\n"
        "from flipscale.collect.points import NO_POINTS\n"
        "write_curves(Path(sys.argv[1]), iter([('run', NO_POINTS)]))\n"
        "raise SystemExit('pandas' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "curves.parquet")], check=True)
