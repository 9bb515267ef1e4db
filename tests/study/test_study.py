"""Studies that read well: their cells, couplings, designs, includes, and the JSON Schema beside the reader."""

import itertools
import json
import math
import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

import flipscale.study
from flipscale.door.columns import SETTING_COLUMNS
from flipscale.errors import StudyError
from flipscale.planning.runs import plan, plan_at
from flipscale.settings.declarations import Budget, Shapes, plain
from flipscale.study import SETTINGS, cells, read_study
from flipscale.study.expression import FUNCTIONS, ExpressionError, read_expression
from flipscale.study.keys import TOP
from flipscale.study.schema import study_schema
from tests.study.test_bad_files import BAD

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "studies").glob("*.yaml"))
TEMPLATE = Path(flipscale.study.__file__).with_name("template.yaml")

FLIP = """\
schema: 1
question: Does masking image patches buy accuracy at equal compute?
base:
  data: {webdataset: "laion400m/{00000..41455}.tar"}
  samples: 12.8B
axes:
  model: [ViT-B-16, ViT-L-16, ViT-H-14]
  mask_ratio: [0, 0.5, 0.75]
couple:
  batch_size: 16384 / (1 - mask_ratio)
  lr: 4e-6 * batch_size / 256
baseline: {mask_ratio: 0}
"""

SMALL = """\
schema: 1
base: {model: ViT-w32d2-4, samples: 16k, batch_size: 64}
"""


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Reads a study given as text, beside the files `others` (name without .yaml: text)."""

    def read(text: str, **others: str) -> flipscale.study.Study:
        for name, other in others.items():
            (tmp_path / f"{name}.yaml").write_text(other)
        (tmp_path / "study.yaml").write_text(text)
        return read_study(tmp_path / "study.yaml")

    return read


def column(study: flipscale.study.Study, *names: str) -> list[Any]:
    """The values of some settings in every cell: of one setting bare, of several as tuples."""
    rows = [tuple(getattr(cell, name) for name in names) for cell in cells(study)]
    return [row[0] for row in rows] if len(names) == 1 else rows


# A whole study


def test_flips_own_grid_is_nine_runs_without_its_data_or_a_gpu(read):
    study = read(FLIP)
    assert column(study, "model", "mask_ratio", "batch_size", "lr") == [
        ("ViT-B-16", 0.0, 16384, pytest.approx(2.56e-4)),
        ("ViT-B-16", 0.5, 32768, pytest.approx(5.12e-4)),
        ("ViT-B-16", 0.75, 65536, pytest.approx(1.024e-3)),
        ("ViT-L-16", 0.0, 16384, pytest.approx(2.56e-4)),
        ("ViT-L-16", 0.5, 32768, pytest.approx(5.12e-4)),
        ("ViT-L-16", 0.75, 65536, pytest.approx(1.024e-3)),
        ("ViT-H-14", 0.0, 16384, pytest.approx(2.56e-4)),
        ("ViT-H-14", 0.5, 32768, pytest.approx(5.12e-4)),
        ("ViT-H-14", 0.75, 65536, pytest.approx(1.024e-3)),
    ]
    assert set(column(study, "samples", "warmup", "image_size", "text_length")) == {
        (12_800_000_000, 51_200_000, 224, 32)
    }
    assert len(plan(study).runs) == 9


def test_order_of_keys_changes_no_run(read):
    whole = yaml.safe_load(FLIP)
    expected = {run.id for run in plan(read(FLIP)).runs}
    orders = list(itertools.permutations(whole))
    for order in random.Random(0).sample(orders, 20):
        text = yaml.safe_dump({key: whole[key] for key in order}, sort_keys=False)
        assert {run.id for run in plan(read(text)).runs} == expected
    backwards = {
        key: dict(reversed(value.items())) if isinstance(value, dict) else value for key, value in whole.items()
    }
    assert {run.id for run in plan(read(yaml.safe_dump(backwards, sort_keys=False))).runs} == expected


def test_cells_hold_every_setting_in_the_order_of_the_table(read):
    for cell in cells(read(FLIP)):
        assert list(vars(cell)) == list(SETTINGS)
        assert None not in (cell.image_size, cell.warmup, cell.lr)


def test_study_with_no_axes_is_one_run(read):
    assert len(cells(read(SMALL))) == 1


# Counts and numbers


@pytest.mark.parametrize(
    "written", ["400M", "4e8", "400000000", "400_000_000", "'400M'", "0.4B", "'4e8'", "0.4G", "400000k"]
)
def test_four_hundred_million_is_written_many_ways(read, written: str):
    study = read(SMALL.replace("16k", "1B") + f"axes: {{data_size: [{written}]}}\n")
    assert column(study, "data_size") == [400_000_000]
    assert type(cells(study)[0].data_size) is int


def test_counts_beyond_a_floats_precision_are_exact(read):
    assert column(read(SMALL.replace("16k", "12345678901234567")), "samples") == [12345678901234567]
    assert column(read(SMALL.replace("16k", "12.345678901B")), "samples") == [12345678901]


@pytest.mark.parametrize("written", ["1e-3", "0.001", "1.0e-3", "1E-3", ".001"])
def test_number_is_a_number_however_it_is_written(read, written: str):
    assert column(read(SMALL.replace("64}", f"64, lr: {written}}}")), "lr") == [0.001]


def test_on_and_off_are_words_as_keys(read):
    # YAML 1.1 reads a bare `on` as True, as a key too; there the complaint must name what was written.
    with pytest.raises(StudyError, match="unknown key 'on';"):
        read(SMALL + "on: 3\n")


# Data


@pytest.mark.parametrize(
    ("written", "data"),
    [
        ("shapes", {"shapes": {"pairs": 0.3, "seed": 0}}),
        ("{shapes: {}}", {"shapes": {"pairs": 0.3, "seed": 0}}),
        ("{shapes: }", {"shapes": {"pairs": 0.3, "seed": 0}}),
        ("{shapes: {pairs: 1}}", {"shapes": {"pairs": 1.0, "seed": 0}}),
        ("fashion", {"fashion": {"folder": None}}),
        ("{fashion: data/fashion}", {"fashion": {"folder": "data/fashion"}}),
        (
            "{webdataset: 'a/{0..9}.tar'}",
            {"webdataset": {"urls": "a/{0..9}.tar", "name": None, "decode": None, "sizes": None}},
        ),
        (
            "{webdataset: {urls: 'a/{0..9}.tar', name: a}}",
            {"webdataset": {"urls": "a/{0..9}.tar", "name": "a", "decode": None, "sizes": None}},
        ),
    ],
)
def test_data_is_read_with_all_its_options(read, written: str, data: dict[str, Any]):
    (read_data,) = column(read(SMALL.replace("64}", f"64, data: {written}}}")), "data")
    assert plain(read_data) == data


def test_evaluation_may_stand_at_the_top_or_in_base(read):
    evaluation = {"data": {"fashion": {"folder": None}}, "images": 100, "at": [0.5], "templates": ["a {}"]}
    evaluation |= {"sets": {}, "linear_probe": False, "means": {}, "scores": {}, "inference": []}
    written = "evaluation: {data: fashion, images: 100, at: 0.5, templates: ['a {}']}"
    for study in (f"{SMALL}{written}\n", SMALL.replace("64}", f"64, {written}}}")):
        (found,) = column(read(study), "evaluation")
        assert plain(found) == evaluation


# Couplings


def test_coupling_wins_over_base_and_follows_couplings_in_any_order(read):
    study = read(SMALL + "couple: {warmup: 10 * data_size, data_size: 2 * batch_size, batch_size: text_length}\n")
    assert column(study, "batch_size", "data_size", "warmup", "lr") == [(32, 64, 640, 4e-6 * 32 / 256)]


def test_rules_of_flip_hold_where_nothing_is_said(read):
    study = read(SMALL + "axes: {samples: [1k, 1B]}\n")
    assert column(study, "lr", "warmup") == [(1e-6, 100), (1e-6, 51_200_000)]


def test_recipe_lies_under_what_the_study_says(read):
    study = read(
        "schema: 1\nrecipe: flip\nbase: {model: ViT-B-16, samples: 2.56B, beta2: 0.98}\n"
        "axes: {mask_ratio: [0, 0.5], crop: [0.9]}\n"
    )
    assert column(study, "batch_size", "lr", "beta2", "crop", "flip", "text_length", "precision") == [
        (16384, pytest.approx(2.56e-4), 0.98, 0.9, True, 32, "bf16"),
        (32768, pytest.approx(5.12e-4), 0.98, 0.9, True, 32, "bf16"),
    ]


def test_recipe_of_open_clip_has_its_fixed_lr_and_its_model_s_context(read):
    study = read("schema: 1\nrecipe: openclip\nbase: {model: ViT-B-16, samples: 2.56B, batch_size: 32k}\n")
    assert column(study, "lr", "warmup", "eps", "beta2", "normalization", "text_length") == [
        (5e-4, 256_000_000, 1e-6, 0.98, "openai", 77)
    ]
    study = read(
        "schema: 1\nrecipe: openclip\nbase: {model: ViT-B-16, samples: 2.56B, batch_size: 32k}\n"
        "couple: {lr: 1e-3 * 2}\n"
    )
    assert column(study, "lr") == [2e-3]


def test_coupling_of_a_recipe_that_comes_out_broken_is_told_at_the_recipe(read):
    with pytest.raises(StudyError, match=r"study.yaml:2: batch_size at mask_ratio 1: .* too large"):
        read(
            "schema: 1\nrecipe: flip\nbase: {model: ViT-B-16, samples: 2.56B}\n"
            "axes: {mask_ratio: [0.999999999999999]}\n"
        )


def test_coupling_may_choose_a_text(read):
    study = read(
        SMALL + "axes: {mask_ratio: [0, 0.5]}\ncouple: {model: \"'ViT-w48d3-4' if mask_ratio else 'ViT-w32d2-4'\"}\n"
    )
    assert column(study, "model") == ["ViT-w32d2-4", "ViT-w48d3-4"]


def test_coupling_may_be_a_plain_number(read):
    assert column(read(SMALL + "couple: {lr: 1e-3, batch_size: 1k}\n"), "lr", "batch_size") == [(1e-3, 1000)]


# Conditions


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        (
            "where: mask_ratio < 0.6",
            [("ViT-w32d2-4", 0), ("ViT-w32d2-4", 0.5), ("ViT-w48d3-4", 0), ("ViT-w48d3-4", 0.5)],
        ),
        ("where: model == 'ViT-w48d3-4' and mask_ratio", [("ViT-w48d3-4", 0.5), ("ViT-w48d3-4", 0.75)]),
        ("where: [mask_ratio > 0, 'mask_ratio in [0, 0.5]']", [("ViT-w32d2-4", 0.5), ("ViT-w48d3-4", 0.5)]),
        ("where: 0 < mask_ratio < 0.6 and not model == 'ViT-w32d2-4'", [("ViT-w48d3-4", 0.5)]),
        ("where: {model: ViT-w48d3-4, mask_ratio: 0}", [("ViT-w48d3-4", 0)]),
        ("where: batch_size < 100", [("ViT-w32d2-4", 0), ("ViT-w48d3-4", 0)]),
        ("exclude: mask_ratio > 0", [("ViT-w32d2-4", 0), ("ViT-w48d3-4", 0)]),
        ("exclude: [{mask_ratio: 0.5}, mask_ratio == 0, {model: ViT-w32d2-4}]", [("ViT-w48d3-4", 0.75)]),
        (
            "exclude: {data: shapes, mask_ratio: 0.5}\nwhere: {model: ViT-w32d2-4}",
            [("ViT-w32d2-4", 0), ("ViT-w32d2-4", 0.75)],
        ),
        ("where: data == 'shapes' and model == 'ViT-w32d2-4' and mask_ratio == 0.5", [("ViT-w32d2-4", 0.5)]),
        ("where: data_size == None and mask_ratio == 0", [("ViT-w32d2-4", 0), ("ViT-w48d3-4", 0)]),
    ],
)
def test_conditions_keep_and_drop_cells(read, condition: str, left: list[tuple[str, float]]):
    axes = "axes: {model: [ViT-w32d2-4, ViT-w48d3-4], mask_ratio: [0, 0.5, 0.75]}\n"
    couple = "couple: {batch_size: 64 / (1 - mask_ratio)}\n"
    assert column(read(SMALL + axes + couple + condition + "\n"), "model", "mask_ratio") == left


def test_cell_that_is_excluded_needs_no_coupled_value(read):
    study = read(SMALL + "axes: {mask_ratio: [0, 0.5]}\ncouple: {batch_size: 64 / mask_ratio}\nwhere: mask_ratio > 0\n")
    assert column(study, "batch_size") == [128]


# Seeds and designs


@pytest.mark.parametrize(("written", "seeds"), [("3", [0, 1, 2]), ("[7, 3]", [7, 3]), ("1", [0])])
def test_seeds_are_a_number_or_a_list(read, written: str, seeds: list[int]):
    assert column(read(f"{SMALL}seeds: {written}\n"), "seed") == seeds


AXES = """\
axes:
  model: [ViT-w32d2-4, ViT-w48d3-4]
  samples: [16k, 32k]
  mask_ratio: [0, 0.5]
"""


def test_full_design_is_every_combination_with_the_last_axis_turning_fastest(read):
    assert column(read(SMALL + AXES), "model", "samples", "mask_ratio") == list(
        itertools.product(["ViT-w32d2-4", "ViT-w48d3-4"], [16_000, 32_000], [0.0, 0.5])
    )


def test_one_at_a_time_leaves_the_other_axes_at_the_base(read):
    assert column(read(SMALL + AXES + "design: one_at_a_time\n"), "model", "samples", "mask_ratio") == [
        ("ViT-w32d2-4", 16_000, 0.0),
        ("ViT-w48d3-4", 16_000, 0.0),
        ("ViT-w32d2-4", 32_000, 0.0),
        ("ViT-w32d2-4", 16_000, 0.5),
    ]


def test_one_at_a_time_can_cross_one_axis_with_each_of_the_others(read):
    study = read(SMALL + AXES + "design: {one_at_a_time: {cross: [mask_ratio]}}\nseeds: 2\n")
    assert column(study, "model", "samples", "mask_ratio", "seed") == [
        ("ViT-w32d2-4", 16_000, 0.0, 0),
        ("ViT-w32d2-4", 16_000, 0.0, 1),
        ("ViT-w32d2-4", 16_000, 0.5, 0),
        ("ViT-w32d2-4", 16_000, 0.5, 1),
        ("ViT-w48d3-4", 16_000, 0.0, 0),
        ("ViT-w48d3-4", 16_000, 0.0, 1),
        ("ViT-w48d3-4", 16_000, 0.5, 0),
        ("ViT-w48d3-4", 16_000, 0.5, 1),
        ("ViT-w32d2-4", 32_000, 0.0, 0),
        ("ViT-w32d2-4", 32_000, 0.0, 1),
        ("ViT-w32d2-4", 32_000, 0.5, 0),
        ("ViT-w32d2-4", 32_000, 0.5, 1),
    ]


def test_one_at_a_time_over_a_setting_with_a_rule_follows_the_rule_elsewhere(read):
    study = read(SMALL + "axes: {lr: [1e-3], weight_decay: [0, 0.1]}\ndesign: one_at_a_time\n")
    assert column(study, "lr", "weight_decay") == [(1e-3, 0.2), (1e-6, 0.0), (1e-6, 0.1)]


def test_named_grids_are_united_and_what_a_grid_writes_wins_over_a_coupling(read):
    study = read(
        SMALL
        + "axes: {mask_ratio: [0, 0.5]}\ncouple: {batch_size: 64 / (1 - mask_ratio)}\nseeds: 1\n"
        + "design:\n  grids:\n    short: {mask_ratio: all}\n    fixed: {mask_ratio: [0.5, 0], batch_size: 64}\n"
    )
    assert column(study, "mask_ratio", "batch_size") == [(0.0, 64), (0.5, 128), (0.5, 64)]


def test_same_cell_in_two_grids_is_one_cell(read):
    study = read(
        SMALL + "axes: {mask_ratio: [0, 0.5]}\ndesign: {grids: {one: {mask_ratio: all}, two: {samples: 16k}}}\n"
    )
    assert column(study, "mask_ratio") == [0.0, 0.5]


def test_required_setting_may_stand_in_every_grid_alone(read):
    study = read("schema: 1\nbase: {samples: 1k, batch_size: 64}\ndesign: {grids: {one: {model: ViT-w32d2-4}}}\n")
    assert column(study, "model") == ["ViT-w32d2-4"]


# Baseline


def test_baseline_is_the_unmasked_runs_where_the_study_has_them(read):
    assert read(SMALL + "axes: {mask_ratio: [0, 0.5]}\n").baseline == {"mask_ratio": 0.0}
    assert read(SMALL + "axes: {mask_ratio: [0.25, 0.5]}\n").baseline == {}
    assert read(SMALL + "axes: {mask_ratio: [0, 0.5]}\nwhere: mask_ratio > 0\n").baseline == {}


def test_baseline_may_name_a_coupled_value(read):
    study = read(
        SMALL
        + "axes: {mask_ratio: [0, 0.5]}\ncouple: {batch_size: 64 / (1 - mask_ratio)}\nbaseline: {batch_size: 128}\n"
    )
    assert study.baseline == {"batch_size": 128}


# Includes and YAML's own sharing


def test_study_is_laid_on_what_it_includes_key_by_key(read):
    study = read(
        "include: [one.yaml, two.yaml]\nbase: {lr: 1e-3}\naxes: {mask_ratio: [0.5]}\n",
        one=SMALL + "question: of one\naxes: {mask_ratio: [0, 0.75], seed: [1, 2]}\n",
        two="question: of two\nbase: {samples: 1k, lr: 1e-4}\n",
    )
    assert study.question == "of two"
    assert column(study, "samples", "lr", "mask_ratio", "seed") == [(1000, 1e-3, 0.5, 1), (1000, 1e-3, 0.5, 2)]


def test_include_is_relative_to_the_file_that_says_so(read, tmp_path: Path):
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "all.yaml").write_text("include: small.yaml\nbase: {lr: 1e-3}\n")
    (tmp_path / "common" / "small.yaml").write_text(SMALL)
    assert column(read("include: common/all.yaml\n"), "lr", "batch_size") == [(1e-3, 64)]


def test_one_file_may_be_included_twice_on_two_ways(read):
    study = read(
        "include: [one.yaml, two.yaml]\n", one="include: small.yaml\n", two="include: small.yaml\n", small=SMALL
    )
    assert len(cells(study)) == 1


def test_anchors_and_merge_keys_are_followed(read):
    study = read(
        "schema: 1\nbase: &small\n  model: ViT-w32d2-4\n  samples: 1k\n  batch_size: 64\n"
        "axes: {mask_ratio: [0, 0.5]}\nexclude:\n  - {<<: *small, mask_ratio: 0.5}\n"
    )
    assert column(study, "mask_ratio") == [0.0]


# Expressions


# Schedules in FLOPs


EQUAL_FLOPS = """\
schema: 1
base: {data: fashion, batch_size: 64, text_length: 16}
axes:
  model: [ViT-w16d1-4, ViT-w32d2-4, ViT-w48d3-4]
  samples: [1e11 FLOPs, "4e11 FLOPs"]
  mask_ratio: [0, 0.5]
couple: {lr: 0.001 if samples > 20k else 0.002}
"""


def test_a_schedule_in_flops_sees_the_samples_that_they_pay_for(read):
    runs = plan(read(EQUAL_FLOPS)).runs
    assert len(runs) == 12
    for i, run in enumerate(runs):
        budget = (1e11, 4e11)[i // 2 % 2]
        assert run.settings.samples == round(budget / run.cost.flops_per_sample)
        assert run.cost.train_flops == pytest.approx(budget, abs=32 * run.cost.flops_per_sample)
        assert run.settings.warmup == run.settings.samples // 10
        assert run.settings.lr == (0.001 if run.settings.samples > 20_000 else 0.002)


def test_a_schedule_in_flops_is_the_run_that_its_samples_are(read):
    equal = read(EQUAL_FLOPS)
    samples = column(equal, "samples")[0]
    same = read(EQUAL_FLOPS.replace('1e11 FLOPs, "4e11 FLOPs"', str(samples)))
    assert plan(same).runs[0].id == plan(equal).runs[0].id


def test_conditions_go_by_the_samples_of_a_schedule_in_flops(read):
    kept = column(read(EQUAL_FLOPS + "where: samples > 20k\n"), "samples")
    assert kept == [samples for samples in column(read(EQUAL_FLOPS), "samples") if samples > 20_000]
    assert 0 < len(kept) < 12


def test_cells_are_excluded_by_their_flops(read):
    left = read(EQUAL_FLOPS + "exclude: {model: ViT-w16d1-4, samples: 4e11 FLOPs}\n")
    models = column(left, "model")
    assert (len(models), models.count("ViT-w16d1-4")) == (10, 2)
    assert max(run.cost.train_flops for run in plan(left).runs if run.settings.model == "ViT-w16d1-4") < 1.1e11


def test_a_cell_named_from_outside_may_be_of_flops(read):
    study = read(EQUAL_FLOPS)
    (run,) = plan_at(study, {"model": "ViT-w64d4-4", "samples": "1e12 FLOPs", "mask_ratio": "0"}).runs
    assert run.cost.train_flops == pytest.approx(1e12, rel=0.01)


# Expressions


def test_expression_agrees_with_python_on_arithmetic_that_cannot_harm():
    names = {"a": 3, "b": 0.25, "c": 7, "d": -2.5}
    python = {
        "__builtins__": {},
        **{name: function for name, function in FUNCTIONS.items() if name != "round"},
        "round": round,
    }
    random_numbers = random.Random(20240719)

    def grow(depth: int) -> str:
        if depth == 0 or random_numbers.random() < 0.15:
            return random_numbers.choice([*names, "2", "0.5", "10", "3e2", "1.5"])
        left, right, third = grow(depth - 1), grow(depth - 1), grow(depth - 1)
        return random_numbers.choice(
            [
                f"({left} {random_numbers.choice(['+', '-', '*', '/', '//', '%'])} {right})",
                f"({left}) ** 2",
                f"-({left})",
                f"{random_numbers.choice(['min', 'max'])}({left}, {right}, {third})",
                f"{random_numbers.choice(['ceil', 'floor', 'abs', 'round'])}({left})",
                f"sqrt(abs({left}))",
                f"({left} if {third} {random_numbers.choice(['<', '<=', '>', '>=', '==', '!='])} 1 else {right})",
                f"({left} if {third} > 0 and not {right} > 2 or {left} < 1 else {right})",
                f"({left} if 0 < {third} < {right} else {right})",
            ]
        )

    agreed = 0
    for _ in range(3000):
        text = grow(random_numbers.randint(1, 4))
        if len(text) > 500:
            continue
        try:
            expected = eval(text, dict(python), dict(names))
        except (ZeroDivisionError, OverflowError, ValueError):
            with pytest.raises(ExpressionError):
                read_expression(text, list(names))(names)
            continue
        if abs(expected) > 1e30:
            continue
        assert read_expression(text, list(names))(names) == expected, text
        agreed += 1
    assert agreed > 1500


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12.8B", 12_800_000_000),
        ("samples-2k", 14_000),
        ("samples / 1k", 16.0),
        ("'2B' == '2B' and model == 'ViT 2B'", True),
        ("2G + 3T + 1M", 3_002_001_000_000),
        ("0.0005k", 0.5),
        ("log2(1024)", 10.0),
        ("2 ** 0.5", math.sqrt(2)),
        ("round(2.345, 2)", 2.35),
        ("data == 'shapes'", True),
        ("data in ['fashion', 'webdataset']", False),
        ("size == None", True),
        (3, 3),
        (0.5, 0.5),
    ],
)
def test_expression_knows_counts_texts_and_data_sets(text: object, value: object):
    settings = {"samples": 16_000, "model": "ViT 2B", "data": Shapes(0.3, 0), "size": None}
    assert read_expression(text, settings)(settings) == value


def test_expression_names_the_settings_it_needs():
    assert read_expression("4e-6 * batch_size / 256 + min(lr, 2)", SETTINGS).names == {"batch_size", "lr"}


# The JSON Schema


def test_a_rule_and_a_condition_may_depend_on_the_seed(read: Any) -> None:
    study = read(f"{SMALL}seeds: 3\naxes: {{mask_ratio: [0, 0.5]}}\ncouple: {{lr: 1e-3 * (1 + seed)}}\n")
    assert [(cell.mask_ratio, cell.lr) for cell in study.cells] == [
        (m, lr) for m in (0, 0.5) for lr in (1e-3, 2e-3, 3e-3)
    ]
    study = read(f"{SMALL}seeds: 3\naxes: {{mask_ratio: [0, 0.5]}}\nwhere: mask_ratio == 0 or seed < 2\n")
    assert [(cell.mask_ratio, cell.seed) for cell in study.cells] == [(0, 0), (0, 1), (0, 2), (0.5, 0), (0.5, 1)]
    study = read(f"{SMALL}axes: {{mask_ratio: [0, 0.5]}}\ncouple: {{seed: 10 * mask_ratio}}\n")
    assert [cell.seed for cell in study.cells] == [0, 5]


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    Draft202012Validator.check_schema(study_schema())
    return Draft202012Validator(study_schema())


def test_schema_file_is_up_to_date():
    written = json.loads((ROOT / "studies" / "study.schema.json").read_text())
    assert written == study_schema(), "regenerate it: `make docs`"


@pytest.mark.parametrize("path", [*STUDIES, TEMPLATE], ids=lambda path: path.name)
def test_reader_and_schema_accept_every_study_that_is_shipped(path: Path, validator: Draft202012Validator):
    study = read_study(path)
    assert cells(study)
    # Editors read YAML 1.2, as our reader does: there 1e-3 is a number, and PyYAML would make it a text.
    assert list(validator.iter_errors(study.document.data)) == []


OWN = """
schema: 1
parameters: {depth: 8, norm: layer, tokens: 100M}
base:
  trainer: {command: "python train.py --depth {depth} --norm {norm} --tokens {tokens} --out {folder}"}
axes: {depth: [4, 8, 16], norm: [layer, rms], tokens: [50M, 100M]}
baseline: {norm: layer}
scores: {val_loss: lower}
cost: {flops: 6 * depth * tokens}
"""


@pytest.mark.parametrize(
    "text",
    [
        FLIP,
        SMALL + AXES + "design: one_at_a_time\nseeds: [1, 2]\nscore: zero_shot_top1\nfigures: speedup\n",
        SMALL + AXES + "design: {one_at_a_time: {cross: [mask_ratio]}}\nbudget: {gpu_hours: 3, runs: 1k}\n",
        SMALL + AXES + "design: {grids: {one: {mask_ratio: all, lr: [1.0e-3]}}}\nresources: {gpus: 8, device: H100}\n",
        SMALL
        + AXES
        + "where: [mask_ratio < 1, {model: ViT-w32d2-4}]\nexclude: {mask_ratio: 0.5}\nbudget:\nbaseline:\n",
        OWN + "claims: {a: {left: {norm: rms}, right: {norm: layer}, expect: better}}\nwhere: depth <= 8\n",
        SMALL + "evaluation: {data: {shapes: }, at: [0.5, 1], images: 1k, templates: ['a {}']}\nwhere:\ncouple:\n",
        SMALL.replace("64}", "64, data: {fashion: data/fashion}, grad_clip: null, data_size: 10 k, precision: bf16}"),
    ],
)
def test_schema_accepts_what_the_reader_accepts(text: str, read, validator: Draft202012Validator):
    study = read(text)
    assert cells(study)
    assert list(validator.iter_errors(study.document.data)) == []


@pytest.mark.parametrize(
    "name",
    [
        *("no_schema", "newer", "schema_text", "unknown_top", "setting_at_top", "unknown_base", "unknown_axis"),
        *("unknown_couple", "axes_text", "lots", "space_m", "negative", "true", "1.5k?", "mask1", "mask_pct", "lr0"),
        *("beta", "precision", "seed_neg", "text_length", "model", "resnet", "model_number", "axis_empty"),
        *("axis_scalar", "axis_null", "couple_list", "exclude_map_unknown", "seeds_text", "design"),
        *("grids_axis", "grids_value", "baseline", "eval_key", "eval_at", "eval_templates", "eval_data", "data"),
        *("data_two", "data_option", "budget", "budget_v", "budget_0", "gpus", "device", "figures", "score", "several"),
    ],
)
def test_schema_rejects_bad_files(name: str, validator: Draft202012Validator):
    assert not validator.is_valid(yaml.safe_load(BAD[name][0]))


def test_every_option_that_the_template_shows_is_good(read):
    shown = re.sub(r"(?m)^( *)# (?=( *)[a-z_0-9]+:)", r"\1", TEMPLATE.read_text())
    without = re.sub(r"(?m)^(include|  data: \{webdataset).*\n", "", shown)
    # A tuning is a last stage, so a run has one or the other.
    assert [stage.image_size for stage in read(re.sub(r"(?m)^  tuning.*\n", "", without)).cells[0].stages] == [8, None]
    study = read(re.sub(r"(?m)^  stages.*\n", "", without))
    assert study.budget == Budget(gpu_hours=100, train_flops=1e20, runs=50, price=250)
    # The keys of a program of one's own are in the other template.
    own = set(re.findall(r"(?m)^(?:# )?([a-z]+):", TEMPLATE.with_name("own.yaml").read_text()))
    assert {"parameters", "scores", "cost", "x"} == set(TOP) - set(yaml.safe_load(shown)) <= own
    told = yaml.safe_load(shown)
    assert {*told["base"], *told["axes"], "seed", "evaluation"} == set(SETTINGS)


def test_template_needs_no_download():
    assert {cell.data.kind for cell in cells(read_study(TEMPLATE))} == {"shapes"}


# What other modules say too


def test_settings_are_columns_of_the_results():
    # An evaluation is not a number to plot; its scores are.
    assert [*SETTING_COLUMNS, "evaluation"] == list(SETTINGS)


def test_weights_kept_are_all_those_at_the_end_of_a_line_or_none(read):
    axes = "axes: {mask_ratio: [0.5], tuning: [null, 320]}\n"
    kept = {}
    for which in ("all", "last", "none"):
        runs = plan(read(SMALL + axes + f"keep_weights: {which}\n")).runs
        kept[which] = [(run.settings.tuning is not None, str(run.keep_weights)) for run in runs]
    assert kept["all"] == [(False, "always"), (True, "always")]
    assert kept["last"] == [(False, "for children"), (True, "always")]
    assert kept["none"] == [(False, "for children"), (True, "never")]


def test_keeping_no_weights_changes_no_id(read):
    assert [run.id for run in plan(read(SMALL)).runs] == [
        run.id for run in plan(read(SMALL + "keep_weights: none\n")).runs
    ]
