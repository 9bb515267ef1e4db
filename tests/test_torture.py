"""The torture's short form, and each of its checkers held to a case that is wrong."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.torture import hostile, scheduler
from tests.torture.counts import Counts, Extent, measured, table, write
from tests.torture.verbs import Case, Outcome, count, judged

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def short(part: str) -> None:
    """The short form of a part ends with 0. Its seed is fixed: CI looks for what broke, the whole form seeks."""
    command = [sys.executable, "-m", "tests.torture", "--part", part, "--short", "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6000:]


# What is counted


def test_rows_of_parts_that_are_run_again_take_the_place_of_those_before(tmp_path: Path) -> None:
    def part(extent: Extent) -> Counts:
        counts = Counts(cases=3)
        counts.found("lost", f"seed {extent.seed}")
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
    wrong.found("orphans", "process 7 stays")
    for counts, code in ((Counts(cases=1), 0), (wrong, 1)):
        monkeypatch.setattr(scheduler, "torture", lambda extent, counts=counts: counts)
        assert command.main(["--part", "scheduler", "--short"]) == code


# Hostile files


def test_a_traceback_a_hang_and_a_case_that_takes_much_memory_are_each_counted() -> None:
    def hungry() -> int:
        held = bytearray(3 * 2**30)
        return len(held) * 0

    found = count(
        [
            Case("good", lambda: judged(lambda: 0)),
            Case("raises", lambda: judged(lambda: 1 // 0)),
            Case("prints one", lambda: judged(lambda: print("Traceback (most recent call last):"))),
            Case("hangs", lambda: judged(lambda: time.sleep(60), seconds=0.2)),
            Case("is hungry", lambda: judged(hungry)),
            Case("ends its worker", lambda: sys.modules["os"]._exit(3)),
            Case("good again", lambda: judged(lambda: 0)),
        ],
        workers=1,
    )
    assert found.cases == 7
    wrong = {kind: number for kind, number in found.wrong.items() if number}
    assert wrong == {"tracebacks": 3, "hangs": 1, "over_memory": 1}
    assert any("ends its worker: its worker ended with code 3" in finding for finding in found.findings)


def test_an_order_of_a_hostile_file_is_refused_and_counted(tmp_path: Path) -> None:
    import os
    import signal

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


# The simulated scheduler


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> object:
    return scheduler.planned(tmp_path_factory.mktemp("planned"))


def first_wrong(runs: object, sabotage: str) -> Outcome:
    """Of histories in which something is broken on purpose, the first that is reported."""
    told = (scheduler.told(f"1-{number}", runs, sabotage) for number in range(25))
    return next(outcome for outcome in told if outcome.wrong)


def test_two_trainings_that_write_in_turns_are_reported(runs: object) -> None:
    outcome = first_wrong(runs, "lease")
    assert outcome.wrong == "doubled"
    assert "trainings in turns" in outcome.said


def test_a_run_without_an_end_is_reported(runs: object) -> None:
    assert first_wrong(runs, "lost").wrong == "lost"


def test_a_result_that_differs_is_reported(runs: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "undisturbed", lambda run_id, steps: [])
    assert first_wrong(runs, "").wrong == "differing"


def test_histories_on_a_simulated_scheduler_in_short() -> None:
    short("scheduler")
