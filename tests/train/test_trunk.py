"""Lengths of a constant schedule share its trunk: each run equals the same run trained alone, to the last bit."""

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from flipscale.collecting.ledger import entry_of
from flipscale.collecting.rows import row_of
from flipscale.planning.runs import Plan, Run, plan
from flipscale.run import TRUNK_FILE, RunFolder, RunRequest, State
from flipscale.settings.architecture import architecture
from flipscale.study import read_study
from flipscale.train import train
from flipscale.train.trainers.builtin.training import Training
from flipscale.workflow.opened import open_study
from flipscale.workspace import Workspace

pytestmark = pytest.mark.slow

STUDY = """\
schema: 1
question: How does the loss fall with the schedule?
base:
  model: ViT-w16d1-4
  image_size: 28
  text_length: 16
  data: {shapes: {pairs: 0.3}}
  data_size: 600
  crop: 0.5
  flip: true
  mask_ratio: 0.5
  text_mask_ratio: 0.5
  grad_clip: 1
  batch_size: 32
  lr: 1e-3
  schedule: constant
  average: 0.2
  COOLDOWN
axes: {samples: LENGTHS}
evaluation: {images: 40, at: [0.25, 0.5]}
resources: {processes: PROCESSES}
"""

STEPS = {"320": 10, "640": 20, "1280": 40}

COOLDOWNS = {shape: f"cooldown: 20 %\n  cooldown_shape: {shape}" for shape in ("1-sqrt", "linear")}
UNCOOLED = "cooldown: 0"


class Killed(BaseException):
    """The end of a process: nothing handles it."""


def planned(folder: Path, *lengths: str, processes: int = 1, cooldown: str = COOLDOWNS["1-sqrt"]) -> Plan:
    folder.mkdir(exist_ok=True)
    text = STUDY.replace("LENGTHS", f"[{', '.join(lengths)}]").replace("PROCESSES", str(processes))
    text = text.replace("COOLDOWN", cooldown)
    (folder / "lengths.yaml").write_text(text)
    return plan(read_study(folder / "lengths.yaml"))


def ask(results: Path, run: Run) -> RunFolder:
    folder = RunFolder(results / "runs" / run.id)
    folder.ask(RunRequest.of(run))
    return folder


def asked(results: Path, *lengths: str, **options: Any) -> list[RunFolder]:
    return [ask(results, run) for run in planned(results, *lengths, **options).runs]


def outcome(run: RunFolder) -> list[object]:
    """All that a run leaves behind but its times."""
    weights = [torch.load(run.path / name)["state_dict"] for name in ("model.pt", "averaged.pt")]
    trunk = torch.load(run.path / TRUNK_FILE)
    timed = ("time", "seconds", "images_per_second", "evaluation_seconds")
    records = [{name: value for name, value in each.items() if name not in timed} for each in run.records()[0]]
    result = run.result()
    measured = [result.scores, result.final_loss, result.samples_seen, result.steps, result.unique_pairs, run.hits()]
    return [weights, trunk["model"], trunk["optimizer"], trunk["history"], records, *measured]


def same(first: object, second: object) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(value, second[name]) for name, value in first.items())
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[object]]:
    """What each length leaves behind where it is trained alone, by its steps."""
    return trained_alone(tmp_path_factory, COOLDOWNS["1-sqrt"])


def trained_alone(tmp_path_factory: pytest.TempPathFactory, cooldown: str) -> dict[int, list[object]]:
    found = {}
    for length, steps in STEPS.items():
        run = planned(tmp_path_factory.mktemp("warm"), *STEPS, cooldown=cooldown).runs[[*STEPS].index(length)]
        folder = RunFolder(tmp_path_factory.mktemp("alone") / "runs" / run.id)
        folder.ask(RunRequest(run.id, RunRequest.of(run).settings))
        assert train([folder.path]) == 0
        assert folder.result().trunk is None
        found[steps] = outcome(folder)
    return found


def equals_alone(runs: list[RunFolder], alone: dict[int, list[object]]) -> None:
    for run in runs:
        assert same(outcome(run), alone[run.result().steps]), run.id


def test_each_length_equals_the_same_run_alone_and_the_trunk_is_trained_once(tmp_path, alone, monkeypatch):
    steps = counted_steps(monkeypatch)
    runs = asked(tmp_path, *STEPS)
    assert train([run.path for run in reversed(runs)]) == 0
    assert all(len(run.codes()) == 1 for run in runs)
    equals_alone(runs, alone)
    assert len(steps) == 10 + (20 - 8) + (40 - 16)
    results = [run.result() for run in runs]
    assert [result.trunk and (result.trunk.id, result.trunk.samples_seen) for result in results] == [
        None,
        (runs[0].id, 256),
        (runs[1].id, 512),
    ]
    assert results[2].own_gpu_hours == pytest.approx(results[2].gpu_hours - results[2].trunk.gpu_hours)
    assert 0 < results[2].own_gpu_hours < results[2].gpu_hours
    study = planned(tmp_path, *STEPS)
    rows = [row_of(run, study.study, folder, {})[0] for run, folder in zip(study.runs, runs, strict=True)]
    assert [row["samples_seen"] for row in rows] == [320, 640, 1280]
    assert [row.get("own_samples_seen") for row in rows] == [None, 640 - 256, 1280 - 512]
    assert study.total.samples == 320 + 384 + 768
    entries = [
        entry_of("lengths", RunRequest.of(run), folder, State.FINISHED, is_probe=False)
        for run, folder in zip(study.runs, runs, strict=True)
    ]
    assert [entry.spent for entry in entries] == pytest.approx(
        [result.own_gpu_hours + (result.evaluation_seconds or 0) / 3600 for result in results]
    )
    each = {row["flops_per_sample"] for row in rows}
    assert [row["train_flops"] / row["samples_seen"] for row in rows] == [*each] * 3


@pytest.mark.parametrize(
    ("cooldown", "trunks"),
    [(COOLDOWNS["linear"], [256, 512]), (UNCOOLED, [320, 640])],
    ids=["linear", "uncooled"],
)
def test_other_cooldowns_and_uncooled_runs_equal_the_same_run_alone(tmp_path, tmp_path_factory, cooldown, trunks):
    runs = asked(tmp_path, *STEPS, cooldown=cooldown)
    assert train([run.path for run in runs]) == 0
    assert [run.result().trunk.samples_seen for run in runs[1:]] == trunks
    equals_alone(runs, trained_alone(tmp_path_factory, cooldown))


def test_averaged_weights_are_the_plain_mean_of_the_last_steps_and_are_scored_beside_the_last(tmp_path, monkeypatch):
    (run,) = asked(tmp_path, "640")
    taken, step = [], Training.step

    def noted(training: Training, *batch: torch.Tensor) -> None:
        step(training, *batch)
        taken.append(training.model.visual.proj.detach().clone())

    monkeypatch.setattr(Training, "step", noted)
    assert train([run.path]) == 0
    averaged = torch.load(run.path / "averaged.pt")["state_dict"]
    assert torch.allclose(averaged["visual.proj"], torch.stack(taken[-4:]).mean(dim=0), rtol=0, atol=1e-7)
    assert torch.equal(torch.load(run.path / "model.pt")["state_dict"]["visual.proj"], taken[-1])
    scores = run.result().scores
    assert {name for name in scores if not name.startswith("averaged.")} == {
        name.removeprefix("averaged.") for name in scores if name.startswith("averaged.")
    }
    assert scores["averaged.held_out_loss"] != scores["held_out_loss"]
    # The weights came back for model.pt, and the run's checkpoints on the way have no such scores.
    halfway = next(each["scores"] for each in run.records()[0] if "scores" in each)
    assert not any(name.startswith("averaged.") for name in halfway)
    shape = architecture("ViT-w16d1-4").open_clip_config
    model = open_clip.create_model("ViT-B-32", str(run.path / "averaged.pt"), load_weights=True, **shape)
    assert torch.equal(model.visual.proj, averaged["visual.proj"])


def test_two_processes_share_a_trunk_too(tmp_path):
    alone = asked(tmp_path / "alone", *STEPS, processes=2)[1]
    alone.ask(RunRequest(alone.id, alone.asked().settings, resources=alone.asked().resources))
    runs = asked(tmp_path / "shared", *STEPS, processes=2)[:2]
    assert train([run.path for run in (alone, *runs)]) == 0
    assert runs[1].result().trunk.id == runs[0].id
    assert same(outcome(runs[1]), outcome(alone))


@pytest.mark.parametrize("kept", [0.0, 30.0], ids=["a checkpoint at every step", "no checkpoint"])
def test_20_kills_in_the_trunk_in_branches_and_between_lose_nothing(tmp_path, alone, monkeypatch, kept):
    runs = asked(tmp_path, "320", "640")
    train_through_20_kills(runs, kept, monkeypatch)
    equals_alone(runs, alone)
    assert runs[1].result().trunk.samples_seen == 256


def train_through_20_kills(runs: list[RunFolder], kept: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train the runs, in this order, through kills; a checkpoint is written every `kept` seconds."""
    paths = [run.path for run in runs]
    for after in range(1, 21):
        with monkeypatch.context() as patched:
            counted_steps(patched, killed_after=after if kept == 30.0 else 1)
            try:
                assert train(paths, checkpoint_seconds=kept) == 0
            except Killed:
                continue
    assert train(paths, checkpoint_seconds=kept) == 0


def counted_steps(monkeypatch: pytest.MonkeyPatch, killed_after: int = 10**9) -> list[int]:
    """The steps that are taken from now on, until the process is killed in place of one."""
    step, taken = Training.step, []

    def counted(training: Training, *batch: torch.Tensor) -> None:
        if len(taken) == killed_after:
            raise Killed
        taken.append(training.progress.step)
        step(training, *batch)

    monkeypatch.setattr(Training, "step", counted)
    return taken


def test_a_length_that_is_added_between_or_beyond_goes_on_from_the_nearest_trunk(tmp_path, alone, monkeypatch):
    first = asked(tmp_path, "320", "1280")
    assert train([run.path for run in first]) == 0
    steps = counted_steps(monkeypatch)
    all_runs = asked(tmp_path, "320", "640", "1280")
    assert [run.id for run in (all_runs[0], all_runs[2])] == [run.id for run in first]
    assert train([run.path for run in all_runs]) == 0
    assert len(steps) == 20 - 8
    equals_alone(all_runs, alone)
    longest = asked(tmp_path, *STEPS, "2560")[3]
    assert train([longest.path]) == 0
    assert (longest.result().trunk.id, len(steps)) == (all_runs[2].id, 12 + 80 - 32)


def test_a_run_goes_on_from_the_trunk_of_another_study_in_the_same_results_folder(tmp_path, alone):
    first = asked(tmp_path, "320")[0]
    assert train([first.path]) == 0
    planned(tmp_path / "other", "640")
    file = tmp_path / "other" / "lengths.yaml"
    file.write_text(file.read_text().replace("  lr: 1e-3", "  lr: 1e-3\n  warmup: 32"))
    opened = open_study(file, Workspace(tmp_path))
    (run,) = (ask(tmp_path, each) for each in opened.plan.runs)
    assert train([run.path]) == 0
    assert (run.result().trunk.id, run.result().trunk.samples_seen) == (first.id, 256)
    equals_alone([run], alone)
    # Its plan stays when it has finished.
    assert open_study(file, Workspace(tmp_path)).plan == opened.plan


def test_a_run_without_the_trunk_it_waited_for_trains_that_part_itself(tmp_path, alone):
    runs = asked(tmp_path, "320", "640")
    runs[0].write_error("node", "It is gone.")
    assert train([run.path for run in runs]) == 0
    assert runs[0].result() is None
    assert runs[1].result().trunk is None
    equals_alone(runs[1:], alone)


def test_a_run_goes_on_from_a_trunk_further_back_where_the_nearest_is_gone(tmp_path, alone):
    runs = asked(tmp_path, *STEPS)
    assert train([run.path for run in runs[:2]]) == 0
    (runs[1].path / TRUNK_FILE).unlink()
    assert train([runs[2].path]) == 0
    assert runs[2].result().trunk.id == runs[0].id
    equals_alone(runs[2:], alone)
