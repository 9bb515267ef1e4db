"""A tuning at another image size, with other patches or on longer texts: planned, priced and named, without torch."""

from dataclasses import replace
from pathlib import Path

import pytest

from flipscale.cell import setting_words, write_cell
from flipscale.collecting.columns import setting_value
from flipscale.cost.arithmetic import cost, memory_bytes
from flipscale.cost.capacity import shortage
from flipscale.launch.probing import probe_of
from flipscale.planning.identity import differences, lineage, run_id, scored, stage
from flipscale.planning.runs import Plan, plan, too_large
from flipscale.planning.timing import evaluation_shape, step_shape
from flipscale.settings.architecture import architecture, models_with_the_towers_of, tower_difference
from flipscale.settings.declarations import Resources, Settings
from flipscale.study import read_study
from flipscale.study.settings import read_settings
from tests.asked import settings_of

SMALL = {"model": "ViT-w16d1-14", "image_size": 14, "text_length": 8, "mask_ratio": 0.5}


def tuned(**tuning: object) -> Settings:
    return settings_of(**SMALL, tuning={"samples": 320, **tuning})


def planned(tmp_path: Path, text: str) -> Plan:
    path = tmp_path / "study.yaml"
    path.write_text(f"schema: 1\n{text}")
    return plan(read_study(path))


def test_a_tuning_has_its_own_model_and_sizes_and_is_scored_with_the_mask_of_its_run() -> None:
    staged = stage(tuned(model="ViT-w16d1-7", image_size=56, text_length=16))
    assert (staged.model, staged.image_size, staged.text_length) == ("ViT-w16d1-7", 56, 16)
    parent = stage(lineage(tuned(image_size=56))[0])
    assert (parent.model, parent.image_size, parent.text_length) == ("ViT-w16d1-14", 14, 8)
    assert (stage(tuned()).mask_ratio, scored(tuned()).mask_ratio) == (0.0, 0.5)


def test_a_tuning_that_names_a_model_has_its_size_and_else_the_runs() -> None:
    assert stage(tuned()).image_size == 14
    assert stage(tuned(model="ViT-w16d1-7")).image_size == 28
    large = {"model": "ViT-L-14", "image_size": 112, "text_length": 32}
    assert stage(settings_of(**large, tuning={"samples": 320, "model": "ViT-L-14-336"})).image_size == 336


@pytest.mark.parametrize(
    ("tuning", "full"),
    [
        ({"samples": 128}, "t128_s0_2bde517f23"),
        ({"samples": 1600, "lr": 1e-4, "mask_ratio": 0.5}, "t1.6k_s0_c0d75750c6"),
        ({"samples": 128, "warmup": 0, "batch_size": 16}, "t128_s0_502f9fcc80"),
    ],
)
def test_ids_of_before_a_tuning_had_sizes_stand(tuning: dict[str, float], full: str) -> None:
    one = settings_of(**RUN_OF_BEFORE, tuning=tuning)
    assert run_id(one) == f"ViT-w16d1-4_shapes_640_m0.5_{full}"


RUN_OF_BEFORE = {
    "image_size": 28, "text_length": 16, "data": {"shapes": {"pairs": 0.3, "seed": 0}}, "samples": 640,
    "mask_ratio": 0.5, "lr": 1e-3, "warmup": 64, "beta2": 0.95,
    "evaluation": {"images": 160},
}  # fmt: skip


@pytest.mark.parametrize(
    "tuning", [{"image_size": 14}, {"text_length": 8}, {"model": "ViT-w16d1-14", "image_size": 14}]
)
def test_a_size_that_is_the_runs_own_makes_no_other_run(tuning: dict[str, object]) -> None:
    assert run_id(tuned(**tuning)) == run_id(tuned())
    assert differences(tuned(**tuning), tuned()) == {}


def test_the_id_says_what_a_tuning_changes() -> None:
    said = run_id(tuned(model="ViT-w16d1-7", image_size=56, text_length=16))
    assert said.startswith("ViT-w16d1-14_shapes_1.6k_m0.5_t320-ViT-w16d1-7-56px-16tokens_s0_")
    assert run_id(tuned(model="ViT-w16d1-7")) == run_id(tuned(model="ViT-w16d1-7", image_size=28))


def test_cells_columns_and_figures_say_what_a_tuning_changes(tmp_path: Path) -> None:
    base = "base: {model: ViT-w16d1-14, image_size: 14, samples: 3200, batch_size: 32, mask_ratio: 0.5}\n"
    runs = planned(tmp_path, base + "axes: {tuning: [null, {samples: 1.6k, image_size: 28}]}\n").cells
    assert [write_cell(run.cell or ()) for run in runs] == ["tuning=null", "tuning=(samples=1.6k, image_size=28)"]
    column = setting_value(runs[1].settings.tuning)
    assert column == "(samples=1.6k, image_size=28)"
    assert setting_words("tuning", column) == "tuning samples 1.6k, image size 28"


@pytest.mark.parametrize(
    "tuning",
    [
        {"image_size": 28},
        {"text_length": 16},
        {"model": "ViT-w16d1-7", "image_size": 56, "mask_ratio": 0.25, "batch_size": 64},
    ],
)
def test_a_tuning_costs_what_a_run_of_its_settings_costs(tmp_path: Path, tuning: dict[str, object]) -> None:
    base = "{model: ViT-w16d1-14, image_size: 14, text_length: 8, samples: 3200, batch_size: 32, mask_ratio: 0.5"
    written = ", ".join(f"{name}: {value}" for name, value in tuning.items())
    child = planned(tmp_path, f"base: {base}, tuning: {{samples: 320, {written}}}}}\n").cells[0]
    alone = settings_of(**{**SMALL, "mask_ratio": 0.0, "batch_size": 32, **tuning, "samples": 320})
    expected = cost(alone, child.resources)
    assert child.cost == expected
    assert memory_bytes(stage(child.settings)) == memory_bytes(alone)


def test_a_probe_times_the_shapes_of_a_tuning(tmp_path: Path) -> None:
    base = "base: {model: ViT-w16d1-14, image_size: 14, samples: 3200, batch_size: 32}\n"
    study = planned(tmp_path, base + "axes: {tuning: [null, {samples: 1.6k, image_size: 28, text_length: 16}]}\n")
    probe = probe_of(study, "local")
    parent, child = map(stage, probe.shapes)
    assert [(each.image_size, each.text_length) for each in (parent, child)] == [(14, 32), (28, 16)]
    alone = settings_of(model="ViT-w16d1-14", image_size=28, text_length=16, batch_size=32)
    assert step_shape(child, Resources()) == step_shape(replace(alone, data=child.data), Resources())
    assert [each["text_length"] for each in map(evaluation_shape, map(stage, probe.evaluations[1:]))] == [16]


def test_a_tuning_that_is_too_large_is_named_by_its_own_model(tmp_path: Path) -> None:
    base = "{model: ViT-L-16, image_size: 64, samples: 1M, batch_size: 4096, precision: bf16"
    study = planned(
        tmp_path,
        f"base: {base}, tuning: {{samples: 1M, model: ViT-L-14-336}}}}\nresources: {{gpus: 8, device: A100-40GB}}\n",
    )
    parent, child = study.runs
    assert (parent.fits_memory, child.fits_memory) == (True, False)
    (said,) = too_large(study.runs)
    assert said.startswith("1 run of ViT-L-14-336 at a batch of 4,096 would need about ")
    lacking = shortage(stage(child.settings), child.resources)
    assert lacking is not None
    assert lacking.memory_bytes == child.cost.memory_bytes


def test_models_of_the_same_towers_differ_in_patches_and_image_size_alone() -> None:
    assert models_with_the_towers_of("ViT-L-16") == ("ViT-L-14", "ViT-L-14-280", "ViT-L-14-336", "ViT-L-16-320")
    assert models_with_the_towers_of("ViT-w48d3-4") == ("ViT-w48d3-PATCH",)
    assert tower_difference("ViT-w48d3-16", "ViT-w48d3-4") is None
    assert tower_difference("ViT-B-16-quickgelu", "ViT-B-16") == "quick_gelu true, not unset"
    assert tower_difference("ViT-B-16", "ViT-L-16") == "embed_dim 512, not 768"
    for name in models_with_the_towers_of("ViT-B-16"):
        theirs, ours = architecture(name, 224), architecture("ViT-B-16", 224)
        image = replace(theirs.image, patch_size=16)
        assert (image, theirs.text, theirs.embed_dim) == (ours.image, ours.text, ours.embed_dim)


def test_a_tuning_of_an_older_run_json_reads_without_sizes() -> None:
    old = {"samples": 128, "lr": None, "warmup": None, "batch_size": None, "mask_ratio": 0.0}
    assert read_settings({**RUN_OF_BEFORE, "model": "ViT-w16d1-4", "batch_size": 32, "tuning": old}).tuning == (
        settings_of(**RUN_OF_BEFORE, tuning={"samples": 128}).tuning
    )


def test_the_shape_of_a_mask_that_only_the_tuning_has_is_part_of_its_id() -> None:
    shapes = ("random", "block", "resize")
    masked = {run_id(settings_of(mask_shape=shape, tuning={"samples": 320, "mask_ratio": 0.5})) for shape in shapes}
    assert len(masked) == 3
    assert run_id(settings_of(tuning={"samples": 320, "mask_ratio": 0.5})) in masked
    # Without a mask there is none to have a shape.
    for tuning in (None, {"samples": 320}):
        assert len({run_id(settings_of(mask_shape=shape, tuning=tuning)) for shape in shapes}) == 1
