"""Sets declared for evaluation alone: labelled folders, IDX files, tar shards and tables of captions."""

import gzip
import io
import json
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import pytest
from PIL import Image

from flipscale.data.decode import tolerated
from flipscale.data.labelled import even, subset
from flipscale.data.pairs import Form, HeldOutItems
from flipscale.errors import DataError
from flipscale.train.evaluate import open_evaluations
from tests.asked import settings_of

LABELS = ["cat", "dog", "owl"]


class Words:
    """Tokens that stand for whole texts, so that a test can read them."""

    def __init__(self) -> None:
        self.known: list[str] = []

    def __call__(self, texts: list[str]) -> npt.NDArray[np.int64]:
        self.known += [text for text in texts if text not in self.known]
        return np.array([[self.known.index(text)] * 8 for text in texts], np.int64)

    def read(self, tokens: npt.NDArray[np.int64]) -> list[str]:
        return [self.known[token] for token in tokens[..., 0].ravel()]


def picture(grey: int, width: int = 20, height: int = 16, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (grey, grey, grey)).save(file, kind)
    return file.getvalue()


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def idx(numbers: list[int], axes: int) -> bytes:
    """An IDX file of 4 x 4 images of one grey each (3 axes), or of labels (1 axis)."""
    array = np.array(numbers, np.uint8)
    if axes == 3:
        array = array[:, None, None].repeat(4, 1).repeat(4, 2)
    return struct.pack(f">I{axes}I", 0x0800 | axes, *array.shape) + array.tobytes()


def tar(path: Path, samples: list[tuple[str, dict[str, bytes]]]) -> None:
    with tarfile.open(path, "w") as file:
        for key, files in samples:
            for extension, content in files.items():
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that paths of declarations start from."""
    monkeypatch.setenv("FLIPSCALE_DATA", str(tmp_path))
    return tmp_path


def evaluations(sets: dict[str, Any], words: Words | None = None, **changes: Any) -> dict[str, HeldOutItems]:
    # A webdataset that is trained on has nothing held out.
    data = {"webdataset": {"urls": "nowhere.tar"}}
    settings = settings_of(data=data, evaluation={"images": 100, "sets": sets, **changes})
    return open_evaluations(settings, Form(8, 8, words or Words()))


def opened(kind: str, options: dict[str, Any], words: Words | None = None, **changes: Any) -> HeldOutItems:
    found = evaluations({"set": {kind: options}}, words, **changes)
    assert list(found) == ["set"]
    return found["set"]


def greys(held_out: HeldOutItems) -> list[int]:
    found = held_out.labelled or held_out.pairs
    assert found is not None
    return found[0][:, 0, 4, 4].tolist()


def labels(held_out: HeldOutItems) -> list[int]:
    assert held_out.labelled is not None
    return held_out.labelled[1].tolist()


# Subsets


def test_a_subset_has_classes_as_even_as_can_be() -> None:
    sorted_by_class = np.repeat(np.arange(4), [50, 50, 3, 50])
    chosen = subset(sorted_by_class, 43)
    assert sorted(set(chosen.tolist())) == chosen.tolist()
    counts = np.bincount(sorted_by_class[chosen])
    assert counts[2] == 3
    assert sorted(counts[[0, 1, 3]]) == [13, 13, 14]
    assert chosen.tolist() == subset(sorted_by_class, 43).tolist()
    assert set(chosen) < set(subset(sorted_by_class, 60))


def test_a_subset_of_fewer_images_than_classes_has_no_class_twice() -> None:
    assert len(set((subset(np.arange(1000) // 10, 30) // 10).tolist())) == 30


def test_the_order_behind_subsets_is_the_same_in_every_version() -> None:
    assert even(np.array([0, 0, 0, 1, 1, 2]), stream=7).tolist() == [4, 2, 5, 3, 0, 1]


# Folders


@pytest.fixture
def folder(root: Path) -> Path:
    """Three class folders of 6, 5 and 4 images; the grey is 80 times the class plus the number."""
    for label, (name, count) in enumerate([("cat", 6), ("barn_owl", 5), ("wolf", 4)]):
        for number in range(count):
            put(root / "animals" / name / "deeper" / f"{number}.png", picture(80 * label + number))
    (root / "animals" / ".cache").mkdir()
    (root / "animals" / "README.txt").write_text("no class")
    return root


def test_a_folder_has_a_class_for_each_folder_in_sorted_order(folder: Path) -> None:
    words = Words()
    found = opened("folder", {"path": "animals"}, words)
    assert found.classes == ("barn owl", "cat", "wolf")
    assert labels(found) == [0] * 5 + [1] * 6 + [2] * 4
    assert greys(found) == [80, 81, 82, 83, 84, 0, 1, 2, 3, 4, 5, 160, 161, 162, 163]
    assert found.labelled is not None
    assert (found.labelled[0].shape, found.labelled[0].dtype) == ((15, 3, 8, 8), np.uint8)
    assert found.prompts is not None
    assert words.read(found.prompts) == ["a photo of a barn owl", "a photo of a cat", "a photo of a wolf"]
    assert (found.pairs, found.retrieval, found.probe) == (None, False, None)


def test_the_images_wanted_are_of_all_classes(folder: Path) -> None:
    assert np.bincount(labels(opened("folder", {"path": "animals"}, images=6))).tolist() == [2, 2, 2]


def test_class_names_are_listed_or_come_from_a_file_by_folder(folder: Path) -> None:
    put(
        folder / "names.json",
        json.dumps({"wolf": "grey wolf", "cat": "house cat", "barn_owl": "owl", "x": "y"}).encode(),
    )
    assert opened("folder", {"path": "animals", "classes": ["a", "b", "c"]}).classes == ("a", "b", "c")
    assert opened("folder", {"path": "animals", "classes": "names.json"}).classes == ("owl", "house cat", "grey wolf")


def test_the_linear_probe_learns_from_the_folder_train(folder: Path) -> None:
    for name in ("cat", "barn_owl", "wolf"):
        put(folder / "train" / name / "1.jpg", picture(200, kind="JPEG"))
    found = opened("folder", {"path": "animals", "train": "train"}, linear_probe=True)
    assert found.probe is not None
    assert found.probe[1].tolist() == [0, 1, 2]
    assert found.probe[0].shape == (3, 3, 8, 8)
    assert opened("folder", {"path": "animals", "train": "train"}).probe is None


def test_images_that_cannot_be_read_are_passed_over_and_counted(folder: Path) -> None:
    put(folder / "animals" / "cat" / "a.png", picture(1)[:50])
    put(folder / "animals" / "cat" / "b.jpg", b"<html>404</html>")
    for number in range(4, 9):
        put(folder / "animals" / "wolf" / f"{number}.png", picture(160))
    found = opened("folder", {"path": "animals"})
    assert found.corrupt == 2
    assert labels(found) == [0] * 5 + [1] * 6 + [2] * 9


def test_too_many_images_that_cannot_be_read_are_an_error(folder: Path) -> None:
    for number in range(2):
        put(folder / "animals" / "cat" / f"bad{number:02}.png", b"nothing")
    with pytest.raises(
        DataError,
        match=r"animals: 2 of 17 images cannot be read, the first of them .*bad00.png \(is not an image that can be "
        r"read\); at most 1 may be skipped",
    ):
        opened("folder", {"path": "animals"})


@pytest.mark.parametrize(("count", "few"), [(9, 0), (24, 2), (100, 10), (999, 10), (5000, 50)])
def test_a_tenth_of_few_images_ten_or_one_percent_of_many_may_be_unreadable(count: int, few: int) -> None:
    assert tolerated(count) == few


def test_a_single_class_is_an_error(root: Path, folder: Path) -> None:
    put(root / "all" / "cat" / "0.png", picture(1))
    with pytest.raises(
        DataError, match="all: has a single class, 'cat', so any model would be right; name a set of two"
    ):
        opened("folder", {"path": "all"})


# IDX files


@pytest.fixture
def digits(root: Path) -> dict[str, Any]:
    put(root / "images.gz", gzip.compress(idx([10, 20, 30, 40, 50, 60], axes=3)))
    put(root / "labels", idx([0, 0, 0, 0, 1, 2], axes=1))
    return {"images": "images", "labels": "labels", "classes": LABELS}


def test_idx_files_may_be_compressed_or_not(digits: dict[str, Any]) -> None:
    found = opened("idx", digits)
    assert (greys(found), labels(found)) == ([10, 20, 30, 40, 50, 60], [0, 0, 0, 0, 1, 2])
    assert found.classes == ("cat", "dog", "owl")
    again = opened("idx", {**digits, "images": "images.gz", "labels": "labels.gz"})
    assert greys(again) == greys(found)
    assert sorted(labels(opened("idx", digits, images=3))) == [0, 1, 2]


def test_all_images_up_to_10_000_are_scored_unless_the_study_says_fewer(root: Path) -> None:
    for name, count in (("some", 2500), ("many", 10_050)):
        put(root / f"{name}-images", idx([i % 256 for i in range(count)], axes=3))
        put(root / f"{name}-labels", idx([i % 3 for i in range(count)], axes=1))

    def scored(**evaluation: Any) -> dict[str, tuple[int, str]]:
        sets = {
            name: {"idx": {"images": f"{root}/{name}-images", "labels": f"{root}/{name}-labels", "classes": LABELS}}
            for name in ("some", "many")
        }
        asked = settings_of(data="shapes", evaluation={"sets": {**sets, "drawn": "shapes"}, **evaluation})
        found = open_evaluations(asked, Form(4, 8, Words()))
        return {name: (len(items.labelled[0]), items.source) for name, items in found.items() if items.labelled}

    assert scored() == {
        "": (2000, "shapes, images 2000"),
        "some": (2500, "some, images 10000"),
        "many": (10_000, "many, images 10000"),
        "drawn": (2000, "drawn, images 2000"),
    }
    assert [count for count, _ in scored(images=300).values()] == [300, 300, 300, 300]


def test_the_linear_probe_learns_from_other_idx_files(root: Path, digits: dict[str, Any]) -> None:
    put(root / "more", idx([90, 91], axes=3))
    put(root / "their", idx([2, 1], axes=1))
    found = opened("idx", {**digits, "train_images": "more", "train_labels": "their"}, linear_probe=True)
    assert found.probe is not None
    assert (found.probe[0][:, 0, 0, 0].tolist(), found.probe[1].tolist()) == ([90, 91], [2, 1])
    with pytest.raises(DataError, match="more: has no train_labels beside it; name the file of its labels"):
        opened("idx", {**digits, "train_images": "more"}, linear_probe=True)


# Tar shards


def labelled_sample(number: int, label: int) -> tuple[str, dict[str, bytes]]:
    return f"s{number:07}", {"webp": picture(number, kind="WEBP"), "cls": str(label).encode()}


def test_labelled_shards_are_as_clip_benchmark_writes_them(root: Path) -> None:
    tar(root / "0.tar", [labelled_sample(number, number // 4) for number in range(6)])
    tar(root / "1.tar", [labelled_sample(number, number // 4) for number in range(6, 12)])
    put(root / "classnames.txt", b"cat\ndog\nowl\n")
    words = Words()
    found = opened("webdataset", {"urls": "{0..1}.tar", "classes": "classnames.txt", "templates": ["one {}"]}, words)
    assert labels(found) == [0] * 4 + [1] * 4 + [2] * 4
    assert np.abs(np.array(greys(found)) - np.arange(12)).max() <= 2
    assert found.prompts is not None
    assert words.read(found.prompts) == ["one cat", "one dog", "one owl"]
    few = opened("webdataset", {"urls": "{0..1}.tar", "classes": LABELS}, images=3)
    assert labels(few) == [0, 1, 2]


def test_captioned_shards_may_have_several_captions_an_image(root: Path) -> None:
    several = {"png": picture(1), "txt": b"a cat\na sleeping cat\n"}
    listed = {"png": picture(2), "json": json.dumps({"caption": ["a dog", "a black dog"]}).encode()}
    bad = {"png": picture(4), "json": b"{"}
    tar(root / "x.tar", [("a", several), ("b", listed), ("c", bad), ("d", {"png": picture(3), "txt": b"an owl"})])
    words = Words()
    found = opened("webdataset", {"urls": "x.tar"}, words)
    assert found.pairs is not None
    assert found.image_of is not None
    assert greys(found) == [1, 2, 3]
    assert words.read(found.pairs[1]) == ["a cat", "a sleeping cat", "a dog", "a black dog", "an owl"]
    assert found.image_of.tolist() == [0, 0, 1, 1, 2]
    assert (found.retrieval, found.corrupt, found.labelled) == (True, 1, None)
    assert greys(opened("webdataset", {"urls": "x.tar"}, images=2)) == [1, 2]


def test_shards_without_captions_are_an_error_that_names_classes(root: Path) -> None:
    tar(root / "x.tar", [labelled_sample(1, 0)])
    with pytest.raises(DataError, match=r"x.tar: no sample has a caption .*If they have a .cls, give classes"):
        opened("webdataset", {"urls": "x.tar"})


def test_a_set_whose_captions_repeat_is_not_scored_by_retrieval(root: Path) -> None:
    tar(root / "x.tar", [(f"{number}", {"png": picture(number), "txt": b"a cat"}) for number in range(3)])
    assert not opened("webdataset", {"urls": "x.tar"}).retrieval


# Tables of captions

ROWS = [("a.png", "a cat"), ("b.png", "a dog"), ("a.png", "a sleeping cat"), ("c.png", "an owl, awake")]


@pytest.fixture
def table(root: Path) -> Path:
    for number, name in enumerate("abc"):
        put(root / "coco" / f"{name}.png", picture(100 + number))
    put(
        root / "coco" / "t.csv",
        b'filepath,title\na.png,a cat\nb.png,a dog\na.png,a sleeping cat\nc.png,"an owl, awake"\n',
    )
    tabs = "\n".join(["filepath\ttitle", *(f"{name}\t{text}" for name, text in ROWS)])
    put(root / "coco" / "t.tsv", tabs.encode())
    put(root / "coco" / "tabs.csv", b"\xef\xbb\xbf" + tabs.encode())
    put(root / "coco" / "t.jsonl", "\n".join(json.dumps({"filepath": n, "title": t}) for n, t in ROWS).encode())
    objects = [
        {"filepath": "a.png", "title": ["a cat", "a sleeping cat"]},
        *({"filepath": n, "title": t} for n, t in ROWS),
    ]
    put(root / "coco" / "lists.jsonl", "\n\n".join(json.dumps(objects[i]) for i in (0, 2, 4)).encode())
    return root / "coco"


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "tabs.csv", "t.jsonl", "lists.jsonl"])
def test_a_table_gives_an_image_once_with_all_its_captions(table: Path, name: str) -> None:
    words = Words()
    found = opened("captions", {"file": f"coco/{name}"}, words)
    assert found.pairs is not None
    assert found.image_of is not None
    assert greys(found) == [100, 101, 102]
    assert words.read(found.pairs[1]) == ["a cat", "a sleeping cat", "a dog", "an owl, awake"]
    assert found.image_of.tolist() == [0, 0, 1, 2]
    assert found.retrieval


def test_the_images_wanted_keep_all_their_captions(table: Path) -> None:
    found = opened("captions", {"file": "coco/t.csv"}, images=2)
    assert (len(found.pairs[0]), len(found.pairs[1])) == (2, 3) if found.pairs else False


def test_columns_and_the_folder_of_images_are_named(table: Path) -> None:
    put(table.parent / "elsewhere" / "t.csv", b"caption,image\nan owl,c.png\na dog,b.png\n")
    found = opened("captions", {"file": "elsewhere/t.csv", "image": "image", "caption": "caption", "root": "coco"})
    assert greys(found) == [102, 101]


def test_rows_and_images_that_cannot_be_read_are_passed_over_and_counted(table: Path) -> None:
    rows = [f"{number}.png,a cat" for number in range(30)]
    for number in range(29):
        put(table / f"{number}.png", picture(number))
    put(table / "bad.csv", "\n".join(["filepath,title", "a.png,", "b.png", ",a cat", *rows]).encode())
    found = opened("captions", {"file": "coco/bad.csv"})
    assert (greys(found), found.corrupt) == (list(range(29)), 4)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("t.txt", b"", r"t.txt: ends in .txt; a table of captions is .csv, .tsv or .jsonl"),
        ("t.csv", None, "t.csv: there is no such file. Correct its path, or set FLIPSCALE_DATA"),
        ("t.csv", b"file path,title\n", r"t.csv:1: has no column 'filepath'; did you mean 'file path'\?"),
        ("t.csv", b"", "t.csv:1: has no column 'filepath'"),
        ("t.csv", b"filepath,title\n", "t.csv: has no row with filepath and title"),
        ("t.csv", b"filepath,title\n\xff,\xfe\n", "t.csv: cannot be read as a table of captions .*; write it in UTF-8"),
        ("t.csv", b"filepath,title\n" + b"a.png,\n" * 20, "t.csv:2: 20 of 20 rows lack filepath or title"),
        ("t.csv", b"filepath,title\na.png,a cat\nb.png\n", "t.csv:3: 1 of 2 rows lack filepath or title, this one fir"),
        (
            "t.csv",
            b"filepath,title\na.png,an owl, awake\n",
            "t.csv:2: has 3 cells, and the header 2; put captions that contain the delimiter in quotes",
        ),
        ("t.jsonl", b'{"filepath": 1}\n{', r"t.jsonl:2: is not JSON \("),
        ("t.jsonl", b"[]\n", 't.jsonl:1: is not an object; write {"filepath": "PATH", "title": "TEXT"}'),
        (
            "t.csv",
            b"filepath,title\nx.png,a cat\n",
            r"1 of 1 images cannot be read, the first of them .*x.png \(No such",
        ),
    ],
)
def test_a_wrong_table_is_an_error_with_its_line(root: Path, name: str, content: bytes | None, complaint: str) -> None:
    if content is not None:
        put(root / name, content)
    with pytest.raises(DataError, match=complaint):
        opened("captions", {"file": name})


# Together


def test_sets_come_by_name_after_the_runs_own_data(folder: Path, digits: dict[str, Any]) -> None:
    sets = {"animals": {"folder": {"path": "animals"}}, "digits": {"idx": digits}}
    assert list(evaluations(sets)) == ["animals", "digits"]
    shapes = {"shapes": {"pairs": 0.0, "seed": 0}}
    assert list(evaluations(sets, data=shapes, images=10)) == ["", "animals", "digits"]


def test_templates_are_the_sets_own_then_the_evaluations(folder: Path) -> None:
    words = Words()
    sets = {
        "one": {"folder": {"path": "animals", "templates": ["my {}"]}},
        "seven": {"folder": {"path": "animals", "templates": ["imagenet_simple", "any {}"]}},
        "eighty": {"folder": {"path": "animals", "templates": ["openai_imagenet"]}},
        "rest": {"folder": {"path": "animals"}},
    }
    found = evaluations(sets, words, templates=["the {}", "a {}"])
    prompts = {name: held_out.prompts for name, held_out in found.items()}
    assert {name: tokens.shape[:2] for name, tokens in prompts.items() if tokens is not None} == {
        "one": (3, 1),
        "seven": (3, 8),
        "eighty": (3, 80),
        "rest": (3, 2),
    }
    assert words.read(prompts["one"][1]) == ["my cat"]
    assert words.read(prompts["seven"][2]) == [*(t("wolf") for t in open_clip.SIMPLE_IMAGENET_TEMPLATES), "any wolf"]
    assert words.read(prompts["eighty"][2]) == [t("wolf") for t in open_clip.OPENAI_IMAGENET_TEMPLATES]


def test_the_vocabulary_holds_the_tokens_of_captions_and_prompts() -> None:
    captions, prompts = np.array([[5, 2], [5, 9]]), np.array([[[7, 2]], [[1, 2]]])
    images = np.zeros((2, 3, 4, 4), np.uint8)
    both = HeldOutItems(pairs=(images, captions), retrieval=False, prompts=prompts)
    assert both.vocabulary.tolist() == [1, 2, 5, 7, 9]
    assert HeldOutItems(pairs=None, retrieval=False, prompts=prompts).vocabulary.tolist() == [1, 2, 7]
    assert HeldOutItems(pairs=None, retrieval=False).vocabulary.tolist() == []


# What is wrong with a set, and what its runs share


@pytest.mark.parametrize(
    ("kind", "options", "complaint"),
    [
        ("folder", {"path": "animals", "classes": "list.json"}, "list.json: is not a mapping; write {folder: name}"),
        (
            "folder",
            {"path": "animals", "classes": "names.json"},
            "names.json: names no class for 1 of the 3 folders of animals, .* 'wolf'; did you mean 'wolfs'",
        ),
        ("folder", {"path": "animals/cat/deeper"}, "animals/cat/deeper: has no folders; put the images of each class"),
        ("idx", {"images": "images", "labels": "few", "classes": LABELS}, "has 6 images, but few has 2 labels"),
        ("idx", {"images": "empty", "labels": "nothing", "classes": LABELS}, "empty: has no images"),
        ("webdataset", {"urls": "word.tar", "classes": LABELS}, "word.tar: a: its .cls holds b'cat'; write the number"),
        (
            "webdataset",
            {"urls": "minus.tar", "classes": LABELS},
            "minus.tar: a: its .cls holds b'-1'; write",
        ),
        (
            "webdataset",
            {"urls": "blind.tar", "classes": LABELS},
            r"blind.tar: 1 of 1 images cannot be read, .*no im",
        ),
        ("webdataset", {"urls": "one.tar", "classes": "none.txt"}, "none.txt: has no class name; write one a line"),
        ("webdataset", {"urls": "captioned.tar"}, "captioned.tar: gives one image to score on"),
    ],
)
@pytest.mark.usefixtures("folder", "digits")
def test_a_wrong_set_is_an_error_that_names_it(root: Path, kind: str, options: dict[str, Any], complaint: str) -> None:
    put(root / "names.json", b'{"cat": "cat", "barn_owl": "owl", "wolfs": "wolf"}')
    put(root / "list.json", b"[1]")
    put(root / "none.txt", b"\n")
    put(root / "few", idx([0, 1], axes=1))
    put(root / "empty", idx([], axes=3))
    put(root / "nothing", idx([], axes=1))
    for name, files in {
        "word": {"png": picture(1), "cls": b"cat"},
        "minus": {"png": picture(1), "cls": b"-1"},
        "blind": {"cls": b"1"},
        "one": {"png": picture(1), "cls": b"1"},
        "captioned": {"png": picture(1), "txt": b"a cat"},
    }.items():
        tar(root / f"{name}.tar", [("a", files)])
    with pytest.raises(DataError, match=rf"^evaluation\.sets\.set: .*{complaint}"):
        opened(kind, options)


def test_images_of_the_linear_probe_that_cannot_be_read_are_counted_too(folder: Path) -> None:
    for name in ("cat", "barn_owl", "wolf"):
        for number in range(4):
            put(folder / "train" / name / f"{number}.png", picture(200))
    put(folder / "train" / "cat" / "4.png", b"nothing")
    found = opened("folder", {"path": "animals", "train": "train"}, linear_probe=True)
    assert found.corrupt == 1


def test_runs_of_a_process_share_what_was_decoded(folder: Path) -> None:
    first, second = (opened("folder", {"path": "animals"}) for _ in range(2))
    assert first.labelled is not None
    assert second.labelled is not None
    assert first.labelled[0] is second.labelled[0]
