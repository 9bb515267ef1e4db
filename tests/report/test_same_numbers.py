"""No committed figure contradicts its comparison.json or fits.json: they hold each number it prints."""

import html
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from docs.parts.studies import committed
from flipscale.words import fixed, signed, times

ROOT = Path(__file__).parents[2]
STUDIES = [path.parent.name for path in committed()]
DRAWN = [(path.parent.name, path.stem) for path in committed("plots/*/*.svg")]

OPEN_CI = r"95 % CI ((?:above|below) [-+]?[\d.e+]+)"
CI = r"95 % CI ([-+]?[\d.e+]+ to [-+]?[\d.e+]+)"


@cache
def comparison(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / f"results/{name}/comparison.json").read_text())
    return found


def figure(name: str, drawn: str) -> str:
    """The texts of a committed figure, a line each."""
    return "\n".join(
        html.unescape(text)
        for text in re.findall(r"<text[^>]*>([^<]*)", (ROOT / f"plots/{name}/{drawn}.svg").read_text())
    )


def intervals(data: object) -> Iterator[tuple[float, float]]:
    """Every interval in the data of a comparison: two numbers in a list, or `low` and `high`."""
    if isinstance(data, dict):
        if isinstance(data.get("low"), int | float) and isinstance(data.get("high"), int | float):
            yield data["low"], data["high"]
        for value in data.values():
            yield from intervals(value)
    elif isinstance(data, list):
        if len(data) == 2 and all(isinstance(value, int | float) for value in data):
            yield data[0], data[1]
        for value in data:
            yield from intervals(value)


def printed_intervals(name: str) -> set[str]:
    """Every interval of comparison.json as a gain, a slope or a speed-up is printed."""
    found = comparison(name)
    gain = (lambda x: fixed(100 * x, sign=True)) if found["fraction"] else signed
    slope = (lambda x: fixed(100 * x, 2, sign=True)) if found["fraction"] else (lambda x: f"{x:+.3g}")
    forms = (gain, slope, times)
    return {f"{form(low)} to {form(high)}" for low, high in intervals(found) for form in forms}


def printed_open_intervals(name: str) -> set[str]:
    """The ends of speed-ups' intervals as they are printed where the other end lies beyond the curves."""
    text = json.dumps(comparison(name)["series"])
    lows = re.findall(r"\[([\d.e+-]+), null\]", text)
    highs = re.findall(r"\[(?:null|0\.0), ([\d.e+-]+)\]", text)
    return {f"above {times(float(end))}" for end in lows} | {f"below {times(float(end))}" for end in highs}


def printed_factors(name: str) -> set[str]:
    """Every speed-up and every ratio of costs of comparison.json as it is printed, also the other way up."""
    text = json.dumps(comparison(name)["series"]) + json.dumps([pair["ratios"] for pair in comparison(name)["pairs"]])
    found = [float(number) for number in re.findall(r'"(?:speedup|value)": ([\d.e+-]+)', text)]
    return {times(factor) for value in found if value > 0 for factor in (value, 1 / value)}


def families(name: str) -> set[str]:
    found = comparison(name)
    claims = {str(size) for size in found["claims"]["families"].values()} if found.get("claims") else set()
    return claims | {str(found["corrected"][kind]) for kind in ("gains", "speedups")}


def check_words(name: str, words: str) -> None:
    """What words print of intervals, factors and corrections is in comparison.json."""
    assert set(re.findall(CI, words)) <= printed_intervals(name)
    assert set(re.findall(OPEN_CI, words)) <= printed_open_intervals(name)
    assert len(re.findall(r"95 % CI (?=\S)(?!open)", words)) == len(re.findall(f"{CI}|{OPEN_CI}", words))
    assert set(re.findall(r"([\d.]+)[x×](?!10)", words)) <= printed_factors(name)
    assert set(re.findall(r"corrected for (\d+) comparisons", words)) <= families(name)
    assert not re.search(r"95 % interval|each for itself|\d to [\d.]+, \d+ seeds\)", re.sub(CI, "", words))


@pytest.mark.parametrize(("name", "drawn"), DRAWN)
def test_a_figure_prints_no_interval_that_its_comparison_lacks(name: str, drawn: str) -> None:
    words = figure(name, drawn)
    if drawn == "repeats":
        words = re.sub(r"^[\d.]+×$", "", words, flags=re.MULTILINE)  # ticks of an axis of factors
    check_words(name, words)


def test_exponents_of_the_figure_of_best_sizes_are_those_of_the_fits() -> None:
    fits = json.loads((ROOT / "results/isoflop/fits.json").read_text())["fits"]
    exponents = {
        f"a = {fixed(fit['parameters']['a'], 2)} ({', '.join(fixed(end, 2) for end in fit['intervals']['a'])})"
        for fit in fits
        if fit["law"] == "growth"
    }
    assert len(exponents) == 2
    assert set(re.findall(r"a = [^)]*\)", figure("isoflop", "isoflop"))) == exponents
