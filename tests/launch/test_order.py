"""In which order runs go out: twins side by side, and parents before children."""

from itertools import groupby
from pathlib import Path

import pytest

from flipscale.launch.order import in_turn
from flipscale.planning.runs import plan
from flipscale.study import read_study

QUICKSTART = Path("studies/quickstart.yaml")

TUNED = """\
schema: 1
question: Does a tuned model keep its gain?
base: {data: shapes, model: ViT-w16d1-4, samples: 4k, mask_ratio: 0, batch_size: 64, lr: 1e-3}
axes:
  samples: [4k, 8k]
  mask_ratio: [0, 0.5, 0.75]
  tuning: [{samples: 1k}]
seeds: 2
baseline: {mask_ratio: 0}
"""


def ordered(file: Path):
    return in_turn({run.id: run for run in plan(read_study(file)).runs})


@pytest.fixture
def tuned(tmp_path: Path):
    file = tmp_path / "tuned.yaml"
    file.write_text(TUNED)
    return ordered(file)


def test_each_seed_of_a_cell_goes_out_with_all_of_its_arms_together():
    runs = ordered(QUICKSTART)
    assert len(runs) == 48
    together = [list(group) for _, group in groupby(runs, key=lambda run: (run.cell, run.settings.seed))]
    assert len(together) == 24
    assert all({run.settings.mask_ratio for run in twins} == {0, 0.5} for twins in together)
    assert len(list(groupby(runs, key=lambda run: run.cell))) == 6


def test_the_costliest_cell_goes_first():
    runs = ordered(QUICKSTART)
    costs = [max(run.cost.train_flops for run in group) for _, group in groupby(runs, key=lambda run: run.cell)]
    assert costs == sorted(costs, reverse=True)


def test_no_arm_is_always_first_and_the_order_is_the_same_each_time():
    runs = ordered(QUICKSTART)
    first = [
        next(group).settings.mask_ratio for _, group in groupby(runs, key=lambda run: (run.cell, run.settings.seed))
    ]
    assert set(first) == {0, 0.5}
    assert [run.id for run in ordered(QUICKSTART)] == [run.id for run in runs]


def test_parents_that_no_cell_asks_for_are_twins_as_their_children_are(tuned):
    parents = [run for run in tuned if run.settings.tuning is None]
    assert all(run.cell is None for run in parents)
    together = [list(group) for _, group in groupby(parents, key=lambda run: (run.settings.samples, run.settings.seed))]
    assert [len(twins) for twins in together] == [3, 3, 3, 3]
    assert [run.settings.samples for run in parents[:6]] == [8000] * 6


def test_parents_come_before_their_children(tuned):
    places = {run.id: place for place, run in enumerate(tuned)}
    assert len(places) == 24
    assert all(places[parent] < places[run.id] for run in tuned for parent in run.parents)


def test_a_parent_that_another_cell_asks_for_comes_before_a_costlier_cell_with_its_child(tmp_path):
    """Untuned runs are a cell of their own, and one of the tuned cells is costlier than it."""
    file = tmp_path / "both.yaml"
    file.write_text(TUNED.replace("tuning: [{samples: 1k}]", "tuning: [null, {samples: 64k}]"))
    runs = ordered(file)
    places = {run.id: place for place, run in enumerate(runs)}
    assert any(run.parents for run in runs)
    assert all(places[parent] < places[run.id] for run in runs for parent in run.parents)
