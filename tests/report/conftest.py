"""A study of which some runs finished and some did not."""

import json
import shutil
from pathlib import Path

import pytest

from flipscale.analysis.reporting import Report, write_report
from tests.commands import flipscale
from tests.report.synthetic import write_study
from tests.small_study import STUDY

QUESTION = 'Does <script>alert("masking")</script> & company hurt?'


@pytest.fixture(scope="session")
def here(ran: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with mask.yaml, run: of 8 runs 5 finished, 1 was out of memory, 1 is lost and 1 was a fault of code."""
    here = tmp_path_factory.mktemp("report")
    (here / "mask.yaml").write_text(STUDY.replace("Does it run?", json.dumps(QUESTION)))
    shutil.copytree(ran / "results/runs", here / "results/runs")
    planned = json.loads(flipscale("plan", "mask.yaml", "--json", cwd=here).stdout)["runs"]
    oom, code, lost = (here / "results/runs" / planned[number]["id"] for number in (0, 2, 7))
    for run in (oom, code, lost):
        (run / "result.json").unlink()
    for run, kind, reason in ((oom, "oom", "2 GiB <too> many"), (code, "code", "shapes differ")):
        error = {"schema": 1, "kind": kind, "reason": reason, "time": 1.8e9}
        (run / "error.json").write_text(json.dumps(error))
    with open(oom / "log.txt", "a") as log:
        log.write("\x1b[31mOutOfMemoryError\x1b[0m </pre><script>alert(1)</script>\nthe last line\n")
    noted = [{"kind": "oom", "reason": "x", "then": "again with half the micro-batch", "time": 1}] * 2
    (oom / "failures.jsonl").write_text("".join(json.dumps(one) + "\n" for one in noted))
    flipscale("collect", "mask.yaml", "--no-mlflow", cwd=here)
    flipscale("plot", "mask.yaml", cwd=here)
    flipscale("report", "mask.yaml", cwd=here)
    return here


@pytest.fixture(scope="session")
def of_ten_thousand(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of a study of 10,000 runs, of which 9,000 have finished."""
    folder = tmp_path_factory.mktemp("many")
    study, planned, file = write_study(folder, seeds=500, finished=0.9)
    assert len(planned.runs) == 10_000
    return write_report(study, planned, file, folder / "results", folder / "plots")
