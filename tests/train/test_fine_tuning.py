"""A fine-tuning is a child run: the image tower and a linear head, trained end to end on labelled images."""

import gzip
import json
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from timm.data.mixup import Mixup, mixup_target

from flipscale import randomness
from flipscale.cost.arithmetic import image_parameters
from flipscale.data.formats import open_classified
from flipscale.data.pairs import Form
from flipscale.data.views import Views
from flipscale.errors import DataError
from flipscale.kinds import read
from flipscale.planning.identity import parent_of, run_id, stage
from flipscale.run import RunFolder, RunRequest
from flipscale.settings.architecture import architecture
from flipscale.settings.declarations import FineTuning, KeepWeights, Resources, Settings, plain
from flipscale.study.settings import read_settings
from flipscale.train import train
from flipscale.train.augmentation import augment, mix_of, mixed
from flipscale.train.classify import Classifier
from flipscale.train.distributed import Group
from flipscale.train.model import build
from flipscale.train.requests import request_of
from flipscale.train.sources import open_labelled_data
from flipscale.train.trainers.builtin.fine_tuning import HeadTraining, layer_wise
from flipscale.train.trainers.builtin.loop import batches
from tests.train.conftest import SETTINGS

FINE: dict[str, Any] = {"samples": 640, "batch_size": 32, "lr": 2e-3}

PLAIN = {"label_smoothing": 0, "mixup": 0, "cutmix": 0, "drop_path": 0, "randaugment": 0, "crop": None, "flip": False}
"""Without all that makes training images harder."""

Ask = Callable[..., RunFolder]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """A run folder by its settings, with its parent as the plan names it."""

    def asked(keep: KeepWeights = KeepWeights.ALWAYS, resources: Resources | None = None, **changes: Any) -> RunFolder:
        settings = read_settings({**SETTINGS, **changes})
        parent = parent_of(settings)
        run = RunFolder(tmp_path / "runs" / run_id(settings))
        parents = () if parent is None else (run_id(parent),)
        used = resources or Resources()
        run.ask(RunRequest(run.id, plain(settings), parents, resources=used, keep_weights=keep))
        return run

    return asked


def training_of(run: RunFolder, **resources: Any) -> HeadTraining:
    settings, _ = request_of(run)
    return HeadTraining(settings, Group(), Resources(**resources), None, 80)


def fine_tuning(**options: Any) -> Any:
    return read(FineTuning, {**FINE, **options}, (), print)


# From what was asked to the result


@pytest.mark.slow
def test_a_fine_tuning_learns_the_classes_from_its_parents_weights(ask):
    fine = {**FINE, **PLAIN, "samples": 6400, "lr": 1e-2}
    parent, child, scratch = ask(), ask(fine_tuning=fine), ask(fine_tuning={**FINE, "samples": 32})
    assert train([child.path, scratch.path, parent.path]) == 0
    result, before = child.result(), parent.result()
    assert result.started > before.finished
    assert list(result.scores) == ["fine_tune_top1"]
    assert result.chance == {"fine_tune_top1": 1 / 80}
    # One step from a head near zero guesses; 200 steps do not.
    assert scratch.result().scores["fine_tune_top1"] < 0.1
    assert result.scores["fine_tune_top1"] > 0.15
    assert (result.samples_seen, result.steps, result.unique_pairs, result.repeats) == (6400, 200, 6400, 1.0)
    assert (result.parent.id, result.parent.samples_seen, result.parent.unique_pairs) == (parent.id, 640, 640)
    hits = child.hits()["fine_tune_top1"]
    assert (hits.items, hits.count) == ("shapes, images 160", 160)
    assert np.unpackbits(np.frombuffer(hits.bits, np.uint8)).sum() == round(160 * result.scores["fine_tune_top1"])


@pytest.mark.slow
def test_the_weights_load_in_open_clip_with_the_text_tower_as_it_was_and_the_head_beside_them(ask):
    parent, child = ask(), ask(fine_tuning=FINE)
    assert train([parent.path, child.path]) == 0
    found = torch.load(child.path / "model.pt", weights_only=True)
    assert {name: list(value.shape) for name, value in found["head"].items()} == {"weight": [80, 16], "bias": [80]}
    assert found["classes"][0] == "big red circle"
    shape = architecture("ViT-w16d1-4", 28)
    open_clip.create_model("ViT-B-16", str(child.path / "model.pt"), **shape.open_clip_config)
    before, after = torch.load(parent.path / "model.pt")["state_dict"], found["state_dict"]
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    fixed = {"visual.positional_embedding", "visual.proj"}
    assert moved == {name for name in before if name.startswith("visual.")} - fixed
    trained = sum(before[name].numel() for name in moved) + 17 * 80
    assert child.result().params == trained
    assert trained == image_parameters(shape) - sum(before[name].numel() for name in fixed) + 17 * 80


@pytest.mark.slow
def test_a_stopped_fine_tuning_goes_on_to_the_same_weights_to_the_last_bit(ask, tmp_path, monkeypatch):
    parent, child = ask(data_size=320), ask(data_size=320, fine_tuning=FINE)
    assert train([parent.path, child.path]) == 0
    whole = torch.load(child.path / "model.pt")
    losses = {record["step"]: record["loss"] for record in child.records()[0] if "loss" in record}
    child.path.rename(tmp_path / "whole")
    again = ask(data_size=320, fine_tuning=FINE)
    stop_after(7, monkeypatch)
    assert train([again.path]) == 143
    assert (again.path / "checkpoint.pt").exists()
    monkeypatch.undo()
    assert train([again.path]) == 0
    assert again.result().attempts == 2
    parts = torch.load(again.path / "model.pt")
    for kind in ("state_dict", "head"):
        assert all(torch.equal(whole[kind][name], parts[kind][name]) for name in whole[kind])
    found = {record["step"]: record["loss"] for record in again.records()[0] if "loss" in record}
    assert found == losses
    assert set(losses) == set(range(1, 21))
    assert "logit_scale" not in again.records()[0][0]


def stop_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a stop signal come while the step after this number of steps is waited for."""
    import os
    import signal

    step = HeadTraining.step

    def counted(self: HeadTraining, *rows: Any) -> None:
        step(self, *rows)
        if self.progress.step == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(HeadTraining, "step", counted)


@pytest.mark.slow
def test_a_fine_tuning_of_a_tuned_run_starts_from_the_tuned_weights(ask):
    tuning = {"samples": 64, "batch_size": 32}
    fine = {**FINE, "samples": 32, "lr": 1e-12}
    first, tuned, child = ask(), ask(tuning=tuning), ask(tuning=tuning, fine_tuning=fine)
    assert child.asked().parents == (tuned.id,)
    assert train([child.path, tuned.path, first.path]) == 0
    before, after = (torch.load(run.path / "model.pt")["state_dict"] for run in (tuned, child))
    assert all(torch.allclose(before[name], after[name], atol=1e-8) for name in before)
    spent = child.result().parent
    assert (spent.samples_seen, spent.unique_pairs) == (704, 704)


@pytest.mark.slow
def test_a_fine_tuning_has_the_model_and_image_size_that_its_run_was_tuned_at(ask):
    tuning = {"samples": 64, "batch_size": 32, "model": "ViT-w16d1-7", "image_size": 56, "text_length": 8}
    fine = {**FINE, "samples": 32, "lr": 1e-12}
    first, tuned, child = ask(), ask(tuning=tuning), ask(tuning=tuning, fine_tuning=fine)
    assert "t64-ViT-w16d1-7-56px-8tokens_f32_" in child.id
    assert train([first.path, tuned.path, child.path]) == 0
    before, after = (torch.load(run.path / "model.pt")["state_dict"] for run in (tuned, child))
    assert list(after["visual.conv1.weight"].shape) == [16, 3, 7, 7]
    assert all(torch.allclose(before[name], after[name], atol=1e-8) for name in before)
    shape = architecture("ViT-w16d1-7", 56)
    open_clip.create_model("ViT-B-16", str(child.path / "model.pt"), **shape.open_clip_config)


@pytest.mark.slow
def test_neither_evaluation_sets_nor_programs_score_a_fine_tuning(ask, labelled):
    declared = labelled("webdataset")["webdataset"]
    sets = {
        "classes": {
            "webdataset": {"urls": declared["test"], "classes": ["one", "two", "three"], "metric": "mean_per_class"}
        },
        "program": {"command": {"arguments": ["false"], "scores": {"accuracy": "higher"}}},
    }
    evaluation = {**SETTINGS["evaluation"], "sets": sets, "means": {"all": ["classes", "program.accuracy"]}}
    fine = {**FINE, "samples": 32, "data": {"webdataset": declared}}
    # The program fails whatever it is asked for, so the parent here has none.
    parent, child = ask(), ask(evaluation=evaluation, fine_tuning=fine)
    asked = json.loads((child.path / "run.json").read_text())
    (child.path / "run.json").write_text(json.dumps({**asked, "parents": [parent.id]}))
    assert train([parent.path, child.path]) == 0
    result = child.result()
    assert list(result.scores) == ["fine_tune_top1"]
    assert result.missing_scores == {}
    assert not (child.path / "checkpoint.pt").exists()


@pytest.mark.slow
def test_several_processes_fine_tune_as_one_does(ask, tmp_path):
    fine = {**FINE, "samples": 96}
    assert train([ask(data_size=320).path]) == 0
    found = []
    for processes in (1, 2):
        child = ask(data_size=320, resources=Resources(processes=processes), fine_tuning=fine)
        assert train([child.path]) == 0
        assert child.result().devices == processes
        found.append(torch.load(child.path / "model.pt"))
        child.path.rename(tmp_path / f"of {processes}")
    for kind in ("state_dict", "head"):
        assert all(torch.allclose(found[0][kind][name], found[1][kind][name], atol=1e-5) for name in found[0][kind])


# One step


@pytest.mark.parametrize("resources", [{"accumulate": 4}, {"activation_checkpointing": True}])
def test_how_a_batch_is_computed_changes_a_step_by_rounding_only(ask, resources):
    run = ask(fine_tuning=FINE)
    one, other = training_of(run), training_of(run, **resources)
    data = open_labelled_data(run, one.settings).training
    for images, labels in list(batches(data, one, 4)):
        one.step(images, labels)
        other.step(images, labels)
    assert float(one.history[:, 0].sum()) == pytest.approx(float(other.history[:, 0].sum()), rel=1e-5)
    mine, others = one.objective.state_dict(), other.objective.state_dict()
    assert all(torch.allclose(mine[name], others[name], atol=1e-5) for name in mine)


def test_a_plain_loss_is_the_cross_entropy_and_a_mixed_one_is_timms(ask):
    training = training_of(ask(fine_tuning=FINE))
    classifier = training.classifier
    logits, labels = torch.randn(8, 80), torch.arange(16).reshape(8, 2)
    share = 1 - float(mix_of(training.fine_tuning, 0, 3, 28).mean())
    target = mixup_target(torch.cat([labels[:, 0], labels[:, 1].flip(0)]), 80, share, 0.1)[:8]
    # timm mixes each row with the one as far from the other end: rows 0..7 with 15..8.
    expected = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
    assert float(classifier.loss(logits, labels, 3)) == pytest.approx(float(expected), rel=1e-5)
    plain_run = training_of(ask(fine_tuning={**FINE, **PLAIN}))
    found = plain_run.classifier.loss(logits, labels, 3)
    assert torch.equal(found, torch.nn.functional.cross_entropy(logits, labels[:, 0]))


def test_learning_rates_fall_from_layer_to_layer_as_in_beit(settings: Callable[..., Settings]):
    staged = stage(settings(model="ViT-w32d2-4", fine_tuning={**FINE, "layer_decay": 0.5}))
    classifier = Classifier(build(staged).visual, 10, staged)
    optimizer = layer_wise(classifier, staged, 0.5)
    names = {id(parameter): name for name, parameter in classifier.named_parameters()}
    scales = {
        names[id(parameter)]: (group["lr_scale"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert scales["head.weight"] == (1.0, 0.05)
    assert scales["head.bias"] == (1.0, 0.0)
    assert scales["visual.ln_post.weight"] == (1.0, 0.0)
    assert scales["visual.transformer.resblocks.1.mlp.c_fc.weight"] == (0.5, 0.05)
    assert scales["visual.transformer.resblocks.0.ln_1.bias"] == (0.25, 0.0)
    assert scales["visual.conv1.weight"] == (0.125, 0.05)
    assert scales["visual.class_embedding"] == (0.125, 0.0)
    assert set(names.values()) - set(scales) == {"visual.proj", "visual.positional_embedding"}
    assert [group["betas"] for group in optimizer.param_groups] == [(0.9, 0.999)] * len(optimizer.param_groups)


def test_a_step_takes_each_layers_learning_rate(ask):
    """Adam's first step moves each weight by its learning rate, whatever the gradient."""
    run = ask(fine_tuning={**FINE, **PLAIN, "warmup": 0, "weight_decay": 0})
    training = training_of(run)
    before = {name: value.clone() for name, value in training.objective.state_dict().items()}
    data = open_labelled_data(run, training.settings).training
    # The head starts so near to zero that hardly any gradient comes through it.
    torch.nn.init.normal_(training.classifier.head.weight)
    training.step(*map(torch.from_numpy, training.batch(data, 0)))
    after = training.objective.state_dict()

    def moved(name: str) -> float:
        return float((after[name] - before[name]).abs().median())

    assert moved("head.bias") == pytest.approx(2e-3, rel=0.01)
    assert moved("visual.transformer.resblocks.0.mlp.c_fc.weight") == pytest.approx(0.75 * 2e-3, rel=0.05)
    assert moved("visual.conv1.weight") == pytest.approx(0.75**2 * 2e-3, rel=0.05)


def test_the_schedule_is_flips_where_the_study_says_nothing(settings: Callable[..., Settings]):
    staged = stage(settings(mask_ratio=0.5, text_mask_ratio=0.5, schedule="constant", fine_tuning={"samples": 64_000}))
    assert (staged.batch_size, staged.lr, staged.warmup) == (1024, 2e-4, 6400)
    assert (staged.mask_ratio, staged.text_mask_ratio, staged.schedule) == (0, 0, "cosine")
    assert (staged.weight_decay, staged.beta1, staged.beta2) == (0.05, 0.9, 0.999)
    assert (staged.crop, staged.flip) == (0.08, True)


# Augmentation


def test_augmentation_follows_from_seed_and_position_alone_and_leaves_no_image_behind():
    images = np.random.default_rng(0).integers(0, 256, (64, 3, 28, 28), dtype=np.uint8)
    fill, positions = np.array([124, 116, 104]), np.arange(100, 164)
    whole = augment(images, 9.0, 0, positions, fill)
    assert np.array_equal(whole[10:20], augment(images[10:20], 9.0, 0, positions[10:20], fill))
    changed = (whole != images).any(axis=(1, 2, 3)).mean()
    # Two operations, each done half the time: a quarter stays as it is, and a little that changes nothing.
    assert 0.5 < changed < 0.85
    assert not np.array_equal(whole, augment(images, 9.0, 1, positions, fill))
    with ThreadPoolExecutor(8) as pool:  # as batches are made for a GPU
        parts = list(
            pool.map(lambda place: augment(images[place], 9.0, 0, positions[place], fill), np.arange(64)[:, None])
        )
    assert np.array_equal(np.concatenate(parts), whole)


def test_augmentation_goes_up_to_the_largest_magnitude():
    """At 10 timm's posterize keeps no bits, which Pillow refuses."""
    images = np.random.default_rng(0).integers(0, 256, (300, 3, 8, 8), dtype=np.uint8)
    assert augment(images, 10.0, 0, np.arange(300), np.array([124, 116, 104])).shape == images.shape


def test_mixup_and_cutmix_take_turns_and_their_shares_have_the_mean_of_a_beta():
    found = [mix_of(fine_tuning(), 0, step, 32) for step in range(2000)]
    cuts = [mix for mix in found if len(np.unique(mix)) == 2]
    blends = np.array([mix[0, 0] for mix in found if len(np.unique(mix)) == 1])
    assert 0.45 < len(cuts) / len(found) < 0.55
    # Beta(a, a) has the mean 1/2 and the variance 1 / (4 (2 a + 1)).
    assert blends.mean() == pytest.approx(0.5, abs=0.03)
    assert blends.var() == pytest.approx(1 / (4 * 2.6), abs=0.01)
    assert mix_of(fine_tuning(mixup=0, cutmix=0), 0, 0, 32) is None
    assert all(set(np.unique(mix_of(fine_tuning(mixup=0), 0, step, 32))) <= {0, 1} for step in range(20))
    assert all(len(np.unique(mix_of(fine_tuning(cutmix=0), 0, step, 32))) == 1 for step in range(20))
    assert all(np.array_equal(mix, mix_of(fine_tuning(), 0, step, 32)) for step, mix in enumerate(found[:20]))


def test_what_is_mixed_is_what_timm_mixes():
    """Of a whole batch timm mixes each row with the row as far from the other end."""
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 16, 16), dtype=np.uint8)
    for step in range(6):
        whole = torch.from_numpy(images).float()
        np.random.seed(randomness.key("mix", 0, step) % 2**32)
        Mixup(0.8, 1.0, num_classes=10)(whole, torch.arange(8))
        ours = mixed(images, images[::-1], mix_of(fine_tuning(), 0, step, 16))
        assert np.abs(ours.astype(float) - whole.numpy()).max() <= 0.501


def test_drop_path_skips_the_last_branches_most_often_and_keeps_the_mean(settings: Callable[..., Settings]):
    staged = stage(settings(model="ViT-w32d2-4", fine_tuning={**FINE, "drop_path": 0.5}))
    classifier = Classifier(build(staged).visual, 10, staged)
    path = classifier.drop_path
    path.draw(0, 0, 4000, torch.device("cpu"))
    kept = (path.scale > 0).float().mean(dim=0)
    assert kept[:2].tolist() == [1.0, 1.0]
    assert kept[2:].tolist() == pytest.approx([0.5, 0.5], abs=0.03)
    assert path.scale.mean(dim=0).tolist() == pytest.approx([1.0] * 4, abs=0.06)
    whole = path.scale
    path.draw(0, 10, 20, torch.device("cpu"))
    assert torch.equal(path.scale, whole[10:30])
    # In evaluation nothing is skipped; in training a row whose branches are all skipped but the first block's differs.
    images = torch.randint(0, 256, (20, 3, 28, 28), dtype=torch.uint8)
    torch.nn.init.normal_(classifier.head.weight)
    training = classifier.logits(images)
    classifier.eval()
    assert not torch.allclose(training, classifier.logits(images))
    path.scale = None
    again = classifier.logits(images)
    classifier.train()
    assert torch.equal(again, classifier.logits(images))


# Data


def form(cache: Path | None = None) -> Form:
    return Form(28, 16, lambda texts: np.zeros((len(texts), 16), np.int64), cache)


def opened(declared: dict[str, Any], images: int = 100, cache: Path | None = None) -> Any:
    problems: list[str] = []
    tuning = read(FineTuning, {**FINE, "data": declared}, (), lambda _, what: problems.append(what))
    assert not problems
    return open_classified(tuning.data, form(cache), images=images, samples=640)


def picture(shade: int) -> bytes:
    data = BytesIO()
    Image.new("RGB", (40, 30), (shade, shade, shade)).save(data, "png")
    return data.getvalue()


def folders(root: Path, split: str, per_class: int, first: int) -> None:
    for number, name in enumerate(("cat", "dog")):
        for image in range(per_class):
            path = root / split / name / f"{image}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(first + 100 * number + image))


def tar(path: Path, images: list[tuple[int, int]]) -> None:
    with tarfile.open(path, "w") as file:
        for number, (shade, label) in enumerate(images):
            for extension, data in (("png", picture(shade)), ("cls", str(label).encode())):
                info = tarfile.TarInfo(f"{number:04}.{extension}")
                info.size = len(data)
                file.addfile(info, BytesIO(data))


def idx(path: Path, numbers: np.ndarray) -> None:
    header = bytes([0, 0, 8, numbers.ndim]) + b"".join(length.to_bytes(4, "big") for length in numbers.shape)
    path.write_bytes(gzip.compress(header + numbers.astype(np.uint8).tobytes()))


@pytest.fixture
def labelled(tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """A set of two classes, of 12 training and 4 test images, whose shades are below or above 100."""

    def made(kind: str) -> dict[str, Any]:
        shades, labels = np.array([10 + i + 100 * (i % 2) for i in range(12)]), np.arange(12) % 2
        if kind == "folder":
            folders(tmp_path, "train", 6, 10)
            folders(tmp_path, "test", 2, 50)
            return {"folder": {"train": f"{tmp_path}/train", "test": f"{tmp_path}/test"}}
        if kind == "webdataset":
            pairs = list(zip(shades.tolist(), labels.tolist(), strict=True))
            tar(tmp_path / "train-0.tar", pairs[:5])
            tar(tmp_path / "train-1.tar", pairs[5:])
            tar(tmp_path / "test.tar", pairs[:4])
            return {"webdataset": {"train": f"{tmp_path}/train-{{0..1}}.tar", "test": f"{tmp_path}/test.tar"}}
        for split, count in (("train", 12), ("test", 4)):
            idx(tmp_path / f"{split}-images.gz", np.repeat(shades[:count], 28 * 28).reshape(count, 28, 28))
            idx(tmp_path / f"{split}-labels.gz", labels[:count])
        files = {
            f"{split}_{what}": f"{tmp_path}/{split}-{what}.gz"
            for split in ("train", "test")
            for what in ("images", "labels")
        }
        return {"idx": files}

    return made


@pytest.mark.parametrize("kind", ["folder", "webdataset", "idx"])
def test_labelled_sets_give_images_with_their_classes(labelled, tmp_path, kind):
    found = opened(labelled(kind), cache=tmp_path / "cache")
    assert found.training.size == 12
    images, labels = found.training.batch(found.training.order(0, 0, 12), None)
    assert images.shape == (12, 3, 28, 28)
    assert sorted(labels.tolist()) == [0] * 6 + [1] * 6
    assert ((images[:, 0, 14, 14] > 100) == (labels == 1)).all()
    assert len(np.unique(images[:, 0, 14, 14])) == 12
    assert found.test.images.shape == (4, 3, 28, 28)
    assert ((found.test.images[:, 0, 14, 14] > 100) == (found.test.labels == 1)).all()
    assert found.test.classes == (("cat", "dog") if kind == "folder" else ("0", "1"))
    # A random crop and a flip are of the image as it was found.
    cropped, _ = found.training.batch(np.arange(12), Views(0, np.arange(12), 0.5, flip=True))
    assert cropped.shape == images.shape


def test_an_image_that_cannot_be_read_is_counted_and_the_next_one_seen(labelled, tmp_path):
    declared = labelled("folder")
    (tmp_path / "train" / "cat" / "5.png").write_bytes(b"no image")
    found = opened(declared)
    images, labels = found.training.batch(np.arange(12), None)
    assert labels.tolist() == [0] * 5 + [1] * 7
    assert np.array_equal(images[5], images[6])
    assert found.training.corrupt() == 1


def test_drawn_images_of_a_fine_tuning_are_none_of_those_scored_on():
    found = opened({"shapes": {"pairs": 0.3, "seed": 0}}, images=160)
    images, labels = found.training.batch(np.arange(160), None)
    assert labels.tolist() == [i % 80 for i in range(160)]
    assert found.training.size == 640
    assert np.array_equal(found.test.labels, labels)
    assert not (images == found.test.images).all(axis=(1, 2, 3)).any()
    assert randomness.key("augment", 0) != randomness.key("mix", 0)


def test_a_run_json_with_a_fine_tuning_is_read_back(ask):
    data = {"folder": {"train": "imagenet/train", "test": "imagenet/val", "name": "imagenet"}}
    run = ask(fine_tuning={**FINE, "data": data})
    settled = run.asked().settled
    assert settled.fine_tuning.data.test == "imagenet/val"
    assert run_id(settled) == run.id
    assert json.loads((run.path / "run.json").read_text())["settings"]["fine_tuning"]["data"] == data
    assert replace(settled, fine_tuning=None) == parent_of(settled)


def test_more_than_a_few_unreadable_images_are_a_fault_of_the_set(tmp_path):
    folders(tmp_path, "train", 10, 10)
    folders(tmp_path, "test", 2, 10)
    for path in (tmp_path / "train").rglob("*.png"):
        path.write_bytes(b"no image")
    found = opened({"folder": {"train": f"{tmp_path}/train", "test": f"{tmp_path}/test"}})
    with pytest.raises(DataError, match=r"train: 11 of 20 training images cannot be read, the last of them number 10"):
        found.training.batch(np.arange(20), None)
