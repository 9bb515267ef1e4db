"""Steps on a GPU: every precision and every way to compute a batch trains, and gives what a CPU gives."""

from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore

from flipscale.cost.arithmetic import memory_of
from flipscale.settings.architecture import architecture
from flipscale.settings.declarations import Resources
from flipscale.train import train
from flipscale.train.distributed import Group
from flipscale.train.evaluate import evaluate
from flipscale.train.machine import PeakMemory
from flipscale.train.mask import MaskedTower
from flipscale.train.model import build, encode_text, pixels, tokenize
from flipscale.train.sources import evaluations_of
from flipscale.train.trainers.builtin.training import Training
from tests.train.test_loop import pairs

# What torch warns of on a GPU is not ours, and not known of every card and version.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

WAYS = [{}, {"accumulate": 4}, {"activation_checkpointing": True}, {"compile": True}]


def batch():
    return [torch.from_numpy(part).pin_memory() for part in pairs(np.arange(32))]


def on_cpu() -> Group:
    group = Group()
    group.device = torch.device("cpu")
    return group


def losses(training, steps):
    found = []
    for _ in range(steps):
        before = float(training.history[:, 0].sum())
        training.step(*batch())
        found.append(float(training.history[:, 0].sum()) - before)
    return found


# To compile takes half a minute each time, and there are 3 minutes.
@pytest.mark.parametrize(
    ("precision", "resources"),
    [(precision, way) for precision in ("fp32", "bf16", "fp16") for way in WAYS if "compile" not in way]
    + [("bf16", {"compile": True})],
    ids=str,
)
def test_steps_lower_the_loss_of_their_batch(settings, precision, resources):
    asked = settings(precision=precision, warmup=0, lr=3e-3, grad_clip=1.0, text_mask_ratio=0.5, samples=32 * 1000)
    training = Training(asked, Group(), Resources(**resources))
    assert training.device.type == "cuda"
    seen = losses(training, 30)
    assert np.isfinite(seen).all()
    assert seen[-1] < 0.8 * seen[0]
    assert {parameter.dtype for parameter in training.objective.parameters()} == {torch.float32}


@pytest.mark.parametrize("resources", WAYS, ids=lambda way: next(iter(way), "plain"))
def test_fp32_gives_the_losses_of_a_cpu(settings, resources):
    asked = settings(eps=1e-3, mask_ratio=0.5, text_mask_ratio=0.5, grad_clip=1.0)
    here = losses(Training(asked, Group(), Resources(**resources)), 5)
    assert here == pytest.approx(losses(Training(asked, on_cpu(), Resources()), 5), rel=2e-4)


def test_embedding_the_kept_patches_alone_gives_the_losses_of_a_cpu(settings, monkeypatch):
    asked = settings(eps=1e-3, mask_ratio=0.5)
    monkeypatch.setattr(MaskedTower, "embeds_kept_on", ("cpu", "cuda"))
    here = losses(Training(asked, Group(), Resources()), 5)
    assert here == pytest.approx(losses(Training(asked, on_cpu(), Resources()), 5), rel=2e-4)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near_fp32(settings, precision):
    asked = settings(eps=1e-3, samples=32 * 1000)
    here = losses(Training(replace(asked, precision=precision), Group(), Resources()), 5)
    assert here == pytest.approx(losses(Training(asked, on_cpu(), Resources()), 5), rel=0.03)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_step_never_waits_for_the_gpu(settings, precision):
    training = Training(settings(precision=precision, grad_clip=1.0, text_mask_ratio=0.5), Group(), Resources())
    batches = [batch() for _ in range(5)]
    for number, (images, tokens) in enumerate(batches):
        if number == 2:
            torch.cuda.set_sync_debug_mode("error")
        try:
            training.step(images, tokens)
        finally:
            if number == 4:
                torch.cuda.set_sync_debug_mode("default")


# The gradient scaler


def test_fp16_goes_on_from_a_checkpoint_with_its_scale(settings, ask):
    folder, asked = ask(), settings(precision="fp16", samples=32 * 1000)
    training = Training(asked, Group(), Resources())
    losses(training, 5)
    training.scaler.update(512.0)
    with folder.hold() as lease:
        training.save(lease)
    resumed = Training(asked, Group(), Resources())
    assert resumed.resume(folder)
    assert resumed.scaler.get_scale() == 512.0
    assert losses(resumed, 3) == pytest.approx(losses(training, 3), rel=1e-3)
    assert resumed.scaler.state_dict() == training.scaler.state_dict()


@pytest.mark.parametrize("grad_clip", [None, 0.5])
def test_a_step_that_overflows_is_left_out(settings, grad_clip):
    training = Training(settings(precision="fp16", grad_clip=grad_clip, samples=32 * 1000), Group(), Resources())
    losses(training, 5)
    before = {name: value.clone() for name, value in training.objective.state_dict().items()}
    scale = training.scaler.get_scale()
    hook = training.model.visual.proj.register_hook(lambda gradient: gradient * float("inf"))
    training.step(*batch())
    hook.remove()
    torch.testing.assert_close(training.objective.state_dict(), before, rtol=0, atol=0)
    assert training.scaler.get_scale() == scale / 2
    training.step(*batch())
    assert not torch.equal(training.model.visual.proj, before["model.visual.proj"])


# Whole runs


def test_a_masked_run_leaves_weights_for_open_clip_on_a_cpu_that_score_the_same_there(ask, settings):
    folder = ask(precision="bf16", mask_ratio=0.75)
    assert train([folder.path]) == 0, folder.error()
    result = folder.result()
    assert result.device == torch.cuda.get_device_name()
    assert result.gpu_hours == result.train_seconds / 3600
    assert 0 < result.peak_memory_bytes < 2 << 30
    shape = architecture("ViT-w16d1-4")
    theirs = open_clip.create_model(
        "ViT-B-16", str(folder.path / "model.pt"), **shape.open_clip_config, load_weights=True
    ).eval()
    ours = build(settings(), start=folder.path / "model.pt").eval()
    images, tokens = batch()
    with torch.no_grad():
        values = pixels(images, torch.device("cpu"))
        torch.testing.assert_close(ours.encode_image(values), theirs.encode_image(values), rtol=0, atol=1e-5)
        assert encode_text(ours, tokens).isfinite().all()
    scores = evaluate(ours, evaluations_of(folder, settings()), settings()).scores
    # On the GPU the towers encode in bf16, which rounds features to 1 in 256.
    assert scores["held_out_loss"] == pytest.approx(result.scores["held_out_loss"], rel=0.02)
    assert tokenize(["a red circle"], 16).shape == (1, 16)


def test_each_run_of_a_process_has_a_peak_of_its_own(ask):
    large = ask("large", batch_size=1024, samples=2048, mask_ratio=0.0)
    small = ask("small", batch_size=32, samples=64)
    assert train([large.path, small.path]) == 0
    assert small.result().peak_memory_bytes < 0.5 * large.result().peak_memory_bytes


def test_memory_is_as_predicted(settings):
    asked = settings(
        model="ViT-B-32",
        image_size=224,
        batch_size=256,
        samples=25600,
        precision="bf16",
        text_length=32,
        mask_ratio=0.5,
    )
    group = Group()
    PeakMemory(group.device)
    training = Training(asked, group, Resources())
    images = torch.randint(0, 256, (256, 3, 224, 224), dtype=torch.uint8)
    tokens = torch.randint(320, 49000, (256, 32))
    for _ in range(2):
        training.step(images, tokens)
    assert 0.7 < torch.cuda.max_memory_allocated() / memory_of(asked, Resources(gpus=1)).tensors < 1.4


# NCCL


@pytest.mark.parametrize(("precision", "parts"), [("fp32", 1), ("bf16", 1), ("fp16", 4)])
def test_one_process_over_nccl_computes_as_one_alone(settings, precision, parts):
    asked = settings(precision=precision, eps=1e-3, samples=32 * 1000)
    alone = losses(Training(asked, Group(), Resources(accumulate=parts)), 5)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    group = Group(0, 1, 0, store, connect=True)
    try:
        assert dist.get_backend() == "nccl"
        training = Training(asked, group, Resources(accumulate=parts))
        training.begin()
        assert losses(training, 5) == pytest.approx(alone, rel=1e-4 if precision == "fp32" else 0.01)
        assert group.agree(3, 1 << 40) == [3, 1 << 40]
        features = torch.randn(4, 8, device=group.device, dtype=torch.bfloat16, requires_grad=True)
        gathered = group.gathered(features)
        gathered.float().sum().backward()
        torch.testing.assert_close(features.grad, torch.ones_like(features))
    finally:
        group.close()
    assert not dist.is_initialized()
