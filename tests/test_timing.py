"""What a probe measured, and what follows from it for a run: arithmetic, and the files it is kept in."""

import json
from dataclasses import replace

import pytest

from flipscale.cost.arithmetic import scored_steps
from flipscale.errors import RunFolderError
from flipscale.planning.identity import stage
from flipscale.planning.runs import plan
from flipscale.planning.timing import (
    EvaluationTime,
    StepTime,
    Timings,
    evaluation_shape,
    run_time,
    step_shape,
)
from flipscale.run import Probe, add_timings, cpu_name, read_probe, read_timings, write_probe
from flipscale.settings.declarations import Resources
from flipscale.study import read_study
from tests.asked import settings_of

RUN = settings_of(evaluation={"images": 100, "at": [0.5]})  # 50 steps, evaluated twice


ONE_PROCESS = Resources()


def step_time(settings=RUN, resources=ONE_PROCESS, **changes):
    measured = StepTime(
        site="local",
        device="cpu",
        hardware=cpu_name(),
        shape=step_shape(stage(settings), resources),
        seconds=0.02,
        cpu_seconds=0.01,
        spread=1.05,
        processes=1,
        opening_seconds=1.5,
        warming_seconds=0.25,
        warming_cpu_seconds=0.2,
        time=1000.0,
        program_seconds=4.0,
    )
    return replace(measured, **changes)


def evaluation_time(settings=RUN, **changes):
    measured = EvaluationTime("local", "cpu", cpu_name(), evaluation_shape(stage(settings)), 2.0, 100, 1000.0)
    return replace(measured, **changes)


def timings(*steps, evaluations=None):
    return Timings(steps or (step_time(),), (evaluation_time(),) if evaluations is None else tuple(evaluations))


# Shapes


@pytest.mark.parametrize(
    "same",
    [{"seed": 3}, {"samples": 3200}, {"lr": 0.1}, {"warmup": 0}, {"weight_decay": 0.0}, {"schedule": "constant"}],
)
def test_what_does_not_change_a_steps_time_is_no_part_of_its_shape(same):
    assert step_shape(settings_of(**same), Resources()) == step_shape(settings_of(), Resources())


@pytest.mark.parametrize(
    "other",
    [
        {"model": "ViT-w32d2-4"},
        {"image_size": 32},
        {"text_length": 16},
        {"mask_ratio": 0.5},
        {"text_mask_ratio": 0.5},
        {"batch_size": 16},
        {"precision": "bf16"},
        {"grad_clip": 1.0},
        {"mask_ratio": 0.5, "reconstruction": {}},
        {"mask_ratio": 0.5, "mask_shape": "resize"},
        {"text_mask_ratio": 0.5, "text_mask": "block"},
        {"data": {"fashion": {}}},
        {"flip": True},
    ],
)
def test_what_changes_a_steps_time_makes_another_shape(other):
    assert step_shape(settings_of(**other), Resources()) != step_shape(settings_of(), Resources())


@pytest.mark.parametrize(
    "other", [{"accumulate": 2}, {"activation_checkpointing": True}, {"compile": True}, {"gpus": 8}]
)
def test_how_a_batch_is_computed_makes_another_shape(other):
    assert step_shape(RUN, Resources(**other)) != step_shape(RUN, Resources())
    assert step_shape(RUN, Resources(device="cpu", flops_per_second=1e9)) == step_shape(RUN, Resources())


def test_at_which_norm_gradients_are_clipped_does_not_matter():
    one, two = (step_shape(settings_of(grad_clip=norm), Resources()) for norm in (1.0, 2.0))
    assert one == two


def test_an_evaluations_time_depends_on_the_model_and_the_sets_not_on_masks_and_batches():
    assert evaluation_shape(settings_of(mask_ratio=0.5, batch_size=16)) == evaluation_shape(settings_of())
    assert evaluation_shape(settings_of(evaluation={"at": [0.5]})) == evaluation_shape(settings_of())
    assert evaluation_shape(settings_of(evaluation={"images": 7})) != evaluation_shape(settings_of())
    masked = [
        evaluation_shape(settings_of(mask_ratio=ratio, evaluation={"inference": ["masked"]})) for ratio in (0.5, 0.75)
    ]
    assert masked[0] != masked[1]
    shapes = ("random", "gaussian", "resize")
    alike, same, resized = (
        evaluation_shape(settings_of(mask_ratio=0.5, mask_shape=shape, evaluation={"inference": ["masked"]}))
        for shape in shapes
    )
    assert alike == same == masked[0]
    assert resized != alike


@pytest.mark.parametrize("shape", ["gaussian", "resize"])
def test_each_mask_shape_is_timed_apart(shape):
    plain, other = (step_shape(settings_of(mask_ratio=0.5, mask_shape=name), Resources()) for name in ("random", shape))
    assert plain != other


# The time of a run


def test_a_run_takes_its_steps_its_evaluations_and_its_start():
    found = run_time(RUN, Resources(), timings())
    assert scored_steps(RUN) == {25, 50}
    assert found.train_seconds == pytest.approx(0.25 + 50 * 0.02)
    assert found.evaluation_seconds == 4.0
    assert found.start_seconds == 1.5
    assert found.seconds == pytest.approx(1.25 + 4 + 1.5)
    assert found.program_seconds == 4.0
    assert found.gpu_hours == pytest.approx((0.2 + 50 * 0.01) / 3600)  # of a CPU its processor time
    assert (found.hours.low, found.hours.high) == pytest.approx((found.gpu_hours / 1.1, found.gpu_hours * 1.1))


def test_of_gpus_the_hours_are_the_wall_time_of_all_with_its_evaluations():
    resources = Resources(gpus=4)
    measured = step_time(resources=resources, device="NVIDIA H100", processes=4, spread=1.3)
    found = run_time(RUN, resources, timings(measured))
    # 1.25 s of steps, and two evaluations of 2 s in which all four take part
    assert found.gpu_hours == pytest.approx(4 * (1.25 + found.evaluation_seconds) / 3600)
    assert found.evaluation_seconds == 4.0
    assert found.hours.high == pytest.approx(1.3 * found.gpu_hours)


def test_what_was_not_timed_is_not_known():
    assert run_time(settings_of(mask_ratio=0.5), Resources(), timings()) is None
    assert run_time(RUN, Resources(accumulate=2), timings()) is None
    assert run_time(RUN, Resources(), timings(evaluations=())) is None
    assert run_time(settings_of(trainer={"command": {"arguments": ["me"]}}), Resources(), timings()) is None


def test_a_tuning_is_timed_by_its_own_shape():
    run = settings_of(mask_ratio=0.5, tuning={"samples": 320, "batch_size": 64})
    unmasked = step_time(settings_of(batch_size=64), seconds=0.1)
    assert run_time(run, Resources(), timings(unmasked, evaluations=[evaluation_time(run)])).train_seconds == 0.25 + 0.5


# Places


def test_times_are_those_of_the_place_that_was_probed_last_unless_a_site_is_named():
    here = step_time(seconds=1.0)
    there = step_time(seconds=2.0, site="slurm hall", device="NVIDIA H100", hardware="NVIDIA H100", time=2000.0)
    both = Timings((here, there))
    assert both.at(None).steps == (there,)
    assert both.at("local").steps == (here,)
    assert both.at("ray") == Timings()


def test_a_later_probe_of_a_shape_takes_the_earlier_ones_place():
    later = step_time(seconds=3.0, time=2000.0)
    other = step_time(settings_of(mask_ratio=0.5))
    assert set(timings().and_new(Timings((later, other))).steps) == {later, other}
    assert timings(later).and_new(timings()).steps == (later,)


def test_a_plan_has_the_hours_of_a_probe_and_predicts_the_others(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text(
        "schema: 1\nquestion: How long?\nbase: {data: shapes, model: ViT-w16d1-4, samples: 1600, batch_size: 32}\n"
        "axes: {mask_ratio: [0, 0.5]}\nseeds: 2\nbaseline: {mask_ratio: 0}\nevaluation: {images: 100}\n"
    )
    study = read_study(file)
    first = plan(study).runs[0].settings
    measured = timings(step_time(first), evaluations=[evaluation_time(first)])
    runs = {run.settings.mask_ratio: run for run in plan(study, measured).runs}
    assert runs[0].cost.gpu_hours == pytest.approx(0.7 / 3600)
    assert runs[0].cost.hours.high == pytest.approx(1.1 * 0.7 / 3600)
    assert runs[0].timed.seconds == pytest.approx(1.25 + 2 + 1.5)
    assert runs[0].to_dict()["seconds"] == runs[0].timed.seconds
    assert runs[0.5].timed is None
    assert runs[0.5].cost == plan(study).runs[-1].cost
    assert [run.id for run in plan(study, measured).runs] == [run.id for run in plan(study).runs]


# Files


def test_timings_come_back_as_they_were_written_and_several_probes_add_up(tmp_path):
    path = tmp_path / "timings.json"
    assert read_timings(path) == Timings()
    add_timings(path, timings())
    add_timings(path, Timings((step_time(settings_of(mask_ratio=0.5)),)))
    assert set(read_timings(path).steps) == {step_time(), step_time(settings_of(mask_ratio=0.5))}
    assert read_timings(path).evaluations == (evaluation_time(),)


def test_the_times_of_another_machines_cpu_are_not_this_ones(tmp_path):
    path = tmp_path / "timings.json"
    add_timings(path, timings(step_time(hardware="another CPU"), step_time(site="slurm", hardware="a node's CPU")))
    assert [timed.site for timed in read_timings(path).steps] == ["slurm"]


def test_a_file_that_cannot_be_read_counts_as_no_times_and_records_of_other_versions_are_read_as_far_as_they_go(
    tmp_path,
):
    path = tmp_path / "timings.json"
    path.write_text("{torn")
    assert read_timings(path) == Timings()
    add_timings(path, timings())
    written = json.loads(path.read_text())
    written["steps"][0]["new"] = "of a later version"
    del written["steps"][0]["program_seconds"]
    written["steps"].append({"site": "local"})
    path.write_text(json.dumps(written))
    assert read_timings(path).steps == (replace(step_time(), program_seconds=0.0),)


def test_a_probes_folder_says_what_is_to_be_timed(tmp_path):
    probe = Probe("mask", "slurm hall", (RUN, settings_of(mask_ratio=0.5)), (RUN,))
    assert read_probe(tmp_path) is None
    write_probe(tmp_path, probe)
    assert read_probe(tmp_path) == probe
    (tmp_path / "probe.json").write_text('{"schema": 1, "study": "mask", "site": "local", "shapes": [{"model": 7}]}')
    with pytest.raises(RunFolderError, match=r"probe\.json: "):
        read_probe(tmp_path)
