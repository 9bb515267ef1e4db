"""Scores belong to the data that they were measured on: a set whose content changed under its name is named."""

import csv
import gzip
import html
import io
import json
import shutil
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flipscale.data import digest as digest_module
from flipscale.data.digest import digest
from flipscale.settings.declarations import CaptionSet, CommandSet, FolderSet, IdxSet, LabelledFolders, Shapes, ShardSet
from flipscale.workspace import Workspace
from tests.commands import flipscale, train

STUDY = """\
schema: 1
question: Red or blue?
base:
  {model: ViT-w16d1-4, data: shapes, samples: 640, batch_size: 32, lr: 1e-3, image_size: 28}
axes:
  mask_ratio: [0, 0.5]
baseline: {mask_ratio: 0}
seeds: 2
evaluation: {images: 16, sets: {two: {folder: {path: two}}}}
"""

WARNING = "warning: scores on 'two' were measured on other data: 4 of 4 finished runs."


def picture(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (28, 28), colour).save(file, "PNG")
    return file.getvalue()


def put_colours(root: Path, *colours: str) -> None:
    """A folder of four pictures for each colour."""
    for colour in colours:
        (root / colour).mkdir(parents=True)
        for number in range(4):
            (root / colour / f"{number}.png").write_bytes(picture(colour))


def exchange(root: Path, first: str, second: str) -> None:
    (root / first).rename(root / "other")
    (root / second).rename(root / first)
    (root / "other").rename(root / second)


def column_of(table: Path, name: str) -> list[str]:
    with table.open(newline="", encoding="utf-8") as file:
        return [row[name] for row in csv.DictReader(file)]


def lines(said: str, word: str) -> list[str]:
    return [line for line in said.splitlines() if word in line]


def test_a_set_that_is_added_after_training_is_scored_and_nothing_is_trained(tmp_path: Path) -> None:
    put_colours(tmp_path / "two", "red", "blue")
    (tmp_path / "colour.yaml").write_text(STUDY.replace(", sets: {two: {folder: {path: two}}}", ""))
    where = ("colour.yaml", "--results", "results")
    train("colour.yaml", tmp_path)
    (tmp_path / "colour.yaml").write_text(STUDY)
    said = flipscale("plan", *where, cwd=tmp_path).stdout
    assert lines(said, "4 of 4") == lines(said, '4 of 4 trained; 4 to score on "two" (about ')
    runs = sorted(Workspace(tmp_path / "results").runs.iterdir())
    kept = {path: (run / path).read_bytes() for run in runs for path in ("result.json", "metrics.jsonl", "run.json")}
    said = flipscale("submit", *where, cwd=tmp_path).stderr
    assert "submitted 4 runs to local (4 of them trained, and only scored)" in said
    assert lines(said, ": running") == lines(said, ": running, trained, to be scored")
    assert {path: (run / path).read_bytes() for run in runs for path in kept} == kept
    assert not lines(flipscale("plan", *where, cwd=tmp_path).stdout, "to score")
    flipscale("collect", *where, "--no-mlflow", cwd=tmp_path)
    first = column_of(tmp_path / "results/colour/results.csv", "two.zero_shot_top1")
    assert all(first)

    exchange(tmp_path / "two", "red", "blue")
    said = flipscale("submit", *where, cwd=tmp_path).stderr
    assert WARNING in said
    assert "submitted 4 runs to local (4 of them trained, and only scored)" in said
    flipscale("collect", *where, "--no-mlflow", cwd=tmp_path)
    again = column_of(tmp_path / "results/colour/results.csv", "two.zero_shot_top1")
    assert [float(one) + float(other) for one, other in zip(first, again, strict=True)] == [1.0] * 4

    shutil.move(tmp_path / "two", tmp_path / "moved")
    (tmp_path / "colour.yaml").write_text(STUDY.replace("path: two", "path: moved"))
    assert "submitted 0 runs, left alone 4 finished" in flipscale("submit", *where, cwd=tmp_path).stderr

    (tmp_path / "colour.yaml").write_text(STUDY.replace("two:", "three:"))
    shutil.move(tmp_path / "moved", tmp_path / "two")
    for run in runs:
        (run / "model.pt").unlink()
    said = flipscale("submit", *where, cwd=tmp_path).stderr
    assert '4 finished runs cannot be scored on "three", as the weights are not here: put each model.pt into' in said
    assert "submitted 0 runs, left alone 4 finished" in said


def test_exchanged_class_folders_are_named_by_plan_collect_and_compare(tmp_path: Path) -> None:
    put_colours(tmp_path / "two", "red", "blue")
    (tmp_path / "colour.yaml").write_text(STUDY)
    where = ("colour.yaml", "--results", "results")
    train("colour.yaml", tmp_path)
    flipscale("collect", *where, "--no-mlflow", cwd=tmp_path)
    commands = (("plan", *where), ("collect", *where, "--no-mlflow"), ("compare", *where))
    for command in commands:
        assert "other data" not in flipscale(*command, cwd=tmp_path).stderr
    table = (tmp_path / "results" / "colour" / "results.csv").read_bytes()
    exchange(tmp_path / "two", "red", "blue")
    for command in commands:
        assert flipscale(*command, cwd=tmp_path).stderr.count(WARNING) == 1
    assert (tmp_path / "results" / "colour" / "results.csv").read_bytes() == table

    exchange(tmp_path / "two", "red", "blue")
    assert "other data" not in flipscale("plan", *where, cwd=tmp_path).stderr

    # Runs of an earlier version have no digest, and sets that are not here have none either.
    shutil.move(tmp_path / "two", tmp_path / "moved")
    assert "other data" not in flipscale("plan", *where, cwd=tmp_path).stderr
    put_colours(tmp_path / "two", "red", "green")
    assert WARNING in flipscale("plan", *where, cwd=tmp_path).stderr
    for result in Workspace(tmp_path / "results").runs.glob("*/result.json"):
        written = json.loads(result.read_text())
        del written["digests"]
        result.write_text(json.dumps(written))
    assert "other data" not in flipscale("plan", *where, cwd=tmp_path).stderr


# What a digest is of


def idx(numbers: list[int], *shape: int) -> bytes:
    return struct.pack(f">I{len(shape)}I", 0x0800 | len(shape), *shape) + bytes(numbers)


def shard(labels: list[int]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for number, label in enumerate(labels):
            for name, content in ((f"{number}.png", picture("red")), (f"{number}.cls", str(label).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def folder_set(**options: Any) -> FolderSet:
    return FolderSet(path="data", classes=None, templates=None, train=None, **options)


def idx_set(*classes: str) -> IdxSet:
    return IdxSet("data/images", "data/labels", classes, None, None, None)


def shard_set(classes: str | list[str] | None = "data/names.txt") -> ShardSet:
    return ShardSet(urls="data/{0..1}.tar", name=None, classes=classes, templates=None)


CAPTIONS = CaptionSet(file="data/table.csv", image="filepath", caption="title", root=None)


def write_folder(folder: Path) -> None:
    put_colours(folder, "red", "blue")


def write_idx(folder: Path) -> None:
    folder.mkdir()
    (folder / "images").write_bytes(idx([0, 255], 2, 1, 1))
    (folder / "labels.gz").write_bytes(gzip.compress(idx([0, 1], 2)))


def write_shards(folder: Path) -> None:
    folder.mkdir()
    (folder / "names.txt").write_text("red\nblue\n")
    for number in range(2):
        (folder / f"{number}.tar").write_bytes(shard([0, 1]))


def write_table(folder: Path) -> None:
    folder.mkdir()
    (folder / "table.csv").write_text("filepath,title\na.png,a red square\n")
    (folder / "a.png").write_bytes(picture("red"))


@pytest.mark.parametrize(
    ("data", "write", "change"),
    [
        (folder_set(), write_folder, lambda folder: exchange(folder, "red", "blue")),
        (folder_set(), write_folder, lambda folder: (folder / "red").rename(folder / "rose")),
        (folder_set(), write_folder, lambda folder: (folder / "blue" / "3.png").unlink()),
        (folder_set(), write_folder, lambda folder: (folder / "blue" / "3.png").write_bytes(b"torn")),
        (LabelledFolders("train", "data", None), write_folder, lambda folder: (folder / "red" / "0.png").unlink()),
        (idx_set("no", "yes"), write_idx, lambda folder: (folder / "images").write_bytes(idx([0, 254], 2, 1, 1))),
        (idx_set("no", "yes"), write_idx, lambda folder: (folder / "labels.gz").write_bytes(gzip.compress(b"1"))),
        (shard_set(), write_shards, lambda folder: (folder / "names.txt").write_text("blue\nred\n")),
        (shard_set(), write_shards, lambda folder: (folder / "1.tar").write_bytes(shard([1, 0]))),
        (CAPTIONS, write_table, lambda folder: (folder / "table.csv").write_text("filepath,title\na.png,a box\n")),
        (CAPTIONS, write_table, lambda folder: (folder / "a.png").write_bytes(picture("red") + b"more")),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_a_digest_changes_with_the_content_of_a_set_and_not_with_its_place(
    data: Any,
    write: Callable[[Path], None],
    change: Callable[[Path], object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("data"))
    before = digest(data)
    assert before is not None
    Path("elsewhere").mkdir()
    shutil.copytree("data", "elsewhere/data")
    monkeypatch.chdir("elsewhere")
    assert digest(data) == before
    change(Path("data"))
    assert digest(data) not in (before, None)


def test_class_names_and_drawn_data_have_a_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_idx(Path("data"))
    assert digest(idx_set("no", "yes")) != digest(idx_set("yes", "no"))
    assert digest(Shapes(1.0, 0)) != digest(Shapes(0.5, 0))


def test_the_images_of_a_linear_probe_count_where_one_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(Path("data"))
    write_folder(Path("train"))
    data = FolderSet(path="data", classes=None, templates=None, train="train")
    without, with_probe = digest(data), digest(data, probe=True)
    (Path("train") / "red" / "0.png").unlink()
    assert digest(data) == without
    assert digest(data, probe=True) not in (with_probe, None)


def test_a_large_file_is_known_by_its_size_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(digest_module, "MOST_WHOLE_BYTES", 100)
    monkeypatch.setattr(digest_module, "END_BYTES", 10)
    Path("data").mkdir()
    for number in range(2):
        Path(f"data/{number}.tar").write_bytes(bytes(1000))

    def after(place: int) -> str | None:
        with open("data/1.tar", "r+b") as file:
            file.seek(place)
            file.write(b"x")
        return digest(shard_set(None))

    before = digest(shard_set(None))
    assert after(500) == before
    assert len({before, after(9), after(990)}) == 3


def test_what_cannot_be_read_here_has_no_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    elsewhere = ShardSet(urls="https://host/{0..1}.tar", name=None, classes=None, templates=None)
    command = CommandSet(arguments=["score"], scores={"cider": "higher"})
    assert [digest(data) for data in (folder_set(), idx_set("a", "b"), shard_set(), CAPTIONS)] == [None] * 4
    assert digest(elsewhere) is digest(command) is None


# What a comparison says of it


def test_a_comparison_says_by_which_evaluation_and_whether_all_runs_were_scored_on_the_same_data(
    tmp_path: Path,
) -> None:
    two = FolderSet(path=str(tmp_path / "two"), classes=None, templates=None, train=None)
    put_colours(tmp_path / "two", "red", "blue")
    (tmp_path / "old.yaml").write_text(STUDY.replace("seeds", "score: two.zero_shot_top1\nseeds"))
    old = ("old.yaml", "--results", "results")
    results = tmp_path / "results"
    train("old.yaml", tmp_path)
    flipscale("compare", *old, cwd=tmp_path)
    before = digest(two)
    entry = {
        "measure": "two",
        "what": {"set": {"folder": {}}, "images": 16},
        "digest": before,
        "runs": 4,
    }
    assert json.loads((results / "old" / "comparison.json").read_text())["scored_by"] == [entry]
    line = f'Scored on "two" (folder, 16 images at most; data {str(before)[:8]}).'
    assert (results / "old" / "comparison.md").read_text().count(line) == 1
    flipscale("report", *old, cwd=tmp_path)
    assert html.unescape((tmp_path / "plots/old/report.html").read_text()).count(line) == 1

    exchange(tmp_path / "two", "red", "blue")
    (tmp_path / "old.yaml").write_text((tmp_path / "old.yaml").read_text().replace("seeds: 2", "seeds: 3"))
    train("old.yaml", tmp_path)
    said = flipscale("compare", *old, cwd=tmp_path).stdout
    assert " ".join(said.split()).count("The runs were not all scored on the same data: 4 runs on") == 1
    scored_by = json.loads((results / "old" / "comparison.json").read_text())["scored_by"]
    assert scored_by == [entry, {**entry, "digest": digest(two), "runs": 2}]
