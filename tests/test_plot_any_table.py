"""Figures of anybody's table."""

import re

import pandas as pd
import pytest

from flipscale.cli import main

RUNS = pd.DataFrame(
    [("base", loss) for loss in (2.1997, 2.2065, 2.2532, 2.2566, 2.2650, 2.2667)]
    + [("new", loss) for loss in (2.2155, 2.19, 2.20)],
    columns=["arm", "val_loss"],
)
SIZES = pd.DataFrame(
    [(name, c, 50 * a * c**-0.06) for name, a in (("c4", 1), ("rw", 1.1)) for c in (3e20, 6e20, 1e21, 3e21, 1e22)],
    columns=["set", "flops", "loss"],
)


def words_of(file):
    """The words of an SVG, whose text stays text."""
    return re.findall(r">([^<>]+)</text>", file.read_text())


@pytest.fixture
def tables(tmp_path):
    RUNS.to_csv(tmp_path / "runs.csv", index=False)
    SIZES.to_csv(tmp_path / "sizes.csv", index=False)
    return tmp_path


def test_groups_are_drawn_with_names_of_the_columns(tables, capsys):
    file = tables / "groups.svg"
    options = ["--baseline", "arm=base", "--y", "val_loss", "--plot", str(file)]
    assert main(["compare", str(tables / "runs.csv"), *options]) == 0
    assert {"arm=base", "arm=new", "val_loss (lower is better)"} <= set(words_of(file))
    assert "wrote" in capsys.readouterr().err


def test_each_arm_is_drawn_by_its_own_runs_and_the_gain_of_twins_beside_them(tmp_path):
    """The baseline was drawn by the twins of the first arm: four of its six runs."""
    rows = [
        (arm, seed, params, loss + 0.1 * seed - gain)
        for arm, seeds, gain in (("base", 6, 0), ("b", 4, 0.05), ("a", 6, 0.1))
        for seed in range(seeds)
        for params, loss in ((1_000_000, 3), (10_000_000, 2))
    ]
    table = tmp_path / "runs.csv"
    pd.DataFrame(rows, columns=["arm", "seed", "params", "val_loss"]).to_csv(table, index=False)
    file = tmp_path / "groups.svg"
    options = ["--baseline", "arm=base", "--y", "val_loss", "--at", "params", "--seed", "seed", "--plot", str(file)]
    assert main(["compare", str(table), *options]) == 0
    uses = re.findall(r"fill-opacity: 0.35; stroke: (#\w+)", file.read_text())
    assert [uses.count(color) for color in ("#000000", "#0072b2", "#d55e00")] == [2 * 6, 2 * 4, 2 * 6]
    assert "by twins; above 0 is better" in words_of(file)


def test_laws_are_drawn_with_their_groups_and_the_axes_of_the_columns(tables):
    file = tables / "laws.svg"
    options = ["--x", "flops", "--y", "loss", "--group", "set", "--law", "power", "--plot", str(file), "--draws", "100"]
    assert main(["fit", str(tables / "sizes.csv"), *options]) == 0
    assert {"set=c4", "set=rw", "flops", "loss", "1e21"} <= set(words_of(file))
    assert file.read_text().count("stroke-dasharray") >= 2  # Beyond the largest run the law is dashed.


def test_a_figure_is_in_the_format_of_its_ending(tables, capsys):
    options = ["--baseline", "arm=base", "--y", "val_loss", "--plot"]
    for ending, magic in (("png", b"\x89PNG"), ("pdf", b"%PDF")):
        file = tables / f"groups.{ending}"
        assert main(["compare", str(tables / "runs.csv"), *options, str(file)]) == 0
        assert file.read_bytes().startswith(magic)
    assert main(["compare", str(tables / "runs.csv"), *options, "groups.jpg"]) == 1
    assert "groups.jpg: a figure's file ends in .svg, .png, .pdf." in capsys.readouterr().err


def test_curves_are_drawn_a_panel_a_series_with_bands_where_there_are_seeds(tmp_path, capsys):
    rows = [
        (model, mask, seed, hours, hours**0.1 * level + 0.01 * seed - 0.02 * bool(mask))
        for model, level in (("B", 0.5), ("L", 0.6))
        for mask in (0, 0.5)
        for seed in (0, 1, 2)
        for hours in (1, 2, 4)
    ]
    table = tmp_path / "curves.csv"
    pd.DataFrame(rows, columns=["model", "mask", "seed", "hours", "top1"]).to_csv(table, index=False)
    file = tmp_path / "curves.svg"
    options = ["--baseline", "mask=0", "--x", "hours", "--y", "top1", "--series", "model", "--plot", str(file)]
    assert main(["compare", str(table), *options]) == 0
    assert {"model=B", "model=L", "mask=0", "mask=0.5", "hours", "top1 (higher is better)"} <= set(words_of(file))
    assert file.read_text().count('id="FillBetweenPolyCollection') == 4
    first = file.read_bytes()
    assert main(["compare", str(table), *options]) == 0
    assert file.read_bytes() == first
