"""The torture's short form, and each of its checkers held to a case that is wrong."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from flipscale.run import Asked, Result, RunFolder
from tests.launch.contract import StandInRun
from tests.patience import wait_until
from tests.torture import files, hostile, kills, mirror, soak, trainer, twos
from tests.torture.checks import check, check_logs
from tests.torture.counts import Counts, Extent, measured, table, write
from tests.torture.processes import left_over, with_folder
from tests.torture.verbs import Case, Outcome, count, judged

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def short(*parts: str) -> None:
    """Half the short form of these parts ends with 0. Its seed is fixed: CI looks for what broke, the whole form seeks.
    One process does several parts: to load pandas, matplotlib and torch takes longer than some of them.
    """
    named = [word for part in parts for word in ("--part", part)]
    command = [sys.executable, "-m", "tests.torture", *named, "--short", "--share", "0.5", "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    if os.environ.get("CI") == "true":  # There all real parts are there.
        assert not re.findall(rf"^(?:{'|'.join(parts)}): no .*", done.stderr, re.MULTILINE), done.stderr


def wrong_of(counts: Counts) -> dict[str, int]:
    return {kind: number for kind, number in counts.wrong.items() if number}


# What is counted


def test_rows_of_parts_that_are_run_again_take_the_place_of_those_before(tmp_path: Path) -> None:
    def part(extent: Extent) -> Counts:
        counts = Counts(cases=3)
        counts.report("lost", f"seed {extent.seed}")
        return counts

    out = tmp_path / "torture.json"
    quiet = lambda line: None  # noqa: E731
    rows = [measured(name, part, Extent(seed, True, tmp_path, quiet)) for name, seed in (("a", 1), ("b", 2))]
    write(rows, out)
    again = write([measured("a", part, Extent(7, False, tmp_path, quiet))], out)
    assert [(row["part"], row["seed"], row["short"], row["wrong"]["lost"]) for row in again] == [
        ("a", 7, False, 1),
        ("b", 2, True, 1),
    ]
    assert table(again).splitlines()[2] == "| a | 3 | 1 | 0 | 0 | 0 | 0 | 0 | 0 | 0 |"


def test_the_exit_code_is_1_where_something_is_wrong(monkeypatch: pytest.MonkeyPatch, capsys: object) -> None:
    from tests.torture import __main__ as command

    wrong = Counts(cases=1)
    wrong.report("orphans", "process 7 stays")
    for counts, code in ((Counts(cases=1), 0), (wrong, 1)):
        monkeypatch.setattr(twos, "torture", lambda extent, counts=counts: counts)
        assert command.main(["--part", "twos", "--short"]) == code


# Hostile files


def test_a_traceback_a_hang_and_a_case_that_takes_much_memory_are_each_counted() -> None:
    def hungry() -> int:
        held = bytearray(3 * 2**30)
        return len(held) * 0

    def compute() -> None:
        while True:
            pass

    found = count(
        [
            Case("good", lambda: judged(lambda: 0)),
            Case("raises", lambda: judged(lambda: 1 // 0)),
            Case("prints one", lambda: judged(lambda: print("Traceback (most recent call last):"))),
            Case("waits", lambda: judged(lambda: time.sleep(60), seconds=0.2)),
            Case("computes", lambda: judged(compute, seconds=0.2)),
            Case("is hungry", lambda: judged(hungry)),
            Case("ends its worker", lambda: os._exit(3)),
            Case("good again", lambda: judged(lambda: 0)),
        ],
        workers=1,
    )
    assert found.cases == 8
    assert wrong_of(found) == {"tracebacks": 3, "hangs": 2, "over_memory": 1}
    assert any("ends its worker: its worker ended with code 3" in finding for finding in found.findings)


def test_an_order_of_a_hostile_file_is_refused_and_counted(tmp_path: Path) -> None:
    def kill() -> int:
        with hostile.no_orders():
            os.kill(1, signal.SIGTERM)
        return 0

    def start() -> int:
        with hostile.no_orders():
            subprocess.run(["sh", "-c", "true"], check=True)
        return 0

    assert "signal 15 would go to process 1" in judged(kill).said
    assert "this would be started: ['sh', '-c', 'true']" in judged(start).said


def test_a_case_is_the_same_each_time(tmp_path: Path) -> None:
    made = tmp_path / "good"
    made.mkdir()
    outcomes: list[list[Outcome]] = [[hostile.study(f"studies-1-{n}", made) for n in range(5)] for _ in range(2)]
    assert outcomes[0] == outcomes[1]
    assert len({outcome.said for outcome in outcomes[0]}) > 1


# Kills


@pytest.fixture
def finished(tmp_path: Path) -> RunFolder:
    """A run that the trainer of the torture has done."""
    run = RunFolder(tmp_path / "results" / "runs" / "run")
    run.ask(Asked.of(StandInRun("run", seconds=0.2)))
    trainer.main([str(run.path)])
    assert wrong_of(check_finished(run)) == {}
    return run


def check_finished(run: RunFolder) -> Counts:
    return check(run.path.parents[1], {"run": 4}, "here")


def test_a_run_that_two_trainings_wrote_in_turns_or_finished_twice_is_reported(finished: RunFolder) -> None:
    records = finished.path / "metrics.jsonl"
    first, *others = records.read_text().splitlines()
    other = json.dumps({**json.loads(first), "by": "somebody else"})
    records.write_text("\n".join([first, other, *others]) + "\n")
    assert wrong_of(check_finished(finished)) == {"doubled": 1}
    records.write_text("\n".join([first, *others, others[-1]]) + "\n")
    assert wrong_of(check_finished(finished)) == {"doubled": 1}


def test_a_run_that_is_lost_and_one_with_other_losses_are_reported(finished: RunFolder) -> None:
    records = finished.path / "metrics.jsonl"
    records.write_text("".join(f"{line}\n" for line in records.read_text().splitlines()[1:]))
    assert wrong_of(check_finished(finished)) == {"differing": 1}
    (finished.path / "result.json").unlink()
    assert wrong_of(check_finished(finished)) == {"lost": 1}


def test_a_run_of_the_real_trainer_that_differs_is_reported(finished: RunFolder, tmp_path: Path) -> None:
    other = RunFolder(tmp_path / "other" / "runs" / "run")
    other.ask(Asked.of(StandInRun("run")))
    with other.hold() as lease:
        assert lease is not None
        lease.append([{"step": 1, "loss": 1.0}])
        lease.write_result(Result())
    runs = [StandInRun("run")]
    assert wrong_of(kills.compare(runs, finished.path.parents[1], tmp_path / "other", "here")) == {"differing": 1}
    assert wrong_of(kills.compare(runs, tmp_path / "none", tmp_path / "other", "here")) == {"lost": 1}


def test_a_process_that_stays_and_a_log_with_a_traceback_are_reported(finished: RunFolder) -> None:
    results = finished.path.parents[1]
    assert left_over(results, seconds=0) == []
    with subprocess.Popen([sys.executable, "-c", "input()", str(results)], stdin=subprocess.PIPE) as stays:
        (process,) = wait_until(lambda: left_over(results, seconds=0))
        assert process.startswith(str(stays.pid))
        stays.communicate(b"\n")
    (results / "local" / "S").mkdir(parents=True)
    (results / "local" / "S" / "worker-0.log").write_text("Traceback (most recent call last):\n  ValueError: 7\n")
    assert wrong_of(check_logs(results, "here")) == {"tracebacks": 1}


def test_a_study_that_nobody_submits_again_is_a_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kills, "SETTLE_SECONDS", 0.5)
    assert not kills.Study([StandInRun("run")], tmp_path, lambda: None).settle()


def test_kills_find_the_processes_of_a_study_by_what_they_do(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(trainer.__file__)), str(tmp_path / "runs" / "run")]
    run = RunFolder(tmp_path / "runs" / "run")
    run.ask(Asked.of(StandInRun("run", seconds=600)))
    with subprocess.Popen(command) as process:
        wait_until(lambda: run.records()[0])
        wait_until(lambda: with_folder(tmp_path) == {process.pid: "trainer"})
        assert not kills.LOCAL["attendant"](tmp_path, random.Random(1))
        assert kills.LOCAL["trainer"](tmp_path, random.Random(1))
        assert process.wait() == -signal.SIGKILL


def test_runs_that_are_missing_or_twice_in_mlflow_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Client:
        def __init__(self, uri: str):
            pass

        def search_experiments(self) -> list[object]:
            return []

        def search_runs(self, experiments: object, max_results: int) -> list[object]:
            return [SimpleNamespace(data=SimpleNamespace(tags={"flipscale.id": name})) for name in ("a", "b", "b")]

    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=Client))
    assert wrong_of(mirror.check("uri", ["a", "b", "c"], "here")) == {"doubled": 1, "lost": 1}


# Files, two of everything, soak


def test_a_full_disk_of_which_something_stays_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for a process that finds something wrong at one number of writes."""
    lines = [{"total": 2}, {"writes": 0, "wrong": "", "said": ""}, {"writes": 1, "wrong": "lost", "said": "no result"}]
    done = subprocess.CompletedProcess([], 0, "\n".join(map(json.dumps, lines)), "")
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: done)
    found = files.full_disk(Extent(1, True, tmp_path))
    assert (found.cases, wrong_of(found)) == (2, {"lost": 1})


def test_a_reader_that_fails_at_a_file_cut_off_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = hostile.prepare(tmp_path / "made")
    monkeypatch.setattr(
        files, "ran", lambda words: judged(lambda: json.loads(next(Path("results").rglob("run.json")).read_text()))
    )
    path = next((made / "results").rglob("run.json")).relative_to(made / "results")
    assert files._cut(made, path, 10, 1).wrong == "tracebacks"


def test_a_verb_that_fails_beside_another_is_reported() -> None:
    outcomes = twos.together([lambda: judged(lambda: 0), lambda: judged(lambda: 1 // 0), lambda: os._exit(1)])
    assert wrong_of(twos.count(outcomes, "here")) == {"tracebacks": 2}


def test_more_memory_files_and_processes_are_reported() -> None:
    before = {"memory": 0, "open files": 5, "temporary files": 0}
    after = {"memory": 2**30, "open files": 50, "temporary files": 1}
    assert wrong_of(soak.bounded(before, before, "here")) == {}
    assert wrong_of(soak.bounded(before, after, "here")) == {"over_memory": 1, "orphans": 2}


@pytest.mark.parametrize("parts", ["hostile files twos", "kills soak"])
def test_the_short_form_finds_nothing(parts: str) -> None:
    short(*parts.split())
