"""What is missing on a machine, or for a study, and what to do about it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flipscale.cli import main
from flipscale.workflow import machine_health
from flipscale.workspace import Workspace

BASE = """\
schema: 1
base:
  {data}
  model: ViT-w16d1-4
  text_length: 16
  batch_size: 32
  lr: 1e-3
  samples: 320
axes: {{mask_ratio: [0, 0.5]}}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("FLIPSCALE_RESULTS", "FLIPSCALE_SITE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    # SLURM's controller may be down where its programs are installed, and a GPU may be here.
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(machine_health, "gpus_here", list)
    return tmp_path


def install(name: str, text: str = "#!/bin/sh\n") -> None:
    """A program of this name on the PATH."""
    program = Path("programs", name)
    program.write_text(text)
    program.chmod(0o755)


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, list[dict[str, Any]]]:
    """What doctor says, by subject."""
    assert main(["doctor", *arguments, "--json"]) == code
    found: dict[str, list[dict[str, Any]]] = {}
    for line in json.loads(capsys.readouterr().out):
        assert line["health"] == "ok" or line["advice"] or line["subject"] in INPUTS, line
        found.setdefault(line["subject"], []).append(line)
    return found


INPUTS = ("study", "data", "evaluation data", "checkpoint", "command", "plan", "budget", "memory")
"""Their complaints say what would be right themselves."""


def study(data: str = "data: shapes", rest: str = "") -> str:
    Path("study.yaml").write_text(BASE.format(data=data) + rest)
    return "study.yaml"


def test_a_machine_with_all_that_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    found = doctor(capsys)
    assert list(found) == ["Python", "torch", "open_clip", "GPU", "SLURM", "Ray", "MLflow", "Chromium", "disk"]
    assert {line["health"] for lines in found.values() for line in lines} == {"ok"}
    assert "train on its cores" in found["GPU"][0]["found"]
    assert "sqlite:///" in found["MLflow"][0]["found"]


def test_what_is_missing_is_named_with_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = machine_health._version
    gone = {"torch", "ray"}
    monkeypatch.setattr(machine_health, "_version", lambda name: None if name in gone else known(name))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9/")
    found = doctor(capsys, code=1)
    assert found["torch"] == [
        {"health": "problem", "subject": "torch", "found": "not installed", "advice": "pip install torch"}
    ]
    assert (found["Ray"][0]["health"], found["MLflow"][0]["health"]) == ("warning", "warning")
    assert "secret" not in json.dumps(found)
    assert "does not answer" in found["MLflow"][0]["found"]


@pytest.mark.parametrize(
    ("said", "health", "words"),
    [("0 None", "problem", "torch sees none"), ("2 12.8", "ok", "torch sees 2 (CUDA 12.8)"), ("", "problem", "none")],
)
def test_a_gpu_that_torch_does_not_see_is_a_problem(
    said: str, health: str, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_health, "gpus_here", lambda: ["0", "1"])
    answer = subprocess.CompletedProcess([], 0, said, "")
    monkeypatch.setattr(machine_health.subprocess, "run", lambda *_, **__: answer)
    found = doctor(capsys, code=int(health == "problem"))["GPU"][0]
    assert found["health"] == health
    assert words in found["found"]


def test_hidden_gpus_and_a_controller_that_is_down_are_warnings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("nvidia-smi")
    install("sbatch")
    install("scontrol", "#!/bin/sh\nexit 1\n")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = doctor(capsys)
    assert "CUDA_VISIBLE_DEVICES is ''" in found["GPU"][0]["found"]
    assert (found["SLURM"][0]["health"], found["SLURM"][0]["found"]) == ("warning", "its controller does not answer")
    install("scontrol")
    assert "its controller answers" in doctor(capsys)["SLURM"][0]["found"]


def test_a_study_that_needs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    found = doctor(capsys, study())
    assert found["study"][0]["found"].startswith("study.yaml: 2 runs, ")
    assert found["data"][0]["found"] == "drawn by flipscale; these runs read no files"
    assert found["scores"][0]["found"].startswith("zero_shot_top1, zero_shot_top5, image_retrieval_r1")
    assert found["default score"][0]["found"] == "zero_shot_top1, the first of those measured"
    assert found["chance level"][0]["found"] == "guessing gives a zero_shot_top1 of 1.25 %"
    assert "a checkpoint" in found["room"][0]["found"]


def test_a_study_whose_data_checkpoint_and_command_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    rest = "evaluation:\n  sets: {pets: {folder: nowhere}}\n  data: shapes\nscore: pets.zero_shot_top1\n"
    found = doctor(capsys, study("data: {webdataset: 'none/{0..3}.tar'}\n  init: missing.pt", rest), code=1)
    for subject, line in (("data", 3), ("evaluation data", 12), ("checkpoint", 4)):
        (told,) = found[subject]
        assert told["health"] == "problem"
        assert told["found"].startswith(f"study.yaml:{line}: "), told
    assert found["default score"][0]["found"] == "pets.zero_shot_top1"
    assert found["scores"][0]["found"].endswith("pets.zero_shot_top1")

    command = study("data: shapes\n  trainer: {command: [no-such-program]}")
    (told,) = doctor(capsys, command, code=1)["command"]
    assert "no-such-program" in told["found"]


def test_a_study_without_scores_and_one_over_its_budget(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.tar").touch()
    found = doctor(capsys, study("data: {webdataset: a.tar}", "budget: {runs: 1}\n"), code=1)
    assert "its budget is 1" in found["budget"][0]["found"]
    assert found["scores"][0]["health"] == "warning"


def test_a_study_that_cannot_be_read_is_a_problem_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    found = doctor(capsys, study("data: shape", "seed: [0]\n"), code=1)
    assert [line["found"].split(":")[1] for line in found["study"]] == ["3", "10"]
    assert doctor(capsys, "nowhere.yaml", code=1)["study"][0]["found"].startswith("nowhere.yaml: there is no such file")


def test_for_a_person_each_line_says_how_it_is_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", study("data: shape")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok       Python          3.")
    assert any(line.startswith("problem  study           study.yaml:3: 'shape' ") for line in lines)


def test_it_agrees_with_plan_check(capsys: pytest.CaptureFixture[str]) -> None:
    file = study("data: {webdataset: 'none/{0..3}.tar'}", "evaluation: {data: shapes}\n")
    found = doctor(capsys, file, code=1)
    assert main(["plan", file, "--check", "--json", "--results", str(Workspace().results)]) == 1
    problems = json.loads(capsys.readouterr().out)["check"]["problems"]
    assert [line["found"] for line in found["data"]] == problems


def test_a_look_at_the_machine_loads_nothing_heavy() -> None:
    heavy = {"torch", "pandas", "numpy", "matplotlib", "mlflow", "ray", "scipy"}
    script = "import sys\nfrom flipscale.cli import main\nmain(['doctor', '--json'])\n"
    script += f"print(sorted(set(sys.modules) & {heavy}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
