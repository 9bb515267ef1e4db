"""What runs read is looked at before they start: by `plan --check`, and by a local `submit` by itself."""

import gzip
import io
import json
import struct
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from open_clip.constants import IMAGENET_MEAN, IMAGENET_STD, OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from webdataset.gopen import gopen_schemes

from flipscale.cli import main
from flipscale.data import shards
from flipscale.data.check import Checked, check
from flipscale.data.shards import SCHEMES
from flipscale.planning.runs import plan
from flipscale.settings.declarations import NORMALIZATIONS
from flipscale.study import read_study

BASE = """\
schema: 1
question: Is everything there?
base:
  model: ViT-w16d1-4
  text_length: 16
  batch_size: 4
  lr: 1e-3
"""
AXES = """\
axes:
  samples: [8, 16]
  mask_ratio: [0, 0.5]
"""

IMAGE = b"\xff\xd8 an image, as far as anybody looks"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("FLIPSCALE_DATA", "FLIPSCALE_FASHION", "FLIPSCALE_RESULTS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def shard(path: str, files: Mapping[str, bytes] | None = None, pairs: int = 4) -> Path:
    """A tar file of these files, or of pairs."""
    if files is None:
        files = {f"{n:03}.{e}": d for n in range(pairs) for e, d in (("jpg", IMAGE), ("txt", b"an owl"))}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return Path(path)


def idx_file(name: str, *shape: int, data: bytes) -> None:
    head = struct.pack(f">I{len(shape)}I", 0x0800 + len(shape), *shape)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(gzip.compress(head + data) if name.endswith(".gz") else head + data)


def study(base: str = "", rest: str = "", axes: str = AXES) -> Path:
    Path("study.yaml").write_text(BASE + base + axes + rest)
    return Path("study.yaml")


def checked(base: str = "", rest: str = "", axes: str = AXES, on_gpu: bool = False) -> Checked:
    read = read_study(study(base, rest, axes))
    return check(read, plan(read).runs, on_gpu=on_gpu)


def problem(base: str = "", rest: str = "", axes: str = AXES) -> str:
    """The one problem there is."""
    (only,) = checked(base, rest, axes).problems
    return only


SHARDS = '  data: {webdataset: "shards/{00000..00002}.tar"}\n'


# Shards


def test_shards_that_are_there_and_hold_pairs_are_no_problem() -> None:
    for number in range(3):
        shard(f"shards/{number:05}.tar")
    found = checked(SHARDS)
    assert found.problems == ()
    assert found.looked_at == {"data_sets": 1, "shards": 3, "shards_opened": 2}
    assert str(found) == "checked 1 data set, 3 shards, 2 of them opened."


def test_missing_shards_are_told_once_for_all_runs_with_the_line_of_the_study() -> None:
    shard("shards/00001.tar")
    assert problem(SHARDS) == (
        f"study.yaml:8: data: {Path('shards/00000.tar').resolve()}: there is no such shard; 2 of the 3 that "
        "shards/{00000..00002}.tar stands for are missing. Correct urls, fetch them, or set FLIPSCALE_DATA to the "
        "folder that urls start from."
    )


def test_shards_start_from_flipscale_data(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        shard(f"far/shards/{number:05}.tar")
    monkeypatch.setenv("FLIPSCALE_DATA", str(here / "far"))
    assert checked(SHARDS).problems == ()


@pytest.mark.parametrize("kept", [0, 700, 1024, 4608, 8192])
def test_a_torn_shard_is_a_problem(kept: int) -> None:
    for number in range(3):
        path = shard(f"shards/{number:05}.tar")
    path.write_bytes(path.read_bytes()[:kept])
    assert "shards/00002.tar: " in (told := problem(SHARDS))
    assert any(words in told for words in ("not a whole tar file", "cut off or damaged"))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.jpg": IMAGE, "b.jpg": IMAGE}, "a pair of an image and a caption: a has .jpg. Name shards whose"),
        ({"a.txt": b"an owl"}, "a pair of an image and a caption: a has .txt."),
        ({"a.jpg": IMAGE, "a.txt": b" \n"}, "a pair of an image and a caption"),
        ({"a.jpg": IMAGE, "a.json": b'{"key": 1}'}, "a pair of an image and a caption"),
        ({}, "a pair of an image and a caption: it has none"),
    ],
)
def test_a_shard_without_pairs_is_a_problem(files: dict[str, bytes], words: str) -> None:
    shard("0.tar", files)
    told = problem('  data: {webdataset: "0.tar"}\n')
    assert told.startswith("study.yaml:8: data: 0.tar: none of its first samples is")
    assert words in told


def test_captions_in_json_files_count() -> None:
    shard("0.tar", {f"{n}.{e}": d for n in "abcd" for e, d in (("png", IMAGE), ("json", b'{"caption": "an owl"}'))})
    assert checked('  data: {webdataset: "0.tar"}\n').problems == ()


def test_what_would_have_to_be_fetched_is_left_alone_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    shard("0.tar")
    found = checked('  data: {webdataset: "0.tar::https://host/{0..9}.tar::pipe:touch run.txt"}\n')
    assert found.problems == ()
    assert str(found).endswith("Not checked: https://host/0.tar and 10 more, fetched when a run starts.")
    assert not Path("run.txt").exists()
    assert "cannot be fetched" in problem('  data: {webdataset: "htps://host/{0..9}.tar"}\n')


def test_the_schemes_of_urls_are_those_that_webdataset_knows() -> None:
    assert {"pipe", "s3", *gopen_schemes} - {"__default__"} == set(SCHEMES)


def test_declared_pairs_are_held_against_data_size_and_batch() -> None:
    for number in range(3):
        shard(f"shards/{number:05}.tar")
    sizes = Path("shards/sizes.json")
    sizes.write_text(json.dumps({f"{number:05}.tar": 1 for number in range(3)}))
    assert "data_size is 6, but its 3 shards hold 3 pairs; lower" in problem(SHARDS + "  data_size: 6\n")
    assert "study.yaml:6: batch_size: shards/{00000..00002}.tar has 3 pairs, less than one batch" in problem(SHARDS)
    sizes.write_text("[]")
    assert "sizes.json: cannot be read" in problem(SHARDS)


def test_pairs_that_nobody_has_declared_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        shard(f"shards/{number:05}.tar", pairs=1)
    assert "study.yaml:6: batch_size: shards/{00000..00002}.tar has 3 pairs, less than one batch" in problem(SHARDS)
    assert "data_size is 6, but its 3 shards hold 3 pairs; lower" in problem(SHARDS + "  data_size: 6\n")
    Path("shards/sizes.json").write_text('{"00000.tar": 2}')
    assert checked(SHARDS).problems == ()
    assert "hold 4 pairs" in problem(SHARDS + "  data_size: 20_000\n")
    monkeypatch.setattr(shards, "MOST_COUNTED_FILES", 1)
    assert checked(SHARDS + "  data_size: 5\n").problems == ()


def test_a_torn_shard_between_others_is_a_problem() -> None:
    for number in range(3):
        path = shard(f"shards/{number:05}.tar", pairs=2 if number else 1)
        if number == 1:
            path.write_bytes(path.read_bytes()[:1024])
    assert "shards/00001.tar: " in problem(SHARDS)


def test_more_shards_than_may_be_counted_are_left_to_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        shard(f"shards/{number:05}.tar", pairs=1)
    found = shards.sources("shards/{00000..00002}.tar")
    assert shards.counted(found, {}, 3) == shards.counted(found, {}, 4) == 3
    assert shards.counted(found, {found[0]: 5}, 5) == 5
    assert shards.counted(shards.sources("shards/00000.tar::https://host/0.tar"), {}, 4) is None
    monkeypatch.setattr(shards, "MOST_COUNTED_FILES", 7)
    assert shards.counted(found, {}, 4) is None


# Other data


def fashion(folder: str, train: int = 6, test: int = 4) -> None:
    for split, number in (("train", train), ("t10k", test)):
        idx_file(f"{folder}/{split}-images-idx3-ubyte.gz", number, 2, 2, data=bytes(4 * number))
        idx_file(f"{folder}/{split}-labels-idx1-ubyte.gz", number, data=bytes(number))


def test_the_four_files_of_fashion_are_looked_at() -> None:
    fashion("f")
    base = "  data: {fashion: f}\n"
    assert checked(base).problems == ()
    assert "data_size is 9, but Fashion-MNIST has 6 training images" in problem(base + "  data_size: 9\n")
    fashion("small", train=3)
    assert "Fashion-MNIST has 3 pairs, less than one batch of 4, which would hold a pair twice; lower batch_size" in (
        problem("  data: {fashion: small}\n")
    )
    path = Path("f/train-images-idx3-ubyte.gz")
    path.write_bytes(path.read_bytes()[:-6])
    Path("f/t10k-labels-idx1-ubyte.gz").unlink()
    first, second = checked(base).problems
    assert "train-images-idx3-ubyte.gz: not a whole gzip file" in first
    assert "t10k-labels-idx1-ubyte.gz: there is no such file" in second
    assert "g: there is no such folder, so Fashion-MNIST cannot be read" in problem("  data: {fashion: g}\n")


def test_drawn_data_needs_no_files() -> None:
    assert str(checked()) == "checked nothing, as these runs read no files."


def sets(text: str) -> str:
    return f"evaluation:\n  sets:\n    mine: {text}\n"


def test_evaluation_sets_that_are_there_are_no_problem() -> None:
    for name in ("cat", "dog"):
        (Path("images") / name / "deep").mkdir(parents=True)
        (Path("images") / name / "deep" / "1.jpg").write_bytes(IMAGE)
    Path("folders.json").write_text('{"cat": "a cat", "dog": "a dog"}')
    Path("names.txt").write_text("cat\ndog\n")
    shard("labelled.tar", {"a.jpg": IMAGE, "a.cls": b"1"})
    shard("captioned.tar", {"a.jpg": IMAGE, "a.txt": b"one\ntwo"})
    idx_file("i", 3, 2, 2, data=bytes(12))
    idx_file("l", 3, data=bytes([0, 1, 1]))
    Path("t.csv").write_text("filepath,title\nimages/cat/deep/1.jpg,a cat\n")
    found = checked(
        rest="""\
evaluation:
  data: {webdataset: captioned.tar}
  linear_probe: true
  sets:
    a: {folder: {path: images, classes: folders.json, train: images}}
    b: {webdataset: {urls: labelled.tar, classes: names.txt}}
    c: {webdataset: captioned.tar}
    d: {idx: {images: i, labels: l, classes: [cat, dog]}}
    e: {captions: t.csv}
    f: {webdataset: {urls: labelled.tar, classes: imagenet}}
"""
    )
    assert found.problems == ()
    assert found.looked_at["evaluation_sets"] == 6


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ("{folder: nowhere}", "there is no such folder"),
        ("{folder: empty}", "has no folders"),
        ("{folder: images}", "images/dog: this class folder has no images"),
        ("{folder: {path: good, classes: none.json}}", "none.json: cannot be read as the class names of good"),
        ("{folder: {path: good, classes: [cat]}}", "has 2 class folders, from 'cat' on, but classes names 1"),
        ("{folder: {path: good, classes: imagenet}}", "classes names 1000"),
        ("{webdataset: {urls: none.tar, classes: [a, b]}}", "there is no such shard"),
        ("{webdataset: {urls: l.tar, classes: none.txt}}", "none.txt: cannot be read as the class names of l.tar"),
        ("{webdataset: {urls: l.tar, classes: [a, b]}}", "l.tar: has a label 7, but classes names 2"),
        ("{webdataset: {urls: c.tar, classes: [a, b]}}", "has no .cls, only jpg, txt"),
        ("{webdataset: l.tar}", "is an image with captions (.txt, or caption in a .json): a has .jpg, .cls. If they"),
        ("{idx: {images: i, labels: none, classes: [a, b]}}", "none.gz: there is no such file"),
        ("{idx: {images: i, labels: l, classes: [a, b]}}", "l: has a label 2, but classes names 2"),
        ("{idx: {images: l, labels: l, classes: [a, b]}}", "begins with 00000801"),
        ("{idx: {images: torn, labels: l, classes: [a, b]}}", "torn: declares 3 x 2 x 2 = 12 bytes but holds 9"),
        ("{captions: none.csv}", "none.csv: there is no such file"),
        ("{captions: {file: t.csv, caption: text}}", "has no column 'text'"),
        (
            "{captions: t.csv}",
            "does not exist, and neither do the images of the next rows of t.csv; correct root",
        ),
    ],
)
def test_an_evaluation_set_that_is_not_right_is_a_problem(declared: str, words: str) -> None:
    for folder in ("images/cat", "images/dog", "good/cat", "good/dog", "empty"):
        Path(folder).mkdir(parents=True)
    for file in ("images/cat/1.jpg", "good/cat/1.jpg", "good/dog/1.jpg"):
        Path(file).write_bytes(IMAGE)
    shard("l.tar", {"a.jpg": IMAGE, "a.cls": b"7"})
    shard("c.tar", {"a.jpg": IMAGE, "a.txt": b"an owl"})
    idx_file("i", 3, 2, 2, data=bytes(12))
    idx_file("torn", 3, 2, 2, data=bytes(9))
    idx_file("l", 3, data=bytes([0, 1, 2]))
    Path("t.csv").write_text("filepath,title\nnone.jpg,a cat\n")
    told = problem(rest=sets(declared))
    assert told.startswith("study.yaml:13: evaluation.sets.mine.")
    assert words in told


# Checkpoints


def write_weights(path: str, numbers: int = 2_000_000) -> None:
    torch.save({"state_dict": {"a": torch.zeros(numbers)}}, path)


def fine_tuning(declared: str) -> str:
    return f"  fine_tuning: {{samples: 16, batch_size: 8, data: {declared}}}\n"


def test_labelled_sets_to_fine_tune_on_that_are_there_are_no_problem() -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            Path("pets", split, name).mkdir(parents=True)
            Path("pets", split, name, "1.jpg").write_bytes(IMAGE)
        shard(f"{split}.tar", {"1.jpg": IMAGE, "1.cls": b"3"})
        idx_file(f"{split}-images", 2, 4, 4, data=bytes(32))
        idx_file(f"{split}-labels", 2, data=b"\0\1")
    files = ", ".join(f"{split}_{what}: {split}-{what}" for split in ("train", "test") for what in ("images", "labels"))
    for declared in (
        "{folder: {train: pets/train, test: pets/test}}",
        "{webdataset: {train: train.tar, test: test.tar}}",
        f"{{idx: {{{files}}}}}",
    ):
        found = checked(fine_tuning(declared))
        assert found.problems == ()
        assert found.looked_at["labelled_sets"] == 1
    fashion("clothes")
    assert checked(fine_tuning("{fashion: clothes}")).problems == ()
    assert checked(fine_tuning("null")).problems == ()


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ("{folder: {train: nowhere, test: nowhere}}", "nowhere: there is no such folder"),
        ("{folder: {train: pets/train, test: pets/test}}", "'dog' is in one of them only"),
        ("{webdataset: {train: captions.tar, test: captions.tar}}", "has no .cls, only jpg, txt"),
        ("{webdataset: {train: gone.tar, test: captions.tar}}", "gone.tar: there is no such shard"),
        (
            "{idx: {train_images: images, train_labels: ones, test_images: images, test_labels: twos}}",
            "has a label 2, but classes names 2",
        ),
        (
            "{idx: {train_images: images, train_labels: zeros, test_images: images, test_labels: zeros}}",
            "has a single class",
        ),
        ("{fashion: nowhere}", "nowhere: there is no such folder, so Fashion-MNIST cannot be read"),
    ],
)
def test_a_labelled_set_that_is_not_right_is_a_problem(declared: str, words: str) -> None:
    for name in ("train/cat", "train/dog", "test/cat"):
        Path("pets", name).mkdir(parents=True)
        Path("pets", name, "1.jpg").write_bytes(IMAGE)
    shard("captions.tar")
    idx_file("images", 2, 4, 4, data=bytes(32))
    for name, label in (("zeros", 0), ("ones", 1), ("twos", 2)):
        idx_file(name, 2, data=bytes([label, label]))
    line = problem(fine_tuning(declared))
    assert line.startswith("study.yaml:8: fine_tuning.data."), line
    assert words in line


def test_a_checkpoint_is_looked_at_without_torch() -> None:
    write_weights("good.pt")
    found = checked("  init: good.pt\n")
    assert found.problems == ()
    assert found.looked_at == {"checkpoints": 1}


def test_a_safetensors_checkpoint_is_accepted() -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2_000_000)}, "good.safetensors")
    assert checked("  init: good.safetensors\n").problems == ()


def torn() -> None:
    write_weights("bad.pt")
    Path("bad.pt").write_bytes(Path("bad.pt").read_bytes()[:1_000_000])


def other_zip() -> None:
    with zipfile.ZipFile("bad.pt", "w") as archive:
        archive.writestr("letter.txt", "dear reader")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda: None, "init: bad.pt is neither a file nor a tag of open_clip's weights for ViT-w16d1-4"),
        (lambda: Path("bad.pt").write_text("epoch 1: loss 3"), "(it begins with b'epoch 1:'); give a file of weights"),
        (lambda: Path("bad.pt").write_text(""), "is not a checkpoint of open_clip (it is empty)"),
        (torn, "(it was cut off, or is damaged)"),
        (other_zip, "(it is a zip file of something else)"),
        (lambda: write_weights("bad.pt", 10), "too few for the 1,6"),
    ],
)
def test_what_is_no_checkpoint_is_a_problem(write, words: str) -> None:
    write()
    told = problem("  init: bad.pt\n")
    assert told.startswith("study.yaml:8: init: ")
    assert words in told


def test_a_tag_of_open_clip_is_no_problem_and_is_not_downloaded() -> None:
    base, axes = "  image_size: 224\n  init: openai\n", "axes:\n  model: [ViT-B-32-quickgelu]\n  samples: [8]\n"
    found = checked(base, axes=axes)
    assert found.problems == ()
    assert "weights openai of ViT-B-32-quickgelu, which are downloaded when a run starts" in str(found)
    told = problem(base, axes=axes.replace("-quickgelu", ""))
    assert "openai was trained with another activation than ViT-B-32 has; set model: ViT-B-32-quickgelu" in told
    assert "init: laion9b is neither a file nor a tag" in problem(base.replace("openai", "laion9b"), axes=axes)


def test_normalizations_are_open_clips() -> None:
    assert {
        "imagenet": (tuple(IMAGENET_MEAN), tuple(IMAGENET_STD)),
        "openai": (tuple(OPENAI_DATASET_MEAN), tuple(OPENAI_DATASET_STD)),
    } == NORMALIZATIONS


# Trainers


def test_a_command_that_is_there_is_no_problem_and_its_data_is_its_own_affair() -> None:
    Path("train.py").write_text("")
    found = checked("  trainer: {command: [python, -u, train.py, --fast]}\n" + SHARDS)
    assert found.problems == ()
    assert str(found) == (
        "checked 1 training command. Not checked: what a training command reads, as it finds its data itself."
    )
    for command in ("[python, -m, some.module]", f"[{sys.executable}, '{{folder}}/own.py']", "[bash, -c, 'ls .']"):
        assert checked(f"  trainer: {{command: {command}}}\n").problems == ()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("[no-such-program, a]", "no-such-program: there is no such program"),
        ("[./none]", "./none: there is no such program"),
        ("[./train.sh]", "./train.sh: cannot be started (Permission denied); make it executable"),
        ("[python, none.py]", "none.py: there is no such script for python"),
        ("[bash, none.sh]", "none.sh: there is no such script for bash"),
    ],
)
def test_a_command_that_cannot_start_is_a_problem(command: str, words: str) -> None:
    Path("train.sh").write_text("#!/bin/sh\n")
    told = problem(f"  trainer: {{command: {command}}}\n")
    assert told.startswith("study.yaml:8: trainer: ")
    assert words in told


def test_what_open_clips_program_cannot_do_is_told_before_it_starts() -> None:
    shard("0.tar", {f"{n}.{e}": d for n in "abcd" for e, d in (("jpg", IMAGE), ("json", b'{"caption": "an owl"}'))})
    found = checked(
        '  data: {webdataset: "0.tar"}\n  crop: 0.9\n  flip: true\n',
        axes="axes:\n  samples: [8]\n  trainer: [flipscale, {open_clip: {arguments: [--lr, '1e-4']}}, open_clip]\n",
    )
    own, arguments, refused = found.problems
    assert own.startswith("study.yaml:8: data: 0.tar: none of its first samples is one that open_clip's program reads")
    assert arguments == "study.yaml:13: trainer.open_clip.arguments: --lr is set by lr; leave it out there."
    assert "write flip: false, as it mirrors no images" in refused


def test_a_gpu_is_no_reason_to_refuse_what_needs_one() -> None:
    base = "  trainer: open_clip\n  precision: fp16\n"
    assert "write precision: bf16 or fp32" in checked(base).problems[0]
    assert checked(base, on_gpu=True).problems == ()


# The command line


def test_plan_check_says_all_at_once_and_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    path = study(
        SHARDS + "  init: none.pt\n", "evaluation: {sets: {mine: {webdataset: {urls: x.tar, classes: n.txt}}}}\n"
    )
    assert main(["plan", str(path)]) == 0
    capsys.readouterr()
    assert main(["plan", str(path), "--check"]) == 1
    said = capsys.readouterr()
    assert "4 runs" in said.out
    assert [line.split(": ")[:2] for line in said.err.splitlines() if line.startswith("study.yaml")] == [
        ["study.yaml:8", "data"],
        ["study.yaml:9", "init"],
        ["study.yaml:13", "evaluation.sets.mine.webdataset.classes"],
        ["study.yaml:13", "evaluation.sets.mine.webdataset"],
    ]
    assert main(["plan", str(path), "--check", "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert len(data["runs"]) == 4
    assert len(data["check"]["problems"]) == 4


def test_plan_check_with_nothing_wrong_says_what_was_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        shard(f"shards/{number:05}.tar")
    assert main(["plan", str(study(SHARDS)), "--check"]) == 0
    assert capsys.readouterr().err.splitlines()[-1].startswith("checked 1 data set, 3 shards")


COMMAND = f"  trainer: {{command: [{sys.executable}, train.py]}}\n"


def test_a_local_submit_starts_nothing_where_something_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    path = study(COMMAND)
    for verb in ("submit", "run"):
        assert main([verb, str(path)]) == 1
        *problems, last = capsys.readouterr().err.splitlines()
        assert "train.py: there is no such script" in problems[-1]
        assert last == "Nothing was started. Correct this, or add --no-check to start anyway."
        assert not list(Path("results").rglob("job.json"))
        assert not list(Path("results").rglob("run.json"))


def test_no_check_starts_all_the_same() -> None:
    assert main(["submit", str(study(COMMAND)), "--no-check", "--detach"]) == 0
    assert len(list(Path("results").rglob("job.json"))) == 4
    main(["cancel", "study.yaml"])


def test_only_runs_that_would_start_are_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    path = study(COMMAND)
    Path("train.py").write_text(
        "import json, pathlib, sys\n"
        "pathlib.Path(sys.argv[-1], 'outcome.json').write_text(json.dumps({'scores': {'zero_shot_top1': 0.5}}))\n"
    )
    assert main(["submit", str(path)]) == 0
    Path("train.py").unlink()
    capsys.readouterr()
    assert main(["submit", str(path)]) == 0
    assert "submitted 0 runs, left alone 4 finished" in capsys.readouterr().err
