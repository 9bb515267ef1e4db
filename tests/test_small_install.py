"""What works without torch, Ray, MLflow and the others that only a training needs."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ABSENT = (
    *("torch", "torchvision", "open_clip", "timm", "webdataset", "braceexpand", "sklearn", "psutil"),
    *("submitit", "ray", "mlflow", "wandb", "trackio", "pyarrow"),
)

SCRIPT = f"""
import sys
sys.modules |= dict.fromkeys({ABSENT!r})
from flipscale.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """flipscale where those packages are absent, on a copy of the committed results of study flip."""
    results = folder / "results" / "flip"
    if not results.exists():
        results.mkdir(parents=True)
        for name in ("results.csv", "results.json", "comparison.json"):
            (results / name).write_bytes((ROOT / "results" / "flip" / name).read_bytes())
        (results / "curves.parquet").write_bytes(b"PAR1")
        finished = (results / "results.csv").read_text().splitlines()[1].split(",")[0]
        (folder / "results" / "runs" / finished).mkdir(parents=True)
        (folder / "results" / "runs" / finished / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *words], cwd=folder, capture_output=True, text=True, check=False
    )


STUDY = str(ROOT / "studies" / "flip.yaml")

TABLE = ["compare", "results/flip/results.csv", "--baseline", "mask_ratio=0", "--x", "samples", "--y", "zero_shot_top1"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["init"], "wrote study.yaml"),
        (["plan", STUDY], "230 runs"),
        ([*TABLE, "--where", "model == 'ViT-w48d3-2'", "--series", "image_size"], "over no mask"),
        (["compare", STUDY], "8 claims"),
        (["compare", "results/flip"], "8 claims"),
        (["fit", STUDY], "190 runs used"),
        (["plot", STUDY], "learning curves are not drawn: This needs pyarrow"),
        (["report", STUDY], "the curves inside the runs are not drawn: This needs pyarrow"),
        (["export", STUDY, "--to", "latex"], "tabular"),
    ],
)
def test_a_small_install_plans_and_reads_results(words: list[str], found: str, tmp_path: Path) -> None:
    done = run(*words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert found in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (["submit", "study.yaml"], "flipscale[train]"),
        (["submit", "study.yaml", "--on", "slurm"], "flipscale[slurm]"),
        (["submit", "study.yaml", "--on", "ray", "--address", "127.0.0.1:1"], "flipscale[ray]"),
        (["probe", "study.yaml"], "flipscale[train]"),
        (["plan", str(ROOT / "studies" / "first_gpu.yaml")], "flipscale[train]"),
        (["collect", STUDY], "flipscale[mlflow]"),
    ],
)
def test_what_a_small_install_lacks_is_named_with_its_command(words: list[str], extra: str, tmp_path: Path) -> None:
    assert run("init", folder=tmp_path).returncode == 0
    done = run(*words, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith(f"Install it: pip install '{extra}'")
