"""The benchmarks in a tiny form: what they count is what was done. How long it took is not tested."""

import contextlib
import importlib.metadata
import json
import math
from dataclasses import replace

import pytest

from bench import comparison, masking, speed
from bench.programs import PROGRAMS, Measured, settings_of
from bench.report import table
from flipscale.cost import cost
from flipscale.errors import FlipscaleError
from tests.parts import need

pytestmark = pytest.mark.slow


def need_webdataset() -> None:
    found = "0"
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        found = importlib.metadata.version("webdataset")
    fits = [0, 2, 5] <= [int(part) for part in found.split(".")[:3]] <= [0, 2, 86]
    need(fits, "webdataset 0.2.5 to 0.2.86, which open_clip's training program can do with")


def test_both_programs_take_the_same_steps_on_the_same_samples(tmp_path, capsys):
    need_webdataset()
    out = tmp_path / "tiny.json"
    arguments = ["--sizes", "ViT-w16d1-4", "--masks", "0.5", "--repeats", "1", "--steps", "8", "--batch", "32"]
    facts = speed.main([*arguments, "--out", str(out)])
    (cell,) = facts["cells"]
    assert (cell["steps"], cell["samples"], cell["timed_samples"], cell["pairs"]) == (8, 256, 224, 256)
    assert set(cell["runs"]) == {"flipscale", "open_clip"}
    for program, (run,) in cell["runs"].items():
        assert (run["steps"], run["timed_steps"], run["samples"]) == (8, 7, 224)
        assert 0 < run["cpu_seconds"] < run["whole_cpu_seconds"]
        assert 0 < run["wall_seconds"] < run["whole_wall_seconds"]
        assert run["peak_memory_bytes"] == cell["peak_memory_bytes"][program] > 2e8
        assert cell["images_per_second"][program] == 224 / run["cpu_seconds"]
    ours, theirs = (cell["runs"][program][0] for program in PROGRAMS)
    assert cell["steps_ratio"] == pytest.approx(theirs["cpu_seconds"] / ours["cpu_seconds"])
    assert cell["whole_ratio"] == pytest.approx(theirs["whole_cpu_seconds"] / ours["whole_cpu_seconds"])
    assert cell["first_ratio"] < cell["whole_ratio"]

    kept = json.loads(out.read_text())
    assert kept["cells"] == facts["cells"]
    assert set(kept["machine"]) == {"cpu", "cores", "load", "gpu", "python", "torch", "open_clip", "date"}
    assert kept["table"] == capsys.readouterr().out.splitlines()[: len(kept["table"])]
    assert kept["table"][2].startswith("| ViT-w16d1-4 | 0.5 | ")


def test_a_program_that_fails_is_quoted(tmp_path):
    arguments = ["--sizes", "ViT-w16d1-4", "--masks", "0", "--repeats", "1", "--steps", "2", "--batch", "32"]
    with pytest.raises(
        FlipscaleError, match=r"flipscale ended with 1 after 0 of 2 steps(.|\n)*precision fp16 needs a GPU"
    ):
        speed.main([*arguments, "--precision", "fp16"])


def test_speed_is_of_the_timed_steps_and_the_start_is_all_the_rest():
    run = Measured(
        steps=10,
        timed_steps=8,
        samples=512,
        cpu_seconds=4.0,
        wall_seconds=6.0,
        whole_cpu_seconds=8.0,
        whole_wall_seconds=12.0,
        peak_memory_bytes=1,
        peak_gpu_memory_bytes=None,
    )
    assert run.images_per_second == 128
    assert run.start_seconds == 3.0


def test_masks_take_turns_and_their_flops_are_those_of_cost(tmp_path):
    out = tmp_path / "tiny.json"
    facts = masking.main(
        ["--widths", "16", "32", "--depth", "1", "--masks", "0.75", "--rounds", "3", "--batch", "16", "--out", str(out)]
    )
    assert [(cell["model"], cell["mask_ratio"]) for cell in facts["cells"]] == [
        ("ViT-w16d1-4", 0.75),
        ("ViT-w32d1-4", 0.75),
    ]
    for cell in facts["cells"]:
        assert len(cell["seconds"]) == len(cell["seconds_without"]) == 3
        settings = settings_of(cell["model"], batch_size=16, samples=80, text_length=16, precision="fp32")
        masked, whole = (cost(replace(settings, mask_ratio=mask)) for mask in (0.75, 0.0))
        assert cell["flops_ratio"] == (masked.flops_per_sample + masked.loss_flops) / (
            whole.flops_per_sample + whole.loss_flops
        )
        assert cell["difference"] == cell["time_ratio"] / cell["flops_ratio"] - 1
        assert math.isfinite(cell["difference"])
    assert json.loads(out.read_text())["cells"] == facts["cells"]


def test_a_table_has_a_line_for_each_row():
    assert table(["model", "speed"], [["a", 1], ["b", 2]]) == (
        "| model | speed |\n| --- | ---: |\n| a | 1 |\n| b | 2 |\n"
    )


def test_synthetic_studies_are_compared_and_the_shares_are_of_them(tmp_path):
    out = tmp_path / "tiny.json"
    facts = comparison.main(["--gains", "4", "--curves", "2", "--out", str(out)])
    assert len(facts["gains"]) == len(comparison.GAINS)
    assert len(facts["curves"]) == len(comparison.CURVES)
    even = next(row for row in facts["gains"] if row["design"] == "even noise" and row["cells"] == 20)
    assert (even["seeds"], even["studies"], even["without_interval"]) == (2, 4, 0)
    # 95 % nominal: of 80 intervals fewer than 66 hold it in 1 of 1 million cases.
    assert even["cover"] > 0.82
    fails = next(row for row in facts["gains"] if row["design"] == "a cell where runs fail" and row["seeds"] == 5)
    assert fails["without_interval"] > 0
    assert all(row["read"] == 0 for row in facts["curves"] if row["design"] == "miss")
    assert json.loads(out.read_text())["gains"] == facts["gains"]
