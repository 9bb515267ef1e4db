"""Every run of a study: its identity, which is held literally here, its cell, and what all runs cost."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from flipscale.cell import write_cell
from flipscale.cli import main
from flipscale.errors import PlanError
from flipscale.kinds import kinds_of, options_of
from flipscale.planning.identity import RECIPE, differences, identity, measures, parent_of, show_setting, stage
from flipscale.planning.runs import Plan, Run, Total, plan
from flipscale.settings.declarations import (
    DataSet,
    FineTuning,
    Reconstruction,
    Resources,
    Shapes,
    Stage,
    Trainer,
    Tuning,
    Weights,
    plain,
)
from flipscale.study import SETTINGS, read_study
from flipscale.study.settings import read_settings

ROOT = Path(__file__).parents[1]

BASE = {"model": "ViT-w32d2-4", "samples": "16k", "batch_size": "64"}
BASE_LINE = "base: {model: ViT-w32d2-4, samples: 16k, batch_size: 64}\n"


@pytest.fixture
def planned(tmp_path: Path) -> Callable[..., Plan]:
    """Plans a study given as text, but for its schema."""

    def planned(text: str, name: str = "study") -> Plan:
        path = tmp_path / f"{name}.yaml"
        path.write_text(f"schema: 1\n{text}")
        return plan(read_study(path))

    return planned


@pytest.fixture
def run_of(planned) -> Callable[..., Run]:
    """The one run, without its parents, of a study with BASE, settings as text over it, and lines outside base."""

    def run_of(more: str = "", **settings: str) -> Run:
        base = "".join(f"  {name}: {value}\n" for name, value in {**BASE, **settings}.items())
        *parents, run = planned(f"base:\n{base}{more}").runs
        assert [one.id for one in parents[-1:]] == list(run.parents)
        return run

    return run_of


# Identity


@pytest.mark.parametrize("model", [f"ViT-w48d3-{patch}" for patch in (3, 5, 6, 8, 12, 16, 20, 32)])
def test_any_family_model_plans_with_an_image_size_that_its_patches_divide(run_of, model):
    size = 5 * int(model.rpartition("-")[2])
    run = run_of(model=model, image_size=str(size))
    assert run.settings.image_size == identity(run.settings)["image_size"] == size
    assert run.id.startswith(f"{model}_shapes_16k_m0_s0_")


def test_an_image_size_that_only_some_models_of_an_axis_need_can_be_coupled(planned):
    runs = planned(
        "base: {samples: 1k, batch_size: 32}\naxes: {model: [ViT-w16d1-4, ViT-w16d1-8]}\n"
        "couple: {image_size: 32 if model == 'ViT-w16d1-8' else 28}\n"
    ).runs
    assert [run.settings.image_size for run in runs] == [28, 32]
    assert "image_size" not in identity(runs[0].settings)


def test_identity_is_what_it_was(run_of):
    # Finished runs are found by their ids. If this fails by accident, undo what changed `identity`, a default in
    # SETTINGS or a rule. If training now does something else with the same settings, or a default has changed, raise
    # RECIPE in identity.py, which makes every run a new one, and write the new ids here.
    assert RECIPE == 2
    assert run_of().id == "ViT-w32d2-4_shapes_16k_m0_s0_ea0226322c"
    other = run_of(
        data="{webdataset: 'laion400m/{00000..41455}.tar'}",
        mask_ratio="0.5",
        lr="1e-3",
        seed="3",
        evaluation="{data: fashion, at: [0.5]}",
    )
    assert other.id == "ViT-w32d2-4_laion400m_16k_m0.5_s3_1deaaaaf07"


def test_identity_is_what_is_required_what_a_rule_gives_and_what_differs_from_its_default(run_of):
    assert identity(run_of().settings) == {
        "model": "ViT-w32d2-4",
        "samples": 16000,
        "batch_size": 64,
        "lr": 1e-6,
        "warmup": 1600,
    }


def test_id_begins_with_what_a_person_wants_to_know(run_of):
    run = run_of(
        model="ViT-B-16", samples="12.8B", mask_ratio="0.75", seed="2", data="{webdataset: {urls: u, name: a/b c}}"
    )
    assert run.id.startswith("ViT-B-16_a-b-c_12.8B_m0.75_s2_")
    assert len(run.id.rpartition("_")[2]) == 10


SAME = [
    ("model", "'ViT-w32d2-4'"),
    ("image_size", "28"),
    ("image_size", "null"),
    ("text_length", "32"),
    ("data", "shapes"),
    ("data", "{shapes: {seed: 0, pairs: 0.30}}"),
    ("data_size", "null"),
    ("crop", "null"),
    ("flip", "false"),
    ("normalization", "imagenet"),
    ("samples", "1.6e4"),
    ("mask_ratio", "0.0"),
    ("mask_shape", "block"),
    ("text_mask_ratio", "0"),
    ("text_mask", "random"),
    ("reconstruction", "null"),
    ("loss_function", "softmax"),
    ("batch_size", "64.0"),
    ("lr", "0.000001"),
    ("warmup", "1600"),
    ("schedule", "cosine"),
    ("cooldown", "1k"),
    ("cooldown_shape", "cosine"),
    ("average", "0"),
    ("weight_decay", "0.2"),
    ("beta1", "0.9"),
    ("beta2", "0.95"),
    ("eps", "1e-8"),
    ("grad_clip", "null"),
    ("precision", "fp32"),
    ("init", "null"),
    ("stages", "null"),
    ("tuning", "null"),
    ("fine_tuning", "null"),
    ("trainer", "flipscale"),
    ("seed", "0"),
    ("evaluation", "{}"),
    ("evaluation", "{data: null, images: 2k, at: 1, templates: null}"),
    ("evaluation", "{images: 2000}"),
    ("evaluation", "{data: fashion}"),
    ("evaluation", "{images: 100, at: [0.5], templates: ['a {}'], linear_probe: true, inference: masked}"),
    ("evaluation", "{sets: {boots: {folder: b}}}"),
]

OTHER = [
    ("model", "ViT-w48d3-4"),
    ("image_size", "32"),
    ("text_length", "16"),
    ("data", "fashion"),
    ("data_size", "8k"),
    ("crop", "0.5"),
    ("flip", "true"),
    ("normalization", "openai"),
    ("samples", "32k"),
    ("mask_ratio", "0.5"),
    ("mask_shape", "block"),
    ("text_mask_ratio", "0.5"),
    ("text_mask", "random"),
    ("reconstruction", "{depth: 1}"),
    ("loss_function", "sigmoid"),
    ("batch_size", "128"),
    ("lr", "1e-3"),
    ("warmup", "0"),
    ("schedule", "constant"),
    ("cooldown", "1k"),
    ("cooldown_shape", "1-sqrt"),
    ("average", "0.1"),
    ("weight_decay", "0.1"),
    ("beta1", "0.8"),
    ("beta2", "0.999"),
    ("eps", "1e-6"),
    ("grad_clip", "1"),
    ("precision", "bf16"),
    ("init", "base.pt"),
    ("stages", "[50 %, {samples: 50 %, mask_ratio: 0.5}]"),
    ("tuning", "1k"),
    ("fine_tuning", "2k"),
    ("trainer", "open_clip"),
    ("seed", "1"),
]


NEEDS = {
    "mask_shape": {"mask_ratio": "0.5"},
    "reconstruction": {"mask_ratio": "0.5"},
    "text_mask": {"text_mask_ratio": "0.5"},
    "cooldown": {"schedule": "constant"},
    "cooldown_shape": {"schedule": "constant", "cooldown": "1k"},
}
"""What must be set for a setting to have an effect. Without it the run is the same, as SAME says of some of them."""


@pytest.mark.parametrize("cases", [SAME, OTHER], ids=["same", "other"])
def test_every_setting_has_a_case(cases: list[tuple[str, str]]):
    assert [name for name in SETTINGS if name not in {**dict(cases), "evaluation": ""}] == [], (
        "a new setting needs a line in SAME and in OTHER"
    )


@pytest.mark.parametrize(("name", "value"), SAME)
def test_default_written_out_is_the_same_run(run_of, name: str, value: str):
    assert run_of(**{name: value}).id == run_of().id


@pytest.mark.parametrize(("name", "value"), OTHER)
def test_setting_that_changes_the_result_makes_another_run(run_of, name: str, value: str):
    needed = NEEDS.get(name, {})
    assert run_of(**{name: value}, **needed).id != run_of(**needed).id


OF_TRAINING = [
    *("data", "data_size", "crop", "flip", "text_mask_ratio", "text_mask", "batch_size", "lr", "warmup", "schedule"),
    "loss_function",
    *("cooldown", "cooldown_shape", "average", "weight_decay", "beta1", "beta2", "eps", "grad_clip"),
]


@pytest.mark.parametrize(("name", "value"), [case for case in OTHER if case[0] in OF_TRAINING])
def test_settings_of_training_are_not_part_of_a_checkpoint_that_is_only_scored(run_of, name: str, value: str):
    scored = {"samples": "0", "init": "base.pt", **NEEDS.get(name, {})}
    assert run_of(EVALUATED, **scored, **{name: value}).id == run_of(EVALUATED, **scored).id


EVALUATED = "evaluation: {data: shapes}\n"


def test_settings_of_training_are_part_of_a_checkpoint_that_is_tuned(run_of):
    tuned = {"samples": "0", "init": "base.pt", "tuning": "1k"}
    assert run_of(**tuned, lr="1e-3").id != run_of(**tuned).id


def test_a_checkpoint_that_is_only_scored_is_named_by_its_weights(run_of):
    assert run_of(EVALUATED, samples="0", init="base.pt").id.startswith("ViT-w32d2-4_base.pt_0_m0_s0_")
    named = run_of(EVALUATED, samples="0", init="{path: base.pt, name: laion-b16}")
    assert named.id.startswith("ViT-w32d2-4_laion-b16_0_m0_s0_")
    assert (
        run_of(EVALUATED, samples="0", init="base.pt", normalization="openai").id
        != run_of(EVALUATED, samples="0", init="base.pt").id
    )


def test_a_checkpoint_is_scored_on_what_the_evaluation_names_alone(run_of):
    sets = "evaluation: {sets: {two: {folder: two}}}\n"
    assert list(measures(run_of(sets, samples="0", init="base.pt").settings)) == ["two"]
    assert list(measures(run_of(EVALUATED, samples="0", init="base.pt").settings)) == [""]
    assert list(measures(run_of(sets, samples="0", init="base.pt", tuning="1k").settings)) == ["", "two"]


OTHER_OPTIONS = [
    ("shapes.pairs", "data", "{shapes: {}}", "{shapes: {pairs: 0.5}}"),
    ("shapes.seed", "data", "{shapes: {}}", "{shapes: {seed: 1}}"),
    ("webdataset.urls", "data", "{webdataset: 'a/{0..9}.tar'}", "{webdataset: 'a/{0..8}.tar'}"),
    ("webdataset.urls", "data", "{webdataset: 'a/{0..9}.tar'}", "{webdataset: 'b/{0..9}.tar'}"),
    ("webdataset.name", "data", "{webdataset: 'a/{0..9}.tar'}", "{webdataset: {urls: 'a/{0..9}.tar', name: b}}"),
    ("reconstruction.weight", "reconstruction", "{depth: 1}", "{depth: 1, weight: 2}"),
    ("reconstruction.width", "reconstruction", "{depth: 1}", "{depth: 1, width: 32}"),
    ("reconstruction.depth", "reconstruction", "{depth: 1}", "{depth: 2}"),
    ("stage.samples", "stages", "[50 %, {samples: 50 %, flip: true}]", "[60 %, {samples: 40 %, flip: true}]"),
    *(
        (f"stage.{name}", "stages", "[50 %, 50 %]", f"[50 %, {{samples: 50 %, {name}: {value}}}]")
        for name, value in {
            "restart": "true",
            "model": "ViT-w32d2-7",
            "image_size": "56",
            "text_length": "16",
            "mask_ratio": "0.5",
            "mask_shape": "grid, mask_ratio: 0.5",
            "text_mask_ratio": "0.5",
            "text_mask": "random, text_mask_ratio: 0.5",
            "crop": "0.5",
            "flip": "true",
            "batch_size": "32",
            "lr": "1e-3",
            "warmup": "64, restart: true",
            "schedule": "constant, restart: true",
        }.items()
    ),
    ("tuning.samples", "tuning", "1k", "2k"),
    ("tuning.lr", "tuning", "1k", "{samples: 1k, lr: 1e-4}"),
    ("tuning.warmup", "tuning", "1k", "{samples: 1k, warmup: 0}"),
    ("tuning.batch_size", "tuning", "1k", "{samples: 1k, batch_size: 32}"),
    ("tuning.mask_ratio", "tuning", "1k", "{samples: 1k, mask_ratio: 0.25}"),
    ("tuning.model", "tuning", "1k", "{samples: 1k, model: ViT-w32d2-7}"),
    ("tuning.image_size", "tuning", "1k", "{samples: 1k, image_size: 56}"),
    ("tuning.text_length", "tuning", "1k", "{samples: 1k, text_length: 16}"),
    ("fine_tuning.samples", "fine_tuning", "2k", "4k"),
    (
        "fine_tuning.data",
        "fine_tuning",
        "2k",
        "{samples: 2k, data: {folder: {train: imagenet/train, test: imagenet/val}}}",
    ),
    ("fine_tuning.images", "fine_tuning", "2k", "{samples: 2k, images: 100}"),
    ("fine_tuning.lr", "fine_tuning", "2k", "{samples: 2k, lr: 1e-3}"),
    ("fine_tuning.batch_size", "fine_tuning", "2k", "{samples: 2k, batch_size: 32}"),
    ("fine_tuning.warmup", "fine_tuning", "2k", "{samples: 2k, warmup: 0}"),
    ("fine_tuning.weight_decay", "fine_tuning", "2k", "{samples: 2k, weight_decay: 0}"),
    ("fine_tuning.beta1", "fine_tuning", "2k", "{samples: 2k, beta1: 0.8}"),
    ("fine_tuning.beta2", "fine_tuning", "2k", "{samples: 2k, beta2: 0.95}"),
    ("fine_tuning.layer_decay", "fine_tuning", "2k", "{samples: 2k, layer_decay: 1}"),
    ("fine_tuning.label_smoothing", "fine_tuning", "2k", "{samples: 2k, label_smoothing: 0}"),
    ("fine_tuning.mixup", "fine_tuning", "2k", "{samples: 2k, mixup: 0}"),
    ("fine_tuning.cutmix", "fine_tuning", "2k", "{samples: 2k, cutmix: 0}"),
    ("fine_tuning.drop_path", "fine_tuning", "2k", "{samples: 2k, drop_path: 0}"),
    ("fine_tuning.randaugment", "fine_tuning", "2k", "{samples: 2k, randaugment: 0}"),
    ("fine_tuning.crop", "fine_tuning", "2k", "{samples: 2k, crop: null}"),
    ("fine_tuning.flip", "fine_tuning", "2k", "{samples: 2k, flip: false}"),
    ("init.path", "init", "one.pt", "two.pt"),
    ("init.path", "init", "runs/a/model.pt", "runs/b/model.pt"),
    ("init.name", "init", "one.pt", "{path: one.pt, name: two}"),
    ("open_clip.arguments", "trainer", "open_clip", "{open_clip: {arguments: [--siglip]}}"),
    ("command.arguments", "trainer", "{command: [python, one.py]}", "{command: [python, two.py]}"),
    ("command.name", "trainer", "{command: [one]}", "{command: {arguments: [one], name: two}}"),
]


@pytest.mark.parametrize(("option", "setting", "one", "two"), OTHER_OPTIONS)
def test_option_that_changes_the_result_makes_another_run(run_of, option: str, setting: str, one: str, two: str):
    needed = NEEDS.get(setting, {})
    assert run_of(**{setting: one}, **needed).id != run_of(**{setting: two}, **needed).id


def test_every_option_has_a_case():
    records = {
        **kinds_of(DataSet),
        **kinds_of(Trainer),
        "reconstruction": Reconstruction,
        "stage": Stage,
        "tuning": Tuning,
        "init": Weights,
        "fine_tuning": FineTuning,
    }
    options = {f"{name}.{option}" for name, record in records.items() for option in options_of(record)}
    places = {"fashion.folder", "webdataset.decode", "webdataset.sizes"}
    assert options - {option for option, *_ in OTHER_OPTIONS} == places, "a new option needs a line above"


@pytest.mark.parametrize(
    ("setting", "one", "two"),
    [
        ("data", "fashion", "{fashion: {folder: elsewhere/fashion}}"),
        ("data", "{webdataset: 'here/laion/{0..9}.tar'}", "{webdataset: '/mnt/there/laion/{0..9}.tar'}"),
        (
            "data",
            "{webdataset: {urls: 'a/{0..9}.tar', name: x}}",
            "{webdataset: {urls: 's3://b/{00..99}.tar', name: x}}",
        ),
        ("data", "{webdataset: w.tar}", "{webdataset: {urls: w.tar, decode: always, sizes: sizes.json}}"),
        ("init", "here/run/model.pt", "{path: /mnt/there/run/model.pt}"),
        (
            "trainer",
            "{command: {arguments: [/here/run], name: x}}",
            "{command: {arguments: [/there/run, -v], name: x}}",
        ),
        ("fine_tuning", "{samples: 2k, data: shapes}", "2k"),
        (
            "fine_tuning",
            "{samples: 2k, data: {folder: {train: a/pets/train, test: a/pets/test}}}",
            "{samples: 2k, data: {folder: {train: b/pets/train, test: elsewhere}}}",
        ),
        (
            "fine_tuning",
            "{samples: 2k, data: {webdataset: {train: a/x.tar, test: a/y.tar, name: pets}}}",
            "{samples: 2k, data: {webdataset: {train: 's3://b/{0..9}.tar', test: b/y.tar, name: pets}}}",
        ),
    ],
)
def test_where_data_lies_changes_no_run(run_of, setting: str, one: str, two: str):
    assert run_of(**{setting: one}).id == run_of(**{setting: two}).id


@pytest.mark.parametrize(
    "more",
    [
        "resources: {gpus: 8, device: H100}\n",
        "resources: {processes: 4, accumulate: 2, compile: true, activation_checkpointing: true}\n",
        "budget: {gpu_hours: 1}\n",
        "question: Is this the same run?\n",
        "score: held_out_loss\nfigures: [speedup]\n",
        "baseline: {batch_size: 64}\n",
        "seeds: 1\n",
        "axes: {mask_ratio: [0]}\n",
        "couple: {lr: 4e-6 * batch_size / 256}\n",
        "couple: {weight_decay: 0.1 + 0.1}\n",
        "couple: {lr: 0.1 * 3 / 300000}\n",
        "design: {grids: {one: {batch_size: 64}}}\n",
    ],
)
def test_how_a_study_says_it_and_where_it_runs_change_no_run(run_of, more: str):
    assert run_of(more).id == run_of().id


MEASURED = [
    ("{}", "{data: fashion}"),
    ("{data: fashion}", "{data: fashion, images: 2k}"),
    ("{}", "{templates: ['a {}']}"),
    ("{templates: imagenet_simple}", "{templates: openai_imagenet}"),
    ("{sets: {a: {folder: b}}}", "{sets: {a: {folder: {path: b, classes: [c]}}}}"),
    ("{sets: {a: {folder: b}}}", "{sets: {a: {folder: {path: b, metric: map11}}}}"),
    (
        "{sets: {a: {command: {arguments: x, scores: {cider: higher}}}}}",
        "{sets: {a: {command: {arguments: x, scores: {spice: higher}}}}}",
    ),
    ("{}", "{linear_probe: true}"),
    ("{linear_probe: true, sets: {a: {folder: b}}}", "{linear_probe: true, sets: {a: {folder: {path: b, train: c}}}}"),
]


@pytest.mark.parametrize(("one", "two"), MEASURED)
def test_another_definition_is_another_measure_of_the_same_run(run_of, one: str, two: str):
    runs = [run_of(evaluation=evaluation) for evaluation in (one, two)]
    assert runs[0].id == runs[1].id
    assert measures(runs[0].settings) != measures(runs[1].settings)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("{data: fashion}", "{data: {fashion: {folder: elsewhere/fashion}}}"),
        ("{sets: {a: {folder: here}}}", "{sets: {a: {folder: {path: there, train: too}}}}"),
        ("{sets: {a: {webdataset: here}}}", "{sets: {a: {webdataset: 's3://there'}}}"),
        ("{sets: {a: {folder: b}}}", "{sets: {a: {folder: b}}, means: {all: [a]}, at: [0.5]}"),
        (
            "{sets: {a: {command: {arguments: [python, here.py], scores: {cider: higher}}}}}",
            "{sets: {a: {command: {arguments: [python, there.py, -v], scores: {cider: higher}}}}}",
        ),
    ],
)
def test_where_a_set_lies_makes_no_other_measure(run_of, one: str, two: str):
    assert measures(run_of(evaluation=one).settings) == measures(run_of(evaluation=two).settings)


def test_masked_inference_is_a_measure_of_masked_runs(run_of):
    evaluation = "{inference: [masked, ensemble], sets: {a: {folder: b}}}"
    assert list(measures(run_of(evaluation=evaluation).settings)) == ["", "a"]
    masked = run_of(evaluation=evaluation, mask_ratio="0.5").settings
    assert list(measures(masked)) == ["", "masked", "ensemble", "a", "a.masked", "a.ensemble"]
    resized = run_of(evaluation=evaluation, mask_ratio="0.5", mask_shape="resize").settings
    assert list(measures(resized)) == ["", "masked", "a", "a.masked"]


def test_order_of_keys_changes_no_run(run_of):
    settings = {
        "lr": "1e-3",
        "data": "{shapes: {seed: 1, pairs: 0.5}}",
        "seed": "1",
        "evaluation": "{images: 9, at: 0.5}",
    }
    swapped = {
        "evaluation": "{at: 0.5, images: 9}",
        "seed": "1",
        "data": "{shapes: {pairs: 0.5, seed: 1}}",
        "lr": "1e-3",
    }
    assert run_of(**settings).id == run_of(**swapped).id


@pytest.mark.parametrize(("name", "value"), [("mask_shape", "block"), ("text_mask", "random"), ("cooldown", "1k")])
def test_setting_without_effect_changes_no_run(run_of, name: str, value: str):
    assert run_of(**{name: value}).id == run_of().id


# Parents


def test_tuning_is_a_child_of_the_run_without_it(planned):
    parent, child = planned(f"{BASE_LINE}axes: {{tuning: [1600], mask_ratio: [0.5]}}\n").runs
    assert parent.parents == ()
    assert parent.settings.tuning is None
    assert child.parents == (parent.id,)
    assert child.id.startswith("ViT-w32d2-4_shapes_16k_m0.5_t1.6k_s0_")
    assert plain(stage(child.settings)) == {
        **plain(child.settings),
        "samples": 1600,
        "lr": 1e-8,
        "warmup": 320,
        "mask_ratio": 0.0,
        "batch_size": 64,
    }
    unmasked = planned(BASE_LINE).runs[0]
    assert child.cost.samples_seen == 1600
    assert child.cost.flops_per_sample == unmasked.cost.flops_per_sample


def test_parents_come_before_their_children_and_once(planned):
    runs = planned(f"{BASE_LINE}axes: {{tuning: [2k, 1k], mask_ratio: [0.5]}}\nseeds: 2\n").runs
    ids = [run.id for run in runs]
    assert len(ids) == len(set(ids)) == 6
    assert all(ids.index(parent) < ids.index(run.id) for run in runs for parent in run.parents)


def test_parent_that_no_cell_asks_for_is_no_cell(planned):
    parent, child = planned(f"{BASE_LINE}axes: {{tuning: [1600], mask_ratio: [0.5]}}\n").runs
    assert (parent.cell, child.cell) == (None, ())
    runs = planned(f"{BASE_LINE}axes: {{tuning: [1600, null], mask_ratio: [0.5]}}\n").runs
    assert [run.cell for run in runs] == [(("tuning", "null"),), (("tuning", "1.6k"),)]


def test_run_without_a_child_has_no_parents(run_of):
    assert parent_of(run_of().settings) is None
    assert run_of().parents == ()


def test_stage_fills_in_what_an_older_flipscale_did_not_write(run_of):
    old = {name: value for name, value in plain(run_of().settings).items() if name not in ("tuning", "crop")}
    assert stage(read_settings(old)) == run_of().settings


def test_study_name_changes_no_run(planned):
    assert [run.id for run in planned(BASE_LINE, "one").runs] == [run.id for run in planned(BASE_LINE, "two").runs]


def test_new_axis_value_keeps_old_runs(planned):
    old = [run.id for run in planned(f"{BASE_LINE}axes: {{mask_ratio: [0, 0.5]}}\n").runs]
    new = [run.id for run in planned(f"{BASE_LINE}axes: {{mask_ratio: [0.75, 0.5, 0]}}\nseeds: 2\n").runs]
    assert len(new) == 6
    assert set(old) < set(new)


def test_baseline_that_two_studies_share_is_one_run(planned):
    masked = planned(f"{BASE_LINE}axes: {{mask_ratio: [0, 0.5]}}\n", "masked").runs
    decayed = planned(f"{BASE_LINE}axes: {{weight_decay: [0.2, 0.1]}}\n", "decayed").runs
    assert {run.id for run in masked} & {run.id for run in decayed} == {masked[0].id}


def test_differences_name_the_settings_in_which_two_runs_differ(run_of):
    one, two = run_of(), run_of(mask_ratio="0.5", data="{fashion: here}", evaluation="{images: 9}")
    assert differences(one.settings, one.settings) == {}
    assert list(differences(one.settings, two.settings)) == ["data", "mask_ratio"]
    assert differences(one.settings, two.settings)["mask_ratio"] == (0.0, 0.5)


# Cells


def test_cell_tells_runs_apart_but_for_baseline_and_seed(planned):
    runs = planned(
        f"{BASE_LINE}axes: {{samples: [16k, 12345678, 12345679], mask_ratio: [0, 0.5], batch_size: [64]}}\n"
        "seeds: 2\nbaseline: {mask_ratio: 0}\n"
    ).runs
    assert len(runs) == 12
    assert list(dict.fromkeys(write_cell(run.cell) for run in runs)) == [
        "samples=16k",
        "samples=12345678",
        "samples=12345679",
    ]


def test_cell_tells_data_sets_apart_by_their_options(planned):
    runs = planned(
        f"{BASE_LINE}axes:\n  data:\n    - shapes\n    - {{shapes: {{pairs: 1}}}}\n    - fashion\n"
        "    - {webdataset: 'x/a/{0..9}.tar'}\n    - {webdataset: {urls: 'y/{0..9}.tar', name: b}}\n"
    ).runs
    assert [write_cell(run.cell) for run in runs] == [
        "data=shapes",
        "data=shapes(pairs=1)",
        "data=fashion",
        "data=webdataset(a/{0..9}.tar)",
        "data=webdataset(b)",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (12_800_000_000, "12.8B"),
        (400_000_000, "400M"),
        (16_000, "16k"),
        (16_384, "16384"),
        (1_234_567, "1234567"),
        (123_456_789_012_345_678, "123456789012345678"),
        (999, "999"),
        (0, "0"),
        (1e-06, "1e-06"),
        (0.75, "0.75"),
        (None, "null"),
        ("ViT-B-16", "ViT-B-16"),
        (Shapes(), "shapes"),
    ],
)
def test_value_is_shown_as_a_person_writes_it(value: object, shown: str):
    assert show_setting(value) == shown


# The whole plan


def test_total_is_the_sum_of_the_runs(planned):
    whole = planned(f"{BASE_LINE}axes: {{samples: [16k, 32k], mask_ratio: [0, 0.5]}}\n")
    assert whole.total == Total(
        runs=4,
        samples=96_000,
        train_flops=sum(run.cost.train_flops for run in whole.runs),
        gpu_hours=sum(run.cost.gpu_hours for run in whole.runs),
        gpu_hours_low=pytest.approx(sum(run.cost.gpu_hours for run in whole.runs) / 1.5),
        gpu_hours_high=pytest.approx(sum(run.cost.gpu_hours for run in whole.runs) * 1.5),
    )
    assert whole.to_dict()["total"] == asdict(whole.total)


def test_plan_is_priced_on_a_cpu_without_gpus_and_on_an_a100_with(run_of):
    assert plain(run_of().resources) == {
        "gpus": 0,
        "device": "cpu",
        "flops_per_second": None,
        "processes": None,
        "accumulate": 1,
        "activation_checkpointing": False,
        "compile": False,
        "loaders": None,
        "stalled": None,
        "checkpoint": None,
        "software": None,
        "samples_per_second": None,
    }
    assert run_of("resources: {gpus: 8}\n").resources.device == "A100"
    measured = run_of("resources: {flops_per_second: 1e9}\n").cost.gpu_hours
    assert measured == pytest.approx(40 * run_of().cost.gpu_hours)


def test_plan_is_json(planned):
    whole = planned(f"{BASE_LINE}axes: {{mask_ratio: [0, 0.5]}}\n").to_dict()
    assert json.loads(json.dumps(whole)) == whole
    assert list(whole["runs"][0]) == [
        *("id", "parents", "settings", "cost", "patches", "cell", "recipe", "resources", "fits"),
    ]
    assert list(whole["runs"][0]["settings"]) == list(SETTINGS)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("{runs: 3}", "study would take 4 runs and its budget is 3. Raise budget.runs, or drop values from its axes; "),
        (
            "{train_flops: 1e9}",
            "study would take 9.404e+11 train_flops and its budget is 1e+09. Raise budget.train_flops, ",
        ),
    ],
)
def test_plan_over_its_budget_is_refused(planned, budget: str, message: str):
    whole = planned(f"{BASE_LINE}axes: {{samples: [16k, 32k], mask_ratio: [0, 0.5]}}\nbudget: {budget}\n")
    with pytest.raises(PlanError) as error:
        whole.check_budget()
    assert str(error.value).startswith(message)
    assert str(error.value).endswith("drop values from its axes; `flipscale plan` shows what each run costs.")


def test_plan_within_its_budget_is_let_through(planned):
    budget = "budget: {runs: 2, gpu_hours: 100, train_flops: 1e20}"
    assert planned(f"{BASE_LINE}axes: {{mask_ratio: [0, 0.5]}}\n{budget}\n").check_budget() is None


def test_planning_imports_no_heavy_package(tmp_path: Path):
    study = tmp_path / "study.yaml"
    study.write_text(f"schema: 1\n{BASE_LINE}")
    script = (
        "import sys\nfrom flipscale.planning.runs import plan\nfrom flipscale.study import read_study\n"
        f"assert len(plan(read_study({str(study)!r})).runs) == 1\n"
        "print(sorted({'torch', 'pandas', 'open_clip', 'numpy', 'mlflow', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# Images that are resized instead of masked


def test_plan_says_where_resized_images_have_other_patches_than_masked_ones(planned):
    found = planned(
        """base: {model: ViT-w32d2-4, samples: 16k, batch_size: 64, mask_shape: resize, evaluation: {}}
axes: {image_size: [28, 56], mask_ratio: [0, 0.5, 0.75]}
seeds: [0, 1]
"""
    )
    assert found.warnings == [
        "2 runs with mask_shape resize: mask_ratio 0.5 is 5 x 5 of 7 x 7 patches, 49 % fewer; costs are for that.",
        "2 runs with mask_shape resize: mask_ratio 0.75 is 3 x 3 of 7 x 7 patches, 81.6 % fewer; costs are for that.",
        "2 runs with mask_shape resize: mask_ratio 0.5 is 10 x 10 of 14 x 14 patches, 49 % fewer; costs are for that.",
    ]
    assert [run.to_dict()["patches"] for run in found.runs[::2]] == [49, 25, 9, 196, 100, 49]


def test_patches_are_those_of_the_stage_that_the_run_trains(planned):
    parent, child = planned(f"{BASE_LINE}axes: {{tuning: [1600], mask_ratio: [0.5]}}\n").runs
    assert (parent.patches, child.patches) == (24, 49)


@pytest.mark.parametrize(
    "changes",
    [
        {"mask_ratio": "0.5", "mask_shape": "gaussian"},
        {"mask_ratio": "0.5", "mask_shape": "resize"},
        {"text_mask_ratio": "0.5", "text_mask": "block"},
    ],
)
def test_runs_with_a_mask_of_later_work_have_ids_of_their_own(run_of, changes):
    run = run_of(**changes)
    others = [run_of(**{**changes, name: value}) for name, value in (("mask_shape", "random"), ("text_mask", "random"))]
    assert sum(run.id == other.id for other in others) == 1
    assert read_settings(plain(run.settings)) == run.settings


# Data and evaluation on GPUs

B16 = """
recipe: flip
base: {model: ViT-B-16, data: {webdataset: "laion/{00000..41455}.tar"}, samples: 2.56B}
axes: {mask_ratio: [0, 0.5, 0.75]}
evaluation: {sets: {imagenet: {webdataset: {urls: "val/{00..63}.tar", classes: imagenet}}}}
"""


def test_a_plan_says_where_reading_data_limits_a_gpu_and_a_mask_saves_no_hours(planned):
    def found(device):
        plan = planned(f"{B16}resources: {{gpus: 64, device: {device}}}")
        return plan, [warning.partition(" limited by ")[0] for warning in plan.warnings if "reading data" in warning]

    a100, limited = found("A100")
    whole, half, quarter = (run.cost.gpu_hours for run in a100.runs)
    assert (half < 0.54 * whole, quarter < 0.65 * half, limited) == (True, True, ["1 run"])
    h100, limited = found("H100")
    assert h100.runs[1].cost.gpu_hours == pytest.approx(h100.runs[2].cost.gpu_hours, rel=1e-3)
    assert limited == ["2 runs"]
    assert [run.id for run in a100.runs] == [run.id for run in h100.runs]
    assert found("L4")[1] == []


def test_a_plan_says_where_drawing_images_limits_a_gpu_and_the_first_pair_on_one_does_not_wait_for_them(planned):
    base = "{model: ViT-S-16, image_size: 224, data: shapes, samples: 200k, batch_size: 256, lr: 5e-4, precision: bf16}"
    small = planned(f"base: {base}\naxes: {{mask_ratio: [0, 0.5, 0.75]}}\nresources: {{gpus: 1, device: H100}}")
    (said,) = [warning for warning in small.warnings if "limited by" in warning]
    assert said.startswith(
        "3 runs limited by drawing images: 4 threads of its process draw at most 3,269 pairs a second"
    )
    first = read_study(Path("studies/first_gpu.yaml"))
    for device in ("A100", "H100"):
        whole, half = plan(replace(first, resources=Resources(gpus=1, device=device))).runs
        assert half.cost.train_flops / whole.cost.train_flops == pytest.approx(0.51, abs=0.005)
        assert half.cost.gpu_hours / whole.cost.gpu_hours == pytest.approx(0.51, abs=0.01)


def test_the_hours_of_a_run_on_gpus_hold_its_evaluations(planned):
    def hours(evaluation, gpus=256):
        found = planned(f"{B16[: B16.index('axes')]}{evaluation}\nresources: {{gpus: {gpus}, device: A100}}")
        return found.total.gpu_hours

    sets = "sets: {imagenet: {webdataset: {urls: 'val/{00..63}.tar', classes: imagenet}}}"
    none, ten, fifty = (
        hours(f"evaluation: {{{asked}}}") for asked in ("", f"images: 10k, {sets}", f"images: 50k, {sets}")
    )
    # One process decodes 50,000 images in 22 s, for which 256 wait; then all encode them.
    assert fifty - none == pytest.approx(5 * (ten - none))
    assert fifty - none == pytest.approx(256 * 50_000 / 2280 / 3600, rel=0.02)
    often = hours(f"evaluation: {{images: 50k, at: [0.2, 0.4, 0.6, 0.8, 1], {sets}}}")
    assert 0 < often - fifty < 0.05
    assert hours(f"evaluation: {{images: 50k, {sets}}}", gpus=8) - hours("evaluation: {}", gpus=8) < 0.1


@pytest.mark.parametrize("verb", ["plan", "status"])
def test_a_line_stands_for_the_seeds_of_a_cell_and_has_an_id_where_it_stands_for_one_run(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = "schema: 1\n" + BASE_LINE + "axes: {mask_ratio: [0, 0.5]}\nseeds: %s\n"
    masked = []
    for seeds in ("[3, 4]", "[3]"):
        (tmp_path / "study.yaml").write_text(study % seeds)
        assert main([verb, str(tmp_path / "study.yaml"), "--results", str(tmp_path)]) == 0
        masked += [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("mask")]
    together, alone = masked
    assert together[:3] == ["mask", "50", "%"]
    assert "2" in together
    assert not together[-1].startswith("ViT")
    assert alone[-1].startswith("ViT-w32d2-4_shapes_16k_m0.5_s3_")
