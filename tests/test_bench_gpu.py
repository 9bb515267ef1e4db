"""bench/gpu.py and `make test-gpu`, as far as a machine without a GPU can tell."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from bench import gpu
from bench.gpu import Configuration, Measured
from flipscale.cost import cost, memory_bytes, memory_of
from flipscale.settings import Resources
from flipscale.train.processes import Group
from tests.gpu import __main__ as test_gpu

pytestmark = pytest.mark.slow

ONE = Configuration("ViT-B-32", 0.5, "bf16", 1024)
MEASURED = Measured(30.0, 10, (0.2, 0.25, 0.3), 21 << 30, 24 << 30)


def test_mfu_is_flops_a_second_over_the_peak():
    assert gpu.utilisation(5e14, 0.5, 1e15) == 1.0
    assert gpu.utilisation(1e14, 0.5, 1e15) == 0.2
    assert gpu.utilisation(1e14, 0.5, None) is None


def test_figures_hold_what_was_predicted_beside_what_was_measured():
    found = gpu.figures(ONE, MEASURED, "NVIDIA H100 80GB HBM3")
    resources = Resources(gpus=1, device="H100", samples_per_second=1e9)
    priced = cost(ONE.settings, resources)
    flops = 1024 * (priced.flops_per_sample + priced.loss_flops)
    assert found["step_flops"] == flops
    assert found["mfu"] == pytest.approx(flops / 0.25 / 989e12)
    assert found["images_per_second"] == 4096
    assert found["predicted_seconds"] == pytest.approx(3600 * priced.gpu_hours / priced.steps)
    assert found["predicted_bytes"] == memory_of(ONE.settings, resources).tensors
    assert found["predicted_held_bytes"] == priced.memory_bytes > found["predicted_bytes"]
    assert found["time_ratio"] == pytest.approx(0.25 / found["predicted_seconds"])
    assert found["memory_ratio"] == (21 << 30) / found["predicted_bytes"]
    assert (found["reserved_bytes"], found["first_seconds"], found["block_steps"]) == (24 << 30, 30.0, 10)


def test_what_is_computed_twice_counts_once_in_mfu_and_twice_in_the_predicted_time():
    sparing = Configuration("ViT-B-32", 0.5, "bf16", 1024, activation_checkpointing=True, accumulate=2)
    plain, again = (gpu.figures(one, MEASURED, "NVIDIA A100-SXM4-80GB") for one in (ONE, sparing))
    assert again["mfu"] == plain["mfu"]
    assert again["predicted_seconds"] / plain["predicted_seconds"] == pytest.approx(5 / 3, rel=0.05)


def test_fp32_is_held_against_the_peak_of_tf32():
    single = Configuration("ViT-B-32", 0.5, "fp32", 1024)
    assert gpu.figures(single, MEASURED, "NVIDIA H100 80GB HBM3")["peak_flops_per_second"] == 494.7e12


def test_a_card_without_a_known_peak_has_figures_without_mfu():
    found = gpu.figures(ONE, MEASURED, "NVIDIA GeForce GTX 1080")
    assert (found["mfu"], found["peak_flops_per_second"], found["predicted_seconds"]) == (None, None, None)
    assert found["flops_per_second"] > 0


def test_a_batch_is_halved_until_it_fits_the_card():
    assert gpu.fitting(ONE, 80 << 30) == ONE
    small = gpu.fitting(ONE, 8 << 30)
    assert small.batch_size in (128, 256, 512)
    assert memory_bytes(small.settings, Resources(gpus=1)) < gpu.ROOM * (8 << 30)
    assert gpu.fitting(Configuration("ViT-B-16", 0.0, "bf16", 64, accumulate=4), 1 << 20).batch_size == 8


def test_a_configuration_that_fails_leaves_its_reason_and_the_table_says_it(monkeypatch):
    def no_room(one, group):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(gpu, "measure", no_room)
    failed = gpu.cell(ONE, Group())
    assert failed["failed"] == "out of memory"
    good = gpu.figures(ONE, MEASURED, "NVIDIA GeForce GTX 1080")
    machine = dict.fromkeys(("gpu", "torch", "cpu", "cores", "load", "python", "date"), "x")
    facts = {"cells": [good, failed], "left_out": ["ViT-L-14 mask 0.5 bf16"], "text_length": 32, "machine": machine}
    facts |= {"evaluation": {"failed": "ValueError: no"}, "NCCL": {}}
    said = gpu.as_markdown(facts).splitlines()
    assert said[2].startswith("| ViT-B-32 | 0.5 | bf16 | plain | 1024 | ")
    assert said[2].endswith(" |  |")
    assert "| out of memory |" in said[3]
    assert len({line.count("|") for line in said[:4]}) == 1
    assert "No time was left for ViT-L-14 mask 0.5 bf16." in said[5]
    assert (
        said[-2:] == ["evaluation: failed, ValueError: no", "NCCL: there is one GPU"]
        or "NCCL: there is one GPU" in said
    )


def test_flips_rows_and_memory_and_the_ratio_of_flops_stand_beside_what_was_measured():
    flip = {(one.model, one.mask_ratio): one.batch_size for one in gpu.MASKS}
    assert flip == {
        (f"ViT-{size}-16", mask): rows for size in "LB" for mask, rows in ((0, 64), (0.5, 128), (0.75, 256))
    }
    whole, masked = (
        gpu.figures(one, replace(MEASURED, seconds=(seconds,)), "NVIDIA A100-SXM4-80GB")
        for one, seconds in ((gpu.MASKS[0], 0.25), (gpu.MASKS[2], 0.25))
    )
    assert gpu.is_plain(whole)
    assert not gpu.is_plain(masked)
    measured, by_flops = gpu.speed_up(masked, whole)
    assert measured == 4.0
    assert by_flops == pytest.approx(3.5, abs=0.1)  # FLIP's 0.28 of the FLOPs, with batches of 64k instead of 16k
    machine = dict.fromkeys(("gpu", "torch", "cpu", "cores", "load", "python", "date"), "x")
    facts = {"cells": [whole, masked], "left_out": [], "text_length": 32, "machine": machine}
    assert [line.split("|")[8:11] for line in gpu.as_markdown(facts).splitlines()[2:4]] == [
        [" 1.00x ", " 1.00x ", " 25.5 "],
        [" 4.00x ", f" {by_flops:.2f}x ", " 24.5 "],
    ]


SMALL = Configuration("ViT-w16d1-4", 0.5, "fp32", 16)


def test_the_loader_an_evaluation_and_a_checkpoint_are_measured_on_a_cpu_too():
    fed = gpu.loader_fed(Group(), SMALL, pairs=64)
    assert fed["ready"] > 0
    assert fed["fed"] > 0
    assert gpu.evaluation(Group(), SMALL, images=1100)["images_per_second"] > 0
    resumed = gpu.resuming(Group(), SMALL)
    assert resumed["bytes"] > 1e6
    assert min(resumed["save_seconds"], resumed["resume_seconds"]) > 0
    assert gpu.over_nccl(Group()) == {}
    assert len(list(gpu.in_words({"loader": fed, "resuming": resumed, "NCCL": {}}))) == 3


def test_steps_are_measured_and_the_record_is_json(monkeypatch):
    monkeypatch.setattr(gpu, "BLOCK_SECONDS", 0.05)
    small = Configuration("ViT-w16d1-4", 0.5, "fp32", 16)
    found = gpu.cell(small, Group())
    assert "failed" not in found, found
    assert len(found["block_seconds"]) == gpu.BLOCKS
    assert found["allocated_bytes"] > 0
    assert found["reserved_bytes"] is None
    assert json.loads(json.dumps(found)) == found


# Without a GPU


@pytest.fixture
def nvidia_smi(monkeypatch, tmp_path):
    """A machine whose torch has no GPU, and whose nvidia-smi says this; None where there is none."""

    def say(script):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setenv("PATH", str(tmp_path))
        if script is not None:
            (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / "nvidia-smi").chmod(0o755)

    return say


@pytest.mark.parametrize(
    ("script", "code", "sentence"),
    [
        (None, 0, "no GPU here: nvidia-smi is not on the PATH; skipped"),
        ("echo 'No devices were found'", 0, "no GPU here: nvidia-smi says 'No devices were found'; skipped"),
        ("echo failed to initialise >&2; exit 9", 0, "no GPU here: nvidia-smi says 'failed to initialise'; skipped"),
        (
            "echo 'GPU 0: NVIDIA H100 (UUID: GPU-1)'",
            1,
            f"no GPU here: nvidia-smi lists GPU 0: NVIDIA H100 (UUID: GPU-1), but torch {torch.__version__} cannot use "
            "it; skipped",
        ),
    ],
)
def test_make_test_gpu_says_in_one_sentence_that_there_is_no_gpu(nvidia_smi, capsys, script, code, sentence):
    nvidia_smi(script)
    assert test_gpu.main() == code
    assert capsys.readouterr().out == f"{sentence}\n"


def test_the_figures_alone_say_so_too(nvidia_smi, capsys):
    nvidia_smi(None)
    assert gpu.main([]) == 0
    assert capsys.readouterr().out == "no GPU here: nvidia-smi is not on the PATH; skipped\n"


def test_the_tests_of_a_gpu_are_collected_and_a_machine_without_one_skips_them_in_ci_too(nvidia_smi, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setenv("CI", "true")
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/gpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "needs a GPU: " in done.stdout
    assert "passed" not in done.stdout
    assert "failed" not in done.stdout


def test_the_time_of_make_test_gpu_is_below_eight_minutes():
    assert test_gpu.FIGURE_SECONDS + 60 < test_gpu.SECONDS < 8 * 60
