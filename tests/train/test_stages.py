"""A run in stages equals itself however often it is killed, and one whose stages change nothing is the plain run."""

import json
import sys
from pathlib import Path

import open_clip
import pytest
import torch

from flipscale.collecting.rows import row_of
from flipscale.planning.runs import Plan, plan
from flipscale.run import TRUNK_FILE, RunFolder, RunRequest
from flipscale.settings.architecture import architecture
from flipscale.study import read_study
from flipscale.train import train
from tests.train.test_processes import ended, started, two_processes
from tests.train.test_trunk import ask, counted_steps, same, train_through_20_kills

pytestmark = pytest.mark.slow

STUDY = """\
schema: 1
base:
  model: ViT-w16d1-4
  image_size: 28
  text_length: 16
  data: {shapes: {pairs: 0.3}}
  data_size: 600
  samples: 640
  crop: 0.5
  flip: true
  mask_ratio: 0.5
  text_mask_ratio: 0.5
  grad_clip: 1
  batch_size: 32
  lr: 1e-3
  stages: STAGES
evaluation: {images: 40, at: [0.5]}
resources: {processes: PROCESSES}
"""

GROWING = "[{samples: 50 %, image_size: 12, text_length: 8}, {samples: 30 %}, {samples: 20 %, mask_ratio: 0, lr: 5e-4}]"


def planned(folder: Path, stages: str, processes: int = 1, **changes: str) -> Plan:
    folder.mkdir(exist_ok=True)
    text = STUDY.replace("STAGES", stages).replace("PROCESSES", str(processes))
    for old, new in changes.items():
        text = text.replace(f"  {old}: ", f"  {old}: {new} #")
    (folder / "stages.yaml").write_text(text)
    return plan(read_study(folder / "stages.yaml"))


def asked(results: Path, stages: str, processes: int = 1, **changes: str) -> list[RunFolder]:
    return [ask(results, run) for run in planned(results, stages, processes, **changes).runs]


def outcome(run: RunFolder) -> list[object]:
    """All that a run leaves behind but its times."""
    weights = torch.load(run.path / "model.pt")["state_dict"]
    kept = torch.load(run.path / TRUNK_FILE) if (run.path / TRUNK_FILE).exists() else {}
    timed = ("time", "seconds", "images_per_second", "evaluation_seconds")
    records = [{name: value for name, value in each.items() if name not in timed} for each in run.records()[0]]
    result = run.result()
    measured = [result.scores, result.final_loss, result.samples_seen, result.steps, result.unique_pairs, run.hits()]
    return [weights, kept.get("model"), kept.get("optimizer"), kept.get("history"), records, *measured]


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, list[RunFolder]]:
    """The stages, trained without a kill."""
    folder = tmp_path_factory.mktemp("alone")
    study = planned(folder, GROWING)
    runs = [ask(folder, run) for run in study.runs]
    assert train([run.path for run in runs]) == 0
    return study, runs


@pytest.fixture(scope="module")
def alone(grown: tuple[Plan, list[RunFolder]]) -> list[list[object]]:
    """What each stage leaves behind where nothing is killed."""
    return [outcome(run) for run in grown[1]]


@pytest.mark.parametrize("kept", [0.0, 30.0], ids=["a checkpoint at every step", "no checkpoint"])
def test_20_kills_in_the_parents_between_and_in_the_last_stage_lose_nothing(tmp_path, alone, monkeypatch, kept):
    runs = asked(tmp_path, GROWING)
    train_through_20_kills(runs[::-1], kept, monkeypatch)
    assert all(map(same, map(outcome, runs), alone))


KILLED_AFTER_5_STEPS = """
import os, signal
from flipscale.train.trainers.builtin.training import Training

step, left = Training.step, [5]

def killed(training, *batch):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    step(training, *batch)

Training.step = killed
"""


def test_two_processes_that_are_killed_in_every_stage_lose_nothing(tmp_path):
    whole, killed = (asked(tmp_path / name, GROWING, processes=2) for name in ("whole", "killed"))
    assert train([run.path for run in whole]) == 0
    kills = 0
    while killed[-1].result() is None:
        assert kills < 20
        group = [started(*killed, before=KILLED_AFTER_5_STEPS, **each) for each in two_processes()]
        kills += -9 in [ended(process)[0] for process in group]
    assert kills >= 3
    assert all(map(same, map(outcome, killed), map(outcome, whole)))


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_stages_that_change_nothing_train_the_run_without_them(tmp_path, schedule):
    (plain,) = asked(tmp_path / "plain", "null", schedule=schedule)
    runs = asked(tmp_path / "stages", "[50 %, 160, 25 %]", schedule=schedule)
    assert train([run.path for run in (plain, *runs)]) == 0
    losses = [record["loss"] for run in runs for record in run.records()[0] if "loss" in record]
    assert losses == [record["loss"] for record in plain.records()[0] if "loss" in record]
    rates = [record["lr"] for run in runs for record in run.records()[0] if "lr" in record]
    assert rates == [record["lr"] for record in plain.records()[0] if "lr" in record]
    expected, found = outcome(plain)[0], outcome(runs[-1])[0]
    # Words that no text holds only decay: rounding differs where that is applied in parts.
    table = "token_embedding.weight"
    assert torch.allclose(found.pop(table), expected.pop(table), atol=1e-7)
    assert same(found, expected)
    assert runs[-1].result().scores == plain.result().scores
    assert runs[-1].result().parent.samples_seen == 480


def test_a_stage_on_larger_images_with_other_patches_loads_in_open_clip(tmp_path):
    runs = asked(tmp_path, "[{samples: 50 %, image_size: 16}, {samples: 50 %, model: ViT-w16d1-7, image_size: 28}]")
    assert train([run.path for run in runs]) == 0
    config = architecture("ViT-w16d1-7", 28).open_clip_config
    stock = open_clip.create_model("ViT-B-16", str(runs[1].path / "model.pt"), **config, load_weights=True)
    assert stock.visual.conv1.weight.shape == (16, 3, 7, 7)
    assert stock.visual.positional_embedding.shape == (17, 16)


def test_the_optimizer_goes_on_where_shapes_are_the_same(tmp_path):
    small = "{samples: 50 %, model: ViT-w16d1-7, image_size: 14, text_length: 8}"
    runs = asked(tmp_path, f"[{small}, {{samples: 25 %}}, {{samples: 25 %}}]")
    assert train([run.path for run in runs[:2]]) == 0
    before, after = (torch.load(run.path / TRUNK_FILE) for run in runs[:2])
    steps = [
        {name: int(state["optimizer"]["state"][at]["step"]) for at, name in enumerate(state["parameters"])}
        for state in (before, after)
    ]
    assert set(steps[0].values()) == {10}
    assert {name for name, taken in steps[1].items() if taken == 5} == {
        "model.visual.conv1.weight",
        "model.positional_embedding",
        "model.token_embedding.weight",
    }
    assert set(steps[1].values()) == {5, 15}


def test_a_row_has_the_costs_of_all_stages_and_those_of_its_own(grown):
    study, folders = grown
    last, known = study.runs[-1], {run.id: run for run in study.runs}
    row, _ = row_of(last, "stages", folders[-1], known)
    assert (row["samples_seen"], row["own_samples_seen"]) == (640, 128)
    assert row["train_flops"] == sum(run.cost.train_flops for run in study.runs)
    assert row["gpu_hours"] == pytest.approx(sum(run.result().gpu_hours for run in folders))
    assert row["own_gpu_hours"] == folders[-1].result().gpu_hours


def test_a_stage_whose_parent_kept_no_state_says_what_to_do(tmp_path):
    first, second = asked(tmp_path, "[50 %, 50 %]")
    assert train([first.path]) == 0
    (first.path / TRUNK_FILE).unlink()
    assert train([second.path]) == 1
    assert f"Its parent {first.id} has no trunk.pt to start from" in second.error().reason


def test_a_stage_that_restarts_needs_the_weights_alone(tmp_path):
    first, second = asked(tmp_path, "[{samples: 50 %, image_size: 12}, {samples: 50 %, restart: true, warmup: 32}]")
    assert first.asked().settings["stages"] is None
    assert train([first.path, second.path]) == 0
    assert not (first.path / TRUNK_FILE).exists()
    rates = [[record["lr"] for record in run.records()[0] if "lr" in record] for run in (first, second)]
    assert rates[0][-1] < 1e-4 < rates[1][0] == 1e-3


def test_a_command_gets_its_stage_and_its_parents_folder(tmp_path):
    program = (
        "import json, os, sys; "
        "keep = {name: os.environ.get(name) for name in ('FLIPSCALE_STAGE', 'FLIPSCALE_PARENT')}; "
        "open(sys.argv[1] + '/model.pt', 'w').close(); "
        "open(sys.argv[1] + '/outcome.json', 'w').write(json.dumps({'scores': {}})); "
        "open(sys.argv[1] + '/kept.json', 'w').write(json.dumps(keep))"
    )
    trainer = json.dumps({"command": {"arguments": [sys.executable, "-c", program]}})
    runs = asked(tmp_path, "[{samples: 50 %, image_size: 12}, 50 %]", lr=f"1e-3\n  trainer: {trainer}")
    assert train([run.path for run in runs]) == 0
    first, second = (json.loads((run.path / "kept.json").read_text()) for run in runs)
    assert (first["FLIPSCALE_PARENT"], second["FLIPSCALE_PARENT"]) == (None, str(runs[0].path))
    stages = [json.loads(each["FLIPSCALE_STAGE"]) for each in (first, second)]
    assert [(each["before"], each["end"], each["settings"]["image_size"]) for each in stages] == [
        (0, 640, 12),
        (320, 640, 28),
    ]


def test_a_prefix_that_is_finished_is_not_trained_again(tmp_path, monkeypatch):
    first = asked(tmp_path, "[{samples: 50 %, image_size: 12}, {samples: 50 %, mask_ratio: 0}]")
    assert train([run.path for run in first]) == 0
    steps = counted_steps(monkeypatch)
    other = asked(tmp_path, "[{samples: 320, image_size: 12}, {samples: 320, flip: false}]")
    assert other[0].id == first[0].id
    assert train([run.path for run in other]) == 0
    assert len(steps) == 10


def test_a_failed_parent_fails_its_children_with_its_reason(tmp_path):
    first, second, third = asked(tmp_path, GROWING)
    first.write_error("oom", "Out of memory.")
    assert train([run.path for run in (first, second, third)]) == 1
    assert second.error().reason == f"Its parent {first.id} failed (oom): Out of memory. Submit both again."
    assert third.error().kind == "parent"


def test_request_of_an_older_run_without_stages_reads(tmp_path):
    (run,) = planned(tmp_path, "null").runs
    settings = {name: value for name, value in RunRequest.of(run).settings.items() if name != "stages"}
    assert RunRequest(run.id, settings).settled == run.settings
