"""What is missing on a machine, and what to do about it: plan --check."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flipscale.cli import main
from flipscale.workflow import machine_health

STUDY = """\
schema: 1
base: {data: shapes, model: ViT-w16d1-4, text_length: 16, batch_size: 32, lr: 1e-3, samples: 320}
axes: {mask_ratio: [0, 0.5]}
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


def machine(capsys: pytest.CaptureFixture[str], code: int = 0) -> dict[str, list[dict[str, Any]]]:
    """What is said of this machine, by subject."""
    assert main(["plan", "--check", "--json"]) == code
    found: dict[str, list[dict[str, Any]]] = {}
    for line in json.loads(capsys.readouterr().out):
        assert line["health"] == "ok" or line["advice"], line
        found.setdefault(line["subject"], []).append(line)
    return found


def test_a_machine_with_all_that_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    found = machine(capsys)
    assert list(found) == ["Python", "torch", "open_clip", "GPU", "SLURM", "Ray", "MLflow", "disk"]
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
    found = machine(capsys, code=1)
    assert found["torch"] == [
        {"health": "problem", "subject": "torch", "found": "not installed", "advice": "pip install 'flipscale[train]'"}
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
    found = machine(capsys, code=int(health == "problem"))["GPU"][0]
    assert found["health"] == health
    assert words in found["found"]


def test_hidden_gpus_and_a_controller_that_is_down_are_warnings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("nvidia-smi")
    install("sbatch")
    install("scontrol", "#!/bin/sh\nexit 1\n")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = machine(capsys)
    assert "CUDA_VISIBLE_DEVICES is ''" in found["GPU"][0]["found"]
    assert (found["SLURM"][0]["health"], found["SLURM"][0]["found"]) == ("warning", "its controller does not answer")
    install("scontrol")
    assert "its controller answers" in machine(capsys)["SLURM"][0]["found"]


def test_for_a_person_each_line_says_how_it_is_and_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_health, "_version", lambda name: None if name == "torch" else "1.0")
    assert main(["plan", "--check"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok       Python          3.")
    assert "problem  torch           not installed. To do: pip install 'flipscale[train]'" in lines


def test_the_check_of_a_study_looks_at_the_machine_as_well(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("study.yaml").write_text(STUDY)
    assert main(["plan", "study.yaml", "--check", "--json"]) == 0
    check = json.loads(capsys.readouterr().out)["check"]
    assert (check["problems"], check["machine"][0]["subject"]) == ([], "Python")
    monkeypatch.setattr(machine_health, "_version", lambda name: None if name == "torch" else "1.0")
    assert main(["plan", "study.yaml", "--check", "--json"]) == 1
    assert main(["plan", "study.yaml", "--check"]) == 1
    assert "problem  torch " in capsys.readouterr().out


def test_a_look_at_the_machine_loads_nothing_heavy() -> None:
    heavy = {"torch", "pandas", "matplotlib", "mlflow", "ray", "scipy"}
    script = "import sys\nfrom flipscale.cli import main\nmain(['plan', '--check', '--json'])\n"
    script += f"print(sorted(set(sys.modules) & {heavy}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
