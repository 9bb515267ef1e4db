"""bench/gpu.py and `make test-gpu`, as far as a machine without a GPU can tell."""

import json
import re
from dataclasses import asdict, replace

import pytest
import torch

from bench import gpu
from bench.gpu import Configuration, Measured
from flipscale.cost.arithmetic import cost, memory_bytes, memory_of
from flipscale.settings.declarations import Resources
from flipscale.train.distributed import Group
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


def test_a_batch_is_halved_until_it_fits_the_card():
    assert gpu.fitting(ONE, 80 << 30) == ONE
    small = gpu.fitting(ONE, 8 << 30)
    assert small.batch_size in (128, 256, 512)
    assert memory_bytes(small.settings, Resources(gpus=1)) < gpu.ROOM * (8 << 30)
    assert gpu.fitting(Configuration("ViT-B-16", 0.0, "bf16", 64, accumulate=4), 1 << 20).batch_size == 8


SMALL = Configuration("ViT-w16d1-4", 0.5, "fp32", 16)


def test_steps_are_measured_and_the_record_is_json(monkeypatch):
    monkeypatch.setattr(gpu, "BLOCK_SECONDS", 0.05)
    small = Configuration("ViT-w16d1-4", 0.5, "fp32", 16)
    found = gpu.cell(small, Group())
    assert "failed" not in found, found
    assert len(found["block_seconds"]) == gpu.BLOCKS
    assert found["allocated_bytes"] > 0
    assert found["reserved_bytes"] is None
    assert json.loads(json.dumps(found)) == found


def test_what_is_off_is_held_against_the_same_steps_without_it():
    without, compiled = (
        {**asdict(one), "images_per_second": rate} for one, rate in ((ONE, 100.0), (replace(ONE, compile=True), 118.0))
    )
    (line,) = gpu.gains([without, compiled])
    assert line.startswith("ViT-B-32 mask 0.5 bf16 compiled: 1.18x the images/s without; `resources: {compile: true}`")
    assert not list(gpu.gains([compiled]))


# All of it on a CPU


def test_make_test_gpu_runs_dry_and_ends_with_the_table_of_both_programs(capfd):
    assert test_gpu.main(["--dry"]) == 0
    said = capfd.readouterr().out
    assert "ViT-w16d1-4" in said.partition("== test session starts ==")[0]  # The figures.
    assert re.search(r"= \d+ skipped", said), said  # The tests.
    table = [line for line in said.splitlines() if line.startswith("|")][-4:]
    names, _, *rows = [[word.strip() for word in line.split("|")[1:-1]] for line in table]
    rows = [dict(zip(names, row, strict=True)) for row in rows]
    assert [row["program"] for row in rows] == ["flipscale", "open_clip"], said
    for row in rows:
        assert float(row["images/s"].replace(",", "")) > 0
        assert 0 < float(row["MFU"].rstrip("%")) < 100
        assert 0 <= float(row["waiting"].rstrip("%")) <= 100
        assert 0.1 < float(row["GB"]) < 4


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
    assert test_gpu.main([]) == code
    assert capsys.readouterr().out == f"{sentence}\n"
