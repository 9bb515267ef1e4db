"""A study in trackio and in W&B, each by its own package: a local database, and W&B's offline files."""

import importlib.util
import json
import os
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.parts import need

ROOT = Path(__file__).parents[1]


def of_wandb(paths: Iterable[Path]) -> list[Any]:
    """The records of W&B's offline files, which are LevelDB logs: blocks of 32 kB, a record in one or more parts."""
    from wandb.proto.wandb_internal_pb2 import Record

    records = []
    for path in paths:
        data, at, record = path.read_bytes(), 7, b""
        while at < len(data):
            if (left := 2**15 - at % 2**15) < 7:  # No header of a record fits: the block ends with zeros.
                at += left
                continue
            _, length, kind = struct.unpack("<IHB", data[at : at + 7])
            record += data[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in (1, 4):  # A whole record, or the last part of one.
                records.append(Record.FromString(record))
                record = b""
    return records


def study(folder: Path) -> Path:
    """Two finished runs of a committed study: its tables alone."""
    (folder / "results" / "equal_memory").mkdir(parents=True)
    table = pd.read_csv(ROOT / "results/equal_memory/results.csv").head(2)
    table.to_csv(folder / "results.csv", index=False)
    curves = pd.read_parquet(ROOT / "results/equal_memory/curves.parquet")
    curves[curves["id"].isin(table["id"])].to_parquet(folder / "curves.parquet")
    return folder


def send(folder: Path, tracker: str) -> str:
    """Send the tables of a folder by a process of its own, as both packages read their surroundings when imported."""
    call = (
        "import sys; from pathlib import Path; from flipscale.track.other_trackers import send; "
        "print(send(sys.argv[1], 'equal', Path('results.csv'), Path('curves.parquet')))"
    )
    where = {"TRACKIO_DIR": str(folder / "trackio"), "WANDB_MODE": "offline", "WANDB_DIR": str(folder)}
    command = [sys.executable, "-c", call, tracker]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **where}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def raise_a_score(folder: Path) -> None:
    table = pd.read_csv(folder / "results.csv")
    table.loc[0, "zero_shot_top1"] += 0.01
    table.to_csv(folder / "results.csv", index=False)


def of_trackio(folder: Path) -> pd.DataFrame:
    """Every value that trackio has: run, step, name, value."""
    with sqlite3.connect(folder / "trackio" / "equal.db") as database:
        rows = database.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id").fetchall()
    values = [(run, step, *item) for run, step, text in rows for item in json.loads(text).items()]
    return pd.DataFrame(values, columns=["id", "step", "metric", "value"])


def curves_of(curves: pd.DataFrame, metric: str) -> pd.DataFrame:
    return curves[curves["metric"] == metric]


@pytest.mark.parametrize("tracker", ["trackio", "wandb"])
def test_a_study_is_sent_once_and_later_only_what_is_new(tmp_path: Path, tracker: str) -> None:
    need(importlib.util.find_spec(tracker) is not None, f"{tracker}; pip install {tracker}")
    folder = study(tmp_path)
    assert send(folder, tracker) == "Sent(new=2, updated=0, unchanged=0)"
    assert send(folder, tracker) == "Sent(new=0, updated=0, unchanged=2)"
    raise_a_score(folder)
    assert send(folder, tracker) == "Sent(new=0, updated=1, unchanged=1)"
    table, curves = pd.read_csv(folder / "results.csv"), pd.read_parquet(folder / "curves.parquet")
    losses = curves_of(curves, "loss")
    assert len(losses) > 10
    if tracker == "trackio":
        sent = of_trackio(folder)
        last = sent[sent["metric"] == "zero_shot_top1"].groupby("id")["value"].last()
        there = curves_of(sent, "loss")
        assert (
            there.groupby("id")["value"].apply(list).to_dict()
            == losses.groupby("id", observed=True)["value"].apply(list).to_dict()
        )
        assert last.to_dict() == table.set_index("id")["zero_shot_top1"].to_dict()
    else:
        records = of_wandb(folder.glob("wandb/offline-run-*/*.wandb"))
        runs = [record.run for record in records if record.WhichOneof("record_type") == "run"]
        assert {run.run_id for run in runs} == set(table["id"])
        config = {item.key: json.loads(item.value_json) for run in runs for item in run.config.update}
        assert config["batch_size"] == table["batch_size"].iloc[1]
        items = [item for record in records for item in record.history.item]
        history = [(item.key or "/".join(item.nested_key), json.loads(item.value_json)) for item in items]
        assert sorted(value for name, value in history if name == "loss") == sorted(losses["value"])
        assert sum(name == "zero_shot_top1" for name, _ in history) == 3  # at the end of each run, and the later one
        assert ("zero_shot_top1", table["zero_shot_top1"].iloc[0]) in history
