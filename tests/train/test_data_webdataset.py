import io
import json
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from flipscale.data.formats import open_data, open_held_out
from flipscale.data.pairs import Data, Form, HeldOutItems
from flipscale.errors import DataError
from flipscale.settings.declarations import WebDataset
from tests.commands import Process

Files = dict[str, bytes]


def tokenize(texts: list[str]) -> npt.NDArray[np.int64]:
    """The number in a caption, eight times."""
    return np.array([[int(text.split()[-1])] * 8 for text in texts], np.int64)


def image(grey: int, width: int = 40, height: int = 30, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (grey, grey, grey)).save(file, kind)
    return file.getvalue()


def write_shard(path: Path, samples: Sequence[tuple[str, Files]]) -> None:
    with tarfile.open(path, "w") as tar:
        for key, files in samples:
            for extension, content in files.items():
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def pair(number: int) -> tuple[str, Files]:
    return f"{number:06}", {"png": image(number), "txt": f"picture {number}".encode(), "json": b"{}"}


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three shards of ten pairs; picture n is grey n."""
    for shard in range(3):
        write_shard(tmp_path / f"{shard:05}.tar", [pair(10 * shard + within) for within in range(10)])
    monkeypatch.setenv("FLIPSCALE_DATA", str(tmp_path))
    return tmp_path


def training(
    folder: Path,
    data_size: int | None = None,
    urls: str = "{00000..00002}.tar",
    decode: str | None = None,
    **changes: Any,
) -> Data:
    crop = changes.pop("crop", None)
    shape = {"image_size": 16, "text_length": 8, "cache": folder / "cache", "tokenize": tokenize, **changes}
    data = WebDataset(urls, name=None, decode=decode, sizes=None)
    return open_data(data, Form(**shape), data_size=data_size, samples=100, crop=crop)


def held_out(folder: Path, images: int, urls: str = "{00000..00002}.tar") -> HeldOutItems:
    found = open_held_out(
        WebDataset(urls, name=None, decode=None, sizes=None),
        Form(16, 8, tokenize, folder / "cache"),
        images=images,
        templates=None,
        trained_on=False,
    )
    assert found is not None
    return found


def test_pairs_come_in_the_order_of_the_shards(shards: Path) -> None:
    data = training(shards)
    images, tokens = data.batch(np.arange(30))
    assert (data.size, data.corrupt()) == (30, 0)
    assert (images.shape, images.dtype) == ((30, 3, 16, 16), np.uint8)
    assert (tokens.shape, tokens.dtype) == ((30, 8), np.int64)
    assert images[:, 0, 8, 8].tolist() == tokens[:, 0].tolist() == list(range(30))


def test_a_batch_takes_pairs_from_any_shards_in_any_order(shards: Path) -> None:
    images, tokens = training(shards).batch(np.array([29, 0, 15, 0]))
    assert images[:, 1, 0, 0].tolist() == tokens[:, 3].tolist() == [29, 0, 15, 0]


@pytest.mark.parametrize("decode", ["once", "always"])
def test_training_on_smaller_images_resizes_the_pairs_and_keeps_the_cache_of_the_full_size(
    shards: Path, decode: str
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    write_shard(shards / "noise.tar", [("a", {"png": file.getvalue(), "txt": b"picture 1"})])
    whole = training(shards, urls="noise.tar", decode=decode)
    files = sorted(path.relative_to(shards) for path in (shards / "cache").rglob("*"))
    small = training(shards, urls="noise.tar", decode=decode, shown_size=8)
    images, tokens = small.batch(np.array([0]))
    assert sorted(path.relative_to(shards) for path in (shards / "cache").rglob("*")) == files
    # Once: from what is kept, 16 pixels; always: from the picture.
    source, box = Image.fromarray(noise), (5, 0, 35, 30)
    if decode == "once":
        source, box = Image.fromarray(whole.batch(np.array([0]))[0][0].transpose(1, 2, 0)), (0, 0, 16, 16)
    expected = np.asarray(source.resize((8, 8), Image.Resampling.BICUBIC, box=box)).transpose(2, 0, 1)
    assert np.array_equal(images[0], expected)
    assert np.array_equal(tokens, whole.batch(np.array([0]))[1])


def test_data_size_takes_the_first_pairs_and_no_further_shard(shards: Path) -> None:
    data = training(shards, data_size=12)
    assert data.size == 12
    assert data.batch(np.array([11]))[1][0, 0] == 11
    assert len(list((shards / "cache").glob("*/index.json"))) == 2


def test_captions_may_be_in_json_and_images_be_jpeg(shards: Path) -> None:
    files = {"jpg": image(100, kind="JPEG"), "json": json.dumps({"caption": "picture 7", "width": 40}).encode()}
    write_shard(shards / "json.tar", [("some/folder/a", files)])
    images, tokens = training(shards, urls="json.tar").batch(np.array([0]))
    assert abs(int(images[0, 0, 8, 8]) - 100) < 3
    assert tokens[0, 0] == 7


def test_the_middle_square_is_kept(shards: Path) -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200
    file = io.BytesIO()
    Image.fromarray(wide).save(file, "PNG")
    write_shard(shards / "wide.tar", [("a", {"png": file.getvalue(), "txt": b"picture 1"})])
    images, _ = training(shards, urls="wide.tar").batch(np.array([0]))
    assert images[0, :, 2:14, 2:14].min() == 200


BAD = [
    ("no-image", {"txt": b"picture 1"}),
    ("no-caption", {"png": image(1)}),
    ("empty-caption", {"png": image(1), "txt": b" \n"}),
    ("cut-image", {"png": image(1)[:60], "txt": b"picture 1"}),
    ("not-an-image", {"jpg": b"<html>404</html>", "txt": b"picture 1"}),
    ("not-utf8", {"png": image(1), "txt": b"\xff\xfe\x00"}),
    ("bad-json", {"png": image(1), "json": b"{"}),
    ("null-caption", {"png": image(1), "json": b'{"caption": null}'}),
]


def test_samples_without_an_image_or_a_caption_are_no_pairs(shards: Path) -> None:
    write_shard(shards / "bad.tar", [pair(1), *BAD[:2], pair(2)])
    data = training(shards, urls="bad.tar")
    assert (data.size, data.corrupt()) == (2, 0)
    assert data.batch(np.array([0, 1]))[1][:, 0].tolist() == [1, 2]


def test_in_place_of_a_pair_that_cannot_be_read_the_next_one_is_seen_and_it_is_counted(shards: Path) -> None:
    write_shard(shards / "bad.tar", [pair(1), *BAD[2:5], pair(2), *BAD[5:]])
    data = training(shards, urls="bad.tar")
    assert (data.size, data.corrupt()) == (8, 6)
    images, tokens = data.batch(np.arange(8))
    assert tokens[:, 0].tolist() == images[:, 0, 0, 0].tolist() == [1, 2, 2, 2, 2, 1, 1, 1]


def test_too_many_corrupt_pairs_are_an_error_with_shard_and_sample(shards: Path) -> None:
    write_shard(shards / "bad.tar", [pair(1), *BAD, *((f"{key}-again", files) for key, files in BAD[2:7])])
    with pytest.raises(
        DataError,
        match=r"bad.tar: 11 of the first 12 pairs cannot be read, the last of them bad-json-again "
        r"\(Expecting .*\); at most 10, or 1%, are skipped",
    ):
        training(shards, urls="bad.tar")


def test_the_vocabulary_is_every_token_of_the_shards(shards: Path) -> None:
    assert training(shards).vocabulary.tolist() == list(range(30))


@pytest.mark.parametrize("kept", [300, 512 * 3 + 100, 512 * 8, 512 * 14 + 7])
def test_a_shard_that_was_cut_off_is_an_error_even_between_two_files(shards: Path, kept: int) -> None:
    path = shards / "00001.tar"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"00001.tar: (not a whole tar file|cut off or damaged)"):
        training(shards)


def test_a_damaged_header_is_an_error(shards: Path) -> None:
    path = shards / "00001.tar"
    content = bytearray(path.read_bytes())
    content[512 * 6 : 512 * 6 + 400] = b"x" * 400
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"00001.tar: cut off or damaged at byte 3072, after sample 000010"):
        training(shards)


def test_a_file_that_is_no_tar_is_an_error(shards: Path) -> None:
    (shards / "00001.tar").write_text("<html>404 not found</html>" * 100)
    with pytest.raises(DataError, match=r"00001.tar: not a whole tar file .*the last sample read is none"):
        training(shards)


def test_a_missing_shard_is_named_before_anything_is_decoded(shards: Path) -> None:
    (shards / "00001.tar").unlink()
    with pytest.raises(
        DataError, match=r"00001.tar: there is no such shard; 1 of the 3 that .* stands for are missing"
    ):
        training(shards)
    assert not (shards / "cache").exists()


def test_too_few_pairs_for_data_size_are_an_error_with_the_count(shards: Path) -> None:
    with pytest.raises(DataError, match="data_size is 31, but its 3 shards hold 30 pairs;"):
        training(shards, data_size=31)


def test_shards_without_a_pair_are_an_error(shards: Path) -> None:
    write_shard(shards / "empty.tar", [])
    with pytest.raises(DataError, match="its 1 shards hold no pair"):
        training(shards, urls="empty.tar")


def test_a_full_disk_is_foreseen(shards: Path) -> None:
    with pytest.raises(DataError, match=r"decoding 30 pairs takes 9000000.0 GB and the disk has .* GB free"):
        training(shards, decode="once", image_size=10**7)


def test_shards_are_decoded_once(shards: Path) -> None:
    training(shards)
    before = {path: path.stat().st_mtime_ns for path in (shards / "cache").glob("0*/*")}
    assert len(before) == 12
    data = training(shards, tokenize=None)
    assert data.batch(np.array([21]))[1][0, 0] == 21
    assert before == {path: path.stat().st_mtime_ns for path in (shards / "cache").glob("0*/*")}


def test_a_changed_shard_is_decoded_anew(shards: Path) -> None:
    training(shards)
    write_shard(shards / "00000.tar", [pair(99)])
    assert training(shards).batch(np.array([0, 1]))[1][:, 0].tolist() == [99, 10]


def test_a_half_built_cache_is_never_used(shards: Path) -> None:
    training(shards)
    for folder in (shards / "cache").glob("00000-*/"):
        (folder / "index.json").unlink()
    for folder in (shards / "cache").glob("00001-*/"):
        (folder / "images").write_bytes((folder / "images").read_bytes()[:1000])
    for folder in (shards / "cache").glob("00002-*/"):
        shutil.copytree(folder, folder.with_name(f"{folder.name}.unfinished"))
        shutil.rmtree(folder)
    data = training(shards)
    assert data.batch(np.arange(30))[0][:, 0, 8, 8].tolist() == list(range(30))
    assert not list((shards / "cache").glob("*.unfinished"))


def _build(folder: Path) -> None:
    print(int(training(folder).batch(np.arange(30))[1].sum()))


@pytest.mark.slow
def test_processes_that_need_the_same_shard_build_it_once_and_agree(shards: Path) -> None:
    found = [process.end().stdout for process in [Process(_build, shards) for _ in range(3)]]
    assert found == [f"{8 * sum(range(30))}\n"] * 3
    assert len(list((shards / "cache").glob("*/index.json"))) == 3


def test_a_webdataset_for_evaluation_gives_loss_and_retrieval_but_no_classes(shards: Path) -> None:
    found = held_out(shards, images=12)
    assert found.pairs is not None
    assert found.pairs[1][:, 0].tolist() == list(range(12))
    assert found.retrieval
    assert (found.labelled, found.classes, found.prompts) == (None, (), None)


# Patterns, and pairs that cannot be read


def test_several_patterns_are_joined_by_two_colons_and_absolute_paths_stand_for_themselves(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert training(shards, urls="{00001,00002}.tar::00000.tar").batch(np.array([0, 29]))[1][:, 0].tolist() == [10, 9]
    monkeypatch.delenv("FLIPSCALE_DATA")
    assert training(shards, urls=f"{shards}/00000.tar").size == 10


@pytest.mark.parametrize(
    ("urls", "complaint"),
    [
        ("{0..3.tar", "Unbalanced braces"),
        ("htps://host/{0..3}.tar", "htps://host/0.tar: cannot be fetched; write a path or pipe:, s3:, "),
    ],
)
def test_a_pattern_that_cannot_be_read_is_an_error(shards: Path, urls: str, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        training(shards, urls=urls)


def test_corrupt_pairs_after_the_last_pair_wanted_do_not_count_and_one_percent_of_many_may_be(shards: Path) -> None:
    write_shard(shards / "bad.tar", [pair(1), BAD[3], pair(2), *BAD[4:], pair(3)])
    data = training(shards, data_size=2, urls="bad.tar")
    assert data.corrupt() == 1
    assert data.batch(np.arange(2))[1][:, 0].tolist() == [1, 1]
    bad = [*BAD[2:], *((f"{key}-again", files) for key, files in BAD[2:])]
    write_shard(shards / "many.tar", [*(pair(number % 200) for number in range(1200)), *bad])
    many = training(shards, urls="many.tar")
    assert (many.size, many.corrupt()) == (1212, 12)
    assert training(shards, urls="many.tar").corrupt() == 12, "flaws are kept with what was decoded"


def test_a_tenth_of_a_small_webdataset_for_evaluation_may_be_unreadable(shards: Path) -> None:
    write_shard(shards / "bad.tar", [*(pair(number) for number in range(18)), *BAD[3:5]])
    assert held_out(shards, images=100, urls="bad.tar").corrupt == 2
    write_shard(shards / "worse.tar", [*(pair(number) for number in range(18)), *BAD[3:6]])
    with pytest.raises(DataError, match=r"worse.tar: 3 of 21 pairs cannot be read; at most 2 may be skipped"):
        held_out(shards, images=100, urls="worse.tar")
