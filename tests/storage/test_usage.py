"""What takes room, by study and kind of file: every byte counts once."""

import json
from pathlib import Path

from flipscale.cli import main
from flipscale.storage import usage
from tests.storage.conftest import WEIGHTS


def total(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def test_every_byte_counts_once_under_the_study_that_asks_for_it(here):
    ids = [run.id for run in here.plan.runs]
    asking = {ids[0]: frozenset({"a"}), ids[1]: frozenset({"a", "b"}), ids[2]: frozenset({"b"})}
    folder = here.folder_of(seed=0, inference="full").path
    folder.joinpath("mine.txt").write_text("mine")
    folder.joinpath("earlier").mkdir()
    folder.joinpath("earlier", "checkpoint.pt").write_bytes(b"12345")
    (here.root / "cache").mkdir()
    (here.root / "cache" / "x.bin").write_bytes(b"123")
    (here.root / "mlflow.db").write_bytes(b"1234567")
    (here.root / "local" / "sub").mkdir(parents=True)
    (here.root / "local" / "sub" / "worker-0.log").write_text("log")
    found = usage(here.root, asking)
    assert sum(sum(row.values()) for row in found.values()) == total(here.root)
    assert list(found) == ["a", "b", "all studies", "no study", "several studies"]
    assert found["all studies"] == {"caches": 3, "mlflow": 7, "jobs": 3}
    assert sum(row.get("checkpoints", 0) for row in found.values()) == 5
    weights = sum(row.get("weights", 0) for row in found.values())
    assert weights == len(WEIGHTS) * sum(run.settings.inference == "full" for run in here.plan.runs)
    assert sum(row.get("other", 0) for row in found.values()) == len("mine")
    assert sum(row.get("logs", 0) for row in found.values()) == len("a log\n") * 8


def test_du_prints_a_table_and_json(here, capsys):
    for verb in ("plan", "collect"):
        assert main([verb, str(here.file), "--results", str(here.root), *["--no-mlflow"][: verb == "collect"]]) == 0
    capsys.readouterr()
    assert main(["du", "--json", "--results", str(here.root)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bytes"] == total(here.root)
    assert set(found["studies"]["study"]) == {"weights", "metrics", "records", "logs", "tables", "caches"}
    assert main(["du", "--results", str(here.root)]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["study", "records", "metrics", "weights", "logs", "tables", "caches", "total"]
    assert [row.split()[0] for row in rows] == ["study", "total"]


def test_a_kind_of_no_bytes_has_no_column(here, capsys):
    (here.root / ".submit.lock").touch()
    assert main(["du", "--results", str(here.root)]) == 0
    assert "other" not in capsys.readouterr().out


def test_a_folder_that_is_not_there_is_said(tmp_path, capsys):
    assert main(["du", "--results", str(tmp_path / "none")]) == 1
    assert "there is no such folder" in capsys.readouterr().err
