"""The command line as its users meet it: real processes, real training on drawn images, real files."""

import io
import json
import re
import shutil
import signal
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from tests.commands import flipscale, on_one_core, start, train
from tests.parts import need_fashion
from tests.patience import wait_until
from tests.small_study import STUDY

pytestmark = pytest.mark.slow


@pytest.fixture
def copy(ran: Path, tmp_path: Path) -> Path:
    """A copy of it, for a test that changes something."""
    shutil.copytree(ran, tmp_path / "copy")
    return tmp_path / "copy"


def test_run_does_everything_and_ends_by_naming_it(ran: Path) -> None:
    said, talk = (ran / "said.txt").read_text(), (ran / "talk.txt").read_text()
    for name, path in (
        ("table", "mask/results.csv"),
        ("figures", "plots/mask/"),
        ("comparison", "mask/comparison.md"),
        ("report", "plots/mask/report.html"),
    ):
        line = next(line for line in said.splitlines() if line.startswith(name))
        assert path in line
    assert "mlflow ui --backend-store-uri sqlite:///" in said.splitlines()[-1]
    assert "8 of 8 finished" in talk
    assert talk.count(": finished") >= 8
    assert len((ran / "results/mask/results.csv").read_text().splitlines()) == 9
    assert (ran / "plots/mask/accuracy_vs_samples.svg").stat().st_size > 0
    assert "8 of 8 runs finished" in (ran / "plots/mask/report.html").read_text()
    assert "mask 50 %" in (ran / "results/mask/comparison.md").read_text()


def test_submit_again_starts_nothing(ran: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in (ran / "results/runs").rglob("*"))
    done = flipscale("submit", "mask.yaml", cwd=ran)
    assert "submitted 0 runs, left alone 8 finished" in done.stderr
    assert sorted((path, path.stat().st_mtime_ns) for path in (ran / "results/runs").rglob("*")) == before


def test_status_json_has_every_run_and_the_counts(ran: Path) -> None:
    said = json.loads(flipscale("status", "mask.yaml", "--json", cwd=ran).stdout)
    assert said["counts"] == {"finished": 8}
    assert [sorted(run) for run in said["runs"]] == [
        ["code_differences", "detail", "failures", "id", "images_per_second", "name", "seconds_since_step", "state"]
    ] * 8
    assert {run["state"] for run in said["runs"]} == {"finished"}


def test_plan_json_has_the_documented_shape(ran: Path) -> None:
    said = json.loads(flipscale("plan", "mask.yaml", "--json", cwd=ran).stdout)
    assert said["study"] == "mask"
    assert said["total"]["runs"] == len(said["runs"]) == 8
    cost = {"params", "flops_per_sample", "samples_seen", "steps", "train_flops", "memory_bytes", "gpu_hours"}
    cost |= {"gpu_hours_low", "gpu_hours_high"}
    for run in said["runs"]:
        assert {"id", "parents", "settings", "cost"} <= set(run)
        assert cost <= set(run["cost"])
    assert sum(run["cost"]["train_flops"] for run in said["runs"]) == said["total"]["train_flops"]


def test_a_comparison_of_another_score_leaves_the_studys_own(copy: Path) -> None:
    folder = copy / "results/mask"
    before = {path: path.read_bytes() for path in folder.glob("comparison*")}
    said = flipscale("compare", "mask.yaml", "--score", "held_out_loss", cwd=copy)
    assert (
        "wrote results/mask/comparison-held_out_loss.json and results/mask/comparison-held_out_loss.md" in said.stderr
    )
    assert {path: path.read_bytes() for path in before} == before
    assert json.loads((folder / "comparison-held_out_loss.json").read_text())["y"] == "held_out_loss"
    own = json.loads((folder / "comparison.json").read_text())["y"]
    again = flipscale("compare", "mask.yaml", "--score", own, cwd=copy)
    assert "up to date: results/mask/comparison.json" in again.stderr
    assert {path: path.read_bytes() for path in before} == before


def test_a_grown_axis_runs_only_the_new_cells(copy: Path) -> None:
    (copy / "mask.yaml").write_text(STUDY.replace("[0, 0.5]", "[0, 0.5, 0.75]"))
    done = flipscale("submit", "mask.yaml", "--dry-run", cwd=copy)
    assert done.stdout.count("_m0.75_") == 4
    assert "_m0.5_" not in done.stdout


def test_plot_and_compare_need_only_the_table(copy: Path) -> None:
    shutil.rmtree(copy / "results/runs")
    (copy / "results/mask/curves.parquet").unlink()
    before = {path.name: path.read_bytes() for path in (copy / "plots/mask").glob("*.svg")}
    shutil.rmtree(copy / "plots")
    flipscale("plot", "mask.yaml", cwd=copy)
    after = {path.name: path.read_bytes() for path in (copy / "plots/mask").glob("*.svg")}
    before.pop("learning_curves.svg", None)  # What happened inside runs is in the curves.
    assert after == before
    said = json.loads(flipscale("compare", "mask.yaml", "--json", cwd=copy).stdout)
    assert said["pairs"]


def test_collect_twice_is_in_mlflow_once(copy: Path) -> None:
    again = json.loads(flipscale("collect", "mask.yaml", "--json", cwd=copy).stdout)
    # The copied database knows these runs already; what it was told of them has not changed.
    mirrored = again["mlflow"]
    assert (mirrored["created"], mirrored["updated"], mirrored["unchanged"]) in ((0, 0, 8), (8, 0, 0))
    third = json.loads(flipscale("collect", "mask.yaml", "--json", cwd=copy).stdout)["mlflow"]
    assert (third["created"], third["updated"], third["unchanged"]) == (0, 0, 8)


def test_why_explains_an_id_and_a_difference(ran: Path) -> None:
    runs = json.loads(flipscale("plan", "mask.yaml", "--json", cwd=ran).stdout)["runs"]
    first, second = runs[0]["id"], runs[2]["id"]
    assert "mask_ratio" not in flipscale("status", "--why", first, cwd=ran).stdout
    said = json.loads(flipscale("status", "--why", first, second.rpartition("_")[2], "--json", cwd=ran).stdout)
    assert said == {"ids": [first, second], "differences": {"mask_ratio": [0.0, 0.5]}}
    assert "Give more of it" in flipscale("status", "--why", "", cwd=ran, code=1).stderr


def test_hours_and_money_are_told_with_their_range(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number = r"[\d.e-]+"
    hours = rf"about {number} \({number} to {number}\)"
    (copy / "site.yaml").write_text("schema: 1\nprice: {core_hour: 0.5, currency: EUR}\n")
    plain, done = flipscale("plan", "mask.yaml", cwd=copy).stdout.splitlines()[-2:]
    assert done == "8 of 8 done"
    assert re.fullmatch(rf"8 runs, [\d.e+]+ FLOPs, {hours} core-(hours|seconds)", plain)
    priced = flipscale("plan", "mask.yaml", "--site", "site.yaml", cwd=copy).stdout.splitlines()[-2]
    assert re.fullmatch(rf"{re.escape(plain)}, {hours} EUR", priced)
    flipscale("report", "mask.yaml", cwd=copy)
    assert "EUR" not in (copy / "plots/mask/report.html").read_text()
    monkeypatch.setenv("FLIPSCALE_SITE", "site.yaml")
    assert flipscale("plan", "mask.yaml", cwd=copy).stdout.splitlines()[-2] == priced
    flipscale("report", "mask.yaml", cwd=copy)
    page = (copy / "plots/mask/report.html").read_text()
    assert re.search(rf"{hours} core-(hours|seconds) predicted · {hours} EUR predicted", page)
    assert re.search(rf"At the site's price all runs cost {hours} EUR; the measured runs cost {number} EUR\.", page)


def test_why_names_a_plan_that_cannot_be_read(copy: Path) -> None:
    (copy / "results" / "mask" / "plan.json").write_text("{")
    said = flipscale("status", "--why", "x", cwd=copy, code=1).stderr
    assert "plan.json" in said
    assert "The study is left out; plan it again." in said


def test_logs_ends_with_a_run_that_was_cancelled(copy: Path) -> None:
    run = next((copy / "results" / "runs").iterdir())
    (run / "result.json").unlink()
    job = json.loads((run / "job.json").read_text())
    (run / "job.json").write_text(json.dumps({**job, "cancelled": 1.0}))
    assert "attempt 1" in flipscale("logs", "--follow", run.name, cwd=copy).stdout


def test_logs_prints_what_a_run_said(ran: Path) -> None:
    run = json.loads(flipscale("plan", "mask.yaml", "--json", cwd=ran).stdout)["runs"][0]["id"]
    assert "attempt 1" in flipscale("logs", run, cwd=ran).stdout
    assert "no run 'nonsense'" in flipscale("logs", "nonsense", cwd=ran, code=1).stderr


def test_init_writes_a_study_that_plans(tmp_path: Path) -> None:
    flipscale("init", "first.yaml", cwd=tmp_path)
    assert json.loads((tmp_path / "study.schema.json").read_text())["title"] == "flipscale study"
    assert json.loads(flipscale("plan", "first.yaml", "--json", cwd=tmp_path).stdout)["runs"]
    assert "exists already" in flipscale("init", "first.yaml", cwd=tmp_path, code=1).stderr


# Real data


def test_real_photographs_are_learnt(tmp_path: Path) -> None:
    need_fashion()
    study = STUDY.replace("data: shapes", "data: fashion").replace("[320, 640]", "[4k]").replace("seeds: 2", "seeds: 1")
    study = study.replace("images: 100", "images: 500")
    (tmp_path / "photos.yaml").write_text(study)
    train("photos.yaml", tmp_path)
    for path in (tmp_path / "results/runs").glob("*/result.json"):
        scores = json.loads(path.read_text())["scores"]
        assert scores["zero_shot_top1"] > 0.2  # of ten classes, so chance is 0.1
        assert "image_retrieval_r1" not in scores  # ten captions: missing stays missing


def write_shards(folder: Path, count: int, each: int) -> None:
    """Tar shards as img2dataset writes them: grey squares, each captioned with its own shade."""
    folder.mkdir()
    for shard in range(count):
        with tarfile.open(folder / f"{shard:05}.tar", "w") as tar:
            for number in range(shard * each, (shard + 1) * each):
                picture = io.BytesIO()
                Image.new("RGB", (40, 32), (number % 256, number // 256, 9)).save(picture, "JPEG")
                for suffix, data in (("jpg", picture.getvalue()), ("txt", f"shade number {number}".encode())):
                    member = tarfile.TarInfo(f"{number:09}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


WEB_STUDY = (
    STUDY.replace("data: shapes", "data: {webdataset: 'pairs/{00000..00001}.tar'}")
    .replace("[320, 640]", "[320]")
    .replace("seeds: 2", "seeds: 1")
    .replace("images: 100", "images: 40, data: {webdataset: 'held-out/00000.tar'}")
)


def test_shards_are_trained_on_and_evaluated_by_retrieval(tmp_path: Path) -> None:
    write_shards(tmp_path / "pairs", 2, 80)
    write_shards(tmp_path / "held-out", 1, 40)
    (tmp_path / "web.yaml").write_text(WEB_STUDY)
    train("web.yaml", tmp_path)
    for path in (tmp_path / "results/runs").glob("*/result.json"):
        result = json.loads(path.read_text())
        assert (result["unique_pairs"], result["repeats"]) == (160, 2.0)
        assert {"image_retrieval_r1", "text_retrieval_r10", "held_out_loss"} <= set(result["scores"])
        assert "zero_shot_top1" not in result["scores"]


# What users get wrong, and what machines do


def test_usage_errors_exit_2(tmp_path: Path) -> None:
    for arguments in (["fly"], ["plan"], ["plan", "x.yaml", "--fast"]):
        flipscale(*arguments, cwd=tmp_path, code=2)


def test_a_broken_study_is_told_line_by_line(tmp_path: Path) -> None:
    broken = STUDY.replace("samples: [320, 640]", "samples: [lots]").replace("seeds", "seed")
    (tmp_path / "mask.yaml").write_text(broken)
    done = flipscale("submit", "mask.yaml", cwd=tmp_path, code=1)
    assert done.stderr.splitlines()[0] == "mask.yaml:5: 'lots' is not a count; write 400M, 4e8 or 400000000"
    assert done.stderr.splitlines()[1].startswith("mask.yaml:7: unknown key 'seed'; did you mean")
    assert not (tmp_path / "results").exists()


def test_a_study_over_its_budget_is_not_submitted(tmp_path: Path) -> None:
    (tmp_path / "mask.yaml").write_text(STUDY + "budget: {runs: 3}\n")
    flipscale("plan", "mask.yaml", cwd=tmp_path)
    assert "its budget is 3" in flipscale("submit", "mask.yaml", cwd=tmp_path, code=1).stderr
    assert not (tmp_path / "results/runs").exists()


def test_missing_data_fails_a_run_in_words(tmp_path: Path) -> None:
    """That the others do not begin where the first ones fail is in the contract of launchers."""
    study = STUDY.replace("[320, 640]", "[320]").replace("[0, 0.5]", "[0]").replace("seeds: 2", "seeds: 1")
    (tmp_path / "mask.yaml").write_text(study.replace("data: shapes", "data: {webdataset: 'nowhere/{0..3}.tar'}"))
    refused = flipscale("run", "mask.yaml", cwd=tmp_path, code=1)
    assert "nowhere/0.tar" in refused.stderr
    assert not (tmp_path / "results/runs").exists()
    done = flipscale("run", "mask.yaml", "--no-check", cwd=tmp_path, code=1)
    assert "failed (data)" in done.stderr
    assert "nowhere/0.tar" in done.stderr
    assert json.loads(flipscale("status", "mask.yaml", "--json", cwd=tmp_path).stdout)["counts"] == {"failed": 1}


def test_results_of_a_newer_flipscale_are_refused_and_kept(copy: Path) -> None:
    path = next((copy / "results/runs").glob("*/result.json"))
    text = path.read_text().replace('"schema": 1', '"schema": 99')
    path.write_text(text)
    assert "schema 99 is newer" in flipscale("collect", "mask.yaml", cwd=copy, code=1).stderr
    assert path.read_text() == text


def test_ctrl_c_leaves_a_state_that_submit_goes_on_from(tmp_path: Path) -> None:
    (tmp_path / "mask.yaml").write_text(STUDY.replace("[320, 640]", "[64k]").replace("seeds: 2", "seeds: 1"))
    with on_one_core():
        command = start("submit", "mask.yaml", cwd=tmp_path)
    runs = tmp_path / "results/runs"
    wait_until(lambda: list(runs.glob("*/metrics.jsonl")), "a run to begin")
    command.send_signal(signal.SIGINT)
    command.end(code=130)
    assert json.loads(flipscale("status", "mask.yaml", "--json", cwd=tmp_path).stdout)["counts"] == {"cancelled": 2}
    stopped = {path.parent.name: torch_step(path) for path in runs.glob("*/checkpoint.pt")}
    assert stopped
    assert not list(runs.glob("*/error.json"))
    flipscale("submit", "mask.yaml", "--detach", cwd=tmp_path)
    try:
        says = f"goes on after step {next(iter(stopped.values()))}"
        wait_until(lambda: any(says in path.read_text() for path in runs.glob("*/log.txt")), says)
    finally:
        flipscale("cancel", "mask.yaml", cwd=tmp_path)
    assert json.loads(flipscale("status", "mask.yaml", "--json", cwd=tmp_path).stdout)["counts"] == {"cancelled": 2}


def torch_step(checkpoint: Path) -> int:
    import torch

    step: int = torch.load(checkpoint, weights_only=True)["progress"]["step"]
    return step


def test_a_probe_times_the_shapes_of_a_study_and_the_ledger_sums_what_was_spent(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY)
    before = flipscale("plan", "study.yaml", cwd=tmp_path).stdout.splitlines()
    assert re.fullmatch(r".* of training on 1 worker", before[-1])
    probed = flipscale("probe", "study.yaml", cwd=tmp_path)
    assert [line.split()[:2] for line in probed.stdout.splitlines()[1:]] == [
        ["mask_ratio=0", "4"],
        ["mask_ratio=0.5", "4"],
    ]
    *_, hours, clock = flipscale("plan", "study.yaml", cwd=tmp_path).stdout.splitlines()
    assert re.search(r" core-(hours|seconds), timed at local$", hours)
    assert re.fullmatch(r"(about )?[\d.]+ (s|min).* on 1 worker", clock)
    assert flipscale("status", "study.yaml", cwd=tmp_path).stdout.splitlines()[-1] == clock
    train("study.yaml", tmp_path)
    assert flipscale("plan", "study.yaml", cwd=tmp_path).stdout.splitlines()[-1] == "8 of 8 done"
    ledger = json.loads(flipscale("status", "--spent", "--json", cwd=tmp_path).stdout)
    (row,) = ledger["rows"]
    (total,) = ledger["totals"]
    assert (row["study"], row["state"], row["runs"]) == ("study", "finished", 8 + 1)  # with the probe
    assert 0 < row["predicted"] == total["predicted"]
    assert 0 < row["spent"] == total["spent"]
    said = flipscale("status", "study.yaml", "--spent", cwd=tmp_path).stdout.splitlines()
    assert said[-1].split()[:2] == ["all", "9"]
