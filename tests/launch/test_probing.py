"""What a probe of a plan is asked to time, and how it is handed out."""

from pathlib import Path

import pytest

from flipscale.errors import LaunchError
from flipscale.launch import cancel, open_probes, submit_probe
from flipscale.launch.local import LocalLauncher
from flipscale.launch.probing import probe_of
from flipscale.launch.ray import RayLauncher
from flipscale.launch.site import DEFAULTS
from flipscale.launch.slurm import SlurmLauncher
from flipscale.planning.runs import plan
from flipscale.run import RunFolder, State, read_probe
from flipscale.study import read_study
from tests.launch.test_launch import Recorder

STUDY = """\
schema: 1
question: How long?
base: {data: shapes, model: ViT-w16d1-4, samples: 4k, mask_ratio: 0, batch_size: 64, lr: 1e-3, precision: fp32}
axes:
  model: [ViT-w16d1-4, ViT-w32d2-4]
  samples: [4k, 8k]
  mask_ratio: [0, 0.5]
seeds: 2
baseline: {mask_ratio: 0}
"""


@pytest.fixture
def planned(tmp_path: Path):
    """The plan of a study's text."""

    def read(text: str = STUDY):
        file = tmp_path / "mask.yaml"
        file.write_text(text)
        return plan(read_study(file))

    return read


class Site(Recorder):
    site_name = "slurm hall"


def test_each_shape_is_asked_for_once_as_its_longest_run_has_it(planned):
    probe = probe_of(planned(), "local")
    assert (probe.study, probe.site) == ("mask", "local")
    shapes = [(run.model, run.mask_ratio, run.samples) for run in probe.shapes]
    assert shapes == [
        ("ViT-w16d1-4", 0, 8000),
        ("ViT-w16d1-4", 0.5, 8000),
        ("ViT-w32d2-4", 0, 8000),
        ("ViT-w32d2-4", 0.5, 8000),
    ]
    assert [run.model for run in probe.evaluations] == ["ViT-w16d1-4", "ViT-w32d2-4"]


def test_a_tuning_is_a_shape_and_masked_inference_is_timed_with_the_evaluation(planned):
    text = (
        STUDY.replace("samples: [4k, 8k]", "tuning: [null, {samples: 1k, batch_size: 32}]")
        + "evaluation: {inference: masked}\n"
    )
    probe = probe_of(planned(text), "local")
    assert len(probe.shapes) == 6  # two models, with and without a mask, and each tuned without one
    assert len(probe.evaluations) == 4  # two models, of runs with and without a mask


def test_runs_of_a_program_of_somebody_elses_cannot_be_probed(planned):
    text = STUDY.replace("precision: fp32", "trainer: open_clip")
    with pytest.raises(LaunchError, match="mask cannot be probed: a probe times flipscale's trainer and programs of"):
        probe_of(planned(text), "local")


def test_a_probe_is_one_run_with_what_the_neediest_run_needs(planned, tmp_path):
    whole, launcher = planned(), Site()
    submission = submit_probe(whole, tmp_path, launcher)
    (run,) = submission.runs
    assert [run_id for run_id, _ in launcher.submitted] == [run.id]
    assert run.id.startswith("probe_mask_")
    folder = RunFolder(tmp_path / "runs" / run.id)
    asked = folder.asked()
    assert read_probe(folder.path) == probe_of(whole, "slurm hall")
    assert asked.settled.model == "ViT-w32d2-4"
    assert asked.cost.memory_bytes == max(each.cost.memory_bytes for each in whole.runs)
    assert (asked.cost.train_flops, asked.parents, asked.seconds) == (0, (), None)
    assert folder.state(State.WAITING) is State.WAITING


def test_two_probes_of_a_study_are_two_runs(planned, tmp_path):
    first, second = (submit_probe(planned(), tmp_path, Site()).runs[0].id for _ in range(2))
    assert first != second


def test_a_probe_that_is_not_over_can_be_cancelled_with_its_study(planned, tmp_path):
    first, second = (submit_probe(planned(), tmp_path, Site()).runs[0].id for _ in range(2))
    (tmp_path / "runs" / first / "result.json").write_text('{"schema": 1}')
    assert [folder.id for folder in open_probes("mask", tmp_path)] == [second]
    assert open_probes("other", tmp_path) == []
    with RunFolder(tmp_path / "runs" / second).hold():
        assert cancel(open_probes("mask", tmp_path), tmp_path) == [second]
    assert open_probes("mask", tmp_path) == []


def test_times_are_kept_under_the_launcher_and_the_sites_name(tmp_path):
    named = {**DEFAULTS, "name": "hall"}
    assert LocalLauncher(tmp_path).site_name == "local"
    assert SlurmLauncher(tmp_path).site_name == "slurm"
    assert SlurmLauncher(tmp_path, named).site_name == "slurm hall"
    assert RayLauncher(tmp_path, named).site_name == "ray hall"
