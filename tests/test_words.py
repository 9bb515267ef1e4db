"""How numbers are written for people."""

import pytest

from flipscale.words import memory, rounded, short, signed, times


@pytest.mark.parametrize(
    ("number", "digits", "written"),
    [
        (0.75, 3, "0.75"),
        (999.4, 3, "999"),
        (999.6, 3, "1k"),
        (999_499, 3, "999k"),
        (999_600, 3, "1M"),
        (-999_600, 3, "-1M"),
        (999_960, 4, "1M"),
        (12.8e9, 3, "12.8B"),
        (0, 3, "0"),
    ],
)
def test_a_number_that_rounds_up_to_the_next_suffix_has_it(number: float, digits: int, written: str) -> None:
    assert rounded(number, digits) == written


def test_no_size_factor_or_difference_is_written_with_an_exponent() -> None:
    assert [memory(size) for size in (999, 999.6, 512e6, 999.9e6, 24e9)] == ["999 B", "1 kB", "512 MB", "1 GB", "24 GB"]
    assert [times(factor) for factor in (1.064, 3.7, 999.9, 1234.4, 56_789)] == [
        "1.06",
        "3.7",
        "999.9",
        "1,234",
        "56,789",
    ]
    assert [signed(value) for value in (0.93, -12.4, 99.4, 99.6, -99.6, 145.2)] == [
        "+0.93", "-12", "+99", "+100", "-100", "+145",
    ]  # fmt: skip
    assert [short(value) for value in (16_000, 65_536, 0.75, None)] == ["16k", "65.54k", "0.75", "null"]
