"""Thousands of pairs in real tar shards, read as they are needed: from a disk, a web server and commands."""

import contextlib
import functools
import http.server
import io
import json
import os
import shlex
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from flipscale.data import library, shards, shuffle, stream
from flipscale.data.formats import open_data
from flipscale.data.pairs import Data, Form
from flipscale.data.shards import sources
from flipscale.data.views import view, views
from flipscale.errors import DataError
from flipscale.settings.declarations import WebDataset
from tests.asked import settings_of

SHARDS, PAIRS = 24, 100
URLS = "{00000..00023}.tar"


def tokenize(texts: list[str]) -> npt.NDArray[np.int64]:
    """The number in a caption, eight times."""
    return np.array([[int(text.split()[-1])] * 8 for text in texts], np.int64)


def picture(number: int) -> bytes:
    """A picture that no other number has: 24 x 18 pixels, every other one a PNG."""
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((24, 18), Image.Resampling.NEAREST)
    image.save(file, "PNG" if number % 2 else "JPEG", quality=95)
    return file.getvalue()


def write_shard(path: Path, numbers: range, bad: frozenset[int] = frozenset()) -> None:
    with tarfile.open(path, "w") as tar:
        for number in numbers:
            kind = "png" if number % 2 else "jpg"
            for extension, content in (
                (kind, b"no image" if number in bad else picture(number)),
                ("txt", f"picture {number}".encode()),
                ("json", b"{}"),
            ):
                member = tarfile.TarInfo(f"{number:09}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 shards of 100 pairs."""
    folder = tmp_path_factory.mktemp("shards")
    for shard in range(SHARDS):
        write_shard(folder / f"{shard:05}.tar", range(shard * PAIRS, (shard + 1) * PAIRS))
    return folder


@pytest.fixture(autouse=True)
def small(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 400 pairs over 4 lanes, so that the 2,400 pairs are many windows; and no waiting."""
    monkeypatch.setenv("FLIPSCALE_DATA", str(folder))
    monkeypatch.setattr(shuffle, "WINDOW", 400)
    monkeypatch.setattr(shuffle, "LANES", 4)
    monkeypatch.setattr(library, "RETRY_SECONDS", (0.0, 0.0))


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    """The shards on a web server."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


def training(
    cache: Path, urls: str = URLS, data_size: int | None = None, decode: str | None = "always", **changes: Any
) -> Data:
    data = WebDataset(urls, name=None, decode=decode, sizes=changes.pop("sizes", None))
    crop = changes.pop("crop", None)
    form = Form(**{"image_size": 16, "text_length": 8, "tokenize": tokenize, "cache": cache, **changes})
    return open_data(data, form, data_size=data_size, samples=100, crop=crop)


def seen(data: Data, first: int, last: int, batch_size: int = 48) -> npt.NDArray[np.int64]:
    """The numbers of the pairs in the steps first .. last - 1: [steps, batch_size]."""
    return np.stack([data.batch(data.order(0, step, batch_size), None)[1][:, 0] for step in range(first, last)])


# What is seen


def test_a_batch_holds_the_pairs_asked_for_in_that_order(tmp_path: Path) -> None:
    images, tokens = training(tmp_path).batch(np.array([2399, 0, 1203, 0, 1202]), None)
    assert tokens.tolist() == [[number] * 8 for number in (2399, 0, 1203, 0, 1202)]
    assert (images.shape, images.dtype) == ((5, 3, 16, 16), np.uint8)
    for row, number in enumerate((2399, 0, 1203, 0, 1202)):
        expected = view(Image.open(io.BytesIO(picture(number))), 16)
        np.testing.assert_array_equal(images[row], np.asarray(expected).transpose(2, 0, 1))


def test_decoded_once_or_always_the_same_is_seen_in_the_same_order(tmp_path: Path) -> None:
    once, always = training(tmp_path, decode="once"), training(tmp_path)
    assert (once.size, always.size) == (2400, 2400)
    assert always.vocabulary is None
    assert once.vocabulary is not None
    for step in (0, 7, 49, 50, 51):
        indices = once.order(0, step, 48)
        np.testing.assert_array_equal(always.order(0, step, 48), indices)
        for mine, other in zip(once.batch(indices, None), always.batch(indices, None), strict=True):
            np.testing.assert_array_equal(mine, other)


def test_each_pair_is_seen_once_an_epoch_over_the_slices_of_two_processes(tmp_path: Path) -> None:
    processes = [training(tmp_path), training(tmp_path)]
    slices: list[list[int]] = [[], []]
    for step in range(100):
        for rank, data in enumerate(processes):
            mine = data.order(0, step, 48)[24 * rank : 24 * (rank + 1)]
            slices[rank] += data.batch(mine, None)[1][:, 0].tolist()
        if step == 49:
            assert not set(slices[0]) & set(slices[1])
            assert sorted(slices[0] + slices[1]) == list(range(2400))
    assert np.bincount(slices[0] + slices[1]).tolist() == [2] * 2400


def test_a_run_that_goes_on_in_the_middle_sees_what_it_would_have_seen(tmp_path: Path) -> None:
    whole = seen(training(tmp_path), 0, 60)
    np.testing.assert_array_equal(seen(training(tmp_path), 23, 60), whole[23:])


def test_a_pair_is_read_at_once_and_a_shard_is_read_ahead_when_it_comes_into_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = training(tmp_path)
    reads, ahead, pread = [], [], os.pread
    monkeypatch.setattr(os, "pread", lambda *given: reads.append(given) or pread(*given))
    monkeypatch.setattr(stream, "read_ahead", lambda file: ahead.append(file.name))
    seen(data, 0, 50)
    assert len(reads) == 50 * 48
    assert len(ahead) == len(set(ahead)) == SHARDS

    data = training(tmp_path)
    ahead.clear()
    monkeypatch.setattr(stream, "_room_ahead", lambda: 1000)  # Memory does not hold the shards in use.
    seen(data, 0, 2)
    assert ahead == []


def test_files_of_a_sample_that_lie_apart_are_read_one_by_one(tmp_path: Path) -> None:
    with open(tmp_path / "shard", "wb+") as file:
        picture = io.BytesIO()
        Image.new("RGB", (8, 8), (1, 2, 3)).save(picture, "PNG")
        file.write(b"words" + bytes(2**20) + picture.getvalue())
        file.flush()
        image, caption = shards.read(file, np.array([5 + 2**20, picture.tell(), 0, 5, 0]))
    assert (image.size, caption) == ((8, 8), "words")


def test_threads_that_make_batches_at_a_time_make_the_same(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    data = training(tmp_path)
    expected = seen(training(tmp_path), 0, 16)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda step: seen(data, step, step + 1), range(16)))
    np.testing.assert_array_equal(np.concatenate(found), expected)


def test_data_size_is_exact_and_a_bigger_subset_holds_the_smaller(tmp_path: Path) -> None:
    small, large = training(tmp_path, data_size=950), training(tmp_path, data_size=1250)
    assert (small.size, large.size) == (950, 1250)
    assert sorted(seen(small, 0, 19, 50).ravel().tolist()) == list(range(950))
    assert sorted(seen(large, 0, 25, 50).ravel().tolist()) == list(range(1250))


def test_crops_are_of_the_image_as_it_was_found(tmp_path: Path) -> None:
    random = views(settings_of(seed=3, crop=0.4, flip=True), 96, 6)
    assert random is not None
    images, _ = training(tmp_path, crop=0.4).batch(np.arange(6), random)
    for row in range(6):
        whole = Image.open(io.BytesIO(picture(row)))
        assert whole.size == (24, 18)
        np.testing.assert_array_equal(images[row], np.asarray(view(whole, 16, random, row)).transpose(2, 0, 1))


def test_mirrored_images_are_the_same_decoded_once_or_always(tmp_path: Path) -> None:
    random = views(settings_of(seed=3, crop=None, flip=True), 0, 20)
    once, always = (training(tmp_path, decode=decode).batch(np.arange(20), random)[0] for decode in ("once", "always"))
    np.testing.assert_array_equal(once, always)


def test_what_fits_is_decoded_once_and_what_does_not_or_is_cropped_always(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flipscale.data import webdataset

    assert training(tmp_path, decode=None).vocabulary is not None
    assert training(tmp_path, decode=None, crop=0.5).vocabulary is None
    monkeypatch.setattr(webdataset, "DECODED_GB", 1e-3)
    assert training(tmp_path, decode=None, data_size=1000).vocabulary is not None
    assert training(tmp_path, decode=None).vocabulary is None


def test_crops_of_what_is_decoded_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"decode: once keeps only middle squares, and crop: 0.5 takes parts of the whole image; set"
    ):
        training(tmp_path, decode="once", crop=0.5)


# Faults


def test_pairs_that_cannot_be_read_are_counted_when_met_and_the_next_one_is_seen(tmp_path: Path) -> None:
    write_shard(tmp_path / "bad.tar", range(100), bad=frozenset([7, 8, 99]))
    always, once = (training(tmp_path, urls=f"{tmp_path}/bad.tar", decode=decode) for decode in ("always", "once"))
    assert (always.size, always.corrupt(), once.corrupt()) == (100, 0, 3)
    assert always.batch(np.array([6, 7, 8, 99]), None)[1][:, 0].tolist() == [6, 9, 9, 0]
    assert once.batch(np.array([6, 7, 8, 99]), None)[1][:, 0].tolist() == [6, 9, 9, 0]
    always.batch(np.array([7, 99, 98]), None)
    assert always.corrupt() == 3


def test_in_place_of_the_last_pair_of_a_shard_one_of_the_next_is_seen(tmp_path: Path) -> None:
    write_shard(tmp_path / "bad.tar", range(10), bad=frozenset([9]))
    data = training(tmp_path, urls=f"{tmp_path}/bad.tar::00003.tar")
    assert data.batch(np.array([8, 9]), None)[1][:, 0].tolist() == [8, 300]


def test_more_corrupt_pairs_than_are_passed_over_are_an_error_with_the_last_one(tmp_path: Path) -> None:
    write_shard(tmp_path / "bad.tar", range(100), bad=frozenset(range(20, 31)))
    data = training(tmp_path, urls=f"{tmp_path}/bad.tar")
    with pytest.raises(
        DataError,
        match=r"bad.tar: 000000030 \(is not an image that can be read\) is the last of 11 pairs that cannot be read",
    ):
        data.batch(np.arange(100), None)


def test_a_set_without_a_readable_pair_is_an_error(tmp_path: Path) -> None:
    write_shard(tmp_path / "bad.tar", range(3), bad=frozenset(range(3)))
    with pytest.raises(DataError, match=r"bad.tar: none of 3 pairs can be read"):
        training(tmp_path, urls=f"{tmp_path}/bad.tar").batch(np.array([1]), None)


@pytest.mark.parametrize("decode", ["once", "always"])
def test_a_shard_that_was_cut_off_between_two_files_is_named(tmp_path: Path, folder: Path, decode: str) -> None:
    whole = (folder / "00001.tar").read_bytes()
    with tarfile.open(folder / "00001.tar") as tar:
        end = tar.getmembers()[150].offset
    (tmp_path / "cut.tar").write_bytes(whole[:end])
    with pytest.raises(DataError, match=rf"cut.tar: cut off or damaged at byte {end}, after sample 000000149; fetch"):
        training(tmp_path, urls=f"00000.tar::{tmp_path}/cut.tar", decode=decode)


def test_counts_may_be_written_down_so_that_nothing_is_scanned_at_the_start(tmp_path: Path) -> None:
    for shard in range(3):
        write_shard(tmp_path / f"{shard}.tar", range(shard * 10, shard * 10 + 10))
    (tmp_path / "sizes.json").write_text("[10, 10, 10]")
    with pytest.raises(
        DataError, match=r'sizes.json: cannot be read \(holds no JSON object\); write {"00000.tar": 9987'
    ):
        training(tmp_path, urls=f"{tmp_path}/{{0..2}}.tar")
    (tmp_path / "sizes.json").write_text(json.dumps({"0.tar": 10, "1.tar": 10, "2.tar": 11}))
    data = training(tmp_path / "cache", urls=f"{tmp_path}/{{0..2}}.tar")
    assert data.size == 31
    assert not (tmp_path / "cache").exists()
    assert data.batch(np.array([13]), None)[1][0, 0] == 13
    with pytest.raises(DataError, match=r"2.tar: holds 10 pairs, but sizes.json says 11; correct or delete sizes.json"):
        data.batch(np.array([25]), None)


# From afar


def test_a_server_a_command_and_a_disk_give_the_same_pairs(tmp_path: Path, folder: Path, server: str) -> None:
    here = training(tmp_path / "disk", urls="{00000..00007}.tar")
    expected = [here.batch(here.order(0, step, 48), None) for step in range(18)]
    for number, urls in enumerate(
        (
            f"{server}/{{00000..00007}}.tar",
            f"pipe:cat {folder}/{{00000..00007}}.tar",
            f"file:{folder}/{{00000..00007}}.tar",
            f"file://{folder}/{{00000..00007}}.tar",
            f"{server}/{{00000..00003}}.tar::pipe:cat {folder}/{{00004..00007}}.tar",
        )
    ):
        data = training(tmp_path / str(number), urls=urls)
        for step in range(18):
            images, tokens = data.batch(data.order(0, step, 48), None)
            np.testing.assert_array_equal(images, expected[step][0])
            np.testing.assert_array_equal(tokens, expected[step][1])


def test_a_shard_is_fetched_once_for_all_runs(tmp_path: Path, folder: Path) -> None:
    calls = tmp_path / "calls"
    urls = f"pipe:echo >>{calls}; cat {folder}/{{00000..00003}}.tar"
    for _ in range(2):
        seen(training(tmp_path, urls=urls), 0, 10)
    assert len(calls.read_text()) == 4


def test_fetched_shards_stay_within_the_limit_and_every_pair_is_still_seen(
    tmp_path: Path, folder: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    length = (folder / "00000.tar").stat().st_size
    monkeypatch.setenv("FLIPSCALE_SHARDS", str(tmp_path / "near"))
    monkeypatch.setenv("FLIPSCALE_SHARDS_GB", str(12.5 * length / 1e9))
    data = training(tmp_path / "cache", urls=f"{server}/{URLS}")
    numbers = []
    for step in range(100):
        numbers += data.batch(data.order(0, step, 48), None)[1][:, 0].tolist()
        taken = sizes(tmp_path / "near")
        # So many are fetched at a time; what they take is not known before.
        assert sum(taken) <= (12.5 + library.FETCHERS) * length
    assert np.bincount(numbers).tolist() == [2] * 2400
    assert 0 < len(list((tmp_path / "near").glob("*.tar"))) <= 12
    assert not list((tmp_path / "cache").glob("shards/*"))


def sizes(folder: Path) -> list[int]:
    """The shards in the folder; a fetcher may delete some meanwhile."""
    found = []
    for path in folder.glob("*.tar"):
        with contextlib.suppress(FileNotFoundError):
            found.append(path.stat().st_size)
    return found


def test_a_limit_under_which_shards_would_be_fetched_again_and_again_is_refused(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIPSCALE_SHARDS_GB", "0.001")
    data = training(tmp_path, urls=f"{server}/{URLS}")
    with pytest.raises(DataError, match=r"of which 8 are read at a time, need FLIPSCALE_SHARDS_GB of 0.00\d or more"):
        seen(data, 0, 1)


def test_a_fetched_shard_is_indexed_though_another_deletes_it_at_once(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = library.Library.path

    def deleted(self: library.Library, shard: library.ShardSource) -> Path:
        found = path(self, shard)
        found.unlink()
        return found

    monkeypatch.setattr(library.Library, "path", deleted)
    assert training(tmp_path, urls=f"{server}/{URLS}").size == 2400


def test_a_shard_that_does_not_come_whole_is_fetched_again(tmp_path: Path, folder: Path) -> None:
    once = f"pipe:test -e {tmp_path}/tried || {{ touch {tmp_path}/tried; head -c 5120 {folder}/00000.tar; exit; }}; "
    data = training(tmp_path, urls=f"{once}cat {folder}/00000.tar".replace("{ t", r"\{ t").replace("; }", r"; \}"))
    assert data.size == 100


def test_a_shard_that_never_comes_whole_is_named_by_its_url(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(
        DataError, match=r"pipe:head -c 5120 .*00000.tar: cut off or damaged at byte 5120, after sample"
    ):
        training(tmp_path, urls=f"pipe:head -c 5120 {folder}/00000.tar")
    assert not list((tmp_path / "shards").glob("*.*[rt]"))


def test_a_fetched_shard_that_was_written_anew_is_an_error(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shard(tmp_path / "moving.tar", range(20))
    urls = f"pipe:cat {tmp_path}/moving.tar"
    training(tmp_path / "cache", urls=urls)
    write_shard(tmp_path / "moving.tar", range(60))
    monkeypatch.setenv("FLIPSCALE_SHARDS", str(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match=r"moving.tar: has \d+ bytes, and had \d+ when it was indexed"):
        seen(training(tmp_path / "cache", urls=urls), 0, 1, 4)


def test_an_s3_url_is_fetched_with_the_aws_command(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`aws` is one of our own here, which says how it was called and gives a shard."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "aws").write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/called\ncat {folder}/00002.tar\n')
    (tmp_path / "bin" / "aws").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    data = training(tmp_path, urls="s3://bucket/some folder/00002.tar")
    assert data.batch(np.array([0]), None)[1][0, 0] == 200
    assert (tmp_path / "called").read_text() == "s3 cp --quiet s3://bucket/some folder/00002.tar -\n"


@pytest.mark.parametrize(
    ("scheme", "program", "before", "after"),
    [
        ("gs", "gsutil", ["cat"], []),
        ("s3", "aws", ["s3", "cp", "--quiet"], ["-"]),
        ("ais", "ais", ["get"], ["-"]),
        *((scheme, "curl", library._CURL.split()[1:-1], []) for scheme in ("scp", "sftp", "ftps", "http", "https")),
    ],
)
def test_a_url_is_one_word_to_what_fetches_it_and_nothing_in_it_is_executed(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, program: str, before: list[str],
    after: list[str],
) -> None:  # fmt: skip
    touch = f"touch {tmp_path}/executed"
    url = f"{scheme}://host/it's $({touch}) `{touch}`; {touch} '; {touch} #\" && {touch} $HOME & * x.tar"
    (tmp_path / "bin").mkdir()
    record = shlex.quote("import json, sys; json.dump(sys.argv[2:], open(sys.argv[1], 'w'))")
    fake = f'{sys.executable} -IS -c {record} {tmp_path}/called "$@"'
    (tmp_path / "bin" / program).write_text(f"#!/bin/sh\n{fake}\ncat {folder}/00002.tar\n")
    (tmp_path / "bin" / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    data = training(tmp_path / "cache", urls=url)
    assert data.batch(np.array([0]), None)[1][0, 0] == 200
    assert json.loads((tmp_path / "called").read_text()) == [*before, url, *after]
    assert not (tmp_path / "executed").exists()


def test_a_pattern_stands_for_shards_here_and_afar() -> None:
    found = sources("00000.tar::pipe:aws s3 cp s3://b/{1..2}.tar -::https://host/x.tar")
    assert [shard.url.rpartition("/")[2] for shard in found] == ["00000.tar", "1.tar -", "2.tar -", "x.tar"]
    assert [shard.local for shard in found] == [True, False, False, False]
    assert [shard.stem for shard in found] == ["00000", "1", "2", "x"]


# What is scanned, fetched and put into tokens no more than once


def test_only_the_shards_that_data_size_needs_are_scanned(tmp_path: Path) -> None:
    training(tmp_path, data_size=250)
    assert len(list((tmp_path / "index").glob("*.npz"))) == 3


def test_a_caption_that_occurs_twice_in_a_batch_is_put_into_tokens_once(tmp_path: Path) -> None:
    given: list[str] = []

    def noting(texts: list[str]) -> npt.NDArray[np.int64]:
        given.extend(texts)
        return tokenize(texts)

    _, tokens = training(tmp_path, tokenize=noting).batch(np.array([5, 9, 5]), None)
    assert given == ["picture 5", "picture 9"]
    assert tokens[:, 0].tolist() == [5, 9, 5]


def test_fetched_shards_are_decoded_once_too(tmp_path: Path, server: str) -> None:
    here, there = (training(tmp_path, urls=urls, decode="once") for urls in ("00003.tar", f"{server}/00003.tar"))
    for mine, other in zip(here.batch(np.arange(100), None), there.batch(np.arange(100), None), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_a_shard_that_is_not_there_and_a_limit_that_is_no_number_are_named(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"/00099.tar: cannot be fetched \(exit 22\), not even in 2 more"):
        training(tmp_path, urls=f"{server}/00099.tar")
    monkeypatch.setenv("FLIPSCALE_SHARDS_GB", "lots")
    with pytest.raises(DataError, match="FLIPSCALE_SHARDS_GB: 'lots' is not a number; write how many GB"):
        library.Library(tmp_path)
