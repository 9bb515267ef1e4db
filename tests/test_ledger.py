"""The ledger: what runs were predicted to take and took, whatever came of them."""

import json
import time
from dataclasses import replace

import pytest

from flipscale.collecting.ledger import LedgerEntry, entry_of, grouped_by
from flipscale.run import FailedAttempt, FailureKind, Job, RunFolder, RunRequest, State
from flipscale.settings.declarations import Resources, plain
from flipscale.study.settings import read_settings
from tests.asked import SMALL
from tests.launch.contract import NO_COST

HOUR = 3600.0


@pytest.fixture
def asked(tmp_path):
    """What was asked of a run, written into its folder: an hour of one core, within 1.5 times."""

    def ask(name="run", *, hours=1.0, cell=(("samples", "1600"),), write=True, resources=None, **settings):
        cost = replace(NO_COST, gpu_hours=hours, gpu_hours_low=hours / 1.5, gpu_hours_high=hours * 1.5)
        found = RunRequest(
            name,
            plain(read_settings({**SMALL, **settings})),
            resources=resources or Resources(device="cpu"),
            cost=cost,
            cell=cell,
        )
        if write:
            RunFolder(tmp_path / "runs" / name).ask(found)
        return found

    return ask


@pytest.fixture
def entry(tmp_path):
    """The entry of one run, with the state that its files say."""

    def entry(asked, study="mask", *, is_probe=False):
        folder = folder_of(tmp_path, asked)
        return entry_of(study, asked, folder, folder.state(), is_probe=is_probe)

    return entry


def folder_of(tmp_path, asked):
    return RunFolder(tmp_path / "runs" / asked.id)


def finish(folder, **facts):
    (folder.path / "result.json").write_text(json.dumps({"schema": 1, "device": "cpu", "devices": 1, **facts}))


def record(folder, *seconds):
    lines = [
        json.dumps({"step": n, "samples_seen": 32 * n, "loss": 1.0, "seconds": s}) for n, s in enumerate(seconds, 1)
    ]
    (folder.path / "metrics.jsonl").write_text("\n".join(lines) + "\n")


# One run


def test_a_finished_run_took_its_training_and_its_evaluations(tmp_path, asked, entry):
    run = asked()
    finish(folder_of(tmp_path, run), gpu_hours=1.25, train_seconds=2 * HOUR, evaluation_seconds=0.5 * HOUR)
    found = entry(run)
    assert found == LedgerEntry(
        id="run", study="mask", state=State.FINISHED, unit="core-hours", predicted=1.0, spent=1.75
    )


def test_a_run_that_failed_took_what_its_error_says(tmp_path, asked, entry):
    run = asked()
    folder_of(tmp_path, run).write_error(FailureKind.CODE, "A typo.", seconds=0.5 * HOUR)
    found = entry(run)
    assert (found.state, found.spent) == (State.FAILED, 0.5)


def test_training_before_a_failure_is_counted_once(tmp_path, asked, entry):
    run = asked()
    folder = folder_of(tmp_path, run)
    record(folder, 600.0, 1800.0)
    folder.write_error(FailureKind.DIVERGED, "The loss is nan.", seconds=2000.0)
    found = entry(run)
    assert found.spent == pytest.approx(2000 / HOUR)


def test_failed_attempts_of_a_run_that_finished_in_the_end_are_lost_but_for_what_a_checkpoint_kept(
    tmp_path, asked, entry
):
    run = asked()
    folder = folder_of(tmp_path, run)
    for samples, seconds in ((0, 0.25), (800, 0.75)):
        failed = FailedAttempt(FailureKind.OOM, "", "again", samples_seen=samples, seconds=seconds * HOUR)
        folder.note_failure(failed)
    finish(folder, gpu_hours=1.0, train_seconds=HOUR, samples_seen=1600)
    # Half of the training was done by then, and kept: 0.5 of the hour of failures is lost.
    assert entry(run).spent == pytest.approx(1.0 + 0.5)


def test_an_error_that_an_attendant_has_noted_is_among_the_failures_already(tmp_path, asked, entry):
    run = asked()
    folder = folder_of(tmp_path, run)
    folder.note_failure(FailedAttempt(FailureKind.CODE, "A typo.", "given up", given_up=True, seconds=0.5 * HOUR))
    folder.write_error(FailureKind.CODE, "A typo.", noted=True)
    assert entry(run).spent == 0.5


def test_a_cancelled_run_took_what_its_record_says(tmp_path, asked, entry):
    run = asked()
    folder = folder_of(tmp_path, run)
    record(folder, 900.0)
    folder.write_job(Job(run.id, "local", "j", 0.0, "", cancelled=1.0))
    found = entry(run)
    assert (found.state, found.spent) == (State.CANCELLED, 0.25)


def test_a_running_run_takes_time_since_its_lease_was_taken(tmp_path, asked, entry):
    run = asked()
    folder = folder_of(tmp_path, run)
    with folder.hold():
        lease = json.loads((folder.path / "lease.json").read_text())
        (folder.path / "lease.json").write_text(json.dumps({**lease, "time": time.time() - HOUR}))
        found = entry(run)
    assert found.state is State.RUNNING
    assert found.spent >= 1.0


def test_hours_of_gpus_are_those_of_all_of_them(tmp_path, asked, entry):
    run = asked(resources=Resources(gpus=4, device="A100"))
    folder = folder_of(tmp_path, run)
    record(folder, HOUR)
    assert (entry(run).unit, entry(run).spent) == ("GPU-hours", 4.0)


def test_what_was_predicted_is_what_was_said_when_it_was_submitted(tmp_path, asked, entry):
    run = asked(hours=2.0)
    assert entry(replace(run, cost=replace(run.cost, gpu_hours=9.0))).predicted == 2.0
    planned = asked("planned", hours=3.0, write=False)
    assert (entry(planned).predicted, entry(planned).state, entry(planned).spent) == (3.0, State.PLANNED, 0.0)


# Sums


def test_runs_are_summed_by_any_key_and_shared_ones_once(tmp_path, asked, entry):
    runs = asked("a"), asked("b", mask_ratio=0.5), asked("c", mask_ratio=0.5)
    for run, hours in zip(runs[:2], (2.0, 1.0), strict=True):
        finish(folder_of(tmp_path, run), gpu_hours=hours)
    both = [entry(run, study) for study in ("mask", "again") for run in runs]
    sums = grouped_by(both, lambda entry: (entry.study, str(entry.state)))
    finished, waiting = (2, 2.0, 3.0), (1, 1.0, 0.0)
    assert {key: (found.runs, found.predicted, found.spent) for key, found in sums.items()} == {
        ("mask", "finished"): finished,
        ("mask", str(both[2].state)): waiting,
        ("again", "finished"): finished,
        ("again", str(both[2].state)): waiting,
    }
    (whole,) = grouped_by(both, lambda entry: (entry.unit,)).values()
    assert (whole.runs, whole.predicted, whole.spent) == (3, 3.0, 3.0)


def test_a_probe_is_spent_and_was_not_predicted(tmp_path, asked, entry):
    run = asked("probe_mask_1")
    finish(folder_of(tmp_path, run), gpu_hours=0.01)
    found = entry(run, is_probe=True)
    assert (found.predicted, found.spent) == (0.0, 0.01)
