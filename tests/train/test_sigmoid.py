"""`loss_function: sigmoid` is open_clip's SigLipLoss, and its models are open_clip's with a logit bias."""

import json
import math
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.loss import SigLipLoss
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from flipscale.cost.arithmetic import cost, memory_of, step_traffic
from flipscale.planning.identity import parent_of, run_id
from flipscale.run import RunFolder, RunRequest
from flipscale.settings.architecture import architecture
from flipscale.settings.declarations import Resources, Settings
from flipscale.study.settings import read_settings
from flipscale.train import train
from flipscale.train.distributed import Group
from flipscale.train.model import build, save
from flipscale.train.trainers.builtin.training import Training
from tests.train.conftest import SETTINGS
from tests.train.forks import Forked

pytestmark = pytest.mark.slow

SIGMOID = {"loss_function": "sigmoid"}
PAIRS = 24

GIVEN = f"""
import torch
import torch.nn.functional as F

def given(first, rows):
    draw = torch.Generator().manual_seed(1)
    towers = [F.normalize(torch.randn({PAIRS}, 32, generator=draw), dim=-1) for _ in range(2)]
    towers[1] = F.normalize(towers[0] + 0.5 * towers[1], dim=-1)
    values = [*(tower[first:][:rows].clone() for tower in towers), torch.tensor(10.0), torch.tensor(-10.0)]
    return [value.requires_grad_() for value in values]

def measured(loss, values):
    value = loss(*values)
    return [value.tolist(), *(each.tolist() for each in torch.autograd.grad(value, values))]
"""

IN_A_GROUP = """
import json
from pathlib import Path
from open_clip.loss import SigLipLoss
from flipscale.settings.declarations import Resources
from flipscale.study.settings import read_settings
from flipscale.train.distributed import Group, joined
from flipscale.train.trainers.builtin.training import Training
group = joined() or Group()
group.hand_out("") if group.rank == 0 else group.next_task()
rows = {pairs} // group.size
ours = Training(read_settings({asked}), group, Resources()).loss
theirs = SigLipLoss(rank=group.rank, world_size=group.size)
found = [measured(loss, given(group.rank * rows, rows)) for loss in (ours, theirs)]
group.agree(0)
Path({folder!r}, f"{{group.rank}}.json").write_text(json.dumps(found))
"""


@pytest.mark.parametrize("size", [1, 2, 3])
def test_values_and_gradients_are_those_of_open_clips_loss(tmp_path: Path, size: int) -> None:
    asked = {**SETTINGS, **SIGMOID, "batch_size": PAIRS}
    code = GIVEN + IN_A_GROUP.format(asked=asked, folder=str(tmp_path), pairs=PAIRS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meeting = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [Forked(code, RANK=str(rank), LOCAL_RANK=str(rank), **meeting) for rank in range(size)]
    for process in processes:
        _, talk = process.communicate()
        assert process.returncode == 0, talk
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(size)]
    for ours, theirs in found:
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(torch.tensor(mine), torch.tensor(other), rtol=3e-6, atol=3e-6)
    names: dict[str, Any] = {}
    exec(GIVEN, names)
    loss, *gradients = map(torch.tensor, names["measured"](SigLipLoss(), names["given"](0, PAIRS)))
    # The mean over the processes is the loss of the whole batch.
    means = [torch.tensor([ours[place] for ours, _ in found]).mean(dim=0) for place in (0, 3, 4)]
    rows = [torch.cat([torch.tensor(ours[place]) for ours, _ in found]) / size for place in (1, 2)]
    for mine, whole in zip([*means[:1], *rows, *means[1:]], [loss, *gradients], strict=True):
        torch.testing.assert_close(mine, whole, rtol=3e-6, atol=3e-6)


def test_its_flops_and_what_a_device_holds_and_sends_are_priced(settings: Callable[..., Settings]) -> None:
    asked = {"model": "ViT-B-32", "image_size": 224, "batch_size": 64}
    softmax, sigmoid = settings(**asked), settings(**asked, **SIGMOID)
    loss = Training(settings(batch_size=64, **SIGMOID), Group(), Resources()).loss
    features = [torch.randn(64, 512, requires_grad=True) for _ in range(2)]
    with FlopCounterMode(display=False) as counted:
        loss(*features, torch.tensor(10.0), torch.tensor(-10.0)).backward()
    assert cost(sigmoid).loss_flops * 64 == counted.get_total_flops()
    assert cost(sigmoid).flops_per_sample == cost(softmax).flops_per_sample
    eight = Resources(gpus=8, device="H100")
    assert memory_of(softmax, eight).similarities == 4 * (4 * 64 * 512 + 6 * 8 * 64)
    assert memory_of(sigmoid, eight).similarities == 4 * (2 * (64 + 8) * 512 + 3 * 8 * 8)
    saved = step_traffic(softmax, eight, 400).bytes - step_traffic(sigmoid, eight, 400).bytes
    assert saved == 2 * 64 * 512 * 4 - 2 * 4


def one_batch(batch: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 3, 28, 28), generator=draw, dtype=torch.uint8)
    tokens = torch.zeros(batch, 16, dtype=torch.long)
    tokens[:, 0], tokens[:, 5] = 49406, 49407
    tokens[:, 1:5] = torch.randint(300, 400, (batch, 4), generator=draw)
    return images, tokens


def test_training_begins_at_siglips_temperature_and_decays_neither_part_of_it(
    settings: Callable[..., Settings],
) -> None:
    training = Training(settings(**SIGMOID), Group(), Resources())
    assert training.model.logit_scale.item() == pytest.approx(math.log(10))
    assert training.model.logit_bias.item() == -10
    decays = {
        name: group["weight_decay"]
        for group in training.optimizer.param_groups
        for name, parameter in training.model.named_parameters()
        if any(parameter is each for each in group["params"])
    }
    assert (decays["logit_scale"], decays["logit_bias"], decays["visual.proj"]) == (0, 0, 0.2)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_step_has_the_gradients_of_open_clips_model_and_loss(
    settings: Callable[..., Settings], accumulate: int
) -> None:
    """In open_clip's accum_freq the temperature's gradient is counted once for each micro-batch, here once."""
    training = Training(settings(mask_ratio=0.0, text_length=32, **SIGMOID), Group(), Resources(accumulate=accumulate))
    gradients = {}
    training.optimizer.step = lambda *_, **__: gradients.update(  # type: ignore[method-assign]
        {name: each.grad.clone() for name, each in training.model.named_parameters() if each.grad is not None}
    )
    images, tokens = one_batch()
    tokens = nn.functional.pad(tokens, (0, 16))
    training.step(images, tokens)
    model = build(settings(mask_ratio=0.0, text_length=32, **SIGMOID))
    pixels = training.objective.channels[0] * images.float() + training.objective.channels[1]
    loss = SigLipLoss()(*open_clip.CLIP.forward(model, pixels, tokens))
    loss.backward()
    assert float(training.history[0, 0]) == pytest.approx(loss.item(), rel=3e-6)
    assert {"logit_scale", "logit_bias", "visual.proj", "text_projection"} <= gradients.keys()
    for name, each in model.named_parameters():
        if each.grad is not None:
            torch.testing.assert_close(gradients[name], each.grad, rtol=1e-4, atol=3e-6)


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., RunFolder]:
    def asked(**changes: Any) -> RunFolder:
        settings = read_settings({**SETTINGS, **changes})
        parent = parent_of(settings)
        run = RunFolder(tmp_path / "runs" / run_id(settings))
        parents = () if parent is None else (run_id(parent),)
        run.ask(RunRequest(run.id, {**SETTINGS, **changes}, parents=parents))
        return run

    return asked


def test_what_is_trained_loads_in_open_clip_and_its_children_start_from_it(ask: Callable[..., RunFolder]) -> None:
    """With masks of images and of texts, a decoder, an ensemble, a tuning and a fine-tuning."""
    changes: dict[str, Any] = {
        **SIGMOID,
        "samples": 160,
        "text_mask_ratio": 0.5,
        "reconstruction": {"weight": 1.0, "width": None, "depth": 1},
        "evaluation": {**SETTINGS["evaluation"], "inference": ["masked", "ensemble"]},
    }
    tuning = {"tuning": {"samples": 64, "image_size": 36}}
    fine = {"samples": 64, "batch_size": 32, "lr": 1e-3}
    runs = [ask(**changes), ask(**changes, **tuning), ask(**changes, **tuning, fine_tuning=fine)]
    assert train([run.path for run in runs]) == 0, [(run.path / "log.txt").read_text() for run in runs]
    trained = torch.load(runs[0].path / "model.pt")["state_dict"]
    assert -10.5 < float(trained["logit_bias"]) < -9.5
    assert float(trained["logit_bias"]) != -10
    config = architecture("ViT-w16d1-4", 28).open_clip_config
    theirs = open_clip.create_model("ViT-B-16", str(runs[0].path / "model.pt"), **config, init_logit_bias=-10)
    assert all(torch.equal(value, trained[name]) for name, value in theirs.state_dict().items())
    assert runs[0].result().params == sum(each.numel() for each in theirs.parameters())
    assert runs[0].result().scores.keys() >= {"zero_shot_top1", "masked.zero_shot_top1", "ensemble.zero_shot_top1"}
    tuned = torch.load(runs[1].path / "model.pt")["state_dict"]
    assert abs(float(tuned["logit_bias"] - trained["logit_bias"])) < 0.01
    assert "fine_tune_top1" in runs[2].result().scores


def saved(folder: Path, settings: Settings) -> dict[str, Any]:
    with open(folder / "start.pt", "wb") as file:
        save(build(settings), file)
    return {"init": {"path": str(folder / "start.pt"), "name": None}}


def test_weights_without_a_bias_begin_as_siglip_does_and_a_softmax_leaves_a_bias_out(
    settings: Callable[..., Settings], tmp_path: Path
) -> None:
    model = build(settings(**SIGMOID, **saved(tmp_path, settings(seed=3))))
    assert model.logit_scale.item() == pytest.approx(math.log(10))
    assert model.logit_bias.item() == -10
    assert torch.equal(model.visual.proj, build(settings(seed=3)).visual.proj)
    start = saved(tmp_path, settings(seed=3, **SIGMOID))
    trained = torch.load(tmp_path / "start.pt")
    trained["state_dict"]["logit_bias"].fill_(-12)
    torch.save(trained, tmp_path / "start.pt")
    assert build(settings(**SIGMOID, **start)).logit_bias.item() == -12
    model = build(settings(**start))
    assert "logit_bias" not in model.state_dict()
    assert model.logit_scale.item() == pytest.approx(math.log(10))


def test_open_clips_program_gets_its_flag(tmp_path: Path) -> None:
    from flipscale.data.open_clip_flags import Shards, command, settle

    def given(**changes: Any) -> list[str]:
        asked = read_settings({**SETTINGS, "trainer": "open_clip", **changes})
        return command(settle(asked, Resources(), "cpu", tmp_path, Shards("0.tar", 1, 64), {}))

    assert "--siglip" in given(**SIGMOID)
    assert "--siglip" not in given()
