import errno
import json
import math
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from flipscale.cost.arithmetic import steps_of
from flipscale.data.pairs import Data
from flipscale.data.shuffle import Shuffle
from flipscale.errors import Diverged, FlipscaleError, LeaseLost, RunFolderError
from flipscale.run import write_json
from flipscale.settings.declarations import Resources
from flipscale.train.distributed import Group
from flipscale.train.evaluate import Evaluated
from flipscale.train.model import build
from flipscale.train.trainers.builtin import checkpoints
from flipscale.train.trainers.builtin.checkpoints import interval, write_state
from flipscale.train.trainers.builtin.loop import batches, fit
from flipscale.train.trainers.builtin.training import Training, check_precision, optimizer_of
from tests.patience import PATIENCE


def pairs(indices, views=None):
    """Images of noise and captions of one word, which follow from the index alone."""
    images = np.stack([np.random.default_rng(index).integers(0, 256, (3, 28, 28), dtype=np.uint8) for index in indices])
    tokens = np.zeros((len(indices), 16), np.int64)
    tokens[:, :3] = np.stack([np.full(len(indices), 49406), 320 + indices % 500, np.full(len(indices), 49407)], axis=1)
    return images, tokens


NOISE = Data(size=640, batch=pairs, order=Shuffle([640]), vocabulary=np.arange(49408))


def training_of(settings, **resources):
    return Training(settings, Group(), Resources(**resources))


def first_batch():
    return map(torch.from_numpy, pairs(np.arange(32)))


def losses(run):
    return {record["step"]: record["loss"] for record in run.records()[0] if "loss" in record}


def fit_here(training, run, *, stopping=lambda: False, score=None, checkpoint_seconds=30.0):
    with run.hold() as lease:
        return fit(
            training,
            NOISE,
            lease,
            score=score,
            stopping=stopping,
            say=lambda line: None,
            checkpoint_seconds=checkpoint_seconds,
        )


@pytest.mark.parametrize(("samples", "batch_size", "steps"), [(640, 32, 20), (1000, 64, 16), (160, 64, 3), (10, 64, 1)])
def test_steps_are_samples_over_batch_to_the_nearest_and_at_least_one(settings, samples, batch_size, steps):
    assert steps_of(settings(samples=samples, batch_size=batch_size)) == steps


def test_weight_decay_is_for_matrices(settings):
    model = build(settings())
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, others = (
        {names[id(parameter)] for parameter in group["params"]}
        for group in optimizer_of(model, settings()).param_groups
    )
    assert {"token_embedding.weight", "text_projection", "visual.proj", "visual.conv1.weight"} < decayed
    assert {
        "logit_scale",
        "positional_embedding",
        "visual.class_embedding",
        "ln_final.weight",
        "ln_final.bias",
    } < others
    assert all(name.endswith(("weight", "proj", "projection")) for name in decayed)
    # FLIP's sine-cosine positions are fixed, so no optimizer has them.
    assert decayed | others == set(names.values()) - {"visual.positional_embedding"}


def test_the_optimizer_has_the_settings_of_the_run(settings):
    optimizer = optimizer_of(build(settings()), settings(weight_decay=0.1, beta1=0.8, beta2=0.9, eps=1e-6))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert all((group["betas"], group["eps"]) == ((0.8, 0.9), 1e-6) for group in optimizer.param_groups)


SPEED = {
    "micro-batches": {"accumulate": 4},
    "activation checkpointing": {"activation_checkpointing": True},
    "both": {"accumulate": 2, "activation_checkpointing": True},
}


def trained(settings, **resources):
    """Ten steps on the same batch: the sum of the losses and the weights."""
    training = training_of(settings, **resources)
    for _ in range(10):
        training.step(*first_batch())
    return float(training.history[:, 0].sum()), training.model.state_dict()


@pytest.mark.parametrize("means", SPEED)
@pytest.mark.parametrize(
    "changes",
    [
        {"mask_ratio": 0.5, "text_mask_ratio": 0.5},
        {"mask_ratio": 0, "grad_clip": 0.1},
        {"reconstruction": {"weight": 0.5, "width": None, "depth": 1}},
    ],
)
def test_what_saves_memory_or_time_changes_neither_loss_nor_weights(settings, means, changes):
    asked = settings(eps=1e-3, **changes)
    loss, weights = trained(asked)
    other_loss, other_weights = trained(asked, **SPEED[means])
    assert other_loss == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(other_weights, weights, rtol=0, atol=2e-5)


def test_micro_batches_count_the_gradient_of_the_logit_scale_once(settings):
    """In open_clip's accum_freq it is counted once for each micro-batch."""
    asked = settings(lr=1.0, warmup=0, weight_decay=0.0, eps=1e3)
    start = float(training_of(asked).model.logit_scale.detach())
    moved = [float(trained(asked, accumulate=parts)[1]["logit_scale"]) - start for parts in (1, 4)]
    assert moved[1] == pytest.approx(moved[0], rel=1e-3)
    assert moved[0] != 0


def test_micro_batches_in_bf16_are_near_those_in_one(settings):
    asked = settings(eps=1e-3, precision="bf16")
    assert trained(asked, accumulate=4)[0] == pytest.approx(trained(asked)[0], rel=0.01)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch's compiler uses what torch deprecates.
@pytest.mark.filterwarnings("ignore::FutureWarning:torch")
def test_training_by_the_graphs_of_torch_compile_gives_the_same(settings, monkeypatch):
    """Forward and backward of a micro-batch are graphs, executed operation by operation. On a GPU they are compiled to
    kernels and compared (tests/gpu)."""
    compile_with = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compile_with(self, backend="aot_eager"))
    asked = settings(eps=1e-3, text_mask_ratio=0.5)
    loss, weights = trained(asked)
    compiled_loss, compiled_weights = trained(asked, compile=True, accumulate=2)
    assert compiled_loss == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(compiled_weights, weights, rtol=0, atol=2e-5)


def test_fp16_on_a_cpu_is_refused(settings):
    with pytest.raises(FlipscaleError, match="precision fp16 needs a GPU, and there is none here; set precision: bf16"):
        check_precision("fp16", torch.device("cpu"))
    check_precision("fp16", torch.device("cuda"))


@pytest.mark.parametrize(("scale", "clamped"), [(10.0, math.log(100)), (-1.0, 0.0)])
def test_the_temperature_is_clamped_after_each_step(settings, scale, clamped):
    training = training_of(settings(lr=1e-6))
    training.model.logit_scale.data.fill_(scale)
    training.step(*first_batch())
    assert float(training.model.logit_scale.detach()) == pytest.approx(clamped)


@pytest.mark.parametrize(
    "changes", [{"precision": "bf16"}, {"grad_clip": 0.5}, {"mask_ratio": 0}, {"mask_ratio": 0.99}]
)
def test_a_step_lowers_the_loss_of_its_batch(settings, changes):
    training = training_of(settings(warmup=0, lr=3e-3, samples=32 * 1000, **changes))
    seen = []
    for _ in range(10):
        before = float(training.history[:, 0].sum())
        training.step(*first_batch())
        seen.append(float(training.history[:, 0].sum()) - before)
    assert seen[-1] < seen[0]


def test_clipping_bounds_the_gradient(settings):
    def moved(grad_clip):
        # With eps far above the gradients Adam's step is proportional to them.
        training = training_of(settings(warmup=0, eps=1e6, lr=1e6, weight_decay=0.0, grad_clip=grad_clip))
        before = {name: value.clone() for name, value in training.model.state_dict().items()}
        training.step(*first_batch())
        after = training.model.state_dict()
        return math.sqrt(sum(float((after[name] - before[name]).square().sum()) for name in before))

    assert moved(1e-3) == pytest.approx(1e-3, rel=0.01)
    assert moved(None) > 0.1


def test_batches_made_ahead_are_the_batches_made_on_demand(settings):
    """Data whose words are not known is read as it is needed, so threads read ahead."""
    training = training_of(settings())
    training.progress.step = 3
    on_demand = list(batches(NOISE, training, 20))
    ahead = list(batches(replace(NOISE, vocabulary=None), training, 20))
    assert len(on_demand) == len(ahead) == 17
    for (images, tokens), (others, other_tokens) in zip(on_demand, ahead, strict=True):
        assert (images == others).all()
        assert (tokens == other_tokens).all()


@pytest.mark.parametrize("words", [None, np.arange(49408)])
def test_threads_that_fail_fail_the_loop(settings, words):
    def broken(indices, views):
        raise OSError("the shard is gone")

    with pytest.raises(OSError, match="the shard is gone"):
        list(batches(replace(NOISE, batch=broken, vocabulary=words), training_of(settings()), 20))


@pytest.mark.parametrize("parts", [1, 2, 8])
def test_rows_are_read_with_their_place_in_the_batch_whatever_it_is_split_into(settings, parts):
    seen = []

    def positions(indices, views):
        seen.append(views.positions)
        return pairs(indices)

    training = training_of(settings(flip=True), accumulate=parts)
    for _ in zip(range(2), batches(replace(NOISE, batch=positions), training, 20), strict=False):
        pass
    assert [list(rows) for rows in seen[:2]] == [list(range(32)), list(range(32, 64))]


def test_a_resumed_run_gives_the_same_losses_and_weights_to_the_last_bit(settings, run):
    whole, parts = run("whole"), run("parts")
    uninterrupted = training_of(settings())
    assert fit_here(uninterrupted, whole) == 0

    for stop_at, attempt in ((7, 1), (8, 2), (15, 3)):
        training = training_of(settings())
        training.resume(parts)
        assert fit_here(training, parts, stopping=lambda: training.progress.step >= stop_at)  # noqa: B023
        assert (training.progress.step, training.progress.attempts) == (stop_at, attempt)
    training = training_of(settings())
    assert training.resume(parts)
    assert fit_here(training, parts) == 0

    assert losses(parts) == losses(whole)
    assert len(losses(whole)) == 20
    assert training.final_loss == uninterrupted.final_loss
    weights = training.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in uninterrupted.model.state_dict().items())
    assert training.progress.attempts == 4


def test_steps_are_taken_while_a_checkpoint_is_written_and_it_holds_those_before(settings, run, monkeypatch):
    folder, training, may_end = run(), training_of(settings()), threading.Event()
    save = torch.save

    def late(state, file):
        assert may_end.wait(PATIENCE)
        save(state, file)

    def stopping():
        if training.progress.step == 9:
            may_end.set()
        return training.progress.step >= 12

    monkeypatch.setattr(torch, "save", late)
    saved = []
    monkeypatch.setattr(checkpoints, "write_state", lambda *given: (write_state(*given), saved.append(given[1])))
    assert fit_here(training, folder, stopping=stopping, checkpoint_seconds=0)
    steps = [state["progress"]["step"] for state in saved]
    assert steps[0] == 1
    assert steps[1] > 9
    assert steps[-1] == 12
    assert [len(state["history"]) for state in saved] == steps
    assert torch.load(folder.path / "checkpoint.pt")["progress"]["step"] == 12


def test_a_checkpoint_that_cannot_be_written_fails_the_run_with_its_reason(settings, run, monkeypatch):
    def full(state, file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    training = training_of(settings(samples=32_000))
    with pytest.raises(OSError, match="No space left"):
        fit_here(training, run(), checkpoint_seconds=0)
    assert training.progress.step < 1000
    with pytest.raises(OSError, match="No space left"):  # The last one, too.
        fit_here(training_of(settings()), run("other"), stopping=lambda: True)


def test_checkpoints_are_as_far_apart_as_loses_least():
    """Young's interval; at most ten minutes."""
    assert interval(0.01, 1) == pytest.approx(math.sqrt(2 * 0.01 * 24 * 3600), rel=0.01)
    assert interval(1.5, 256) == pytest.approx(math.sqrt(2 * 1.5 * 3600 / (1 / 24 + 256 / 49_000)), rel=1e-6)
    assert interval(60.0, 1) == 600


def test_seconds_go_on_counting_over_attempts(settings, run):
    folder = run()
    training = training_of(settings())
    fit_here(training, folder, stopping=lambda: training.progress.step >= 10)
    first = training.progress.seconds
    resumed = training_of(settings())
    resumed.resume(folder)
    fit_here(resumed, folder)
    seconds = [record["seconds"] for record in folder.records()[0]]
    assert seconds == sorted(seconds)
    assert seconds[9] <= first < seconds[10]
    assert resumed.progress.cpu_seconds > 0


def test_evaluation_is_at_the_fractions_and_the_end_and_takes_no_training_time(settings, run):
    folder = run()
    training = training_of(settings(evaluation={"at": [0.25, 0.5]}))

    def score(group):
        time.sleep(0.2)
        return Evaluated({"held_out_loss": 1.0 / training.progress.step})

    began = time.perf_counter()
    fit_here(training, folder, score=score)
    everything = time.perf_counter() - began
    scores = {record["step"]: record["scores"] for record in folder.records()[0] if "scores" in record}
    assert scores == {5: {"held_out_loss": 0.2}, 10: {"held_out_loss": 0.1}, 20: {"held_out_loss": 0.05}}
    assert training.progress.scores == {"held_out_loss": 0.05}
    assert training.progress.evaluation_seconds >= 0.6
    assert training.progress.seconds <= everything - 0.6


def test_a_record_has_just_the_documented_keys(settings, run):
    folder = run()
    fit_here(training_of(settings()), folder, score=lambda group: Evaluated({"held_out_loss": 1.0}))
    lines = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    *records, score = lines
    keys = {"step", "samples_seen", "loss", "lr", "logit_scale", "images_per_second", "seconds", "time"}
    assert all(set(record) == keys for record in records)
    assert set(score) == {"step", "samples_seen", "scores", "evaluation_seconds", "time"}
    assert [record["samples_seen"] for record in lines] == [*range(32, 641, 32), 640]


def test_a_run_of_any_length_has_about_200_records(settings, run):
    folder = run()
    fit_here(training_of(settings(samples=450 * 2, batch_size=2)), folder)
    assert len(losses(folder)) == 225
    assert max(losses(folder)) == 450


def test_a_loss_that_is_no_number_stops_the_run_and_names_step_and_lr(settings, run):
    folder = run()
    with pytest.raises(Diverged, match=r"The training loss is nan at step 2 of 20, where lr is 9.94e\+29; lower lr"):
        fit_here(training_of(settings(lr=1e30, warmup=0)), folder)
    # What was seen before is kept.
    assert losses(folder)


def test_a_score_that_is_no_number_stops_the_run(settings, run):
    with pytest.raises(Diverged, match="held_out_loss is nan at step 20 of 20"):
        fit_here(training_of(settings()), run(), score=lambda group: Evaluated({"held_out_loss": math.nan}))


def test_a_run_that_was_taken_over_writes_no_more(settings, run):
    folder = run()
    training = training_of(settings())

    def taken_over_at_5():
        if training.progress.step == 5:
            write_json(
                folder.path / "lease.json", json.loads((folder.path / "lease.json").read_text()) | {"token": "x"}
            )
        return False

    with pytest.raises(LeaseLost):
        fit_here(training, folder, stopping=taken_over_at_5)
    assert not folder.records()[0]
    assert folder.holder().token == "x"


@pytest.mark.parametrize("content", [b"", b"half a file", b"bad\n"])
def test_a_checkpoint_that_cannot_be_read_says_what_to_do(settings, run, content):
    folder = run()
    (folder.path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(RunFolderError, match=r"checkpoint\.pt: cannot be resumed from .* Delete it and submit again"):
        training_of(settings()).resume(folder)
