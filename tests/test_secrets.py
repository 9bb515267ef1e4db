"""A study's files and messages hold no secret of its user, and an unreachable server costs nothing."""

from pathlib import Path

import pytest

from tests.commands import flipscale

STUDY = """\
schema: 1
base: {data: shapes, model: ViT-w16d1-4, text_length: 16, batch_size: 32, samples: 64}
axes: {mask_ratio: [0, 0.5]}
evaluation: {images: 20}
"""

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "hunter2-aws",
    "WANDB_API_KEY": "hunter2-wandb",
    "MLFLOW_TRACKING_PASSWORD": "hunter2-mlflow",
    "DATABASE_URL": "postgresql://me:hunter2-db@db/x",
}

SCHEMES = ("postgresql+psycopg2", "http")


@pytest.mark.slow
def test_a_run_leaves_and_says_no_secret_and_ends_well_without_its_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mask.yaml").write_text(STUDY)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    uris = [f"{scheme}://me:hunter2-uri@127.0.0.1:1/mlflow?password=hunter2-option" for scheme in SCHEMES]
    said = ""
    for command, uri in (
        ("run mask.yaml", uris[0]),
        ("collect mask.yaml --json", uris[0]),
        ("collect mask.yaml", uris[1]),
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        done = flipscale(*command.split(), cwd=tmp_path)
        assert "MLflow was not written: MLflow at" in done.stderr
        said += done.stdout + done.stderr
    assert "hunter2" not in said
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"result.json", "run.json", "log.txt", "results.csv", "comparison.md"} <= {path.name for path in files}
    assert [path for path in files if b"hunter2" in path.read_bytes()] == []
