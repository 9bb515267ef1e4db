"""A cell is axes with values; only cell.py knows how results.csv writes it."""

from pathlib import Path

import pytest

from flipscale.cell import read_cell, without, write_cell
from flipscale.planning.runs import plan
from flipscale.study import read_study

TUNED = (("model", "ViT-B-16"), ("tuning", "(samples=1.6k, lr=0.0001)"), ("samples", "400M"))


def test_a_comma_inside_parentheses_belongs_to_a_value():
    text = "model=ViT-B-16, tuning=(samples=1.6k, lr=0.0001), samples=400M"
    assert read_cell(text) == TUNED
    assert write_cell(TUNED) == text


@pytest.mark.parametrize("text", ["", "samples=16k", "data=shapes(pairs=0.5, noise=1)", "a=x=y", "all of it, b=2"])
def test_what_is_read_is_written_again(text):
    assert write_cell(read_cell(text)) == text


def test_a_part_of_somebody_elses_table_names_no_axis():
    assert read_cell("large, lr=1") == (("", "large"), ("lr", "1"))


def test_a_parenthesis_that_never_closes_hides_no_axis():
    assert read_cell("data=(a, lr=1") == (("data", "(a"), ("lr", "1"))


def test_a_cell_without_an_axis_keeps_the_others():
    assert without(TUNED, "tuning") == (("model", "ViT-B-16"), ("samples", "400M"))


def test_the_cells_of_a_plan_are_read_as_they_were_written(tmp_path: Path):
    path = tmp_path / "study.yaml"
    path.write_text(
        "schema: 1\nbase: {model: ViT-w32d2-4, samples: 16k, batch_size: 64}\n"
        "axes: {tuning: [null, {samples: 1600, lr: 1e-4, mask_ratio: 0.5}], samples: [3200, 6400]}\n"
    )
    cells = [run.cell for run in plan(read_study(path)).cells]
    assert {axis for cell in cells for axis, _ in cell} == {"tuning", "samples"}
    assert [read_cell(write_cell(cell)) for cell in cells] == cells
