"""What fits a device's memory, what would make it fit, and what is refused."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from flipscale.cli import main
from flipscale.cost.arithmetic import cost, memory_bytes
from flipscale.cost.capacity import REFUSED, TIGHT, device_memory, shortage
from flipscale.errors import PlanError
from flipscale.launch.launcher import JobState, Request
from flipscale.planning.runs import Plan
from flipscale.run import Job
from flipscale.settings.declarations import CommandTrainer, Resources
from flipscale.settings.devices import DEVICES, Price
from flipscale.workflow.opened import OpenStudy, open_study
from flipscale.workflow.submitted import Guards, train_study
from flipscale.workspace import Workspace
from tests.asked import settings_of

L16 = settings_of(
    model="ViT-L-16", image_size=224, text_length=32, samples=12_800_000_000, batch_size=16384, precision="bf16"
)
EIGHT = Resources(gpus=8, device="A100")

STUDY = """\
schema: 1
base: {data: shapes, model: ViT-L-16, image_size: 224, text_length: 32, samples: 1M, precision: bf16, mask_ratio: 0}
axes:
  batch_size: [BATCHES]
evaluation: {images: 100}
resources: {gpus: 1, device: RTX-4090}
"""


def opened(tmp_path: Path, batches: str, more: str = "", price: Price | None = None) -> OpenStudy:
    file = tmp_path / "large.yaml"
    file.write_text(STUDY.replace("BATCHES", batches) + more)
    return open_study(file, Workspace(tmp_path / "results", tmp_path / "plots"), price=price)


def test_a_run_that_fits_lacks_nothing() -> None:
    assert shortage(L16, Resources(gpus=256, device="A100")) is None


def test_the_memory_of_a_core_is_not_known() -> None:
    assert device_memory(Resources(device="cpu")) is None
    assert shortage(L16, Resources(device="cpu")) is None


def test_remedies_are_the_smallest_changes_that_fit() -> None:
    found = shortage(L16, EIGHT)
    assert found is not None
    assert found.memory_bytes == memory_bytes(L16, EIGHT) > found.device_bytes == DEVICES["A100"].memory
    available = found.device_bytes
    for remedy in found.remedies:
        assert remedy.memory_bytes == memory_bytes(L16, remedy.resources) <= available
    parts, checkpointed, more = found.remedies
    assert memory_bytes(L16, replace(EIGHT, accumulate=parts.resources.accumulate // 2)) > available
    assert checkpointed.changes == "activation_checkpointing: true"
    assert checkpointed.slower == pytest.approx(
        cost(L16, checkpointed.resources).gpu_hours / cost(L16, EIGHT).gpu_hours
    )
    assert memory_bytes(L16, replace(EIGHT, gpus=more.resources.gpus // 2)) > available
    assert more.slower == 1


def test_what_no_change_can_mend_is_said_so() -> None:
    found = shortage(replace(L16, model="ViT-bigG-14", batch_size=1, text_length=77), Resources(gpus=1, device="L4"))
    assert found is not None
    assert found.remedies == ()
    assert found.says("1 run").endswith("choose a smaller model, or devices with more memory.")
    assert found.times > REFUSED


def test_processes_are_raised_with_gpus_where_a_study_gives_both() -> None:
    found = shortage(L16, Resources(gpus=8, processes=8, device="A100"))
    assert found is not None
    more = found.remedies[-1]
    assert (more.resources.gpus, more.resources.processes) == (more.resources.devices, more.resources.devices)


# In a plan


def test_a_plan_marks_the_runs_that_do_not_fit_and_says_what_would(tmp_path: Path) -> None:
    plan = opened(tmp_path, "32, 256").plan
    assert [run.fits_memory for run in plan.runs] == [True, False]
    assert [run["fits"] for run in plan.to_dict()["runs"]] == [True, False]
    (warning,) = [said for said in plan.warnings if "would need" in said]
    assert warning.startswith("1 run of ViT-L-16 at a batch of 256 would need about ")
    assert "RTX-4090 has 24. To fit, set one of these in resources: accumulate: " in warning
    assert "activation_checkpointing: true (" in warning
    assert "; or gpus: " in warning


def test_a_command_of_ones_own_is_not_judged(tmp_path: Path) -> None:
    plan = opened(tmp_path, "256").plan
    run = replace(plan.runs[0], settings=replace(plan.runs[0].settings, trainer=CommandTrainer(["true"], None)))
    assert run.fits_memory is None


def test_where_no_change_alone_fits_devices_and_parts_together_do(tmp_path: Path) -> None:
    (run,) = opened(tmp_path, "32768").plan.runs
    found = shortage(run.settings, run.resources)
    assert found is not None
    (remedy,) = found.remedies
    assert (remedy.resources.gpus, remedy.resources.accumulate) == (2, 4096)
    assert memory_bytes(run.settings, remedy.resources) <= TIGHT * found.device_bytes
    assert "To fit, set this in resources: accumulate: 4096, gpus: 2 (" in found.says("1 run")


def test_fp32_on_a_gpu_is_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "slow.yaml"
    text = STUDY.replace("BATCHES", "32").replace("bf16", "fp32")
    study = Workspace(tmp_path / "results", tmp_path / "plots")
    file.write_text(text)
    (warning,) = [said for said in open_study(file, study).plan.warnings if "fp32" in said]
    assert warning.startswith("1 run in fp32: on RTX-4090 that takes at least twice the hours of bf16.")
    for cheap in (text.replace("fp32", "bf16"), text.replace("gpus: 1, device: RTX-4090", "")):
        file.write_text(cheap)
        assert not any("fp32" in said for said in open_study(file, study).plan.warnings)


# Submission


class Recorder:
    """A launcher that starts nothing: it notes what it was asked for."""

    ends_with_the_watcher = False
    poll_seconds = 1.0
    study = ""

    def __init__(self) -> None:
        self.submitted: list[str] = []

    def submit(self, requests: Sequence[Request]) -> Iterator[Job]:
        for one in requests:
            self.submitted.append(one.id)
            yield Job(one.id, "local", "none", 0.0, log="")

    def preview(self, requests: Sequence[Request]) -> str:
        return ""

    def poll(self, jobs: Sequence[Job], *, closely: bool = False) -> dict[str, JobState]:
        return {job.run_id: JobState(None) for job in jobs}

    def cancel(self, jobs: Sequence[Job], study: str | None = None) -> Sequence[str]:
        return ()


def test_submit_warns_of_a_little_too_much_and_refuses_far_too_much(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    little, launcher = opened(tmp_path, "128"), Recorder()
    (run,) = little.plan.runs
    assert 1 < run.cost.memory_bytes / (24 << 30) < 1.5
    train_study(little, launcher, wait=False)
    assert launcher.submitted == [run.id]
    assert "warning: 1 run of ViT-L-16 at a batch of 128 would need about" in capsys.readouterr().err


def test_submit_of_far_too_much_is_refused_unless_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large, launcher = opened(tmp_path, "32, 128, 256"), Recorder()
    with pytest.raises(
        PlanError, match=r"1 run of ViT-L-16 at a batch of 256 would need .* add --force to submit anyway"
    ):
        train_study(large, launcher, wait=False)
    assert launcher.submitted == []
    said = capsys.readouterr().err
    assert "warning: 1 run of ViT-L-16 at a batch of 128 would need" in said
    assert "at a batch of 256" not in said, "the refusal says it"
    train_study(large, launcher, guards=Guards(inputs=False, memory=False), wait=False)
    assert len(launcher.submitted) == 3
    assert "warning: 1 run of ViT-L-16 at a batch of 256 would need" in capsys.readouterr().err


# Money


EUROS = Price(gpu_hour=2.0, core_hour=None, currency="EUR")


def test_a_plan_is_told_in_money_where_a_site_says_its_price(tmp_path: Path) -> None:
    priced, unpriced = opened(tmp_path, "32", price=EUROS).plan, opened(tmp_path, "32").plan
    hours, money = priced.total.hours, priced.money
    assert money is not None
    assert (money.about, money.low, money.high) == (2 * hours.about, 2 * hours.low, 2 * hours.high)
    assert priced.to_dict()["total"]["price"]["currency"] == "EUR"
    assert str(money).startswith("about ")
    assert str(money).endswith(" EUR")
    assert unpriced.money is None
    assert "price" not in unpriced.to_dict()["total"]


def over(plan: Plan) -> str:
    with pytest.raises(PlanError) as raised:
        plan.check_budget()
    return str(raised.value)


def test_a_budget_in_money_is_kept(tmp_path: Path) -> None:
    total = opened(tmp_path, "32", price=EUROS).plan.total.gpu_hours
    said = over(opened(tmp_path, "32", f"budget: {{price: {total}}}\n", EUROS).plan)
    assert said.startswith("large would cost about ")
    assert "EUR and its budget is " in said
    assert "Raise budget.price" in said


def test_a_budget_that_only_the_range_goes_over_is_a_warning(tmp_path: Path) -> None:
    total = opened(tmp_path, "32", price=EUROS).plan.total.gpu_hours
    limits = f"budget: {{price: {2.5 * total}, gpu_hours: {1.2 * total}}}\n"
    plan = opened(tmp_path, "32", limits, EUROS).plan
    plan.check_budget()
    assert [said.partition(",")[0] for said in plan.warnings if "may exceed" in said] == [
        "large may exceed budget.gpu_hours",
        "large may exceed budget.price",
    ]


def test_runs_of_this_machine_take_the_price_of_a_site_file_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = "{data: shapes, model: ViT-w16d1-4, samples: 320, batch_size: 32, lr: 1e-3}"
    Path("small.yaml").write_text(f"schema: 1\nbase: {base}\nbudget: {{price: 1e-9}}\n")
    Path("hall.yaml").write_text("schema: 1\npartition: gpu\nprice: {core_hour: 0.02}\n")
    Path("free.yaml").write_text("schema: 1\npartition: gpu\n")
    for verb in ("submit", "run"):
        assert main([verb, "small.yaml", "--site", "hall.yaml"]) == 1
        assert re.match(
            r"small would cost about .* USD and its budget is 1e-09\. Raise budget", capsys.readouterr().err
        )
        assert main([verb, "small.yaml", "--site", "free.yaml"]) == 1
        assert capsys.readouterr().err.startswith("free.yaml: gives no price, and local runs use nothing else")
    assert not Path("results").exists()
    # Somebody's cluster is not where runs of this machine cost.
    monkeypatch.setenv("FLIPSCALE_SITE", "hall.yaml")
    assert main(["submit", "small.yaml", "--dry-run"]) == 0
    assert "budget.price is not checked, as no price is known" in capsys.readouterr().err


def test_a_budget_in_money_without_a_price_is_said_to_be_unchecked(tmp_path: Path) -> None:
    plan = opened(tmp_path, "32", "budget: {price: 1}\n").plan
    plan.check_budget()
    assert any("budget.price is not checked" in said and "--site FILE" in said for said in plan.warnings)
