"""What takes space, by kind of file: every byte counts once, and gc says it."""

import json
from pathlib import Path

import pytest

from flipscale.cli import main
from flipscale.storage import usage
from tests.storage.conftest import WEIGHTS


def total(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def test_every_byte_counts_once_by_kind(here):
    folder = here.folder_of(seed=0, fine_tuned=False).path
    folder.joinpath("mine.txt").write_text("mine")
    folder.joinpath("earlier").mkdir()
    folder.joinpath("earlier", "checkpoint.pt").write_bytes(b"12345")
    (here.root / "cache").mkdir()
    (here.root / "cache" / "x.bin").write_bytes(b"123")
    (here.root / "mlflow.db").write_bytes(b"1234567")
    (here.root / "local" / "sub").mkdir(parents=True)
    (here.root / "local" / "sub" / "worker-0.log").write_text("log")
    (here.root / ".submit.lock").touch()
    found = usage(here.root)
    assert sum(found.values()) == total(here.root)
    assert found["weights"] == len(WEIGHTS) * sum(run.settings.fine_tuning is None for run in here.plan.runs)
    assert found["logs"] == len("a log\n") * 8
    right = {"caches": 3, "mlflow": 7, "jobs": 3, "checkpoints": 5, "other": len("mine")}
    assert {kind: found[kind] for kind in right} == right


def test_gc_says_what_takes_space(here, capsys):
    assert main(["plan", str(here.file), "--results", str(here.root)]) == 0
    before = total(here.root)
    capsys.readouterr()
    assert main(["gc", "--json", "--results", str(here.root)]) == 0
    printed, said = capsys.readouterr()
    found = json.loads(printed)["usage"]
    assert sum(found.values()) == before
    assert set(found) == {"weights", "metrics", "records", "logs", "tables"}
    assert f"{here.root} holds " in said


def test_du_names_gc(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["du"])
    assert "'du' is no command any more: flipscale gc says what takes space" in capsys.readouterr().err
