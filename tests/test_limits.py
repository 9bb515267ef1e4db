"""What is too large, too small or out of its place is refused with a sentence before it is read."""

import argparse
import gzip
import io
import os
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from flipscale.cli import entry, main
from flipscale.data import idx, shards
from flipscale.data.decode import decode
from flipscale.data.shards import labels_of, samples, sources
from flipscale.data.views import MOST_PIXELS, open_image
from flipscale.errors import DataError, FlipscaleError, StudyError, missing_package
from flipscale.storage.archive import open_archive
from flipscale.study import read_study
from flipscale.study.expression import ExpressionError, read_expression
from flipscale.track import without_secrets

BASE = "base: {data: shapes, model: ViT-w16d1-4, text_length: 16, samples: 640, batch_size: 32, lr: 1e-3}\n"
STUDY = f"schema: 1\n{BASE}"


def complaints(path: Path) -> tuple[str, ...]:
    with pytest.raises(StudyError) as raised:
        read_study(path)
    return raised.value.complaints


# Studies


def test_rounding_to_a_thousand_million_digits_is_a_complaint() -> None:
    with pytest.raises(ExpressionError, match="gives a number too large"):
        read_expression("round(1, -10**9)", [])({})
    rounded = [read_expression(text, [])({}) for text in ("round(2.5)", "round(1.26, 1)", "round(1234, -2)")]
    assert rounded == [2, 1.3, 1200]


def test_includes_that_double_eighteen_times_are_a_complaint(tmp_path: Path) -> None:
    for number in range(18):
        (tmp_path / f"{number}.yaml").write_text(f"include: [{number + 1}.yaml, {number + 1}.yaml]\n")
    (tmp_path / "18.yaml").write_text(STUDY)
    (said,) = complaints(tmp_path / "0.yaml")
    assert said.endswith("include leads to more than 100 files; include fewer")


def test_a_file_of_one_long_line_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.touch()
    os.truncate(path, 100_000_000)
    assert complaints(path) == (f"{path}: holds 100,000,000 bytes, where at most 1,048,576 are allowed.",)


def test_a_pattern_of_ten_million_shards_is_refused_before_it_is_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for pattern in ("{0..10000000}.tar", "{0..9999}{0..9999}.tar"):
        with pytest.raises(DataError, match="stands for more than 1,000,000 shards"):
            sources(pattern)
    # Words in braces are written out up to the limit, and a million names take 40 s.
    monkeypatch.setattr(shards, "MOST_DECLARED_SHARDS", 1000)
    with pytest.raises(DataError, match="stands for more than 1,000 shards"):
        sources("{a,b}" * 30 + ".tar")


@pytest.mark.parametrize("name", ["...yaml", ".hidden.yaml", "a'b.yaml", "$\\frac{x$.yaml", "a\nb.yaml"])
def test_a_study_whose_name_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(STUDY)
    (said,) = complaints(tmp_path / name)
    assert "cannot be the name of a study, which is that of its file" in said


def test_two_escaped_halves_of_a_character_in_a_study_are_joined(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY + 'question: "\\ud83d\\ude00?"\n')
    assert read_study(tmp_path / "study.yaml").question == "\N{GRINNING FACE}?"
    (tmp_path / "study.yaml").write_text(STUDY + 'question: "\\ud83d?"\n')
    assert "holds half a character" in complaints(tmp_path / "study.yaml")[0]
    (tmp_path / "study.yaml").write_text(STUDY + 'question: "\\e[31mred"\n')
    assert "holds a control character" in complaints(tmp_path / "study.yaml")[0]


# Images and arrays


def png(width: int, height: int) -> bytes:
    """A PNG that claims this size and holds next to nothing."""
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "png")
    data = bytearray(file.getvalue())
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def test_an_image_of_too_many_pixels_is_not_decoded() -> None:
    with pytest.raises(ValueError, match=r"it has 8000 x 8000 pixels, where 1 to 33,554,432 are read"):
        open_image(io.BytesIO(png(8000, 8000)))
    with pytest.raises(DataError, match="8000 x 8000 pixels"):
        decode([("a.png", png(8000, 8000))], 1, 8, "images")
    assert (Image.MAX_IMAGE_PIXELS or 0) / 2 > MOST_PIXELS


@pytest.mark.slow
def test_twelve_images_of_13000_pixels_a_side_take_less_than_a_gigabyte(tmp_path: Path) -> None:
    Image.new("1", (13000, 13000)).save(tmp_path / "large.png")
    script = (
        "import resource, sys, warnings\nfrom pathlib import Path\nfrom flipscale.errors import DataError\n"
        "from flipscale.data.decode import decode\nwarnings.simplefilter('ignore')\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: decode([(str(n), Path(sys.argv[1])) for n in range(12)], 12, 32, 'images')\n"
        "except DataError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "large.png")]
    said, kilobytes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "13000 x 13000 pixels" in said
    assert int(kilobytes) < 500_000


def idx_file(path: Path, magic: int, shape: tuple[int, ...], data: bytes) -> Path:
    head = magic.to_bytes(4, "big") + b"".join(axis.to_bytes(4, "big") for axis in shape)
    with gzip.open(path, "wb") as file:
        file.write(head + data)
    return path


def test_an_idx_file_that_lies_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    for shape, said in (
        ((2**32 - 1, 2**16, 2**16), "where 1 to"),
        ((3, 0, 28), "declares images of 3 x 0 x 28 bytes"),
        ((1, 2, 2), "declares 1 x 2 x 2 = 4 bytes but holds 5"),
    ):
        with pytest.raises(DataError, match=said):
            idx.array(idx_file(path, idx.IMAGES, shape, bytes(2_000_000)), idx.IMAGES)


def test_a_class_of_2_to_the_70_is_none() -> None:
    assert labels_of("sample", {"cls": b"7"}) == [7]
    for text in (str(2**70).encode(), b"-1"):
        with pytest.raises(DataError, match="write the number of the class, from 0 on"):
            labels_of("sample", {"cls": text})


def test_a_sparse_member_of_a_shard_is_refused(tmp_path: Path) -> None:
    member = tarfile.TarInfo("a.png")
    member.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    block[386:482] = bytes(96)
    block[483:495] = b"77777777777\0"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    (tmp_path / "a.tar").write_bytes(bytes(block) + bytes(1024))
    with pytest.raises(DataError, match=r"a\.png is stored as a sparse file"):
        list(samples(tmp_path / "a.tar"))


# The command line


def test_a_missing_package_is_a_sentence_with_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def needs(args: object) -> int:
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn.linear_model")

    monkeypatch.setattr(entry, "parse", lambda words: argparse.Namespace(command=needs))
    assert main(["plan"]) == 1
    assert capsys.readouterr().err.endswith("Install it: pip install 'flipscale[train]'\n")
    assert missing_package("psycopg2").endswith("pip install psycopg2-binary")


def test_ctrl_c_while_modules_are_loaded_is_no_traceback() -> None:
    script = (
        "import builtins, runpy, sys\nloads = builtins.__import__\n"
        "def load(name, *rest, **more):\n"
        "    if name == 'flipscale.cli': raise KeyboardInterrupt\n"
        "    return loads(name, *rest, **more)\n"
        "builtins.__import__ = load\nrunpy.run_module('flipscale', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_merge_waits_for_no_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "runs.tar")
    with pytest.raises(FlipscaleError, match="is a pipe, where a plain file is expected"):
        open_archive(tmp_path / "runs.tar").__enter__()


def test_signed_addresses_are_hidden() -> None:
    address = "https://s3/mlflow?X-Amz-Signature=abc&X-Amz-Credential=def&sig=ghi&region=eu"
    assert without_secrets(address) == ("https://s3/mlflow?X-Amz-Signature=***&X-Amz-Credential=***&sig=***&region=eu")
