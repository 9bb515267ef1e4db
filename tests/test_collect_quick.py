"""What orjson does for collecting is what Python would do."""

import csv
import io
import json
import math
import random

import pytest

from flipscale import plain_files
from flipscale.collect import quick, update

ODD = [
    b"",
    b"[]",
    b"-0",
    b"[-0.0, 1E5, 1e400, -1e400, 1e-400]",
    b"[18446744073709551615, 18446744073709551616, 99999999999999999999]",
    b"[-9223372036854775808, -9223372036854775809, -18446744073709551616]",
    b'{"params": 123456789012345678901234567890}',
    b"0.00012345678901234567",
    b"[NaN, Infinity, -Infinity]",
    b'{"a": 1, "b": 2, "a": 3}',
    b'"\\ud83d\\ude00"',
    b'"\\ud800"',
    b'"\\udcff"',
    b'"\xff"',
    b"\xef\xbb\xbf{}",
    '{"a": 1}'.encode("utf-16"),
    b'"\x00"',
    b'"\\u0000"',
    b"[1,]",
    b"{} {}",
    b"[" * 900 + b"]" * 900,
    b"[" * 100_000,
    b"[true, false, null]",
    b"01",
    b"1.",
    b"+1",
]


def outcome(read, text: bytes) -> str:
    """What reading gives, its types included, or that it is no JSON."""
    try:
        return repr(read(text))
    except ValueError:
        return "no JSON"


@pytest.mark.parametrize("text", ODD)
def test_odd_json_is_read_as_everywhere_else(text):
    assert outcome(quick.parsed, text) == outcome(plain_files.parsed, text)


def test_damaged_json_is_read_as_everywhere_else():
    draw = random.Random(0)
    whole = json.dumps(
        {"schema": 1, "scores": {"a.b": 0.125, "ü": -1.5e-7}, "steps": 2**63, "n": None, "t": [True, False, "x\n"]}
    ).encode()
    agree = 0
    for _ in range(3000):
        text = bytearray(whole)
        for _ in range(draw.choice([1, 1, 2, 5])):
            place = draw.randrange(len(text))
            text[place : place + draw.choice([0, 1, 1, 3])] = draw.choice(
                [
                    b"",
                    b"0",
                    b"9" * 20,
                    b"-",
                    b".",
                    b"e",
                    b'"',
                    b"\\",
                    b"\\ud8",
                    b"]",
                    b"NaN",
                    b"\xc3",
                    bytes([draw.randrange(256)]),
                ]
            )
        found = outcome(quick.parsed, bytes(text))
        assert found == outcome(plain_files.parsed, bytes(text)), bytes(text)
        agree += found != "no JSON"
    assert agree > 300, "many of them are still JSON"


def test_floats_are_written_as_str_writes_them():
    draw = random.Random(0)
    numbers = [0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, 1.7976931348623157e308, 2.0**53, 0.1 + 0.2]
    for power in range(-7, 19):
        tens = 10.0**power
        numbers += [tens, -tens, math.nextafter(tens, 0), math.nextafter(tens, math.inf), float(round(tens))]
        numbers += [draw.uniform(1, 10) * tens for _ in range(500)]
        numbers += [round(draw.uniform(1, 10) * tens, draw.randrange(10)) for _ in range(500)]
    assert quick.texts_of(numbers) == [str(number) for number in numbers]
    assert quick.texts_of([]) == []
    assert quick.texts_of([1e-9]) == ["1e-09"]


def test_rows_are_quoted_as_csv_quotes_them():
    rows = [
        {"id": "plain", "lr": "0.5"},
        {"id": "a,b", "cell": 'say "x"', "lr": ""},
        {"id": 'a"b'},
        {"id": "two\nlines"},
        {"id": " spaces ", "study": "ünï"},
        {"id": "", "sketch.zero_shot_top1": "0.25"},
    ]
    written = io.BytesIO()
    update._write_rows(written, rows)
    text = written.getvalue().decode()
    by_csv = io.StringIO(newline="")
    names = text.partition("\n")[0].split(",")
    assert names[-1] == "sketch.zero_shot_top1"
    writer = csv.writer(by_csv, lineterminator="\n")
    writer.writerows([names, *([row.get(name, "") for name in names] for row in rows)])
    assert text == by_csv.getvalue()
