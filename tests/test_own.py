"""Studies of a user's own program, which need not be a network: its parameters are axes like any setting."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from flipscale import scores
from flipscale.analysis.fitting.study_laws import fit_study
from flipscale.cli import main
from flipscale.collecting import read_results
from flipscale.collecting.columns import COLUMNS
from flipscale.errors import ResultsError, StudyError
from flipscale.launch import submit_probe
from flipscale.planning.runs import plan
from flipscale.run import RunFolder, read_timings
from flipscale.study import read_study
from flipscale.train import train
from flipscale.train.trainers.program import timing
from tests.launch.test_launch import Recorder
from tests.patience import wait_until

ROOT = Path(__file__).parent.parent

PROGRAM = """
import argparse, json, pathlib, random, sys
parser = argparse.ArgumentParser()
parser.add_argument("--tries", type=int)
parser.add_argument("--rule")
parser.add_argument("--seed", type=int)
parser.add_argument("--out", type=pathlib.Path)
asked = parser.parse_args()
random.seed(asked.seed)
best = 1.0
with open(asked.out / "metrics.jsonl", "a") as metrics:
    for step in range(1, asked.tries + 1):
        tried = abs(random.gauss(0, 1)) * (0.5 if asked.rule == "narrow" else 1.0)
        best = min(best, tried)
        print(json.dumps({"step": step, "steps": asked.tries, "loss": best}), file=metrics)
print("done")
print(json.dumps({"scores": {"distance_left": best}}))
"""
"""A random search: no neural network, and its outcome is its last line."""

STUDY = """
schema: 1
question: Does a narrow search end nearer?
parameters: {tries: 10, rule: wide}
base: {trainer: {command: "python search.py --tries {tries} --rule {rule} --seed {seed} --out {folder}"}}
axes: {rule: [wide, narrow], tries: [20, 0.1k]}
baseline: {rule: wide}
scores: {distance_left: lower}
seeds: 2
"""


@pytest.fixture
def study(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("search.py").write_text(PROGRAM)
    file = Path("search.yaml")
    file.write_text(STUDY)
    return file


def flipscale(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "flipscale", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_program_that_is_no_network_is_planned_run_collected_and_compared(study):
    planned = flipscale("plan", "search.yaml")
    assert "rule narrow, tries 100" in planned
    assert "8 runs, unknown FLOPs, unknown core-hours" in planned
    flipscale("submit", "search.yaml")
    flipscale("collect", "search.yaml")
    table = Path("results/search/results.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert {(row["rule"], row["tries"]) for row in rows} == {
        ("wide", "20"), ("wide", "100"), ("narrow", "20"), ("narrow", "100")
    }  # fmt: skip
    assert all(any(row[name] for row in rows) for name in rows[0] if name != "cell")
    assert not {"model", "batch_size", "zero_shot_top1", "patches"} & set(rows[0])
    kinds = read_results(table).dtypes
    assert (str(kinds["tries"]), str(kinds["rule"]), str(kinds["distance_left"])) == ("Int64", "str", "float64")
    said = flipscale("compare", "search.yaml")
    assert "rule narrow" in said
    assert "distance_left (lower is better)" in said


def own(text: str):
    Path("own.yaml").write_text(text)
    return read_study("own.yaml")


HEAD = "schema: 1\nparameters: {depth: 8, norm: layer, tokens: 100M, bias: true, lr: 0.1}\n"
COMMAND = "base: {trainer: {command: 'python train.py -d {depth} --norm={norm} {tokens} {bias} {lr} {seed}'}}\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_parameters_are_axes_couplings_conditions_baseline_claims_and_tuned(here):
    study = own(
        HEAD + COMMAND + "axes: {depth: [4, 8, 16], norm: [layer, rms]}\n"
        "couple: {tokens: 10M * depth}\nwhere: depth < 16\nbaseline: {norm: layer}\nscores: {val_loss: lower}\n"
        "tune: {over: {lr: [0.1, 0.2, 0.4]}, seeds: [100]}\nlabels: {norm: {rms: RMSNorm}}\n"
        "claims: {a: {left: {norm: rms, depth: 8}, right: {norm: layer, depth: 8}, expect: better}}\n"
    )
    assert {(cell.depth, cell.norm, cell.tokens) for cell in study.cells} == {
        (4, "layer", 40_000_000), (4, "rms", 40_000_000), (8, "layer", 80_000_000), (8, "rms", 80_000_000)
    }  # fmt: skip
    assert study.score == study.sweep.by == "val_loss"
    assert {run.settings.lr for run in plan(study).runs} == {0.1, 0.2, 0.4}
    assert "RMSNorm, depth 4, lr 0.1, seed 100" in {run.name for run in plan(study).runs}


def test_nothing_of_clip_is_asked_and_a_setting_that_is_named_can_be_used(here):
    study = own(
        "schema: 1\nparameters: {norm: rms}\n"
        "base: {mask_ratio: 0.5, trainer: {command: 'python train.py {mask_ratio} {norm}'}}\n"
    )
    (run,) = plan(study).runs
    assert (run.cost.train_flops, run.is_priced, run.patches) == (0, False, None)
    settings = run.to_dict()["settings"]
    assert settings["parameters"] == {"norm": "rms"}
    assert set(settings) == {"parameters", "mask_ratio", "trainer", "seed", "evaluation"}


def test_parameters_stand_beside_a_recipe_and_come_with_an_included_file(here):
    clip = (
        "base: {model: ViT-B-16, samples: 12.8M, data: shapes, trainer: {command: 'python t.py {drop} {batch_size}'}}"
    )
    study = own(f"schema: 1\nrecipe: flip\nparameters: {{drop: 0.1}}\n{clip}\nscores: {{loss: lower}}\n")
    (run,) = plan(study).runs
    assert (run.settings.drop, run.settings.batch_size, run.settings.is_clip) == (0.1, 16384, True)
    assert (study.score, "loss" in COLUMNS) == ("loss", False)
    assert run.is_priced
    assert run.to_dict()["settings"]["weight_decay"] == 0.2
    Path("under.yaml").write_text(HEAD + COMMAND)
    (run,) = plan(own("schema: 1\ninclude: under.yaml\nparameters: {norm: rms, width: 64}\n")).runs
    assert (run.settings.depth, run.settings.norm, run.settings.width) == (8, "rms", 64)
    with pytest.raises(StudyError, match="those of a CLIP, and model, samples, batch_size have no value"):
        own(HEAD + COMMAND + "recipe: openclip\n")


def test_flops_come_from_the_expression_of_the_study(here):
    study = own(HEAD + COMMAND + "cost: {flops: 6 * depth * tokens}\nresources: {flops_per_second: 1e9}\n")
    (run,) = plan(study).runs
    assert run.cost.train_flops == 4_800_000_000
    assert run.cost.gpu_hours == pytest.approx(4.8 / 3600)


def test_an_id_is_the_parameters_the_command_and_the_seed(here):
    ids = [
        plan(own(HEAD.replace(old, new) + COMMAND.replace(before, after))).runs[0].id
        for old, new, before, after in (
            ("100M", "1e8", "python", "python"),  # one number
            ("layer", "rms", "python", "python"),
            ("lr: 0.1", "lr: 0.1, extra: 1", "python", "python"),
            ("8", "8", "train.py", "other.py"),
            ("8", "8", "base: {", "base: {seed: 1, "),
        )
    ]
    assert ids[0] == "depth-8_norm-layer_tokens-100M_bias-true_lr-0.1_s0_" + ids[0][-10:]
    assert len(set(ids)) == 5
    assert plan(own(HEAD + COMMAND)).runs[0].id == ids[0]
    listed = COMMAND.replace("'python train.py -d {depth} --norm={norm} {tokens} {bias} {lr} {seed}'", json.dumps(
        {"arguments": ["python", "train.py", "-d", "{depth}", "--norm={norm}", "{tokens}", "{bias}", "{lr}", "{seed}"]}
    ))  # fmt: skip
    assert plan(own(HEAD + listed)).runs[0].id == ids[0]


def test_margin_and_differences_are_in_the_units_of_the_score(here, study):
    text = STUDY.replace(
        "distance_left: lower",
        "distance_left: lower}\nmargin: 0.5\nlooks: 1\nclaims: {a: "
        "{left: {rule: narrow, tries: 20}, right: {rule: wide, tries: 20}, expect: level}",
    )
    study.write_text(text)
    flipscale("submit", "search.yaml")
    flipscale("collect", "search.yaml")
    flipscale("compare", "search.yaml")
    comparison = json.loads(Path("results/search/comparison.json").read_text())
    (claim,) = comparison["claims"]["claims"]
    assert comparison["claims"]["margin"] == 0.5
    rows = read_results(Path("results/search/results.csv")).query("tries == 20")
    means = rows.groupby("rule")["distance_left"].mean()
    assert claim["unit"] == ""
    assert claim["difference"]["value"] == pytest.approx(means["wide"] - means["narrow"])


def test_a_score_has_the_direction_that_its_study_declares(here):
    own(
        "schema: 1\nparameters: {a: 1}\nbase: {trainer: {command: python}}\nscores: {reward: lower, ppl_gain: higher}\n"
    )
    assert scores.lower_is_better("reward") is True
    assert scores.lower_is_better("ppl_gain") is False
    assert scores.is_score("reward")


def test_a_program_that_does_not_take_its_folder_is_told_so(study):
    study.write_text(STUDY.replace(" --out {folder}", "").replace("[wide, narrow]", "[wide]"))
    done = subprocess.run([sys.executable, "-m", "flipscale", "submit", "search.yaml"], capture_output=True, text=True)
    assert "Its last argument is the run's folder: have it take that, or write {folder} where it belongs" in done.stderr


STOPPED = """
import json, pathlib, sys, time
folder, patience = pathlib.Path(sys.argv[1]), float(sys.argv[2])
starts = folder / "starts.txt"
starts.write_text(starts.read_text() + "x" if starts.exists() else "x")
time.sleep(patience if starts.read_text() == "x" else 0)
print(json.dumps({"scores": {"starts": len(starts.read_text())}}))
"""


def test_a_killed_program_starts_again_in_its_folder(here):
    Path("wait.py").write_text(STOPPED)
    Path("wait.yaml").write_text(
        "schema: 1\nparameters: {patience: 600}\nscores: {starts: higher}\n"
        "base: {trainer: {command: 'python wait.py {folder} {patience}'}}\n"
    )
    submitting = subprocess.Popen(
        [sys.executable, "-m", "flipscale", "submit", "wait.yaml"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    (run,) = plan(read_study("wait.yaml")).runs
    note = Path("results/runs", run.id, "program.json")
    wait_until(lambda: note.with_name("starts.txt").exists() and note.exists())
    os.kill(json.loads(note.read_text())["pid"], signal.SIGKILL)
    said = submitting.communicate()[0].decode()
    if "1 of 1 finished" not in said:
        flipscale("submit", "wait.yaml")
    assert json.loads(note.with_name("result.json").read_text())["scores"] == {"starts": 2.0}


def test_nanolm_in_miniature_is_killed_and_resumes_from_its_checkpoint(tmp_path, monkeypatch):
    text = (ROOT / "studies/own/nanolm.yaml").read_text()
    head = text[: text.index("axes:")].replace("depth: 2", "depth: 1").replace("tokens: 100k", "tokens: 0.2M")
    Path(tmp_path, "small.yaml").write_text(head + "scores: {val_loss: lower}\n")
    monkeypatch.chdir(ROOT)
    words = ["submit", f"{tmp_path}/small.yaml", "--results", str(tmp_path / "results")]
    submitting = subprocess.Popen(
        [sys.executable, "-m", "flipscale", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    (run,) = plan(read_study(tmp_path / "small.yaml")).runs
    folder = tmp_path / "results" / "runs" / run.id
    wait_until(lambda: (folder / "checkpoint.pt").exists())
    os.kill(json.loads((folder / "program.json").read_text())["pid"], signal.SIGTERM)
    if "1 of 1 finished" not in submitting.communicate()[0].decode():
        flipscale(*words)
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == [50, 100, 150, 195]
    result = json.loads((folder / "result.json").read_text())
    assert result["attempts"] == 2
    assert 2 < result["scores"]["val_loss"] < 3.5


def test_hours_that_are_unknown_are_said_to_be_and_laws_of_clip_are_refused(study):
    study.write_text(STUDY + "budget: {gpu_hours: 1}\n")
    assert any("budget.gpu_hours is not checked" in warning for warning in plan(read_study(study)).warnings)
    columns = {"model": [None], "tries": [20], "distance_left": [0.1]}
    with pytest.raises(ResultsError, match="--x COLUMN --y distance_left"):
        fit_study(pd.DataFrame(columns), axes=["tries"], y="distance_left")


class Here(Recorder):
    site_name = "local"


STEADY = """
import json, pathlib, sys, time
folder, steps = pathlib.Path(sys.argv[1]), int(sys.argv[2])
with open(folder / "metrics.jsonl", "a") as metrics:
    for step in range(1, steps + 1):
        time.sleep(0.05)
        print(json.dumps({"step": step, %s"energy": 1.0}), file=metrics, flush=True)
print(json.dumps({"scores": {"energy": 1.0}}))
"""


@pytest.fixture
def probed(here, monkeypatch):
    """The plan of runs of 5 and of 2000 steps of 0.05 s, with the times of a probe, and the probe's folder."""
    monkeypatch.setattr(timing, "FOLLOWED_SECONDS", 1.0)
    monkeypatch.setattr(timing, "RECORD_SECONDS", 5.0)

    def probe(says: str):
        Path("steady.py").write_text(STEADY % says)
        study = own(
            "schema: 1\nparameters: {steps_made: 5}\nscores: {energy: lower}\nseeds: 2\n"
            "base: {trainer: {command: 'python steady.py {folder} {steps_made}'}}\naxes: {steps_made: [5, 2000]}\n"
        )
        (run,) = submit_probe(plan(study), Path("results"), Here()).runs
        folder = RunFolder(Path("results/runs", run.id))
        code = train([folder.path])
        return code, folder, plan(study, read_timings(Path("results/timings.json")).at("local"))

    return probe


def test_a_probe_predicts_hours_from_the_first_seconds_of_the_program(probed):
    code, folder, planned = probed('"steps": steps, ')
    assert code == 0
    short, long = planned.runs[0], planned.runs[2]
    assert 0.25 < short.timed.seconds < 5  # It ended: a whole run.
    assert 50 < long.timed.seconds < 1000  # 2,000 steps of 0.05 s, where 1 s was followed.
    assert all(run.is_priced for run in planned.runs)
    assert not (folder.path / "timed").exists()


def test_a_program_that_does_not_say_how_many_steps_there_will_be_stays_unpriced(probed):
    code, folder, planned = probed("")
    assert code == 1
    assert "its records in metrics.jsonl named no `steps`. Have it append" in folder.error().reason
    assert not any(run.is_priced for run in planned.runs)


def test_progress_of_a_program_is_its_steps(study, here):
    own(STUDY)
    (run, *_) = plan(read_study("own.yaml")).runs
    folder = Path("results/runs", run.id)
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text('{"step": 4, "steps": 20, "energy": 1.5}\n')
    assert "4 of 20 steps" in flipscale("status", "own.yaml")
    # One that is stopped by its time limit, and got further, is not given up.
    assert RunFolder(folder).reached().progress == 4


def test_a_parameter_is_changed_on_the_command_line(study):
    said = flipscale("plan", "search.yaml", "tries=7", "seeds=1")
    assert "tries 7" not in said  # It no longer varies.
    assert "_tries-7_" in said.replace("tries-7_rule", "_tries-7_rule")


def test_curves_run_along_the_setting_that_the_study_names(study, capsys):
    flipscale("submit", "search.yaml")
    flipscale("collect", "search.yaml")
    assert main(["plot", "search.yaml"]) == 0
    said = capsys.readouterr().err
    assert "no curves are drawn along a parameter; x: tries in the study file draws them" in said
    assert "mask_ratios" not in said  # Figures of CLIP are not listed.
    study.write_text(STUDY + "x: tries\n")
    assert "accuracy_vs_samples" not in json.loads(flipscale("plot", "search.yaml", "--json"))["skipped"]
    flipscale("report", "search.yaml")
    page = Path("plots/search/report.html").read_text()
    data = json.loads(page.partition('<script type="application/json" id="data">')[2].partition("</script>")[0])
    assert [axis["key"] for axis in data["x"]] == ["tries", "gpu_hours"]
    assert next(column for column in data["columns"] if column["key"] == "series")["words"] == [""]
    assert "on shapes" not in page
    assert "about 0" not in page
    # What each run has recorded so far; how many steps there will be is no curve.
    assert list(data["curves"]) == ["loss"]
    assert sorted(len(curve["x"]) for curve in data["curves"]["loss"]) == [20] * 4 + [100] * 4
    study.write_text(STUDY + "x: rule\n")
    with pytest.raises(StudyError, match="'rule' is no setting with numbers"):
        read_study(study)
