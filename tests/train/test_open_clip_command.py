"""open_clip's own training program as a run's trainer, run for real on small shards."""

import contextlib
import importlib.metadata
import io
import json
import math
import re
import signal
import tarfile
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from flipscale.data.open_clip_flags import (
    FLAGS,
    ProgramJob,
    Shards,
    command,
    flags_as_markdown,
    refuse,
    settle,
    wishes,
)
from flipscale.errors import DataError, FlipscaleError, RunFolderError
from flipscale.run import RunFolder, RunRequest, State
from flipscale.settings.architecture import architecture
from flipscale.settings.declarations import Resources, Settings
from flipscale.train import train
from flipscale.train.evaluate import evaluate
from flipscale.train.model import build, tokenize, weights
from flipscale.train.requests import request_of, start_of
from flipscale.train.schedule import learning_rate
from flipscale.train.sources import evaluations_of, open_training_data
from flipscale.train.stop import Stop
from flipscale.train.trainers.open_clip.printed import ProgramOutput
from flipscale.train.trainers.open_clip.program import run_open_clip, write_model
from flipscale.train.trainers.open_clip.training_shards import shards_of, users_shards
from tests.parts import need
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs" / "trainers.md"

OPEN_CLIP = {"open_clip": {"arguments": []}}


def need_webdataset() -> None:
    """What open_clip's package asks for as its extra `training`."""
    found = "0"
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        found = importlib.metadata.version("webdataset")
    fits = [0, 2, 5] <= [int(part) for part in found.split(".")[:3]] <= [0, 2, 86]
    need(fits, "webdataset 0.2.5 to 0.2.86, which open_clip's training program can do with")


@pytest.fixture
def asked(run: Callable[..., RunFolder]) -> Callable[..., RunFolder]:
    """A run of open_clip's program: by default 20 steps of 32 of 640 pairs."""
    return lambda name="run", **changes: run(name, **{"trainer": OPEN_CLIP, **changes})


def finish(folder: RunFolder, stop: Stop | None = None) -> bool:
    with folder.hold() as lease:
        assert lease is not None
        return run_open_clip(folder, lease, stop or Stop())


def settled(settings: Settings, shards: Shards | None = None, **more: Any) -> ProgramJob:
    """The job of a run on a CPU with 640 pairs in 4 shards, unless said otherwise."""
    resources = Resources(**more.pop("resources", {}))
    device, wished = more.pop("device", "cpu"), more.pop("wished", {})
    shards = shards or Shards("/data/{0..3}.tar", 4, 640)
    return settle(settings, resources, device, Path("/runs/run/open_clip"), shards, wished)


def losses(folder: RunFolder) -> dict[int, float]:
    return {record["step"]: record["loss"] for record in folder.records()[0] if "loss" in record}


def write_shards(folder: Path, shards: int, pairs: int, caption: str = "txt", damaged: Collection[int] = ()) -> str:
    """Shards of noise in 40 x 32 pixels, each picture with a caption of its own."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0)
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:02}.tar", "w") as tar:
            for pair in range(pairs):
                file = io.BytesIO()
                Image.fromarray(noise.integers(0, 256, (32, 40, 3), np.uint8)).save(file, "PNG")
                image = file.getvalue()[:60] if pair in damaged else file.getvalue()
                for name, content in (("png", image), (caption, f"picture {shard} {pair}".encode())):
                    member = tarfile.TarInfo(f"{shard:02}{pair:04}.{name}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return f"{folder}/{{00..{shards - 1:02}}}.tar"


# The program, for real


def test_a_run_ends_with_scores_and_weights_that_load_everywhere(asked, monkeypatch):
    need_webdataset()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = asked(data_size=320)
    assert train([folder.path]) == 0
    assert folder.state() is State.FINISHED

    result = folder.result()
    facts = ("samples_seen", "steps", "unique_pairs", "repeats", "attempts", "device", "devices", "corrupt_samples")
    assert [getattr(result, fact) for fact in facts] == [640, 20, 320, 2.0, 1, "cpu", 1, 0]
    assert result.corrupt_evaluation_images == 0
    assert result.versions["open_clip"] == open_clip.__version__
    assert result.train_seconds > 0
    assert result.cpu_seconds > 0
    assert result.gpu_hours == result.cpu_seconds / 3600
    assert result.images_per_second == 640 / result.train_seconds

    records = [record for record in folder.records()[0] if "loss" in record]
    assert [record["step"] for record in records] == list(range(1, 21))
    assert [record["samples_seen"] for record in records] == list(range(32, 641, 32))
    settings, _ = request_of(folder)
    rates = [learning_rate(settings, step) for step in range(20)]
    assert [record["lr"] for record in records] == pytest.approx(rates)
    assert records[0]["logit_scale"] == pytest.approx(math.log(1 / 0.07), abs=0.01)
    assert records[0]["loss"] == pytest.approx(math.log(32), abs=0.5)
    seconds = [record["seconds"] for record in records]
    assert seconds == sorted(seconds)
    assert result.train_seconds == seconds[-1]
    assert result.final_loss == records[-1]["loss"]
    assert "Train Epoch: 1 [320/320 (100%)]" in (folder.path / "log.txt").read_text()

    trained = torch.load(folder.path / "model.pt")["state_dict"]
    model = build(settings)
    beginning = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(trained)
    assert evaluate(model, evaluations_of(folder, settings), settings).scores == pytest.approx(result.scores)
    # The 16 positions that no text reached are as they began, the others are trained.
    assert torch.equal(trained["positional_embedding"][16:], beginning["positional_embedding"][16:])
    assert not torch.equal(trained["positional_embedding"][:16], beginning["positional_embedding"][:16])
    config = architecture("ViT-w16d1-4", 28).open_clip_config
    theirs = open_clip.create_model("ViT-B-16", str(folder.path / "model.pt"), **config)
    assert all(torch.equal(value, trained[name]) for name, value in theirs.state_dict().items())

    left = sorted(str(path.relative_to(folder.path)) for path in folder.path.rglob("*") if path.is_file())
    assert left == [
        "code.json",
        "hits.json",
        "lease.lock",
        "log.txt",
        "metrics.jsonl",
        "model.pt",
        "open_clip/model/open_clip_config.json",
        "open_clip/train/out.log",
        "open_clip/train/params.txt",
        "result.json",
        "run.json",
    ]


def test_siglips_loss_and_another_optimizer_train_and_the_weights_load(asked, monkeypatch):
    need_webdataset()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    arguments = ["--siglip", "--opt", "timm/muon"]
    folder = asked(data_size=320, trainer={"open_clip": {"arguments": arguments}})
    assert train([folder.path]) == 0, (folder.path / "log.txt").read_text()
    first, *_ = [record for record in folder.records()[0] if "loss" in record]
    assert first["logit_scale"] == pytest.approx(math.log(10), abs=0.01)
    trained = torch.load(folder.path / "model.pt")["state_dict"]
    assert float(trained["logit_bias"]) == pytest.approx(-10, abs=0.5)
    config = architecture("ViT-w16d1-4", 28).open_clip_config
    theirs = open_clip.create_model("ViT-B-16", str(folder.path / "model.pt"), **config, init_logit_bias=-10)
    assert all(torch.equal(value, trained[name]) for name, value in theirs.state_dict().items())
    assert "(timm/muon)" in (folder.path / "log.txt").read_text()


def test_own_shards_are_read_as_they_are_and_what_the_program_evaluates_itself_is_kept(asked, tmp_path):
    need_webdataset()
    urls = write_shards(tmp_path / "shards", shards=2, pairs=64)
    held_out = urls.replace("{00..01}", "00")
    arguments = ["--val-data", held_out, "--val-num-samples", "64", "--workers", "2"]
    folder = asked(
        data={"webdataset": {"urls": urls, "name": None, "decode": None}},
        crop=0.9,
        samples=256,
        normalization="openai",
        trainer={"open_clip": {"arguments": arguments}},
    )
    assert finish(folder) is True
    result = folder.result()
    assert (result.steps, result.unique_pairs, result.repeats) == (8, 128, 2.0)
    assert sorted(losses(folder)) == list(range(1, 9))
    assert {"open_clip.clip_val_loss", "open_clip.image_to_text_R_1"} <= set(result.scores)
    evaluated = [
        record["step"] for record in folder.records()[0] if "open_clip.clip_val_loss" in record.get("scores", {})
    ]
    assert evaluated == [4, 8]
    parameters = (folder.path / "open_clip" / "train" / "params.txt").read_text()
    assert f"train_data: {urls}\n" in parameters
    assert "workers: 2\n" in parameters
    assert "aug_cfg: {'scale': (0.9, 1.0)}\n" in parameters
    assert not list((tmp_path / "cache").glob("open_clip-*"))


def test_a_stopped_run_goes_on_after_its_last_whole_epoch(asked):
    need_webdataset()
    folder = asked(data_size=160, samples=160 * 12, mask_ratio=0.0)
    stop = Stop()

    def stop_after_two_epochs() -> None:
        deadline = time.monotonic() + PATIENCE
        while not ((folder.path / "metrics.jsonl").exists() and max(losses(folder), default=0) > 5):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        stop.note(signal.SIGTERM)

    thread = threading.Thread(target=stop_after_two_epochs)
    thread.start()
    assert finish(folder, stop) is False
    thread.join()
    assert folder.error() is None
    assert (folder.path / "open_clip" / "train" / "checkpoints" / "epoch_latest.pt").exists()
    first = folder.records()[0]
    assert finish(folder) is True
    assert "resuming checkpoint" in (folder.path / "log.txt").read_text()
    # Every step is there once, and those before the stop are not done again.
    assert sorted(losses(folder)) == list(range(1, 61))
    assert folder.records()[0][:5] == first[:5]
    assert folder.result().attempts == 2
    assert folder.result().train_seconds == folder.records()[0][-2]["seconds"]


# The same pairs and the same weights


def test_written_shards_hold_what_flipscales_own_trainer_sees(asked):
    folder = asked(data_size=1100)
    settings, _ = request_of(folder)
    shards = shards_of(folder, settings)
    assert (shards.count, shards.pairs, shards.corrupt) == (2, 1100, 0)
    data = open_training_data(folder, settings)
    images, tokens = data.batch(np.arange(1100), None)
    found, captions = [], []
    for number in range(2):
        with tarfile.open(shards.urls.replace("{00000..00001}", f"{number:05}")) as tar:
            for member in tar:
                content = tar.extractfile(member).read()
                if member.name.endswith(".png"):
                    found.append(np.asarray(Image.open(io.BytesIO(content))).transpose(2, 0, 1))
                else:
                    captions.append(content.decode())
    assert np.array_equal(np.stack(found), images)
    assert np.array_equal(tokenize(captions, 16), tokens)


def test_shards_are_written_once_and_found_again_by_runs_of_the_same_pairs(asked):
    first, second, third = asked("first"), asked("second", mask_ratio=0.0, seed=1), asked("third", text_length=12)
    urls = [shards_of(folder, request_of(folder)[0]).urls for folder in (first, second, third)]
    assert urls[0] == urls[1]
    assert urls[2] != urls[0]


@pytest.mark.parametrize("text", ["", '{"pairs": 640', '{"urls": "", "pairs": "many", "count": 1, "corrupt": 0}'])
def test_shards_whose_index_is_damaged_are_written_again(asked, text):
    folder = asked()
    written = shards_of(folder, request_of(folder)[0])
    index = Path(written.urls).parent / "index.json"
    index.write_text(text)
    assert shards_of(folder, request_of(folder)[0]) == written
    assert json.loads(index.read_text())["pairs"] == written.pairs


def test_own_shards_whose_captions_the_program_does_not_read_are_refused(asked, tmp_path):
    """It would wait for a pair for ever."""
    urls = write_shards(tmp_path / "shards", shards=1, pairs=4, caption="json")
    folder = asked(data={"webdataset": {"urls": urls, "name": None, "decode": None}}, crop=0.9)
    with pytest.raises(DataError, match=r"00\.tar: none of its first samples .* write the captions into \.txt files"):
        shards_of(folder, request_of(folder)[0])


def test_own_shards_are_given_as_they_are_from_flipscale_data_on(asked, tmp_path, monkeypatch):
    write_shards(tmp_path / "shards", shards=2, pairs=4)
    monkeypatch.setenv("FLIPSCALE_DATA", str(tmp_path))
    folder = asked(data={"webdataset": {"urls": "shards/{00..01}.tar", "name": None, "decode": None}}, crop=0.9)
    assert shards_of(folder, request_of(folder)[0]) == Shards(f"{tmp_path}/shards/{{00..01}}.tar", 2, 8)


def test_a_url_that_would_end_the_quotes_of_its_command_is_refused_and_one_of_s3_is_quoted(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"a'b\.tar: open_clip's program cannot read a URL with a single quote in it; "):
        users_shards("gs://bucket/a'b.tar", 4)
    write_shards(tmp_path / "shards", shards=1, pairs=4)
    monkeypatch.setenv("FLIPSCALE_DATA", str(tmp_path / "shards"))
    assert users_shards("00.tar::s3://bucket/$(true) it's {0..1}.tar::gs://bucket/x.tar", 4).urls == (
        f"{tmp_path}/shards/00.tar::pipe:aws s3 cp 's3://bucket/$(true) it'\"'\"'s {{0..1}}.tar' -::gs://bucket/x.tar"
    )


def test_the_program_starts_from_the_weights_that_flipscales_own_trainer_starts_from(asked, tmp_path):
    folder = asked()
    settings, _ = request_of(folder)
    job = settle(settings, Resources(), "cpu", tmp_path / "open_clip", Shards("/data/0.tar", 1, 640), {})
    write_model(job, folder)
    theirs = open_clip.create_model(f"local-dir:{tmp_path / 'open_clip' / 'model'}", force_patch_dropout=0.5)
    ours = build(settings).state_dict()
    ours["positional_embedding"] = ours["positional_embedding"][:16]
    assert all(torch.equal(value, ours[name]) for name, value in theirs.state_dict().items())
    assert theirs.context_length == 16
    assert theirs.visual.patch_dropout.prob == 0.5


@pytest.mark.parametrize("name", ["open_clip", "open_clip/train", "open_clip/train/checkpoints"])
def test_the_program_writes_and_removes_nothing_behind_a_link(asked, tmp_path, name):
    need_webdataset()
    folder = asked()
    mine = tmp_path / "mine" / "train" / "checkpoints" / "mine"
    mine.mkdir(parents=True)
    link = folder.path / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path / "mine")
    with pytest.raises(RunFolderError, match=f"{name}: is a link"):
        finish(folder)
    assert [path.name for path in (tmp_path / "mine").rglob("*")] == ["train", "checkpoints", "mine"]


def test_a_tuning_starts_from_the_weights_of_its_parent(asked, run, tmp_path):
    parent = asked("parent")
    trained = build(replace(request_of(parent)[0], seed=9))
    with open(parent.path / "model.pt", "wb") as file:
        torch.save({"state_dict": weights(trained)}, file)
    tuning = {"samples": 64, "lr": 1e-5, "warmup": 0, "batch_size": 32, "mask_ratio": 0.0}
    child = RunFolder(parent.path.parent / "child")
    child.ask(RunRequest("child", {**parent.asked().settings, "tuning": tuning}, ("parent",)))
    settings, _ = request_of(child)
    job = settle(settings, Resources(), "cpu", tmp_path / "open_clip", Shards("/data/0.tar", 1, 640), {})
    write_model(job, child)
    state = torch.load(tmp_path / "open_clip" / "model" / "open_clip_pytorch_model.bin")
    assert torch.equal(state["visual.proj"], trained.visual.proj)
    line = " ".join(command(job))
    assert "--lr 1e-05 " in line
    assert "--force-patch-dropout 0.0 " in line
    assert "--epochs 1 --train-num-samples 64 " in line


def test_a_tuning_at_another_size_is_trained_by_the_program_at_that_size(asked):
    need_webdataset()
    small = {"model": "ViT-w16d1-7", "image_size": 14, "text_length": 8}
    parent = asked("parent", **small)
    before = build(replace(request_of(parent)[0], seed=9))
    with open(parent.path / "model.pt", "wb") as file:
        torch.save({"state_dict": weights(before)}, file)
    tuning = {"samples": 64, "lr": 1e-9, "image_size": 56, "text_length": 16, "model": "ViT-w16d1-14"}
    child = RunFolder(parent.path.parent / "child")
    child.ask(RunRequest("child", {**parent.asked().settings, "tuning": tuning}, ("parent",)))
    assert finish(child)
    settings, _ = request_of(child)
    start = build(settings, start=start_of(child)).state_dict()
    trained = torch.load(child.path / "model.pt")["state_dict"]
    assert trained["visual.positional_embedding"].shape == (17, 16)
    # Hardly a learning rate: what was trained is what flipscale's own trainer would have started from.
    assert all(torch.allclose(trained[name], value, atol=1e-6) for name, value in start.items())
    assert child.result().params == sum(value.numel() for value in start.values())
    config = json.loads((child.path / "open_clip" / "model" / "open_clip_config.json").read_text())["model_cfg"]
    sizes = config["vision_cfg"]["image_size"], config["vision_cfg"]["patch_size"], config["text_cfg"]["context_length"]
    assert sizes == (56, 14, 16)


# Flags


def test_the_whole_command_line(settings):
    changed = settings(
        grad_clip=1.0, precision="bf16", schedule="constant", cooldown=128, crop=0.5, normalization="openai",
        samples=1280, warmup=100, trainer=OPEN_CLIP,
    )  # fmt: skip
    resources = {"accumulate": 2, "compile": True, "activation_checkpointing": True}
    line = command(settled(changed, resources=resources), ["--report-to", "tensorboard"])
    assert " ".join(line) == (
        "python -m open_clip_train.main --report-to tensorboard --model local-dir:/runs/run/open_clip/model --seed 0 "
        "--train-data /data/{0..3}.tar --dataset-type webdataset --aug-cfg scale=(0.5,1.0) "
        "--image-mean 0.48145466 0.4578275 0.40821073 --image-std 0.26862954 0.26130258 0.27577711 "
        "--epochs 10 --train-num-samples 128 --batch-size 16 --force-patch-dropout 0.5 --lr 0.001 --warmup 4 "
        "--lr-scheduler const-cooldown --epochs-cooldown 1 --wd 0.2 --beta1 0.9 --beta2 0.95 --eps 1e-08 "
        "--grad-clip-norm 1.0 --precision amp_bf16 --accum-freq 2 --torchcompile --grad-checkpointing --workers 0 "
        "--device cpu --logs /runs/run/open_clip --name train --resume latest --save-most-recent --save-frequency 0 "
        "--log-every-n-steps 1"
    )


def test_several_gpus_are_processes_of_torchrun_that_share_the_batch(settings):
    line = " ".join(command(settled(settings(), device="cuda", resources={"gpus": 2})))
    assert line.startswith(
        "python -m torch.distributed.run --standalone --nproc-per-node 2 -m -- open_clip_train.main --model "
    )
    assert "--batch-size 16 " in line
    assert "--local-loss --gather-with-grad " in line
    assert "--workers 2 --device cuda " in line


@pytest.mark.parametrize(
    ("samples", "pairs", "more", "epochs", "steps"),
    [
        (640, 640, {}, 1, 20),  # once through the data
        (640, 320, {}, 2, 10),  # twice
        (640, 300, {}, 2, 10),  # an epoch is not shorter than a pass
        (640, 2000, {}, 1, 20),  # less than once: nothing is shown twice
        (32 * 1_000_000, 10**9, {}, 4, 250_000),  # but then a kill must not cost all
        (640, 640, {"wished": {"epochs": 4}}, 4, 5),
        (640, 640, {"wished": {"epochs": 3}}, 4, 5),  # the nearest that divides the steps
        (32 * 23, 640, {"wished": {"epochs": 4}}, 1, 23),
        (640, 640, {"schedule": "constant", "cooldown": 160}, 4, 5),  # the cooldown is whole epochs
        (640, 640, {"schedule": "constant", "cooldown": 0}, 1, 20),
    ],
)  # fmt: skip
def test_epochs_come_to_the_samples_and_go_through_the_data(settings, samples, pairs, more, epochs, steps):
    wished = more.pop("wished", {}) if "wished" in more else {}
    job = settled(settings(samples=samples, **more), Shards("/data/{0..3}.tar", 4, pairs), wished=wished)
    assert (job.epochs, job.steps_per_epoch) == (epochs, steps)


def test_a_cooldown_that_is_no_round_share_of_the_schedule_is_refused(settings):
    with pytest.raises(FlipscaleError, match=r"write 0\.3 of the samples"):
        settled(settings(samples=32 * 1000, schedule="constant", cooldown=32 * 333), Shards("/data/0.tar", 1, 10**6))


@pytest.mark.parametrize(
    "changes", [{}, {"warmup": 100}, {"schedule": "constant"}, {"schedule": "constant", "cooldown": 160}]
)
def test_the_schedule_is_that_of_flipscales_own_trainer(settings, changes):
    changed = settings(**{"warmup": 64, **changes})
    job = settled(changed)
    ours = [learning_rate(changed, step) for step in range(20)]
    # open_clip warms up in whole steps: of 100 samples in 4 steps of 32.
    tolerance = 0.3 if changed.warmup == 100 else 1e-9
    assert [job.lr(step) for step in range(20)] == pytest.approx(ours, rel=tolerance)


@pytest.mark.parametrize(("most", "shards", "workers"), [(4, 4, 4), (3, 4, 2), (8, 4, 4), (8, 3, 2), (0, 4, 0)])
def test_workers_are_at_most_the_shards_and_divide_the_batches(settings, most, shards, workers):
    job = settled(settings(), Shards("/data/{0..3}.tar", shards, 640), wished={"workers": most})
    assert job.workers == workers


@pytest.mark.parametrize(
    ("changes", "resources", "words"),
    [
        ({"text_mask_ratio": 0.5}, {}, "write text_mask_ratio: 0"),
        ({"mask_shape": "grid"}, {}, "write mask_shape: random, as it draws patches at random only"),
        ({"mask_shape": "gaussian"}, {}, "write mask_shape: random, as it draws patches at random only"),
        (
            {"mask_shape": "resize", "mask_ratio": 0.75},
            {},
            "write mask_shape: random, or mask_ratio: 0 and image_size: 12, as it has one size of image for training "
            "and evaluation",
        ),
        ({"reconstruction": {"weight": 1.0, "width": None, "depth": 2}}, {}, "write reconstruction: null"),
        ({"flip": True}, {}, "write flip: false"),
        (
            {"schedule": "constant", "cooldown": 160, "cooldown_shape": "1-sqrt"},
            {},
            "write cooldown_shape: linear, as its cooldown has no other",
        ),
        ({"average": 0.1}, {}, "write average: 0, as it keeps no mean of weights"),
        ({"precision": "fp16"}, {}, "write precision: bf16 or fp32"),
        ({}, {"processes": 2}, "write resources: {processes: 1}"),
        ({"batch_size": 33}, {"accumulate": 2}, "write a batch_size that 1 processes and accumulate: 2 divide, not 33"),
        (
            {"data": {"webdataset": {"urls": "0.tar", "name": None}}, "crop": 0.9, "data_size": 5},
            {},
            "write data_size: null where crop is set",
        ),
    ],
)
def test_what_the_program_cannot_do_is_refused_by_name(settings, changes, resources, words):
    with pytest.raises(FlipscaleError, match=re.escape(words)):
        refuse(settings(**changes), Resources(**resources), "cpu")


def test_all_that_it_cannot_do_is_said_at_once(settings):
    changed = settings(flip=True, text_mask_ratio=0.5, evaluation={"at": [0.5, 1.0]})
    with pytest.raises(FlipscaleError, match=r"text_mask_ratio: 0.*flip: false.*evaluation: \{at: \[1\.0\]\}"):
        refuse(changed, Resources(), "cpu")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--lr", "1e-4"], "--lr is set by lr; leave it out"),
        (["--pretrained", "openai"], "--pretrained is set by init"),
        (["--logs", "elsewhere"], "--logs is set by flipscale itself"),
        (["--no-such-flag"], "unrecognized arguments: --no-such-flag; see `python -m open_clip_train.main --help`"),
        (["--epochs", "many"], "argument --epochs: invalid int value: 'many'"),
    ],
)
def test_arguments_may_not_say_what_settings_say(arguments, words):
    with pytest.raises(FlipscaleError, match=re.escape(words)):
        wishes(arguments)


def test_arguments_may_wish_for_epochs_and_workers():
    assert wishes(["--epochs", "8", "--workers=2", "--lock-image", "--report-to", "tensorboard"]) == {
        "epochs": 8,
        "workers": 2,
    }
    assert wishes([]) == {}


@pytest.mark.parametrize("arguments", [["--siglip"], ["--opt", "timm/muon"], ["--opt=timm/lion", "--beta1", "0.95"]])
def test_a_loss_and_an_optimizer_of_the_program_s_own_pass(arguments):
    assert wishes(arguments) == {}


def test_only_adamw_gets_the_betas_of_the_run(settings):
    def flags(*arguments: str) -> list[str]:
        changed = settings(trainer={"open_clip": {"arguments": list(arguments)}})
        shards = Shards("0.tar", 1, 64)
        return command(settle(changed, Resources(), "cpu", Path("f"), shards, {}), arguments)

    assert "--siglip" in flags("--siglip")
    assert "--beta1" in flags("--siglip")
    assert not {"--beta1", "--beta2"} & set(flags("--opt", "timm/muon"))


def test_the_program_knows_every_flag_that_is_set():
    from open_clip_train.params import parse_args

    known = vars(parse_args([]))
    assert [name for flag in FLAGS for name in flag.flags if name[2:].replace("-", "_") not in known] == []


def test_the_table_of_the_docs_is_the_codes():
    found = re.search(r"<!-- flags -->\n\n(.*?)\n<!-- end -->", DOCS.read_text(), re.DOTALL)
    assert found
    assert found[1] == flags_as_markdown()


# What it cannot read


def test_too_many_samples_that_cannot_be_read_are_an_error_and_a_few_are_not(asked):
    folder = asked()
    job = settled(request_of(folder)[0])
    line = "WARNING | Handling webdataset error (OSError('broken data stream')). Ignoring."
    with folder.hold() as lease:
        output = ProgramOutput(replace(job, folder=folder.path), folder, lease, 0)
        for _ in range(10):
            output.heed(line, 0.0, None)
        with pytest.raises(DataError, match=r"11 samples could not be read, the last one .* OSError.*10, or 1%"):
            output.heed(line, 0.0, None)


def test_what_it_can_do_is_not_refused(settings):
    refuse(settings(), Resources(), "cpu")
    refuse(settings(precision="fp16"), Resources(gpus=2), "cuda")
