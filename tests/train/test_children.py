"""A child starts from its parent's weights: unmasked tuning, and other ways of inference with a finished model."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flipscale.cost.arithmetic import steps_of
from flipscale.planning.identity import parent_of, run_id
from flipscale.run import FailureKind, Job, RunFolder, RunRequest, State, birth, machine, write_json
from flipscale.settings.declarations import Resources, plain
from flipscale.study.settings import read_settings
from flipscale.train import train
from flipscale.train.distributed import Group
from flipscale.train.requests import request_of, steps_before, unique_pairs_of
from flipscale.train.sources import open_training_data
from flipscale.train.trainers.builtin import pretrain
from flipscale.train.trainers.builtin.loop import batches
from flipscale.train.trainers.builtin.training import Training
from tests.train.conftest import SETTINGS

pytestmark = pytest.mark.slow

TUNING = {"samples": 128, "lr": 1e-4, "warmup": 32, "batch_size": 16, "mask_ratio": 0.0}

Ask = Callable[..., RunFolder]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """A run folder by its settings, with its parent as the plan names it."""

    def asked(**changes: Any) -> RunFolder:
        settings = read_settings({**SETTINGS, **changes})
        parent = parent_of(settings)
        run = RunFolder(tmp_path / "runs" / run_id(settings))
        parents = [] if parent is None else [run_id(parent)]
        run.ask(RunRequest(run.id, plain(settings), tuple(parents)))
        return run

    return asked


def losses(run: RunFolder) -> dict[int, float]:
    return {record["step"]: record["loss"] for record in run.records()[0] if "loss" in record}


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    return torch.load(run.path / "model.pt")["state_dict"]


def test_a_tuning_is_done_after_its_parent_from_its_weights_whatever_the_order(ask):
    parent, tuning = ask(), ask(tuning=TUNING)
    assert train([tuning.path, parent.path]) == 0
    before, after = parent.result(), tuning.result()
    assert after.started > before.finished
    assert (after.samples_seen, after.steps) == (128, 8)
    rates = [record["lr"] for record in tuning.records()[0] if "lr" in record]
    assert max(rates) == 1e-4
    assert vars(after.parent) == {
        "id": parent.id,
        "samples_seen": 640,
        "train_seconds": before.train_seconds,
        "cpu_seconds": before.cpu_seconds,
        "gpu_hours": before.gpu_hours,
        "unique_pairs": 640,
    }
    # With so small a learning rate the tuned weights are near the parent's, and far from where the parent began.
    found, origin = weights(tuning), weights(parent)
    moved = max(float((found[name] - origin[name]).abs().max()) for name in found)
    assert 0 < moved < 8 * 1e-4
    assert before.parent is None


@pytest.mark.parametrize("batch_size", [32, 48])
def test_a_tuning_takes_up_pairs_views_and_masks_where_its_parent_left_them(ask, batch_size):
    """As if the parent's schedule went on, in batches of the tuning's."""
    more = {"data_size": 400, "crop": 0.5, "flip": True, "text_mask_ratio": 0.5}
    parent, tuning = ask(**more), ask(**more, tuning={**TUNING, "batch_size": batch_size, "mask_ratio": 0.5})
    longer = ask(**more, samples=640 + 480, batch_size=batch_size)
    before, rows = 640 // batch_size, slice(0, 3)
    found, expected = batches_of(tuning), batches_of(longer)[before:]
    for (images, tokens), (other_images, other_tokens) in zip(found[rows], expected[rows], strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(tokens, other_tokens)
    assert not torch.equal(found[0][0][:16], batches_of(parent)[0][0][:16])
    training = training_of(tuning)
    assert (training.progress.step, training.drawn_step) == (0, before)
    longer_training = training_of(longer)
    longer_training.progress.step = before
    kept = [one.objective.draw(*found[0], one.drawn_step, 0) for one in (training, longer_training)]
    masks = [one.model.visual.patch_dropout.kept for one in (training, longer_training)]
    assert torch.equal(*kept)
    assert torch.equal(*masks)


def test_a_tuning_on_endless_data_sees_new_pairs_only(ask):
    parent, tuning, repeated = ask(), ask(tuning=TUNING), ask(data_size=640, tuning=TUNING)

    def seen(run: RunFolder) -> list[int]:
        settings, _ = request_of(run)
        first = steps_before(run, settings.batch_size)
        data = open_training_data(run, settings)
        steps = range(first, first + steps_of(settings))
        return [int(i) for step in steps for i in data.order(settings.seed, step, settings.batch_size)]

    assert sorted(seen(parent)) == list(range(640))
    assert sorted(seen(tuning)) == list(range(640, 768))
    assert len(set(seen(repeated))) == 128
    assert set(seen(repeated)) < set(range(640))


@pytest.mark.parametrize(
    ("data_size", "own", "others", "all_pairs"), [(None, 128, 640, 768), (400, 128, 272, 400), (700, 128, 572, 700)]
)
def test_pairs_of_a_tuning_and_its_parent_are_counted_once(ask, data_size, own, others, all_pairs):
    parent, tuning = ask(data_size=data_size), ask(data_size=data_size, tuning=TUNING)
    assert train([parent.path, tuning.path]) == 0
    assert (tuning.result().unique_pairs, tuning.result().parent.unique_pairs) == (own, others)
    assert unique_pairs_of(tuning) == all_pairs


def batches_of(run: RunFolder) -> list[tuple[torch.Tensor, torch.Tensor]]:
    training = training_of(run)
    return list(batches(open_training_data(run, training.settings), training, training.steps))


def training_of(run: RunFolder) -> Training:
    settings, _ = request_of(run)
    return Training(settings, Group(), Resources(), steps_before=steps_before(run, settings.batch_size))


def test_a_stopped_tuning_goes_on_from_its_own_checkpoint(ask, monkeypatch):
    parent, whole = ask(), ask(tuning={**TUNING, "samples": 640})
    assert train([parent.path, whole.path]) == 0
    expected = losses(whole), weights(whole)
    for name in ("result.json", "metrics.jsonl", "model.pt"):
        (whole.path / name).unlink()
    fit = pretrain.fit

    def stopped_after_ten_steps(training, *rest, **more):
        more["stopping"] = lambda: signal.SIGTERM if training.progress.step >= 10 else 0
        return fit(training, *rest, **more)

    monkeypatch.setattr(pretrain, "fit", stopped_after_ten_steps)
    assert train([whole.path]) == 143
    monkeypatch.undo()
    assert train([whole.path]) == 0
    assert whole.result().attempts == 2
    assert losses(whole) == expected[0]
    assert all(torch.equal(weights(whole)[name], value) for name, value in expected[1].items())


def test_a_child_whose_parent_nobody_does_fails_and_says_what_to_do(ask):
    parent, child = ask(), ask(tuning=TUNING)
    assert train([child.path]) == 1
    assert child.error().kind == "parent"
    assert child.error().reason == (
        f"Its parent {parent.id} is not finished, and no process is training it; run flipscale train "
        f"{parent.path}, then submit this run again."
    )
    assert not (child.path / "model.pt").exists()


def test_a_child_of_a_failed_parent_fails_with_its_reason(ask):
    parent, child = ask(), ask(tuning=TUNING)
    parent.write_error(FailureKind.OOM, "Out of memory.")
    assert train([parent.path, child.path]) == 1
    assert child.error().kind == "parent"
    assert child.error().reason == f"Its parent {parent.id} failed (oom): Out of memory. Submit both again."


def test_a_parent_that_fails_here_takes_its_children_along_and_no_others(ask):
    parent, child, other = ask(lr=1e30, warmup=0), ask(lr=1e30, warmup=0, tuning=TUNING), ask()
    assert train([child.path, parent.path, other.path]) == 1
    assert [run.state() for run in (parent, child, other)] == [State.FAILED, State.FAILED, State.FINISHED]
    assert (parent.error().kind, child.error().kind) == ("diverged", "parent")


def test_a_parent_without_weights_is_said(ask):
    parent, child = ask(), ask(tuning=TUNING)
    assert train([parent.path]) == 0
    (parent.path / "model.pt").unlink()
    assert train([child.path]) == 1
    assert f"Its parent {parent.id} has no model.pt to start from" in child.error().reason


def test_a_command_that_wrote_no_weights_is_told_to_write_some(ask, tmp_path):
    program = "import json, sys; open(sys.argv[1] + '/outcome.json', 'w').write(json.dumps({'scores': {}}))"
    trainer = {"command": {"arguments": [sys.executable, "-c", program], "name": None}}
    parent, child = ask(trainer=trainer), ask(trainer=trainer, tuning=TUNING)
    assert train([parent.path, child.path]) == 1
    assert child.error().kind == "parent"
    assert child.error().reason == (
        f"Its parent {parent.id} is trained by a command, which wrote no model.pt, but a tuning, a fine-tuning "
        "or another evaluation needs it. Have it write one (docs/trainers.md), then delete its result.json, run "
        f"flipscale train {parent.path}, then submit this run again."
    )


def test_a_child_of_a_cancelled_parent_says_that_submit_starts_both(ask):
    parent, child = ask(), ask(tuning=TUNING)
    parent.write_job(Job(parent.id, "local", "1", submitted=0.0, log="", cancelled=1.0))
    assert train([parent.path, child.path]) == 1
    assert child.error().reason == (
        f"Its parent {parent.id} was cancelled; `flipscale submit` of the study starts both again."
    )
    assert (parent.state(), parent.error()) == (State.CANCELLED, None)


@pytest.fixture
def held_by_another(ask):
    """A parent in the hands of another living process."""
    parent = ask()
    holder = subprocess.Popen(["sleep", "60"])
    lease = {
        "token": "theirs",
        "host": "h",
        "machine": machine(),
        "pid": holder.pid,
        "born": birth(holder.pid),
        "time": 0,
    }
    write_json(parent.path / "lease.json", lease)
    yield parent, holder
    holder.kill()
    holder.wait()


def test_a_child_waits_for_a_parent_in_other_hands_and_other_runs_come_first(ask, held_by_another):
    parent, _ = held_by_another
    child, other = ask(tuning=TUNING), ask(seed=1)

    def finish() -> None:
        while other.result() is None:
            time.sleep(0.01)
        # The other process finishes the parent.
        assert (child.result(), child.error()) == (None, None)
        (parent.path / "model.pt").write_bytes((other.path / "model.pt").read_bytes())
        write_json(parent.path / "result.json", {"schema": 1, "samples_seen": 640})
        (parent.path / "lease.json").unlink()

    thread = threading.Thread(target=finish)
    thread.start()
    assert train([child.path, other.path]) == 0
    thread.join()
    assert vars(child.result().parent) == {
        "id": parent.id, "samples_seen": 640, "train_seconds": None, "cpu_seconds": None, "gpu_hours": None,
        "unique_pairs": 640,
    }  # fmt: skip


def test_a_parent_whose_process_dies_is_trained_here_if_it_is_in_the_list(ask, held_by_another):
    parent, holder = held_by_another
    child = ask(tuning=TUNING)
    threading.Timer(1.5, holder.kill).start()
    # Reap it: a zombie is as good as dead, but this keeps the process table clean.
    threading.Thread(target=holder.wait).start()
    assert train([child.path, parent.path]) == 0
    assert (parent.state(), child.state()) == (State.FINISHED, State.FINISHED)


def test_waiting_for_a_parent_ends_at_a_signal(ask, held_by_another):

    child = ask(tuning=TUNING)
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert train([child.path]) == 143
    assert (child.state(), child.error()) == (State.PLANNED, None)
