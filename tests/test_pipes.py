"""Files of data sets, weights and programs that are not plain files, too large, or damaged: no hang, a sentence."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flipscale.cli import main
from flipscale.collecting import references
from flipscale.data import captions, folder, idx, labelled, shards
from flipscale.data.views import open_image
from flipscale.errors import DamagedFile, DataError, FlipscaleError
from flipscale.run import RunFolder, lacks_weights
from tests.test_damaged_files import DEEP, patience

STUDY = """\
schema: 1
base:
  model: ViT-w16d1-4
  text_length: 16
  batch_size: 4
  samples: 8
  lr: 1e-3
"""


def read_sizes(path: Path) -> object:
    return shards.declared_counts([], str(path))


READERS: dict[str, Callable[[Path], object]] = {
    "sizes.json": read_sizes,
    "names.json": lambda path: folder.names_of_folders(("a", "b"), str(path), "pets"),
    "classes.txt": lambda path: labelled.names_in_order(str(path), "pets"),
    "captions.csv": lambda path: list(captions.rows(path, "image", "caption")),
    "captions.jsonl": lambda path: list(captions.rows(path, "image", "caption")),
    "images-idx3-ubyte.gz": lambda path: idx.array(path, idx.IMAGES),
    "references.csv": references.read_references,
}


@pytest.mark.parametrize("name", READERS)
def test_no_reader_waits_for_a_pipe_or_reads_a_folder(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    with patience(), pytest.raises(FlipscaleError, match="is a pipe, where a plain file is expected"):
        READERS[name](path)
    path.unlink()
    path.mkdir()
    with pytest.raises(FlipscaleError, match="is a folder, where a plain file is expected"):
        READERS[name](path)
    path.rmdir()
    path.symlink_to(path.name)
    with pytest.raises(FlipscaleError, match=path.name):
        READERS[name](path)


def test_a_file_of_names_that_claims_too_much_is_not_read(tmp_path: Path) -> None:
    for name in ("names.json", "classes.txt"):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, 2**40)
        with pytest.raises(DataError, match="holds 1,099,511,627,776 bytes, where at most"):
            READERS[name](tmp_path / name)


def test_a_caption_nested_too_deeply_is_none(tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").write_bytes(DEEP + b"\n")
    with pytest.raises(DataError, match=r"captions\.jsonl:1: is not JSON"):
        READERS["captions.jsonl"](tmp_path / "captions.jsonl")
    assert shards.captions_of({"json": DEEP}) == []
    with pytest.raises(ValueError, match="nested too deeply"):
        shards.caption_of(DEEP, is_json=True)


@pytest.mark.parametrize(
    "declared",
    [
        '  data: {webdataset: {urls: "0.tar", sizes: pipe.json}}\n',
        "  init: pipe.json\n",
        "  data: shapes\nevaluation: {sets: {pets: {captions: {file: pipe.csv, image: a, caption: b}}}}\n",
        "  data: shapes\nevaluation: {sets: {pets: {folder: {path: pets, classes: pipe.json}}}}\n",
    ],
)
def test_plan_check_waits_for_no_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, declared: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLIPSCALE_DATA", raising=False)
    for name in ("pipe.json", "pipe.csv"):
        os.mkfifo(name)
    Path("0.tar").write_bytes(bytes(10240))
    for name in ("a", "b"):
        Path("pets", name).mkdir(parents=True)
        Path("pets", name, "1.png").write_bytes(b"png")
    text = declared if "data:" in declared else f"{declared}  data: shapes\n"
    Path("study.yaml").write_text(STUDY + text)
    with patience():
        assert main(["plan", "study.yaml", "--check"]) == 1
    said = capsys.readouterr().err
    assert "pipe, where a plain file is expected" in said or "pipe.json is neither a file" in said


@pytest.mark.slow
def test_a_checkpoint_that_is_a_pipe_or_a_link_is_not_resumed_from(tmp_path: Path) -> None:
    from flipscale.train.trainers.builtin.training import Training

    resume: Callable[..., bool] = Training.resume
    assert not resume(None, RunFolder(tmp_path))
    os.mkfifo(tmp_path / "checkpoint.pt")
    with patience(), pytest.raises(DamagedFile, match=r"checkpoint\.pt: is a pipe"):
        resume(None, RunFolder(tmp_path))
    (tmp_path / "checkpoint.pt").unlink()
    (tmp_path / "checkpoint.pt").symlink_to(tmp_path / "other.pt")
    with pytest.raises(DamagedFile, match=r"checkpoint\.pt: is a link"):
        resume(None, RunFolder(tmp_path))


@pytest.mark.parametrize(
    "written", [b"[1]", DEEP, b'{"0.tar": 1e400}', b'{"0.tar": NaN}', b'{"0.tar": -1}', b'{"0.tar": true}', b""]
)
def test_counts_of_pairs_that_are_none_are_refused(tmp_path: Path, written: bytes) -> None:
    (tmp_path / "sizes.json").write_bytes(written)
    with pytest.raises(DataError, match=r"sizes\.json: cannot be read \(.*; write"):
        read_sizes(tmp_path / "sizes.json")


def test_images_and_weights_that_are_a_pipe_are_none(tmp_path: Path) -> None:
    for name in ("owl.png", "model.pt"):
        os.mkfifo(tmp_path / name)
    with patience(), pytest.raises(ValueError, match="it is not a plain file"):
        open_image(tmp_path / "owl.png")
    (tmp_path / "result.json").write_text("{}")
    assert lacks_weights(RunFolder(tmp_path))
