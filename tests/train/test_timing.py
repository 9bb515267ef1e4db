"""A probe's folder: `train` times shapes in it in turns, and adds what it measured to the results' timings."""

import os
import signal
from dataclasses import replace

import pytest
import torch

from flipscale.planning.identity import stage
from flipscale.planning.runs import plan
from flipscale.planning.timing import evaluation_shape, step_shape
from flipscale.run import Probe, RunFolder, RunRequest, State, cpu_name, read_timings, write_probe
from flipscale.settings.declarations import Resources, plain
from flipscale.study import read_study
from flipscale.train import train
from flipscale.train.trainers.builtin import timing
from flipscale.workspace import Workspace

ONE_PROCESS = Resources()


@pytest.fixture(autouse=True)
def short_turns(monkeypatch):
    monkeypatch.setattr(timing, "TURNS", 3)
    monkeypatch.setattr(timing, "TURN_SECONDS", 0.05)


@pytest.fixture
def probe(tmp_path):
    """A probe's folder that asks for these shapes."""

    def ask(*shapes, resources=ONE_PROCESS, evaluations=None):
        folder = RunFolder(tmp_path / "runs" / "probe_mask_1")
        evaluated = shapes[:1] if evaluations is None else evaluations
        folder.path.mkdir(parents=True)
        write_probe(folder.path, Probe("mask", "local", tuple(shapes), tuple(evaluated)))
        folder.ask(RunRequest(folder.id, plain(shapes[0]), resources=resources))
        return folder

    return ask


def timings_of(folder):
    return read_timings(Workspace.of_run(folder.path).timings)


def test_each_shape_is_timed_in_turns_and_each_evaluation(probe, settings):
    shapes = settings(mask_ratio=0), settings(mask_ratio=0.5), settings(mask_ratio=0.5, batch_size=16)
    folder = probe(*shapes)
    assert train([folder.path]) == 0
    assert folder.state() is State.FINISHED
    found = timings_of(folder)
    assert [step.shape for step in found.steps] == [step_shape(shape, Resources()) for shape in shapes]
    for step in found.steps:
        assert (step.site, step.device, step.hardware, step.processes) == ("local", "cpu", cpu_name(), 1)
        assert min(step.seconds, step.cpu_seconds) > 0
        assert step.spread >= 1
        assert min(step.opening_seconds, step.program_seconds) > 0
    (evaluation,) = found.evaluations
    assert evaluation.shape == evaluation_shape(shapes[0])
    assert evaluation.seconds > 0
    assert evaluation.images == 320  # 160 with their captions, and the same with their class
    result = folder.result()
    assert result.device == "cpu"
    assert result.gpu_hours > 0
    assert result.scores == {}


def test_resized_steps_and_evaluations_are_timed_beside_masked_ones(probe, settings):
    """Both are seen in the same turns, on data that is opened apart."""
    shapes = [settings(mask_ratio=0.75, mask_shape=shape) for shape in ("random", "resize")]
    evaluations = [replace(shape, evaluation=replace(shape.evaluation, inference=["masked"])) for shape in shapes]
    folder = probe(*shapes, evaluations=evaluations)
    assert train([folder.path]) == 0
    found = timings_of(folder)
    assert [step.shape["mask_shape"] for step in found.steps if "mask_shape" in step.shape] == ["resize"]
    assert [timed.shape for timed in found.evaluations] == [evaluation_shape(stage(asked)) for asked in evaluations]
    assert found.evaluations[0].shape != found.evaluations[1].shape


def test_a_plan_of_the_same_shapes_then_has_measured_hours(probe, tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text(
        "schema: 1\nquestion: How long?\nbase: {data: shapes, model: ViT-w16d1-4, samples: 640, batch_size: 32}\n"
        "axes: {mask_ratio: [0, 0.5]}\nbaseline: {mask_ratio: 0}\nevaluation: {images: 100}\n"
    )
    study = read_study(file)
    settings = [run.settings for run in plan(study).runs]
    folder = probe(*settings)
    train([folder.path])
    timings = timings_of(folder).at("local")
    for run in plan(study, timings).runs:
        step = timings.step(step_shape(stage(run.settings), run.resources))
        assert run.cost.gpu_hours * 3600 == pytest.approx(step.warming_cpu_seconds + 20 * step.cpu_seconds)
        assert run.timed.evaluation_seconds == timings.evaluations[0].seconds


def test_a_shape_that_does_not_fit_is_said_and_the_others_are_timed(probe, settings, monkeypatch):
    take_steps = timing._Timer._take_steps

    def too_large(self, training, *rest):
        if training.settings.batch_size == 64:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return take_steps(self, training, *rest)

    monkeypatch.setattr(timing._Timer, "_take_steps", too_large)
    folder = probe(settings(batch_size=64), settings())
    assert train([folder.path]) == 0
    (step,) = timings_of(folder).steps
    assert step.shape == step_shape(settings(), Resources())
    assert "cannot be timed: ViT-w16d1-4 at batch 64: out of memory" in (folder.path / "log.txt").read_text()


def test_what_else_fails_is_the_probes_failure(probe, settings):
    folder = probe(settings(batch_size=30), resources=Resources(accumulate=4))
    assert train([folder.path]) == 1
    assert folder.error().kind == "code"
    assert "batch_size 30 cannot be split" in folder.error().reason
    assert timings_of(folder).steps == ()


def test_a_probe_that_is_stopped_keeps_nothing_and_can_be_started_again(probe, settings, monkeypatch):
    take_turn = timing._Timer._take_turn

    def stopped_after_it(self, measured):
        take_turn(self, measured)
        os.kill(os.getpid(), signal.SIGTERM)

    folder = probe(settings(), settings(mask_ratio=0))
    with monkeypatch.context() as patch:
        patch.setattr(timing._Timer, "_take_turn", stopped_after_it)
        assert train([folder.path]) == 128 + signal.SIGTERM
    assert folder.state() is State.PLANNED
    assert timings_of(folder).steps == ()
    assert train([folder.path]) == 0
    assert len(timings_of(folder).steps) == 2


@pytest.mark.slow
def test_several_processes_time_a_step_together(probe, settings):
    folder = probe(settings(), resources=Resources(processes=2))
    assert train([folder.path]) == 0
    (step,) = timings_of(folder).steps
    assert step.processes == 2
    assert step.shape == step_shape(settings(), Resources(processes=2))
